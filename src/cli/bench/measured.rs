//! The results of `hydrant bench`, and their output as a table or as JSON.

use crate::cli::args::resolved::BenchStage;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::table::{Align, aligned};
use crate::cli::ui::{human, latency_table};
use crate::error::{Class, escaped};
use crate::fleet::{Ended, Ending};
use crate::process::cpu::cpu_time;
use crate::report::ExtraTable;
use crate::telemetry::{Counters, Durations, Stages};
use crate::timestamp::Timestamp;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// The names of the columns of [`Measured::row`].
const HEADER: [&str; 11] = [
    "stage",
    "passes",
    "seconds",
    "databases",
    "requests",
    "MB in",
    "MB out",
    "MB/s in",
    "MB/s out",
    "databases/s",
    "CPU s/GB",
];

/// The results of one run of `hydrant bench`.
pub(super) struct Bench {
    /// The URL of the measured databases as typed, with its secrets replaced by `***`.
    pub source: String,
    /// Name of the I/O backend that wrote files: `uring` (io_uring) or `pwrite`.
    pub io_engine: &'static str,
    /// The results of each stage that was measured.
    pub stages: Vec<Measured>,
    /// With `-as-of`: the time, and whether the history of the bucket is complete there.
    pub past: Option<(Timestamp, bool)>,
}

/// The results of one stage, summed over all its passes. A pass processes all databases once.
pub(super) struct Measured {
    pub stage: BenchStage,
    /// Number of complete passes over all databases.
    pub passes: u64,
    /// Elapsed time of all passes together.
    pub took: Duration,
    /// CPU time (of all threads) that the process used during all passes.
    cpu: Duration,
    /// Number of databases that were restored, read or listed without a failure.
    pub databases: u64,
    pub failed: u64,
    /// Number of requests sent, including those in `requests_repeated` and `hedged`.
    requests: u64,
    /// Number of requests that were sent again after a failed attempt.
    requests_repeated: u64,
    /// Number of responses by which a bucket asked for fewer requests, such as 503 SlowDown.
    throttled: u64,
    /// Number of requests that were sent a second time because the first response was slow.
    hedged: u64,
    /// Number of body bytes received from buckets. It stays 0 for replicas on a local disk.
    received: u64,
    /// Total size in bytes of the LTX files that the restores had planned.
    planned: u64,
    /// Total size of the restored databases in bytes.
    bytes_out: u64,
    /// Histograms of latencies within restores: listing, time to first byte, decoding, writing and so on.
    pub latency: Stages,
    /// Histogram of the time that each database took, from when a worker first took it to its end.
    each: Durations,
}

/// A reading of the process's counters and CPU time. All values only grow, so the difference of two readings is what
/// the work between them took.
#[derive(Clone, Copy)]
struct ResourceMeter {
    cpu: Duration,
    requests: u64,
    requests_repeated: u64,
    throttled: u64,
    hedged: u64,
    received: u64,
}

impl ResourceMeter {
    fn read(counters: &Counters) -> Self {
        Self {
            cpu: cpu_time(),
            requests: counters.sent(),
            requests_repeated: counters.retries.get(),
            throttled: counters.throttled.get(),
            hedged: counters.hedges.get(),
            received: counters.bytes_in.get(),
        }
    }
}

impl Measured {
    pub(super) fn new(stage: BenchStage) -> Self {
        Self {
            stage,
            passes: 0,
            took: Duration::ZERO,
            cpu: Duration::ZERO,
            databases: 0,
            failed: 0,
            requests: 0,
            requests_repeated: 0,
            throttled: 0,
            hedged: 0,
            received: 0,
            planned: 0,
            bytes_out: 0,
            latency: Stages::default(),
            each: Durations::default(),
        }
    }

    /// Runs `work`, and adds its elapsed time, CPU time, requests and bytes to these results.
    pub(super) fn time<T>(&mut self, counters: &Counters, work: impl FnOnce(&mut Self) -> T) -> T {
        let (before, begun) = (ResourceMeter::read(counters), Instant::now());
        let result = work(self);
        self.took += begun.elapsed();
        let after = ResourceMeter::read(counters);
        self.cpu += after.cpu.saturating_sub(before.cpu);
        self.requests += after.requests - before.requests;
        self.requests_repeated += after.requests_repeated - before.requests_repeated;
        self.throttled += after.throttled - before.throttled;
        self.hedged += after.hedged - before.hedged;
        self.received += after.received - before.received;
        result
    }

    /// Adds the result of one database that has ended to these totals.
    pub(super) fn add(&mut self, ended: &Ended) {
        match &ended.ending {
            Ending::Restored { outcome, .. } => {
                self.planned += outcome.bytes_in;
                self.bytes_out += outcome.bytes_out;
            }
            Ending::Rehearsed(rehearsed) => {
                self.planned += rehearsed.bytes_in;
                self.bytes_out += rehearsed.bytes_out;
            }
            Ending::Failed { .. } => {
                self.failed += 1;
                return;
            }
            Ending::Planned(_) | Ending::Verified(_) | Ending::Skipped(_) => return,
        }
        self.databases += 1;
        self.each.record(ended.elapsed);
    }

    /// Whether at least one database has ended in this stage, successfully or not. A stage without any, for example
    /// after an interruption, is left out of the table.
    pub(super) fn is_something(&self) -> bool {
        self.databases + self.failed > 0
    }

    /// The bytes read from the replicas. For buckets they are the body bytes received. Reads of local files are not
    /// counted, so for them it is the total size of the planned files.
    fn bytes_in(&self) -> u64 {
        if self.received > 0 { self.received } else { self.planned }
    }

    /// Converts a total to a rate: `n` divided by the elapsed seconds of this stage.
    fn per_second(&self, n: u64) -> f64 {
        n as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// CPU seconds per GB (10⁹ bytes) of restored databases. For a stage that decodes no databases it is per GB
    /// fetched. None for listing, which fetches no files.
    fn cpu_seconds_per_gb(&self) -> Option<f64> {
        let bytes = match (self.stage, self.bytes_out) {
            (BenchStage::List, _) => 0,
            (_, 0) => self.bytes_in(),
            (_, out) => out,
        };
        (bytes > 0).then(|| self.cpu.as_secs_f64() / (bytes as f64 / 1e9))
    }

    fn to_json(&self) -> Value {
        json!({
            "stage": self.stage.as_str(),
            "passes": self.passes,
            "seconds": rounded(self.took.as_secs_f64()),
            "databases": self.databases,
            "failed": self.failed,
            "requests": self.requests,
            "requests_repeated": self.requests_repeated,
            "throttled": self.throttled,
            "hedged": self.hedged,
            "bytes_in": self.bytes_in(),
            "bytes_out": self.bytes_out,
            "mb_in_per_second": rounded(self.per_second(self.bytes_in()) / 1e6),
            "mb_out_per_second": rounded(self.per_second(self.bytes_out) / 1e6),
            "databases_per_second": rounded(self.per_second(self.databases)),
            "cpu_seconds": rounded(self.cpu.as_secs_f64()),
            "cpu_seconds_per_gb": self.cpu_seconds_per_gb().map(rounded),
            "latency": self.latency.to_json(),
            "database": self.each.quantiles().map_or(json!({"count": 0}), |q| json!(q)),
        })
    }

    /// Formats the row of this stage in the table that the command prints.
    fn row(&self) -> [String; 11] {
        let or_none = |n: u64, text: String| if n == 0 { "-".to_owned() } else { text };
        let (bytes_in, bytes_out) = (self.bytes_in(), self.bytes_out);
        [
            self.stage.as_str().to_owned(),
            self.passes.to_string(),
            format!("{:.3}", self.took.as_secs_f64()),
            human::thousands(self.databases),
            human::thousands(self.requests),
            or_none(bytes_in, format!("{:.2}", bytes_in as f64 / 1e6)),
            or_none(bytes_out, format!("{:.2}", bytes_out as f64 / 1e6)),
            or_none(bytes_in, format!("{:.1}", self.per_second(bytes_in) / 1e6)),
            or_none(bytes_out, format!("{:.1}", self.per_second(bytes_out) / 1e6)),
            format!("{:.1}", self.per_second(self.databases)),
            self.cpu_seconds_per_gb().map_or("-".to_owned(), |seconds| format!("{seconds:.2}")),
        ]
    }
}

impl Bench {
    /// The results as JSON. `interrupted` says that a signal has ended the run early.
    pub(super) fn to_json(&self, interrupted: bool) -> Value {
        let mut json = json!({
            "source": self.source,
            "io_engine": self.io_engine,
            "interrupted": interrupted,
            "stages": self.shown().map(Measured::to_json).collect::<Vec<_>>(),
        });
        if let (Some((as_of, is_complete)), Some(fields)) = (self.past, json.as_object_mut()) {
            fields.insert("as_of".to_owned(), json!(as_of.to_string()));
            fields.insert("history_complete".to_owned(), json!(is_complete));
        }
        json
    }

    /// The results for the table of a report.
    pub(super) fn to_extra(&self) -> ExtraTable {
        ExtraTable {
            title: "Speed of each stage".to_owned(),
            header: HEADER.map(str::to_owned).to_vec(),
            rows: self.shown().map(|measured| measured.row().to_vec()).collect(),
        }
    }

    /// The totals of all stages, as a report holds them.
    pub(super) fn summary(&self, took: Duration) -> Map<String, Value> {
        let sum = |of: fn(&Measured) -> u64| self.stages.iter().map(of).sum::<u64>();
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let fields = [
            ("type", json!("summary")),
            ("databases", json!(sum(|m| m.databases + m.failed))),
            ("failed", json!(sum(|m| m.failed))),
            ("bytes", json!(sum(|m| m.bytes_out))),
            ("bytes_fetched", json!(sum(Measured::bytes_in))),
            ("requests", json!(sum(|m| m.requests))),
            ("requests_repeated", json!(sum(|m| m.requests_repeated))),
            ("throttled", json!(sum(|m| m.throttled))),
            ("hedged", json!(sum(|m| m.hedged))),
            ("duration_ms", json!(millis)),
            ("stages", Value::Object(self.latencies().to_json())),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The latencies of the last stage that was measured. It includes all that the others do.
    pub(super) fn latencies(&self) -> Stages {
        self.shown().last().map(|measured| measured.latency.clone()).unwrap_or_default()
    }

    /// Formats the results as two tables: one row per stage, and one row per latency.
    pub(super) fn to_text(&self) -> String {
        let mut rows = vec![HEADER.map(str::to_owned)];
        rows.extend(self.shown().map(Measured::row));
        let mut lines = vec![format!("{} ({})", escaped(&self.source), self.io_engine), String::new()];
        lines.extend(aligned(&rows, Align::Numbers));
        let latencies: Vec<_> = self
            .shown()
            .flat_map(|measured| {
                let whole = Some(("database", &measured.each));
                let all = measured.latency.iter().map(|(stage, durations)| (stage.as_str(), durations)).chain(whole);
                all.filter_map(|(name, durations)| {
                    Some((format!("{}/{name}", measured.stage.as_str()), durations.quantiles()?))
                })
            })
            .collect();
        lines.push(String::new());
        lines.extend(latency_table::table(latencies.iter().map(|(name, quantiles)| (name.as_str(), *quantiles))));
        lines.join("\n") + "\n"
    }

    /// The result of the command, by the rules of `restore-pattern`: success if no database has failed, a failure if
    /// all have, otherwise a partial failure.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let (done, failed) = self.stages.iter().fold((0, 0), |(d, f), m| (d + m.databases, f + m.failed));
        let message = || format!("{} failed", human::count(failed, "database"));
        match (done, failed) {
            (_, 0) => Ok(()),
            (0, _) => Err(Failure::failed(Class::Io, message())),
            _ => Err(Failure::Partial { message: message(), try_call: None }),
        }
    }

    /// The stages to print: those in which at least one database has ended.
    fn shown(&self) -> impl Iterator<Item = &Measured> {
        self.stages.iter().filter(|measured| measured.is_something())
    }
}

/// Rounds `n` to three decimals, to keep the JSON output short.
fn rounded(n: f64) -> f64 {
    (n * 1e3).round() / 1e3
}
