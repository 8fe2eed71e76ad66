//! The buckets and objects of a simulator, changeable while it runs.

use crate::process::locks;
use crate::sim::generate::GeneratedDatabase;
use crate::sim::random::{hash, mix};
use crate::timestamp::Timestamp;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::{Bound, Range};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

/// Produces the bytes of a range of a generated object.
pub type Generator = Arc<dyn Fn(Range<u64>) -> Bytes + Send + Sync>;

/// Where an object's bytes come from.
#[derive(Clone)]
pub enum Content {
    /// Served without copying.
    Memory(Bytes),
    /// Read as it is served.
    File { path: PathBuf, len: u64 },
    /// Made as it is served, in ranges of at most [`CHUNK_BYTES`].
    Generated { len: u64, make: Generator },
}

/// The size of the pieces in which bodies are handed to connections.
pub const CHUNK_BYTES: u64 = 128 * 1024;

impl Content {
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { len, .. } | Self::Generated { len, .. } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "Memory({} bytes)", bytes.len()),
            Self::File { path, len } => write!(f, "File({}, {len} bytes)", path.display()),
            Self::Generated { len, .. } => write!(f, "Generated({len} bytes)"),
        }
    }
}

/// An object.
#[derive(Debug, Clone)]
pub struct Object {
    pub content: Content,
    /// Without quotes.
    pub etag: String,
    pub last_modified: Timestamp,
    /// `x-amz-meta-` and a name: the name, lower-case, and the value.
    pub metadata: Vec<(String, String)>,
    /// STANDARD where None; GLACIER and DEEP_ARCHIVE cannot be read.
    pub storage_class: Option<String>,
}

impl Object {
    /// Content in memory, uploaded now, with an ETag of its own (32 hex digits).
    pub fn new(content: impl Into<Bytes>) -> Self {
        Self::with_content(Content::Memory(content.into()))
    }

    pub fn with_content(content: Content) -> Self {
        Self {
            etag: etag_of(&content),
            content,
            last_modified: Timestamp::now(),
            metadata: Vec::new(),
            storage_class: None,
        }
    }

    /// With the user metadata that Litestream writes.
    pub fn litestream_timestamp(mut self, timestamp: Timestamp) -> Self {
        self.metadata.push(("litestream-timestamp".into(), timestamp.to_string()));
        self
    }

    pub fn last_modified(mut self, last_modified: Timestamp) -> Self {
        self.last_modified = last_modified;
        self
    }

    pub fn metadata(mut self, name: &str, value: &str) -> Self {
        self.metadata.push((name.to_ascii_lowercase(), value.into()));
        self
    }
}

/// The ETag of given content: of the bytes where they are few, of samples where they are many.
/// As opaque as S3 says ETags are: no MD5.
fn etag_of(content: &Content) -> String {
    let seed = match content {
        Content::Memory(bytes) if bytes.len() <= 64 * 1024 => hash(1, bytes),
        Content::Memory(bytes) => {
            let step = bytes.len() / 16;
            bytes
                .chunks(step.max(1))
                .fold(bytes.len() as u64, |state, chunk| hash(state, chunk.get(..1024).unwrap_or(chunk)))
        }
        Content::File { path, len } => hash(*len, path.as_os_str().as_encoded_bytes()),
        Content::Generated { len, .. } => mix(*len),
    };
    format!("{:016x}{:016x}", mix(seed), mix(seed ^ 0x5555))
}

type Bucket = BTreeMap<Arc<str>, Arc<Object>>;

/// The buckets. Cheap to clone: all clones are the same buckets.
#[derive(Debug, Clone, Default)]
pub struct Objects(Arc<RwLock<HashMap<String, Bucket>>>);

impl Objects {
    pub fn create_bucket(&self, bucket: &str) {
        self.write().entry(bucket.to_owned()).or_default();
    }

    /// Removes an empty bucket; false where it is not empty.
    pub fn remove_bucket(&self, bucket: &str) -> bool {
        let mut buckets = self.write();
        let empty = buckets.get(bucket).is_none_or(BTreeMap::is_empty);
        if empty {
            buckets.remove(bucket);
        }
        empty
    }

    /// Sorted.
    pub fn buckets(&self) -> Vec<String> {
        let mut names: Vec<String> = self.read().keys().cloned().collect();
        names.sort();
        names
    }

    pub fn has_bucket(&self, bucket: &str) -> bool {
        self.read().contains_key(bucket)
    }

    /// Puts an object, in place of any other of that key; makes the bucket where there is none.
    pub fn put(&self, bucket: &str, key: &str, object: Object) {
        self.write().entry(bucket.to_owned()).or_default().insert(key.into(), Arc::new(object));
    }

    /// Whether there was such an object.
    pub fn remove(&self, bucket: &str, key: &str) -> bool {
        self.write().get_mut(bucket).is_some_and(|objects| objects.remove(key).is_some())
    }

    pub fn get(&self, bucket: &str, key: &str) -> Option<Arc<Object>> {
        self.read().get(bucket)?.get(key).cloned()
    }

    /// Changes an object in place, ETag and all.
    pub fn update(&self, bucket: &str, key: &str, change: impl FnOnce(&mut Object)) -> bool {
        let mut buckets = self.write();
        let Some(object) = buckets.get_mut(bucket).and_then(|objects| objects.get_mut(key)) else { return false };
        change(Arc::make_mut(object));
        true
    }

    /// Sorted keys that begin with `prefix`.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.read().get(bucket).map_or_else(Vec::new, |objects| {
            let from = (Bound::Included(prefix), Bound::Unbounded);
            objects
                .range::<str, _>(from)
                .map(|(key, _)| key.to_string())
                .take_while(|key| key.starts_with(prefix))
                .collect()
        })
    }

    /// How many objects there are in all buckets.
    pub fn count(&self) -> usize {
        self.read().values().map(BTreeMap::len).sum()
    }

    /// Puts a generated database's files, with Litestream's metadata.
    pub fn put_database(&self, bucket: &str, database: &GeneratedDatabase) {
        let mut buckets = self.write();
        let objects = buckets.entry(bucket.to_owned()).or_default();
        for generated in &database.objects {
            let object = Object::new(generated.bytes.clone())
                .litestream_timestamp(generated.litestream_timestamp)
                .last_modified(generated.last_modified);
            objects.insert(generated.key.as_str().into(), Arc::new(object));
        }
    }

    /// Reads all objects that are files into memory, so that serving them copies nothing.
    pub fn read_into_memory(&self) -> std::io::Result<()> {
        let mut buckets = self.write();
        for object in buckets.values_mut().flat_map(BTreeMap::values_mut) {
            if let Content::File { path, .. } = &object.content {
                let content = Content::Memory(std::fs::read(path)?.into());
                Arc::make_mut(object).content = content;
            }
        }
        Ok(())
    }

    /// Calls `visit` with the objects of `bucket` whose keys lie after `from`, in order, until it
    /// says where to go on: [`Step::Stop`], or past a prefix. False where there is no bucket.
    pub(super) fn walk(&self, bucket: &str, from: Bound<&str>, mut visit: impl FnMut(&str, &Object) -> Step) -> bool {
        let buckets = self.read();
        let Some(objects) = buckets.get(bucket) else { return false };
        let mut skipped: Option<String> = None;
        loop {
            let start = skipped.as_deref().map_or(from, Bound::Included);
            let mut next = None;
            for (key, object) in objects.range::<str, _>((start, Bound::Unbounded)) {
                match visit(key, object) {
                    Step::Next => {}
                    Step::Stop => return true,
                    Step::SkipTo(to) => {
                        next = Some(to);
                        break;
                    }
                }
            }
            match next {
                Some(to) => skipped = Some(to),
                None => return true,
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<String, Bucket>> {
        locks::read(&self.0)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, Bucket>> {
        locks::write(&self.0)
    }
}

/// Where a walk goes on.
pub(super) enum Step {
    Next,
    /// To the first key that is not below this one.
    SkipTo(String),
    Stop,
}
