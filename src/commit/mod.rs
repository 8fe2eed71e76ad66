//! Unpublished file → verify → fsync → publication that cannot replace → directory fsync
//! (DESIGN engine 5, PROMISES 1 – 6, 14, 15, 24, 27, 30).
//!
//! ```text
//! sweep_beside           what killed runs left is put right (sweep_beneath: and nowhere else)
//! Destination::prepare   the same; checks, parents, directory opened
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
//! state or the new one, or the old database beside its own sidecars under other names: that, and
//! what else it leaves, is put right by the next run that looks at that directory (`sweep`).
//!
//! Not here: what is written into the file (`restore`) and how (`io`). No `unsafe`.

pub mod check;
mod contained;
mod destination;
mod error;
mod exchange;
mod in_use;
mod journal;
mod notice;
mod parents;
mod publish;
mod sidecars;
mod staged;
mod sweep;
mod sys;
mod temp_name;
#[cfg(test)]
mod tests;
mod unsafe_name;

pub use crate::commit::contained::{OutputRoot, check_way_beneath, sweep_beneath};
pub use crate::commit::staged::StagedFile;
pub use crate::commit::sweep::sweep_beside;
pub use destination::{Destination, check_way};
pub use error::CommitError;
pub use notice::{Notice, Why};
pub use publish::{PublishedFile, sync_dirs};
pub use sidecars::Replace;
pub(crate) use sidecars::SIDECARS;
pub use unsafe_name::{UnsafeName, check_relative};
