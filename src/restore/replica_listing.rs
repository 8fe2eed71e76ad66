//! Lists the LTX files of one database's replica, and reads the creation times in the files' headers.

use crate::catalogue::{Layout, LtxFile, Replica};
use crate::ltx::header::{HEADER_SIZE, Header};
use crate::restore::large::{note_asked_again, request_permit};
use crate::restore::workers::Worker;
use crate::store::{Http, ListRequest, ListingBound, ObjectMeta, Store, StoreError};
use crate::timestamp::Timestamp;
use futures_util::StreamExt;
use tokio::sync::Semaphore;

/// Headers that are fetched at a time for one database.
pub const HEADERS_IN_FLIGHT: usize = 32;

/// Lists the files of the database whose replica is at `path` in the store. Makes one listing without a
/// delimiter for each prefix that the files' keys may have. There are three prefixes if `path` is empty,
/// otherwise one (docs/FORMAT.md, "Key layouts").
///
/// # Errors
/// [`StoreError`] if a LIST fails and all its retries do, or if the listing does not end.
pub async fn list_replica(http: &Http, store: &Store, path: &str) -> Result<Replica, StoreError> {
    let listings = Replica::list_prefixes(path).into_iter().map(|prefix| async move {
        let mut objects: Vec<ObjectMeta> = Vec::new();
        let mut bound = ListingBound::default();
        let mut request = ListRequest { prefix, ..ListRequest::default() };
        loop {
            let page = store.list_page(http, &request).await?;
            bound.check(&request.prefix, &page)?;
            objects.extend(page.objects);
            match page.continuation {
                Some(token) => request.continuation = Some(token),
                None => return Ok::<_, StoreError>(objects),
            }
        }
    });
    let listings = futures_util::future::try_join_all(listings).await?;
    let objects = listings.into_iter().flatten();
    Ok(Replica::of(path, Layout::native_to(store), objects))
}

/// The result of reading the creation time in a file's header.
#[derive(Debug, Clone)]
pub enum HeaderTime {
    /// The time was read: the file was created at this time.
    At(Timestamp),
    /// The header is malformed or cannot be read, so the creation time stays unknown.
    Unknowable,
    /// The file was deleted or replaced since it was listed, as the error says. The files must be listed again.
    Stale(StoreError),
}

/// Reads the times in the headers of the files `wanted`, which are indexes into the replica.
/// `requests` bounds the database's requests in flight (`-parallelism`).
///
/// # Errors
/// The first request that fails for a reason that is not the file's own.
pub async fn look_at_times(
    worker: &Worker,
    store: &Store,
    replica: &Replica,
    wanted: &[usize],
    requests: Option<&Semaphore>,
) -> Result<Vec<(usize, HeaderTime)>, StoreError> {
    debug_assert!(wanted.iter().all(|&i| i < replica.files.len()), "a plan speaks of listed files");
    let looks = wanted.iter().filter_map(|&i| Some((i, replica.files.get(i)?))).map(|(i, file)| async move {
        let _permit = request_permit(requests).await;
        let key = replica.key(file);
        let mut read = read_header(&worker.http, store, &key, file).await;
        // A bit may have been flipped on the way from a bucket.
        if let Ok((header, _)) = &read
            && let Err(error) = Header::parse(header)
            && !store.is_on_disk()
        {
            note_asked_again(worker, &key, None, &error);
            read = Box::pin(read_header(&worker.http.on_other_connections(), store, &key, file)).await;
        }
        match read {
            Ok((header, _)) => {
                Ok((i, Header::parse(&header).map_or(HeaderTime::Unknowable, |h| HeaderTime::At(h.timestamp()))))
            }
            Err(e) if e.is_unreadable() => Ok((i, HeaderTime::Unknowable)),
            Err(e) if e.is_stale_listing() => Ok((i, HeaderTime::Stale(e))),
            Err(e) => Err(e),
        }
    });
    let mut looks = futures_util::stream::iter(looks).buffer_unordered(HEADERS_IN_FLIGHT);
    let mut times = Vec::with_capacity(wanted.len());
    while let Some(look) = looks.next().await {
        times.push(look?);
    }
    Ok(times)
}

/// The bytes of a file's header, fewer if the file is shorter, and the time in the object's metadata.
///
/// # Errors
/// The store's, after its retries. A file that was deleted or replaced since it was listed is one.
pub async fn read_header(
    http: &Http,
    store: &Store,
    key: &str,
    file: &LtxFile,
) -> Result<(Vec<u8>, Option<Timestamp>), StoreError> {
    let size = file.size.min(HEADER_SIZE as u64);
    let mut body = store.get(http, key, 0..size, file.etag.as_ref()).await?;
    let mut header = Vec::with_capacity(HEADER_SIZE);
    // Ends: the body yields the bytes of the range, then None, or an error.
    while let Some(chunk) = body.chunk().await? {
        header.extend_from_slice(&chunk);
    }
    Ok((header, body.litestream_timestamp()))
}
