//! Counters that all workers share, and histograms of latencies, one set per worker.

mod stages;

pub use stages::{Durations, Quantiles, Recorder, Spent, Stage, Stages, Stopwatch};

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters for the whole process. They are read for display and reports only, so relaxed atomic operations are
/// enough.
#[derive(Debug, Default)]
pub struct Counters {
    /// LIST requests sent.
    pub lists: Counter,
    /// GET requests sent.
    pub gets: Counter,
    /// HEAD requests sent.
    pub heads: Counter,
    /// Numbers of requests in the log. They are given only while requests are logged.
    pub request_numbers: Counter,
    /// Requests sent again, for any reason.
    pub retries: Counter,
    /// Hedges: second copies of requests, sent because the first byte of the answer was late.
    pub hedges: Counter,
    /// Answers that ask for fewer requests, such as 503 SlowDown.
    pub throttled: Counter,
    /// Requests that failed, but for throttled ones: without an answer, by their answer, or while the body came.
    pub failed: Counter,
    /// Bytes of response bodies received from the store.
    pub bytes_in: Counter,
    /// Bytes written to restored databases.
    pub bytes_out: Counter,
    /// Bytes of databases that the restores planned so far will write.
    pub bytes_out_planned: Counter,
    /// Bytes of bodies that the restores planned so far will receive.
    pub bytes_in_planned: Counter,
}

impl Counters {
    /// LIST, GET and HEAD requests sent, with repeated ones and hedges.
    pub fn sent(&self) -> u64 {
        self.lists.get() + self.gets.get() + self.heads.get()
    }
}

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n` to the counter.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }
    /// The present value of the counter.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
    /// Adds one and returns the new value.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed) + 1
    }
}
