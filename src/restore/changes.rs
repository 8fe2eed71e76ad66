//! Reads the pages that a chain of LTX files changes, for a standby that holds a database already (docs/FOLLOW.md,
//! "Applying"). The files are read from the newest to the oldest, so that each page is delivered once ("Winners first",
//! docs/ARCHITECTURE.md). Every file is decoded to its end and its checksums are verified. Pages are delivered before
//! that: the receiver must be able to take them back.

use crate::ltx::decoder::{DecodeStep, FileDecoder};
use crate::ltx::header::Header;
use crate::ltx::{FormatError, Level, Pgno, Txid};
use crate::restore::ahead::Ahead;
use crate::restore::error::RestoreError;
use crate::restore::execute::fetch::collect_body;
use crate::restore::page_map::PageMap;
use crate::restore::workers::Worker;
use crate::store::{Body, Etag, Http, Store, StoreError};
use bytes::Bytes;
use thiserror::Error;
use tokio::sync::Semaphore;

/// At most 16 files are fetched at a time, including those that wait to be decoded.
const FILES_IN_FLIGHT: usize = 16;
/// Files that are fetched ahead take at most two segments' worth of memory (2 × 8 MiB).
const WINDOW_SEGMENTS: u64 = 2;
/// A page map of up to 1 MiB (8 million pages) is allocated without a reservation in the memory budget.
const UNRESERVED_MAP_BYTES: u64 = 1 << 20;

/// One file of a chain.
#[derive(Debug, Clone)]
pub struct ChangeFile {
    /// Key of the object, or path of the local file.
    pub key: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// Its ETag, if the store has any.
    pub etag: Option<Etag>,
    /// Its level.
    pub level: Level,
    /// The first TXID in its name.
    pub min_txid: Txid,
    /// The last TXID in its name.
    pub max_txid: Txid,
    /// Its content, if it was fetched already.
    pub body: Option<Vec<Bytes>>,
}

/// Takes the pages of a chain.
pub trait ChangeSink {
    /// Why it takes no more.
    type Error;

    /// Called with each file's header before its pages, from the newest file to the oldest.
    fn header(&mut self, header: &Header) -> Result<(), Self::Error>;

    /// Called with the newest copy of each page that lies within the newest file's database, in no particular order.
    fn page(&mut self, pgno: Pgno, page: &[u8]) -> impl Future<Output = Result<(), Self::Error>>;
}

/// What a chain of files holds.
#[derive(Debug)]
pub struct Changes {
    /// The header of each file, in the order of the files.
    pub headers: Vec<Header>,
    /// The pages that were delivered, in a database of the newest state's size.
    pub pages: PageMap,
}

/// Why a chain was not read to its end. `file` is an index into the files.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the text in #[error] says what each variant is")]
pub enum ChangesError<E> {
    /// The file's content is wrong. A bit that is flipped on the way from a bucket looks the same.
    #[error("{error}")]
    Damaged { file: usize, error: FormatError },
    /// A request for the file failed.
    #[error("{error}")]
    Store { file: usize, error: StoreError },
    #[error(transparent)]
    Failed(RestoreError),
    #[error("{0}")]
    Sink(E),
}

/// Fetches and decodes `files`, oldest first and at least one, and delivers the newest copy of each page to `sink`. With
/// `on_other_connections`, no connection is used that was used before: what arrived the first time was wrong.
///
/// # Errors
/// [`ChangesError`]. Some pages may have been delivered by then.
pub async fn read_changes<S: ChangeSink>(
    worker: &Worker,
    store: &Store,
    files: &[ChangeFile],
    on_other_connections: bool,
    sink: &mut S,
) -> Result<Changes, ChangesError<S::Error>> {
    let shared = &worker.shared;
    let other = on_other_connections.then(|| worker.http.on_other_connections());
    let http = other.as_ref().unwrap_or(&worker.http);
    let is_whole = |file: &ChangeFile| file.body.is_none() && file.size <= shared.segment_bytes;
    let fetched = files.iter().filter(|file| is_whole(file)).map(|file| file.size).sum::<u64>();
    let window_bytes = fetched.min(WINDOW_SEGMENTS * shared.segment_bytes).min(shared.budget.total_bytes() / 4);
    let _reservation = shared.budget.reserve(window_bytes).await;
    let window = Semaphore::new(window_bytes.max(1) as usize);
    let window = &window;
    let fetches = files.iter().enumerate().rev().map(|(i, file)| async move {
        if !is_whole(file) {
            return (i, Ok(file.body.clone()), None);
        }
        let permit = window.acquire_many(file.size.clamp(1, window_bytes.max(1)) as u32).await.ok();
        (i, collect_body(store, http, &file.key, file.size, file.etag.as_ref()).await.map(Some), permit)
    });
    let mut fetches = Ahead::new(fetches, FILES_IN_FLIGHT);
    let (mut headers, mut map) = (Vec::with_capacity(files.len()), None);
    while let Some((i, body, _permit)) = fetches.next().await {
        let Some(file) = files.get(i) else { continue };
        let reading = async {
            let body = match body.map_err(|error| ChangesError::Store { file: i, error })? {
                Some(chunks) => Input::Fetched(chunks.into_iter()),
                None => Input::open(store, http, file).await.map_err(|error| ChangesError::Store { file: i, error })?,
            };
            read_file(worker, i, file, body, &mut map, sink).await
        };
        headers.push(fetches.during(reading).await?);
    }
    headers.reverse();
    let pages = map.ok_or(ChangesError::Failed(RestoreError::Internal { what: "a chain without files was read" }))?;
    Ok(Changes { headers, pages })
}

/// Where the bytes of a file come from.
enum Input {
    Fetched(std::vec::IntoIter<Bytes>),
    /// A file that is too large to be held: it is decoded while it arrives.
    Streamed(Body),
}

impl Input {
    async fn open(store: &Store, http: &Http, file: &ChangeFile) -> Result<Self, StoreError> {
        store.get(http, &file.key, 0..file.size, file.etag.as_ref()).await.map(Self::Streamed)
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Fetched(chunks) => Ok(chunks.next()),
            Self::Streamed(body) => body.chunk().await,
        }
    }
}

/// Decodes file `i`, and delivers those of its pages that no newer file holds.
async fn read_file<S: ChangeSink>(
    worker: &Worker,
    i: usize,
    file: &ChangeFile,
    mut input: Input,
    map: &mut Option<PageMap>,
    sink: &mut S,
) -> Result<Header, ChangesError<S::Error>> {
    let damaged = |error| ChangesError::Damaged { file: i, error };
    let bug = |what| ChangesError::Failed(RestoreError::Internal { what });
    let mut decoder = FileDecoder::new(file.size, Some((file.min_txid, file.max_txid)));
    let mut page = Vec::new();
    // This loop ends, because each turn consumes a part of the body, which is finite.
    loop {
        match decoder.next_page().map_err(damaged)? {
            DecodeStep::NeedMore => {
                let chunk = input.chunk().await.map_err(|error| ChangesError::Store { file: i, error })?;
                decoder.push(chunk.ok_or_else(|| bug("a decoder asked for more than the file has"))?);
            }
            DecodeStep::Header(header) => {
                sink.header(&header).map_err(ChangesError::Sink)?;
                if map.is_none() {
                    *map = Some(page_map(worker, header.commit).map_err(ChangesError::Failed)?);
                }
                page.resize(header.page_size.bytes(), 0);
            }
            DecodeStep::Page(encoded) => {
                let pgno = encoded.pgno();
                encoded.decode_into(&mut page).map_err(damaged)?;
                let map = map.as_mut().ok_or_else(|| bug("a decoder gave a page before the file's header"))?;
                if map.claim(pgno) {
                    sink.page(pgno, &page).await.map_err(ChangesError::Sink)?;
                }
            }
            DecodeStep::Done(verified) => return Ok(verified.header),
        }
    }
}

/// A page map for a database of `commit` pages.
fn page_map(worker: &Worker, commit: u32) -> Result<PageMap, RestoreError> {
    let (budget, needed_bytes) = (&worker.shared.budget, PageMap::bytes_for(commit));
    if needed_bytes <= UNRESERVED_MAP_BYTES {
        return Ok(PageMap::new(commit, None));
    }
    let fits = needed_bytes <= budget.total_bytes() / 4;
    match fits.then(|| budget.try_reserve(needed_bytes)).flatten() {
        Some(reserved) => Ok(PageMap::new(commit, Some(reserved))),
        None => Err(RestoreError::Memory { needed_bytes, budget_bytes: budget.total_bytes() }),
    }
}

/// An object that may or may not be there.
#[derive(Debug)]
pub struct NextObject {
    /// Its size in bytes.
    pub size: u64,
    /// Its ETag, if the store has any.
    pub etag: Option<Etag>,
    /// Its content. None if it is too large to be held: larger than one segment.
    pub body: Option<Vec<Bytes>>,
}

/// Fetches the object `key`, by one request. None if there is no such object.
///
/// # Errors
/// The request fails after its retries.
pub async fn fetch_if_there(worker: &Worker, store: &Store, key: &str) -> Result<Option<NextObject>, StoreError> {
    let (mut body, size) = match store.get_whole(&worker.http, key).await {
        Ok(found) => found,
        Err(error) if error.kind == crate::store::StoreErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let etag = body.etag().cloned();
    if size > worker.shared.segment_bytes {
        return Ok(Some(NextObject { size, etag, body: None }));
    }
    let _reservation = worker.shared.budget.reserve(size).await;
    let mut chunks = Vec::new();
    // Ends: the body yields the bytes of the object, then None, or an error.
    while let Some(chunk) = body.chunk().await? {
        chunks.push(chunk);
    }
    Ok(Some(NextObject { size, etag, body: Some(chunks) }))
}
