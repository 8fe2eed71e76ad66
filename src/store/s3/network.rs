//! HTTP clients, with proxies and name resolution. Each worker has its own connection pool, because a
//! connection belongs to the async runtime that opened it.

use super::options::{Environment, S3Options};
use super::proxies::{Proxies, ProxySettings};
use super::request_log::{TARGET, ms};
use super::tls::{TlsConfigs, Trust};
use crate::process::threads::Threads;
use crate::store::buffers::ReadBuffers;
use crate::telemetry::Recorder;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use url::Url;

/// Idle connections are closed after this time. S3 closes them after about 20 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_IDLE_PER_HOST: usize = 1024;
/// Time after which a host name is resolved again. S3's names have up to eight addresses, which change often.
const DNS_TTL: Duration = Duration::from_secs(10);
const DNS_ENTRIES: usize = 64;
/// Number of look-ups that can run at the same time. With more than one, no look-up waits for one that nobody
/// needs any more.
const LOOK_UPS: usize = 4;

pub(super) const USER_AGENT: &str = concat!("hydrant/", env!("CARGO_PKG_VERSION"));

/// What one worker needs to read from stores: HTTP clients, buffers and the recorder of durations. There is one
/// reqwest client, with its own connection pool, for each combination of TLS and network settings. Clients are
/// created when first used and never shared between async runtimes.
#[derive(Debug, Default)]
pub struct Http {
    clients: RefCell<HashMap<u64, reqwest::Client>>,
    recorder: Rc<Recorder>,
    read_buffers: ReadBuffers,
}

impl Http {
    /// The recorder of this worker's durations.
    pub fn recorder(&self) -> &Rc<Recorder> {
        &self.recorder
    }

    /// The same resources with connections of their own. What is asked for through them comes on another connection.
    pub fn on_other_connections(&self) -> Self {
        Self { recorder: Rc::clone(&self.recorder), ..Self::default() }
    }

    /// This worker's buffers for reading files.
    pub(in crate::store) fn read_buffers(&self) -> &ReadBuffers {
        &self.read_buffers
    }

    pub(super) fn client(&self, network: &Network) -> Result<reqwest::Client, String> {
        if let Some(client) = self.clients.borrow().get(&network.id) {
            return Ok(client.clone());
        }
        let client = network.build_client(network.connect_timeout, true)?;
        self.clients.borrow_mut().insert(network.id, client.clone());
        Ok(client)
    }
}

/// Settings for making connections: trusted certificates, proxies, time-outs.
#[derive(Clone)]
pub(super) struct Network {
    /// Hash of the settings. Buckets with equal settings have equal ids and share a client.
    id: u64,
    tls: TlsConfigs,
    trust: Trust,
    ca_bundle: Option<PathBuf>,
    proxies: ProxySettings,
    connect_timeout: Duration,
}

/// Hides the proxies, whose URLs may contain a password.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl Network {
    pub(super) fn new(options: &S3Options, trust: Trust) -> Self {
        let Environment { ca_bundle, proxies, .. } = options.environment.clone();
        let connect_timeout = options.timeouts.connect;
        // Trusted certificates are needed for TLS to a proxy, even if the endpoint uses plain HTTP.
        let trust = if trust == Trust::NoOne && !proxies.is_empty() { Trust::Roots } else { trust };
        let mut hasher = DefaultHasher::new();
        (trust, &ca_bundle, &proxies, connect_timeout).hash(&mut hasher);
        Self { id: hasher.finish(), tls: options.tls.clone(), trust, ca_bundle, proxies, connect_timeout }
    }

    /// Builds a client with its own connection pool. The error says what to correct and contains no secret.
    pub(super) fn build_client(&self, connect_timeout: Duration, proxies: bool) -> Result<reqwest::Client, String> {
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15))
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .referer(false)
            .dns_resolver(Resolver::default())
            .no_proxy()
            .tls_backend_preconfigured(self.tls(self.trust)?);
        if proxies && !self.proxies.is_empty() {
            let proxies = Proxies::parse(&self.proxies)?;
            builder = builder.proxy(reqwest::Proxy::custom(move |url| proxies.for_url(url)));
        }
        builder.build().map_err(|e| format!("cannot make an HTTP client: {}", chain(&e.without_url())))
    }

    /// A client that shares no connection with any other.
    pub(super) fn another_client(&self) -> Result<reqwest::Client, String> {
        self.build_client(self.connect_timeout, true)
    }

    /// The TLS configuration for `trust`. Errors say what to correct.
    pub(super) fn tls(&self, trust: Trust) -> Result<rustls::ClientConfig, String> {
        self.tls.of(trust, self.ca_bundle.as_deref())
    }

    /// The proxy through which `url` is reached, for people. None: it is reached directly.
    pub(super) fn proxy_of(&self, url: &Url) -> Option<String> {
        Proxies::parse(&self.proxies).ok()?.described(url)
    }
}

/// Returns the text of an error and of its sources, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    // This loop ends: each error owns its source, so the chain of sources is finite.
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

type KnownNames = HashMap<String, (Instant, Vec<IpAddr>)>;

/// Resolves each host name once for the hundreds of connections of a restore, and distributes the connections
/// over all addresses of the endpoint (docs/ARCHITECTURE.md, "S3 odds and ends").
struct Resolver {
    known: Arc<tokio::sync::Mutex<KnownNames>>,
    /// Threads that call the system's resolver, which can block from milliseconds up to its time-out.
    threads: Arc<Threads>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { known: Arc::default(), threads: Arc::new(Threads::new("names", LOOK_UPS)) }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (known, threads) = (Arc::clone(&self.known), Arc::clone(&self.threads));
        Box::pin(async move {
            // The lock is held during a look-up, so that other tasks wait for its result and do not repeat it.
            let mut known = known.lock().await;
            let fresh = known.get(name.as_str()).filter(|(at, _)| at.elapsed() < DNS_TTL);
            let mut addresses = match fresh {
                Some((_, addresses)) => addresses.clone(),
                None => {
                    let asked = name.as_str().to_owned();
                    let begun = Instant::now();
                    let found = threads.run(move || look_up(&asked)).await??;
                    tracing::trace!(
                        target: TARGET,
                        name = name.as_str(),
                        addresses = found.len(),
                        latency_ms = ms(begun.elapsed()),
                        "name resolved"
                    );
                    if known.len() >= DNS_ENTRIES {
                        known.clear();
                    }
                    known.insert(name.as_str().to_owned(), (Instant::now(), found.clone()));
                    found
                }
            };
            drop(known);
            spread(&mut addresses);
            let addresses: Addrs = Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

/// What resolvers say of a name that does not exist (EAI_NONAME, EAI_NODATA): glibc, then musl. `std` shows their texts
/// only, in English, because no locale is set.
const NO_SUCH_NAME: [&str; 4] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
];

/// The name does not exist, as far as the resolver knows. Other failures to resolve a name may pass.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct UnknownName(std::io::Error);

pub(super) type LookUpError = Box<dyn std::error::Error + Send + Sync>;

/// The addresses of a name. Blocks until the resolver answers.
pub(super) fn look_up(name: &str) -> Result<Vec<IpAddr>, LookUpError> {
    match (name, 0).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
        Err(error) => Err(look_up_error(error)),
    }
}

fn look_up_error(error: std::io::Error) -> LookUpError {
    let text = error.to_string();
    if NO_SUCH_NAME.iter().any(|known| text.contains(known)) { UnknownName(error).into() } else { error.into() }
}

/// Shuffles the addresses within IPv4 and within IPv6. The family that the resolver returned first stays first.
fn spread(addresses: &mut [IpAddr]) {
    let Some(first) = addresses.first().map(IpAddr::is_ipv4) else { return };
    addresses.sort_by_key(|a| a.is_ipv4() != first);
    let split = addresses.partition_point(|a| a.is_ipv4() == first);
    let (preferred, others) = addresses.split_at_mut(split);
    fastrand::shuffle(preferred);
    fastrand::shuffle(others);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::s3::{S3, S3Config};

    #[test]
    fn addresses_are_spread_within_the_preferred_family() {
        let mut all: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        all.extend((2..=8).map(|i| IpAddr::from([10, 0, 0, i])));
        let mut firsts = std::collections::HashSet::new();
        for _ in 0..200 {
            spread(&mut all);
            assert!(all[..8].iter().all(IpAddr::is_ipv4) && all[8].is_ipv6());
            firsts.insert(all[0]);
        }
        assert!(firsts.len() > 4, "{firsts:?}");
    }

    #[test]
    fn names_that_do_not_exist_are_told_from_those_that_may_come() {
        let is_unknown = |text: &str| {
            let error = std::io::Error::other(format!("failed to lookup address information: {text}"));
            look_up_error(error).downcast_ref::<UnknownName>().is_some()
        };
        assert!(is_unknown("Name or service not known") && is_unknown("Name does not resolve"));
        assert!(is_unknown("No address associated with hostname"));
        assert!(!is_unknown("Temporary failure in name resolution") && !is_unknown("Try again"));
    }

    #[test]
    fn clients_are_shared_by_setting_and_proxies_never_shown() {
        let mut options = S3Options::default();
        let plain = Network::new(&options, Trust::Roots);
        assert_eq!(plain.id, Network::new(&options, Trust::Roots).id);
        assert_ne!(plain.id, Network::new(&options, Trust::Anyone).id);
        let http_only = Network::new(&options, Trust::NoOne);
        assert_eq!((http_only.trust, http_only.id == plain.id), (Trust::NoOne, false));
        options.environment.proxies.http = Some("https://proxy:1".into());
        assert_eq!(Network::new(&options, Trust::NoOne).trust, Trust::Roots);
        options.environment.proxies.http = None;
        options.environment.proxies.https = Some("http://user:canary@proxy:1".into());
        let proxied = Network::new(&options, Trust::Roots);
        assert_ne!(plain.id, proxied.id);
        assert!(!format!("{proxied:?}").contains("canary"));
        let http = Http::default();
        http.client(&proxied).unwrap();
        options.environment.proxies.https = Some("http://[canary".into());
        let error = http.client(&Network::new(&options, Trust::Roots)).unwrap_err();
        assert!(error.contains("HTTPS_PROXY") && !error.contains("canary"), "{error}");
    }

    #[test]
    fn roots_are_read_where_the_endpoint_needs_them() {
        let trust = |endpoint: Option<&str>, skip_verify| {
            let config =
                S3Config { bucket: "b".into(), endpoint: endpoint.map(Into::into), skip_verify, ..S3Config::default() };
            S3::new(config, &S3Options::default(), Arc::default()).network.trust
        };
        assert_eq!(trust(None, false), Trust::Roots);
        assert_eq!(trust(Some("https://minio:9000"), false), Trust::Roots);
        assert_eq!(trust(Some("https://minio:9000"), true), Trust::Anyone);
        assert_eq!(trust(Some("http://minio:9000"), false), Trust::NoOne);
    }

    #[test]
    fn an_unreadable_ca_bundle_is_named() {
        let mut options = S3Options::default();
        options.environment.ca_bundle = Some("/nonexistent/ca.pem".into());
        let error = Http::default().client(&Network::new(&options, Trust::Roots)).unwrap_err();
        assert!(error.contains("AWS_CA_BUNDLE") && error.contains("/nonexistent/ca.pem"), "{error}");
    }
}
