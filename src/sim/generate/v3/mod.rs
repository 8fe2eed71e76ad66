//! Generates replicas of Litestream 0.3 (docs/FORMAT-V3.md).
//!
//! - [`pack_sqlite`]: databases that SQLite itself has written in WAL mode, packed as Litestream 0.3 packs them, with
//!   the state that a restore must give at each time.
//! - [`random_v3_history`]: everything that the format allows, and damage, for tests that compare two restorers.
//! - [`LargeV3`]: one large SQLite database: a snapshot and much WAL.
//! - [`v3_fleet`]: thousands of small databases that share a few contents.

mod blank;
mod fleet_v3;
mod large_v3;
mod live;
mod lz4;
mod random_v3;
mod replica;
mod shadow;
mod sqlite_v3;
mod wal_writer;

#[cfg(test)]
mod tests;

pub use fleet_v3::{FleetV3, v3_fleet};
pub use large_v3::{LargeV3, LargeV3Spec, large_v3};
pub use live::PackSpec;
pub use lz4::pack;
pub use random_v3::{V3Damage, V3HistoryParams, random_v3_history};
pub use replica::{GeneratedV3, GeneratedV3Object, V3Content, V3Truth};
pub use sqlite_v3::pack_sqlite;
pub use wal_writer::WalWriter;
