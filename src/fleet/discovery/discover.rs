//! Finds the databases that a pattern matches, and what the bucket holds of each.
//!
//! With a URL, one listing shows all of them. With litestream.yml (`configured`), databases that lie
//! close together share listings. Nothing is planned here: a database whose files make no chain, or
//! are in the v0.3.x format, is found too.
//!
//! With the URL of a bucket, databases are handed over while the listing still runs (`handover`).
//! With litestream.yml, and on a disk, all are found first.

use crate::catalogue::Replica;
use crate::config::{Config, ConfigError, Env, StoreConfig, parse_pattern_url};
use crate::error::{BUG, Class, escaped};
use crate::fleet::discovery::configured::{self, ConfigSource};
use crate::fleet::discovery::found::{
    DatabaseRef, Discovery, DiscoveryProgress, Found, Options, Output, id_of, key_of, path_of,
};
use crate::fleet::discovery::handover::{Early, Owner};
use crate::fleet::discovery::listing::{Lister, ListingLimits};
use crate::fleet::discovery::pattern::{Pattern, PatternError, relative_output};
use crate::fleet::discovery::shard::Shard;
use crate::restore::Worker;
use crate::store::{Store, StoreError};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use thiserror::Error;

/// Where to look, and for what.
pub enum FleetSource {
    Url(UrlSource),
    Config(ConfigSource),
}

/// A pattern over the keys of one store.
pub struct UrlSource {
    store: Store,
    /// The part of ids before the key. It is empty for files.
    bucket: String,
    pattern: Pattern,
}

/// Hands databases over before all are found, and remembers which. It is kept when a failed discovery
/// begins again, so no database is handed over twice.
#[derive(Default)]
pub(crate) struct HandOver {
    /// Gets the databases. None: nothing is handed over, and all are in [`Discovery::found`].
    give: Option<Box<dyn FnMut(Vec<Found>)>>,
    /// The [`fingerprint`]s of the databases that were handed over, by root.
    handed: HashMap<Box<str>, u64>,
    tally: Tally,
}

/// Counts of this shard's databases.
#[derive(Debug, Default)]
struct Tally {
    with_backups: u64,
    without_backups: u64,
    v3_only: u64,
    /// Hashes of the directories that hold them.
    folders: HashSet<u64>,
    hasher: RandomState,
}

/// Why the databases could not be found. [`discover`] returns it, and [`FleetSource::url`] before anything is listed.
/// One database of litestream.yml that cannot be looked for is a [`FoundError`](super::found::FoundError) instead.
#[derive(Debug, Clone, Error)]
pub enum DiscoverError {
    /// The pattern cannot be used.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The URL or litestream.yml gives no location.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listing failed.
    #[error(transparent)]
    Store(StoreError),
    /// It ended without a result, although nobody stopped it.
    #[error("{BUG}: discovery ended without a result")]
    NoResult,
}

impl FleetSource {
    /// A pattern URL, `s3://bucket/prefix/glob?query` or `file:///dir/glob`.
    ///
    /// # Errors
    /// The URL names no store, or the pattern has a syntax error.
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

    /// `pattern` over the keys of `store`.
    pub fn keys(store: Store, bucket: &str, pattern: Pattern) -> Self {
        Self::Url(UrlSource { store, bucket: bucket.to_owned(), pattern })
    }

    /// `pattern` over the databases of `config`. `open` is called once for each different store.
    ///
    /// # Errors
    /// The pattern has a syntax error. Entries that cannot be used are no error here. They are in
    /// [`Discovery::failed`].
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

/// Finds the databases of `source`. A pattern that matches nothing is no error; `matched` is 0 then.
///
/// # Errors
/// With a URL: the listing failed. With litestream.yml there is none: only single databases fail, in
/// [`Discovery::failed`].
pub async fn discover(
    worker: &Worker,
    source: &FleetSource,
    options: Options,
    progress: &DiscoveryProgress,
) -> Result<Discovery, DiscoverError> {
    discover_early(worker, source, options, progress, &mut HandOver::default()).await
}

/// Finds the databases of `source`. With the URL of a bucket, each is handed over as soon as it is
/// complete.
///
/// # Errors
/// As [`discover`]. Databases that were handed over before an error are complete.
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
    discovery.found.sort_by(|a, b| (&a.database.name, &a.database.path).cmp(&(&b.database.name, &b.database.path)));
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
        // The disk can only list whole directories.
        Store::File(_) => pattern.literal_dir().to_owned(),
    };
    let owner = |root: &str| source.owner(root, options.shard);
    let own_name = relative_output(pattern.literal_dir(), source.name_of(pattern.literal_dir()));
    let HandOver { give, handed, tally } = hand_over;
    let mut give_all = give.as_mut().map(|give| {
        |replicas: Vec<Replica>| {
            let mut found = Vec::with_capacity(replicas.len());
            for replica in replicas {
                if !handed.contains_key(replica.root.as_str()) {
                    handed.insert(replica.root.as_str().into(), fingerprint(&replica));
                    found.push(source.found(replica));
                }
            }
            found.iter().for_each(|found| tally.count(found));
            give(found);
        }
    });
    let literal_dir = pattern.literal_dir();
    let mut early = give_all.as_mut().map(|give_all| Early::new(literal_dir, &own_name, &owner, give_all));
    let lister = Lister { http: &worker.http, store, progress };
    let listed = lister.list(&prefix, ListingLimits::default(), &|_| true, early.as_mut()).await;
    let mut others = early.map(Early::into_others).unwrap_or_default();
    let listing = listed.map_err(|e| DiscoverError::Store(e.without_limits(&prefix)))?;
    let mut discovery = Discovery { unordered: listing.unordered, ..Discovery::default() };
    for replica in listing.catalogue.finish() {
        match owner(&replica.root) {
            Owner::Nobody => {}
            Owner::OtherShard => others.count(&replica.root),
            Owner::Us => match handed.get(replica.root.as_str()) {
                None => discovery.found.push(source.found(replica)),
                Some(files) if listing.unordered && *files != fingerprint(&replica) => {
                    discovery.possibly_incomplete.push(source.found(replica));
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

    /// The name of the database under `root`.
    fn name_of<'a>(&'a self, root: &'a str) -> &'a str {
        let key = key_of(root);
        if key.is_empty() { &self.bucket } else { key }
    }

    fn found(&self, replica: Replica) -> Found {
        let name = self.name_of(&replica.root);
        let database = DatabaseRef {
            name: name.to_owned(),
            id: id_of(&self.bucket, key_of(&replica.root)),
            store: self.store.clone(),
            path: path_of(&replica.root).to_owned(),
        };
        let output = Output::Relative(relative_output(self.pattern.literal_dir(), name));
        Found { database: Arc::new(database), replica: Some(replica), output }
    }
}

/// A hash of which files a replica has. It differs if a later listing shows other files.
fn fingerprint(replica: &Replica) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in replica.files.iter().chain(replica.others.iter().flat_map(|other| &other.files)) {
        (file.level.get(), file.layout, file.min_txid.0, file.max_txid.0).hash(&mut hasher);
    }
    replica.v3.is_some().hash(&mut hasher);
    hasher.finish()
}

impl HandOver {
    /// Hands databases to `give` as soon as they are complete.
    pub(crate) fn to(give: impl FnMut(Vec<Found>) + 'static) -> Self {
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
        let folder = found.database.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.folders.insert(self.hasher.hash_one(folder));
    }

    fn tell(&self, discovery: &mut Discovery) {
        discovery.with_backups = self.with_backups;
        discovery.without_backups = self.without_backups;
        discovery.v3_only = self.v3_only;
        discovery.folders = self.folders.len() as u64;
    }
}

impl DiscoverError {
    /// The class that the error log names.
    pub fn class(&self) -> Class {
        match self {
            Self::Pattern(_) => Class::Config,
            Self::Config(e) => e.class(),
            Self::Store(e) => e.class(),
            Self::NoResult => Class::Io,
        }
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
