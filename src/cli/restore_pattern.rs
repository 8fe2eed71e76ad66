//! `hydrant restore-pattern`, around the fleet: what is found and restored is `fleet`'s, what is
//! said of it is here.

use super::restore::from_config;
use crate::cancel::{CancellationToken, Reason};
use crate::cli::args::resolved::{PatternSource, RestorePatternArgs};
use crate::cli::session::Session;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::progress::{self, Databases, Phase, ProgressSnapshot};
use crate::cli::ui::{human, latency_table, screen};
use crate::commit::Replace;
use crate::config::{Config, Env, RestorePattern};
use crate::error::{Class, escaped};
use crate::fleet::{
    Admission, DatabaseWindow, Descriptors, DiscoverError, Discovered, DiscoverySearch, Ended, Ending, Feed, First,
    Fleet, FleetSource, Options, Places, Progress, Record, RunEvent, RunResult, RunSummary, Settings, Totals, Work,
    folds_case,
};
use crate::plan::Target;
use crate::telemetry::Counters;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const MAX_RETRIES: u32 = 3;
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// Failures told on stderr as they happen, and warnings; the error log and the report have all.
const FAILURES_TOLD: u64 = 20;
const WARNINGS_TOLD: u64 = 20;

/// Runs the command; stdout gets what `-json` and `-dry-run` ask for.
pub fn run(args: &RestorePatternArgs, env: &Env<'_>, log: &Log, cancel: &CancellationToken) -> Result<(), Failure> {
    let begun = Instant::now();
    let counters = Arc::new(Counters::default());
    let config = match &args.source {
        PatternSource::Url(_) => None,
        PatternSource::Configured { config, .. } => {
            Some(Config::load(&config.path, config.expand_env, env).map_err(|e| from_config(&e))?)
        }
    };
    let section = config.as_ref().and_then(|config| config.restore_pattern.clone()).unwrap_or_default();
    let parallel = args.parallel.map(usize::from).or_else(|| section.parallel_workers.map(|n| n as usize));
    let settings = settings(args, &section);
    let useful = Descriptors::useful_databases(args.common.max_requests.map(usize::from));
    // A dry run checks nothing.
    let checks = settings.check.is_some() && settings.work == Work::Restore;
    let session = Session::open(&args.common, parallel.unwrap_or(useful), checks, &counters, log, cancel)?;
    if let Some(asked) = parallel.filter(|asked| *asked > session.tasks) {
        log.info(&format!("--parallel {asked}: only {} fit the limit of open files (ulimit -n)", session.tasks));
    }
    let source = source(args, config.as_ref(), env, &session)?;
    let first = First::new(&args.first, &source, env).map_err(|e| Failure::usage(format!("--first: {e}")))?;
    let mut books = open_books(args)?;
    let run =
        PatternRun { args, settings, session, counters, first, log, cancel, begun, progress: Progress::default() };
    let ended = progress::during(progress_mode(args), log, || run.snapshot(), || run.all(source, parallel, &mut books));
    let told = run.tell(&mut books, ended);
    // The workers stop before the process says that it is done.
    drop(run);
    told
}

/// A fleet is long enough for lines in a log.
fn progress_mode(args: &RestorePatternArgs) -> crate::cli::args::resolved::ProgressMode {
    match args.progress {
        crate::cli::args::resolved::ProgressMode::Auto => crate::cli::args::resolved::ProgressMode::Always,
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

fn source(
    args: &RestorePatternArgs,
    config: Option<&Config>,
    env: &Env<'_>,
    session: &Session,
) -> Result<FleetSource, Failure> {
    let open = &mut |store: &_| session.store(store);
    let source = match (&args.source, config) {
        (PatternSource::Configured { glob, .. }, Some(config)) => FleetSource::config(glob, config, env, open),
        (PatternSource::Url(url), _) => FleetSource::url(url, env, open),
        (PatternSource::Configured { .. }, None) => return Err(Failure::failed(Class::Config, "no configuration")),
    };
    source.map_err(|e| not_found(&e))
}

pub(super) fn not_found(error: &DiscoverError) -> Failure {
    match error {
        DiscoverError::Pattern(e) => Failure::usage(e.to_string()),
        e => Failure::failed(e.class(), e.to_string()),
    }
}

/// The listing failed half-way: what it had shown until then was restored.
fn not_all_found(error: &DiscoverError, books: &mut RunSummary) -> Failure {
    let reason = format!("{}: {error}", error.class());
    books.not_all_known(reason.clone());
    match books.totals.done() {
        0 => not_found(error),
        _ => Failure::Partial {
            message: format!("not all databases are known, only those listed before this were restored: {reason}"),
            try_call: Some("hydrant restore-pattern --if-db-not-exists …, which restores what is missing".to_owned()),
        },
    }
}

fn open_books(args: &RestorePatternArgs) -> Result<RunSummary, Failure> {
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
    /// Finds and restores; what is left to be printed.
    fn all(&self, source: FleetSource, parallel: Option<usize>, books: &mut RunSummary) -> Result<String, Failure> {
        let places = self.places()?;
        let search = DiscoverySearch {
            // Outputs of configured databases: where they were, or below `--output-dir`.
            options: Options { shard: self.args.shard.map(shard), relative_outputs: self.args.output_dir.is_some() },
            early: source.is_handed_over() && !self.args.dry_run && !(places.folds)(&places.output_dir),
            max_retries: self.settings.max_retries,
            retry_delay: self.settings.retry_delay,
        };
        let progress = Arc::clone(&self.progress.discovery);
        let feed = Feed::start(&self.session.engine, Arc::new(source), search, progress);
        let mut teller = Reporter { run: self, books, rows: Vec::new(), warned: 0, broken: None };
        let fleet = Fleet {
            engine: &self.session.engine,
            settings: &self.settings,
            progress: &self.progress,
            counters: &self.counters,
            cancel: self.cancel,
        };
        let window = DatabaseWindow::new(parallel, self.session.tasks, self.session.requests());
        let ran = fleet.run(feed, Admission::new(places, &self.first), window, &mut |heard| teller.hear(heard));
        let RunResult { left, discovered } = ran.map_err(|e| Failure::failed(e.class(), e.to_string()))?;
        let Reporter { rows, broken, .. } = teller;
        books.totals.left = left as u64;
        if let Some(failure) = broken {
            return Err(failure);
        }
        match discovered {
            Some(Ok(())) if books.discovered.matched == 0 => {
                let pattern = escaped(&self.args.source_shown);
                Err(Failure::failed(Class::BackupNotFound, format!("no database matches {pattern}")))
            }
            Some(Ok(())) if self.args.dry_run && !self.args.json => Ok(plan_text(rows, &books.totals)),
            Some(Ok(())) => Ok(String::new()),
            Some(Err(e)) => Err(not_all_found(&e, books)),
            None => {
                books.not_all_known("interrupted before all was listed".to_owned());
                Err(self.cancelled())
            }
        }
    }

    fn cancelled(&self) -> Failure {
        Failure::Cancelled(self.cancel.reason().unwrap_or(Reason::Abandoned))
    }

    fn places(&self) -> Result<Places, Failure> {
        let output_dir = absolute(self.args.output_dir.as_deref().unwrap_or(Path::new(".")))?;
        let own = self.args.report.as_deref().into_iter().chain(Some(self.args.error_log.as_path()));
        let reserved = own.map(absolute).collect::<Result<_, _>>()?;
        // Nothing is written by a dry run, not even to find out.
        let folds = if self.args.dry_run { |_: &Path| false } else { folds_case };
        Ok(Places { output_dir: Arc::from(output_dir), reserved, folds })
    }

    /// The end: summary, report, exit code.
    fn tell(&self, books: &mut RunSummary, ended: Result<String, Failure>) -> Result<(), Failure> {
        let took = self.begun.elapsed();
        let stages = self.session.engine.take_stages();
        let ran = books.discovered.matched > 0 || books.totals.done() + books.totals.failed > 0;
        if ran {
            if self.args.json {
                screen::print(&books.summary_line(&self.counters, took))?;
            }
            self.log.info(&summary(&books.totals, &self.counters, took));
            latency_table::tell(self.log, &stages);
        }
        if let Err(e) = books.finish(&self.counters, &stages, self.session.requests(), took) {
            self.log.warn(&format!("cannot write the report: {e}"));
        }
        if let Some(trouble) = books.take_trouble() {
            self.log.warn(&trouble);
        }
        let text = match ended {
            // By whatever else it ended: who stopped it is told that it was.
            Err(_) if self.cancel.is_cancelled() => return Err(self.cancelled()),
            ended => ended?,
        };
        screen::print(&text)?;
        if self.cancel.is_cancelled() {
            return Err(self.cancelled());
        }
        let Totals { failed, .. } = books.totals;
        if failed == 0 {
            return Ok(());
        }
        let all = human::thousands(failed + books.totals.done());
        let what = if self.args.dry_run { "cannot be restored" } else { "were not restored" };
        let log = match self.args.dry_run {
            true => String::new(),
            false => format!("; see {}", self.args.error_log.display()),
        };
        let classes = books.totals.classes();
        let message = format!("{} of {all} databases {what}: {classes}{log}", human::thousands(failed));
        let failure = match books.totals.done() {
            0 => Failure::failed(Class::Io, message),
            _ => Failure::Partial { message, try_call: None },
        };
        match books.totals.classes.get(&Class::OutputExists) {
            Some(1..) if !self.args.if_db_not_exists => Err(failure.try_call(
                "hydrant restore-pattern --if-db-not-exists …, which skips outputs that exist; --force replaces them",
            )),
            _ => Err(failure),
        }
    }

    fn snapshot(&self) -> ProgressSnapshot {
        let progress = &self.progress;
        let all_found = progress.all_found.load(Relaxed);
        let (bytes_done, bytes_total) = progress.bytes(&self.counters);
        let found = if all_found { &progress.total } else { &progress.discovery.databases };
        let begun = all_found || progress.total.load(Relaxed) > 0;
        ProgressSnapshot {
            phase: match (begun, self.args.dry_run) {
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

/// Says what became of each database, as it ends.
struct Reporter<'a> {
    run: &'a PatternRun<'a>,
    books: &'a mut RunSummary,
    /// Of a dry run.
    rows: Vec<[String; 6]>,
    warned: u64,
    /// stdout cannot be written to.
    broken: Option<Failure>,
}

impl Reporter<'_> {
    fn hear(&mut self, heard: RunEvent) {
        let log = self.run.log;
        match heard {
            RunEvent::ListingAgain(e) => log.warn(&format!("listing again: {e}")),
            RunEvent::PutRight(notice) => log.warn(&notice.to_string()),
            RunEvent::Ended(ended) => self.ended(&ended),
            RunEvent::PossiblyIncomplete(ended) => {
                self.books.possibly_incomplete(&ended);
                if let Ending::Failed { reason, .. } = &ended.ending {
                    self.failed(&escaped(ended.name()), reason);
                }
            }
            RunEvent::AllFound { discovered, any_first } => {
                log.info(&found_line(&discovered, self.run.args));
                if !any_first && !self.run.first.is_empty() && discovered.matched > 0 {
                    log.warn("no database matches --first");
                }
                self.books.discovered = discovered;
            }
        }
    }

    fn ended(&mut self, ended: &Ended) {
        let (args, log) = (self.run.args, self.run.log);
        let record = self.books.add(ended);
        if let Some(trouble) = self.books.take_trouble() {
            log.warn(&trouble);
        }
        if args.json && self.broken.is_none() {
            self.broken = screen::print(&record.to_json_line()).err();
        }
        let name = escaped(record.subject.name());
        for warning in &record.warnings {
            self.warned += 1;
            let severity = if self.warned <= WARNINGS_TOLD { Severity::Warn } else { Severity::Debug };
            log.say(severity, &format!("{name}: {warning}"), &[]);
            if self.warned == WARNINGS_TOLD {
                log.warn("further warnings are shown with -v, and in the report");
            }
        }
        match &ended.ending {
            Ending::Failed { .. } => self.failed(&name, record.reason.as_deref().unwrap_or_default()),
            Ending::Skipped(why) => log.debug(&format!("{name}: {why}, skipping")),
            Ending::Restored { outcome, .. } if log.shows(Severity::Debug) => log.debug(&format!(
                "restored {name}: {} at txid {} in {}",
                human::bytes(outcome.bytes_out),
                outcome.txid,
                human::duration(ended.elapsed)
            )),
            Ending::Restored { .. } | Ending::Rehearsed(_) => {}
            Ending::Planned(_) if args.json => {}
            Ending::Planned(_) => self.rows.push(row(&record)),
        }
    }

    fn failed(&self, name: &str, reason: &str) {
        let (failed, log) = (self.books.totals.failed, self.run.log);
        let line = format!("{name}: {reason}");
        match failed {
            ..=FAILURES_TOLD => log.warn(&line),
            _ => log.debug(&line),
        }
        if failed == FAILURES_TOLD && !self.run.args.dry_run {
            log.warn(&format!("further failures are in {}", self.run.args.error_log.display()));
        }
    }
}

fn shard(shard: crate::cli::args::resolved::Shard) -> crate::fleet::Shard {
    crate::fleet::Shard { index: shard.index, of: shard.of }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|e| Failure::failed(Class::Io, format!("cannot make {} absolute: {e}", path.display())))
}

/// `found 49 databases in 22 folders, 47 with backups, 2 without (3 listings, 120 ms)`
fn found_line(discovered: &Discovered, args: &RestorePatternArgs) -> String {
    let mut line = format!(
        "found {} in {}: {} with backups, {} without",
        human::count(discovered.databases, "database"),
        human::count(discovered.folders, "folder"),
        human::thousands(discovered.with_backups),
        human::thousands(discovered.without_backups),
    );
    if discovered.v3_only > 0 {
        line.push_str(&format!(", {} in the v0.3.x format only", human::thousands(discovered.v3_only)));
    }
    if let Some(crate::cli::args::resolved::Shard { index, of }) = args.shard {
        line.push_str(&format!("; share {index} of {of}, {} in all", human::thousands(discovered.matched)));
    }
    let took = human::duration(Duration::from_millis(discovered.discovery_ms));
    line.push_str(&format!(" ({}, {took})", human::count(discovered.lists, "listing")));
    line
}

/// `restored 45, skipped 0, failed 4; 1.2 MiB from 800 KiB fetched in 0.4 s (3.0 MiB/s), 195 requests`
fn summary(totals: &Totals, counters: &Counters, took: Duration) -> String {
    let mut line = match totals.planned {
        0 => format!("restored {}", human::thousands(totals.restored)),
        planned => format!("can restore {}", human::thousands(planned)),
    };
    line.push_str(&format!(
        ", skipped {}, failed {}",
        human::thousands(totals.skipped),
        human::thousands(totals.failed)
    ));
    if totals.left > 0 {
        line.push_str(&format!(", interrupted {}", human::thousands(totals.left)));
    }
    if totals.restored > 0 {
        line.push_str(&format!(
            "; {} from {} fetched ({})",
            human::bytes(totals.bytes),
            human::bytes(totals.bytes_fetched),
            human::speed(totals.bytes as f64 / took.as_secs_f64().max(0.001)),
        ));
    }
    let took = human::duration(took);
    line.push_str(&match counters.lists.get() + counters.gets.get() + counters.heads.get() {
        // From files.
        0 => format!("; in {took}"),
        requests => format!("; {} in {took}", human::count(requests, "request")),
    });
    if totals.retries > 0 {
        line.push_str(&format!(", {} tried again", human::count(totals.retries, "database")));
    }
    line
}

fn row(record: &Record) -> [String; 6] {
    let number = |n: Option<u64>| n.unwrap_or_default().to_string();
    [
        escaped(record.subject.name()),
        escaped(record.db_path.as_deref().unwrap_or_default()),
        record.txid.clone().unwrap_or_default(),
        number(record.files),
        number(record.bytes_fetched),
        number(record.requests),
    ]
}

fn plan_text(mut rows: Vec<[String; 6]>, totals: &Totals) -> String {
    rows.sort();
    rows.insert(0, ["database", "target", "txid", "files", "bytes", "requests"].map(str::to_owned));
    format!(
        "{}\n{}: {}, {} in {}\n",
        screen::table(&rows),
        human::count(totals.planned, "database"),
        human::count(totals.files, "file"),
        human::bytes(totals.bytes_fetched),
        human::count(totals.requests, "request"),
    )
}
