//! Finds the databases of litestream.yml in their stores. A `path:` entry is one database with its own replica.
//! For a `dir:` entry, only the bucket shows which databases exist, because the host's disk may be empty
//! (docs/FORMAT.md, "litestream.yml").
//!
//! Replicas of one store that lie below a common directory are found with one shared listing of that directory.
//! If the credentials do not permit that listing, or if it returns far more than these databases, each database
//! gets a listing of its own. An entry that cannot be used, or a failed listing, fails only its own databases.

use crate::catalogue::{Catalogue, Interest, Layout, Replica, root_of};
use crate::config::StoreConfig;
use crate::error::escaped;
use crate::fleet::discovery::catalogue_file::{
    CatalogueFailure, CatalogueFile, CatalogueUse, LoadedCatalogue, head, load,
};
use crate::fleet::discovery::config_source::{ConfigSource, DirEntry, OpenStore, PathEntry, below};
use crate::fleet::discovery::found::{
    DatabaseRef, Discovery, DiscoveryProgress, Found, FoundError, FoundFailure, Options, Output, key_of, path_of,
};
use crate::fleet::discovery::listing::{Lister, ListingError, ListingLimits};
use crate::fleet::discovery::pattern::relative_output;
use crate::fleet::discovery::unlisted::{Part, part};
use crate::restore::{NothingFound, Worker, nearest_directory, no_directory};
use crate::store::{StoreError, StoreErrorKind, Unlisted};
use crate::timestamp::Timestamp;
use futures_util::StreamExt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Maximum number of shared listings at a time. Each of them is split into ranges of keys.
const LISTINGS_IN_FLIGHT: usize = 4;
/// Maximum number of databases that are listed one by one at the same time.
const SINGLES_IN_FLIGHT: usize = 64;
/// A shared listing is given up after 10 pages plus 2 pages for each of its databases.
const SHARED_PAGES: u64 = 10;
const SHARED_PAGES_PER_DATABASE: u64 = 2;

/// See [`crate::fleet::discovery::discover::discover`].
///
/// # Errors
/// The catalogue cannot be read or written.
pub(in crate::fleet) async fn discover(
    worker: &Worker,
    source: &ConfigSource,
    options: Options,
    catalogue: &CatalogueUse,
    progress: &DiscoveryProgress,
) -> Result<Discovery, CatalogueFailure> {
    let mut run = ConfiguredDiscovery {
        worker,
        source,
        options,
        progress,
        is_saving: catalogue.is_saving(),
        shelves: HashMap::new(),
        unordered: false,
        unlisted: Vec::new(),
        foreign: HashMap::new(),
    };
    let mut discovery = Discovery::default();
    run.unusable(&mut discovery);
    let failed = match catalogue {
        CatalogueUse::List => run.list().await,
        CatalogueUse::Save(file) => {
            let begun = Timestamp::now();
            let failed = run.list().await;
            if !source.is_empty() {
                run.save(file, begun, &failed)?;
                discovery.recovery_point = Some(begun);
            }
            failed
        }
        CatalogueUse::Saved(path) => {
            let (failed, time) = run.load(path)?;
            discovery.recovery_point = time;
            failed
        }
    };
    run.collect(&mut discovery, failed);
    discovery.unordered = run.unordered;
    Ok(discovery)
}

/// The entries whose listings failed.
#[derive(Default)]
struct FailedEntries<'a> {
    dirs: Vec<(&'a DirEntry, StoreError)>,
    /// By the entries' names.
    paths: HashMap<&'a str, StoreError>,
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
    /// Whether all that is listed will be saved, so that the files of all shards are kept.
    is_saving: bool,
    /// Replicas that the listings returned: by the store's index, then by their root directory.
    shelves: HashMap<usize, HashMap<String, Shelved>>,
    unordered: bool,
    /// What shared listings could not show, by the store's index.
    unlisted: Vec<(usize, Unlisted)>,
    /// The listed roots that no entry of the file is for, sorted, by the store's index. Made when it is needed.
    foreign: HashMap<usize, Vec<String>>,
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
        let memory = &self.worker.shared.catalogue;
        Lister { http: &self.worker.http, store: &store.store, memory, progress: self.progress }
    }

    /// The files of databases of other shards are not kept, unless they are to be saved.
    fn interest(&self, store: &OpenStore, root: &str) -> Interest {
        if self.is_saving || self.is_ours(&store.id(key_of(root))) { Interest::Keep } else { Interest::Name }
    }

    fn shelve(&mut self, store: &OpenStore, catalogue: Catalogue) {
        let shelf = self.shelves.entry(store.index).or_default();
        for replica in catalogue.finish() {
            shelf.insert(replica.root.clone(), Shelved { replica, claims: 0 });
        }
    }

    /// Lists the replicas of all entries. Returns the entries whose listings failed.
    async fn list(&mut self) -> FailedEntries<'a> {
        let source = self.source;
        let (listed_dirs, failed_dirs) = self.list_shared(shared_by_dirs(&source.dirs)).await;
        // The listings for `dir:` entries may have returned databases of `path:` entries too.
        let is_listed = |entry: &PathEntry| {
            let prefix = format!("{}/", entry.key.trim_end_matches('/'));
            listed_dirs.iter().any(|dir| dir.store.index == entry.store.index && prefix.starts_with(&dir.prefix))
        };
        let others: Vec<&PathEntry> = source.paths.iter().filter(|entry| !is_listed(entry)).collect();
        let (shared, mut singles) = shared_by_paths(others);
        let mut failed = FailedEntries::default();
        for (shared, error) in self.list_shared(shared).await.1 {
            match error {
                ListingError::Store(e) if e.kind != StoreErrorKind::AccessDenied => {
                    failed.paths.extend(shared.members.iter().map(|entry| (entry.name.as_str(), e.clone())));
                }
                _ => singles.extend(shared.members),
            }
        }
        failed.paths.extend(self.list_singles(&singles).await);
        for (shared, error) in failed_dirs {
            let error = error.without_limits(&shared.prefix);
            failed.dirs.extend(shared.members.into_iter().map(|entry| (entry, error.clone())));
        }
        failed
    }

    /// Writes what was listed to a catalogue. Of a database that no entry is for, the root is enough.
    fn save(&self, file: &CatalogueFile, begun: Timestamp, failed: &FailedEntries<'_>) -> Result<(), CatalogueFailure> {
        let written = file.write(&head(self.source.catalogue_source(), begun), |catalogue| {
            for (store, shelf) in self.shelves.iter().collect::<BTreeMap<_, _>>() {
                for (root, Shelved { replica, .. }) in shelf.iter().collect::<BTreeMap<_, _>>() {
                    match self.source.configures(root) {
                        true => catalogue.database(*store, replica)?,
                        false => catalogue.name(*store, root)?,
                    }
                }
            }
            self.unlisted.iter().try_for_each(|(store, unlisted)| catalogue.unlisted(*store, unlisted))?;
            let dirs = failed.dirs.iter().map(|(entry, error)| (entry.name(), error));
            let paths = failed.paths.iter().map(|(name, error)| ((*name).to_owned(), error));
            dirs.chain(paths).try_for_each(|(name, error)| catalogue.failed(&name, error))
        });
        Ok(written?)
    }

    /// Reads from the catalogue at `path` what [`Self::list`] would list. Also returns when that was listed.
    fn load(&mut self, path: &Path) -> Result<(FailedEntries<'a>, Option<Timestamp>), CatalogueFailure> {
        let source = self.source;
        let is_ours = |store: usize, root: &str| {
            source.stores.get(store).is_some_and(|store| self.is_ours(&store.id(key_of(root))))
        };
        let memory = &self.worker.shared.catalogue;
        let loaded = load(path, &source.catalogue_source(), memory, &is_ours, true)?;
        let LoadedCatalogue { time, replicas, names, unlisted, failed, .. } = loaded;
        self.unlisted = unlisted;
        for store in &source.stores {
            self.shelves.entry(store.index).or_default();
        }
        let named = |root| Replica { root, files: Vec::new(), v3: None, others: Vec::new() };
        let names = names.into_iter().map(|(store, root)| (store, named(root)));
        for (store, replica) in replicas.into_iter().chain(names) {
            let shelf = self.shelves.entry(store).or_default();
            shelf.insert(replica.root.clone(), Shelved { replica, claims: 0 });
        }
        // A `path:` entry and a `dir:` entry may have one name. Then both count as failed.
        let failed: HashMap<String, StoreError> = failed.into_iter().collect();
        let paths =
            source.paths.iter().filter_map(|entry| Some((entry.name.as_str(), failed.get(&entry.name)?.clone())));
        let dirs = source.dirs.iter().filter_map(|entry| Some((entry, failed.get(&entry.name())?.clone())));
        Ok((FailedEntries { dirs: dirs.collect(), paths: paths.collect() }, time))
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
            let interest = |root: &str| this.interest(shared.store, root);
            let answer = lister.list(&shared.prefix, shared.limits.clone(), &wanted, &interest).await;
            (shared, answer)
        });
        let answers: Vec<_> = futures_util::stream::iter(listings).buffer_unordered(LISTINGS_IN_FLIGHT).collect().await;
        let (mut listed, mut failed) = (Vec::new(), Vec::new());
        for (shared, answer) in answers {
            match answer {
                Ok(listing) => {
                    self.unordered |= listing.unordered;
                    self.shelve(shared.store, listing.catalogue);
                    self.unlisted.extend(listing.unlisted.into_iter().map(|one| (shared.store.index, one)));
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
        let ours = singles.iter().filter(|entry| this.is_saving || this.is_ours(&entry.id()));
        let listings = ours.map(|entry| async move {
            let lister = this.lister(&entry.store);
            let mut catalogue = Catalogue::new(Layout::native_to(lister.store));
            for prefix in Replica::list_prefixes(&entry.key) {
                if lister.store.is_on_disk() && !prefix.starts_with('/') {
                    continue;
                }
                let interest = |_: &str| Interest::Keep;
                match lister.list(&prefix, ListingLimits::default(), &|_| true, &interest).await {
                    Ok(listing) => {
                        let roots = Replica::roots(&entry.key);
                        let is_own = |one: &&Unlisted| matches!(part(one), Part::OfReplica(root) if roots.iter().any(|own| own == root));
                        if let Some(one) = listing.unlisted.iter().find(is_own) {
                            return (*entry, Err(one.error()));
                        }
                        catalogue.merge(listing.catalogue);
                    }
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

    /// Fills `discovery` with the configured databases and the files that the listings showed of each.
    fn collect(&mut self, discovery: &mut Discovery, failed: FailedEntries<'a>) {
        let FailedEntries { dirs: failed_dirs, paths: mut failed } = failed;
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
            let roots = self.claim(entry);
            if roots.is_empty() {
                if let Some(nothing) = self.elsewhere(entry) {
                    let (name, failure) = (entry.name.clone(), FoundFailure::Nothing(nothing));
                    discovery.failed.push(FoundError { name, failure, found: None });
                    continue;
                }
                if entry.store.store.is_on_disk()
                    && let Some(nearest) = nearest_directory(Path::new(&entry.key))
                {
                    let text = no_directory(Path::new(&entry.key), &nearest);
                    discovery.warnings.push(format!("{}: {text}", escaped(&entry.name)));
                }
            }
            wanted.push(Wanted { found, store: &entry.store, roots });
        }
        debug_assert!(failed.keys().all(|name| names.contains(name)), "a failed listing of no entry");
        for (entry, error) in failed_dirs {
            discovery.matched += 1;
            let failure = FoundFailure::Store(error);
            discovery.failed.push(FoundError { name: entry.name(), failure, found: None });
        }
        let mut below_dirs: HashSet<String> = HashSet::new();
        let unlisted = std::mem::take(&mut self.unlisted);
        for entry in &source.dirs {
            for (_, one) in unlisted.iter().filter(|(store, _)| *store == entry.store.index) {
                let key = match part(one) {
                    Part::OfReplica(root) => key_of(root),
                    Part::Directory(dir) => dir,
                    Part::Nothing => continue,
                };
                let Some(relative) = key.strip_prefix(&entry.prefix).filter(|name| entry.kind.accepts(name)) else {
                    continue;
                };
                let name = format!("{}{relative}", below(&entry.dir));
                let is_new = !names.contains(name.as_str()) && below_dirs.insert(name.clone());
                if !is_new || !source.pattern.matches(&name) {
                    continue;
                }
                discovery.matched += 1;
                if self.is_ours(&entry.store.id(key)) {
                    let failure = FoundFailure::Store(one.error());
                    discovery.failed.push(FoundError { name, failure, found: None });
                }
            }
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

    /// Why the listing of `entry`, which shows no files of it, is no proof that there are no backups. None if it is.
    fn elsewhere(&mut self, entry: &PathEntry) -> Option<NothingFound> {
        let shelf = self.shelves.get(&entry.store.index)?;
        let path = entry.store.store.place(key_of(&entry.key));
        if let Some(root) = root_of(&entry.key).filter(|root| shelf.contains_key(*root)) {
            let root = key_of(root).to_owned();
            return Some(NothingFound::Inside { path, replica: entry.store.store.place(&root), root });
        }
        let below = format!("{}/", key_of(&entry.key));
        let source = self.source;
        let foreign = self.foreign.entry(entry.store.index).or_insert_with(|| {
            let mut roots: Vec<String> = shelf.keys().filter(|root| !source.configures(root)).cloned().collect();
            roots.sort_unstable();
            roots
        });
        let from = foreign.get(foreign.partition_point(|root| *root < below)..).unwrap_or_default();
        let is_below = |root: &&String| root.starts_with(&below);
        let roots: Vec<String> =
            from.iter().take_while(is_below).filter(|root| root.len() > below.len()).cloned().collect();
        (!roots.is_empty()).then_some(NothingFound::Below { path, count: roots.len() as u64, roots })
    }

    /// The database, still without its replica.
    fn found(&self, name: &str, id: String, store: &OpenStore, path: String, output: Output) -> Found {
        let output = if self.options.relative_outputs {
            Output::Relative(relative_output(self.source.pattern.literal_dir(), name))
        } else {
            output
        };
        let database = DatabaseRef::new(name, id, store.store.clone(), &path);
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
