//! SQLite's own check of a finished file, before it is published (`-integrity-check`,
//! PROMISES 30).
//!
//! The file is opened read-only and immutable: SQLite takes no locks, reads no sidecar and makes
//! none. A check costs about as long as reading the file.

use super::CommitError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Lines of SQLite's report that are kept.
const MOST_LINES: usize = 20;

/// What an SQLite URI may hold as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// `-integrity-check quick` or `full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `PRAGMA quick_check`: the pages and rows.
    Quick,
    /// `PRAGMA integrity_check`: also that each index holds what its table does.
    Full,
}

/// What SQLite says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    Ok,
    /// SQLite's report, its first lines.
    Damaged(Vec<String>),
    /// The database uses what only its application knows (a collation, a module, a function):
    /// not damage.
    NotCheckable(String),
    /// [`Check::interrupt_handle`] was used.
    Interrupted,
}

/// A check that has not run yet. It runs for as long as the database is large: use a thread of
/// its own.
#[derive(Debug)]
pub struct Check {
    connection: Connection,
    path: PathBuf,
    mode: Mode,
}

impl Check {
    /// Opens `path`; it must have a name ([`super::Unpublished::path`]).
    ///
    /// # Errors
    /// [`CommitError::Sqlite`] when there is no such file or it cannot be read.
    pub fn open(path: &Path, mode: Mode) -> Result<Self, CommitError> {
        let failed = |error: rusqlite::Error| CommitError::Sqlite { path: path.to_owned(), reason: error.to_string() };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(uri(path), flags).map_err(failed)?;
        // Views and triggers of a foreign file run nothing here; a mapped file that shrinks would
        // be a signal instead of an error.
        connection
            .execute_batch("PRAGMA trusted_schema=0; PRAGMA mmap_size=0; PRAGMA cell_size_check=1")
            .map_err(failed)?;
        Ok(Self { connection, path: path.to_owned(), mode })
    }

    /// Ends the run from another thread.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.connection.get_interrupt_handle()
    }

    /// Runs the check to its end.
    ///
    /// # Errors
    /// [`CommitError::Sqlite`] when SQLite could not check, for a reason that is no damage.
    pub fn run(self) -> Result<CheckOutcome, CommitError> {
        match self.report() {
            Ok(lines) if lines == ["ok"] => Ok(CheckOutcome::Ok),
            Ok(lines) => Ok(CheckOutcome::Damaged(lines)),
            Err(error) => verdict(&error)
                .ok_or_else(|| CommitError::Sqlite { path: self.path.clone(), reason: error.to_string() }),
        }
    }

    fn report(&self) -> Result<Vec<String>, rusqlite::Error> {
        let pragma = match self.mode {
            Mode::Quick => "quick_check",
            Mode::Full => "integrity_check",
        };
        let mut statement = self.connection.prepare(&format!("PRAGMA {pragma}({MOST_LINES})"))?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
        lines.take(MOST_LINES).collect()
    }
}

/// [`Check::open`] and [`Check::run`].
pub fn check(path: &Path, mode: Mode) -> Result<CheckOutcome, CommitError> {
    Check::open(path, mode)?.run()
}

/// What an error of SQLite says about the database; None: nothing.
fn verdict(error: &rusqlite::Error) -> Option<CheckOutcome> {
    let rusqlite::Error::SqliteFailure(failure, message) = error else { return None };
    let message = message.clone().unwrap_or_else(|| failure.to_string());
    // SQLite has no code of its own for these, only texts.
    let foreign = [
        "no such collation sequence",
        "no such module",
        "no such function",
        "unknown function",
        "no such tokenizer",
        "unknown tokenizer",
    ];
    match failure.code {
        ErrorCode::OperationInterrupted => Some(CheckOutcome::Interrupted),
        _ if foreign.iter().any(|text| message.contains(text)) => Some(CheckOutcome::NotCheckable(message)),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Some(CheckOutcome::Damaged(vec![message])),
        _ => None,
    }
}

/// `path` as an SQLite URI of an immutable file.
fn uri(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let encoded = percent_encode(absolute.as_os_str().as_bytes(), KEPT);
    // With an empty authority, so that a path that begins with two slashes has no other.
    format!("file://{encoded}?mode=ro&immutable=1")
}
