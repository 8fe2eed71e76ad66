//! What is going on: counters that all workers share, latency histograms per core.

mod stages;

pub use stages::{Durations, Quantiles, Recorder, Spent, Stage, Stages, Stopwatch};

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Process-wide counters. Relaxed: they are read for display and reports only.
#[derive(Debug, Default)]
pub struct Counters {
    pub lists: Counter,
    pub gets: Counter,
    pub heads: Counter,
    /// Requests sent again, whatever for.
    pub retries: Counter,
    /// Requests sent because another's first byte was late.
    pub hedges: Counter,
    /// Answers of 503 SlowDown and their like.
    pub throttled: Counter,
    /// Body bytes received.
    pub bytes_in: Counter,
    /// Bytes of databases written.
    pub bytes_out: Counter,
    /// Bytes of databases to be written, as far as planned.
    pub bytes_out_planned: Counter,
    /// Bytes to be received, as far as planned.
    pub bytes_in_planned: Counter,
}

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
