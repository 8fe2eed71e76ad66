//! Looks at the first and the last bytes of planned files, without fetching what lies between.

use crate::ltx::header::{HEADER_SIZE, Header};
use crate::ltx::trailer::{TRAILER_SIZE, Trailer};
use crate::ltx::{FormatError, Part};
use crate::plan::Plan;
use crate::restore::error::{ExecutionFailure, RestoreError};
use crate::restore::large::{PlannedContent, PlannedFile, note_asked_again};
use crate::restore::planner::{Planner, planned_sizes};
use crate::restore::replica_listing::{HEADERS_IN_FLIGHT, read_header};
use crate::restore::workers::Worker;
use crate::store::{Http, Store, StoreError};
use crate::wal::{BlockParser, WalError};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use std::ops::Range;
use std::rc::Rc;

/// The most bytes that the header of an LZ4 frame takes.
const LZ4_HEADER: u64 = 19;
/// The end mark of an LZ4 frame and the checksum of the content.
const LZ4_END: u64 = 8;
/// Databases of Litestream 0.3 are taken to be four times as large as their files, since their size is stored nowhere.
const V3_RATIO: u64 = 4;

/// Makes a plan and reads the header and the trailer of each of its files. If one is wrong, plans again.
///
/// # Errors
/// As a restore's.
pub(super) async fn verify(worker: &Rc<Worker>, planner: &mut Planner<'_>) -> Result<Plan, RestoreError> {
    // This loop ends for the reason that is given in `execute_plans`.
    loop {
        let plan = planner.plan().await?;
        let files = planner.files(&plan)?;
        planner.requests += 2 * files.len() as u64;
        let store = planner.store;
        let looks = stream::iter(files.iter().enumerate()).map(|(i, file)| async move {
            match look(&worker.http, store, i, file).await {
                // A bit may have been flipped on the way from a bucket.
                Err(failure) if failure.wrong_content().is_some() && !store.is_on_disk() => {
                    if let Some((_, error)) = failure.wrong_content() {
                        note_asked_again(worker, &file.key, None, error);
                    }
                    let http = worker.http.on_other_connections();
                    Box::pin(look(&http, store, i, file)).await
                }
                looked => looked,
            }
        });
        let mut looks = looks.buffered(HEADERS_IN_FLIGHT);
        let mut failure = None;
        let mut newest = None;
        while let Some(looked) = looks.next().await {
            match looked {
                Ok(header) => newest = header,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        drop(looks);
        match failure {
            Some(failure) => drop(planner.learn(&plan, &files, failure).await?),
            None => {
                if let (Some(header), Some(&file)) = (newest, plan.files.last()) {
                    planner.set_time(file, header.timestamp());
                }
                return Ok(plan);
            }
        }
    }
}

/// The size of the database in bytes: from the header of the newest planned file, or an estimate for files of
/// Litestream 0.3.
pub(super) async fn database_bytes(worker: &Rc<Worker>, planner: &mut Planner<'_>) -> Result<u64, RestoreError> {
    let Ok(plan) = planner.plan().await else { return Ok(0) };
    if plan.v3.is_some() {
        return Ok(planned_sizes(&planner.replica, &plan).sum::<u64>().saturating_mul(V3_RATIO));
    }
    let files = planner.files(&plan)?;
    let Some(newest) = files.last() else { return Ok(0) };
    planner.requests += 1;
    let read = read_header(&worker.http, planner.store, &newest.key, newest.size, newest.etag.as_ref()).await;
    Ok(read.ok().and_then(|(header, _)| Header::parse(&header).ok()).map_or(0, |header| header.database_bytes()))
}

/// Reads the ends of file `i` of the plan. Returns the header of an LTX file.
async fn look(http: &Http, store: &Store, i: usize, file: &PlannedFile) -> Result<Option<Header>, ExecutionFailure> {
    let failed = |error: StoreError| ExecutionFailure::of_request(i, error);
    match file.content {
        PlannedContent::Ltx { min_txid, max_txid } => {
            let damaged = |error| ExecutionFailure::Damaged { file: i, error };
            let ends = (HEADER_SIZE as u64, TRAILER_SIZE as u64);
            if file.size < ends.0 + ends.1 {
                let (size, needed) = (file.size, ends.0 + ends.1);
                return Err(damaged(FormatError::Truncated { part: Part::Header, size, needed }));
            }
            let head = read(http, store, file, 0..ends.0).await.map_err(failed)?;
            let header = Header::parse(&head).map_err(damaged)?;
            crate::ltx::name::check_name(&header, min_txid, max_txid).map_err(damaged)?;
            let at = file.size - ends.1;
            let tail = read(http, store, file, at..file.size).await.map_err(failed)?;
            if let Some(trailer) = tail.first_chunk::<TRAILER_SIZE>() {
                Trailer::parse(trailer, at, &header).map_err(damaged)?;
            }
            Ok(Some(header))
        }
        PlannedContent::V3 { kind, .. } if kind.is_packed() => {
            let damaged = |error| ExecutionFailure::Wal { file: i, error };
            let head = read(http, store, file, 0..file.size.min(LZ4_HEADER)).await.map_err(failed)?;
            let mut parser = BlockParser::new(file.size);
            parser.push(Bytes::from(head));
            parser.next().map_err(damaged)?;
            let has_checksum = parser.info().is_some_and(|info| info.content_checksum);
            let end = if has_checksum { LZ4_END } else { LZ4_END / 2 };
            let at = file.size.saturating_sub(end);
            let tail = read(http, store, file, at..file.size).await.map_err(failed)?;
            match tail.first_chunk::<4>() {
                Some([0, 0, 0, 0]) => Ok(None),
                _ => Err(damaged(WalError::Truncated { size: file.size, part: "LZ4 blocks, before the end mark" })),
            }
        }
        PlannedContent::V3 { .. } => Ok(None),
    }
}

/// Reads a few bytes of a file.
async fn read(http: &Http, store: &Store, file: &PlannedFile, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
    let mut body = store.get(http, &file.key, range, file.etag.as_ref()).await?;
    let mut bytes = Vec::new();
    // Ends: the body yields the bytes of the range, then None, or an error.
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
