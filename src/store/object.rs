//! What stores say of objects: listings and heads.

use super::Etag;
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
