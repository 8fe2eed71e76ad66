//! Asks SQLite for the first row of a query, in a database that was restored to scratch.

use crate::commit::Query;
use crate::restore::error::RestoreError;
use crate::restore::workers::Worker;
use std::path::Path;
use std::time::Duration;

/// A query is interrupted after 30 s.
const QUERY_TIME: Duration = Duration::from_secs(30);

/// The answer to one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryRow {
    /// The query.
    pub sql: String,
    /// The values of its first row as text, or why there is none.
    pub row: Result<Vec<String>, String>,
}

impl QueryRow {
    /// What is wrong, if there is no row.
    pub(super) fn failure(&self) -> Option<String> {
        self.row.as_ref().err().map(|why| format!("query failed: {}: {why}", self.sql))
    }
}

/// Asks all queries, one after the other.
///
/// # Errors
/// The run was cancelled. A query that fails is an answer.
pub(super) async fn ask(worker: &Worker, path: &Path, queries: &[String]) -> Result<Vec<QueryRow>, RestoreError> {
    let mut rows = Vec::with_capacity(queries.len());
    for sql in queries {
        rows.push(QueryRow { sql: sql.clone(), row: first_row(worker, path, sql).await? });
    }
    Ok(rows)
}

/// The first row of one query, or why there is none.
pub(super) async fn first_row(
    worker: &Worker,
    path: &Path,
    sql: &str,
) -> Result<Result<Vec<String>, String>, RestoreError> {
    let query = match Query::open(path, sql) {
        Ok(query) => query,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let interrupt = query.interrupt_handle();
    let asked = worker.shared.checks.run(move || query.first_row());
    tokio::pin!(asked);
    let answer = tokio::select! {
        answer = &mut asked => answer,
        () = tokio::time::sleep(QUERY_TIME) => {
            interrupt.interrupt();
            asked.await
        }
    };
    match answer {
        Ok(row) => Ok(row),
        Err(_) => Err(worker.shared.stopped("a query has ended without a result")),
    }
}
