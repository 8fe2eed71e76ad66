//! Listed objects → databases → levels → files; pure and compact (≤ 1 KB per database of ten files).
//!
//! A database is recognised by the structure of its keys alone (FORMAT §1), in both layouts:
//! whatever stands before the level's directory is its root, kept to the letter, so that
//! `app.db`, `app.db-2`, `app.db//` and a database below another's prefix never mix and every
//! key can be rebuilt. All other keys are skipped, never an error. Nothing is said here about
//! what the files hold or whether they make a chain: that is `plan`'s.

mod collect;
mod key;
#[cfg(test)]
mod tests;

pub use collect::Catalogue;

use crate::ltx::{Level, Txid};
use crate::store::{Etag, Listed};
use crate::timestamp::Timestamp;
use std::ops::Range;

/// Which of FORMAT §1's layouts a file's key has. The key is rebuilt from it, not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// `<path>/<level as %04x>/<min>-<max>.ltx`
    Hex,
    /// `<path>/ltx/<level>/<min>-<max>.ltx`
    Decimal,
}

/// One LTX file of a database, as the listing shows it. 1 ≤ `min_txid` ≤ `max_txid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LtxFile {
    pub min_txid: Txid,
    pub max_txid: Txid,
    pub size: u64,
    pub last_modified: Timestamp,
    pub etag: Option<Etag>,
    pub level: Level,
    pub layout: Layout,
    pub archived: bool,
}

impl LtxFile {
    /// `<min>-<max>.ltx`
    pub fn name(&self) -> String {
        format!("{}-{}.ltx", self.min_txid, self.max_txid)
    }

    /// Whether the file holds a whole database (FORMAT §2: its first TXID is 1).
    pub fn is_snapshot(&self) -> bool {
        self.min_txid == Txid(1)
    }
}

/// What a listing shows of a backup in the v0.3.x format (`generations/`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V3 {
    pub snapshots: u32,
    pub wal_segments: u32,
    /// LastModified of the newest snapshot or WAL segment.
    pub last_modified: Timestamp,
}

/// The backup of one database: the LTX files under one root, in both layouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// What stands before the level's directory in every key, to the letter: it ends in a slash,
    /// or is empty where the keys begin with the level.
    pub root: String,
    /// Sorted by level, then max TXID, min TXID, layout; no two have one key.
    pub files: Vec<LtxFile>,
    /// Files of the v0.3.x format under the same root.
    pub v3: Option<Box<V3>>,
}

impl Replica {
    /// The replica at `path` (a config's or URL's path, without the bucket; for a replica on disk
    /// the absolute path), out of listed objects. Objects of other databases, also below `path`,
    /// are left out. Where several of [`Self::roots`] hold files, the first of them counts.
    pub fn of(path: &str, objects: impl IntoIterator<Item = Listed>) -> Self {
        collect::replica_of(Self::roots(path), objects)
    }

    /// The roots that the files of `path` may have, the one that Litestream itself would read
    /// first (FORMAT §1, §5): config paths are not cleaned, so one that ends in a slash gives
    /// `//`; without a path the keys begin with the level, with `/` or with `./`.
    pub fn roots(path: &str) -> Vec<String> {
        let bare = path.trim_end_matches('/');
        match bare {
            "" | "." => ["", "/", "./"].map(String::from).to_vec(),
            _ if bare.len() == path.len() => vec![format!("{path}/")],
            _ => vec![format!("{path}/"), format!("{bare}/")],
        }
    }

    /// The prefixes to list so that all files of `path` are seen: one, except without a path,
    /// where one would be the whole bucket.
    pub fn list_prefixes(path: &str) -> Vec<String> {
        let bare = path.trim_end_matches('/');
        match bare {
            "" | "." => Self::roots("")
                .iter()
                .flat_map(|root| ["000", "ltx/", "generations/"].map(|dir| format!("{root}{dir}")))
                .collect(),
            _ => vec![format!("{bare}/")],
        }
    }

    /// The key of `file`, to the letter as it was listed.
    pub fn key(&self, file: &LtxFile) -> String {
        let (root, level) = (&self.root, file.level.get());
        match file.layout {
            Layout::Hex => format!("{root}{level:04x}/{}-{}.ltx", file.min_txid, file.max_txid),
            Layout::Decimal => format!("{root}ltx/{level}/{}-{}.ltx", file.min_txid, file.max_txid),
        }
    }

    /// The root without slashes at its end: the database's key, for people.
    pub fn name(&self) -> &str {
        self.root.trim_end_matches('/')
    }

    /// Where the files of `level` stand in `files`.
    pub fn level(&self, level: Level) -> Range<usize> {
        let start = self.files.partition_point(|f| f.level < level);
        start..self.files.partition_point(|f| f.level <= level)
    }

    /// The newest TXID that any file holds; None without files.
    pub fn max_txid(&self) -> Option<Txid> {
        self.files.iter().map(|f| f.max_txid).max()
    }
}
