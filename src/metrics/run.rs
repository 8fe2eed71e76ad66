//! The figures of one run as metrics.

use super::ages::AgeHistogram;
use super::exposition::{Exposition, MetricKind};
use crate::timestamp::Timestamp;
use std::time::Duration;

/// The family whose value is kept from the file of an earlier run if this run is no success.
const LAST_SUCCESS: &str = "hydrant_last_success_timestamp_seconds";

/// What the metrics say about one run. Every sample has the labels `command`, `depth`, `source` and, if there is one,
/// `shard`, so that several runs on one host do not overwrite each other.
#[derive(Debug, Clone, PartialEq)]
pub struct RunMetrics {
    /// The command, for example `restore-pattern`.
    pub command: &'static str,
    /// What was done with each database: `restore`, or `plan` for a dry run. For `verify` the depth.
    pub depth: &'static str,
    /// The source as typed, with the secrets in a URL replaced.
    pub source: String,
    /// The share of the databases, as `I/N`. None: all of them.
    pub shard: Option<String>,
    /// When the run began.
    pub started: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// When the run was a success. None: it was none.
    pub succeeded: Option<Timestamp>,
    /// The numbers of databases by their outcome. An outcome appears once. All outcomes that the command knows should
    /// be there, with 0 if need be: Prometheus forgets a series that is no longer written.
    pub databases: Vec<(&'static str, u64)>,
    /// How old the newest states of the databases are. Databases without a state are not in it.
    pub ages: AgeHistogram,
    /// The size of the databases that were restored or verified.
    pub database_bytes: u64,
    /// The bytes that were received from the store.
    pub received_bytes: u64,
    /// The requests by their outcome.
    pub requests: RequestOutcomes,
}

/// The numbers of requests by their outcome. Every request has one outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestOutcomes {
    /// Requests whose answer was used.
    pub succeeded: u64,
    /// Requests that failed, but for throttled ones. Most were sent again.
    pub failed: u64,
    /// Requests whose answer asked for fewer requests.
    pub throttled: u64,
    /// Second copies of requests whose answer was late. Of the two answers, one is used.
    pub hedged: u64,
}

impl RequestOutcomes {
    /// The outcomes of `sent` requests. Those that are not among the other three numbers have succeeded.
    pub fn of(sent: u64, failed: u64, throttled: u64, hedged: u64) -> Self {
        let succeeded = sent.saturating_sub(failed).saturating_sub(throttled).saturating_sub(hedged);
        Self { succeeded, failed, throttled, hedged }
    }
}

impl RunMetrics {
    /// The metrics in Prometheus' text format. `before` is the text of an earlier run, which may hold the time of the
    /// last success. Only the value of a series with the same labels is kept.
    pub fn to_text(&self, before: &str) -> String {
        let labels = [
            ("command", self.command),
            ("depth", self.depth),
            ("source", self.source.as_str()),
            ("shard", self.shard.as_deref().unwrap_or_default()),
        ];
        let mut text = Exposition::new(&labels);
        let gauge = MetricKind::Gauge;

        text.family("hydrant_run_start_timestamp_seconds", gauge, "When the run began, since the Unix epoch.");
        text.sample("", None, seconds(self.started));
        text.family("hydrant_run_duration_seconds", gauge, "How long the run took.");
        text.sample("", None, self.duration.as_secs_f64());
        text.family("hydrant_run_success", gauge, "1 if the run was a success, else 0.");
        text.sample("", None, u8::from(self.succeeded.is_some()));
        text.family(LAST_SUCCESS, gauge, "When the last run that was a success ended, since the Unix epoch. 0: never.");
        let last = self.succeeded.map(seconds).or_else(|| value_of(before, &text.name("", None))).unwrap_or(0.0);
        text.sample("", None, last);

        text.family("hydrant_databases", gauge, "Databases of the run, by outcome.");
        for (outcome, count) in &self.databases {
            text.sample("", Some(("outcome", outcome)), count);
        }
        let help = "How old the newest state of each database is, at the end of the run.";
        text.family("hydrant_state_age_seconds", MetricKind::Histogram, help);
        for (bound, count) in self.ages.cumulative() {
            text.sample("_bucket", Some(("le", &bound.to_string())), count);
        }
        text.sample("_bucket", Some(("le", "+Inf")), self.ages.count());
        text.sample("_sum", None, self.ages.sum_seconds());
        text.sample("_count", None, self.ages.count());
        if let Some(oldest) = self.ages.max_seconds() {
            let help = "How old the newest state is of the database where it is oldest.";
            text.family("hydrant_oldest_state_age_seconds", gauge, help);
            text.sample("", None, oldest);
        }

        text.family("hydrant_database_bytes", gauge, "Size of the databases that were restored or verified.");
        text.sample("", None, self.database_bytes);
        text.family("hydrant_received_bytes", gauge, "Bytes that were received from the store.");
        text.sample("", None, self.received_bytes);
        text.family("hydrant_requests", gauge, "Requests to the store, by outcome.");
        let RequestOutcomes { succeeded, failed, throttled, hedged } = self.requests;
        for (outcome, count) in
            [("succeeded", succeeded), ("failed", failed), ("throttled", throttled), ("hedged", hedged)]
        {
            text.sample("", Some(("outcome", outcome)), count);
        }
        text.into_text()
    }
}

/// Seconds since the Unix epoch, in milliseconds' steps.
pub(super) fn seconds(time: Timestamp) -> f64 {
    (time.as_nanos() / 1_000_000) as f64 / 1_000.0
}

/// The value of the series `name`, which includes its labels, in the text of an earlier run. None: it has no such
/// series, or its value is no time.
fn value_of(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> RunMetrics {
        let mut ages = AgeHistogram::default();
        [30, 90_000].into_iter().for_each(|age| ages.add(age));
        RunMetrics {
            command: "restore-pattern",
            depth: "restore",
            source: "s3://bucket/\"x\\y\n/**".to_owned(),
            shard: Some("3/16".to_owned()),
            started: Timestamp::from_millis(1_790_000_000_250),
            duration: Duration::from_millis(1_500),
            succeeded: None,
            databases: vec![("restored", 2), ("failed", 1)],
            ages,
            database_bytes: 4096,
            received_bytes: 2000,
            requests: RequestOutcomes::of(10, 1, 2, 3),
        }
    }

    fn samples(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#')).collect()
    }

    #[test]
    fn every_family_has_its_help_type_and_labels() {
        let text = metrics().to_text("");
        let labels = r#"command="restore-pattern",depth="restore",source="s3://bucket/\"x\\y\n/**",shard="3/16""#;
        for line in samples(&text) {
            assert!(line.contains(&format!("{{{labels}")), "{line}");
        }
        for (name, value) in [
            ("hydrant_run_start_timestamp_seconds", "1790000000.25"),
            ("hydrant_run_duration_seconds", "1.5"),
            ("hydrant_run_success", "0"),
            ("hydrant_last_success_timestamp_seconds", "0"),
            ("hydrant_oldest_state_age_seconds", "90000"),
            ("hydrant_database_bytes", "4096"),
            ("hydrant_received_bytes", "2000"),
        ] {
            assert!(text.contains(&format!("# TYPE {name} gauge\n{name}{{{labels}}} {value}\n")), "{name}: {text}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name}: {text}");
        }
        for (name, more, value) in [
            ("hydrant_databases", "outcome=\"restored\"", "2"),
            ("hydrant_requests", "outcome=\"succeeded\"", "4"),
            ("hydrant_requests", "outcome=\"hedged\"", "3"),
            ("hydrant_state_age_seconds_bucket", "le=\"60\"", "1"),
            ("hydrant_state_age_seconds_bucket", "le=\"86400\"", "1"),
            ("hydrant_state_age_seconds_bucket", "le=\"172800\"", "2"),
            ("hydrant_state_age_seconds_bucket", "le=\"+Inf\"", "2"),
        ] {
            assert!(text.contains(&format!("\n{name}{{{labels},{more}}} {value}\n")), "{name} {more}: {text}");
        }
        assert!(text.contains(&format!("\nhydrant_state_age_seconds_sum{{{labels}}} 90030\n")), "{text}");
    }

    #[test]
    fn without_a_state_there_is_no_oldest() {
        let text = RunMetrics { ages: AgeHistogram::default(), ..metrics() }.to_text("");
        assert!(!text.contains("hydrant_oldest"), "{text}");
        assert!(samples(&text).iter().any(|line| line.starts_with("hydrant_state_age_seconds_count")), "{text}");
    }

    #[test]
    fn the_last_success_is_kept_for_the_same_run_only() {
        let time = Timestamp::from_millis(1_780_000_000_500);
        let last = |metrics: &RunMetrics, before: &str| {
            let text = metrics.to_text(before);
            let line = samples(&text).into_iter().find(|line| line.starts_with(LAST_SUCCESS)).unwrap().to_owned();
            line.rsplit_once(' ').unwrap().1.to_owned()
        };
        let before = RunMetrics { succeeded: Some(time), ..metrics() }.to_text("");
        assert!(before.contains("hydrant_run_success{") && before.contains("} 1780000000.5\n"), "{before}");
        assert_eq!(last(&metrics(), &before), "1780000000.5");
        assert_eq!(last(&metrics(), &metrics().to_text(&before)), "1780000000.5");
        let now = Timestamp::from_millis(1_790_000_000_000);
        assert_eq!(last(&RunMetrics { succeeded: Some(now), ..metrics() }, &before), "1790000000");
        for other in [
            RunMetrics { shard: None, ..metrics() },
            RunMetrics { depth: "plan", ..metrics() },
            RunMetrics { source: "s3://bucket/".to_owned(), ..metrics() },
        ] {
            assert_eq!(last(&other, &before), "0", "{other:?}");
        }
        for broken in ["NaN", "-1", "+Inf", "", "x"] {
            assert_eq!(last(&metrics(), &before.replace("1780000000.5", broken)), "0", "{broken}");
        }
    }
}
