//! Why there is no plan.

use crate::error::{Class, escaped};
use crate::ltx::Txid;
use crate::timestamp::Timestamp;
use std::fmt;

/// How many keys an error names at most.
pub(super) const MAX_KEYS: usize = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// The replica holds no file at all.
    NoBackups,
    /// The replica holds files of the v0.3.x format only.
    OnlyV3 { snapshots: u32 },
    /// No file begins at TXID 1, so nothing can be built upon (docs/FORMAT.md, "Holes").
    ChainDoesNotBeginAtOne { first: Txid },
    /// No file holds what lies between `have` and `next` (docs/FORMAT.md, "Holes").
    Hole { have: Txid, next: Txid },
    /// No chain ends exactly at `txid`: it lies inside a compacted file, beyond a file that is
    /// no longer there, or past the end. `below` and `above` are the nearest that can be reached.
    TxidNotReachable { txid: Txid, below: Option<Txid>, above: Option<Txid> },
    /// The first state is not older than `at`.
    TimestampDoesNotExist { at: Timestamp },
    /// Every chain to `txid` needs a file that was excluded; `keys` are those that would close
    /// the first gap (not all, if many), `class` is what is wrong with the first.
    NoOtherChain { txid: Txid, class: Class, keys: Vec<String> },
    /// The chosen lineage does not reach the target (`error`), another one at the same path does:
    /// its keys begin with `folder`.
    OnlyOtherLineage { error: Box<Self>, folder: String },
    /// Every chain to `txid` needs a file in an archived storage class.
    Archived { txid: Txid, keys: Vec<String> },
}

impl PlanError {
    pub fn class(&self) -> Class {
        match self {
            Self::NoBackups => Class::BackupNotFound,
            Self::OnlyV3 { .. } => Class::Config,
            Self::ChainDoesNotBeginAtOne { .. } => Class::ChainDoesNotBeginAtOne,
            Self::Hole { .. } => Class::Hole,
            Self::TxidNotReachable { .. } | Self::TimestampDoesNotExist { .. } | Self::Archived { .. } => {
                Class::TargetNotReachable
            }
            Self::NoOtherChain { class, .. } => *class,
            Self::OnlyOtherLineage { error, .. } => error.class(),
        }
    }

    /// Whether a listing that was not atomic can have caused it: list again before saying so
    /// (docs/FORMAT.md, "Holes").
    pub fn needs_fresh_listing(&self) -> bool {
        matches!(self, Self::ChainDoesNotBeginAtOne { .. } | Self::Hole { .. } | Self::TxidNotReachable { .. })
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBackups => f.write_str("no matching backup files available"),
            Self::OnlyV3 { snapshots } => write!(
                f,
                "the backups are in the v0.3.x format (generations/, {snapshots} snapshots), which is not supported \
                 yet: restore them with Litestream v0.3.13"
            ),
            Self::ChainDoesNotBeginAtOne { first } => write!(
                f,
                "cannot calc restore plan: the chain of ltx files does not begin at TXID 1: the first file starts at \
                 {first} and there is no snapshot; files were deleted from the backup"
            ),
            Self::Hole { have, next } => write!(
                f,
                "cannot calc restore plan: non-contiguous ltx files: have up to {have} but next file starts at {next}"
            ),
            Self::TxidNotReachable { txid, below, above } => {
                write!(f, "no matching backup files available: TXID {txid} cannot be reached exactly")?;
                match (below, above) {
                    (Some(below), Some(above)) => write!(f, "; the nearest that can are {below} and {above}"),
                    (Some(below), None) => write!(f, "; the newest before it that can is {below}"),
                    (None, Some(above)) => write!(f, "; the oldest that can is {above}"),
                    (None, None) => Ok(()),
                }
            }
            Self::TimestampDoesNotExist { at } => {
                write!(f, "timestamp does not exist: the backups hold no state older than {at}")
            }
            Self::OnlyOtherLineage { error, folder } => write!(
                f,
                "{error}; only the files below {}, another lineage, reach it: to restore from them, copy them to a \
                 path of their own",
                escaped(folder)
            ),
            Self::NoOtherChain { txid, keys, .. } => {
                write!(f, "no chain of files reaches TXID {txid} without ")?;
                write_keys(f, keys)
            }
            Self::Archived { txid, keys } => {
                write!(f, "TXID {txid} cannot be reached without ")?;
                write_keys(f, keys)?;
                f.write_str(", in an archived storage class: bring it back to a readable one first")
            }
        }
    }
}

fn write_keys(f: &mut fmt::Formatter<'_>, keys: &[String]) -> fmt::Result {
    for (i, key) in keys.iter().enumerate() {
        write!(f, "{}{}", if i > 0 { ", " } else { "" }, escaped(key))?;
    }
    Ok(())
}

impl std::error::Error for PlanError {}
