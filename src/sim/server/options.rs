//! The options of a simulator: the credentials that it checks, and the faults that it simulates.
//!
//! Random choices depend on the seed and on the request (its kind, key and range, and how often the same request
//! came before). They do not depend on the order in which requests arrive. The same requests therefore meet the
//! same faults in every run.

use crate::sim::random::Random;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// The options with which a simulator is started.
#[derive(Debug, Clone)]
pub struct SimOptions {
    /// The address to listen on. Port 0 means any free port.
    pub listen: SocketAddr,
    /// The number of threads that serve, each with its own async runtime. New connections are given to them in
    /// turn.
    pub threads: usize,
    /// The seed of all random choices.
    pub seed: u64,
    /// The key pair that clients must use. If it is given, all signatures are checked. If not, every request is
    /// allowed.
    pub credentials: Option<SimCredentials>,
    /// The region of the buckets. A signature for another region is refused as S3 refuses it, with the right region
    /// in the answer.
    pub region: String,
    /// The domain for virtual-host requests: the host name `bucket.<domain>` means that bucket. A request to any
    /// other host name has the bucket in its path.
    pub virtual_host_domain: Option<String>,
    /// The largest number of keys on one page of a listing.
    pub max_keys: usize,
    /// Whether the keys of each page of a listing are shuffled. S3 Express lists unsorted too.
    pub unsorted_listings: bool,
    /// Whether listings contain the ETags of objects. Some S3 services leave them out.
    pub listed_etags: bool,
    /// How requests for a listing of versions are answered.
    pub version_listings: VersionListings,
    /// The faults that are in force when the server starts.
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
            version_listings: VersionListings::Served,
            faults: Faults::default(),
        }
    }
}

/// How a server answers requests for a listing of versions (`?versions`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionListings {
    /// With the versions.
    Served,
    /// With a listing of the objects: the parameter is ignored, as by servers without versions.
    Ignored,
    /// With 501 NotImplemented.
    Refused,
}

/// The only key pair that the simulator accepts.
#[derive(Clone)]
pub struct SimCredentials {
    /// The ID of the access key (AWS_ACCESS_KEY_ID).
    pub access_key: String,
    /// The secret access key (AWS_SECRET_ACCESS_KEY).
    pub secret_key: String,
    /// The session token that requests must carry. None if there is none.
    pub session_token: Option<String>,
}

impl fmt::Debug for SimCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimCredentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// The faults that the server simulates. They may be changed while it runs.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The latency before the first byte of an answer.
    pub latency: Latency,
    /// A fraction of the requests that is slower than the others.
    pub tail: Option<Tail>,
    /// The bandwidth limit of one connection, in bytes per second.
    pub bandwidth_per_connection: Option<u64>,
    /// The limit on requests per second. None if there is no limit.
    pub rate_limit: Option<RateLimit>,
    /// The probability of each failure, 0 to 1. Their sum must not exceed 1.
    pub fail: Vec<(Failure, f64)>,
    /// Limits `fail`, `tail` and `changed_etag` to keys that begin with this prefix. For a LIST the prefix of the
    /// listing counts. None: all keys.
    pub only_prefix: Option<String>,
    /// Limits `fail` and `tail` to this kind of request. None: all kinds.
    pub only_kind: Option<RequestKind>,
    /// The probability, 0 to 1, that a GET or HEAD finds another ETag than the listing gave, as if the object had
    /// been replaced. A request with If-Match is answered 412, any other with the new ETag.
    pub changed_etag: f64,
    /// How GETs are answered otherwise than S3 answers them. None: as S3 does.
    pub quirk: Option<Quirk>,
}

/// A way in which services or proxies answer GETs otherwise than S3 does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    /// A GET with If-Match is answered 412, whatever the ETag is.
    IfMatchFails,
    /// A GET with If-Match is answered 501.
    IfMatchUnknown,
    /// The ETags of objects end in `-gzip`, unlike those of listings.
    EtagSuffix,
    /// The ETags of objects are weak, and no If-Match fits them.
    WeakEtag,
    /// A range is sent with status 200 and with Content-Range, as `rclone serve s3` does.
    RangeAs200,
    /// The whole object is sent with status 200, whatever range is asked for.
    NoRanges,
}

/// The time between a request and the first byte of its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Latency {
    /// Answers begin without any latency.
    #[default]
    None,
    /// Every request has the same latency.
    Fixed(Duration),
    /// A log-normal distribution: `median · exp(sigma · n)`, where n has the standard normal distribution.
    LogNormal {
        /// The median latency, which half of the requests exceed.
        median: Duration,
        /// The width of the distribution. 0 makes all latencies equal.
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

/// The slow tail of the latencies: a few requests that are much slower than the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tail {
    /// The fraction of the requests that is slower, 0 to 1.
    pub fraction: f64,
    /// The factor by which the latency of these requests is multiplied.
    pub factor: f64,
}

/// A limit on requests per second, implemented as a token bucket per prefix. Requests beyond it get 503 SlowDown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// The number of tokens per second that are added to the bucket. Each request takes one token.
    pub requests_per_second: f64,
    /// The most tokens that a prefix can save while it gets no requests.
    pub burst: f64,
    /// The number of folders of a key that form its prefix. 0: the limit is per bucket.
    pub prefix_parts: usize,
}

impl RateLimit {
    /// A limit per bucket, with a burst of a tenth of a second.
    pub fn per_bucket(requests_per_second: f64) -> Self {
        Self { requests_per_second, burst: (requests_per_second / 10.0).max(1.0), prefix_parts: 0 }
    }
}

/// A way in which the simulator makes one request fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The answer is 500 InternalError.
    InternalError,
    /// The answer is 503 SlowDown.
    SlowDown,
    /// The answer is 503 ServiceUnavailable.
    Unavailable,
    /// The answer is 400 RequestTimeout, as S3 sends it. Some other servers use 408.
    RequestTimeout,
    /// The answer is 403 AccessDenied.
    AccessDenied,
    /// The answer is 404 NoSuchKey, as if the object was deleted after it was listed.
    NoSuchKey,
    /// The connection is reset before any answer.
    ResetBeforeHeaders,
    /// The connection is reset after the headers of the answer.
    ResetAfterHeaders,
    /// The connection ends after half of the body.
    HalfBody,
    /// The request is never answered.
    BlackHole,
    /// After the headers and half of the body nothing more is sent, and the connection stays open.
    StalledBody,
    /// One bit of the body is flipped. In compressed data this may not change the decoded bytes.
    FlippedBit,
    /// One bit is flipped in the byte at this offset of the body, or in the last byte of a shorter body.
    FlippedBitAt(u64),
    /// The answer is 304 Not Modified, though nothing asked for it.
    NotModified,
    /// The answer is 403 InvalidObjectState, as for an object in the storage class GLACIER.
    Archived,
}

/// The kinds of requests that the server counts separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// A ListObjectsV2 request.
    List,
    /// A GET request for an object.
    Get,
    /// A HEAD request for an object.
    Head,
    /// A PUT request for an object.
    Put,
    /// A DELETE request for an object.
    Delete,
    /// Requests about buckets, and requests that the server does not know.
    Other,
    /// A ListObjectVersions request.
    ListVersions,
}

/// The ways in which a request ends that the server counts separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The request was answered with a success status.
    Ok,
    /// The answer had status 404 (the object or bucket does not exist).
    NotFound,
    /// The answer had status 412 (the ETag differs from If-Match).
    PreconditionFailed,
    /// Status 400 or 403: the request was not understood or not allowed.
    Refused,
    /// The answer had status 416 (the range lies outside of the object).
    BadRange,
    /// The answer had status 503 (too many requests).
    SlowDown,
    /// Status 500, or another error answer that a fault demanded.
    ServerError,
    /// The connection was reset without an answer.
    Reset,
    /// The body was cut, reset, stalled or damaged by a fault.
    Cut,
    /// The request was never answered, because a fault demanded it.
    BlackHole,
}
