//! Why a database was not restored.

use crate::commit::CommitError;
use crate::error::{Class, escaped};
use crate::io::IoError;
use crate::ltx::{FormatError, Pgno};
use crate::plan::PlanError;
use crate::store::{StoreError, StoreErrorKind};
use crate::timestamp::Timestamp;
use std::fmt;

/// Why a restore failed. Nothing was published then, and nothing is left on disk.
#[derive(Debug)]
pub enum RestoreError {
    Plan(PlanError),
    /// A file's content is wrong, and no other chain of files reaches the target.
    File {
        key: String,
        error: FormatError,
    },
    /// The files of a plan contradict each other, and no other chain of files reaches the target.
    Chain {
        key: String,
        error: ChainError,
    },
    /// A file cannot be read to its end, and no other chain of files reaches the target.
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
    /// A page map does not fit a quarter of the memory budget.
    Memory {
        needed_bytes: u64,
        budget_bytes: u64,
    },
    /// All files were deleted during the restore.
    Vanished,
    /// Files of the plan were replaced or deleted `attempts` times during the restore.
    Restless {
        attempts: u32,
        last: StoreError,
    },
    /// A case that cannot happen has happened: `what` is wrong.
    Internal {
        what: &'static str,
    },
    /// The run was cancelled.
    Cancelled,
}

/// How a file contradicts the other files of its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainError {
    PageSize {
        expected: u32,
        found: u32,
    },
    /// No file holds this page, which lies within the database.
    PageMissing {
        pgno: Pgno,
        commit: u32,
    },
    /// The header promises more pages than files of this size can hold.
    Commit {
        commit: u32,
        planned_bytes: u64,
    },
    /// The checksum that the file expects before it differs from the one after the file before it.
    PreApply {
        expected: u64,
        found: u64,
    },
    /// The checksum of the restored pages differs from the one in the last file's trailer.
    Database {
        expected: u64,
        found: u64,
    },
    /// The header's time is not before the target's (docs/FORMAT.md, "Times"): the order of the files
    /// or their LastModified was wrong.
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
            // The file is shorter than a new listing says.
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

    /// The key of the damaged file, if the error is about one.
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
            // The store's error names the file.
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

/// Why a plan could not be executed. `file` is an index into the plan.
#[derive(Debug)]
pub(super) enum ExecutionFailure {
    /// The file is damaged: to be planned again without it.
    Damaged { file: usize, error: FormatError },
    /// The file contradicts others: to be planned again without it.
    Chain { file: usize, error: ChainError },
    /// The file is too new, so a time was guessed wrong: to be planned again with all times read.
    TooNew { file: usize, error: ChainError },
    /// The file cannot be read: to be planned again without it.
    Unreadable { file: usize, error: StoreError },
    /// The file was deleted or replaced: to be listed again.
    Stale { file: usize, error: StoreError },
    /// The restore fails.
    Fatal(RestoreError),
    /// Another part of the same restore has failed, or the run was cancelled.
    Stopped,
}

impl ExecutionFailure {
    /// [`RestoreError::Internal`].
    pub(super) const fn bug(what: &'static str) -> Self {
        Self::Fatal(RestoreError::Internal { what })
    }

    /// What a failed request for file `file` of the plan means for the restore.
    pub(super) fn of_request(file: usize, error: StoreError) -> Self {
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
