//! Why a standby no longer follows.

#![allow(missing_docs, reason = "the text in #[error] says what each variant and field is")]

use crate::error::{Class, escaped};
use crate::follow::standby::StandbyError;
use crate::ltx::{PageSize, Pgno, Txid};
use crate::plan::continuity::OtherWriter;
use crate::restore::RestoreError;
use std::path::PathBuf;
use thiserror::Error;

/// Why a standby stopped to follow (docs/FOLLOW.md, "When it stops"). The database is whole, at the TXID in its sidecar or
/// a newer one.
#[derive(Debug, Error)]
pub enum FollowError {
    #[error(
        "the replica ends at txid {}, before this standby's {at}: it was taken back or is another one",
        .newest.map_or_else(|| "none".to_owned(), |newest| newest.to_string())
    )]
    Behind { at: Txid, newest: Option<Txid> },
    #[error("another program writes to this replica: {error}")]
    OtherWriter { at: Txid, error: OtherWriter },
    #[error("the page size changes from {} to {} after txid {at}, which cannot be applied in place", .old.get(), .new.get())]
    PageSize { at: Txid, old: PageSize, new: PageSize },
    #[error("{key} empties the database (0 pages), which cannot be applied in place")]
    Empty { at: Txid, key: String },
    #[error("page {pgno} of {commit}, by which the database grows after txid {at}, is in no file")]
    PageMissing { at: Txid, pgno: Pgno, commit: u32 },
    /// Its TXID counts for another replica alone.
    #[error(
        "this is a standby of {named}, and not of {asked}, as {} says; if the replica was moved there, remove that file",
        escaped(&.file.to_string_lossy())
    )]
    OtherSource { file: PathBuf, named: String, asked: String },
    #[error("{} appeared: the database is replicated from here", escaped(&.path.to_string_lossy()))]
    Primary { path: PathBuf },
    #[error("{error} (twice in a row)")]
    DiskFull { error: StandbyError },
    #[error(transparent)]
    Standby(#[from] StandbyError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("cannot write {}: {error}", escaped(&.path.to_string_lossy()))]
    Sidecar { path: PathBuf, error: std::io::Error },
}

impl FollowError {
    /// The failure for a case that cannot happen.
    pub(super) const fn internal(what: &'static str) -> Self {
        Self::Restore(RestoreError::Internal { what })
    }

    /// The class of the failure.
    pub fn class(&self) -> Class {
        match self {
            Self::Behind { .. } => Class::TargetNotReachable,
            Self::OtherWriter { .. } | Self::PageMissing { .. } | Self::Empty { .. } => Class::Malformed,
            Self::PageSize { .. } | Self::OtherSource { .. } => Class::Config,
            Self::Primary { .. } => Class::InUse,
            Self::DiskFull { .. } => Class::DiskFull,
            Self::Standby(error) => error.class(),
            Self::Restore(error) => error.class(),
            Self::Sidecar { error, .. } if error.raw_os_error() == Some(libc::ENOSPC) => Class::DiskFull,
            Self::Sidecar { .. } => Class::Io,
        }
    }

    /// Whether the database must not be taken up by another follower: two programs have written to the replica or to the
    /// standby, and the next follower could not see that.
    pub const fn ends_the_standby(&self) -> bool {
        matches!(
            self,
            Self::OtherWriter { .. }
                | Self::Behind { newest: Some(_), .. }
                | Self::Standby(StandbyError::ChangedByOther { .. } | StandbyError::Size { .. })
        )
    }

    /// Whether the same standby may go on later, without anybody restoring it: the disk was full, or another program had
    /// it open.
    pub const fn may_pass(&self) -> bool {
        let is_final = self.ends_the_standby() || self.needs_new_restore();
        !is_final
            && !matches!(
                self,
                Self::Primary { .. } | Self::Standby(StandbyError::NoDbPage | StandbyError::NotUtf8 { .. })
            )
    }

    /// Whether a new restore (`-force`) helps.
    pub const fn needs_new_restore(&self) -> bool {
        match self {
            Self::Behind { .. }
            | Self::OtherWriter { .. }
            | Self::PageSize { .. }
            | Self::Empty { .. }
            | Self::PageMissing { .. }
            | Self::OtherSource { .. } => true,
            Self::Standby(error) => {
                matches!(error, StandbyError::ChangedByOther { .. } | StandbyError::Size { .. })
            }
            _ => false,
        }
    }
}

impl StandbyError {
    /// The class of the failure.
    pub fn class(&self) -> Class {
        match self {
            Self::NoDbPage | Self::NotUtf8 { .. } => Class::Config,
            Self::ChangedByOther { .. } | Self::Locked { .. } => Class::InUse,
            Self::DiskFull { .. } => Class::DiskFull,
            Self::NotWal { .. } | Self::Size { .. } | Self::Sqlite { .. } => Class::Io,
        }
    }
}
