//! The requests for a large file apart from its segments: GETs of its header and of its last bytes. If the
//! file proves damaged, it is read once more from its beginning, to find the first error for the message.

use crate::catalogue::V3Kind;
use crate::ltx::decoder::{DecodeStep, FileDecoder};
use crate::ltx::header::{HEADER_SIZE, Header};
use crate::ltx::{FormatError, Txid};
use crate::restore::error::ExecutionFailure;
use crate::restore::large::cuts::{END_DIVISOR, segment_len};
use crate::restore::workers::Worker;
use crate::store::{Body, Etag, Http, Store, StoreError};
use crate::timestamp::Timestamp;
use futures_util::future::{LocalBoxFuture, try_join, try_join_all};
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The last 1/128 of a large file (the tail) is fetched first, because the page index is at the file's end
/// and its size is not known. An index entry takes about 1/256 of the size of its frame, so 1/128 most likely
/// holds the whole index.
const TAIL_GUESS_DIVISOR: u64 = 128;
/// The tail that is fetched first has at least 64 KiB and at most 4 MiB.
const TAIL_GUESS_BYTES: Range<u64> = 64 << 10..4 << 20;
/// The tail is fetched by several GETs side by side, each of 1/16 of a segment (512 KiB). This saves time,
/// because no segment can begin before the index was read.
const TAIL_PART_DIVISOR: u64 = 16;
/// A GET of a part of the tail fetches at least 16 KiB.
const SMALLEST_TAIL_PART_BYTES: u64 = 16 << 10;
/// A damaged large file of up to 1 GiB is read once more from its beginning, so that the error message names
/// the first error in the file. Without that it would name the error of the segment that failed first. Files
/// larger than 1 GiB are not read again, because that would take too long.
const DIAGNOSED_BYTES: u64 = 1 << 30;

/// A file of the plan, with the key that it is fetched by.
#[derive(Debug, Clone)]
pub(crate) struct PlannedFile {
    /// Key of the object, or path of the local file.
    pub key: String,
    /// Size of the file in bytes, as listed.
    pub size: u64,
    /// ETag of the object, as listed.
    pub etag: Option<Etag>,
    /// What the file holds.
    pub content: PlannedContent,
    /// True if the plan is executed once more because this file's content was wrong. If it is wrong again, the file is
    /// damaged.
    pub asked_again: bool,
}

/// What a planned file holds, as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlannedContent {
    /// An LTX file with these TXIDs.
    Ltx { min_txid: Txid, max_txid: Txid },
    /// A file of Litestream 0.3 that belongs to this index.
    V3 { index: u32, kind: V3Kind, last_modified: Timestamp },
}

impl PlannedContent {
    /// The TXIDs in the name of an LTX file.
    pub(crate) const fn txids(self) -> Option<(Txid, Txid)> {
        match self {
            Self::Ltx { min_txid, max_txid } => Some((min_txid, max_txid)),
            Self::V3 { .. } => None,
        }
    }
}

/// A reader for one large file.
#[derive(Clone, Copy)]
pub(crate) struct LargeSource<'a> {
    pub worker: &'a Worker,
    /// The HTTP connections that the requests use.
    pub http: &'a Http,
    /// The store (bucket or local disk) that holds the file.
    pub store: &'a Store,
    pub planned: &'a PlannedFile,
    /// One permit per request of this database that may be in flight (`-parallelism`). None: no limit.
    pub requests: Option<&'a Semaphore>,
}

/// The bytes of a large file that are fetched before its pages: the header and the last bytes.
pub(crate) struct Footer {
    /// The header: the first 100 bytes of the file.
    pub head: [u8; HEADER_SIZE],
    /// The last bytes of the file. They hold the trailer and most likely the whole page index.
    pub tail: Vec<u8>,
    /// ETag of the object that these bytes came from. Segments send it as `If-Match`, so that all parts are from the
    /// same object.
    pub etag: Option<Etag>,
    /// The connections on which it was fetched, if it was fetched for the second time because its content was wrong.
    pub again: Option<Rc<Http>>,
}

/// The number of bytes at the end of a file of `size` bytes that are fetched first.
fn tail_guess(size: u64) -> u64 {
    (size / TAIL_GUESS_DIVISOR).clamp(TAIL_GUESS_BYTES.start, TAIL_GUESS_BYTES.end).min(size)
}

/// The number of bytes of the tail that one GET fetches.
fn tail_part(segment_bytes: u64) -> u64 {
    (segment_bytes / TAIL_PART_DIVISOR).max(SMALLEST_TAIL_PART_BYTES)
}

/// Estimates the number of GETs that fetch a file of `size` bytes. A file of up to `segment_bytes` takes one.
/// A larger one takes one for the header, one for each part of the tail, and one for each segment.
pub(crate) fn gets(size: u64, segment_bytes: u64) -> u64 {
    if size <= segment_bytes {
        return 1;
    }
    let segment_bytes = segment_bytes.max(1);
    let whole = size.saturating_sub(segment_bytes.saturating_mul(END_DIVISOR)) / segment_bytes;
    let tail = tail_guess(size).div_ceil(tail_part(segment_bytes));
    let (mut gets, mut offset) = (1 + tail + whole, whole * segment_bytes);
    // This loop terminates, because `segment_len` returns at least 1.
    while offset < size {
        gets += 1;
        offset = offset.saturating_add(segment_len(offset, size, segment_bytes));
    }
    gets
}

/// Waits until the database may have one more request in flight (`-parallelism`), and returns the permit.
/// Returns None at once if the number of requests has no limit.
pub(crate) async fn request_permit(requests: Option<&Semaphore>) -> Option<SemaphorePermit<'_>> {
    let permit = requests?.acquire().await;
    debug_assert!(permit.is_ok(), "the semaphore of -parallelism is never closed");
    permit.ok()
}

/// Says with `-v` that what arrived of the object `key` is wrong and is asked for once more, and counts it.
pub(crate) fn note_asked_again(worker: &Worker, key: &str, range: Option<&Range<u64>>, error: &dyn fmt::Display) {
    worker.shared.counters.retries.add(1);
    let range = range.map(|range| format!("{}-{}", range.start, range.end.saturating_sub(1)));
    let cure = "asked for once more on another connection";
    tracing::debug!(target: "hydrant::s3", key, range, %error, cure, "what arrived is damaged");
}

impl LargeSource<'_> {
    /// Whether the file may be asked for once more if its content is wrong. What a bucket sends may have been changed on
    /// its way. A file on a local disk would be read the same again.
    pub(crate) fn may_ask_again(self) -> bool {
        !self.store.is_on_disk() && !self.planned.asked_again && self.planned.size > 0
    }

    /// Fetches the file's header and its last bytes, with several GETs side by side.
    ///
    /// # Errors
    /// [`StoreError`] if a GET fails and all its retries do.
    pub(crate) async fn footer(self) -> Result<Footer, StoreError> {
        let (size, etag) = (self.planned.size, self.planned.etag.as_ref());
        let begin = size - tail_guess(size);
        let (mut head, mut tail) = ([0; HEADER_SIZE], vec![0; (size - begin) as usize]);
        let part_bytes = tail_part(self.worker.shared.segment_bytes) as usize;
        let parts = tail.chunks_mut(part_bytes).zip((begin..size).step_by(part_bytes));
        let parts = parts.map(|(part, at)| self.fetch(at, part));
        let (head_etag, _) = try_join(self.fetch(0, &mut head), try_join_all(parts)).await?;
        Ok(Footer { head, tail, etag: etag.cloned().or(head_etag), again: None })
    }

    /// Fills `into` with the file's bytes, beginning at byte offset `at`. Returns the ETag of the response.
    async fn fetch(self, at: u64, into: &mut [u8]) -> Result<Option<Etag>, StoreError> {
        let _permit = request_permit(self.requests).await;
        let mut body = self.get(at..at + into.len() as u64, self.planned.etag.as_ref()).await?;
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

    /// Sends a GET for the bytes `range` of the file. If `etag` is given, it is sent as `If-Match`, so that the
    /// store answers 412 (Precondition Failed) if the object was replaced.
    pub(crate) async fn get(self, range: Range<u64>, etag: Option<&Etag>) -> Result<Body, StoreError> {
        self.store.get(self.http, &self.planned.key, range, etag).await
    }

    /// Reads the whole file, which is file `file` of the plan, and returns the first error in its content.
    ///
    /// Returns None in three cases: the content has no error, a request fails for a reason that has nothing to
    /// do with this file, or the file is larger than [`DIAGNOSED_BYTES`].
    pub(crate) fn fault<'b>(self, file: usize, etag: Option<&'b Etag>) -> LocalBoxFuture<'b, Option<ExecutionFailure>>
    where
        Self: 'b,
    {
        // The future is boxed. Otherwise the future of every restore would be larger by its size, although
        // it is rarely needed.
        Box::pin(async move {
            match self.read_whole(etag).await {
                Ok(error) => error.map(|error| ExecutionFailure::Damaged { file, error }),
                Err(e) if e.is_unreadable() || e.is_stale_listing() => Some(ExecutionFailure::of_request(file, e)),
                Err(_) => None,
            }
        })
    }

    /// Reads and decodes the whole file. Returns the first error in its content, or None if it has none or is
    /// larger than [`DIAGNOSED_BYTES`].
    async fn read_whole(self, etag: Option<&Etag>) -> Result<Option<FormatError>, StoreError> {
        let (size, txids) = (self.planned.size, self.planned.content.txids());
        if size > DIAGNOSED_BYTES {
            return Ok(None);
        }
        let _permit = request_permit(self.requests).await;
        let mut body = self.get(0..size, etag).await?;
        let mut decoder = FileDecoder::new(size, txids);
        let mut page = Vec::new();
        // This loop terminates, because each turn consumes a part of the body, which has `size` bytes.
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
