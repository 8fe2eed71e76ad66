//! One database from listing to publication (docs/ARCHITECTURE.md, "One database"): list, plan,
//! execute, sync, check, publish. If a file is damaged, a new plan avoids it. If files were deleted
//! or replaced, the replica is listed and planned again.

use crate::catalogue::Replica;
use crate::commit::check::{self, Check};
use crate::commit::{Destination, PublishedFile, StagedFile};
use crate::error::escaped;
use crate::ltx::Txid;
use crate::plan::{DatedFile, Plan, PlanError, Target, Warning};
use crate::restore::chain_times::StepBack;
use crate::restore::error::{ExecutionFailure, RestoreError};
use crate::restore::execute::{Executed, Execution, execute};
use crate::restore::large::gets;
use crate::restore::planner::{Planner, planned_files};
use crate::restore::workers::Worker;
use crate::store::Store;
use crate::telemetry::{Stage, Stopwatch};
use crate::timestamp::Timestamp;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What to restore and where to.
pub struct Request {
    pub store: Store,
    /// Path of the database in the store (docs/FORMAT.md, "Key layouts": `<path>`).
    pub path: String,
    /// Its files, if they have been listed already.
    pub replica: Option<Replica>,
    pub target: Target,
    pub destination: Arc<Destination>,
    /// None: SQLite does not check the database.
    pub check: Option<check::Mode>,
    /// Upper bound of the database's requests in flight (`-parallelism`).
    pub parallelism: Option<usize>,
}

/// A restored database.
#[derive(Debug)]
pub struct Restored {
    pub outcome: RestoreOutcome,
    /// The name is durable once this is synced.
    pub published: PublishedFile,
}

/// Facts about a restored database.
#[derive(Debug, Clone)]
pub struct RestoreOutcome {
    pub min_txid: Txid,
    pub txid: Txid,
    /// The time in the newest file's header.
    pub timestamp: Timestamp,
    pub page_size: u32,
    /// Size of the database in bytes.
    pub bytes_out: u64,
    /// Size of the planned files in bytes.
    pub bytes_in: u64,
    pub files: usize,
    /// Damaged files that were avoided: key, and what is wrong.
    pub damaged: Vec<(String, String)>,
    pub warnings: Vec<Warning>,
    /// Requests sent, retries not counted.
    pub requests: u64,
    /// How many new plans were made.
    pub replanned: u32,
    /// The result of SQLite's check; None if it was not asked for.
    pub check: Option<check::CheckOutcome>,
}

impl RestoreOutcome {
    /// Warnings about a database that was restored nevertheless.
    pub fn all_warnings(&self) -> Vec<String> {
        let mut all: Vec<String> = self.damaged.iter().map(|(_, what)| what.clone()).collect();
        all.extend(self.warnings.iter().map(ToString::to_string));
        if let Some(check::CheckOutcome::NotCheckable(why)) = &self.check {
            all.push(format!("SQLite cannot check the database: {}", escaped(why)));
        }
        all
    }
}

/// Restores one database. It is published then and its content is durable. Its name is durable once
/// [`Restored::published`] is synced.
///
/// # Errors
/// Nothing was published, and the staged file is gone.
pub async fn restore(worker: &Rc<Worker>, mut request: Request) -> Result<Restored, RestoreError> {
    let replica = request.replica.take();
    let create = || request.destination.create(request.check.is_some()).map_err(RestoreError::from);
    // Before the first request, so that nothing is fetched for a destination that cannot be written.
    let output = create()?;
    let Request { store, path, target, .. } = &request;
    let requests = request.parallelism.map(|n| Arc::new(Semaphore::new(n.clamp(1, Semaphore::MAX_PERMITS))));
    let mut planner = Planner::new(worker, store, path, replica, *target, requests).await?;
    let (plan, executed, output) = execute_plans(worker, &mut planner, output, create).await?;
    finish(worker, &request, planner, plan, executed, output).await
}

/// What executes a plan: a staged file that is restored into, or a stage at which pages are discarded.
pub(super) trait Sink {
    type Done;

    /// The file that pages are written to; None: they are discarded.
    fn output(&self) -> Option<&StagedFile>;

    fn run<'a>(&'a self, execution: &'a Execution<'_>) -> LocalBoxFuture<'a, Result<Self::Done, ExecutionFailure>>;
}

impl Sink for StagedFile {
    type Done = Executed;

    fn output(&self) -> Option<&StagedFile> {
        Some(self)
    }

    fn run<'a>(&'a self, execution: &'a Execution<'_>) -> LocalBoxFuture<'a, Result<Executed, ExecutionFailure>> {
        execute(execution).boxed_local()
    }
}

/// Plans and executes until an execution succeeds or no further plan can help. The first execution is
/// for `sink`. Each further one is for a new sink of `create`, because pages of a failed execution are
/// not kept.
pub(super) async fn execute_plans<S: Sink>(
    worker: &Rc<Worker>,
    planner: &mut Planner<'_>,
    mut sink: S,
    create: impl Fn() -> Result<S, RestoreError>,
) -> Result<(Plan, S::Done, S), RestoreError> {
    let mut first_damage: Option<RestoreError> = None;
    // Terminates: after a failure, either there is one file less, or all times are read (once), or the
    // files were listed again (at most `MAX_RELISTINGS` times). Else `learn` fails.
    loop {
        let plan = match planner.plan().await {
            Ok(plan) => plan,
            Err(error) => {
                return Err(match (error, first_damage) {
                    // The damage says more than that there is no other chain.
                    (RestoreError::Plan(PlanError::NoOtherChain { .. }), Some(damage)) => damage,
                    (error, _) => error,
                });
            }
        };
        let files = planner.files(&plan)?;
        let execution = Execution {
            worker,
            store: planner.store,
            files: &files,
            output: sink.output(),
            before: match planner.target {
                Target::Timestamp(at) => Some(at),
                _ => None,
            },
            requests: planner.parallelism.clone(),
        };
        planner.requests += files.iter().map(|f| gets(f.file.size, worker.shared.segment_bytes)).sum::<u64>();
        match sink.run(&execution).await {
            Ok(done) => return Ok((plan, done, sink)),
            Err(failure) => {
                if let Some(damage) = planner.learn(&plan, &files, failure).await? {
                    first_damage.get_or_insert(damage);
                }
                // First, so that its disk space is free for the next.
                drop(sink);
                sink = create()?;
            }
        }
    }
}

/// Syncs, checks, publishes.
async fn finish(
    worker: &Rc<Worker>,
    request: &Request,
    planner: Planner<'_>,
    plan: Plan,
    executed: Executed,
    output: StagedFile,
) -> Result<Restored, RestoreError> {
    let mut watch = Stopwatch::start();
    worker.io.writer(output.output()).sync().await?;
    let check = match (request.check, output.path()) {
        (Some(mode), Some(path)) => Some(watch.away(check_database(worker, path, mode)).await?),
        (Some(_), None) => return Err(RestoreError::Internal { what: "a file to be checked has no name" }),
        (None, _) => None,
    };
    debug_assert!(output.output().is_synced(), "only durable content is published");
    let published = output.publish()?;
    worker.recorder().record(Stage::Commit, watch.elapsed());
    let output = request.destination.path().display();
    tracing::trace!(target: "hydrant::commit", database = request.path, %output, "synced and published");
    let bytes_in = planned_files(&planner.replica, &plan).map(|f| f.size).sum();
    let step_back = executed.step_back.and_then(|step| times_run_backwards(&planner.replica, &plan, step));
    let warnings = plan.warnings.into_iter().chain(step_back).collect();
    let outcome = RestoreOutcome {
        min_txid: plan.min_txid,
        txid: plan.txid,
        timestamp: executed.timestamp,
        page_size: executed.page_size,
        bytes_out: u64::from(executed.commit) * u64::from(executed.page_size),
        bytes_in,
        files: plan.files.len(),
        damaged: planner.damaged,
        warnings,
        requests: planner.requests,
        replanned: planner.replanned,
        check,
    };
    Ok(Restored { outcome, published })
}

fn times_run_backwards(replica: &Replica, plan: &Plan, step: StepBack) -> Option<Warning> {
    let dated = |place: usize, time| {
        let file = replica.files.get(*plan.files.get(place)?)?;
        Some(DatedFile { key: replica.key(file), time })
    };
    let newer = dated(step.older + 1, step.newer_time)?;
    Some(Warning::TimesRunBackwards { older: dated(step.older, step.older_time)?, newer })
}

/// SQLite's check reads the whole database: it runs on a thread for checks. It is interrupted when
/// the restore is dropped.
async fn check_database(
    worker: &Worker,
    path: &std::path::Path,
    mode: check::Mode,
) -> Result<check::CheckOutcome, RestoreError> {
    struct Interrupt(rusqlite::InterruptHandle);
    impl Drop for Interrupt {
        fn drop(&mut self) {
            self.0.interrupt();
        }
    }
    let check = Check::open(path, mode)?;
    let _interrupt = Interrupt(check.interrupt_handle());
    let outcome = match worker.shared.checks.run(move || check.run()).await {
        Ok(outcome) => outcome?,
        Err(_) => return Err(worker.shared.stopped("SQLite's check has ended without a result")),
    };
    match outcome {
        check::CheckOutcome::Damaged(findings) => Err(RestoreError::Damaged { findings }),
        check::CheckOutcome::Interrupted => Err(worker.shared.stopped("SQLite's check was interrupted")),
        outcome if worker.shared.cancel.is_cancelled() => {
            drop(outcome);
            Err(RestoreError::Cancelled)
        }
        outcome => Ok(outcome),
    }
}
