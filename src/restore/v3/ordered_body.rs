//! The bytes of a planned file in order. A large object of a bucket is fetched in parts, several at a time, because one
//! connection is slower than the network.

use crate::restore::ahead::Ahead;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::Execution;
use crate::restore::execute::fetch::collect_body;
use crate::restore::large::{PlannedFile, request_permit};
use crate::store::{Body, StoreError};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

/// A part of a large object is half as long as a segment of an LTX file: 4 MiB.
const PART_DIVISOR: u64 = 2;
/// At most 6 parts of one object are fetched at a time, including those that wait to be decoded.
pub(super) const PARTS_IN_FLIGHT: usize = 6;

type ObjectPart<'a> = LocalBoxFuture<'a, Result<Vec<Bytes>, StoreError>>;
type ObjectParts<'a> = Ahead<Box<dyn Iterator<Item = ObjectPart<'a>> + 'a>, ObjectPart<'a>>;

/// The body of file `file` of the plan, chunk by chunk.
pub(super) struct OrderedBody<'a> {
    file: usize,
    /// The chunks of the part that was fetched last.
    chunks: std::vec::IntoIter<Bytes>,
    rest: Rest<'a>,
}

enum Rest<'a> {
    Parts(ObjectParts<'a>),
    /// A file on disk, or an object of a service that does not send ranges.
    Stream(Body),
    None,
}

/// The length of one part of a large object in bytes.
pub(super) fn part_bytes(execution: &Execution<'_>) -> u64 {
    (execution.worker.shared.segment_bytes / PART_DIVISOR).max(1)
}

/// Whether [`OrderedBody`] fetches this file in parts, as its chunks are asked for.
pub(super) fn is_fetched_in_parts(execution: &Execution<'_>, planned: &PlannedFile) -> bool {
    let store = execution.store;
    !store.is_on_disk() && planned.size > part_bytes(execution) && !store.ignores_ranges()
}

impl<'a> OrderedBody<'a> {
    /// Opens file `file` of the plan, which is `planned`. It is fetched as its chunks are asked for.
    ///
    /// # Errors
    /// The file cannot be opened, or the request fails.
    pub(super) async fn open(
        execution: &'a Execution<'_>,
        file: usize,
        planned: &'a PlannedFile,
    ) -> Result<OrderedBody<'a>, ExecutionFailure> {
        let worker = execution.worker;
        let is_on_disk = execution.store.is_on_disk();
        let none = std::vec::IntoIter::default();
        if planned.size == 0 && !is_on_disk {
            return Ok(Self { file, chunks: none, rest: Rest::None });
        }
        let part = part_bytes(execution);
        if !is_fetched_in_parts(execution, planned) {
            let _permit = request_permit(execution.requests.as_deref()).await;
            let body = execution.store.get(&worker.http, &planned.key, 0..planned.size, planned.etag.as_ref()).await;
            let body = body.map_err(|e| ExecutionFailure::of_request(file, e))?;
            return Ok(Self { file, chunks: none, rest: Rest::Stream(body) });
        }
        let starts = (0..planned.size).step_by(usize::try_from(part).unwrap_or(usize::MAX));
        let parts = starts.map(move |at| {
            async move {
                let _permit = request_permit(execution.requests.as_deref()).await;
                let range = at..(at + part).min(planned.size);
                let body = execution.store.get(&worker.http, &planned.key, range, planned.etag.as_ref()).await?;
                chunks_of(body).await
            }
            .boxed_local()
        });
        let parts = Ahead::new(Box::new(parts) as Box<dyn Iterator<Item = ObjectPart<'a>> + 'a>, PARTS_IN_FLIGHT);
        Ok(Self { file, chunks: none, rest: Rest::Parts(parts) })
    }

    /// A body that is in memory as a whole.
    pub(super) fn fetched(file: usize, chunks: Vec<Bytes>) -> Self {
        Self { file, chunks: chunks.into_iter(), rest: Rest::None }
    }

    /// Begins to fetch the first parts. They go on during [`Self::during`].
    pub(super) fn start(&mut self) {
        if let Rest::Parts(parts) = &mut self.rest {
            parts.start();
        }
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

/// Fetches the whole body of file `file` of the plan, on other connections than before if `is_again`.
pub(super) async fn fetch_whole(
    execution: &Execution<'_>,
    file: usize,
    planned: &PlannedFile,
    is_again: bool,
) -> Result<Vec<Bytes>, ExecutionFailure> {
    let _permit = request_permit(execution.requests.as_deref()).await;
    let other = is_again.then(|| execution.worker.http.on_other_connections());
    let http = other.as_ref().unwrap_or(&execution.worker.http);
    let body = collect_body(execution.store, http, &planned.key, planned.size, planned.etag.as_ref()).await;
    body.map_err(|e| ExecutionFailure::of_request(file, e))
}
