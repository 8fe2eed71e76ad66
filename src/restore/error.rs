//! Why a database was not restored.

#![allow(missing_docs, reason = "the text in #[error] says what each variant and field is")]

use crate::commit::CommitError;
use crate::error::{BUG, Class, escaped};
use crate::io::IoError;
use crate::ltx::{FormatError, Pgno};
use crate::plan::PlanError;
use crate::restore::nothing_found::NothingFound;
use crate::store::{StoreError, StoreErrorKind};
use crate::timestamp::Timestamp;
use crate::wal::WalError;
use std::path::PathBuf;
use thiserror::Error;

/// Why a restore failed. Nothing was published then, and nothing is left on disk. [`restore`](super::restore()),
/// [`discard`](super::discard()) and [`plan_database`](super::plan_database) return it for one database.
#[derive(Debug, Error)]
pub enum RestoreError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Nothing(#[from] NothingFound),
    /// A file's content is wrong, and no other chain of files reaches the target.
    #[error("{}: {}: {error}", .error.class(), escaped(.key))]
    File { key: String, error: FormatError },
    /// The content of a file of Litestream 0.3 is wrong, and nothing stands in for it.
    #[error("{}: {}: {error}", .error.class(), escaped(.key))]
    Wal { key: String, error: WalError },
    /// A snapshot of Litestream 0.3 holds pages that are newer than the WAL, and the WAL that they came from was never
    /// uploaded (docs/FORMAT-V3.md, "The snapshot that is ahead").
    #[error(
        "integrity check failed, nothing was published: the snapshot {} holds pages of transactions whose WAL was never \
         uploaded, and no older snapshot is there",
        escaped(.key)
    )]
    Ahead { key: String },
    /// The files of a plan contradict each other, and no other chain of files reaches the target.
    #[error("{}: {}: {error}", .error.class(), escaped(.key))]
    Chain { key: String, error: ChainError },
    /// A file cannot be read to its end, and no other chain of files reaches the target.
    // The store's error names the file.
    #[error("{}: {error}", unreadable_class(.error))]
    Unreadable { key: String, error: Box<StoreError> },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Io(#[from] IoError),
    /// SQLite found damage in the restored database.
    #[error("integrity check failed, nothing was published: {}", escaped(&.findings.join("; ")))]
    Damaged { findings: Vec<String> },
    /// The database cannot become a standby now.
    #[error("cannot follow {}: {why}", escaped(&.path.to_string_lossy()))]
    Standby { path: PathBuf, why: String },
    /// A standby cannot follow files of Litestream 0.3.
    #[error(
        "the replica has only files of Litestream 0.3, which have no TXIDs; follow mode needs Litestream 0.5 or newer"
    )]
    OnlyV3,
    /// A page map does not fit a quarter of the memory budget.
    #[error(
        "a page map of {needed_bytes} bytes does not fit the memory budget, of which {budget_bytes} bytes are for \
         such; raise --memory"
    )]
    Memory { needed_bytes: u64, budget_bytes: u64 },
    /// All files were deleted during the restore.
    #[error("all backup files were deleted while restoring")]
    Vanished,
    /// Files of the plan were replaced or deleted `attempts` times during the restore.
    #[error("files of the plan were replaced or deleted while restoring, {attempts} times in a row; last: {last}")]
    Restless { attempts: u32, last: StoreError },
    /// A case that cannot happen has happened: `what` is wrong.
    #[error("{BUG}: {what}")]
    Internal { what: &'static str },
    /// The run was cancelled.
    #[error("stopped before it was complete; nothing was published")]
    Cancelled,
}

/// How a file contradicts the other files of its plan. Found while a plan is executed: the restore plans again without
/// the file, and gives up with [`RestoreError::Chain`] if no other chain of files reaches the target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChainError {
    #[error("page size {found} at offset 8, the newest file of the plan has {expected}")]
    PageSize { expected: u32, found: u32 },
    /// No file holds this page, which lies within the database.
    #[error("page {pgno} of {commit} is in no file of the plan")]
    PageMissing { pgno: Pgno, commit: u32 },
    /// The WAL has another page size than newer WAL of the same generation.
    #[error("page size {found} in the WAL header, newer WAL of this generation has {expected}")]
    WalPageSize { expected: u32, found: u32 },
    /// The snapshot has another page size than the WAL.
    #[error("page size {found} at offset 16, the WAL of this generation has {expected}")]
    SnapshotPageSize { expected: u32, found: u32 },
    /// The snapshot is no SQLite database.
    #[error("not a SQLite database: it begins with {found:02x?}")]
    NotADatabase { found: Vec<u8> },
    /// The snapshot ends inside a page.
    #[error("the database ends inside a page: {bytes} bytes, pages have {page_size}")]
    HalfPage { bytes: u64, page_size: u32 },
    /// A piece of WAL begins before the one before it ends.
    #[error("the WAL ends at offset {ended}, but the next piece begins at {offset}: they overlap")]
    Overlap { offset: u64, ended: u64 },
    /// The header promises more pages than files of this size can hold.
    #[error("a database of {commit} pages (header, offset 12) cannot be held in the plan's {planned_bytes} bytes")]
    Commit { commit: u32, planned_bytes: u64 },
    /// The checksum that the file expects before it differs from the one after the file before it.
    #[error("pre-apply checksum {found:016x} at offset 40, but the file before leaves the database at {expected:016x}")]
    PreApply { expected: u64, found: u64 },
    /// The checksum of the restored pages differs from the one in the last file's trailer.
    #[error("post-apply checksum {expected:016x} in the trailer, but the restored pages have {found:016x}")]
    Database { expected: u64, found: u64 },
    /// The header's time is not before the target's (docs/FORMAT.md, "Times"): the order of the files
    /// or their LastModified was wrong.
    #[error("header time {found} is not before {target}")]
    NotBefore { target: Timestamp, found: Timestamp },
}

impl ChainError {
    const fn class(&self) -> Class {
        match self {
            Self::PreApply { .. } | Self::Database { .. } => Class::ChecksumMismatch,
            _ => Class::Malformed,
        }
    }
}

impl RestoreError {
    /// The class that the error log names.
    pub fn class(&self) -> Class {
        match self {
            Self::Plan(e) => e.class(),
            Self::File { error, .. } => error.class(),
            Self::Chain { error, .. } => error.class(),
            Self::Wal { error, .. } => error.class(),
            Self::Ahead { .. } => Class::IntegrityCheck,
            Self::Unreadable { error, .. } => unreadable_class(error),
            Self::Store(e) => e.class(),
            Self::Vanished | Self::Nothing(_) => Class::BackupNotFound,
            Self::Restless { .. } => Class::S3Error,
            Self::Commit(e) => e.class(),
            Self::Io(e) => e.class(),
            Self::Internal { .. } => Class::Io,
            Self::Damaged { .. } => Class::IntegrityCheck,
            Self::OnlyV3 | Self::Memory { .. } => Class::Config,
            Self::Standby { .. } => Class::InUse,
            Self::Cancelled => Class::Cancelled,
        }
    }
}

/// The class of a file that cannot be read to its end.
fn unreadable_class(error: &StoreError) -> Class {
    match error.kind {
        // The file is shorter than a new listing says.
        StoreErrorKind::SizeDiffers => Class::Truncated,
        _ => error.class(),
    }
}

/// Why a plan could not be executed. `file` is an index into the plan.
#[derive(Debug)]
pub(super) enum ExecutionFailure {
    /// The file is damaged: to be planned again without it.
    Damaged { file: usize, error: FormatError },
    /// The file contradicts others: to be planned again without it.
    Chain { file: usize, error: ChainError },
    /// A file of Litestream 0.3 is damaged.
    Wal { file: usize, error: WalError },
    /// WAL is missing before this file: to be listed again before this is said.
    WalGap { file: usize, error: PlanError },
    /// The snapshot of Litestream 0.3 holds pages that are newer than the WAL. `through` is the number of frames of its
    /// index that would have to be applied, if they are known.
    SnapshotAhead { through: Option<u64> },
    /// The file is too new, so a time was guessed wrong: to be planned again with all times read.
    TooNew { file: usize, error: ChainError },
    /// The file cannot be read: to be planned again without it.
    Unreadable { file: usize, error: StoreError },
    /// The plan is to be executed once more, because of this file. What arrived of it is wrong, and which bytes are is not
    /// known; or the store does not send ranges of it. If the plan was executed once more for it before, `failure`
    /// counts.
    Again { file: usize, failure: Box<ExecutionFailure> },
    /// The file was deleted or replaced: to be listed again.
    Stale { file: usize, error: StoreError },
    /// Several files are at fault. Each failure is about one of them ([`ExecutionFailure::file_at_fault`]).
    Several(Vec<ExecutionFailure>),
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

    /// The file and what is wrong with it, if the failure is about its content. A bit that is flipped on the way from a
    /// bucket looks the same.
    pub(super) fn wrong_content(&self) -> Option<(usize, &dyn std::fmt::Display)> {
        match self {
            Self::Damaged { file, error } => Some((*file, error)),
            Self::Chain { file, error } => Some((*file, error)),
            Self::Wal { file, error } => Some((*file, error)),
            _ => None,
        }
    }

    /// The file that cannot be used, if another plan can do without it.
    pub(super) const fn file_at_fault(&self) -> Option<usize> {
        match self {
            Self::Damaged { file, .. }
            | Self::Chain { file, .. }
            | Self::Wal { file, .. }
            | Self::WalGap { file, .. }
            | Self::Unreadable { file, .. } => Some(*file),
            _ => None,
        }
    }

    /// What a failed request for file `file` of the plan means for the restore.
    pub(super) fn of_request(file: usize, error: StoreError) -> Self {
        match error {
            error if error.is_stale_listing() => Self::Stale { file, error },
            error if error.is_unreadable() => Self::Unreadable { file, error },
            // The store knows it from now on, so the next execution does without ranges.
            error if error.kind == StoreErrorKind::RangesIgnored => {
                Self::Again { file, failure: Box::new(Self::Fatal(error.into())) }
            }
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
