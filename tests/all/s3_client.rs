//! Tests the S3 client against an independent server. Also tests which hosts requests go to, and with whose
//! credentials they are signed.

use crate::common::S3sServer;
use crate::common::client::{Client, collect, config, object, options, run};
use crate::common::raw::{RawServer, answer, answer_range, close, refuse};
use crate::common::wait::Gate;
use hydrant::store::s3::{S3, S3Config, S3Options, SseCustomerKey, StaticCredentials};
use hydrant::store::{Etag, Http, ListRequest, Store, StoreErrorKind};
use hydrant::telemetry::Counters;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

// --- tests against s3s, an independent S3 server ---

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
    let after = ListRequest { prefix: "many/".into(), start_after: Some("many/1200".into()), ..ListRequest::default() };
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
        ("odd/none", 0..1, None, StoreErrorKind::NotFound),
        (key, 0..1, Some(&wrong), StoreErrorKind::PreconditionFailed),
    ] {
        let error = client.store.get(&http, key, range, etag).await.err().unwrap();
        assert_eq!(error.kind, kind, "{error}");
    }
    assert_eq!(client.store.head(&http, "odd/none").await.unwrap_err().kind, StoreErrorKind::NotFound);
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

    // The same must work on the runtime of the io_uring writer, if the kernel has io_uring.
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
        let credentials =
            StaticCredentials { access_key_id: id.into(), secret_access_key: secret.into(), session_token: None };
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

// --- which host requests go to, and who signs them ---

#[test]
fn redirects_are_not_followed() {
    let elsewhere = RawServer::start(|_, to| answer(to, "200 OK", "", b"stolen"));
    let to_elsewhere = format!("location: {}/bucket/key\r\n", elsewhere.endpoint());
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = to_elsewhere.clone();
        let server = RawServer::start(move |_, to| refuse(to, status, &location, "PermanentRedirect"));
        let error = Client::of(&server).read_now(0..6).unwrap_err();
        assert_eq!((error.kind, error.attempts), (StoreErrorKind::InvalidResponse, 1), "{error}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn a_region_is_learned_once() {
    let content = object(100);
    for (status, headers, code) in [
        ("301 Moved Permanently", "x-amz-bucket-region: eu-north-1\r\n", "PermanentRedirect"),
        (
            "307 Temporary Redirect",
            "x-amz-bucket-region: eu-north-1\r\nlocation: http://127.0.0.1:1/\r\n",
            "TemporaryRedirect",
        ),
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
    // Two regions that redirect to each other must not lead to an endless loop.
    let server = RawServer::start(|request, to| {
        let other = if request.region() == "here" { "there" } else { "here" };
        refuse(to, "301 Moved Permanently", &format!("x-amz-bucket-region: {other}\r\n"), "PermanentRedirect")
    });
    let error = Client::of(&server).read_now(0..100).unwrap_err();
    assert!(error.kind == StoreErrorKind::InvalidResponse && error.attempts <= 3, "{error}");
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
        assert_eq!((error.kind, error.attempts), (StoreErrorKind::InvalidResponse, 3), "{error}");
    }
}

mod expiring {
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::{ProvideCredentials, future};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    /// A provider of credentials whose tokens are TOKEN-0, TOKEN-1, and so on.
    #[derive(Debug, Default)]
    pub(super) struct Provider(pub AtomicUsize);

    #[derive(Debug, Clone)]
    pub(super) struct Shared(pub std::sync::Arc<Provider>);

    impl ProvideCredentials for Shared {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let n = self.0.0.fetch_add(1, SeqCst);
            future::ProvideCredentials::ready(Ok(Credentials::new(
                "AKID",
                "secret",
                Some(format!("TOKEN-{n}")),
                None,
                "test",
            )))
        }
    }
}

#[test]
fn an_expired_token_is_renewed_once_for_all() {
    const AT_ONCE: usize = 20;
    let content = object(100);
    let served = Arc::clone(&content);
    let (refused, all_have_come) = (AtomicUsize::new(0), Gate::default());
    let server = RawServer::start(move |request, to| {
        let expired = (request.header("x-amz-security-token"), request.method.as_str()) == ("TOKEN-0", "GET");
        if expired && refused.fetch_add(1, SeqCst) + 1 == AT_ONCE {
            all_have_come.open();
        }
        // All are signed with the expired token before the first is refused.
        assert!(!expired || all_have_come.wait(), "not all have come");
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
                let all = (0..AT_ONCE).map(|_| client.read("key", 0..100, None));
                for read in futures_util::future::join_all(all).await {
                    assert_eq!(read.unwrap(), *content);
                }
            }
        });
        assert_eq!(provider.0.0.load(SeqCst), 2);
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
