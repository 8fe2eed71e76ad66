//! What the generators of replicas of Litestream 0.3 return.

use crate::ltx::PageSize;
use crate::sim::naive_v3::V3Entry;
use crate::timestamp::Timestamp;
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// One generated object of a replica of Litestream 0.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedV3Object {
    /// The key of the object in its bucket.
    pub key: String,
    /// The bytes as they are stored.
    pub bytes: Bytes,
    /// The time of the upload. A file replica has it as the file's mtime.
    pub last_modified: Timestamp,
}

/// The content of a database, by its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct V3Content {
    /// The size of the database in bytes.
    pub bytes: u64,
    /// The SHA-256 of the database file.
    pub sha256: [u8; 32],
}

impl V3Content {
    /// Hashes a database.
    pub fn of(database: &[u8]) -> Self {
        Self { bytes: database.len() as u64, sha256: Sha256::digest(database).into() }
    }
}

/// What a restore must give at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V3Truth {
    /// The time that is asked for. None is the newest state.
    pub at: Option<Timestamp>,
    /// The contents that are right. Usually there is one. There are several only if the snapshot is ahead and no
    /// older one can stand in for it: then any state from the snapshot's on is right.
    pub contents: Vec<V3Content>,
    /// The class of the error that is right, if there is one.
    pub error: Option<&'static str>,
}

/// A replica of Litestream 0.3, and what restores of it must give.
#[derive(Debug, Clone)]
pub struct GeneratedV3 {
    /// The prefix with which all keys of the replica begin, without a slash at its end.
    pub root: String,
    /// The objects of the replica, sorted by key.
    pub objects: Vec<GeneratedV3Object>,
    /// The page size of the database.
    pub page_size: PageSize,
    /// What restores must give. Empty where only a restorer can tell, as in random histories.
    pub truths: Vec<V3Truth>,
}

impl GeneratedV3 {
    /// The objects as the naive restorer takes them, with keys below the root.
    pub fn entries(&self) -> Vec<V3Entry> {
        self.objects
            .iter()
            .map(|object| V3Entry {
                key: below(&self.root, &object.key).to_owned(),
                bytes: object.bytes.clone(),
                time_ns: object.last_modified.as_nanos(),
            })
            .collect()
    }

    /// The times of all objects, sorted, each once. Between two of them the state does not change.
    pub fn times(&self) -> Vec<Timestamp> {
        let mut times: Vec<Timestamp> = self.objects.iter().map(|object| object.last_modified).collect();
        times.sort_unstable();
        times.dedup();
        times
    }

    /// What a restore of the newest state must give, where only one content is right.
    pub fn newest(&self) -> Option<V3Content> {
        match self.truths.iter().find(|truth| truth.at.is_none())?.contents.as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    }
}

/// The part of `key` below `root`.
fn below<'a>(root: &str, key: &'a str) -> &'a str {
    match key.strip_prefix(root) {
        Some(below) => below.strip_prefix('/').unwrap_or(below),
        None => key,
    }
}

fn generation_key(root: &str, generation: u64, below: &str) -> String {
    let slash = if root.is_empty() || root.ends_with('/') { "" } else { "/" };
    format!("{root}{slash}generations/{generation:016x}/{below}")
}

/// The key of the snapshot of an index.
pub(super) fn snapshot_key(root: &str, generation: u64, index: u32) -> String {
    generation_key(root, generation, &format!("snapshots/{index:08x}.snapshot.lz4"))
}

/// The key of the piece of WAL at an offset of an index.
pub(super) fn segment_key(root: &str, generation: u64, index: u32, offset: u64) -> String {
    generation_key(root, generation, &format!("wal/{index:08x}_{offset:08x}.wal.lz4"))
}

/// The key of the whole WAL of an index, as 0.3.0 to 0.3.4 stored it on disk.
pub(super) fn whole_wal_key(root: &str, generation: u64, index: u32, packed: bool) -> String {
    let end = if packed { ".lz4" } else { "" };
    generation_key(root, generation, &format!("wal/{index:08x}.wal{end}"))
}
