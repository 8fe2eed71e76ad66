//! The figures of a fleet of standbys as metrics (docs/CLI.md, "Metrics of a fleet of standbys").

use super::exposition::{Exposition, MetricKind};
use super::run::seconds;
use crate::timestamp::Timestamp;

/// The upper bounds of the histogram's buckets, in seconds. A lag on a bound is within it.
const LAG_BOUNDS_SECONDS: [u64; 9] = [1, 2, 5, 10, 30, 60, 300, 900, 3_600];

/// How old changes were when they were applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LagHistogram {
    counts: [u64; LAG_BOUNDS_SECONDS.len()],
    count: u64,
    sum_seconds: u64,
}

impl LagHistogram {
    /// Adds one change.
    pub fn add(&mut self, seconds: u64) {
        let bucket = LAG_BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
        self.sum_seconds = self.sum_seconds.saturating_add(seconds);
    }
}

/// What the metrics say about a followed fleet. Counters begin at 0 with each run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FollowedFleetMetrics {
    /// The pattern as typed, with the secrets in a URL replaced.
    pub source: String,
    /// When the run began. None: it has not.
    pub started: Option<Timestamp>,
    /// Whether it goes on.
    pub is_running: bool,
    /// The number of databases by state.
    pub databases: Vec<(&'static str, u64)>,
    /// The number of those that are open.
    pub open: u64,
    /// The number of those whose replicas are gone.
    pub vanished: u64,
    /// For how many seconds the median and the worst database are known to be behind.
    pub behind_seconds: (u64, u64),
    /// When the last scan that succeeded ended. None: none has.
    pub scanned: Option<Timestamp>,
    /// The number of scans that succeeded, and of those that failed.
    pub scans: (u64, u64),
    /// How old the changes were when they were applied.
    pub lag: LagHistogram,
    /// The number of transactions in these changes.
    pub transactions: u64,
    /// The number of files that were applied.
    pub files: u64,
    /// The number of pages that were written.
    pub pages: u64,
    /// The bytes that were received from the store.
    pub received_bytes: u64,
    /// The number of requests that were sent.
    pub requests: u64,
}

impl FollowedFleetMetrics {
    /// The metrics in Prometheus' text format.
    pub fn to_text(&self) -> String {
        let labels = [("command", "restore-pattern"), ("depth", "follow"), ("source", &*self.source)];
        let mut text = Exposition::new(&labels);
        let gauge = MetricKind::Gauge;
        let (median, worst) = self.behind_seconds;

        text.family("hydrant_fleet_databases", gauge, "Databases, by state.");
        self.databases.iter().for_each(|(state, count)| text.sample("", Some(("state", state)), count));
        for (name, help, value) in [
            ("hydrant_fleet_running", "1 while the fleet is followed, 0 after the end.", u64::from(self.is_running)),
            ("hydrant_fleet_open_databases", "Databases that are open, because they have changed lately.", self.open),
            ("hydrant_fleet_vanished_databases", "Databases whose replicas are gone.", self.vanished),
            (
                "hydrant_fleet_median_behind_seconds",
                "For how long the median database is known to lack something.",
                median,
            ),
            ("hydrant_fleet_worst_behind_seconds", "The same of the worst database.", worst),
        ] {
            text.single(name, gauge, help, value);
        }
        for (name, help, time) in [
            ("hydrant_fleet_start_timestamp_seconds", "When the run began, since the Unix epoch.", self.started),
            (
                "hydrant_fleet_last_scan_timestamp_seconds",
                "When the last scan that succeeded ended, since the Unix epoch.",
                self.scanned,
            ),
        ] {
            time.into_iter().for_each(|time| text.single(name, gauge, help, seconds(time)));
        }

        let help = "How old changes were when they were applied.";
        text.family("hydrant_fleet_lag_seconds", MetricKind::Histogram, help);
        let mut below = 0;
        for (bound, count) in LAG_BOUNDS_SECONDS.iter().zip(&self.lag.counts) {
            below += count;
            text.sample("_bucket", Some(("le", &bound.to_string())), below);
        }
        text.sample("_bucket", Some(("le", "+Inf")), self.lag.count);
        text.sample("_sum", None, self.lag.sum_seconds);
        text.sample("_count", None, self.lag.count);

        let scans = [("succeeded", self.scans.0), ("failed", self.scans.1)];
        text.outcomes("hydrant_fleet_scans_total", "Scans for changes, by outcome.", scans);
        for (name, help, count) in [
            ("hydrant_fleet_transactions_total", "Transactions that were applied.", self.transactions),
            ("hydrant_fleet_files_total", "Files that were applied.", self.files),
            ("hydrant_fleet_pages_total", "Pages that were written.", self.pages),
            ("hydrant_fleet_received_bytes_total", "Bytes that were received from the store.", self.received_bytes),
            ("hydrant_fleet_requests_total", "Requests to the store.", self.requests),
        ] {
            text.single(name, MetricKind::Counter, help, count);
        }
        text.into_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_on_a_bound_is_within_it() {
        let mut metrics = FollowedFleetMetrics { source: "s3://b/**".to_owned(), ..FollowedFleetMetrics::default() };
        [0, 1, 2, 3_600, 3_601].into_iter().for_each(|lag| metrics.lag.add(lag));
        metrics.databases = vec![("up_to_date", 3), ("behind", 1)];
        let text = metrics.to_text();
        let labels = r#"{command="restore-pattern",depth="follow",source="s3://b/**""#;
        for line in [
            format!("hydrant_fleet_lag_seconds_bucket{labels},le=\"1\"}} 2"),
            format!("hydrant_fleet_lag_seconds_bucket{labels},le=\"3600\"}} 4"),
            format!("hydrant_fleet_lag_seconds_bucket{labels},le=\"+Inf\"}} 5"),
            format!("hydrant_fleet_lag_seconds_sum{labels}}} 7204"),
            format!("hydrant_fleet_databases{labels},state=\"behind\"}} 1"),
            format!("hydrant_fleet_running{labels}}} 0"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("timestamp"), "{text}");
    }
}
