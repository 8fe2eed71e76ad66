//! The target of a restore, and the result of planning it.

use super::error::list;
use super::generation::{DatedGeneration, V3Plan};
use crate::catalogue::{Generation, Lineage};
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
    /// The state after exactly this transaction or, if that cannot be reached any more, the next newer one that can.
    /// It is the newest state of an earlier listing.
    Pinned(Txid),
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
    /// and the first is a snapshot. If `v3` is set, they are indexes into
    /// [`V3Replica::files`](crate::catalogue::V3Replica::files).
    pub files: Vec<usize>,
    /// The first TXID in these files: 1, or 0 if `v3` is set.
    pub min_txid: Txid,
    /// The TXID of the restored state. 0 if `v3` is set.
    pub txid: Txid,
    /// Whether the replica holds newer states.
    pub newer_exist: bool,
    /// Warnings about the plan for the operator.
    pub warnings: Vec<Warning>,
    /// The state that is reached, if the files are those of Litestream 0.3, which has no TXIDs.
    pub v3: Option<Box<V3Plan>>,
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
    /// The newest state cannot be had, because files are damaged or missing. The newest that can be had is planned
    /// (`-newest-intact`).
    NewestIntact {
        /// The TXID of the state that is restored.
        reached: Txid,
        /// The TXID of the newest state inside the target.
        newest: Txid,
    },
    /// The same for files of Litestream 0.3: WAL after this position of the generation is damaged or missing.
    NewestIntactWal {
        /// The generation that is restored.
        generation: Generation,
        /// The index of the newest piece of WAL that is applied.
        index: u32,
        /// The offset of that piece.
        offset: u64,
        /// The number of pieces behind it that are lost. 0 if only what is missing behind it is.
        lost: usize,
    },
    /// No state of a newer generation can be had, so an older one is restored.
    NewestIntactGeneration {
        /// The generation that is restored.
        used: DatedGeneration,
        /// The generation that is lost.
        lost: DatedGeneration,
    },
    /// The newest state is that of the other format at the same path, and cannot be had.
    NewestIntactFormat {
        /// Whether the files of Litestream 0.3 are those that are restored, and the LTX files those that are lost.
        is_v3: bool,
        /// The time of the state that is restored.
        used: Timestamp,
    },
    /// The state of [`Target::Pinned`] cannot be reached exactly any more. The plan leads to the next newer state.
    MovedOn {
        /// The TXID of the target.
        pinned: Txid,
        /// The TXID of the state that is restored.
        reached: Txid,
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
    /// Files of Litestream 0.3 lie at the same path. They were not used.
    V3LeftAside {
        /// The number of generations.
        generations: usize,
        /// The time of their newest file.
        newest: Option<Timestamp>,
    },
    /// A snapshot of Litestream 0.3 holds pages that are newer than the target. An older one was used.
    SnapshotAhead {
        /// The key of the snapshot.
        key: String,
    },
    /// LTX files lie at the same path as the files of Litestream 0.3 that are restored. They were not used.
    LtxLeftAside {
        /// The number of LTX files.
        files: usize,
        /// LastModified of the newest.
        newest: Timestamp,
    },
    /// Another generation has files that are newer than all of the one that is restored: two hosts may have written.
    NewerGeneration {
        /// The generation that is restored.
        used: DatedGeneration,
        /// The generation with newer files.
        newer: DatedGeneration,
    },
    /// The times of the files do not follow their order: they are those of a copy.
    TimesOfACopy {
        /// All generations of the database.
        generations: Vec<DatedGeneration>,
    },
}

/// The TXID of a [`Target::Pinned`] that could not be reached exactly, if the `warnings` of a plan say so.
pub fn moved_from(warnings: &[Warning]) -> Option<Txid> {
    warnings.iter().find_map(|warning| match warning {
        Warning::MovedOn { pinned, .. } => Some(*pinned),
        _ => None,
    })
}

/// The key of a planned file, and the time in its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatedFile {
    /// The key of the file in its store.
    pub key: String,
    /// The time in the file's header.
    pub time: Timestamp,
}

impl Plan {
    /// Whether the newest state inside the target is another one, which cannot be had. A warning says what is lost.
    pub fn is_short(&self) -> bool {
        self.warnings.iter().any(Warning::is_loss)
    }
}

impl Warning {
    /// Whether the warning says that the newest state cannot be had, and what is lost.
    pub const fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::NewestIntact { .. }
                | Self::NewestIntactWal { .. }
                | Self::NewestIntactGeneration { .. }
                | Self::NewestIntactFormat { .. }
        )
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StateBetweenRetired { reached, newest } => write!(
                f,
                "the newest state that can be reached before that time is TXID {reached}: TXID {newest} existed, but \
                 what leads to it is only kept in files written later"
            ),
            Self::NewestIntact { reached, newest } => write!(
                f,
                "not the newest state: TXID {reached} is the newest that can be had, {} to {newest} are lost, because \
                 files are damaged or missing",
                Txid(reached.0.saturating_add(1))
            ),
            Self::NewestIntactWal { generation, index, offset, lost } => {
                let what = match lost {
                    0 => "WAL behind it is".to_owned(),
                    1 => "1 piece of WAL behind it is".to_owned(),
                    lost => format!("{lost} pieces of WAL behind it are"),
                };
                write!(
                    f,
                    "not the newest state: index {index:08x} offset {offset:08x} of generation {generation} is the newest \
                     that can be had, {what} lost, because files are damaged or missing"
                )
            }
            Self::NewestIntactGeneration { used, lost } => write!(
                f,
                "not the newest state: generation {used} is the newest that can be had, all of generation {lost} is \
                 lost, because files are damaged or missing"
            ),
            Self::NewestIntactFormat { is_v3, used } => {
                let (restored, lost) = match is_v3 {
                    true => ("the files of Litestream 0.3", "LTX files"),
                    false => ("the LTX files", "files of Litestream 0.3"),
                };
                write!(
                    f,
                    "not the newest state: that of {restored}, of {used}, is the newest that can be had, what newer {lost} \
                     held is lost, because files are damaged or missing"
                )
            }
            Self::MovedOn { pinned, reached } => write!(
                f,
                "the state of the catalogue, TXID {pinned}, cannot be reached exactly any more: moved on to the next \
                 newer one, TXID {reached}"
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
            Self::V3LeftAside { generations, newest } => {
                let plural = if *generations == 1 { "" } else { "s" };
                write!(f, "restored from LTX files, left aside {generations} generation{plural} of Litestream 0.3")?;
                newest.map_or(Ok(()), |newest| write!(f, " at the same path (the newest file is of {newest})"))
            }
            Self::SnapshotAhead { key } => write!(
                f,
                "the snapshot {} holds pages that are newer than the WAL up to the target, restored from an older one",
                crate::error::escaped(key)
            ),
            Self::LtxLeftAside { files, newest } => {
                let plural = if *files == 1 { "" } else { "s" };
                write!(
                    f,
                    "restored from the files of Litestream 0.3, left aside {files} LTX file{plural} at the same path (the \
                     newest of {newest})"
                )
            }
            Self::NewerGeneration { used, newer } => write!(
                f,
                "restored from generation {used}, which has the newest snapshot, but generation {newer} has newer files: \
                 two hosts may have written; -generation names another one"
            ),
            Self::TimesOfACopy { generations } => {
                let all = generations.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                write!(
                    f,
                    "the times of the files do not follow their order, so they are those of a copy, and the generation \
                     may be the wrong one (-generation names another): {all}"
                )
            }
        }
    }
}
