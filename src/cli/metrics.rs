//! Writes the metrics of a run (`-metrics-textfile`) when it has ended, however it has ended. Those of a command that goes
//! on are written meanwhile, too.

use crate::cli::failures::is_same_file;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, Severity};
use crate::error::Class;
use crate::metrics::{AgeHistogram, MetricsTextfile, RequestOutcomes, RunMetrics};
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The file is written every 15 s: Prometheus scrapes every 15 s to 60 s.
const WRITE_EVERY: Duration = Duration::from_secs(15);

/// The metrics file of a run that has begun.
pub(super) struct MetricsOutput<'a> {
    file: Option<(PathBuf, MetricsTextfile)>,
    started: Timestamp,
    begun: Instant,
    log: &'a Log,
}

impl<'a> MetricsOutput<'a> {
    /// Begins the file, if there is to be one. To be called at the beginning of the run.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn open(path: Option<&Path>, log: &'a Log) -> Result<Self, Failure> {
        let file = path.map(|path| Ok((path.to_owned(), open(path, log)?))).transpose()?;
        Ok(Self { file, started: Timestamp::now(), begun: Instant::now(), log })
    }

    /// Writes the metrics that `figures` makes of those that all commands have. That they cannot be written is a
    /// warning: the databases are restored.
    pub(super) fn write(self, counters: &Counters, figures: impl FnOnce(RunMetrics) -> RunMetrics) {
        let Some((path, file)) = self.file else { return };
        let common = common(self.started, self.begun.elapsed(), counters);
        if let Err(e) = file.write(&figures(common)) {
            self.log.essential(Severity::Warn, &format!("{}: {e}", cannot_write(&path)), &[]);
        }
    }
}

/// The metrics file of a command that goes on: it is written at the start, every 15 s, and at the end. A thread of its own
/// writes, so a slow disk does not hold the command up.
pub(super) struct PeriodicMetrics {
    writer: Option<Arc<MetricsWriter>>,
    /// Dropped, it ends the thread.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct MetricsWriter {
    path: PathBuf,
    /// The metrics, while the command runs or at its end.
    text: Box<dyn Fn(bool) -> String + Send + Sync>,
    log: Log,
}

impl PeriodicMetrics {
    /// Begins to write the file at `path`, if there is to be one. `text` gives the metrics, and is told whether the command
    /// runs. To be called before anything is done.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn start(
        path: Option<&Path>,
        text: impl Fn(bool) -> String + Send + Sync + 'static,
        log: &Log,
    ) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self { writer: None, running: None, thread: None }) };
        // So that a file that cannot be written is found out at once.
        drop(open(path, log)?);
        let writer = Arc::new(MetricsWriter { path: path.to_owned(), text: Box::new(text), log: log.clone() });
        let (running, is_running) = mpsc::channel::<()>();
        let by = Arc::clone(&writer);
        let thread = std::thread::Builder::new().name("metrics".to_owned()).stack_size(128 << 10).spawn(move || {
            let mut is_failing = false;
            // Ends when `running` is dropped.
            loop {
                is_failing = by.write(true, is_failing);
                if is_running.recv_timeout(WRITE_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        // Without the thread, the file is written at the end.
        Ok(Self { writer: Some(writer), running: Some(running), thread: thread.ok() })
    }

    /// Writes the file for the last time: the command ends.
    pub(super) fn finish(mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(writer) = &self.writer {
            writer.write(false, false);
        }
    }
}

impl MetricsWriter {
    /// Writes the file. That it cannot be written is a warning, unless the last attempt has failed too. Returns whether
    /// it could not.
    fn write(&self, is_running: bool, has_failed: bool) -> bool {
        let text = (self.text)(is_running);
        let written = MetricsTextfile::create(&self.path).and_then(|file| file.write_text(&text));
        if let (Err(error), false) = (&written, has_failed) {
            let text = format!("{}: {error}", cannot_write(&self.path));
            self.log.essential(Severity::Warn, &text, &[]);
        }
        written.is_err()
    }
}

/// Creates the metrics file under a temporary name.
///
/// # Errors
/// It cannot be written.
fn open(path: &Path, log: &Log) -> Result<MetricsTextfile, Failure> {
    if !MetricsTextfile::is_collected(path) {
        log.warn(&format!("{}: node_exporter reads only files whose names end in .prom", path.display()));
    }
    MetricsTextfile::create(path).map_err(|e| Failure::failed(Class::Io, format!("{}: {e}", cannot_write(path))))
}

/// Refuses a metrics file that would be the database itself.
///
/// # Errors
/// It would, or the current directory cannot be read.
pub(super) fn refuse_output(metrics: &Path, output: &Path) -> Result<(), Failure> {
    if !is_same_file(metrics, output)? {
        return Ok(());
    }
    Err(Failure::usage(format!("the metrics file and the output cannot be one file: {}", metrics.display())))
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write the metrics {}", path.display())
}

fn common(started: Timestamp, duration: Duration, counters: &Counters) -> RunMetrics {
    let (failed, throttled, hedged) = (counters.failed.get(), counters.throttled.get(), counters.hedges.get());
    RunMetrics {
        command: "",
        depth: "",
        source: String::new(),
        shard: None,
        started,
        duration,
        succeeded: None,
        databases: Vec::new(),
        ages: AgeHistogram::default(),
        database_bytes: 0,
        received_bytes: counters.bytes_in.get(),
        requests: RequestOutcomes::of(counters.sent(), failed, throttled, hedged),
    }
}

/// The label for what was done with each database.
pub(super) const fn depth(dry_run: bool) -> &'static str {
    if dry_run { "plan" } else { "restore" }
}
