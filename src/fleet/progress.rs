//! How far a fleet is, for display: counts that the run keeps and another thread reads.

use super::job::Ending;
use crate::fleet::discovery::found::DiscoveryProgress;
use crate::telemetry::Counters;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counts of a run.
#[derive(Debug, Default)]
pub struct Progress {
    pub discovery: Arc<DiscoveryProgress>,
    /// Databases of this run that have been found; all of them once `all_found`.
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
    /// What had been received, but for what the ended databases had fetched, when all was found:
    /// listings mostly.
    received_before: AtomicU64,
}

impl Progress {
    /// More databases, of so many bytes about.
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

    /// One that had no turn.
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

    /// Bytes fetched and to be fetched, by the estimates: done is what ended databases were
    /// estimated at, and once all are found what arrived for those in flight.
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
