//! Collects the objects of a listing into replicas, one per database.

use super::key::{self, KeyKind};
use super::{Layout, LtxFile, OtherObjects, Replica, RootCount, Surroundings, V3Replica};
use crate::store::ObjectMeta;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Of the databases below the path of one replica, the first 1,000 are kept by name.
const MAX_BELOW: usize = 1_000;
/// The buffer for the files that are arriving keeps room for this many. A longer list is stored without a copy.
const MAX_SPARE: usize = 10_000;
/// What the catalogue takes for a database besides its files and the text of its root: a place in the tree, the list of
/// files, and what the allocator adds to each.
const DATABASE_BYTES: u64 = 160;

/// What a catalogue is to do with the files of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// The files are kept.
    Keep,
    /// The root is kept, without files.
    Name,
    /// The database is counted: it is wanted, but not here ([`Catalogue::counted`]).
    Count,
    /// The database is not wanted ([`Catalogue::passed`]).
    Pass,
}

/// Collects the objects of one listing, which may hold many databases. Objects may come in any order.
///
/// Memory: about 64 bytes per file and 160 bytes per database. An object that is no backup file takes none, and a
/// database that is not kept takes 8 bytes. The files of the database whose keys are arriving are gathered in one
/// buffer. They are stored at their exact size when the next database begins.
#[derive(Debug)]
pub struct Catalogue {
    /// The key layout (level directories `0000` or `ltx/0`) that Litestream uses for this kind of store. If the keys
    /// of a database have both layouts, the files of one layout are a lineage: a history of their own, which is never
    /// mixed with the other. The lineage in this layout is restored if it is complete.
    native: Layout,
    /// The databases found so far, by root. The files of `current` that came last are still in `gathered`.
    done: BTreeMap<Box<str>, Gathered>,
    /// The root of the database whose files are being gathered.
    current: String,
    gathered: Gathered,
    /// Whether the files of `current` are kept. None before the first object.
    interest: Option<Interest>,
    counted: RootCount,
    passed: RootCount,
    objects: OtherObjects,
    /// The bytes that `done` takes.
    bytes: u64,
}

#[derive(Debug, Default)]
struct Gathered {
    files: Vec<LtxFile>,
    v3: Option<Box<V3Replica>>,
}

impl Catalogue {
    /// Creates an empty catalogue for a listing of a store whose own key layout is `native`.
    pub fn new(native: Layout) -> Self {
        Self {
            native,
            done: BTreeMap::new(),
            current: String::new(),
            gathered: Gathered::default(),
            interest: None,
            counted: RootCount::default(),
            passed: RootCount::default(),
            objects: OtherObjects::default(),
            bytes: 0,
        }
    }

    /// Adds one object of the listing. An object whose key is not that of a backup file is skipped.
    pub fn insert(&mut self, object: ObjectMeta) {
        self.insert_if(object, &|_| Interest::Keep);
    }

    /// Adds one object of the listing, if `interest` says of its database's root that it is kept.
    pub fn insert_if(&mut self, object: ObjectMeta, interest: &dyn Fn(&str) -> Interest) {
        let Some(parsed) = key::parse(&object.key) else { return self.objects.add(&object.key) };
        if self.interest.is_none() || self.current != parsed.root {
            self.store_current();
            self.current.clear();
            self.current.push_str(parsed.root);
            let interest = interest(parsed.root);
            match interest {
                Interest::Keep => {}
                Interest::Name => {
                    if !self.done.contains_key(parsed.root) {
                        self.bytes += DATABASE_BYTES + parsed.root.len() as u64;
                        self.done.insert(parsed.root.into(), Gathered::default());
                    }
                }
                Interest::Count => self.counted.add(parsed.root),
                Interest::Pass => self.passed.add(parsed.root),
            }
            self.interest = Some(interest);
        }
        if self.interest == Some(Interest::Keep) {
            self.gathered.add(parsed.kind, &object);
        }
    }

    /// Number of databases whose files are kept.
    pub fn databases(&self) -> usize {
        let current_is_new = !self.gathered.is_empty() && !self.done.contains_key(self.current.as_str());
        self.done.len() + usize::from(current_is_new)
    }

    /// The databases that were counted ([`Interest::Count`]).
    pub fn counted(&self) -> &RootCount {
        &self.counted
    }

    /// The databases that were not wanted ([`Interest::Pass`]).
    pub fn passed(&self) -> &RootCount {
        &self.passed
    }

    /// The objects that are no backup files.
    pub fn objects(&self) -> &OtherObjects {
        &self.objects
    }

    /// About how many bytes of memory this catalogue takes.
    pub fn bytes(&self) -> u64 {
        let roots = self.counted.len() + self.passed.len();
        self.bytes + self.gathered.bytes() + roots * 16
    }

    /// Adds the databases of another catalogue. A file that is in both counts once.
    pub fn merge(&mut self, mut other: Self) {
        other.store_current();
        for (root, gathered) in other.done {
            self.done.entry(root).or_default().append(gathered);
        }
        self.counted.merge(other.counted);
        self.passed.merge(other.passed);
        self.objects.merge(other.objects);
        self.bytes += other.bytes;
    }

    /// Returns all databases in the catalogue, sorted by root.
    pub fn finish(mut self) -> Vec<Replica> {
        self.store_current();
        self.done.into_iter().map(|(root, gathered)| gathered.into_replica(root.into(), self.native)).collect()
    }

    fn store_current(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let v3 = self.gathered.v3.take();
        self.bytes += (self.gathered.files.len() * size_of::<LtxFile>()) as u64;
        self.bytes += v3.as_ref().map_or(0, |v3| v3.bytes());
        // `drain` leaves the buffer's capacity for the files of the next database, unless that is much.
        let files = if self.gathered.files.len() > MAX_SPARE {
            std::mem::take(&mut self.gathered.files)
        } else {
            self.gathered.files.drain(..).collect()
        };
        let exact = Gathered { files, v3 };
        match self.done.get_mut(self.current.as_str()) {
            Some(before) => before.append(exact),
            None => {
                self.bytes += DATABASE_BYTES + self.current.len() as u64;
                self.done.insert(self.current.as_str().into(), exact);
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
            KeyKind::V3(name) => self.v3.get_or_insert_default().add(name, object),
            KeyKind::V3Prerelease => {
                self.v3.get_or_insert_default().prerelease.get_or_insert_with(|| object.key.as_str().into());
            }
        }
    }

    /// About how many bytes of memory the files take.
    fn bytes(&self) -> u64 {
        (self.files.capacity() * size_of::<LtxFile>()) as u64 + self.v3.as_ref().map_or(0, |v3| v3.bytes())
    }

    fn append(&mut self, mut other: Self) {
        // The capacity grows by a quarter. Doubling would waste memory: in an unordered listing the files of all
        // databases grow at the same time.
        if self.files.capacity() - self.files.len() < other.files.len() {
            self.files.reserve_exact(other.files.len().max(self.files.len() / 4));
        }
        self.files.append(&mut other.files);
        match (&mut self.v3, other.v3) {
            (Some(v3), Some(other)) => v3.append(*other),
            (mine @ None, other) => *mine = other,
            (Some(_), None) => {}
        }
    }

    fn into_replica(self, mut root: String, native: Layout) -> Replica {
        let mut files = self.files;
        // A key that was listed twice was replaced while the listing ran. The object with the newer LastModified
        // counts.
        // An unstable sort needs no memory of its own.
        files.sort_unstable_by_key(|f| (f.level, f.max_txid, f.min_txid, f.layout, Reverse(f.last_modified)));
        files.dedup_by_key(|f| (f.level, f.max_txid, f.min_txid, f.layout));
        root.shrink_to_fit();
        let mut v3 = self.v3;
        if let Some(v3) = &mut v3 {
            v3.finish(&root);
        }
        let other_layout: Vec<LtxFile> = files.extract_if(.., |f| f.layout != native).collect();
        files.shrink_to_fit();
        if other_layout.is_empty() {
            return Replica { root, files, v3, others: Vec::new() };
        }
        let other = Replica { root: root.clone(), files: other_layout, v3: None, others: Vec::new() };
        Replica::choose([Replica { root, files, v3, others: Vec::new() }, other], native)
    }
}

impl Replica {
    /// Builds the replica at `path` from listed objects. See [`ReplicaCollector`].
    pub fn of(path: &str, native: Layout, objects: impl IntoIterator<Item = ObjectMeta>) -> Self {
        let mut collector = ReplicaCollector::new(path, native);
        objects.into_iter().for_each(|object| collector.insert(&object));
        collector.finish().0
    }
}

/// Collects the objects of one database's replica, page by page.
#[derive(Debug)]
pub struct ReplicaCollector {
    native: Layout,
    /// The path with one slash at its end.
    below: String,
    found: Vec<(String, Gathered)>,
    /// Databases below the path.
    others: RootCount,
    around: Surroundings,
}

impl ReplicaCollector {
    /// Collects the files of the replica at `path`.
    ///
    /// `path` is the path from the configuration or the URL, without the bucket. For a replica on disk it is the
    /// absolute path of the directory. Objects of other databases are only counted, also those below `path`. `native`
    /// is the key layout of the store. It decides which lineage is chosen if there are several.
    pub fn new(path: &str, native: Layout) -> Self {
        let roots = Replica::roots(path);
        let bare = path.trim_end_matches('/');
        Self {
            native,
            below: if matches!(bare, "" | ".") { String::new() } else { format!("{bare}/") },
            found: roots.into_iter().map(|root| (root, Gathered::default())).collect(),
            others: RootCount::default(),
            around: Surroundings::default(),
        }
    }

    /// Adds an object of the listing.
    pub fn insert(&mut self, object: &ObjectMeta) {
        let Some(parsed) = key::parse(&object.key) else {
            if object.key.starts_with(&self.below) {
                self.around.objects.add(&object.key);
            }
            return;
        };
        if let Some((_, gathered)) = self.found.iter_mut().find(|(root, _)| root == parsed.root) {
            gathered.add(parsed.kind, object);
        } else if parsed.root.len() > self.below.len() && parsed.root.starts_with(&self.below) {
            let before = self.others.len();
            self.others.add(parsed.root);
            if self.others.len() > before && self.around.below.len() < MAX_BELOW {
                self.around.below.push(parsed.root.to_owned());
            }
        } else if self.around.around.is_none() && self.below.starts_with(parsed.root) {
            self.around.around = Some(parsed.root.to_owned());
        }
    }

    /// About how many bytes of memory the files take.
    pub fn bytes(&self) -> u64 {
        self.found.iter().map(|(_, gathered)| gathered.bytes()).sum::<u64>() + self.others.len() * 16
    }

    /// The replica, and what else was listed.
    pub fn finish(self) -> (Replica, Surroundings) {
        let native = self.native;
        let replicas = self.found.into_iter().map(|(root, gathered)| gathered.into_replica(root, native));
        let around = Surroundings { below_count: self.others.len(), ..self.around };
        (Replica::choose(replicas, native), around)
    }
}
