//! One database from listing to publication (docs/ARCHITECTURE.md, "One database"): list, plan,
//! execute, sync, check, publish. If a file is damaged, a new plan avoids it. If files were deleted
//! or replaced, the replica is listed and planned again.

use crate::catalogue::{LtxFile, Replica};
use crate::commit::check::{self, Check};
use crate::commit::{Destination, PublishedFile, StagedFile};
use crate::error::escaped;
use crate::ltx::Txid;
use crate::plan::{self, DatedFile, Excluded, Plan, PlanError, Target, Times, Warning};
use crate::restore::chain_times::StepBack;
use crate::restore::error::{ExecutionFailure, RestoreError};
use crate::restore::execute::{Executed, Execution, execute};
use crate::restore::large::{PlannedFile, gets};
use crate::restore::replica_listing::{HeaderTime, list_replica, look_at_times};
use crate::restore::workers::Worker;
use crate::store::{Store, StoreError, StoreErrorKind};
use crate::telemetry::{Stage, Stopwatch};
use crate::timestamp::Timestamp;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// After 8 new listings because planned files were deleted or replaced, the restore fails.
const MAX_RELISTINGS: u32 = 8;

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

/// A replica and the plan for it: `-dry-run` shows it.
pub struct PlannedRestore {
    pub replica: Replica,
    pub plan: Plan,
    pub times: Times,
}

/// Lists the files (unless `replica` has them), reads the times that it needs and plans. Fetches no
/// page.
///
/// # Errors
/// A plan cannot be made. If files are missing, a new listing has confirmed it.
pub async fn plan_database(
    worker: &Worker,
    store: &Store,
    path: &str,
    replica: Option<Replica>,
    target: &Target,
) -> Result<PlannedRestore, RestoreError> {
    let mut planner = Planner::new(worker, store, path, replica, *target, None).await?;
    let plan = planner.plan().await?;
    Ok(PlannedRestore { replica: planner.replica, plan, times: planner.times })
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

/// The state of planning one database: the files listed, the times known, the files to avoid.
pub(super) struct Planner<'a> {
    worker: &'a Worker,
    store: &'a Store,
    path: &'a str,
    target: Target,
    /// Bounds the database's requests in flight (`-parallelism`).
    parallelism: Option<Arc<Semaphore>>,
    /// The TXID of the first plan: each further plan must reach the same state.
    pinned: Option<Txid>,
    pub(super) replica: Replica,
    /// The listing was made to confirm that files are missing.
    fresh: bool,
    times: Times,
    excluded: Excluded,
    damaged: Vec<(String, String)>,
    /// Requests sent, retries not counted.
    pub(super) requests: u64,
    replanned: u32,
    relisted: u32,
    /// Keys of files that were shorter than listed.
    shorter: BTreeSet<String>,
}

impl PlannedRestore {
    /// Size of the planned files in bytes.
    pub fn bytes(&self) -> u64 {
        planned_files(&self.replica, &self.plan).map(|file| file.size).sum()
    }

    /// About how many GETs the plan takes if files larger than `segment_bytes` are cut.
    pub fn gets(&self, segment_bytes: u64) -> u64 {
        planned_files(&self.replica, &self.plan).map(|file| gets(file.size, segment_bytes)).sum()
    }
}

pub(super) fn planned_files<'a>(replica: &'a Replica, plan: &'a Plan) -> impl Iterator<Item = &'a LtxFile> {
    debug_assert!(plan.files.iter().all(|&i| i < replica.files.len()), "a plan is made of listed files");
    plan.files.iter().filter_map(|&i| replica.files.get(i))
}

/// How many LISTs show a database of up to 1,000 files.
fn lists(path: &str) -> u64 {
    Replica::list_prefixes(path).len() as u64
}

impl<'a> Planner<'a> {
    pub(super) async fn new(
        worker: &'a Worker,
        store: &'a Store,
        path: &'a str,
        replica: Option<Replica>,
        target: Target,
        parallelism: Option<Arc<Semaphore>>,
    ) -> Result<Self, RestoreError> {
        let (replica, requests) = match replica {
            Some(replica) => (replica, 0),
            None => (list_replica(&worker.http, store, path).await?, lists(path)),
        };
        Ok(Self {
            worker,
            store,
            path,
            target,
            parallelism,
            pinned: None,
            replica,
            fresh: false,
            times: Times::new(),
            excluded: Excluded::new(),
            damaged: Vec::new(),
            requests,
            replanned: 0,
            relisted: 0,
            shorter: BTreeSet::new(),
        })
    }

    /// A plan for the target. Reads the times that the planner asks for.
    async fn plan(&mut self) -> Result<Plan, RestoreError> {
        // Terminates: each turn sets times of files that had none, or lists again, which is bounded.
        loop {
            let target = match (self.target, self.pinned) {
                (Target::Timestamp(_), _) | (_, None) => self.target,
                (_, Some(txid)) => Target::Txid(txid),
            };
            match plan::plan(&self.replica, &target, &self.times, &self.excluded) {
                Ok(plan::PlanOutcome::NeedTimes(wanted)) => self.look(&wanted).await?,
                Ok(plan::PlanOutcome::Plan(plan)) => match self.pinned {
                    // Planned by time again: it must be the same state.
                    Some(txid) if txid != plan.txid => {
                        return Err(PlanError::TxidNotReachable { txid, below: Some(plan.txid), above: None }.into());
                    }
                    _ => {
                        self.pinned = Some(plan.txid);
                        return Ok(plan);
                    }
                },
                Err(e) if e.needs_fresh_listing() && !self.fresh => {
                    // LIST is not atomic: missing files may have been written while it ran.
                    self.list_again().await?;
                    self.fresh = true;
                }
                // Not a skip that may be permitted: there were backups before.
                Err(PlanError::NoBackups) if self.relisted > 0 => return Err(RestoreError::Vanished),
                Err(e) => return Err(self.or_only_another_lineage(e, &target).await.into()),
            }
        }
    }

    /// `error`, unless another lineage at this path reaches the target: then an error that says so.
    async fn or_only_another_lineage(&mut self, error: PlanError, target: &Target) -> PlanError {
        if matches!(error, PlanError::NoOtherChain { .. }) {
            return error;
        }
        for other in &self.replica.others {
            let mut times = Times::new();
            // Terminates: a turn that adds no times is the last.
            let planned = loop {
                let known = times.len();
                match plan::plan(other, target, &times, &Excluded::new()) {
                    Ok(plan::PlanOutcome::NeedTimes(wanted)) => {
                        self.requests += wanted.len() as u64;
                        let requests = self.parallelism.as_deref();
                        let looks = look_at_times(self.worker, self.store, other, &wanted, requests).await;
                        for (file, time) in looks.unwrap_or_default() {
                            match time {
                                HeaderTime::At(time) => times.set(file, time),
                                HeaderTime::Unknowable | HeaderTime::Stale(_) => times.set_unknowable(file),
                            }
                        }
                        if times.len() == known {
                            break None;
                        }
                    }
                    Ok(plan::PlanOutcome::Plan(plan)) => break Some(plan),
                    Err(_) => break None,
                }
            };
            if planned.is_some()
                && let Some(lineage) = other.lineage()
            {
                return PlanError::OnlyOtherLineage { error: Box::new(error), folder: lineage.folder };
            }
        }
        error
    }

    /// Reads the times of the files `wanted`. Lists again if one of them was replaced.
    async fn look(&mut self, wanted: &[usize]) -> Result<(), RestoreError> {
        self.requests += wanted.len() as u64;
        let looks = look_at_times(self.worker, self.store, &self.replica, wanted, self.parallelism.as_deref()).await?;
        let mut stale = None;
        for (file, time) in looks {
            match time {
                HeaderTime::At(time) => self.times.set(file, time),
                HeaderTime::Unknowable => self.times.set_unknowable(file),
                HeaderTime::Stale(e) => match self.replica.files.get(file).map(|f| self.replica.key(f)) {
                    Some(key) if self.is_shorter_again(&key, &e) => self.times.set_unknowable(file),
                    _ => stale = Some(e),
                },
            }
        }
        match stale {
            Some(e) => self.list_again_after(e).await,
            None => Ok(()),
        }
    }

    /// Whether the file was shorter than listed, was listed again for that, and is shorter than the new
    /// listing says. Then it was not replaced: it is damaged.
    fn is_shorter_again(&mut self, key: &str, error: &StoreError) -> bool {
        error.kind == StoreErrorKind::SizeDiffers && !self.shorter.insert(key.to_owned())
    }

    /// Prepares the next plan after an execution has failed. Returns the damage if a file is damaged:
    /// it is reported if no other chain exists.
    ///
    /// # Errors
    /// No further plan can help.
    async fn learn(
        &mut self,
        plan: &Plan,
        files: &[PlannedFile],
        failure: ExecutionFailure,
    ) -> Result<Option<RestoreError>, RestoreError> {
        self.replanned += 1;
        let at = |i: usize| plan.files.get(i).copied();
        debug_assert_eq!(files.len(), plan.files.len());
        let key = |i: usize| files.get(i).map(|f| f.key.clone()).unwrap_or_default();
        let (i, error) = match failure {
            ExecutionFailure::Fatal(e) => return Err(e),
            ExecutionFailure::Stopped => return Err(RestoreError::Cancelled),
            ExecutionFailure::Stale { file, error } if self.is_shorter_again(&key(file), &error) => {
                (file, RestoreError::Unreadable { key: key(file), error: error.into() })
            }
            ExecutionFailure::Stale { error, .. } => {
                self.list_again_after(error).await?;
                return Ok(None);
            }
            ExecutionFailure::Unreadable { file, error } => {
                (file, RestoreError::Unreadable { key: key(file), error: error.into() })
            }
            ExecutionFailure::TooNew { file, error } => {
                if self.times.are_all_required() {
                    return Err(RestoreError::Chain { key: key(file), error });
                }
                // The order of the files or their LastModified was wrong: all times are read from now on.
                self.times.require_all();
                self.pinned = None;
                return Ok(None);
            }
            ExecutionFailure::Damaged { file, error } => (file, RestoreError::File { key: key(file), error }),
            ExecutionFailure::Chain { file, error } => (file, RestoreError::Chain { key: key(file), error }),
        };
        match at(i) {
            Some(index) if !self.excluded.contains(index) => self.excluded.insert(index, error.class()),
            // It was avoided already: no further plan can help.
            _ => return Err(error),
        }
        self.damaged.push((key(i), error.to_string()));
        Ok(Some(error))
    }

    async fn list_again_after(&mut self, e: StoreError) -> Result<(), RestoreError> {
        if self.relisted >= MAX_RELISTINGS {
            return Err(RestoreError::Restless { attempts: self.relisted, last: e });
        }
        // The bucket is being changed: a hole in the new listing must be confirmed by another.
        self.fresh = false;
        self.list_again().await
    }

    async fn list_again(&mut self) -> Result<(), RestoreError> {
        self.relisted += 1;
        self.requests += lists(self.path);
        let new = list_replica(&self.worker.http, self.store, self.path).await?.keeping_to(&self.replica);
        self.times = self.times.carried(&self.replica, &new);
        self.excluded = self.excluded.carried(&self.replica, &new);
        self.replica = new;
        Ok(())
    }

    /// The files of `plan`, oldest first.
    fn files(&self, plan: &Plan) -> Result<Vec<PlannedFile>, RestoreError> {
        let planned = plan.files.iter().map(|&i| {
            let what = "a planned file is not in the listing";
            let file = self.replica.files.get(i).ok_or(RestoreError::Internal { what })?;
            Ok(PlannedFile { key: self.replica.key(file), file: file.clone() })
        });
        let planned = planned.collect::<Result<Vec<_>, RestoreError>>()?;
        debug_assert!(planned.first().is_some_and(|base| base.file.is_snapshot()), "a chain begins with a snapshot");
        debug_assert!(
            planned.last().is_some_and(|newest| newest.file.max_txid == plan.txid),
            "a chain ends at its TXID"
        );
        Ok(planned)
    }
}
