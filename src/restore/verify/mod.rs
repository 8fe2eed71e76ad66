//! Verifies one database without restoring it to its place: plans it, looks at headers, decodes everything, or restores
//! it to a scratch directory and asks SQLite (docs/CLI.md, "hydrant verify"). It takes the path of a restore, with
//! another end.

mod answer;
mod headers;
mod queries;
mod scratch;

pub use answer::{StateAnswer, answer_at};
pub use queries::QueryRow;
pub use scratch::VerifyScratch;

use crate::catalogue::Replica;
use crate::commit::{StagedFile, check};
use crate::error::Class;
use crate::ltx::Txid;
use crate::plan::{self, Plan, Target, V3State};
use crate::restore::database::{Sink, check_database, execute_plans};
use crate::restore::dispatch::execute_plan;
use crate::restore::error::{ExecutionFailure, RestoreError};
use crate::restore::execute::{Executed, Execution};
use crate::restore::past::PastState;
use crate::restore::planner::{Planner, planned_sizes};
use crate::restore::workers::Worker;
use crate::store::Store;
use crate::timestamp::Timestamp;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::rc::Rc;
use std::sync::Arc;

/// How thoroughly a database is verified. Each depth includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VerifyDepth {
    /// The files are listed and a plan is made. Nothing is fetched.
    Plan,
    /// The first and the last bytes of every planned file are read.
    Headers,
    /// Every planned file is fetched and decoded, and all checksums are compared. Nothing is written.
    Full,
    /// The database is restored to a scratch directory, checked by SQLite, and removed.
    Sqlite,
}

impl VerifyDepth {
    /// The word for this depth in `-depth` and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Headers => "headers",
            Self::Full => "full",
            Self::Sqlite => "sqlite",
        }
    }
}

/// How the databases of a run are verified.
#[derive(Debug)]
pub struct VerifySettings {
    /// How thoroughly.
    pub depth: VerifyDepth,
    /// SQLite's check, for [`VerifyDepth::Sqlite`].
    pub check: check::Mode,
    /// Queries whose first row is reported, for [`VerifyDepth::Sqlite`].
    pub queries: Vec<String>,
    /// Where databases are restored to.
    pub scratch: VerifyScratch,
}

/// One database to verify.
pub struct VerifyRequest {
    /// The store (bucket or local disk) that holds the replica.
    pub store: Store,
    /// Path of the replica in the store.
    pub path: String,
    /// The replica's files, if they were listed before.
    pub replica: Option<Replica>,
    /// The state to verify: the newest, or the last one before a point in time.
    pub target: Target,
    /// How to verify it.
    pub settings: Arc<VerifySettings>,
}

/// A state of a database that can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedState {
    /// Its TXID. 0 for files of Litestream 0.3.
    pub txid: Txid,
    /// Its position, for files of Litestream 0.3.
    pub v3: Option<V3State>,
    /// When it was created.
    pub time: Timestamp,
    /// Whether the time is from a file's header. Otherwise it is from the listing.
    pub is_time_of_header: bool,
}

/// Why the newest state cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyFailure {
    /// The class, as in the error log.
    pub class: Class,
    /// The error as text, with the file at fault.
    pub reason: String,
}

/// The result of verifying one database.
#[derive(Debug, Clone)]
pub struct VerifiedDatabase {
    /// Why the newest state inside the target cannot be had. None: it can.
    pub failure: Option<VerifyFailure>,
    /// The newest state that can be had. None if none can.
    pub state: Option<VerifiedState>,
    /// Whether `state` is older than the newest state inside the target, which cannot be had.
    pub is_older: bool,
    /// If the target was [`Target::Pinned`] and cannot be reached exactly: its TXID. `state` is newer.
    pub moved_from: Option<Txid>,
    /// The time of the oldest state that `-timestamp` can reach.
    pub oldest: Option<Timestamp>,
    /// Damaged files that are avoided: the key, and what is wrong.
    pub damaged: Vec<(String, String)>,
    /// Warnings about the replica.
    pub warnings: Vec<String>,
    /// The number of planned files that no other chain of files stands in for. None where it was not counted, because the
    /// replica has too many files.
    pub uncovered: Option<u64>,
    /// The past of a versioned bucket that was read. None: the present, or there is no plan.
    pub past: Option<Box<PastState>>,
    /// The number of planned files.
    pub files: u64,
    /// Their size in bytes.
    pub bytes_in: u64,
    /// The size of the database in bytes, from [`VerifyDepth::Full`] on.
    pub bytes_out: Option<u64>,
    /// Estimated number of requests.
    pub requests: u64,
    /// The first row of each query.
    pub rows: Vec<QueryRow>,
}

/// The files of one plan times all files: above this, it is not counted which files are covered.
const MOST_COMPARED: usize = 2_000_000;

/// Verifies one database.
///
/// # Errors
/// What says nothing about the backup: a request that failed and may be repeated, a full disk, a cancelled run. A backup
/// that cannot be restored is a [`VerifiedDatabase`] with a failure.
pub async fn verify(worker: &Rc<Worker>, request: VerifyRequest) -> Result<VerifiedDatabase, RestoreError> {
    let VerifyRequest { store, path, replica, target, settings } = request;
    let mut planner = Planner::new(worker, &store, &path, replica, target, None, None).await?;
    planner.newest_intact = !matches!(target, Target::Txid(_));
    planner.exclude_impossible();
    let reached = reach(worker, &mut planner, &settings).await;
    let mut verified = VerifiedDatabase {
        failure: None,
        state: None,
        is_older: false,
        moved_from: None,
        oldest: plan::oldest_state(&planner.replica, planner.times()),
        damaged: planner.damaged.clone(),
        warnings: Vec::new(),
        uncovered: None,
        past: None,
        files: 0,
        bytes_in: 0,
        bytes_out: None,
        requests: planner.requests,
        rows: Vec::new(),
    };
    let Reached { plan, executed, checked, rows } = match reached {
        Ok(reached) => reached,
        Err(error) if is_about_the_backup(&error) => {
            verified.failure = Some(VerifyFailure { class: error.class(), reason: error.to_string() });
            return Ok(verified);
        }
        Err(error) => return Err(error),
    };
    let damage = planner.damaged.first().map(|(_, what)| what.clone());
    verified.failure = planner
        .lost
        .as_ref()
        .map(|lost| VerifyFailure { class: lost.class(), reason: damage.unwrap_or_else(|| lost.to_string()) });
    if let Some(failure) = checked {
        verified.failure.get_or_insert(failure);
    }
    verified.is_older = planner.lost.is_some();
    verified.state = planner.state_of(&plan, executed.as_ref());
    verified.moved_from = plan::moved_from(&plan.warnings);
    verified.warnings = plan.warnings.iter().map(ToString::to_string).collect();
    verified.uncovered = uncovered(&planner, &plan);
    verified.past = PastState::of(planner.store, &planner.replica, &plan).map(Box::new);
    verified.files = plan.files.len() as u64;
    verified.bytes_in = planned_sizes(&planner.replica, &plan).sum();
    verified.bytes_out = executed.map(|executed| u64::from(executed.commit) * u64::from(executed.page_size));
    verified.rows = rows;
    Ok(verified)
}

/// How far a verification came.
struct Reached {
    plan: Plan,
    executed: Option<Executed>,
    /// What SQLite found.
    checked: Option<VerifyFailure>,
    rows: Vec<QueryRow>,
}

async fn reach(
    worker: &Rc<Worker>,
    planner: &mut Planner<'_>,
    settings: &VerifySettings,
) -> Result<Reached, RestoreError> {
    let nothing = |plan| Reached { plan, executed: None, checked: None, rows: Vec::new() };
    match settings.depth {
        VerifyDepth::Plan => Ok(nothing(planner.plan().await?)),
        VerifyDepth::Headers => Ok(nothing(headers::verify(worker, planner).await?)),
        VerifyDepth::Full => {
            let create = |named| match named {
                true => settings.scratch.create().map(End::Scratch),
                false => Ok(End::Nothing),
            };
            let (plan, executed, _) = execute_plans(worker, planner, End::Nothing, create).await?;
            Ok(Reached { plan, executed: Some(executed), checked: None, rows: Vec::new() })
        }
        VerifyDepth::Sqlite => {
            let bytes = headers::database_bytes(worker, planner).await?;
            let _share = settings.scratch.reserve(bytes).await;
            let create = |_| settings.scratch.create().map(End::Scratch);
            let (plan, executed, end) = execute_plans(worker, planner, create(true)?, create).await?;
            let End::Scratch(file) = end else {
                return Err(RestoreError::Internal { what: "a database to be checked was not written" });
            };
            let Some(path) = file.path() else {
                return Err(RestoreError::Internal { what: "a file to be checked has no name" });
            };
            let mut checked = None;
            match check_database(worker, path, settings.check).await {
                Err(error @ RestoreError::Damaged { .. }) => {
                    checked = Some(VerifyFailure { class: error.class(), reason: error.to_string() });
                }
                outcome => drop(outcome?),
            }
            let rows = queries::ask(worker, path, &settings.queries).await?;
            if let Some(failed) = rows.iter().find_map(QueryRow::failure) {
                checked.get_or_insert(VerifyFailure { class: Class::IntegrityCheck, reason: failed });
            }
            Ok(Reached { plan, executed: Some(executed), checked, rows })
        }
    }
}

/// What becomes of the pages.
enum End {
    /// They are discarded.
    Nothing,
    /// They are written to a file that is removed when this is dropped.
    Scratch(StagedFile),
}

impl Sink for End {
    type Done = Executed;

    fn output(&self) -> Option<&StagedFile> {
        match self {
            Self::Nothing => None,
            Self::Scratch(file) => Some(file),
        }
    }

    fn needs_name(&self) -> bool {
        self.output().is_none_or(|file| file.path().is_none())
    }

    fn run<'a>(&'a self, execution: &'a Execution<'_>) -> LocalBoxFuture<'a, Result<Executed, ExecutionFailure>> {
        match self {
            Self::Nothing => execute_plan(execution).boxed_local(),
            Self::Scratch(file) => file.run(execution),
        }
    }
}

/// Whether the error says that the backup does not give the state, and not that it could not be found out.
fn is_about_the_backup(error: &RestoreError) -> bool {
    match error {
        RestoreError::Plan(_)
        | RestoreError::Nothing(_)
        | RestoreError::File { .. }
        | RestoreError::Wal { .. }
        | RestoreError::Ahead { .. }
        | RestoreError::Chain { .. }
        | RestoreError::Damaged { .. } => true,
        RestoreError::Unreadable { error, .. } => error.is_unreadable(),
        RestoreError::Store(_)
        | RestoreError::Commit(_)
        | RestoreError::Io(_)
        | RestoreError::OnlyV3
        | RestoreError::Standby { .. }
        | RestoreError::Memory { .. }
        | RestoreError::Vanished
        | RestoreError::Restless { .. }
        | RestoreError::Internal { .. }
        | RestoreError::Cancelled => false,
    }
}

/// Counts the planned files without which the planned state cannot be had.
fn uncovered(planner: &Planner<'_>, plan: &Plan) -> Option<u64> {
    if let Some(v3) = &plan.v3 {
        // Nothing stands in for WAL. An older snapshot stands in for the snapshot.
        let wal = plan.files.len() as u64 - 1;
        let has_older = planner.would_plan_without(plan.files.first().copied()?, true);
        debug_assert!(v3.next.is_none_or(|next| next >= (v3.state.index, 0)), "what is next comes later");
        return Some(wal + u64::from(!has_older));
    }
    if plan.files.len().saturating_mul(planner.replica.files.len()) > MOST_COMPARED {
        return None;
    }
    Some(plan.files.iter().filter(|&&file| !planner.would_plan_without(file, false)).count() as u64)
}

impl Planner<'_> {
    /// Excludes files that cannot be whole by their listed size: they are empty, or shorter than the least that every
    /// file has.
    fn exclude_impossible(&mut self) {
        const LEAST_LTX: u64 = (crate::ltx::header::HEADER_SIZE + crate::ltx::trailer::TRAILER_SIZE) as u64;
        /// The header of an LZ4 frame and its end mark.
        const LEAST_LZ4: u64 = 11;
        let short = |size: u64, least: u64| size < least;
        let ltx: Vec<usize> = indexes(self.replica.files.iter().map(|file| short(file.size, LEAST_LTX)));
        let v3 = self.replica.v3.iter().flat_map(|v3| &v3.files);
        let v3: Vec<usize> = indexes(v3.map(|file| file.kind.is_packed() && short(file.size, LEAST_LZ4)));
        for file in ltx {
            let key = self.replica.files.get(file).map(|listed| self.replica.key(listed));
            self.exclude_truncated(file, false, key);
        }
        for file in v3 {
            let replica = self.replica.v3.as_ref();
            let key = replica.and_then(|v3| v3.files.get(file).map(|listed| v3.key(listed)));
            self.exclude_truncated(file, true, key);
        }
    }

    /// Whether another plan reaches the same state without this file.
    fn would_plan_without(&self, file: usize, is_v3: bool) -> bool {
        let mut excluded = self.excluded().clone();
        match is_v3 {
            true => excluded.insert_v3(file, Class::Truncated),
            false => excluded.insert(file, Class::Truncated),
        }
        matches!(plan::plan(&self.replica, &self.target, self.times(), &excluded), Ok(plan::PlanOutcome::Plan(_)))
    }

    /// The state that `plan` leads to.
    fn state_of(&self, plan: &Plan, executed: Option<&Executed>) -> Option<VerifiedState> {
        let newest = *plan.files.last()?;
        let v3 = plan.v3.as_ref().map(|v3| executed.and_then(|executed| executed.reached).unwrap_or(v3.state));
        let (time, is_time_of_header) = match (&v3, executed, self.times().get(newest)) {
            (Some(state), ..) => (state.time, false),
            (None, Some(executed), _) => (executed.timestamp, true),
            (None, None, Some(time)) => (time, true),
            (None, None, None) => (self.replica.files.get(newest)?.last_modified, false),
        };
        Some(VerifiedState { txid: plan.txid, v3, time, is_time_of_header })
    }
}

fn indexes(which: impl Iterator<Item = bool>) -> Vec<usize> {
    which.enumerate().filter(|(_, is)| *is).map(|(i, _)| i).collect()
}
