//! The location of a replica, after all settings have been resolved.

use super::paths;
use crate::store::s3::S3Config;

/// The location of one replica: the store, and the path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The store that holds the replica.
    pub store: StoreConfig,
    /// The path of the replica in its store.
    ///
    /// In S3 it is the key prefix without the slash that follows. A path from a URL is clean; a path from
    /// litestream.yml is kept as written, for example `/p/a.db/` (docs/FORMAT.md, "Replica URLs"). An empty path
    /// and `.` both mean the bucket's root; `Replica::roots` says how they differ. On disk it is the absolute path
    /// of the directory.
    pub path: String,
    /// The URL or path as the user typed it, without secrets. Messages show it.
    pub display: String,
    /// What the operator should know and what is no error: parameters of the URL without effect.
    pub warnings: Vec<String>,
}

/// The kind of store, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are S3: a box would only be in the way")]
pub enum StoreConfig {
    /// The replica is in a bucket of an S3 service.
    S3(S3Config),
    /// The replica is in a directory on a local disk.
    File,
}

impl StoreConfig {
    /// `s3` or `file`, the value that `-json` reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::S3(_) => "s3",
            Self::File => "file",
        }
    }

    /// The name of the bucket. None for a directory.
    pub fn bucket(&self) -> Option<&str> {
        match self {
            Self::S3(config) => Some(&config.bucket),
            Self::File => None,
        }
    }
}

impl Location {
    /// For the location of a `dir:` entry: the location of the database at `relative` (a path with slashes below
    /// the entry's directory). The joined path is clean, as Litestream's is.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        Self {
            store: self.store.clone(),
            path: paths::join_slash(&self.path, relative),
            display: paths::join_display(&self.display, relative),
            warnings: self.warnings.clone(),
        }
    }

    /// For the location of a `dir:` entry: the prefix with which the keys of all its databases begin, for example
    /// `backups/tenants/`. Empty if the databases fill a whole bucket.
    pub fn dir_prefix(&self) -> String {
        match paths::join_slash(&self.path, "").as_str() {
            "" | "." => String::new(),
            "/" => "/".to_owned(),
            path => format!("{path}/"),
        }
    }
}
