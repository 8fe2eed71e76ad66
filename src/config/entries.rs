//! The contents of litestream.yml as Rust types, after parsing and validation.

use super::{ConfigError, DirPattern, Location, StoreConfig};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The contents of litestream.yml that matter for a restore.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The entries of `dbs:`, in the order of the file.
    pub databases: Vec<DatabaseEntry>,
    /// The section `restore-pattern:`, if the file has one. If it is invalid, it is the reason, with file and line.
    pub restore_pattern: Option<Result<RestorePattern, ConfigError>>,
    /// What is probably not meant, with file and lines: a path that is configured twice.
    pub warnings: Vec<String>,
}

/// One element of the list `dbs:` in litestream.yml.
#[derive(Debug, Clone)]
pub struct DatabaseEntry {
    /// The database or the directory of databases that the entry names.
    pub kind: EntryKind,
    /// The location of the backups. For a `dir:` entry it is the location below which each database has its own
    /// replica ([`Location::join`]). If the entry is invalid, it is the reason. An invalid entry does not affect
    /// the others.
    pub replica: Result<Location, ConfigError>,
}

/// The database or directory that an element of `dbs:` names. Paths are absolute and clean. An entry with neither
/// `path:` nor `dir:` has an empty path, which matches no database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A `path:` entry, which names one database file.
    Path(PathBuf),
    /// A `dir:` entry: every database below `dir` whose base name matches `pattern`. Only direct children match,
    /// unless the entry is `recursive`.
    Dir {
        /// The directory of the entry, absolute and clean.
        dir: PathBuf,
        /// The pattern for base names. `*` stands for an invalid pattern.
        pattern: DirPattern,
        /// Whether databases in its subdirectories match too.
        recursive: bool,
    },
}

/// The section `restore-pattern:`, which holds defaults for the flags of `hydrant restore-pattern`. The section is
/// Hydrant's own. Litestream ignores it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestorePattern {
    /// `parallel-workers`, the number of worker threads, at least 1.
    pub parallel_workers: Option<u32>,
    /// `max-retries`, the number of retries per database. 0 means none.
    pub max_retries: Option<u32>,
    /// `retry-delay`, the pause before a retry, for example `5s`.
    pub retry_delay: Option<Duration>,
    /// `owner`, as written: a user, a group, or both.
    pub owner: Option<String>,
    /// `mode`, the mode of databases.
    pub mode: Option<u32>,
    /// `dir-mode`, the mode of new directories.
    pub dir_mode: Option<u32>,
    /// `connect-timeout`, how long a service that does not answer connections yet is waited for. Also used by
    /// `hydrant restore` and `hydrant ltx`, as the next one.
    pub connect_timeout: Option<Duration>,
    /// `stall-timeout`, how long a database goes on without progress. 0 means without end.
    pub stall_timeout: Option<Duration>,
}

impl Config {
    /// Finds the location of the backups of the database at `db_path`, a path that [`super::clean_path`] returned.
    /// A `path:` entry with this path has precedence over `dir:` entries that cover it. If several entries match,
    /// the first counts.
    pub fn find(&self, db_path: &Path) -> Result<Location, ConfigError> {
        let named = self.databases.iter().find(|entry| matches!(&entry.kind, EntryKind::Path(p) if p == db_path));
        if let Some(entry) = named {
            return entry.replica.clone();
        }
        let covering = self.databases.iter().find_map(|entry| Some((entry, entry.kind.relative(db_path)?)));
        match covering {
            Some((entry, relative)) => Ok(entry.replica.clone()?.join(&relative)),
            None => Err(ConfigError::DatabaseNotFound(db_path.to_owned())),
        }
    }

    /// Whether an entry names the database in `store` whose keys begin with `root`.
    pub fn names_root(&self, store: &StoreConfig, root: &str) -> bool {
        self.databases.iter().any(|entry| match &entry.replica {
            Ok(location) if location.store == *store => match &entry.kind {
                EntryKind::Path(_) => root.trim_end_matches('/') == location.path.trim_end_matches('/'),
                dir @ EntryKind::Dir { .. } => {
                    let below = root.strip_prefix(&location.dir_prefix());
                    below.is_some_and(|relative| dir.accepts(relative.trim_end_matches('/')))
                }
            },
            _ => false,
        })
    }
}

impl EntryKind {
    /// The path of `db_path` relative to the directory of a `dir:` entry, with slashes. None if the entry does not
    /// cover `db_path`, and for `path:` entries.
    pub fn relative(&self, db_path: &Path) -> Option<String> {
        let Self::Dir { dir, .. } = self else { return None };
        let relative = db_path.strip_prefix(dir).ok()?.to_str()?;
        self.accepts(relative).then(|| relative.to_owned())
    }

    /// Whether a `dir:` entry backs up the database at `relative`, a path below its directory. The base name must
    /// match the pattern. A path with folders matches only if the entry is recursive.
    pub fn accepts(&self, relative: &str) -> bool {
        let Self::Dir { pattern, recursive, .. } = self else { return false };
        let (parents, base) = relative.rsplit_once('/').unwrap_or(("", relative));
        !base.is_empty() && (*recursive || parents.is_empty()) && pattern.matches(base)
    }
}
