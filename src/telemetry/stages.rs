//! Measures how long the stages of a restore take. Each worker thread has its own set of histograms; the sets are
//! merged when a report asks for them.
//!
//! A worker records into its own [`Recorder`], so recording needs no lock and shares no cache line. Durations are
//! kept in nanoseconds with a precision of 1 %, up to one hour. Counts saturate.

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The stages that are timed. The time of a request begins when it is sent, not when it starts to wait for the
/// request limiter. Failed attempts are not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// One page of a listing: from sending the request until the answer is parsed.
    List,
    /// A GET: from sending the request until the headers arrive.
    FirstByte,
    /// A GET: from sending the request until the last byte arrives. Only waiting counts. What the reader of a
    /// streamed body does between two chunks does not count.
    Fetch,
    /// Decoding and checking the pages of one file, or of one segment of a large file.
    Decode,
    /// One write to an output file, from submission to completion.
    Write,
    /// The fsync and publication of one database. SQLite's check and the sync of the directory are not included.
    Commit,
}

const LONGEST_NANOS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 2;

impl Stage {
    /// All stages, in the order in which a restore passes them.
    pub const ALL: [Self; 6] = [Self::List, Self::FirstByte, Self::Fetch, Self::Decode, Self::Write, Self::Commit];

    /// The stage's name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::FirstByte => "first_byte",
            Self::Fetch => "fetch",
            Self::Decode => "decode",
            Self::Write => "write",
            Self::Commit => "commit",
        }
    }
}

/// A histogram of durations.
#[derive(Clone, Default)]
pub struct Durations(
    /// None until the first duration is recorded, because a histogram takes memory and many are never used.
    Option<Histogram<u32>>,
);

/// The quantiles of a histogram that reports show, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// The number of durations in the histogram.
    pub count: u64,
    /// The median duration in milliseconds.
    pub p50_ms: f64,
    /// The duration in milliseconds that 90 % of the durations do not exceed.
    pub p90_ms: f64,
    /// The duration in milliseconds that 99 % of the durations do not exceed.
    pub p99_ms: f64,
    /// The duration in milliseconds that 99.9 % of the durations do not exceed.
    pub p999_ms: f64,
    /// The longest duration in milliseconds.
    pub max_ms: f64,
}

impl Durations {
    /// Records one duration. A duration above one hour counts as one hour.
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(histogram) = self.histogram() {
            histogram.saturating_record(nanos);
        }
    }

    /// Adds all durations of another histogram.
    pub fn add(&mut self, other: &Self) {
        if let Some(theirs) = &other.0
            && let Some(ours) = self.histogram()
        {
            // Adding fails only if two histograms have different value ranges, but all ranges here are the same.
            let _ = ours.add(theirs);
        }
    }

    /// The number of durations recorded.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The histogram in nanoseconds. None if nothing was recorded.
    pub fn nanos(&self) -> Option<&Histogram<u32>> {
        self.0.as_ref().filter(|histogram| !histogram.is_empty())
    }

    /// The quantiles. None if nothing was recorded.
    pub fn quantiles(&self) -> Option<Quantiles> {
        let histogram = self.nanos()?;
        // Values are rounded to microseconds, because the histogram is not more precise.
        let millis = |nanos: u64| (nanos as f64 / 1e3).round() / 1e3;
        let quantile = |q| millis(histogram.value_at_quantile(q).min(histogram.max()));
        Some(Quantiles {
            count: histogram.len(),
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            max_ms: millis(histogram.max()),
        })
    }

    fn histogram(&mut self) -> Option<&mut Histogram<u32>> {
        if self.0.is_none() {
            self.0 = Histogram::new_with_max(LONGEST_NANOS, DIGITS).ok();
        }
        self.0.as_mut()
    }
}

impl fmt::Debug for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Durations").field(&self.quantiles()).finish()
    }
}

/// One histogram of durations for each stage.
#[derive(Debug, Clone, Default)]
pub struct Stages([Durations; Stage::ALL.len()]);

impl Stages {
    /// Records one duration of `stage`.
    pub fn record(&mut self, stage: Stage, took: Duration) {
        if let Some(durations) = self.0.get_mut(stage as usize) {
            durations.record(took);
        }
    }

    /// Adds all durations of another set.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(ours, theirs)| ours.add(theirs));
    }

    /// Iterates over the stages and their durations, in the order of a restore.
    pub fn iter(&self) -> impl Iterator<Item = (Stage, &Durations)> {
        Stage::ALL.into_iter().zip(&self.0)
    }

    /// The number of durations recorded for `stage`.
    pub fn count(&self, stage: Stage) -> u64 {
        self.0.get(stage as usize).map_or(0, Durations::count)
    }

    /// The JSON of reports: for each stage its name and its quantiles in milliseconds. A stage without durations
    /// has only `"count": 0`.
    pub fn to_json(&self) -> Map<String, Value> {
        let shown = |durations: &Durations| match durations.quantiles() {
            Some(quantiles) => serde_json::to_value(quantiles).unwrap_or_default(),
            None => serde_json::json!({"count": 0}),
        };
        self.iter().map(|(stage, durations)| (stage.as_str().to_owned(), shown(durations))).collect()
    }
}

/// The histograms of one worker. A recorder never leaves its thread.
#[derive(Debug, Default)]
pub struct Recorder(RefCell<Stages>);

impl Recorder {
    /// Records one duration of `stage`.
    pub fn record(&self, stage: Stage, took: Duration) {
        self.0.borrow_mut().record(stage, took);
    }

    /// Returns what was recorded since the last call, and starts anew.
    pub fn take(&self) -> Stages {
        self.0.take()
    }
}

/// The time of one operation that is awaited in several parts. It is recorded when the operation is done. An
/// operation that is given up is not recorded.
#[derive(Debug)]
pub struct Spent {
    recorder: Rc<Recorder>,
    stage: Stage,
    spent: Duration,
}

impl Spent {
    /// Begins the measurement of an operation in this stage, with zero time.
    pub fn new(recorder: &Rc<Recorder>, stage: Stage) -> Self {
        Self { recorder: Rc::clone(recorder), stage, spent: Duration::ZERO }
    }

    /// Adds the time of one part of the operation.
    pub fn add(&mut self, took: Duration) {
        self.spent += took;
    }

    /// Records the sum of the parts: the operation is done.
    pub fn done(&self) {
        self.recorder.record(self.stage, self.spent);
    }

    /// The recorder that gets the measured time.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}

/// A stopwatch for work that is interrupted by waiting. The time of the waiting can be left out.
#[derive(Debug)]
pub struct Stopwatch {
    begun: Instant,
    away: Duration,
}

impl Stopwatch {
    /// Starts the stopwatch now.
    pub fn start() -> Self {
        Self { begun: Instant::now(), away: Duration::ZERO }
    }

    /// Awaits `other`. The time that this takes does not count.
    pub async fn away<T>(&mut self, other: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let result = other.await;
        self.away += begun.elapsed();
        result
    }

    /// Subtracts `other`, a time that was measured elsewhere.
    pub fn less(&mut self, other: Duration) {
        self.away += other;
    }

    /// The time since the start, without what was left out.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed().saturating_sub(self.away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_merged() {
        let cores = [Recorder::default(), Recorder::default()];
        for ms in 1..=1000 {
            cores[ms as usize % 2].record(Stage::Fetch, Duration::from_millis(ms));
        }
        cores[0].record(Stage::Commit, Duration::from_secs(7200));
        let mut all = Stages::default();
        cores.iter().for_each(|core| all.add(&core.take()));
        cores.iter().for_each(|core| all.add(&core.take()));
        let of = |stage| all.iter().find(|(s, _)| *s == stage).unwrap().1.quantiles();
        let fetch = of(Stage::Fetch).unwrap();
        assert_eq!((fetch.count, all.count(Stage::Fetch)), (1000, 1000));
        let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.011, "{found} {expected}");
        near(fetch.p50_ms, 500.0);
        near(fetch.p90_ms, 900.0);
        near(fetch.p99_ms, 990.0);
        near(fetch.p999_ms, 999.0);
        near(fetch.max_ms, 1000.0);
        // A duration longer than the histogram's range counts as the longest.
        near(of(Stage::Commit).unwrap().max_ms, 3_600_000.0);
        assert_eq!(of(Stage::List), None);
    }

    #[test]
    fn every_stage_is_reported_by_its_name() {
        let mut stages = Stages::default();
        for (i, stage) in Stage::ALL.into_iter().enumerate().skip(1) {
            stages.record(stage, Duration::from_micros(10 * i as u64));
        }
        let json = stages.to_json();
        let names: Vec<&str> = json.keys().map(String::as_str).collect();
        assert_eq!(names, ["list", "first_byte", "fetch", "decode", "write", "commit"]);
        assert_eq!(json["list"], serde_json::json!({"count": 0}));
        for (i, name) in names.into_iter().enumerate().skip(1) {
            let fields: Vec<&str> = json[name].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(fields, ["count", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"]);
            assert_eq!(json[name]["count"], 1);
            let p50 = json[name]["p50_ms"].as_f64().unwrap();
            assert!((p50 / (i as f64 / 100.0) - 1.0).abs() < 0.011, "{name}: {p50}");
        }
    }

    #[test]
    fn a_core_costs_little_memory() {
        let mut durations = Durations::default();
        durations.record(Duration::from_micros(1));
        let bytes = durations.nanos().unwrap().distinct_values() * size_of::<u32>();
        assert!(bytes <= 24 << 10, "{bytes}");
    }

    #[tokio::test]
    async fn waiting_does_not_count() {
        let mut watch = Stopwatch::start();
        watch.away(tokio::time::sleep(Duration::from_millis(30))).await;
        let other = Instant::now();
        std::thread::sleep(Duration::from_millis(20));
        watch.less(other.elapsed());
        std::thread::sleep(Duration::from_millis(2));
        let elapsed = watch.elapsed();
        assert!((Duration::from_millis(2)..Duration::from_millis(20)).contains(&elapsed), "{elapsed:?}");
    }
}
