//! A restore whose pages are discarded, for measurements: the same plan, requests and decoding, by
//! the same code.

use crate::catalogue::Replica;
use crate::commit::StagedFile;
use crate::plan::Target;
use crate::restore::database::{Sink, execute_plans};
use crate::restore::error::{ExecutionFailure, RestoreError};
use crate::restore::execute::{Executed, Execution, execute, fetch_only};
use crate::restore::planner::{Planner, planned_files};
use crate::restore::workers::Worker;
use crate::store::Store;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use std::rc::Rc;

/// How far such a restore goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscardStage {
    /// All files are fetched and discarded.
    Fetch,
    /// All files are fetched, decoded and checked; the pages are discarded.
    Decode,
}

/// What to restore and discard. Fields as in [`crate::restore::Request`].
pub struct DiscardRequest {
    pub store: Store,
    pub path: String,
    pub replica: Option<Replica>,
    pub target: Target,
    pub stage: DiscardStage,
}

/// What was planned and fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discarded {
    pub files: usize,
    /// Size of the planned files in bytes.
    pub bytes_in: u64,
    /// Size of the database in bytes; 0 for [`DiscardStage::Fetch`].
    pub bytes_out: u64,
    /// Requests sent, retries not counted.
    pub requests: u64,
}

impl Sink for DiscardStage {
    type Done = Option<Executed>;

    fn output(&self) -> Option<&StagedFile> {
        None
    }

    fn run<'a>(
        &'a self,
        execution: &'a Execution<'_>,
    ) -> LocalBoxFuture<'a, Result<Option<Executed>, ExecutionFailure>> {
        match self {
            Self::Fetch => fetch_only(execution).map_ok(|()| None).boxed_local(),
            Self::Decode => execute(execution).map_ok(Some).boxed_local(),
        }
    }
}

/// Does what [`crate::restore::restore`] does, up to `request.stage`, and writes nothing.
///
/// # Errors
/// Those of [`crate::restore::restore`], except for the destination's.
pub async fn discard(worker: &Rc<Worker>, request: DiscardRequest) -> Result<Discarded, RestoreError> {
    let DiscardRequest { store, path, replica, target, stage } = request;
    let mut planner = Planner::new(worker, &store, &path, replica, target, None).await?;
    let (plan, executed, _) = execute_plans(worker, &mut planner, stage, || Ok(stage)).await?;
    Ok(Discarded {
        files: plan.files.len(),
        bytes_in: planned_files(&planner.replica, &plan).map(|file| file.size).sum(),
        bytes_out: executed.map_or(0, |executed| u64::from(executed.commit) * u64::from(executed.page_size)),
        requests: planner.requests,
    })
}
