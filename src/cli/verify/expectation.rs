//! `-expect`: compares a verification with an earlier report.

use super::record::DrillRecord;
use super::verdicts::Verdict;
use crate::cli::ui::failure::Failure;
use crate::error::Class;
use crate::ltx::Txid;
use crate::timestamp::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The databases of an earlier report, by name, as far as this run has not seen them.
pub(super) struct Expectations {
    databases: BTreeMap<String, Expected>,
}

/// What an earlier report says of a database.
struct Expected {
    key: Option<String>,
    was_restorable: bool,
    txid: Option<Txid>,
    time: Option<Timestamp>,
}

impl Expectations {
    /// Reads a report of `verify` or `restore-pattern`: a document with `databases`, or lines of JSON.
    ///
    /// # Errors
    /// The file cannot be read, or is no such report.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |why: String| Failure::failed(Class::Config, format!("-expect: {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        let records: Vec<Value> = match serde_json::from_str::<Value>(&text) {
            Ok(mut document) => match document.get_mut("databases").map(Value::take) {
                Some(Value::Array(records)) => records,
                _ => vec![document],
            },
            Err(_) => {
                let lines = text.lines().filter(|line| !line.trim().is_empty());
                let parsed: Result<Vec<Value>, _> = lines.map(serde_json::from_str).collect();
                parsed.map_err(|e| failed(format!("neither a report nor lines of JSON: {e}")))?
            }
        };
        let databases: BTreeMap<String, Expected> = records.iter().filter_map(Expected::of).collect();
        if databases.is_empty() {
            return Err(failed("it names no database".to_owned()));
        }
        Ok(Self { databases })
    }

    /// Fails the database if it is worse than it was.
    pub(super) fn compare(&mut self, record: &mut DrillRecord) {
        let Some(before) = self.databases.remove(&record.name) else { return };
        let state = record.state.as_ref();
        let txid = state.and_then(|state| Txid::parse_name(state.txid.as_deref()?.as_bytes()));
        let time = state.and_then(|state| Timestamp::parse_rfc3339(&state.timestamp));
        let worse = match (before.txid.zip(txid), before.time.zip(time)) {
            _ if record.verdict == Verdict::NotRestorable => None,
            _ if record.verdict == Verdict::NoBackups && before.was_restorable => {
                Some("it was restorable in the earlier report, and has no backups".to_owned())
            }
            (Some((before, now)), _) if now < before => {
                Some(format!("TXID {now} is less than {before} in the earlier report: transactions are lost"))
            }
            (_, Some((before, now))) if now < before => {
                Some(format!("the newest state is of {now}, in the earlier report it was of {before}"))
            }
            _ => None,
        };
        if let Some(worse) = worse {
            record.fail(Class::TargetNotReachable, worse);
        } else if record.verdict == Verdict::NotRestorable && before.was_restorable {
            let reason = record.reason.take().unwrap_or_default();
            record.reason = Some(format!("{reason} (it was restorable in the earlier report)"));
        }
    }

    /// The databases of the earlier report that were not found, and that `is_of_this_run`.
    pub(super) fn vanished(self, is_of_this_run: &dyn Fn(&str) -> bool) -> Vec<DrillRecord> {
        let missing = self.databases.into_iter().filter(|(name, expected)| {
            expected.was_restorable && is_of_this_run(expected.key.as_deref().unwrap_or(name))
        });
        let record = |(name, expected): (String, Expected)| {
            let mut record = DrillRecord::empty(name, expected.key);
            record.fail(Class::BackupNotFound, "it is in the earlier report, and was not found".to_owned());
            record
        };
        missing.map(record).collect()
    }
}

impl Expected {
    fn of(record: &Value) -> Option<(String, Self)> {
        let text = |field: &str| record.get(field).and_then(Value::as_str);
        if record.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "database") {
            return None;
        }
        let verdict = text("verdict").or_else(|| text("outcome"));
        let was_restorable = matches!(verdict, Some("restorable" | "degraded" | "stale" | "restored" | "planned"));
        let expected = Self {
            key: text("key").map(str::to_owned),
            was_restorable,
            txid: text("txid").and_then(|txid| Txid::parse_name(txid.as_bytes())),
            time: text("timestamp").and_then(Timestamp::parse_rfc3339),
        };
        Some((text("name")?.to_owned(), expected))
    }
}
