//! Where a large file is read from: GETs of its header, of its last bytes, and of all of it where
//! it is damaged and the error is to be named.

use crate::catalogue::LtxFile;
use crate::ltx::FormatError;
use crate::ltx::decoder::{DecodeStep, FileDecoder};
use crate::ltx::header::{HEADER_SIZE, Header};
use crate::restore::error::ExecutionFailure;
use crate::restore::large::cuts::{END_DIVISOR, segment_len};
use crate::restore::workers::Worker;
use crate::store::{Body, Etag, Store, StoreError};
use futures_util::future::{LocalBoxFuture, try_join, try_join_all};
use std::ops::Range;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The last 1/128 of a file is fetched first. An index entry takes about 1/256 of its frame, so
/// these bytes most likely hold the whole index.
const TAIL_GUESS_DIVISOR: u64 = 128;
/// Bounds of that guess, in bytes.
const TAIL_GUESS_BYTES: Range<u64> = 64 << 10..4 << 20;
/// The tail is fetched in parts of 1/16 of a segment, side by side, because no segment can begin
/// before the index is there.
const TAIL_PART_DIVISOR: u64 = 16;
/// Smallest part of the tail that gets a request of its own.
const SMALLEST_TAIL_PART_BYTES: u64 = 16 << 10;
/// A large file is checked in segments, so the first error found need not be the first in the file. If
/// the file is no larger than this, it is read once more from its beginning, and the error message names
/// the first error. Larger files would take too long.
const DIAGNOSED_BYTES: u64 = 1 << 30;

/// A file of the plan.
#[derive(Debug, Clone)]
pub(crate) struct PlannedFile {
    pub key: String,
    pub file: LtxFile,
}

/// Where a large file is read from.
#[derive(Clone, Copy)]
pub(crate) struct LargeSource<'a> {
    pub worker: &'a Worker,
    pub store: &'a Store,
    pub planned: &'a PlannedFile,
    /// Bounds the database's requests in flight (`-parallelism`).
    pub requests: Option<&'a Semaphore>,
}

/// The bytes of a large file that are fetched before its pages: its header, and its last bytes.
pub(crate) struct Footer {
    pub head: [u8; HEADER_SIZE],
    pub tail: Vec<u8>,
    pub etag: Option<Etag>,
}

/// How many of the last bytes of a file of `size` bytes are fetched first.
fn tail_guess(size: u64) -> u64 {
    (size / TAIL_GUESS_DIVISOR).clamp(TAIL_GUESS_BYTES.start, TAIL_GUESS_BYTES.end).min(size)
}

/// How many bytes of the tail one GET fetches.
fn tail_part(segment_bytes: u64) -> u64 {
    (segment_bytes / TAIL_PART_DIVISOR).max(SMALLEST_TAIL_PART_BYTES)
}

/// About how many GETs a file of `size` bytes takes: 1 up to `segment_bytes`; beyond, 1 for the
/// header, 1 for each part of the tail and 1 for each segment.
pub(crate) fn gets(size: u64, segment_bytes: u64) -> u64 {
    if size <= segment_bytes {
        return 1;
    }
    let segment_bytes = segment_bytes.max(1);
    let whole = size.saturating_sub(segment_bytes.saturating_mul(END_DIVISOR)) / segment_bytes;
    let tail = tail_guess(size).div_ceil(tail_part(segment_bytes));
    let (mut gets, mut offset) = (1 + tail + whole, whole * segment_bytes);
    // Terminates: a segment has at least 1 byte.
    while offset < size {
        gets += 1;
        offset = offset.saturating_add(segment_len(offset, size, segment_bytes));
    }
    gets
}

/// Waits until the database may make one more request. None if their number is not bounded.
pub(crate) async fn request_permit(requests: Option<&Semaphore>) -> Option<SemaphorePermit<'_>> {
    let permit = requests?.acquire().await;
    debug_assert!(permit.is_ok(), "the semaphore of -parallelism is never closed");
    permit.ok()
}

impl LargeSource<'_> {
    /// Fetches the header and the tail, side by side.
    ///
    /// # Errors
    /// The store's, after its retries.
    pub(crate) async fn footer(self) -> Result<Footer, StoreError> {
        let (size, etag) = (self.planned.file.size, self.planned.file.etag.as_ref());
        let begin = size - tail_guess(size);
        let (mut head, mut tail) = ([0; HEADER_SIZE], vec![0; (size - begin) as usize]);
        let part_bytes = tail_part(self.worker.shared.segment_bytes) as usize;
        let parts = tail.chunks_mut(part_bytes).zip((begin..size).step_by(part_bytes));
        let parts = parts.map(|(part, at)| self.fetch(at, part));
        let (head_etag, _) = try_join(self.fetch(0, &mut head), try_join_all(parts)).await?;
        Ok(Footer { head, tail, etag: etag.cloned().or(head_etag) })
    }

    /// Fills `into` with the file's bytes from `at` on. Returns the ETag of the response.
    async fn fetch(self, at: u64, into: &mut [u8]) -> Result<Option<Etag>, StoreError> {
        let _permit = request_permit(self.requests).await;
        let mut body = self.get(at..at + into.len() as u64, self.planned.file.etag.as_ref()).await?;
        let etag = body.etag().cloned();
        let mut rest = into;
        while let Some(chunk) = body.chunk().await? {
            debug_assert!(chunk.len() <= rest.len(), "a body is as long as the range that was asked for");
            let at_most = chunk.len().min(rest.len());
            let (now, later) = rest.split_at_mut(at_most);
            now.copy_from_slice(chunk.split_at(at_most).0);
            rest = later;
        }
        debug_assert!(rest.is_empty(), "a body is as long as the range that was asked for");
        Ok(etag)
    }

    /// Requests `range` of the file; 412 if the file's ETag is not `etag`.
    pub(crate) async fn get(self, range: Range<u64>, etag: Option<&Etag>) -> Result<Body, StoreError> {
        self.store.get(&self.worker.http, &self.planned.key, range, etag).await
    }

    /// Reads file `file` of the plan from its beginning to its end and returns the first error in
    /// its content. None if there is none, if a request fails for a reason that is not the file's
    /// own, or if the file is larger than [`DIAGNOSED_BYTES`].
    pub(crate) fn fault<'b>(self, file: usize, etag: Option<&'b Etag>) -> LocalBoxFuture<'b, Option<ExecutionFailure>>
    where
        Self: 'b,
    {
        // Boxed because it is rare: every restore's future would else have room for it.
        Box::pin(async move {
            match self.read_whole(etag).await {
                Ok(error) => error.map(|error| ExecutionFailure::Damaged { file, error }),
                Err(e) if e.is_unreadable() || e.is_stale_listing() => Some(ExecutionFailure::of_request(file, e)),
                Err(_) => None,
            }
        })
    }

    async fn read_whole(self, etag: Option<&Etag>) -> Result<Option<FormatError>, StoreError> {
        let LtxFile { size, min_txid, max_txid, .. } = self.planned.file;
        if size > DIAGNOSED_BYTES {
            return Ok(None);
        }
        let _permit = request_permit(self.requests).await;
        let mut body = self.get(0..size, etag).await?;
        let mut decoder = FileDecoder::new(size, Some((min_txid, max_txid)));
        let mut page = Vec::new();
        // Terminates: each turn takes a part of the body, whose length is `size`.
        loop {
            let step = match decoder.next_page() {
                Ok(DecodeStep::NeedMore) => {
                    let Some(chunk) = body.chunk().await? else {
                        debug_assert!(false, "a decoder needs no more than the file's {size} bytes");
                        return Ok(None);
                    };
                    decoder.push(chunk);
                    continue;
                }
                Ok(DecodeStep::Header(header)) => {
                    page = vec![0; header.page_size.bytes()];
                    continue;
                }
                Ok(DecodeStep::Page(encoded)) => encoded.decode_into(&mut page),
                Ok(DecodeStep::Done(_)) => return Ok(None),
                Err(error) => Err(error),
            };
            if let Err(error) = step {
                return Ok(Some(error));
            }
        }
    }
}

impl Footer {
    /// Parses the file's header.
    ///
    /// # Errors
    /// The header is malformed.
    pub(crate) fn header(&self) -> Result<Header, FormatError> {
        Header::parse(&self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_for_sizes_that_no_file_has() {
        assert_eq!((gets(0, 8 << 20), gets(8 << 20, 8 << 20)), (1, 1));
        assert_eq!(gets((8 << 20) + 1, 8 << 20), 1 + 1 + 9);
        assert!(gets(u64::MAX, 8 << 20) > 1 << 40);
        assert!(gets(1000, 1) > 900 && gets(u64::MAX, u64::MAX) == 1);
    }
}
