//! The buckets and objects of the S3 simulator. Tests may change them while the simulator runs.

use crate::process::locks;
use crate::sim::generate::GeneratedDatabase;
use crate::sim::generate::v3::GeneratedV3;
use crate::sim::random::{hash, mix};
use crate::timestamp::Timestamp;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::{Bound, Range};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

/// A function that produces the bytes of a range of an object.
pub type Generator = Arc<dyn Fn(Range<u64>) -> Bytes + Send + Sync>;

/// The source of an object's bytes.
#[derive(Clone)]
pub enum Content {
    /// Bytes in memory, which are served without copying.
    Memory(Bytes),
    /// A file that is read while it is served.
    File {
        /// The path of the file on disk.
        path: PathBuf,
        /// The length of the file in bytes.
        len: u64,
    },
    /// Bytes that are generated while they are served, in ranges of at most [`CHUNK_BYTES`].
    Generated {
        /// The length of the generated object in bytes.
        len: u64,
        /// The function that generates a range of the bytes.
        make: Generator,
    },
}

/// The size in bytes of the pieces in which bodies are sent.
pub const CHUNK_BYTES: u64 = 128 * 1024;

impl Content {
    /// The length of the object in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { len, .. } | Self::Generated { len, .. } => *len,
        }
    }

    /// Whether the object has no bytes.
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

/// An object in a bucket of the simulator.
#[derive(Debug, Clone)]
pub struct Object {
    /// The bytes of the object.
    pub content: Content,
    /// The ETag of the object without quotes.
    pub etag: String,
    /// The time of the upload, which S3 calls LastModified.
    pub last_modified: Timestamp,
    /// The user metadata as (name, value). The name is in lower case and lacks its prefix `x-amz-meta-`.
    pub metadata: Vec<(String, String)>,
    /// The storage class. None is STANDARD. A GET of GLACIER or DEEP_ARCHIVE is refused.
    pub storage_class: Option<String>,
}

impl Object {
    /// Creates an object with its content in memory. Its upload time is now, and its ETag (32 hexadecimal digits)
    /// is computed from the content.
    pub fn new(content: impl Into<Bytes>) -> Self {
        Self::with_content(Content::Memory(content.into()))
    }

    /// Creates an object whose upload time is now and whose ETag is computed from the content.
    pub fn with_content(content: Content) -> Self {
        Self {
            etag: etag_of(&content),
            content,
            last_modified: in_whole_millis(Timestamp::now()),
            metadata: Vec::new(),
            storage_class: None,
        }
    }

    /// Adds the metadata `litestream-timestamp`, which Litestream writes.
    pub fn litestream_timestamp(mut self, timestamp: Timestamp) -> Self {
        self.metadata.push(("litestream-timestamp".into(), timestamp.to_string()));
        self
    }

    /// Sets the time of the upload, which S3 calls LastModified.
    pub fn last_modified(mut self, last_modified: Timestamp) -> Self {
        self.last_modified = last_modified;
        self
    }

    /// Adds user metadata. `name` is without the prefix `x-amz-meta-`.
    pub fn metadata(mut self, name: &str, value: &str) -> Self {
        self.metadata.push((name.to_ascii_lowercase(), value.into()));
        self
    }
}

/// The time without a fraction of a millisecond. Services store LastModified in milliseconds or seconds.
pub(super) fn in_whole_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_nanos().div_euclid(1_000_000))
}

/// Computes an ETag from the content: from all bytes if they are few, else from samples. As in S3, clients must not
/// rely on its form; it is not an MD5.
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

/// The buckets of a server. Clones refer to the same buckets.
#[derive(Debug, Clone, Default)]
pub struct Objects(Arc<RwLock<HashMap<String, Bucket>>>);

impl Objects {
    /// Creates an empty bucket, unless it exists.
    pub fn create_bucket(&self, bucket: &str) {
        self.write().entry(bucket.to_owned()).or_default();
    }

    /// Removes a bucket. Returns false, and removes nothing, if it is not empty.
    pub fn remove_bucket(&self, bucket: &str) -> bool {
        let mut buckets = self.write();
        let empty = buckets.get(bucket).is_none_or(BTreeMap::is_empty);
        if empty {
            buckets.remove(bucket);
        }
        empty
    }

    /// The names of all buckets, sorted.
    pub fn buckets(&self) -> Vec<String> {
        let mut names: Vec<String> = self.read().keys().cloned().collect();
        names.sort();
        names
    }

    /// Whether the bucket exists.
    pub fn has_bucket(&self, bucket: &str) -> bool {
        self.read().contains_key(bucket)
    }

    /// Stores an object, replacing one with the same key. The bucket is created if it does not exist.
    pub fn put(&self, bucket: &str, key: &str, object: Object) {
        self.write().entry(bucket.to_owned()).or_default().insert(key.into(), Arc::new(object));
    }

    /// Removes an object. Returns whether it existed.
    pub fn remove(&self, bucket: &str, key: &str) -> bool {
        self.write().get_mut(bucket).is_some_and(|objects| objects.remove(key).is_some())
    }

    /// The object with this key, if it exists.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Arc<Object>> {
        self.read().get(bucket)?.get(key).cloned()
    }

    /// Changes an object in place, for example its ETag. Returns whether it existed.
    pub fn update(&self, bucket: &str, key: &str, change: impl FnOnce(&mut Object)) -> bool {
        let mut buckets = self.write();
        let Some(object) = buckets.get_mut(bucket).and_then(|objects| objects.get_mut(key)) else { return false };
        change(Arc::make_mut(object));
        true
    }

    /// The keys that begin with `prefix`, sorted.
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

    /// The number of objects in all buckets of the simulator.
    pub fn count(&self) -> usize {
        self.read().values().map(BTreeMap::len).sum()
    }

    /// Stores the files of a generated database with the metadata that Litestream writes.
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

    /// Stores the objects of a generated replica of Litestream 0.3, with their times.
    pub fn put_v3(&self, bucket: &str, replica: &GeneratedV3) {
        let mut buckets = self.write();
        let objects = buckets.entry(bucket.to_owned()).or_default();
        for generated in &replica.objects {
            let object = Object::new(generated.bytes.clone()).last_modified(generated.last_modified);
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

    /// Calls `visit` for the objects of `bucket` whose keys lie after `from`, in order. `visit` returns how to go
    /// on: with the next key, behind a prefix, or not at all. The result is false if the bucket does not exist.
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

/// The way in which a walk over the objects goes on.
pub(super) enum Step {
    Next,
    /// Continue with the first key that is not less than this one.
    SkipTo(String),
    Stop,
}
