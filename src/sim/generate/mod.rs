//! Replicas made from a seed: the same seed, the same bytes.
//!
//! - [`sample_fleet`]: real SQLite databases, a few transactions each;
//! - [`tiny_fleet`]: thousands of small databases that share a few contents;
//! - [`large_database`]: one large SQLite database, a snapshot and small increments over it;
//! - [`lock_page_database`]: one that reaches past 1 GiB and is almost empty;
//! - [`random_history`]: everything that the format allows, for differential tests.

mod chain;
mod history;
mod large;
mod page;
mod sample;
mod table;
#[cfg(test)]
mod tests;
mod tiny;

pub use history::{HistoryParams, random_history};
pub use large::{LargeDatabase, LargeSpec, large_database, lock_page_database};
pub use page::fill_page;
pub use sample::sample_fleet;
pub use tiny::{TinyFleet, tiny_fleet};

use crate::catalogue::Layout;
use crate::ltx::{Level, PageSize, Txid};
use crate::timestamp::Timestamp;
use bytes::Bytes;

/// Which LZ4 encoding the files of a replica have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodingMix {
    Block,
    Frame,
    /// Per file, by chance; in compactions per page.
    Mixed,
}

/// One file of a replica.
#[derive(Debug, Clone)]
pub struct GeneratedObject {
    pub key: String,
    pub bytes: Bytes,
    /// The same as the header's.
    pub litestream_timestamp: Timestamp,
    /// The upload: never before the timestamp.
    pub last_modified: Timestamp,
    pub level: Level,
    pub min_txid: Txid,
    pub max_txid: Txid,
}

/// A database after one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub txid: Txid,
    pub timestamp: Timestamp,
    pub bytes: u64,
    pub sha256: [u8; 32],
}

/// A replica and what it must restore to.
#[derive(Debug, Clone)]
pub struct GeneratedDatabase {
    /// The keys are below this.
    pub root: String,
    pub objects: Vec<GeneratedObject>,
    pub page_size: PageSize,
    /// The newest state.
    pub expected: State,
    /// Every state, oldest first, the newest included; whether each can still be reached depends
    /// on the files. Empty where only the newest is known (tiny fleets).
    pub states: Vec<State>,
}

/// The key of a file.
pub fn key(root: &str, layout: Layout, level: Level, min: Txid, max: Txid) -> String {
    let slash = if root.is_empty() || root.ends_with('/') { "" } else { "/" };
    match layout {
        Layout::Hex => format!("{root}{slash}{:04x}/{min}-{max}.ltx", level.get()),
        Layout::Decimal => format!("{root}{slash}ltx/{}/{min}-{max}.ltx", level.get()),
    }
}

/// What could not be made. All generators of this module return it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot generate: {0}")]
pub struct GenerateError(pub String);

impl From<std::io::Error> for GenerateError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rusqlite::Error> for GenerateError {
    fn from(error: rusqlite::Error) -> Self {
        Self(format!("SQLite: {error}"))
    }
}
