//! The slow, simple restorer that the engine is compared with: whole files, pages in a map,
//! written from FORMAT alone. Shares no code with `ltx` or `plan`, checks everything, allocates
//! as it likes: never for files from strangers.

use std::collections::BTreeMap;

/// A decoded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NaiveFile {
    pub flags: u32,
    pub page_size: u32,
    pub commit: u32,
    pub min_txid: u64,
    pub max_txid: u64,
    pub timestamp_ms: i64,
    pub pre_apply_checksum: u64,
    pub post_apply_checksum: u64,
    pub pages: BTreeMap<u32, Vec<u8>>,
}

/// Why a file or a chain is not right, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NaiveError(pub String);

impl std::fmt::Display for NaiveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NaiveError {}

/// Decodes and checks a whole file (FORMAT §2).
pub fn decode_file(_bytes: &[u8]) -> Result<NaiveFile, NaiveError> {
    Err(NaiveError("unfinished".into()))
}

/// The database that the files of a plan make, oldest first (FORMAT §3, "Result").
pub fn restore<'a>(_files: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, NaiveError> {
    Err(NaiveError("unfinished".into()))
}

/// A file as the planner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NaiveEntry {
    pub level: u8,
    pub min_txid: u64,
    pub max_txid: u64,
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
}

/// What is to be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NaiveTarget {
    Latest,
    Txid(u64),
    /// Nanoseconds since the epoch; files strictly before.
    Before(i64),
}

/// Indexes of the files to restore from, oldest first (FORMAT §3, 1 – 2, without the rules about holes).
pub fn plan(_entries: &[NaiveEntry], _target: NaiveTarget) -> Result<Vec<usize>, NaiveError> {
    Err(NaiveError("unfinished".into()))
}
