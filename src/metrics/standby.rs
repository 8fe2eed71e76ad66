//! The figures of a standby as metrics (docs/CLI.md, "Metrics of a standby").

use super::exposition::{Exposition, MetricKind};
use super::run::seconds;
use crate::ltx::Txid;
use crate::timestamp::Timestamp;

/// What the metrics say about a standby and the follower that keeps it up to date. Counters begin at 0 with each follower.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StandbyMetrics {
    /// The source as typed, with the secrets in a URL replaced.
    pub source: String,
    /// The path of the database as typed.
    pub db_path: String,
    /// When the follower began. None: it has not.
    pub started: Option<Timestamp>,
    /// Whether it runs.
    pub is_running: bool,
    /// The TXID that the database holds. None: there is no database yet.
    pub txid: Option<Txid>,
    /// When the last poll that succeeded ended. None: none has.
    pub polled: Option<Timestamp>,
    /// When the newest change was committed at the primary. None: none was applied.
    pub newest: Option<Timestamp>,
    /// Seconds from then until it was applied, by both clocks. None: none was applied.
    pub lag_seconds: Option<u64>,
    /// The number of polls that succeeded.
    pub polls_succeeded: u64,
    /// The number of polls whose requests failed.
    pub polls_failed: u64,
    /// The number of changes that were committed. A change has one or more transactions.
    pub changes: u64,
    /// The number of transactions in them.
    pub transactions: u64,
    /// The number of files that were applied.
    pub files: u64,
    /// The number of pages that were written.
    pub pages: u64,
    /// How often the standby began to wait for files that are missing, damaged or archived.
    pub waits: u64,
    /// The bytes that were received from the store.
    pub received_bytes: u64,
    /// The number of requests that were sent. Most are for a next file that is not there yet.
    pub requests: u64,
}

impl StandbyMetrics {
    /// The metrics in Prometheus' text format.
    pub fn to_text(&self) -> String {
        let labels =
            [("command", "restore"), ("depth", "follow"), ("source", &self.source), ("db_path", &self.db_path)];
        let mut text = Exposition::new(&labels);
        let gauge = MetricKind::Gauge;

        let help = "1 while the follower runs, 0 after its end.";
        text.single("hydrant_standby_running", gauge, help, u8::from(self.is_running));
        if let Some(Txid(txid)) = self.txid {
            text.single("hydrant_standby_txid", gauge, "The TXID that the database holds.", txid);
        }
        for (name, help, time) in [
            ("hydrant_standby_start_timestamp_seconds", "When the follower began, since the Unix epoch.", self.started),
            (
                "hydrant_standby_last_poll_timestamp_seconds",
                "When the last poll that succeeded ended, since the Unix epoch.",
                self.polled,
            ),
            (
                "hydrant_standby_newest_change_timestamp_seconds",
                "When the newest change was committed at the primary, since the Unix epoch.",
                self.newest,
            ),
        ] {
            time.into_iter().for_each(|time| text.single(name, gauge, help, seconds(time)));
        }
        if let Some(lag) = self.lag_seconds {
            let help = "How old the newest change was when it was applied.";
            text.single("hydrant_standby_lag_seconds", gauge, help, lag);
        }

        let polls = [("succeeded", self.polls_succeeded), ("failed", self.polls_failed)];
        text.outcomes("hydrant_standby_polls_total", "Polls, by outcome.", polls);
        for (name, help, count) in [
            ("hydrant_standby_changes_total", "Changes that were committed.", self.changes),
            ("hydrant_standby_transactions_total", "Transactions in these changes.", self.transactions),
            ("hydrant_standby_files_total", "Files that were applied.", self.files),
            ("hydrant_standby_pages_total", "Pages that were written.", self.pages),
            ("hydrant_standby_waits_total", "Waits for missing, damaged or archived files.", self.waits),
            ("hydrant_standby_received_bytes_total", "Bytes that were received from the store.", self.received_bytes),
            ("hydrant_standby_requests_total", "Requests to the store.", self.requests),
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
    fn counters_are_always_there_and_what_is_not_known_is_absent() {
        let begun =
            StandbyMetrics { source: "s3://b/a".to_owned(), db_path: "/a".to_owned(), ..StandbyMetrics::default() };
        let labels = r#"command="restore",depth="follow",source="s3://b/a",db_path="/a""#;
        let text = begun.to_text();
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE") && line.ends_with(" counter")).count(), 8);
        assert_eq!(text.lines().filter(|line| line.ends_with(" gauge")).count(), 1, "{text}");
        let line = format!("\nhydrant_standby_polls_total{{{labels},outcome=\"failed\"}} 0\n");
        assert!(text.contains(&line), "{text}");
        let time = Some(Timestamp::from_millis(1_790_000_000_250));
        let known = StandbyMetrics {
            started: time,
            polled: time,
            newest: time,
            lag_seconds: Some(2),
            txid: Some(Txid(0x1f)),
            is_running: true,
            ..begun
        };
        let text = known.to_text();
        for (name, value) in [
            ("running", "1"),
            ("txid", "31"),
            ("lag_seconds", "2"),
            ("start_timestamp_seconds", "1790000000.25"),
            ("last_poll_timestamp_seconds", "1790000000.25"),
            ("newest_change_timestamp_seconds", "1790000000.25"),
        ] {
            let lines = format!("# TYPE hydrant_standby_{name} gauge\nhydrant_standby_{name}{{{labels}}} {value}\n");
            assert!(text.contains(&lines), "{name}: {text}");
        }
    }
}
