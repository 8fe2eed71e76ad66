//! Creates the stores and workers of a fleet run without a command line.

use hydrant::cancel::CancellationToken;
use hydrant::config::StoreConfig;
use hydrant::io::IoBackend;
use hydrant::restore::{SEGMENT_BYTES, Workers, WorkersOptions};
use hydrant::store::Store;
use hydrant::store::s3::{Environment, Retries, S3, S3Options, Timeouts};
use hydrant::telemetry::Counters;
use std::sync::Arc;
use std::time::Duration;

/// The environment variables for tests, in place of the process's own.
pub(crate) fn env(name: &str) -> Option<String> {
    match name {
        "AWS_ACCESS_KEY_ID" => Some("key".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some("secret".to_owned()),
        _ => None,
    }
}

/// Opens a store whose client gives up a request after two failures. The tests that use it are about the retries of
/// the fleet, not of the client.
pub(crate) fn open(config: &StoreConfig) -> Store {
    open_with(config, Timeouts::default())
}

/// As [`open`], with these time-outs.
pub(crate) fn open_with(config: &StoreConfig, timeouts: Timeouts) -> Store {
    let retries = Retries {
        base: Duration::from_millis(1),
        cap: Duration::from_millis(2),
        attempts: 2,
        attempts_while_others_succeed: 2,
    };
    let options = S3Options { retries, timeouts, environment: Environment::from_lookup(env), ..S3Options::default() };
    match config {
        StoreConfig::S3(s3) => Store::S3(Arc::new(S3::new(s3.clone(), &options, Arc::default()))),
        StoreConfig::File => Store::File(Default::default()),
    }
}

pub(crate) fn engine() -> Workers {
    let options = WorkersOptions {
        workers: 2,
        kind: IoBackend::Pwrite,
        memory_bytes: 32 << 20,
        tasks: 16,
        segment_bytes: SEGMENT_BYTES,
        checks: false,
        catalogue: Default::default(),
    };
    Workers::start(&options, Arc::new(Counters::default()), CancellationToken::new()).unwrap()
}
