//! The files of one database as a listing shows them, and their keys.

use super::{Generation, V3Replica};
use crate::ltx::{Level, Txid};
use crate::store::{Etag, Store};
use crate::timestamp::Timestamp;
use std::fmt;
use std::ops::Range;

/// The layout of an LTX file's key (docs/FORMAT.md, "Key layouts"). Keys are not stored; they are rebuilt from the
/// layout, the level and the TXIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// The layout on S3: `<path>/<level as %04x>/<min>-<max>.ltx`.
    Hex,
    /// The layout on disks: `<path>/ltx/<level>/<min>-<max>.ltx`.
    Decimal,
}

impl Layout {
    /// The layout in which Litestream writes to this kind of store: hex on S3, decimal on disk.
    pub fn native_to(store: &Store) -> Self {
        match store {
            Store::S3(_) | Store::Past(_) => Self::Hex,
            Store::File(_) => Self::Decimal,
        }
    }

    /// What the keys of `level` begin with, below `root` ([`Replica::root`]).
    pub fn prefix(self, root: &str, level: Level) -> String {
        match self {
            Self::Hex => format!("{root}{:04x}/", level.get()),
            Self::Decimal => format!("{root}ltx/{}/", level.get()),
        }
    }

    /// The key of the file with the transactions `min` to `max` at `level`, below `root` ([`Replica::root`]).
    pub fn key(self, root: &str, level: Level, min: Txid, max: Txid) -> String {
        format!("{}{min}-{max}.ltx", self.prefix(root, level))
    }
}

/// One LTX file of a database, as the listing shows it. `min_txid` is at least 1 and at most `max_txid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LtxFile {
    /// The first transaction in the file, from its name.
    pub min_txid: Txid,
    /// The last transaction in the file, from its name.
    pub max_txid: Txid,
    /// The size of the file in bytes, from the listing.
    pub size: u64,
    /// The time of the upload: LastModified on S3, mtime on disk.
    pub last_modified: Timestamp,
    /// The object's ETag. None on disk, and if the store lists no ETags.
    pub etag: Option<Etag>,
    /// The compaction level, 0 to 9. Level 9 holds snapshots.
    pub level: Level,
    /// The layout of the file's key.
    pub layout: Layout,
    /// Whether the object is in an archive storage class and cannot be read without restoring it first.
    pub archived: bool,
}

impl LtxFile {
    /// The base name of the file: `<min>-<max>.ltx`.
    pub fn name(&self) -> String {
        format!("{}-{}.ltx", self.min_txid, self.max_txid)
    }

    /// Whether the file is a snapshot, which holds a whole database: its first TXID is 1 (docs/FORMAT.md, "LTX
    /// header").
    pub fn is_snapshot(&self) -> bool {
        self.min_txid == Txid(1)
    }
}

/// The backup of one database: the LTX files of one lineage, and what else was listed at the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Everything in the keys before the directory of the level, unchanged. It ends in a slash, or it is empty if
    /// the keys begin with the level.
    pub root: String,
    /// The LTX files, all in one layout. They are sorted by level, then max TXID, then min TXID. No two have the
    /// same key.
    pub files: Vec<LtxFile>,
    /// The files of Litestream 0.3 at the same path, if there are any. Their root may differ in the slashes at its end.
    pub v3: Option<Box<V3Replica>>,
    /// The lineages of the database that were not chosen. Their own `others` are empty.
    pub others: Vec<Replica>,
}

impl Replica {
    /// The roots that the files of a replica at `path` may have, the most likely first.
    ///
    /// The first root is the one that Litestream reads (docs/FORMAT.md, "Key layouts"): it appends a slash to the
    /// path and does not clean it. A configured path that ends in a slash gives `//`. At a bucket's root an empty
    /// path gives `/`, and the path `.` (of the URL `s3://bucket` without a slash) gives `./`. The other roots
    /// occur in buckets that were copied by other tools.
    pub fn roots(path: &str) -> Vec<String> {
        let bare = path.trim_end_matches('/');
        match bare {
            "" => ["/", "./", ""].map(String::from).to_vec(),
            "." => ["./", "/", ""].map(String::from).to_vec(),
            _ => {
                let mut roots = vec![format!("{path}/"), format!("{bare}/"), format!("{}/", cleaned(bare))];
                roots.dedup();
                roots
            }
        }
    }

    /// The prefixes to list in order to see all files of a replica at `path`. It is one prefix, except for a path that
    /// Litestream 0.3 cleans, and at a bucket's root. There a single prefix would have to be empty and list the whole bucket.
    pub fn list_prefixes(path: &str) -> Vec<String> {
        let bare = path.trim_end_matches('/');
        match bare {
            "" | "." => Self::roots("")
                .iter()
                .flat_map(|root| ["000", "ltx/", "generations/"].map(|dir| format!("{root}{dir}")))
                .collect(),
            _ => {
                let mut prefixes = vec![format!("{bare}/"), format!("{}/", cleaned(bare))];
                prefixes.dedup();
                prefixes
            }
        }
    }

    /// The key of `file`, exactly as the listing had it.
    pub fn key(&self, file: &LtxFile) -> String {
        file.layout.key(&self.root, file.level, file.min_txid, file.max_txid)
    }

    /// The root without the slashes at its end. Messages show it as the database's name.
    pub fn name(&self) -> &str {
        self.root.trim_end_matches('/')
    }

    /// The range of indexes in `files` that belongs to `level`.
    pub fn level(&self, level: Level) -> Range<usize> {
        let start = self.files.partition_point(|f| f.level < level);
        start..self.files.partition_point(|f| f.level <= level)
    }

    /// The same database as if it had only the files of `generation`, and no LTX files.
    #[must_use]
    pub fn only_generation(mut self, generation: Generation) -> Self {
        self.files.clear();
        self.others.clear();
        if let Some(v3) = &mut self.v3 {
            v3.files.retain(|file| file.generation == generation);
            v3.prerelease = None;
        }
        self
    }

    /// Where level 0 and all levels end.
    pub fn ends(&self) -> ReplicaEnds {
        let level_0 = self.files.get(self.level(Level::TRANSACTIONS)).and_then(<[LtxFile]>::last);
        ReplicaEnds { level_0: level_0.map(|file| file.max_txid), newest: self.max_txid() }
    }

    /// The newest TXID that any file holds. None if there are no files.
    pub fn max_txid(&self) -> Option<Txid> {
        self.files.iter().map(|f| f.max_txid).max()
    }
}

/// The ends of a replica, as Litestream finds them. It counts on from the newest file of level 0 (docs/FOLLOW.md,
/// "Promotion").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicaEnds {
    /// The newest TXID of level 0. None: it has no files.
    pub level_0: Option<Txid>,
    /// The newest TXID of all levels. None: there are no LTX files.
    pub newest: Option<Txid>,
}

impl ReplicaEnds {
    /// Whether `litestream replicate` goes on where the replica ends. Otherwise it gives TXIDs again that the replica has,
    /// and restores miss what it writes.
    pub fn goes_on(&self) -> bool {
        self.level_0 == self.newest
    }
}

impl fmt::Display for ReplicaEnds {
    /// Why Litestream does not go on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |txid: Option<Txid>| txid.map_or_else(|| "nothing".to_owned(), |txid| format!("txid {txid}"));
        write!(
            f,
            "level 0 of the replica ends at {}, all levels at {}: litestream replicate would give TXIDs that the replica has \
             already, and restores would miss what it writes. Replicate to a new path",
            text(self.level_0),
            text(self.newest)
        )
    }
}

/// The path as Litestream 0.3 has it in keys (docs/FORMAT-V3.md, "Where the files lie"): without doubled slashes and
/// without `.`, and `..` resolved. A leading slash stays.
fn cleaned(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => drop(names.pop()),
            name => names.push(name),
        }
    }
    let slash = if path.starts_with('/') { "/" } else { "" };
    format!("{slash}{}", names.join("/"))
}
