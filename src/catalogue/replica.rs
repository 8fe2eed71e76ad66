//! One database's files, and their keys.

use crate::ltx::{Level, Txid};
use crate::store::{Etag, Store};
use crate::timestamp::Timestamp;
use std::ops::Range;

/// The layout of a file's key (docs/FORMAT.md, "Key layouts"). Keys are rebuilt from it, not
/// stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// `<path>/<level as %04x>/<min>-<max>.ltx`
    Hex,
    /// `<path>/ltx/<level>/<min>-<max>.ltx`
    Decimal,
}

impl Layout {
    /// The layout in which Litestream writes to this kind of store.
    pub fn native_to(store: &Store) -> Self {
        match store {
            Store::S3(_) => Self::Hex,
            Store::File(_) => Self::Decimal,
        }
    }
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

    /// Whether the file holds a whole database: its first TXID is 1 (docs/FORMAT.md, "LTX header").
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

/// The backup of one database: the LTX files of one lineage, and the other files at its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Everything before the level's directory in every key, unchanged. It ends in a slash, or is
    /// empty if the keys begin with the level.
    pub root: String,
    /// Of one layout. Sorted by level, then max TXID, then min TXID; no two have one key.
    pub files: Vec<LtxFile>,
    /// Files of the v0.3.x format under the same root.
    pub v3: Option<Box<V3>>,
    /// The database's lineages that were not chosen. None of them has `others`.
    pub others: Vec<Replica>,
}

impl Replica {
    /// The roots that the files of `path` may have. The first is the one that Litestream reads
    /// (docs/FORMAT.md, "Key layouts"): it appends a slash to the path and cleans nothing. A
    /// configured path that ends in a slash gives `//`. At a bucket's root an empty path gives `/`,
    /// and `.` (the meaning of `s3://bucket` without a slash) gives `./`. The other roots are those
    /// that copies may have.
    pub fn roots(path: &str) -> Vec<String> {
        let bare = path.trim_end_matches('/');
        match bare {
            "" => ["/", "./", ""].map(String::from).to_vec(),
            "." => ["./", "/", ""].map(String::from).to_vec(),
            _ if bare.len() == path.len() => vec![format!("{path}/")],
            _ => vec![format!("{path}/"), format!("{bare}/")],
        }
    }

    /// The prefixes whose listings contain all files of `path`. It is one prefix, except at a
    /// bucket's root, where one prefix would list the whole bucket.
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

    /// The key of `file`, exactly as it was listed.
    pub fn key(&self, file: &LtxFile) -> String {
        let (root, level) = (&self.root, file.level.get());
        match file.layout {
            Layout::Hex => format!("{root}{level:04x}/{}-{}.ltx", file.min_txid, file.max_txid),
            Layout::Decimal => format!("{root}ltx/{level}/{}-{}.ltx", file.min_txid, file.max_txid),
        }
    }

    /// The root without slashes at its end: the database's name in messages.
    pub fn name(&self) -> &str {
        self.root.trim_end_matches('/')
    }

    /// The range of `files` that belongs to `level`.
    pub fn level(&self, level: Level) -> Range<usize> {
        let start = self.files.partition_point(|f| f.level < level);
        start..self.files.partition_point(|f| f.level <= level)
    }

    /// The newest TXID that any file holds; None without files.
    pub fn max_txid(&self) -> Option<Txid> {
        self.files.iter().map(|f| f.max_txid).max()
    }
}
