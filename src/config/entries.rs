//! The contents of litestream.yml, typed.

use super::{ConfigError, DirPattern, Location};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// litestream.yml, as far as restoring needs it.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// In the file's order.
    pub databases: Vec<DatabaseEntry>,
    /// The section `restore-pattern:`.
    pub restore_pattern: Option<RestorePattern>,
}

/// One element of `dbs:`.
#[derive(Debug, Clone)]
pub struct DatabaseEntry {
    pub kind: EntryKind,
    /// Where its backups are. For a directory: the location below which each database has its own
    /// ([`Location::join`]). If the entry is invalid, the reason.
    pub replica: Result<Location, ConfigError>,
}

/// What an entry of `dbs:` names. Paths are absolute and clean. An entry without `path:` and `dir:`
/// has an empty path, which matches no database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// `path:`, one database.
    Path(PathBuf),
    /// `dir:`, every database below it whose base name matches.
    Dir { dir: PathBuf, pattern: DirPattern, recursive: bool },
}

/// `restore-pattern:`, the defaults of that command's flags. Hydrant's own; Litestream ignores it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestorePattern {
    /// `parallel-workers`, at least 1.
    pub parallel_workers: Option<u32>,
    /// `max-retries`; 0 means none.
    pub max_retries: Option<u32>,
    /// `retry-delay`, e.g. `5s`.
    pub retry_delay: Option<Duration>,
}

impl Config {
    /// Where the backups of the database at `db_path` are; `db_path` comes from
    /// [`super::clean_path`]. An entry that names the path has precedence over `dir:` entries that
    /// cover it. Of several, the first counts.
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
}

impl EntryKind {
    /// For a `dir:` entry that covers `db_path`: the path relative to its directory, with
    /// slashes. None for a path that it does not cover, and for `path:` entries.
    pub fn relative(&self, db_path: &Path) -> Option<String> {
        let Self::Dir { dir, .. } = self else { return None };
        let relative = db_path.strip_prefix(dir).ok()?.to_str()?;
        self.accepts(relative).then(|| relative.to_owned())
    }

    /// Whether a `dir:` entry backs up the database at `relative`, a path below its directory:
    /// the base name matches the pattern, and it is a direct child or the entry is recursive.
    pub fn accepts(&self, relative: &str) -> bool {
        let Self::Dir { pattern, recursive, .. } = self else { return false };
        let (parents, base) = relative.rsplit_once('/').unwrap_or(("", relative));
        !base.is_empty() && (*recursive || parents.is_empty()) && pattern.matches(base)
    }
}
