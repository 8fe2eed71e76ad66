//! The command `hydrant promote`: ends the follower of a standby, brings it up to date, checks it, and makes it an ordinary
//! database (docs/FOLLOW.md, "Promotion"). What happens before, that the old primary is gone, no program can do.

use crate::cancel::CancellationToken;
use crate::catalogue::ReplicaEnds;
use crate::cli::args::resolved::{PromoteArgs, Source};
use crate::cli::failures::{absolute, from_store};
use crate::cli::follow::place;
use crate::cli::restore::locate;
use crate::cli::session::Session;
use crate::cli::ui::failure::{Advice, Failure};
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::screen;
use crate::commit::check::{Check, CheckOutcome};
use crate::config::{Env, Location};
use crate::error::{Class, escaped};
use crate::follow::{self, FollowEvent, FollowLock, FollowRequest, FollowSummary, Taken, Until, sidecar};
use crate::ltx::Txid;
use crate::restore::list_replica;
use crate::telemetry::Counters;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A follower that was asked to end has 5 s for it.
const FOLLOWER_ENDS: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The interval of polls until the standby is up to date.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// The JSON object that `hydrant promote -json` prints.
#[derive(Serialize)]
struct PromoteJson<'a> {
    db_path: &'a str,
    txid: String,
    /// The newest TXID of all levels of the replica, and of level 0. Empty: it has none.
    replica_txid: String,
    level_0_txid: String,
    integrity_check: &'static str,
    /// Whether a follower was ended.
    ended_follower: bool,
    /// Whether `litestream replicate` can go on with this replica.
    can_replicate: bool,
}

/// Runs the command and returns the text to print on stdout.
///
/// # Errors
/// The database is no standby, its follower does not end, it cannot be brought up to date, it is damaged, or Litestream
/// cannot go on with its replica (`-force`). It is then a standby as before.
pub(super) fn run(args: &PromoteArgs, env: &Env<'_>, log: &Log, cancel: &CancellationToken) -> Result<String, Failure> {
    follow::check_build().map_err(|error| Failure::failed(error.class(), error.to_string()))?;
    let typed = match (&args.output, &args.source) {
        (Some(output), _) => output,
        (None, Source::Database { path, .. }) => path,
        (None, Source::Url(_)) => return Err(Failure::usage("-o is required when promoting from a replica URL")),
    };
    let (database, shown) = (absolute(typed)?, typed.display().to_string());
    let (location, section) = locate(&args.source, &args.source_shown, env, log)?;
    let mut args = args.clone();
    args.common.use_defaults(&section);
    let promotion = Promotion { args: &args, location: &location, database: &database, log, cancel };
    promotion.refuse_primary()?;
    promotion.txid()?;
    let (mut lock, ended_follower) = promotion.take_over()?;
    lock.check_source().map_err(|error| Failure::failed(error.class(), error.to_string()))?;
    // The follower may have gone on until it ended.
    let at = promotion.txid()?;
    let (summary, ends) = promotion.catch_up(at)?;
    promotion.check()?;
    promotion.refuse_replica(&ends)?;
    sidecar::remove(&database).map_err(|error| {
        let path = sidecar::path_of(&database);
        Failure::failed(Class::Io, format!("cannot remove {}: {error}", escaped(&path.to_string_lossy())))
    })?;
    lock.discard();
    let txid = summary.txid;
    log.essential(Severity::Info, &format!("promoted {} at txid {txid}", escaped(&shown)), &[]);
    log.info("next: start the application, then litestream replicate; the old primary must stay off");
    let text = |txid: Option<Txid>| txid.map_or_else(String::new, |txid| txid.to_string());
    let json = PromoteJson {
        db_path: &shown,
        txid: txid.to_string(),
        replica_txid: text(ends.newest),
        level_0_txid: text(ends.level_0),
        integrity_check: args.integrity_check.as_str(),
        ended_follower,
        can_replicate: ends.goes_on(),
    };
    Ok(if args.json { screen::pretty(&json) } else { String::new() })
}

struct Promotion<'a> {
    args: &'a PromoteArgs,
    location: &'a Location,
    database: &'a Path,
    log: &'a Log,
    cancel: &'a CancellationToken,
}

impl Promotion<'_> {
    fn shown(&self) -> String {
        escaped(&self.database.to_string_lossy()).to_string()
    }

    fn refuse_primary(&self) -> Result<(), Failure> {
        let state = follow::primary_state(self.database);
        if !state.exists() {
            return Ok(());
        }
        let message = format!(
            "{} exists: Litestream would go on from that state of another database; remove it first: litestream reset {}",
            escaped(&state.to_string_lossy()),
            self.shown()
        );
        Err(Failure::failed(Class::InUse, message))
    }

    /// The TXID in the standby's sidecar.
    fn txid(&self) -> Result<Txid, Failure> {
        let no_standby = |why: &str| {
            let path: PathBuf = sidecar::path_of(self.database);
            let path = escaped(&path.to_string_lossy()).to_string();
            Failure::failed(Class::Config, format!("{} is no standby: {path}: {why}", self.shown()))
        };
        if !self.database.exists() {
            return Err(Failure::failed(Class::Config, format!("{} does not exist", self.shown())));
        }
        match sidecar::read(self.database) {
            Ok(Some(txid)) => Ok(txid),
            Ok(None) => Err(no_standby("it does not exist")),
            Err(error) => Err(no_standby(&error.to_string())),
        }
    }

    /// Ends the follower, if one runs, and takes its lock. Also returns whether one ran.
    fn take_over(&self) -> Result<(FollowLock, bool), Failure> {
        let failed =
            |error: std::io::Error| Failure::failed(Class::Io, format!("cannot lock {}: {error}", self.shown()));
        let (place, begun, mut asked) = (place(self.location), Instant::now(), None);
        // Ends: after 5 s.
        loop {
            let other = match FollowLock::take(self.database, &place).map_err(failed)? {
                Taken::Lock(lock) => return Ok((lock, asked.is_some())),
                Taken::Other(other) => other,
            };
            let Some(pid) = other.pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) else {
                let message = format!(
                    "{} is followed from {}, by a process in another container: end it",
                    self.shown(),
                    other.source
                );
                return Err(Failure::failed(Class::InUse, message));
            };
            // The kernel says that this process holds the lock, so it is a follower.
            if asked != Some(pid) {
                self.log.info(&format!("ending the follower, process {}", pid.as_raw_nonzero()));
                match kill_process(pid, Signal::TERM) {
                    // It has ended by itself in between.
                    Ok(()) | Err(Errno::SRCH) => asked = Some(pid),
                    Err(errno) => {
                        let message = format!("cannot end the follower, process {}: {errno}", pid.as_raw_nonzero());
                        return Err(Failure::failed(Class::InUse, message));
                    }
                }
            }
            if begun.elapsed() > FOLLOWER_ENDS {
                let message = format!("the follower, process {}, does not end within 5 s", pid.as_raw_nonzero());
                return Err(Failure::failed(Class::InUse, message));
            }
            if let Some(reason) = self.cancel.reason() {
                return Err(Failure::Cancelled(reason));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Applies what the replica has, and lists how it ends.
    fn catch_up(&self, at: Txid) -> Result<(FollowSummary, ReplicaEnds), Failure> {
        let counters = Arc::new(Counters::default());
        // As for a follower, the signal ends the work and not the workers.
        let session = Session::open(&self.args.common, 1, false, &counters, self.log, &CancellationToken::new())?;
        let store = session.store(&self.location.store);
        let path = self.location.path.clone();
        let request = FollowRequest {
            store: store.clone(),
            replica: path.clone(),
            database: self.database.to_owned(),
            at,
            interval: POLL_EVERY,
            until: Until::UpToDate,
            primary_state: Some(follow::primary_state(self.database)),
            heartbeat: None,
            cancel: self.cancel.clone(),
        };
        let log = self.log.clone();
        let observer: follow::Observer = Arc::new(move |event| match event {
            FollowEvent::Hole { at, newest, .. } => {
                log.warn(&format!("no file continues from txid {at}: what is newer, up to {newest}, is lost"));
            }
            FollowEvent::Blocked { at, keys, .. } => {
                let keys = escaped(&keys.join(", ")).to_string();
                log.warn(&format!("what follows txid {at} is damaged or archived: {keys}"));
            }
            _ => {}
        });
        let done = session.workers.run(move |worker| {
            Box::pin(async move {
                let listed = list_replica(&worker.http, &store, &path, &worker.shared.catalogue).await;
                let ends = listed.map(|listed| listed.replica.ends());
                (follow::follow(worker, request, observer).await, ends)
            })
        });
        let Some(((summary, ended), ends)) = done else {
            return Err(Failure::internal("the workers ended before the follower"));
        };
        ended.map_err(|error| Failure::failed(error.class(), error.to_string()))?;
        if let Some(reason) = self.cancel.reason() {
            return Err(Failure::Cancelled(reason));
        }
        Ok((summary, ends.map_err(|error| from_store(&error))?))
    }

    /// Lets SQLite check the database.
    fn check(&self) -> Result<(), Failure> {
        let Some(mode) = self.args.integrity_check.mode() else { return Ok(()) };
        let failed = |error: crate::commit::CommitError| Failure::failed(error.class(), error.to_string());
        match Check::open_shared(self.database, mode).map_err(failed)?.run().map_err(failed)? {
            CheckOutcome::Ok => Ok(()),
            CheckOutcome::NotCheckable(why) => {
                self.log.warn(&format!("SQLite cannot check {}: {}", self.shown(), escaped(&why)));
                Ok(())
            }
            CheckOutcome::Damaged(findings) => {
                let message = format!("integrity check failed: {}", escaped(&findings.join("; ")));
                Err(Failure::failed(Class::IntegrityCheck, message))
            }
            CheckOutcome::Interrupted => Err(Failure::internal("nobody interrupts this check")),
        }
    }

    /// Fails, or with `-force` warns, if Litestream would not go on where the replica ends.
    fn refuse_replica(&self, ends: &ReplicaEnds) -> Result<(), Failure> {
        if ends.goes_on() {
            return Ok(());
        }
        let message = ends.to_string();
        if self.args.force {
            self.log.warn(&message);
            return Ok(());
        }
        Err(Failure::failed(Class::TargetNotReachable, message).advised(Some(Advice::Switch("force"))))
    }
}
