//! A planned file's body: fetched whole, or read from a disk while it is decoded.

use crate::ltx::decoder::FileDecoder;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::execution::Execution;
use crate::restore::large::{Footer, PlannedFile, request_permit};
use crate::store::{Body, StoreError};
use bytes::Bytes;

/// Increments of one database that are fetched ahead of the one being claimed.
pub(super) const INCREMENTS_IN_FLIGHT: usize = 64;
/// Bodies up to 128 KiB are copied into one buffer. A chunk keeps its connection's whole buffer
/// alive, and hundreds of waiting bodies would hold many times their size. On a disk such a body is
/// one read.
const GATHERED_BYTES: u64 = 128 << 10;

/// A file's body, or the footer of a file that is too large for one GET.
pub(super) enum Fetched {
    Whole(WholeBody),
    Footer(Footer),
}

/// When a file on a disk is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// At once: the file is not kept open while others are worked on.
    Now,
    /// Chunk by chunk as it is decoded: two buffers are enough, and they stay in the core's cache.
    /// Files of up to [`GATHERED_BYTES`] are read at once also here.
    OnDemand,
}

/// A body that fits one GET.
#[derive(Default)]
pub(super) struct WholeBody {
    fetched: std::vec::IntoIter<Bytes>,
    /// The rest, still on a disk.
    unread: Option<Body>,
}

impl WholeBody {
    fn fetched(chunks: Vec<Bytes>) -> Self {
        Self { fetched: chunks.into_iter(), unread: None }
    }

    /// Pushes the next chunk into the decoder of file `i`.
    pub(super) async fn feed(&mut self, decoder: &mut FileDecoder, i: usize) -> Result<(), ExecutionFailure> {
        let chunk = match (self.fetched.next(), &mut self.unread) {
            (Some(chunk), _) => Some(chunk),
            (None, Some(unread)) => unread.chunk().await.map_err(|e| ExecutionFailure::of_request(i, e))?,
            (None, None) => None,
        };
        // The store gives all bytes that were asked for. If they are too few for the file's
        // content, the decoder fails instead of asking for more.
        let chunk = chunk.ok_or_else(|| ExecutionFailure::bug("a decoder asked for more than the file has"))?;
        decoder.push(chunk);
        Ok(())
    }
}

/// Fetches a file: its body, or its footer if it is large.
///
/// # Errors
/// The store's, after its retries.
pub(super) async fn fetch(
    execution: &Execution<'_>,
    file: &PlannedFile,
    reading: Reading,
) -> Result<Fetched, StoreError> {
    let (size, etag) = (file.file.size, file.file.etag.as_ref());
    if execution.is_large(&file.file) {
        return execution.source(file).footer().await.map(Fetched::Footer);
    }
    let _permit = request_permit(execution.requests.as_deref()).await;
    // On a disk, size 0 may mean that the size could not be read: the file is opened nevertheless.
    if size == 0 && !execution.store.is_on_disk() {
        return Ok(Fetched::Whole(WholeBody::default()));
    }
    let mut body = execution.store.get(&execution.worker.http, &file.key, 0..size, etag).await?;
    if body.is_on_disk() {
        if reading == Reading::OnDemand && size > GATHERED_BYTES {
            return Ok(Fetched::Whole(WholeBody { unread: Some(body), ..WholeBody::default() }));
        }
    } else if size <= GATHERED_BYTES {
        let mut gathered = Vec::with_capacity(size as usize);
        while let Some(chunk) = body.chunk().await? {
            gathered.extend_from_slice(&chunk);
        }
        return Ok(Fetched::Whole(WholeBody::fetched(vec![gathered.into()])));
    }
    let mut chunks = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        chunks.push(chunk);
    }
    Ok(Fetched::Whole(WholeBody::fetched(chunks)))
}
