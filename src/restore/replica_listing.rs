//! One database's listing, and looks at the times of its files.

use crate::catalogue::{Layout, LtxFile, Replica};
use crate::ltx::header::{HEADER_SIZE, Header};
use crate::restore::large::request_permit;
use crate::restore::workers::Worker;
use crate::store::{Http, ListRequest, ObjectMeta, Store, StoreError};
use crate::timestamp::Timestamp;
use futures_util::StreamExt;
use tokio::sync::Semaphore;

/// Looks side by side.
const LOOKS_IN_FLIGHT: usize = 32;

/// Lists all that lies under a database's path, in one flat LIST per place where its files may
/// be (FORMAT §5: a bucket without a path has three).
///
/// # Errors
/// The store's, after its retries.
pub async fn list_replica(http: &Http, store: &Store, path: &str) -> Result<Replica, StoreError> {
    let listings = Replica::list_prefixes(path).into_iter().map(|prefix| async move {
        let mut objects: Vec<ObjectMeta> = Vec::new();
        let mut request = ListRequest { prefix, ..ListRequest::default() };
        loop {
            let page = store.list_page(http, &request).await?;
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

/// What a look at a file's header says.
#[derive(Debug, Clone)]
pub enum HeaderTime {
    At(Timestamp),
    /// The header is malformed, or cannot be read.
    Unknowable,
    /// The file is gone, or is not the one that was listed.
    Stale(StoreError),
}

/// The times in the headers of the files `wanted` (indexes into the replica). `requests` bounds
/// those in flight for this database (`-parallelism`).
///
/// # Errors
/// The first look that fails for a reason that is not the file's own.
pub async fn look_at_times(
    worker: &Worker,
    store: &Store,
    replica: &Replica,
    wanted: &[usize],
    requests: Option<&Semaphore>,
) -> Result<Vec<(usize, HeaderTime)>, StoreError> {
    let looks = wanted.iter().filter_map(|&i| Some((i, replica.files.get(i)?))).map(|(i, file)| async move {
        let _permit = request_permit(requests).await;
        match head_of(worker, store, replica, file).await {
            Ok(head) => Ok((i, Header::parse(&head).map_or(HeaderTime::Unknowable, |h| HeaderTime::At(h.timestamp())))),
            Err(e) if e.is_unreadable() => Ok((i, HeaderTime::Unknowable)),
            Err(e) if e.is_stale_listing() => Ok((i, HeaderTime::Stale(e))),
            Err(e) => Err(e),
        }
    });
    let mut looks = futures_util::stream::iter(looks).buffer_unordered(LOOKS_IN_FLIGHT);
    let mut times = Vec::with_capacity(wanted.len());
    while let Some(look) = looks.next().await {
        times.push(look?);
    }
    Ok(times)
}

/// The file's first bytes.
async fn head_of(worker: &Worker, store: &Store, replica: &Replica, file: &LtxFile) -> Result<Vec<u8>, StoreError> {
    let size = file.size.min(HEADER_SIZE as u64);
    let mut body = store.get(&worker.http, &replica.key(file), 0..size, file.etag.as_ref()).await?;
    let mut head = Vec::with_capacity(HEADER_SIZE);
    while let Some(chunk) = body.chunk().await? {
        head.extend_from_slice(&chunk);
    }
    Ok(head)
}
