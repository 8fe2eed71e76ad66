//! One attempt to restore one database on a worker, and the decision whether a failed attempt is worth
//! repeating.

use crate::catalogue::Replica;
use crate::commit::{Replace, check, stands_at};
use crate::fleet::discovery::found::DatabaseRef;
use crate::fleet::job::{NewestState, PlannedDatabase};
use crate::fleet::outputs::{OutputPath, Roots, stale_state};
use crate::follow::fleet::lock_standby;
use crate::follow::sidecar;
use crate::plan::{Target, moved_from};
use crate::process::backoff::backoff;
use crate::restore::{
    DiscardRequest, DiscardStage, Discarded, PastState, Request, RestoreError, Restored, VerifiedDatabase,
    VerifyRequest, VerifySettings, Worker, discard, plan_database, restore, restore_standby, verify,
};
use crate::store::Store;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Upper limit of the mean pause before a database is tried again. The mean pause doubles with each retry.
const RETRY_DELAY_CAP: Duration = Duration::from_secs(300);

/// How the databases of a run are to be restored. The same for every database.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether databases are restored, only planned, or read without writing (bench).
    pub work: Work,
    /// State that each database is restored to: the newest, a TXID, or a point in time.
    pub target: Target,
    /// Check by SQLite that each restored file must pass before it is published (`-integrity-check`). None: no
    /// check.
    pub check: Option<check::Mode>,
    /// Whether existing output files may be replaced (`-force`).
    pub replace: Replace,
    /// If true, a database whose output exists is skipped, not failed (`-if-db-not-exists`).
    pub if_db_not_exists: bool,
    /// If true, a database without backups is skipped, not failed (`-if-replica-exists`).
    pub if_replica_exists: bool,
    /// If true, the newest state that can be had is restored where files are damaged or missing (`-newest-intact`).
    pub newest_intact: bool,
    /// Maximum number of retries of one database after transient failures.
    pub max_retries: u32,
    /// Mean pause before the first retry of a database. It doubles with each further retry.
    pub retry_delay: Duration,
    /// After the first failed database none is begun, and none is tried again.
    pub fail_fast: bool,
    /// How databases are verified, for [`Work::Verify`].
    pub verify: Option<Arc<VerifySettings>>,
}

impl Settings {
    /// Whether a database whose output exists is skipped.
    pub(super) fn skips_existing(&self) -> bool {
        self.if_db_not_exists || self.work == Work::RestoreStandby && self.replace == Replace::Never
    }
}

/// What a run does with each of its databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Restores each database to its output path.
    Restore,
    /// `--follow`: as `Restore`, and writes the TXID beside each database, so that it can be followed. A database whose
    /// output exists is skipped: it is followed from where it is.
    RestoreStandby,
    /// `-dry-run`: plans the restore of each database and writes nothing.
    Plan,
    /// `hydrant verify`: verifies each database as [`Settings::verify`] says.
    Verify,
    /// `hydrant bench`: runs the given stages of a restore and discards the data.
    Rehearse(DiscardStage),
}

/// Order for a worker: one database with everything that its restore needs.
pub(super) struct Assignment {
    pub database: Arc<DatabaseRef>,
    pub place: OutputPath,
    /// As [`crate::fleet::job::Job::is_primary`].
    pub is_primary: bool,
    /// The files that the listing showed. None: the worker lists them first.
    pub replica: Option<Replica>,
    pub settings: Settings,
    pub roots: Arc<Roots>,
}

/// What a worker returns for one database.
pub(super) enum DatabaseAnswer {
    /// The restored database, and warnings in addition to those that the restore itself returns.
    Restored(Box<Restored>, Vec<String>),
    Planned(PlannedDatabase),
    Rehearsed(Discarded),
    Verified(Box<VerifiedDatabase>),
}

pub(super) async fn work(worker: Rc<Worker>, assignment: Assignment) -> Result<DatabaseAnswer, RestoreError> {
    let Assignment { database, place, is_primary, replica, settings, roots } = assignment;
    let (store, path) = (database.store.clone(), database.path().to_owned());
    match settings.work {
        Work::Restore | Work::RestoreStandby => {}
        Work::Plan => {
            place.check_way().map_err(RestoreError::Commit)?;
            let planned =
                plan_database(&worker, &store, &path, replica, &settings.target, None, settings.newest_intact).await?;
            return Ok(DatabaseAnswer::Planned(PlannedDatabase {
                txid: planned.plan.txid,
                v3: planned.plan.v3.as_ref().map(|plan| plan.state),
                files: planned.plan.files.len() as u64,
                bytes: planned.bytes(),
                requests: planned.gets(worker.shared.segment_bytes),
                lost: planned.lost.as_ref().map(ToString::to_string),
                moved_from: moved_from(&planned.plan.warnings),
                warnings: planned.all_warnings(),
                past: PastState::of(&store, &planned.replica, &planned.plan).map(Box::new),
                state: planned.newest_time().map(|(time, is_of_header)| NewestState {
                    time,
                    source: if is_of_header { "header" } else { "last_modified" },
                }),
            }));
        }
        Work::Verify => {
            let what = "a run that verifies has no settings for it";
            let settings_of = settings.verify.clone().ok_or(RestoreError::Internal { what })?;
            let request = VerifyRequest { store, path, replica, target: settings.target, settings: settings_of };
            return verify(&worker, request).await.map(|verified| DatabaseAnswer::Verified(Box::new(verified)));
        }
        Work::Rehearse(stage) => {
            let request = DiscardRequest { store, path, replica, target: settings.target, stage };
            return discard(&worker, request).await.map(DatabaseAnswer::Rehearsed);
        }
    }
    let destination = roots.prepare(&place, settings.replace).map_err(RestoreError::Commit)?;
    let on_disk = matches!(store, Store::File(_)).then(|| path.clone());
    let stale = (!destination.is_in_new_directory()).then(|| stale_state(destination.path(), on_disk.as_deref()));
    let mut warnings: Vec<String> = stale.flatten().into_iter().collect();
    let request = Request {
        store,
        path,
        replica,
        target: settings.target,
        generation: None,
        newest_intact: settings.newest_intact,
        destination: Arc::new(destination),
        check: settings.check,
        parallelism: None,
    };
    let restored = match settings.work {
        Work::RestoreStandby => restore_locked(&worker, request).await?,
        _ => restore(&worker, request).await?,
    };
    // Litestream will go on from here.
    if is_primary && settings.work != Work::RestoreStandby && !restored.outcome.ends.goes_on() {
        warnings.push(restored.outcome.ends.to_string());
    }
    Ok(DatabaseAnswer::Restored(Box::new(restored), warnings))
}

/// Restores a database that is to be followed, while nobody else follows it: two processes must not write one sidecar.
async fn restore_locked(worker: &Rc<Worker>, request: Request) -> Result<Restored, RestoreError> {
    // Declared before the lock, so dropped after it: a directory that was made for nothing is removed after the lock's file.
    let destination = Arc::clone(&request.destination);
    let path = destination.path();
    let failed = |why: String| RestoreError::Standby { path: path.to_owned(), why };
    let mut lock = lock_standby(path, &request.store, &request.path).map_err(failed)?;
    if lock.other_source().is_some() && !stands_at(path) {
        // An earlier standby of another replica has left its name. The new sidecar must not stand beside it.
        let named = sidecar::remove(path).and_then(|()| lock.name_source());
        named.map_err(|error| failed(format!("cannot write the file that names its replica: {error}")))?;
    }
    let restored = restore_standby(worker, request).await?;
    lock.keep();
    Ok(restored)
}

/// The target of a database whose files are in a catalogue: the state that was newest there, if `target` is the newest.
/// A replica of Litestream 0.3 has no TXID. Its newest state is planned from the files in the catalogue.
pub(super) fn pinned(target: Target, replica: &Replica) -> Target {
    match (target, replica.max_txid()) {
        (Target::Latest, Some(txid)) => Target::Pinned(txid),
        (target, _) => target,
    }
}

/// Returns whether another attempt may succeed without anybody repairing anything: after a failed connection,
/// for example, but not after damage, because a damaged or incomplete backup stays so. `has_stalled` says whether an
/// earlier attempt has ended for want of progress: that is worth one more attempt and not several.
pub(super) fn may_pass(error: &RestoreError, has_stalled: &mut bool) -> bool {
    match error {
        RestoreError::Store(e) => e.may_pass_again(has_stalled) || e.is_stale_listing(),
        // The file was shorter than listed in every attempt. It may have been replaced, so a new listing can
        // help.
        RestoreError::Unreadable { error, .. } => error.is_stale_listing(),
        RestoreError::Restless { .. } => true,
        _ => false,
    }
}

/// Returns the pause before retry number `retries`, counted from 0. The mean doubles with each retry. The pause
/// is chosen at random between 50 % and 150 % of the mean, so that databases that failed together are not
/// retried together.
pub(super) fn retry_delay(delay: Duration, retries: u32) -> Duration {
    backoff(delay, retries, RETRY_DELAY_CAP, 0.5..1.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanError;
    use crate::store::{StoreError, StoreErrorKind};

    #[test]
    fn pauses_double_up_to_a_cap() {
        let pause = |retries| retry_delay(Duration::from_secs(5), retries).as_secs_f64();
        for _ in 0..100 {
            assert!((2.5..7.5).contains(&pause(0)));
            assert!((10.0..30.0).contains(&pause(2)));
            assert!((150.0..450.0).contains(&pause(40)));
        }
        assert_eq!(retry_delay(Duration::ZERO, 3), Duration::ZERO);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let error = |kind| StoreError {
            kind,
            what: String::new(),
            detail: String::new(),
            request_id: None,
            hint: None,
            attempts: 1,
        };
        let store = |kind| RestoreError::Store(error(kind));
        let file = |kind| RestoreError::Unreadable { key: String::new(), error: error(kind).into() };
        let may_pass = |error: &RestoreError| super::may_pass(error, &mut false);
        use StoreErrorKind::*;
        assert!([Timeout, Throttled, Network, Server, NotFound].into_iter().all(|kind| may_pass(&store(kind))));
        assert!(![NoSuchBucket, AccessDenied, Credentials, Io].into_iter().any(|kind| may_pass(&store(kind))));
        assert!(may_pass(&file(SizeDiffers)) && !may_pass(&file(Unreadable)));
        assert!(!may_pass(&RestoreError::Plan(PlanError::NoBackups)));
    }
}
