//! Progress of a run: counters that the run updates and the display's thread reads.

use super::job::Ending;
use crate::fleet::discovery::found::DiscoveryProgress;
use crate::telemetry::Counters;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counters of a run. Numbers of databases unless they say otherwise.
#[derive(Debug, Default)]
pub struct Progress {
    /// Counters of the discovery that finds the databases.
    pub discovery: Arc<DiscoveryProgress>,
    /// Number of databases of this run. 0 until `all_found` is true.
    pub total: AtomicU64,
    /// Number of databases that have ended: restored, planned, failed or skipped.
    pub done: AtomicU64,
    /// Number of databases that failed.
    pub failed: AtomicU64,
    /// Number of databases that were skipped.
    pub skipped: AtomicU64,
    /// Whether discovery has ended, so that `total` is known.
    pub all_found: AtomicBool,
    /// Estimated number of bytes that all databases together will fetch.
    bytes: AtomicU64,
    /// Estimated number of bytes of those databases that have ended.
    ended_bytes: AtomicU64,
    /// Number of bytes that the ended databases really fetched.
    fetched_bytes: AtomicU64,
    /// Number of bytes received before all databases were known: the listings.
    received_before: AtomicU64,
}

impl Progress {
    /// Notes that discovery has ended. `estimated_bytes` is the sum over all databases.
    pub(super) fn found_all(&self, databases: u64, estimated_bytes: u64, counters: &Counters) {
        self.total.store(databases, Relaxed);
        self.bytes.store(estimated_bytes, Relaxed);
        self.received_before.store(counters.bytes_in.get(), Relaxed);
        self.all_found.store(true, Relaxed);
    }

    pub(super) fn ended(&self, ending: &Ending, estimated_bytes: u64) {
        let fetched = match ending {
            Ending::Restored { outcome, .. } => outcome.bytes_in,
            Ending::Verified(verified) => verified.bytes_in,
            _ => 0,
        };
        self.fetched_bytes.fetch_add(fetched, Relaxed);
        self.ended_bytes.fetch_add(estimated_bytes, Relaxed);
        self.count(ending);
    }

    /// Counts a database that ended without having been started.
    pub(super) fn count(&self, ending: &Ending) {
        match ending {
            Ending::Verified(verified) if verified.failure.is_some() => self.failed.fetch_add(1, Relaxed),
            Ending::Failed { .. } => self.failed.fetch_add(1, Relaxed),
            Ending::Skipped(_) => self.skipped.fetch_add(1, Relaxed),
            _ => 0,
        };
        self.done.fetch_add(1, Relaxed);
    }

    /// Returns the bytes done and the bytes in total, both estimated. Bytes done are the estimates of databases
    /// that have ended, plus the bytes received for those in flight. Both are 0 until `all_found` is true.
    pub fn bytes(&self, counters: &Counters) -> (u64, u64) {
        if !self.all_found.load(Relaxed) {
            return (0, 0);
        }
        let total = self.bytes.load(Relaxed);
        let received = counters.bytes_in.get().saturating_sub(self.received_before.load(Relaxed));
        let in_flight = received.saturating_sub(self.fetched_bytes.load(Relaxed));
        ((self.ended_bytes.load(Relaxed) + in_flight).min(total), total)
    }
}
