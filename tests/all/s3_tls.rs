//! Tests of TLS, of proxies, and of the host names of AWS, with certificates that the tests make.

use crate::common::client::options;
use crate::common::raw::{RawServer, answer, answer_range, refuse};
use hydrant::store::s3::{S3, S3Config, S3Options, StaticCredentials, Timeouts};
use hydrant::store::{Http, Store, StoreError, StoreErrorKind};
use hydrant::telemetry::Counters;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    key_pem: String,
}

impl Tls {
    /// Creates a certificate for the host names `names`.
    fn new(names: &[&str]) -> Self {
        Self::until(names, 2099)
    }

    fn until(names: &[&str], year: i32) -> Self {
        Self::signed(names, year, IsCa::NoCa, KeyPair::generate().unwrap())
    }

    /// The same, and it says that it is a certificate authority's.
    fn authority(names: &[&str], year: i32) -> Self {
        Self::signed(names, year, IsCa::Ca(BasicConstraints::Unconstrained), KeyPair::generate().unwrap())
    }

    /// Another authority's certificate of the same key.
    fn again(&self, names: &[&str]) -> Self {
        let key = KeyPair::from_pem(&self.key_pem).unwrap();
        Self::signed(names, 2098, IsCa::Ca(BasicConstraints::Unconstrained), key)
    }

    fn signed(names: &[&str], year: i32, is_ca: IsCa, signing_key: KeyPair) -> Self {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        params.is_ca = is_ca;
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
        Self { config: Arc::new(config), dir, key_pem: signing_key.serialize_pem() }
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
fn plain_http_to_a_port_with_tls_is_told_at_once() {
    let server = Tls::new(&["127.0.0.1"]).serve();
    let error = read(config(&server.endpoint().replace("https://", "http://")), &options()).unwrap_err();
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::Unsupported, 1), "{error}");
    let said = format!("{} gives no HTTP answer: the port speaks TLS, write https://", server.address);
    assert!(error.detail.contains(&said), "{error}");
    // The request, and the question whether the port speaks TLS.
    assert_eq!((server.connections(), server.requests().len()), (2, 0));
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
fn a_trusted_certificate_may_be_the_server_s_own() {
    let own = Tls::authority(&["127.0.0.1"], 2099);
    let mut trusting = options();
    trusting.environment.ca_bundle = Some(own.bundle());
    assert_eq!(read(config(&own.serve().endpoint()), &trusting).unwrap(), b"content");
    // Another certificate of the same key.
    let other = own.again(&["127.0.0.1"]);
    let error = read(config(&other.serve().endpoint()), &trusting).unwrap_err();
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::Network, 1), "{error}");
    for bad in [Tls::authority(&["other.example"], 2099), Tls::authority(&["127.0.0.1"], 2020)] {
        let server = bad.serve();
        trusting.environment.ca_bundle = Some(bad.bundle());
        let error = read(config(&server.endpoint()), &trusting).unwrap_err();
        assert_eq!((error.kind, error.attempts), (StoreErrorKind::Network, 1), "{error}");
        assert_eq!(server.requests().len(), 0);
    }
}

#[test]
fn proxies_are_used_as_told() {
    let proxy = RawServer::start(|request, to| answer_range(to, request, b"proxied", "e"));
    let server = RawServer::start(|request, to| answer_range(to, request, b"content", "e"));
    let elsewhere = config("http://s3.example:9000");
    let mut through = options();
    through.environment.proxies.http = Some(format!("http://user:canary@{}", proxy.address));
    assert_eq!(read(elsewhere.clone(), &through).unwrap(), b"proxied");
    assert_eq!(proxy.requests()[0].target, "http://s3.example:9000/bucket/key");
    assert!(proxy.requests()[0].header("proxy-authorization").starts_with("Basic "));
    // A proxy cannot reach this machine's own addresses.
    assert_eq!(read(config(&server.endpoint()), &through).unwrap(), b"content");
    through.environment.proxies.http = None;
    through.environment.proxies.all = Some(format!("http://{}", proxy.address));
    assert_eq!(read(elsewhere.clone(), &through).unwrap(), b"proxied");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = listener.local_addr().unwrap();
    through.environment.proxies.http = Some(format!("http://user:canary@{dead}"));
    drop(listener);
    let error = read(elsewhere.clone(), &through).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    let named = format!("cannot connect to s3.example:9000 through the proxy http://{dead} (HTTP_PROXY): ");
    assert!(error.detail.starts_with(&named), "{error}");

    let closed = RawServer::start(|_, to| answer(to, "407 Proxy Authentication Required", "", b""));
    through.environment.proxies.http = Some(format!("http://{}", closed.address));
    let error = read(elsewhere, &through).unwrap_err();
    assert!(error.to_string().contains("USER:PASSWORD@HOST:PORT") && error.attempts == 1, "{error}");
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
    options.environment.proxies.https = Some(format!("http://{}", server.address));
    let aws = S3Config { endpoint: None, path_style: false, ..config("") };
    assert_eq!(read(aws.clone(), &options).unwrap(), b"content");
    let methods: Vec<_> = server.requests().into_iter().map(|r| r.method).collect();
    assert_eq!(methods, ["CONNECT", "HEAD", "CONNECT", "GET"]);

    options.environment.region = Some("eu-west-3".into());
    assert_eq!(read(aws, &options).unwrap(), b"content");
    assert_eq!(server.requests().len(), 6, "AWS_REGION spares the question");
}
