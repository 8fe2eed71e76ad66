//! Executes a plan for a replica of Litestream 0.3: a snapshot and the pieces of WAL to apply to it
//! (docs/FORMAT-V3.md, "The database"). SQLite is not used for it.
//!
//! As with LTX files, the newest copy of each page is found first and every page is written once. The WAL is read from
//! the newest index to the oldest. An index claims its pages unless a newer one has them. Then the snapshot is written,
//! except for the claimed pages. The size that each index leaves limits which pages of older indexes count.
//!
//! The pieces of one index are decoded one after the other, because a checksum runs through them. Different indexes are
//! decoded side by side by all workers. An index whose pages are too many for memory is written while it is read.

mod claiming;
mod frames;
mod index;
mod ordered_body;
mod snapshot;
mod snapshot_ahead;
mod snapshot_block;
mod streamed;

use crate::plan::V3State;
use crate::restore::ahead::Ahead;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::{Executed, Execution, V3Execution};
use crate::restore::large::{PlannedContent, PlannedFile};
use crate::restore::v3::claiming::{ClaimedPages, Claiming};
use crate::restore::v3::index::{AppliedBehind, IndexJob, IndexPages, Read};
use crate::restore::workers::Worker;
use futures_util::FutureExt;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

/// Databases with at most 1 MiB of WAL are decoded by one worker: to pass their indexes on would cost more than it saves.
const INLINE_WAL_BYTES: u64 = 1 << 20;
/// With more than 8 MiB of stored WAL the snapshot is written first, and the WAL's pages over it.
const LONG_WAL_BYTES: u64 = 8 << 20;
/// At most 64 indexes of one database are fetched and decoded at a time.
const INDEXES_IN_FLIGHT: usize = 64;
/// The pages of one index take at most 8 MiB of memory. An index with more is written while it is read. (SQLite's own
/// checkpoint after 1,000 pages makes an index of 4 MiB.)
const HELD_BYTES: u64 = 8 << 20;
/// The indexes of one database that are in flight take at most 32 MiB together.
const WINDOW_BYTES: u64 = 32 << 20;

/// The failure of a file that was decoded while it arrived. If a flipped bit may be the cause, another execution is to
/// ask for the file once more. A file that is in memory as a whole is asked for again where it is decoded, and a failure
/// after that counts.
fn or_again(execution: &Execution<'_>, failure: ExecutionFailure) -> ExecutionFailure {
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

    // A piece of WAL that is larger is fetched in parts, as many as the snapshot's, which are not reserved for both.
    let stored: u64 = jobs.iter().map(|job| job.stored_bytes()).sum();
    if stored > LONG_WAL_BYTES && v3.plan.ahead.is_none() {
        return snapshot_first(execution, v3, &jobs, window_bytes).await;
    }
    let may_fetch_ahead = jobs.iter().all(|job| job.stored_bytes() <= HELD_BYTES);
    let claiming = Claiming::new(execution, v3.plan.state.generation);
    let wal = read_wal(execution, &jobs, window_bytes, claiming, None);
    let (wal, body) = snapshot::fetch_during(execution, base, may_fetch_ahead, wal).await?;
    let ReadWal { claimed, frames, applied_behind, damage } = wal;
    let watched = Arc::new(frames.as_ref().map(frames::IndexFrames::pages).unwrap_or_default());
    let placed = snapshot::place(execution, body, &claimed, &watched).await;
    let placed = placed.and_then(|snapshot| {
        let found = frames.as_ref().map(|frames| snapshot_ahead::compare(frames, &snapshot.seen)).unwrap_or_default();
        match claimed.check_complete(snapshot.pages, snapshot.placed.pages) {
            // A snapshot that is ahead may lack pages that a later transaction has cut off.
            Err(ExecutionFailure::WalGap { .. }) if v3.needs_check() && v3.goes_on_without(found.through) => {
                Err(ExecutionFailure::SnapshotAhead { through: found.through })
            }
            size => Ok((size?, snapshot, found)),
        }
    });
    let (size, snapshot, found) = all_or_damage(execution, placed, damage)?;
    if let Some(output) = execution.output {
        output.truncate(u64::from(size) * u64::from(snapshot.page_size.get()))?;
    }
    if found.is_proven && v3.needs_check() {
        return Err(ExecutionFailure::SnapshotAhead { through: found.through });
    }
    let state = v3.plan.state;
    let reached = |behind: AppliedBehind| {
        let time = state.time.max(behind.time);
        V3State { offset: behind.offset, time, ..state }
    };
    let reached = applied_behind.map(reached);
    Ok(Executed {
        page_size: snapshot.page_size.get(),
        commit: size,
        timestamp: reached.unwrap_or(state).time,
        reached,
        through: found.through,
        step_back: None,
    })
}

/// Writes the snapshot before the WAL is read, and the pages of the WAL over it. Used where the pages of the WAL would
/// not fit memory: most of them would be written one by one, and the snapshot's pages between them in short pieces.
async fn snapshot_first(
    execution: &Execution<'_>,
    v3: &V3Execution<'_>,
    jobs: &[Rc<IndexJob>],
    window_bytes: u64,
) -> Result<Executed, ExecutionFailure> {
    let state = v3.plan.state;
    // The newest index gives the size of the database. The space is reserved before anything is written.
    let newest = match jobs.last() {
        Some(job) => index::read(execution.worker, job).await?,
        None => Read::TooMany,
    };
    if let (Read::Held(IndexPages { size: Some(size), page_size: Some(page_size), .. }), Some(output)) =
        (&newest, execution.output)
    {
        output.reserve(u64::from(*size) * u64::from(page_size.get()))?;
    }
    let nothing = Claiming::new(execution, state.generation).finish();
    let snapshot = match snapshot::place(execution, snapshot::SnapshotBody::NotBegun, &nothing, &Arc::default()).await {
        Err(failure) if execution.goes_on_after(&failure) => {
            let claiming = Claiming::new(execution, state.generation);
            let mut damage = read_wal(execution, jobs, window_bytes, claiming, Some(newest)).await?.damage;
            damage.push(failure);
            return Err(ExecutionFailure::Several(damage));
        }
        placed => placed?,
    };
    let claiming = Claiming::over(execution, state.generation, (snapshot.page_size, snapshot.pages));
    let wal = read_wal(execution, jobs, window_bytes, claiming, Some(newest)).await?;
    let checked = wal.claimed.check_complete(snapshot.pages, snapshot.placed.pages);
    let size = all_or_damage(execution, checked, wal.damage)?;
    let page_size = snapshot.page_size.get();
    if let Some(output) = execution.output {
        output.truncate(u64::from(size) * u64::from(page_size))?;
    }
    Ok(Executed { page_size, commit: size, timestamp: state.time, reached: None, through: None, step_back: None })
}

/// What the WAL of all indexes holds.
struct ReadWal {
    claimed: ClaimedPages,
    /// The frames of the snapshot's own index, if they are to be compared with the snapshot.
    frames: Option<frames::IndexFrames>,
    /// The pieces behind the target that were applied.
    applied_behind: Option<AppliedBehind>,
    /// What is wrong with files, if the others are read nevertheless ([`Execution::finds_all_damage`]).
    damage: Vec<ExecutionFailure>,
}

/// What was `read`, unless files are damaged: then all damage that was found.
fn all_or_damage<T>(
    execution: &Execution<'_>,
    read: Result<T, ExecutionFailure>,
    mut damage: Vec<ExecutionFailure>,
) -> Result<T, ExecutionFailure> {
    match read {
        Ok(read) if damage.is_empty() => Ok(read),
        Err(failure) if damage.is_empty() || !execution.goes_on_after(&failure) => Err(failure),
        also => {
            damage.extend(also.err());
            Err(ExecutionFailure::Several(damage))
        }
    }
}

/// Reads the indexes, the newest first. `newest` is what was read of the newest before. They take `window_bytes` of memory at a time.
async fn read_wal(
    execution: &Execution<'_>,
    jobs: &[Rc<IndexJob>],
    window_bytes: u64,
    mut claiming: Claiming<'_>,
    newest: Option<Read>,
) -> Result<ReadWal, ExecutionFailure> {
    let wal_bytes: u64 = jobs.iter().map(|job| job.stored_bytes()).sum();
    let is_inline = wal_bytes <= INLINE_WAL_BYTES;
    let window = Semaphore::new(window_bytes.max(1) as usize);
    let window = &window;
    // What was read of the newest index before.
    let mut read_before = newest;
    let reads = jobs.iter().rev().map(move |job| (job, read_before.take())).map(|(job, read)| async move {
        if let Some(read) = read {
            return (job, Ok(read), None);
        }
        let held = job.held_bytes().clamp(1, window_bytes.max(1)) as u32;
        let permit = window.acquire_many(held).await.ok();
        let read =
            if is_inline { index::read(execution.worker, job).await } else { on_any_worker(execution, job).await };
        (job, read, permit)
    });
    let mut reads = Ahead::new(reads, INDEXES_IN_FLIGHT);
    let (mut frames, mut applied_behind) = (None, None);
    let mut damage = Vec::new();
    while let Some((job, read, permit)) = reads.next().await {
        match reads.during(add(execution, job, read, permit, &mut claiming)).await {
            Ok(pages) => {
                frames = frames.or(pages.frames);
                applied_behind = applied_behind.or(pages.applied_behind);
            }
            Err(failure) if execution.goes_on_after(&failure) => {
                damage.push(failure);
                // The next plan ends before the damage. From here on the older files are only verified.
                claiming = claiming.anew();
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(ReadWal { claimed: claiming.finish(), frames, applied_behind, damage })
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
            return read.map_err(|failure| or_again(execution, failure));
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
