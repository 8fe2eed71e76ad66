//! (catalogue, target) → the files to merge, oldest first. Pure: it returns a plan, or the files
//! whose times it must know (docs/FORMAT.md, "Choosing the files").
//!
//! Why the greedy choice (docs/FORMAT.md, "Choosing the files") finds a chain whenever there is
//! one: call a TXID reached when a chain of allowed files ends there. From a reached `b` every file
//! that continues a chain at some reached `a` < `b` and ends beyond `b` continues the chain at `b`
//! too (its min is at most `a` + 1). So whatever a chain through `a` can reach, one through `b`
//! can, and starting from the newest allowed snapshot and taking the furthest file each time ends
//! at the furthest TXID of all. Files beyond a TXID target are not allowed to begin with; so is it
//! with excluded ones, times that are too new, and archived ones. `tests` compares it with a search
//! of all chains.
//!
//! Not here: fetching times (`eligible` bounds how many), and listing again to confirm an
//! error ([`PlanError::needs_fresh_listing`]).

mod chain;
#[cfg(test)]
pub(crate) mod corpus;
mod eligible;
mod error;
mod knowledge;
mod outcome;
#[cfg(test)]
mod tests;

pub use error::PlanError;
pub use knowledge::{Excluded, Times};
pub use outcome::{DatedFile, Plan, PlanOutcome, Target, Warning};

use crate::catalogue::Replica;
use crate::timestamp::Timestamp;

/// Plans a restore. Bounds: O(n log n) in the number of files. `excluded` never changes the TXID
/// that is reached: without another chain to it the answer is an error (docs/FORMAT.md, "Damaged
/// files").
pub fn plan(replica: &Replica, target: &Target, times: &Times, excluded: &Excluded) -> Result<PlanOutcome, PlanError> {
    chain::plan(replica, target, times, excluded)
}

/// To be called when the headers of all planned files were read: the planned files, as indexes,
/// whose time is not before a timestamp target (docs/FORMAT.md, "Times"). Where there are any: put
/// these times into [`Times`], [`Times::require_all`], and plan again.
pub fn too_new(plan: &Plan, target: &Target, header_time: impl Fn(usize) -> Option<Timestamp>) -> Vec<usize> {
    let Target::Timestamp(at) = *target else { return Vec::new() };
    plan.files.iter().copied().filter(|&file| header_time(file).is_some_and(|time| time >= at)).collect()
}
