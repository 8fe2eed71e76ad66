//! Turns a file that nobody sees yet into a durable output: create, write, verify, fsync, publish under its
//! final name, fsync the directory (docs/GUARANTEES.md, 1 to 6, 14, 15, 24, 27 and 30; docs/ARCHITECTURE.md,
//! "Interrupted runs").
//!
//! ```text
//! CommitContext          memory of one command: which directories were cleaned up, which are not durable yet
//!   .sweep_beside        cleans up after killed runs in one directory (sweep_beneath: for names from a bucket)
//! Destination::prepare   also cleans up; opens the directory, creates parents, checks the existing file
//!   .create              an unnamed file (O_TMPFILE), else a locked file with a random name
//!     .reserve … writes … Writer::sync                                         the content is durable
//!     .publish           a link that cannot replace a file, or an exchange     the file is visible and whole
//!       .sync_dir        the inode once more if its file system needs that (`journal`); then the
//!                        directory is synced, so the name is durable; then the old file is deleted
//! ```
//!
//! Invariants:
//! - A file gets its final name only if it was fsynced after the last write to it.
//! - Only an empty file is replaced or, with `-force`, a database that no other process uses.
//! - A replaced file is deleted only when the new file's name is durable.
//! - A process that is killed at any point leaves one of three states: the old files, the new file, or the old
//!   database with its sidecars (-wal, -shm, -journal) under temporary names. The next run that looks at the
//!   directory restores the third state and deletes all temporary files (`sweep`).
//!
//! This folder does not know the content of the file (`restore` does) and does not write it (`io` does). It has
//! no `unsafe` code.

mod access;
pub mod check;
mod contained;
mod context;
mod copy;
mod destination;
mod devices;
mod error;
mod exchange;
mod in_use;
mod journal;
mod mounts;
mod notice;
mod own_file;
mod parents;
mod permissions;
mod publish;
mod query;
mod rename;
mod sidecars;
mod space;
mod staged;
mod staging;
mod sweep;
mod sys;
mod temp_name;
mod temporary;
#[cfg(test)]
mod tests;
pub mod txid_sidecar;
mod unsafe_name;

pub use crate::commit::contained::{OutputRoot, check_way_beneath};
pub use crate::commit::context::CommitContext;
pub(crate) use crate::commit::own_file::OwnFile;
pub use crate::commit::space::FreeSpace;
pub use crate::commit::staged::StagedFile;
pub(crate) use crate::commit::temporary::create_temporary;
pub use destination::{Destination, check_way};
pub use error::CommitError;
pub use notice::{Notice, Why};
pub use permissions::Permissions;
pub use publish::{PublishedFile, sync_dirs};
pub use query::Query;
pub use sidecars::Replace;
pub(crate) use sidecars::SIDECARS;
pub use sweep::stands_at;
pub(crate) use temp_name::random_letters;
pub use unsafe_name::{UnsafeName, check_relative};
