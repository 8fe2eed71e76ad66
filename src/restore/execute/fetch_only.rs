//! Sends all requests of a restore and discards the bodies without decoding them. `hydrant bench` uses it
//! to measure the network and the HTTP client alone.

use crate::restore::error::ExecutionFailure;
use crate::restore::execute::execution::Execution;
use crate::restore::execute::fetch::{Fetched, INCREMENTS_IN_FLIGHT, Reading, fetch, fetch_again};
use crate::restore::large::{Indexed, PlannedFile, SegmentContext, Segments, request_permit};
use crate::restore::page_map::{Overlay, PageMap, Winners};
use crate::store::StoreError;
use futures_util::{StreamExt, stream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Fetches all planned files and discards their bytes. Small files are fetched whole. Of large files the
/// header and the page index are fetched first, then all workers fetch the segments.
///
/// # Errors
/// A request fails, or the page index of a large file is damaged, so that its segments are not known.
pub(crate) async fn fetch_only(execution: &Execution<'_>) -> Result<(), ExecutionFailure> {
    let _permit = execution.large_database_permit().await;
    let fetches = execution.files.iter().enumerate().rev().map(|(i, file)| async move {
        if !execution.is_large(file) || execution.store.ignores_ranges() {
            fetch_and_discard(execution, file).await.map_err(|e| ExecutionFailure::of_request(i, e))?;
            return Ok::<_, ExecutionFailure>(None);
        }
        let footer = match fetch(execution, file, Reading::Now).await.map_err(|e| ExecutionFailure::of_request(i, e))? {
            Fetched::Footer(footer) => footer,
            // The service does not send ranges.
            Fetched::Whole(_) => {
                fetch_and_discard(execution, file).await.map_err(|e| ExecutionFailure::of_request(i, e))?;
                return Ok(None);
            }
        };
        let indexed = match Indexed::read(execution.source(file, None), i, footer, &mut |_| {}).await {
            Err(failure) if execution.may_ask_again(i, &failure) => match fetch_again(execution, i, &failure).await? {
                Fetched::Footer(footer) => {
                    let again = footer.again.clone();
                    Indexed::read(execution.source(file, again.as_deref()), i, footer, &mut |_| {}).await?
                }
                Fetched::Whole(_) => return Err(failure),
            },
            indexed => indexed?,
        };
        Ok(Some(indexed))
    });
    let mut fetches = stream::iter(fetches).buffer_unordered(INCREMENTS_IN_FLIGHT);
    let mut indexed = Vec::new();
    while let Some(fetched) = fetches.next().await {
        indexed.extend(fetched?);
    }
    let Some(page_size) = indexed.first().map(|indexed| indexed.file.header.page_size) else { return Ok(()) };
    let context = SegmentContext {
        store: execution.store.clone(),
        output: None,
        fetch_only: true,
        winners: Arc::new(Winners { map: PageMap::new(0, None), overlay: Overlay::new(page_size, 0) }),
        tracked: false,
        requests: execution.requests.clone(),
        stopped: AtomicBool::new(false),
    };
    Segments::start(context, indexed, &execution.worker.shared).finish().await.map(drop)
}

/// Fetches the small file `file` with one GET and discards its bytes. An empty file needs no request.
async fn fetch_and_discard(execution: &Execution<'_>, file: &PlannedFile) -> Result<(), StoreError> {
    let _permit = request_permit(execution.requests.as_deref()).await;
    if file.size > 0 {
        let (whole, etag) = (0..file.size, file.etag.as_ref());
        let mut body = execution.store.get(&execution.worker.http, &file.key, whole, etag).await?;
        while body.chunk().await?.is_some() {}
    }
    Ok(())
}
