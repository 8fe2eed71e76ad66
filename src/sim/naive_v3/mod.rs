//! A slow and simple restorer of replicas that Litestream 0.3 has written, with which the real one is compared. It
//! was written from docs/FORMAT-V3.md alone and shares no code with `wal`, `ltx`, `catalogue` or `plan`. It keeps
//! whole files and whole databases in memory. Its memory use is not bounded, so [`restore()`] must not be used for files
//! from strangers.
//!
//! - [`decode_object`]: one stored object, which is one LZ4 frame.
//! - [`read_wal`]: the WAL of one index.
//! - [`restore()`], [`restore_state`]: a whole replica.

mod catalogue;
mod choose;
mod error;
mod object;
mod restore;
mod wal;

#[cfg(test)]
mod tests;

pub use catalogue::V3Entry;
pub use choose::NaiveTarget;
pub use error::NaiveV3Error;
pub use object::decode_object;
pub use restore::{NaiveRestored, restore, restore_state};
pub use wal::{NaiveWal, read_wal};
