//! `hydrant restore-pattern`: the arguments become a fleet's settings; the fleet's events become
//! messages, JSON, a report and an exit code.
//!
//! `reporter` says what becomes of each database, `summary` makes the lines that sum up a run,
//! `verdict` decides on the exit code. Finding and restoring is `fleet`'s work.

mod reporter;
mod summary;
mod verdict;

use crate::cancel::CancellationToken;
use crate::cli::args::resolved::{PatternSource, ProgressMode, RestorePatternArgs};
use crate::cli::failures::{absolute, from_config, from_discovery, no_match};
use crate::cli::session::Session;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::Log;
use crate::cli::ui::progress::{self, Databases, Phase, ProgressSnapshot};
use crate::cli::ui::{latency_table, screen};
use crate::commit::Replace;
use crate::config::{Config, Env, RestorePattern};
use crate::error::Class;
use crate::fleet::{
    Admission, DatabaseWindow, Descriptors, DiscoverySearch, Feed, First, Fleet, FleetSource, Options, Places,
    Progress, RunResult, RunSummary, Settings, Work, folds_case,
};
use crate::plan::Target;
use crate::telemetry::Counters;
use reporter::Reporter;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use summary::{plan_text, totals_line};

/// How often a database is tried again, unless the flag or the configuration says otherwise.
const MAX_RETRIES: u32 = 3;
/// The pause before the first retry, unless the flag or the configuration says otherwise.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Runs the command. stdout gets what `-json` and `-dry-run` ask for.
pub(super) fn run(
    args: &RestorePatternArgs,
    env: &Env<'_>,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let counters = Arc::new(Counters::default());
    let pattern = LoadedPattern::load(&args.source, env)?;
    let section = pattern.defaults();
    let parallel = args.parallel.map(usize::from).or_else(|| section.parallel_workers.map(|n| n as usize));
    let settings = settings(args, &section);
    let useful = Descriptors::useful_databases(args.common.max_requests.map(usize::from));
    // A dry run writes no database, so there is none for SQLite to check.
    let checks = settings.check.is_some() && settings.work == Work::Restore;
    let session = Session::open(&args.common, parallel.unwrap_or(useful), checks, &counters, log, cancel)?;
    if let Some(asked) = parallel.filter(|asked| *asked > session.max_databases) {
        log.info(&format!(
            "--parallel {asked}: only {} fit the limit of open files (ulimit -n)",
            session.max_databases
        ));
    }
    let source = pattern.open(env, &session)?;
    let first = First::new(&args.first, &source, env).map_err(|e| Failure::usage(format!("--first: {e}")))?;
    let mut summary = open_summary(args)?;
    let run =
        PatternRun { args, settings, session, counters, first, log, cancel, begun, progress: Progress::default() };
    let restored =
        progress::during(progress_mode(args), log, || run.snapshot(), || run.restore(source, parallel, &mut summary));
    let ended = run.finish(&mut summary, restored);
    // The workers stop before the process reports how it ended.
    drop(run);
    ended
}

/// Without a terminal the default is a line every few seconds: a fleet takes long enough for it.
fn progress_mode(args: &RestorePatternArgs) -> ProgressMode {
    match args.progress {
        ProgressMode::Auto => ProgressMode::Always,
        asked => asked,
    }
}

fn settings(args: &RestorePatternArgs, section: &RestorePattern) -> Settings {
    Settings {
        work: if args.dry_run { Work::Plan } else { Work::Restore },
        target: args.timestamp.map_or(Target::Latest, Target::Timestamp),
        check: args.integrity_check.mode(),
        replace: if args.force { Replace::Force } else { Replace::Never },
        if_db_not_exists: args.if_db_not_exists,
        if_replica_exists: args.if_replica_exists,
        max_retries: args.max_retries.or(section.max_retries).unwrap_or(MAX_RETRIES),
        retry_delay: args.retry_delay.or(section.retry_delay).unwrap_or(RETRY_DELAY),
    }
}

/// The pattern, with the configuration that it is matched against.
enum LoadedPattern<'a> {
    Url(&'a str),
    Configured { glob: &'a str, config: Config },
}

impl<'a> LoadedPattern<'a> {
    /// Reads the configuration file if the pattern is about configured databases.
    fn load(source: &'a PatternSource, env: &Env<'_>) -> Result<Self, Failure> {
        match source {
            PatternSource::Url(url) => Ok(Self::Url(url)),
            PatternSource::Configured { glob, config } => {
                let config = Config::load(&config.path, config.expand_env, env).map_err(|e| from_config(&e))?;
                Ok(Self::Configured { glob, config })
            }
        }
    }

    /// The section `restore-pattern` of the configuration file.
    fn defaults(&self) -> RestorePattern {
        match self {
            Self::Url(_) => RestorePattern::default(),
            Self::Configured { config, .. } => config.restore_pattern.clone().unwrap_or_default(),
        }
    }

    fn open(&self, env: &Env<'_>, session: &Session) -> Result<FleetSource, Failure> {
        let open = &mut |store: &_| session.store(store);
        let source = match self {
            Self::Url(url) => FleetSource::url(url, env, open),
            Self::Configured { glob, config } => FleetSource::config(glob, config, env, open),
        };
        source.map_err(|e| from_discovery(&e))
    }
}

fn open_summary(args: &RestorePatternArgs) -> Result<RunSummary, Failure> {
    let error_log = (!args.dry_run).then_some(args.error_log.as_path());
    RunSummary::open(error_log, args.report.as_deref()).map_err(|e| {
        let report = args.report.as_deref().unwrap_or(Path::new("")).display();
        Failure::failed(Class::Io, format!("cannot write the report {report}: {e}"))
    })
}

/// A run under way.
struct PatternRun<'a> {
    args: &'a RestorePatternArgs,
    settings: Settings,
    session: Session,
    counters: Arc<Counters>,
    first: First,
    log: &'a Log,
    cancel: &'a CancellationToken,
    begun: Instant,
    progress: Progress,
}

impl PatternRun<'_> {
    /// Finds and restores all databases. Returns what is to be printed on stdout at the end.
    fn restore(
        &self,
        source: FleetSource,
        parallel: Option<usize>,
        summary: &mut RunSummary,
    ) -> Result<String, Failure> {
        let places = self.places()?;
        let search = DiscoverySearch {
            // With `-output-dir`, configured databases are restored below it, else to their own paths.
            options: Options { shard: self.args.shard, relative_outputs: self.args.output_dir.is_some() },
            max_retries: self.settings.max_retries,
            retry_delay: self.settings.retry_delay,
        };
        let progress = Arc::clone(&self.progress.discovery);
        let feed = Feed::start(&self.session.workers, Arc::new(source), search, progress);
        let mut reporter = Reporter::new(self.args, self.log, summary);
        let fleet = Fleet {
            engine: &self.session.workers,
            settings: &self.settings,
            progress: &self.progress,
            counters: &self.counters,
            cancel: self.cancel,
        };
        let window = DatabaseWindow::new(parallel, self.session.max_databases, self.session.requests());
        let result = fleet.run(feed, Admission::new(places, &self.first), window, &mut |event| reporter.event(event));
        let RunResult { left, discovered } = result.map_err(|e| Failure::failed(e.class(), e.to_string()))?;
        let rows = reporter.finish();
        summary.totals.left = left as u64;
        let rows = rows?;
        match discovered {
            Some(Ok(())) if summary.discovered.matched == 0 => Err(no_match(&self.args.source_shown)),
            Some(Ok(())) if self.args.dry_run && !self.args.json => Ok(plan_text(rows, &summary.totals)),
            Some(Ok(())) => Ok(String::new()),
            Some(Err(e)) => {
                summary.listing_error = Some(format!("{}: {e}", e.class()));
                Err(from_discovery(&e))
            }
            None => {
                summary.listing_error = Some("interrupted before all was listed".to_owned());
                Err(self.session.cancelled("the listing of the databases ended without a result"))
            }
        }
    }

    fn places(&self) -> Result<Places, Failure> {
        let output_dir = absolute(self.args.output_dir.as_deref().unwrap_or(Path::new(".")))?;
        let own = self.args.report.as_deref().into_iter().chain(Some(self.args.error_log.as_path()));
        let reserved = own.map(absolute).collect::<Result<_, _>>()?;
        // A dry run creates no file, so it cannot test whether the file system ignores case.
        let folds = if self.args.dry_run { |_: &Path| false } else { folds_case };
        Ok(Places { output_dir: Arc::from(output_dir), reserved, folds })
    }

    /// Prints the summary and completes the report. The result is the command's.
    fn finish(&self, summary: &mut RunSummary, restored: Result<String, Failure>) -> Result<(), Failure> {
        let took = self.begun.elapsed();
        let stages = self.session.workers.take_stages();
        let any_found = summary.discovered.matched > 0 || summary.totals.done() + summary.totals.failed > 0;
        if any_found {
            if self.args.json {
                screen::print(&summary.summary_line(&self.counters, took))?;
            }
            self.log.info(&totals_line(&summary.totals, &self.counters, took));
            latency_table::show(self.log, &stages);
        }
        if let Err(e) = summary.finish(&self.counters, &stages, self.session.requests(), took) {
            self.log.warn(&format!("cannot write the report: {e}"));
        }
        if let Some(trouble) = summary.take_trouble() {
            self.log.warn(&trouble);
        }
        if restored.is_ok() || !self.cancel.is_cancelled() {
            screen::print(&restored?)?;
        }
        // A signal decides on the exit code, whatever else failed.
        match self.cancel.reason() {
            Some(reason) => Err(Failure::Cancelled(reason)),
            None => verdict::of_totals(self.args, &summary.totals),
        }
    }

    fn snapshot(&self) -> ProgressSnapshot {
        let progress = &self.progress;
        let all_found = progress.all_found.load(Relaxed);
        let (bytes_done, bytes_total) = progress.bytes(&self.counters);
        let found = if all_found { &progress.total } else { &progress.discovery.databases };
        ProgressSnapshot {
            phase: match (all_found, self.args.dry_run) {
                (false, _) => Phase::Listing,
                (true, true) => Phase::Planning,
                (true, false) => Phase::Restoring,
            },
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
