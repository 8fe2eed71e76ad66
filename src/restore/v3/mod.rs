//! Executes a plan for a replica of Litestream 0.3: a snapshot and the pieces of WAL to apply to it
//! (docs/FORMAT-V3.md, "The database"). SQLite is not used for it.
//!
//! As with LTX files, the newest copy of each page is found first and every page is written once. The WAL is read from
//! the newest index to the oldest. An index claims its pages unless a newer one has them. Then the snapshot is written,
//! except for the claimed pages. The size that each index leaves limits which pages of older indexes count.
//!
//! The pieces of one index are decoded one after the other, because a checksum runs through them. Different indexes are
//! decoded side by side by all workers. An index whose pages are too many for memory is written while it is read.

mod ahead;
mod claiming;
mod frames;
mod index;
mod ordered_body;
mod snapshot;
mod streamed;

use crate::plan::{V3Plan, V3State};
use crate::restore::ahead::Ahead;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::{Executed, Execution};
use crate::restore::large::{PlannedContent, PlannedFile};
use crate::restore::v3::claiming::Claiming;
use crate::restore::v3::index::{IndexJob, IndexPages, Read};
use crate::restore::workers::Worker;
use futures_util::FutureExt;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

/// Databases with at most 1 MiB of WAL are decoded by one worker: to pass their indexes on would cost more than it saves.
const INLINE_WAL_BYTES: u64 = 1 << 20;
/// At most 64 indexes of one database are fetched and decoded at a time.
const INDEXES_IN_FLIGHT: usize = 64;
/// The pages of one index take at most 8 MiB of memory. An index with more is written while it is read. (SQLite's own
/// checkpoint after 1,000 pages makes an index of 4 MiB.)
const HELD_BYTES: u64 = 8 << 20;
/// The indexes of one database that are in flight take at most 32 MiB together.
const WINDOW_BYTES: u64 = 32 << 20;

/// What an execution needs to know besides its files, if they are those of Litestream 0.3.
pub(crate) struct V3Execution<'a> {
    pub plan: &'a V3Plan,
    /// The pieces behind the target that may show that the snapshot is ahead of it.
    pub behind: &'a [PlannedFile],
    /// The number of frames of the snapshot's own index to apply, if an earlier execution found the snapshot ahead.
    pub through: Option<u64>,
}

impl V3Execution<'_> {
    /// Whether SQLite must check the result, because the snapshot may be ahead of the WAL.
    pub(crate) fn needs_check(&self) -> bool {
        self.plan.ahead.is_some() && self.through.is_none()
    }
}

/// Decides whether the plan is executed once more after an index that is not held in memory could not be read. The pieces
/// of an index that is held, and the snapshot, are asked for again while they are read.
fn again(execution: &Execution<'_>, failure: ExecutionFailure) -> ExecutionFailure {
    match may_be_of_transport(&failure) {
        Some(file) if execution.may_ask_again(file, &failure) => {
            ExecutionFailure::Again { file, failure: Box::new(failure) }
        }
        _ => failure,
    }
}

/// The file at fault, if a bit that was flipped on the way from a bucket may be the cause. A flipped bit of the snapshot
/// may also show as a wrong header of the database, before the checksum is reached.
fn may_be_of_transport(failure: &ExecutionFailure) -> Option<usize> {
    match failure {
        ExecutionFailure::Wal { file, error } => error.is_transport().then_some(*file),
        ExecutionFailure::Chain { file: 0, .. } => Some(0),
        _ => None,
    }
}

/// Does what [`super::execute::execute`] does for a plan of files of Litestream 0.3.
pub(super) async fn execute(execution: &Execution<'_>, v3: &V3Execution<'_>) -> Result<Executed, ExecutionFailure> {
    let (base, _) = execution.base_and_increments()?;
    let shared = &execution.worker.shared;
    shared.counters.bytes_in_planned.add(execution.planned_bytes());
    let _permit = execution.large_database_permit().await;
    let jobs = jobs(execution, v3)?;
    // All memory that this database will hold at a time is reserved in one step, for the reason that is given in
    // `execute`.
    let quarter = shared.budget.total_bytes() / 4;
    let window_bytes = jobs.iter().map(|job| job.held_bytes()).sum::<u64>().min(WINDOW_BYTES).min(quarter);
    let base_bytes = snapshot::held_bytes(execution, base).min(quarter);
    let _reservation = shared.budget.reserve(base_bytes + window_bytes).await;

    let wal_bytes: u64 = jobs.iter().map(|job| job.stored_bytes()).sum();
    let is_inline = wal_bytes <= INLINE_WAL_BYTES;
    let window = Semaphore::new(window_bytes.max(1) as usize);
    let window = &window;
    let reads = jobs.iter().rev().map(|job| async move {
        let held = job.held_bytes().clamp(1, window_bytes.max(1)) as u32;
        let permit = window.acquire_many(held).await.ok();
        let read =
            if is_inline { index::read(execution.worker, job).await } else { on_any_worker(execution, job).await };
        (job, read, permit)
    });
    let mut reads = Ahead::new(reads, INDEXES_IN_FLIGHT);
    let mut claiming = Claiming::new(execution, v3.plan.state.generation);
    let (mut frames, mut position) = (None, None);
    let mut damage = Vec::new();
    while let Some((job, read, permit)) = reads.next().await {
        let added = reads.during(add(execution, job, read, permit, &mut claiming)).await;
        match added {
            Ok(pages) => {
                frames = frames.or(pages.frames);
                position = position.or(pages.through_position);
            }
            Err(failure) if execution.goes_on_after(&failure) => {
                damage.push(failure);
                // The next plan ends before the damage. From here on the older files are only verified.
                claiming = Claiming::new(execution, v3.plan.state.generation);
            }
            Err(failure) => return Err(failure),
        }
    }
    drop(reads);
    let claimed = claiming.finish();
    let watched = Arc::new(frames.as_ref().map(frames::IndexFrames::pages).unwrap_or_default());
    let placed = snapshot::place(execution, &claimed, &watched).await;
    let (snapshot, size) = match placed.and_then(|placed| Ok((claimed.check_complete(&placed)?, placed))) {
        Ok((size, placed)) if damage.is_empty() => (placed, size),
        Err(failure) if damage.is_empty() || !execution.goes_on_after(&failure) => return Err(failure),
        also => {
            damage.extend(also.err());
            return Err(ExecutionFailure::Several(damage));
        }
    };
    if let Some(output) = execution.output {
        output.truncate(u64::from(size) * u64::from(snapshot.page_size.get()))?;
    }
    let found = frames.as_ref().map(|frames| ahead::compare(frames, &snapshot.seen)).unwrap_or_default();
    if found.is_proven && v3.needs_check() {
        return Err(ExecutionFailure::SnapshotAhead { through: found.through });
    }
    let state = v3.plan.state;
    Ok(Executed {
        page_size: snapshot.page_size.get(),
        commit: size,
        timestamp: state.time,
        reached: position.map(|(index, offset)| V3State { index, offset, ..state }),
        through: found.through,
        step_back: None,
    })
}

/// Adds the index `job` to `claiming`, after it was `read` or while it is. Returns what is needed of its pages later.
async fn add(
    execution: &Execution<'_>,
    job: &IndexJob,
    read: Result<Read, ExecutionFailure>,
    permit: Option<SemaphorePermit<'_>>,
    claiming: &mut Claiming<'_>,
) -> Result<IndexPages, ExecutionFailure> {
    let pages = match read? {
        Read::Held(pages) => pages,
        Read::TooMany => {
            drop(permit);
            let read = streamed::read(execution, job, claiming).await;
            return read.map_err(|failure| again(execution, failure));
        }
    };
    claiming.add(job.first_file(), &pages).await?;
    Ok(IndexPages { bytes: Vec::new(), ..pages })
}

/// Lets any worker read the index.
async fn on_any_worker(execution: &Execution<'_>, job: &Rc<IndexJob>) -> Result<Read, ExecutionFailure> {
    let (done, result) = oneshot::channel();
    let job = IndexJob::clone(job);
    let work = move |worker: Rc<Worker>| {
        async move {
            // The receiver is gone if the restore was dropped.
            let _ = done.send(index::read(&worker, &job).await);
        }
        .boxed_local()
    };
    execution.worker.shared.segments.push(Box::new(work));
    let stopped = || execution.worker.shared.stopped("an index has ended without a result").into();
    result.await.unwrap_or_else(|_| Err(stopped()))
}

/// The indexes of the plan, the oldest first.
fn jobs(execution: &Execution<'_>, v3: &V3Execution<'_>) -> Result<Vec<Rc<IndexJob>>, ExecutionFailure> {
    let (base, pieces) = execution.base_and_increments()?;
    let index_of = |file: &PlannedFile| match file.content {
        PlannedContent::V3 { index, .. } => Ok(index),
        PlannedContent::Ltx { .. } => Err(ExecutionFailure::bug("an LTX file in a plan of Litestream 0.3")),
    };
    let own = index_of(base)?;
    let mut jobs: Vec<IndexJob> = Vec::new();
    let job = |index, first| IndexJob::new(execution, v3.plan.state.generation, index, first);
    if !v3.behind.is_empty() || pieces.is_empty() {
        jobs.push(job(own, 1));
    }
    for (i, piece) in pieces.iter().enumerate() {
        let index = index_of(piece)?;
        if jobs.last().is_none_or(|last| last.index != index) {
            jobs.push(job(index, i + 1));
        }
        if let Some(last) = jobs.last_mut() {
            last.pieces.push(piece.clone());
        }
    }
    // What comes after each index.
    let mut next = v3.plan.next;
    for job in jobs.iter_mut().rev() {
        job.next = next;
        next = Some((job.index, 0));
    }
    if let Some(newest) = jobs.last_mut().filter(|newest| newest.index == own && v3.plan.ahead.is_some()) {
        newest.behind = v3.behind.to_vec();
        newest.through = v3.through;
        newest.is_compared = v3.through.is_none();
    }
    Ok(jobs.into_iter().filter(|job| !job.is_empty()).map(Rc::new).collect())
}
