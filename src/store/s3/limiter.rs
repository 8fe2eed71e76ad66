//! The cap on requests in flight to one bucket, shared by all workers.
//!
//! Invariant: permits out + permits free + debt paid = limit; a permit counts until the body of
//! its answer has been read or dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// In flight where nothing else is said.
const DEFAULT_LIMIT: usize = 256;
/// Even under throttling this many go on.
const MIN_LIMIT: usize = 4;
const CUT_EVERY: Duration = Duration::from_secs(1);

/// Cuts to 0.7 of what it was, at most once a second, when the bucket throttles; grows by one
/// for as many successes as the limit is wide (DESIGN engine 7).
#[derive(Debug, Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    max: usize,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// Permits to be taken away when they come back.
    debt: usize,
    successes: usize,
    cut_at: Option<Instant>,
}

impl Limiter {
    /// At most `max` in flight (`--max-requests`), at least 1.
    pub fn new(max: Option<usize>) -> Self {
        let max = max.unwrap_or(DEFAULT_LIMIT).clamp(1, Semaphore::MAX_PERMITS >> 8);
        let state = State { limit: max, debt: 0, successes: 0, cut_at: None };
        Self { shared: Arc::new(Shared { permits: Arc::new(Semaphore::new(max)), state: Mutex::new(state), max }) }
    }

    /// Waits, first come first served, for leave to send one request.
    pub async fn acquire(&self) -> Permit {
        // The semaphore is never closed; were it, requests would go unlimited, not fail.
        let permit = Arc::clone(&self.shared.permits).acquire_owned().await.ok();
        Permit { permit, shared: Arc::clone(&self.shared) }
    }

    /// An answer was read to its end, `latency` after it was asked for.
    pub fn on_success(&self, _latency: Duration, _bytes: u64) {
        let mut state = self.shared.state();
        if state.limit >= self.shared.max {
            return;
        }
        state.successes += 1;
        if state.successes >= state.limit {
            state.successes = 0;
            state.limit += 1;
            if state.debt > 0 {
                state.debt -= 1;
            } else {
                self.shared.permits.add_permits(1);
            }
        }
    }

    /// The bucket asked for fewer requests.
    pub fn on_throttle(&self) {
        let mut state = self.shared.state();
        if state.cut_at.is_some_and(|at| at.elapsed() < CUT_EVERY) {
            return;
        }
        state.cut_at = Some(Instant::now());
        let limit = (state.limit * 7 / 10).max(MIN_LIMIT).min(state.limit);
        let excess = state.limit - limit;
        state.limit = limit;
        state.successes = 0;
        state.debt += excess - self.shared.permits.forget_permits(excess);
    }

    #[cfg(test)]
    fn limit(&self) -> usize {
        self.shared.state().limit
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to have one request in flight; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn cuts_once_a_second_pays_debts_and_grows_again() {
        let limiter = Limiter::new(Some(10));
        let mut out = Vec::new();
        for _ in 0..9 {
            out.push(limiter.acquire().await);
        }
        limiter.on_throttle();
        limiter.on_throttle();
        assert_eq!(limiter.limit(), 7);
        // One was free and is gone; two of those out are owed.
        assert_eq!(limiter.shared.permits.available_permits(), 0);
        out.truncate(7);
        assert_eq!(limiter.shared.permits.available_permits(), 0);
        out.truncate(6);
        assert_eq!(limiter.shared.permits.available_permits(), 1);
        for _ in 0..7 {
            limiter.on_success(Duration::ZERO, 0);
        }
        assert_eq!((limiter.limit(), limiter.shared.permits.available_permits()), (8, 2));
        for _ in 0..1000 {
            limiter.on_success(Duration::ZERO, 0);
        }
        out.clear();
        assert_eq!((limiter.limit(), limiter.shared.permits.available_permits()), (10, 10));
    }

    #[test]
    fn never_below_the_floor_nor_above_a_small_cap() {
        let limiter = Limiter::new(Some(2));
        limiter.on_throttle();
        assert_eq!(limiter.limit(), 2);
        assert_eq!(Limiter::new(Some(0)).limit(), 1);
    }
}
