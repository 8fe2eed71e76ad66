//! The versions of the objects in versioned buckets: what was put and deleted, the newest first.
//!
//! A bucket has versions as soon as one is put. From then on it is changed only by [`Versions::put_version`],
//! [`Versions::put_marker`] and [`Versions::remove_version`].

use super::objects::{Object, Objects, in_whole_millis};
use crate::process::locks;
use crate::timestamp::Timestamp;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, RwLock};

/// One entry of the history of a key.
#[derive(Debug, Clone)]
pub struct VersionEntry {
    /// The version id. `null` if the entry was made while the bucket was not versioned.
    pub id: String,
    /// The time of the PUT or the deletion.
    pub last_modified: Timestamp,
    /// The object. None: a delete marker.
    pub object: Option<Arc<Object>>,
}

type History = BTreeMap<String, Vec<VersionEntry>>;

/// The histories of all versioned buckets, by bucket, and the objects that are there now. Clones refer to the same.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    objects: Objects,
    histories: Arc<RwLock<HashMap<String, History>>>,
}

/// What a version id names.
pub(super) enum Found {
    Object(Arc<Object>),
    Marker,
    Absent,
    Malformed,
}

/// A recorded history: the entries below a prefix, in the order of the listing.
#[derive(Deserialize)]
struct Recorded {
    prefix: String,
    versions: Vec<RecordedEntry>,
}

#[derive(Deserialize)]
struct RecordedEntry {
    key: String,
    version_id: String,
    last_modified: String,
    marker: bool,
    #[serde(default)]
    etag: String,
    #[serde(default)]
    sha256: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl Versions {
    /// The versions of `objects`, none so far.
    pub(super) fn of(objects: Objects) -> Self {
        Self { objects, histories: Arc::default() }
    }

    /// Adds a version, the newest of its key. One with the id `null` destroys an earlier one with this id.
    pub fn put_version(&self, bucket: &str, key: &str, id: &str, object: Object) {
        self.objects.put(bucket, key, object.clone());
        let last_modified = object.last_modified;
        self.add(bucket, key, VersionEntry { id: id.to_owned(), last_modified, object: Some(Arc::new(object)) });
    }

    /// Deletes a key, which adds a marker. One with the id `null` destroys an earlier version with this id.
    pub fn put_marker(&self, bucket: &str, key: &str, id: &str, at: Timestamp) {
        self.objects.create_bucket(bucket);
        self.objects.remove(bucket, key);
        let last_modified = in_whole_millis(at);
        self.add(bucket, key, VersionEntry { id: id.to_owned(), last_modified, object: None });
    }

    /// Removes an entry for good, as a lifecycle rule does. Returns whether it was there.
    pub fn remove_version(&self, bucket: &str, key: &str, id: &str) -> bool {
        let mut histories = locks::write(&self.histories);
        let Some(entries) = histories.get_mut(bucket).and_then(|history| history.get_mut(key)) else { return false };
        let before = entries.len();
        entries.retain(|entry| entry.id != id);
        entries.len() < before
    }

    /// The entries of a key, the newest first.
    pub fn entries(&self, bucket: &str, key: &str) -> Vec<VersionEntry> {
        let histories = locks::read(&self.histories);
        histories.get(bucket).and_then(|history| history.get(key)).cloned().unwrap_or_default()
    }

    /// Adds a recorded history to `bucket`. The content of each version is the file `objects/<sha256>` beside
    /// `file`. Returns the prefix that its keys begin with.
    pub fn load_history(&self, bucket: &str, file: &Path) -> io::Result<String> {
        let Recorded { prefix, versions } = serde_json::from_slice(&std::fs::read(file)?)?;
        let objects = file.with_file_name("objects");
        // Entries are listed newest first and added oldest first.
        for entry in versions.into_iter().rev() {
            let key = format!("{prefix}{}", entry.key);
            let at = Timestamp::parse_rfc3339(&entry.last_modified).ok_or(io::ErrorKind::InvalidData)?;
            if entry.marker {
                self.put_marker(bucket, &key, &entry.version_id, at);
                continue;
            }
            let mut object = Object::new(std::fs::read(objects.join(&entry.sha256))?).last_modified(at);
            object.etag = entry.etag.trim_matches('"').to_owned();
            object.metadata = entry
                .metadata
                .into_iter()
                .map(|(name, value)| (name.trim_start_matches("x-amz-meta-").to_owned(), value))
                .collect();
            self.put_version(bucket, &key, &entry.version_id, object);
        }
        Ok(prefix)
    }

    pub(super) fn version(&self, bucket: &str, key: &str, id: &str) -> Found {
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return Found::Malformed;
        }
        let histories = locks::read(&self.histories);
        let Some(history) = histories.get(bucket) else {
            return self.objects.get(bucket, key).filter(|_| id == "null").map_or(Found::Absent, Found::Object);
        };
        match history.get(key).and_then(|entries| entries.iter().find(|entry| entry.id == id)) {
            None => Found::Absent,
            Some(entry) => entry.object.clone().map_or(Found::Marker, Found::Object),
        }
    }

    /// Calls `visit` for the keys from `from` on, in order, with their entries, as long as it returns true. In a
    /// bucket without versions each object is an entry `null`. The result is false if the bucket does not exist.
    pub(super) fn walk_versions(
        &self,
        bucket: &str,
        from: Bound<&str>,
        mut visit: impl FnMut(&str, &[VersionEntry]) -> bool,
    ) -> bool {
        let histories = locks::read(&self.histories);
        if let Some(history) = histories.get(bucket) {
            let _ = history.range::<str, _>((from, Bound::Unbounded)).all(|(key, entries)| visit(key, entries));
            return true;
        }
        self.objects.walk(bucket, from, |key, object| {
            let entry = VersionEntry {
                id: "null".to_owned(),
                last_modified: object.last_modified,
                object: Some(Arc::new(object.clone())),
            };
            if visit(key, &[entry]) { super::objects::Step::Next } else { super::objects::Step::Stop }
        })
    }

    fn add(&self, bucket: &str, key: &str, entry: VersionEntry) {
        let mut histories = locks::write(&self.histories);
        let entries = histories.entry(bucket.to_owned()).or_default().entry(key.to_owned()).or_default();
        if entry.id == "null" {
            entries.retain(|before| before.id != "null");
        }
        entries.insert(0, entry);
    }
}
