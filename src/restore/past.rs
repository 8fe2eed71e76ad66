//! Lists the history of one database's replica in a versioned bucket (docs/VERSIONS.md, "What is listed").
//!
//! Level 0 has most of the history: a file for each transaction, each written once and deleted once. So the levels
//! above it are listed whole, side by side, and planned at the time. Level 0 is then listed from the first transaction
//! that they do not reach.

use crate::catalogue::{CatalogueMemory, Charge, History, Replica};
use crate::plan::{Plan, Reach};
use crate::store::s3::S3;
use crate::store::{
    Http, Store, StoreError, VersionMarkers, VersionsBound, VersionsPage, VersionsRequest, endless_versions,
};
use crate::timestamp::Timestamp;
use std::cell::RefCell;

/// A listing from a transaction on ends after this many entries in a row that are later than the time: keys follow the
/// order of transactions, so no earlier one follows.
const MOST_LATER_ENTRIES: usize = 1_000;

/// Which time of a bucket is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// This time.
    Time(Timestamp),
    /// The last time from which the newest state can be had.
    Last,
}

/// What was restored or planned from the past of a versioned bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastState {
    /// The time of the bucket.
    pub as_of: Timestamp,
    /// The version ids of the planned files, the oldest file first.
    pub version_ids: Vec<String>,
    /// The time of the newest planned file's upload, which tells how far the state lies before the time.
    pub state_time: Option<Timestamp>,
    /// Whether the bucket has all versions from that time on.
    pub history_complete: bool,
}

impl PastState {
    /// The state of `plan`, which was made for `replica`. None if `store` is not a bucket of the past.
    pub fn of(store: &Store, replica: &Replica, plan: &Plan) -> Option<Self> {
        let Store::Past(past) = store else { return None };
        let v3 = plan.v3.as_ref().and(replica.v3.as_deref());
        let planned = plan.files.iter().filter_map(|&i| match v3 {
            Some(v3) => v3.files.get(i).map(|file| (v3.key(file), file.last_modified)),
            None => replica.files.get(i).map(|file| (replica.key(file), file.last_modified)),
        });
        let (keys, times): (Vec<String>, Vec<Timestamp>) = planned.unzip();
        let id = |key: &String| past.version_id(key).unwrap_or_default().into_string();
        Some(Self {
            as_of: past.as_of(),
            version_ids: keys.iter().map(id).collect(),
            state_time: times.into_iter().max(),
            history_complete: !past.is_incomplete(),
        })
    }
}

/// How much of level 0 is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryExtent {
    /// What a restore as of this time depends on.
    AsOf(Timestamp),
    /// Everything.
    Whole,
}

/// The history of a replica as it was listed.
#[derive(Debug)]
pub struct ListedHistory {
    /// The history.
    pub history: History,
    /// The service's time when it answered first. None if it gave none.
    pub server_time: Option<Timestamp>,
    /// Number of pages.
    pub pages: u64,
}

/// Lists the history of the database whose replica is at `path`.
///
/// # Errors
/// [`StoreError`] if a request fails after its retries, if a listing does not end, or if the history needs more memory
/// than `memory` allows. [`NotImplemented`](crate::store::StoreErrorKind::NotImplemented) if the service lists no
/// versions.
pub async fn list_history(
    http: &Http,
    s3: &S3,
    path: &str,
    extent: HistoryExtent,
    memory: &CatalogueMemory,
) -> Result<ListedHistory, StoreError> {
    let lister = HistoryLister { http, s3, state: RefCell::new(Listed::new(memory)) };
    let mut history = History::default();
    let (mut level_0, mut whole) = (Vec::new(), Vec::new());
    for prefix in Replica::list_prefixes(path) {
        if !prefix.ends_with('/') {
            // At the root of a bucket: the beginnings of all levels' names.
            whole.push(prefix);
            continue;
        }
        for folder in lister.folders(&prefix).await? {
            let name = folder.strip_prefix(&prefix).unwrap_or_default();
            if name == "0000/" {
                level_0.push(folder);
            } else if is_part_of_replica(name) {
                whole.push(folder);
            }
        }
    }
    let listings = whole.iter().map(|prefix| lister.list(prefix, None, None));
    for part in futures_util::future::try_join_all(listings).await? {
        history.append(part);
    }
    let as_of = match extent {
        // Where history is missing, all of it is needed to say since when it is complete.
        HistoryExtent::AsOf(as_of) if history.has_no_findings() => Some(as_of),
        HistoryExtent::AsOf(_) | HistoryExtent::Whole => None,
    };
    let reached = match as_of.map(|as_of| Reach::of(&history.replica_at(path, as_of))) {
        Some(Reach::Txid(txid)) => Some(txid),
        _ => None,
    };
    for prefix in &level_0 {
        let from = reached.map(|txid| format!("{prefix}{:016x}", txid.0.saturating_add(1)));
        let until = as_of.filter(|_| reached.is_some());
        let mut part = lister.list(prefix, from, until).await?;
        if as_of.is_some() && reached.is_some() && !part.has_no_findings() {
            part = lister.list(prefix, None, None).await?;
        }
        history.append(part);
    }
    let Listed { server_time, pages, .. } = lister.state.into_inner();
    Ok(ListedHistory { history, server_time, pages })
}

/// Lists the first page of the history at `path`: one request. None if the replica is at a bucket's root.
///
/// # Errors
/// [`StoreError`] if the request fails after its retries.
pub async fn first_page_of_history(http: &Http, s3: &S3, path: &str) -> Result<Option<(History, bool)>, StoreError> {
    let Some(prefix) = Replica::list_prefixes(path).into_iter().find(|prefix| prefix.ends_with('/')) else {
        return Ok(None);
    };
    if path.trim_end_matches('/').is_empty() {
        return Ok(None);
    }
    let page = s3.list_versions_page(http, &VersionsRequest { prefix, ..VersionsRequest::default() }).await?;
    let mut history = History::default();
    let is_whole = page.next.is_none();
    for entry in page.entries {
        if history.push(entry).is_err() {
            return Ok(None);
        }
    }
    Ok(Some((history, is_whole)))
}

/// Whether a folder directly below the path of a replica holds files of it.
fn is_part_of_replica(name: &str) -> bool {
    let level = |digits: &str| matches!(digits.as_bytes(), [b'0', b'0', b'0', digit] if digit.is_ascii_digit());
    matches!(name, "ltx/" | "generations/" | "/") || name.strip_suffix('/').is_some_and(level)
}

struct HistoryLister<'a> {
    http: &'a Http,
    s3: &'a S3,
    state: RefCell<Listed<'a>>,
}

/// What all listings together have brought.
struct Listed<'a> {
    charge: Charge<'a>,
    /// The bytes of all parts of the history.
    bytes: u64,
    server_time: Option<Timestamp>,
    pages: u64,
}

impl<'a> Listed<'a> {
    fn new(memory: &'a CatalogueMemory) -> Self {
        Self { charge: memory.charge(), bytes: 0, server_time: None, pages: 0 }
    }
}

impl HistoryLister<'_> {
    async fn page(&self, request: &VersionsRequest) -> Result<VersionsPage, StoreError> {
        let page = self.s3.list_versions_page(self.http, request).await?;
        let mut state = self.state.borrow_mut();
        state.server_time = state.server_time.or(page.server_time);
        state.pages += 1;
        match page.unlisted.first() {
            Some(unlisted) => Err(unlisted.error()),
            None => Ok(page),
        }
    }

    /// The folders directly below `prefix`, also those that have nothing but delete markers.
    async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut request =
            VersionsRequest { prefix: prefix.to_owned(), delimiter: Some('/'), ..VersionsRequest::default() };
        let (mut folders, mut bound) = (Vec::new(), VersionsBound::default());
        // This loop ends: no markers may come twice, nor 1,000 pages in a row without anything new.
        loop {
            let page = self.page(&request).await?;
            bound.check(prefix, &page)?;
            // A service that knows no delimiter lists the entries of the folders.
            let below = page.entries.iter().filter_map(|entry| {
                let name = entry.key.strip_prefix(prefix)?;
                Some(format!("{prefix}{}/", name.split_once('/')?.0))
            });
            folders.extend(below);
            folders.extend(page.common_prefixes);
            // Bounds what the entries of a service without delimiters take.
            folders.dedup();
            let Some(markers) = page.next else { break };
            request.markers = Some(markers);
        }
        bound.finish(prefix)?;
        folders.sort_unstable();
        folders.dedup();
        Ok(folders)
    }

    /// Lists the history below `prefix`: whole, or from the key `from` on, and with `until` up to the entries that are
    /// later.
    async fn list(&self, prefix: &str, from: Option<String>, until: Option<Timestamp>) -> Result<History, StoreError> {
        let markers = from.map(|key| VersionMarkers { key, version_id: None });
        let mut request = VersionsRequest { prefix: prefix.to_owned(), markers, delimiter: None };
        let (mut history, mut bound) = (History::default(), VersionsBound::default());
        let mut later = 0;
        // This loop ends: neither markers nor entries may come twice, nor 1,000 pages in a row without entries.
        loop {
            let page = self.page(&request).await?;
            bound.check(prefix, &page)?;
            let before = history.bytes();
            for entry in page.entries {
                let is_later = until.is_some_and(|until| entry.last_modified > until);
                later = if is_later { later + 1 } else { 0 };
                history.push(entry).map_err(|_| endless(prefix))?;
            }
            self.charge(history.bytes() - before, prefix)?;
            let Some(markers) = page.next else { break };
            if later >= MOST_LATER_ENTRIES {
                break;
            }
            request.markers = Some(markers);
        }
        history.finish();
        Ok(history)
    }

    fn charge(&self, bytes: u64, prefix: &str) -> Result<(), StoreError> {
        let state = &mut *self.state.borrow_mut();
        state.bytes += bytes;
        state.charge.set(state.bytes, prefix)
    }
}

fn endless(prefix: &str) -> StoreError {
    endless_versions(prefix, "a version that it gave before".to_owned())
}
