//! Why a database was not restored.

use crate::commit::CommitError;
use crate::error::{Class, escaped};
use crate::io::IoError;
use crate::ltx::{FormatError, Pgno};
use crate::plan::PlanError;
use crate::store::{StoreError, StoreErrorKind};
use crate::timestamp::Timestamp;
use std::fmt;

/// A failed restore: nothing was published and nothing is left behind.
#[derive(Debug)]
pub enum RestoreError {
    Plan(PlanError),
    /// A file's content is wrong, and no other chain of files gives the target.
    File {
        key: String,
        error: FormatError,
    },
    /// Files of one plan contradict each other.
    Chain {
        key: String,
        error: ChainError,
    },
    /// A file cannot be read to its end, and no other chain of files gives the target.
    Unreadable {
        key: String,
        error: Box<StoreError>,
    },
    Store(StoreError),
    Commit(CommitError),
    Io(IoError),
    /// SQLite found damage in the restored database.
    Damaged {
        findings: Vec<String>,
    },
    /// A page map would not fit the memory budget.
    Memory {
        needed_bytes: u64,
        budget_bytes: u64,
    },
    /// There were backups when the restore began, and then none.
    Vanished,
    /// The replica kept changing under the restore.
    Restless {
        attempts: u32,
        last: StoreError,
    },
    /// A case that cannot happen has happened.
    Internal {
        what: &'static str,
    },
    Cancelled,
}

/// What is wrong with a file in the company of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainError {
    PageSize {
        expected: u32,
        found: u32,
    },
    /// A page within the database that no file holds.
    PageMissing {
        pgno: Pgno,
        commit: u32,
    },
    /// More pages than files of this size can hold.
    Commit {
        commit: u32,
        planned_bytes: u64,
    },
    /// The database's checksum before this file is not the one after the file before it.
    PreApply {
        expected: u64,
        found: u64,
    },
    /// The restored pages' checksum is not the one that the last file states.
    Database {
        expected: u64,
        found: u64,
    },
    /// The header's time is not before the target's (FORMAT §3): a clock or a listing lies.
    NotBefore {
        target: Timestamp,
        found: Timestamp,
    },
}

impl ChainError {
    const fn class(&self) -> Class {
        match self {
            Self::PreApply { .. } | Self::Database { .. } => Class::ChecksumMismatch,
            _ => Class::Malformed,
        }
    }
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageSize { expected, found } => {
                write!(f, "page size {found} at offset 8, the newest file of the plan has {expected}")
            }
            Self::PageMissing { pgno, commit } => {
                write!(f, "page {pgno} of {commit} is in no file of the plan")
            }
            Self::Commit { commit, planned_bytes } => write!(
                f,
                "a database of {commit} pages (header, offset 12) cannot be held in the plan's {planned_bytes} bytes"
            ),
            Self::PreApply { expected, found } => write!(
                f,
                "pre-apply checksum {found:016x} at offset 40, but the file before leaves the database at {expected:016x}"
            ),
            Self::Database { expected, found } => write!(
                f,
                "post-apply checksum {expected:016x} in the trailer, but the restored pages have {found:016x}"
            ),
            Self::NotBefore { target, found } => {
                write!(f, "header time {found} is not before {target}")
            }
        }
    }
}

impl RestoreError {
    pub fn class(&self) -> Class {
        match self {
            Self::Plan(e) => e.class(),
            Self::File { error, .. } => error.class(),
            Self::Chain { error, .. } => error.class(),
            // Shorter than a fresh listing says.
            Self::Unreadable { error, .. } if error.kind == StoreErrorKind::SizeDiffers => Class::Truncated,
            Self::Unreadable { error, .. } => error.class(),
            Self::Store(e) => e.class(),
            Self::Vanished => Class::BackupNotFound,
            Self::Restless { .. } => Class::S3Error,
            Self::Commit(e) => e.class(),
            Self::Io(e) => e.class(),
            Self::Internal { .. } => Class::Io,
            Self::Damaged { .. } => Class::IntegrityCheck,
            Self::Memory { .. } => Class::Config,
            Self::Cancelled => Class::Cancelled,
        }
    }

    /// The file that is damaged, where one is.
    pub fn damaged_key(&self) -> Option<&str> {
        match self {
            Self::File { key, .. } | Self::Chain { key, .. } | Self::Unreadable { key, .. } => Some(key),
            _ => None,
        }
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(e) => e.fmt(f),
            Self::File { key, error } => write!(f, "{}: {}: {error}", error.class(), escaped(key)),
            Self::Chain { key, error } => write!(f, "{}: {}: {error}", error.class(), escaped(key)),
            // The error names the file.
            Self::Unreadable { error, .. } => write!(f, "{}: {error}", self.class()),
            Self::Store(e) => e.fmt(f),
            Self::Commit(e) => e.fmt(f),
            Self::Io(e) => e.fmt(f),
            Self::Damaged { findings } => {
                f.write_str("integrity check failed, nothing was published: ")?;
                f.write_str(&escaped(&findings.join("; ")))
            }
            Self::Memory { needed_bytes, budget_bytes } => write!(
                f,
                "a page map of {needed_bytes} bytes does not fit the memory budget, of which {budget_bytes} bytes are for such; raise --memory"
            ),
            Self::Vanished => f.write_str("all backup files were deleted while restoring"),
            Self::Restless { attempts, last } => write!(
                f,
                "files of the plan were replaced or deleted while restoring, {attempts} times in a row; last: {last}"
            ),
            Self::Internal { what } => write!(f, "this is a bug in Hydrant, please report: {what}"),
            Self::Cancelled => f.write_str("stopped before it was complete; nothing was published"),
        }
    }
}

impl std::error::Error for RestoreError {}

impl From<PlanError> for RestoreError {
    fn from(e: PlanError) -> Self {
        Self::Plan(e)
    }
}
impl From<StoreError> for RestoreError {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}
impl From<CommitError> for RestoreError {
    fn from(e: CommitError) -> Self {
        Self::Commit(e)
    }
}
impl From<IoError> for RestoreError {
    fn from(e: IoError) -> Self {
        Self::Io(e)
    }
}

/// Which file of a plan (index into it) a failure speaks of, or none.
#[derive(Debug)]
pub enum ExecutionFailure {
    /// File `file` is damaged: plan again without it.
    Damaged {
        file: usize,
        error: FormatError,
    },
    Chain {
        file: usize,
        error: ChainError,
    },
    /// The plan's times were guessed wrong: plan again, looking at all.
    TooNew {
        file: usize,
        error: ChainError,
    },
    /// File `file` cannot be read: plan again without it.
    Unreadable {
        file: usize,
        error: StoreError,
    },
    /// File `file` is gone, or is not the one that was listed: list again.
    Stale {
        file: usize,
        error: StoreError,
    },
    Fatal(RestoreError),
    /// Another part of the same restore has failed, or the run was cancelled.
    Stopped,
}

impl ExecutionFailure {
    /// A case that cannot happen has happened: `what` is wrong.
    pub const fn bug(what: &'static str) -> Self {
        Self::Fatal(RestoreError::Internal { what })
    }

    /// What a failed request for the plan's file `file` means.
    pub fn of_request(file: usize, error: StoreError) -> Self {
        match error {
            error if error.is_stale_listing() => Self::Stale { file, error },
            error if error.is_unreadable() => Self::Unreadable { file, error },
            error => Self::Fatal(error.into()),
        }
    }
}

impl From<RestoreError> for ExecutionFailure {
    fn from(e: RestoreError) -> Self {
        Self::Fatal(e)
    }
}
impl From<CommitError> for ExecutionFailure {
    fn from(e: CommitError) -> Self {
        Self::Fatal(e.into())
    }
}
impl From<IoError> for ExecutionFailure {
    fn from(e: IoError) -> Self {
        Self::Fatal(e.into())
    }
}
