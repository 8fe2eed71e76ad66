//! A minimal S3 client: ListObjectsV2, ranged GET, HEAD, signed with SigV4, over reqwest.
//!
//! It writes nothing to a bucket. One [`S3`] is one bucket, shared by all workers: it owns
//! credentials, region, clock offset and retry tokens. The limit of requests in flight is shared by
//! all stores of the process ([`ProcessLimiter`]). Connections belong to the worker's [`Http`].
//!
//! Transient failures are retried (`retry`, `send`), and bodies are resumed at the exact offset
//! (`get`). Redirects are never followed, and nothing signed is sent to another host.

use super::{StoreError, StoreErrorKind};
use crate::telemetry::Counters;
use aws_credential_types::provider::SharedCredentialsProvider;
use credentials::Credentials;
use endpoint::Endpoint;
use http::{HeaderMap, HeaderName, HeaderValue};
use limiter::Limiter;
use network::Network;
use reach::EndpointState;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, RwLock};
use std::time::Instant;
use tls::Trust;

mod aws_chain;
mod aws_files;
mod classify;
mod config;
mod credentials;
mod endpoint;
mod foreign;
mod get;
mod head;
mod limiter;
mod list;
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
mod xml;

pub use aws_files::{AwsFiles, ProfileEndpoint};
pub use config::{DEFAULT_REGION, S3Config, SseCustomerKey, StaticCredentials};
pub use get::S3Body;
pub use limiter::{BucketLimits, ProcessLimiter, default_max_requests, prefix_of_folder};
pub use list::parse_list_page;
pub use network::Http;
pub use options::{Environment, Retries, S3Options, Timeouts};
pub use proxies::ProxySettings;
pub use reach::{Announcer, EndpointStates};
pub use tls::TlsConfigs;

/// One bucket. Shared by all workers, so that credentials, region and limits are determined once.
#[derive(Debug)]
pub struct S3 {
    config: S3Config,
    /// If it is an error, every request returns it.
    endpoint: Result<Endpoint, String>,
    network: Network,
    timeouts: Timeouts,
    retries: Retries,
    credentials: Credentials,
    region: RwLock<Option<Arc<str>>>,
    region_flight: tokio::sync::Mutex<()>,
    /// The server's clock minus this machine's.
    clock_offset_secs: AtomicI64,
    limiter: Arc<Limiter>,
    retry_tokens: retry::RetryTokenBucket,
    created: Instant,
    /// Milliseconds after `created`; 0: no request has succeeded yet.
    last_success_ms: AtomicU64,
    /// Shared with all buckets of the same endpoint.
    reach: Arc<EndpointState>,
    announcer: Announcer,
    /// Whether listings ask for encoded keys. False once the service refused to.
    encodes_keys: AtomicBool,
    counters: Arc<Counters>,
}

impl S3 {
    /// Sends nothing. An invalid `config` is reported by the first request.
    pub fn new(config: S3Config, options: &S3Options, counters: Arc<Counters>) -> Self {
        // skip-verify applies to the bucket's endpoint, not to AWS's credential services.
        let credentials = Credentials::new(&config, &options.environment, &Network::new(options, Trust::Roots));
        Self::build(config, options, counters, credentials)
    }

    /// Like [`S3::new`], but with credentials from `provider` instead of `config` and environment.
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
        Self {
            region: RwLock::new(Self::region_of(&config, &endpoint, &options.environment).map(Arc::from)),
            network: Network::new(options, trust),
            timeouts: options.timeouts.clone(),
            retries: options.retries.clone(),
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
            counters,
        }
    }

    /// The region, by precedence: the access point's own, the configuration's or URL's,
    /// [`DEFAULT_REGION`] if the endpoint is not AWS's, the environment's. None: the bucket must be
    /// asked (docs/FORMAT.md, "Replica URLs").
    fn region_of<'a>(
        config: &'a S3Config,
        endpoint: &'a Result<Endpoint, String>,
        environment: &'a Environment,
    ) -> Option<&'a str> {
        let endpoint = endpoint.as_ref().ok();
        let configured = endpoint.and_then(|e| e.region.as_deref()).or(config.region.as_deref());
        let custom = endpoint.is_some_and(|e| !e.is_aws()).then_some(DEFAULT_REGION);
        let region = configured.or(custom).or(environment.region.as_deref()).filter(|r| endpoint::is_region(r));
        // AWS's regions have no capitals: the bucket is asked. Other services may have them.
        region.filter(|r| custom.is_some() || !r.bytes().any(|b| b.is_ascii_uppercase()))
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

    /// The headers for GET and HEAD of an object that is encrypted with a customer's key (SSE-C).
    fn object_headers(&self) -> HeaderMap {
        const PREFIX: &str = "x-amz-server-side-encryption-customer-";
        let mut headers = HeaderMap::new();
        if let Some(SseCustomerKey { algorithm, key_base64, key_md5_base64 }) = &self.config.sse_customer {
            for (name, value) in [("algorithm", algorithm), ("key", key_base64), ("key-md5", key_md5_base64)] {
                // A key that is not a valid header value is left out; S3 then answers that it is
                // missing.
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
