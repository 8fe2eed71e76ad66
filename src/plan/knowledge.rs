//! What was learnt about the files of a replica after they were listed: times and damage. Files are identified by
//! their index in [`Replica::files`]. The methods `carried` translate this knowledge to a newer listing.

use crate::catalogue::{Replica, V3File};
use crate::error::Class;
use crate::timestamp::Timestamp;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

/// The result of looking up a file's time in its metadata or header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeLook {
    At(Timestamp),
    /// The file has no time in its metadata and no readable header.
    Unknowable,
}

/// The creation times of files, as far as they were looked up. LastModified is not a creation time (docs/FORMAT.md,
/// "Times").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    looks: BTreeMap<usize, TimeLook>,
    all_required: bool,
}

impl Times {
    /// Creates a record in which the time of no file is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that `file` was created at `time`, according to its metadata or its header.
    pub fn set(&mut self, file: usize, time: Timestamp) {
        self.looks.insert(file, TimeLook::At(time));
    }

    /// Records that the time of `file` cannot be known, because it has no metadata and no readable header. The file
    /// then counts as old enough, unless a file before it on its level is too new. The reason: a damaged file must
    /// lead to an error, not silently to an older state.
    pub fn set_unknowable(&mut self, file: usize) {
        self.looks.insert(file, TimeLook::Unknowable);
    }

    /// The creation time of `file`. None if it is not known.
    pub fn get(&self, file: usize) -> Option<Timestamp> {
        match self.look(file) {
            Some(TimeLook::At(time)) => Some(time),
            _ => None,
        }
    }

    /// Requires the time of every file for a plan by time. From then on nothing is concluded from the order of
    /// files or from LastModified. Used after a planned file turned out to be too new.
    pub fn require_all(&mut self) {
        self.all_required = true;
    }

    /// Whether [`Self::require_all`] was called.
    pub fn are_all_required(&self) -> bool {
        self.all_required
    }

    /// The number of files that were looked up, also without a result.
    pub fn len(&self) -> usize {
        self.looks.len()
    }

    /// Whether no file was looked up.
    pub fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    /// Translates this knowledge from the listing `old` to the listing `new`. Files that changed are forgotten.
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

/// The files that must not be planned, with the class of damage of each (docs/FORMAT.md, "Damaged files").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excluded {
    files: BTreeMap<usize, Class>,
    /// The same for the files of Litestream 0.3.
    v3: BTreeMap<usize, Class>,
}

impl Excluded {
    /// Creates a record in which no file is excluded.
    pub fn new() -> Self {
        Self::default()
    }

    /// Excludes `file` from later plans because of damage of this class.
    pub fn insert(&mut self, file: usize, class: Class) {
        self.files.insert(file, class);
    }

    /// Excludes `file` of [`V3Replica::files`](crate::catalogue::V3Replica::files).
    pub fn insert_v3(&mut self, file: usize, class: Class) {
        self.v3.insert(file, class);
    }

    /// This record, in which `file` of Litestream 0.3 is excluded too.
    #[must_use]
    pub fn and_v3(&self, file: usize, class: Class) -> Self {
        let mut both = self.clone();
        both.insert_v3(file, class);
        both
    }

    /// The class of damage of `file` of Litestream 0.3. None if it is not excluded.
    pub fn get_v3(&self, file: usize) -> Option<Class> {
        self.v3.get(&file).copied()
    }

    /// Whether `file` of Litestream 0.3 must not be planned.
    pub fn contains_v3(&self, file: usize) -> bool {
        self.v3.contains_key(&file)
    }

    /// The class of damage of `file`. None if it is not excluded.
    pub fn get(&self, file: usize) -> Option<Class> {
        self.files.get(&file).copied()
    }

    /// Whether `file` must not be planned.
    pub fn contains(&self, file: usize) -> bool {
        self.files.contains_key(&file)
    }

    /// The number of files that must not be planned.
    pub fn len(&self) -> usize {
        self.files.len() + self.v3.len()
    }

    /// Whether no file is excluded.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.v3.is_empty()
    }

    /// Translates this knowledge from the listing `old` to the listing `new`. Files that changed are forgotten.
    pub fn carried(&self, old: &Replica, new: &Replica) -> Self {
        let place = |at: usize| {
            let file = v3_files(old).get(at)?;
            v3_files(new).iter().position(|other| other == file)
        };
        let v3 = self.v3.iter().filter_map(|(&at, &class)| Some((place(at)?, class))).collect();
        Self { files: carried(&self.files, old, new), v3 }
    }
}

fn v3_files(replica: &Replica) -> &[V3File] {
    replica.v3.as_ref().map_or(&[], |v3| &v3.files)
}

/// Translates what is `known` about the files of `old` to the indexes of `new`. Only files with the same key, size,
/// ETag and LastModified are translated.
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
