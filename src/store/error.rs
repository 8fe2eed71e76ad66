//! A request that failed, as callers and operators see it.

use crate::error::Class;
use std::fmt;

/// What went wrong with a request, as far as the caller must know to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// 404 on an object: it was deleted since it was listed.
    NotFound,
    NoSuchBucket,
    /// 412, or an ETag that differs between responses: it was replaced since it was listed.
    PreconditionFailed,
    /// The object is not as long as the listing said.
    SizeDiffers,
    AccessDenied,
    /// Credentials missing, unreadable, expired beyond refresh.
    Credentials,
    Timeout,
    Throttled,
    /// Connect, TLS, DNS, a body cut short beyond the retries.
    Network,
    /// 5xx beyond the retries.
    Server,
    /// An answer that is none (XML malformed, headers that contradict the request).
    InvalidResponse,
    /// Archived storage class, unsupported bucket kind: no try will do.
    Unsupported,
    /// This file cannot be opened or read (EIO, EACCES, a stale NFS handle …). Others can be.
    Unreadable,
    /// Local files could not be read, whatever their content: a directory, no descriptors left.
    Io,
}

/// A failed request, after all retries.
#[derive(Debug, Clone)]
pub struct StoreError {
    pub kind: StoreErrorKind,
    /// `GET s3://bucket/key`, `LIST s3://bucket/prefix`, `read /path`.
    pub what: String,
    /// The facts: status, S3's code and message, or the I/O error.
    pub detail: String,
    pub request_id: Option<String>,
    /// What the operator can do, where that is known.
    pub hint: Option<String>,
    /// How many requests were sent for this.
    pub attempts: u32,
}

impl StoreError {
    pub fn class(&self) -> Class {
        match self.kind {
            StoreErrorKind::AccessDenied | StoreErrorKind::Credentials => Class::AccessDenied,
            StoreErrorKind::Timeout => Class::S3Timeout,
            StoreErrorKind::Throttled => Class::Throttled,
            StoreErrorKind::Unreadable | StoreErrorKind::Io => Class::Io,
            StoreErrorKind::NotFound
            | StoreErrorKind::NoSuchBucket
            | StoreErrorKind::PreconditionFailed
            | StoreErrorKind::SizeDiffers
            | StoreErrorKind::Network
            | StoreErrorKind::Server
            | StoreErrorKind::InvalidResponse
            | StoreErrorKind::Unsupported => Class::S3Error,
        }
    }

    /// The object is gone or another: list again, plan again (FORMAT §3, "Deletions race").
    pub fn is_stale_listing(&self) -> bool {
        matches!(self.kind, StoreErrorKind::NotFound | StoreErrorKind::PreconditionFailed | StoreErrorKind::SizeDiffers)
    }

    /// One file is damaged, or nobody may read it: other files may hold the same.
    pub fn is_unreadable(&self) -> bool {
        self.kind == StoreErrorKind::Unreadable
    }

    /// Whether the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Timeout | StoreErrorKind::Throttled | StoreErrorKind::Network | StoreErrorKind::Server
        )
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", crate::error::escaped(&self.what), crate::error::escaped(&self.detail))?;
        if let Some(id) = &self.request_id {
            write!(f, " (request id {})", crate::error::escaped(id))?;
        }
        if self.attempts > 1 {
            write!(f, " after {} attempts", self.attempts)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for StoreError {}
