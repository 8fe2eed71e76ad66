//! Which databases a pattern means, and what the bucket holds of them.
//!
//! By URL, one listing is the catalogue of them all. Through litestream.yml (`configured`),
//! databases that lie close together share listings. Nothing is planned or judged here: a
//! database with files that make no chain, or in the v0.3.x format, is found all the same.
//!
//! Databases are handed over while the listing still runs (`handover`), where the store lists in
//! order: in a bucket, by URL. Through litestream.yml, and on disk, all are found first.

use crate::catalogue::Replica;
use crate::config::{Config, ConfigError, Env, StoreConfig, parse_pattern_url};
use crate::error::{Class, escaped};
use crate::fleet::discovery::configured::{self, ConfigSource};
use crate::fleet::discovery::handover::{Early, Owner};
use crate::fleet::discovery::listing::{Lister, ListingError, ListingLimits};
use crate::fleet::discovery::pattern::{Pattern, PatternError, relative_output};
use crate::fleet::discovery::shard::Shard;
use crate::restore::Worker;
use crate::store::{Store, StoreError};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where to look, and for what.
pub enum FleetSource {
    Url(UrlSource),
    Config(ConfigSource),
}

/// A pattern over the keys of one store.
pub struct UrlSource {
    store: Store,
    /// What keys stand below in ids: the bucket's name, or empty for files.
    bucket: String,
    pattern: Pattern,
}

/// What a discovery is to do besides finding.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Give back this share only.
    pub shard: Option<Shard>,
    /// In config mode: outputs below `--output-dir`, not at the configured paths.
    pub relative_outputs: bool,
}

/// A database that the pattern means.
#[derive(Debug, Clone)]
pub struct Found {
    /// What logs and reports call it: the configured path, in URL mode the key without the slash
    /// at its end (of a database at the bucket's root, the bucket; for files the absolute path).
    pub name: String,
    /// `bucket/key`, for files the absolute path: what decides its shard.
    pub id: String,
    pub store: Store,
    /// Where it lies in the store, as [`crate::restore::Request`] wants it.
    pub path: String,
    /// What the listing shows of it. None: configured, but the bucket holds nothing of it.
    pub replica: Option<Replica>,
    pub output: Output,
}

/// Where a database goes. What came from a bucket's keys is not checked: it may hold `..`, empty
/// names or a leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The absolute path that litestream.yml names.
    Configured(PathBuf),
    /// Below the absolute directory of a `dir:` entry, by slashes. The path is the bucket's word.
    InDir { dir: PathBuf, relative: String },
    /// Below `--output-dir`, else the current directory, by slashes.
    Relative(String),
}

/// A database, or a `dir:` entry, that could not be looked for.
#[derive(Debug, Clone)]
pub struct FoundError {
    /// The configured path; of a `dir:` entry the directory.
    pub name: String,
    pub failure: FoundFailure,
    /// Of a database whose listing failed: it can be tried again. Its `replica` says nothing.
    pub found: Option<Box<Found>>,
}

#[derive(Debug, Clone)]
pub enum FoundFailure {
    /// Its entry in litestream.yml cannot be used.
    Config(ConfigError),
    /// Its listing failed.
    Store(StoreError),
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// Sorted by name; this share's only, without what was handed over before.
    pub found: Vec<Found>,
    /// This share's as far as they have a place in a bucket that decides it; of those that have
    /// none, all, in every share.
    pub failed: Vec<FoundError>,
    /// Handed over before, from a listing that then proved to be in no order, and with other
    /// files now: what it showed of them may not have been all.
    pub doubtful: Vec<Found>,
    /// Databases of the whole fleet, all shards, failed ones included.
    pub matched: u64,
    /// Of this share: with LTX files or a v0.3.x backup.
    pub with_backups: u64,
    /// Of this share: nothing in the bucket.
    pub without_backups: u64,
    /// Of this share: nothing but a v0.3.x backup, which the planner refuses by name.
    pub v3_only: u64,
    /// Directories that this share's databases lie in (projects).
    pub folders: u64,
    /// LIST requests that were needed, not counting repeated ones.
    pub lists: u64,
    /// Whether a store listed out of order, so that all was listed in one row.
    pub unordered: bool,
}

/// Where databases go that are found before all are, and which have gone there, also by a
/// discovery that failed before: none is handed over twice.
#[derive(Default)]
pub struct HandOver {
    /// None: all databases are in [`Discovery::found`].
    give: Option<Box<dyn FnMut(Vec<Found>)>>,
    /// By root; what its files were.
    handed: HashMap<Box<str>, u64>,
    tally: Tally,
}

/// Databases of this share, counted.
#[derive(Debug, Default)]
struct Tally {
    with_backups: u64,
    without_backups: u64,
    v3_only: u64,
    /// Hashes.
    folders: HashSet<u64>,
    hasher: RandomState,
}

/// Counts that grow while a discovery runs.
#[derive(Debug, Default)]
pub struct DiscoveryProgress {
    /// Objects listed, each once.
    pub keys: AtomicU64,
    /// Databases seen in listings, matching or not.
    pub databases: AtomicU64,
    /// LIST requests answered.
    pub lists: AtomicU64,
}

/// Nothing could be found at all.
#[derive(Debug, Clone)]
pub enum DiscoverError {
    Pattern(PatternError),
    Config(ConfigError),
    Store(StoreError),
}

impl FleetSource {
    /// A pattern URL, `s3://bucket/prefix/glob?query` or `file:///dir/glob`.
    ///
    /// # Errors
    /// A URL that names no store, a pattern that is none.
    pub fn url(url: &str, env: &Env<'_>, open: &mut dyn FnMut(&StoreConfig) -> Store) -> Result<Self, DiscoverError> {
        let (location, pattern) = parse_pattern_url(url, env)?;
        let (bucket, pattern) = match &location.store {
            StoreConfig::S3(s3) => (s3.bucket.clone(), pattern),
            // Keys of files are absolute paths.
            StoreConfig::File => (String::new(), format!("/{pattern}")),
        };
        Ok(Self::keys(open(&location.store), &bucket, Pattern::for_keys(&pattern)?))
    }

    /// Whether databases can be handed over before all are known.
    pub const fn is_handed_over(&self) -> bool {
        matches!(self, Self::Url(UrlSource { store: Store::S3(_), .. }))
    }

    /// The same, put together: `pattern` over the keys of `store`.
    pub fn keys(store: Store, bucket: &str, pattern: Pattern) -> Self {
        Self::Url(UrlSource { store, bucket: bucket.to_owned(), pattern })
    }

    /// `pattern` over the databases of `config`. `open` is called once for each different store.
    ///
    /// # Errors
    /// A pattern that is none. Entries that cannot be used fail alone, in [`Discovery::failed`].
    pub fn config(
        pattern: &str,
        config: &Config,
        env: &Env<'_>,
        open: &mut dyn FnMut(&StoreConfig) -> Store,
    ) -> Result<Self, DiscoverError> {
        let pattern = Pattern::for_paths(pattern, env)?;
        Ok(Self::Config(ConfigSource::new(pattern, config, open)))
    }
}

/// Finds the databases of `source`. A pattern that matches nothing is no error here
/// (`matched` is 0).
///
/// # Errors
/// By URL: the listing failed. Through litestream.yml only databases fail, each for itself.
pub async fn discover(
    worker: &Worker,
    source: &FleetSource,
    options: Options,
    progress: &DiscoveryProgress,
) -> Result<Discovery, DiscoverError> {
    discover_early(worker, source, options, progress, &mut HandOver::default()).await
}

/// The same; by URL, in a bucket, databases are handed over as soon as they are complete.
///
/// # Errors
/// As [`discover`]. What was handed over is complete all the same.
pub(in crate::fleet) async fn discover_early(
    worker: &Worker,
    source: &FleetSource,
    options: Options,
    progress: &DiscoveryProgress,
    hand_over: &mut HandOver,
) -> Result<Discovery, DiscoverError> {
    let mut discovery = match source {
        FleetSource::Url(source) => by_url(worker, source, options, progress, hand_over).await?,
        FleetSource::Config(source) => configured::discover(worker, source, options, progress).await,
    };
    discovery.lists = progress.lists.load(Relaxed);
    discovery.found.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.path.cmp(&b.path)));
    discovery.found.iter().for_each(|found| hand_over.tally.count(found));
    hand_over.tally.tell(&mut discovery);
    Ok(discovery)
}

async fn by_url(
    worker: &Worker,
    source: &UrlSource,
    options: Options,
    progress: &DiscoveryProgress,
    hand_over: &mut HandOver,
) -> Result<Discovery, DiscoverError> {
    let UrlSource { store, pattern, .. } = source;
    let prefix = match store {
        Store::S3(_) => pattern.list_prefix(),
        // A directory is walked from its beginning.
        Store::File(_) => pattern.literal_dir().to_owned(),
    };
    let owner = |root: &str| source.owner(root, options.shard);
    let own_name = relative_output(pattern.literal_dir(), source.name_of(pattern.literal_dir()));
    let HandOver { give, handed, tally } = hand_over;
    let may_give = give.is_some();
    let mut give_all = |replicas: Vec<Replica>| {
        let Some(give) = give else { return };
        let mut found = Vec::with_capacity(replicas.len());
        for replica in replicas {
            if !handed.contains_key(replica.root.as_str()) {
                handed.insert(replica.root.as_str().into(), fingerprint(&replica));
                found.push(source.found(replica));
            }
        }
        found.iter().for_each(|found| tally.count(found));
        give(found);
    };
    let mut early = Early::new(pattern.literal_dir(), &own_name, &owner, &mut give_all);
    let lister = Lister { http: &worker.http, store, progress };
    let listed = lister.list(&prefix, ListingLimits::default(), &|_| true, may_give.then_some(&mut early)).await;
    let mut others = early.into_others();
    let listing = match listed {
        Ok(listing) => listing,
        Err(ListingError::Store(e)) => return Err(DiscoverError::Store(e)),
        // There is no limit.
        Err(ListingError::TooLong) => return Ok(Discovery::default()),
    };
    let mut discovery = Discovery { unordered: listing.unordered, ..Discovery::default() };
    for replica in listing.catalogue.finish() {
        match owner(&replica.root) {
            Owner::Nobody => {}
            Owner::OtherShard => others.count(&replica.root),
            Owner::Us => match handed.get(replica.root.as_str()) {
                None => discovery.found.push(source.found(replica)),
                Some(files) if listing.unordered && *files != fingerprint(&replica) => {
                    discovery.doubtful.push(source.found(replica));
                }
                Some(_) => {}
            },
        }
    }
    discovery.matched = others.len() + (handed.len() + discovery.found.len()) as u64;
    Ok(discovery)
}

impl UrlSource {
    fn owner(&self, root: &str, shard: Option<Shard>) -> Owner {
        let key = key_of(root);
        if !self.pattern.matches(key) {
            return Owner::Nobody;
        }
        match shard {
            Some(shard) if !shard.takes(&id_of(&self.bucket, key)) => Owner::OtherShard,
            _ => Owner::Us,
        }
    }

    /// Of the database under `root`.
    fn name_of<'a>(&'a self, root: &'a str) -> &'a str {
        let key = key_of(root);
        if key.is_empty() { &self.bucket } else { key }
    }

    fn found(&self, replica: Replica) -> Found {
        let name = self.name_of(&replica.root);
        Found {
            output: Output::Relative(relative_output(self.pattern.literal_dir(), name)),
            name: name.to_owned(),
            id: id_of(&self.bucket, key_of(&replica.root)),
            store: self.store.clone(),
            path: path_of(&replica.root).to_owned(),
            replica: Some(replica),
        }
    }
}

/// Which files a replica has.
fn fingerprint(replica: &Replica) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in replica.files.iter().chain(replica.others.iter().flat_map(|other| &other.files)) {
        (file.level.get(), file.layout, file.min_txid.0, file.max_txid.0).hash(&mut hasher);
    }
    replica.v3.is_some().hash(&mut hasher);
    hasher.finish()
}

/// The key of the database under `root`, without the slashes at its end; empty at the root of a
/// bucket, in any of the ways that keys begin there (FORMAT §5).
pub(in crate::fleet) fn key_of(root: &str) -> &str {
    let key = root.trim_end_matches('/');
    if key == "." { "" } else { key }
}

/// The path whose first root is `root` ([`Replica::roots`]).
pub(in crate::fleet) fn path_of(root: &str) -> &str {
    if key_of(root).is_empty() { "" } else { root.strip_suffix('/').unwrap_or(root) }
}

/// `bucket/key`; a file's path stands alone.
pub(in crate::fleet) fn id_of(bucket: &str, key: &str) -> String {
    if bucket.is_empty() { key.to_owned() } else { format!("{bucket}/{key}") }
}

impl HandOver {
    /// Databases go to `give` as soon as they are complete.
    pub fn to(give: impl FnMut(Vec<Found>) + 'static) -> Self {
        Self { give: Some(Box::new(give)), ..Self::default() }
    }
}

impl Tally {
    fn count(&mut self, found: &Found) {
        match &found.replica {
            None => self.without_backups += 1,
            Some(replica) => {
                self.with_backups += 1;
                self.v3_only += u64::from(replica.files.is_empty());
            }
        }
        let folder = found.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.folders.insert(self.hasher.hash_one(folder));
    }

    fn tell(&self, discovery: &mut Discovery) {
        discovery.with_backups = self.with_backups;
        discovery.without_backups = self.without_backups;
        discovery.v3_only = self.v3_only;
        discovery.folders = self.folders.len() as u64;
    }
}

impl DiscoveryProgress {
    pub(in crate::fleet) fn answered(&self, keys: u64) {
        self.lists.fetch_add(1, Relaxed);
        self.keys.fetch_add(keys, Relaxed);
    }

    /// What was counted will be seen again.
    pub(in crate::fleet) fn forget(&self, keys: u64, databases: usize) {
        self.keys.fetch_sub(keys, Relaxed);
        self.databases.fetch_sub(databases as u64, Relaxed);
    }

    pub(in crate::fleet) fn seen(&self, before: usize, now: usize) -> usize {
        self.databases.fetch_add(now.saturating_sub(before) as u64, Relaxed);
        now
    }
}

impl FoundError {
    pub fn class(&self) -> Class {
        match &self.failure {
            FoundFailure::Config(e) => e.class(),
            FoundFailure::Store(e) => e.class(),
        }
    }
}

/// The reason, without the name.
impl fmt::Display for FoundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            FoundFailure::Config(e) => e.fmt(f),
            FoundFailure::Store(e) => e.fmt(f),
        }
    }
}

impl DiscoverError {
    pub fn class(&self) -> Class {
        match self {
            Self::Pattern(_) => Class::Config,
            Self::Config(e) => e.class(),
            Self::Store(e) => e.class(),
        }
    }
}

impl fmt::Display for DiscoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(e) => e.fmt(f),
            Self::Config(e) => e.fmt(f),
            Self::Store(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for DiscoverError {}

impl From<PatternError> for DiscoverError {
    fn from(e: PatternError) -> Self {
        Self::Pattern(e)
    }
}

impl From<ConfigError> for DiscoverError {
    fn from(e: ConfigError) -> Self {
        Self::Config(e)
    }
}

impl fmt::Debug for FleetSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(source) => {
                write!(f, "Url({} in {})", escaped(&source.pattern.list_prefix()), escaped(&source.bucket))
            }
            Self::Config(_) => f.write_str("Config(…)"),
        }
    }
}
