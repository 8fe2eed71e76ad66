//! Where a replica is, resolved.

use super::paths;
use crate::store::s3::S3Config;

/// Where one replica is: the store, and the path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub store: StoreConfig,
    /// In S3: the key prefix without the slash that follows it. A path from a URL is clean, a path
    /// from the configuration is as written, for example `/p/a.db/` (docs/FORMAT.md, "Replica
    /// URLs"). Empty and `.` are the bucket's root; `Replica::roots` distinguishes them. For files:
    /// the absolute path of the directory.
    pub path: String,
    /// For messages: the URL or path as typed, without secrets.
    pub display: String,
}

/// Which store, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are S3: a box would only be in the way")]
pub enum StoreConfig {
    S3(S3Config),
    /// The local disk.
    File,
}

impl StoreConfig {
    /// `s3` or `file`, as `-json` reports it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::S3(_) => "s3",
            Self::File => "file",
        }
    }
}

impl Location {
    /// The replica of the database at `relative` (slashes) below a `dir:` entry whose replica
    /// this is. The joined path is clean, as Litestream joins it.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        Self {
            store: self.store.clone(),
            path: paths::join_slash(&self.path, relative),
            display: paths::join_display(&self.display, relative),
        }
    }

    /// For a `dir:` entry's replica: what the keys of all its databases begin with, e.g.
    /// `backups/tenants/`; empty for a whole bucket.
    pub fn dir_prefix(&self) -> String {
        match paths::join_slash(&self.path, "").as_str() {
            "" | "." => String::new(),
            "/" => "/".to_owned(),
            path => format!("{path}/"),
        }
    }
}
