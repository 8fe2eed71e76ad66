//! The state that all connections of a server share, and the state of one connection.

use super::faults::FaultState;
use super::objects::Objects;
use super::options::{SimCredentials, VersionListings};
use super::stats::Counters;
use super::versions::Versions;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The state that all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) seed: u64,
    pub(super) credentials: Option<SimCredentials>,
    pub(super) region: String,
    pub(super) virtual_host_domain: Option<String>,
    pub(super) max_keys: usize,
    pub(super) unsorted_listings: bool,
    pub(super) listed_etags: bool,
    pub(super) version_listings: VersionListings,
    pub(super) objects: Objects,
    pub(super) versions: Versions,
    pub(super) faults: FaultState,
    pub(super) counters: Counters,
    pub(super) next_request: AtomicU64,
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    /// Whether the connection is to end with a TCP reset instead of an orderly close.
    pub(super) reset: AtomicBool,
    /// The time at which the bandwidth limit lets the connection send again.
    pub(super) due: Mutex<Instant>,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.counters.connections.up();
        Self { shared, reset: AtomicBool::new(false), due: Mutex::new(Instant::now()) }
    }

    pub(super) fn count_body_bytes(&self, bytes: u64) {
        self.shared.counters.body_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.counters.connections.down();
    }
}

/// Counts a request as in flight from its headers to the last piece of the answer, when this is dropped.
pub(super) struct InFlight(Arc<Shared>);

impl InFlight {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.counters.in_flight.up();
        Self(Arc::clone(shared))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.counters.in_flight.down();
    }
}
