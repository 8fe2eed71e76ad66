//! Finds the databases of litestream.yml in their stores. A `path:` entry is one database with its own replica.
//! For a `dir:` entry, only the bucket shows which databases exist, because the host's disk may be empty
//! (docs/FORMAT.md, "litestream.yml").
//!
//! Replicas of one store that lie below a common directory are found with one shared listing of that directory.
//! If the credentials do not permit that listing, or if it returns far more than these databases, each database
//! gets a listing of its own. An entry that cannot be used, or a failed listing, fails only its own databases.

use crate::catalogue::{Catalogue, Layout, Replica};
use crate::config::{Config, ConfigError, EntryKind, Location, StoreConfig};
use crate::fleet::discovery::found::{
    DatabaseRef, Discovery, DiscoveryProgress, Found, FoundError, FoundFailure, Options, Output, id_of, key_of, path_of,
};
use crate::fleet::discovery::listing::{Lister, ListingError, ListingLimits};
use crate::fleet::discovery::pattern::{Pattern, relative_output};
use crate::restore::Worker;
use crate::store::{Store, StoreError, StoreErrorKind};
use futures_util::StreamExt;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum number of shared listings at a time. Each of them is split into ranges of keys.
const LISTINGS_IN_FLIGHT: usize = 4;
/// Maximum number of databases that are listed one by one at the same time.
const SINGLES_IN_FLIGHT: usize = 64;
/// A shared listing is given up after 10 pages plus 2 pages for each of its databases.
const SHARED_PAGES: u64 = 10;
const SHARED_PAGES_PER_DATABASE: u64 = 2;

/// The databases of litestream.yml that match a pattern, and the stores they are in.
pub struct ConfigSource {
    pattern: Pattern,
    stores: Vec<Arc<OpenStore>>,
    paths: Vec<PathEntry>,
    dirs: Vec<DirEntry>,
    /// Path and error of each `path:` or `dir:` entry that matches the pattern but cannot be used.
    unusable: Vec<(String, ConfigError)>,
}

struct OpenStore {
    /// Index of this store in [`ConfigSource::stores`]. Two entries use the same store if it is equal.
    index: usize,
    config: StoreConfig,
    store: Store,
    /// Name of the bucket; empty for a directory on disk.
    bucket: String,
}

/// A `path:` entry of litestream.yml that matches the pattern.
struct PathEntry {
    /// Name of the database in logs and reports. No two entries have the same name.
    name: String,
    path: PathBuf,
    store: Arc<OpenStore>,
    /// Path of the database's replica in the store.
    key: String,
}

/// A `dir:` entry of litestream.yml below which databases may match the pattern.
struct DirEntry {
    dir: PathBuf,
    kind: EntryKind,
    store: Arc<OpenStore>,
    /// Prefix that the keys of all databases of this `dir:` entry have.
    prefix: String,
    /// Prefix of the keys of those databases that can match the pattern: `prefix` or longer. Only this prefix
    /// is listed.
    list_prefix: String,
}

impl ConfigSource {
    pub(in crate::fleet) fn new(
        pattern: Pattern,
        config: &Config,
        open: &mut dyn FnMut(&StoreConfig) -> Store,
    ) -> Self {
        let mut source =
            Self { pattern, stores: Vec::new(), paths: Vec::new(), dirs: Vec::new(), unusable: Vec::new() };
        let mut names = HashSet::new();
        for entry in &config.databases {
            match &entry.kind {
                EntryKind::Path(path) => {
                    let name = path.to_string_lossy().into_owned();
                    // If several entries have the same path, only the first one is used.
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
    fn id(&self, key: &str) -> String {
        id_of(&self.bucket, key)
    }
}

impl PathEntry {
    fn id(&self) -> String {
        self.store.id(key_of(&self.key))
    }
}

/// Returns the directory `dir` as text that ends with a slash, to compare beginnings of paths.
fn below(dir: &Path) -> String {
    let mut dir = dir.to_string_lossy().into_owned();
    if !dir.ends_with('/') {
        dir.push('/');
    }
    dir
}

/// Finds the databases of litestream.yml that match the pattern of `source`, and the backup files that the stores
/// have of each. Failures of single databases are in the result.
pub(in crate::fleet) async fn discover(
    worker: &Worker,
    source: &ConfigSource,
    options: Options,
    progress: &DiscoveryProgress,
) -> Discovery {
    let mut run = ConfiguredDiscovery { worker, source, options, progress, shelves: HashMap::new(), unordered: false };
    let mut discovery = Discovery::default();
    run.unusable(&mut discovery);
    let (listed_dirs, failed_dirs) = run.list_shared(shared_by_dirs(&source.dirs)).await;
    // The listings for `dir:` entries may have returned databases of `path:` entries too.
    let is_listed = |entry: &PathEntry| {
        let prefix = format!("{}/", entry.key.trim_end_matches('/'));
        listed_dirs.iter().any(|dir| dir.store.index == entry.store.index && prefix.starts_with(&dir.prefix))
    };
    let others: Vec<&PathEntry> = source.paths.iter().filter(|entry| !is_listed(entry)).collect();
    let (shared, mut singles) = shared_by_paths(others);
    let mut failed: HashMap<&str, StoreError> = HashMap::new();
    for (shared, error) in run.list_shared(shared).await.1 {
        match error {
            ListingError::Store(e) if e.kind != StoreErrorKind::AccessDenied => {
                failed.extend(shared.members.iter().map(|entry| (entry.name.as_str(), e.clone())));
            }
            _ => singles.extend(shared.members),
        }
    }
    failed.extend(run.list_singles(&singles).await);
    run.collect(&mut discovery, failed_dirs, failed);
    discovery.unordered = run.unordered;
    discovery
}

/// One listing of a prefix that finds the databases of several entries.
struct SharedListing<'a, Entry> {
    store: &'a OpenStore,
    prefix: String,
    limits: ListingLimits,
    /// Prefixes of the keys to keep, sorted; none of them begins with another. None: all keys are kept.
    wanted: Option<Vec<String>>,
    members: Vec<&'a Entry>,
}

type FailedListing<'a, Entry> = (SharedListing<'a, Entry>, ListingError);

/// Groups the `dir:` entries so that no prefix is listed twice: an entry whose replicas lie below another
/// entry's replicas shares that entry's listing.
fn shared_by_dirs(dirs: &[DirEntry]) -> Vec<SharedListing<'_, DirEntry>> {
    let mut order: Vec<&DirEntry> = dirs.iter().collect();
    order.sort_by(|a, b| (a.store.index, &a.list_prefix).cmp(&(b.store.index, &b.list_prefix)));
    let mut shared: Vec<SharedListing<'_, DirEntry>> = Vec::new();
    for dir in order {
        match shared.last_mut() {
            Some(last) if last.store.index == dir.store.index && dir.list_prefix.starts_with(&last.prefix) => {
                last.members.push(dir);
            }
            _ => shared.push(SharedListing {
                store: &dir.store,
                prefix: dir.list_prefix.clone(),
                limits: ListingLimits::default(),
                wanted: None,
                members: vec![dir],
            }),
        }
    }
    shared
}

/// Groups the `path:` entries that have a common directory in one store into shared listings. The second result
/// has the entries that must be listed one by one.
fn shared_by_paths(others: Vec<&PathEntry>) -> (Vec<SharedListing<'_, PathEntry>>, Vec<&PathEntry>) {
    let mut singles = Vec::new();
    let mut by_start: HashMap<(usize, &str), Vec<(String, &PathEntry)>> = HashMap::new();
    for entry in others {
        match Replica::list_prefixes(&entry.key).as_slice() {
            // Directories on disk get no shared listing: it would read other programs' directories below the
            // common one.
            [prefix] if entry.store.config != StoreConfig::File => {
                // Entries are grouped by the first folder of their key. Otherwise a shared listing could cover
                // the whole bucket.
                let start = entry.key.split('/').find(|name| !name.is_empty()).unwrap_or_default();
                by_start.entry((entry.store.index, start)).or_default().push((prefix.clone(), entry));
            }
            _ => singles.push(entry),
        }
    }
    let mut shared = Vec::new();
    for mut entries in by_start.into_values() {
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let common = match (entries.first(), entries.last()) {
            (Some((first, _)), Some((last, _))) => common_dir(first, last).to_owned(),
            _ => String::new(),
        };
        let members: Vec<&PathEntry> = entries.iter().map(|(_, entry)| *entry).collect();
        match members.first() {
            Some(first) if members.len() > 1 && !common.is_empty() => {
                let max_pages = SHARED_PAGES + SHARED_PAGES_PER_DATABASE * members.len() as u64;
                let mut wanted: Vec<String> = entries.into_iter().map(|(prefix, _)| prefix).collect();
                let limits = ListingLimits { cuts: Some(wanted.clone()), max_pages };
                wanted.dedup_by(|next, kept| next.starts_with(kept.as_str()));
                let store = &*first.store;
                shared.push(SharedListing { store, prefix: common, limits, wanted: Some(wanted), members });
            }
            _ => singles.extend(members),
        }
    }
    (shared, singles)
}

/// Returns the longest directory that both `a` and `b` begin with, including its slash.
fn common_dir<'a>(a: &'a str, b: &str) -> &'a str {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let dir_len = a.as_bytes().get(..same).and_then(|s| s.iter().rposition(|&b| b == b'/')).map_or(0, |at| at + 1);
    a.get(..dir_len).unwrap_or("")
}

/// Returns whether `key` begins with one of `prefixes`. These must be sorted, and none may begin with another.
fn is_below(prefixes: &[String], key: &str) -> bool {
    let after = prefixes.partition_point(|prefix| prefix.as_str() <= key);
    after.checked_sub(1).and_then(|i| prefixes.get(i)).is_some_and(|prefix| key.starts_with(prefix.as_str()))
}

fn log_failed(prefix: &str, entries: usize, error: &ListingError) {
    match error {
        ListingError::Store(error) => {
            tracing::debug!(target: "hydrant::fleet", prefix, entries, %error, "a shared listing failed");
        }
        ListingError::TooLong => {
            tracing::debug!(target: "hydrant::fleet", prefix, entries, "a shared listing brings too much, given up");
        }
    }
}

/// State of a running discovery of the databases in litestream.yml.
struct ConfiguredDiscovery<'a> {
    worker: &'a Worker,
    source: &'a ConfigSource,
    options: Options,
    progress: &'a DiscoveryProgress,
    /// Replicas that the listings returned: by the store's index, then by their root directory.
    shelves: HashMap<usize, HashMap<String, Shelved>>,
    unordered: bool,
}

/// A replica that a listing returned, and the number of configured databases that it is for.
struct Shelved {
    replica: Replica,
    claims: u32,
}

/// A configured database of this shard, and the root directories that hold its files, in order of preference.
struct Wanted<'a> {
    found: Found,
    store: &'a OpenStore,
    roots: Vec<String>,
}

impl<'a> ConfiguredDiscovery<'a> {
    /// Returns whether the database with this id belongs to the shard of this run.
    fn is_ours(&self, id: &str) -> bool {
        self.options.shard.is_none_or(|shard| shard.takes(id))
    }

    fn unusable(&self, discovery: &mut Discovery) {
        for (name, error) in &self.source.unusable {
            discovery.matched += 1;
            if self.is_ours(name) {
                discovery.failed.push(FoundError {
                    name: name.clone(),
                    failure: FoundFailure::Config(error.clone()),
                    found: None,
                });
            }
        }
    }

    fn lister<'b>(&'b self, store: &'b OpenStore) -> Lister<'b> {
        Lister { http: &self.worker.http, store: &store.store, progress: self.progress }
    }

    fn shelve(&mut self, store: &OpenStore, catalogue: Catalogue) {
        let shelf = self.shelves.entry(store.index).or_default();
        for replica in catalogue.finish() {
            shelf.insert(replica.root.clone(), Shelved { replica, claims: 0 });
        }
    }

    /// Makes the given listings, up to 4 at a time. Returns those that succeeded and those that failed.
    async fn list_shared<'b, Entry>(
        &mut self,
        shared: Vec<SharedListing<'b, Entry>>,
    ) -> (Vec<SharedListing<'b, Entry>>, Vec<FailedListing<'b, Entry>>) {
        let this = &*self;
        let listings = shared.into_iter().map(|shared| async move {
            let wanted = |key: &str| shared.wanted.as_ref().is_none_or(|prefixes| is_below(prefixes, key));
            let lister = this.lister(shared.store);
            let answer = lister.list(&shared.prefix, shared.limits.clone(), &wanted).await;
            (shared, answer)
        });
        let answers: Vec<_> = futures_util::stream::iter(listings).buffer_unordered(LISTINGS_IN_FLIGHT).collect().await;
        let (mut listed, mut failed) = (Vec::new(), Vec::new());
        for (shared, answer) in answers {
            match answer {
                Ok(listing) => {
                    self.unordered |= listing.unordered;
                    self.shelve(shared.store, listing.catalogue);
                    listed.push(shared);
                }
                Err(e) => {
                    log_failed(&shared.prefix, shared.members.len(), &e);
                    failed.push((shared, e));
                }
            }
        }
        (listed, failed)
    }

    /// Lists each of these entries by itself, if it belongs to this shard. Returns the entries whose listing
    /// failed.
    async fn list_singles<'b>(&mut self, singles: &[&'b PathEntry]) -> Vec<(&'b str, StoreError)> {
        let this = &*self;
        let ours = singles.iter().filter(|entry| this.is_ours(&entry.id()));
        let listings = ours.map(|entry| async move {
            let lister = this.lister(&entry.store);
            let mut catalogue = Catalogue::new(Layout::native_to(lister.store));
            for prefix in Replica::list_prefixes(&entry.key) {
                match lister.list(&prefix, ListingLimits::default(), &|_| true).await {
                    Ok(listing) => catalogue.merge(listing.catalogue),
                    Err(e) => return (*entry, Err(e.without_limits(&prefix))),
                }
            }
            (*entry, Ok(catalogue))
        });
        let answers: Vec<_> = futures_util::stream::iter(listings).buffer_unordered(SINGLES_IN_FLIGHT).collect().await;
        let mut failed = Vec::new();
        for (entry, answer) in answers {
            match answer {
                Ok(catalogue) => self.shelve(&entry.store, catalogue),
                Err(e) => failed.push((entry.name.as_str(), e)),
            }
        }
        failed
    }

    /// Fills `discovery` with the configured databases and the files that the listings showed of each. `failed`
    /// has the errors of entries whose listing failed, by the entry's name.
    fn collect(
        &mut self,
        discovery: &mut Discovery,
        failed_dirs: Vec<FailedListing<'a, DirEntry>>,
        mut failed: HashMap<&str, StoreError>,
    ) {
        let source = self.source;
        let mut wanted: Vec<Wanted<'_>> = Vec::new();
        let mut names: HashSet<&str> = source.unusable.iter().map(|(name, _)| name.as_str()).collect();
        for entry in &source.paths {
            names.insert(&entry.name);
            discovery.matched += 1;
            let id = entry.id();
            if !self.is_ours(&id) {
                continue;
            }
            let output = Output::Configured(entry.path.clone());
            let found = self.found(&entry.name, id, &entry.store, entry.key.clone(), output);
            if let Some(e) = failed.remove(entry.name.as_str()) {
                let (failure, found) = (FoundFailure::Store(e), Some(Box::new(found)));
                discovery.failed.push(FoundError { name: entry.name.clone(), failure, found });
                continue;
            }
            wanted.push(Wanted { found, store: &entry.store, roots: self.claim(entry) });
        }
        debug_assert!(failed.keys().all(|name| names.contains(name)), "a failed listing of no entry");
        for (shared, error) in failed_dirs {
            let error = error.without_limits(&shared.prefix);
            for entry in shared.members {
                let name = entry.dir.to_string_lossy().into_owned();
                discovery.matched += 1;
                let failure = FoundFailure::Store(error.clone());
                discovery.failed.push(FoundError { name, failure, found: None });
            }
        }
        let mut below_dirs: HashSet<String> = HashSet::new();
        for entry in &source.dirs {
            for root in self.roots_below(entry) {
                let key = root.strip_suffix('/').unwrap_or(&root);
                let relative = key.strip_prefix(&entry.prefix).unwrap_or_default();
                let name = format!("{}{relative}", below(&entry.dir));
                // A `path:` entry takes precedence over `dir:` entries, and an earlier `dir:` entry over a
                // later one.
                if names.contains(name.as_str()) || !source.pattern.matches(&name) || !below_dirs.insert(name.clone()) {
                    continue;
                }
                discovery.matched += 1;
                let id = entry.store.id(key_of(&root));
                if !self.is_ours(&id) {
                    continue;
                }
                let output = Output::InDir { dir: entry.dir.clone(), relative: relative.to_owned() };
                let path = path_of(&root).to_owned();
                self.claim_root(&entry.store, &root);
                let found = self.found(&name, id, &entry.store, path, output);
                wanted.push(Wanted { found, store: &entry.store, roots: vec![root] });
            }
        }
        for Wanted { mut found, store, roots } in wanted {
            let replicas: Vec<Replica> = roots.iter().filter_map(|root| self.take(store, root)).collect();
            debug_assert_eq!(replicas.len(), roots.len(), "a root was claimed and is gone");
            let native = Layout::native_to(&store.store);
            found.replica = (!replicas.is_empty()).then(|| Replica::choose(replicas, native));
            discovery.found.push(found);
        }
    }

    /// Returns the description of a database, without its replica, which the caller adds.
    fn found(&self, name: &str, id: String, store: &OpenStore, path: String, output: Output) -> Found {
        let output = if self.options.relative_outputs {
            Output::Relative(relative_output(self.source.pattern.literal_dir(), name))
        } else {
            output
        };
        let database = DatabaseRef { name: name.to_owned(), id, store: store.store.clone(), path };
        Found { database: Arc::new(database), replica: None, output }
    }

    /// Returns the root directories of the listed replicas that a `dir:` entry covers, sorted.
    fn roots_below(&self, entry: &DirEntry) -> Vec<String> {
        let Some(shelf) = self.shelves.get(&entry.store.index) else { return Vec::new() };
        let covers = |root: &str| {
            let relative = root.strip_prefix(&entry.prefix).and_then(|below| below.strip_suffix('/'));
            relative.is_some_and(|relative| entry.kind.accepts(relative))
        };
        let mut roots: Vec<String> = shelf.keys().filter(|root| covers(root)).cloned().collect();
        roots.sort_unstable();
        roots
    }

    /// Claims the listed replicas that have files of a `path:` entry. Returns their root directories in order
    /// of preference.
    fn claim(&mut self, entry: &PathEntry) -> Vec<String> {
        let mut roots = Replica::roots(&entry.key);
        roots.retain(|root| self.claim_root(&entry.store, root));
        roots
    }

    /// Notes that one more configured database uses the listed replica at `root`. Returns false if no listing
    /// showed it.
    fn claim_root(&mut self, store: &OpenStore, root: &str) -> bool {
        let shelved = self.shelves.get_mut(&store.index).and_then(|shelf| shelf.get_mut(root));
        shelved.map(|shelved| shelved.claims += 1).is_some()
    }

    /// Returns a claimed replica. It is copied if other databases have claimed it too.
    fn take(&mut self, store: &OpenStore, root: &str) -> Option<Replica> {
        let shelf = self.shelves.get_mut(&store.index)?;
        let shelved = shelf.get_mut(root)?;
        if shelved.claims > 1 {
            shelved.claims -= 1;
            return Some(shelved.replica.clone());
        }
        shelf.remove(root).map(|shelved| shelved.replica)
    }
}

#[cfg(test)]
#[path = "configured_tests.rs"]
mod tests;
