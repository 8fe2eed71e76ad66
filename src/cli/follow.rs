//! The command `hydrant restore -f`: restores a database where there is none, then keeps it up to date until a signal
//! ends it (docs/FOLLOW.md).

use crate::cancel::CancellationToken;
use crate::cli::args::resolved::RestoreArgs;
use crate::cli::metrics::refuse_output;
use crate::cli::restore::{RestoreRequest, Restorer, locate, output_path, summary};
use crate::cli::session::{OneDatabase, Session};
use crate::cli::standby_metrics::StandbyFigures;
use crate::cli::ui::failure::{Advice, Failure};
use crate::cli::ui::human;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::progress::{self, ProgressMode};
use crate::cli::ui::screen;
use crate::cli::ui::systemd::{Starting, Systemd};
use crate::commit::stands_at;
use crate::config::{Env, Location, StoreConfig};
use crate::error::{Class, escaped};
use crate::follow::{
    self, FollowError, FollowEvent, FollowLock, FollowRequest, FollowSummary, OtherFollower, StandbyError, Taken,
    Until, sidecar,
};
use crate::ltx::Txid;
use crate::process::locks::lock;
use crate::restore::{self, Request, RestoreOutcome, Restored, Worker};
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The JSON object that `hydrant restore -f -json` prints at its end.
#[derive(Serialize)]
struct FollowJson<'a> {
    db_path: &'a str,
    replica: &'static str,
    /// The TXID that the database holds.
    txid: String,
    /// Whether the database was restored by this run.
    restored: bool,
    polls: u64,
    failed_polls: u64,
    applied: u64,
    files: u64,
    pages: u64,
    holes: u64,
    requests: u64,
}

/// Runs the command and returns the text to print on stdout. A signal ends it with success.
///
/// # Errors
/// The first restore fails, or the standby cannot go on.
pub(super) fn run(
    args: &RestoreArgs,
    env: &Env<'_>,
    log: &Log,
    cancel: &CancellationToken,
    engine: &OneDatabase,
) -> Result<String, Failure> {
    follow::check_build().map_err(|error| failed(error.into()))?;
    let (output, output_shown) = output_path(args)?;
    // SQLite could not open it, after the database was restored.
    if output.to_str().is_none() {
        return Err(failed(StandbyError::NotUtf8 { path: output }.into()));
    }
    if let Some(metrics) = args.metrics_textfile.as_deref() {
        refuse_output(metrics, &output)?;
        engine.put_right(metrics, log);
    }
    let (about, figures) = ((&*args.source_shown, &*output_shown), Arc::new(StandbyFigures::default()));
    let metrics = args.metrics_textfile.as_deref();
    let metrics = figures.write_to(metrics, about, engine.counters_shared(), log)?;
    let ended = run_counting(args, (&output, &output_shown), env, log, cancel, engine, &figures);
    metrics.finish();
    ended
}

/// As [`run`], without metrics. `figures` is for them.
fn run_counting(
    args: &RestoreArgs,
    (output, output_shown): (&Path, &str),
    env: &Env<'_>,
    log: &Log,
    cancel: &CancellationToken,
    engine: &OneDatabase,
    figures: &Arc<StandbyFigures>,
) -> Result<String, Failure> {
    let (location, section) = locate(&args.source, &args.source_shown, env, log)?;
    let mut args = args.clone();
    args.common.use_defaults(&section);
    let args = &args;
    let request = RestoreRequest { args, location: &location, output, output_shown, log, cancel };
    let systemd = Systemd::of(env);
    let standby = StandbyCommand { request: &request, engine };
    let starting = systemd.starting();
    let (mut lock, start) = match standby.start() {
        Ok(started) => started,
        // A signal during the first restore leaves nothing behind, as at any other time.
        Err(Failure::Cancelled(_)) => return Ok(String::new()),
        Err(Failure::NoBackups { found, .. }) if args.if_replica_exists && found.is_no_backup() => {
            log.essential(Severity::Info, "no matching backups found", &[]);
            return Ok(String::new());
        }
        Err(failure) => return Err(failure),
    };
    lock.keep();
    let (summary, ended) = standby.follow(start.txid, Notifier { systemd, starting: Mutex::new(starting) }, figures)?;
    figures.ended(summary.txid);
    let json = FollowJson {
        db_path: output_shown,
        replica: location.store.kind(),
        txid: summary.txid.to_string(),
        restored: start.restored,
        polls: summary.polls,
        failed_polls: summary.failed_polls,
        applied: summary.applied,
        files: summary.files,
        pages: summary.pages,
        holes: summary.holes,
        requests: engine.counters().sent(),
    };
    let line = format!("stopped at txid {}: {} applied", summary.txid, human::count(summary.applied, "change"));
    log.essential(Severity::Info, &line, &[]);
    ended.map_err(failed)?;
    Ok(if args.json { screen::pretty(&json) } else { String::new() })
}

/// Where a standby begins.
struct StandbyStart {
    txid: Txid,
    /// Whether it was restored by this run.
    restored: bool,
}

struct StandbyCommand<'a> {
    request: &'a RestoreRequest<'a>,
    engine: &'a OneDatabase,
}

impl StandbyCommand<'_> {
    /// Takes the lock of the database, and restores it if there is none or `-force` was given.
    fn start(&self) -> Result<(FollowLock, StandbyStart), Failure> {
        let RestoreRequest { args, output, .. } = *self.request;
        self.refuse_primary()?;
        // What an interrupted restore left may change what stands there.
        self.engine.put_right(output, self.request.log);
        if stands_at(output) && !args.force {
            return self.resume(self.lock()?);
        }
        // Makes the directory, where the lock's file is. If nothing is restored, it removes the directory again, after the
        // lock, which is declared later, has removed its file.
        let destination = Arc::new(self.engine.prepare(self.request)?);
        let mut lock = self.lock()?;
        if stands_at(output) && !args.force {
            // Another follower has restored it in between, and has ended.
            return self.resume(lock);
        }
        // A stale one would belong to another database.
        sidecar::remove(output).map_err(|error| self.not_written(&error))?;
        lock.name_source().map_err(|error| self.not_locked(&error))?;
        let database = output.to_owned();
        let is_forced = stands_at(output);
        let run = async move |worker, order| restore_standby(worker, order, database, is_forced).await;
        let failure = |session: &Session, error| match error {
            FollowError::Restore(error) => session.failure(Some(error)),
            error => failed(error),
        };
        let begun = Instant::now();
        let report = progress::during(
            args.progress,
            self.request.log,
            || self.engine.snapshot(),
            || self.engine.restore_to(self.request, Arc::clone(&destination), begun, run, failure),
        )?;
        self.request.log.essential(Severity::Info, &summary(&report), &[]);
        Ok((lock, StandbyStart { txid: report.txid, restored: true }))
    }

    /// Takes up the database that is there.
    fn resume(&self, lock: FollowLock) -> Result<(FollowLock, StandbyStart), Failure> {
        match sidecar::read(self.request.output) {
            Ok(Some(txid)) => {
                lock.check_source().map_err(failed)?;
                Ok((lock, StandbyStart { txid, restored: false }))
            }
            Ok(None) => Err(self.cannot_resume("it does not exist")),
            Err(error) => Err(self.cannot_resume(&error.to_string())),
        }
    }

    /// The directory that appears once the database is replicated from here. None if the replica itself lies in it.
    fn primary_state(&self) -> Option<PathBuf> {
        let path = follow::primary_state(self.request.output);
        let Location { store, path: replica, .. } = self.request.location;
        let is_source = *store == StoreConfig::File && Path::new(replica).starts_with(&path);
        (!is_source).then_some(path)
    }

    fn refuse_primary(&self) -> Result<(), Failure> {
        let Some(path) = self.primary_state().filter(|path| path.exists()) else { return Ok(()) };
        let message = format!(
            "{} exists: the database is or was replicated from here; a standby must not be. Remove that directory if it is \
             left over",
            escaped(&path.to_string_lossy())
        );
        Err(Failure::failed(Class::InUse, message))
    }

    fn lock(&self) -> Result<FollowLock, Failure> {
        match FollowLock::take(self.request.output, &place(self.request.location)) {
            Ok(Taken::Lock(lock)) => Ok(lock),
            Ok(Taken::Other(OtherFollower { pid, source })) => {
                let pid = pid.map_or_else(|| "in another container".to_owned(), |pid| format!("with process ID {pid}"));
                let message = format!("{} is followed already, by a process {pid}, from {source}", self.shown());
                Err(Failure::failed(Class::InUse, message))
            }
            Err(error) => Err(self.not_locked(&error)),
        }
    }

    fn not_locked(&self, error: &io::Error) -> Failure {
        Failure::failed(Class::Io, format!("cannot lock {}: {error}", self.shown()))
    }

    fn cannot_resume(&self, why: &str) -> Failure {
        let path = sidecar::path_of(self.request.output);
        let message = format!(
            "cannot resume follow mode: {} exists, but its TXID cannot be read from {}: {}",
            self.shown(),
            escaped(&path.to_string_lossy()),
            escaped(why)
        );
        Failure::failed(Class::OutputExists, message).advised(Some(Advice::Switch("force")))
    }

    fn not_written(&self, error: &io::Error) -> Failure {
        let path = sidecar::path_of(self.request.output);
        Failure::failed(Class::Io, format!("cannot write {}: {error}", escaped(&path.to_string_lossy())))
    }

    fn shown(&self) -> String {
        escaped(&self.request.output.to_string_lossy()).to_string()
    }

    /// Follows until a signal comes, or the standby cannot go on.
    fn follow(
        &self,
        at: Txid,
        notifier: Notifier,
        figures: &Arc<StandbyFigures>,
    ) -> Result<(FollowSummary, Result<(), FollowError>), Failure> {
        let RestoreRequest { args, location, output, log, cancel, .. } = *self.request;
        // The workers are not stopped by the signal, but by the end of the follower: the database is closed first.
        let counters = self.engine.counters_shared();
        let session = Session::open(&args.common, 1, false, counters, log, &CancellationToken::new())?;
        let order = FollowRequest {
            store: session.store(&location.store),
            replica: location.path.clone(),
            database: output.to_owned(),
            at,
            interval: args.follow_interval,
            primary_state: self.primary_state(),
            heartbeat: notifier.systemd.heartbeat(),
            until: Until::Cancelled,
            cancel: cancel.clone(),
        };
        let (log, shown) = (log.clone(), self.request.output_shown.to_owned());
        let figures = Arc::clone(figures);
        let shows_bar = args.progress != ProgressMode::Never && log.is_terminal();
        let observer: follow::Observer = Arc::new(move |event| {
            tell_event(&log, &shown, event);
            notifier.notify(event);
            figures.note(event);
            if let (true, Some(status)) = (shows_bar, status(event)) {
                log.bar(Some(format!("{}: {status}", escaped(&shown))));
            }
            if let (true, FollowEvent::Ending) = (shows_bar, event) {
                log.bar(None);
            }
        });
        let ended = session.workers.run(move |worker| Box::pin(follow::follow(worker, order, observer)));
        ended.ok_or_else(|| Failure::internal("the workers ended before the follower"))
    }
}

/// Restores a database, writes its sidecar, and makes both durable. A kill at any point leaves nothing, or a standby that
/// can be followed; with `is_forced`, the old database without a sidecar, which must be restored anew.
async fn restore_standby(
    worker: Rc<Worker>,
    order: Request,
    database: PathBuf,
    is_forced: bool,
) -> Result<RestoreOutcome, FollowError> {
    let Restored { published, outcome } = restore::restore_standby(&worker, order).await?;
    published.sync_dir().map_err(restore::RestoreError::from)?;
    if is_forced {
        sidecar::write(&database, outcome.txid)
            .map_err(|error| FollowError::Sidecar { path: sidecar::path_of(&database), error })?;
    }
    Ok(outcome)
}

/// The place of a replica, as the lock files of standbys name it.
pub(super) fn place(location: &Location) -> String {
    follow::place_of(location.store.bucket(), &location.path)
}

/// The failure for a standby that cannot go on.
fn failed(error: FollowError) -> Failure {
    let advice = error.needs_new_restore().then_some(Advice::Switch("force"));
    Failure::failed(error.class(), error.to_string()).advised(advice)
}

/// Logs an event of the follower of `database`.
pub(super) fn tell_event(log: &Log, database: &str, event: &FollowEvent<'_>) {
    let database = escaped(database);
    match event {
        FollowEvent::Began { txid } => log.info(&format!("following {database} from txid {txid}")),
        FollowEvent::CaughtUp { txid } => log.info(&format!("caught up at txid {txid}")),
        FollowEvent::Polled { .. } | FollowEvent::Alive | FollowEvent::Ending => {}
        FollowEvent::Applied { from, to, files, bytes, pages, lag } => log.debug(&format!(
            "{database}: applied txid {from} to {to}: {}, {}, {pages} pages, {lag} s behind",
            human::count(*files as u64, "file"),
            human::bytes(*bytes)
        )),
        FollowEvent::Hole { at, next, newest } => log.warn(&format!(
            "{database} waits at txid {at}: no file continues from it, the next one begins at {next} (newest {newest})"
        )),
        FollowEvent::Blocked { at, txid, keys } => log.warn(&format!(
            "{database} waits at txid {at}: the files that lead to {txid} are damaged or archived: {}",
            escaped(&keys.join(", "))
        )),
        FollowEvent::Damaged { key, error } => log.warn(&format!("{}: {error}", escaped(key))),
        FollowEvent::Failing { error } => log.warn(&format!("{error}; trying again")),
        FollowEvent::Recovered => log.info("requests succeed again"),
        FollowEvent::DiskFull { error } => log.warn(&format!("{error}; trying once more")),
        FollowEvent::LongLog { bytes } => log.warn(&format!(
            "the log of {database} has {}: a reader keeps an old state open, and it cannot be copied",
            human::bytes(*bytes)
        )),
        FollowEvent::SidecarFailed { error } => {
            log.warn(&format!("cannot write the sidecar of {database}: {error}; it stays behind, which is harmless"));
        }
    }
}

/// Tells systemd of events.
struct Notifier {
    systemd: Systemd,
    /// Asks for more time until the standby has caught up: an old one may need longer for that than systemd waits, and so
    /// may a store that does not answer.
    starting: Mutex<Option<Starting>>,
}

impl Notifier {
    fn notify(&self, event: &FollowEvent<'_>) {
        if matches!(event, FollowEvent::CaughtUp { .. } | FollowEvent::Ending) {
            drop(lock(&self.starting).take());
        }
        match event {
            FollowEvent::CaughtUp { txid } => self.systemd.ready(&format!("at txid {txid}")),
            FollowEvent::Alive => {
                self.systemd.alive();
                self.systemd.retry();
            }
            FollowEvent::Polled { .. } => self.systemd.retry(),
            FollowEvent::Ending => self.systemd.stopping(),
            event => status(event).iter().for_each(|status| self.systemd.status(status)),
        }
    }
}

/// What a status line shows after an event. None: what it showed before.
fn status(event: &FollowEvent<'_>) -> Option<String> {
    match event {
        FollowEvent::Began { txid } => Some(format!("catching up from txid {txid}")),
        FollowEvent::CaughtUp { txid } => Some(format!("at txid {txid}")),
        FollowEvent::Applied { to, lag, .. } => Some(format!("at txid {to}, {lag} s behind when it came")),
        FollowEvent::Hole { at, .. } | FollowEvent::Blocked { at, .. } => {
            Some(format!("waits at txid {at}: no intact file continues"))
        }
        FollowEvent::Failing { .. } => Some("requests fail, trying again".to_owned()),
        FollowEvent::Recovered => Some("requests succeed again".to_owned()),
        FollowEvent::DiskFull { .. } => Some("the disk is full".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_asked_for_time_until_the_standby_has_caught_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let systemd = Systemd::of(&|variable| (variable == "NOTIFY_SOCKET").then(|| path.clone()));
        let starting = Mutex::new(systemd.starting());
        let notifier = Notifier { systemd, starting };
        let is_starting = || lock(&notifier.starting).is_some();
        notifier.notify(&FollowEvent::Began { txid: Txid(1) });
        notifier.notify(&FollowEvent::Polled { txid: Txid(1) });
        assert!(is_starting());
        notifier.notify(&FollowEvent::CaughtUp { txid: Txid(2) });
        assert!(!is_starting());
    }
}
