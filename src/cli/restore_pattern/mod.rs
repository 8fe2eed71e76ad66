//! The command `hydrant restore-pattern`. The module `fleet` finds and restores the databases. This folder
//! converts the arguments to the fleet's settings, and the fleet's events to messages, JSON, a report and an
//! exit code.
//!
//! `following` keeps the databases up to date afterwards (`--follow`), with the metrics of `fleet_figures`. `own_files` opens the files that a run writes besides databases. `reporter` reports the result of each database.
//! `summary` formats the lines that sum up a run, `figures` its metrics. `verdict` decides on the exit code.

mod figures;
mod fleet_figures;
mod following;
mod own_files;
mod reporter;
mod summary;
mod verdict;

use crate::cancel::CancellationToken;
use crate::cli::args::resolved::{PatternSource, ProgressMode, RestorePatternArgs};
use crate::cli::failures::{absolute, from_config, from_discovery, no_match};
use crate::cli::metrics::MetricsOutput;
use crate::cli::past;
use crate::cli::permissions::permissions;
use crate::cli::reported::{RunStart, sample, with_timeline};
use crate::cli::session::Session;
use crate::cli::slips;
use crate::cli::ui::failure::{Advice, Failure};
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::progress::{self, Databases, Phase, ProgressSnapshot};
use crate::cli::ui::{latency_table, screen};
use crate::cli::warnings;
use crate::commit::{CommitContext, Replace};
use crate::config::{self, Config, DatabaseEntry, EntryKind, Env, RestorePattern};
use crate::fleet::{
    Admission, CatalogueUse, DatabaseWindow, Descriptors, DiscoverySearch, Feed, First, Fleet, FleetSource, Only,
    Options, Places, Progress, RunEvent, RunResult, RunSummary, Settings, Work, folds_case,
};
use crate::plan::Target;
use crate::report::{Purpose, RunEnd, RunInfo, Timeline};
use crate::telemetry::Counters;
use following::FirstRestore;
use reporter::Reporter;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
pub(super) use summary::recovery_point_line;
use summary::{further_lines, plan_text, totals_line};

/// The default of `-max-retries`: a failed database is restored again at most 3 times. The section
/// `restore-pattern` of the configuration file can change the default.
const MAX_RETRIES: u32 = 3;
/// The default of `-retry-delay`: the pause before the first retry is 5 s. The section `restore-pattern` of the
/// configuration file can change the default.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Runs the command `hydrant restore-pattern`. With `-json` or `-dry-run` it prints results on stdout.
pub(super) fn run(
    args: &RestorePatternArgs,
    env: &Env<'_>,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    own_files::check(args)?;
    if let Some(how) = args.follow {
        return following::run(args, how, env, log, cancel);
    }
    let metrics = MetricsOutput::open(args.metrics_textfile.as_deref(), log)?;
    let (counters, mut summary) = (Arc::new(Counters::default()), None);
    let ended = run_counting(args, env, log, cancel, &counters, &mut summary, None);
    metrics.write(&counters, |common| figures::figures(args, summary.as_ref(), ended.is_err(), common));
    ended
}

/// As [`run`], without metrics. `counters` and `summary` are for the caller, however the run ends, and so is `standbys`:
/// what is to be followed then.
fn run_counting(
    args: &RestorePatternArgs,
    env: &Env<'_>,
    log: &Log,
    cancel: &CancellationToken,
    counters: &Arc<Counters>,
    summary: &mut Option<RunSummary>,
    standbys: Option<&FirstRestore>,
) -> Result<(), Failure> {
    let start = RunStart::now();
    let pattern = LoadedPattern::load(&args.source, env, log)?;
    let section = pattern.defaults()?;
    let mut args = args.clone();
    args.common.use_defaults(&section);
    let args = &args;
    let parallel = args.parallel.map(usize::from).or_else(|| section.parallel_workers.map(|n| n as usize));
    let settings = settings(args, &section);
    let useful = Descriptors::useful_databases(args.common.max_requests.map(usize::from));
    // A dry run writes no database that SQLite could check, so it needs no threads for checks.
    let checks = settings.check.is_some() && settings.work != Work::Plan;
    let session = Session::open(&args.common, parallel.unwrap_or(useful), checks, counters, log, cancel)?;
    if let Some(asked) = parallel.filter(|asked| *asked > session.max_databases) {
        log.info(&format!(
            "--parallel {asked}: only {} fit the limit of open files (ulimit -n)",
            session.max_databases
        ));
    }
    let source = Arc::new(pattern.open(env, &session)?);
    let first = First::new(&args.first, &source, env).map_err(|e| Failure::usage(format!("--first: {e}")))?;
    // A standby is written to in place and in any order, so it is not staged.
    let staging = args.follow.is_none().then(std::env::temp_dir);
    let commit = CommitContext::new(permissions(&args.permissions, &section)?, staging);
    if let Some(standbys) = standbys {
        standbys.begin(args, &section, &source, &commit);
    }
    let only = args.only.as_deref().map(|path| own_files::read_only(path, &pattern.directories())).transpose()?;
    let summary = summary.insert(own_files::open(args, &commit, log)?);
    let catalogue = args.catalogue.open()?;
    let progress = Progress::default();
    let counters = Arc::clone(counters);
    let run = PatternRun {
        args,
        settings,
        session: &session,
        counters,
        first: &first,
        only,
        catalogue,
        commit,
        log,
        cancel,
        start,
        progress,
        standbys,
    };
    let is_reported = summary.is_reported();
    let work =
        || progress::during(progress_mode(args), log, || run.snapshot(), || run.restore(source, parallel, summary));
    let (restored, timeline) = with_timeline(is_reported, start.begun, (&run.progress, &run.counters), work);
    let ended = run.finish(summary, timeline, restored);
    drop(run);
    // This stops the workers. They must have stopped before the process prints its result and exits.
    drop(session);
    ended
}

/// The progress mode of this command. Unlike `hydrant restore`, it writes a line of progress every 5 s also if
/// stderr is not a terminal and no flag asks for it, because restoring many databases takes long.
fn progress_mode(args: &RestorePatternArgs) -> ProgressMode {
    match args.progress {
        ProgressMode::Auto => ProgressMode::Always,
        asked => asked,
    }
}

/// The settings of the fleet from the flags, else from `section` of the configuration file, else the defaults.
fn settings(args: &RestorePatternArgs, section: &RestorePattern) -> Settings {
    Settings {
        work: match (args.dry_run, args.follow) {
            (true, _) => Work::Plan,
            (false, None) => Work::Restore,
            (false, Some(_)) => Work::RestoreStandby,
        },
        target: args.timestamp.map_or(Target::Latest, Target::Timestamp),
        check: args.integrity_check.mode(),
        replace: if args.force { Replace::Force } else { Replace::Never },
        if_db_not_exists: args.if_db_not_exists,
        if_replica_exists: args.if_replica_exists,
        newest_intact: args.newest_intact,
        max_retries: args.max_retries.or(section.max_retries).unwrap_or(MAX_RETRIES),
        retry_delay: args.retry_delay.or(section.retry_delay).unwrap_or(RETRY_DELAY),
        fail_fast: args.fail_fast,
        verify: None,
    }
}

/// The pattern that selects databases, with the configuration file if it was read.
pub(super) enum LoadedPattern<'a> {
    /// The pattern is a URL such as `s3://bucket/prefix/**`. It is matched against the keys in the bucket.
    Url(&'a str),
    /// The pattern is a glob. It is matched against the paths of the databases in the configuration file.
    Configured { glob: &'a str, config: Config },
}

impl<'a> LoadedPattern<'a> {
    /// Takes the pattern from the arguments. Reads the configuration file only if the pattern is a glob.
    pub(super) fn load(source: &'a PatternSource, env: &Env<'_>, log: &Log) -> Result<Self, Failure> {
        match source {
            PatternSource::Url(url) => {
                let (location, _) = config::parse_pattern_url(url, env).map_err(|e| from_config(&e))?;
                warnings::of_location(log, &location);
                Ok(Self::Url(url))
            }
            PatternSource::Configured { glob, config } => {
                let config =
                    Config::load(&config.path, config.expand_env, env).map_err(|e| slips::explained(&e, glob))?;
                warnings::of_config(log, &config);
                Ok(Self::Configured { glob, config })
            }
        }
    }

    /// The section `restore-pattern` of the configuration file, which holds defaults of flags. It is empty for a
    /// URL, for which no configuration file is read.
    ///
    /// # Errors
    /// The section is invalid.
    pub(super) fn defaults(&self) -> Result<RestorePattern, Failure> {
        match self {
            Self::Url(_) => Ok(RestorePattern::default()),
            Self::Configured { config, .. } => {
                let section = config.restore_pattern.clone().transpose();
                Ok(section.map_err(|e| from_config(&e))?.unwrap_or_default())
            }
        }
    }

    /// The directories of the configuration's `dir:` entries.
    fn directories(&self) -> Vec<PathBuf> {
        let directory = |entry: &DatabaseEntry| match &entry.kind {
            EntryKind::Dir { dir, .. } => Some(dir.clone()),
            EntryKind::Path(_) => None,
        };
        match self {
            Self::Url(_) => Vec::new(),
            Self::Configured { config, .. } => config.databases.iter().filter_map(directory).collect(),
        }
    }

    /// Opens the stores (buckets or directories) that the pattern's databases may be in.
    pub(super) fn open(&self, env: &Env<'_>, session: &Session) -> Result<FleetSource, Failure> {
        let mut refused = None;
        let open = &mut |store: &_| {
            refused = refused.take().or_else(|| session.refuse_on_disk(store).err());
            session.store(store)
        };
        let source = match self {
            Self::Url(url) => FleetSource::url(url, env, open),
            Self::Configured { glob, config } => FleetSource::config(glob, config, env, open),
        };
        refused.map_or_else(|| source.map_err(|e| from_discovery(&e)), Err)
    }
}

struct PatternRun<'a> {
    args: &'a RestorePatternArgs,
    settings: Settings,
    session: &'a Session,
    counters: Arc<Counters>,
    first: &'a First,
    only: Option<Only>,
    catalogue: CatalogueUse,
    commit: CommitContext,
    log: &'a Log,
    cancel: &'a CancellationToken,
    start: RunStart,
    progress: Progress,
    standbys: Option<&'a FirstRestore>,
}

impl PatternRun<'_> {
    /// Finds and restores all databases. Returns the text to print on stdout at the end: the table of a dry run,
    /// otherwise nothing.
    ///
    /// # Errors
    /// The listing failed, no database matches the pattern, stdout cannot be written, or a signal stopped the run.
    /// The failure of a single database is not an error here; it is counted in `summary`.
    fn restore(
        &self,
        source: Arc<FleetSource>,
        parallel: Option<usize>,
        summary: &mut RunSummary,
    ) -> Result<String, Failure> {
        let window = DatabaseWindow::new(parallel, self.session.max_databases, self.session.requests());
        let mut reporter = Reporter::new(self.args, self.log, summary, self.start.begun);
        let result = self.pass(source, window, None, &mut |event| {
            if matches!(event, RunEvent::AllFound { .. })
                && let Some(note) = self.session.catalogue_note()
            {
                self.log.info(&note);
            }
            if let (RunEvent::Ended(ended), Some(standbys)) = (&event, self.standbys) {
                standbys.take(ended, self.log);
            }
            reporter.event(event);
        });
        let RunResult { left, not_started, discovered } = result?;
        let instead = reporter.take_instead();
        let rows = reporter.finish();
        summary.totals.left = left as u64;
        summary.totals.not_started = not_started as u64;
        let rows = rows?;
        match discovered {
            Some(Ok(())) if summary.discovered.matched == 0 => {
                let url = match &self.args.source {
                    PatternSource::Url(url) => Some(url.as_str()),
                    PatternSource::Configured { .. } => None,
                };
                Err(no_match(&self.args.source_shown, url, instead))
            }
            Some(Ok(())) if self.only.is_some() && summary.totals.ended() == 0 && left + not_started == 0 => {
                Err(own_files::nothing_named(self.args))
            }
            Some(Ok(())) if self.args.dry_run && !self.args.json => Ok(plan_text(rows, &summary.totals)),
            Some(Ok(())) => Ok(String::new()),
            Some(Err(e)) => {
                summary.listing_error = Some(format!("{}: {e}", e.class()));
                Err(past::or_usage(from_discovery(&e), &self.session.pasts()))
            }
            None => {
                summary.listing_error = Some("interrupted before all was listed".to_owned());
                Err(self.session.cancelled("the listing of the databases ended without a result"))
            }
        }
    }

    /// Finds the databases of `source` and restores them, but for those whose outputs are in `except`. Passes each event to
    /// `hear`.
    ///
    /// # Errors
    /// The output directory has no absolute path, or this thread cannot wait for the workers.
    fn pass(
        &self,
        source: Arc<FleetSource>,
        window: DatabaseWindow,
        except: Option<&HashSet<PathBuf>>,
        hear: &mut dyn FnMut(RunEvent),
    ) -> Result<RunResult, Failure> {
        let places = self.places()?;
        let search = DiscoverySearch {
            // With `-output-dir`, configured databases are restored below that directory. Without it, each is
            // restored to its own configured path.
            options: Options { shard: self.args.shard, relative_outputs: self.args.output_dir.is_some() },
            catalogue: self.catalogue.clone(),
            max_retries: self.settings.max_retries,
            retry_delay: self.settings.retry_delay,
        };
        let feed = Feed::start(&self.session.workers, source, search, Arc::clone(&self.progress.discovery));
        let fleet = Fleet {
            engine: &self.session.workers,
            settings: &self.settings,
            progress: &self.progress,
            counters: &self.counters,
            commit: &self.commit,
            cancel: self.cancel,
        };
        let admission = Admission::new(places, self.first).only(self.only.as_ref()).except(except);
        let admission = admission.of_standbys(self.settings.work == Work::RestoreStandby);
        fleet.run(feed, admission, window, hear).map_err(|e| Failure::failed(e.class(), e.to_string()))
    }

    /// The directory to restore to, the paths that no database may overwrite (the run's own files), and the test
    /// whether the file system ignores case.
    fn places(&self) -> Result<Places, Failure> {
        let output_dir = absolute(self.args.output_dir.as_deref().unwrap_or(Path::new(".")))?;
        let own = own_files::all(self.args);
        let reserved = own.into_iter().map(|(_, path)| absolute(path)).collect::<Result<_, _>>()?;
        // The test for a file system that ignores case creates a file. A dry run creates none, so it assumes that
        // case matters.
        let folds = if self.args.dry_run { |_: &Path| false } else { folds_case };
        Ok(Places { output_dir: Arc::from(output_dir), reserved, folds })
    }

    /// Prints the summary, completes the reports, and returns the result of the command. `restored` is the result
    /// of [`Self::restore`].
    fn finish(
        &self,
        summary: &mut RunSummary,
        mut timeline: Timeline,
        restored: Result<String, Failure>,
    ) -> Result<(), Failure> {
        let took = self.start.begun.elapsed();
        timeline.sample(took, sample(&self.progress, &self.counters));
        let stages = self.session.workers.take_stages();
        // Whoever reads the lines of JSON gets a summary in every case.
        if self.args.json {
            screen::print(&summary.summary_line(&self.counters, took))?;
        }
        if summary.discovered.matched > 0 || summary.totals.ended() > 0 {
            self.log.essential(Severity::Info, &totals_line(&summary.totals, &self.counters, took), &[]);
            further_lines(summary, self.args.dry_run).iter().for_each(|line| self.log.info(line));
            past::say_of_fleet(&self.session.pasts(), self.log);
            latency_table::show(self.log, &stages);
        }
        let run = RunInfo { again: own_files::again(self.args, summary), ..self.describe(took) };
        let end = RunEnd { run, timeline: timeline.intervals(), stages, ..RunEnd::default() };
        for error in summary.finish(&self.counters, self.session.requests(), took, end) {
            self.log.essential(Severity::Warn, &error.to_string(), &[]);
        }
        if let Some(trouble) = summary.take_trouble() {
            self.log.essential(Severity::Warn, &trouble, &[]);
        }
        if let Some(call) = own_files::again(self.args, summary) {
            self.log.essential(Severity::Info, &format!("to do again what failed: {call}"), &[]);
        }
        if restored.is_ok() || !self.cancel.is_cancelled() {
            screen::print(&restored?)?;
        }
        // If a signal stopped the run, the exit code names the signal, even if databases have failed as well.
        match self.cancel.reason() {
            Some(reason) => {
                Err(Failure::Resumable { reason, try_call: Advice::Call(own_files::resume(self.args, summary)) })
            }
            None => verdict::of_totals(self.args, summary),
        }
    }

    /// The run as its reports describe it.
    fn describe(&self, took: Duration) -> RunInfo {
        let purpose = if self.args.dry_run { Purpose::Plan } else { Purpose::Restore };
        let shown = (own_files::typed(self.args), self.args.source_shown.as_str());
        let memory = self.args.common.memory_bytes;
        self.start.describe("restore-pattern", purpose, shown, memory, took, self.cancel)
    }

    /// The progress of the run at this moment, for the progress bar.
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
