//! Errors of reads, writes and syncs of an output.

use crate::error::{Class, escaped};
use crate::process::threads::NoThread;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::path::{Path, PathBuf};

/// A failed operation on an output, or a writer that is not available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IoError {
    /// The kernel refused the operation `what` (`write`, `read`, `sync`, …) on `path`.
    Refused { what: &'static str, path: PathBuf, at: Option<u64>, len: Option<u64>, errno: Errno },
    /// The file ends before `at + len`.
    Short { path: PathBuf, at: u64, len: u64 },
    /// A write that wrote no bytes, or a length beyond its buffer: a defect of the file system or of the caller.
    Impossible { what: &'static str, path: PathBuf, at: u64, len: u64 },
    /// `--io-engine uring` was given, and io_uring is not available.
    NoUring { reason: String },
    /// A worker's runtime or its buffers could not be made.
    NoRuntime { reason: String },
    /// A necessary thread could not be started.
    NoThread(NoThread),
}

impl IoError {
    pub(crate) fn refused(what: &'static str, path: &Path, errno: Errno) -> Self {
        Self::Refused { what, path: path.to_owned(), at: None, len: None, errno }
    }

    pub(crate) fn refused_at(what: &'static str, path: &Path, at: u64, len: usize, errno: Errno) -> Self {
        Self::Refused { what, path: path.to_owned(), at: Some(at), len: Some(len as u64), errno }
    }

    pub fn class(&self) -> Class {
        match self {
            Self::Refused { errno, .. } => class_of(*errno),
            Self::NoUring { .. } => Class::Config,
            Self::Short { .. } | Self::Impossible { .. } | Self::NoRuntime { .. } | Self::NoThread(_) => Class::Io,
        }
    }
}

/// The class of a refusal by the kernel. EFBIG does not count as a full disk: free space does not help, and the
/// smaller databases of a fleet can still be restored.
pub(crate) fn class_of(errno: Errno) -> Class {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Class::DiskFull,
        _ => Class::Io,
    }
}

/// The system's text for `errno`, in lower case and without the number that std appends.
pub(crate) fn text_of(errno: Errno) -> String {
    if errno == Errno::FBIG {
        return match getrlimit(Resource::Fsize).current {
            Some(limit) => format!("file size limit (ulimit -f) of {limit} bytes reached"),
            None => "the file system holds no file of that size".to_owned(),
        };
    }
    let text = std::io::Error::from(errno).to_string();
    match text.find(" (os error") {
        Some(end) => text.get(..end).unwrap_or(&text).to_lowercase(),
        None => text,
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { what, path, at, len, errno } => {
                write!(f, "{what} {}: {}", shown(path), text_of(*errno))?;
                if let Some(at) = at {
                    write!(f, " at offset {at}")?;
                }
                if let Some(len) = len {
                    write!(f, " ({len} bytes)")?;
                }
                Ok(())
            }
            Self::Short { path, at, len } => {
                write!(f, "read {}: the file ends before offset {}", shown(path), at.saturating_add(*len))
            }
            Self::Impossible { what, path, at, len } => {
                write!(f, "{what} {}: no progress at offset {at} ({len} bytes left)", shown(path))
            }
            Self::NoUring { reason } => {
                write!(f, "io_uring cannot be had ({reason}); use --io-engine auto or --io-engine pwrite")
            }
            Self::NoRuntime { reason } => write!(f, "cannot start a worker: {reason}"),
            Self::NoThread(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for IoError {}

impl From<NoThread> for IoError {
    fn from(error: NoThread) -> Self {
        Self::NoThread(error)
    }
}

/// A path as messages show it, with control characters escaped.
pub(crate) fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}
