//! SQLite's own check of a finished file before it is published: `-integrity-check`
//! (docs/GUARANTEES.md, 30).
//!
//! The file is opened read-only and immutable: SQLite takes no locks, reads no sidecar and makes none. A check
//! takes about as long as reading the file.

use super::CommitError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The number of lines of SQLite's report that are kept.
const MOST_LINES: usize = 20;

/// The characters that are percent-encoded in an SQLite URI.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// `-integrity-check quick` or `full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `PRAGMA quick_check`: pages and rows.
    Quick,
    /// `PRAGMA integrity_check`: also whether each index agrees with its table.
    Full,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    Ok,
    /// The first lines of SQLite's report.
    Damaged(Vec<String>),
    /// The database uses a collation, a module or a function that only its application has. This is not damage.
    NotCheckable(String),
    /// [`Check::interrupt_handle`] was used.
    Interrupted,
}

/// A check that has not run yet. Its run blocks, and takes longer the larger the database is: use a thread of
/// its own.
#[derive(Debug)]
pub struct Check {
    connection: Connection,
    path: PathBuf,
    mode: Mode,
}

impl Check {
    /// Opens the file at `path`. SQLite opens files by name, so the file must have one ([`super::StagedFile::path`]).
    ///
    /// # Errors
    /// [`CommitError::Sqlite`] if there is no such file or it cannot be read.
    pub fn open(path: &Path, mode: Mode) -> Result<Self, CommitError> {
        let failed = |error: rusqlite::Error| CommitError::Sqlite { path: path.to_owned(), reason: error.to_string() };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(uri(path), flags).map_err(failed)?;
        // trusted_schema: views and triggers of an unknown file must not call functions. mmap_size: if a mapped
        // file shrinks, the process gets SIGBUS instead of an error.
        connection
            .execute_batch("PRAGMA trusted_schema=0; PRAGMA mmap_size=0; PRAGMA cell_size_check=1")
            .map_err(failed)?;
        Ok(Self { connection, path: path.to_owned(), mode })
    }

    /// A handle that stops [`Self::run`] from another thread.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.connection.get_interrupt_handle()
    }

    /// Runs the check to its end.
    ///
    /// # Errors
    /// [`CommitError::Sqlite`] if SQLite could not check the file, for a reason other than damage.
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

/// [`Check::open`] and [`Check::run`].
pub fn check(path: &Path, mode: Mode) -> Result<CheckOutcome, CommitError> {
    Check::open(path, mode)?.run()
}

/// The outcome that an error of SQLite stands for; None: the error says nothing about the database.
fn outcome_of(error: &rusqlite::Error) -> Option<CheckOutcome> {
    let rusqlite::Error::SqliteFailure(failure, message) = error else { return None };
    let message = message.clone().unwrap_or_else(|| failure.to_string());
    // SQLite has no error code for these, only texts.
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

/// The SQLite URI that opens `path` read-only and immutable.
fn uri(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let encoded = percent_encode(absolute.as_os_str().as_bytes(), ENCODED);
    // The empty authority keeps a path that begins with two slashes from being read as a host name.
    format!("file://{encoded}?mode=ro&immutable=1")
}
