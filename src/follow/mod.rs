//! Keeps a restored database up to date with its replica, as a warm standby (docs/FOLLOW.md).
//!
//! ```text
//! schedule ─► poll (GET of the next key | LIST) ─► plan from the TXID ─► read_changes ─► SQLite: BEGIN … COMMIT ─► sidecar
//! ```
//!
//! `plan` chooses the files, `restore` fetches, decodes and merges them, SQLite writes the pages. Here are only the loop,
//! the lock and the transaction. SQLite runs on a thread of its own.

mod apply;
mod error;
mod events;
pub mod fleet;

mod lock;
mod means;
mod run;
mod schedule;
mod standby;
#[cfg(test)]
mod tests;

pub use crate::commit::txid_sidecar as sidecar;
pub use error::FollowError;
pub use events::{FollowEvent, FollowSummary, Observer};
pub use lock::{FollowLock, OtherFollower, Taken, place_of};
pub use run::{FollowRequest, Until, follow};
pub use standby::{BUILD_FLAG, LogFill, Standby, StandbyError, check_build};

use std::path::{Path, PathBuf};

/// The directory with Litestream's state of the database at `path`. Where it exists, the database is or was replicated
/// from here.
pub fn primary_state(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}-litestream"))
}
