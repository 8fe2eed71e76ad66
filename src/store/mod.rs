//! The store of a replica: lists objects, reads byte ranges of objects, reads their metadata. `s3` talks to
//! S3-compatible services, `file` reads local files. Both identify an object by its full key: in S3 the key in
//! its bucket, for files the absolute path.

mod buffers;
mod byte_rate;
mod error;
mod etag;
pub mod file;
mod file_body;
mod listing_bound;
mod object;
mod past;
pub mod s3;
mod versions;

pub use byte_rate::ByteRate;
pub use error::{StoreError, StoreErrorKind};
pub use etag::Etag;
pub use listing_bound::{ListingBound, VersionsBound, elsewhere, endless_versions};
pub use object::{Head, ListPage, ListRequest, ObjectMeta, Unlisted};
pub use past::{ALLOW_HINT, Past, RootOf, future_text, incomplete_text, is_later};
/// A worker's HTTP clients.
pub use s3::Http;
pub use versions::{
    AtTime, CompleteSince, Completeness, NULL_VERSION, VersionData, VersionEntry, VersionMarkers, VersionsPage,
    VersionsRequest,
};

use crate::telemetry::{Spent, Stage};
use crate::timestamp::Timestamp;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// A store of replicas. It is cheap to clone, and all workers share it. HTTP connections belong to the worker
/// whose [`Http`] is passed to each request, because a connection pool must not be used from two async
/// runtimes.
#[derive(Debug, Clone)]
pub enum Store {
    /// A bucket of an S3-compatible service.
    S3(Arc<s3::S3>),
    /// Files on a disk of this machine.
    File(file::FileStore),
    /// A versioned bucket as it was at a time.
    Past(Arc<Past>),
}

impl Store {
    /// Name of the kind of store in `-json`: `s3` or `file`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::S3(_) | Self::Past(_) => "s3",
            Self::File(_) => "file",
        }
    }

    /// How messages name `key`: with its bucket, or as a path.
    pub fn place(&self, key: &str) -> String {
        match self {
            Self::File(_) => key.to_owned(),
            Self::S3(_) | Self::Past(_) => {
                let bucket = self.bucket().map_or("", |s3| s3.bucket());
                format!("s3://{bucket}/{}", key.trim_start_matches('/'))
            }
        }
    }

    /// The bucket. None for files.
    pub fn bucket(&self) -> Option<&Arc<s3::S3>> {
        match self {
            Self::S3(s3) => Some(s3),
            Self::Past(past) => Some(past.bucket()),
            Self::File(_) => None,
        }
    }

    /// The version id with which the object `key` is read. None if the newest is.
    pub fn version_id(&self, key: &str) -> Option<Box<str>> {
        match self {
            Self::Past(past) => past.version_id(key),
            Self::S3(_) | Self::File(_) => None,
        }
    }

    /// Whether the store is a file system.
    pub fn is_on_disk(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Whether the store has sent whole objects where ranges were asked for. A large file is then read from its
    /// beginning to its end.
    pub fn ignores_ranges(&self) -> bool {
        self.bucket().is_some_and(|s3| s3.ignores_ranges())
    }

    /// One page of the listing of `request.prefix`.
    pub async fn list_page(&self, http: &Http, request: &ListRequest) -> Result<ListPage, StoreError> {
        match self {
            Self::S3(s3) => s3.list_page(http, request).await,
            Self::Past(past) => past.list_page(http, request).await,
            Self::File(file) => {
                let begun = Instant::now();
                let page = file.list_page(request)?;
                http.recorder().record(Stage::List, begun.elapsed());
                Ok(page)
            }
        }
    }

    /// Lists all that begins with `prefix`, page by page. Of a directory tree of any size, only one page is in memory.
    ///
    /// # Errors
    /// A request fails after its retries; the listing does not end; it has keys and none begins with `prefix`; or the
    /// first error of `each`.
    pub async fn list_all(
        &self,
        http: &Http,
        prefix: &str,
        each: &mut dyn FnMut(ListPage) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.list_request(http, ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() }, each).await
    }

    /// Lists what follows the key `start_after` among all that begins with `prefix`. Files on disk are all listed.
    ///
    /// # Errors
    /// As [`Self::list_all`].
    pub async fn list_after(
        &self,
        http: &Http,
        prefix: &str,
        start_after: &str,
        each: &mut dyn FnMut(ListPage) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let start_after = Some(start_after.to_owned());
        self.list_request(http, ListRequest { prefix: prefix.to_owned(), start_after, ..ListRequest::default() }, each)
            .await
    }

    async fn list_request(
        &self,
        http: &Http,
        mut request: ListRequest,
        each: &mut dyn FnMut(ListPage) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let prefix = request.prefix.clone();
        let prefix = prefix.as_str();
        let mut bound = ListingBound::default();
        if let Self::File(file) = self {
            let begun = Instant::now();
            file.walk(&request, each)?;
            http.recorder().record(Stage::List, begun.elapsed());
            return Ok(());
        }
        // Ends: `bound` stops a listing without an end.
        loop {
            let mut page = self.list_page(http, &request).await?;
            bound.check(prefix, &page)?;
            let next = page.continuation.take();
            each(page)?;
            match next {
                Some(token) => request.continuation = Some(token),
                None => {
                    bound.finish(prefix)?;
                    return self.check_history(prefix);
                }
            }
        }
    }

    /// To be called once `prefix` is listed: whether the history that the listing is from is complete.
    ///
    /// # Errors
    /// As [`Past::check_history`].
    pub fn check_history(&self, prefix: &str) -> Result<(), StoreError> {
        match self {
            Self::Past(past) => past.check_history(prefix),
            Self::S3(_) | Self::File(_) => Ok(()),
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
            Self::S3(s3) => s3.get(http, key, range, if_match, None).await.map(|body| Body::S3(Box::new(body))),
            Self::Past(past) => past.get(http, key, range, if_match).await.map(|body| Body::S3(Box::new(body))),
            Self::File(file) => {
                let begun = Instant::now();
                let body = file.get(key, range, http.read_buffers())?;
                let mut spent = Spent::new(http.recorder(), Stage::Fetch);
                spent.add(begun.elapsed());
                spent.recorder().record(Stage::FirstByte, begun.elapsed());
                Ok(Body::File(body, spent, file.rate().clone()))
            }
        }
    }

    /// The whole object `key`, whose size is not known before, as a stream. Also returns its size in bytes. One request
    /// to a bucket, two to its past.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] if there is no such object. Otherwise as [`Self::get`].
    pub async fn get_whole(&self, http: &Http, key: &str) -> Result<(Body, u64), StoreError> {
        match self {
            Self::S3(s3) => {
                let body = s3.get_whole(http, key).await?;
                let size = body.size();
                Ok((Body::S3(Box::new(body)), size))
            }
            Self::Past(_) | Self::File(_) => {
                let size = self.head(http, key).await?.size;
                Ok((self.get(http, key, 0..size, None).await?, size))
            }
        }
    }

    /// Requests the metadata of the object `key`.
    ///
    /// # Errors
    /// [`StoreError`] after all retries.
    pub async fn head(&self, http: &Http, key: &str) -> Result<Head, StoreError> {
        match self {
            Self::S3(s3) => s3.head(http, key, None).await,
            Self::Past(past) => past.head(http, key).await,
            Self::File(file) => file.head(key),
        }
    }
}

/// The bytes of a requested range, as a stream of chunks.
pub enum Body {
    /// The bytes of an S3 object, from one or more HTTP responses.
    S3(Box<s3::S3Body>),
    /// The bytes of a file on disk, the time that was spent reading them, and the limit on bytes per second.
    File(file_body::FileBody, Spent, ByteRate),
}

impl Body {
    /// Returns the next bytes as they arrive, some tens of KiB. Returns None at the end of the range.
    ///
    /// # Errors
    /// [`StoreError`] if the rest cannot be read, after all retries.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::S3(body) => body.chunk().await,
            Self::File(body, spent, rate) => {
                let begun = Instant::now();
                let chunk = body.chunk()?;
                if let Some(bytes) = &chunk {
                    spent.add(begun.elapsed());
                    if body.is_whole() {
                        spent.done();
                    }
                    rate.take(bytes.len() as u64).await;
                }
                Ok(chunk)
            }
        }
    }

    /// Returns whether the body is read from a disk. If so, each chunk is read only when it is requested, and
    /// only that chunk takes memory.
    pub fn is_on_disk(&self) -> bool {
        matches!(self, Self::File(..))
    }

    /// Entity tag of the object, from the response. None for files, or if the response has none.
    pub fn etag(&self) -> Option<&Etag> {
        match self {
            Self::S3(body) => body.etag(),
            Self::File(..) => None,
        }
    }

    /// Creation time of the LTX file, from the response's header `x-amz-meta-litestream-timestamp`. None for
    /// files.
    pub fn litestream_timestamp(&self) -> Option<Timestamp> {
        match self {
            Self::S3(body) => body.litestream_timestamp(),
            Self::File(..) => None,
        }
    }
}
