//! Fetches the body of a planned file. A small object of a bucket is fetched whole. A file on a local disk
//! can instead be read in chunks while it is decoded. Of a file that is too large for one GET only the
//! first and last bytes are fetched here.

use crate::ltx::decoder::FileDecoder;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::execution::Execution;
use crate::restore::large::{Footer, PlannedFile, note_asked_again, request_permit};
use crate::store::{Body, Etag, Http, Store, StoreError, StoreErrorKind};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// At most 64 increments (LTX files with changed pages) of one database are fetched at a time, including those that
/// wait to be decoded.
pub(super) const INCREMENTS_IN_FLIGHT: usize = 64;
/// A body of up to 128 KiB is copied into one buffer of its own size. Without the copy, each chunk of it
/// would keep the connection's whole receive buffer in memory, so hundreds of small bodies that wait to be
/// decoded would take many times their size. A local file of up to this size is read in one call.
const GATHERED_BYTES: u64 = 128 << 10;

/// The part of a planned file that was fetched before it is decoded.
pub(super) enum Fetched {
    /// The body of a file that fits one GET.
    Whole(WholeBody),
    /// The first and last bytes of a file that is too large for one GET.
    Footer(Footer),
}

/// When a file on a local disk is read. Objects of a bucket are always fetched at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// The file is read whole and closed at once. This is for increments, of which many wait to be decoded at a time:
    /// each would otherwise keep a file descriptor open.
    Now,
    /// The file is read chunk by chunk while it is decoded. This is for the snapshot that a plan begins with. Two
    /// buffers are enough then, and they stay in the CPU's cache. A file of up to [`GATHERED_BYTES`] is read at once
    /// nevertheless.
    OnDemand,
}

/// The body of a file that fits one GET.
#[derive(Default)]
pub(super) struct WholeBody {
    /// The chunks of the body that are in memory and not decoded yet.
    fetched: std::vec::IntoIter<Bytes>,
    /// The open file on a local disk from which the rest is read, or the rest of an object that is streamed. None if all
    /// is in memory.
    unread: Option<Body>,
    /// True for an object that is still to be opened and streamed: it is too large for memory, and the service does not
    /// send ranges.
    is_unopened: bool,
    /// The connections on which an object is streamed, if it is asked for for the second time.
    again: Option<Rc<Http>>,
    /// The permit of the stream's request (`-parallelism`).
    _permit: Option<OwnedSemaphorePermit>,
}

impl WholeBody {
    fn fetched(chunks: Vec<Bytes>) -> Self {
        Self { fetched: chunks.into_iter(), ..Self::default() }
    }

    /// A large object of a service that does not send ranges. It is opened by the first [`WholeBody::feed`], so that no
    /// stream waits for another one to end.
    fn unopened(again: Option<Rc<Http>>) -> Self {
        Self { is_unopened: true, again, ..Self::default() }
    }

    /// Whether the whole body is in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        self.unread.is_none() && !self.is_unopened
    }

    /// Passes the next chunk of the body to `decoder`, which decodes file `i` of the plan.
    ///
    /// # Errors
    /// The local file or the object cannot be read, or (a bug) the body has no further chunk.
    pub(super) async fn feed(
        &mut self,
        execution: &Execution<'_>,
        decoder: &mut FileDecoder,
        i: usize,
    ) -> Result<(), ExecutionFailure> {
        if std::mem::take(&mut self.is_unopened) {
            let file = execution.planned(i)?;
            if let Some(requests) = &execution.requests {
                self._permit = Arc::clone(requests).acquire_owned().await.ok();
            }
            let http = self.again.as_deref().unwrap_or(&execution.worker.http);
            let body = execution.store.get(http, &file.key, 0..file.size, file.etag.as_ref()).await;
            self.unread = Some(body.map_err(|e| ExecutionFailure::of_request(i, e))?);
        }
        let chunk = match (self.fetched.next(), &mut self.unread) {
            (Some(chunk), _) => Some(chunk),
            (None, Some(unread)) => unread.chunk().await.map_err(|e| ExecutionFailure::of_request(i, e))?,
            (None, None) => None,
        };
        // A missing chunk is a bug. The store delivers exactly the bytes of the listed size, or fails. The
        // decoder knows that size: if the content needs more bytes, it fails instead of asking for more.
        let chunk = chunk.ok_or_else(|| ExecutionFailure::bug("a decoder asked for more than the file has"))?;
        decoder.push(chunk);
        Ok(())
    }
}

/// Fetches file `i` of the plan for the second time, on other connections than before: what arrived was wrong, as
/// `failure` says. Says so with `-v`.
///
/// # Errors
/// The request fails and all its retries do.
pub(super) async fn fetch_again(
    execution: &Execution<'_>,
    i: usize,
    failure: &ExecutionFailure,
) -> Result<Fetched, ExecutionFailure> {
    let file = execution.planned(i)?;
    if let Some((_, error)) = failure.wrong_content() {
        note_asked_again(execution.worker, &file.key, None, error);
    }
    let http = Rc::new(execution.worker.http.on_other_connections());
    fetch_on(execution, file, Reading::Now, Some(http)).await.map_err(|e| ExecutionFailure::of_request(i, e))
}

/// Fetches the planned file `file`: its body, or only its first and last bytes if it is too large for one
/// GET.
///
/// # Errors
/// [`StoreError`] if a request fails and all its retries do.
pub(super) async fn fetch(
    execution: &Execution<'_>,
    file: &PlannedFile,
    reading: Reading,
) -> Result<Fetched, StoreError> {
    fetch_on(execution, file, reading, None).await
}

/// Fetches a whole object, or reads a whole file. A small body is gathered in one chunk ([`GATHERED_BYTES`]).
///
/// # Errors
/// [`StoreError`] if the request fails and all its retries do.
pub(crate) async fn collect_body(
    store: &Store,
    http: &Http,
    key: &str,
    size: u64,
    etag: Option<&Etag>,
) -> Result<Vec<Bytes>, StoreError> {
    // An object of 0 bytes needs no request. On a local disk, size 0 may mean that the size could not be
    // read, so the file is opened nevertheless and a failure gets its own error.
    if size == 0 && !store.is_on_disk() {
        return Ok(Vec::new());
    }
    gather(store.get(http, key, 0..size, etag).await?, size).await
}

async fn gather(mut body: Body, size: u64) -> Result<Vec<Bytes>, StoreError> {
    if !body.is_on_disk() && size <= GATHERED_BYTES {
        let mut gathered = Vec::with_capacity(size as usize);
        while let Some(chunk) = body.chunk().await? {
            gathered.extend_from_slice(&chunk);
        }
        return Ok(vec![gathered.into()]);
    }
    let mut chunks = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        chunks.push(chunk);
    }
    Ok(chunks)
}

async fn fetch_on(
    execution: &Execution<'_>,
    file: &PlannedFile,
    reading: Reading,
    again: Option<Rc<Http>>,
) -> Result<Fetched, StoreError> {
    let (size, etag) = (file.size, file.etag.as_ref());
    if execution.is_large(file) {
        let streamed = || Fetched::Whole(WholeBody::unopened(again.clone()));
        if execution.store.ignores_ranges() {
            return Ok(streamed());
        }
        return match execution.source(file, again.as_deref()).footer().await {
            Ok(footer) => Ok(Fetched::Footer(Footer { again: again.clone(), ..footer })),
            Err(error) if error.kind == StoreErrorKind::RangesIgnored => Ok(streamed()),
            Err(error) => Err(error),
        };
    }
    let _permit = request_permit(execution.requests.as_deref()).await;
    // An object of 0 bytes needs no request. On a local disk, size 0 may mean that the size could not be
    // read, so the file is opened nevertheless and a failure gets its own error.
    if size == 0 && !execution.store.is_on_disk() {
        return Ok(Fetched::Whole(WholeBody::default()));
    }
    let http = again.as_deref().unwrap_or(&execution.worker.http);
    let body = execution.store.get(http, &file.key, 0..size, etag).await?;
    if body.is_on_disk() && reading == Reading::OnDemand && size > GATHERED_BYTES {
        return Ok(Fetched::Whole(WholeBody { unread: Some(body), ..WholeBody::default() }));
    }
    Ok(Fetched::Whole(WholeBody::fetched(gather(body, size).await?)))
}
