//! Settings of the S3 client that apply to all buckets of a process: limits, time-outs, retries and the
//! environment.
//!
//! [`Environment::from_process`] reads the environment variables once, and the result is passed on as a value.
//! Only the AWS credentials chain (aws-config) reads variables by itself.

use super::super::ByteRate;
use super::limiter::ProcessLimiter;
use super::proxies::ProxySettings;
use super::reach::{Announcer, EndpointStates};
use super::tls::TlsConfigs;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the S3 client for the whole process. The default has no credentials and no proxies. Programs use
/// [`S3Options::from_process`].
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// Limiter of the requests in flight. Clones share it.
    pub limits: ProcessLimiter,
    /// TLS configurations of all clients. Clones share them.
    pub tls: TlsConfigs,
    /// Time limits for the stages of a request: connecting, waiting for headers, reading the body.
    pub timeouts: Timeouts,
    /// How often a failed request is sent again, and the pauses between attempts.
    pub retries: Retries,
    /// The limit on received bytes per second. Clones share it.
    pub byte_rate: ByteRate,
    /// What the environment says about credentials, region and proxies.
    pub environment: Environment,
    /// What is known about each endpoint. Clones share it.
    pub endpoints: EndpointStates,
    /// Receives messages for the user.
    pub announcer: Announcer,
}

impl S3Options {
    /// Returns the default settings with the environment of this process.
    pub fn from_process() -> Self {
        Self { environment: Environment::from_process(), ..Self::default() }
    }
}

/// Time limits for the stages of a request: connecting, waiting for headers, reading the body.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Maximum time for name resolution, TCP and TLS together.
    pub connect: Duration,
    /// Maximum time from sending the request, connecting included, to the headers of the response.
    pub first_byte: Duration,
    /// Maximum time to wait for the next bytes of a response's body.
    pub chunk: Duration,
    /// Time over which the speed of a body is measured, counting only time spent waiting for it. If it brings
    /// less than [`Timeouts::MIN_BYTES_PER_SECOND`], the response is dropped and resumed on another connection.
    pub crawl_window: Duration,
    /// How long an endpoint that has never answered is tried (`--connect-timeout`).
    pub start: Duration,
    /// How long an operation goes on without progress (`--stall-timeout`). Progress is body bytes that the reader took.
    pub stall: Duration,
}

impl Timeouts {
    /// Minimum speed in bytes per second at which the body of a response must arrive.
    pub const MIN_BYTES_PER_SECOND: u64 = 4096;
    /// How long a service that has never answered is waited for, unless `-connect-timeout` says otherwise.
    pub const DEFAULT_START: Duration = Duration::from_secs(60);
    /// How long an operation may go on without progress, unless `-stall-timeout` says otherwise.
    pub const DEFAULT_STALL: Duration = Duration::from_secs(60);
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(20),
            chunk: Duration::from_secs(10),
            crawl_window: Duration::from_secs(5),
            start: Self::DEFAULT_START,
            stall: Self::DEFAULT_STALL,
        }
    }
}

/// When failed requests are sent again, and when they are given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Maximum of the first pause. It doubles with every further failure. The actual pause is a random part of
    /// it.
    pub base: Duration,
    /// Maximum length of any pause, however many attempts have failed.
    pub cap: Duration,
    /// Maximum number of attempts for one operation while no request to the bucket succeeds.
    pub attempts: u32,
    /// Maximum number of attempts for one operation while other requests to the bucket succeed.
    pub attempts_while_others_succeed: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(50),
            cap: Duration::from_secs(20),
            attempts: 10,
            attempts_while_others_succeed: 40,
        }
    }
}

/// Settings for S3 from environment variables, except endpoints, which `config` determines. Empty by default.
/// It contains secrets, so `Debug` hides all values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Value of `AWS_ACCESS_KEY_ID`, else `LITESTREAM_ACCESS_KEY_ID` (docs/FORMAT.md, "litestream.yml").
    pub access_key_id: Option<String>,
    /// Value of `AWS_SECRET_ACCESS_KEY`, else `LITESTREAM_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<String>,
    /// Value of `AWS_SESSION_TOKEN`, which temporary credentials need.
    pub session_token: Option<String>,
    /// Value of `AWS_REGION`, else `AWS_DEFAULT_REGION`. It is used only if configuration, URL and a custom
    /// endpoint leave the region open.
    pub region: Option<String>,
    /// AWS profile that a flag names. None: `AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
    /// Value of `AWS_CA_BUNDLE`: path of a PEM file with certificates to trust in addition to the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Proxies that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name.
    pub proxies: ProxySettings,
    /// Whether the AWS credentials chain (profiles, SSO, web identity, ECS, IMDS) may be used if no keys are
    /// set. The chain reads environment variables and files by itself.
    pub aws_chain: bool,
}

impl Environment {
    /// Reads the environment variables of this process, and allows the AWS credentials chain.
    pub fn from_process() -> Self {
        Self { aws_chain: true, ..Self::from_lookup(|name| std::env::var(name).ok()) }
    }

    /// Reads the environment variables through `lookup`. An empty variable counts as unset.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            names.iter().find_map(|name| lookup(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()))
        };
        Self {
            access_key_id: first(&["AWS_ACCESS_KEY_ID", "LITESTREAM_ACCESS_KEY_ID"]),
            secret_access_key: first(&["AWS_SECRET_ACCESS_KEY", "LITESTREAM_SECRET_ACCESS_KEY"]),
            session_token: first(&["AWS_SESSION_TOKEN"]),
            region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
            profile: None,
            ca_bundle: first(&["AWS_CA_BUNDLE"]).map(PathBuf::from),
            proxies: ProxySettings {
                https: first(&["HTTPS_PROXY", "https_proxy"]),
                http: first(&["HTTP_PROXY", "http_proxy"]),
                all: first(&["ALL_PROXY", "all_proxy"]),
                none: first(&["NO_PROXY", "no_proxy"]),
            },
            aws_chain: false,
        }
    }
}

impl Environment {
    /// Uses the credentials of an AWS profile and ignores keys in environment variables.
    pub fn use_profile(&mut self, profile: Option<String>) {
        self.profile = profile;
        (self.access_key_id, self.secret_access_key, self.session_token) = (None, None, None);
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn litestream_names_stand_in_where_the_aws_names_are_unset() {
        let vars = [
            ("LITESTREAM_ACCESS_KEY_ID", "L"),
            ("LITESTREAM_SECRET_ACCESS_KEY", "S"),
            ("AWS_ACCESS_KEY_ID", ""),
            ("https_proxy", "http://u:secret@p:1"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
        ];
        let get = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let env = Environment::from_lookup(get);
        assert_eq!(env.access_key_id.as_deref(), Some("L"));
        assert_eq!(env.secret_access_key.as_deref(), Some("S"));
        assert_eq!(env.region.as_deref(), Some("eu-west-1"));
        assert!(env.proxies.https.is_some() && env.proxies.http.is_none());
        assert!(!format!("{env:?}").contains("secret"));

        let both = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some("A".to_owned()),
            other => get(other),
        };
        assert_eq!(Environment::from_lookup(both).access_key_id.as_deref(), Some("A"));
    }
}
