//! The target of a restore, and the result of planning it.

use super::error::list;
use crate::catalogue::Lineage;
use crate::ltx::Txid;
use crate::timestamp::Timestamp;
use std::fmt;

/// The state of the database that a restore is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The newest state of the replica.
    Latest,
    /// The state after exactly this transaction. TXID 0 means the newest state.
    Txid(Txid),
    /// The newest state whose files were all created strictly before this time.
    Timestamp(Timestamp),
}

/// The result of [`plan`](super::plan()).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanOutcome {
    /// The plan: the files to restore from.
    Plan(Plan),
    /// More times are needed. Look up the creation times of these files, put them into [`Times`](super::Times) and
    /// call `plan` again. The numbers are indexes into [`Replica::files`](crate::catalogue::Replica::files). They
    /// ascend, there is at least one, and none of these times is known yet.
    NeedTimes(Vec<usize>),
}

/// The files that make the database, and the state that they lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Indexes into [`Replica::files`](crate::catalogue::Replica::files), oldest file first. There is at least one,
    /// and the first is a snapshot.
    pub files: Vec<usize>,
    /// The first TXID in these files, which is always 1.
    pub min_txid: Txid,
    /// The TXID of the restored state.
    pub txid: Txid,
    /// Whether the replica holds newer states.
    pub newer_exist: bool,
    /// Warnings about the plan for the operator.
    pub warnings: Vec<Warning>,
}

/// A fact that the operator should know although the restore can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Files that are old enough end at TXID `newest`, but only the state at `reached` can be restored. The files
    /// that lead from one to the other were written after the target time. This is normal and not a hole
    /// (docs/FORMAT.md, "Holes").
    StateBetweenRetired {
        /// The TXID of the state that is restored.
        reached: Txid,
        /// The max TXID of the newest file that is old enough.
        newest: Txid,
    },
    /// Damaged files within the target were left out; other files give the same state.
    RoutedAround {
        /// The keys of the damaged files.
        keys: Vec<String>,
    },
    /// Files in an archived storage class were left out; other files give the same state.
    AvoidedArchived {
        /// The keys of the archived files.
        keys: Vec<String>,
    },
    /// The replica has files of another lineage of the same database, which were not used.
    OtherLineage {
        /// The lineage that is restored.
        used: Lineage,
        /// The lineage that was not used.
        other: Lineage,
    },
    /// `newer` continues `older` by its TXIDs, but was created before it. A new database of the same name may have
    /// begun at TXID 1 again and overwritten a part of the old one's files.
    TimesRunBackwards {
        /// The file with the lower TXIDs, which was created later.
        older: DatedFile,
        /// The file with the higher TXIDs, which was created earlier.
        newer: DatedFile,
    },
    /// A backup in the format of Litestream 0.3 exists at the same path. It was not used.
    V3Beside {
        /// The number of snapshots in that backup.
        snapshots: u32,
    },
}

/// The key of a planned file, and the time in its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatedFile {
    /// The key of the file in its store.
    pub key: String,
    /// The time in the file's header.
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
