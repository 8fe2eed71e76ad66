//! What a run reports: a record for each database, the totals, the error log, the report.

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

/// What `-json` and the report say of one database (docs/CLI.md, "JSON").
#[derive(Debug, Serialize)]
pub struct Record {
    #[serde(rename = "type")]
    kind: &'static str,
    /// The fields `name` and `key`.
    #[serde(flatten)]
    pub subject: Subject,
    /// The output path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db_path: Option<String>,
    /// `restored`, `planned`, `rehearsed`, `skipped`, `failed`.
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    replica: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txid: Option<String>,
    /// The time that was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_source: Option<&'static str>,
    /// Size of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// The size of the files that were fetched or planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_fetched: Option<u64>,
    /// Requests, without repeated ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// How often the database was tried again.
    pub retries: u32,
    pub duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    /// Why it was skipped or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
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

/// The totals of a run.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    pub restored: u64,
    pub planned: u64,
    pub skipped: u64,
    pub failed: u64,
    /// Size of the restored databases.
    pub bytes: u64,
    /// Size of the LTX files of restored and planned databases.
    pub bytes_fetched: u64,
    pub files: u64,
    /// Requests for restored and planned databases.
    pub requests: u64,
    /// How often databases were tried again.
    pub retries: u64,
    pub classes: BTreeMap<Class, u64>,
    /// Databases that were not restored because a sidecar is in the way.
    pub sidecars: u64,
    /// Not restored because the run was interrupted.
    pub left: u64,
}

impl Totals {
    /// Databases that were restored, planned or skipped.
    pub fn done(&self) -> u64 {
        self.restored + self.planned + self.skipped
    }

    /// `2 hole, 1 truncated`.
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
            // `hydrant bench` measures these itself.
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

/// What discovery found.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Discovered {
    /// Databases of the whole fleet, all shards.
    pub matched: u64,
    /// Databases of this run's shard.
    pub databases: u64,
    pub folders: u64,
    pub with_backups: u64,
    pub without_backups: u64,
    /// Those of them that have a backup in the v0.3.x format only.
    pub v3_only: u64,
    pub lists: u64,
    pub discovery_ms: u64,
}

impl Discovered {
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

/// Collects what a run reports.
pub struct RunSummary {
    pub totals: Totals,
    pub discovered: Discovered,
    /// Why the databases are not known. None of them was restored then.
    pub listing_error: Option<String>,
    error_log: Option<ErrorLog>,
    report: Option<Report>,
    /// Milliseconds per restored database.
    times: Option<Histogram<u64>>,
    /// Why the report cannot be written.
    trouble: Option<String>,
}

impl RunSummary {
    /// Opens the report and deletes an old error log. A dry run has no error log (`None`). If the error
    /// log cannot be written, [`RunSummary::take_trouble`] says so.
    ///
    /// # Errors
    /// The report cannot be written.
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

    /// Records how a database ended.
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

    /// Returns errors with the error log and the report themselves, each once.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.error_log.as_mut().and_then(ErrorLog::take_trouble).or_else(|| self.trouble.take())
    }

    /// The last line of `-json`.
    pub fn summary_line(&self, counters: &Counters, took: Duration) -> String {
        line(&self.summary(counters, took))
    }

    /// Completes the report.
    ///
    /// # Errors
    /// The report cannot be written. There is no report then.
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

    /// The rest of the report is compared in tests/all/golden. A throttled prefix needs too much traffic for
    /// that.
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
