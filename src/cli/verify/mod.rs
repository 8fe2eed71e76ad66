//! The command `hydrant verify`: does everything that a restore would do, to nothing or to a scratch directory, and says
//! of each database whether it can be restored (docs/CLI.md, "hydrant verify").
//!
//! `verdicts` are what is said of one database, `record` is what JSON has of it, `run_summary` of all, `expectation`
//! compares with an earlier report, `forecast` says how long a restore would take by the `pace` of this run and by what
//! `disk_probe` measures, and `shown` is the result for people.

mod disk_probe;
mod expectation;
mod forecast;
mod pace;
mod record;
mod run_summary;
mod shown;

mod verdicts;

use crate::cancel::CancellationToken;
use crate::cli::args::resolved::{PatternSource, VerifyArgs};
use crate::cli::failures::{absolute, from_discovery, no_match};
use crate::cli::metrics::MetricsOutput;
use crate::cli::past;
use crate::cli::reported::{RunStart, all_different, sample, with_timeline};
use crate::cli::restore_pattern::{LoadedPattern, recovery_point_line};
use crate::cli::session::Session;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::progress::{self, Databases, Phase, ProgressSnapshot};
use crate::cli::ui::{human, screen};
use crate::cli::warnings;
use crate::commit::{CommitContext, Replace, check, random_letters};
use crate::config::Env;
use crate::error::{Class, escaped};
use crate::fleet::{
    Admission, CatalogueUse, DatabaseWindow, Descriptors, DiscoverySearch, Feed, First, Fleet, FleetSource, Instead,
    Options, Places, Progress, RunEvent, Settings, Work,
};
use crate::metrics::RunMetrics;
use crate::plan::Target;
use crate::report::{Purpose, ReportBook, RestoreForecast, RunEnd, Timeline};
use crate::restore::{VerifyDepth, VerifyScratch, VerifySettings};
use crate::telemetry::{Counters, Stages};
use crate::timestamp::Timestamp;
use expectation::Expectations;
use forecast::Host;
use pace::Pace;
use record::DrillRecord;
use run_summary::DrillSummary;
use shown::ShownRecords;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use verdicts::Verdict;

/// At most 20 warnings about databases are shown on stderr without `-v`.
const MAX_WARNINGS_SHOWN: u64 = 20;
/// The default of `-max-retries`, as for `restore-pattern`.
const MAX_RETRIES: u32 = 3;
/// The default of `-retry-delay`, as for `restore-pattern`.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Runs the command `hydrant verify`.
pub(super) fn run(args: &VerifyArgs, env: &Env<'_>, log: &Log, cancel: &CancellationToken) -> Result<(), Failure> {
    let reports = args.reports.iter().map(|report| ("report", report.as_path()));
    let more = [("metrics file", args.metrics_textfile.as_deref()), ("catalogue", args.catalogue.path())];
    let more = more.into_iter().filter_map(|(what, path)| Some((what, path?)));
    all_different(&reports.chain(more).collect::<Vec<_>>())?;
    let metrics = MetricsOutput::open(args.metrics_textfile.as_deref(), log)?;
    let (counters, mut summary) = (Arc::new(Counters::default()), DrillSummary::new(args));
    let ended = run_counting(args, env, log, cancel, &counters, &mut summary);
    metrics.write(&counters, |common| figures(args, &summary, ended.is_ok(), common));
    ended
}

/// The metrics of a run that has ended.
fn figures(args: &VerifyArgs, summary: &DrillSummary, is_success: bool, common: RunMetrics) -> RunMetrics {
    // A share without databases has nothing to show. A run that has found no backups at all shows nothing.
    let only_skipped = summary.databases() > 0 && summary.count(Verdict::NoBackups) == summary.databases();
    let share = args.sample.as_ref().map(|sample| sample.share).or(args.shard);
    summary.metrics(RunMetrics {
        command: "verify",
        depth: args.depth.as_str(),
        source: args.source_shown.clone(),
        shard: share.map(|share| format!("{}/{}", share.index, share.of)),
        succeeded: (is_success && !only_skipped).then(Timestamp::now),
        ..common
    })
}

/// As [`run`], without metrics. `counters` and `summary` are for the caller, however the run ends.
fn run_counting(
    args: &VerifyArgs,
    env: &Env<'_>,
    log: &Log,
    cancel: &CancellationToken,
    counters: &Arc<Counters>,
    summary: &mut DrillSummary,
) -> Result<(), Failure> {
    let start = RunStart::now();
    let pattern = LoadedPattern::load(&args.source, env, log)?;
    let section = pattern.defaults()?;
    let mut args = args.clone();
    args.common.use_defaults(&section);
    let args = &args;
    let expectations = args.expect.as_deref().map(Expectations::read).transpose()?;
    let reports = ReportBook::open(&args.reports).map_err(|e| Failure::failed(Class::Io, e.to_string()))?;
    // Declared before the workers: they have stopped writing before the directory is removed.
    let scratch = DrillScratch::new(args.scratch.as_deref())?;
    let parallel = args.parallel.map(usize::from).or_else(|| section.parallel_workers.map(|n| n as usize));
    let useful = Descriptors::useful_databases(args.common.max_requests.map(usize::from));
    let checks = args.depth >= VerifyDepth::Full;
    let session = Session::open(&args.common, parallel.unwrap_or(useful), checks, counters, log, cancel)?;
    let source = pattern.open(env, &session)?;
    let first = First::new(&[], &source, env).map_err(|e| Failure::usage(e.to_string()))?;
    let settings = settings(args, &scratch, section.max_retries, section.retry_delay);
    let catalogue = args.catalogue.open()?;
    let drill = Drill {
        args,
        settings,
        session,
        counters: Arc::clone(counters),
        catalogue,
        first,
        commit: CommitContext::default(),
        scratch: &scratch,
        log,
        cancel,
        start,
        progress: Progress::default(),
    };
    let summary_so_far = std::mem::take(summary);
    let mut drilled = Drilled { summary: summary_so_far, expectations, reports, ..Drilled::default() };
    let is_reported = drilled.reports.is_wanted();
    let work =
        || progress::during(args.progress, log, || drill.snapshot(), || drill.verify(source, parallel, &mut drilled));
    let (ended, timeline) = with_timeline(is_reported, start.begun, (&drill.progress, &drill.counters), work);
    let result = drill.finish(&mut drilled, timeline, ended);
    drop(drill);
    *summary = drilled.summary;
    result
}

fn settings(
    args: &VerifyArgs,
    scratch: &DrillScratch,
    max_retries: Option<u32>,
    retry_delay: Option<Duration>,
) -> Settings {
    let verify = VerifySettings {
        depth: args.depth,
        check: args.check.unwrap_or(check::Mode::Quick),
        queries: args.queries.clone(),
        scratch: VerifyScratch::new(scratch.dir.clone(), args.scratch_bytes),
    };
    Settings {
        work: Work::Verify,
        target: args.timestamp.map_or(Target::Latest, Target::Timestamp),
        check: None,
        replace: Replace::Never,
        if_db_not_exists: false,
        if_replica_exists: args.if_replica_exists,
        newest_intact: false,
        max_retries: args.max_retries.or(max_retries).unwrap_or(MAX_RETRIES),
        retry_delay: args.retry_delay.or(retry_delay).unwrap_or(RETRY_DELAY),
        fail_fast: false,
        verify: Some(Arc::new(verify)),
    }
}

/// A new directory for databases that SQLite looks at. Dropping this removes it.
pub(super) struct DrillScratch {
    pub dir: PathBuf,
}

impl DrillScratch {
    /// # Errors
    /// `parent` does not exist or cannot be written to.
    pub(super) fn new(parent: Option<&Path>) -> Result<Self, Failure> {
        let parent = absolute(parent.unwrap_or(&std::env::temp_dir()))?;
        let dir = parent.join(format!("hydrant-verify-{}", random_letters()));
        // Fails if the directory exists.
        let made = std::fs::create_dir(&dir);
        made.map_err(|e| Failure::failed(Class::Io, format!("cannot make a directory in {}: {e}", parent.display())))?;
        Ok(Self { dir })
    }
}

impl Drop for DrillScratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The results of a run so far.
#[derive(Default)]
struct Drilled {
    summary: DrillSummary,
    expectations: Option<Expectations>,
    shown: ShownRecords,
    pace: Pace,
    warnings: u64,
    /// The number of databases of the whole fleet, of which a sample or a shard is verified.
    matched: u64,
    instead: Option<Instead>,
    stdout_failure: Option<Failure>,
    reports: ReportBook,
}

struct Drill<'a> {
    args: &'a VerifyArgs,
    settings: Settings,
    session: Session,
    counters: Arc<Counters>,
    catalogue: CatalogueUse,
    first: First,
    commit: CommitContext,
    scratch: &'a DrillScratch,
    log: &'a Log,
    cancel: &'a CancellationToken,
    start: RunStart,
    progress: Progress,
}

impl Drill<'_> {
    /// Finds and verifies all databases.
    ///
    /// # Errors
    /// The listing failed, no database matches, or a signal stopped the run. What is wrong with a single database is not
    /// an error here.
    fn verify(&self, source: FleetSource, parallel: Option<usize>, drilled: &mut Drilled) -> Result<(), Failure> {
        let search = DiscoverySearch {
            options: Options { shard: self.args.shard, relative_outputs: true },
            catalogue: self.catalogue.clone(),
            max_retries: self.settings.max_retries,
            retry_delay: self.settings.retry_delay,
        };
        let feed = Feed::start(&self.session.workers, Arc::new(source), search, Arc::clone(&self.progress.discovery));
        let fleet = Fleet {
            engine: &self.session.workers,
            settings: &self.settings,
            progress: &self.progress,
            counters: &self.counters,
            commit: &self.commit,
            cancel: self.cancel,
        };
        let window = DatabaseWindow::new(parallel, self.session.max_databases, self.session.requests());
        let output_dir = Arc::from(self.scratch.dir.clone());
        let places = Places { output_dir, reserved: Vec::new(), folds: |_| false };
        let admission = Admission::new(places, &self.first).sample(self.args.sample.as_ref());
        let result = fleet.run(feed, admission, window, &mut |event| self.event(event, drilled));
        let result = result.map_err(|e| Failure::failed(e.class(), e.to_string()))?;
        drilled.summary.left = (result.left + result.not_started) as u64;
        match result.discovered {
            Some(Ok(())) if drilled.matched == 0 => {
                let url = match &self.args.source {
                    PatternSource::Url(url) => Some(url.as_str()),
                    PatternSource::Configured { .. } => None,
                };
                Err(no_match(&self.args.source_shown, url, drilled.instead.take()))
            }
            Some(Ok(())) => Ok(()),
            Some(Err(e)) => Err(past::or_usage(from_discovery(&e), &self.session.pasts())),
            None => Err(self.session.cancelled("the listing of the databases ended without a result")),
        }
    }

    fn event(&self, event: RunEvent, drilled: &mut Drilled) {
        match event {
            RunEvent::ListingAgain(e) => self.log.warn(&format!("listing again: {e}")),
            RunEvent::PutRight(notice) => warnings::of_notice(self.log, &notice),
            RunEvent::LittleSpace(_) => {}
            RunEvent::AllFound { discovered, warnings, instead, recovery_point, .. } => {
                warnings.iter().for_each(|warning| self.log.warn(warning));
                drilled.instead = instead;
                drilled.matched = discovered.matched;
                drilled.pace.begin(self.start.begun);
                let found = human::count(discovered.matched, "database");
                let share = match (&self.args.sample, self.args.shard) {
                    (Some(sample), _) => format!(", sample {} of {}", sample.share.index, sample.share.of),
                    (None, Some(shard)) => format!(", shard {} of {}", shard.index, shard.of),
                    (None, None) => String::new(),
                };
                self.log.info(&format!("found {found}{share}: verifying to depth {}", self.args.depth.as_str()));
                if let Some(time) = recovery_point {
                    self.log.info(&recovery_point_line(time, &self.args.catalogue));
                    drilled.summary.pinned_to(time);
                }
            }
            RunEvent::Ended(ended) => {
                let Some(record) = DrillRecord::of(&ended, self.args, drilled.summary.reference) else { return };
                let id = record.key.as_deref().unwrap_or(&record.name);
                drilled.pace.add(id, ended.elapsed, record.bytes.unwrap_or(0), record.bytes_fetched);
                self.add(record, drilled);
            }
        }
    }

    /// Adds the record of one database, and says what is wrong with it.
    fn add(&self, mut record: DrillRecord, drilled: &mut Drilled) {
        if let Some(expectations) = &mut drilled.expectations {
            expectations.compare(&mut record);
        }
        drilled.summary.add(&record);
        if self.args.json || drilled.reports.is_wanted() {
            let row = record.to_row();
            if self.args.json && drilled.stdout_failure.is_none() {
                drilled.stdout_failure = screen::print(&row.to_json_line()).err();
            }
            drilled.reports.add(&row, self.start.begun.elapsed());
            if let Some(trouble) = drilled.reports.take_trouble() {
                self.log.essential(Severity::Warn, &trouble, &[]);
            }
        }
        let keys = [("database", record.name.as_str())];
        for warning in &record.warnings {
            drilled.warnings += 1;
            let severity = if drilled.warnings <= MAX_WARNINGS_SHOWN { Severity::Warn } else { Severity::Debug };
            self.log.about(severity, &format!("{}: {warning}", escaped(&record.name)), &keys);
        }
        if !self.args.json {
            drilled.shown.add(record);
        }
    }

    /// Prints the result.
    fn finish(&self, drilled: &mut Drilled, mut timeline: Timeline, ended: Result<(), Failure>) -> Result<(), Failure> {
        let took = self.start.begun.elapsed();
        timeline.sample(took, sample(&self.progress, &self.counters));
        if ended.is_ok() && self.cancel.reason().is_none() {
            let of_this_run = |id: &str| {
                self.args.shard.is_none_or(|shard| shard.takes(id))
                    && self.args.sample.as_ref().is_none_or(|sample| sample.takes(id))
            };
            let vanished = drilled.expectations.take().map(|expected| expected.vanished(&of_this_run));
            for record in vanished.unwrap_or_default() {
                self.add(record, drilled);
            }
        }
        let stages = self.session.workers.take_stages();
        drilled.pace.end();
        let forecast = if ended.is_ok() { self.forecast(&drilled.pace) } else { None };
        drilled.summary.finish(took, &self.counters, forecast);
        if self.args.json {
            screen::print(&drilled.summary.to_json_line())?;
        } else if drilled.summary.databases() > 0 {
            screen::print(&drilled.shown.table())?;
        }
        if drilled.summary.databases() > 0 {
            for line in shown::summary_lines(&drilled.summary, drilled.matched) {
                self.log.essential(Severity::Info, &line, &[]);
            }
            past::say_of_fleet(&self.session.pasts(), self.log);
            crate::cli::ui::latency_table::show(self.log, &stages);
        }
        self.report(drilled, &timeline, stages, ended.as_ref().err());
        drilled.stdout_failure.take().map_or(Ok(()), Err)?;
        if let Some(reason) = self.cancel.reason() {
            return Err(Failure::Cancelled(reason));
        }
        ended?;
        run_summary::of_run(&drilled.summary)
    }

    /// How long a restore of everything would take. None for a depth at which too little is known for a forecast.
    fn forecast(&self, pace: &Pace) -> Option<RestoreForecast> {
        if self.args.depth < VerifyDepth::Full || self.cancel.reason().is_some() {
            return None;
        }
        let host = Host {
            disk: disk_probe::probe(self.args, &self.session.workers, pace.mean_small_bytes(), self.log),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            is_throttled: self.session.requests().per_second().is_some(),
            bytes_free: disk_probe::bytes_free(self.args),
        };
        let share = self.args.sample.as_ref().map(|sample| sample.share).or(self.args.shard);
        forecast::forecast_of(pace, &host, share)
    }

    /// Completes the reports. `failure` is why the databases are not known.
    fn report(&self, drilled: &mut Drilled, timeline: &Timeline, stages: Stages, failure: Option<&Failure>) {
        let took = self.start.begun.elapsed();
        let shown = (self.args.typed.with(""), self.args.source_shown.as_str());
        let memory = self.args.common.memory_bytes;
        let run = self.start.describe("verify", Purpose::Verify, shown, memory, took, self.cancel);
        let mut summary = match serde_json::to_value(&drilled.summary) {
            Ok(serde_json::Value::Object(summary)) => summary,
            _ => serde_json::Map::new(),
        };
        summary.insert("stages".to_owned(), stages.to_json().into());
        // The forecast is beside the summary.
        summary.remove("forecast");
        let end = RunEnd {
            listing_error: failure
                .filter(|_| run.interrupted_by.is_none())
                .map(|failure| failure.message().to_string()),
            run,
            summary,
            timeline: timeline.intervals(),
            stages,
            not_reached: drilled.summary.left,
            reference: drilled.summary.reference.to_rfc3339_seconds(),
            requests_repeated: self.counters.retries.get(),
            forecast: drilled.summary.forecast.clone(),
            ..RunEnd::default()
        };
        for error in drilled.reports.finish(&end) {
            self.log.essential(Severity::Warn, &error.to_string(), &[]);
        }
    }

    fn snapshot(&self) -> ProgressSnapshot {
        let progress = &self.progress;
        let all_found = progress.all_found.load(Relaxed);
        let (bytes_done, bytes_total) = progress.bytes(&self.counters);
        let found = if all_found { &progress.total } else { &progress.discovery.databases };
        ProgressSnapshot {
            phase: if all_found { Phase::Verifying } else { Phase::Listing },
            bytes_done,
            bytes_total,
            databases: Some(Databases {
                done: progress.done.load(Relaxed),
                total: found.load(Relaxed),
                failed: progress.failed.load(Relaxed),
                skipped: progress.skipped.load(Relaxed),
                all_found,
            }),
            retries: self.counters.retries.get(),
            throttled: self.counters.throttled.get(),
            per_second: self.session.requests().per_second(),
        }
    }
}
