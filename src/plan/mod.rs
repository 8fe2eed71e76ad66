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
//!
//! ```
//! use hydrant::catalogue::{Layout, Replica};
//! use hydrant::plan::{Excluded, PlanError, PlanOutcome, Target, Times, plan};
//! use hydrant::store::ObjectMeta;
//! use hydrant::timestamp::Timestamp;
//!
//! let listed = |keys: &[&str]| {
//!     let object = |key: &&str| ObjectMeta {
//!         key: key.to_string(),
//!         size: 1000,
//!         last_modified: Timestamp::from_millis(0),
//!         etag: None,
//!         archived: false,
//!     };
//!     Replica::of("app.db", Layout::Hex, keys.iter().map(object).collect::<Vec<_>>())
//! };
//!
//! // A snapshot up to TXID 3, a compaction of 2 to 5, and TXID 6.
//! let replica = listed(&[
//!     "app.db/0009/0000000000000001-0000000000000003.ltx",
//!     "app.db/0001/0000000000000002-0000000000000005.ltx",
//!     "app.db/0000/0000000000000006-0000000000000006.ltx",
//! ]);
//! let outcome = plan(&replica, &Target::Latest, &Times::new(), &Excluded::new())?;
//! let PlanOutcome::Plan(plan_of_all) = outcome else { panic!("only a timestamp target needs times") };
//! assert_eq!(plan_of_all.txid.0, 6);
//! let keys: Vec<String> = plan_of_all.files.iter().map(|&file| replica.key(&replica.files[file])).collect();
//! assert_eq!(keys[0], "app.db/0009/0000000000000001-0000000000000003.ltx");
//! assert_eq!(keys.len(), 3);
//!
//! // Without the compaction, TXIDs 4 and 5 are in no file.
//! let holed = listed(&[
//!     "app.db/0009/0000000000000001-0000000000000003.ltx",
//!     "app.db/0000/0000000000000006-0000000000000006.ltx",
//! ]);
//! let error = plan(&holed, &Target::Latest, &Times::new(), &Excluded::new()).unwrap_err();
//! assert!(matches!(error, PlanError::Hole { .. }));
//! # Ok::<(), PlanError>(())
//! ```

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

/// Plans a restore. Bounds: O(n log n) in the number of files. `excluded` never changes the TXID
/// that is reached: without another chain to it the answer is an error (docs/FORMAT.md, "Damaged
/// files").
pub fn plan(replica: &Replica, target: &Target, times: &Times, excluded: &Excluded) -> Result<PlanOutcome, PlanError> {
    chain::plan(replica, target, times, excluded)
}
