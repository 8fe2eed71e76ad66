//! Unpublished file → verify → fsync → publication that cannot replace → directory fsync
//! (DESIGN engine 5, PROMISES 1 – 6, 14, 15, 24, 27, 30).
//!
//! ```text
//! Destination::prepare   checks, parents, directory opened (prepare_beneath: and nowhere else)
//!   .create              O_TMPFILE, else a locked random name       nobody sees it
//!     .reserve … writes … Writer::sync                              content durable
//!     .publish           link that refuses | exchange               seen, whole
//!       .sync_dir        the inode's link count, where it needs that (`journal`);
//!                        directory durable, then the old one deleted
//! ```
//!
//! Invariants: no name is ever given to a file that was not synced after its last write; nothing
//! is replaced but an empty file, or with `-force` a database that nobody uses; what was replaced
//! is deleted only when the new name is durable; a process killed at any point leaves the old
//! state or the new one, and what else it leaves is swept by the next run in that directory
//! (`leftover`).
//!
//! Not here: what is written into the file (`restore`) and how (`io`). No `unsafe`.

mod beneath;
pub mod check;
mod destination;
mod error;
mod in_use;
mod journal;
mod leftover;
mod parents;
mod publish;
mod swap;
#[cfg(test)]
mod tests;
mod unpublished;

pub use beneath::{OutputRoot, UnsafeName, check_relative};
pub use destination::Destination;
pub use error::CommitError;
pub use publish::{Published, sync_dirs};
pub use unpublished::Unpublished;

/// Whether an existing output may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Only an absent or empty output is written.
    Never,
    /// `-force`: an existing output is replaced once the new one is complete.
    Force,
}

/// What SQLite puts beside a database.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// `name` with `suffix` after it.
fn suffixed(name: &std::ffi::OsStr, suffix: &str) -> std::ffi::OsString {
    let mut suffixed = name.to_owned();
    suffixed.push(suffix);
    suffixed
}
