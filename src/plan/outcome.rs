//! What to restore, and what planning it comes to.

use super::error::list;
use crate::catalogue::Lineage;
use crate::ltx::Txid;
use crate::timestamp::Timestamp;
use std::fmt;

/// What to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The newest state.
    Latest,
    /// The state after this transaction, exactly; 0 is the newest.
    Txid(Txid),
    /// The newest state whose files were all created strictly before this.
    Timestamp(Timestamp),
}

/// What [`plan`](super::plan()) came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanOutcome {
    Plan(Plan),
    /// Look at the times of these files (indexes, ascending, never empty, none of them known), side
    /// by side; put them into [`Times`](super::Times) and call again.
    NeedTimes(Vec<usize>),
}

/// The files that make the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Indexes into [`Replica::files`](crate::catalogue::Replica::files), oldest first; never empty. The first is a snapshot.
    pub files: Vec<usize>,
    /// The TXID of the first transaction inside: 1.
    pub min_txid: Txid,
    /// The TXID reached.
    pub txid: Txid,
    /// The replica holds newer states than this.
    pub newer_exist: bool,
    pub warnings: Vec<Warning>,
}

/// What the operator should hear although there is a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A file that is old enough ends at `newest`, but what leads there is only in files written
    /// after the target's time: healthy, no hole (docs/FORMAT.md, "Holes").
    StateBetweenRetired { reached: Txid, newest: Txid },
    /// These files would have been planned but are damaged; other files took their place.
    RoutedAround { keys: Vec<String> },
    /// These files would have been planned but are archived; other files took their place.
    AvoidedArchived { keys: Vec<String> },
    /// Other files of the same database lie beside the chosen ones; they are another lineage.
    OtherLineage { used: Lineage, other: Lineage },
    /// `newer` continues `older` by its TXIDs, but was created before it: a new database of the
    /// same name may have begun at TXID 1 again and overwritten a part of the old one's files.
    TimesRunBackwards { older: DatedFile, newer: DatedFile },
    /// A backup in the v0.3.x format lies beside this one and was not looked at.
    V3Beside { snapshots: u32 },
}

/// A planned file's key, and the time in its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatedFile {
    pub key: String,
    pub time: Timestamp,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StateBetweenRetired { reached, newest } => write!(
                f,
                "the newest state that can be reached before that time is TXID {reached}: TXID {newest} existed, but \
                 what leads to it is only kept in files written later"
            ),
            Self::RoutedAround { keys } => write!(f, "damaged, restored through other files: {}", list(keys)),
            Self::AvoidedArchived { keys } => write!(f, "archived, restored through other files: {}", list(keys)),
            Self::OtherLineage { used, other } => write!(
                f,
                "files of two lineages lie under this path and are never joined: restored from {used}, left aside {other}"
            ),
            Self::TimesRunBackwards { older, newer } => write!(
                f,
                "times run backwards along the chain: {} was created at {}, but {}, which continues it, at {}: the \
                 restored database may be a mixture of two, if a new one was replicated to this path",
                crate::error::escaped(&older.key),
                older.time,
                crate::error::escaped(&newer.key),
                newer.time
            ),
            Self::V3Beside { snapshots } => write!(
                f,
                "a backup in the v0.3.x format (generations/, {snapshots} snapshots) lies beside this one and is \
                 not looked at"
            ),
        }
    }
}
