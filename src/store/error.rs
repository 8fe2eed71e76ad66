//! Error of a failed request to a store, as callers and operators see it.

use crate::error::{Class, escaped};
use thiserror::Error;

/// Kinds of failures that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// HTTP 404 for an object, or a file that does not exist. The object was deleted after the listing.
    NotFound,
    /// HTTP 404 for the bucket itself: the bucket does not exist.
    NoSuchBucket,
    /// HTTP 412, or an ETag that differs between two responses. The object was replaced after the listing.
    PreconditionFailed,
    /// The object is shorter than the listing said (HTTP 416, for example).
    SizeDiffers,
    /// HTTP 401 or 403, or the file system denies access.
    AccessDenied,
    /// Credentials are missing, cannot be read, or have expired and cannot be renewed.
    Credentials,
    /// No response arrived in time, in all attempts.
    Timeout,
    /// An operation made no progress for as long as is allowed (`-stall-timeout`), in all attempts.
    Stalled,
    /// The bucket asked for fewer requests (HTTP 503 or 429), in all attempts.
    Throttled,
    /// DNS, connecting or TLS failed, or a response's body ended early, in all attempts.
    Network,
    /// The server answered with HTTP 5xx in all attempts.
    Server,
    /// HTTP 501: the service does not know a header or parameter of the request.
    NotImplemented,
    /// The listing needs more memory than is allowed.
    TooLarge,
    /// The bucket has lost a part of the history that a past state depends on.
    IncompleteHistory,
    /// The response is malformed XML, or its headers contradict the request.
    InvalidResponse,
    /// The service sends whole objects where a range is asked for.
    RangesIgnored,
    /// The object is in a storage class that a GET cannot read (GLACIER, DEEP_ARCHIVE). Other files may be readable.
    Archived,
    /// An unsupported kind of bucket or request: no retry can succeed.
    Unsupported,
    /// This file cannot be opened or read (EIO, EACCES, a stale NFS handle). Other files may be readable.
    Unreadable,
    /// The machine failed and not one file: a directory cannot be read, or no file descriptors are left.
    Io,
}

/// A request to a store that failed, after all retries. Every request of [`Store`](super::Store) returns it:
/// GET, HEAD and LIST on S3, and reads of files and directories.
#[derive(Debug, Clone, Error)]
#[error("{}: {}{}", escaped(.what), escaped(.detail), self.notes())]
pub struct StoreError {
    /// Kind of the failure, which decides what the caller does.
    pub kind: StoreErrorKind,
    /// The request: `GET s3://bucket/key`, `LIST s3://bucket/prefix` or `read /path`.
    pub what: String,
    /// What happened: the HTTP status with S3's code and message, or the I/O error.
    pub detail: String,
    /// Value of the header `x-amz-request-id`, with which the operator of the store can find the request.
    pub request_id: Option<String>,
    /// What the user can do about it, if known.
    pub hint: Option<String>,
    /// Number of requests that were sent for this operation, retries included.
    pub attempts: u32,
}

impl StoreError {
    /// Class of this error in the error log (docs/CLI.md, "Error log classes").
    pub fn class(&self) -> Class {
        match self.kind {
            StoreErrorKind::AccessDenied | StoreErrorKind::Credentials => Class::AccessDenied,
            StoreErrorKind::Timeout | StoreErrorKind::Stalled => Class::S3Timeout,
            StoreErrorKind::Throttled => Class::Throttled,
            StoreErrorKind::Unreadable | StoreErrorKind::Io => Class::Io,
            StoreErrorKind::TooLarge => Class::Config,
            StoreErrorKind::IncompleteHistory => Class::TargetNotReachable,
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

    /// Returns whether the object was deleted or replaced after the listing. The caller should then list and
    /// plan again (docs/FORMAT.md, "Deletions race with restores").
    pub fn is_stale_listing(&self) -> bool {
        matches!(self.kind, StoreErrorKind::NotFound | StoreErrorKind::PreconditionFailed | StoreErrorKind::SizeDiffers)
    }

    /// Returns whether only this file cannot be read. Other files may contain the same transactions.
    pub fn is_unreadable(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unreadable | StoreErrorKind::Archived)
    }

    /// Returns whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Timeout
                | StoreErrorKind::Stalled
                | StoreErrorKind::Throttled
                | StoreErrorKind::Network
                | StoreErrorKind::Server
        )
    }

    /// Returns whether the same request may succeed later, if it was tried again after a stall before or not
    /// (`has_stalled`, which is kept up to date). Whatever has stalled is tried again once, because the wait is long.
    pub fn may_pass_again(&self, has_stalled: &mut bool) -> bool {
        let is_stall = self.kind == StoreErrorKind::Stalled;
        self.is_transient() && !(is_stall && std::mem::replace(has_stalled, true))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_tried_again_once() {
        let error = |kind| StoreError {
            kind,
            what: String::new(),
            detail: String::new(),
            request_id: None,
            hint: None,
            attempts: 1,
        };
        let mut has_stalled = false;
        let mut again = |kind| error(kind).may_pass_again(&mut has_stalled);
        use StoreErrorKind::{Network, Stalled, Unsupported};
        let tries = [Network, Stalled, Network, Unsupported, Stalled, Network].map(&mut again);
        assert_eq!(tries, [true, true, true, false, false, true]);
    }

    #[test]
    fn what_a_service_calls_a_request_is_escaped() {
        let error = StoreError {
            kind: StoreErrorKind::Server,
            what: "GET s3://b/k".to_owned(),
            detail: "HTTP 500".to_owned(),
            request_id: Some("1\u{1b}[2J\n\u{2028}".to_owned()),
            hint: None,
            attempts: 1,
        };
        assert_eq!(error.to_string(), "GET s3://b/k: HTTP 500 (request id 1\\u{1b}[2J\\n\\u{2028})");
    }
}
