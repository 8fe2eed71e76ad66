//! The progress of a run, for display: counts that the run updates and another thread reads.

use super::job::Ending;
use crate::fleet::discovery::found::DiscoveryProgress;
use crate::telemetry::Counters;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counts of a run.
#[derive(Debug, Default)]
pub struct Progress {
    pub discovery: Arc<DiscoveryProgress>,
    /// The databases of this run. 0 until `all_found`.
    pub total: AtomicU64,
    pub done: AtomicU64,
    pub failed: AtomicU64,
    pub skipped: AtomicU64,
    pub all_found: AtomicBool,
    /// The estimate of all bytes to fetch.
    bytes: AtomicU64,
    /// The estimate for the databases that have ended.
    ended_bytes: AtomicU64,
    /// The bytes that these databases really fetched.
    fetched_bytes: AtomicU64,
    /// Bytes received until all was found: listings.
    received_before: AtomicU64,
}

impl Progress {
    /// Discovery has ended: all databases are known, with the estimate of their bytes.
    pub(super) fn found_all(&self, databases: u64, estimated_bytes: u64, counters: &Counters) {
        self.total.store(databases, Relaxed);
        self.bytes.store(estimated_bytes, Relaxed);
        self.received_before.store(counters.bytes_in.get(), Relaxed);
        self.all_found.store(true, Relaxed);
    }

    pub(super) fn ended(&self, ending: &Ending, estimated_bytes: u64) {
        let fetched = match ending {
            Ending::Restored { outcome, .. } => outcome.bytes_in,
            _ => 0,
        };
        self.fetched_bytes.fetch_add(fetched, Relaxed);
        self.ended_bytes.fetch_add(estimated_bytes, Relaxed);
        self.count(ending);
    }

    /// Counts a database that ended without being started.
    pub(super) fn count(&self, ending: &Ending) {
        match ending {
            Ending::Failed { .. } => self.failed.fetch_add(1, Relaxed),
            Ending::Skipped(_) => self.skipped.fetch_add(1, Relaxed),
            _ => 0,
        };
        self.done.fetch_add(1, Relaxed);
    }

    /// Bytes done and bytes in all, by the estimates. Bytes done are the estimates of the databases that
    /// have ended, and the bytes received for those in flight. Both are 0 until `all_found`.
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
