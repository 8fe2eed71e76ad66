//! Why an output cannot be written or published.

#![allow(missing_docs, reason = "the text in #[error] says what each variant and field is")]

use super::unsafe_name::UnsafeName;
use crate::error::{BUG, Class, escaped};
use crate::io::{IoError, class_of, shown, text_of};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why an output cannot be written or published. [`Destination`](super::Destination),
/// [`StagedFile`](super::StagedFile), [`PublishedFile`](super::PublishedFile) and [`Check`](super::check::Check) return it,
/// from the first look at the destination to the sync of its directory. docs/CLI.md, "Texts that scripts rely on",
/// lists the first three texts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommitError {
    #[error("cannot restore, output path already exists and is not empty: {}. Use -force to overwrite", shown(.path))]
    Exists { path: PathBuf },
    #[error("cannot restore, SQLite sidecar path already exists: {}. Use -force to overwrite", shown(.path))]
    SidecarExists { path: PathBuf },
    #[error("cannot restore, output path is a directory: {}", shown(.path))]
    IsDirectory { path: PathBuf },
    #[error("cannot restore, output path is a symbolic link: {}", shown(.path))]
    IsSymlink { path: PathBuf },
    #[error("cannot restore, output path is not a regular file: {}", shown(.path))]
    NotRegular { path: PathBuf },
    /// A path that names no file: empty, or ending in `..` or `/`.
    #[error("cannot restore, output path names no file: {}", shown(.path))]
    NotAFileName { path: PathBuf },
    /// A name from a bucket that cannot be the name of an output.
    #[error("cannot restore, '{}' is not a safe output path: {why}", escaped(.name))]
    UnsafeName { name: String, why: UnsafeName },
    /// A file is where a directory on the way to the output should be.
    #[error(
        "cannot restore, a file stands where a directory must be: {}. Remove it, or choose another output",
        shown(.path)
    )]
    IsNoDirectory { path: PathBuf },
    /// A dangling symbolic link is where a directory on the way to the output should be. `target` is the link's text.
    #[error(
        "cannot restore, {} is a symbolic link to {}, which is not there: make that directory, or remove the link",
        shown(.path),
        shown(.target)
    )]
    DanglingLink { path: PathBuf, target: PathBuf },
    /// Symbolic links on the way to the output lead back to themselves.
    #[error(
        "cannot restore, the symbolic link {} leads back to itself: remove it, or choose another output",
        shown(.path)
    )]
    LinkLoop { path: PathBuf },
    /// The directory exists, but nothing can be made in it (/proc).
    #[error(
        "cannot restore, nothing can be made in {}: its file system takes no new files or directories, or another \
         program removes them at once. Choose another output",
        shown(.path)
    )]
    TakesNothing { path: PathBuf },
    /// The file is a mount of its own, as in a container that was started with `-v file:file`. No rename replaces it.
    #[error("cannot restore, {} is a mount point: a file that is mounted by itself cannot be replaced, mount the directory instead", shown(.path))]
    MountPoint { path: PathBuf },
    /// The file system of the directory `path`, of type `kind`, cannot do `what`.
    #[error(
        "cannot restore, the file system of {} ({}) {what}: {}. Restore to another directory and copy the database",
        shown(.path),
        escaped(.kind),
        text_of(*.errno)
    )]
    FileSystem { path: PathBuf, kind: String, what: &'static str, errno: Errno },
    /// Another program uses the database that is to be replaced; `pid` if it is known.
    #[error("cannot restore, the database is in use by {}: {}", process(*.pid), shown(.path))]
    InUse { path: PathBuf, pid: Option<u32> },
    /// The destination changed at every attempt to replace it: another restore publishes to it.
    #[error(
        "cannot restore, {} keeps changing: another restore or program puts files there. Try again when it is done",
        shown(.path)
    )]
    Busy { path: PathBuf },
    /// `needed` bytes do not fit; `free` bytes are available to this user. EFBIG: the limit on the size of one file.
    #[error("cannot reserve {needed} bytes for {}: {}{}", shown(.path), text_of(*.errno), free_bytes(*.free))]
    NoSpace { path: PathBuf, needed: u64, free: Option<u64>, errno: Errno },
    /// The kernel refused `what`.
    #[error("cannot {what} {}: {}", shown(.path), text_of(*.errno))]
    Refused { what: &'static str, path: PathBuf, errno: Errno },
    /// SQLite could not open or check the file.
    #[error("cannot check {}: {}", shown(.path), escaped(.reason))]
    Sqlite { path: PathBuf, reason: String },
    #[error(transparent)]
    Io(#[from] IoError),
    /// A case that cannot happen has happened: `what` is wrong.
    #[error("{BUG}: {what}: {}", shown(.path))]
    Internal { what: &'static str, path: PathBuf },
}

impl CommitError {
    pub(crate) fn refused(what: &'static str, path: &Path, errno: Errno) -> Self {
        Self::Refused { what, path: path.to_owned(), errno }
    }

    /// The class that the error log names.
    pub fn class(&self) -> Class {
        match self {
            Self::Exists { .. }
            | Self::SidecarExists { .. }
            | Self::IsDirectory { .. }
            | Self::InUse { .. }
            | Self::Busy { .. } => Class::OutputExists,
            Self::IsSymlink { .. }
            | Self::NotRegular { .. }
            | Self::NotAFileName { .. }
            | Self::UnsafeName { .. }
            | Self::MountPoint { .. }
            | Self::Refused { errno: Errno::NAMETOOLONG, .. } => Class::UnsafePath,
            Self::IsNoDirectory { .. } => Class::PathCollision,
            Self::NoSpace { errno, .. } | Self::Refused { errno, .. } => class_of(*errno),
            Self::Internal { .. }
            | Self::DanglingLink { .. }
            | Self::LinkLoop { .. }
            | Self::TakesNothing { .. }
            | Self::FileSystem { .. } => Class::Io,
            Self::Sqlite { .. } => Class::IntegrityCheck,
            Self::Io(error) => error.class(),
        }
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn free_bytes(free: Option<u64>) -> String {
    free.map_or_else(String::new, |free| format!(" ({free} bytes free)"))
}
