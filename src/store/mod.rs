//! A replica's store: list, get a range, head. `s3` talks to S3-compatible services, `file`
//! reads files. Both speak of objects by their full key: in S3 the key in its bucket, in `file`
//! the absolute path.

mod buffers;
mod etag;
pub mod file;
mod file_body;
pub mod s3;

pub use etag::Etag;

use crate::error::Class;
use crate::telemetry::{Spent, Stage};
use crate::timestamp::Timestamp;
use bytes::Bytes;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    pub key: String,
    pub size: u64,
    pub last_modified: Timestamp,
    pub etag: Option<Etag>,
    /// In a storage class that a GET cannot read (GLACIER, DEEP_ARCHIVE).
    pub archived: bool,
}

/// What to list: keys that begin with `prefix`, after `start_after`, rolled up at `delimiter`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    pub prefix: String,
    pub start_after: Option<String>,
    pub delimiter: Option<char>,
    /// From the page before; None for the first page.
    pub continuation: Option<String>,
}

/// One page of a listing: at most 1,000 keys on S3. Order is not to be trusted (FORMAT §1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    pub objects: Vec<ObjectMeta>,
    pub common_prefixes: Vec<String>,
    /// The token that gets the next page; None at the end.
    pub continuation: Option<String>,
}

/// What HEAD tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub size: u64,
    pub etag: Option<Etag>,
    pub last_modified: Option<Timestamp>,
    /// `x-amz-meta-litestream-timestamp`; for files the mtime is *not* reported here.
    pub litestream_timestamp: Option<Timestamp>,
}

/// A store. Cheap to clone, shared by all workers; the HTTP connections belong to the worker
/// whose [`Http`] is passed in, because a connection pool must not cross runtimes.
#[derive(Debug, Clone)]
pub enum Store {
    S3(Arc<s3::S3>),
    File(file::FileStore),
}

/// A worker's HTTP clients.
pub use s3::Http;

impl Store {
    /// `s3` or `file`, as `-json` reports it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::S3(_) => "s3",
            Self::File(_) => "file",
        }
    }

    /// Whether it holds files, not objects.
    pub fn is_on_disk(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// One page of the listing of `request.prefix`.
    pub async fn list_page(&self, http: &Http, request: &ListRequest) -> Result<ListPage, StoreError> {
        match self {
            Self::S3(s3) => s3.list_page(http, request).await,
            Self::File(file) => {
                let begun = Instant::now();
                let page = file.list_page(request)?;
                http.recorder().record(Stage::List, begun.elapsed());
                Ok(page)
            }
        }
    }

    /// The bytes `range` of `key`, as a stream. The stream yields exactly `range.end -
    /// range.start` bytes or an error: an object that is shorter is an error, a dropped
    /// connection is resumed. With `if_match`, an object that was replaced is
    /// [`StoreErrorKind::Changed`].
    pub async fn get(
        &self,
        http: &Http,
        key: &str,
        range: Range<u64>,
        if_match: Option<&Etag>,
    ) -> Result<Body, StoreError> {
        match self {
            Self::S3(s3) => s3.get(http, key, range, if_match).await.map(|body| Body::S3(Box::new(body))),
            Self::File(file) => {
                let begun = Instant::now();
                let body = file.get(key, range, http.read_buffers())?;
                let mut spent = Spent::new(http.recorder(), Stage::Fetch);
                spent.add(begun.elapsed());
                spent.recorder().record(Stage::FirstByte, begun.elapsed());
                Ok(Body::File(body, spent))
            }
        }
    }

    pub async fn head(&self, http: &Http, key: &str) -> Result<Head, StoreError> {
        match self {
            Self::S3(s3) => s3.head(http, key).await,
            Self::File(file) => file.head(key),
        }
    }
}

/// The body of a GET.
pub enum Body {
    S3(Box<s3::S3Body>),
    File(file_body::FileBody, Spent),
}

impl Body {
    /// The next bytes, as they came off the wire (tens of KiB); None at the end of the range.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::S3(body) => body.chunk().await,
            Self::File(body, spent) => {
                let begun = Instant::now();
                let chunk = body.chunk()?;
                if chunk.is_some() {
                    spent.add(begun.elapsed());
                    if body.is_whole() {
                        spent.done();
                    }
                }
                Ok(chunk)
            }
        }
    }

    /// Whether it is read from a disk: when a chunk is asked for and not before, into memory of the
    /// chunk's size.
    pub fn is_on_disk(&self) -> bool {
        matches!(self, Self::File(..))
    }

    /// The entity tag that the response carried.
    pub fn etag(&self) -> Option<&Etag> {
        match self {
            Self::S3(body) => body.etag(),
            Self::File(..) => None,
        }
    }

    /// `x-amz-meta-litestream-timestamp` of the response.
    pub fn litestream_timestamp(&self) -> Option<Timestamp> {
        match self {
            Self::S3(body) => body.litestream_timestamp(),
            Self::File(..) => None,
        }
    }
}

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
