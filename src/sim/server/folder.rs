//! Folders as buckets: read as they are served, and written by the generator.

use super::objects::{Content, Object, Objects};
use crate::hex::Hex;
use crate::sim::generate::{GeneratedDatabase, GeneratedObject, State};
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

/// At the root of a folder that is a bucket: what S3 knows of the objects beside their bytes.
/// `{"objects": [{"key", "size", "metadata": {"litestream-timestamp": …}, "last_modified": …}]}`;
/// and, for those who check restores, `"databases": [{"key", "txid", "sha256", "bytes"}]`.
pub const SIDECAR: &str = ".hydrant-meta.json";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Sidecar {
    #[serde(default)]
    objects: Vec<Entry>,
    /// Written only.
    #[serde(default, skip_deserializing)]
    databases: Vec<Expected>,
}

/// The newest state of a database.
#[derive(Debug, Serialize)]
struct Expected {
    key: String,
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
    /// Puts the files below `folder` under `prefix`, read as they are served. `manifest` is a
    /// JSON file with an `objects` list of `key`, `metadata`, `last_modified` (see
    /// [`SIDECAR`]), which is looked for in the folder where None is given. Returns how
    /// many files there were.
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
                    object.last_modified = Timestamp::from_system_time(metadata.modified()?);
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

/// Writes a bucket's folder, file by file; [`Self::finish`] writes its [`SIDECAR`].
#[derive(Debug)]
pub struct FolderWriter {
    folder: PathBuf,
    sidecar: Sidecar,
}

impl FolderWriter {
    /// Makes the folder where there is none.
    pub fn create(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_path_buf(), sidecar: Sidecar::default() })
    }

    /// A file of a replica. Keys that a folder cannot hold (`..`, `//`) are an error.
    pub fn object(&mut self, object: &GeneratedObject) -> io::Result<()> {
        self.streamed(object, |file| file.write_all(&object.bytes))
    }

    /// A file whose bytes `write` writes; the object's own are not looked at.
    pub fn streamed(
        &mut self,
        object: &GeneratedObject,
        write: impl FnOnce(&mut io::BufWriter<File>) -> io::Result<()>,
    ) -> io::Result<()> {
        let relative = PathBuf::from(&object.key);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) || object.key.contains("//") {
            let what = format!("no file can have this key: {}", object.key);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let path = self.folder.join(relative);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = io::BufWriter::with_capacity(1 << 20, File::create(path)?);
        write(&mut file)?;
        let size = file.into_inner().map_err(io::IntoInnerError::into_error)?.metadata()?.len();
        self.sidecar.objects.push(Entry {
            key: object.key.clone(),
            size,
            metadata: BTreeMap::from([("litestream-timestamp".into(), object.litestream_timestamp.to_string())]),
            last_modified: Some(object.last_modified.to_string()),
        });
        Ok(())
    }

    /// Says what the newest state of the database below `root` must be.
    pub fn expected(&mut self, root: &str, state: &State) {
        self.sidecar.databases.push(Expected {
            key: root.to_owned(),
            txid: state.txid.to_string(),
            sha256: Hex(&state.sha256).to_string(),
            bytes: state.bytes,
        });
    }

    /// Returns how many files there are.
    pub fn finish(self) -> io::Result<usize> {
        let mut file = io::BufWriter::new(File::create(self.folder.join(SIDECAR))?);
        serde_json::to_writer(&mut file, &self.sidecar)?;
        file.flush()?;
        Ok(self.sidecar.objects.len())
    }
}

/// Writes databases as a bucket's folder; returns how many files there are.
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
