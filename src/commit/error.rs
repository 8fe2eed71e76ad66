//! Why an output cannot be written or published.

use super::unsafe_name::UnsafeName;
use crate::error::Class;
use crate::io::{IoError, class_of, shown, text_of};
use rustix::io::Errno;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why an output cannot be written or published. docs/CLI.md, "Texts that scripts rely on", lists the first three
/// texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitError {
    Exists {
        path: PathBuf,
    },
    SidecarExists {
        path: PathBuf,
    },
    IsDirectory {
        path: PathBuf,
    },
    IsSymlink {
        path: PathBuf,
    },
    NotRegular {
        path: PathBuf,
    },
    /// A path that names no file: empty, or ending in `..` or `/`.
    NotAFileName {
        path: PathBuf,
    },
    /// A name from a bucket that cannot be the name of an output.
    UnsafeName {
        name: String,
        why: UnsafeName,
    },
    /// A file is where a directory on the way to the output should be.
    IsNoDirectory {
        path: PathBuf,
    },
    /// A dangling symbolic link is where a directory on the way to the output should be.
    DanglingLink {
        path: PathBuf,
        /// The link's text.
        target: PathBuf,
    },
    /// Symbolic links on the way to the output lead back to themselves.
    LinkLoop {
        path: PathBuf,
    },
    /// The directory exists, but nothing can be made in it (/proc).
    TakesNothing {
        path: PathBuf,
    },
    /// Another program uses the database that is to be replaced; `pid` if it is known.
    InUse {
        path: PathBuf,
        pid: Option<u32>,
    },
    /// The destination changed at every attempt to replace it: another restore publishes to it.
    Busy {
        path: PathBuf,
    },
    /// `needed` bytes do not fit; `free` bytes are available to this user. EFBIG: the limit on the size of one file.
    NoSpace {
        path: PathBuf,
        needed: u64,
        free: Option<u64>,
        errno: Errno,
    },
    /// The kernel refused `what`.
    Refused {
        what: &'static str,
        path: PathBuf,
        errno: Errno,
    },
    /// The content was not synced before publication, which is a defect of the caller.
    NotSynced {
        path: PathBuf,
    },
    /// SQLite could not open or check the file.
    Sqlite {
        path: PathBuf,
        reason: String,
    },
    Io(IoError),
    /// A defect of Hydrant.
    Internal {
        what: &'static str,
        path: PathBuf,
    },
}

impl CommitError {
    pub(crate) fn refused(what: &'static str, path: &Path, errno: Errno) -> Self {
        Self::Refused { what, path: path.to_owned(), errno }
    }

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
            | Self::Refused { errno: Errno::NAMETOOLONG, .. } => Class::UnsafePath,
            Self::IsNoDirectory { .. } => Class::PathCollision,
            Self::NoSpace { errno, .. } | Self::Refused { errno, .. } => class_of(*errno),
            Self::Internal { .. }
            | Self::NotSynced { .. }
            | Self::DanglingLink { .. }
            | Self::LinkLoop { .. }
            | Self::TakesNothing { .. } => Class::Io,
            Self::Sqlite { .. } => Class::IntegrityCheck,
            Self::Io(error) => error.class(),
        }
    }
}

impl From<IoError> for CommitError {
    fn from(error: IoError) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { path } => write!(
                f,
                "cannot restore, output path already exists and is not empty: {}. Use -force to overwrite",
                shown(path)
            ),
            Self::SidecarExists { path } => write!(
                f,
                "cannot restore, SQLite sidecar path already exists: {}. Use -force to overwrite",
                shown(path)
            ),
            Self::IsDirectory { path } => write!(f, "cannot restore, output path is a directory: {}", shown(path)),
            Self::IsSymlink { path } => write!(f, "cannot restore, output path is a symbolic link: {}", shown(path)),
            Self::NotRegular { path } => {
                write!(f, "cannot restore, output path is not a regular file: {}", shown(path))
            }
            Self::NotAFileName { path } => write!(f, "cannot restore, output path names no file: {}", shown(path)),
            Self::UnsafeName { name, why } => {
                write!(f, "cannot restore, '{}' is not a safe output path: {why}", crate::error::escaped(name))
            }
            Self::IsNoDirectory { path } => {
                write!(
                    f,
                    "cannot restore, a file stands where a directory must be: {}. Remove it, or choose another output",
                    shown(path)
                )
            }
            Self::DanglingLink { path, target } => write!(
                f,
                "cannot restore, {} is a symbolic link to {}, which is not there: make that directory, or remove the link",
                shown(path),
                shown(target)
            ),
            Self::LinkLoop { path } => write!(
                f,
                "cannot restore, the symbolic link {} leads back to itself: remove it, or choose another output",
                shown(path)
            ),
            Self::TakesNothing { path } => write!(
                f,
                "cannot restore, nothing can be made in {}: its file system takes no new files or directories, or \
                 another program removes them at once. Choose another output",
                shown(path)
            ),
            Self::InUse { path, pid: Some(pid) } => {
                write!(f, "cannot restore, the database is in use by process {pid}: {}", shown(path))
            }
            Self::InUse { path, pid: None } => {
                write!(f, "cannot restore, the database is in use by another process: {}", shown(path))
            }
            Self::Busy { path } => write!(
                f,
                "cannot restore, {} keeps changing: another restore or program puts files there. Try again when it is done",
                shown(path)
            ),
            Self::NoSpace { path, needed, free, errno } => {
                write!(f, "cannot reserve {needed} bytes for {}: {}", shown(path), text_of(*errno))?;
                match free {
                    Some(free) => write!(f, " ({free} bytes free)"),
                    None => Ok(()),
                }
            }
            Self::Refused { what, path, errno } => write!(f, "cannot {what} {}: {}", shown(path), text_of(*errno)),
            Self::NotSynced { path } => write!(f, "cannot publish {}: its content was not synced", shown(path)),
            Self::Sqlite { path, reason } => {
                write!(f, "cannot check {}: {}", shown(path), crate::error::escaped(reason))
            }
            Self::Io(error) => error.fmt(f),
            Self::Internal { what, path } => {
                write!(f, "this is a bug in Hydrant, please report: {what}: {}", shown(path))
            }
        }
    }
}

impl std::error::Error for CommitError {}
