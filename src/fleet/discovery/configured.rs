//! Databases through litestream.yml: `path:` entries, each with its own replica, and those that
//! `dir:` entries cover, which the bucket alone knows on a host whose disk is empty (FORMAT §5).
//!
//! Entries of one store whose replicas lie under a common directory share a listing of it. A
//! shared listing that is refused (rights for each database alone), or that brings far more than
//! these databases, is replaced by a listing for each. An entry that cannot be used, or a listing
//! that fails, fails its own databases only.

use crate::catalogue::{Catalogue, Layout, Replica};
use crate::config::{Config, ConfigError, EntryKind, Location, StoreConfig};
use crate::fleet::discovery::discover::{
    Discovery, DiscoveryProgress, Found, FoundError, FoundFailure, Options, Output, id_of, key_of, path_of,
};
use crate::fleet::discovery::listing::{Lister, ListingError, ListingLimits};
use crate::fleet::discovery::pattern::{Pattern, relative_output};
use crate::restore::Worker;
use crate::store::{Store, StoreError, StoreErrorKind};
use futures_util::StreamExt;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Shared listings at once; each has ranges of its own.
const LISTINGS_IN_FLIGHT: usize = 4;
/// Listings of single databases at once.
const SINGLES_IN_FLIGHT: usize = 64;
/// What a shared listing may cost, in pages: so many, and so many per database.
const SHARED_PAGES: u64 = 10;
const SHARED_PAGES_PER_DATABASE: u64 = 2;

/// A pattern over a configuration's databases.
pub struct ConfigSource {
    pattern: Pattern,
    stores: Vec<OpenStore>,
    paths: Vec<PathEntry>,
    dirs: Vec<DirEntry>,
    unusable: Vec<(String, ConfigError)>,
}

struct OpenStore {
    config: StoreConfig,
    store: Store,
    bucket: String,
}

/// A `path:` entry that matches.
struct PathEntry {
    name: String,
    path: PathBuf,
    store: usize,
    /// Where its replica is.
    key: String,
}

/// A `dir:` entry that may hold databases that match.
struct DirEntry {
    dir: PathBuf,
    kind: EntryKind,
    store: usize,
    /// What the keys of its databases begin with.
    prefix: String,
    /// The part of that in which names may match.
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
                    // Of several entries for one path the first counts.
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

    fn store(&mut self, config: &StoreConfig, open: &mut dyn FnMut(&StoreConfig) -> Store) -> usize {
        if let Some(known) = self.stores.iter().position(|known| known.config == *config) {
            return known;
        }
        let bucket = match config {
            StoreConfig::S3(s3) => s3.bucket.clone(),
            StoreConfig::File => String::new(),
        };
        self.stores.push(OpenStore { config: config.clone(), store: open(config), bucket });
        self.stores.len() - 1
    }
}

/// `dir` with a slash at its end.
fn below(dir: &Path) -> String {
    let mut dir = dir.to_string_lossy().into_owned();
    if !dir.ends_with('/') {
        dir.push('/');
    }
    dir
}

/// See [`crate::fleet::discovery::discover::discover`].
pub(in crate::fleet) async fn discover(
    worker: &Worker,
    source: &ConfigSource,
    options: Options,
    progress: &DiscoveryProgress,
) -> Discovery {
    let mut run = ConfiguredDiscovery { worker, source, options, progress, shelves: HashMap::new(), unordered: false };
    let mut discovery = Discovery::default();
    run.unusable(&mut discovery);
    let dirs = shared_by_dirs(&source.dirs);
    let dir_errors = run.list_shared(&dirs).await;
    // What the directories' listings have brought along.
    let covered = |entry: &PathEntry| {
        let prefix = format!("{}/", entry.key.trim_end_matches('/'));
        let holds = |shared: &SharedListing| shared.store == entry.store && prefix.starts_with(&shared.prefix);
        dirs.iter().enumerate().any(|(i, shared)| holds(shared) && !dir_errors.contains_key(&i))
    };
    let others: Vec<usize> =
        (0..source.paths.len()).filter(|&i| source.paths.get(i).is_some_and(|entry| !covered(entry))).collect();
    let (shared, mut singles) = shared_by_paths(source, others);
    let path_errors = run.list_shared(&shared).await;
    let mut failed: HashMap<usize, StoreError> = HashMap::new();
    for (i, error) in path_errors {
        let Some(group) = shared.get(i) else { continue };
        match error {
            ListingError::Store(e) if e.kind != StoreErrorKind::AccessDenied => {
                failed.extend(group.members.iter().map(|&member| (member, e.clone())));
            }
            _ => singles.extend(&group.members),
        }
    }
    run.list_singles(&singles, &mut failed).await;
    run.collect(&mut discovery, &dirs, dir_errors, failed);
    discovery.unordered = run.unordered;
    discovery
}

/// A prefix whose listing serves several entries.
struct SharedListing {
    store: usize,
    prefix: String,
    limits: ListingLimits,
    /// Where given, only keys below these are kept; sorted, none below another.
    wanted: Option<Vec<String>>,
    /// Indexes of the entries.
    members: Vec<usize>,
}

/// One listing for `dir:` entries whose replicas lie below one another.
fn shared_by_dirs(dirs: &[DirEntry]) -> Vec<SharedListing> {
    let mut order: Vec<(usize, &DirEntry)> = dirs.iter().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| (a.store, &a.list_prefix).cmp(&(b.store, &b.list_prefix)));
    let mut shared: Vec<SharedListing> = Vec::new();
    for (i, dir) in order {
        match shared.last_mut() {
            Some(last) if last.store == dir.store && dir.list_prefix.starts_with(&last.prefix) => last.members.push(i),
            _ => shared.push(SharedListing {
                store: dir.store,
                prefix: dir.list_prefix.clone(),
                limits: ListingLimits::default(),
                wanted: None,
                members: vec![i],
            }),
        }
    }
    shared
}

/// One listing for `path:` entries with a common directory; the second are those without.
fn shared_by_paths(source: &ConfigSource, others: Vec<usize>) -> (Vec<SharedListing>, Vec<usize>) {
    let mut singles = Vec::new();
    let mut by_start: HashMap<(usize, &str), Vec<(String, usize)>> = HashMap::new();
    for i in others {
        let Some(entry) = source.paths.get(i) else { continue };
        let is_file = source.stores.get(entry.store).is_none_or(|open| open.config == StoreConfig::File);
        match Replica::list_prefixes(&entry.key).as_slice() {
            // On disk, a listing walks directories that are no one's business.
            [prefix] if !is_file => {
                // Without anything in common, one listing would be of the whole bucket.
                let start = entry.key.split('/').find(|name| !name.is_empty()).unwrap_or_default();
                by_start.entry((entry.store, start)).or_default().push((prefix.clone(), i));
            }
            _ => singles.push(i),
        }
    }
    let mut shared = Vec::new();
    for ((store, _), mut entries) in by_start {
        entries.sort();
        let common = match (entries.first(), entries.last()) {
            (Some((first, _)), Some((last, _))) => common_dir(first, last).to_owned(),
            _ => String::new(),
        };
        let members: Vec<usize> = entries.iter().map(|(_, i)| *i).collect();
        if members.len() < 2 || common.is_empty() {
            singles.extend(members);
            continue;
        }
        let max_pages = SHARED_PAGES + SHARED_PAGES_PER_DATABASE * members.len() as u64;
        let mut wanted: Vec<String> = entries.into_iter().map(|(prefix, _)| prefix).collect();
        let limits = ListingLimits { cuts: Some(wanted.clone()), max_pages };
        wanted.dedup_by(|next, kept| next.starts_with(kept.as_str()));
        shared.push(SharedListing { store, prefix: common, limits, wanted: Some(wanted), members });
    }
    (shared, singles)
}

/// The longest directory, its slash included, that `a` and `b` begin with.
fn common_dir<'a>(a: &'a str, b: &str) -> &'a str {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let dir_len = a.as_bytes().get(..same).and_then(|s| s.iter().rposition(|&b| b == b'/')).map_or(0, |at| at + 1);
    a.get(..dir_len).unwrap_or("")
}

/// Whether `key` lies below one of `prefixes` (sorted, none below another).
fn is_below(prefixes: &[String], key: &str) -> bool {
    let after = prefixes.partition_point(|prefix| prefix.as_str() <= key);
    after.checked_sub(1).and_then(|i| prefixes.get(i)).is_some_and(|prefix| key.starts_with(prefix.as_str()))
}

/// A discovery under way.
struct ConfiguredDiscovery<'a> {
    worker: &'a Worker,
    source: &'a ConfigSource,
    options: Options,
    progress: &'a DiscoveryProgress,
    /// What was listed, by store and root.
    shelves: HashMap<usize, HashMap<String, Shelved>>,
    unordered: bool,
}

/// A listed database, and how many of the configured ones mean it.
struct Shelved {
    replica: Replica,
    claims: u32,
}

impl ConfiguredDiscovery<'_> {
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

    fn id(&self, store: usize, key: &str) -> String {
        id_of(self.source.stores.get(store).map_or("", |open| open.bucket.as_str()), key)
    }

    fn lister(&self, store: usize) -> Option<Lister<'_>> {
        let open = self.source.stores.get(store)?;
        Some(Lister { http: &self.worker.http, store: &open.store, progress: self.progress })
    }

    fn shelve(&mut self, store: usize, catalogue: Catalogue) {
        let shelf = self.shelves.entry(store).or_default();
        for replica in catalogue.finish() {
            shelf.insert(replica.root.clone(), Shelved { replica, claims: 0 });
        }
    }

    /// Lists them all; which failed, by index.
    async fn list_shared(&mut self, shared: &[SharedListing]) -> HashMap<usize, ListingError> {
        let this = &*self;
        let listings = shared.iter().enumerate().filter_map(|(i, shared)| {
            let lister = this.lister(shared.store)?;
            Some(async move {
                let wanted = |key: &str| shared.wanted.as_ref().is_none_or(|prefixes| is_below(prefixes, key));
                (i, lister.list(&shared.prefix, shared.limits.clone(), &wanted, None).await)
            })
        });
        let answers: Vec<_> = futures_util::stream::iter(listings).buffer_unordered(LISTINGS_IN_FLIGHT).collect().await;
        let mut errors = HashMap::new();
        for (i, answer) in answers {
            match (answer, shared.get(i)) {
                (Ok(listing), Some(shared)) => {
                    self.unordered |= listing.unordered;
                    self.shelve(shared.store, listing.catalogue);
                }
                (Err(e), _) => {
                    errors.insert(i, e);
                }
                (Ok(_), None) => {}
            }
        }
        errors
    }

    /// A listing for each of the `path:` entries `singles`, this share's only.
    async fn list_singles(&mut self, singles: &[usize], failed: &mut HashMap<usize, StoreError>) {
        let this = &*self;
        let entries = singles.iter().filter_map(|&i| Some((i, this.source.paths.get(i)?)));
        let ours = entries.filter(|(_, entry)| this.is_ours(&this.id(entry.store, key_of(&entry.key))));
        let listings = ours.filter_map(|(i, entry)| {
            let lister = this.lister(entry.store)?;
            Some(async move {
                let mut catalogue = Catalogue::new(Layout::native_to(lister.store));
                for prefix in Replica::list_prefixes(&entry.key) {
                    match lister.list(&prefix, ListingLimits::default(), &|_| true, None).await {
                        Ok(listing) => catalogue.merge(listing.catalogue),
                        Err(ListingError::Store(e)) => return (i, entry.store, Err(e)),
                        // There is no limit.
                        Err(ListingError::TooLong) => {}
                    }
                }
                (i, entry.store, Ok(catalogue))
            })
        });
        let answers: Vec<_> = futures_util::stream::iter(listings).buffer_unordered(SINGLES_IN_FLIGHT).collect().await;
        for (i, store, answer) in answers {
            match answer {
                Ok(catalogue) => self.shelve(store, catalogue),
                Err(e) => {
                    failed.insert(i, e);
                }
            }
        }
    }

    /// What the listings mean for the entries.
    fn collect(
        &mut self,
        discovery: &mut Discovery,
        dirs: &[SharedListing],
        dir_errors: HashMap<usize, ListingError>,
        mut failed: HashMap<usize, StoreError>,
    ) {
        let mut wanted: Vec<(Found, usize, Vec<String>)> = Vec::new();
        let mut names: HashSet<&str> = self.source.unusable.iter().map(|(name, _)| name.as_str()).collect();
        for (i, entry) in self.source.paths.iter().enumerate() {
            names.insert(&entry.name);
            discovery.matched += 1;
            let id = self.id(entry.store, key_of(&entry.key));
            if !self.is_ours(&id) {
                continue;
            }
            if let Some(e) = failed.remove(&i) {
                let output = Output::Configured(entry.path.clone());
                let found = self.found(&entry.name, id, entry.store, entry.key.clone(), output).map(Box::new);
                let failure = FoundFailure::Store(e);
                discovery.failed.push(FoundError { name: entry.name.clone(), failure, found });
                continue;
            }
            let output = Output::Configured(entry.path.clone());
            let roots = self.claim(entry);
            wanted.extend(
                self.found(&entry.name, id, entry.store, entry.key.clone(), output).map(|f| (f, entry.store, roots)),
            );
        }
        for (i, error) in dir_errors {
            let members = dirs.get(i).map(|shared| shared.members.as_slice()).unwrap_or_default();
            // There is no limit: it is the store's.
            let ListingError::Store(error) = error else { continue };
            for entry in members.iter().filter_map(|&member| self.source.dirs.get(member)) {
                let name = entry.dir.to_string_lossy().into_owned();
                discovery.matched += 1;
                let failure = FoundFailure::Store(error.clone());
                discovery.failed.push(FoundError { name, failure, found: None });
            }
        }
        let mut below_dirs: HashSet<String> = HashSet::new();
        for entry in &self.source.dirs {
            for root in self.roots_below(entry) {
                let key = root.strip_suffix('/').unwrap_or(&root);
                let relative = key.strip_prefix(&entry.prefix).unwrap_or_default();
                let name = format!("{}{relative}", below(&entry.dir));
                // An entry that names the path goes before, then the first directory.
                if names.contains(name.as_str())
                    || !self.source.pattern.matches(&name)
                    || !below_dirs.insert(name.clone())
                {
                    continue;
                }
                discovery.matched += 1;
                let id = self.id(entry.store, key_of(&root));
                if !self.is_ours(&id) {
                    continue;
                }
                let output = Output::InDir { dir: entry.dir.clone(), relative: relative.to_owned() };
                let path = path_of(&root).to_owned();
                if let Some(shelved) = self.shelves.get_mut(&entry.store).and_then(|shelf| shelf.get_mut(&root)) {
                    shelved.claims += 1;
                }
                wanted.extend(self.found(&name, id, entry.store, path, output).map(|f| (f, entry.store, vec![root])));
            }
        }
        for (mut found, store, roots) in wanted {
            let replicas: Vec<Replica> = roots.iter().filter_map(|root| self.take(store, root)).collect();
            let native = Layout::native_to(&found.store);
            found.replica = (!replicas.is_empty()).then(|| Replica::choose(replicas, native));
            discovery.found.push(found);
        }
    }

    /// Without its replica.
    fn found(&self, name: &str, id: String, store: usize, path: String, output: Output) -> Option<Found> {
        let store = self.source.stores.get(store)?.store.clone();
        let output = if self.options.relative_outputs {
            Output::Relative(relative_output(self.source.pattern.literal_dir(), name))
        } else {
            output
        };
        Some(Found { name: name.to_owned(), id, store, path, replica: None, output })
    }

    /// Sorted roots that a `dir:` entry covers.
    fn roots_below(&self, entry: &DirEntry) -> Vec<String> {
        let Some(shelf) = self.shelves.get(&entry.store) else { return Vec::new() };
        let covers = |root: &str| {
            let relative = root.strip_prefix(&entry.prefix).and_then(|below| below.strip_suffix('/'));
            relative.is_some_and(|relative| entry.kind.accepts(relative))
        };
        let mut roots: Vec<String> = shelf.keys().filter(|root| covers(root)).cloned().collect();
        roots.sort_unstable();
        roots
    }

    /// The roots under which a `path:` entry's files lie, in order of preference.
    fn claim(&mut self, entry: &PathEntry) -> Vec<String> {
        let Some(shelf) = self.shelves.get_mut(&entry.store) else { return Vec::new() };
        let mut claimed = Replica::roots(&entry.key);
        claimed.retain(|root| match shelf.get_mut(root) {
            Some(shelved) => {
                shelved.claims += 1;
                true
            }
            None => false,
        });
        claimed
    }

    /// Copies what others want too.
    fn take(&mut self, store: usize, root: &str) -> Option<Replica> {
        let shelf = self.shelves.get_mut(&store)?;
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
