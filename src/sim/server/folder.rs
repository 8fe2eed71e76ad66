//! Folders that are served as buckets, and the writer of such folders.

use super::objects::{Content, Object, Objects, in_whole_millis};
use crate::hex::Hex;
use crate::sim::generate::v3::{GeneratedV3, GeneratedV3Object, V3Content};
use crate::sim::generate::{GeneratedDatabase, GeneratedObject, State};
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The name of a file at the top of a bucket's folder. It holds what S3 knows of the objects in addition to their
/// bytes.
///
/// The format is JSON: `{"objects": [{"key", "size", "metadata": {"litestream-timestamp": …}, "last_modified":
/// …}]}`. A list `"databases": [{"key", "txid", "sha256", "bytes"}]` holds the states that restores must give, for
/// scripts that check them.
pub const SIDECAR: &str = ".hydrant-meta.json";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Sidecar {
    #[serde(default)]
    objects: Vec<Entry>,
    /// The states that restores must give. The server does not read them.
    #[serde(default, skip_deserializing)]
    databases: Vec<Expected>,
}

/// The newest state of one database, which a restore must give.
#[derive(Debug, Serialize)]
struct Expected {
    key: String,
    /// Empty for replicas of Litestream 0.3, which have no TXIDs.
    txid: String,
    sha256: String,
    bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    key: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
}

impl Objects {
    /// Adds the files below `folder` to `bucket`, with keys that begin with `prefix`. The files are read when they
    /// are served. `manifest` is a JSON file with metadata and times in the format of [`SIDECAR`]. If it is None,
    /// the folder's own [`SIDECAR`] is used, if there is one. Returns the number of files.
    pub fn load_folder(&self, bucket: &str, prefix: &str, folder: &Path, manifest: Option<&Path>) -> io::Result<usize> {
        self.create_bucket(bucket);
        let in_folder = folder.join(SIDECAR);
        let manifest = manifest.or_else(|| in_folder.is_file().then_some(in_folder.as_path()));
        let sidecar: Sidecar = match manifest {
            Some(path) => serde_json::from_reader(io::BufReader::new(File::open(path)?))?,
            None => Sidecar::default(),
        };
        let mut known: HashMap<String, Entry> =
            sidecar.objects.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let mut folders = vec![(folder.to_path_buf(), String::new())];
        let mut count = 0;
        while let Some((path, below)) = folders.pop() {
            for entry in std::fs::read_dir(&path)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let key = format!("{below}{name}");
                let metadata = std::fs::metadata(entry.path())?;
                if metadata.is_dir() {
                    folders.push((entry.path(), format!("{key}/")));
                } else if metadata.is_file() && key != SIDECAR {
                    let mut object = Object::with_content(Content::File { path: entry.path(), len: metadata.len() });
                    object.last_modified = in_whole_millis(Timestamp::from_system_time(metadata.modified()?));
                    if let Some(entry) = known.remove(&key) {
                        object.metadata.extend(entry.metadata);
                        if let Some(time) = entry.last_modified.as_deref().and_then(Timestamp::parse_rfc3339) {
                            object.last_modified = time;
                        }
                    }
                    self.put(bucket, &format!("{prefix}{key}"), object);
                    count += 1;
                }
            }
        }
        Ok(count)
    }
}

/// Writes the folder of a bucket file by file. [`Self::finish`] writes its [`SIDECAR`].
#[derive(Debug)]
pub struct FolderWriter {
    folder: PathBuf,
    sidecar: Sidecar,
}

impl FolderWriter {
    /// Begins a folder, which is created if it does not exist.
    pub fn create(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_path_buf(), sidecar: Sidecar::default() })
    }

    /// Writes one file of a replica. It is an error if the key has parts that a folder cannot hold, such as `..` or
    /// `//`.
    pub fn object(&mut self, object: &GeneratedObject) -> io::Result<()> {
        self.streamed(object, |file| file.write_all(&object.bytes))
    }

    /// Writes one file whose bytes come from `write`. The bytes in `object` are ignored.
    pub fn streamed(
        &mut self,
        object: &GeneratedObject,
        write: impl FnOnce(&mut io::BufWriter<File>) -> io::Result<()>,
    ) -> io::Result<()> {
        let metadata = BTreeMap::from([("litestream-timestamp".into(), object.litestream_timestamp.to_string())]);
        self.write(&object.key, metadata, object.last_modified, write).map(drop)
    }

    /// Writes one object of a replica of Litestream 0.3. The file's mtime is the object's time, as in a file replica.
    pub fn v3_object(&mut self, object: &GeneratedV3Object) -> io::Result<()> {
        self.v3_streamed(object, |file| file.write_all(&object.bytes))
    }

    /// Writes one object of a replica of Litestream 0.3 whose bytes come from `write`. The bytes in `object` are
    /// ignored.
    pub fn v3_streamed(
        &mut self,
        object: &GeneratedV3Object,
        write: impl FnOnce(&mut io::BufWriter<File>) -> io::Result<()>,
    ) -> io::Result<()> {
        let file = self.write(&object.key, BTreeMap::new(), object.last_modified, write)?;
        let nanos = u64::try_from(object.last_modified.as_nanos()).unwrap_or(0);
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos))
    }

    fn write(
        &mut self,
        key: &str,
        metadata: BTreeMap<String, String>,
        last_modified: Timestamp,
        write: impl FnOnce(&mut io::BufWriter<File>) -> io::Result<()>,
    ) -> io::Result<File> {
        let relative = PathBuf::from(key);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) || key.contains("//") {
            let what = format!("no file can have this key: {key}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let path = self.folder.join(relative);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = io::BufWriter::with_capacity(1 << 20, File::create(path)?);
        write(&mut file)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.sidecar.objects.push(Entry {
            key: key.to_owned(),
            size: file.metadata()?.len(),
            metadata,
            last_modified: Some(last_modified.to_string()),
        });
        Ok(file)
    }

    /// Records the newest state that a restore of the database below `root` must give.
    pub fn expected(&mut self, root: &str, state: &State) {
        self.sidecar.databases.push(Expected {
            key: root.to_owned(),
            txid: state.txid.to_string(),
            sha256: Hex(&state.sha256).to_string(),
            bytes: state.bytes,
        });
    }

    /// Records the newest state that a restore of the replica of Litestream 0.3 below `root` must give.
    pub fn expected_v3(&mut self, root: &str, content: &V3Content) {
        self.sidecar.databases.push(Expected {
            key: root.to_owned(),
            txid: String::new(),
            sha256: Hex(&content.sha256).to_string(),
            bytes: content.bytes,
        });
    }

    /// Writes the [`SIDECAR`] and returns the number of files in the folder.
    pub fn finish(self) -> io::Result<usize> {
        let mut file = io::BufWriter::new(File::create(self.folder.join(SIDECAR))?);
        serde_json::to_writer(&mut file, &self.sidecar)?;
        file.flush()?;
        Ok(self.sidecar.objects.len())
    }
}

/// Writes databases as the folder of a bucket. Returns the number of files.
pub fn write_folder(folder: &Path, databases: &[GeneratedDatabase]) -> io::Result<usize> {
    let mut writer = FolderWriter::create(folder)?;
    for database in databases {
        for object in &database.objects {
            writer.object(object)?;
        }
        writer.expected(&database.root, &database.expected);
    }
    writer.finish()
}

/// Writes replicas of Litestream 0.3 as the folder of a bucket. Returns the number of files.
pub fn write_v3_folder(folder: &Path, replicas: &[GeneratedV3]) -> io::Result<usize> {
    let mut writer = FolderWriter::create(folder)?;
    for replica in replicas {
        for object in &replica.objects {
            writer.v3_object(object)?;
        }
        if let Some(newest) = replica.newest() {
            writer.expected_v3(&replica.root, &newest);
        }
    }
    writer.finish()
}
