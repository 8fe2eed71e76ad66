//! What the simulator needs of SQLite itself: temporary folders for databases, and the integrity check.

use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether SQLite's full integrity check finds the bytes of a database file right. Bytes that SQLite cannot open are
/// not. The check writes the bytes to a temporary folder.
pub fn is_intact(database: &[u8]) -> bool {
    check(database).unwrap_or(false)
}

fn check(database: &[u8]) -> Result<bool, Box<dyn std::error::Error>> {
    let folder = TemporaryFolder::create()?;
    let path = folder.path().join("check.db");
    std::fs::write(&path, database)?;
    // A database in WAL mode can be read without a WAL only if it is declared immutable.
    let uri = format!("file:{}?immutable=1", path.display());
    let connection = Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?;
    let first: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok(first == "ok")
}

/// A temporary folder, removed when this is dropped.
#[derive(Debug)]
pub(super) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Creates an empty folder.
    pub(super) fn create() -> std::io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("hydrant-sample-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
