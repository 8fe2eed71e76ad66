//! Errors of creating, writing, checking and publishing an output file.

#![allow(missing_docs, reason = "the text in #[error] says what each variant and field is")]

use super::unsafe_name::UnsafeName;
use crate::error::{BUG, Class, escaped};
use crate::io::{IoError, class_of, shown, text_of};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why an output file cannot be written or published. [`Destination`](super::Destination),
/// [`StagedFile`](super::StagedFile), [`PublishedFile`](super::PublishedFile) and
/// [`Check`](super::check::Check) return it. docs/CLI.md, "Texts that scripts rely on", lists the texts of the
/// first three variants, which must not change.
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
    /// The path names no file: it is empty, or it ends in `..` or `/`.
    #[error("cannot restore, output path names no file: {}", shown(.path))]
    NotAFileName { path: PathBuf },
    /// The output's name comes from a bucket and is not allowed as a file name.
    #[error("cannot restore, '{}' is not a safe output path: {why}", escaped(.name))]
    UnsafeName { name: String, why: UnsafeName },
    /// A file is where a directory on the way to the output must be.
    #[error(
        "cannot restore, a file stands where a directory must be: {}. Remove it, or choose another output",
        shown(.path)
    )]
    IsNoDirectory { path: PathBuf },
    /// A symbolic link whose target does not exist is where a directory on the way to the output must be.
    /// `target` is the path that the link holds.
    #[error(
        "cannot restore, {} is a symbolic link to {}, which is not there: make that directory, or remove the link",
        shown(.path),
        shown(.target)
    )]
    DanglingLink { path: PathBuf, target: PathBuf },
    /// Symbolic links on the way to the output lead in a circle (ELOOP).
    #[error(
        "cannot restore, the symbolic link {} leads back to itself: remove it, or choose another output",
        shown(.path)
    )]
    LinkLoop { path: PathBuf },
    /// The directory exists, but the kernel lets nobody create files in it. /proc is such a directory.
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
    /// Another program changed the file at the destination during each of the attempts to replace it.
    #[error(
        "cannot restore, {} keeps changing: another restore or program puts files there. Try again when it is done",
        shown(.path)
    )]
    Busy { path: PathBuf },
    /// The disk has no room for a file of `needed` bytes. `free` is the number of bytes available to this user.
    /// If `errno` is EFBIG, the limit is the maximum size of one file and not the free space.
    #[error("cannot reserve {needed} bytes for {}: {}{}", shown(.path), text_of(*.errno), free_bytes(*.free))]
    NoSpace { path: PathBuf, needed: u64, free: Option<u64>, errno: Errno },
    /// As [`Self::NoSpace`], in the directory `dir`, where the file for `path` is staged.
    #[error(
        "cannot reserve {needed} bytes in {} for {}, which is staged there: {}{}. Set TMPDIR to a directory with more \
         space",
        shown(.dir), shown(.path), text_of(*.errno), free_bytes(*.free)
    )]
    NoStagingSpace { dir: PathBuf, path: PathBuf, needed: u64, free: Option<u64>, errno: Errno },
    /// The file system has stored another number of bytes than were written to it.
    #[error("cannot restore, {} was stored with {found} bytes, not with {expected}. Try again", shown(.path))]
    WrongLength { path: PathBuf, expected: u64, found: u64 },
    /// The kernel refused the system call that does `what`.
    #[error("cannot {what} {}: {}", shown(.path), text_of(*.errno))]
    Refused { what: &'static str, path: PathBuf, errno: Errno },
    /// SQLite could not open or check the file, for a reason other than damage.
    #[error("cannot check {}: {}", shown(.path), escaped(.reason))]
    Sqlite { path: PathBuf, reason: String },
    #[error(transparent)]
    Io(#[from] IoError),
    /// A case that the code rules out has happened, which is a bug in Hydrant. `what` describes it.
    #[error("{BUG}: {what}: {}", shown(.path))]
    Internal { what: &'static str, path: PathBuf },
}

impl CommitError {
    pub(crate) fn refused(what: &'static str, path: &Path, errno: Errno) -> Self {
        Self::Refused { what, path: path.to_owned(), errno }
    }

    /// Class of this error in the error log (docs/CLI.md, "Error log classes").
    pub fn class(&self) -> Class {
        match self {
            Self::Exists { .. } | Self::SidecarExists { .. } | Self::IsDirectory { .. } | Self::Busy { .. } => {
                Class::OutputExists
            }
            Self::InUse { .. } => Class::InUse,
            Self::IsSymlink { .. }
            | Self::NotRegular { .. }
            | Self::NotAFileName { .. }
            | Self::UnsafeName { .. }
            | Self::MountPoint { .. }
            | Self::Refused { errno: Errno::NAMETOOLONG, .. } => Class::UnsafePath,
            Self::IsNoDirectory { .. } => Class::PathCollision,
            Self::NoSpace { errno, .. } | Self::NoStagingSpace { errno, .. } | Self::Refused { errno, .. } => {
                class_of(*errno)
            }
            Self::Internal { .. }
            | Self::DanglingLink { .. }
            | Self::LinkLoop { .. }
            | Self::TakesNothing { .. }
            | Self::WrongLength { .. }
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
