//! What a run reports: one row for each database, the totals, the error log and the reports.

use crate::fleet::discovery::found::Discovery;
use crate::fleet::job::{Ended, Ending, NewestState};
use crate::fleet::outcome::ages::{Ages, state_of};
use crate::fleet::outcome::error_log::{ErrorLog, Links, with_class};
use crate::fleet::outcome::past_fields::PastFields;
use crate::fleet::outcome::reasons::FrequentReason;
use crate::fleet::outcome::totals::Totals;
use crate::fleet::outcome::v3_fields::V3Fields;
use crate::ltx::Txid;
use crate::plan::V3State;
use crate::report::{DatabaseRow, ReportBook, ReportError, RowStanding, RunEnd, json_line, rounded_seconds};
use crate::restore::PastState;
use crate::store::s3::{BucketLimits, ProcessLimiter};
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The row of a database that ended (docs/CLI.md, "JSON"). Ages are counted up to `reference`.
pub fn row_of(ended: &Ended, reference: Timestamp) -> DatabaseRow {
    let state = state_of(ended);
    let age = state.map(|state| state.age_seconds(reference));
    let mut row = DatabaseRow {
        kind: "database",
        name: ended.name().to_owned(),
        key: ended.subject.id().map(str::to_owned),
        db_path: ended.output.as_ref().map(|path| path.to_string_lossy().into_owned()),
        replica: ended.subject.replica(),
        timestamp: state.map(|state| state.time.to_rfc3339_seconds()),
        time_source: state.map(|state| state.source),
        age_s: age,
        age_seconds: age,
        retries: ended.retries,
        duration_ms: Some(millis(ended.elapsed)),
        seconds: Some(rounded_seconds(ended.elapsed)),
        ..DatabaseRow::default()
    };
    match &ended.ending {
        Ending::Restored { outcome, warnings } => {
            (row.outcome, row.standing) = ("restored", RowStanding::Good);
            if !outcome.damaged.is_empty() || outcome.lost.is_some() {
                row.standing = RowStanding::Degraded;
            }
            set_state(&mut row, outcome.txid, outcome.v3.as_ref());
            set_past(&mut row, outcome.past.as_deref());
            row.moved_from = outcome.moved_from().map(|txid| txid.to_string());
            row.lost.clone_from(&outcome.lost);
            row.bytes = Some(outcome.bytes_out);
            row.files = Some(outcome.files as u64);
            row.bytes_fetched = Some(outcome.bytes_in);
            row.requests = Some(outcome.requests);
            row.warnings = outcome.all_warnings();
            row.warnings.extend_from_slice(warnings);
        }
        Ending::Planned(planned) => {
            (row.outcome, row.standing) = ("planned", RowStanding::Good);
            if planned.lost.is_some() {
                row.standing = RowStanding::Degraded;
            }
            set_state(&mut row, planned.txid, planned.v3.as_ref());
            set_past(&mut row, planned.past.as_deref());
            row.moved_from = planned.moved_from.map(|txid| txid.to_string());
            row.lost.clone_from(&planned.lost);
            row.files = Some(planned.files);
            row.bytes_fetched = Some(planned.bytes);
            row.requests = Some(planned.requests);
            row.warnings.clone_from(&planned.warnings);
        }
        Ending::Rehearsed(rehearsed) => {
            (row.outcome, row.standing) = ("rehearsed", RowStanding::Good);
            set_past(&mut row, rehearsed.past.as_deref());
            row.files = Some(rehearsed.files as u64);
            row.bytes_fetched = Some(rehearsed.bytes_in);
            row.requests = Some(rehearsed.requests);
        }
        // `hydrant verify` makes rows of its own.
        Ending::Verified(_) => row.outcome = "verified",
        Ending::Skipped(why) => {
            (row.outcome, row.standing) = ("skipped", RowStanding::Skipped);
            row.reason = Some((*why).to_owned());
        }
        Ending::Failed { class, reason } => {
            (row.outcome, row.standing) = ("failed", RowStanding::Bad);
            row.class = Some(class.as_str());
            row.reason = Some(with_class(*class, reason));
        }
    }
    row
}

/// Sets the state that was reached: `v3` for files of Litestream 0.3, else `txid`.
fn set_state(row: &mut DatabaseRow, txid: Txid, v3: Option<&V3State>) {
    row.txid = Some(if v3.is_some() { String::new() } else { txid.to_string() });
    if let Some(v3) = v3 {
        V3Fields::of(v3).set(row);
    }
}

/// Sets from which past of a versioned bucket the state was restored, or would be.
fn set_past(row: &mut DatabaseRow, past: Option<&PastState>) {
    if let Some(past) = past {
        PastFields::of(past).set(row);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn reason_json(reason: &FrequentReason) -> Value {
    json!({
        "class": reason.class.as_str(),
        "count": reason.count,
        "example": {"name": reason.name, "reason": reason.reason},
    })
}

fn state_json(name: &str, state: NewestState, reference: Timestamp) -> Value {
    json!({
        "name": name,
        "timestamp": state.time.to_rfc3339_seconds(),
        "time_source": state.source,
        "age_s": state.age_seconds(reference),
    })
}

/// The report's object about the limits of one bucket.
fn bucket_json(bucket: BucketLimits) -> Value {
    let prefix_json =
        |(prefix, per_second): (String, f64)| json!({"prefix": prefix, "requests_per_second": per_second.round()});
    json!({
        "bucket": bucket.bucket,
        "requests_in_flight": bucket.window,
        "requests_per_second": bucket.per_second.map(f64::round),
        "throttled_prefixes": bucket.prefixes.into_iter().map(prefix_json).collect::<Vec<_>>(),
    })
}

/// What discovery found.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Discovered {
    /// Number of databases of all shards that match the pattern.
    pub matched: u64,
    /// Number of databases in this run's shard, including those that could not be looked for.
    pub databases: u64,
    /// Number of directories that contain the databases of this shard.
    pub folders: u64,
    /// Number of this shard's databases that have LTX files or files of Litestream 0.3.
    pub with_backups: u64,
    /// Number of this shard's databases of which the store has no file.
    pub without_backups: u64,
    /// Number of this shard's databases that have files of Litestream 0.3 and no LTX files.
    pub v3_only: u64,
    /// Number of LIST requests that discovery needed.
    pub lists: u64,
    /// Milliseconds that discovery took.
    pub discovery_ms: u64,
}

impl Discovered {
    /// Takes the counts from `discovery`, which took the time `took`.
    pub fn of(discovery: &Discovery, took: Duration) -> Self {
        Self {
            matched: discovery.matched,
            databases: discovery.with_backups + discovery.without_backups + discovery.failed.len() as u64,
            folders: discovery.folders,
            with_backups: discovery.with_backups,
            without_backups: discovery.without_backups,
            v3_only: discovery.v3_only,
            lists: discovery.lists,
            discovery_ms: millis(took),
        }
    }
}

/// Collects what a run reports, and writes the error log and the report.
pub struct RunSummary {
    /// Totals of the databases that have ended so far.
    pub totals: Totals,
    /// How old the newest states of the databases are.
    pub ages: Ages,
    /// What discovery has found.
    pub discovered: Discovered,
    /// With a catalogue: when its listing began.
    pub recovery_point: Option<Timestamp>,
    /// Why discovery failed. No database was restored then.
    pub listing_error: Option<String>,
    error_log: Option<ErrorLog>,
    reports: ReportBook,
    /// Milliseconds per restored database.
    times: Option<Histogram<u64>>,
}

impl RunSummary {
    /// Makes the reports and opens the error log. `error_log` is None in a dry run. If the error log cannot be
    /// written, [`RunSummary::take_trouble`] returns the reason. Ages are counted up to `reference`.
    ///
    /// # Errors
    /// A report cannot be written.
    pub fn open(
        error_log: Option<(&Path, Links)>,
        reports: &[PathBuf],
        reference: Timestamp,
    ) -> Result<Self, ReportError> {
        Ok(Self {
            totals: Totals::default(),
            ages: Ages::new(reference),
            discovered: Discovered::default(),
            recovery_point: None,
            listing_error: None,
            reports: ReportBook::open(reports)?,
            error_log: error_log.map(|(path, links)| ErrorLog::open(path, links)),
            times: Histogram::new(3).ok(),
        })
    }

    /// Records what discovery found. The error log of an earlier run is removed: this run's databases are known.
    pub fn found(&mut self, discovered: Discovered) {
        self.discovered = discovered;
        if let Some(log) = &mut self.error_log {
            log.begin();
        }
    }

    /// Whether a report is written.
    pub fn is_reported(&self) -> bool {
        self.reports.is_wanted()
    }

    /// Records how a database ended, `at` this time since the start of the run. `command` restores it alone; it is
    /// shown if the database failed.
    pub fn add(&mut self, ended: &Ended, at: Duration, command: Option<String>) -> DatabaseRow {
        self.totals.add(ended);
        self.ages.add(ended);
        if let (Ending::Restored { .. }, Some(times)) = (&ended.ending, &mut self.times) {
            let _ = times.record(millis(ended.elapsed).max(1));
        }
        if let (Ending::Failed { class, reason }, Some(log)) = (&ended.ending, &mut self.error_log) {
            log.append(ended.name(), *class, reason);
        }
        let mut row = row_of(ended, self.ages.reference());
        row.command = command.filter(|_| row.standing == RowStanding::Bad);
        self.reports.add(&row, at);
        row
    }

    /// Whether the error log takes all failures. False in a dry run, which has none.
    pub fn is_logged(&self) -> bool {
        self.error_log.as_ref().is_some_and(ErrorLog::is_written)
    }

    /// The absolute path of a file that names all failed databases: the error log, else a JSON report once it is
    /// complete. None: there is no such file.
    pub fn failures_file(&self) -> Option<&Path> {
        let log = self.error_log.as_ref().filter(|log| log.is_written()).and_then(ErrorLog::file);
        log.or(self.reports.complete_json())
    }

    /// Returns errors with the error log and the reports themselves, each once.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.error_log.as_mut().and_then(ErrorLog::take_trouble).or_else(|| self.reports.take_trouble())
    }

    /// Returns the last line of `-json`: the totals as one JSON object. `took` is the time of the whole run.
    pub fn summary_line(&self, counters: &Counters, took: Duration) -> String {
        json_line(&self.summary(counters, took))
    }

    /// Completes the reports with the totals and gives them their final names. `end` holds what only the caller
    /// knows: the description of the run, its timeline and its latencies.
    ///
    /// Returns the reports that could not be written; they do not exist then.
    pub fn finish(
        &mut self,
        counters: &Counters,
        limits: &ProcessLimiter,
        took: Duration,
        mut end: RunEnd,
    ) -> Vec<ReportError> {
        let mut summary = self.summary(counters, took);
        if let Some(times) = &self.times {
            let quantile = |q| times.value_at_quantile(q);
            let quantiles = json!({
                "p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99), "max": times.max(),
            });
            summary.insert("restore_ms".to_owned(), quantiles);
        }
        summary.insert("stages".to_owned(), Value::Object(end.stages.to_json()));
        summary.insert("limits".to_owned(), limits.snapshot().into_iter().map(bucket_json).collect());
        end.summary = summary;
        end.not_reached = self.totals.left + self.totals.not_started;
        end.listing_error.clone_from(&self.listing_error);
        end.reference = self.ages.reference().to_rfc3339_seconds();
        end.requests_repeated = counters.retries.get();
        self.reports.finish(&end)
    }

    fn summary(&self, counters: &Counters, took: Duration) -> Map<String, Value> {
        let Totals { restored, planned, skipped, failed, bytes, bytes_fetched, files, retries, left, .. } = self.totals;
        let Totals { tried_again, not_started, around_damage, not_newest, moved, .. } = self.totals;
        let sent = counters.sent();
        let mut summary = Map::new();
        let mut put = |name: &str, value: Value| summary.insert(name.to_owned(), value);
        put("type", "summary".into());
        if let Ok(Value::Object(discovered)) = serde_json::to_value(self.discovered) {
            discovered.into_iter().for_each(|(name, value)| drop(put(&name, value)));
        }
        if let Some(time) = self.recovery_point {
            put("recovery_point", time.to_rfc3339_seconds().into());
            put("moved", moved.into());
        }
        if let Some(error) = &self.listing_error {
            put("listing_error", error.as_str().into());
        }
        put("restored", restored.into());
        if planned > 0 {
            put("planned", planned.into());
        }
        put("skipped", skipped.into());
        put("skips", self.totals.skips.iter().map(|(why, n)| ((*why).to_owned(), json!(n))).collect());
        put("failed", failed.into());
        if left > 0 {
            put("interrupted", left.into());
        }
        if not_started > 0 {
            put("not_started", not_started.into());
        }
        put("failures", self.totals.classes.iter().map(|(class, n)| (class.to_string(), json!(n))).collect());
        put("reasons", self.totals.reasons.most_frequent().into_iter().map(reason_json).collect());
        put("restored_around_damage", around_damage.into());
        put("not_newest", not_newest.into());
        if let Some((name, state)) = self.ages.oldest() {
            put("oldest_state", state_json(name, state, self.ages.reference()));
        }
        put("older_than_a_day", self.ages.older_than_a_day.into());
        put("bytes", bytes.into());
        put("bytes_fetched", bytes_fetched.into());
        put("files", files.into());
        put("requests", sent.into());
        put("requests_repeated", counters.retries.get().into());
        put("throttled", counters.throttled.get().into());
        put("hedged", counters.hedges.get().into());
        put("retries", retries.into());
        put("databases_tried_again", tried_again.into());
        put("duration_ms", millis(took).into());
        summary
    }
}

#[cfg(test)]
mod tests {
    use crate::fleet::outcome::record::*;

    /// The other fields of the report are compared in tests/all/golden. A throttled prefix would need too much
    /// traffic there.
    #[test]
    fn limits_in_the_report() {
        let mut bucket = BucketLimits {
            bucket: "https://s3.example/bucket".to_owned(),
            window: 64,
            per_second: Some(812.4),
            prefixes: vec![("tenants/a".to_owned(), 39.6)],
        };
        assert_eq!(
            bucket_json(bucket.clone()).to_string(),
            r#"{"bucket":"https://s3.example/bucket","requests_in_flight":64,"requests_per_second":812.0,"throttled_prefixes":[{"prefix":"tenants/a","requests_per_second":40.0}]}"#
        );
        (bucket.per_second, bucket.prefixes) = (None, Vec::new());
        assert_eq!(
            bucket_json(bucket).to_string(),
            r#"{"bucket":"https://s3.example/bucket","requests_in_flight":64,"requests_per_second":null,"throttled_prefixes":[]}"#
        );
    }
}
