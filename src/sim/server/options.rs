//! What a simulator can be told: credentials to check, and how it misbehaves. All randomness
//! comes from one seed and from what is asked for (kind, key, range, how often it was asked
//! before), not from the order in which requests arrive: the same requests meet the same faults.

use crate::sim::random::Random;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// How a simulator is started.
#[derive(Debug, Clone)]
pub struct SimOptions {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads that serve, each with its own runtime; connections are dealt out in turn.
    pub threads: usize,
    pub seed: u64,
    /// Signatures are checked where this is given; otherwise everything is public.
    pub credentials: Option<SimCredentials>,
    /// The buckets' region; a signature for another is refused as S3 does, with the right one.
    pub region: String,
    /// `bucket.<domain>` as host name means that bucket; any other host name means path-style.
    pub virtual_host_domain: Option<String>,
    /// Most keys on one page of a listing.
    pub max_keys: usize,
    /// Whether pages of listings come in a shuffled order within the page, as S3 Express does.
    pub unsorted_listings: bool,
    /// Whether listings carry ETags.
    pub listed_etags: bool,
    pub faults: Faults,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            threads: 1,
            seed: 1,
            credentials: None,
            region: "us-east-1".into(),
            virtual_host_domain: Some("localhost".into()),
            max_keys: 1000,
            unsorted_listings: false,
            listed_etags: true,
            faults: Faults::default(),
        }
    }
}

/// The one key pair that is accepted.
#[derive(Clone)]
pub struct SimCredentials {
    pub access_key: String,
    pub secret_key: String,
    /// Where given, requests must carry it.
    pub session_token: Option<String>,
}

impl fmt::Debug for SimCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimCredentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// How the server misbehaves. Changeable while it runs.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// First-byte latency.
    pub latency: Latency,
    /// Some requests are slower.
    pub tail: Option<Tail>,
    /// Bytes per second and connection.
    pub bandwidth_per_connection: Option<u64>,
    pub rate_limit: Option<RateLimit>,
    /// Probability of each failure; their sum must not exceed 1.
    pub fail: Vec<(Failure, f64)>,
    /// Where given, `fail`, `tail` and `changed_etag` concern only keys (for listings: prefixes)
    /// that begin so.
    pub only_prefix: Option<String>,
    /// Where given, `fail` and `tail` concern only this kind of request.
    pub only_kind: Option<RequestKind>,
    /// Probability that a GET or HEAD meets an object with another ETag than the listing's: 412
    /// where If-Match was sent, otherwise the body with that ETag.
    pub changed_etag: f64,
}

/// The time between a request and the first byte of its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Latency {
    #[default]
    None,
    Fixed(Duration),
    /// `median · exp(sigma · normal)`.
    LogNormal {
        median: Duration,
        sigma: f64,
    },
}

impl Latency {
    pub(super) fn draw(self, random: &mut Random) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Fixed(fixed) => fixed,
            Self::LogNormal { median, sigma } => median.mul_f64((sigma * random.normal()).exp().min(1e6)),
        }
    }
}

/// A fraction of the requests takes `factor` times as long to the first byte.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tail {
    pub fraction: f64,
    pub factor: f64,
}

/// A token bucket per prefix: above it, 503 SlowDown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    pub requests_per_second: f64,
    /// Tokens that a quiet prefix saves up.
    pub burst: f64,
    /// How many `/`-separated parts of a key make its prefix; 0: the bucket is one prefix.
    pub prefix_parts: usize,
}

impl RateLimit {
    /// One limit per bucket, with a tenth of a second's burst.
    pub fn per_bucket(requests_per_second: f64) -> Self {
        Self { requests_per_second, burst: (requests_per_second / 10.0).max(1.0), prefix_parts: 0 }
    }
}

/// A way for one request to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// 500 InternalError.
    InternalError,
    /// 503 SlowDown.
    SlowDown,
    /// 503 ServiceUnavailable.
    Unavailable,
    /// 400 RequestTimeout, as S3 says it; some servers say 408.
    RequestTimeout,
    /// 403 AccessDenied.
    AccessDenied,
    /// 404 NoSuchKey, as of an object that was deleted after it was listed.
    NoSuchKey,
    /// The connection is reset instead of an answer.
    ResetBeforeHeaders,
    /// The connection is reset after the headers.
    ResetAfterHeaders,
    /// Half of the body, then the connection ends.
    HalfBody,
    /// Never an answer.
    BlackHole,
    /// Headers, half of the body, then never anything more.
    StalledBody,
    /// The whole body, one bit of it turned. In compressed bytes that may change nothing.
    FlippedBit,
}

/// Kinds of requests, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    List,
    Get,
    Head,
    Put,
    Delete,
    /// Everything that concerns buckets, and everything unknown.
    Other,
}

/// How requests end, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Ok,
    NotFound,
    /// 412.
    PreconditionFailed,
    /// 400, 403: not understood or not allowed.
    Refused,
    /// 416.
    BadRange,
    /// 503.
    SlowDown,
    /// 500 and the other injected answers.
    ServerError,
    /// The connection was reset without an answer.
    Reset,
    /// The body was cut, reset, stalled or damaged by a fault.
    Cut,
    BlackHole,
}
