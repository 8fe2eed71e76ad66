//! One bucket's settings, as `config` resolves them.

use std::fmt;

/// The region of services other than AWS for which none is given.
pub const DEFAULT_REGION: &str = "us-east-1";

/// Where a bucket is and how to reach it, resolved from configuration, URL and environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Config {
    pub bucket: String,
    /// None: the bucket is asked.
    pub region: Option<String>,
    /// `scheme://host[:port]`; None: AWS's own endpoint.
    pub endpoint: Option<String>,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`.
    pub path_style: bool,
    pub skip_verify: bool,
    /// From litestream.yml; None: the AWS credentials chain.
    pub credentials: Option<StaticCredentials>,
    pub sse_customer: Option<SseCustomerKey>,
    /// Requests are not signed: the bucket is public.
    pub anonymous: bool,
}

/// A key pair from the configuration. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticCredentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

/// SSE-C: the algorithm (AES256), the key in base64 and its MD5 in base64. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct SseCustomerKey {
    pub algorithm: String,
    pub key_base64: String,
    pub key_md5_base64: String,
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticCredentials(…)")
    }
}

impl fmt::Debug for SseCustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SseCustomerKey(…)")
    }
}
