//! Executes a plan: the increments first, from the newest to the oldest, then the base around
//! them (docs/ARCHITECTURE.md, "The engine"). Every planned file is decoded and checked whole.
//! Every page is written once.

mod claim;
mod completeness;
mod execution;
mod fetch;
mod fetch_only;
mod place;

pub(super) use execution::Execution;
pub(super) use fetch_only::fetch_only;

use crate::restore::ahead::Ahead;
use crate::restore::chain_times::StepBack;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::claim::Claims;
use crate::restore::execute::fetch::{INCREMENTS_IN_FLIGHT, Reading, fetch};
use crate::restore::execute::place::place_base;
use crate::timestamp::Timestamp;
use tokio::sync::Semaphore;

/// Increments of one database are held up to the size of 2 segments; a larger file is held alone.
const INCREMENTS_SEGMENTS: u64 = 2;

/// An executed plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Executed {
    pub page_size: u32,
    /// Size of the database in pages.
    pub commit: u32,
    /// The last file's header time.
    pub timestamp: Timestamp,
    pub step_back: Option<StepBack>,
}

/// Fetches, checks and places all files. The output is complete then, but not synced.
///
/// # Errors
/// A file of the plan is damaged, unreadable or was replaced; a failure of the store or the disk.
pub(super) async fn execute(execution: &Execution<'_>) -> Result<Executed, ExecutionFailure> {
    let (base, increments) = execution.base_and_increments()?;
    let shared = &execution.worker.shared;
    shared.counters.bytes_in_planned.add(execution.planned_bytes());
    let _permit = execution.large_database_permit().await;
    // One reservation for all bodies that are held at once: nobody waits for memory while holding
    // some.
    let base_bytes = if execution.is_large(&base.file) { 0 } else { base.file.size };
    let window_bytes = increments.iter().map(|f| f.file.size.min(shared.segment_bytes)).sum::<u64>();
    let window_bytes =
        window_bytes.min(INCREMENTS_SEGMENTS * shared.segment_bytes).min(shared.budget.total_bytes() / 4);
    let _reservation = shared.budget.reserve(base_bytes + window_bytes).await;

    let window = Semaphore::new(window_bytes.max(1) as usize);
    let window = &window;
    let fetches = increments.iter().enumerate().rev().map(|(i, file)| async move {
        let held = file.file.size.clamp(1, window_bytes.max(1)) as u32;
        let permit = window.acquire_many(held).await.ok();
        (i + 1, fetch(execution, file, Reading::Now).await, permit)
    });
    let mut fetches = Ahead::new(fetches, INCREMENTS_IN_FLIGHT);
    let claim = async {
        let mut claims = Claims::new(execution);
        while let Some((i, fetched, _permit)) = fetches.next().await {
            let fetched = fetched.map_err(|e| ExecutionFailure::of_request(i, e))?;
            fetches.during(claims.claim(i, fetched)).await?;
        }
        Ok::<_, ExecutionFailure>(claims)
    };
    let base_fetch = async {
        let fetched = fetch(execution, base, Reading::OnDemand).await;
        fetched.map_err(|e| ExecutionFailure::of_request(0, e))
    };
    let (claims, base) = futures_util::future::try_join(claim, base_fetch).await?;
    let shape = place_base(execution, claims, base).await?;
    Ok(Executed {
        page_size: shape.page_size.get(),
        commit: shape.commit,
        timestamp: shape.timestamp,
        step_back: shape.times.step_back(),
    })
}
