//! The metrics of a standby (`restore -f -metrics-textfile`), from what its follower tells.

use crate::cli::metrics::PeriodicMetrics;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::Log;
use crate::follow::FollowEvent;
use crate::ltx::Txid;
use crate::metrics::StandbyMetrics;
use crate::process::locks::lock;
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The figures of a standby, as its events tell them.
#[derive(Debug, Default)]
pub(super) struct StandbyFigures(Mutex<Figures>);

#[derive(Debug, Default)]
struct Figures {
    metrics: StandbyMetrics,
    /// Whether requests fail since the last poll that succeeded.
    is_failing: bool,
    /// Whether the poll that runs has failed for another reason.
    has_failed: bool,
}

impl StandbyFigures {
    /// Notes the TXID that the database holds at the end. A change that was in flight then has had no event.
    pub(super) fn ended(&self, txid: Txid) {
        lock(&self.0).metrics.txid = Some(txid);
    }

    /// Notes an event.
    pub(super) fn note(&self, event: &FollowEvent<'_>) {
        let Figures { metrics, is_failing, has_failed } = &mut *lock(&self.0);
        match event {
            FollowEvent::Began { txid } => metrics.txid = Some(*txid),
            FollowEvent::Polled { txid } => {
                metrics.txid = Some(*txid);
                let has_failed = std::mem::take(has_failed);
                if *is_failing || has_failed {
                    metrics.polls_failed += 1;
                } else {
                    metrics.polls_succeeded += 1;
                    metrics.polled = Some(Timestamp::now());
                }
            }
            FollowEvent::Applied { from, to, files, pages, lag, .. } => {
                metrics.changes += 1;
                metrics.transactions += to.0.saturating_sub(from.0);
                metrics.files += *files as u64;
                metrics.pages += pages;
                metrics.lag_seconds = Some(*lag);
                let now = Timestamp::now().as_nanos() / 1_000_000;
                metrics.newest =
                    Some(Timestamp::from_millis(now.saturating_sub(i64::try_from(*lag).unwrap_or(0) * 1000)));
            }
            FollowEvent::Hole { .. } | FollowEvent::Blocked { .. } => metrics.waits += 1,
            FollowEvent::Failing { .. } => *is_failing = true,
            FollowEvent::Recovered => *is_failing = false,
            FollowEvent::DiskFull { .. } => *has_failed = true,
            _ => {}
        }
    }
}

impl StandbyFigures {
    /// Begins to write the file at `path`, if there is to be one, about a standby that is not there yet.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write_to(
        self: &Arc<Self>,
        path: Option<&Path>,
        (source, db_path): (&str, &str),
        counters: &Arc<Counters>,
        log: &Log,
    ) -> Result<PeriodicMetrics, Failure> {
        {
            let metrics = &mut lock(&self.0).metrics;
            (metrics.source, metrics.db_path) = (source.to_owned(), db_path.to_owned());
            metrics.started = Some(Timestamp::now());
        }
        let (figures, counters) = (Arc::clone(self), Arc::clone(counters));
        let text = move |is_running| {
            let metrics = StandbyMetrics {
                received_bytes: counters.bytes_in.get(),
                requests: counters.sent(),
                is_running,
                ..lock(&figures.0).metrics.clone()
            };
            metrics.to_text()
        };
        PeriodicMetrics::start(path, text, log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{StoreError, StoreErrorKind};

    #[test]
    fn polls_count_by_how_they_end() {
        let figures = StandbyFigures::default();
        let error = StoreError {
            kind: StoreErrorKind::Timeout,
            what: String::new(),
            detail: String::new(),
            request_id: None,
            hint: None,
            attempts: 1,
        };
        let polled = || figures.note(&FollowEvent::Polled { txid: Txid(2) });
        let counts = || {
            let metrics = lock(&figures.0).metrics.clone();
            (metrics.polls_succeeded, metrics.polls_failed, metrics.polled.is_some())
        };
        figures.note(&FollowEvent::Failing { error: &error });
        (0..2).for_each(|_| polled());
        assert_eq!(counts(), (0, 2, false));
        figures.note(&FollowEvent::Recovered);
        polled();
        assert_eq!(counts(), (1, 2, true));
        let applied = FollowEvent::Applied { from: Txid(2), to: Txid(7), files: 1, bytes: 9, pages: 3, lag: 4 };
        figures.note(&applied);
        let metrics = lock(&figures.0).metrics.clone();
        assert_eq!((metrics.changes, metrics.transactions, metrics.files, metrics.pages), (1, 5, 1, 3));
        assert_eq!(metrics.lag_seconds, Some(4));
    }
}
