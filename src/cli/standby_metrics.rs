//! Writes the metrics of a standby (`restore -f -metrics-textfile`) while it is followed: at the start, every 15 s, and at
//! the end. A thread of its own writes, so a slow disk does not hold the follower up.

use crate::cli::metrics::{cannot_write, open};
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, Severity};
use crate::follow::FollowEvent;
use crate::ltx::Txid;
use crate::metrics::{MetricsTextfile, StandbyMetrics};
use crate::process::locks::lock;
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The file is written every 15 s: Prometheus scrapes every 15 s to 60 s.
const WRITE_EVERY: Duration = Duration::from_secs(15);

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
                if *is_failing || std::mem::take(has_failed) {
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

/// The file of a follower that runs, and the thread that writes it.
pub(super) struct StandbyMetricsOutput {
    writer: Option<Arc<MetricsWriter>>,
    /// Dropped, it ends the thread.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct MetricsWriter {
    path: PathBuf,
    figures: Arc<StandbyFigures>,
    counters: Arc<Counters>,
    log: Log,
}

impl StandbyMetricsOutput {
    /// Begins to write the file at `path`, if there is to be one. To be called before the database is restored.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn start(
        path: Option<&Path>,
        (source, db_path): (&str, &str),
        figures: &Arc<StandbyFigures>,
        counters: &Arc<Counters>,
        log: &Log,
    ) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self { writer: None, running: None, thread: None }) };
        // So that a file that cannot be written is found out at once.
        drop(open(path, log)?);
        {
            let metrics = &mut lock(&figures.0).metrics;
            (metrics.source, metrics.db_path) = (source.to_owned(), db_path.to_owned());
            (metrics.started, metrics.is_running) = (Some(Timestamp::now()), true);
        }
        let (figures, counters) = (Arc::clone(figures), Arc::clone(counters));
        let writer = Arc::new(MetricsWriter { path: path.to_owned(), figures, counters, log: log.clone() });
        let (running, is_running) = mpsc::channel::<()>();
        let by = Arc::clone(&writer);
        let thread = std::thread::Builder::new().name("metrics".to_owned()).stack_size(128 << 10).spawn(move || {
            let mut is_failing = false;
            // Ends when `running` is dropped.
            loop {
                is_failing = by.write(is_failing);
                if is_running.recv_timeout(WRITE_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        // Without the thread, the file is written at the end.
        Ok(Self { writer: Some(writer), running: Some(running), thread: thread.ok() })
    }

    /// Writes the file for the last time: the follower has ended.
    pub(super) fn finish(mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(writer) = &self.writer {
            lock(&writer.figures.0).metrics.is_running = false;
            writer.write(false);
        }
    }
}

impl MetricsWriter {
    /// Writes the file. That it cannot be written is a warning, unless the last attempt has failed too. Returns whether
    /// it could not.
    fn write(&self, has_failed: bool) -> bool {
        let written = self.try_write();
        if let (Err(error), false) = (&written, has_failed) {
            let text = format!("{}: {error}", cannot_write(&self.path));
            self.log.essential(Severity::Warn, &text, &[]);
        }
        written.is_err()
    }

    fn try_write(&self) -> io::Result<()> {
        let metrics = StandbyMetrics {
            received_bytes: self.counters.bytes_in.get(),
            requests: self.counters.sent(),
            ..lock(&self.figures.0).metrics.clone()
        };
        MetricsTextfile::create(&self.path)?.write_text(&metrics.to_text())
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
