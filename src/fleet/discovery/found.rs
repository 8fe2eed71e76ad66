//! Results of a discovery: the databases, the backup files of each, and the databases that could not be looked
//! for. The other files of `discovery` use this one. It uses only `shard` of them.

use crate::catalogue::Replica;
use crate::config::ConfigError;
use crate::error::Class;
use crate::fleet::discovery::shard::Shard;
use crate::restore::NothingFound;
use crate::store::{Store, StoreError};
use crate::timestamp::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use thiserror::Error;

/// Identity of a database. Discovery creates it once; queue, restore and reports share it.
#[derive(Debug)]
pub struct DatabaseRef {
    id: Box<str>,
    name: Text,
    path: Text,
    /// The store that holds its replica.
    pub store: Store,
}

/// A text of a database.
#[derive(Debug)]
enum Text {
    /// The end of the id, from this byte on.
    EndOfId(u32),
    Own(Box<str>),
}

impl DatabaseRef {
    /// The database of which [`Self::name`], [`Self::id`] and [`Self::path`] are these.
    pub fn new(name: &str, id: String, store: Store, path: &str) -> Self {
        let text = |text: &str| match id.len().checked_sub(text.len()).map(u32::try_from) {
            Some(Ok(from)) if id.ends_with(text) => Text::EndOfId(from),
            _ => Text::Own(text.into()),
        };
        let (name, path) = (text(name), text(path));
        Self { id: id.into(), name, path, store }
    }

    /// The name in logs and reports. With litestream.yml this is the configured path. With a URL it
    /// is the key without the slash at its end (the bucket's name for a database at the bucket's
    /// root), for files the absolute path.
    pub fn name(&self) -> &str {
        self.text(&self.name)
    }

    /// `bucket/key`, for files the absolute path. The shard is computed from it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the replica lies in the store, in the form that [`crate::restore::Request`] takes.
    pub fn path(&self) -> &str {
        self.text(&self.path)
    }

    fn text<'a>(&'a self, text: &'a Text) -> &'a str {
        match text {
            Text::EndOfId(from) => self.id.get(*from as usize..).unwrap_or_default(),
            Text::Own(text) => text,
        }
    }
}

/// Settings of a discovery.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Shard of this run. Databases of other shards are counted but not returned. None: all databases.
    pub shard: Option<Shard>,
    /// With litestream.yml: if true, outputs are placed below `--output-dir` and not at the configured paths.
    pub relative_outputs: bool,
}

/// A database that the pattern matches, and its backup files.
#[derive(Debug, Clone)]
pub struct Found {
    /// Name, id and location of the database, shared with queue and reports.
    pub database: Arc<DatabaseRef>,
    /// The backup files that the listing showed. None: the database is configured, but the store has no file of
    /// it.
    pub replica: Option<Replica>,
    /// Path to which the database will be restored, not checked yet.
    pub output: Output,
}

/// Where a restored database is written. The relative paths come from a bucket's keys and are not checked yet:
/// they may contain `..`, empty names or a leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Absolute path that litestream.yml names.
    Configured(PathBuf),
    /// Path below the absolute directory `dir` of a `dir:` entry. `relative` comes from the bucket and has `/`
    /// between its components.
    InDir {
        /// Absolute path of the directory, from the configuration.
        dir: PathBuf,
        /// Path below `dir`.
        relative: String,
    },
    /// Path below `--output-dir`, or below the current directory without that option. Components are separated
    /// by `/`.
    Relative(String),
}

impl Output {
    /// Returns the path that comes from the bucket's keys. None for a path that the configuration names.
    pub fn relative(&self) -> Option<&str> {
        match self {
            Self::Configured(_) => None,
            Self::InDir { relative, .. } | Self::Relative(relative) => Some(relative),
        }
    }

    /// Returns whether litestream.yml replicates a database from this path.
    pub fn is_configured(&self) -> bool {
        matches!(self, Self::Configured(_) | Self::InDir { .. })
    }
}

/// A database or a `dir:` entry that could not be looked for. Its text is the reason, without the name. Other
/// databases are not affected.
#[derive(Debug, Clone, Error)]
#[error("{failure}")]
pub struct FoundError {
    /// The configured path of the database, or the directory of the `dir:` entry.
    pub name: String,
    /// Why the database or entry could not be looked for.
    pub failure: FoundFailure,
    /// The database, if only its own listing failed, so that it can be tried again. `replica` is None in it.
    pub found: Option<Box<Found>>,
}

/// Why one database or `dir:` entry could not be looked for.
#[derive(Debug, Clone, Error)]
pub enum FoundFailure {
    /// The database's entry in litestream.yml cannot be used.
    #[error(transparent)]
    Config(ConfigError),
    /// The listing of the database's files failed, after all retries.
    #[error(transparent)]
    Store(StoreError),
    /// Its listing shows other databases than its own.
    #[error(transparent)]
    Nothing(NothingFound),
}

/// What lies in a store where a pattern matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instead {
    /// A text that says it.
    pub text: String,
    /// The pattern most like the one that matches nothing that matches something. None: none is known.
    pub pattern: Option<String>,
}

/// Result of a discovery. Counts are numbers of databases unless they say otherwise.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// The databases of this shard, sorted by name.
    pub found: Vec<Found>,
    /// Databases of this shard that could not be looked for. An entry that has no key in a bucket belongs to no
    /// shard, so every shard reports it.
    pub failed: Vec<FoundError>,
    /// Number of databases that the pattern matches in all shards, including failed ones.
    pub matched: u64,
    /// Number of this shard's databases that have LTX files or files of Litestream 0.3.
    pub with_backups: u64,
    /// Number of this shard's databases of which the store has no file.
    pub without_backups: u64,
    /// Number of this shard's databases that have files of Litestream 0.3 and no LTX files.
    pub v3_only: u64,
    /// Number of directories that contain this shard's databases.
    pub folders: u64,
    /// Number of LIST requests that were answered, without retries.
    pub lists: u64,
    /// What is to be said although nothing has failed.
    pub warnings: Vec<String>,
    /// If nothing matches: what lies there instead.
    pub instead: Option<Instead>,
    /// A store listed out of order, so its prefix was listed again page by page, without ranges.
    pub unordered: bool,
    /// With a catalogue: when its listing began. All databases are restored to the states that were newest then.
    pub recovery_point: Option<Timestamp>,
}

/// Counters of a running discovery, for the progress display.
#[derive(Debug, Default)]
pub struct DiscoveryProgress {
    /// Number of objects listed. An object that is listed twice counts once.
    pub keys: AtomicU64,
    /// Number of databases seen in listings, whether they match the pattern or not.
    pub databases: AtomicU64,
    /// Number of LIST requests that were answered so far.
    pub lists: AtomicU64,
}

impl DiscoveryProgress {
    pub(in crate::fleet) fn answered(&self, keys: u64) {
        self.lists.fetch_add(1, Relaxed);
        self.keys.fetch_add(keys, Relaxed);
    }

    /// Subtracts what a listing counted that is given up, because its objects will be listed and counted again.
    pub(in crate::fleet) fn forget(&self, keys: u64, databases: usize) {
        self.keys.fetch_sub(keys, Relaxed);
        self.databases.fetch_sub(databases as u64, Relaxed);
    }

    /// Adds the databases that a listing has seen since it had seen `before` of them. Returns `now`.
    pub(in crate::fleet) fn seen(&self, before: usize, now: usize) -> usize {
        self.databases.fetch_add(now.saturating_sub(before) as u64, Relaxed);
        now
    }
}

impl FoundError {
    /// Class of this failure in the error log (docs/CLI.md, "Error log classes").
    pub fn class(&self) -> Class {
        match &self.failure {
            FoundFailure::Config(e) => e.class(),
            FoundFailure::Store(e) => e.class(),
            FoundFailure::Nothing(_) => Class::BackupNotFound,
        }
    }
}

/// Returns the key of the database whose files lie under `root`, without the slash at its end. The result is
/// empty for a database at the root of a bucket, whose keys can begin in three ways (docs/FORMAT.md, "Key
/// layouts").
pub(in crate::fleet) fn key_of(root: &str) -> &str {
    let key = root.trim_end_matches('/');
    if key == "." { "" } else { key }
}

/// Returns a path of which [`Replica::roots`] contains `root`. For a database at the root of a bucket it is the
/// empty path.
pub(in crate::fleet) fn path_of(root: &str) -> &str {
    if key_of(root).is_empty() { "" } else { root.strip_suffix('/').unwrap_or(root) }
}

/// Returns `bucket/key`. Without a bucket (files on disk) it returns `key`.
pub(in crate::fleet) fn id_of(bucket: &str, key: &str) -> String {
    if bucket.is_empty() { key.to_owned() } else { format!("{bucket}/{key}") }
}
