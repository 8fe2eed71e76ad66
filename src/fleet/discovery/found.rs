//! What a discovery finds: databases, what the bucket holds of them, and what could not be found.
//! Everything else in `discovery` uses this file; it uses none of them but `shard`.

use crate::catalogue::Replica;
use crate::config::ConfigError;
use crate::error::Class;
use crate::fleet::discovery::shard::Shard;
use crate::restore::NothingFound;
use crate::store::{Store, StoreError};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use thiserror::Error;

/// What identifies a database. It is made once, by discovery; everything that speaks of the
/// database later shares it. There may be millions: the three texts are stored once if they are one.
#[derive(Debug)]
pub struct DatabaseRef {
    id: Box<str>,
    name: Text,
    path: Text,
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

/// What a discovery is to do besides finding.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Give back this shard only.
    pub shard: Option<Shard>,
    /// With litestream.yml: outputs lie below `--output-dir`, not at the configured paths.
    pub relative_outputs: bool,
}

/// A database that the pattern matches.
#[derive(Debug, Clone)]
pub struct Found {
    pub database: Arc<DatabaseRef>,
    /// The files that the listing shows. None: the database is configured, but the bucket holds
    /// nothing of it.
    pub replica: Option<Replica>,
    pub output: Output,
}

/// Where a database goes. A relative path comes from a bucket's keys and is not checked yet: it may
/// hold `..`, empty names or a leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The absolute path that litestream.yml names.
    Configured(PathBuf),
    /// Below the absolute directory of a `dir:` entry, by slashes. `relative` comes from the bucket.
    InDir { dir: PathBuf, relative: String },
    /// Below `--output-dir`, or below the current directory without that option; by slashes.
    Relative(String),
}

impl Output {
    /// The path that the bucket's keys gave; None for a configured path.
    pub fn relative(&self) -> Option<&str> {
        match self {
            Self::Configured(_) => None,
            Self::InDir { relative, .. } | Self::Relative(relative) => Some(relative),
        }
    }
}

/// A database, or a `dir:` entry, that could not be looked for. Its text is the reason, without the name. The others of
/// the fleet are not affected.
#[derive(Debug, Clone, Error)]
#[error("{failure}")]
pub struct FoundError {
    /// The configured path; for a `dir:` entry its directory.
    pub name: String,
    /// Why.
    pub failure: FoundFailure,
    /// The database, where one listing of one database failed: it can be tried again. Its `replica`
    /// is None.
    pub found: Option<Box<Found>>,
}

/// Why one database could not be looked for: a part of [`FoundError`].
#[derive(Debug, Clone, Error)]
pub enum FoundFailure {
    /// Its entry in litestream.yml cannot be used.
    #[error(transparent)]
    Config(ConfigError),
    /// Its listing failed.
    #[error(transparent)]
    Store(StoreError),
    /// Its listing shows other databases than its own.
    #[error(transparent)]
    Nothing(NothingFound),
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// Sorted by name. Only databases of this shard.
    pub found: Vec<Found>,
    /// Databases of this shard. An entry without a key in a bucket has no shard: it is in every
    /// shard's list.
    pub failed: Vec<FoundError>,
    /// Databases of the whole fleet: all shards, failed ones included.
    pub matched: u64,
    /// Databases of this shard with LTX files or a v0.3.x backup.
    pub with_backups: u64,
    /// Databases of this shard of which the bucket holds nothing.
    pub without_backups: u64,
    /// Databases of this shard that have only a v0.3.x backup. The planner refuses them by name.
    pub v3_only: u64,
    /// Directories that hold this shard's databases.
    pub folders: u64,
    /// LIST requests that were needed, without retries.
    pub lists: u64,
    /// What is to be said although nothing has failed.
    pub warnings: Vec<String>,
    /// If nothing matches: what lies there instead.
    pub instead: Option<String>,
    /// A store listed out of order, so its prefix was listed again page by page, without ranges.
    pub unordered: bool,
}

/// Counts that grow while a discovery runs.
#[derive(Debug, Default)]
pub struct DiscoveryProgress {
    /// Objects listed, each counted once.
    pub keys: AtomicU64,
    /// Databases seen in listings, matching or not.
    pub databases: AtomicU64,
    /// LIST requests answered.
    pub lists: AtomicU64,
}

impl DiscoveryProgress {
    pub(in crate::fleet) fn answered(&self, keys: u64) {
        self.lists.fetch_add(1, Relaxed);
        self.keys.fetch_add(keys, Relaxed);
    }

    /// Takes back counts of a listing that is given up: its objects will be listed again.
    pub(in crate::fleet) fn forget(&self, keys: u64, databases: usize) {
        self.keys.fetch_sub(keys, Relaxed);
        self.databases.fetch_sub(databases as u64, Relaxed);
    }

    /// Adds the databases that a listing has seen since it had seen `before`. Returns `now`.
    pub(in crate::fleet) fn seen(&self, before: usize, now: usize) -> usize {
        self.databases.fetch_add(now.saturating_sub(before) as u64, Relaxed);
        now
    }
}

impl FoundError {
    /// The class that the error log names.
    pub fn class(&self) -> Class {
        match &self.failure {
            FoundFailure::Config(e) => e.class(),
            FoundFailure::Store(e) => e.class(),
            FoundFailure::Nothing(_) => Class::BackupNotFound,
        }
    }
}

/// The key of the database under `root`, without the slashes at its end. It is empty for a database
/// at the root of a bucket, whose keys can begin in several ways (docs/FORMAT.md, "Key layouts").
pub(in crate::fleet) fn key_of(root: &str) -> &str {
    let key = root.trim_end_matches('/');
    if key == "." { "" } else { key }
}

/// A path that has the root `root` ([`Replica::roots`]); of a bucket's three roots, the empty path.
pub(in crate::fleet) fn path_of(root: &str) -> &str {
    if key_of(root).is_empty() { "" } else { root.strip_suffix('/').unwrap_or(root) }
}

/// `bucket/key`; without a bucket (files) the path alone.
pub(in crate::fleet) fn id_of(bucket: &str, key: &str) -> String {
    if bucket.is_empty() { key.to_owned() } else { format!("{bucket}/{key}") }
}
