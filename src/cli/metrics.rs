//! Writes the metrics of a run when it has ended (`-metrics-textfile`), however it has ended.

use crate::cli::failures::is_same_file;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, Severity};
use crate::error::Class;
use crate::metrics::{AgeHistogram, MetricsTextfile, RequestOutcomes, RunMetrics};
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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

/// Creates the metrics file under a temporary name.
///
/// # Errors
/// It cannot be written.
pub(super) fn open(path: &Path, log: &Log) -> Result<MetricsTextfile, Failure> {
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

pub(super) fn cannot_write(path: &Path) -> String {
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
