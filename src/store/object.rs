//! What a store returns about objects: pages of a listing, and the metadata of one object.

use super::{Etag, StoreError, StoreErrorKind};
use crate::timestamp::Timestamp;

/// One object as a listing returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Key of the object; for files the absolute path.
    pub key: String,
    /// Size of the object in bytes.
    pub size: u64,
    /// Time of the last change, by the clock of the store.
    pub last_modified: Timestamp,
    /// Entity tag (ETag) of the object. None for files, or if the tag cannot be used in the header If-Match.
    pub etag: Option<Etag>,
    /// Whether the object is in a storage class that GET cannot read (GLACIER, DEEP_ARCHIVE).
    pub archived: bool,
}

/// Request for one page of a listing, as in S3's ListObjectsV2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Only keys that begin with this text are listed.
    pub prefix: String,
    /// Only keys greater than this one are listed. None: from the first key.
    pub start_after: Option<String>,
    /// Keys that contain this character after the prefix are not listed; only their common beginning is, once.
    /// None: all keys are listed.
    pub delimiter: Option<char>,
    /// Continuation token of the previous page. None for the first page.
    pub continuation: Option<String>,
}

/// One page of a listing. On S3 it has at most 1,000 keys. They are in any order, because not every service
/// sorts them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The objects on this page, with full keys.
    pub objects: Vec<ObjectMeta>,
    /// Beginnings of keys up to the first delimiter after the prefix, if the request has a delimiter.
    pub common_prefixes: Vec<String>,
    /// What could not be listed. All else under the prefix is in `objects`.
    pub unlisted: Vec<Unlisted>,
    /// The token for the next page; None on the last page.
    pub continuation: Option<String>,
}

/// A directory that cannot be read, or an object whose name is not UTF-8. The rest of the listing is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlisted {
    /// The key. A directory's ends in a slash. U+FFFD stands for bytes that are not UTF-8.
    pub key: String,
    /// The kind of failure.
    pub kind: StoreErrorKind,
    /// The reason.
    pub detail: String,
}

impl Unlisted {
    /// The error of whatever needs this part of the listing.
    pub fn error(&self) -> StoreError {
        StoreError {
            kind: self.kind,
            what: format!("list {}", self.key),
            detail: self.detail.clone(),
            request_id: None,
            hint: None,
            attempts: 1,
        }
    }
}

/// The answer to a HEAD request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Size of the object in bytes.
    pub size: u64,
    /// Entity tag (ETag) of the object. None for files, or if the tag cannot be used in the header If-Match.
    pub etag: Option<Etag>,
    /// Time of the last change, if the response has it.
    pub last_modified: Option<Timestamp>,
    /// Creation time of the LTX file, from the metadata `x-amz-meta-litestream-timestamp`. None for files,
    /// whose modification time is in `last_modified`.
    pub litestream_timestamp: Option<Timestamp>,
}
