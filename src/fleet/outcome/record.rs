//! What a run reports: one record for each database, the totals, the error log and the report file.

use crate::error::json_escaped;
use crate::fleet::discovery::found::Discovery;
use crate::fleet::job::{Ended, Ending, NewestState, Subject};
use crate::fleet::outcome::ages::{Ages, state_of};
use crate::fleet::outcome::error_log::{ErrorLog, Links, with_class};
use crate::fleet::outcome::past_fields::PastFields;
use crate::fleet::outcome::reasons::FrequentReason;
use crate::fleet::outcome::report::Report;
use crate::fleet::outcome::totals::Totals;
use crate::fleet::outcome::v3_fields::V3Fields;
use crate::ltx::Txid;
use crate::plan::V3State;
use crate::store::s3::{BucketLimits, ProcessLimiter};
use crate::telemetry::{Counters, Stages};
use crate::timestamp::Timestamp;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `-json` and the report say about one database (docs/CLI.md, "JSON").
#[derive(Debug, Serialize)]
pub struct Record {
    #[serde(rename = "type")]
    kind: &'static str,
    /// Serialized as the fields `name` and `key`.
    #[serde(flatten)]
    pub subject: Subject,
    /// Absolute path of the restored database. None: it has no safe output path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db_path: Option<String>,
    /// Word for the result: `restored`, `planned`, `rehearsed`, `skipped` or `failed`.
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    replica: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// TXID that was reached or planned, as 16 hexadecimal digits. Empty if the files are those of Litestream 0.3.
    pub txid: Option<String>,
    /// The state that was reached or planned, if the files are those of Litestream 0.3.
    #[serde(flatten)]
    pub v3: Option<V3Fields>,
    /// From which past of a versioned bucket it was restored, if it was.
    #[serde(flatten)]
    pub past: Option<PastFields>,
    /// With a catalogue: the TXID of its state, if that cannot be reached exactly any more. `txid` is newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<String>,
    /// Point in time of the restored state, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_source: Option<&'static str>,
    /// How much older that is than the time that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
    /// Size of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// Number of files that were fetched or planned.
    pub files: Option<u64>,
    /// Size in bytes of the files that were fetched or planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_fetched: Option<u64>,
    /// Number of requests for this database, without retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Number of times that the database was tried again.
    pub retries: u32,
    /// Milliseconds from the first start of the database to its end, pauses between retries included.
    pub duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// Class of the failure, if the database failed (docs/CLI.md, "Error log classes").
    pub class: Option<&'static str>,
    /// Why the newest state cannot be had, if an older one was restored or planned (`-newest-intact`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// Why the database was skipped or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    /// Warnings about the database's backup or its output path.
    pub warnings: Vec<String>,
}

impl Record {
    fn of(ended: &Ended, reference: Timestamp) -> Self {
        let state = state_of(ended);
        let mut record = Self {
            kind: "database",
            subject: ended.subject.clone(),
            db_path: ended.output.as_ref().map(|path| path.to_string_lossy().into_owned()),
            outcome: "failed",
            replica: ended.subject.replica(),
            txid: None,
            v3: None,
            past: None,
            moved_from: None,
            timestamp: state.map(|state| state.time.to_rfc3339_seconds()),
            time_source: state.map(|state| state.source),
            age_s: state.map(|state| state.age_seconds(reference)),
            bytes: None,
            files: None,
            bytes_fetched: None,
            requests: None,
            retries: ended.retries,
            duration_ms: millis(ended.elapsed),
            class: None,
            lost: None,
            reason: None,
            warnings: Vec::new(),
        };
        match &ended.ending {
            Ending::Restored { outcome, warnings } => {
                record.outcome = "restored";
                record.state(outcome.txid, outcome.v3.as_ref());
                record.past = outcome.past.as_deref().map(PastFields::of);
                record.moved_from = outcome.moved_from().map(|txid| txid.to_string());
                record.bytes = Some(outcome.bytes_out);
                record.files = Some(outcome.files as u64);
                record.bytes_fetched = Some(outcome.bytes_in);
                record.requests = Some(outcome.requests);
                record.lost.clone_from(&outcome.lost);
                record.warnings = outcome.all_warnings();
                record.warnings.extend_from_slice(warnings);
            }
            Ending::Planned(planned) => {
                record.outcome = "planned";
                record.state(planned.txid, planned.v3.as_ref());
                record.past = planned.past.as_deref().map(PastFields::of);
                record.moved_from = planned.moved_from.map(|txid| txid.to_string());
                record.files = Some(planned.files);
                record.bytes_fetched = Some(planned.bytes);
                record.requests = Some(planned.requests);
                record.lost.clone_from(&planned.lost);
                record.warnings.clone_from(&planned.warnings);
            }
            Ending::Rehearsed(rehearsed) => {
                record.outcome = "rehearsed";
                record.files = Some(rehearsed.files as u64);
                record.bytes_fetched = Some(rehearsed.bytes_in);
                record.requests = Some(rehearsed.requests);
            }
            // `hydrant verify` has records of its own.
            Ending::Verified(_) => record.outcome = "verified",
            Ending::Skipped(why) => {
                record.outcome = "skipped";
                record.reason = Some((*why).to_owned());
            }
            Ending::Failed { class, reason } => {
                record.class = Some(class.as_str());
                record.reason = Some(with_class(*class, reason));
            }
        }
        record
    }

    /// Sets the state that was reached: `v3` for files of Litestream 0.3, else `txid`.
    fn state(&mut self, txid: Txid, v3: Option<&V3State>) {
        self.txid = Some(if v3.is_some() { String::new() } else { txid.to_string() });
        self.v3 = v3.map(V3Fields::of);
    }

    /// Returns the record as one line of JSON, with a newline at its end.
    pub fn to_json_line(&self) -> String {
        line(self)
    }
}

fn line(value: &impl Serialize) -> String {
    // Serializing plain data does not fail.
    serde_json::to_string(value).map_or_else(|e| format!("{{\"error\":\"{e}\"}}\n"), |text| json_escaped(text) + "\n")
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
    report: Option<Report>,
    /// The absolute path of the report, once it is complete. None for a device or a pipe.
    complete_report: Option<PathBuf>,
    /// Milliseconds per restored database.
    times: Option<Histogram<u64>>,
    /// Why the report file cannot be written. It is reported to the operator once.
    trouble: Option<String>,
}

impl RunSummary {
    /// Creates the report file and deletes the error log of an earlier run. `error_log` is None in a dry run.
    /// If the error log cannot be deleted, [`RunSummary::take_trouble`] returns the reason.
    ///
    /// # Errors
    /// The report cannot be written.
    pub fn open(
        error_log: Option<(&Path, Links)>,
        report: Option<&Path>,
        reference: Timestamp,
    ) -> std::io::Result<Self> {
        Ok(Self {
            totals: Totals::default(),
            ages: Ages::new(reference),
            discovered: Discovered::default(),
            recovery_point: None,
            listing_error: None,
            report: report.map(Report::create).transpose()?,
            complete_report: None,
            error_log: error_log.map(|(path, links)| ErrorLog::open(path, links)),
            times: Histogram::new(3).ok(),
            trouble: None,
        })
    }

    /// Records what discovery found. The error log of an earlier run is removed: this run's databases are known.
    pub fn found(&mut self, discovered: Discovered) {
        self.discovered = discovered;
        if let Some(log) = &mut self.error_log {
            log.begin();
        }
    }

    /// Records how a database ended.
    pub fn add(&mut self, ended: &Ended) -> Record {
        self.totals.add(ended);
        self.ages.add(ended);
        if let (Ending::Restored { .. }, Some(times)) = (&ended.ending, &mut self.times) {
            let _ = times.record(millis(ended.elapsed).max(1));
        }
        if let (Ending::Failed { class, reason }, Some(log)) = (&ended.ending, &mut self.error_log) {
            log.append(ended.name(), *class, reason);
        }
        let record = Record::of(ended, self.ages.reference());
        if let Some(report) = &mut self.report
            && let Err(e) = report.add(&record)
        {
            self.report = None;
            self.trouble = Some(format!("cannot write the report: {e}"));
        }
        record
    }

    /// Whether the error log takes all failures. False in a dry run, which has none.
    pub fn is_logged(&self) -> bool {
        self.error_log.as_ref().is_some_and(ErrorLog::is_written)
    }

    /// The absolute path of a file that names all failed databases: the error log, else the report once it is
    /// complete. None: there is no such file.
    pub fn failures_file(&self) -> Option<&Path> {
        let log = self.error_log.as_ref().filter(|log| log.is_written()).and_then(ErrorLog::file);
        log.or(self.complete_report.as_deref())
    }

    /// Returns errors with the error log and the report themselves, each once.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.error_log.as_mut().and_then(ErrorLog::take_trouble).or_else(|| self.trouble.take())
    }

    /// Returns the last line of `-json`: the totals as one JSON object. `took` is the time of the whole run.
    pub fn summary_line(&self, counters: &Counters, took: Duration) -> String {
        line(&self.summary(counters, took))
    }

    /// Writes the totals to the report and gives the file its final name.
    ///
    /// # Errors
    /// The error of the kernel if the report cannot be written. No report exists then.
    pub fn finish(
        &mut self,
        counters: &Counters,
        stages: &Stages,
        limits: &ProcessLimiter,
        took: Duration,
    ) -> std::io::Result<()> {
        let mut summary = self.summary(counters, took);
        if let Some(times) = &self.times {
            let quantile = |q| times.value_at_quantile(q);
            let quantiles = json!({
                "p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99), "max": times.max(),
            });
            summary.insert("restore_ms".to_owned(), quantiles);
        }
        summary.insert("stages".to_owned(), Value::Object(stages.to_json()));
        summary.insert("limits".to_owned(), limits.snapshot().into_iter().map(bucket_json).collect());
        if let Some(report) = self.report.take() {
            self.complete_report = report.finish(&summary)?;
        }
        Ok(())
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
