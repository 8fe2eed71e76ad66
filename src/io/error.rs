//! The errors of reading, writing and syncing an output file.

#![allow(missing_docs, reason = "the text in #[error] says what each field is")]

use crate::error::{BUG, Class, escaped};
use crate::process::threads::NoThread;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A failed operation on an output file, or a writer that is not available. The buffers and writers of this module return
/// it while they are made ([`Io::new`](super::Io::new), [`probe`](super::probe)) and for each read, write and sync.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IoError {
    /// The kernel refused the operation `what` (`write`, `read`, `sync`, …) on `path`.
    #[error("{what} {}: {}{}", shown(.path), text_of(*.errno), place(*.at, *.len))]
    Refused { what: &'static str, path: PathBuf, at: Option<u64>, len: Option<u64>, errno: Errno },
    /// The file ends before `at + len`.
    #[error("read {}: the file ends before offset {}", shown(.path), at.saturating_add(*.len))]
    Short { path: PathBuf, at: u64, len: u64 },
    /// The kernel accepted a write and wrote no bytes: a defect of the file system.
    #[error("{what} {}: no progress at offset {at} ({len} bytes left)", shown(.path))]
    NoProgress { what: &'static str, path: PathBuf, at: u64, len: u64 },
    /// A case that cannot happen has happened: `what` is wrong.
    #[error("{BUG}: {what} at offset {at} ({len} bytes): {}", shown(.path))]
    Internal { what: &'static str, path: PathBuf, at: u64, len: u64 },
    /// `--io-engine uring` was given, and io_uring is not available.
    #[error("io_uring cannot be had ({reason}); use --io-engine auto or --io-engine pwrite")]
    NoUring { reason: String },
    /// The async runtime or the write buffers of a worker could not be created.
    #[error("cannot start a worker: {reason}")]
    NoRuntime { reason: String },
    /// A necessary thread could not be started.
    #[error(transparent)]
    NoThread(#[from] NoThread),
}

impl IoError {
    pub(crate) fn refused(what: &'static str, path: &Path, errno: Errno) -> Self {
        Self::Refused { what, path: path.to_owned(), at: None, len: None, errno }
    }

    pub(crate) fn refused_at(what: &'static str, path: &Path, at: u64, len: usize, errno: Errno) -> Self {
        Self::Refused { what, path: path.to_owned(), at: Some(at), len: Some(len as u64), errno }
    }

    /// The class that the error log names.
    pub fn class(&self) -> Class {
        match self {
            Self::Refused { errno, .. } => class_of(*errno),
            Self::NoUring { .. } => Class::Config,
            Self::Short { .. }
            | Self::NoProgress { .. }
            | Self::Internal { .. }
            | Self::NoRuntime { .. }
            | Self::NoThread(_) => Class::Io,
        }
    }
}

/// The class of an error number from the kernel. EFBIG (file too large) does not count as a full disk: freeing space
/// would not help, and the smaller databases of a fleet can still be restored.
pub(crate) fn class_of(errno: Errno) -> Class {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Class::DiskFull,
        _ => Class::Io,
    }
}

/// The system's text for `errno`, in lower case and without the number that Rust's standard library appends.
pub(crate) fn text_of(errno: Errno) -> String {
    if errno == Errno::FBIG {
        return match getrlimit(Resource::Fsize).current {
            Some(limit) => format!("file size limit (ulimit -f) of {limit} bytes reached"),
            None => "the file system holds no file of that size".to_owned(),
        };
    }
    if errno == Errno::DQUOT {
        return "disk quota exceeded (the quota, not the disk)".to_owned();
    }
    let text = std::io::Error::from(errno).to_string();
    match text.find(" (os error") {
        Some(end) => text.get(..end).unwrap_or(&text).to_lowercase(),
        None => text,
    }
}

/// The text of a path in messages, with control characters escaped.
pub(crate) fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

fn place(at: Option<u64>, len: Option<u64>) -> String {
    let at = at.map_or_else(String::new, |at| format!(" at offset {at}"));
    let len = len.map_or_else(String::new, |len| format!(" ({len} bytes)"));
    at + &len
}
