//! Finds the databases that a pattern matches, and the backup files that the store has of each.
//!
//! With a URL, one listing shows all databases. With litestream.yml (`configured`), databases that lie close
//! together share listings. Nothing is planned here: a database is also found if its files have gaps, or are those of
//! Litestream 0.3.

use crate::catalogue::saved::{CatalogueSource, SavedStore};
use crate::catalogue::{Interest, Replica};
use crate::config::{Config, ConfigError, Env, StoreConfig, parse_pattern_url};
use crate::error::{BUG, Class, escaped};
use crate::fleet::discovery::catalogue_file::{
    CatalogueFailure, CatalogueFileError, CatalogueUse, LoadedCatalogue, head, load,
};
use crate::fleet::discovery::config_source::ConfigSource;
use crate::fleet::discovery::configured;
use crate::fleet::discovery::found::{
    DatabaseRef, Discovery, DiscoveryProgress, Found, FoundError, FoundFailure, Options, Output, id_of, key_of, path_of,
};
use crate::fleet::discovery::hints;
use crate::fleet::discovery::listing::{FleetListing, Lister, ListingLimits};
use crate::fleet::discovery::pattern::{Pattern, PatternError, relative_output};
use crate::fleet::discovery::unlisted::{Part, part};
use crate::restore::{Worker, nearest_directory, no_directory};
use crate::store::{Store, StoreError, StoreErrorKind, Unlisted};
use crate::timestamp::Timestamp;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use thiserror::Error;

/// Where to look for databases, and which of them to take.
pub enum FleetSource {
    /// All databases below the prefix of a URL.
    Url(UrlSource),
    /// The databases that a litestream.yml configures.
    Config(ConfigSource),
}

/// A store and a pattern that selects databases by their keys.
pub struct UrlSource {
    store: Store,
    /// Bucket's name, the part of database ids before the key. Empty for files on disk.
    bucket: String,
    pattern: Pattern,
}

/// Why no database could be found. [`discover`] returns it; [`FleetSource::url`] returns it before anything is
/// listed. If only one database of litestream.yml cannot be looked for, a
/// [`FoundError`] says so instead.
#[derive(Debug, Clone, Error)]
pub enum DiscoverError {
    /// The pattern that selects databases has a syntax error.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The URL or litestream.yml does not name a usable location.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listing of the store failed, after all retries.
    #[error(transparent)]
    Store(StoreError),
    /// The catalogue cannot be read or written, or it is of another fleet.
    #[error(transparent)]
    Catalogue(#[from] CatalogueFileError),
    /// Discovery ended without a result although nobody cancelled it, for example because its worker panicked.
    #[error("{BUG}: discovery ended without a result")]
    NoResult,
}

impl FleetSource {
    /// Parses a URL with a pattern: `s3://bucket/prefix/glob?query` or `file:///dir/glob`. `open` opens the
    /// store.
    ///
    /// # Errors
    /// [`DiscoverError::Config`] if the URL names no store; [`DiscoverError::Pattern`] if the pattern has a
    /// syntax error.
    pub fn url(url: &str, env: &Env<'_>, open: &mut dyn FnMut(&StoreConfig) -> Store) -> Result<Self, DiscoverError> {
        let (location, pattern) = parse_pattern_url(url, env)?;
        let (bucket, pattern) = match &location.store {
            StoreConfig::S3(s3) => (s3.bucket.clone(), pattern),
            // Keys of files on disk are absolute paths, so the pattern begins with a slash.
            StoreConfig::File => (String::new(), format!("/{pattern}")),
        };
        Ok(Self::keys(open(&location.store), &bucket, Pattern::for_keys(&pattern)?))
    }

    /// Selects the databases of `store` whose keys match `pattern`. `bucket` becomes the first part of their
    /// ids.
    pub fn keys(store: Store, bucket: &str, pattern: Pattern) -> Self {
        Self::Url(UrlSource { store, bucket: bucket.to_owned(), pattern })
    }

    /// What the keys of all databases of a URL begin with. None with litestream.yml.
    pub fn list_prefix(&self) -> Option<String> {
        match self {
            Self::Url(source) => Some(source.pattern.list_prefix()),
            Self::Config(_) => None,
        }
    }

    /// Selects the databases of the litestream.yml `config` that match `pattern`. `open` is called once for
    /// each store.
    ///
    /// # Errors
    /// [`DiscoverError::Pattern`] if the pattern has a syntax error. Entries that cannot be used are not an
    /// error here: they are reported in [`Discovery::failed`].
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

/// Finds the databases of `source` by listing its stores. If the pattern matches none, that is not an error, and
/// `matched` is 0.
///
/// # Errors
/// [`DiscoverError::Store`] if the listing of a URL fails. With litestream.yml no error is returned: each
/// database or entry that fails is in [`Discovery::failed`].
pub async fn discover(
    worker: &Worker,
    source: &FleetSource,
    options: Options,
    progress: &DiscoveryProgress,
) -> Result<Discovery, DiscoverError> {
    discover_by(worker, source, options, &CatalogueUse::List, progress).await
}

/// As [`discover`], with a catalogue that is written, or read instead of listing.
///
/// # Errors
/// Also [`DiscoverError::Catalogue`].
pub(in crate::fleet) async fn discover_by(
    worker: &Worker,
    source: &FleetSource,
    options: Options,
    catalogue: &CatalogueUse,
    progress: &DiscoveryProgress,
) -> Result<Discovery, DiscoverError> {
    let mut discovery = match source {
        FleetSource::Url(source) => by_url(worker, source, options, catalogue, progress).await?,
        FleetSource::Config(source) => configured::discover(worker, source, options, catalogue, progress).await?,
    };
    discovery.lists = progress.lists.load(Relaxed);
    discovery
        .found
        .sort_unstable_by(|a, b| (a.database.name(), a.database.path()).cmp(&(b.database.name(), b.database.path())));
    count(&mut discovery);
    Ok(discovery)
}

/// Fills in the counts of `discovery` from its list of databases.
fn count(discovery: &mut Discovery) {
    let mut folders = HashSet::new();
    for found in &discovery.found {
        match &found.replica {
            None => discovery.without_backups += 1,
            Some(replica) => {
                discovery.with_backups += 1;
                discovery.v3_only += u64::from(replica.files.is_empty());
            }
        }
        folders.insert(found.database.name().rsplit_once('/').map_or("", |(folder, _)| folder));
    }
    discovery.folders = folders.len() as u64;
}

async fn by_url(
    worker: &Worker,
    source: &UrlSource,
    options: Options,
    catalogue: &CatalogueUse,
    progress: &DiscoveryProgress,
) -> Result<Discovery, DiscoverError> {
    let takes = |key: &str| options.shard.is_none_or(|shard| shard.takes(&id_of(&source.bucket, key)));
    let mut discovery = Discovery::default();
    let (replicas, mut broken) = if let CatalogueUse::Saved(path) = catalogue {
        let memory = &worker.shared.catalogue;
        let LoadedCatalogue { time, replicas, others, unlisted, .. } =
            load(path, &source.catalogue_source(), memory, &|_, root| takes(key_of(root)), false)?;
        discovery.recovery_point = time;
        discovery.matched = others;
        let unlisted: Vec<Unlisted> = unlisted.into_iter().map(|(_, unlisted)| unlisted).collect();
        let broken = source.broken(&unlisted, &takes, &mut discovery);
        (replicas.into_iter().map(|(_, replica)| replica).collect(), broken)
    } else {
        let begun = Timestamp::now();
        let listing = source.list(worker, &|key| catalogue.is_saving() || takes(key), progress).await?;
        discovery.unordered = listing.unordered;
        discovery.matched = listing.catalogue.counted().len();
        let broken = source.broken(&listing.unlisted, &takes, &mut discovery);
        let is_nothing = discovery.matched == 0 && listing.catalogue.databases() == 0 && broken.is_empty();
        if is_nothing {
            let shown = |key: &str| source.store.place(key);
            discovery.instead = Some(hints::instead(&source.pattern, &listing.catalogue, &shown));
        }
        let mut replicas = listing.catalogue.finish();
        if let CatalogueUse::Save(file) = catalogue
            && !is_nothing
        {
            file.write(&head(source.catalogue_source(), begun), |catalogue| {
                replicas.iter().try_for_each(|replica| catalogue.database(0, replica))?;
                listing.unlisted.iter().try_for_each(|unlisted| catalogue.unlisted(0, unlisted))
            })?;
            discovery.recovery_point = Some(begun);
            let all = replicas.len();
            replicas.retain(|replica| takes(key_of(&replica.root)));
            discovery.matched += (all - replicas.len()) as u64;
        }
        (replicas, broken)
    };
    for replica in replicas {
        discovery.matched += 1;
        match broken.remove(&replica.root) {
            None => discovery.found.push(source.found(replica)),
            Some(error) => discovery.failed.push(source.failed(replica.root, error)),
        }
    }
    for (root, error) in broken {
        discovery.matched += 1;
        discovery.failed.push(source.failed(root, error));
    }
    Ok(discovery)
}

impl UrlSource {
    /// Lists all databases that match. The files of those whose keys `keeps` is true for are kept, the others are
    /// counted.
    async fn list(
        &self,
        worker: &Worker,
        keeps: &dyn Fn(&str) -> bool,
        progress: &DiscoveryProgress,
    ) -> Result<FleetListing, DiscoverError> {
        let Self { store, pattern, .. } = self;
        let prefix = match store {
            Store::S3(_) | Store::Past(_) => pattern.list_prefix(),
            // A directory on disk can only be listed whole, so the prefix ends at the last slash.
            Store::File(_) => pattern.literal_dir().to_owned(),
        };
        if store.is_on_disk()
            && let Some(nearest) = nearest_directory(Path::new(pattern.literal_dir()))
        {
            let detail = no_directory(Path::new(pattern.literal_dir()), &nearest);
            let unlisted = Unlisted { key: prefix, kind: StoreErrorKind::Io, detail };
            return Err(DiscoverError::Store(unlisted.error()));
        }
        let interest = |root: &str| match key_of(root) {
            key if !pattern.matches(key) => Interest::Pass,
            key if !keeps(key) => Interest::Count,
            _ => Interest::Keep,
        };
        let lister = Lister { http: &worker.http, store, memory: &worker.shared.catalogue, progress };
        let listed = lister.list(&prefix, ListingLimits::default(), &|_| true, &interest).await;
        listed.map_err(|e| DiscoverError::Store(e.without_limits(&prefix)))
    }

    /// What a catalogue of this source says that it is of.
    fn catalogue_source(&self) -> CatalogueSource {
        let pattern = self.pattern.text().to_owned();
        CatalogueSource { pattern, stores: vec![SavedStore::of(&self.store)], entries: None }
    }

    /// Returns the name of the database whose files lie under `root`.
    fn name_of<'a>(&'a self, root: &'a str) -> &'a str {
        let key = key_of(root);
        if key.is_empty() { &self.bucket } else { key }
    }

    /// The databases that match and that cannot be listed completely: their roots, and why. Directories in which
    /// databases may lie that match go to `discovery` at once.
    fn broken(
        &self,
        unlisted: &[Unlisted],
        takes: &dyn Fn(&str) -> bool,
        discovery: &mut Discovery,
    ) -> BTreeMap<String, StoreError> {
        let mut broken = BTreeMap::new();
        for unlisted in unlisted {
            match part(unlisted) {
                Part::OfReplica(root) if self.pattern.matches(key_of(root)) => {
                    if takes(key_of(root)) {
                        broken.entry(root.to_owned()).or_insert_with(|| unlisted.error());
                    } else {
                        discovery.matched += 1;
                    }
                }
                Part::Directory(dir) if self.pattern.matches(dir) || self.pattern.may_match_in(dir) => {
                    discovery.matched += 1;
                    if takes(dir) {
                        let failure = FoundFailure::Store(unlisted.error());
                        discovery.failed.push(FoundError { name: dir.to_owned(), failure, found: None });
                    }
                }
                _ => tracing::debug!(
                    target: "hydrant::fleet",
                    key = unlisted.key,
                    why = unlisted.detail,
                    "skipped: it is no database"
                ),
            }
        }
        broken
    }

    /// A database that cannot be listed completely.
    fn failed(&self, root: String, error: StoreError) -> FoundError {
        let nothing = Replica { root, files: Vec::new(), v3: None, others: Vec::new() };
        let found = Found { replica: None, ..self.found(nothing) };
        FoundError {
            name: found.database.name().to_owned(),
            failure: FoundFailure::Store(error),
            found: Some(Box::new(found)),
        }
    }

    fn found(&self, replica: Replica) -> Found {
        let name = self.name_of(&replica.root);
        let id = id_of(&self.bucket, key_of(&replica.root));
        let database = DatabaseRef::new(name, id, self.store.clone(), path_of(&replica.root));
        let output = Output::Relative(relative_output(self.pattern.literal_dir(), name));
        Found { database: Arc::new(database), replica: Some(replica), output }
    }
}

impl From<CatalogueFailure> for DiscoverError {
    fn from(error: CatalogueFailure) -> Self {
        match error {
            CatalogueFailure::File(error) => Self::Catalogue(error),
            CatalogueFailure::Memory(error) => Self::Store(error),
        }
    }
}

impl DiscoverError {
    /// Class of this error in the error log (docs/CLI.md, "Error log classes").
    pub fn class(&self) -> Class {
        match self {
            Self::Pattern(_) => Class::Config,
            Self::Config(e) => e.class(),
            Self::Store(e) => e.class(),
            Self::Catalogue(e) => e.class(),
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
