//! The steps of restoring one database (docs/ARCHITECTURE.md, "One database"): list the replica,
//! plan which LTX files to use, execute the plan, fsync the new file, let SQLite check it, publish it.
//!
//! If a planned file proves damaged, a new plan is made without it. If planned files were deleted or
//! replaced since the listing, the replica is listed again and a new plan is made.

use crate::catalogue::{Generation, Replica, ReplicaEnds};
use crate::commit::check::{self, Check};
use crate::commit::{CommitError, Destination, PublishedFile, StagedFile, stands_at, txid_sidecar};
use crate::error::{Class, escaped};
use crate::ltx::Txid;
use crate::plan::{self, DatedFile, Plan, PlanError, Target, V3State, Warning};
use crate::restore::chain_times::StepBack;
use crate::restore::dispatch::execute_plan;
use crate::restore::error::{ExecutionFailure, RestoreError};
use crate::restore::execute::{Executed, Execution, V3Execution};
use crate::restore::large::gets;
use crate::restore::past::PastState;
use crate::restore::planner::{Planner, planned_sizes, warning_texts};
use crate::restore::replica_listing::list_replica;
use crate::restore::workers::Worker;
use crate::store::Store;
use crate::telemetry::{Stage, Stopwatch};
use crate::timestamp::Timestamp;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::Semaphore;

/// One database to restore: where its backup is, which state of it is wanted, and where to write it.
pub struct Request {
    /// The store (bucket or local disk) that holds the replica.
    pub store: Store,
    /// Path of the replica in the store, which the keys of its LTX files begin with (docs/FORMAT.md, "Key layouts":
    /// `<path>`).
    pub path: String,
    /// The replica's files, if they were listed before. With None, [`restore`] lists them.
    pub replica: Option<Replica>,
    /// The state of the database to restore: the newest, the one at a TXID, or the last one before a point in time.
    pub target: Target,
    /// The generation of Litestream 0.3 to restore from. With None, it is chosen by its files' times.
    pub generation: Option<Generation>,
    /// Whether the newest state that can be had is restored if files are damaged or missing (`-newest-intact`).
    pub newest_intact: bool,
    /// Where the restored database is published, as [`Destination::prepare`] has checked it.
    pub destination: Arc<Destination>,
    /// SQLite's check to run before the database is published. With None, no check is run.
    pub check: Option<check::Mode>,
    /// At most this many requests for this database are in flight at a time (`-parallelism`). With
    /// None, only the limit of the process applies.
    pub parallelism: Option<usize>,
}

/// A restored and published database. Its content was synced to disk and survives a power failure. Its name in the
/// directory survives only after [`PublishedFile::sync_dir`].
#[derive(Debug)]
pub struct Restored {
    /// Sizes, counts and warnings of this restore, for reports.
    pub outcome: RestoreOutcome,
    /// The published file. The caller must fsync its directory ([`PublishedFile::sync_dir`]): until
    /// then a power failure can lose the file's name.
    pub published: PublishedFile,
}

/// A restored database without its name. Its content was synced to disk. Dropping it deletes the file.
#[derive(Debug)]
struct Unpublished {
    outcome: RestoreOutcome,
    output: StagedFile,
    /// Path of the replica in the store.
    path: String,
    /// The time that syncing the file took.
    synced_in: Duration,
}

impl Unpublished {
    /// Gives the file its name.
    ///
    /// # Errors
    /// [`RestoreError::Commit`]: the destination is as it was before.
    fn publish(self, worker: &Worker) -> Result<Restored, RestoreError> {
        let Self { outcome, output, path, synced_in } = self;
        let begun = Stopwatch::start();
        let published = output.publish()?;
        worker.recorder().record(Stage::Commit, synced_in + begun.elapsed());
        let output = outcome.output.display();
        tracing::trace!(target: "hydrant::commit", database = path, %output, "synced and published");
        Ok(Restored { outcome, published })
    }
}

/// Sizes, counts and warnings of one successful restore, for reports.
#[derive(Debug, Clone)]
pub struct RestoreOutcome {
    /// Path of the restored database.
    pub output: PathBuf,
    /// The lowest TXID that the planned LTX files cover. Always 1, because a plan begins with a snapshot. 0 if `v3` is
    /// set.
    pub min_txid: Txid,
    /// The TXID whose state was restored. 0 if `v3` is set.
    pub txid: Txid,
    /// The state that was restored, if it is from files of Litestream 0.3.
    pub v3: Option<V3State>,
    /// Creation time of the newest planned LTX file, from its header. For files of Litestream 0.3, the time of the
    /// newest one's upload.
    pub timestamp: Timestamp,
    /// Page size of the restored SQLite database in bytes.
    pub page_size: u32,
    /// Size of the restored database in bytes.
    pub bytes_out: u64,
    /// Total size of the planned LTX files in bytes.
    pub bytes_in: u64,
    /// Number of LTX files that the database was restored from.
    pub files: usize,
    /// Damaged LTX files that the final plan avoids: the file's key, and a text that says what is wrong.
    pub damaged: Vec<(String, String)>,
    /// Where the replica ended when it was listed. Litestream must be able to go on there if it is to replicate the
    /// restored database.
    pub ends: ReplicaEnds,
    /// Why the newest state cannot be had, if an older one was restored (`-newest-intact`).
    pub lost: Option<String>,
    /// Warnings about the replica that did not prevent the restore, for example that it also holds files of another
    /// database.
    pub warnings: Vec<Warning>,
    /// Estimated number of LIST and GET requests, retries not counted.
    pub requests: u64,
    /// Number of times that an execution failed and the planner was asked again. 0 if the first plan
    /// succeeded.
    pub replanned: u32,
    /// The result of SQLite's check. None if no check was asked for.
    pub check: Option<check::CheckOutcome>,
    /// From which past of a versioned bucket it was restored, if it was.
    pub past: Option<Box<PastState>>,
}

impl RestoreOutcome {
    /// If the target was [`Target::Pinned`] and could not be reached exactly: its TXID. [`Self::txid`] is newer.
    pub fn moved_from(&self) -> Option<Txid> {
        plan::moved_from(&self.warnings)
    }

    /// All warnings as texts for the user, the most important first: that an older state was restored, damaged
    /// files that were avoided, oddities of the plan, and a check that SQLite could not carry out.
    pub fn all_warnings(&self) -> Vec<String> {
        let mut all = warning_texts(&self.warnings, self.lost.as_deref(), &self.damaged);
        if let Some(check::CheckOutcome::NotCheckable(why)) = &self.check {
            let output = escaped(&self.output.to_string_lossy());
            all.push(format!("SQLite cannot check {output}: {}; it was published unchecked", escaped(why)));
        }
        all
    }
}

/// Restores one database and publishes it at its destination. When this returns, the file's content
/// is durable. Its name is durable once the caller has synced [`Restored::published`].
///
/// # Errors
/// Any [`RestoreError`]. The destination is then as it was before, and the temporary file is removed.
pub async fn restore(worker: &Rc<Worker>, request: Request) -> Result<Restored, RestoreError> {
    let destination = Arc::clone(&request.destination);
    let unpublished = restore_unpublished(worker, request).await?;
    let path = destination.path();
    txid_sidecar::remove_stale(path).map_err(|error| sidecar_refused("remove the -txid of", path, &error))?;
    let published = unpublished.publish(worker);
    note_full_disk(&destination, &published);
    published
}

/// Where space cannot be reserved (ZFS, NFS), several databases may have been begun that fit each by itself.
fn note_full_disk<T>(destination: &Destination, result: &Result<T, RestoreError>) {
    if result.as_ref().is_err_and(|error| error.class() == Class::DiskFull) {
        destination.note_disk_full();
    }
}

/// Restores a database that is to be followed (docs/FOLLOW.md, "The sidecar"). Its sidecar is durable before it gets its
/// name. If it replaces a database, there is no sidecar: the caller writes it once the new name is durable.
///
/// # Errors
/// As [`restore`], and [`RestoreError::OnlyV3`].
pub async fn restore_standby(worker: &Rc<Worker>, mut request: Request) -> Result<Restored, RestoreError> {
    let destination = Arc::clone(&request.destination);
    let mut replica = match request.replica.take() {
        Some(replica) => replica,
        None => {
            let memory = &worker.shared.catalogue;
            let listed = list_replica(&worker.http, &request.store, &request.path, memory).await?;
            if let Some(nothing) = listed.nothing {
                return Err(nothing.into());
            }
            listed.replica
        }
    };
    if replica.v3.take().is_some() && replica.files.is_empty() {
        return Err(RestoreError::OnlyV3);
    }
    request.replica = Some(replica);
    let unpublished = restore_unpublished(worker, request).await?;
    // Listed anew, the replica may have shown files of Litestream 0.3 again.
    if unpublished.outcome.v3.is_some() {
        return Err(RestoreError::OnlyV3);
    }
    let path = destination.path();
    let (what, written) = match stands_at(path) {
        true => ("remove the -txid of", txid_sidecar::remove(path)),
        false => ("write the -txid of", txid_sidecar::write(path, unpublished.outcome.txid)),
    };
    written.map_err(|error| sidecar_refused(what, path, &error))?;
    let published = unpublished.publish(worker);
    note_full_disk(&destination, &published);
    published
}

fn sidecar_refused(what: &'static str, path: &Path, error: &io::Error) -> RestoreError {
    CommitError::refused(what, path, Errno::from_io_error(error).unwrap_or(Errno::IO)).into()
}

async fn restore_unpublished(worker: &Rc<Worker>, request: Request) -> Result<Unpublished, RestoreError> {
    let destination = Arc::clone(&request.destination);
    let restored = restore_to(worker, request).await;
    note_full_disk(&destination, &restored);
    restored
}

async fn restore_to(worker: &Rc<Worker>, mut request: Request) -> Result<Unpublished, RestoreError> {
    let replica = request.replica.take();
    let create = |named| request.destination.create(named || request.check.is_some()).map_err(RestoreError::from);
    // The temporary file is created before the first request, so that nothing is fetched for a
    // directory that cannot be written.
    let output = create(false)?;
    let Request { store, path, target, generation, .. } = &request;
    let requests = request.parallelism.map(|n| Arc::new(Semaphore::new(n.clamp(1, Semaphore::MAX_PERMITS))));
    let mut planner = Planner::new(worker, store, path, replica, *target, *generation, requests).await?;
    planner.newest_intact = request.newest_intact;
    let (plan, executed, output) = execute_plans(worker, &mut planner, output, create).await?;
    finish(worker, &request, planner, plan, executed, output).await
}

/// The purpose for which a plan is executed. A restore executes it to fill a [`StagedFile`] (the
/// unpublished new database). A measurement executes it and discards the pages.
pub(super) trait Sink {
    /// The result of a successful execution of the plan.
    type Done;

    /// The file that pages are written to. None if pages are discarded.
    fn output(&self) -> Option<&StagedFile>;

    /// Whether another sink must be created if SQLite is to check what is written, which needs a file with a name.
    fn needs_name(&self) -> bool;

    /// Executes the plan that `execution` holds.
    fn run<'a>(&'a self, execution: &'a Execution<'_>) -> LocalBoxFuture<'a, Result<Self::Done, ExecutionFailure>>;
}

impl Sink for StagedFile {
    type Done = Executed;

    fn output(&self) -> Option<&StagedFile> {
        Some(self)
    }

    fn needs_name(&self) -> bool {
        self.path().is_none()
    }

    fn run<'a>(&'a self, execution: &'a Execution<'_>) -> LocalBoxFuture<'a, Result<Executed, ExecutionFailure>> {
        async {
            let executed = execute_plan(execution).await?;
            if execution.v3.as_ref().is_some_and(V3Execution::needs_check) {
                check_ahead(execution.worker, self, &executed).await?;
            }
            Ok(executed)
        }
        .boxed_local()
    }
}

/// Makes plans and executes them, until one execution succeeds or no further plan can help. The first
/// execution uses `sink`. Each later one uses a new sink, which `create` makes, with a name if it is told so, because the pages that a
/// failed execution wrote are not reused. Returns the plan that succeeded, the execution's result, and
/// its sink.
pub(super) async fn execute_plans<S: Sink>(
    worker: &Rc<Worker>,
    planner: &mut Planner<'_>,
    mut sink: S,
    create: impl Fn(bool) -> Result<S, RestoreError>,
) -> Result<(Plan, S::Done, S), RestoreError> {
    let mut first_damage: Option<RestoreError> = None;
    // This loop terminates. After each failed execution, `learn` does one of four things: it excludes a
    // file from further plans, requires that all times be read (once), lists the files again (at most
    // `MAX_RELISTINGS` times), or returns an error.
    loop {
        let plan = match planner.plan().await {
            Ok(plan) => plan,
            Err(error) => {
                return Err(match (error, first_damage) {
                    // A damaged file left no chain to the target. The damage is the cause, so it is the
                    // error that the user sees.
                    (
                        RestoreError::Plan(PlanError::NoOtherChain { .. } | PlanError::NoOtherSnapshot { .. }),
                        Some(damage),
                    ) => damage,
                    (error, _) => error,
                });
            }
        };
        let files = planner.files(&plan)?;
        let behind = planner.files_behind(&plan)?;
        let v3 = plan.v3.as_deref().map(|plan| V3Execution { plan, behind: &behind, through: planner.through });
        if v3.as_ref().is_some_and(V3Execution::needs_check) && sink.needs_name() {
            drop(sink);
            sink = create(true)?;
        }
        let execution = Execution {
            worker,
            store: planner.store,
            files: &files,
            output: sink.output(),
            before: match planner.target {
                Target::Timestamp(at) if plan.v3.is_none() => Some(at),
                _ => None,
            },
            requests: planner.parallelism.clone(),
            v3,
            finds_all_damage: planner.newest_intact,
        };
        planner.requests += files.iter().map(|f| gets(f.size, worker.shared.segment_bytes)).sum::<u64>();
        match sink.run(&execution).await {
            Ok(done) => return Ok((plan, done, sink)),
            Err(failure) => {
                if let Some(damage) = planner.learn(&plan, &files, failure).await? {
                    first_damage.get_or_insert(damage);
                }
                // The unfinished file is dropped (removed) before a new one is created, so that its disk space can be
                // used.
                drop(sink);
                sink = create(false)?;
            }
        }
    }
}

/// Finishes a restore whose pages are all written: fsyncs the new file, runs SQLite's check if one was
/// asked for, and collects the outcome.
async fn finish(
    worker: &Rc<Worker>,
    request: &Request,
    planner: Planner<'_>,
    plan: Plan,
    executed: Executed,
    output: StagedFile,
) -> Result<Unpublished, RestoreError> {
    let mut watch = Stopwatch::start();
    worker.io.writer(output.output()).sync().await?;
    let check = match (request.check, output.path()) {
        (Some(mode), Some(path)) => Some(watch.away(check_database(worker, path, mode)).await?),
        (Some(_), None) => return Err(RestoreError::Internal { what: "a file to be checked has no name" }),
        (None, _) => None,
    };
    debug_assert!(output.output().is_synced(), "only durable content is published");
    let output = copy_from_staging(worker, output).await?;
    let synced_in = watch.elapsed();
    let bytes_in = planned_sizes(&planner.replica, &plan).sum();
    let step_back = executed.step_back.and_then(|step| times_run_backwards(&planner.replica, &plan, step));
    let past = PastState::of(planner.store, &planner.replica, &plan).map(Box::new);
    let warnings = plan.warnings.into_iter().chain(step_back).collect();
    let outcome = RestoreOutcome {
        output: request.destination.path().to_owned(),
        min_txid: plan.min_txid,
        txid: plan.txid,
        v3: plan.v3.map(|v3| executed.reached.unwrap_or(v3.state)),
        timestamp: executed.timestamp,
        page_size: executed.page_size,
        bytes_out: u64::from(executed.commit) * u64::from(executed.page_size),
        bytes_in,
        files: plan.files.len(),
        ends: planner.replica.ends(),
        damaged: planner.damaged,
        lost: planner.lost.as_ref().map(ToString::to_string),
        warnings,
        requests: planner.requests,
        replanned: planner.replanned,
        check,
        past,
    };
    Ok(Unpublished { outcome, output, path: request.path.clone(), synced_in })
}

/// Copies a database that was staged elsewhere to its destination's directory ([`StagedFile::copied`]), on a thread of
/// the pool for work that blocks. If the restore is dropped, the copy ends and is deleted before that returns.
async fn copy_from_staging(worker: &Worker, staged: StagedFile) -> Result<StagedFile, RestoreError> {
    if !staged.is_elsewhere() {
        return Ok(staged);
    }
    let copying = worker.shared.checks.run_stoppable(|stop| staged.copied(&|| stop.load(Relaxed)));
    match copying.result().await.transpose()?.flatten() {
        Some(copied) => Ok(copied),
        None => Err(worker.shared.stopped("the copy from the directory for staging has ended without a result")),
    }
}

/// The warning about two neighbouring planned files of which the one with higher TXIDs was created
/// earlier.
fn times_run_backwards(replica: &Replica, plan: &Plan, step: StepBack) -> Option<Warning> {
    let dated = |place: usize, time| {
        let file = replica.files.get(*plan.files.get(place)?)?;
        Some(DatedFile { key: replica.key(file), time })
    };
    let newer = dated(step.older + 1, step.newer_time)?;
    Some(Warning::TimesRunBackwards { older: dated(step.older, step.older_time)?, newer })
}

/// Checks with SQLite that the snapshot of Litestream 0.3 was not ahead of the WAL that was applied to it. What SQLite
/// cannot check passes.
async fn check_ahead(worker: &Worker, output: &StagedFile, executed: &Executed) -> Result<(), ExecutionFailure> {
    let Some(path) = output.path() else { return Err(ExecutionFailure::bug("a file to be checked has no name")) };
    match check_database(worker, path, check::Mode::Full).await {
        Err(RestoreError::Damaged { .. }) => Err(ExecutionFailure::SnapshotAhead { through: executed.through }),
        checked => Ok(checked.map(drop)?),
    }
}

/// Runs SQLite's check of the file at `path`. The check reads the whole database and blocks, so it runs
/// on a thread of its own pool instead of the worker's. It is interrupted if the restore is dropped.
///
/// # Errors
/// SQLite found damage, the file could not be opened or read, or the run was cancelled.
pub(super) async fn check_database(
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
