//! The promotion of one standby, step by step (docs/FOLLOW.md, "Promotion").

use crate::cancel::CancellationToken;
use crate::catalogue::ReplicaEnds;
use crate::cli::args::resolved::PromoteArgs;
use crate::cli::failures::from_store;
use crate::cli::session::Session;
use crate::cli::ui::failure::{Advice, Failure};
use crate::cli::ui::log::Log;
use crate::commit::check::{Check, CheckOutcome};
use crate::error::{Class, escaped};
use crate::follow::{
    self, FollowError, FollowEvent, FollowLock, FollowRequest, FollowSummary, OtherFollower, Taken, Until, sidecar,
};
use crate::ltx::Txid;
use crate::restore::list_replica;
use crate::store::Store;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is to be done after a promotion.
pub(super) const NEXT: &str = "next: start the application, then litestream replicate; the old primary must stay off";
/// The follower of one database that was asked to end has 5 s for it.
pub(super) const FOLLOWER_ENDS: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The interval of polls until the standby is up to date.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// What a promotion came to, as JSON has it.
#[derive(Debug, Serialize)]
pub(super) struct Promoted {
    pub txid: String,
    /// The newest TXID of all levels of the replica, and of level 0. Empty: it has none.
    replica_txid: String,
    level_0_txid: String,
    integrity_check: &'static str,
    /// Whether a follower was ended.
    pub ended_follower: bool,
    /// Whether `litestream replicate` can go on with this replica.
    can_replicate: bool,
}

/// A standby to promote.
pub(super) struct Promotion<'a> {
    pub args: &'a PromoteArgs,
    pub session: &'a Session,
    pub store: Store,
    /// Path of the replica in the store.
    pub replica: String,
    /// Absolute path of the database.
    pub database: &'a Path,
    /// What messages about it begin with. Empty where it is the only one.
    pub prefix: String,
    pub log: &'a Log,
    pub cancel: &'a CancellationToken,
}

impl Promotion<'_> {
    /// Promotes it.
    ///
    /// # Errors
    /// It is no standby or one of another replica, its follower does not end, it cannot be brought up to date, it is
    /// damaged, or Litestream cannot go on with its replica (`-force`). It is then a standby as before.
    pub(super) fn run(&self) -> Result<Promoted, Failure> {
        self.refuse_primary()?;
        self.txid()?;
        let place = follow::place_of(self.store.bucket().map(|s3| s3.bucket()), &self.replica);
        let take = || FollowLock::take(self.database, &place);
        let (mut lock, ended_follower) = take_over(take, &self.shown(), FOLLOWER_ENDS, self.log, self.cancel)?;
        lock.check_source().map_err(|error| failed(&error))?;
        // The follower may have gone on until it ended.
        let at = self.txid()?;
        let (summary, ends) = self.catch_up(at)?;
        self.check()?;
        self.refuse_replica(&ends)?;
        sidecar::remove(self.database).map_err(|error| {
            let path = sidecar::path_of(self.database);
            Failure::failed(Class::Io, format!("cannot remove {}: {error}", escaped(&path.to_string_lossy())))
        })?;
        lock.discard();
        let text = |txid: Option<Txid>| txid.map_or_else(String::new, |txid| txid.to_string());
        Ok(Promoted {
            txid: summary.txid.to_string(),
            replica_txid: text(ends.newest),
            level_0_txid: text(ends.level_0),
            integrity_check: self.args.integrity_check.as_str(),
            ended_follower,
            can_replicate: ends.goes_on(),
        })
    }

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

    /// Applies what the replica has, and lists how it ends.
    fn catch_up(&self, at: Txid) -> Result<(FollowSummary, ReplicaEnds), Failure> {
        let (session, store, path) = (self.session, self.store.clone(), self.replica.clone());
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
        let (log, prefix) = (self.log.clone(), self.prefix.clone());
        let observer: follow::Observer = Arc::new(move |event| match event {
            FollowEvent::Hole { at, newest, .. } => {
                log.warn(&format!("{prefix}no file continues from txid {at}: what is newer, up to {newest}, is lost"));
            }
            FollowEvent::Blocked { at, keys, .. } => {
                let keys = escaped(&keys.join(", ")).to_string();
                log.warn(&format!("{prefix}what follows txid {at} is damaged or archived: {keys}"));
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
        ended.map_err(|error| failed(&error))?;
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
                self.log.warn(&format!("{}SQLite cannot check {}: {}", self.prefix, self.shown(), escaped(&why)));
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
            self.log.warn(&format!("{}{message}", self.prefix));
            return Ok(());
        }
        Err(Failure::failed(Class::TargetNotReachable, message).advised(Some(Advice::Switch("force"))))
    }
}

/// Ends the follower that holds a lock, if one does, and takes the lock by `take`. `shown` is what it follows. Also
/// returns whether one ran. The kernel names the process that holds the lock, and only that gets the signal.
///
/// # Errors
/// The lock cannot be taken, or the follower does not end within `most` or cannot be ended from here.
pub(super) fn take_over(
    take: impl Fn() -> io::Result<Taken>,
    shown: &str,
    most: Duration,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<(FollowLock, bool), Failure> {
    let in_use = |message: String| Err(Failure::failed(Class::InUse, message));
    let (begun, mut asked) = (Instant::now(), None);
    // Ends: after `most`.
    loop {
        let taken = take().map_err(|error| Failure::failed(Class::Io, format!("cannot lock {shown}: {error}")))?;
        let OtherFollower { pid, source } = match taken {
            Taken::Lock(lock) => return Ok((lock, asked.is_some())),
            Taken::Other(other) => other,
        };
        let Some(pid) = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) else {
            return in_use(format!("{shown} is followed from {source}, by a process in another container: end it"));
        };
        // The kernel says that this process holds the lock, so it is a follower.
        if asked != Some(pid) {
            log.info(&format!("ending the follower, process {}", pid.as_raw_nonzero()));
            match kill_process(pid, Signal::TERM) {
                // It has ended by itself in between.
                Ok(()) | Err(Errno::SRCH) => asked = Some(pid),
                Err(errno) => {
                    return in_use(format!("cannot end the follower, process {}: {errno}", pid.as_raw_nonzero()));
                }
            }
        }
        if begun.elapsed() > most {
            let (pid, most) = (pid.as_raw_nonzero(), most.as_secs());
            return in_use(format!("the follower, process {pid}, does not end within {most} s"));
        }
        if let Some(reason) = cancel.reason() {
            return Err(Failure::Cancelled(reason));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn failed(error: &FollowError) -> Failure {
    Failure::failed(error.class(), error.to_string())
}
