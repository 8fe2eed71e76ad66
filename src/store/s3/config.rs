//! Settings of one bucket, which the folder `config` determines from litestream.yml, URL and environment.

use std::fmt;

/// Region for services other than AWS if no region is configured.
pub const DEFAULT_REGION: &str = "us-east-1";

/// Location of a bucket and how to reach it, determined from configuration, URL and environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Config {
    /// Name of the bucket, or the ARN of an access point.
    pub bucket: String,
    /// Region of the bucket. None: the bucket is asked for it by a request.
    pub region: Option<String>,
    /// URL of the service, `scheme://host[:port]`. None: AWS's own endpoint.
    pub endpoint: Option<String>,
    /// Whether URLs have the form `endpoint/bucket/key` and not `bucket.endpoint/key`.
    pub path_style: bool,
    /// Whether any TLS certificate is accepted (`skip-verify`).
    pub skip_verify: bool,
    /// Key pair from litestream.yml. None: the environment or the AWS credentials chain.
    pub credentials: Option<StaticCredentials>,
    /// Customer's encryption key (SSE-C), sent with each GET and HEAD of an object.
    pub sse_customer: Option<SseCustomerKey>,
    /// Whether requests are sent without a signature, for a public bucket.
    pub anonymous: bool,
}

/// A key pair from the configuration. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticCredentials {
    /// Access key id, the public part of the key pair.
    pub access_key_id: String,
    /// Secret access key, with which requests are signed.
    pub secret_access_key: String,
    /// Session token, which temporary credentials need in addition.
    pub session_token: Option<String>,
}

/// A customer's encryption key (SSE-C). `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct SseCustomerKey {
    /// Encryption algorithm, as sent to S3. S3 knows only `AES256`.
    pub algorithm: String,
    /// Encryption key in base64, as sent to S3 with each request for an object.
    pub key_base64: String,
    /// MD5 hash of the key in base64, by which S3 checks the key.
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
