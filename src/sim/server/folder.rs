//! Folders as buckets: read as they are served, and written by the generator.

use super::objects::{Content, Object, Objects};
use crate::sim::generate::GeneratedObject;
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

/// At the root of a folder that is a bucket: what S3 knows of the objects beside their bytes.
/// `{"objects": [{"key", "size", "metadata": {"litestream-timestamp": …}, "last_modified": …}]}`.
pub const SIDECAR: &str = ".hydrant-meta.json";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Sidecar {
    #[serde(default)]
    objects: Vec<Entry>,
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

pub(super) fn load(
    objects: &Objects,
    bucket: &str,
    prefix: &str,
    folder: &Path,
    manifest: Option<&Path>,
) -> io::Result<usize> {
    objects.create_bucket(bucket);
    let in_folder = folder.join(SIDECAR);
    let manifest = manifest.or_else(|| in_folder.is_file().then_some(in_folder.as_path()));
    let sidecar: Sidecar = match manifest {
        Some(path) => serde_json::from_reader(io::BufReader::new(std::fs::File::open(path)?))?,
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
                objects.put(bucket, &format!("{prefix}{key}"), object);
                count += 1;
            }
        }
    }
    Ok(count)
}

/// Writes objects as a bucket's folder with its [`SIDECAR`]. Keys that a folder cannot hold
/// (`..`, a leading slash) are an error.
pub fn write_folder<'a>(folder: &Path, objects: impl IntoIterator<Item = &'a GeneratedObject>) -> io::Result<usize> {
    let mut sidecar = Sidecar::default();
    std::fs::create_dir_all(folder)?;
    for object in objects {
        let relative = PathBuf::from(&object.key);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) || object.key.contains("//") {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no file can have this key: {}", object.key),
            ));
        }
        let path = folder.join(relative);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, &object.bytes)?;
        sidecar.objects.push(Entry {
            key: object.key.clone(),
            size: object.bytes.len() as u64,
            metadata: BTreeMap::from([("litestream-timestamp".into(), object.litestream_timestamp.to_string())]),
            last_modified: Some(object.last_modified.to_string()),
        });
    }
    let mut file = io::BufWriter::new(std::fs::File::create(folder.join(SIDECAR))?);
    serde_json::to_writer(&mut file, &sidecar)?;
    file.flush()?;
    Ok(sidecar.objects.len())
}
