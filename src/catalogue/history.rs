//! The history of one database's replica: all versions and delete markers below its path, and the files that stood in
//! the bucket at a time (docs/VERSIONS.md). Pure.

use super::{Layout, Replica, key};
use crate::ltx::{Level, Txid};
use crate::store::{AtTime, CompleteSince, Completeness, NULL_VERSION, ObjectMeta, VersionData, VersionEntry};
use crate::timestamp::Timestamp;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What an entry takes in memory besides the text of its version id.
const ENTRY_BYTES: u64 = size_of::<KeptEntry>() as u64;

/// The entries of a history, in the order of the listing: keys ascending, of each key the newest first. Only entries
/// of backup files are kept.
#[derive(Debug, Clone, Default)]
pub struct History {
    keys: Vec<Box<str>>,
    entries: Vec<KeptEntry>,
    bytes: u64,
    /// Hashes of the entries that were added, to find a listing that repeats itself.
    seen: HashSet<u64>,
}

#[derive(Debug, Clone)]
struct KeptEntry {
    /// Index into the keys.
    key: u32,
    version_id: Box<str>,
    last_modified: Timestamp,
    is_latest: bool,
    data: Option<Box<VersionData>>,
}

/// How the time of a version in the bucket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanEnd {
    /// By a delete marker at this time.
    Deleted(Timestamp),
    /// By another version at this time.
    Replaced(Timestamp),
    /// Not yet.
    Not,
}

/// One version of a backup file, and the time for which it stood in the bucket.
#[derive(Debug, Clone, Copy)]
pub struct VersionSpan<'a> {
    /// The key.
    pub key: &'a str,
    /// Level, min TXID and max TXID of an LTX file. None: a file of Litestream 0.3.
    pub ltx: Option<(Level, Txid, Txid)>,
    /// The version id.
    pub version_id: &'a str,
    /// The time of the upload.
    pub created: Timestamp,
    /// The end of its time. The version is in the bucket of a time T if `created` ≤ T and it has not ended by T.
    pub ended: SpanEnd,
    /// Whether the version is the newest entry of its key.
    pub is_latest: bool,
    /// The content.
    pub data: &'a VersionData,
}

/// The listing gave an entry twice, so it does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated;

impl History {
    /// Adds the next entry of a listing. One that is no backup file is skipped.
    ///
    /// # Errors
    /// [`Repeated`] if the listing gave this version of this key before.
    pub fn push(&mut self, entry: VersionEntry) -> Result<(), Repeated> {
        let mut hasher = DefaultHasher::new();
        (&entry.key, &entry.version_id).hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return Err(Repeated);
        }
        if key::parse(&entry.key).is_none() {
            return Ok(());
        }
        let is_new = self.keys.last().is_none_or(|last| **last != *entry.key);
        if is_new {
            self.bytes += (entry.key.len() + size_of::<Box<str>>()) as u64;
            self.keys.push(entry.key.into());
        }
        let data = entry.data.map(Box::new);
        self.bytes += ENTRY_BYTES + entry.version_id.len() as u64;
        self.bytes += if data.is_some() { size_of::<VersionData>() as u64 } else { 0 };
        let key = u32::try_from(self.keys.len() - 1).unwrap_or(u32::MAX);
        let VersionEntry { version_id, last_modified, is_latest, .. } = entry;
        self.entries.push(KeptEntry { key, version_id, last_modified, is_latest, data });
        Ok(())
    }

    /// Adds the entries of another part of the bucket.
    pub fn append(&mut self, other: Self) {
        let offset = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        self.keys.extend(other.keys);
        self.entries.extend(other.entries.into_iter().map(|e| KeptEntry { key: e.key.saturating_add(offset), ..e }));
        self.bytes += other.bytes;
    }

    /// The history without what finds repeated entries, once the listing is complete.
    pub fn finish(&mut self) {
        self.seen = HashSet::new();
    }

    /// About how many bytes of memory this takes.
    pub fn bytes(&self) -> u64 {
        self.bytes + self.seen.len() as u64 * 16
    }

    /// Number of versions and delete markers.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of keys that have entries.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Number of entries that hold data.
    pub fn versions(&self) -> usize {
        self.entries.iter().filter(|entry| entry.data.is_some()).count()
    }

    /// The times of the first and the last entry.
    pub fn range(&self) -> Option<(Timestamp, Timestamp)> {
        let times = || self.entries.iter().map(|entry| entry.last_modified);
        Some((times().min()?, times().max()?))
    }

    /// The time of the first version.
    pub fn first_version(&self) -> Option<Timestamp> {
        self.entries.iter().filter(|entry| entry.data.is_some()).map(|entry| entry.last_modified).min()
    }

    /// The time of the last deletion that was not later than `at`.
    pub fn last_deletion(&self, at: Timestamp) -> Option<Timestamp> {
        let markers = self.entries.iter().filter(|entry| entry.data.is_none() && entry.last_modified <= at);
        markers.map(|entry| entry.last_modified).max()
    }

    /// Number of files that are deleted now.
    pub fn deleted_now(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_latest && entry.data.is_none()).count()
    }

    /// Number of files that were put with more than one content, by their ETags.
    pub fn with_several_contents(&self) -> usize {
        let several = |of_key: &&[KeptEntry]| {
            let mut tags = of_key.iter().filter_map(|entry| entry.data.as_ref()).map(|data| &data.etag);
            tags.next().is_some_and(|first| tags.any(|tag| tag != first))
        };
        self.by_key().filter(several).count()
    }

    /// Number of delete markers in this range of time, its end included and its beginning not.
    pub fn deletions_between(&self, after: Timestamp, until: Timestamp) -> usize {
        let is_in =
            |entry: &&KeptEntry| entry.data.is_none() && entry.last_modified > after && entry.last_modified <= until;
        self.entries.iter().filter(is_in).count()
    }

    /// The different times of all entries up to `at`, the newest first, and whether any entry of that time is a delete
    /// marker.
    pub fn events(&self, at: Timestamp) -> Vec<(Timestamp, bool)> {
        let mut events: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| entry.last_modified <= at)
            .map(|entry| (entry.last_modified, entry.data.is_none()))
            .collect();
        // A marker comes before a version of the same time, and the duplicates behind it go.
        events.sort_unstable_by(|a, b| b.cmp(a));
        events.dedup_by_key(|event| event.0);
        events
    }

    /// Since when the history is complete, exactly.
    pub fn complete_since(&self) -> CompleteSince {
        self.completeness().since()
    }

    /// Whether no entry shows that history is missing.
    pub fn has_no_findings(&self) -> bool {
        self.completeness().has_no_findings()
    }

    /// Whether all entries were made while the bucket was not versioned, and there are some.
    pub fn is_never_versioned(&self) -> bool {
        !self.is_empty() && self.entries.iter().all(|entry| &*entry.version_id == NULL_VERSION)
    }

    fn completeness(&self) -> Completeness {
        let oldest = |of_key: &[KeptEntry]| of_key.len().checked_sub(1);
        let mut all: Vec<(Timestamp, &str, bool)> = self
            .by_key()
            .flat_map(|of_key| {
                let oldest = oldest(of_key);
                let is_orphan = move |i: usize, entry: &KeptEntry| Some(i) == oldest && entry.data.is_none();
                of_key.iter().enumerate().map(move |(i, e)| (e.last_modified, &*e.version_id, is_orphan(i, e)))
            })
            .collect();
        all.sort_unstable_by_key(|(time, ..)| *time);
        let mut found = Completeness::default();
        all.iter().for_each(|(time, id, is_orphan)| found.take(id, *time, *is_orphan));
        found
    }

    /// The objects that stood in the bucket at `at`, with their version ids.
    pub fn objects_at(&self, at: Timestamp) -> impl Iterator<Item = (ObjectMeta, &str)> {
        let mut rule = AtTime::new(at);
        self.entries.iter().filter_map(move |entry| {
            let key = self.key(entry);
            if !rule.stood(key, entry.last_modified, entry.data.is_none()) {
                return None;
            }
            let data = entry.data.as_ref()?;
            Some((data.object(key.to_owned(), entry.last_modified), &*entry.version_id))
        })
    }

    /// The replica at `path` as it was at `at`.
    pub fn replica_at(&self, path: &str, at: Timestamp) -> Replica {
        Replica::of(path, Layout::Hex, self.objects_at(at).map(|(object, _)| object))
    }

    /// Plays the history: calls `each` with each time, the earliest first, and with what the keys that have entries of
    /// that time were from then on. None: absent.
    pub fn replay<'a>(&'a self, mut each: impl FnMut(Timestamp, &[(&'a str, Option<ObjectMeta>)])) {
        let mut order: Vec<(Timestamp, usize)> =
            self.entries.iter().enumerate().map(|(i, entry)| (entry.last_modified, i)).collect();
        // Of entries of one key and time, the one that is listed first is the newest, and comes last.
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut changes: Vec<(&str, Option<ObjectMeta>)> = Vec::new();
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            changes.clear();
            for entry in group.iter().filter_map(|(_, i)| self.entries.get(*i)) {
                let key = self.key(entry);
                let object = entry.data.as_ref().map(|data| data.object(key.to_owned(), entry.last_modified));
                match changes.last_mut() {
                    Some((last, now)) if *last == key => *now = object,
                    _ => changes.push((key, object)),
                }
            }
            if let Some((time, _)) = group.first() {
                each(*time, &changes);
            }
        }
    }

    /// All versions of the history, in the order of the listing.
    pub fn spans(&self) -> impl Iterator<Item = VersionSpan<'_>> {
        self.by_key().flat_map(move |of_key| {
            of_key.iter().enumerate().filter_map(move |(i, entry)| {
                let ended = match i.checked_sub(1).and_then(|newer| of_key.get(newer)) {
                    None => SpanEnd::Not,
                    Some(KeptEntry { data: None, last_modified, .. }) => SpanEnd::Deleted(*last_modified),
                    Some(KeptEntry { last_modified, .. }) => SpanEnd::Replaced(*last_modified),
                };
                let key = self.key(entry);
                Some(VersionSpan {
                    key,
                    ltx: ltx_name(key),
                    version_id: &entry.version_id,
                    created: entry.last_modified,
                    ended,
                    is_latest: entry.is_latest,
                    data: entry.data.as_deref()?,
                })
            })
        })
    }

    fn by_key(&self) -> impl Iterator<Item = &[KeptEntry]> {
        self.entries.chunk_by(|a, b| a.key == b.key)
    }

    fn key(&self, entry: &KeptEntry) -> &str {
        debug_assert!((entry.key as usize) < self.keys.len(), "an entry has a key");
        self.keys.get(entry.key as usize).map_or("", |key| &**key)
    }
}

fn ltx_name(key: &str) -> Option<(Level, Txid, Txid)> {
    match key::parse(key)?.kind {
        key::KeyKind::Ltx { level, min_txid, max_txid, .. } => Some((level, min_txid, max_txid)),
        key::KeyKind::V3(_) | key::KeyKind::V3Prerelease => None,
    }
}
