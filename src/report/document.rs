//! The tables of a report besides its rows.

use crate::report::forecast::RestoreForecast;
use crate::report::rows::DatabaseRow;
use crate::report::tally::{AgeTable, Milestones, Tally};
use crate::report::timeline::Interval;
use crate::telemetry::Stages;
use serde::Serialize;
use serde_json::{Map, Value};

/// The version of docs/report.schema.json. Added fields do not change it.
pub const SCHEMA_VERSION: u32 = 1;

/// What a run was for. It decides on the words of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// Databases are restored.
    #[default]
    Restore,
    /// `-dry-run`: restores are planned.
    Plan,
    /// A drill: restores are tried and nothing is kept.
    Verify,
    /// The speed is measured.
    Bench,
}

/// What was asked, by whom, when. It holds no secrets.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RunInfo {
    /// The command: `restore-pattern`, `verify` or `bench`.
    pub command: &'static str,
    /// The whole command line for a shell, with secrets replaced by `***`.
    pub command_line: String,
    /// The version of Hydrant.
    pub version: String,
    /// The machine.
    pub host: HostInfo,
    /// The pattern, with secrets replaced by `***`.
    pub source: String,
    /// When the run started, in RFC 3339.
    pub started: String,
    /// When it ended.
    pub ended: String,
    /// The seconds between them, by a clock that is never set.
    pub seconds: f64,
    /// The signal that ended the run early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted_by: Option<String>,
    /// The command that does again what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
    /// What the run was for.
    #[serde(skip)]
    pub purpose: Purpose,
}

/// The machine of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HostInfo {
    /// Its name.
    pub name: String,
    /// The number of cores that the process may use.
    pub cores: u64,
    /// The memory budget of the process in bytes.
    pub memory_bytes: u64,
}

/// A table that only one command has, as it is printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtraTable {
    /// The heading.
    pub title: String,
    /// The names of the columns.
    pub header: Vec<String>,
    /// The cells, row by row.
    pub rows: Vec<Vec<String>>,
}

/// Everything that is known when a run has ended, apart from the rows.
#[derive(Debug, Default)]
pub struct RunEnd {
    /// What was asked.
    pub run: RunInfo,
    /// The totals of the command, as `-json` prints them.
    pub summary: Map<String, Value>,
    /// What happened in each second.
    pub timeline: Vec<Interval>,
    /// Latencies by stage.
    pub stages: Stages,
    /// Databases without a row: a signal or `-fail-fast` ended the run before them.
    pub not_reached: u64,
    /// Why the databases are not known.
    pub listing_error: Option<String>,
    /// The time from which ages are measured back, in RFC 3339.
    pub reference: String,
    /// Requests that were sent again.
    pub requests_repeated: u64,
    /// What a restore of everything would take.
    pub forecast: Option<RestoreForecast>,
    /// The results of `bench`, as `bench -json` prints them.
    pub bench: Option<Value>,
    /// Further tables for people.
    pub extras: Vec<ExtraTable>,
}

/// The rows that a page shows. JSON holds all of them.
#[derive(Debug, Clone, Default)]
pub struct ShownRows {
    /// Failed databases, at most 5,000.
    pub failures: Vec<DatabaseRow>,
    /// All others, at most 20,000.
    pub others: Vec<DatabaseRow>,
}

/// A page shows at most 5,000 failed databases.
pub(super) const MOST_FAILURES: usize = 5_000;
/// A page shows at most 20,000 other databases.
pub(super) const MOST_OTHERS: usize = 20_000;

/// A complete report, from which pages are made.
#[derive(Debug)]
pub struct ReportDocument<'a> {
    /// What is known since the end of the run.
    pub end: &'a RunEnd,
    /// Sums over all rows.
    pub tally: &'a Tally,
    /// When the databases were done. None: none was, or the run is no recovery.
    pub milestones: Option<Milestones>,
    /// How old the states are.
    pub ages: AgeTable,
    /// The rows to show.
    pub rows: &'a ShownRows,
}
