//! The S3 client against an independent server, and against one that misbehaves.

mod common;

use common::S3sServer;
use common::raw::{RawServer, answer, answer_part, answer_range, close, range_head, refuse};
use hydrant::store::s3::{Retries, S3, S3Config, S3Options, SseCustomerKey, StaticCredentials, Timeouts};
use hydrant::store::{Body, Etag, Http, ListRequest, Store, StoreError, StoreErrorKind};
use hydrant::telemetry::Counters;
use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Impatient, so that tests are quick.
fn options() -> S3Options {
    S3Options {
        timeouts: Timeouts {
            connect: Duration::from_millis(1500),
            first_byte: Duration::from_millis(500),
            chunk: Duration::from_millis(400),
            crawl_window: Duration::from_millis(300),
        },
        retries: Retries {
            base: Duration::from_millis(4),
            cap: Duration::from_millis(40),
            ..Retries::default()
        },
        ..S3Options::default()
    }
}

fn config(endpoint: &str) -> S3Config {
    S3Config {
        bucket: "bucket".into(),
        region: Some("us-east-1".into()),
        endpoint: Some(endpoint.into()),
        path_style: true,
        credentials: Some(StaticCredentials {
            access_key_id: "AKID".into(),
            secret_access_key: "canary-secret-key".into(),
            session_token: Some("canary-session-token".into()),
        }),
        ..S3Config::default()
    }
}

struct Client {
    store: Store,
    counters: Arc<Counters>,
}

impl Client {
    fn new(config: S3Config, options: &S3Options) -> Self {
        let counters = Arc::new(Counters::default());
        Self { store: Store::S3(Arc::new(S3::new(config, options, Arc::clone(&counters)))), counters }
    }

    fn of(server: &RawServer) -> Self {
        Self::new(config(&server.endpoint()), &options())
    }

    async fn read(&self, key: &str, range: Range<u64>, if_match: Option<&Etag>) -> Result<Vec<u8>, StoreError> {
        let http = Http::default();
        let mut body = self.store.get(&http, key, range, if_match).await?;
        collect(&mut body).await
    }

    fn read_now(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        run(self.read("key", range, None))
    }

    fn list_now(&self, request: &ListRequest) -> Result<hydrant::store::ListPage, StoreError> {
        run(self.store.list_page(&Http::default(), request))
    }
}

async fn collect(body: &mut Body) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        assert!(!chunk.is_empty());
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn object(len: usize) -> Arc<Vec<u8>> {
    Arc::new((0..len).map(|i| (i * 7 % 251) as u8).collect())
}

// --- against s3s ---

fn s3s(root: &std::path::Path) -> (S3sServer, S3Config) {
    let server = S3sServer::start(root);
    let credentials = StaticCredentials {
        access_key_id: server.access_key.into(),
        secret_access_key: server.secret_key.into(),
        session_token: None,
    };
    let config = S3Config { credentials: Some(credentials), ..config(&server.endpoint) };
    (server, config)
}

async fn exercise(client: &Client) {
    let http = Http::default();
    let mut request = ListRequest { prefix: "many/".into(), ..ListRequest::default() };
    let (mut keys, mut pages) = (BTreeSet::new(), 0);
    loop {
        let page = client.store.list_page(&http, &request).await.unwrap();
        pages += 1;
        keys.extend(page.objects.into_iter().map(|o| (o.key, o.size)));
        let Some(token) = page.continuation else { break };
        request.continuation = Some(token);
    }
    assert_eq!((keys.len(), pages), (1203, 2));
    assert!(keys.contains(&("many/0007".into(), 7)));

    let rolled = ListRequest { delimiter: Some('/'), ..ListRequest::default() };
    let page = client.store.list_page(&http, &rolled).await.unwrap();
    assert_eq!(page.common_prefixes, ["many/", "odd/"]);
    let after =
        ListRequest { prefix: "many/".into(), start_after: Some("many/1200".into()), ..ListRequest::default() };
    assert_eq!(client.store.list_page(&http, &after).await.unwrap().objects.len(), 2);

    let key = "odd/a b+c&d=ü%2F~'(é)*.ltx";
    let content = object(3_000_000);
    for range in [0..3_000_000u64, 1..2, 2_999_999..3_000_000, 1_048_576..2_097_153, 5..5] {
        let mut body = client.store.get(&http, key, range.clone(), None).await.unwrap();
        assert_eq!(collect(&mut body).await.unwrap(), content[range.start as usize..range.end as usize]);
        if !range.is_empty() {
            assert_eq!(body.litestream_timestamp().unwrap().to_string(), "2026-11-22T01:32:36.211Z");
            assert!(body.etag().is_some());
        }
    }
    let head = client.store.head(&http, key).await.unwrap();
    assert_eq!(head.size, 3_000_000);
    assert_eq!(head.litestream_timestamp.unwrap().to_string(), "2026-11-22T01:32:36.211Z");
    assert!(head.last_modified.is_some() && head.etag.is_some());

    let wrong = Etag::parse("00000000000000000000000000000000").unwrap();
    for (key, range, etag, kind) in [
        (key, 0..3_000_001, None, StoreErrorKind::SizeDiffers),
        (key, 4_000_000..4_000_001, None, StoreErrorKind::SizeDiffers),
        ("odd/none", 0..1, None, StoreErrorKind::NoSuchKey),
        (key, 0..1, Some(&wrong), StoreErrorKind::Changed),
    ] {
        let error = client.store.get(&http, key, range, etag).await.err().unwrap();
        assert_eq!(error.kind, kind, "{error}");
    }
    assert_eq!(client.store.head(&http, "odd/none").await.unwrap_err().kind, StoreErrorKind::NoSuchKey);
}

fn fill(server: &S3sServer) {
    for i in 0..1203 {
        server.put("bucket", &format!("many/{i:04}"), &vec![b'x'; i], None);
    }
    server.put("bucket", "odd/a b+c&d=ü%2F~'(é)*.ltx", &object(3_000_000), Some("2026-11-22T01:32:36.211Z"));
}

#[test]
fn an_independent_server_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let (server, config) = s3s(dir.path());
    fill(&server);
    let patient = S3Options::default();
    let client = Client::new(config.clone(), &patient);
    run(exercise(&client));
    let counters = &client.counters;
    assert_eq!((counters.lists.get(), counters.heads.get(), counters.retries.get()), (4, 2, 0));
    assert_eq!(counters.gets.get(), 8);
    assert!(counters.bytes_in.get() > 4_000_000);

    // On the runtime of the io_uring writer too, where the kernel has one.
    let client = Client::new(config, &patient);
    let uring = std::thread::spawn(move || tokio_uring::start(async move { exercise(&client).await }));
    if let Err(panic) = uring.join() {
        let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(message.contains("PermissionDenied") || message.contains("Unsupported"), "{message}");
        println!("skipped: no io_uring here");
    }
}

#[test]
fn an_independent_server_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let (server, good) = s3s(dir.path());
    server.put("bucket", "key", b"content", None);
    let list = ListRequest::default();

    let missing = S3Config { bucket: "nobucket".into(), ..good.clone() };
    let error = Client::new(missing, &options()).list_now(&list).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NoSuchBucket, "{error}");
    assert!(error.to_string().contains("NoSuchBucket") && error.hint.is_some(), "{error}");

    let with = |id: &str, secret: &str| {
        let credentials = StaticCredentials {
            access_key_id: id.into(),
            secret_access_key: secret.into(),
            session_token: None,
        };
        Client::new(S3Config { credentials: Some(credentials), ..good.clone() }, &options())
    };
    for (client, code) in [
        (with(server.access_key, "canary-wrong-secret"), "SignatureDoesNotMatch"),
        (with("AKIDUNKNOWN", "canary-wrong-secret"), "NotSignedUp"),
    ] {
        for error in [
            client.list_now(&list).unwrap_err(),
            client.read_now(0..7).unwrap_err(),
            run(client.store.head(&Http::default(), "key")).unwrap_err(),
        ] {
            assert_eq!(error.kind, StoreErrorKind::AccessDenied, "{error}");
            assert!(error.detail.contains(code) && error.hint.is_some(), "{error}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
        assert_eq!(client.counters.retries.get(), 1, "only HEAD is asked about again");
    }
}

// --- answers that are broken ---

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
    let server = RawServer::start(move |request, to| answer_part(to, request, &content, "e1", 10).and_then(|()| close()));
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
    assert_eq!(Client::of(&server).read_now(0..2_000_000).unwrap(), *content);
    assert_eq!(server.requests().len(), 100);
}

#[test]
fn an_object_replaced_while_it_is_read_is_noticed() {
    let content = object(100_000);
    for honours_if_match in [true, false] {
        let served = Arc::clone(&content);
        let server = RawServer::start(move |request, to| match request.n {
            0 => answer_part(to, request, &served, "e1", 50_000).and_then(|()| close()),
            _ if honours_if_match => refuse(to, "412 Precondition Failed", "", "PreconditionFailed"),
            _ => answer_range(to, request, &served, "e2"),
        });
        let error = Client::of(&server).read_now(0..100_000).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Changed, "{error}");
        assert!(error.is_stale_listing());
        assert_eq!(server.requests().len(), 2);
    }
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
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::BadAnswer, 3), "{error}");
    assert_eq!(client.read_now(0..3_000_001).unwrap_err().kind, StoreErrorKind::SizeDiffers);
}

#[test]
fn headers_that_contradict_the_question_are_refused() {
    let content = object(1000);
    let range = |text: &str, len: usize| (format!("content-range: {text}\r\n"), len);
    for (case, (headers, len)) in [
        range("bytes 100-199/1000", 100), // right: see below
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
        // Once wrong, then right: asked again. Always wrong: refused.
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
                assert_eq!(error.kind, StoreErrorKind::BadAnswer, "{headers}: {error}");
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

// --- time ---

#[test]
fn a_black_hole_at_each_stage_is_left() {
    let content = object(200_000);
    for stage in ["request", "headers", "body", "error body"] {
        let served = Arc::clone(&content);
        let server = RawServer::start(move |request, to| {
            let hang = || {
                std::thread::sleep(Duration::from_secs(3));
                close()
            };
            match (request.n, stage) {
                (0, "request") => hang(),
                (0, "headers") => write!(to, "HTTP/1.1 206 Partial").and_then(|()| to.flush()).and_then(|()| hang()),
                (0, "body") => answer_part(to, request, &served, "e", 120_000).and_then(|()| hang()),
                (0, _) => {
                    write!(to, "HTTP/1.1 503 Slow Down\r\ncontent-length: 100\r\n\r\n<Error>")?;
                    to.flush()?;
                    hang()
                }
                _ => answer_range(to, request, &served, "e"),
            }
        });
        let begun = Instant::now();
        let client = Client::of(&server);
        assert_eq!(client.read_now(0..200_000).unwrap(), *content, "{stage}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{stage}: {:?}", begun.elapsed());
        assert_eq!((client.counters.retries.get(), server.connections()), (1, 2), "{stage}");
    }
}

#[test]
fn a_listing_that_halts_is_asked_for_again() {
    const PAGE: &str = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let server = RawServer::start(|request, to| {
        if request.n == 0 {
            write!(to, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", PAGE.len(), &PAGE[..30])?;
            to.flush()?;
            std::thread::sleep(Duration::from_secs(2));
            return close();
        }
        answer(to, "200 OK", "", PAGE.as_bytes())
    });
    assert_eq!(Client::of(&server).list_now(&ListRequest::default()).unwrap(), Default::default());
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_crawling_body_is_resumed_elsewhere() {
    let content = object(100_000);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| {
        if request.n > 0 {
            return answer_range(to, request, &served, "e");
        }
        answer_part(to, request, &served, "e", 10)?;
        for byte in &served[10..] {
            to.write_all(&[*byte])?;
            std::thread::sleep(Duration::from_millis(20));
        }
        close()
    });
    let begun = Instant::now();
    assert_eq!(Client::of(&server).read_now(0..100_000).unwrap(), *content);
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(server.requests()[1].range().0 >= 10);
}

#[test]
fn a_reader_that_takes_its_time_is_not_a_crawl() {
    let content = object(100_000);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| answer_range(to, request, &served, "e"));
    let client = Client::of(&server);
    run(async {
        let http = Http::default();
        let mut body = client.store.get(&http, "key", 0..100_000, None).await.unwrap();
        let mut len = 0;
        while let Some(bytes) = body.chunk().await.unwrap() {
            len += bytes.len();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(len, 100_000);
    });
    assert_eq!(server.requests().len(), 1);
}

// --- throttling and faults of the server ---

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
    assert!(error.is_transient() && error.to_string().starts_with("GET s3://bucket/key: HTTP 503: SlowDown"), "{error}");
}

#[test]
fn a_third_of_failures_costs_no_more_than_they_must() {
    let content = object(100);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| {
        if request.n % 3 == 0 { refuse(to, "503 Slow Down", "", "SlowDown") } else { answer_range(to, request, &served, "e") }
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
    let sent = server.requests().len();
    assert!(sent <= 901, "{sent}: 900 are unavoidable");
}

#[test]
fn the_cap_holds_and_connections_are_used_again() {
    let content = object(100);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| {
        std::thread::sleep(Duration::from_millis(2));
        answer_range(to, request, &served, "e")
    });
    let capped = S3Options { max_requests: Some(3), ..options() };
    let client = Client::new(config(&server.endpoint()), &capped);
    run(async {
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

// --- where requests go, and by whose name ---

#[test]
fn redirects_are_not_followed() {
    let elsewhere = RawServer::start(|_, to| answer(to, "200 OK", "", b"stolen"));
    let to_elsewhere = format!("location: {}/bucket/key\r\n", elsewhere.endpoint());
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = to_elsewhere.clone();
        let server = RawServer::start(move |_, to| refuse(to, status, &location, "PermanentRedirect"));
        let error = Client::of(&server).read_now(0..6).unwrap_err();
        assert_eq!((error.kind, error.attempts), (StoreErrorKind::BadAnswer, 1), "{error}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn a_region_is_learned_once() {
    let content = object(100);
    for (status, headers, code) in [
        ("301 Moved Permanently", "x-amz-bucket-region: eu-north-1\r\n", "PermanentRedirect"),
        ("307 Temporary Redirect", "x-amz-bucket-region: eu-north-1\r\nlocation: http://127.0.0.1:1/\r\n", "TemporaryRedirect"),
        ("400 Bad Request", "", "AuthorizationHeaderMalformed</Code><Region>eu-north-1</Region><Code>"),
    ] {
        let served = Arc::clone(&content);
        let server = RawServer::start(move |request, to| {
            if request.region() == "eu-north-1" {
                answer_range(to, request, &served, "e")
            } else {
                refuse(to, status, headers, code)
            }
        });
        let client = Client::of(&server);
        assert_eq!(client.read_now(0..100).unwrap(), *content, "{code}");
        assert_eq!(client.read_now(0..100).unwrap(), *content);
        assert_eq!(server.requests().len(), 3, "{code}");
    }
    // Two regions that send each other's requests on.
    let server = RawServer::start(|request, to| {
        let other = if request.region() == "here" { "there" } else { "here" };
        refuse(to, "301 Moved Permanently", &format!("x-amz-bucket-region: {other}\r\n"), "PermanentRedirect")
    });
    let error = Client::of(&server).read_now(0..100).unwrap_err();
    assert!(error.kind == StoreErrorKind::BadAnswer && error.attempts <= 3, "{error}");
}

#[test]
fn a_listing_without_an_end_is_an_error() {
    let page = |inside: &str| format!("<ListBucketResult><IsTruncated>true</IsTruncated>{inside}</ListBucketResult>");
    let token = "<NextContinuationToken>T</NextContinuationToken>";
    let asked = ListRequest { continuation: Some("T".into()), ..ListRequest::default() };
    for (body, request) in [
        (page(""), ListRequest::default()),
        (page(token), asked),
        ("<ListBucketResult>".repeat(40), ListRequest::default()),
        ("<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult>&a;</ListBucketResult>".into(), ListRequest::default()),
        (page(token)[..60].to_owned(), ListRequest::default()),
        (format!("<ListBucketResult>{}", " ".repeat(17 << 20)), ListRequest::default()),
        (String::new(), ListRequest::default()),
    ] {
        let server = RawServer::start(move |_, to| answer(to, "200 OK", "", body.as_bytes()));
        let error = Client::of(&server).list_now(&request).unwrap_err();
        assert_eq!((error.kind, error.attempts), (StoreErrorKind::BadAnswer, 3), "{error}");
    }
}

mod expiring {
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::{ProvideCredentials, future};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    /// TOKEN-0, TOKEN-1, …
    #[derive(Debug, Default)]
    pub struct Provider(pub AtomicUsize);

    #[derive(Debug, Clone)]
    pub struct Shared(pub std::sync::Arc<Provider>);

    impl ProvideCredentials for Shared {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let n = self.0.0.fetch_add(1, SeqCst);
            future::ProvideCredentials::ready(Ok(Credentials::new("AKID", "secret", Some(format!("TOKEN-{n}")), None, "test")))
        }
    }
}

#[test]
fn an_expired_token_is_renewed_once_for_all() {
    let content = object(100);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| {
        std::thread::sleep(Duration::from_millis(10));
        match (request.header("x-amz-security-token"), request.method.as_str()) {
            ("TOKEN-0", "HEAD") => write!(to, "HTTP/1.1 400 Bad Request\r\n\r\n").and_then(|()| close()),
            ("TOKEN-0", _) => refuse(to, "400 Bad Request", "", "ExpiredToken"),
            (_, "HEAD") => write!(to, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"),
            _ => answer_range(to, request, &served, "e"),
        }
    });
    for head_first in [false, true] {
        let provider = expiring::Shared(Arc::default());
        let shared = aws_credential_types::provider::SharedCredentialsProvider::new(provider.clone());
        let counters = Arc::new(Counters::default());
        let s3 = S3::with_credentials_provider(config(&server.endpoint()), &options(), Arc::clone(&counters), shared);
        let client = Client { store: Store::S3(Arc::new(s3)), counters };
        run(async {
            let http = Http::default();
            if head_first {
                assert_eq!(client.store.head(&http, "key").await.unwrap().size, 100);
            } else {
                let all = (0..20).map(|_| client.read("key", 0..100, None));
                for read in futures_util::future::join_all(all).await {
                    assert_eq!(read.unwrap(), *content);
                }
            }
        });
        assert_eq!(provider.0.0.load(std::sync::atomic::Ordering::SeqCst), 2);
    }
}

#[test]
fn a_token_that_cannot_be_renewed_is_told_without_telling_it() {
    let server = RawServer::start(|request, to| {
        let token = request.header("x-amz-security-token").to_owned();
        refuse(to, "400 Bad Request", "", &format!("ExpiredToken</Code><Message>bad {token}</Message><Code>"))
    });
    let error = Client::of(&server).read_now(0..1).unwrap_err();
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::Credentials, 1), "{error}");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
}

#[test]
fn a_wrong_clock_is_corrected_once() {
    const AHEAD_SECS: u64 = 2 * 3600;
    let content = object(100);
    let served = Arc::clone(&content);
    let server = RawServer::start(move |request, to| {
        let now = std::time::SystemTime::now() + Duration::from_secs(AHEAD_SECS);
        let minute = |t: std::time::SystemTime| {
            let t: time::OffsetDateTime = t.into();
            format!("{:04}{:02}{:02}T{:02}{:02}", t.year(), u8::from(t.month()), t.day(), t.hour(), t.minute())
        };
        let signed = request.header("x-amz-date");
        let near = [now, now - Duration::from_secs(60)].iter().any(|t| signed.starts_with(&minute(*t)));
        if near {
            return answer_range(to, request, &served, "e");
        }
        let date = aws_smithy_types::DateTime::from(now).fmt(aws_smithy_types::date_time::Format::HttpDate).unwrap();
        refuse(to, "403 Forbidden", &format!("date: {date}\r\n"), "RequestTimeTooSkewed")
    });
    let client = Client::of(&server);
    assert_eq!(client.read_now(0..100).unwrap(), *content);
    assert_eq!(client.read_now(0..100).unwrap(), *content);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn customer_keys_are_sent_signed_and_kept_secret() {
    let server = RawServer::start(|_, to| refuse(to, "403 Forbidden", "", "AccessDenied"));
    let mut config = config(&server.endpoint());
    config.sse_customer = Some(SseCustomerKey {
        algorithm: "AES256".into(),
        key_base64: "canary-sse-key".into(),
        key_md5_base64: "canary-md5".into(),
    });
    let client = Client::new(config, &options());
    let error = client.read_now(0..1).unwrap_err();
    let requests = server.requests();
    let request = &requests[0];
    assert_eq!(request.header("x-amz-server-side-encryption-customer-key"), "canary-sse-key");
    assert!(request.header("authorization").contains("x-amz-server-side-encryption-customer-key-md5"));
    assert!(!request.header("authorization").contains("accept-encoding"));
    assert_eq!(request.header("accept-encoding"), "identity");
    assert!(request.header("user-agent").starts_with("hydrant/"));
    assert!(!format!("{error:?} {client:?}", client = client.store).contains("canary"));
    client.list_now(&ListRequest::default()).unwrap_err();
    assert_eq!(server.requests()[1].header("x-amz-server-side-encryption-customer-key"), "");
}

#[test]
fn nobody_there_is_told_soon() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::new(config(&endpoint), &options()).read_now(0..1).unwrap_err();
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::Network, 4), "{error}");
    assert!(error.hint.as_deref().unwrap_or("").contains("endpoint"), "{error}");

    let mut nameless = config("http://no-such-host.invalid");
    nameless.path_style = true;
    let error = Client::new(nameless, &options()).read_now(0..1).unwrap_err();
    assert!(matches!(error.kind, StoreErrorKind::Network | StoreErrorKind::Timeout), "{error}");

    let keyless = S3Config { credentials: None, ..config(&endpoint) };
    let error = Client::new(keyless, &options()).read_now(0..1).unwrap_err();
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::Credentials, 0), "{error}");

    let express = S3Config { bucket: "b--usw2-az1--x-s3".into(), ..config(&endpoint) };
    let error = Client::new(express, &options()).list_now(&ListRequest::default()).unwrap_err();
    assert!(error.kind == StoreErrorKind::Unsupported && error.detail.contains("Express"), "{error}");
}
