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

/// SQLite's text for an error without an explanation. FTS5 gives it if it finds no tokenizer; [`Check::lacking`] finds
/// out which.
const UNEXPLAINED: &str = "SQL logic error";

/// `trusted_schema=0`: views and triggers of an unknown database cannot call functions that have side effects.
/// `mmap_size=0`: SQLite reads with pread, because a memory-mapped file that shrinks kills the process with SIGBUS.
/// `cell_size_check=1`: SQLite checks the cells of each page as soon as it reads the page.
const CAUTION: &str = "PRAGMA trusted_schema=0; PRAGMA mmap_size=0; PRAGMA cell_size_check=1";

/// The characters that are percent-encoded in an SQLite URI.
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

/// Opens the database file at `path` read-only, as a file that nobody changes.
///
/// # Errors
/// [`CommitError::Sqlite`] if there is no such file or it cannot be read.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, CommitError> {
    let failed = |error: rusqlite::Error| CommitError::Sqlite { path: path.to_owned(), reason: error.to_string() };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri(path), flags).map_err(failed)?;
    connection.execute_batch(CAUTION).map_err(failed)?;
    Ok(connection)
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
        Ok(Self { connection: open_read_only(path)?, path: path.to_owned(), mode })
    }

    /// Opens the database file at `path`, which others may use, with its -wal and with SQLite's locks.
    ///
    /// # Errors
    /// [`CommitError::Sqlite`] if there is no such file or it cannot be read.
    pub fn open_shared(path: &Path, mode: Mode) -> Result<Self, CommitError> {
        let failed = |error: rusqlite::Error| CommitError::Sqlite { path: path.to_owned(), reason: error.to_string() };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.execute_batch(CAUTION).map_err(failed)?;
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
        let outcome = match self.report(None) {
            Ok(lines) => outcome_of_report(lines),
            Err(error) => self.outcome_of(&error)?,
        };
        match outcome {
            CheckOutcome::NotCheckable(why) => self.check_tables(self.lacking().unwrap_or(why)),
            outcome => Ok(outcome),
        }
    }

    /// Checks each table by itself. `why`: what SQLite lacks.
    fn check_tables(&self, why: String) -> Result<CheckOutcome, CommitError> {
        let tables = self.names("rootpage > 0").map_err(|error| self.failed(&error))?;
        for table in tables {
            let outcome = match self.report(Some(&table)) {
                Ok(lines) => outcome_of_report(lines),
                Err(error) => self.outcome_of(&error)?,
            };
            if let CheckOutcome::Damaged(_) | CheckOutcome::Interrupted = outcome {
                return Ok(outcome);
            }
        }
        Ok(CheckOutcome::NotCheckable(why))
    }

    /// SQLite's report on the database, or on one table and its indexes.
    fn report(&self, table: Option<&str>) -> Result<Vec<String>, rusqlite::Error> {
        let pragma = match self.mode {
            Mode::Quick => "quick_check",
            Mode::Full => "integrity_check",
        };
        let of = table.map_or_else(|| MOST_LINES.to_string(), quoted);
        let mut statement = self.connection.prepare(&format!("PRAGMA {pragma}({of})"))?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
        lines.take(MOST_LINES).collect()
    }

    /// The names of the tables that satisfy `condition`.
    fn names(&self, condition: &str) -> Result<Vec<String>, rusqlite::Error> {
        let sql = format!("SELECT name FROM sqlite_schema WHERE type = 'table' AND {condition}");
        let mut statement = self.connection.prepare(&sql)?;
        statement.query_map([], |row| row.get(0))?.collect()
    }

    /// What a virtual table lacks. SQLite's check does not say it: FTS5 looks for its tokenizer when it is used first,
    /// and its text is lost. A query shows the text.
    fn lacking(&self) -> Option<String> {
        let tables = self.names("rootpage = 0 AND sql LIKE 'CREATE VIRTUAL%'").ok()?;
        tables.iter().find_map(|table| {
            let name = quoted(table);
            let sql = format!("SELECT 1 FROM {name} WHERE {name} MATCH 'a' LIMIT 1");
            let error = self.connection.query_row(&sql, [], |_| Ok(())).err()?;
            let (_, text) = code_and_text(&error)?;
            (is_missing(&text) && !text.contains(UNEXPLAINED)).then(|| format!("{} (table {table})", missing(&text)))
        })
    }

    /// The outcome that an error of SQLite stands for.
    fn outcome_of(&self, error: &rusqlite::Error) -> Result<CheckOutcome, CommitError> {
        let Some((code, text)) = code_and_text(error) else { return Err(self.failed(error)) };
        match code {
            ErrorCode::OperationInterrupted => Ok(CheckOutcome::Interrupted),
            _ if is_missing(&text) => Ok(CheckOutcome::NotCheckable(missing(&text))),
            // A virtual table cannot be opened. If its tables were damaged, the code would say so.
            ErrorCode::Unknown if text.contains("vtable constructor failed") => Ok(CheckOutcome::NotCheckable(text)),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Ok(CheckOutcome::Damaged(vec![text])),
            _ => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: &rusqlite::Error) -> CommitError {
        CommitError::Sqlite { path: self.path.clone(), reason: error.to_string() }
    }
}

/// Opens the database at `path` and checks it: [`Check::open`] followed by [`Check::run`].
pub fn check(path: &Path, mode: Mode) -> Result<CheckOutcome, CommitError> {
    Check::open(path, mode)?.run()
}

/// The outcome that a report stands for.
fn outcome_of_report(lines: Vec<String>) -> CheckOutcome {
    match lines.iter().find(|line| !is_unvalidated(line)) {
        _ if lines == ["ok"] => CheckOutcome::Ok,
        // A report of nothing but such lines.
        None => CheckOutcome::NotCheckable(lines.into_iter().next().unwrap_or_default()),
        Some(_) => CheckOutcome::Damaged(lines),
    }
}

/// Whether a line of a report says that a virtual table could not be checked, and not that it is damaged.
fn is_unvalidated(line: &str) -> bool {
    line.starts_with("unable to validate ") && line.ends_with(UNEXPLAINED)
}

/// The kind of an error of SQLite, and its text.
fn code_and_text(error: &rusqlite::Error) -> Option<(ErrorCode, String)> {
    match error {
        rusqlite::Error::SqliteFailure(failure, text) => {
            Some((failure.code, text.clone().unwrap_or_else(|| failure.to_string())))
        }
        // An error that was found when the statement was compiled.
        rusqlite::Error::SqlInputError { error, msg, .. } => Some((error.code, msg.clone())),
        _ => None,
    }
}

/// A name as an identifier of SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether a text of SQLite says that it lacks something that the database's application has. SQLite has no error
/// codes for these, only texts.
fn is_missing(text: &str) -> bool {
    const TEXTS: [&str; 8] = [
        "no such collation sequence",
        "no such module",
        "no such function",
        "unknown function",
        "no such tokenizer",
        "unknown tokenizer",
        "error in tokenizer constructor",
        UNEXPLAINED,
    ];
    TEXTS.iter().any(|missing| text.contains(missing))
}

/// The text with which SQLite says what it lacks. One that it words differently while a statement runs is worded as
/// when it is compiled: `unknown function: f()` as `no such function: f`.
fn missing(text: &str) -> String {
    match text.split_once("unknown function: ") {
        Some((before, name)) => format!("{before}no such function: {}", name.strip_suffix("()").unwrap_or(name)),
        None => text.to_owned(),
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
