//! A minimal S3 client over reqwest: ListObjectsV2, GET of byte ranges, HEAD and
//! ListObjectVersions, signed with SigV4. It writes
//! nothing to a bucket.
//!
//! One [`S3`] is one bucket. All workers share it: it owns the credentials, the region, the clock offset and
//! the retry tokens. All stores of the process share the limit of requests in flight ([`ProcessLimiter`]).
//! Connections belong to the worker's [`Http`].
//!
//! Transient failures are retried (`retry`, `send`), and interrupted bodies are resumed at the exact offset
//! (`get`). Redirects are never followed, and no signed request is sent to another host.

use super::{ByteRate, StoreError, StoreErrorKind};
use crate::telemetry::Counters;
use aws_credential_types::provider::SharedCredentialsProvider;
use credentials::Credentials;
use endpoint::Endpoint;
use http::{HeaderMap, HeaderName, HeaderValue};
use limiter::Limiter;
use network::Network;
use reach::EndpointState;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Instant;
use tls::Trust;

mod aws_chain;
mod aws_files;
mod aws_sso;
mod classify;
mod config;
mod credentials;
mod endpoint;
mod foreign;
mod get;
mod head;
mod limiter;
mod list;
mod list_versions;
mod network;
mod options;
mod proxies;
mod reach;
mod request_events;
mod request_log;
mod response;
mod retry;
mod send;
mod sign;
mod stall;
mod tls;
mod verify;
mod version;
mod xml;

pub use aws_files::{AwsFiles, ProfileEndpoint};
pub use config::{DEFAULT_REGION, S3Config, SseCustomerKey, StaticCredentials};
pub use get::S3Body;
pub use limiter::{BucketLimits, ProcessLimiter, default_max_requests, prefix_of_folder};
pub use list::parse_list_page;
pub use list_versions::parse_versions_page;
pub use network::Http;
pub use options::{Environment, Retries, S3Options, Timeouts};
pub use proxies::ProxySettings;
pub use reach::{Announcer, EndpointStates};
pub use tls::TlsConfigs;

/// One bucket. All workers share it, so that credentials, region and limits are determined only once.
#[derive(Debug)]
pub struct S3 {
    config: S3Config,
    /// Address of the bucket. If it is an error, every request returns that error.
    endpoint: Result<Endpoint, String>,
    network: Network,
    timeouts: Timeouts,
    retries: Retries,
    byte_rate: ByteRate,
    credentials: Credentials,
    region: RwLock<Option<Arc<str>>>,
    region_flight: tokio::sync::Mutex<()>,
    /// Seconds by which the server's clock is ahead of this machine's (negative: behind).
    clock_offset_secs: AtomicI64,
    limiter: Arc<Limiter>,
    retry_tokens: retry::RetryTokenBucket,
    created: Instant,
    /// Time of the latest successful request, in milliseconds after `created`. 0: none has succeeded yet.
    last_success_ms: AtomicU64,
    /// Shared with all buckets of the same endpoint.
    reach: Arc<EndpointState>,
    announcer: Announcer,
    /// Whether listings ask for encoded keys. False once the service refused to.
    encodes_keys: AtomicBool,
    /// Whether a GET with If-Match was refused for an object that had not changed. If-Match is not sent then.
    refuses_if_match: AtomicBool,
    /// Whether the service sent whole objects where ranges were asked for.
    ignores_ranges: AtomicBool,
    counters: Arc<Counters>,
}

impl S3 {
    /// The name of the bucket.
    pub fn bucket(&self) -> &str {
        &self.config.bucket
    }

    /// The URL of the service. None: AWS's own endpoint.
    pub fn endpoint_url(&self) -> Option<&str> {
        self.config.endpoint.as_deref()
    }

    /// Sends nothing. An invalid `config` is reported by the first request.
    pub fn new(config: S3Config, options: &S3Options, counters: Arc<Counters>) -> Self {
        // `skip-verify` applies only to the bucket's endpoint, not to AWS's credential services.
        let credentials = Credentials::new(&config, &options.environment, &Network::new(options, Trust::Roots));
        Self::build(config, options, counters, credentials)
    }

    /// Makes a client as [`S3::new`] does, but with credentials from `provider` and not from `config` or the
    /// environment.
    pub fn with_credentials_provider(
        config: S3Config,
        options: &S3Options,
        counters: Arc<Counters>,
        provider: SharedCredentialsProvider,
    ) -> Self {
        Self::build(config, options, counters, Credentials::provided(provider))
    }

    fn build(config: S3Config, options: &S3Options, counters: Arc<Counters>, credentials: Credentials) -> Self {
        let endpoint = Endpoint::new(&config);
        let trust = match &endpoint {
            _ if config.skip_verify => Trust::Anyone,
            Ok(endpoint) if endpoint.is_plain_http() => Trust::NoOne,
            _ => Trust::Roots,
        };
        let region = Self::region_of(&config, &endpoint, &options.environment).map(Arc::from);
        if let Ok(endpoint) = &endpoint {
            let signs =
                if config.anonymous { "none, requests are not signed".to_owned() } else { credentials.source() };
            tracing::debug!(
                target: request_log::TARGET,
                bucket = config.bucket,
                endpoint = endpoint.shown(),
                region = region.as_deref(),
                style = endpoint.style(),
                credentials = signs,
                "bucket opened"
            );
        }
        Self {
            region: RwLock::new(region),
            network: Network::new(options, trust),
            timeouts: options.timeouts.clone(),
            retries: options.retries.clone(),
            byte_rate: options.byte_rate.clone(),
            limiter: options.limits.of_bucket(config.endpoint.as_deref(), &config.bucket),
            reach: options.endpoints.of(config.endpoint.as_deref()),
            announcer: options.announcer.clone(),
            credentials,
            endpoint,
            config,
            region_flight: tokio::sync::Mutex::default(),
            clock_offset_secs: AtomicI64::new(0),
            retry_tokens: retry::RetryTokenBucket::default(),
            created: Instant::now(),
            last_success_ms: AtomicU64::new(0),
            encodes_keys: AtomicBool::new(true),
            refuses_if_match: AtomicBool::new(false),
            ignores_ranges: AtomicBool::new(false),
            counters,
        }
    }

    /// Returns the region: that of the access point's ARN, else that of the configuration or URL, else
    /// [`DEFAULT_REGION`] if the endpoint is not AWS's, else the environment's. None: the bucket must be asked
    /// (docs/FORMAT.md, "Replica URLs").
    fn region_of<'a>(
        config: &'a S3Config,
        endpoint: &'a Result<Endpoint, String>,
        environment: &'a Environment,
    ) -> Option<&'a str> {
        let endpoint = endpoint.as_ref().ok();
        let configured = endpoint.and_then(|e| e.region.as_deref()).or(config.region.as_deref());
        let custom = endpoint.is_some_and(|e| !e.is_aws()).then_some(DEFAULT_REGION);
        let region = configured.or(custom).or(environment.region.as_deref()).filter(|r| endpoint::is_region(r));
        // AWS's regions have no capital letters, so a name with capitals is ignored and the bucket is asked.
        // Other services may use capitals.
        region.filter(|r| custom.is_some() || !r.bytes().any(|b| b.is_ascii_uppercase()))
    }

    /// Whether the service has sent whole objects where ranges were asked for.
    pub(in crate::store) fn ignores_ranges(&self) -> bool {
        self.ignores_ranges.load(Ordering::Relaxed)
    }

    fn client(&self, http: &Http) -> Result<reqwest::Client, StoreError> {
        http.client(&self.network).map_err(|detail| StoreError {
            kind: StoreErrorKind::Unsupported,
            what: format!("connect to s3://{}", self.config.bucket),
            detail,
            request_id: None,
            hint: None,
            attempts: 0,
        })
    }

    /// Returns the headers that GET and HEAD need for an object that is encrypted with a customer's key
    /// (SSE-C).
    fn object_headers(&self) -> HeaderMap {
        const PREFIX: &str = "x-amz-server-side-encryption-customer-";
        let mut headers = HeaderMap::new();
        if let Some(SseCustomerKey { algorithm, key_base64, key_md5_base64 }) = &self.config.sse_customer {
            for (name, value) in [("algorithm", algorithm), ("key", key_base64), ("key-md5", key_md5_base64)] {
                // A key that is no valid header value is left out. S3 then answers that the key is missing.
                if let (Ok(name), Ok(mut value)) =
                    (HeaderName::try_from(format!("{PREFIX}{name}")), HeaderValue::from_str(value))
                {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
            }
        }
        headers
    }
}
