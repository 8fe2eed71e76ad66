//! The errors of planning: the reasons why a replica's files do not give the target state.

#![allow(missing_docs, reason = "the text in #[error] says what each field is")]

use super::generation::DatedGeneration;
use crate::catalogue::Generation;
use crate::error::{Class, escaped};
use crate::ltx::Txid;
use crate::timestamp::Timestamp;
use thiserror::Error;

/// The largest number of keys that an error names.
pub(super) const MAX_KEYS: usize = 3;

/// Why no plan reaches the target. [`plan`](super::plan()) returns it from the names in a listing, and again each time
/// that the restore knows more: files that are damaged, unreadable or gone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The replica holds no file at all.
    #[error("no matching backup files available")]
    NoBackups,
    /// A generation of Litestream 0.3 has WAL, but no snapshot to begin with. `instead` is the older generation that
    /// would be restored if this one were not there.
    #[error(
        "no snapshot: generation {generation} has {files} files of WAL and no snapshot; snapshots were deleted from the \
         backup{}",
        instead_text(*.instead)
    )]
    NoSnapshot { generation: Generation, files: usize, instead: Option<Generation> },
    /// The files were written by a prerelease of Litestream 0.4, whose format no release has.
    #[error(
        "the backups were written by a prerelease of Litestream 0.4, for example {}: no release of Litestream reads \
         them, and Hydrant does not either",
        escaped(.key)
    )]
    Prerelease { key: String },
    /// No files are there of the generation that was asked for.
    #[error("no generation {generation}{}", known_generations(.known))]
    UnknownGeneration { generation: Generation, known: Vec<DatedGeneration> },
    /// WAL is missing between `after` and the piece at `index` and `offset` (docs/FORMAT-V3.md, "Contiguity").
    #[error(
        "hole: WAL is missing in generation {generation}: after {} comes index {index:08x} offset {offset:08x}",
        escaped(.after)
    )]
    WalHole { generation: Generation, after: String, index: u32, offset: u64 },
    /// The snapshot of `index` cannot be used. An older one, with all WAL since, would stand in for it, but the WAL that
    /// is there ends with `after`, before that index.
    #[error(
        "hole: WAL is missing in generation {generation}: the snapshot of index {index:08x} cannot be used, and the WAL \
         before it ends with {}",
        escaped(.after)
    )]
    SnapshotNotReached { generation: Generation, index: u32, after: String },
    /// A page by which the database grew is in no frame of the index's WAL (docs/FORMAT-V3.md, "The database").
    #[error(
        "hole: WAL is missing in generation {generation}: the database grows to {pages} pages with index {index:08x}, but page \
         {page} is in no file"
    )]
    PageHole { generation: Generation, index: u32, page: u32, pages: u32 },
    /// An index ends inside a transaction although more WAL follows it.
    #[error(
        "hole: WAL is missing in generation {generation}: index {index:08x} ends inside a transaction, at offset {offset}, although \
         the next index is there"
    )]
    CutOff { generation: Generation, index: u32, offset: u64 },
    /// Every snapshot of the generation that could be used was excluded as damaged. `class` is the damage of the first.
    #[error("no snapshot of generation {generation} is intact: {}", list(.keys))]
    NoOtherSnapshot { generation: Generation, class: Class, keys: Vec<String> },
    /// A piece of WAL is damaged, and nothing stands in for it. `class` is the damage.
    #[error("damaged WAL: {}", list(.keys))]
    DamagedWal { class: Class, keys: Vec<String> },
    /// Files that are needed are in an archived storage class. `keys` names such files.
    #[error("{} is in an archived storage class: bring it back to a readable one first", list(.keys))]
    ArchivedFiles { keys: Vec<String> },
    /// No file begins at TXID 1, so there is no file from which a restore could begin (docs/FORMAT.md, "Holes").
    #[error(
        "cannot calc restore plan: the chain of ltx files does not begin at TXID 1: the first file starts at \
         {first} and there is no snapshot; files were deleted from the backup"
    )]
    ChainDoesNotBeginAtOne { first: Txid },
    /// The replica has a hole: no file holds the transactions between `have` and `next` (docs/FORMAT.md, "Holes").
    #[error("cannot calc restore plan: non-contiguous ltx files: have up to {have} but next file starts at {next}")]
    Hole { have: Txid, next: Txid },
    /// No chain of files ends exactly at `txid`. It lies inside a compacted file, behind a deleted file, or behind the
    /// newest file. `below` and `above` are the nearest TXIDs that can be reached.
    #[error(
        "no matching backup files available: TXID {txid} cannot be reached exactly{}",
        nearest(*.below, *.above)
    )]
    TxidNotReachable { txid: Txid, below: Option<Txid>, above: Option<Txid> },
    /// The oldest state that can be restored is not older than the target time `at`.
    /// `oldest` is the time of the oldest state, if it is known.
    #[error("timestamp does not exist: the backups hold no state older than {at}{}", and_oldest(*.oldest))]
    TimestampDoesNotExist { at: Timestamp, oldest: Option<Timestamp> },
    /// Every chain to `txid` needs a file that was excluded as damaged. `keys` are the excluded files that would close
    /// the first gap (not all if there are many). `class` is the damage of the first of them.
    #[error("no chain of files reaches TXID {txid} without {}", list(.keys))]
    NoOtherChain { txid: Txid, class: Class, keys: Vec<String> },
    /// The chosen lineage does not reach the target, for the reason in `error`, but another lineage at the same path
    /// does. Its keys begin with `folder`.
    #[error(
        "{error}; only the files below {}, another lineage, reach it: to restore from them, copy them to a \
         path of their own",
        escaped(.folder)
    )]
    OnlyOtherLineage { error: Box<Self>, folder: String },
    /// Every chain to `txid` needs a file in an archived storage class, which cannot be read. `keys` names such files.
    #[error(
        "TXID {txid} cannot be reached without {}, in an archived storage class: bring it back to a readable one first",
        list(.keys)
    )]
    Archived { txid: Txid, keys: Vec<String> },
}

impl PlanError {
    /// The class that the error log names.
    pub fn class(&self) -> Class {
        match self {
            Self::NoBackups => Class::BackupNotFound,
            Self::NoSnapshot { .. } => Class::NoSnapshot,
            Self::Prerelease { .. } => Class::Malformed,
            Self::WalHole { .. } | Self::SnapshotNotReached { .. } | Self::PageHole { .. } | Self::CutOff { .. } => {
                Class::Hole
            }
            Self::NoOtherSnapshot { class, .. } | Self::DamagedWal { class, .. } => *class,
            Self::UnknownGeneration { .. } | Self::ArchivedFiles { .. } => Class::TargetNotReachable,
            Self::ChainDoesNotBeginAtOne { .. } => Class::ChainDoesNotBeginAtOne,
            Self::Hole { .. } => Class::Hole,
            Self::TxidNotReachable { .. } | Self::TimestampDoesNotExist { .. } | Self::Archived { .. } => {
                Class::TargetNotReachable
            }
            Self::NoOtherChain { class, .. } => *class,
            Self::OnlyOtherLineage { error, .. } => error.class(),
        }
    }

    /// Whether an older state of the database may be intact although the newest cannot be had. Then files are damaged or
    /// missing, and the target itself is no mistake.
    pub fn leaves_older_states(&self) -> bool {
        match self {
            Self::Hole { .. }
            | Self::NoOtherChain { .. }
            | Self::Archived { .. }
            | Self::NoSnapshot { .. }
            | Self::WalHole { .. }
            | Self::SnapshotNotReached { .. }
            | Self::PageHole { .. }
            | Self::CutOff { .. }
            | Self::NoOtherSnapshot { .. }
            | Self::DamagedWal { .. }
            | Self::ArchivedFiles { .. } => true,
            Self::NoBackups
            | Self::Prerelease { .. }
            | Self::UnknownGeneration { .. }
            | Self::ChainDoesNotBeginAtOne { .. }
            | Self::TxidNotReachable { .. }
            | Self::TimestampDoesNotExist { .. }
            | Self::OnlyOtherLineage { .. } => false,
        }
    }

    /// Whether the error may only come from files that changed while the listing ran. The replica must then be listed
    /// again before the error is reported (docs/FORMAT.md, "Holes").
    pub fn needs_fresh_listing(&self) -> bool {
        matches!(
            self,
            Self::ChainDoesNotBeginAtOne { .. }
                | Self::Hole { .. }
                | Self::TxidNotReachable { .. }
                | Self::NoSnapshot { .. }
                | Self::WalHole { .. }
                | Self::SnapshotNotReached { .. }
        )
    }
}

fn and_oldest(time: Option<Timestamp>) -> String {
    time.map_or_else(String::new, |time| format!("; the oldest is of {time}"))
}

fn instead_text(instead: Option<Generation>) -> String {
    instead.map_or_else(String::new, |older| format!("; the older generation {older} has one"))
}

fn known_generations(known: &[DatedGeneration]) -> String {
    match known {
        [] => " in this backup".to_owned(),
        known => format!("; there are {}", known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn nearest(below: Option<Txid>, above: Option<Txid>) -> String {
    match (below, above) {
        (Some(below), Some(above)) => format!("; the nearest that can are {below} and {above}"),
        (Some(below), None) => format!("; the newest before it that can is {below}"),
        (None, Some(above)) => format!("; the oldest that can is {above}"),
        (None, None) => String::new(),
    }
}

/// A list of keys for messages, escaped and separated by commas.
pub(super) fn list(keys: &[String]) -> String {
    keys.iter().map(|key| escaped(key)).collect::<Vec<_>>().join(", ")
}
