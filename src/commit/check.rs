//! `-integrity-check`: SQLite's own check of a restored file, run before the file is published
//! (docs/GUARANTEES.md, 30).
//!
//! SQLite opens the file read-only with `immutable=1`. It therefore takes no locks, reads no -wal or -journal
//! file and creates no file. A check takes about as long as reading the whole file.

use super::CommitError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Number of lines of SQLite's report that are kept. A badly damaged database can give thousands.
const MOST_LINES: usize = 20;

/// Characters that are percent-encoded when a path becomes an SQLite URI.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// The two values of the option `-integrity-check`: `quick` and `full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `PRAGMA quick_check`: checks pages and rows, but not whether indexes agree with their tables.
    Quick,
    /// `PRAGMA integrity_check`: checks what `quick_check` checks, and also that each index agrees with its
    /// table.
    Full,
}

/// Result of SQLite's check of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    /// SQLite found no damage in the database.
    Ok,
    /// SQLite found damage. Holds the first lines of its report, at most 20.
    Damaged(Vec<String>),
    /// SQLite cannot check the database, because the schema uses a collation, a virtual table module or a
    /// function that only its own application registers. This is not damage. Holds SQLite's message.
    NotCheckable(String),
    /// Another thread stopped the check through [`Check::interrupt_handle`].
    Interrupted,
}

/// An opened database whose check has not run yet. [`Self::run`] blocks for about as long as reading the whole
/// file takes, so run it on a thread of its own.
#[derive(Debug)]
pub struct Check {
    connection: Connection,
    path: PathBuf,
    mode: Mode,
}

impl Check {
    /// Opens the database file at `path` read-only. SQLite opens files by name, so an unpublished file can be
    /// checked only if it has a temporary name ([`super::StagedFile::path`]).
    ///
    /// # Errors
    /// [`CommitError::Sqlite`] if there is no such file or it cannot be read.
    pub fn open(path: &Path, mode: Mode) -> Result<Self, CommitError> {
        let failed = |error: rusqlite::Error| CommitError::Sqlite { path: path.to_owned(), reason: error.to_string() };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(uri(path), flags).map_err(failed)?;
        // `trusted_schema=0`: views and triggers of an unknown database cannot call functions that have side
        // effects. `mmap_size=0`: SQLite reads with pread, because a memory-mapped file that shrinks kills the
        // process with SIGBUS. `cell_size_check=1`: SQLite checks the cells of each page as soon as it reads
        // the page.
        connection
            .execute_batch("PRAGMA trusted_schema=0; PRAGMA mmap_size=0; PRAGMA cell_size_check=1")
            .map_err(failed)?;
        Ok(Self { connection, path: path.to_owned(), mode })
    }

    /// Returns a handle with which another thread can stop [`Self::run`].
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.connection.get_interrupt_handle()
    }

    /// Runs the check. Blocks until SQLite has finished or the check was interrupted.
    ///
    /// # Errors
    /// [`CommitError::Sqlite`] if SQLite fails for a reason other than damage, such as a read error of the
    /// disk.
    pub fn run(self) -> Result<CheckOutcome, CommitError> {
        match self.report() {
            Ok(lines) if lines == ["ok"] => Ok(CheckOutcome::Ok),
            Ok(lines) => Ok(CheckOutcome::Damaged(lines)),
            Err(error) => outcome_of(&error)
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

/// Opens the database at `path` and checks it: [`Check::open`] followed by [`Check::run`].
pub fn check(path: &Path, mode: Mode) -> Result<CheckOutcome, CommitError> {
    Check::open(path, mode)?.run()
}

/// Translates an error that SQLite returned during the check into an outcome. Returns None if the error says
/// nothing about the database, such as a read error of the disk.
fn outcome_of(error: &rusqlite::Error) -> Option<CheckOutcome> {
    let rusqlite::Error::SqliteFailure(failure, message) = error else { return None };
    let message = message.clone().unwrap_or_else(|| failure.to_string());
    // SQLite reports a missing collation, module, function or tokenizer with the general code SQLITE_ERROR.
    // Only the message says which of them it is.
    let not_checkable = [
        "no such collation sequence",
        "no such module",
        "no such function",
        "unknown function",
        "no such tokenizer",
        "unknown tokenizer",
    ];
    match failure.code {
        ErrorCode::OperationInterrupted => Some(CheckOutcome::Interrupted),
        _ if not_checkable.iter().any(|text| message.contains(text)) => Some(CheckOutcome::NotCheckable(message)),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Some(CheckOutcome::Damaged(vec![message])),
        _ => None,
    }
}

/// Returns the SQLite URI that opens `path` read-only and immutable.
fn uri(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let encoded = percent_encode(absolute.as_os_str().as_bytes(), ENCODED);
    // The URI begins with `file://` and an empty host name. After `file:` alone, a path that begins with two
    // slashes would be read as a host name, which SQLite refuses.
    format!("file://{encoded}?mode=ro&immutable=1")
}
