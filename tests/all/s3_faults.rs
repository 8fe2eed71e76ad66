//! Tests the S3 client against a server that ends connections, goes silent, contradicts itself and throttles.

use crate::common::client::{Client, collect, config, object, options, pass_until, run, run_frozen};
use crate::common::raw::{Answered, RawServer, answer, answer_part, answer_range, close, range_head, refuse};
use crate::common::wait::{AT_MOST, Gate};
use hydrant::store::s3::{ProcessLimiter, Retries, S3Options, Timeouts};
use hydrant::store::{Http, ListRequest, StoreErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::time::{Instant, advance};

// --- tests with broken answers ---

#[test]
fn a_dropped_body_is_resumed_at_the_exact_offset() {
    let content = object(300_000);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| match request.n {
        0 => answer_part(to, request, &served, "e1", 100_000).and_then(|()| close()),
        1 => answer_part(to, request, &served, "e1", 50_001).and_then(|()| close()),
        _ => answer_range(to, request, &served, "e1"),
    });
    let client = Client::of(&server);
    assert_eq!(client.read_now(1000..300_000).unwrap(), content[1000..]);
    let requests = server.requests();
    let ranges: Vec<_> = requests.iter().map(|r| r.range().0).collect();
    assert_eq!(ranges, [1000, 101_000, 151_001]);
    assert_eq!((requests[0].header("if-match"), requests[1].header("if-match")), ("", "\"e1\""));
    assert_eq!(client.counters.retries.get(), 2);
    assert_eq!(client.counters.bytes_in.get(), 299_000, "no byte fetched twice");
}

#[test]
fn a_body_that_makes_no_progress_is_given_up() {
    let content = object(1_000_000);
    let server =
        RawServer::start(move |request, to| answer_part(to, request, &content, "e1", 10).and_then(|()| close()));
    let error = Client::of(&server).read_now(0..1_000_000).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Network, "{error}");
    let most = Retries::default().attempts_while_others_succeed as usize;
    assert!(server.requests().len() <= most && error.attempts as usize == server.requests().len(), "{error}");
}

#[test]
fn a_body_that_progresses_is_never_given_up() {
    let content = object(2_000_000);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| {
        let (first, last) = request.range();
        answer_part(to, request, &served, "e1", 20_000.min(last + 1 - first)).and_then(|()| close())
    });
    let client = Client::of(&server);
    assert_eq!(client.read_now(0..2_000_000).unwrap(), *content);
    assert_eq!(client.gets_without_hedges(), 100);
}

#[test]
fn an_object_replaced_while_it_is_read_is_noticed() {
    let content = object(100_000);
    for honours_if_match in [true, false] {
        let served = Arc::clone(&content);
        let server = RawServer::start(move |request, to| match request.n {
            0 => answer_part(to, request, &served, "e1", 50_000).and_then(|()| close()),
            _ if honours_if_match && !request.header("if-match").is_empty() => {
                refuse(to, "412 Precondition Failed", "", "PreconditionFailed")
            }
            _ => answer_range(to, request, &served, "e2"),
        });
        let error = Client::of(&server).read_now(0..100_000).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::PreconditionFailed, "{error}");
        assert!(error.is_stale_listing());
        // After a 412, the tag of an answer to a request without If-Match tells whether the object has changed.
        assert_eq!(server.requests().len(), if honours_if_match { 3 } else { 2 });
    }
}

#[test]
fn a_resumed_object_of_another_size_is_noticed_without_a_tag() {
    let content = object(100_000);
    let server = RawServer::start(move |request, to| {
        let (first, last) = request.range();
        let size = 100_000 + 50_000 * request.n.min(1);
        let range = format!("content-range: bytes {first}-{last}/{size}\r\n");
        write!(to, "HTTP/1.1 206 Partial Content\r\n{range}content-length: {}\r\n\r\n", last + 1 - first)?;
        to.write_all(&content[first..first + 20_000])?;
        close()
    });
    let error = Client::of(&server).read_now(0..100_000).unwrap_err();
    assert_eq!((error.kind, server.requests().len()), (StoreErrorKind::PreconditionFailed, 2), "{error}");
}

#[test]
fn what_is_asked_for_again_comes_on_another_connection() {
    let content = object(1000);
    let server = RawServer::start(move |request, to| match request.target.as_str() {
        "/bucket/not-modified" if request.n == 2 => answer(to, "304 Not Modified", "", &[]),
        _ => answer_range(to, request, &content, "e1"),
    });
    let client = Client::of(&server);
    run(async {
        let http = Http::default();
        let read = async |key, http: &Http| {
            collect(&mut client.store.get(http, key, 0..1000, None).await.unwrap()).await.unwrap()
        };
        read("key", &http).await;
        read("key", &http).await;
        assert_eq!(server.connections(), 1, "connections are used again");
        read("not-modified", &http).await;
        assert_eq!((server.connections(), server.requests().len()), (2, 4));
        read("key", &http.on_other_connections()).await;
        assert_eq!(server.connections(), 3);
    });
}

#[test]
fn a_whole_object_for_a_range_is_taken_only_where_little_is_wasted() {
    let content = object(3_000_000);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |_, to| answer(to, "200 OK", "etag: \"e\"\r\n", &served));
    let client = Client::of(&server);
    for range in [0..3_000_000, 0..10, 777..500_000, 1_000_000..3_000_000] {
        let expected = &content[range.start as usize..range.end as usize];
        assert_eq!(client.read_now(range).unwrap(), expected);
    }
    assert_eq!(client.counters.retries.get(), 0);
    let error = client.read_now(2_000_000..2_000_010).unwrap_err();
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::RangesIgnored, 3), "{error}");
    assert!(client.store.ignores_ranges());
    assert_eq!(client.read_now(0..3_000_001).unwrap_err().kind, StoreErrorKind::SizeDiffers);
}

#[test]
fn headers_that_contradict_the_question_are_refused() {
    let content = object(1000);
    let range = |text: &str, len: usize| (format!("content-range: {text}\r\n"), len);
    for (case, (headers, len)) in [
        range("bytes 100-199/1000", 100), // This answer is correct; the check below treats it separately.
        range("bytes 101-199/1000", 99),
        range("bytes 0-99/1000", 100),
        range("bytes 100-198/1000", 99),
        range("bytes 100-299/1000", 200),
        range("bytes 100-199/1000", 99),
        range("bytes 100-199/1000", 101),
        range("apples", 100),
        (String::new(), 100),
        range("bytes 100-199/1000\r\ncontent-encoding: gzip", 100),
    ]
    .into_iter()
    .enumerate()
    {
        let served = Arc::clone(&content);
        let wrong = headers.clone();
        // If only the first answer is wrong, the request is sent again and succeeds. If all are wrong, it fails.
        for always in [true, false] {
            let (served, wrong) = (Arc::clone(&served), wrong.clone());
            let server = RawServer::start(move |request, to| {
                if always || request.n == 0 {
                    answer(to, "206 Partial Content", &wrong, &served[..len])
                } else {
                    answer_range(to, request, &served, "e")
                }
            });
            let result = Client::of(&server).read_now(100..200);
            if case == 0 {
                assert_eq!(result.unwrap(), content[..100]);
            } else if always {
                let error = result.unwrap_err();
                assert_eq!(error.kind, StoreErrorKind::InvalidResponse, "{headers}: {error}");
                assert_eq!(server.requests().len(), 3, "{headers}");
            } else {
                assert_eq!(result.unwrap(), content[100..200], "{headers}");
            }
        }
    }
}

#[test]
fn an_object_of_another_size_is_not_read() {
    let content = object(1000);
    let server = RawServer::start(move |request, to| match request.target.as_str() {
        "/bucket/clamped" => answer(to, "206 Partial Content", "content-range: bytes 0-999/1000\r\n", &content),
        _ => refuse(to, "416 Range Not Satisfiable", "", "InvalidRange"),
    });
    let client = Client::of(&server);
    for key in ["clamped", "beyond"] {
        let error = run(client.read(key, 0..2000, None)).unwrap_err();
        assert_eq!((error.kind, error.attempts), (StoreErrorKind::SizeDiffers, 1), "{error}");
    }
}

#[test]
fn bodies_that_are_too_long_or_chunked() {
    let content = object(1000);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| {
        let head = range_head(request, 1000, "e");
        write!(to, "HTTP/1.1 206 Partial Content\r\n{head}transfer-encoding: chunked\r\n\r\n")?;
        let (first, last) = request.range();
        for part in served[first..=last].chunks(100) {
            write!(to, "{:x}\r\n", part.len())?;
            to.write_all(part)?;
            write!(to, "\r\n")?;
        }
        if request.n == 0 {
            write!(to, "5\r\nextra\r\n")?;
        }
        write!(to, "0\r\n\r\n")
    });
    let client = Client::of(&server);
    assert_eq!(client.read_now(0..500).unwrap(), content[..500]);
    assert_eq!(client.read_now(300..1000).unwrap(), content[300..]);
}

// --- tests of timeouts ---

/// A server that goes silent. It keeps the connection open until another request has come.
#[derive(Default)]
struct Silence {
    begun: Gate,
    broken: Gate,
    /// Whether the server waited in vain: the client kept the silent connection and sent no other request.
    was_in_vain: AtomicBool,
}

impl Silence {
    fn keep(&self) -> Answered {
        self.begun.open();
        if !self.broken.wait() {
            self.was_in_vain.store(true, Ordering::Relaxed);
        }
        close()
    }

    fn was_left(&self) -> bool {
        !self.was_in_vain.load(Ordering::Relaxed)
    }
}

/// A time-out of one kind.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A client whose pauses take no time, so that only time-outs need a clock.
fn impatient(server: &RawServer, timeouts: Timeouts) -> Client {
    let retries = Retries { base: Duration::ZERO, ..Retries::default() };
    Client::new(config(&server.endpoint()), &S3Options { timeouts, retries, ..options() })
}

#[test]
fn a_black_hole_at_each_stage_is_left() {
    for stage in ["request", "headers", "body", "error body"] {
        let content = object(200_000);
        let (served, silence) = (Arc::clone(&content), Arc::new(Silence::default()));
        let (keeping, of) = (Arc::clone(&silence), stage.to_owned());
        let server = RawServer::start(move |request, to| {
            match (request.n, &*of) {
                (0, "request") => {}
                (0, "headers") => write!(to, "HTTP/1.1 206 Partial")?,
                (0, "body") => answer_part(to, request, &served, "e", 120_000)?,
                (0, _) => write!(to, "HTTP/1.1 503 Slow Down\r\ncontent-length: 100\r\n\r\n<Error>")?,
                _ => {
                    keeping.broken.open();
                    return answer_range(to, request, &served, "e");
                }
            }
            to.flush()?;
            keeping.keep()
        });
        let before_headers = matches!(stage, "request" | "headers");
        let timeouts = if before_headers {
            Timeouts { first_byte: TIMEOUT, ..options().timeouts }
        } else {
            Timeouts { chunk: TIMEOUT, ..options().timeouts }
        };
        let client = impatient(&server, timeouts);
        let time = async {
            pass_until(Duration::ZERO, || silence.begun.is_open()).await;
            if before_headers {
                // Once only: the next request has the same time-out.
                advance(TIMEOUT).await;
            }
            pass_until(if before_headers { Duration::ZERO } else { TIMEOUT }, || silence.broken.is_open()).await;
        };
        let (read, ()) = run_frozen(async { tokio::join!(client.read("key", 0..200_000, None), time) });
        assert_eq!(read.unwrap(), *content, "{stage}");
        assert!(silence.was_left(), "{stage}");
        assert_eq!((client.counters.retries.get(), server.connections()), (1, 2), "{stage}");
    }
}

#[test]
fn a_listing_that_halts_is_asked_for_again() {
    const PAGE: &str = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let silence = Arc::new(Silence::default());
    let keeping = Arc::clone(&silence);
    let server = RawServer::start(move |request, to| {
        if request.n == 0 {
            write!(to, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", PAGE.len(), &PAGE[..30])?;
            to.flush()?;
            return keeping.keep();
        }
        keeping.broken.open();
        answer(to, "200 OK", "", PAGE.as_bytes())
    });
    let client = impatient(&server, Timeouts { chunk: TIMEOUT, ..options().timeouts });
    let (http, request) = (Http::default(), ListRequest::default());
    let time = pass_until(TIMEOUT, || silence.broken.is_open());
    let (page, ()) = run_frozen(async { tokio::join!(client.store.list_page(&http, &request), time) });
    assert_eq!(page.unwrap(), Default::default());
    assert!(silence.was_left());
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_crawling_body_is_resumed_elsewhere() {
    const EVERY: Duration = Duration::from_millis(20);
    let content = object(100_000);
    let served = Arc::clone(&content);
    let (send, may_send) = mpsc::channel();
    let may_send = Mutex::new(may_send);
    let was_in_vain = Arc::new(AtomicBool::new(false));
    let waits_in_vain = Arc::clone(&was_in_vain);
    let server = RawServer::start(move |request, to| {
        if request.n > 0 {
            return answer_range(to, request, &served, "e");
        }
        answer_part(to, request, &served, "e", 10)?;
        // Sending the rest would take half an hour, but the client closes the connection.
        for byte in &served[10..] {
            if may_send.lock().unwrap().recv_timeout(AT_MOST).is_err() {
                waits_in_vain.store(true, Ordering::Relaxed);
                break;
            }
            to.write_all(&[*byte])?;
        }
        close()
    });
    let client = impatient(&server, Timeouts { crawl_window: 50 * EVERY, ..options().timeouts });
    run_frozen(async {
        let http = Http::default();
        let mut body = client.store.get(&http, "key", 0..100_000, None).await.unwrap();
        let mut read = Vec::new();
        while read.len() < 10 {
            read.extend_from_slice(&body.chunk().await.unwrap().unwrap());
        }
        for _ in 0..50 {
            let later = async {
                advance(EVERY).await;
                send.send(()).unwrap();
            };
            let (byte, ()) = tokio::join!(body.chunk(), later);
            read.extend_from_slice(&byte.unwrap().unwrap());
        }
        assert_eq!((read.len(), server.requests().len()), (60, 1));
        read.extend(collect(&mut body).await.unwrap());
        assert_eq!(read, *content);
    });
    assert!(!was_in_vain.load(Ordering::Relaxed), "the client waits for the next byte");
    assert_eq!(server.requests().iter().map(|request| request.range().0).collect::<Vec<_>>(), [0, 60]);
}

#[test]
fn a_reader_that_takes_its_time_is_not_a_crawl() {
    let content = object(100_000);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| answer_range(to, request, &served, "e"));
    let timeouts = Timeouts { chunk: TIMEOUT, crawl_window: TIMEOUT, stall: TIMEOUT, ..options().timeouts };
    let client = impatient(&server, timeouts);
    run_frozen(async {
        let http = Http::default();
        let mut body = client.store.get(&http, "key", 0..100_000, None).await.unwrap();
        let mut len = 0;
        while let Some(bytes) = body.chunk().await.unwrap() {
            len += bytes.len();
            advance(100 * TIMEOUT).await;
        }
        assert_eq!(len, 100_000);
    });
    assert_eq!(server.requests().len(), 1);
}

// --- tests of throttling and server errors ---

#[test]
fn storms_pass() {
    let content = object(1000);
    for (status, code) in [
        ("503 Slow Down", "SlowDown"),
        ("500 Internal Server Error", "InternalError"),
        ("408 Request Timeout", "RequestCanceled"),
        ("429 Too Many Requests", "TooManyRequests"),
        ("400 Bad Request", "RequestTimeout"),
    ] {
        let served = Arc::clone(&content);
        let server = RawServer::start(move |request, to| {
            if request.n < 5 { refuse(to, status, "", code) } else { answer_range(to, request, &served, "e") }
        });
        let client = Client::of(&server);
        assert_eq!(client.read_now(0..1000).unwrap(), *content, "{status}");
        assert_eq!((client.counters.gets.get(), client.counters.retries.get()), (6, 5));
        let throttled = if matches!(code, "SlowDown" | "TooManyRequests") { 5 } else { 0 };
        assert_eq!(client.counters.throttled.get(), throttled, "{code}");
    }
}

#[test]
fn a_storm_without_end_is_told() {
    let server = RawServer::start(|_, to| refuse(to, "503 Slow Down", "x-amz-request-id: RID\r\n", "SlowDown"));
    let client = Client::of(&server);
    let error = client.read_now(0..1000).unwrap_err();
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::Throttled, 10), "{error}");
    assert_eq!(error.request_id.as_deref(), Some("RID"));
    assert!(
        error.is_transient() && error.to_string().starts_with("GET s3://bucket/key: HTTP 503: SlowDown"),
        "{error}"
    );
}

#[test]
fn a_third_of_failures_costs_no_more_than_they_must() {
    let content = object(100);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| {
        if request.n % 3 == 0 {
            refuse(to, "503 Slow Down", "", "SlowDown")
        } else {
            answer_range(to, request, &served, "e")
        }
    });
    let client = Client::of(&server);
    run(async {
        let http = Http::default();
        let all = (0..600).map(|_| async {
            let mut body = client.store.get(&http, "key", 0..100, None).await.unwrap();
            assert_eq!(collect(&mut body).await.unwrap(), *content);
        });
        futures_util::future::join_all(all).await;
    });
    // A hedge may fail too, and what is then sent again.
    let (sent, hedges) = (client.counters.gets.get(), client.counters.hedges.get());
    assert!(sent <= 901 + 2 * hedges, "{sent}: 900 are unavoidable, {hedges} were hedges");
}

#[test]
fn the_cap_holds_and_connections_are_used_again() {
    let content = object(100);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| answer_range(to, request, &served, "e"));
    let capped = S3Options { limits: ProcessLimiter::new(Some(3)), ..options() };
    let client = Client::new(config(&server.endpoint()), &capped);
    run_frozen(async {
        let http = Http::default();
        let all = (0..100).map(|_| async {
            let mut body = client.store.get(&http, "key", 0..100, None).await.unwrap();
            assert_eq!(collect(&mut body).await.unwrap(), *content);
        });
        futures_util::future::join_all(all).await;
    });
    assert_eq!(server.requests().len(), 100);
    assert!(server.connections() <= 6, "{}", server.connections());
}

const STRAGGLERS: usize = 3;

/// A server that delays the first request for `late-0`, `late-1`, … until a second request for the same object was
/// answered. The second answer is `refusal`, if it is given, else the object. All other requests are answered at
/// once.
struct Stragglers {
    server: RawServer,
    client: Client,
    late: Arc<[Late; STRAGGLERS]>,
}

#[derive(Default)]
struct Late {
    has_come: AtomicBool,
    hedge_answered: Gate,
    release: Gate,
}

impl Stragglers {
    fn new(refusal: Option<&'static str>) -> Self {
        let served = object(100);
        let late: Arc<[Late; STRAGGLERS]> = Arc::default();
        let of = Arc::clone(&late);
        let server = RawServer::start(move |request, to| {
            let number = request.target.strip_prefix("/bucket/late-").and_then(|rest| rest.split('?').next());
            let Some(number) = number else { return answer_range(to, request, &served, "e") };
            let late = &of[number.parse::<usize>().unwrap()];
            if !late.has_come.swap(true, Ordering::Relaxed) {
                assert!(late.release.wait(), "the test has ended");
                return answer_range(to, request, &served, "e");
            }
            let answer = match refusal {
                Some(status) => refuse(to, status, "", "InternalError"),
                None => answer_range(to, request, &served, "e"),
            };
            late.hedge_answered.open();
            answer
        });
        let client = impatient(&server, options().timeouts);
        Self { server, client, late }
    }

    async fn get(&self, key: &str) {
        assert_eq!(self.client.read(key, 0..100, None).await.unwrap(), *object(100), "{key}");
    }

    /// Reads objects one after another. A late one is read whenever a hedge is certain to be allowed. Only 2 % of
    /// the requests may be hedged, and on a busy machine other requests may have used a part of that.
    fn read(&self) {
        run_frozen(async {
            for _ in 0..300 {
                self.get("key").await;
            }
            for (n, late) in self.late.iter().enumerate() {
                let hedges = &self.client.counters.hedges;
                assert_eq!(hedges.get(), n as u64);
                let release = async {
                    pass_until(Duration::from_millis(10), || hedges.get() > n as u64).await;
                    pass_until(Duration::ZERO, || late.hedge_answered.is_open()).await;
                    // The client gets the hedge's answer before those of later requests. If it takes
                    // a refusal for the answer, it sends a retry meanwhile.
                    for _ in 0..20 {
                        self.get("key").await;
                    }
                    late.release.open();
                };
                let key = format!("late-{n}");
                tokio::join!(self.get(&key), release);
            }
        });
        assert_eq!(self.client.counters.hedges.get(), STRAGGLERS as u64);
    }
}

#[test]
fn another_request_is_sent_in_a_stragglers_stead() {
    let stragglers = Stragglers::new(None);
    stragglers.read();
    let (counters, requests) = (&stragglers.client.counters, stragglers.server.requests());
    for n in 0..STRAGGLERS {
        let path = format!("/bucket/late-{n}");
        assert_eq!(requests.iter().filter(|request| request.target.starts_with(&path)).count(), 2, "{path}");
    }
    assert_eq!((counters.gets.get(), counters.retries.get()), (requests.len() as u64, 0));
}

#[test]
fn a_hedge_that_fails_leaves_the_straggler_its_place() {
    for status in ["500 Internal Server Error", "429 Too Many Requests", "408 Request Timeout"] {
        let stragglers = Stragglers::new(Some(status));
        stragglers.read();
        assert_eq!(stragglers.client.counters.retries.get(), 0, "{status}");
    }
}

#[test]
fn a_server_that_says_when_to_come_back_is_not_asked_before() {
    for (status, code) in [("503 Slow Down", "SlowDown"), ("429 Too Many Requests", "")] {
        let content = object(1000);
        let server = RawServer::start(move |request, to| match request.n {
            0 => refuse(to, status, "Retry-After: 1\r\n", code),
            _ => answer_range(to, request, &content, "e1"),
        });
        let client = Client::of(&server);
        let counters = &client.counters;
        let pause = async {
            pass_until(Duration::ZERO, || counters.throttled.get() == 1).await;
            let begun = Instant::now();
            pass_until(Duration::from_millis(1), || counters.retries.get() == 1).await;
            begun.elapsed()
        };
        let (read, pause) = run_frozen(async { tokio::join!(client.read("key", 0..1000, None), pause) });
        assert_eq!(read.unwrap().len(), 1000);
        // The spread is the pause that was due anyway: 4 ms at most.
        assert!((1000..1010).contains(&pause.as_millis()), "{status}: {pause:?}");
        assert_eq!(server.requests().len(), 2);
    }
}
