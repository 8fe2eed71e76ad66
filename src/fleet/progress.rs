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
    /// Databases of this run that were found so far. Once `all_found` is true this is the total.
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
    /// Bytes received until all was found that no ended database had fetched: mostly listings.
    received_before: AtomicU64,
}

impl Progress {
    /// Adds databases, with the estimate of their bytes.
    pub(super) fn found(&self, databases: u64, estimated_bytes: u64) {
        self.total.fetch_add(databases, Relaxed);
        self.bytes.fetch_add(estimated_bytes, Relaxed);
    }

    /// Discovery has ended.
    pub(super) fn found_all(&self, counters: &Counters) {
        let fetched = self.fetched_bytes.load(Relaxed);
        self.received_before.store(counters.bytes_in.get().saturating_sub(fetched), Relaxed);
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

    /// A database that was counted as restored counts as failed, too.
    pub(super) fn possibly_incomplete(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// Bytes done and bytes in all, by the estimates. Bytes done are the estimates of the databases that
    /// have ended and, once all are found, the bytes received for those in flight.
    pub fn bytes(&self, counters: &Counters) -> (u64, u64) {
        let total = self.bytes.load(Relaxed);
        if !self.all_found.load(Relaxed) {
            return (self.ended_bytes.load(Relaxed).min(total), total);
        }
        let received = counters.bytes_in.get().saturating_sub(self.received_before.load(Relaxed));
        let in_flight = received.saturating_sub(self.fetched_bytes.load(Relaxed));
        ((self.ended_bytes.load(Relaxed) + in_flight).min(total), total)
    }
}
