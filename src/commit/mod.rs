//! From a file that nobody sees to a durable output: stage, verify, fsync, publish without replacing, fsync the
//! directory (docs/GUARANTEES.md, 1 to 6, 14, 15, 24, 27 and 30; docs/ARCHITECTURE.md, "Interrupted runs").
//!
//! ```text
//! CommitContext          the memory of a run: what was swept, what is not durable yet
//!   .sweep_beside        puts right what killed runs left (sweep_beneath: for names from a bucket)
//! Destination::prepare   sweeps too; opens the directory, makes parents, checks what is there
//!   .create              an O_TMPFILE, else a locked file with a random name    nobody sees it
//!     .reserve … writes … Writer::sync                                         content durable
//!     .publish           a link that does not replace, or an exchange           visible, whole
//!       .sync_dir        the inode again if its file system needs that (`journal`);
//!                        directory durable, then the old file is deleted
//! ```
//!
//! Invariants:
//! - A file gets its name only after it was synced after its last write.
//! - Only an empty file is replaced, or with `-force` a database that nobody uses.
//! - A replaced file is deleted only when the new name is durable.
//! - A process that is killed at any point leaves the old state, or the new state, or the old database beside its
//!   own sidecars under temporary names. The next run that looks at that directory puts the third case right, and
//!   removes everything else that was left (`sweep`).
//!
//! Not here: the content of the file (`restore`) and the writing (`io`). No `unsafe`.

pub mod check;
mod contained;
mod context;
mod destination;
mod error;
mod exchange;
mod in_use;
mod journal;
mod notice;
mod parents;
mod permissions;
mod publish;
mod sidecars;
mod staged;
mod sweep;
mod sys;
mod temp_name;
#[cfg(test)]
mod tests;
mod unsafe_name;

pub use crate::commit::contained::{OutputRoot, check_way_beneath};
pub use crate::commit::context::CommitContext;
pub use crate::commit::staged::StagedFile;
pub(crate) use crate::commit::staged::create_temporary;
pub use destination::{Destination, check_way};
pub use error::CommitError;
pub use notice::{Notice, Why};
pub use permissions::Permissions;
pub use publish::{PublishedFile, sync_dirs};
pub use sidecars::Replace;
pub(crate) use sidecars::SIDECARS;
pub(crate) use temp_name::random_letters;
pub use unsafe_name::{UnsafeName, check_relative};
