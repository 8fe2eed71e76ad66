//! Plans a restore: from a replica's files and a target state to the list of files to merge, oldest first. The
//! planner makes no requests. It returns a plan, or the files whose creation times it must know to make one
//! (docs/FORMAT.md, "Choosing the files").
//!
//! The planner chooses greedily: it begins with the newest allowed snapshot and always takes the file that reaches
//! furthest. This finds a chain to the highest possible TXID. The proof: call a TXID reached if a chain of allowed
//! files ends there. Let `a` < `b` both be reached, and let a file continue the chain at `a` and end beyond `b`.
//! Then it continues the chain at `b` too, because its min TXID is at most `a` + 1. So whatever can be reached
//! through `a` can be reached through `b`, and taking the furthest file never loses anything. Files that end beyond a
//! TXID target, are too new for a time target, are archived, or are excluded as damaged do not count as allowed.
//! The module `tests` compares the result with a search of all chains.
//!
//! Other modules look up the times (`eligible` keeps their number low) and list the replica again to confirm an error
//! ([`PlanError::needs_fresh_listing`]).
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
//! // The replica has a snapshot up to TXID 3, a compaction of TXIDs 2 to 5, and a file with TXID 6.
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
pub mod continuity;
#[cfg(test)]
pub(crate) mod corpus;
mod eligible;
mod error;
pub mod follow;
mod format;
mod generation;
mod knowledge;
mod outcome;
mod past;
#[cfg(test)]
mod tests;
mod v3;

pub use error::PlanError;
pub use generation::{DatedGeneration, PossiblyAhead, V3Plan, V3State};
pub use knowledge::{Excluded, Times};
pub use outcome::{DatedFile, Plan, PlanOutcome, Target, Warning, moved_from};
pub use past::{Deletion, Peak, Reach, deletions, last_full};

use crate::catalogue::Replica;

/// Plans a restore, from LTX files or from the files of Litestream 0.3. Takes O(n log n) steps for n files. The files in
/// `excluded` are avoided, but they never change the TXID that is reached (docs/FORMAT.md, "Damaged files").
///
/// # Errors
/// A [`PlanError`] if the target cannot be reached, or cannot be reached without the excluded files.
pub fn plan(replica: &Replica, target: &Target, times: &Times, excluded: &Excluded) -> Result<PlanOutcome, PlanError> {
    format::plan(replica, target, times, excluded, StateWanted::Exact)
}

/// Plans as [`plan()`] does. Where files are damaged or missing, plans the newest state inside the target that can be had
/// without the excluded files (docs/CLI.md, "The newest intact state"). The plan's warnings then say what is lost
/// ([`Plan::is_short`]).
///
/// # Errors
/// A [`PlanError`] if no state can be had, or if [`PlanError::leaves_older_states`] is not true of the error of [`plan()`].
pub fn plan_intact(
    replica: &Replica,
    target: &Target,
    times: &Times,
    excluded: &Excluded,
) -> Result<PlanOutcome, PlanError> {
    format::plan(replica, target, times, excluded, StateWanted::Intact)
}

/// The time of the oldest state that a target time can reach: that of the oldest snapshot, as its header says if it was
/// read.
pub fn oldest_state(replica: &Replica, times: &Times) -> Option<crate::timestamp::Timestamp> {
    let v3 = replica.v3.iter().flat_map(|v3| &v3.files).filter(|file| file.kind.is_snapshot());
    chain::oldest(replica, times).into_iter().chain(v3.map(|file| file.last_modified)).min()
}

/// All states that a replica gives, the oldest first, as targets of a plan: TXIDs where it has LTX files, else the times
/// of the files of Litestream 0.3. Whether files are damaged is not known here.
pub fn states(replica: &Replica) -> Vec<Target> {
    if replica.files.is_empty() {
        let mut times: Vec<_> = replica.v3.iter().flat_map(|v3| &v3.files).map(|file| file.last_modified).collect();
        times.sort_unstable();
        times.dedup();
        return times.into_iter().map(Target::Timestamp).collect();
    }
    let mut files: Vec<_> = replica.files.iter().map(|file| (file.max_txid, file.min_txid)).collect();
    files.sort_unstable();
    let mut reached = std::collections::BTreeSet::new();
    for (max, min) in files {
        // A file continues every state from the TXID before its first one on.
        let from = crate::ltx::Txid(min.0.saturating_sub(1));
        if min.0 == 1 || reached.range(from..max).next().is_some() {
            reached.insert(max);
        }
    }
    reached.into_iter().map(Target::Txid).collect()
}

/// Which state inside the target a plan must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StateWanted {
    /// The newest, and no other.
    Exact,
    /// The newest that can be had (`-newest-intact`).
    Intact,
}
