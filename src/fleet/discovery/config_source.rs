//! A pattern over litestream.yml: the entries that it matches, with their stores.

use crate::catalogue::saved::{CatalogueSource, SavedStore};
use crate::config::{Config, ConfigError, EntryKind, Location, StoreConfig};
use crate::fleet::discovery::found::{id_of, key_of};
use crate::fleet::discovery::pattern::Pattern;
use crate::store::Store;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A pattern over a configuration's databases.
pub struct ConfigSource {
    pub(super) pattern: Pattern,
    pub(super) stores: Vec<Arc<OpenStore>>,
    pub(super) paths: Vec<PathEntry>,
    pub(super) dirs: Vec<DirEntry>,
    /// Entries that match and cannot be used, by path.
    pub(super) unusable: Vec<(String, ConfigError)>,
    /// The keys of all `path:` entries, also of those that do not match, without slashes at their ends.
    keys: HashSet<String>,
    /// The prefixes of all `dir:` entries, and which names below them they cover.
    prefixes: Vec<(String, EntryKind)>,
}

pub(super) struct OpenStore {
    /// Its index in [`ConfigSource::stores`].
    pub index: usize,
    pub config: StoreConfig,
    pub store: Store,
    /// Empty for files.
    bucket: String,
}

/// A `path:` entry that matches.
pub(super) struct PathEntry {
    /// Unique among the entries.
    pub name: String,
    pub path: PathBuf,
    pub store: Arc<OpenStore>,
    /// The path of its replica.
    pub key: String,
}

/// A `dir:` entry that may have databases that match.
pub(super) struct DirEntry {
    pub dir: PathBuf,
    pub kind: EntryKind,
    pub store: Arc<OpenStore>,
    /// The beginning of the keys of its databases.
    pub prefix: String,
    /// The beginning of the keys of its databases that can match: `prefix`, or longer.
    pub list_prefix: String,
}

impl ConfigSource {
    pub(in crate::fleet) fn new(
        pattern: Pattern,
        config: &Config,
        open: &mut dyn FnMut(&StoreConfig) -> Store,
    ) -> Self {
        let mut source = Self {
            pattern,
            stores: Vec::new(),
            paths: Vec::new(),
            dirs: Vec::new(),
            unusable: Vec::new(),
            keys: HashSet::new(),
            prefixes: Vec::new(),
        };
        let mut names = HashSet::new();
        for entry in &config.databases {
            match (&entry.kind, &entry.replica) {
                (EntryKind::Path(_), Ok(location)) => {
                    source.keys.insert(key_of(&location.path).to_owned());
                }
                (dir, Ok(location)) => source.prefixes.push((location.dir_prefix(), dir.clone())),
                (_, Err(_)) => {}
            }
            match &entry.kind {
                EntryKind::Path(path) => {
                    let name = path.to_string_lossy().into_owned();
                    // Where several entries have one path, the first one counts.
                    if !source.pattern.matches(&name) || !names.insert(name.clone()) {
                        continue;
                    }
                    match &entry.replica {
                        Err(e) => source.unusable.push((name, e.clone())),
                        Ok(location) => {
                            let store = source.store(&location.store, open);
                            let key = location.path.clone();
                            source.paths.push(PathEntry { name, path: path.clone(), store, key });
                        }
                    }
                }
                EntryKind::Dir { dir, .. } => source.add_dir(dir, &entry.kind, &entry.replica, open),
            }
        }
        source
    }

    fn add_dir(
        &mut self,
        dir: &Path,
        kind: &EntryKind,
        replica: &Result<Location, ConfigError>,
        open: &mut dyn FnMut(&StoreConfig) -> Store,
    ) {
        let below = below(dir);
        if !self.pattern.may_match_below(&below) {
            return;
        }
        let location = match replica {
            Ok(location) => location,
            Err(e) => return self.unusable.push((dir.to_string_lossy().into_owned(), e.clone())),
        };
        let prefix = location.dir_prefix();
        let list_prefix = match self.pattern.literal_dir().strip_prefix(&below) {
            Some(inside) => format!("{prefix}{inside}"),
            None => prefix.clone(),
        };
        let store = self.store(&location.store, open);
        self.dirs.push(DirEntry { dir: dir.to_owned(), kind: kind.clone(), store, prefix, list_prefix });
    }

    /// Whether no entry matches that could be looked for.
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.dirs.is_empty()
    }

    /// What a catalogue of this source says that it is of.
    pub(super) fn catalogue_source(&self) -> CatalogueSource {
        let mut digest = Sha256::new();
        // Lengths before texts: no two lists of entries give the same bytes.
        let mut add = |text: &str| {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        };
        for PathEntry { name, store, key, .. } in &self.paths {
            ["path", name, &store.index.to_string(), key].into_iter().for_each(&mut add);
        }
        for entry in &self.dirs {
            let (pattern, recursive) = match &entry.kind {
                EntryKind::Dir { pattern, recursive, .. } => {
                    (pattern.as_str(), if *recursive { "recursive" } else { "" })
                }
                EntryKind::Path(_) => ("", ""),
            };
            let (name, store) = (entry.name(), entry.store.index.to_string());
            ["dir", &name, &store, &entry.prefix, pattern, recursive].into_iter().for_each(&mut add);
        }
        CatalogueSource {
            pattern: self.pattern.text().to_owned(),
            stores: self.stores.iter().map(|open| SavedStore::of(&open.store)).collect(),
            entries: Some(digest.finalize().into()),
        }
    }

    /// Whether any entry of the file is for the database under `root`.
    pub(super) fn configures(&self, root: &str) -> bool {
        let key = key_of(root);
        let covers = |(prefix, kind): &(String, EntryKind)| {
            key.strip_prefix(prefix.as_str()).is_some_and(|relative| kind.accepts(relative))
        };
        self.keys.contains(key) || self.prefixes.iter().any(covers)
    }

    fn store(&mut self, config: &StoreConfig, open: &mut dyn FnMut(&StoreConfig) -> Store) -> Arc<OpenStore> {
        if let Some(known) = self.stores.iter().find(|known| known.config == *config) {
            return Arc::clone(known);
        }
        let bucket = match config {
            StoreConfig::S3(s3) => s3.bucket.clone(),
            StoreConfig::File => String::new(),
        };
        let index = self.stores.len();
        let store = Arc::new(OpenStore { index, config: config.clone(), store: open(config), bucket });
        self.stores.push(Arc::clone(&store));
        store
    }
}

impl OpenStore {
    pub(super) fn id(&self, key: &str) -> String {
        id_of(&self.bucket, key)
    }
}

impl DirEntry {
    /// The directory as text, by which messages name the entry.
    pub(super) fn name(&self) -> String {
        self.dir.to_string_lossy().into_owned()
    }
}

impl PathEntry {
    pub(super) fn id(&self) -> String {
        self.store.id(key_of(&self.key))
    }
}

/// `dir` with a slash at its end.
pub(super) fn below(dir: &Path) -> String {
    let mut dir = dir.to_string_lossy().into_owned();
    if !dir.ends_with('/') {
        dir.push('/');
    }
    dir
}
