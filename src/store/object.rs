//! What a store returns about objects: pages of a listing, and metadata.

use super::{Etag, StoreError, StoreErrorKind};
use crate::timestamp::Timestamp;

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

/// What to list: keys that begin with `prefix` and come after `start_after`. Keys that contain
/// `delimiter` after the prefix are rolled up into common prefixes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    pub prefix: String,
    pub start_after: Option<String>,
    pub delimiter: Option<char>,
    /// The continuation token of the previous page; None for the first page.
    pub continuation: Option<String>,
}

/// One page of a listing: at most 1,000 keys on S3, in any order: not every service sorts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    pub objects: Vec<ObjectMeta>,
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
    pub size: u64,
    pub etag: Option<Etag>,
    pub last_modified: Option<Timestamp>,
    /// The metadata `x-amz-meta-litestream-timestamp`. Always None for files: their mtime is in
    /// `last_modified`.
    pub litestream_timestamp: Option<Timestamp>,
}
