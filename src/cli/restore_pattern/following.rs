//! `hydrant restore-pattern --follow`: restores the fleet as without the flag, then keeps it up to date until a signal ends
//! it (docs/FOLLOW.md, "A fleet"). Databases that are new in the bucket are restored by further passes of the same fleet.

use super::fleet_figures::FleetFigures;
use super::{PatternRun, run_counting, settings};
use crate::cancel::{CancellationToken, Reason};
use crate::cli::args::resolved::{FleetFollowArgs, PatternSource, ProgressMode, RestorePatternArgs};
use crate::cli::failures::absolute;
use crate::cli::follow::tell_event;
use crate::cli::reported::RunStart;
use crate::cli::session::Session;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::human;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::screen;
use crate::cli::ui::systemd::{Starting, Systemd};
use crate::commit::{CommitContext, Replace};
use crate::config::{Env, RestorePattern};
use crate::error::{Class, escaped};
use crate::fleet::{
    CatalogueUse, DatabaseRef, DatabaseWindow, Ended, Ending, First, FleetSource, Progress, RunEvent, RunResult,
    Settings, Subject,
};
use crate::follow::fleet::{
    FleetEvent, FleetNews, FleetObserver, FleetOrder, FleetStatus, FleetTotals, FollowedDatabase, follow_fleet,
    lock_standby,
};
use crate::follow::{self, FollowLock, OtherFollower, Taken, sidecar};
use crate::ltx::Txid;
use crate::process::locks::lock;
use crate::telemetry::Counters;
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// At most 256 databases are open at a time.
const MOST_OPEN: usize = 256;
/// At most 8 new databases are restored at a time.
const NEW_AT_A_TIME: usize = 8;
/// The fleet is looked for anew every 5 min, and sooner if a scan shows a database that nobody knows.
const DISCOVER_EVERY: Duration = Duration::from_secs(300);
/// What Amazon S3 asks for 1,000 LISTs, and for 1,000 GETs, in dollars.
const DOLLARS: (f64, f64) = (0.005, 0.0004);

/// What the first restore leaves to the followers.
#[derive(Default)]
pub(super) struct FirstRestore {
    run: OnceLock<Run>,
    databases: Mutex<Vec<FollowedDatabase>>,
}

/// What is the same for the first restore and for those of new databases.
struct Run {
    /// The arguments with the configuration file's defaults.
    args: RestorePatternArgs,
    /// The configuration file's section with defaults.
    section: RestorePattern,
    /// Where the databases are found. Its stores are used from the first listing to the end.
    source: Arc<FleetSource>,
    /// What all outputs remember in common: a directory is put right once, before a database in it is open.
    commit: CommitContext,
}

impl FirstRestore {
    /// Notes what the run works with.
    pub(super) fn begin(
        &self,
        args: &RestorePatternArgs,
        section: &RestorePattern,
        source: &Arc<FleetSource>,
        commit: &CommitContext,
    ) {
        let (source, commit) = (Arc::clone(source), commit.clone());
        let run = Run { args: args.clone(), section: section.clone(), source, commit };
        // Only a second run would find it set.
        let _ = self.run.set(run);
    }

    /// Takes a database that was restored, or that exists and has a sidecar.
    pub(super) fn take(&self, ended: &Ended, log: &Log) {
        match followed(ended) {
            Some(Ok(database)) => lock(&self.databases).push(database),
            Some(Err(why)) => log.warn(&why),
            None => {}
        }
    }
}

/// The database to follow. None if there is none: it has failed. An error if it exists and cannot be taken up.
fn followed(ended: &Ended) -> Option<Result<FollowedDatabase, String>> {
    let (Subject::Database(database), Some(output)) = (&ended.subject, &ended.output) else { return None };
    let at = match &ended.ending {
        Ending::Restored { outcome, .. } => restored(database, output, outcome.txid),
        Ending::Skipped(_) if output.exists() => existing(database, output),
        _ => return None,
    };
    let path = || escaped(&output.to_string_lossy()).to_string();
    Some(at.map_err(|why| format!("cannot follow {}: {why}", path())).map(|at| FollowedDatabase {
        name: Arc::from(database.name()),
        store: database.store.clone(),
        replica: Arc::from(database.path()),
        database: Arc::new(output.clone()),
        at,
    }))
}

/// Completes a standby that was restored at TXID `at`.
fn restored(database: &DatabaseRef, output: &Path, at: Txid) -> Result<Txid, String> {
    let mut lock = lock_standby(output, &database.store, database.path())?;
    lock.name_source().map_err(|error| format!("cannot write the file that names its replica: {error}"))?;
    lock.keep();
    // One that has replaced another database has no sidecar yet.
    if !matches!(sidecar::read(output), Ok(Some(_))) {
        sidecar::write(output, at).map_err(|error| format!("cannot write its sidecar (-txid): {error}"))?;
    }
    Ok(at)
}

/// The TXID of a standby that exists.
fn existing(database: &DatabaseRef, output: &Path) -> Result<Txid, String> {
    let at = match sidecar::read(output) {
        Ok(Some(at)) => at,
        Ok(None) => return Err("it exists and has no sidecar (-txid), so its TXID is unknown".to_owned()),
        Err(error) => return Err(format!("it exists, and its sidecar (-txid) cannot be read: {error}")),
    };
    let mut lock = lock_standby(output, &database.store, database.path())?;
    lock.check_source().map_err(|error| error.to_string())?;
    lock.keep();
    Ok(at)
}

/// Runs the command. A signal ends it with success.
///
/// # Errors
/// Nothing was restored and nothing can be followed.
pub(super) fn run(
    args: &RestorePatternArgs,
    how: FleetFollowArgs,
    env: &Env<'_>,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    follow::check_build().map_err(|error| Failure::failed(error.class(), error.to_string()))?;
    let systemd = Systemd::of(env);
    let starting = systemd.starting();
    // The first restore makes the directory, with its owner and mode.
    let directory = fleet_directory(args)?;
    let lock = directory.as_deref().filter(|directory| directory.is_dir()).map(|directory| lock_fleet(directory, args));
    let lock = lock.transpose()?;
    let (counters, figures): (Arc<Counters>, Arc<FleetFigures>) = Default::default();
    let metrics = figures.write(args, &counters, log)?;
    let lock = (directory, lock);
    let followed = restore_and_follow(args, how, (env, log, cancel), (counters, figures), (systemd, starting), lock);
    metrics.finish();
    followed
}

fn restore_and_follow(
    args: &RestorePatternArgs,
    how: FleetFollowArgs,
    (env, log, cancel): (&Env<'_>, &Log, &CancellationToken),
    (counters, figures): (Arc<Counters>, Arc<FleetFigures>),
    (systemd, starting): (Systemd, Option<Starting>),
    (directory, taken): (Option<PathBuf>, Option<FollowLock>),
) -> Result<(), Failure> {
    let first = FirstRestore::default();
    match run_counting(args, env, log, cancel, &counters, &mut None, Some(&first)) {
        Ok(()) => {}
        // A signal during the first restore leaves what was restored, as standbys.
        Err(_) if cancel.is_cancelled() => return Ok(()),
        Err(Failure::Partial { message, .. }) => log.essential(Severity::Warn, &message, &[]),
        Err(failure) => return Err(failure),
    }
    let Some(Run { args, section, source, commit }) = first.run.get() else {
        return Err(Failure::internal("the first restore has left no source"));
    };
    if lock(&first.databases).is_empty() && !args.if_replica_exists {
        return Err(Failure::failed(Class::Config, "no database can be followed"));
    }
    let _lock = match (taken, directory) {
        (None, Some(directory)) => Some(lock_fleet(&directory, args)?),
        (taken, _) => taken,
    };
    let following = Following { args, section, how, env, log, cancel, source, commit, counters, figures };
    let (totals, status) = following
        .until_cancelled(std::mem::take(&mut *lock(&first.databases)), FleetNotifier::new(systemd, starting))?;
    following.summarise(&totals, &status)
}

/// The directory of the outputs, which is locked, so that `hydrant promote` finds this process. None: with litestream.yml and
/// without `-output-dir`, databases have no common directory, and only the open ones are locked.
fn fleet_directory(args: &RestorePatternArgs) -> Result<Option<PathBuf>, Failure> {
    let directory = match (&args.output_dir, &args.source) {
        (Some(directory), _) => directory.clone(),
        (None, PatternSource::Url(_)) => PathBuf::from("."),
        (None, PatternSource::Configured { .. }) => return Ok(None),
    };
    let directory = absolute(&directory)?;
    if directory.to_str().is_none() {
        let message = format!("{} is not UTF-8, which follow mode needs", escaped(&directory.to_string_lossy()));
        return Err(Failure::failed(Class::Config, message));
    }
    Ok(Some(directory))
}

/// Locks the directory of the outputs.
fn lock_fleet(directory: &Path, args: &RestorePatternArgs) -> Result<FollowLock, Failure> {
    let shown = args.output_dir.as_deref().unwrap_or(Path::new(".")).to_string_lossy();
    let shown = escaped(&shown);
    let failed = |error: std::io::Error| Failure::failed(Class::Io, format!("cannot lock {shown}: {error}"));
    match FollowLock::take_directory(directory, &args.source_shown).map_err(failed)? {
        Taken::Lock(mut lock) => {
            // The file may name an earlier pattern.
            lock.name_source().map_err(failed)?;
            Ok(lock)
        }
        Taken::Other(OtherFollower { pid, source }) => {
            let pid = pid.map_or_else(|| "in another container".to_owned(), |pid| format!("with process ID {pid}"));
            let message = format!("{shown} is followed already, by a process {pid}, from {source}");
            Err(Failure::failed(Class::InUse, message))
        }
    }
}

struct Following<'a> {
    args: &'a RestorePatternArgs,
    section: &'a RestorePattern,
    how: FleetFollowArgs,
    env: &'a Env<'a>,
    log: &'a Log,
    cancel: &'a CancellationToken,
    source: &'a Arc<FleetSource>,
    commit: &'a CommitContext,
    counters: Arc<Counters>,
    figures: Arc<FleetFigures>,
}

impl Following<'_> {
    /// Follows `databases`, and those that appear, until a signal comes.
    fn until_cancelled(
        &self,
        databases: Vec<FollowedDatabase>,
        notifier: FleetNotifier,
    ) -> Result<(FleetTotals, FleetStatus), Failure> {
        // The workers are not stopped by the signal, but by the end of the followers: the databases are closed first.
        let stop = CancellationToken::new();
        let most = MOST_OPEN + NEW_AT_A_TIME;
        let session = Session::open(&self.args.common, most, false, &self.counters, self.log, &stop)?;
        let (news, brought) = unbounded_channel();
        let known = databases.iter().map(|database| database.database.to_path_buf()).collect();
        for database in databases {
            // Fails only if the loop has ended.
            let _ = news.send(FleetNews::Database(database));
        }
        let _ = news.send(FleetNews::Discovered);
        let order = FleetOrder {
            interval: self.how.interval,
            lists_per_second: self.how.lists_per_second,
            prefix: self.source.list_prefix(),
            most_open: session.max_databases.saturating_sub(NEW_AT_A_TIME).max(1),
            heartbeat: notifier.systemd.heartbeat(),
            cancel: self.cancel.clone(),
        };
        let (ask, asked) = channel();
        let (ended, result) = channel();
        let observer = self.observer(notifier);
        drop(session.workers.submit(move |worker| {
            Box::pin(async move {
                let followed = follow_fleet(worker, order, brought, ask, observer).await;
                // Fails only if nobody waits for it any more.
                let _ = ended.send(followed);
                stop.cancel(Reason::Terminate);
            })
        }));
        self.discover_anew(&session, &asked, known, &news)?;
        result.recv().map_err(|_| Failure::internal("the workers ended before the followers"))
    }

    /// Looks for databases besides the `known` ones from time to time, and restores them. Returns when the followers have
    /// ended.
    fn discover_anew(
        &self,
        session: &Session,
        asked: &Receiver<()>,
        mut known: HashSet<PathBuf>,
        news: &UnboundedSender<FleetNews>,
    ) -> Result<(), Failure> {
        let first =
            First::new(&self.args.first, self.source, self.env).map_err(|e| Failure::usage(format!("--first: {e}")))?;
        let run = PatternRun {
            args: self.args,
            // What is there is followed, also if `-force` has replaced it.
            settings: Settings { replace: Replace::Never, ..settings(self.args, self.section) },
            session,
            counters: Arc::clone(&self.counters),
            first: &first,
            only: None,
            catalogue: CatalogueUse::List,
            commit: self.commit.clone(),
            log: self.log,
            cancel: self.cancel,
            start: RunStart::now(),
            progress: Progress::default(),
            standbys: None,
        };
        let mut warned = BTreeMap::new();
        // Ends with the followers, which hold the other end of the channel.
        loop {
            match asked.recv_timeout(DISCOVER_EVERY) {
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            }
            let window = DatabaseWindow::new(Some(NEW_AT_A_TIME), NEW_AT_A_TIME, session.requests());
            // This pass answers all that was asked so far.
            while asked.try_recv().is_ok() {}
            // Messages fail only if the followers have ended.
            let _ = news.send(FleetNews::Discovering);
            let mut new = Vec::new();
            let passed = run.pass(Arc::clone(self.source), window, Some(&known), &mut |event| match event {
                RunEvent::ListingAgain(error) => self.log.debug(&format!("listing again: {error}")),
                RunEvent::PutRight(notice) => self.log.warn(&notice.to_string()),
                RunEvent::Ended(ended) => {
                    if let Some(database) = self.take_new(&ended, &mut warned) {
                        new.push(database.database.to_path_buf());
                        let _ = news.send(FleetNews::Database(database));
                    }
                }
                RunEvent::AllFound { .. } | RunEvent::LittleSpace(_) => {}
            });
            known.extend(new);
            let error = match passed {
                Ok(RunResult { discovered: Some(Err(error)), .. }) => error.to_string(),
                Ok(_) => String::new(),
                Err(failure) => failure.message().to_owned(),
            };
            if error.is_empty() {
                let _ = news.send(FleetNews::Discovered);
            } else if !self.cancel.is_cancelled() {
                self.log.warn(&format!("cannot look for new databases: {error}; trying again"));
            }
        }
    }

    /// The database to follow that a pass has found or restored. `warned`: what was said of each that cannot be followed.
    fn take_new(&self, ended: &Ended, warned: &mut BTreeMap<String, String>) -> Option<FollowedDatabase> {
        let name = escaped(ended.name()).to_string();
        let why = match (followed(ended), &ended.ending) {
            (Some(Ok(database)), ending) => {
                warned.remove(&name);
                if let Ending::Restored { outcome, .. } = ending {
                    self.log.info(&format!("new: {name}, restored at txid {}", outcome.txid));
                }
                return Some(database);
            }
            (Some(Err(why)), _) => why,
            (None, Ending::Failed { reason, .. }) => format!("{name}: {reason}"),
            (None, _) => return None,
        };
        if !self.cancel.is_cancelled() && warned.get(&name) != Some(&why) {
            self.log.warn(&why);
            warned.insert(name, why);
        }
        None
    }

    fn observer(&self, notifier: FleetNotifier) -> FleetObserver {
        let log = self.log.clone();
        let shows_bar = self.args.progress != ProgressMode::Never && log.is_terminal();
        let (counters, shown) = (Arc::clone(&self.counters), Mutex::new(String::new()));
        let figures = Arc::clone(&self.figures);
        Arc::new(move |event| {
            notifier.notify(event);
            figures.note(event);
            match event {
                FleetEvent::Of(name, event) => tell_event(&log, name, event),
                FleetEvent::Stopped(name, error) => {
                    log.warn(&format!("{} is not followed any more: {error}", escaped(name)));
                }
                FleetEvent::NotOpened(name, why) => {
                    log.warn(&format!("{} is not followed any more: {why}", escaped(name)));
                }
                FleetEvent::Paused(name, why) => {
                    log.warn(&format!("{} cannot go on: {why}; it is tried again", escaped(name)));
                }
                FleetEvent::Vanished(name) => {
                    log.warn(&format!("the replica of {} is gone; its standby stays as it is", escaped(name)));
                }
                FleetEvent::Returned(name) => log.info(&format!("the replica of {} is there again", escaped(name))),
                FleetEvent::ScanFailed(error) => log.warn(&format!("{error}; trying again")),
                FleetEvent::ScanRecovered => log.info("listings succeed again"),
                FleetEvent::FirstScan { lists: 0, .. } => {}
                FleetEvent::FirstScan { lists, every } => log.info(&cost(*lists, *every)),
                FleetEvent::Ready(status) => {
                    let how = if status.is_looked_at { "caught up" } else { "ready" };
                    log.info(&format!("{how}: {}", status_text(status)));
                }
                FleetEvent::Status(status) => {
                    let text = format!("following {}", status_text(status));
                    let line = format!("{text}, {} requests", human::thousands(counters.sent()));
                    let mut last = lock(&shown);
                    if shows_bar && *last != line {
                        log.bar(Some(line.clone()));
                        *last = line;
                    }
                }
                FleetEvent::Ending if shows_bar => log.bar(None),
                FleetEvent::Scanned { .. } | FleetEvent::Ending | FleetEvent::Alive => {}
            }
        })
    }

    /// Says what was done, in one line of text and, with `-json`, in one of JSON.
    fn summarise(&self, totals: &FleetTotals, status: &FleetStatus) -> Result<(), Failure> {
        let line = format!(
            "stopped: {}; {} applied in {}, {} requests",
            status_text(status),
            human::count(totals.applied, "change"),
            human::count(totals.scans, "scan"),
            human::thousands(self.counters.sent())
        );
        self.log.essential(Severity::Info, &line, &[]);
        if !self.args.json {
            return Ok(());
        }
        let json = json!({
            "type": "followed",
            "databases": status.databases,
            "up_to_date": status.up_to_date,
            "behind": status.behind(),
            "stopped": status.stopped,
            "vanished": status.vanished,
            "scans": totals.scans,
            "polls": totals.polls,
            "failed_polls": totals.failed_polls,
            "applied": totals.applied,
            "files": totals.files,
            "pages": totals.pages,
            "holes": totals.holes,
            "requests": self.counters.sent(),
        });
        screen::print(&format!("{json}\n"))
    }
}

/// What following costs, for people who pay for requests.
fn cost(lists: u64, every: Duration) -> String {
    let per_hour = lists as f64 * 3600.0 / every.as_secs_f64().max(0.001);
    let (list, get) = DOLLARS;
    format!(
        "at most {} every {}: {} LISTs an hour, ${:.2} at Amazon's {list} for 1,000; and one GET per interval for each \
         database that changes, ${get} for 1,000",
        human::count(lists, "LIST"),
        human::duration(every),
        human::thousands(per_hour.round() as u64),
        per_hour / 1000.0 * list,
    )
}

/// `1,000 databases: 997 up to date, 2 behind (median 0 seconds, worst 12 seconds: a.db), 50 open, 1 stopped`.
fn status_text(status: &FleetStatus) -> String {
    let count = |n: usize| human::thousands(n as u64);
    if !status.is_looked_at && status.databases > 0 {
        return format!("{}, not all looked at yet", human::count(status.databases as u64, "database"));
    }
    let mut text =
        format!("{}: {} up to date", human::count(status.databases as u64, "database"), count(status.up_to_date));
    if let Some((seconds, name)) = &status.worst_behind {
        let worst = human::age(*seconds);
        let median = human::age(status.median_behind_seconds);
        text += &format!(", {} behind (median {median}, worst {worst}: {})", count(status.behind()), escaped(name));
    }
    for (number, what) in [(status.open, "open"), (status.stopped, "stopped"), (status.vanished, "without replica")] {
        if number > 0 {
            text += &format!(", {} {what}", count(number));
        }
    }
    text
}

/// Tells systemd of events.
struct FleetNotifier {
    systemd: Systemd,
    /// Asks for more time until all databases have caught up.
    starting: Mutex<Option<Starting>>,
    told: Mutex<String>,
}

impl FleetNotifier {
    fn new(systemd: Systemd, starting: Option<Starting>) -> Self {
        Self { systemd, starting: Mutex::new(starting), told: Mutex::default() }
    }

    fn notify(&self, event: &FleetEvent<'_>) {
        match event {
            FleetEvent::Ready(status) => {
                drop(lock(&self.starting).take());
                self.systemd.ready(&status_text(status));
            }
            FleetEvent::Status(status) => {
                self.systemd.retry();
                let text = status_text(status);
                let mut told = lock(&self.told);
                if *told != text {
                    self.systemd.status(&text);
                    *told = text;
                }
            }
            FleetEvent::Alive => self.systemd.alive(),
            FleetEvent::Ending => {
                drop(lock(&self.starting).take());
                self.systemd.stopping();
            }
            _ => {}
        }
    }
}
