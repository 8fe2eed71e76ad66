//! The counters of a simulator: requests by kind and outcome, bytes, connections, and requests in flight.

use super::options::{Outcome, RequestKind};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(super) const KINDS: [(RequestKind, &str); 7] = [
    (RequestKind::List, "list"),
    (RequestKind::Get, "get"),
    (RequestKind::Head, "head"),
    (RequestKind::Put, "put"),
    (RequestKind::Delete, "delete"),
    (RequestKind::Other, "other"),
    (RequestKind::ListVersions, "list versions"),
];

pub(super) const OUTCOMES: [(Outcome, &str); 10] = [
    (Outcome::Ok, "ok"),
    (Outcome::NotFound, "not found"),
    (Outcome::PreconditionFailed, "412"),
    (Outcome::Refused, "refused"),
    (Outcome::BadRange, "416"),
    (Outcome::SlowDown, "503"),
    (Outcome::ServerError, "500"),
    (Outcome::Reset, "reset"),
    (Outcome::Cut, "cut"),
    (Outcome::BlackHole, "black hole"),
];

/// The counters of the simulator while it runs.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: [[AtomicU64; OUTCOMES.len()]; KINDS.len()],
    pub body_bytes: AtomicU64,
    pub connections: Gauge,
    pub in_flight: Gauge,
}

/// A count that goes up and down. It also keeps its maximum and how often it went up.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    now: AtomicU64,
    max: AtomicU64,
    total: AtomicU64,
}

impl Gauge {
    pub(super) fn up(&self) {
        self.total.fetch_add(1, Relaxed);
        let now = self.now.fetch_add(1, Relaxed) + 1;
        self.max.fetch_max(now, Relaxed);
    }

    pub(super) fn down(&self) {
        self.now.fetch_sub(1, Relaxed);
    }
}

impl Counters {
    pub(super) fn count(&self, kind: RequestKind, outcome: Outcome) {
        if let Some(counter) = self.requests.get(kind as usize).and_then(|row| row.get(outcome as usize)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn snapshot(&self) -> Stats {
        let mut requests = [[0; OUTCOMES.len()]; KINDS.len()];
        for (row, counters) in requests.iter_mut().zip(&self.requests) {
            for (value, counter) in row.iter_mut().zip(counters) {
                *value = counter.load(Relaxed);
            }
        }
        Stats {
            requests,
            body_bytes: self.body_bytes.load(Relaxed),
            connections_made: self.connections.total.load(Relaxed),
            connections_now: self.connections.now.load(Relaxed),
            connections_max: self.connections.max.load(Relaxed),
            in_flight_now: self.in_flight.now.load(Relaxed),
            in_flight_max: self.in_flight.max.load(Relaxed),
        }
    }
}

/// The values of all counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    requests: [[u64; OUTCOMES.len()]; KINDS.len()],
    /// The number of body bytes that were handed to the connections.
    pub body_bytes: u64,
    /// The number of connections that were accepted.
    pub connections_made: u64,
    /// The number of connections that are open.
    pub connections_now: u64,
    /// The largest number of connections that were open at the same time.
    pub connections_max: u64,
    /// The number of requests that are in flight.
    pub in_flight_now: u64,
    /// The largest number of requests that were in flight at the same time.
    pub in_flight_max: u64,
}

impl Stats {
    /// The number of requests of this kind with this outcome.
    pub fn count(&self, kind: RequestKind, outcome: Outcome) -> u64 {
        self.requests.get(kind as usize).and_then(|row| row.get(outcome as usize)).copied().unwrap_or(0)
    }

    /// The number of requests of this kind.
    pub fn of_kind(&self, kind: RequestKind) -> u64 {
        self.requests.get(kind as usize).map_or(0, |row| row.iter().sum())
    }

    /// The number of requests with this outcome.
    pub fn with_outcome(&self, outcome: Outcome) -> u64 {
        self.requests.iter().filter_map(|row| row.get(outcome as usize)).sum()
    }

    /// The number of all requests that the simulator has received.
    pub fn total(&self) -> u64 {
        self.requests.iter().flatten().sum()
    }

    /// The differences of the counters since `earlier`. Maxima and present numbers are kept as they are.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut delta = self.clone();
        for (row, before) in delta.requests.iter_mut().zip(&earlier.requests) {
            for (value, before) in row.iter_mut().zip(before) {
                *value = value.saturating_sub(*before);
            }
        }
        delta.body_bytes = self.body_bytes.saturating_sub(earlier.body_bytes);
        delta.connections_made = self.connections_made.saturating_sub(earlier.connections_made);
        delta
    }
}

/// Prints the counters as a few lines of text.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, name) in KINDS {
            if self.of_kind(kind) == 0 {
                continue;
            }
            write!(f, "{name}: {}", self.of_kind(kind))?;
            let mut separator = " (";
            for (outcome, outcome_name) in OUTCOMES {
                let count = self.count(kind, outcome);
                if count > 0 {
                    write!(f, "{separator}{outcome_name} {count}")?;
                    separator = ", ";
                }
            }
            writeln!(f, ")")?;
        }
        write!(
            f,
            "body bytes: {}; connections: {} made, at most {} at once; requests in flight: at most {}",
            self.body_bytes, self.connections_made, self.connections_max, self.in_flight_max
        )
    }
}
