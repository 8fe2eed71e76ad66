//! The S3 simulator, which runs in the process of the bench. The commands that are measured are other processes on
//! the same cores.

use hydrant::sim::server::{Faults, Latency, SimCredentials, SimOptions, SimServer, Stats};
use std::time::Duration;

pub(crate) const ACCESS_KEY: &str = "AKIDHYDRANTBENCH";
pub(crate) const SECRET_KEY: &str = "hydrant-bench-secret-key";

pub(crate) struct Server {
    pub sim: SimServer,
    pub endpoint: String,
}

impl Server {
    /// Starts a server without faults. It checks signatures.
    pub(crate) fn start() -> Self {
        Self::with(Faults::default())
    }

    pub(crate) fn with_latency(ms: u64) -> Self {
        Self::with(latency(ms))
    }

    pub(crate) fn with(faults: Faults) -> Self {
        let credentials =
            SimCredentials { access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into(), session_token: None };
        let options = SimOptions { credentials: Some(credentials), faults, ..SimOptions::default() };
        let sim = SimServer::start(options).expect("a server");
        Self { endpoint: sim.endpoint(), sim }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.sim.stats()
    }

    /// The URL `s3://bucket/path` with the query parameters that a client needs.
    pub(crate) fn url(&self, bucket: &str, path: &str) -> String {
        format!("s3://{bucket}/{path}?endpoint={}&region=us-east-1&forcePathStyle=true", self.endpoint)
    }
}

/// The settings of a server that sends the first byte of each answer after `ms` milliseconds.
pub(crate) fn latency(ms: u64) -> Faults {
    Faults { latency: Latency::Fixed(Duration::from_millis(ms)), ..Faults::default() }
}
