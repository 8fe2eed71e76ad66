//! The bytes of a planned file in order. A large object of a bucket is fetched in parts, several at a time, because one
//! connection is slower than the network.

use crate::restore::ahead::Ahead;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::Execution;
use crate::restore::execute::fetch::collect_body;
use crate::restore::large::{PlannedFile, request_permit};
use crate::store::{Body, Http, StoreError};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

/// A part of a large object is half as long as a segment of an LTX file: 4 MiB.
const PART_DIVISOR: u64 = 2;
/// At most 6 parts of one object are fetched at a time, including those that wait to be decoded.
pub(super) const PARTS_IN_FLIGHT: usize = 6;

type Part<'a> = LocalBoxFuture<'a, Result<Vec<Bytes>, StoreError>>;
type Parts<'a> = Ahead<Box<dyn Iterator<Item = Part<'a>> + 'a>, Part<'a>>;

/// The body of file `file` of the plan, chunk by chunk.
pub(super) struct OrderedBody<'a> {
    file: usize,
    /// The chunks of the part that was fetched last.
    chunks: std::vec::IntoIter<Bytes>,
    rest: Rest<'a>,
}

enum Rest<'a> {
    Parts(Parts<'a>),
    /// A file on disk, or an object of a service that does not send ranges.
    Stream(Body),
    None,
}

/// The length of one part of a large object in bytes.
pub(super) fn part_bytes(execution: &Execution<'_>) -> u64 {
    (execution.worker.shared.segment_bytes / PART_DIVISOR).max(1)
}

impl<'a> OrderedBody<'a> {
    /// Opens file `file` of the plan, which is `planned`. It is fetched as its chunks are asked for, on the connections
    /// `http`.
    ///
    /// # Errors
    /// The file cannot be opened, or the request fails.
    pub(super) async fn open(
        execution: &'a Execution<'_>,
        http: &'a Http,
        file: usize,
        planned: &'a PlannedFile,
    ) -> Result<OrderedBody<'a>, ExecutionFailure> {
        let is_on_disk = execution.store.is_on_disk();
        let none = std::vec::IntoIter::default();
        if planned.size == 0 && !is_on_disk {
            return Ok(Self { file, chunks: none, rest: Rest::None });
        }
        let part = part_bytes(execution);
        if is_on_disk || planned.size <= part || execution.store.ignores_ranges() {
            let _permit = request_permit(execution.requests.as_deref()).await;
            let body = execution.store.get(http, &planned.key, 0..planned.size, planned.etag.as_ref()).await;
            let body = body.map_err(|e| ExecutionFailure::of_request(file, e))?;
            return Ok(Self { file, chunks: none, rest: Rest::Stream(body) });
        }
        let starts = (0..planned.size).step_by(usize::try_from(part).unwrap_or(usize::MAX));
        let parts = starts.map(move |at| {
            async move {
                let _permit = request_permit(execution.requests.as_deref()).await;
                let range = at..(at + part).min(planned.size);
                let body = execution.store.get(http, &planned.key, range, planned.etag.as_ref()).await?;
                chunks_of(body).await
            }
            .boxed_local()
        });
        let parts = Ahead::new(Box::new(parts) as Box<dyn Iterator<Item = Part<'a>> + 'a>, PARTS_IN_FLIGHT);
        Ok(Self { file, chunks: none, rest: Rest::Parts(parts) })
    }

    /// Returns the next chunk. None at the end of the file.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, ExecutionFailure> {
        let failed = |error: StoreError| ExecutionFailure::of_request(self.file, error);
        // This loop ends: each turn takes one of finitely many parts.
        loop {
            if let Some(chunk) = self.chunks.next() {
                return Ok(Some(chunk));
            }
            match &mut self.rest {
                Rest::None => return Ok(None),
                Rest::Stream(body) => return body.chunk().await.map_err(failed),
                Rest::Parts(parts) => match parts.next().await {
                    Some(part) => self.chunks = part.map_err(failed)?.into_iter(),
                    None => return Ok(None),
                },
            }
        }
    }

    /// Awaits `work`. The parts in flight are fetched meanwhile.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        match &mut self.rest {
            Rest::Parts(parts) => parts.during(work).await,
            Rest::Stream(_) | Rest::None => work.await,
        }
    }
}

async fn chunks_of(mut body: Body) -> Result<Vec<Bytes>, StoreError> {
    let mut chunks = Vec::new();
    // Ends: the body yields the bytes of the range, then None, or an error.
    while let Some(chunk) = body.chunk().await? {
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// Fetches the whole body of file `file` of the plan on the connections `http`.
pub(super) async fn fetch_whole(
    execution: &Execution<'_>,
    http: &Http,
    file: usize,
    planned: &PlannedFile,
) -> Result<Vec<Bytes>, ExecutionFailure> {
    let _permit = request_permit(execution.requests.as_deref()).await;
    let body = collect_body(execution.store, http, &planned.key, planned.size, planned.etag.as_ref()).await;
    body.map_err(|e| ExecutionFailure::of_request(file, e))
}
