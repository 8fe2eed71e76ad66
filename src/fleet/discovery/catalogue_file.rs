//! Saved catalogues as files: what a discovery has listed is written to one, or it is read from one and nothing is
//! listed (docs/CLI.md, "One catalogue").

use crate::catalogue::saved::{
    CatalogueHead, CatalogueReader, CatalogueSource, CatalogueWriter, SavedError, SavedRecord,
};
use crate::catalogue::{CatalogueMemory, LtxFile, Replica, V3File};
use crate::commit::OwnFile;
use crate::error::{BUG, escaped};
use crate::process::locks::lock;
use crate::store::{StoreError, Unlisted};
use crate::timestamp::Timestamp;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use thiserror::Error;

/// What a database takes in memory besides its files and the text of its root.
const DATABASE_BYTES: usize = 160;

/// Whether a discovery lists, and whether it writes down what it has listed.
#[derive(Debug, Clone, Default)]
pub enum CatalogueUse {
    /// The stores are listed.
    #[default]
    List,
    /// The stores are listed, and the whole list is written to this file, that of other shards too.
    Save(Arc<CatalogueFile>),
    /// Nothing is listed: all is read from the file at this path.
    Saved(Arc<Path>),
}

impl CatalogueUse {
    /// Whether the files of all shards are wanted.
    pub(super) fn is_saving(&self) -> bool {
        matches!(self, Self::Save(_))
    }
}

/// The file that a catalogue is written to. It gets its name when it is complete.
#[derive(Debug)]
pub struct CatalogueFile {
    path: PathBuf,
    /// None: it was written, or that has failed.
    file: Mutex<Option<OwnFile>>,
}

impl CatalogueFile {
    /// Creates the file under a temporary name, so that a run finds out at its beginning if it cannot be written.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: Mutex::new(Some(OwnFile::create(path)?)) })
    }

    /// Writes a catalogue with this head and the records that `each` adds.
    pub(super) fn write(
        &self,
        head: &CatalogueHead,
        each: impl FnOnce(&mut CatalogueWriter<BufWriter<&File>>) -> Result<(), SavedError>,
    ) -> Result<(), CatalogueFileError> {
        let write = || {
            let missing = || SavedError::Io(format!("{BUG}: the catalogue is written twice"));
            let file = lock(&self.file).take().ok_or_else(missing)?;
            let mut writer = CatalogueWriter::new(BufWriter::new(file.file()), head)?;
            each(&mut writer)?;
            writer.finish()?.into_inner().map_err(|e| SavedError::from(e.into_error()))?;
            file.sync()?;
            Ok(file.publish()?)
        };
        write().map_err(|error| CatalogueFileError::Write { path: self.path.clone(), error })
    }
}

/// Why a catalogue cannot be written or used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogueFileError {
    /// It cannot be read, or it is not the one that is wanted.
    #[error("catalogue {}: {error}", shown(.path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: SavedError,
    },
    /// It cannot be written.
    #[error("cannot write the catalogue {}: {error}", shown(.path))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: SavedError,
    },
}

impl CatalogueFileError {
    /// Class of this error in the error log (docs/CLI.md, "Error log classes").
    pub fn class(&self) -> crate::error::Class {
        match self {
            Self::Read { error, .. } | Self::Write { error, .. } => error.class(),
        }
    }
}

fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// The head of a catalogue of `source` whose listing began at `time`.
pub(super) fn head(source: CatalogueSource, time: Timestamp) -> CatalogueHead {
    CatalogueHead { time, program: env!("CARGO_PKG_VERSION").to_owned(), source }
}

/// What a catalogue holds of this run's databases. Stores are indexes into those of its source.
#[derive(Debug, Default)]
pub(super) struct LoadedCatalogue {
    /// When the listing began.
    pub time: Option<Timestamp>,
    /// The databases of this run, with their files.
    pub replicas: Vec<(usize, Replica)>,
    /// The number of databases that are not of this run.
    pub others: u64,
    /// Their roots, if they were asked for.
    pub names: Vec<(usize, String)>,
    /// What could not be listed.
    pub unlisted: Vec<(usize, Unlisted)>,
    /// Entries of the configuration whose listing failed, by their paths.
    pub failed: Vec<(String, StoreError)>,
}

/// Why a catalogue cannot be used.
#[derive(Debug)]
pub(in crate::fleet) enum CatalogueFailure {
    File(CatalogueFileError),
    /// The list needs more memory than is allowed.
    Memory(StoreError),
}

impl From<CatalogueFileError> for CatalogueFailure {
    fn from(error: CatalogueFileError) -> Self {
        Self::File(error)
    }
}

/// Reads the catalogue at `path`, which must be one of `source`. `is_ours` says of a store and a root whether the
/// database is of this run: the files of others are not kept, and their roots only if `keeps_names`.
pub(super) fn load(
    path: &Path,
    source: &CatalogueSource,
    memory: &CatalogueMemory,
    is_ours: &dyn Fn(usize, &str) -> bool,
    keeps_names: bool,
) -> Result<LoadedCatalogue, CatalogueFailure> {
    let of_file = |error| CatalogueFailure::File(CatalogueFileError::Read { path: path.to_owned(), error });
    let file = File::open(path).map_err(|e| of_file(SavedError::Io(e.to_string())))?;
    let mut reader = CatalogueReader::new(BufReader::new(file)).map_err(of_file)?;
    reader.head().source.check(source).map_err(of_file)?;
    let mut loaded = LoadedCatalogue { time: Some(reader.head().time), ..LoadedCatalogue::default() };
    let (mut charge, mut bytes) = (memory.charge(), 0);
    // Ends: each turn reads a byte of the file at least.
    while let Some(record) = reader.next_record().map_err(of_file)? {
        match record {
            SavedRecord::Database { store, replica } if is_ours(store, &replica.root) => {
                bytes += memory_of(&replica);
                charge.set(bytes as u64, "").map_err(|error| {
                    CatalogueFailure::Memory(StoreError { what: format!("catalogue {}", shown(path)), ..error })
                })?;
                loaded.replicas.push((store, replica));
            }
            SavedRecord::Database { store, replica: Replica { root, .. } } | SavedRecord::Name { store, root } => {
                loaded.others += 1;
                if keeps_names {
                    bytes += DATABASE_BYTES + root.len();
                    loaded.names.push((store, root));
                }
            }
            SavedRecord::Unlisted { store, unlisted } => loaded.unlisted.push((store, unlisted)),
            SavedRecord::Failed { name, error } => loaded.failed.push((name, error)),
        }
    }
    charge.keep();
    Ok(loaded)
}

fn memory_of(replica: &Replica) -> usize {
    let v3 = replica.v3.as_ref().map_or(0, |v3| v3.files.len() * size_of::<V3File>());
    let others: usize = replica.others.iter().map(memory_of).sum();
    DATABASE_BYTES + replica.root.len() + replica.files.len() * size_of::<LtxFile>() + v3 + others
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::saved::SavedStore;
    use crate::catalogue::{CatalogueLimit, Layout};
    use crate::fleet::discovery::found::key_of;
    use crate::fleet::discovery::shard::Shard;
    use crate::store::ObjectMeta;

    const DATABASES: usize = 2_000;
    const FILES: u64 = 10;

    fn source() -> CatalogueSource {
        let store = SavedStore { kind: "s3".to_owned(), bucket: "b".to_owned(), endpoint: String::new() };
        CatalogueSource { pattern: "**".to_owned(), stores: vec![store], entries: None }
    }

    fn replica(number: usize) -> Replica {
        let objects = (1..=FILES).map(|txid| ObjectMeta {
            key: format!("t/{number:06}.db/000{}/{:016x}-{txid:016x}.ltx", if txid == 1 { 9 } else { 0 }, txid),
            size: 100,
            last_modified: Timestamp::from_millis(0),
            etag: None,
            archived: false,
        });
        Replica::of(&format!("t/{number:06}.db"), Layout::Hex, objects)
    }

    /// A catalogue that does not fit the memory of one host is loaded share by share.
    #[test]
    fn memory_is_taken_for_this_share_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fleet.cat");
        let file = CatalogueFile::create(&path).unwrap();
        let replicas: Vec<Replica> = (0..DATABASES).map(replica).collect();
        let head = head(source(), Timestamp::from_millis(5));
        file.write(&head, |catalogue| replicas.iter().try_for_each(|replica| catalogue.database(0, replica))).unwrap();
        let twice = file.write(&head, |_| Ok(())).unwrap_err();
        assert!(twice.to_string().contains(BUG), "{twice}");

        let whole: usize = replicas.iter().map(memory_of).sum();
        assert!(whole > DATABASES * FILES as usize * 64);
        let limit_bytes = whole as u64 / 3;
        let limit = CatalogueLimit { budget_bytes: limit_bytes, limit_bytes };
        let memory = CatalogueMemory::new(limit);
        let Err(CatalogueFailure::Memory(error)) = load(&path, &source(), &memory, &|_, _| true, false) else {
            panic!()
        };
        let text = error.to_string();
        assert!(text.starts_with("catalogue ") && text.contains("--shard"), "{text}");
        let mut found = 0;
        for index in 0..16 {
            let shard = Shard { index, of: 16 };
            let memory = CatalogueMemory::new(limit);
            let loaded = load(&path, &source(), &memory, &|_, root| shard.takes(key_of(root)), index % 2 == 0);
            let Ok(loaded) = loaded else { panic!("share {index}") };
            assert_eq!(loaded.replicas.len() as u64 + loaded.others, DATABASES as u64);
            assert_eq!(loaded.names.len() as u64, if index % 2 == 0 { loaded.others } else { 0 });
            found += loaded.replicas.len();
        }
        assert_eq!(found, DATABASES);
        let Err(CatalogueFailure::File(error)) = load(&dir.path().join("x"), &source(), &memory, &|_, _| true, false)
        else {
            panic!()
        };
        assert_eq!(error.class(), crate::error::Class::Io);
    }
}
