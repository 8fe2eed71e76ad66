//! What was learnt about a replica's files since they were listed. Files are named by their index
//! in [`Replica::files`]; `carried` takes the knowledge over to a fresh listing.

use crate::catalogue::Replica;
use crate::error::Class;
use crate::timestamp::Timestamp;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a look at a file's metadata or header said about its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeLook {
    At(Timestamp),
    /// Neither metadata nor a readable header.
    Unknowable,
}

/// The times of files, as far as they were looked at. LastModified is no time (docs/FORMAT.md,
/// "Times").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    looks: BTreeMap<usize, TimeLook>,
    all_required: bool,
}

impl Times {
    pub fn new() -> Self {
        Self::default()
    }

    /// `file` was created at `time`, by its metadata or its header.
    pub fn set(&mut self, file: usize, time: Timestamp) {
        self.looks.insert(file, TimeLook::At(time));
    }

    /// `file` has no metadata and no readable header. It counts as old enough unless a file before
    /// it on its level is not: a damaged file must not silently make the answer an older one.
    pub fn set_unknowable(&mut self, file: usize) {
        self.looks.insert(file, TimeLook::Unknowable);
    }

    /// The time of `file` where it is known.
    pub fn get(&self, file: usize) -> Option<Timestamp> {
        match self.look(file) {
            Some(TimeLook::At(time)) => Some(time),
            _ => None,
        }
    }

    /// From now on nothing is concluded from the order of files or LastModified: a plan by time
    /// needs the time of every file. For when a planned file proved too new.
    pub fn require_all(&mut self) {
        self.all_required = true;
    }

    pub fn are_all_required(&self) -> bool {
        self.all_required
    }

    /// How many files were looked at.
    pub fn len(&self) -> usize {
        self.looks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    /// The same knowledge about the same, unchanged files of a newer listing.
    pub fn carried(&self, old: &Replica, new: &Replica) -> Self {
        Self { looks: carried(&self.looks, old, new), all_required: self.all_required }
    }

    pub(super) fn look(&self, file: usize) -> Option<TimeLook> {
        self.looks.get(&file).copied()
    }

    pub(super) fn looks(&self, files: Range<usize>) -> impl Iterator<Item = (usize, TimeLook)> + '_ {
        self.looks.range(files).map(|(&file, &look)| (file, look))
    }
}

/// Files that must not be planned, and what is wrong with each (docs/FORMAT.md, "Damaged files").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excluded {
    files: BTreeMap<usize, Class>,
}

impl Excluded {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn insert(&mut self, file: usize, class: Class) {
        self.files.insert(file, class);
    }

    pub fn get(&self, file: usize) -> Option<Class> {
        self.files.get(&file).copied()
    }

    pub fn contains(&self, file: usize) -> bool {
        self.files.contains_key(&file)
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The same knowledge about the same, unchanged files of a newer listing.
    pub fn carried(&self, old: &Replica, new: &Replica) -> Self {
        Self { files: carried(&self.files, old, new) }
    }
}

/// What is known of the files of `old` that `new` holds unchanged: same key, size, ETag,
/// LastModified.
fn carried<T: Copy>(known: &BTreeMap<usize, T>, old: &Replica, new: &Replica) -> BTreeMap<usize, T> {
    if old.root != new.root {
        return BTreeMap::new();
    }
    let mut rest = new.files.iter().enumerate().peekable();
    let mut out = BTreeMap::new();
    for (&index, &fact) in known {
        let Some(file) = old.files.get(index) else { break };
        let order = |f: &crate::catalogue::LtxFile| (f.level, f.max_txid, f.min_txid, f.layout);
        while rest.next_if(|(_, f)| order(f).cmp(&order(file)) == Ordering::Less).is_some() {}
        if let Some((at, _)) = rest.next_if(|(_, f)| *f == file) {
            out.insert(at, fact);
        }
    }
    out
}
