//! Restores whose pages are discarded, for the measurements of `hydrant bench`. Plan, requests and
//! decoding are those of a real restore and run the same code. Nothing is written.

use crate::catalogue::Replica;
use crate::commit::StagedFile;
use crate::plan::Target;
use crate::restore::database::{Sink, execute_plans};
use crate::restore::dispatch::execute_plan;
use crate::restore::error::{ExecutionFailure, RestoreError};
use crate::restore::execute::{Executed, Execution, fetch_only};
use crate::restore::past::PastState;
use crate::restore::planner::{Planner, planned_sizes};
use crate::restore::workers::Worker;
use crate::store::Store;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use std::rc::Rc;

/// The step of a restore after which `hydrant bench` discards the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscardStage {
    /// All planned files are fetched, and their bytes are discarded.
    Fetch,
    /// All planned files are fetched, decoded and checked, and their pages are discarded.
    Decode,
}

/// One database whose restore is to be measured without writing it.
pub struct DiscardRequest {
    /// The store (bucket or local disk) that holds the replica.
    pub store: Store,
    /// Path of the replica in the store, which the keys of its LTX files begin with.
    pub path: String,
    /// The replica's files, if they were listed before. With None, [`discard`] lists them.
    pub replica: Option<Replica>,
    /// The state of the database to restore: the newest, the one at a TXID, or the last one before a point in time.
    pub target: Target,
    /// Whether the files are only fetched, or also decoded.
    pub stage: DiscardStage,
}

/// Sizes and counts of a restore whose data were discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded {
    /// Number of LTX files that were planned and fetched.
    pub files: usize,
    /// Total size of the planned LTX files in bytes.
    pub bytes_in: u64,
    /// Size of the database in bytes. 0 for [`DiscardStage::Fetch`], which does not decode it.
    pub bytes_out: u64,
    /// Estimated number of LIST and GET requests, retries not counted.
    pub requests: u64,
    /// The past of a versioned bucket that was read. None: the present.
    pub past: Option<Box<PastState>>,
}

impl Sink for DiscardStage {
    type Done = Option<Executed>;

    fn output(&self) -> Option<&StagedFile> {
        None
    }

    fn needs_name(&self) -> bool {
        false
    }

    fn run<'a>(
        &'a self,
        execution: &'a Execution<'_>,
    ) -> LocalBoxFuture<'a, Result<Option<Executed>, ExecutionFailure>> {
        match self {
            Self::Fetch => fetch_only(execution).map_ok(|()| None).boxed_local(),
            Self::Decode => execute_plan(execution).map_ok(Some).boxed_local(),
        }
    }
}

/// Does what [`crate::restore::restore`] does, up to `request.stage`, and writes nothing.
///
/// # Errors
/// The same as for [`crate::restore::restore`], except for errors of the destination.
pub async fn discard(worker: &Rc<Worker>, request: DiscardRequest) -> Result<Discarded, RestoreError> {
    let DiscardRequest { store, path, replica, target, stage } = request;
    let mut planner = Planner::new(worker, &store, &path, replica, target, None, None).await?;
    let (plan, executed, _) = execute_plans(worker, &mut planner, stage, |_| Ok(stage)).await?;
    Ok(Discarded {
        files: plan.files.len(),
        bytes_in: planned_sizes(&planner.replica, &plan).sum(),
        bytes_out: executed.map_or(0, |executed| u64::from(executed.commit) * u64::from(executed.page_size)),
        requests: planner.requests,
        past: PastState::of(planner.store, &planner.replica, &plan).map(Box::new),
    })
}
