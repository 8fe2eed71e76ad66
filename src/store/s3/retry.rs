//! Retries: exponential backoff with full jitter, a token bucket that all requests to one S3 bucket share, and
//! the attempts of one operation.

use super::options::Retries;
use crate::process::backoff::backoff;
use crate::process::locks::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What has been tried so far for one operation, to decide whether a further retry is allowed.
#[derive(Debug, Clone, Default)]
pub(super) struct RetryState {
    /// Number of requests sent for the operation so far.
    pub(super) sent: u32,
    /// Number of failures in a row, since new bytes of the body last arrived.
    pub(super) failed: u32,
    /// Number of responses that contradicted the request, since new bytes of the body last arrived.
    pub(super) invalid_responses: u32,
    pub(super) refreshed: u32,
    pub(super) relocated: u32,
    pub(super) clock_set: bool,
    /// Failures to connect to an endpoint that has never answered.
    pub(super) unreached: u32,
    /// The time in which a request was out or waited to be repeated, since the last progress.
    pub(super) stalled: Duration,
    /// Bytes that the caller has taken since `stalled` was last reset.
    taken: u64,
}

/// Fewer bytes than this do not count as progress.
pub(super) const PROGRESS_BYTES: u64 = 16 << 10;
/// Attempts to connect, if the time to wait for a service is shorter than they take.
pub(super) const FIRST_CONNECTS: u32 = 4;

impl RetryState {
    /// Notes that new bytes have arrived. Earlier failures then no longer count.
    pub(super) fn progressed(&mut self) {
        self.failed = 0;
        self.invalid_responses = 0;
        self.refreshed = 0;
    }

    /// The caller took `bytes` of the body. Once they are many, or the last, the time without progress begins anew.
    pub(super) fn took(&mut self, bytes: u64, is_last: bool) {
        self.taken = self.taken.saturating_add(bytes);
        if is_last || self.taken >= PROGRESS_BYTES {
            (self.stalled, self.taken) = (Duration::ZERO, 0);
        }
    }
}

/// Returns the pause after `failed` failures in a row. Its maximum doubles with each failure, and the pause is
/// a random part of the maximum (full jitter).
pub(super) fn pause_after(retries: &Retries, failed: u32) -> Duration {
    backoff(retries.base, failed.saturating_sub(1), retries.cap, 0.0..1.0)
}

/// Retry tokens that are added per second, however many requests fail.
const FLOOR_PER_SECOND: f64 = 20.0;
const CAPACITY: f64 = 500.0;
const PER_SUCCESS: f64 = 2.0;
/// Maximum debt in tokens. At 20 tokens per second it is paid in 20 s, which is the longest wait.
const DEBT: f64 = 20.0 * FLOOR_PER_SECOND;

/// Tokens that limit the retries of all requests to one S3 bucket. A retry costs one token, and a successful
/// request adds two. If many requests fail, the bucket of tokens is empty, and retries continue at
/// [`FLOOR_PER_SECOND`]. Retries then do not multiply the load, and the restore still goes on.
#[derive(Debug)]
pub(super) struct RetryTokenBucket {
    state: Mutex<(f64, Instant)>,
}

impl Default for RetryTokenBucket {
    fn default() -> Self {
        Self { state: Mutex::new((CAPACITY, Instant::now())) }
    }
}

impl RetryTokenBucket {
    pub(super) fn on_success(&self) {
        let mut state = lock(&self.state);
        state.0 = (state.0 + PER_SUCCESS).min(CAPACITY);
    }

    /// Takes a token, on credit if there is none. Returns how long to wait until the token exists.
    pub(super) fn take(&self, now: Instant) -> Duration {
        let mut state = lock(&self.state);
        let refilled = now.duration_since(state.1).as_secs_f64() * FLOOR_PER_SECOND;
        state.1 = now;
        state.0 = ((state.0 + refilled).min(CAPACITY) - 1.0).max(-DEBT);
        if state.0 >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-state.0 / FLOOR_PER_SECOND) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap() {
        let retries = Retries::default();
        let most = |failed| (0..500).map(|_| pause_after(&retries, failed)).max().unwrap();
        assert!(most(1) <= retries.base);
        assert!(most(4) <= retries.base * 8 && most(4) > retries.base * 4);
        assert!(most(u32::MAX) <= retries.cap);
    }

    #[test]
    fn a_trickle_is_no_progress() {
        let mut tries = RetryState { stalled: Duration::from_secs(9), ..RetryState::default() };
        tries.took(PROGRESS_BYTES / 2, false);
        assert_eq!(tries.stalled, Duration::from_secs(9));
        tries.took(PROGRESS_BYTES / 2, false);
        assert_eq!(tries.stalled, Duration::ZERO);
        tries.stalled = Duration::from_secs(9);
        tries.took(PROGRESS_BYTES / 2, false);
        assert_eq!(tries.stalled, Duration::from_secs(9), "bytes before the last progress do not count again");
        tries.took(1, true);
        assert_eq!(tries.stalled, Duration::ZERO);
    }

    #[test]
    fn a_storm_is_slowed_not_stopped_and_successes_refill() {
        let tokens = RetryTokenBucket::default();
        let now = Instant::now();
        let waits: Vec<Duration> = (0..600).map(|_| tokens.take(now)).collect();
        assert_eq!(waits[499], Duration::ZERO);
        assert_eq!(waits[599], Duration::from_secs(5));
        // One second later 20 tokens have been added. This call takes one of them.
        assert_eq!(tokens.take(now + Duration::from_secs(1)), Duration::from_millis(4050));
        for _ in 0..200 {
            tokens.on_success();
        }
        assert_eq!(tokens.take(now), Duration::ZERO);
    }
}
