//! Lists the LTX files of one database's replica, and reads the creation times in the files' headers.

use crate::catalogue::{CatalogueMemory, Layout, Replica, ReplicaCollector, Surroundings, root_of};
use crate::ltx::header::{HEADER_SIZE, Header};
use crate::restore::large::{note_asked_again, request_permit};
use crate::restore::nothing_found::{NothingFound, root_around};
use crate::restore::workers::Worker;
use crate::store::{Etag, Http, ListPage, ListRequest, Store, StoreError};
use crate::timestamp::Timestamp;
use futures_util::StreamExt;
use std::cell::RefCell;
use tokio::sync::Semaphore;

/// Headers that are fetched at a time for one database.
pub const HEADERS_IN_FLIGHT: usize = 32;

/// The files of one database's replica.
#[derive(Debug)]
pub struct ListedReplica {
    /// The files.
    pub replica: Replica,
    /// Why there are none. None if the replica has any file.
    pub nothing: Option<NothingFound>,
}

/// Lists the files of the database whose replica is at `path` in the store. Makes one listing without a
/// delimiter for each prefix that the files' keys may have. There are three prefixes if `path` is empty,
/// otherwise one (docs/FORMAT.md, "Key layouts"). If nothing is found, it looks at what lies around `path`.
///
/// # Errors
/// [`StoreError`] if a LIST fails and all its retries do, if the listing does not end, or if a part of the replica
/// cannot be listed, or if the list needs more memory than `memory` allows.
pub async fn list_replica(
    http: &Http,
    store: &Store,
    path: &str,
    memory: &CatalogueMemory,
) -> Result<ListedReplica, StoreError> {
    let collector = RefCell::new((ReplicaCollector::new(path, Layout::native_to(store)), memory.charge()));
    let roots = Replica::roots(path);
    let is_ours = |key: &str| root_of(key).is_some_and(|root| roots.iter().any(|own| own == root));
    // Keys of files are absolute paths.
    let prefixes =
        Replica::list_prefixes(path).into_iter().filter(|prefix| !store.is_on_disk() || prefix.starts_with('/'));
    let listings = prefixes.map(|prefix| {
        let (is_ours, collector) = (&is_ours, &collector);
        async move {
            let mut each = |page: ListPage| {
                if let Some(unlisted) = page.unlisted.iter().find(|unlisted| is_ours(&unlisted.key)) {
                    return Err(unlisted.error());
                }
                let (collector, charge) = &mut *collector.borrow_mut();
                page.objects.iter().filter(|object| object.key.starts_with(&prefix)).for_each(|o| collector.insert(o));
                charge.set(collector.bytes(), &prefix)
            };
            store.list_all(http, &prefix, &mut each).await
        }
    });
    futures_util::future::try_join_all(listings).await?;
    let (replica, mut around) = collector.into_inner().0.finish();
    if !replica.files.is_empty() || replica.v3.is_some() {
        return Ok(ListedReplica { replica, nothing: None });
    }
    look_around(http, store, path, &mut around).await?;
    let nothing = NothingFound::of(path, store, &around);
    tracing::debug!(target: "hydrant::plan", path, why = %nothing, "no backups");
    Ok(ListedReplica { replica, nothing: Some(nothing) })
}

/// Looks for databases where the listing of `path` cannot have shown them: around a path that looks like a part of a
/// replica, and anywhere in the bucket if `path` is its root. One page is enough.
async fn look_around(http: &Http, store: &Store, path: &str, around: &mut Surroundings) -> Result<(), StoreError> {
    let bare = path.trim_end_matches('/');
    let place = match root_around(bare) {
        _ if store.is_on_disk() || around.around.is_some() => return Ok(()),
        Some(root) => root,
        None if matches!(bare, "" | ".") => "",
        None => return Ok(()),
    };
    let request = ListRequest { prefix: place.to_owned(), ..ListRequest::default() };
    let page = store.list_page(http, &request).await?;
    let mut collector = ReplicaCollector::new(place, Layout::native_to(store));
    page.objects.iter().filter(|object| object.key.starts_with(place)).for_each(|object| collector.insert(object));
    let (replica, found) = collector.finish();
    if place.is_empty() {
        *around = found;
    } else if !replica.files.is_empty() || replica.v3.is_some() {
        around.around = Some(place.to_owned());
    }
    Ok(())
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
        let mut read = read_header(&worker.http, store, &key, file.size, file.etag.as_ref()).await;
        // A bit may have been flipped on the way from a bucket.
        if let Ok((header, _)) = &read
            && let Err(error) = Header::parse(header)
            && !store.is_on_disk()
        {
            note_asked_again(worker, &key, None, &error);
            read =
                Box::pin(read_header(&worker.http.on_other_connections(), store, &key, file.size, file.etag.as_ref()))
                    .await;
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
    size: u64,
    etag: Option<&Etag>,
) -> Result<(Vec<u8>, Option<Timestamp>), StoreError> {
    let size = size.min(HEADER_SIZE as u64);
    let mut body = store.get(http, key, 0..size, etag).await?;
    let mut header = Vec::with_capacity(HEADER_SIZE);
    // Ends: the body yields the bytes of the range, then None, or an error.
    while let Some(chunk) = body.chunk().await? {
        header.extend_from_slice(&chunk);
    }
    Ok((header, body.litestream_timestamp()))
}
