//! What the commands with reports have in common: the description of a run (what was asked, on which machine, when;
//! nothing in it is secret), and the test that no two files are one.

use crate::cancel::{CancellationToken, Reason};
use crate::cli::failures::is_same_file;
use crate::cli::ui::failure::Failure;
use crate::fleet::Progress;
use crate::report::{self, CounterSample, HostInfo, Purpose, RunInfo, Timeline, rounded_seconds};
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The start of a run, by the clock that is never set and by the calendar.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunStart {
    pub begun: Instant,
    started: Timestamp,
}

impl RunStart {
    /// The run starts now.
    pub(super) fn now() -> Self {
        Self { begun: Instant::now(), started: Timestamp::now() }
    }

    /// Describes the run of `command`, which took the time `took`. `command_line` and `source` hold no secrets.
    pub(super) fn describe(
        &self,
        command: &'static str,
        purpose: Purpose,
        (command_line, source): (String, &str),
        memory_bytes: u64,
        took: Duration,
        cancel: &CancellationToken,
    ) -> RunInfo {
        let nanos = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
        RunInfo {
            command,
            command_line,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: host(memory_bytes),
            source: source.to_owned(),
            started: self.started.to_rfc3339_seconds(),
            // The calendar may have been set meanwhile. The end fits the start.
            ended: self.started.saturating_add_nanos(nanos).to_rfc3339_seconds(),
            seconds: rounded_seconds(took),
            interrupted_by: cancel.reason().map(|reason| signal_name(reason).to_owned()),
            again: None,
            purpose,
        }
    }
}

fn host(memory_bytes: u64) -> HostInfo {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    HostInfo {
        name: name.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned()),
        cores: std::thread::available_parallelism().map_or(1, |cores| usize::from(cores) as u64),
        memory_bytes,
    }
}

const fn signal_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Hangup => "SIGHUP",
        Reason::Interrupt => "SIGINT",
        Reason::Terminate => "SIGTERM",
        Reason::Abandoned => "an error of the run itself",
    }
}

/// The counters of a fleet's run at this moment, for its timeline.
pub(super) fn sample(progress: &Progress, counters: &Counters) -> CounterSample {
    let failed = progress.failed.load(Relaxed);
    CounterSample {
        done: progress.done.load(Relaxed).saturating_sub(failed),
        failed,
        bytes: counters.bytes_in.get(),
        bytes_written: counters.bytes_out.get(),
        requests: counters.sent(),
        throttled: counters.throttled.get(),
    }
}

/// Runs `work`, and samples the counters of the fleet's run meanwhile if `is_reported`.
pub(super) fn with_timeline<T>(
    is_reported: bool,
    begun: Instant,
    (progress, counters): (&Progress, &Counters),
    work: impl FnOnce() -> T,
) -> (T, Timeline) {
    match is_reported {
        true => report::sampled(begun, || sample(progress, counters), work),
        false => (work(), Timeline::default()),
    }
}

/// Checks that no two of a run's own files are one. `own` holds what messages call each, and its path.
///
/// # Errors
/// Two are one.
pub(super) fn all_different(own: &[(&str, &Path)]) -> Result<(), Failure> {
    for (i, (what, path)) in own.iter().enumerate() {
        for (other, other_path) in own.iter().take(i) {
            if is_same_file(path, other_path)? {
                let both = if what == other { format!("two {what}s") } else { format!("the {what} and the {other}") };
                return Err(Failure::usage(format!("{both} cannot be one file: {}", path.display())));
            }
        }
    }
    Ok(())
}
