//! Tests the S3 client against moto, an independent S3 server: ETags in listings, conditional requests, URL-encoded
//! keys. The program is `moto_server` on PATH or named by HYDRANT_MOTO. The tests are skipped if it is not
//! installed.

use hydrant::store::s3::{S3, S3Config, S3Options, StaticCredentials};
use hydrant::store::{Etag, Http, ListRequest, Store, StoreErrorKind};
use hydrant::telemetry::Counters;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Moto {
    child: Child,
    address: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Moto {
    fn start() -> Option<Self> {
        let program = std::env::var("HYDRANT_MOTO").unwrap_or_else(|_| "moto_server".into());
        // The port is free now. Another program could take it before moto does, which is unlikely.
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let child = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut moto = Self { child, address: format!("127.0.0.1:{port}") };
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(120) {
            if TcpStream::connect(&moto.address).is_ok() {
                return Some(moto);
            }
            if moto.child.try_wait().ok()?.is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        None
    }

    fn put(&self, path: &str, headers: &str, content: &[u8]) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "PUT {path} HTTP/1.1\r\nhost: {}\r\nauthorization: AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/s3/aws4_request\r\n\
             {headers}content-length: {}\r\nconnection: close\r\n\r\n",
            self.address,
            content.len()
        )
        .unwrap();
        stream.write_all(content).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn moto_agrees() {
    let Some(moto) = Moto::start() else {
        println!("skipped: no moto_server");
        return;
    };
    moto.put("/bucket", "", b"");
    moto.put(
        "/bucket/p/a%20b%2Bc%C3%BC%25%26%3C%3E%22%27%01.ltx",
        "x-amz-meta-litestream-timestamp: 2026-11-22T01:32:36.211Z\r\n",
        b"content",
    );
    moto.put("/bucket/p/plain", "", b"");
    moto.put("/bucket/p/cold", "x-amz-storage-class: DEEP_ARCHIVE\r\n", b"cold");
    let config = S3Config {
        bucket: "bucket".into(),
        endpoint: Some(format!("http://{}", moto.address)),
        path_style: true,
        credentials: Some(StaticCredentials {
            access_key_id: "AKID".into(),
            secret_access_key: "secret".into(),
            session_token: None,
        }),
        ..S3Config::default()
    };
    let store = Store::S3(Arc::new(S3::new(config.clone(), &S3Options::default(), Arc::new(Counters::default()))));
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let http = Http::default();
        let request = ListRequest { prefix: "p/".into(), ..ListRequest::default() };
        let page = store.list_page(&http, &request).await.unwrap();
        let key = "p/a b+cü%&<>\"'\u{1}.ltx";
        let mut keys: Vec<_> = page.objects.iter().map(|o| o.key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(keys, [key, "p/cold", "p/plain"]);
        let find = |key: &str| page.objects.iter().find(|o| o.key == key).unwrap();
        assert!(find("p/cold").archived && !find(key).archived);
        let etag = find(key).etag.clone().unwrap();
        assert_eq!(etag.to_string(), "9a0364b9e99bb480dd25e1f0284c8555");
        assert_eq!(find("p/plain").size, 0);

        let mut body = store.get(&http, key, 2..5, Some(&etag)).await.unwrap();
        assert_eq!(body.chunk().await.unwrap().unwrap(), "nte");
        assert_eq!(body.etag(), Some(&etag));
        assert_eq!(body.litestream_timestamp().unwrap().to_string(), "2026-11-22T01:32:36.211Z");
        let head = store.head(&http, key).await.unwrap();
        assert_eq!((head.size, head.etag.as_ref()), (7, Some(&etag)));

        let other = Etag::parse("00000000000000000000000000000000").unwrap();
        let error = store.get(&http, key, 0..7, Some(&other)).await.err().unwrap();
        assert_eq!(error.kind, StoreErrorKind::PreconditionFailed, "{error}");
        assert!(error.detail.contains("412"), "{error}");
        let error = store.get(&http, key, 0..8, Some(&etag)).await.err().unwrap();
        assert_eq!(error.kind, StoreErrorKind::SizeDiffers, "{error}");
        let error = store.get(&http, "p/none", 0..8, None).await.err().unwrap();
        assert_eq!(error.kind, StoreErrorKind::NotFound, "{error}");

        let missing = S3Config { bucket: "missing".into(), ..config };
        let store = Store::S3(Arc::new(S3::new(missing, &S3Options::default(), Arc::new(Counters::default()))));
        let error = store.list_page(&http, &request).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::NoSuchBucket, "{error}");
    });
}
