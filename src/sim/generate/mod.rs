//! Generates replicas from a seed. The same seed always gives the same bytes.
//!
//! - [`sample_fleet`]: databases that SQLite itself has written, with a few transactions each.
//! - [`tiny_fleet`]: thousands of small databases that share a few contents.
//! - [`large_database`]: one large SQLite database, with a snapshot and small increments after it.
//! - [`lock_page_database`]: a database larger than 1 GiB that is almost empty.
//! - [`Primary`]: a database that goes on, with the files of its replica as the test asks for them.
//! - [`random_history`]: everything that the format allows, for tests that compare two restorers.
//! - [`v3`]: replicas of Litestream 0.3.

mod chain;
mod history;
mod large;
mod page;
mod primary;
mod sample;
mod table;
#[cfg(test)]
mod tests;
mod tiny;
pub mod v3;

pub use history::{HistoryParams, random_history};
pub use large::{LargeDatabase, LargeSpec, large_database, lock_page_database};
pub use page::fill_page;
pub use primary::{Change, INVARIANT, Primary};
pub use sample::sample_fleet;
pub use tiny::{TinyFleet, tiny_fleet};

use crate::catalogue::Layout;
use crate::ltx::{Level, PageSize, Txid};
use crate::timestamp::Timestamp;
use bytes::Bytes;

/// The LZ4 form of the pages in the files of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodingMix {
    /// Every page is stored as one LZ4 block.
    Block,
    /// Every page is stored as one LZ4 frame.
    Frame,
    /// Both forms. A file chooses one at random; a compaction chooses for each page.
    Mixed,
}

/// One generated LTX file of a replica.
#[derive(Debug, Clone)]
pub struct GeneratedObject {
    /// The key of the file in its bucket.
    pub key: String,
    /// The bytes of the LTX file.
    pub bytes: Bytes,
    /// The value of the metadata `litestream-timestamp`, which equals the time in the header.
    pub litestream_timestamp: Timestamp,
    /// The time of the upload, which is never before the time in the header.
    pub last_modified: Timestamp,
    /// The compaction level of the file.
    pub level: Level,
    /// The first TXID in the file.
    pub min_txid: Txid,
    /// The last TXID in the file.
    pub max_txid: Txid,
}

/// The state of a database after one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The transaction that led to this state.
    pub txid: Txid,
    /// The time of that transaction.
    pub timestamp: Timestamp,
    /// The size of the database in bytes.
    pub bytes: u64,
    /// The SHA-256 of the database file.
    pub sha256: [u8; 32],
}

/// A replica, and the state that a restore of it must give.
#[derive(Debug, Clone)]
pub struct GeneratedDatabase {
    /// The prefix with which all keys of the replica begin.
    pub root: String,
    /// The LTX files of the replica.
    pub objects: Vec<GeneratedObject>,
    /// The page size of the database.
    pub page_size: PageSize,
    /// The newest state, which a restore must give.
    pub expected: State,
    /// Every state, oldest first, including the newest. Deleted files may make some of them impossible to restore.
    /// Empty if only the newest state is known, as in tiny fleets.
    pub states: Vec<State>,
}

/// The key of the file with the transactions `min` to `max` at `level`. `root` may end in a slash.
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
