//! Fetches the body of a planned file. A small object of a bucket is fetched whole. A file on a local disk
//! can instead be read in chunks while it is decoded. Of a file that is too large for one GET only the
//! first and last bytes are fetched here.

use crate::ltx::decoder::FileDecoder;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::execution::Execution;
use crate::restore::large::{Footer, PlannedFile, request_permit};
use crate::store::{Body, StoreError};
use bytes::Bytes;

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
    /// The open file on a local disk from which the rest is read. None if all is in memory.
    unread: Option<Body>,
}

impl WholeBody {
    fn fetched(chunks: Vec<Bytes>) -> Self {
        Self { fetched: chunks.into_iter(), unread: None }
    }

    /// Passes the next chunk of the body to `decoder`, which decodes file `i` of the plan.
    ///
    /// # Errors
    /// The local file cannot be read, or (a bug) the body has no further chunk.
    pub(super) async fn feed(&mut self, decoder: &mut FileDecoder, i: usize) -> Result<(), ExecutionFailure> {
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
    let (size, etag) = (file.file.size, file.file.etag.as_ref());
    if execution.is_large(&file.file) {
        return execution.source(file).footer().await.map(Fetched::Footer);
    }
    let _permit = request_permit(execution.requests.as_deref()).await;
    // An object of 0 bytes needs no request. On a local disk, size 0 may mean that the size could not be
    // read, so the file is opened nevertheless and a failure gets its own error.
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
