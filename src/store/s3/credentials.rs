//! Signing credentials: static, or from a provider whose answer is cached. One task renews them for
//! all.

use super::aws_chain::{self, Chain};
use super::network::{Network, chain};
use super::options::Environment;
use super::request_log::TARGET;
use super::{S3Config, StaticCredentials};
use crate::process::locks;
use crate::timestamp::Timestamp;
use aws_credential_types::Credentials as Keys;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::identity::Identity;
use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Mutex, OnceCell};

/// Credentials are renewed this long before they expire.
const REFRESH_AHEAD: Duration = Duration::from_secs(300);
/// Pause after a failed renewal while the old credentials are valid.
const REFRESH_PAUSE: Duration = Duration::from_secs(20);
/// Tasks that waited for a failed renewal return its error if it is younger than this.
const FAILURE_STANDS: Duration = Duration::from_secs(2);
/// Maximum time for a provider, which may run programs and ask several services.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(60);

/// The credentials in use. Never printed.
pub(super) struct Current {
    pub(super) identity: Identity,
    /// Grows with every renewal. A request that was denied names the generation it used, so that
    /// newer credentials are not renewed again.
    pub(super) generation: u64,
    expiry: Option<SystemTime>,
    keys: Keys,
}

impl Current {
    fn new(keys: Keys, generation: u64) -> Self {
        Self { identity: keys.clone().into(), generation, expiry: keys.expiry(), keys }
    }

    /// Replaces the secret key and the session token in `text`.
    pub(super) fn redact(&self, text: &mut String) {
        for secret in [Some(self.keys.secret_access_key()), self.keys.session_token()].into_iter().flatten() {
            if secret.len() >= 8 && text.contains(secret) {
                *text = text.replace(secret, "…");
            }
        }
    }
}

pub(super) struct Credentials {
    source: CredentialSource,
    current: RwLock<Option<Arc<Current>>>,
    flight: Mutex<Flight>,
}

#[derive(Default)]
struct Flight {
    failed: Option<(Instant, String)>,
}

impl Flight {
    fn failed_within(&self, time: Duration) -> Option<&String> {
        self.failed.as_ref().filter(|(at, _)| at.elapsed() < time).map(|(_, reason)| reason)
    }
}

enum CredentialSource {
    /// Keys that were given, and by what.
    Fixed(&'static str),
    /// The AWS chain. It is set up when first needed, so that static credentials never wait for it.
    Chain {
        network: Box<Network>,
        region: Option<String>,
        profile: Option<String>,
        chain: Box<OnceCell<Chain>>,
    },
    Provider(SharedCredentialsProvider),
    Missing(&'static str),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// Precedence: the pair in the configuration, the environment's pair, the AWS chain
    /// (docs/FORMAT.md, "litestream.yml").
    pub(super) fn new(config: &S3Config, environment: &Environment, network: &Network) -> Self {
        if let Some(StaticCredentials { access_key_id, secret_access_key, session_token }) = &config.credentials {
            let keys = Keys::new(access_key_id, secret_access_key, session_token.clone(), None, "config");
            return Self::fixed(keys, "keys of the configuration file or URL");
        }
        let Environment { access_key_id, secret_access_key, session_token, .. } = environment;
        if let (Some(id), Some(secret)) = (access_key_id, secret_access_key) {
            let keys = Keys::new(id, secret, session_token.clone(), None, "environment");
            return Self::fixed(keys, "keys of the environment");
        }
        if environment.aws_chain {
            let region = environment.region.clone().or_else(|| config.region.clone());
            let (network, profile) = (Box::new(network.clone()), environment.profile.clone());
            return Self::of(CredentialSource::Chain { network, region, profile, chain: Box::default() });
        }
        Self::of(CredentialSource::Missing("there are no credentials"))
    }

    pub(super) fn provided(provider: SharedCredentialsProvider) -> Self {
        Self::of(CredentialSource::Provider(provider))
    }

    fn of(source: CredentialSource) -> Self {
        Self { source, current: RwLock::new(None), flight: Mutex::default() }
    }

    /// Where the keys come from, for the log.
    pub(super) fn source(&self) -> String {
        match &self.source {
            CredentialSource::Fixed(what) => (*what).to_owned(),
            CredentialSource::Chain { profile: Some(profile), .. } => format!("AWS chain, profile {profile}"),
            CredentialSource::Chain { .. } => "AWS chain".to_owned(),
            CredentialSource::Provider(_) => "a provider".to_owned(),
            CredentialSource::Missing(_) => "none".to_owned(),
        }
    }

    fn fixed(keys: Keys, what: &'static str) -> Self {
        let this = Self::of(CredentialSource::Fixed(what));
        this.set(Arc::new(Current::new(keys, 0)));
        this
    }

    pub(super) fn cached(&self) -> Option<Arc<Current>> {
        locks::read(&self.current).clone()
    }

    fn set(&self, current: Arc<Current>) {
        *locks::write(&self.current) = Some(current);
    }

    /// Credentials that are valid at `now` (the server's clock). The error holds no secret.
    pub(super) async fn get(&self, now: SystemTime) -> Result<Arc<Current>, String> {
        if let Some(current) = self.cached() {
            let left = current.expiry.map(|e| e.duration_since(now).unwrap_or_default());
            match left {
                None => return Ok(current),
                Some(left) if left > REFRESH_AHEAD => return Ok(current),
                Some(left) if left > Duration::from_secs(5) => {
                    // One task renews. The others use the old credentials, which are still valid.
                    if let Ok(mut flight) = self.flight.try_lock()
                        && flight.failed_within(REFRESH_PAUSE).is_none()
                    {
                        return Ok(self.renew(&mut flight, current.generation).await.unwrap_or(current));
                    }
                    return Ok(current);
                }
                Some(_) => return self.refresh(current.generation).await,
            }
        }
        let mut flight = self.flight.lock().await;
        match self.cached() {
            Some(current) => Ok(current),
            None => self.renew(&mut flight, 0).await,
        }
    }

    /// Renews credentials of `generation`, which the server has denied. One task asks the provider,
    /// the others wait for its result.
    pub(super) async fn refresh(&self, generation: u64) -> Result<Arc<Current>, String> {
        let mut flight = self.flight.lock().await;
        match self.cached() {
            Some(current) if current.generation > generation => Ok(current),
            _ => self.renew(&mut flight, generation).await,
        }
    }

    async fn renew(&self, flight: &mut Flight, generation: u64) -> Result<Arc<Current>, String> {
        if let Some(reason) = flight.failed_within(FAILURE_STANDS) {
            return Err(reason.clone());
        }
        // Boxed: it is large and rare, and would otherwise be part of every request's future.
        let asked = tokio::time::timeout(PROVIDER_TIMEOUT, Box::pin(self.ask())).await;
        match asked.unwrap_or_else(|_| Err("no credentials within a minute".to_owned())) {
            Ok(keys) => {
                flight.failed = None;
                let current = Arc::new(Current::new(keys, generation + 1));
                self.set(Arc::clone(&current));
                let expires = current.expiry.map(|at| Timestamp::from_system_time(at).to_string());
                tracing::debug!(target: TARGET, generation = current.generation, expires, "credentials loaded");
                Ok(current)
            }
            Err(reason) => {
                tracing::debug!(target: TARGET, generation, error = reason, "credentials could not be loaded");
                flight.failed = Some((Instant::now(), reason.clone()));
                Err(reason)
            }
        }
    }

    async fn ask(&self) -> Result<Keys, String> {
        let chain = match &self.source {
            CredentialSource::Fixed(_) => return Err("these keys cannot be renewed".to_owned()),
            CredentialSource::Missing(reason) => return Err((*reason).to_owned()),
            CredentialSource::Provider(provider) => {
                return provider.provide_credentials().await.map_err(|e| chain(&e));
            }
            CredentialSource::Chain { network, region, profile, chain } => {
                aws_chain::check_threads().map_err(|e| e.to_string())?;
                chain.get_or_try_init(|| Chain::new(network, region.as_deref(), profile.as_deref())).await?
            }
        };
        chain.credentials().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::provider::future;
    use futures_util::FutureExt;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug)]
    struct Counting {
        asked: Arc<AtomicU64>,
        lifetime: Duration,
    }

    impl ProvideCredentials for Counting {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                // The others ask meanwhile.
                tokio::task::yield_now().await;
                let n = self.asked.fetch_add(1, Ordering::Relaxed);
                let expiry = SystemTime::now() + self.lifetime;
                Ok(Keys::new(format!("ID{n}"), "canary-secret", None, Some(expiry), "test"))
            })
        }
    }

    fn counting(lifetime: Duration) -> (Credentials, Arc<AtomicU64>) {
        let asked = Arc::new(AtomicU64::new(0));
        let provider = Counting { asked: Arc::clone(&asked), lifetime };
        (Credentials::provided(SharedCredentialsProvider::new(provider)), asked)
    }

    #[tokio::test]
    async fn one_asks_for_all() {
        let (credentials, asked) = counting(Duration::from_secs(3600));
        let now = SystemTime::now();
        let all = futures_util::future::join_all((0..50).map(|_| credentials.get(now))).await;
        assert!(all.iter().all(|c| c.as_ref().unwrap().generation == 1));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let all = futures_util::future::join_all((0..50).map(|_| credentials.refresh(1))).await;
        assert!(all.iter().all(|c| c.as_ref().unwrap().generation == 2));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert!(!format!("{credentials:?}").contains("canary"));
    }

    #[tokio::test]
    async fn renewed_before_they_expire_while_others_go_on() {
        let (credentials, asked) = counting(Duration::from_secs(100));
        let now = SystemTime::now();
        credentials.get(now).await.unwrap();
        let all = futures_util::future::join_all((0..10).map(|_| credentials.get(now))).await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!(all.iter().filter(|c| c.as_ref().unwrap().generation == 2).count(), 1);
        // Expired by the server's clock: everyone waits for new ones.
        let later = now + Duration::from_secs(200);
        assert_eq!(credentials.get(later).await.unwrap().generation, 3);
    }

    #[tokio::test]
    async fn a_dropped_asker_leaves_the_flight_to_the_next() {
        let (credentials, _) = counting(Duration::from_secs(3600));
        let now = SystemTime::now();
        assert!(credentials.get(now).now_or_never().is_none());
        assert_eq!(credentials.get(now).await.unwrap().generation, 1);
    }
}
