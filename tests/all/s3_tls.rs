//! Tests of TLS, of proxies, and of the host names of AWS, with certificates that the tests make.

use crate::common::client::NEVER;
use crate::common::raw::{RawServer, answer_range, refuse};
use hydrant::store::s3::{Retries, S3, S3Config, S3Options, StaticCredentials, Timeouts};
use hydrant::store::{Http, Store, StoreError, StoreErrorKind};
use hydrant::telemetry::Counters;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

fn options() -> S3Options {
    S3Options {
        timeouts: Timeouts { connect: NEVER, first_byte: NEVER, chunk: NEVER, crawl_window: NEVER },
        retries: Retries { base: Duration::from_millis(4), cap: Duration::from_millis(40), ..Retries::default() },
        ..S3Options::default()
    }
}

fn config(endpoint: &str) -> S3Config {
    S3Config {
        bucket: "bucket".into(),
        endpoint: Some(endpoint.into()),
        path_style: true,
        credentials: Some(StaticCredentials {
            access_key_id: "AKID".into(),
            secret_access_key: "secret".into(),
            session_token: None,
        }),
        ..S3Config::default()
    }
}

fn read(config: S3Config, options: &S3Options) -> Result<Vec<u8>, StoreError> {
    let store = Store::S3(Arc::new(S3::new(config, options, Arc::new(Counters::default()))));
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let http = Http::default();
        let mut body = store.get(&http, "key", 0..7, None).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    })
}

struct Tls {
    config: Arc<rustls::ServerConfig>,
    dir: tempfile::TempDir,
}

impl Tls {
    /// Creates a certificate for the host names `names`.
    fn new(names: &[&str]) -> Self {
        Self::until(names, 2099)
    }

    fn until(names: &[&str], year: i32) -> Self {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let signing_key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&signing_key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), cert.pem()).unwrap();
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        Self { config: Arc::new(config), dir }
    }

    fn bundle(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn serve(&self) -> RawServer {
        RawServer::start_with(Some(Arc::clone(&self.config)), |request, to| answer_range(to, request, b"content", "e"))
    }
}

#[test]
fn certificates_are_checked() {
    let tls = Tls::new(&["127.0.0.1"]);
    let server = tls.serve();
    let at = config(&server.endpoint());

    let error = read(at.clone(), &options()).unwrap_err();
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::Network, 1), "{error}");
    assert!(error.hint.as_deref().unwrap_or("").contains("AWS_CA_BUNDLE"), "{error}");
    assert_eq!(server.requests().len(), 0, "nothing was sent");

    let mut trusting = options();
    trusting.environment.ca_bundle = Some(tls.bundle());
    assert_eq!(read(at.clone(), &trusting).unwrap(), b"content");
    assert_eq!(read(S3Config { skip_verify: true, ..at }, &options()).unwrap(), b"content");

    for bad in [Tls::new(&["other.example"]), Tls::until(&["127.0.0.1"], 2020)] {
        let server = bad.serve();
        let at = config(&server.endpoint());
        trusting.environment.ca_bundle = Some(bad.bundle());
        let error = read(at.clone(), &trusting).unwrap_err();
        assert_eq!((error.kind, error.attempts), (StoreErrorKind::Network, 1), "{error}");
        assert_eq!(server.requests().len(), 0);
        assert_eq!(read(S3Config { skip_verify: true, ..at }, &trusting).unwrap(), b"content");
    }
}

#[test]
fn a_handshake_that_never_ends_is_left() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let impatient = Timeouts { connect: Duration::from_millis(700), ..options().timeouts };
    let error = read(config(&endpoint), &S3Options { timeouts: impatient, ..options() }).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Timeout, "{error}");
}

#[test]
fn proxies_are_used_as_told() {
    let proxy = RawServer::start(|request, to| answer_range(to, request, b"proxied", "e"));
    let server = RawServer::start(|request, to| answer_range(to, request, b"content", "e"));
    let at = config(&server.endpoint());
    let mut through = options();
    through.environment.http_proxy = Some(format!("http://user:canary@{}", proxy.address));
    assert_eq!(read(at.clone(), &through).unwrap(), b"proxied");
    assert_eq!(proxy.requests()[0].target, format!("{}/bucket/key", server.endpoint()));
    assert!(proxy.requests()[0].header("proxy-authorization").starts_with("Basic "));
    through.environment.no_proxy = Some("localhost,127.0.0.0/8".into());
    assert_eq!(read(at.clone(), &through).unwrap(), b"content");
    through.environment.no_proxy = None;
    through.environment.http_proxy = None;
    through.environment.https_proxy = Some(format!("http://{}", proxy.address));
    assert_eq!(read(at, &through).unwrap(), b"content");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    through.environment.http_proxy = Some(format!("http://user:canary@{}", listener.local_addr().unwrap()));
    drop(listener);
    let error = read(config(&server.endpoint()), &through).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
}

/// A server with the host names of AWS, behind a proxy that tunnels to it.
#[test]
fn the_region_is_asked_of_the_bucket() {
    let tls = Tls::new(&["bucket.s3.us-east-1.amazonaws.com", "bucket.s3.eu-west-3.amazonaws.com"]);
    let server = RawServer::start_with(Some(Arc::clone(&tls.config)), |request, to| {
        match (request.method.as_str(), request.header("host")) {
            ("HEAD", "bucket.s3.us-east-1.amazonaws.com") => {
                assert_eq!(request.header("authorization"), "", "the question needs no signature");
                write!(
                    to,
                    "HTTP/1.1 301 Moved Permanently\r\nx-amz-bucket-region: eu-west-3\r\ncontent-length: 9\r\n\r\n"
                )
            }
            ("GET", "bucket.s3.eu-west-3.amazonaws.com") if request.region() == "eu-west-3" => {
                answer_range(to, request, b"content", "e")
            }
            _ => refuse(to, "400 Bad Request", "", "Unexpected"),
        }
    });
    let mut options = options();
    options.environment.ca_bundle = Some(tls.bundle());
    options.environment.https_proxy = Some(format!("http://{}", server.address));
    let aws = S3Config { endpoint: None, path_style: false, ..config("") };
    assert_eq!(read(aws.clone(), &options).unwrap(), b"content");
    let methods: Vec<_> = server.requests().into_iter().map(|r| r.method).collect();
    assert_eq!(methods, ["CONNECT", "HEAD", "CONNECT", "GET"]);

    options.environment.region = Some("eu-west-3".into());
    assert_eq!(read(aws, &options).unwrap(), b"content");
    assert_eq!(server.requests().len(), 6, "AWS_REGION spares the question");
}
