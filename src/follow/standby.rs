//! The database of a standby, which SQLite itself writes (docs/FOLLOW.md, "Applying"). Pages go in through the virtual
//! table `sqlite_dbpage`, in one transaction in WAL mode: SQLite does locks, atomicity, isolation of readers, recovery
//! and rollback. All functions here block, so they are called on a thread of their own.
//!
//! Between two changes the standby holds a write transaction without changes. Another program that tries to write gets
//! `database is locked`. Readers are not affected.
//!
//! While a [`Standby`] lives, this process must not open the database or its -shm beside it: closing any descriptor of
//! them would give SQLite's locks back.

use crate::error::escaped;
use crate::ltx::{PageSize, Pgno};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// How long SQLite waits for a lock that another program holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last checkpoint waits for readers.
const LAST_CHECKPOINT: Duration = Duration::from_secs(1);
/// A log that is larger than 16 MiB is cut to 0 bytes once all of it was copied.
const TRUNCATED_LOG_BYTES: u64 = 16 << 20;
/// A log that is larger than 32 MiB is not copied when the standby is closed: a signal leaves 1.8 s for that.
const LEFT_LOG_BYTES: u64 = 32 << 20;
/// SQLite keeps at most 2000 KiB of pages in memory; a larger transaction goes on in the log.
const CACHE_KIB: u32 = 2000;
/// A frame of the log has this many bytes before its page.
const FRAME_HEADER_BYTES: u64 = 24;
/// The two bytes of the database header that say whether the database is in WAL mode. 2 stands for that.
const MODE_BYTES: std::ops::Range<usize> = 18..20;

/// The environment variable with which a build gets `sqlite_dbpage`.
pub const BUILD_FLAG: &str = "LIBSQLITE3_FLAGS=-DSQLITE_ENABLE_DBPAGE_VTAB";

/// Why SQLite did not do what it was asked for.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the text in #[error] says what each variant is")]
pub enum StandbyError {
    #[error("this build of hydrant has no sqlite_dbpage, which follow mode needs: build it with {BUILD_FLAG}")]
    NoDbPage,
    #[error("{} cannot be switched to WAL mode, it stays in mode {mode}", escaped(&.path.to_string_lossy()))]
    NotWal { path: PathBuf, mode: String },
    /// The name of the database cannot be given to SQLite.
    #[error("{} is not UTF-8, which follow mode needs", escaped(&.path.to_string_lossy()))]
    NotUtf8 { path: PathBuf },
    /// The database is not what this standby has left.
    #[error("{} was changed by another program", escaped(&.path.to_string_lossy()))]
    ChangedByOther { path: PathBuf },
    /// Another program holds a write transaction, or had one for 5 s.
    #[error("{} is locked by another program that writes to it", escaped(&.path.to_string_lossy()))]
    Locked { path: PathBuf },
    #[error("the disk of {} is full", escaped(&.path.to_string_lossy()))]
    DiskFull { path: PathBuf },
    /// After a change the database has another size than the change gives it.
    #[error("{} has {found} after a change that gives it {expected}", escaped(&.path.to_string_lossy()))]
    Size { path: PathBuf, expected: String, found: String },
    #[error("SQLite: {}: {error}", escaped(&.path.to_string_lossy()))]
    Sqlite { path: PathBuf, error: rusqlite::Error },
}

/// The state of the log (`-wal`) after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFill {
    /// Its size in bytes, as far as it holds changes. 0 if it is not known.
    pub bytes: u64,
    /// Whether all of it was copied into the database.
    pub is_copied: bool,
}

/// An open standby, which holds a write transaction.
pub struct Standby {
    connection: Connection,
    path: PathBuf,
    page_size: PageSize,
    /// The size of the database in pages, as this standby has left it.
    pages: u32,
    /// Changes when another connection writes.
    version: i64,
}

/// Whether this build can follow.
///
/// # Errors
/// [`StandbyError::NoDbPage`].
pub fn check_build() -> Result<(), StandbyError> {
    let failed = |error| StandbyError::Sqlite { path: PathBuf::from(":memory:"), error };
    let connection = Connection::open_in_memory().map_err(failed)?;
    has_dbpage(&connection).map_err(failed)?.then_some(()).ok_or(StandbyError::NoDbPage)
}

fn has_dbpage(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM pragma_module_list WHERE name = 'sqlite_dbpage'";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|count| count > 0)
}

impl Standby {
    /// Opens the database at the absolute `path`, which must exist, and begins to hold its write lock. SQLite first
    /// recovers what a killed follower left in the log.
    ///
    /// # Errors
    /// [`StandbyError`].
    pub fn open(path: &Path) -> Result<Self, StandbyError> {
        let failed = |error| failed(path, error);
        let Some(name) = path.to_str() else { return Err(StandbyError::NotUtf8 { path: path.to_owned() }) };
        // Not with the flag that creates files: a database that is not there is an error.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(":memory:", flags).map_err(failed)?;
        if !has_dbpage(&connection).map_err(failed)? {
            return Err(StandbyError::NoDbPage);
        }
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).map_err(failed)?;
        // Before ATTACH: a schema that SQLite cannot parse must not matter. The database is attached and never `main`,
        // so that no statement needs its schema, which changes while pages are written.
        connection.execute_batch("PRAGMA writable_schema=ON").map_err(failed)?;
        connection.execute("ATTACH ?1 AS s", params![name]).map_err(failed)?;
        let mode: String = connection.query_row("PRAGMA s.journal_mode=WAL", [], |row| row.get(0)).map_err(failed)?;
        if mode != "wal" {
            return Err(StandbyError::NotWal { path: path.to_owned(), mode });
        }
        let settings = format!(
            "PRAGMA s.synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA s.cache_size=-{CACHE_KIB}; PRAGMA temp_store=MEMORY"
        );
        connection.execute_batch(&settings).map_err(failed)?;
        let bytes: u32 = connection.query_row("PRAGMA s.page_size", [], |row| row.get(0)).map_err(failed)?;
        let page_size = PageSize::new(bytes).ok_or_else(|| StandbyError::Size {
            path: path.to_owned(),
            expected: "a page size".to_owned(),
            found: format!("page size {bytes}"),
        })?;
        let mut standby = Self { connection, path: path.to_owned(), page_size, pages: 0, version: 0 };
        standby.begin()?;
        (standby.pages, standby.version) = (standby.page_count()?, standby.data_version()?);
        Ok(standby)
    }

    /// The page size of the database.
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// The size of the database in pages.
    pub const fn pages(&self) -> u32 {
        self.pages
    }

    /// Writes pages into the transaction: their numbers, and their contents one after the other. Page 1 must not be among
    /// them. No reader sees them before [`Self::commit`].
    ///
    /// # Errors
    /// [`StandbyError`]. The caller then calls [`Self::abandon`].
    pub fn write(&mut self, pgnos: &[Pgno], contents: &[u8]) -> Result<(), StandbyError> {
        debug_assert!(!pgnos.contains(&Pgno(1)), "page 1 comes last");
        debug_assert_eq!(contents.len(), pgnos.len() * self.page_size.bytes(), "one page for each number");
        pgnos
            .iter()
            .zip(contents.chunks_exact(self.page_size.bytes()))
            .try_for_each(|(&pgno, page)| self.put(pgno, Some(page)))
    }

    /// Ends the transaction: writes page 1, if it changes, cuts the database to `commit` pages, and commits. When this
    /// returns, the change is durable. The caller then calls [`Self::settle`].
    ///
    /// # Errors
    /// [`StandbyError`]. The caller then calls [`Self::abandon`].
    pub fn commit(&mut self, commit: u32, page_1: Option<Vec<u8>>) -> Result<(), StandbyError> {
        if let Some(mut page) = page_1 {
            if let Some(mode) = page.get_mut(MODE_BYTES) {
                mode.fill(2);
            }
            self.put(Pgno(1), Some(&page))?;
        }
        if commit < self.pages {
            // The last statement: a page that is written after it would cancel the cut.
            self.put(Pgno(commit.saturating_add(1)), None)?;
        }
        self.connection.execute_batch("COMMIT").map_err(|error| failed(&self.path, error))?;
        self.pages = commit;
        Ok(())
    }

    /// After [`Self::commit`]: copies the log into the database, as far as readers allow, and begins to hold the write
    /// lock again.
    ///
    /// # Errors
    /// [`StandbyError`]. After [`StandbyError::DiskFull`] the standby is usable: what could not be copied stays in the log.
    pub fn settle(&mut self) -> Result<LogFill, StandbyError> {
        let found = self.page_count()?;
        if found != self.pages {
            return Err(self.size(format!("{} pages", self.pages), format!("{found} pages")));
        }
        let log = self.checkpoint();
        // The pages of the change. The next one brings its own, and a fleet has many connections.
        let _ = self.connection.release_memory();
        self.hold()?;
        log
    }

    /// Takes back what was written since the last change, and begins to hold the write lock again.
    ///
    /// # Errors
    /// [`StandbyError`].
    pub fn abandon(&mut self) -> Result<(), StandbyError> {
        self.roll_back();
        self.hold()
    }

    /// Begins the next transaction, and checks that no other program has written since the last one.
    fn hold(&self) -> Result<(), StandbyError> {
        self.begin()?;
        match self.page_count()? == self.pages && self.data_version()? == self.version {
            true => Ok(()),
            false => Err(StandbyError::ChangedByOther { path: self.path.clone() }),
        }
    }

    /// Takes back what was not committed, copies the log into the database, and closes it. If no program reads it, its
    /// -wal and -shm are removed. A log of more than 32 MiB stays as it is.
    pub fn close(self) {
        self.roll_back();
        // What is not copied stays in the log, where readers and the next follower find it.
        if self.log_file_bytes() > LEFT_LOG_BYTES {
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        } else {
            let _ = self.connection.busy_timeout(LAST_CHECKPOINT);
            let _ = self.connection.query_row("PRAGMA s.wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        let _ = self.connection.close();
    }

    /// The size of the file of the log, by name.
    fn log_file_bytes(&self) -> u64 {
        let mut name = self.path.clone().into_os_string();
        name.push("-wal");
        std::fs::metadata(name).map_or(0, |metadata| metadata.len())
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit() {
            // Fails only if SQLite has rolled back already.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn begin(&self) -> Result<(), StandbyError> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| failed(&self.path, error))
    }

    /// Writes one page, or cuts the database before it (None). One row per statement: a statement of several rows makes
    /// SQLite read the size from the header again.
    fn put(&self, pgno: Pgno, page: Option<&[u8]>) -> Result<(), StandbyError> {
        let sql = "INSERT INTO sqlite_dbpage(pgno, data, schema) VALUES (?1, ?2, 's')";
        let put = self.connection.prepare_cached(sql).and_then(|mut insert| insert.execute(params![pgno.0, page]));
        put.map(drop).map_err(|error| failed(&self.path, error))
    }

    /// Copies the log into the database, as far as readers allow, without waiting for them.
    fn checkpoint(&self) -> Result<LogFill, StandbyError> {
        let Some((log, copied)) = self.checkpoint_by("PASSIVE")? else {
            return Ok(LogFill { bytes: 0, is_copied: false });
        };
        let frame = FRAME_HEADER_BYTES + u64::from(self.page_size.get());
        let state = LogFill { bytes: u64::from(log) * frame, is_copied: log == copied };
        if !state.is_copied {
            return Ok(state);
        }
        let expected = u64::from(self.pages) * u64::from(self.page_size.get());
        // By name: the database must not be opened here.
        let found = std::fs::metadata(&self.path).map(|metadata| metadata.len());
        if found.as_ref().ok() != Some(&expected) {
            let found = found.map_or_else(|error| format!("no size ({error})"), |found| format!("{found} bytes"));
            return Err(self.size(format!("{expected} bytes"), found));
        }
        if state.bytes > TRUNCATED_LOG_BYTES {
            let set = |timeout| self.connection.busy_timeout(timeout).map_err(|error| failed(&self.path, error));
            set(Duration::ZERO)?;
            // A reader that is in the way is no error: it is tried again after the next change.
            let _ = self.checkpoint_by("TRUNCATE");
            set(BUSY_TIMEOUT)?;
        }
        Ok(state)
    }

    /// The number of frames in the log, and of those that are copied. None if another program copies the log at this
    /// moment: SQLite then says -1 for both.
    fn checkpoint_by(&self, mode: &str) -> Result<Option<(u32, u32)>, StandbyError> {
        let sql = format!("PRAGMA s.wal_checkpoint({mode})");
        let both = self.connection.query_row(&sql, [], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
        let (log, copied) = both.map_err(|error| failed(&self.path, error))?;
        Ok(u32::try_from(log).ok().zip(u32::try_from(copied).ok()))
    }

    fn page_count(&self) -> Result<u32, StandbyError> {
        let count = self.connection.query_row("PRAGMA s.page_count", [], |row| row.get(0));
        count.map_err(|error| failed(&self.path, error))
    }

    fn data_version(&self) -> Result<i64, StandbyError> {
        let version = self.connection.query_row("PRAGMA s.data_version", [], |row| row.get(0));
        version.map_err(|error| failed(&self.path, error))
    }

    fn size(&self, expected: String, found: String) -> StandbyError {
        StandbyError::Size { path: self.path.clone(), expected, found }
    }
}

fn failed(path: &Path, error: rusqlite::Error) -> StandbyError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StandbyError::Locked { path },
        Some(ErrorCode::DiskFull) => StandbyError::DiskFull { path },
        _ => StandbyError::Sqlite { path, error },
    }
}
