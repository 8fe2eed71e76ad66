//! A versioned bucket as it was at a time: a store whose listing, reads and metadata are those of that time
//! (docs/VERSIONS.md).
//!
//! Invariant: an object is read only by the version id that the listing gave for it. Nothing is ever written.

use super::s3::{Http, S3, S3Body};
use super::versions::{
    AtTime, CompleteSince, Completeness, VersionEntry, VersionMarkers, VersionsPage, VersionsRequest,
};
use super::{Etag, Head, ListPage, ListRequest, StoreError, StoreErrorKind, VersionsBound};
use crate::error::BUG;
use crate::process::locks;
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};

/// What a version id takes in memory besides the texts of its key and of itself.
const ID_BYTES: u64 = 64;

/// A bucket as it was at a time.
#[derive(Debug)]
pub struct Past {
    s3: Arc<S3>,
    as_of: Timestamp,
    /// The version ids of the listed objects, by key.
    ids: RwLock<HashMap<Box<str>, Box<str>>>,
    /// What `ids` takes.
    bytes: AtomicU64,
    limit_bytes: u64,
    seen: Mutex<Seen>,
    /// The root of the database that a key is a file of.
    root_of: RootOf,
    /// Whether a history with missing parts is accepted.
    allows_incomplete: bool,
    /// Whether parts are missing, and that was accepted.
    is_incomplete: AtomicBool,
}

/// Returns the part of a key that names its database. None: the key is no backup file's.
pub type RootOf = for<'a> fn(&'a str) -> Option<&'a str>;

/// What listings have shown so far.
#[derive(Debug)]
struct Seen {
    completeness: Completeness,
    /// The roots of databases that had files at the time, as hashes.
    then: HashSet<u64>,
    /// The roots of databases that have files now, as hashes.
    now: HashSet<u64>,
    /// A time of the service before which the wanted time does not lie.
    earlier_present: Option<Timestamp>,
}

/// Where a listing goes on: the continuation token of a [`ListPage`].
#[derive(Serialize, Deserialize)]
struct PageToken {
    key: String,
    version_id: Option<String>,
    /// The state of the rule: the last key, and whether an entry of it has decided.
    rule: Option<(String, bool)>,
    /// The last entry: its key, version id and time, and whether it is a delete marker.
    last: Option<LastEntry>,
}

#[derive(Serialize, Deserialize)]
struct LastEntry {
    key: String,
    version_id: String,
    nanos: i64,
    is_marker: bool,
}

impl Past {
    /// The bucket `s3` as it was at `as_of`. Its version ids may take `limit_bytes` of memory. Sends nothing.
    /// `allows_incomplete` says that missing parts of its history are no error.
    pub fn new(s3: Arc<S3>, as_of: Timestamp, limit_bytes: u64, allows_incomplete: bool, root_of: RootOf) -> Self {
        let seen = Seen {
            completeness: Completeness::for_time(as_of),
            then: HashSet::new(),
            now: HashSet::new(),
            earlier_present: None,
        };
        Self {
            s3,
            as_of,
            ids: RwLock::default(),
            bytes: AtomicU64::new(0),
            limit_bytes,
            seen: Mutex::new(seen),
            root_of,
            allows_incomplete,
            is_incomplete: AtomicBool::new(false),
        }
    }

    /// The bucket.
    pub fn bucket(&self) -> &Arc<S3> {
        &self.s3
    }

    /// The time.
    pub fn as_of(&self) -> Timestamp {
        self.as_of
    }

    /// The version id of a listed object.
    pub fn version_id(&self, key: &str) -> Option<Box<str>> {
        locks::read(&self.ids).get(key).cloned()
    }

    /// Whether parts of the history are missing at the time, and that was accepted.
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete.load(Relaxed)
    }

    /// Records that parts of the history are missing, and that it was accepted.
    pub fn set_incomplete(&self) {
        self.is_incomplete.store(true, Relaxed);
    }

    /// To be called once `prefix` is listed.
    ///
    /// # Errors
    /// [`StoreErrorKind::IncompleteHistory`] if the history is not complete at the time and that is not accepted.
    pub fn check_history(&self, prefix: &str) -> Result<(), StoreError> {
        let (covers, since, is_never_versioned) = {
            let seen = locks::lock(&self.seen);
            let found = &seen.completeness;
            (found.covers(), found.since(), found.is_never_versioned())
        };
        if covers {
            return Ok(());
        }
        if self.allows_incomplete {
            self.set_incomplete();
            return Ok(());
        }
        let detail = incomplete_text(is_never_versioned.then(|| self.s3.bucket()), since);
        let hint = Some(ALLOW_HINT.to_owned());
        Err(StoreError { hint, ..self.error(StoreErrorKind::IncompleteHistory, "LIST", prefix, detail) })
    }

    /// Records the version id of an object.
    ///
    /// # Errors
    /// [`StoreErrorKind::TooLarge`] if the version ids take more memory than allowed.
    pub fn set_version_id(&self, key: &str, version_id: &str) -> Result<(), StoreError> {
        let before = locks::write(&self.ids).insert(key.into(), version_id.into());
        if before.is_some() {
            return Ok(());
        }
        let bytes = ID_BYTES + (key.len() + version_id.len()) as u64;
        if self.bytes.fetch_add(bytes, Relaxed) + bytes <= self.limit_bytes {
            return Ok(());
        }
        let hint = "raise --memory, or restore a share of the databases with --shard";
        let detail = format!("the version ids of the files need more than {} MiB", self.limit_bytes >> 20);
        Err(StoreError { hint: Some(hint.to_owned()), ..self.error(StoreErrorKind::TooLarge, "LIST", key, detail) })
    }

    /// One page of the listing that the bucket would have given at the time. Reads pages of versions until one has an
    /// object of that time.
    ///
    /// # Errors
    /// [`StoreError`] of a request, after its retries. [`StoreErrorKind::InvalidResponse`] if the listing does not end.
    pub async fn list_page(&self, http: &Http, request: &ListRequest) -> Result<ListPage, StoreError> {
        let token: Option<PageToken> = match request.continuation.as_deref().map(serde_json::from_str) {
            Some(Ok(token)) => Some(token),
            Some(Err(_)) => {
                let detail = format!("{BUG}: a continuation token of another store");
                return Err(self.error(StoreErrorKind::InvalidResponse, "LIST", &request.prefix, detail));
            }
            None => None,
        };
        let mut versions = VersionsRequest {
            prefix: request.prefix.clone(),
            delimiter: request.delimiter,
            markers: request.start_after.clone().map(|key| VersionMarkers { key, version_id: None }),
        };
        let (mut rule, mut last) = (AtTime::new(self.as_of), None);
        if let Some(PageToken { key, version_id, rule: state, last: entry }) = token {
            versions.markers = Some(VersionMarkers { key, version_id });
            last = entry;
            if let Some((key, is_decided)) = state {
                rule = AtTime::resume(self.as_of, &key, is_decided);
            }
        }
        let mut bound = VersionsBound::default();
        // This loop ends: the markers of each turn are new, and at most 1,000 pages in a row have no new entry.
        loop {
            let page = self.s3.list_versions_page(http, &versions).await?;
            bound.check(&request.prefix, &page)?;
            let VersionsPage { entries, common_prefixes, unlisted, next, server_time } = page;
            self.check_present(server_time)?;
            let objects = self.objects_of(entries, &mut rule, &mut last, next.is_none())?;
            let is_empty = objects.is_empty() && common_prefixes.is_empty() && unlisted.is_empty();
            let Some(markers) = next else {
                return Ok(ListPage { objects, common_prefixes, unlisted, continuation: None });
            };
            if is_empty {
                versions.markers = Some(markers);
                continue;
            }
            let state = rule.state().map(|(key, is_decided)| (key.to_owned(), is_decided));
            let token = PageToken { key: markers.key, version_id: markers.version_id, rule: state, last };
            let continuation = serde_json::to_string(&token).map_err(|e| {
                self.error(StoreErrorKind::InvalidResponse, "LIST", &request.prefix, format!("{BUG}: {e}"))
            })?;
            return Ok(ListPage { objects, common_prefixes, unlisted, continuation: Some(continuation) });
        }
    }

    /// Whether the wanted time lies after the present of the service, as its answers have shown.
    pub fn is_in_the_future(&self) -> bool {
        locks::lock(&self.seen).earlier_present.is_some()
    }

    /// Number of listed databases that had files at the time, and of those that have none now.
    pub fn databases(&self) -> (usize, usize) {
        let seen = locks::lock(&self.seen);
        (seen.then.len(), seen.then.difference(&seen.now).count())
    }

    fn check_present(&self, server_time: Option<Timestamp>) -> Result<(), StoreError> {
        let Some(present) = server_time.filter(|present| is_later(self.as_of, *present)) else { return Ok(()) };
        locks::lock(&self.seen).earlier_present = Some(present);
        let detail = future_text(self.as_of, present);
        Err(self.error(StoreErrorKind::Unsupported, "LIST", "", detail))
    }

    /// The objects of the time among the entries of a page. `is_last` says that no page follows.
    fn objects_of(
        &self,
        entries: Vec<VersionEntry>,
        rule: &mut AtTime,
        last: &mut Option<LastEntry>,
        is_last: bool,
    ) -> Result<Vec<super::ObjectMeta>, StoreError> {
        let mut objects = Vec::new();
        let seen = &mut *locks::lock(&self.seen);
        let (completeness, then, now) = (&mut seen.completeness, &mut seen.then, &mut seen.now);
        let mut ended = |last: Option<LastEntry>, key: Option<&str>| {
            if let Some(LastEntry { version_id, nanos, is_marker, .. }) = last.filter(|last| Some(&*last.key) != key) {
                completeness.take(&version_id, Timestamp::from_nanos(nanos), is_marker);
            }
        };
        for entry in entries {
            let VersionEntry { key, version_id, last_modified, data, is_latest } = entry;
            if is_latest && data.is_some() {
                now.extend((self.root_of)(&key).map(|root| hash(&root)));
            }
            // The last entry of a key is its oldest: a delete marker there has lost its data.
            let before = last.replace(LastEntry {
                key: key.clone(),
                version_id: version_id.to_string(),
                nanos: last_modified.as_nanos(),
                is_marker: data.is_none(),
            });
            match before {
                Some(before) if before.key == key => {
                    ended(Some(LastEntry { is_marker: false, ..before }), None);
                }
                before => ended(before, Some(&key)),
            }
            if rule.stood(&key, last_modified, data.is_none())
                && let Some(data) = data
            {
                self.set_version_id(&key, &version_id)?;
                then.extend((self.root_of)(&key).map(|root| hash(&root)));
                objects.push(data.object(key, last_modified));
            }
        }
        if is_last {
            ended(last.take(), None);
        }
        Ok(objects)
    }

    /// As [`super::Store::get`], of the version of the time.
    ///
    /// # Errors
    /// As there. A version that a lifecycle rule has removed is [`StoreErrorKind::NotFound`].
    pub async fn get(
        &self,
        http: &Http,
        key: &str,
        range: Range<u64>,
        if_match: Option<&Etag>,
    ) -> Result<S3Body, StoreError> {
        let id = self.listed_id("GET", key)?;
        self.s3.get(http, key, range, if_match, Some(&id)).await
    }

    /// As [`super::Store::head`], of the version of the time.
    ///
    /// # Errors
    /// As there.
    pub async fn head(&self, http: &Http, key: &str) -> Result<Head, StoreError> {
        let id = self.listed_id("HEAD", key)?;
        self.s3.head(http, key, Some(&id)).await
    }

    fn listed_id(&self, operation: &str, key: &str) -> Result<Box<str>, StoreError> {
        self.version_id(key).ok_or_else(|| {
            let detail = format!("{BUG}: the object was not listed, so its version is not known");
            self.error(StoreErrorKind::InvalidResponse, operation, key, detail)
        })
    }

    fn error(&self, kind: StoreErrorKind, operation: &str, key: &str, detail: String) -> StoreError {
        let what = format!("{operation} s3://{}/{key}", self.s3.bucket());
        StoreError { kind, what, detail, request_id: None, hint: None, attempts: 0 }
    }
}

/// Whether `as_of` lies after `present`, a time in whole seconds.
pub fn is_later(as_of: Timestamp, present: Timestamp) -> bool {
    as_of > present.saturating_add_nanos(1_000_000_000)
}

/// What is said about a time after the present of the service.
pub fn future_text(as_of: Timestamp, present: Timestamp) -> String {
    format!("-as-of {as_of} lies after the present, {present} by the service's clock")
}

/// What can be done about a history with missing parts.
pub const ALLOW_HINT: &str =
    "--allow-incomplete-history restores from what is left, which may be an older state or none";

/// What is said about a history with missing parts. `never_versioned` is the bucket, if it has no other versions.
pub fn incomplete_text(never_versioned: Option<&str>, since: CompleteSince) -> String {
    const WHY: &str = "versioning was off, or expired versions were removed";
    match (never_versioned, since) {
        (Some(bucket), _) => format!("bucket is not versioned: its past is gone: {bucket}"),
        (None, CompleteSince::Time(since)) => format!("versions from before {since} are incomplete ({WHY})"),
        (None, _) => format!("versions from before now are incomplete ({WHY})"),
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
