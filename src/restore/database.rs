//! One database from listing to publication: list, plan, execute; plan again around a damaged
//! file or after files were deleted; check, sync, publish.

use super::chain_times::StepBack;
use super::error::{ExecutionFailure, RestoreError};
use super::execute::{Executed, Execution, execute};
use super::large::{PlannedFile, gets};
use crate::catalogue::{LtxFile, Replica};
use crate::commit::check::{self, Check};
use crate::commit::{Destination, PublishedFile, StagedFile};
use crate::error::escaped;
use crate::ltx::Txid;
use crate::plan::{self, DatedFile, Excluded, Plan, PlanError, Target, Times, Warning};
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

/// Listings made because planned files were gone or replaced; then the restore gives up.
const MAX_RELISTINGS: u32 = 8;

/// What to restore, and where to.
pub struct Request {
    pub store: Store,
    /// Where the database lies in the store (FORMAT §1's `<path>`).
    pub path: String,
    /// Its listing, where the fleet has one already.
    pub replica: Option<Replica>,
    pub target: Target,
    pub destination: Arc<Destination>,
    pub check: Option<check::Mode>,
    /// `-parallelism`: requests in flight for this database.
    pub parallelism: Option<usize>,
}

/// A restored database.
#[derive(Debug)]
pub struct Restored {
    pub outcome: RestoreOutcome,
    /// The name is not durable before this is synced.
    pub published: PublishedFile,
}

/// What was restored.
#[derive(Debug, Clone)]
pub struct RestoreOutcome {
    pub min_txid: Txid,
    pub txid: Txid,
    /// The newest file's time, from its header.
    pub timestamp: Timestamp,
    pub page_size: u32,
    /// Size of the database in bytes.
    pub bytes_out: u64,
    /// Size of the planned files in bytes.
    pub bytes_in: u64,
    pub files: usize,
    /// Files that were damaged, and restored around: key and what is wrong.
    pub damaged: Vec<(String, String)>,
    pub warnings: Vec<Warning>,
    /// Requests that this took, repeated ones not counted.
    pub requests: u64,
    /// How often the plan was made anew.
    pub replanned: u32,
    /// `ok`, or why SQLite could not check; None: not asked for.
    pub check: Option<check::CheckOutcome>,
}

impl RestoreOutcome {
    /// What an operator should hear of a database that was restored all the same.
    pub fn all_warnings(&self) -> Vec<String> {
        let mut all: Vec<String> = self.damaged.iter().map(|(_, what)| what.clone()).collect();
        all.extend(self.warnings.iter().map(ToString::to_string));
        if let Some(check::CheckOutcome::NotCheckable(why)) = &self.check {
            all.push(format!("SQLite cannot check the database: {}", escaped(why)));
        }
        all
    }
}

/// A replica as planned for: what `-dry-run` shows.
pub struct PlannedRestore {
    pub replica: Replica,
    pub plan: Plan,
    pub times: Times,
}

/// Lists (where there is no listing yet), looks at times and plans, without fetching a page.
///
/// # Errors
/// A plan cannot be made; holes and their like are confirmed by a fresh listing first.
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

/// Restores one database. The file is published and its content durable; its name is durable
/// once `published` is synced.
///
/// # Errors
/// Nothing was published, and the unpublished file is gone.
pub async fn restore(worker: &Rc<Worker>, mut request: Request) -> Result<Restored, RestoreError> {
    let replica = request.replica.take();
    let create = || request.destination.create(request.check.is_some()).map_err(RestoreError::from);
    // Before the first request: an unwritable destination fails without a byte fetched.
    let output = create()?;
    let Request { store, path, target, .. } = &request;
    let requests = request.parallelism.map(|n| Arc::new(Semaphore::new(n.clamp(1, Semaphore::MAX_PERMITS))));
    let mut planner = Planner::new(worker, store, path, replica, *target, requests).await?;
    let (plan, executed, output) = execute_plans(worker, &mut planner, output, create).await?;
    finish(worker, &request, planner, plan, executed, output).await
}

/// What plans are executed for.
pub(super) trait Sink {
    type Done;

    /// Where the pages go.
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

/// Plans and executes until it succeeds, or cannot: first for `sink`, then, as what was begun is
/// of no use, for others that `create` makes.
pub(super) async fn execute_plans<S: Sink>(
    worker: &Rc<Worker>,
    planner: &mut Planner<'_>,
    mut sink: S,
    create: impl Fn() -> Result<S, RestoreError>,
) -> Result<(Plan, S::Done, S), RestoreError> {
    let mut first_damage: Option<RestoreError> = None;
    // Ends: what a failure teaches is a file less, the need of all times, which comes once, or a new
    // listing, of which there are `MAX_RELISTINGS`; else `learn` fails.
    loop {
        let plan = match planner.plan().await {
            Ok(plan) => plan,
            // No other chain: what the damage was says more than that.
            Err(RestoreError::Plan(PlanError::NoOtherChain { .. })) if first_damage.is_some() => {
                return Err(first_damage.unwrap_or(RestoreError::Cancelled));
            }
            Err(e) => return Err(e),
        };
        let files = planner.files(&plan);
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
                // The space that it had reserved may be needed.
                drop(sink);
                sink = create()?;
            }
        }
    }
}

/// Checks, syncs, publishes.
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
        _ => None,
    };
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

/// SQLite reads for as long as the database is large: on a thread for checks, stopped when the
/// restore is dropped.
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
        Err(_) => check::CheckOutcome::Interrupted,
    };
    match outcome {
        check::CheckOutcome::Damaged(findings) => Err(RestoreError::Damaged { findings }),
        check::CheckOutcome::Interrupted => Err(RestoreError::Cancelled),
        outcome if worker.shared.cancel.is_cancelled() => {
            drop(outcome);
            Err(RestoreError::Cancelled)
        }
        outcome => Ok(outcome),
    }
}

/// The state of planning one database: what is listed, what is known, what must be avoided.
pub(super) struct Planner<'a> {
    worker: &'a Worker,
    store: &'a Store,
    path: &'a str,
    /// As asked for; pinned to a TXID once a first plan stands, so that planning again never
    /// gives another state.
    target: Target,
    /// Requests that this database may make at once.
    parallelism: Option<Arc<Semaphore>>,
    pinned: Option<Txid>,
    pub(super) replica: Replica,
    /// The listing is of this restore, not older.
    fresh: bool,
    times: Times,
    excluded: Excluded,
    damaged: Vec<(String, String)>,
    pub(super) requests: u64,
    replanned: u32,
    relisted: u32,
    /// Keys of files that were shorter than listed, once each.
    shorter: BTreeSet<String>,
}

impl PlannedRestore {
    /// Size of the planned files in bytes.
    pub fn bytes(&self) -> u64 {
        planned_files(&self.replica, &self.plan).map(|file| file.size).sum()
    }

    /// GETs that fetching the plan takes, where larger files than `segment_bytes` are cut.
    pub fn gets(&self, segment_bytes: u64) -> u64 {
        planned_files(&self.replica, &self.plan).map(|file| gets(file.size, segment_bytes)).sum()
    }
}

pub(super) fn planned_files<'a>(replica: &'a Replica, plan: &'a Plan) -> impl Iterator<Item = &'a LtxFile> {
    plan.files.iter().filter_map(|&i| replica.files.get(i))
}

/// LISTs that show a database of up to a thousand files.
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

    /// A plan for the target, with as many looks at times as that takes.
    async fn plan(&mut self) -> Result<Plan, RestoreError> {
        // Ends: each turn learns the times of files that had none, or lists again, which is bounded.
        loop {
            let target = match (self.target, self.pinned) {
                (Target::Timestamp(_), _) | (_, None) => self.target,
                (_, Some(txid)) => Target::Txid(txid),
            };
            match plan::plan(&self.replica, &target, &self.times, &self.excluded) {
                Ok(plan::PlanOutcome::NeedTimes(wanted)) => self.look(&wanted).await?,
                Ok(plan::PlanOutcome::Plan(plan)) => match self.pinned {
                    // By time again: the same state, or none.
                    Some(txid) if txid != plan.txid => {
                        return Err(PlanError::TxidNotReachable { txid, below: Some(plan.txid), above: None }.into());
                    }
                    _ => {
                        self.pinned = Some(plan.txid);
                        return Ok(plan);
                    }
                },
                Err(e) if e.needs_fresh_listing() && !self.fresh => {
                    // LIST is not atomic: what is missing may have been written while it ran.
                    self.list_again().await?;
                    self.fresh = true;
                }
                // Never a permitted skip: there were some.
                Err(PlanError::NoBackups) if self.relisted > 0 => return Err(RestoreError::Vanished),
                Err(e) => return Err(self.or_only_another_lineage(e, &target).await.into()),
            }
        }
    }

    /// `error`, with what matters besides: that another lineage at this path reaches the target.
    async fn or_only_another_lineage(&mut self, error: PlanError, target: &Target) -> PlanError {
        if matches!(error, PlanError::NoOtherChain { .. }) {
            return error;
        }
        for other in &self.replica.others {
            let mut times = Times::new();
            // Each round of looks adds times, or is the last.
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

    /// Whether the file is shorter than a listing said that was made because the file had been
    /// shorter before. It was not replaced then: it is damaged, or shrinks with every look.
    fn is_shorter_again(&mut self, key: &str, error: &StoreError) -> bool {
        error.kind == StoreErrorKind::SizeDiffers && !self.shorter.insert(key.to_owned())
    }

    /// What a failed execution teaches. The damage, where one was found: to be reported if no
    /// other chain exists.
    async fn learn(
        &mut self,
        plan: &Plan,
        files: &[PlannedFile],
        failure: ExecutionFailure,
    ) -> Result<Option<RestoreError>, RestoreError> {
        self.replanned += 1;
        let at = |i: usize| plan.files.get(i).copied();
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
                // Order or LastModified misled: from now on look at every file's time.
                self.times.require_all();
                self.pinned = None;
                return Ok(None);
            }
            ExecutionFailure::Damaged { file, error } => (file, RestoreError::File { key: key(file), error }),
            ExecutionFailure::Chain { file, error } => (file, RestoreError::Chain { key: key(file), error }),
        };
        match at(i) {
            Some(index) if !self.excluded.contains(index) => self.excluded.insert(index, error.class()),
            // The same file again: planning cannot help.
            _ => return Err(error),
        }
        self.damaged.push((key(i), error.to_string()));
        Ok(Some(error))
    }

    async fn list_again_after(&mut self, e: StoreError) -> Result<(), RestoreError> {
        if self.relisted >= MAX_RELISTINGS {
            return Err(RestoreError::Restless { attempts: self.relisted, last: e });
        }
        // The bucket is being changed: a hole in this listing is to be confirmed once more.
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

    fn files(&self, plan: &Plan) -> Vec<PlannedFile> {
        let planned = plan.files.iter().filter_map(|&i| self.replica.files.get(i));
        planned.map(|file| PlannedFile { key: self.replica.key(file), file: file.clone() }).collect()
    }
}
