//! How far a fleet is, for display: counts that the run keeps and another thread reads.

use super::discover::DiscoveryProgress;
use super::job::Ending;
use crate::telemetry::Counters;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counts of a run.
#[derive(Debug, Default)]
pub struct Progress {
    pub discovery: Arc<DiscoveryProgress>,
    /// Databases of this run; meaningful once `all_found`.
    pub total: AtomicU64,
    pub done: AtomicU64,
    pub failed: AtomicU64,
    pub skipped: AtomicU64,
    pub all_found: AtomicBool,
    /// Estimated bytes to fetch.
    bytes: AtomicU64,
    /// Of databases that have ended: what was estimated of them, and what they fetched.
    ended_bytes: AtomicU64,
    fetched_bytes: AtomicU64,
    /// What had been received when the restores began.
    received_before: AtomicU64,
}

impl Progress {
    /// Discovery has ended.
    pub fn begin(&self, databases: u64, estimated_bytes: u64, counters: &Counters) {
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

    /// One that had no turn.
    pub fn count(&self, ending: &Ending) {
        match ending {
            Ending::Failed { .. } => self.failed.fetch_add(1, Relaxed),
            Ending::Skipped(_) => self.skipped.fetch_add(1, Relaxed),
            _ => 0,
        };
        self.done.fetch_add(1, Relaxed);
    }

    /// Bytes fetched and to be fetched, by the estimates: done is what ended databases were
    /// estimated at, and what arrived for those in flight.
    pub fn bytes(&self, counters: &Counters) -> (u64, u64) {
        let total = self.bytes.load(Relaxed);
        let received = counters.bytes_in.get().saturating_sub(self.received_before.load(Relaxed));
        let in_flight = received.saturating_sub(self.fetched_bytes.load(Relaxed));
        ((self.ended_bytes.load(Relaxed) + in_flight).min(total), total)
    }
}
