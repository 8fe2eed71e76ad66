//! Hydrant restores fleets of SQLite databases from Litestream replicas.
//!
//! Modules use each other in one direction (docs/ARCHITECTURE.md has a picture): `cli` → `fleet` → `restore` →
//! {`plan`, `catalogue`, `ltx`, `wal`, `store`, `io`, `commit`}. `telemetry` counts requests and bytes and measures
//! latencies for all of them. `sim` (only with the feature `sim`) has an S3 simulator and a generator of replicas
//! for tests, benches and scripts.

pub mod cancel;
pub mod catalogue;
// `cli` is the program, not a library. It is public only because src/main.rs and the tests call it.
#[doc(hidden)]
pub mod cli;
pub mod commit;
pub mod config;
pub mod error;
pub mod fleet;
pub mod follow;
pub mod hex;
pub mod human;
pub mod io;
pub mod ltx;
mod lz4;
pub mod metrics;
pub mod plan;
mod process;
pub mod report;
pub mod restore;
#[cfg(feature = "sim")]
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod timestamp;
pub mod wal;
