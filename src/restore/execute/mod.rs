//! Executes a plan: fetches its LTX files, decodes them, and writes the pages to the output
//! (docs/ARCHITECTURE.md, "The engine").
//!
//! The increments (files with changed pages) are read first, from the newest to the oldest. Then the base
//! (the snapshot) is written, except for those pages of which an increment has a newer copy. So every page
//! is written once. Every planned file is decoded to its end and its checksums are verified, also where
//! its pages are not used.

mod claim;
mod completeness;
mod execution;
pub(super) mod fetch;
mod fetch_only;
mod place;
mod space;
mod verify;

pub(super) use execution::{Execution, V3Execution};
pub(super) use fetch_only::fetch_only;

use crate::plan::V3State;
use crate::restore::ahead::Ahead;
use crate::restore::chain_times::StepBack;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::claim::Claims;
use crate::restore::execute::fetch::{INCREMENTS_IN_FLIGHT, Reading, fetch};
use crate::restore::execute::place::place_base;
use crate::restore::execute::space::reserve_where_scarce;
use crate::restore::execute::verify::verify;
use crate::timestamp::Timestamp;
use tokio::sync::Semaphore;

/// One database holds at most 2 segments' worth (2 × 8 MiB) of fetched increments (LTX files with changed pages) in
/// memory. A single increment that is larger is held alone.
const INCREMENTS_SEGMENTS: u64 = 2;

/// Size and times of a database whose plan was executed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Executed {
    /// Page size of the SQLite database in bytes.
    pub page_size: u32,
    /// Size of the database in pages.
    pub commit: u32,
    /// Creation time of the newest planned file, from its header.
    pub timestamp: Timestamp,
    /// The state that was reached, if it is another one than the plan's: because the snapshot of Litestream 0.3 was
    /// ahead.
    pub reached: Option<V3State>,
    /// The number of frames of the snapshot's index that would have to be applied if the snapshot is ahead.
    pub through: Option<u64>,
    /// The largest step back in time between two neighbouring files. None if their times ascend.
    pub step_back: Option<StepBack>,
}

/// Fetches all planned files, checks them, and writes their pages to the output. The output is complete
/// when this returns, but not fsynced.
///
/// # Errors
/// A planned file is damaged, cannot be read, or was replaced or deleted since the listing; or the store,
/// the disk or the memory budget fails. With [`Execution::finds_all_damage`], the failure names all damaged files, except
/// for those that are fetched in segments.
pub(super) async fn execute(execution: &Execution<'_>) -> Result<Executed, ExecutionFailure> {
    let (base, increments) = execution.base_and_increments()?;
    let shared = &execution.worker.shared;
    shared.counters.bytes_in_planned.add(execution.planned_bytes());
    let _permit = execution.large_database_permit().await;
    reserve_where_scarce(execution).await?;
    // All bodies that this database will hold at a time are reserved in one step. A database that already
    // held a part of its memory while it waited for the rest could wait for another one that does the same.
    let base_bytes = if execution.is_large(base) { 0 } else { base.size };
    let window_bytes = increments.iter().map(|f| f.size.min(shared.segment_bytes)).sum::<u64>();
    let window_bytes =
        window_bytes.min(INCREMENTS_SEGMENTS * shared.segment_bytes).min(shared.budget.total_bytes() / 4);
    let _reservation = shared.budget.reserve(base_bytes + window_bytes).await;

    let window = Semaphore::new(window_bytes.max(1) as usize);
    let window = &window;
    let fetches = increments.iter().enumerate().rev().map(|(i, file)| async move {
        let held = file.size.clamp(1, window_bytes.max(1)) as u32;
        let permit = window.acquire_many(held).await.ok();
        (i + 1, fetch(execution, file, Reading::Now).await, permit)
    });
    let mut fetches = Ahead::new(fetches, INCREMENTS_IN_FLIGHT);
    let claim = async {
        let (mut claims, mut damage) = (Claims::new(execution), Vec::new());
        while let Some((i, fetched, _permit)) = fetches.next().await {
            let read = match fetched {
                Ok(fetched) if damage.is_empty() => fetches.during(claims.claim(i, fetched)).await,
                Ok(fetched) => fetches.during(verify(execution, i, fetched)).await,
                Err(e) => Err(ExecutionFailure::of_request(i, e)),
            };
            match read {
                Err(failure) if execution.goes_on_after(&failure) => damage.push(failure),
                read => read?,
            }
        }
        Ok::<_, ExecutionFailure>((claims, damage))
    };
    let base_fetch = async {
        match fetch(execution, base, Reading::OnDemand).await.map_err(|e| ExecutionFailure::of_request(0, e)) {
            Err(failure) if execution.goes_on_after(&failure) => Ok(Err(failure)),
            fetched => fetched.map(Ok),
        }
    };
    let ((claims, mut damage), base) = futures_util::future::try_join(claim, base_fetch).await?;
    let base = match base {
        Ok(base) if damage.is_empty() => base,
        base => {
            let verified = match base {
                Ok(base) => verify(execution, 0, base).await,
                Err(failure) => Err(failure),
            };
            match verified {
                Err(failure) if execution.goes_on_after(&failure) => damage.push(failure),
                verified => verified?,
            }
            return Err(ExecutionFailure::Several(damage));
        }
    };
    let shape = place_base(execution, claims, base).await?;
    Ok(Executed {
        page_size: shape.page_size.get(),
        commit: shape.commit,
        timestamp: shape.timestamp,
        reached: None,
        through: None,
        step_back: shape.times.step_back(),
    })
}
