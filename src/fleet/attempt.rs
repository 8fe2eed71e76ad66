//! One attempt at one database, on a worker, and whether another attempt may succeed.

use crate::catalogue::Replica;
use crate::commit::{Replace, check};
use crate::fleet::discovery::found::DatabaseRef;
use crate::fleet::job::{NewestState, PlannedDatabase};
use crate::fleet::outputs::{OutputPath, Roots, stale_state};
use crate::plan::Target;
use crate::process::backoff::backoff;
use crate::restore::{
    DiscardRequest, DiscardStage, Discarded, Request, RestoreError, Restored, Worker, discard, plan_database, restore,
};
use crate::store::Store;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The longest mean pause before a database is tried again.
const RETRY_DELAY_CAP: Duration = Duration::from_secs(300);

/// How each database is to be restored.
#[derive(Debug, Clone)]
pub struct Settings {
    pub work: Work,
    pub target: Target,
    pub check: Option<check::Mode>,
    pub replace: Replace,
    pub if_db_not_exists: bool,
    pub if_replica_exists: bool,
    pub max_retries: u32,
    /// The mean pause before the first retry. It doubles with each retry.
    pub retry_delay: Duration,
    /// After the first failed database none is begun, and none is tried again.
    pub fail_fast: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Restore,
    /// `-dry-run`.
    Plan,
    /// `hydrant bench`: nothing is written.
    Rehearse(DiscardStage),
}

/// What a worker is to do.
pub(super) struct Assignment {
    pub database: Arc<DatabaseRef>,
    pub place: OutputPath,
    /// What the listing showed. None: list first.
    pub replica: Option<Replica>,
    pub settings: Settings,
    pub roots: Arc<Roots>,
}

/// A worker's answer.
pub(super) enum DatabaseAnswer {
    /// With warnings besides those of the restore.
    Restored(Box<Restored>, Vec<String>),
    Planned(PlannedDatabase),
    Rehearsed(Discarded),
}

pub(super) async fn work(worker: Rc<Worker>, assignment: Assignment) -> Result<DatabaseAnswer, RestoreError> {
    let Assignment { database, place, replica, settings, roots } = assignment;
    let (store, path) = (database.store.clone(), database.path.clone());
    match settings.work {
        Work::Restore => {}
        Work::Plan => {
            place.check_way().map_err(RestoreError::Commit)?;
            let planned = plan_database(&worker, &store, &path, replica, &settings.target).await?;
            return Ok(DatabaseAnswer::Planned(PlannedDatabase {
                txid: planned.plan.txid,
                files: planned.plan.files.len() as u64,
                bytes: planned.bytes(),
                requests: planned.gets(worker.shared.segment_bytes),
                warnings: planned.plan.warnings.iter().map(ToString::to_string).collect(),
                state: planned.newest_time().map(|(time, is_of_header)| NewestState {
                    time,
                    source: if is_of_header { "header" } else { "last_modified" },
                }),
            }));
        }
        Work::Rehearse(stage) => {
            let request = DiscardRequest { store, path, replica, target: settings.target, stage };
            return discard(&worker, request).await.map(DatabaseAnswer::Rehearsed);
        }
    }
    let destination = roots.prepare(&place, settings.replace).map_err(RestoreError::Commit)?;
    let on_disk = matches!(store, Store::File(_)).then(|| path.clone());
    let stale = (!destination.is_in_new_directory()).then(|| stale_state(destination.path(), on_disk.as_deref()));
    let warnings = stale.flatten().into_iter().collect();
    let request = Request {
        store,
        path,
        replica,
        target: settings.target,
        destination: Arc::new(destination),
        check: settings.check,
        parallelism: None,
    };
    restore(&worker, request).await.map(|restored| DatabaseAnswer::Restored(Box::new(restored), warnings))
}

/// Whether another attempt may succeed although nobody has repaired anything. A damaged or incomplete
/// backup stays as it is.
pub(super) fn may_pass(error: &RestoreError) -> bool {
    match error {
        RestoreError::Store(e) => e.is_transient() || e.is_stale_listing(),
        // A file was shorter than listed in every try. It may have been replaced.
        RestoreError::Unreadable { error, .. } => error.is_stale_listing(),
        RestoreError::Restless { .. } => true,
        _ => false,
    }
}

/// The pause before retry number `retries` (from 0). It doubles with each retry and varies by half, so
/// that databases that failed together are not tried again together.
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
        use StoreErrorKind::*;
        assert!([Timeout, Throttled, Network, Server, NotFound].into_iter().all(|kind| may_pass(&store(kind))));
        assert!(![NoSuchBucket, AccessDenied, Credentials, Io].into_iter().any(|kind| may_pass(&store(kind))));
        assert!(may_pass(&file(SizeDiffers)) && !may_pass(&file(Unreadable)));
        assert!(!may_pass(&RestoreError::Plan(PlanError::NoBackups)));
    }
}
