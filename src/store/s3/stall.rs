//! When an operation ends for want of progress (docs/ARCHITECTURE.md, "S3 odds and ends").
//!
//! The clock of an operation runs while one of its requests is out or waits to be repeated. It stands still while the
//! caller does something else, and while a request waits for its turn (limits, credentials).

use super::S3;
use super::classify::{RequestError, RetryAction};
use super::reach::{StartWait, Unreachable, seconds};
use super::retry::{FIRST_CONNECTS, RetryState, pause_after};
use super::send::Operation;
use crate::store::StoreErrorKind;
use http::Method;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

/// How long an operation goes on without progress at an endpoint that counts as dead.
const DEAD_PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause between two attempts to connect to a service that is not up yet.
const START_PAUSE: Duration = Duration::from_secs(1);

impl S3 {
    /// How much longer the operation may go on without progress.
    pub(super) fn patience(&self, tries: &RetryState) -> Duration {
        self.stall_limit().saturating_sub(tries.stalled)
    }

    fn stall_limit(&self) -> Duration {
        let limit = self.timeouts.stall;
        if self.reach.is_dead() { limit.min(DEAD_PATIENCE) } else { limit }
    }

    /// Bytes of a body have arrived, or the headers of an answer that has no body.
    pub(super) fn note_progress(&self) {
        let now = u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_success_ms.fetch_max(now.max(1), Relaxed);
        self.reach.progressed();
    }

    /// The error that ends an operation without progress; None while it may go on. `last` is its latest failure.
    pub(super) fn stalled(
        &self,
        last: &RequestError,
        operation: &Operation<'_>,
        tries: &RetryState,
    ) -> Option<RequestError> {
        if !self.patience(tries).is_zero() {
            return None;
        }
        let awaited = match (operation.range(), &operation.method) {
            (Some(range), _) => format!("bytes {range}"),
            (None, &Method::HEAD) => "an answer".to_owned(),
            (None, _) => "more keys".to_owned(),
        };
        let detail = format!(
            "no progress for {} (--stall-timeout) while waiting for {awaited}; last: {}",
            seconds(tries.stalled),
            last.error.detail
        );
        self.reach.stalled(self.timeouts.stall);
        let mut error = RequestError::new(StoreErrorKind::Stalled, detail, RetryAction::None).of(last.sent);
        error.error.request_id.clone_from(&last.error.request_id);
        error.error.hint = Some("the service or the network hangs: try again later".to_owned());
        Some(error)
    }

    /// The pause before another attempt to connect to an endpoint that has never answered. None: it was waited for
    /// long enough. Says so in `error`.
    pub(super) fn pause_for_start(
        &self,
        why: &Unreachable,
        error: &mut String,
        latency: Duration,
        tries: &mut RetryState,
    ) -> Option<Duration> {
        // The time to connect at first has a limit of its own.
        tries.stalled = Duration::ZERO;
        tries.unreached += 1;
        let now = Instant::now();
        let begun = now.checked_sub(latency).unwrap_or(now);
        let pause = pause_after(&self.retries, tries.unreached).min(START_PAUSE);
        match self.reach.wait_for_start(why, begun, self.timeouts.start, &self.announcer) {
            StartWait::Left(left) => Some(pause.min(left)),
            StartWait::Over { waited, was_over } => {
                if waited >= START_PAUSE {
                    error.push_str(&format!(", for {} (--connect-timeout)", seconds(waited)));
                }
                // An operation that begins after the wait has one attempt.
                let is_late = was_over && tries.unreached == 1;
                (!is_late && tries.unreached < FIRST_CONNECTS).then_some(pause)
            }
        }
    }
}
