//! Unpublished file → verify → fsync → publication that cannot replace → directory fsync
//! (DESIGN engine 5, PROMISES 1 – 6, 14, 15, 24, 27, 30).
//!
//! Not here: what is written into the file (`restore`) and how (`io`). No `unsafe`.

pub mod check;
mod destination;
mod error;
mod publish;

pub use destination::{Destination, Unpublished};
pub use error::CommitError;
pub use publish::{Published, sync_dirs};

/// Whether an existing output may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Only an absent or empty output is written.
    Never,
    /// `-force`: an existing output is replaced once the new one is complete.
    Force,
}
