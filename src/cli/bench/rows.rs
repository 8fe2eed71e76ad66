//! The reports of `hydrant bench`. They have a row for each database of the first pass of the last stage: further
//! passes would repeat the names. The timeline runs over all stages and passes.

use super::measured::{Bench, Measured};
use crate::cancel::CancellationToken;
use crate::cli::args::resolved::{BenchArgs, BenchStage};
use crate::cli::reported::{RunStart, all_different};
use crate::cli::ui::failure::Failure;
use crate::error::Class;
use crate::fleet::{Ended, Ending, row_of};
use crate::report::{CounterSample, Purpose, ReportBook, ReportError, RunEnd, Timeline};
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Databases that have ended, over all stages and passes.
#[derive(Debug, Default)]
pub(super) struct EndedCounts {
    done: AtomicU64,
    failed: AtomicU64,
}

impl EndedCounts {
    pub(super) fn add(&self, ended: &Ended) {
        let counter = if matches!(ended.ending, Ending::Failed { .. }) { &self.failed } else { &self.done };
        counter.fetch_add(1, Relaxed);
    }

    /// The counters at this moment, for the timeline.
    pub(super) fn sample(&self, counters: &Counters) -> CounterSample {
        CounterSample {
            done: self.done.load(Relaxed),
            failed: self.failed.load(Relaxed),
            bytes: counters.bytes_in.get(),
            bytes_written: counters.bytes_out.get(),
            requests: counters.sent(),
            throttled: counters.throttled.get(),
        }
    }
}

/// The reports of one run.
pub(super) struct BenchRows {
    book: RefCell<ReportBook>,
    start: RunStart,
    reference: Timestamp,
    stage: Option<BenchStage>,
}

impl BenchRows {
    /// Makes the files of the reports.
    ///
    /// # Errors
    /// One of them cannot be written, or two are one file.
    pub(super) fn open(args: &BenchArgs, start: RunStart) -> Result<Self, Failure> {
        let reports = args.reports.iter().map(|report| ("report", report.as_path()));
        let own: Vec<_> = reports.chain(args.hlog.iter().map(|hlog| ("histogram log", hlog.as_path()))).collect();
        all_different(&own)?;
        let book = ReportBook::open(&args.reports).map_err(|e| Failure::failed(Class::Io, e.to_string()))?;
        let stage = args.stages.last().copied();
        Ok(Self { book: RefCell::new(book), start, reference: Timestamp::now(), stage })
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.book.borrow().is_wanted()
    }

    /// Adds a database that has ended in the pass that `measured` counts next.
    pub(super) fn add(&self, ended: &Ended, measured: &Measured) {
        if self.stage == Some(measured.stage) && measured.passes == 0 {
            self.book.borrow_mut().add(&row_of(ended, self.reference), self.start.begun.elapsed());
        }
    }

    /// Completes the reports. Returns those that could not be written.
    pub(super) fn finish(
        &self,
        args: &BenchArgs,
        bench: &Bench,
        mut timeline: Timeline,
        (last, counters): (CounterSample, &Counters),
        (ended, cancel): (&Result<(), Failure>, &CancellationToken),
    ) -> Vec<ReportError> {
        let took = self.start.begun.elapsed();
        timeline.sample(took, last);
        let shown = (args.typed.with(""), args.source_shown.as_str());
        let run = self.start.describe("bench", Purpose::Bench, shown, args.common.memory_bytes, took, cancel);
        let failed_early = ended.as_ref().err().filter(|_| run.interrupted_by.is_none());
        let end = RunEnd {
            run,
            summary: bench.summary(took),
            timeline: timeline.intervals(),
            stages: bench.latencies(),
            listing_error: failed_early.map(|failure| failure.message().to_string()),
            reference: self.reference.to_rfc3339_seconds(),
            requests_repeated: counters.retries.get(),
            bench: Some(bench.to_json(cancel.is_cancelled())),
            extras: vec![bench.to_extra()],
            ..RunEnd::default()
        };
        self.book.borrow_mut().finish(&end)
    }
}
