//! Settings for all buckets of a process: limits, time-outs, retries, and the environment.
//!
//! The environment is read once, by [`Environment::from_process`], and passed on as a value. Only
//! the AWS chain (aws-config) reads variables by itself.

use super::limiter::ProcessLimiter;
use super::proxies::ProxySettings;
use super::reach::{Announcer, EndpointStates};
use super::tls::TlsConfigs;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Process-wide settings of the client. The default has no credentials and no proxies; programs use
/// [`S3Options::from_process`].
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// Limits the requests in flight. Clones share it.
    pub limits: ProcessLimiter,
    /// The TLS configurations of all clients. Clones share them.
    pub tls: TlsConfigs,
    pub timeouts: Timeouts,
    pub retries: Retries,
    pub environment: Environment,
    /// What is known about each endpoint. Clones share it.
    pub endpoints: EndpointStates,
    /// Receives messages for the user.
    pub announcer: Announcer,
}

impl S3Options {
    /// The defaults with this process's environment.
    pub fn from_process() -> Self {
        Self { environment: Environment::from_process(), ..Self::default() }
    }
}

/// How long each stage of a request may take.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Name resolution, TCP and TLS together.
    pub connect: Duration,
    /// From sending the request (connecting included) to the response's headers.
    pub first_byte: Duration,
    /// Between two chunks of a body.
    pub chunk: Duration,
    /// A body that arrives at less than [`Timeouts::MIN_BYTES_PER_SECOND`] over this much time
    /// spent waiting is dropped, and resumed on another connection.
    pub crawl_window: Duration,
    /// How long an endpoint that has never answered is tried (`--connect-timeout`).
    pub start: Duration,
    /// How long an operation goes on without progress (`--stall-timeout`). Progress is body bytes that the reader took.
    pub stall: Duration,
}

impl Timeouts {
    pub const MIN_BYTES_PER_SECOND: u64 = 4096;
    pub const DEFAULT_START: Duration = Duration::from_secs(60);
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

/// When to retry and when to give up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Maximum of the first pause. It doubles with every failure.
    pub base: Duration,
    /// Maximum of every pause.
    pub cap: Duration,
    /// Attempts for one operation while no request to the bucket succeeds.
    pub attempts: u32,
    /// Attempts for one operation while other requests to the bucket succeed.
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

/// The environment's settings for S3, except endpoints, which `config` resolves. Empty by default.
/// Holds secrets: `Debug` hides all values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `AWS_ACCESS_KEY_ID`, else `LITESTREAM_ACCESS_KEY_ID` (docs/FORMAT.md, "litestream.yml").
    pub access_key_id: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`, else `LITESTREAM_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<String>,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<String>,
    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`. Used if neither configuration, URL nor a custom
    /// endpoint decides the region.
    pub region: Option<String>,
    /// The AWS profile that was asked for by a flag. None: `AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
    /// `AWS_CA_BUNDLE`: certificates trusted in addition to the system's.
    pub ca_bundle: Option<PathBuf>,
    pub proxies: ProxySettings,
    /// Whether the AWS chain (profiles, SSO, web identity, ECS, IMDS) may be asked if there are no
    /// keys. It reads variables and files of its own.
    pub aws_chain: bool,
}

impl Environment {
    pub fn from_process() -> Self {
        Self { aws_chain: true, ..Self::from_lookup(|name| std::env::var(name).ok()) }
    }

    /// The environment that `lookup` returns. An empty variable counts as unset.
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
    /// Uses the credentials of an AWS profile, and no keys from variables.
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
