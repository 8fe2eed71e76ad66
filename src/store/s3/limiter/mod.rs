//! Limits requests, for all workers together.
//!
//! - Each bucket has an adaptive number of requests in flight ([`concurrency`]).
//! - A bucket that throttles also has a number of requests per second ([`rate`], with a diagram of
//!   its states). Prefixes that are throttled separately have rates of their own ([`prefixes`]).
//! - The process has one cap of requests in flight ([`ProcessLimiter`]).
//! - Late requests are hedged ([`hedge`]).
//! - All numbers are in [`policy`].
//!
//! Invariants: permits held + permits free − debt = the concurrency limit. A permit is held until
//! the body of its response has been read or dropped. A request that waits for a rate holds no
//! permit, so that a throttled prefix does not delay others.

mod concurrency;
mod hedge;
mod policy;
mod prefixes;
mod rate;
#[cfg(test)]
mod rate_tests;
#[cfg(test)]
mod simulation;

use super::request_log::TARGET;
use crate::process::locks::lock;
use concurrency::ConcurrencyLimit;
use hedge::{Hedge, RequestKind};
use policy::LimiterPolicy;
pub use prefixes::prefix_of_folder;
use prefixes::{Prefixes, prefix_of};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits of a process: one cap, and the state of each bucket. Clones share them.
#[derive(Debug, Clone)]
pub struct ProcessLimiter {
    shared: Arc<Process>,
}

#[derive(Debug)]
struct Process {
    policy: Arc<LimiterPolicy>,
    max: usize,
    permits: Arc<Semaphore>,
    buckets: Mutex<BTreeMap<String, Limiter>>,
}

/// The default cap of requests in flight over all buckets.
pub fn default_max_requests() -> usize {
    LimiterPolicy::default().default_max_requests()
}

impl Default for ProcessLimiter {
    fn default() -> Self {
        Self::new(None)
    }
}

impl ProcessLimiter {
    /// At most `max` requests in flight (`--max-requests`), at least 1;
    /// None: [`default_max_requests`].
    pub fn new(max: Option<usize>) -> Self {
        let policy = Arc::new(LimiterPolicy::default());
        // A cap that the user has set includes hedges.
        let hedges = if max.is_some() { 0 } else { policy.hedge_burst };
        let max = max.unwrap_or_else(|| policy.default_max_requests()).clamp(1, Semaphore::MAX_PERMITS >> 8);
        let permits = Arc::new(Semaphore::new(max + hedges));
        Self { shared: Arc::new(Process { policy, max, permits, buckets: Mutex::default() }) }
    }

    /// The limiter of `bucket` at `endpoint` (None: AWS's). All stores of that bucket share it.
    pub(super) fn of_bucket(&self, endpoint: Option<&str>, bucket: &str) -> Limiter {
        let name = format!("{}/{bucket}", endpoint.unwrap_or("s3:/").trim_end_matches('/'));
        let Process { policy, max, permits, .. } = &*self.shared;
        let make = || Limiter::new(Arc::clone(policy), *max, Arc::clone(permits));
        lock(&self.shared.buckets).entry(name).or_insert_with(make).clone()
    }

    /// Requests that may be in flight now over all buckets; None before there is any bucket.
    pub fn window(&self) -> Option<usize> {
        let sizes =
            lock(&self.shared.buckets).values().map(|l| l.shared.state().concurrency.size()).reduce(|a, b| a + b);
        sizes.map(|sum| sum.min(self.shared.max))
    }

    /// Requests per second of all buckets and prefixes that throttle; None if none does.
    pub fn per_second(&self) -> Option<u64> {
        let rates = self
            .snapshot()
            .into_iter()
            .flat_map(|b| b.per_second.into_iter().chain(b.prefixes.into_iter().map(|p| p.1)));
        rates.reduce(|a, b| a + b).map(|sum| sum.round() as u64)
    }

    /// Whether any bucket, or any prefix in one, throttles.
    pub fn is_throttled(&self) -> bool {
        lock(&self.shared.buckets).values().any(|limiter| limiter.shared.prefixes.any_limited())
    }

    /// The state of each bucket, by name.
    pub fn snapshot(&self) -> Vec<BucketLimits> {
        let buckets: Vec<_> = lock(&self.shared.buckets).iter().map(|(n, l)| (n.clone(), l.clone())).collect();
        buckets.into_iter().map(|(bucket, limiter)| limiter.snapshot(bucket)).collect()
    }
}

/// The current limits of one bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketLimits {
    /// Endpoint and bucket.
    pub bucket: String,
    /// Requests that may be in flight.
    pub window: usize,
    /// Requests per second; None: it does not throttle.
    pub per_second: Option<f64>,
    /// Prefixes that are throttled by themselves, with their requests per second.
    pub prefixes: Vec<(String, f64)>,
}

/// The limiter of one bucket.
#[derive(Debug, Clone)]
pub(super) struct Limiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    process: Arc<Semaphore>,
    permits: Arc<Semaphore>,
    /// Sum of bytes received, plus the policy's `answer_bytes` for each response.
    goodput: AtomicU64,
    answer_bytes: u64,
    prefixes: Prefixes,
    state: Mutex<BucketState>,
}

#[derive(Debug)]
struct BucketState {
    concurrency: ConcurrencyLimit,
    /// Permits that are removed when they are released.
    debt: usize,
    hedge: Hedge,
}

impl Limiter {
    fn new(policy: Arc<LimiterPolicy>, max: usize, process: Arc<Semaphore>) -> Self {
        let concurrency = ConcurrencyLimit::new(Arc::clone(&policy), max);
        let permits = Arc::new(Semaphore::new(concurrency.size()));
        let state = Mutex::new(BucketState { concurrency, debt: 0, hedge: Hedge::new(Arc::clone(&policy)) });
        Self {
            shared: Arc::new(Shared {
                process,
                permits,
                goodput: AtomicU64::new(0),
                answer_bytes: policy.answer_bytes,
                prefixes: Prefixes::new(policy, Instant::now()),
                state,
            }),
        }
    }

    /// Waits, first come first served, until a request for `key` (None: a listing) may be sent.
    pub(super) async fn acquire(&self, key: Option<&str>) -> Permit {
        let prefix = key.and_then(prefix_of);
        // The rates, of prefix and bucket, that have admitted this request.
        let mut has_passed = [false; 2];
        // Ends: at most three turns. Each but the last is admitted by another rate.
        loop {
            let own = self.shared.prefixes.of(prefix);
            let rates = [own.as_deref(), Some(self.shared.prefixes.bucket())];
            for (rate, has_passed) in rates.into_iter().zip(&mut has_passed) {
                if let Some(rate) = rate.filter(|rate| !*has_passed && rate.is_limited()) {
                    rate.acquire().await;
                    *has_passed = true;
                }
            }
            // The semaphores are never closed. If they were, requests would not be limited.
            let permit = Arc::clone(&self.shared.permits).acquire_owned().await.ok();
            let process = Arc::clone(&self.shared.process).acquire_owned().await.ok();
            let taken = Permit::new(&self.shared, key, permit, process);
            // If a rate became limited meanwhile, its admission is awaited: at most once for each
            // rate.
            let own = self.shared.prefixes.of(prefix);
            let rates = [own.as_deref(), Some(self.shared.prefixes.bucket())];
            if rates.into_iter().zip(has_passed).all(|(rate, passed)| passed || !rate.is_some_and(|r| r.is_limited())) {
                return taken;
            }
        }
    }

    /// Counts bytes of a body.
    pub(super) fn received(&self, bytes: u64) {
        self.shared.goodput.fetch_add(bytes, Relaxed);
    }

    /// How long to wait for the first byte of `key` (None: of a listing) before the request is
    /// hedged.
    pub(super) fn hedge_after(&self, key: Option<&str>) -> Option<Duration> {
        self.shared.state().hedge.threshold(kind_of(key))
    }

    /// A permit for a hedge, if one is free now. It does not count towards the concurrency limit:
    /// the late request does, until one of the two is dropped ([`Permit::in_place_of`]).
    pub(super) fn try_hedge(&self, key: Option<&str>) -> Option<Permit> {
        let own = self.shared.prefixes.of(key.and_then(prefix_of));
        // No hedges while the bucket throttles: they would not make it faster.
        if own.is_some() || self.shared.prefixes.bucket().is_limited() {
            return None;
        }
        let process = Arc::clone(&self.shared.process).try_acquire_owned().ok()?;
        let taken = self.shared.state().hedge.take();
        taken.then(|| Permit::new(&self.shared, key, None, Some(process)))
    }

    fn snapshot(&self, bucket: String) -> BucketLimits {
        BucketLimits {
            bucket,
            window: self.shared.state().concurrency.size(),
            per_second: self.shared.prefixes.bucket().per_second(),
            prefixes: self.shared.prefixes.limited(),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, BucketState> {
        lock(&self.state)
    }

    fn answered(&self, kind: RequestKind, prefix: Option<&str>, sent: Instant, throttled: bool) {
        let now = Instant::now();
        self.prefixes.answered(prefix, now, sent, throttled);
        if throttled {
            return;
        }
        let latency = now.saturating_duration_since(sent);
        let goodput = self.goodput.fetch_add(self.answer_bytes, Relaxed);
        let is_full = self.permits.available_permits() == 0;
        let mut state = self.state();
        state.hedge.answered(kind, latency);
        state.concurrency.answered(latency);
        let before = state.concurrency.size();
        if state.concurrency.measure(now, goodput, is_full) {
            self.resize(&mut state, before);
        }
    }

    /// Adapts the number of permits to the concurrency limit, which was `before`.
    fn resize(&self, state: &mut BucketState, before: usize) {
        let size = state.concurrency.size();
        tracing::debug!(target: TARGET, before, now = size, "requests in flight: the limit changed");
        if size >= before {
            let more = size - before;
            let paid = more.min(state.debt);
            state.debt -= paid;
            self.permits.add_permits(more - paid);
        } else {
            state.debt += (before - size) - self.permits.forget_permits(before - size);
        }
    }
}

/// The right to have one request in flight. Dropping it releases it.
#[derive(Debug)]
pub(super) struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    _process: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
    kind: RequestKind,
    prefix: Option<Box<str>>,
    sent: Instant,
}

impl Permit {
    fn new(
        shared: &Arc<Shared>,
        key: Option<&str>,
        permit: Option<OwnedSemaphorePermit>,
        process: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let prefix = key.and_then(prefix_of).map(Into::into);
        Self { permit, _process: process, shared: Arc::clone(shared), kind: kind_of(key), prefix, sent: Instant::now() }
    }

    /// The headers of the response have arrived.
    pub(super) fn answered(&self) {
        self.shared.answered(self.kind, self.prefix.as_deref(), self.sent, false);
    }

    /// The bucket asked for fewer requests.
    pub(super) fn throttled(&self) {
        self.shared.answered(self.kind, self.prefix.as_deref(), self.sent, true);
    }

    /// Takes over the place of `straggler`, which is dropped, in the concurrency limit.
    pub(super) fn in_place_of(mut self, mut straggler: Self) -> Self {
        self.permit = straggler.permit.take();
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if state.debt > 0
            && let Some(permit) = self.permit.take()
        {
            state.debt -= 1;
            permit.forget();
        }
    }
}

fn kind_of(key: Option<&str>) -> RequestKind {
    if key.is_some() { RequestKind::Object } else { RequestKind::Listing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_cap_holds_over_all_buckets_and_stores_share_their_buckets() {
        let limits = ProcessLimiter::new(Some(3));
        assert_eq!(limits.window(), None);
        let (a, b) = (limits.of_bucket(None, "a"), limits.of_bucket(Some("http://h:1"), "b"));
        assert!(Arc::ptr_eq(&a.shared, &limits.of_bucket(None, "a").shared));
        assert!(!Arc::ptr_eq(&a.shared, &b.shared));
        assert_eq!(limits.window(), Some(3));
        let mut held = vec![a.acquire(None).await, a.acquire(Some("k")).await, b.acquire(None).await];
        let waits = tokio::time::timeout(Duration::from_millis(20), b.acquire(None)).await;
        assert!(waits.is_err());
        let in_flight = || [&a, &b].map(|l| l.shared.state().concurrency.size() - l.shared.permits.available_permits());
        // The one that waited has given back what it had.
        assert_eq!((in_flight(), limits.shared.permits.available_permits()), ([2, 1], 0));
        held.swap_remove(1);
        drop(b.acquire(None).await);
        drop(held);
        assert_eq!((in_flight(), limits.shared.permits.available_permits()), ([0, 0], 3));
    }

    #[tokio::test]
    async fn permits_follow_the_window_and_debts_are_paid() {
        let limiter = Limiter::new(Arc::default(), 64, Arc::new(Semaphore::new(64)));
        let size = LimiterPolicy::default().first_requests;
        let mut out = Vec::new();
        for _ in 0..size {
            out.push(limiter.acquire(None).await);
        }
        let free = || limiter.shared.permits.available_permits();
        limiter.shared.resize(&mut limiter.shared.state(), size + 10);
        assert_eq!((free(), limiter.shared.state().debt), (0, 10));
        out.truncate(size - 4);
        assert_eq!((free(), limiter.shared.state().debt), (0, 6));
        limiter.shared.resize(&mut limiter.shared.state(), size - 8);
        assert_eq!((free(), limiter.shared.state().debt), (2, 0));
        out.clear();
        assert_eq!(free(), size - 2);
    }

    #[tokio::test]
    async fn what_is_sent_in_a_stragglers_stead_counts_as_it_did() {
        let limiter = Limiter::new(Arc::default(), 1, Arc::new(Semaphore::new(2)));
        for _ in 0..100 {
            limiter.acquire(Some("key")).await.answered();
        }
        let straggler = limiter.acquire(Some("key")).await;
        let hedge = limiter.try_hedge(Some("key")).unwrap().in_place_of(straggler);
        let waits = tokio::time::timeout(Duration::from_millis(20), limiter.acquire(Some("key"))).await;
        assert!(waits.is_err(), "two bodies are read where one may be");
        drop(hedge);
        drop(limiter.acquire(Some("key")).await);
    }

    #[tokio::test]
    async fn a_throttled_prefix_waits_and_others_do_not() {
        let limiter = Limiter::new(Arc::default(), 64, Arc::new(Semaphore::new(64)));
        let prefixes = &limiter.shared.prefixes;
        let begun = Instant::now();
        // Every other answer of b is a 503, whatever the rate of the bucket.
        for i in 0..1000_u32 {
            let sent = begun + Duration::from_millis(4) * i;
            prefixes.answered(Some("a/x"), sent, sent, false);
            prefixes.answered(Some("b/x"), sent, sent, prefixes.of(Some("b/x")).is_none() && i % 2 == 0);
        }
        let snapshot = limiter.snapshot(String::new());
        assert_eq!(snapshot.per_second, None);
        assert_eq!(snapshot.prefixes.len(), 1, "{snapshot:?}");
        assert_eq!(snapshot.prefixes[0].0, "b/x");
        assert!(limiter.try_hedge(Some("b/x/2")).is_none());
        // Hundreds wait in b; a's requests pass them.
        let mut queue = Vec::new();
        for _ in 0..500 {
            let limiter = limiter.clone();
            queue.push(tokio::spawn(async move { drop(limiter.acquire(Some("b/x/1")).await) }));
        }
        tokio::task::yield_now().await;
        let passed = tokio::time::timeout(Duration::from_millis(100), limiter.acquire(Some("a/x/1"))).await;
        assert!(passed.is_ok());
        assert!(queue.iter().filter(|q| !q.is_finished()).count() > 400);
        queue.into_iter().for_each(|q| q.abort());
    }
}
