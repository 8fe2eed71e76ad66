//! How many requests go out, shared by all workers (DESIGN engine 7): for each bucket a number in
//! flight that adapts ([`window`]), and once it throttles a number per second ([`rate`]); for the
//! whole process a cap on those in flight ([`Limits`]).
//!
//! Invariants: permits out + permits free + debt paid = the window's size; a permit counts until
//! the body of its answer has been read or dropped. Who waits for the rate holds no permit, so
//! that a throttled prefix does not keep others waiting.

mod apart;
mod hedge;
mod lane;
mod rate;
mod window;

use hedge::{Hedge, Kind};
use lane::{Lane, Lanes};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use window::Window;

/// In flight over all buckets where nothing else is said: for each core so many, within bounds.
const DEFAULT_PER_CORE: usize = 128;
const DEFAULT_BOUNDS: (usize, usize) = (256, 1024);
/// …and so many more that hedge others. A cap that was asked for holds for all.
const HEDGES: usize = 16;

/// The limits of a process: one cap, and the state of each bucket. Clones share them.
#[derive(Debug, Clone)]
pub struct Limits {
    shared: Arc<Process>,
}

#[derive(Debug)]
struct Process {
    max: usize,
    permits: Arc<Semaphore>,
    buckets: Mutex<BTreeMap<String, Limiter>>,
}

/// What the process's requests in flight are bounded by where nothing else is said. More brings
/// nothing that a core could decode, and costs memory.
pub fn default_max_requests() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (DEFAULT_PER_CORE * cores).clamp(DEFAULT_BOUNDS.0, DEFAULT_BOUNDS.1)
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Limits {
    /// At most `max` requests in flight (`--max-requests`), at least 1;
    /// None: [`default_max_requests`].
    pub fn new(max: Option<usize>) -> Self {
        let hedges = if max.is_some() { 0 } else { HEDGES };
        let max = max.unwrap_or_else(default_max_requests).clamp(1, Semaphore::MAX_PERMITS >> 8);
        let permits = Arc::new(Semaphore::new(max + hedges));
        Self { shared: Arc::new(Process { max, permits, buckets: Mutex::default() }) }
    }

    /// The limiter of `bucket` at `endpoint` (None: AWS's): one, however many stores speak to it.
    pub(super) fn of_bucket(&self, endpoint: Option<&str>, bucket: &str) -> Limiter {
        let name = format!("{}/{bucket}", endpoint.unwrap_or("s3:/").trim_end_matches('/'));
        let make = || Limiter::new(self.shared.max, Arc::clone(&self.shared.permits));
        lock(&self.shared.buckets).entry(name).or_insert_with(make).clone()
    }

    /// Requests that may be in flight now over all buckets; None before there is any bucket.
    pub fn window(&self) -> Option<usize> {
        let sizes = lock(&self.shared.buckets).values().map(|l| l.shared.state().window.size()).reduce(|a, b| a + b);
        sizes.map(|sum| sum.min(self.shared.max))
    }

    /// Requests per second that the buckets and prefixes which throttle allow together; None
    /// where none does.
    pub fn per_second(&self) -> Option<u64> {
        let rates = self
            .snapshot()
            .into_iter()
            .flat_map(|b| b.per_second.into_iter().chain(b.prefixes.into_iter().map(|p| p.1)));
        rates.reduce(|a, b| a + b).map(|sum| sum.round() as u64)
    }

    /// Whether any bucket, or any prefix in one, throttles.
    pub fn is_throttled(&self) -> bool {
        lock(&self.shared.buckets).values().any(|limiter| limiter.shared.lanes.any_limited())
    }

    /// The state of each bucket, by name.
    pub fn snapshot(&self) -> Vec<BucketLimits> {
        let buckets: Vec<_> = lock(&self.shared.buckets).iter().map(|(n, l)| (n.clone(), l.clone())).collect();
        buckets.into_iter().map(|(bucket, limiter)| limiter.snapshot(bucket)).collect()
    }
}

/// What one bucket allows, as far as it is known.
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
pub struct Limiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    process: Arc<Semaphore>,
    permits: Arc<Semaphore>,
    /// Who waits for a permit.
    waiting: AtomicUsize,
    /// Sum of all that came: bytes, and [`window::ANSWER_BYTES`] for each answer.
    goodput: AtomicU64,
    lanes: Lanes,
    state: Mutex<State>,
    /// `state.debt` is not 0.
    in_debt: AtomicBool,
    /// The hedge's thresholds, in microseconds; 0: unknown.
    hedge_object_after_us: AtomicU64,
    hedge_listing_after_us: AtomicU64,
}

#[derive(Debug)]
struct State {
    window: Window,
    /// Permits to be taken away when they come back.
    debt: usize,
    hedge: Hedge,
}

impl Limiter {
    fn new(max: usize, process: Arc<Semaphore>) -> Self {
        let window = Window::new(max);
        let permits = Arc::new(Semaphore::new(window.size()));
        let state = Mutex::new(State { window, debt: 0, hedge: Hedge::default() });
        Self {
            shared: Arc::new(Shared {
                process,
                permits,
                waiting: AtomicUsize::new(0),
                goodput: AtomicU64::new(0),
                lanes: Lanes::default(),
                state,
                in_debt: AtomicBool::new(false),
                hedge_object_after_us: AtomicU64::new(0),
                hedge_listing_after_us: AtomicU64::new(0),
            }),
        }
    }

    /// Waits, first come first served, for leave to send one request for `key` (None: a listing).
    pub async fn acquire(&self, key: Option<&str>) -> Permit {
        let lane = key.and_then(|key| self.shared.lanes.of(key));
        let lanes = || lane.as_deref().into_iter().chain([self.shared.lanes.bucket()]);
        let mut has_leave = [false; 2];
        // Three turns at most: each but the last gets leave from a lane that had not given it.
        loop {
            for (lane, has_leave) in lanes().zip(&mut has_leave) {
                if !*has_leave && lane.is_limited() {
                    lane.leave().await;
                    *has_leave = true;
                }
            }
            let _waits = Waits::new(&self.shared.waiting);
            // The semaphores are never closed; were they, requests would go unlimited, not fail.
            let permit = Arc::clone(&self.shared.permits).acquire_owned().await.ok();
            let process = Arc::clone(&self.shared.process).acquire_owned().await.ok();
            let taken = Permit::new(&self.shared, kind_of(key), lane.clone(), permit, process);
            // Throttled since: who came in without leave queues for it first.
            if lanes().zip(&has_leave).all(|(lane, has_leave)| *has_leave || !lane.is_limited()) {
                return taken;
            }
        }
    }

    /// Bytes of a body came.
    pub fn received(&self, bytes: u64) {
        self.shared.goodput.fetch_add(bytes, Relaxed);
    }

    /// How long to wait for a first byte of `key` (None: of a listing) before another request is
    /// sent in its stead.
    pub fn hedge_after(&self, key: Option<&str>) -> Option<Duration> {
        let micros = self.shared.hedge_after_us(kind_of(key)).load(Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// Leave for a request in another's stead, if there is room for one at once. It does not
    /// count for the window: the straggler does, until one of them is given up
    /// ([`Permit::in_place_of`]).
    pub fn try_hedge(&self, key: Option<&str>) -> Option<Permit> {
        let lane = key.and_then(|key| self.shared.lanes.of(key));
        let limited = lane.as_ref().is_some_and(|lane| lane.is_limited()) || self.shared.lanes.bucket().is_limited();
        // A bucket that throttles is slow for another reason.
        if limited {
            return None;
        }
        let process = Arc::clone(&self.shared.process).try_acquire_owned().ok()?;
        let taken = self.shared.state().hedge.take();
        taken.then(|| Permit::new(&self.shared, kind_of(key), lane, None, Some(process)))
    }

    fn snapshot(&self, bucket: String) -> BucketLimits {
        BucketLimits {
            bucket,
            window: self.shared.state().window.size(),
            per_second: self.shared.lanes.bucket().per_second(),
            prefixes: self.shared.lanes.limited(),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    const fn hedge_after_us(&self, kind: Kind) -> &AtomicU64 {
        match kind {
            Kind::Object => &self.hedge_object_after_us,
            Kind::Listing => &self.hedge_listing_after_us,
        }
    }

    fn answered(&self, kind: Kind, lane: Option<&Lane>, sent: Instant, throttled: bool) {
        let now = Instant::now();
        self.lanes.answered(lane, now, sent, throttled);
        if throttled {
            return;
        }
        let latency = now.saturating_duration_since(sent);
        let goodput = self.goodput.fetch_add(window::ANSWER_BYTES, Relaxed);
        let is_full = self.waiting.load(Relaxed) > 0;
        let mut state = self.state();
        state.hedge.answered(kind, latency);
        let threshold = state.hedge.threshold(kind).map_or(0, |t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX));
        self.hedge_after_us(kind).store(threshold, Relaxed);
        state.window.answered(latency);
        let before = state.window.size();
        if state.window.measure(now, goodput, is_full) {
            self.resize(&mut state, before);
        }
    }

    /// Makes the permits as many as the window says; `before` was its size.
    fn resize(&self, state: &mut State, before: usize) {
        let size = state.window.size();
        if size >= before {
            let more = size - before;
            let paid = more.min(state.debt);
            state.debt -= paid;
            self.permits.add_permits(more - paid);
        } else {
            state.debt += (before - size) - self.permits.forget_permits(before - size);
        }
        self.in_debt.store(state.debt > 0, Relaxed);
    }
}

/// One that waits, for as long as this lives.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Leave to have one request in flight; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    _process: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
    kind: Kind,
    lane: Option<Arc<Lane>>,
    sent: Instant,
}

impl Permit {
    fn new(
        shared: &Arc<Shared>,
        kind: Kind,
        lane: Option<Arc<Lane>>,
        permit: Option<OwnedSemaphorePermit>,
        process: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { permit, _process: process, shared: Arc::clone(shared), kind, lane, sent: Instant::now() }
    }

    /// The request was answered, the body is still to come.
    pub fn answered(&self) {
        self.shared.answered(self.kind, self.lane.as_deref(), self.sent, false);
    }

    /// The bucket asked for fewer requests.
    pub fn throttled(&self) {
        self.shared.answered(self.kind, self.lane.as_deref(), self.sent, true);
    }

    /// Counts for the window as the `straggler` did, which is given up for this.
    pub fn in_place_of(mut self, mut straggler: Self) -> Self {
        self.permit = straggler.permit.take();
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.shared.in_debt.load(Relaxed) {
            return;
        }
        let mut state = self.shared.state();
        if state.debt > 0
            && let Some(permit) = self.permit.take()
        {
            state.debt -= 1;
            self.shared.in_debt.store(state.debt > 0, Relaxed);
            permit.forget();
        }
    }
}

fn kind_of(key: Option<&str>) -> Kind {
    if key.is_some() { Kind::Object } else { Kind::Listing }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_cap_holds_over_all_buckets_and_stores_share_their_buckets() {
        let limits = Limits::new(Some(3));
        assert_eq!(limits.window(), None);
        let (a, b) = (limits.of_bucket(None, "a"), limits.of_bucket(Some("http://h:1"), "b"));
        assert!(Arc::ptr_eq(&a.shared, &limits.of_bucket(None, "a").shared));
        assert!(!Arc::ptr_eq(&a.shared, &b.shared));
        assert_eq!(limits.window(), Some(3));
        let mut held = vec![a.acquire(None).await, a.acquire(Some("k")).await, b.acquire(None).await];
        let waits = tokio::time::timeout(Duration::from_millis(20), b.acquire(None)).await;
        assert!(waits.is_err());
        let in_flight = || [&a, &b].map(|l| l.shared.state().window.size() - l.shared.permits.available_permits());
        // The one that waited has given back what it had.
        assert_eq!((in_flight(), limits.shared.permits.available_permits()), ([2, 1], 0));
        held.swap_remove(1);
        drop(b.acquire(None).await);
        drop(held);
        assert_eq!((in_flight(), limits.shared.permits.available_permits()), ([0, 0], 3));
    }

    #[tokio::test]
    async fn permits_follow_the_window_and_debts_are_paid() {
        let limiter = Limiter::new(64, Arc::new(Semaphore::new(64)));
        let size = window::BEGIN;
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
        let limiter = Limiter::new(1, Arc::new(Semaphore::new(2)));
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
        let limiter = Limiter::new(64, Arc::new(Semaphore::new(64)));
        let lanes = &limiter.shared.lanes;
        let (cold, hot, now) = (lanes.of("a/x/1"), lanes.of("b/x/1"), Instant::now());
        for i in 0..400_u64 {
            let sent = now + Duration::from_millis(4 * i);
            lanes.answered(cold.as_deref(), sent, sent, false);
            lanes.answered(hot.as_deref(), sent, sent, i < 250 && i % 2 == 0);
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
