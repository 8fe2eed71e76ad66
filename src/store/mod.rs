//! A replica's store: list objects, get a range, read metadata. `s3` talks to S3-compatible
//! services, `file` reads files. Both name an object by its full key: in S3 the key in its bucket,
//! in `file` the absolute path.

mod buffers;
mod error;
mod etag;
pub mod file;
mod file_body;
mod listing_bound;
mod object;
pub mod s3;

pub use error::{StoreError, StoreErrorKind};
pub use etag::Etag;
pub use listing_bound::ListingBound;
pub use object::{Head, ListPage, ListRequest, ObjectMeta};
/// A worker's HTTP clients.
pub use s3::Http;

use crate::telemetry::{Spent, Stage};
use crate::timestamp::Timestamp;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// A store. Cheap to clone and shared by all workers. HTTP connections belong to the worker whose
/// [`Http`] is passed in, because a connection pool must not be used from two runtimes.
#[derive(Debug, Clone)]
pub enum Store {
    S3(Arc<s3::S3>),
    File(file::FileStore),
}

impl Store {
    /// The name in `-json`: `s3` or `file`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::S3(_) => "s3",
            Self::File(_) => "file",
        }
    }

    /// Whether the store is a file system.
    pub fn is_on_disk(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Whether the store has sent whole objects where ranges were asked for. A large file is then read from its
    /// beginning to its end.
    pub fn ignores_ranges(&self) -> bool {
        matches!(self, Self::S3(s3) if s3.ignores_ranges())
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
    /// range.start` bytes or an error. A shorter object is an error; a dropped connection is
    /// resumed. With `if_match`, an object that was replaced gives
    /// [`StoreErrorKind::PreconditionFailed`].
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
    /// The next bytes, as received (tens of KiB); None at the end of the range.
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

    /// Whether the body is read from a disk. If so, each chunk is read when it is requested, and
    /// memory is allocated for that chunk only.
    pub fn is_on_disk(&self) -> bool {
        matches!(self, Self::File(..))
    }

    /// The entity tag of the response.
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
