//! What a run reports: one record for each database, the totals, the error log and the report file.

use crate::error::{Class, json_escaped};
use crate::fleet::discovery::found::Discovery;
use crate::fleet::job::{Ended, Ending, Subject};
use crate::fleet::outcome::error_log::{ErrorLog, with_class};
use crate::fleet::outcome::report::Report;
use crate::store::s3::{BucketLimits, ProcessLimiter};
use crate::telemetry::{Counters, Stages};
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
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
    /// TXID that was reached or planned, as 16 hexadecimal digits.
    pub txid: Option<String>,
    /// Point in time of the restored state, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_source: Option<&'static str>,
    /// Size of the restored database in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// Number of LTX files that were fetched or planned.
    pub files: Option<u64>,
    /// Size in bytes of the LTX files that were fetched or planned.
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
    /// Why the database was skipped or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    /// Warnings about the database's backup or its output path.
    pub warnings: Vec<String>,
}

impl Record {
    fn of(ended: &Ended) -> Self {
        let mut record = Self {
            kind: "database",
            subject: ended.subject.clone(),
            db_path: ended.output.as_ref().map(|path| path.to_string_lossy().into_owned()),
            outcome: "failed",
            replica: ended.subject.replica(),
            txid: None,
            timestamp: None,
            time_source: None,
            bytes: None,
            files: None,
            bytes_fetched: None,
            requests: None,
            retries: ended.retries,
            duration_ms: millis(ended.elapsed),
            class: None,
            reason: None,
            warnings: Vec::new(),
        };
        match &ended.ending {
            Ending::Restored { outcome, warnings } => {
                record.outcome = "restored";
                record.txid = Some(outcome.txid.to_string());
                record.timestamp = Some(outcome.timestamp.to_rfc3339_seconds());
                record.time_source = Some("header");
                record.bytes = Some(outcome.bytes_out);
                record.files = Some(outcome.files as u64);
                record.bytes_fetched = Some(outcome.bytes_in);
                record.requests = Some(outcome.requests);
                record.warnings = outcome.all_warnings();
                record.warnings.extend_from_slice(warnings);
            }
            Ending::Planned(planned) => {
                record.outcome = "planned";
                record.txid = Some(planned.txid.to_string());
                record.files = Some(planned.files);
                record.bytes_fetched = Some(planned.bytes);
                record.requests = Some(planned.requests);
                record.warnings.clone_from(&planned.warnings);
            }
            Ending::Rehearsed(rehearsed) => {
                record.outcome = "rehearsed";
                record.files = Some(rehearsed.files as u64);
                record.bytes_fetched = Some(rehearsed.bytes_in);
                record.requests = Some(rehearsed.requests);
            }
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

/// Returns the report's JSON object about the request limits of one bucket.
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

/// Totals of a run. All are numbers of databases unless they say otherwise.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Number of databases restored.
    pub restored: u64,
    /// Number of databases planned by `-dry-run`.
    pub planned: u64,
    /// Number of databases skipped.
    pub skipped: u64,
    /// Number of databases and entries of litestream.yml that failed.
    pub failed: u64,
    /// Total size of the restored databases in bytes.
    pub bytes: u64,
    /// Total size in bytes of the LTX files of restored and planned databases.
    pub bytes_fetched: u64,
    /// Number of LTX files of restored and planned databases.
    pub files: u64,
    /// Number of requests for restored and planned databases.
    pub requests: u64,
    /// Number of times that databases were tried again, over all databases.
    pub retries: u64,
    /// Number of failures of each class.
    pub classes: BTreeMap<Class, u64>,
    /// Databases that were not restored because a sidecar is in the way.
    pub sidecars: u64,
    /// Not restored because the run was interrupted.
    pub left: u64,
}

impl Totals {
    /// Number of databases that were restored, planned or skipped.
    pub fn done(&self) -> u64 {
        self.restored + self.planned + self.skipped
    }

    /// Returns the failures by class as text, such as `2 hole, 1 truncated`.
    pub fn classes(&self) -> String {
        self.classes.iter().map(|(class, n)| format!("{n} {class}")).collect::<Vec<_>>().join(", ")
    }

    fn add(&mut self, ended: &Ended) {
        self.retries += u64::from(ended.retries);
        match &ended.ending {
            Ending::Restored { outcome, .. } => {
                self.restored += 1;
                self.bytes += outcome.bytes_out;
                self.bytes_fetched += outcome.bytes_in;
                self.files += outcome.files as u64;
                self.requests += outcome.requests;
            }
            Ending::Planned(planned) => {
                self.planned += 1;
                self.bytes_fetched += planned.bytes;
                self.files += planned.files;
                self.requests += planned.requests;
            }
            // `hydrant bench` measures and reports these databases itself.
            Ending::Rehearsed(_) => {}
            Ending::Skipped(_) => self.skipped += 1,
            Ending::Failed { class, reason } => {
                self.failed += 1;
                self.sidecars += u64::from(*class == Class::OutputExists && reason.contains("sidecar"));
                *self.classes.entry(*class).or_default() += 1;
            }
        }
    }
}

/// What discovery found. All are numbers of databases unless they say otherwise.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Discovered {
    /// Number of databases of all shards that match the pattern.
    pub matched: u64,
    /// Number of databases in this run's shard, including those that could not be looked for.
    pub databases: u64,
    /// Number of directories that contain the databases of this shard.
    pub folders: u64,
    /// Number of this shard's databases that have LTX files or a v0.3.x backup.
    pub with_backups: u64,
    /// Number of this shard's databases of which the store has no file.
    pub without_backups: u64,
    /// Number of this shard's databases that have only a backup in the v0.3.x format.
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
    /// Counts of what discovery found. All are 0 until it has ended.
    pub discovered: Discovered,
    /// Why discovery failed. No database was restored then.
    pub listing_error: Option<String>,
    error_log: Option<ErrorLog>,
    report: Option<Report>,
    /// Histogram of the milliseconds that each restored database took.
    times: Option<Histogram<u64>>,
    /// Why the report file cannot be written. It is reported to the operator once.
    trouble: Option<String>,
}

impl RunSummary {
    /// Creates the report file and deletes the error log of an earlier run. `error_log` is None in a dry run.
    /// If the error log cannot be deleted, [`RunSummary::take_trouble`] returns the reason.
    ///
    /// # Errors
    /// The error of the kernel if the report cannot be created.
    pub fn open(error_log: Option<&Path>, report: Option<&Path>) -> std::io::Result<Self> {
        Ok(Self {
            totals: Totals::default(),
            discovered: Discovered::default(),
            listing_error: None,
            report: report.map(Report::create).transpose()?,
            error_log: error_log.map(ErrorLog::fresh),
            times: Histogram::new(3).ok(),
            trouble: None,
        })
    }

    /// Adds the result of one database to the totals, the error log and the report. Returns its record.
    pub fn add(&mut self, ended: &Ended) -> Record {
        self.totals.add(ended);
        if let (Ending::Restored { .. }, Some(times)) = (&ended.ending, &mut self.times) {
            let _ = times.record(millis(ended.elapsed).max(1));
        }
        if let (Ending::Failed { class, reason }, Some(log)) = (&ended.ending, &mut self.error_log) {
            log.append(ended.name(), *class, reason);
        }
        let record = Record::of(ended);
        if let Some(report) = &mut self.report
            && let Err(e) = report.add(&record)
        {
            self.report = None;
            self.trouble = Some(format!("cannot write the report: {e}"));
        }
        record
    }

    /// Returns an error of writing the error log or the report. Each error is returned once.
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
        self.report.take().map_or(Ok(()), |report| report.finish(&summary))
    }

    fn summary(&self, counters: &Counters, took: Duration) -> Map<String, Value> {
        let Totals { restored, planned, skipped, failed, bytes, bytes_fetched, files, retries, left, .. } = self.totals;
        let sent = counters.lists.get() + counters.gets.get() + counters.heads.get();
        let mut summary = Map::new();
        let mut put = |name: &str, value: Value| summary.insert(name.to_owned(), value);
        put("type", "summary".into());
        if let Ok(Value::Object(discovered)) = serde_json::to_value(self.discovered) {
            discovered.into_iter().for_each(|(name, value)| drop(put(&name, value)));
        }
        if let Some(error) = &self.listing_error {
            put("listing_error", error.as_str().into());
        }
        put("restored", restored.into());
        if planned > 0 {
            put("planned", planned.into());
        }
        put("skipped", skipped.into());
        put("failed", failed.into());
        if left > 0 {
            put("interrupted", left.into());
        }
        put("failures", self.totals.classes.iter().map(|(class, n)| (class.to_string(), json!(n))).collect());
        put("bytes", bytes.into());
        put("bytes_fetched", bytes_fetched.into());
        put("files", files.into());
        put("requests", sent.into());
        put("requests_repeated", counters.retries.get().into());
        put("throttled", counters.throttled.get().into());
        put("hedged", counters.hedges.get().into());
        put("retries", retries.into());
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
