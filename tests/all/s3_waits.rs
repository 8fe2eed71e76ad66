//! Tests how long the S3 client waits: for a service that is not up yet, and for one that answers and sends nothing.

use crate::common::client::{Client, config, object, options, pass_until, run_frozen};
use crate::common::raw::{Answered, QuietPort, RawServer, Wire, answer, answer_part, answer_range, close, refuse};
use crate::common::wait::{AT_MOST, until};
use hydrant::store::s3::{Announcer, S3Config, S3Options, Timeouts};
use hydrant::store::{Http, ListRequest, StoreError, StoreErrorKind};
use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, advance};

const LIMIT: Duration = Duration::from_secs(60);
/// The clock of a test moves on while connections are made: the limit is so long that this does not matter.
const LONG: Duration = Duration::from_secs(600);
const STEP: Duration = Duration::from_millis(250);

/// Options with these limits, and what is said to the user.
fn limited(start: Duration, stall: Duration) -> (S3Options, Arc<Mutex<Vec<String>>>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let announcer = Announcer::new(move |text| heard.lock().unwrap().push(text.to_owned()));
    let timeouts = Timeouts { start, stall, chunk: Duration::from_secs(10), ..options().timeouts };
    (S3Options { timeouts, announcer, ..options() }, said)
}

/// Waits for `result` while the clock of [`run_frozen`] moves on. Also returns how far it has moved.
async fn passing<T>(result: impl Future<Output = T>) -> (T, Duration) {
    let (begun, has_ended) = (Instant::now(), Cell::new(false));
    let ends = async {
        let result = result.await;
        has_ended.set(true);
        (result, begun.elapsed())
    };
    let clock = async {
        while !has_ended.get() {
            advance(STEP).await;
            // Leaves the processor to the server's threads.
            std::thread::sleep(Duration::from_micros(100));
        }
    };
    tokio::join!(ends, clock).0
}

// --- a service that is not up yet ---

#[test]
fn a_service_that_starts_late_is_waited_for() {
    let port = QuietPort::take();
    let address = port.address;
    let (options, said) = limited(LONG, LONG);
    let client = Client::new(config(&port.endpoint()), &options);
    let other = Client::new(S3Config { bucket: "other".into(), ..config(&port.endpoint()) }, &options);
    let server = run_frozen(async {
        let start = async {
            pass_until(STEP, || !said.lock().unwrap().is_empty()).await;
            let server =
                RawServer::start_at(port.listen(), None, |request, to| answer_range(to, request, b"content", "e"));
            pass_until(STEP, || server.requests().len() == 2).await;
            server
        };
        let (read, also_read, server) =
            tokio::join!(client.read("key", 0..7, None), other.read("key", 0..7, None), start);
        assert_eq!((read.unwrap(), also_read.unwrap()), (b"content".to_vec(), b"content".to_vec()));
        server
    });
    assert_eq!(*said.lock().unwrap(), [format!("waiting for {address}: connection refused (up to 600 s)")]);
    drop(server);
}

#[test]
fn a_service_that_never_starts_is_given_up_once_for_all() {
    let port = QuietPort::take();
    let (options, said) = limited(LONG, LONG / 2);
    let client = Client::new(config(&port.endpoint()), &options);
    let other = Client::new(S3Config { bucket: "other".into(), ..config(&port.endpoint()) }, &options);
    let refused = format!("cannot connect to {}: ", port.address);
    run_frozen(async {
        let (read, took) = passing(client.read("key", 0..7, None)).await;
        let error = read.unwrap_err();
        assert!(took >= LONG, "{took:?}: {error}");
        assert_eq!(error.kind, StoreErrorKind::Network, "{error}");
        assert!(error.detail.starts_with(&refused) && error.detail.contains("(--connect-timeout)"), "{error}");
        // Its clock stands still: it does not wait.
        let error = other.read("key", 0..7, None).await.unwrap_err();
        assert_eq!((error.kind, error.attempts), (StoreErrorKind::Network, 1), "{error}");
    });
    assert_eq!(said.lock().unwrap().len(), 1);
}

#[test]
fn an_endpoint_that_has_answered_is_not_waited_for_again() {
    let server = RawServer::start(|request, to| answer_range(to, request, b"content", "e").and_then(|()| close()));
    let (options, said) = limited(AT_MOST, AT_MOST);
    let client = Client::new(config(&server.endpoint()), &options);
    let address = server.address;
    assert_eq!(client.read_now(0..7).unwrap(), b"content");
    drop(server);
    until(|| std::net::TcpStream::connect(address).is_err());
    let error = client.read_now(0..7).unwrap_err();
    let most = options.retries.attempts_while_others_succeed;
    assert!(error.kind == StoreErrorKind::Network && error.attempts <= most, "{error}");
    assert!(said.lock().unwrap().is_empty());
}

/// The program waits, says so, and goes on once the service is there. The configuration file sets the time.
#[test]
fn the_program_waits_for_a_service() {
    let port = QuietPort::take();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("litestream.yml");
    let yaml = |limit: &str| {
        let url = format!("s3://bucket/app.db?endpoint={}&region=us-east-1", port.endpoint());
        let replica = format!("dbs:\n  - path: /srv/app.db\n    replica: {{url: \"{url}\"}}\n");
        std::fs::write(&path, format!("{replica}restore-pattern: {{connect-timeout: {limit}}}\n")).unwrap();
    };
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
        command.env_clear().env("AWS_ACCESS_KEY_ID", "AKID").env("AWS_SECRET_ACCESS_KEY", "secret");
        command.args(["restore", "-o"]).arg(dir.path().join("out.db")).arg("-config").arg(&path).arg("/srv/app.db");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    yaml("0s");
    let ran = command().output().unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert!(stderr.contains("nothing listens there") && !stderr.contains("waiting for"), "{stderr}");

    yaml("1h");
    let mut child = command().spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert_eq!(first, format!("waiting for {}: connection refused (up to 3600 s)", port.address));
    let empty = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let server = RawServer::start_at(port.listen(), None, |_, to| answer(to, "200 OK", "", empty));
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(rest, ["Error: no matching backup files available: nothing lies at s3://bucket/app.db"]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!server.requests().is_empty());
}

// --- a service that answers and sends nothing ---

/// Keeps the connection open until the client leaves it.
fn silence(to: &mut dyn Wire) -> Answered {
    to.flush()?;
    let _ = to.read(&mut [0]);
    close()
}

#[track_caller]
fn is_stalled(error: &StoreError, awaited: &str) {
    assert_eq!(error.kind, StoreErrorKind::Stalled, "{error}");
    let text = format!("(--stall-timeout) while waiting for {awaited}");
    assert!(error.detail.starts_with("no progress for ") && error.detail.contains(&text), "{error}");
}

#[test]
fn headers_are_no_progress() {
    let content = object(100_000);
    let server = RawServer::start(move |request, to| match request.header("range") {
        "" => write!(to, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n").and_then(|()| silence(to)),
        _ => answer_part(to, request, &content, "e", 0).and_then(|()| silence(to)),
    });
    let (options, _) = limited(LIMIT, LIMIT);
    let client = Client::new(config(&server.endpoint()), &options);
    run_frozen(async {
        let (read, took) = passing(client.read("key", 0..100_000, None)).await;
        is_stalled(&read.unwrap_err(), "bytes 0-99999");
        assert!((LIMIT..LIMIT + 4 * STEP).contains(&took), "{took:?}");
        // The service is dead, as far as is known: whoever comes later has less patience.
        let http = Http::default();
        let (listed, took) = passing(client.store.list_page(&http, &ListRequest::default())).await;
        is_stalled(&listed.unwrap_err(), "more keys");
        assert!(took < LIMIT / 2, "{took:?}");
    });
}

#[test]
fn others_progress_keeps_no_dead_object_alive() {
    let content = object(100_000);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| match request.target.contains("/dead") {
        true => answer_part(to, request, &served, "e", 10).and_then(|()| silence(to)),
        false => answer_range(to, request, &served, "e"),
    });
    let (options, _) = limited(LIMIT, LIMIT);
    let client = Client::new(config(&server.endpoint()), &options);
    run_frozen(async {
        let has_ended = Cell::new(None);
        let begun = Instant::now();
        let dead = async {
            let error = client.read("dead", 0..100_000, None).await.unwrap_err();
            has_ended.set(Some(begun.elapsed()));
            error
        };
        let others = async {
            while has_ended.get().is_none() {
                assert_eq!(client.read("key", 0..100_000, None).await.unwrap(), *content);
                for _ in 0..8 {
                    advance(STEP).await;
                    tokio::task::yield_now().await;
                }
            }
        };
        let (error, ()) = tokio::join!(dead, others);
        is_stalled(&error, "bytes ");
        let took = has_ended.get().unwrap();
        assert!((LIMIT..LIMIT + 16 * STEP).contains(&took), "{took:?}");
    });
}

#[test]
fn a_bucket_that_throttles_for_ever_is_given_up() {
    let server = RawServer::start(|_, to| refuse(to, "503 Slow Down", "retry-after: 20\r\n", "SlowDown"));
    let (options, _) = limited(LIMIT, LIMIT);
    let client = Client::new(config(&server.endpoint()), &options);
    run_frozen(async {
        let (read, took) = passing(client.read("key", 0..100, None)).await;
        is_stalled(&read.unwrap_err(), "bytes 0-99");
        // The limiter's own waits are not counted.
        assert!(took >= LIMIT, "{took:?}");
    });
}
