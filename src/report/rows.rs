//! One row of the report for each database.

use crate::error::json_escaped;
use serde::Serialize;

/// How a database is judged, in whatever words its command uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum RowStanding {
    /// It failed: it was not restored, cannot be restored, or is older than allowed.
    Bad,
    /// It has a result, but only around damage.
    Degraded,
    /// It was left alone on purpose.
    #[default]
    Skipped,
    /// It has a sound result.
    Good,
}

/// What `-json` and the report say about one database (docs/CLI.md, "JSON"). A field without a value is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DatabaseRow {
    /// Always `database`. It tells the line from the summary.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The name in messages: the configured path, or with a URL the key.
    pub name: String,
    /// `bucket/key`, for files the absolute path. None for an entry of litestream.yml.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The absolute path of the restored database. None: nothing is written, or there is no safe path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db_path: Option<String>,
    /// The word for what a restore or a measurement came to: `restored`, `planned`, `rehearsed`, `skipped` or
    /// `failed`. Empty in a drill.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub outcome: &'static str,
    /// The word for what a drill came to: `restorable`, `degraded`, `stale`, `not restorable` or `no backups`. Empty
    /// for a restore.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub verdict: &'static str,
    /// The kind of store, `s3` or `file`. Empty for an entry of litestream.yml.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub replica: &'static str,
    /// The format of the backup: `v0.3`, in a drill also `ltx`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<&'static str>,
    /// The TXID that was reached or planned, as 16 hexadecimal digits. Empty in the v0.3.x format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txid: Option<String>,
    /// The generation of a backup in the v0.3.x format, as 16 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// The index of the newest WAL segment that was used, in the v0.3.x format, as 8 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// Its offset, as at least 8 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<String>,
    /// The time of a state in the v0.3.x format, with fractions of a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// With `-as-of`: the time of the bucket that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// With `-as-of`: the version ids of the planned files, the oldest file first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub version_ids: Vec<String>,
    /// With `-as-of`: whether the bucket's history has no missing parts at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_complete: Option<bool>,
    /// With `-as-of`: when the newest planned file was uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_time: Option<String>,
    /// With a catalogue: the TXID of its state, if that cannot be reached exactly any more. `txid` is newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<String>,
    /// The point in time of the state, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// Where the time is from: `header`, `metadata` or `last_modified`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_source: Option<&'static str>,
    /// The same as `age_seconds`, by the name that `restore-pattern` gave it first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
    /// How many seconds older the state is than the time that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// The oldest point in time that `-timestamp` can reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// The size of the database in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The number of files that were fetched or planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// How many of these files have no other chain beside them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_without_another_chain: Option<u64>,
    /// The size in bytes of the files that were fetched or planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_fetched: Option<u64>,
    /// The number of requests for this database, without repeated ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// How often the database was tried again.
    pub retries: u32,
    /// The same as `seconds` in milliseconds, by the name that `restore-pattern` gave it first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Seconds from the first start of the database to its end, with the pauses between attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The class of the failure (docs/CLI.md, "Error log classes").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    /// Why the newest state cannot be had, if an older one was restored or planned (`-newest-intact`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// Why the database failed or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The command that does it again, for this database alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What is damaged although the newest state can be had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
    /// The newest state that can be had, where the newest of all cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_intact: Option<NewestIntact>,
    /// What the queries of a drill answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<QueryAnswer>,
    /// Warnings about the backup or the output path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How the report judges the row. Not in JSON, where `outcome` or `verdict` says it.
    #[serde(skip)]
    pub standing: RowStanding,
}

/// The newest state before damage or a hole. Its fields are those of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields of a row of the same names say what they are")]
pub struct NewestIntact {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<String>,
    pub timestamp: String,
    pub time_source: &'static str,
    pub age_seconds: u64,
    /// The command that restores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// The answer to one query of a drill.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct QueryAnswer {
    /// The query.
    pub sql: String,
    /// The first row, one value per column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<Vec<String>>,
    /// Why the query failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl DatabaseRow {
    /// The verdict of a drill, else the outcome.
    pub fn word(&self) -> &'static str {
        if self.verdict.is_empty() { self.outcome } else { self.verdict }
    }

    /// Generation and index for a table, in the v0.3.x format: `172497b1f17ea34a/00000003`.
    pub fn place(&self) -> Option<String> {
        Some(format!("{}/{}", self.generation.as_ref()?, self.index.as_deref().unwrap_or_default()))
    }

    /// What is damaged or lost, and warnings.
    pub fn notes(&self) -> Vec<&String> {
        self.lost.iter().chain(&self.damaged).chain(&self.warnings).collect()
    }

    /// The row as one line of JSON, with a newline at its end.
    pub fn to_json_line(&self) -> String {
        json_line(self)
    }
}

/// `value` as one line of JSON that a terminal can show, with a newline at its end.
pub fn json_line(value: &impl Serialize) -> String {
    // Serializing plain data does not fail.
    serde_json::to_string(value).map_or_else(|e| format!("{{\"error\":\"{e}\"}}\n"), |text| json_escaped(text) + "\n")
}
