//! Counters that all workers share, and latency histograms per core.

mod stages;

pub use stages::{Durations, Quantiles, Recorder, Spent, Stage, Stages, Stopwatch};

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Process-wide counters. Relaxed: they are read for display and reports only.
#[derive(Debug, Default)]
pub struct Counters {
    pub lists: Counter,
    pub gets: Counter,
    pub heads: Counter,
    /// Numbers of requests in the log. They are given only while requests are logged.
    pub request_numbers: Counter,
    /// Requests sent again, for any reason.
    pub retries: Counter,
    /// Hedges: requests sent because the first byte of another was late.
    pub hedges: Counter,
    /// Responses that ask for fewer requests, such as 503 SlowDown.
    pub throttled: Counter,
    /// Body bytes received.
    pub bytes_in: Counter,
    /// Bytes of databases written.
    pub bytes_out: Counter,
    /// Bytes of databases to be written, of the restores planned so far.
    pub bytes_out_planned: Counter,
    /// Bytes to be received, of the restores planned so far.
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
    /// Adds one and returns the new value.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed) + 1
    }
}
