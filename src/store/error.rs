//! A request that failed, as callers and operators see it.

use crate::error::{Class, escaped};
use thiserror::Error;

/// The kinds of failure that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// HTTP 404 for an object, or a file that does not exist: it was deleted after the listing.
    NotFound,
    /// HTTP 404 for the bucket itself.
    NoSuchBucket,
    /// HTTP 412, or an ETag that differs between responses: the object was replaced after the
    /// listing.
    PreconditionFailed,
    /// The object is shorter than the listing said.
    SizeDiffers,
    /// HTTP 401 or 403, or a file system that denies access.
    AccessDenied,
    /// Credentials are missing or unreadable, or have expired and cannot be renewed.
    Credentials,
    /// No answer in time, in all tries.
    Timeout,
    /// The bucket asked for fewer requests, in all tries.
    Throttled,
    /// Connecting, TLS or DNS failed, or a body ended early, after all retries.
    Network,
    /// HTTP 5xx after all retries.
    Server,
    /// HTTP 501: the service does not know a header or a parameter of the request.
    NotImplemented,
    /// The response is malformed XML, or its headers contradict the request.
    InvalidResponse,
    /// The service sends whole objects where a range is asked for.
    RangesIgnored,
    /// The object is in a storage class that a GET cannot read (GLACIER, DEEP_ARCHIVE). Other files may be readable.
    Archived,
    /// An unsupported kind of bucket or request: no retry can succeed.
    Unsupported,
    /// This file cannot be opened or read (EIO, EACCES, a stale NFS handle …). Other files may be
    /// readable.
    Unreadable,
    /// The machine failed, not one file: a directory is unreadable, or no descriptors are left.
    Io,
}

/// A failed request, after all retries. All requests of [`Store`](super::Store) return it: GET, HEAD and LIST of S3,
/// reads of files and directories.
#[derive(Debug, Clone, Error)]
#[error("{}: {}{}", escaped(.what), escaped(.detail), self.notes())]
pub struct StoreError {
    /// How callers are to treat it.
    pub kind: StoreErrorKind,
    /// `GET s3://bucket/key`, `LIST s3://bucket/prefix`, `read /path`.
    pub what: String,
    /// The HTTP status with S3's code and message, or the I/O error.
    pub detail: String,
    /// What the operator of the store asks for (`x-amz-request-id`).
    pub request_id: Option<String>,
    /// What the operator can do, if known.
    pub hint: Option<String>,
    /// Number of requests sent for this operation.
    pub attempts: u32,
}

impl StoreError {
    /// The class that the error log names.
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
            | StoreErrorKind::NotImplemented
            | StoreErrorKind::InvalidResponse
            | StoreErrorKind::RangesIgnored
            | StoreErrorKind::Archived
            | StoreErrorKind::Unsupported => Class::S3Error,
        }
    }

    /// Whether the object was deleted or replaced after the listing. If so, list and plan again
    /// (docs/FORMAT.md, "Deletions race with restores").
    pub fn is_stale_listing(&self) -> bool {
        matches!(self.kind, StoreErrorKind::NotFound | StoreErrorKind::PreconditionFailed | StoreErrorKind::SizeDiffers)
    }

    /// Whether only this file cannot be read. Other files may hold the same transactions.
    pub fn is_unreadable(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unreadable | StoreErrorKind::Archived)
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Timeout | StoreErrorKind::Throttled | StoreErrorKind::Network | StoreErrorKind::Server
        )
    }

    fn notes(&self) -> String {
        let mut notes = String::new();
        if let Some(id) = &self.request_id {
            notes += &format!(" (request id {})", escaped(id));
        }
        if self.attempts > 1 {
            notes += &format!(" after {} attempts", self.attempts);
        }
        if let Some(hint) = &self.hint {
            notes += &format!("; {hint}");
        }
        notes
    }
}
