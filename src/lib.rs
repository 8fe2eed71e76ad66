//! Hydrant restores fleets of SQLite databases from Litestream replicas.
//!
//! The modules, from the outside in (docs/ARCHITECTURE.md has the picture):
//! `cli` → `fleet` → `restore` → {`plan`, `catalogue`, `ltx`, `store`, `io`, `commit`}.
//! `telemetry` has counters and latencies for all of them. `sim` (feature `sim`) has the S3 simulator
//! and the replica generator for tests, benches and scripts.

pub mod cancel;
pub mod catalogue;
// The program, not a library: public for src/main.rs and the tests.
#[doc(hidden)]
pub mod cli;
pub mod commit;
pub mod config;
pub mod error;
pub mod fleet;
pub mod hex;
pub mod io;
pub mod ltx;
pub mod plan;
mod process;
pub mod restore;
#[cfg(feature = "sim")]
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod timestamp;
