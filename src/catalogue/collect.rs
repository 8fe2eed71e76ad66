//! Collects the objects of a listing into replicas, one per database.

use super::key::{self, KeyKind};
use super::{Layout, LtxFile, Replica, V3};
use crate::store::ObjectMeta;
use crate::timestamp::Timestamp;
use std::collections::BTreeMap;

/// Collects the objects of one listing, which may hold many databases. Objects may come in any order. A database
/// whose keys have all been listed can be taken out before the listing ends.
///
/// Memory: about 64 bytes per file and 100 bytes per database. The files of the database whose keys are arriving
/// are gathered in one buffer. They are stored at their exact size when the next database begins.
#[derive(Debug)]
pub struct Catalogue {
    /// The key layout that Litestream uses for this kind of store. It decides which lineage of a database is
    /// restored if the listing has several.
    native: Layout,
    /// The databases found so far, by root. The files of `current` that came last are still in `gathered`.
    done: BTreeMap<String, Gathered>,
    /// The root of the database whose files are being gathered.
    current: String,
    gathered: Gathered,
}

#[derive(Debug, Default)]
struct Gathered {
    files: Vec<LtxFile>,
    v3: Option<Box<V3>>,
}

impl Catalogue {
    /// Creates an empty catalogue for a listing of a store whose own key layout is `native`.
    pub fn new(native: Layout) -> Self {
        Self { native, done: BTreeMap::new(), current: String::new(), gathered: Gathered::default() }
    }

    /// Adds one object of the listing. An object whose key is not that of a backup file is skipped.
    pub fn insert(&mut self, object: ObjectMeta) {
        if let Some(parsed) = key::parse(&object.key) {
            if self.current != parsed.root {
                self.store_current();
                self.current.clear();
                self.current.push_str(parsed.root);
            }
            self.gathered.add(parsed.kind, &object);
        }
    }

    /// Number of databases in the catalogue.
    pub fn databases(&self) -> usize {
        let current_is_new = !self.gathered.is_empty() && !self.done.contains_key(&self.current);
        self.done.len() + usize::from(current_is_new)
    }

    /// Adds the databases of another catalogue. A file that is in both counts once.
    pub fn merge(&mut self, mut other: Self) {
        other.store_current();
        for (root, gathered) in other.done {
            self.done.entry(root).or_default().append(gathered);
        }
    }

    /// Returns all databases in the catalogue, sorted by root.
    pub fn finish(mut self) -> Vec<Replica> {
        self.store_current();
        self.done.into_iter().map(|(root, gathered)| gathered.into_replica(root, self.native)).collect()
    }

    fn store_current(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        // `drain` leaves the buffer's capacity for the files of the next database.
        let exact = Gathered { files: self.gathered.files.drain(..).collect(), v3: self.gathered.v3.take() };
        match self.done.get_mut(&self.current) {
            Some(before) => before.append(exact),
            None => {
                self.done.insert(self.current.as_str().to_owned(), exact);
            }
        }
    }
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.v3.is_none()
    }

    fn add(&mut self, kind: KeyKind, object: &ObjectMeta) {
        match kind {
            KeyKind::Ltx { level, layout, min_txid, max_txid } => self.files.push(LtxFile {
                min_txid,
                max_txid,
                size: object.size,
                last_modified: object.last_modified,
                etag: object.etag.clone(),
                level,
                layout,
                archived: object.archived,
            }),
            KeyKind::V3Snapshot | KeyKind::V3Wal => {
                let empty = V3 { snapshots: 0, wal_segments: 0, last_modified: Timestamp::MIN };
                let v3 = self.v3.get_or_insert_with(|| Box::new(empty));
                let count = if kind == KeyKind::V3Snapshot { &mut v3.snapshots } else { &mut v3.wal_segments };
                *count = count.saturating_add(1);
                v3.last_modified = v3.last_modified.max(object.last_modified);
            }
        }
    }

    fn append(&mut self, mut other: Self) {
        // The capacity grows by a quarter. Doubling would waste memory: in an unordered listing the files of all
        // databases grow at the same time.
        if self.files.capacity() - self.files.len() < other.files.len() {
            self.files.reserve_exact(other.files.len().max(self.files.len() / 4));
        }
        self.files.append(&mut other.files);
        match (&mut self.v3, other.v3) {
            (Some(v3), Some(other)) => {
                v3.snapshots = v3.snapshots.saturating_add(other.snapshots);
                v3.wal_segments = v3.wal_segments.saturating_add(other.wal_segments);
                v3.last_modified = v3.last_modified.max(other.last_modified);
            }
            (mine @ None, other) => *mine = other,
            (Some(_), None) => {}
        }
    }

    fn into_replica(self, mut root: String, native: Layout) -> Replica {
        let mut files = self.files;
        // A key that was listed twice was replaced while the listing ran. The object with the newer LastModified
        // counts.
        files.sort_by_key(|f| (f.level, f.max_txid, f.min_txid, f.layout, std::cmp::Reverse(f.last_modified)));
        files.dedup_by_key(|f| (f.level, f.max_txid, f.min_txid, f.layout));
        root.shrink_to_fit();
        let other_layout: Vec<LtxFile> = files.extract_if(.., |f| f.layout != native).collect();
        files.shrink_to_fit();
        if other_layout.is_empty() {
            return Replica { root, files, v3: self.v3, others: Vec::new() };
        }
        let other = Replica { root: root.clone(), files: other_layout, v3: None, others: Vec::new() };
        Replica::choose([Replica { root, files, v3: self.v3, others: Vec::new() }, other], native)
    }
}

impl Replica {
    /// Builds the replica at `path` from listed objects.
    ///
    /// `path` is the path from the configuration or the URL, without the bucket. For a replica on disk it is the
    /// absolute path of the directory. Objects of other databases are skipped, also those below `path`. `native` is
    /// the key layout of the store. It decides which lineage is chosen if there are several.
    pub fn of(path: &str, native: Layout, objects: impl IntoIterator<Item = ObjectMeta>) -> Self {
        replica_of(Self::roots(path), native, objects)
    }
}

/// [`Replica::of`] for a list of roots, which must not be empty.
fn replica_of(roots: Vec<String>, native: Layout, objects: impl IntoIterator<Item = ObjectMeta>) -> Replica {
    let mut found: Vec<(String, Gathered)> = roots.into_iter().map(|root| (root, Gathered::default())).collect();
    for object in objects {
        if let Some(parsed) = key::parse(&object.key)
            && let Some((_, gathered)) = found.iter_mut().find(|(root, _)| root == parsed.root)
        {
            gathered.add(parsed.kind, &object);
        }
    }
    Replica::choose(found.into_iter().map(|(root, gathered)| gathered.into_replica(root, native)), native)
}
