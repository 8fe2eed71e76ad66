//! Limits the requests of all workers together (docs/ARCHITECTURE.md, "Adaptive concurrency").
//!
//! The process has a fixed maximum of requests in flight, and each bucket an adaptive one. A bucket that answers 503
//! gets a limit of requests per second too, and so does each prefix that is throttled by itself. Late requests are
//! hedged, that is, sent twice. [`policy`] has all numbers.
//!
//! Invariants: a permit is held until the response's body was read or dropped. A request that waits for a limit of
//! requests per second holds no permit, so a throttled prefix does not delay other prefixes.

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
use hedge::Hedge;
pub use policy::default_max_requests;
use prefixes::Prefixes;
pub use prefixes::prefix_of_folder;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The request limits of a process: one maximum, and one `Limiter` for each bucket. Clones share them.
#[derive(Debug, Clone)]
pub struct ProcessLimiter {
    max: usize,
    permits: Arc<Semaphore>,
    buckets: Arc<Mutex<BTreeMap<String, Arc<Limiter>>>>,
}

impl Default for ProcessLimiter {
    fn default() -> Self {
        Self::new(None)
    }
}

impl ProcessLimiter {
    /// Allows at most `max` requests in flight (`--max-requests`, at least 1). None: [`default_max_requests`].
    pub fn new(max: Option<usize>) -> Self {
        // A maximum that the user has set includes hedges. The default has 16 permits more for them.
        let hedges = if max.is_some() { 0 } else { policy::HEDGE_BURST };
        let max = max.unwrap_or_else(default_max_requests).clamp(1, Semaphore::MAX_PERMITS >> 8);
        Self { max, permits: Arc::new(Semaphore::new(max + hedges)), buckets: Arc::default() }
    }

    /// Returns the limiter of `bucket` at `endpoint` (None: AWS's). All stores of that bucket share it.
    pub(super) fn of_bucket(&self, endpoint: Option<&str>, bucket: &str) -> Arc<Limiter> {
        let name = format!("{}/{bucket}", endpoint.unwrap_or("s3:/").trim_end_matches('/'));
        let make = || Limiter::new(self.max, Arc::clone(&self.permits));
        Arc::clone(lock(&self.buckets).entry(name).or_insert_with(make))
    }

    /// Number of requests that may be in flight now to all buckets together. None: no bucket exists yet.
    pub fn window(&self) -> Option<usize> {
        let sum = self.snapshot().into_iter().map(|bucket| bucket.window).reduce(|a, b| a + b);
        sum.map(|sum| sum.min(self.max))
    }

    /// Sum of the limits of requests per second of all buckets and prefixes that throttle. None: none throttles.
    pub fn per_second(&self) -> Option<u64> {
        let of_bucket = |b: BucketLimits| b.per_second.into_iter().chain(b.prefixes.into_iter().map(|p| p.1));
        let sum = self.snapshot().into_iter().flat_map(of_bucket).reduce(|a, b| a + b);
        sum.map(|sum| sum.round() as u64)
    }

    /// Returns the current limits of each bucket, sorted by the bucket's name.
    pub fn snapshot(&self) -> Vec<BucketLimits> {
        lock(&self.buckets).iter().map(|(name, limiter)| limiter.snapshot(name.clone())).collect()
    }
}

/// The current limits of one bucket, for the report and the progress display.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketLimits {
    /// Endpoint and name of the bucket.
    pub bucket: String,
    /// Number of requests that may be in flight to the bucket now.
    pub window: usize,
    /// Limit of requests per second. None: the bucket does not throttle.
    pub per_second: Option<f64>,
    /// Prefixes that are throttled by themselves, each with its limit of requests per second.
    pub prefixes: Vec<(String, f64)>,
}

/// Limiter of the requests to one bucket.
#[derive(Debug)]
pub(super) struct Limiter {
    process: Arc<Semaphore>,
    permits: Arc<Semaphore>,
    /// Goodput so far: bytes of bodies received, plus 32 KiB ([`policy::ANSWER_BYTES`]) for each response.
    goodput: AtomicU64,
    prefixes: Prefixes,
    state: Mutex<BucketState>,
}

#[derive(Debug)]
struct BucketState {
    concurrency: ConcurrencyLimit,
    /// Number of permits that exist, free or held. If the limit falls, it exceeds the limit until some are released.
    permits: usize,
    hedge: Hedge,
}

impl Limiter {
    fn new(max: usize, process: Arc<Semaphore>) -> Arc<Self> {
        let concurrency = ConcurrencyLimit::new(max);
        let permits = concurrency.size();
        Arc::new(Self {
            process,
            permits: Arc::new(Semaphore::new(permits)),
            goodput: AtomicU64::new(0),
            prefixes: Prefixes::new(Instant::now()),
            state: Mutex::new(BucketState { concurrency, permits, hedge: Hedge::default() }),
        })
    }

    /// Waits until a request for `key` (None: a listing) may be sent. Requests are served first come, first served.
    pub(super) async fn acquire(self: &Arc<Self>, key: Option<&str>) -> Permit {
        let mut passed = [false; 2];
        // This loop ends: `next` returns each of the two rates (the prefix's and the bucket's) at most once.
        loop {
            while let Some(rate) = self.prefixes.next(key, &mut passed) {
                rate.acquire().await;
            }
            // The semaphores are never closed. If one were, its requests would not be limited.
            let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            let process = Arc::clone(&self.process).acquire_owned().await.ok();
            let permit = Permit::new(self, key, permit, process);
            // If a rate began while this request waited for its permits, the rate must admit the request too.
            let Some(rate) = self.prefixes.next(key, &mut passed) else { return permit };
            drop(permit);
            rate.acquire().await;
        }
    }

    /// Adds received bytes of a body to the goodput, by which the limit of requests in flight is judged.
    pub(super) fn received(&self, bytes: u64) {
        self.goodput.fetch_add(bytes, Relaxed);
    }

    /// Returns how long a request for `key` (None: a listing) waits for its first byte before it is hedged.
    pub(super) fn hedge_after(&self, key: Option<&str>) -> Option<Duration> {
        lock(&self.state).hedge.threshold(key)
    }

    /// Returns a permit for a hedge, if one is free now. The hedge does not count towards the bucket's limit of
    /// requests in flight, because the late request still does, until one of the two is dropped
    /// ([`Permit::in_place_of`]).
    pub(super) fn try_hedge(self: &Arc<Self>, key: Option<&str>) -> Option<Permit> {
        // While the bucket throttles, no request is hedged, because more requests would not make it faster.
        if self.prefixes.next(key, &mut [false; 2]).is_some() {
            return None;
        }
        let process = Arc::clone(&self.process).try_acquire_owned().ok()?;
        let is_allowed = lock(&self.state).hedge.take();
        is_allowed.then(|| Permit::new(self, key, None, Some(process)))
    }

    fn snapshot(&self, bucket: String) -> BucketLimits {
        let window = lock(&self.state).concurrency.size();
        let (per_second, prefixes) = (self.prefixes.bucket.per_second(), self.prefixes.limited());
        BucketLimits { bucket, window, per_second, prefixes }
    }

    /// Adapts the number of existing permits to `size`, the new limit of requests in flight.
    fn resize(&self, state: &mut BucketState, size: usize) {
        if size != state.permits {
            tracing::debug!(target: TARGET, before = state.permits, now = size, "requests in flight: the limit changed");
        }
        if size > state.permits {
            self.permits.add_permits(size - state.permits);
            state.permits = size;
        } else {
            state.permits -= self.permits.forget_permits(state.permits - size);
        }
    }
}

/// A permit is the right to have one request in flight. Dropping it releases that right.
#[derive(Debug)]
pub(super) struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    _process: Option<OwnedSemaphorePermit>,
    limiter: Arc<Limiter>,
    key: Option<Box<str>>,
    sent: Instant,
}

impl Permit {
    fn new(
        limiter: &Arc<Limiter>,
        key: Option<&str>,
        permit: Option<OwnedSemaphorePermit>,
        process: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let (limiter, key) = (Arc::clone(limiter), key.map(Into::into));
        Self { permit, _process: process, limiter, key, sent: Instant::now() }
    }

    /// Records that the headers of a successful response have arrived.
    pub(super) fn answered(&self) {
        let (limiter, now) = (&*self.limiter, Instant::now());
        limiter.prefixes.answered(self.key.as_deref(), now, self.sent, false);
        let latency = now.saturating_duration_since(self.sent);
        let goodput = limiter.goodput.fetch_add(policy::ANSWER_BYTES, Relaxed);
        let is_full = limiter.permits.available_permits() == 0;
        let mut state = lock(&limiter.state);
        state.hedge.answered(self.key.as_deref(), latency);
        state.concurrency.answered(now, latency, goodput, is_full);
        let size = state.concurrency.size();
        limiter.resize(&mut state, size);
    }

    /// Records that the bucket asked for fewer requests (503).
    pub(super) fn throttled(&self) {
        self.limiter.prefixes.answered(self.key.as_deref(), Instant::now(), self.sent, true);
    }

    /// Takes over the place that `straggler`, the late request's permit, has in the limit of requests in flight.
    pub(super) fn in_place_of(mut self, mut straggler: Self) -> Self {
        self.permit = straggler.permit.take();
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = lock(&self.limiter.state);
        if state.permits > state.concurrency.size()
            && let Some(permit) = self.permit.take()
        {
            state.permits -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn the_cap_holds_over_all_buckets_and_stores_share_their_buckets() {
        let limits = ProcessLimiter::new(Some(3));
        assert_eq!(limits.window(), None);
        let (a, b) = (limits.of_bucket(None, "a"), limits.of_bucket(Some("http://h:1"), "b"));
        assert!(Arc::ptr_eq(&a, &limits.of_bucket(None, "a")));
        assert!(!Arc::ptr_eq(&a, &b));
        assert_eq!(limits.window(), Some(3));
        let mut held = vec![a.acquire(None).await, a.acquire(Some("k")).await, b.acquire(None).await];
        assert!(b.acquire(None).now_or_never().is_none());
        let in_flight = || [&a, &b].map(|l| lock(&l.state).concurrency.size() - l.permits.available_permits());
        // The request that had to wait holds no permit of its own bucket meanwhile.
        assert_eq!((in_flight(), limits.permits.available_permits()), ([2, 1], 0));
        held.swap_remove(1);
        drop(b.acquire(None).await);
        drop(held);
        assert_eq!((in_flight(), limits.permits.available_permits()), ([0, 0], 3));
    }

    #[tokio::test]
    async fn permits_follow_the_window_also_while_they_are_held() {
        let limiter = Limiter::new(64, Arc::new(Semaphore::new(64)));
        let size = policy::FIRST_REQUESTS;
        let mut out = Vec::new();
        for _ in 0..size {
            out.push(limiter.acquire(None).await);
        }
        let free = || limiter.permits.available_permits();
        let resize = |to: usize| limiter.resize(&mut lock(&limiter.state), to);
        let existing = || lock(&limiter.state).permits;
        // A higher limit of requests in flight adds free permits, and a lower one removes them again.
        resize(size + 10);
        assert_eq!((free(), existing()), (10, size + 10));
        resize(size);
        assert_eq!((free(), existing()), (0, size));
        resize(size - 10);
        assert_eq!((free(), existing()), (0, size));
        resize(size + 1);
        assert_eq!((free(), existing()), (1, size + 1));
        // The limit is `size`, and one permit too many exists: it is destroyed when released, the others become free.
        out.truncate(size - 4);
        assert_eq!((free(), existing()), (4, size));
        out.clear();
        assert_eq!((free(), existing()), (size, size));
    }

    #[tokio::test]
    async fn what_is_sent_in_a_stragglers_stead_counts_as_it_did() {
        let limiter = Limiter::new(1, Arc::new(Semaphore::new(2)));
        for _ in 0..100 {
            limiter.acquire(Some("key")).await.answered();
        }
        let straggler = limiter.acquire(Some("key")).await;
        let hedge = limiter.try_hedge(Some("key")).unwrap().in_place_of(straggler);
        let second = limiter.acquire(Some("key")).now_or_never();
        assert!(second.is_none(), "two bodies are read where one may be");
        drop(hedge);
        drop(limiter.acquire(Some("key")).await);
    }

    #[tokio::test]
    async fn a_throttled_prefix_waits_and_others_do_not() {
        let limiter = Limiter::new(64, Arc::new(Semaphore::new(64)));
        let prefixes = &limiter.prefixes;
        let begun = Instant::now();
        let snapshot = || limiter.snapshot(String::new());
        // The bucket answers every second request for prefix b with 503, whatever the rate of requests.
        for i in 0..1000_u32 {
            let sent = begun + Duration::from_millis(4) * i;
            prefixes.answered(Some("a/x/1"), sent, sent, false);
            prefixes.answered(Some("b/x/1"), sent, sent, snapshot().prefixes.is_empty() && i % 2 == 0);
        }
        let snapshot = snapshot();
        assert_eq!(snapshot.per_second, None);
        assert_eq!(snapshot.prefixes.len(), 1, "{snapshot:?}");
        assert_eq!(snapshot.prefixes[0].0, "b/x");
        assert!(limiter.try_hedge(Some("b/x/2")).is_none());
        // 500 requests for prefix b wait. A request for prefix a must not wait behind them.
        let mut queue = Vec::new();
        for _ in 0..500 {
            let limiter = limiter.clone();
            queue.push(tokio::spawn(async move { drop(limiter.acquire(Some("b/x/1")).await) }));
        }
        tokio::task::yield_now().await;
        assert!(limiter.acquire(Some("a/x/1")).now_or_never().is_some());
        assert!(queue.iter().filter(|q| !q.is_finished()).count() > 400);
        queue.into_iter().for_each(|q| q.abort());
    }
}
