//! The first row of a query in a restored file that is not published (docs/CLI.md, "hydrant verify").

use super::CommitError;
use super::check::open_read_only;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, InterruptHandle};
use std::path::Path;

/// The values of a row have at most this many bytes of text each.
const MOST_TEXT: usize = 1000;

/// An opened database and a query. [`Self::first_row`] blocks, so run it on a thread of its own.
#[derive(Debug)]
pub struct Query {
    connection: Connection,
    sql: String,
}

impl Query {
    /// Opens the database file at `path` read-only.
    ///
    /// # Errors
    /// [`CommitError::Sqlite`] if it cannot be opened.
    pub fn open(path: &Path, sql: &str) -> Result<Self, CommitError> {
        let connection = open_read_only(path)?;
        let failed = |e: rusqlite::Error| CommitError::Sqlite { path: path.to_owned(), reason: e.to_string() };
        connection.execute_batch("PRAGMA query_only=1").map_err(failed)?;
        Ok(Self { connection, sql: sql.to_owned() })
    }

    /// Returns a handle with which another thread can stop [`Self::first_row`].
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.connection.get_interrupt_handle()
    }

    /// The values of the first row as text.
    ///
    /// # Errors
    /// Why there is none, in words: SQLite's message, or that the query gives no row.
    pub fn first_row(self) -> Result<Vec<String>, String> {
        let mut statement = self.connection.prepare(&self.sql).map_err(|e| e.to_string())?;
        if !statement.readonly() {
            return Err("the statement would write".to_owned());
        }
        let columns = statement.column_count();
        let mut rows = statement.query([]).map_err(|e| e.to_string())?;
        let row = rows.next().map_err(|e| e.to_string())?.ok_or("the query gives no row")?;
        (0..columns).map(|i| row.get_ref(i).map(shown).map_err(|e| e.to_string())).collect()
    }
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => cut(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => {
            let hex: String = bytes.iter().take(MOST_TEXT / 2).map(|byte| format!("{byte:02x}")).collect();
            format!("x'{hex}'")
        }
    }
}

fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().find(|(at, _)| *at >= MOST_TEXT) {
        text.truncate(at);
        text.push('…');
    }
    text
}
