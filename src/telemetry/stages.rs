//! How long the stages of a restore take: one set of histograms per core, merged on request.
//!
//! A core records into its own [`Recorder`], without a lock and without sharing a cache line.
//! Durations are kept in nanoseconds to 1 %, up to an hour; counts saturate.

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The stages that are timed. A request's time begins when it is sent, not when it starts to wait for
/// the limiter. Failed attempts are not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// One page of a listing, sent to parsed.
    List,
    /// A GET, sent to headers.
    FirstByte,
    /// A GET, sent to last byte. Only time spent waiting counts, not what the reader of a stream does
    /// between chunks.
    Fetch,
    /// Decoding and checking the pages of one file, or of one segment of a large file.
    Decode,
    /// One write, from submission to completion.
    Write,
    /// One database: its sync and publication, without SQLite's check and the directory's sync.
    Commit,
}

const LONGEST_NANOS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 2;

impl Stage {
    /// In the order of a restore.
    pub const ALL: [Self; 6] = [Self::List, Self::FirstByte, Self::Fetch, Self::Decode, Self::Write, Self::Commit];

    /// The name in reports.
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
    /// None until the first duration: most sets stay small.
    Option<Histogram<u32>>,
);

/// The quantiles of a histogram that reports show.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl Durations {
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(histogram) = self.histogram() {
            histogram.saturating_record(nanos);
        }
    }

    pub fn add(&mut self, other: &Self) {
        if let Some(theirs) = &other.0
            && let Some(ours) = self.histogram()
        {
            // The bounds are the same.
            let _ = ours.add(theirs);
        }
    }

    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// In nanoseconds; None if nothing was recorded.
    pub fn nanos(&self) -> Option<&Histogram<u32>> {
        self.0.as_ref().filter(|histogram| !histogram.is_empty())
    }

    /// None if nothing was recorded.
    pub fn quantiles(&self) -> Option<Quantiles> {
        let histogram = self.nanos()?;
        // Rounded to microseconds: the histogram keeps no more digits.
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

/// A set of durations for each stage.
#[derive(Debug, Clone, Default)]
pub struct Stages([Durations; Stage::ALL.len()]);

impl Stages {
    pub fn record(&mut self, stage: Stage, took: Duration) {
        if let Some(durations) = self.0.get_mut(stage as usize) {
            durations.record(took);
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(ours, theirs)| ours.add(theirs));
    }

    /// Every stage with its durations, in the order of a restore.
    pub fn iter(&self) -> impl Iterator<Item = (Stage, &Durations)> {
        Stage::ALL.into_iter().zip(&self.0)
    }

    pub fn count(&self, stage: Stage) -> u64 {
        self.0.get(stage as usize).map_or(0, Durations::count)
    }

    /// For reports: every stage by name, with its quantiles in milliseconds where it has any.
    pub fn to_json(&self) -> Map<String, Value> {
        let shown = |durations: &Durations| match durations.quantiles() {
            Some(quantiles) => serde_json::to_value(quantiles).unwrap_or_default(),
            None => serde_json::json!({"count": 0}),
        };
        self.iter().map(|(stage, durations)| (stage.as_str().to_owned(), shown(durations))).collect()
    }
}

/// One core's set; never leaves its thread.
#[derive(Debug, Default)]
pub struct Recorder(RefCell<Stages>);

impl Recorder {
    pub fn record(&self, stage: Stage, took: Duration) {
        self.0.borrow_mut().record(stage, took);
    }

    /// What was recorded since the last call.
    pub fn take(&self) -> Stages {
        self.0.take()
    }
}

/// The time of one operation that is awaited in parts. It is recorded when the operation is done; an
/// abandoned operation is not recorded.
#[derive(Debug)]
pub struct Spent {
    recorder: Rc<Recorder>,
    stage: Stage,
    spent: Duration,
}

impl Spent {
    pub fn new(recorder: &Rc<Recorder>, stage: Stage) -> Self {
        Self { recorder: Rc::clone(recorder), stage, spent: Duration::ZERO }
    }

    pub fn add(&mut self, took: Duration) {
        self.spent += took;
    }

    pub fn done(&self) {
        self.recorder.record(self.stage, self.spent);
    }

    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}

/// Measures the time of work that is interrupted by waiting.
#[derive(Debug)]
pub struct Stopwatch {
    begun: Instant,
    away: Duration,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { begun: Instant::now(), away: Duration::ZERO }
    }

    /// Awaits `other`, whose time does not count.
    pub async fn away<T>(&mut self, other: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let result = other.await;
        self.away += begun.elapsed();
        result
    }

    /// Subtracts time that was measured elsewhere.
    pub fn less(&mut self, other: Duration) {
        self.away += other;
    }

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
        // Longer than can be kept: counted as the longest.
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
