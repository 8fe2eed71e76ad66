//! Fetches one segment of a large LTX file. A segment is a range of whole page frames, about 8 MiB long.
//! One worker streams it, decodes and checks its pages, and writes those that win to the output. Any worker
//! can take any segment.

use crate::io::OutputFile;
use crate::ltx::crc::{DatabaseChecksum, FileCrc};
use crate::ltx::frame::{FrameParser, Next};
use crate::ltx::header::Header;
use crate::ltx::index::FrameHash;
use crate::ltx::{Fault, FormatError, Part};
use crate::restore::error::ExecutionFailure;
use crate::restore::large::cuts::SegmentBounds;
use crate::restore::large::source::{note_asked_again, request_permit};
use crate::restore::page_map::{PageMap, Winners};
use crate::restore::page_writer::{PageWriter, Placed};
use crate::restore::workers::Worker;
use crate::store::{Body, Etag, Http, Store};
use crate::telemetry::{Stage, Stopwatch};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Semaphore, mpsc};

/// The data that all segments of one database's large files share.
pub(crate) struct SegmentContext {
    /// The store that the segments are fetched from.
    pub store: Store,
    /// The output file that pages are written to. With None, decoded pages are checked and discarded.
    pub output: Option<Arc<OutputFile>>,
    /// True to discard fetched bytes without decoding them. `hydrant bench` uses this to measure fetching alone.
    pub fetch_only: bool,
    /// Which pages occur in increments (so the snapshot's copies are not written), and the content of those pages
    /// that wait in memory.
    pub winners: Arc<Winners>,
    /// True if the checksums of the written pages are to be computed, to be compared with the database checksum of
    /// the newest file.
    pub tracked: bool,
    /// One permit per request of this database that may be in flight (`-parallelism`). None: no limit.
    pub requests: Option<Arc<Semaphore>>,
    /// True once a segment has failed or the restore was dropped. The other segments then end at their next chunk.
    pub stopped: AtomicBool,
}

impl SegmentContext {
    /// The same data for segments that are asked for once more.
    pub(super) fn again(&self) -> Self {
        Self {
            store: self.store.clone(),
            output: self.output.clone(),
            fetch_only: self.fetch_only,
            winners: Arc::clone(&self.winners),
            tracked: self.tracked,
            requests: self.requests.clone(),
            stopped: AtomicBool::new(false),
        }
    }
}

/// A large file, with what its segments need to fetch and check their parts of it.
pub(crate) struct LargeFile {
    /// Index of the file in the plan. Errors name the file by it.
    pub planned: usize,
    /// Key of the object, or path of the local file.
    pub key: String,
    /// ETag of the object. It is sent as `If-Match`, so that a replaced object is noticed.
    pub etag: Option<Etag>,
    pub header: Header,
    /// For an increment: the pages of which it has the newest copy, which are to be written. None for the snapshot,
    /// which has the newest copy of every page that is in no increment.
    pub wins: Option<PageMap>,
    /// Whether what arrives is asked for once more if it is wrong.
    pub may_ask_again: bool,
}

/// One segment (a byte range of about 8 MiB) of one large file, as a job for any worker.
pub(super) struct Segment {
    pub context: Arc<SegmentContext>,
    pub file: Arc<LargeFile>,
    /// Index of this segment among the segments of all large files of the database. Results arrive in any order and
    /// are sorted by it.
    pub number: usize,
    pub bounds: Arc<SegmentBounds>,
    /// True if the whole file is asked for once more. The segment is not asked for a third time then.
    pub is_again: bool,
    /// The channel on which the segment sends its result to the task that restores the database.
    pub done: mpsc::UnboundedSender<SegmentDone>,
}

/// The message that a segment sends when it has ended: its number and its result.
pub(super) struct SegmentDone {
    /// Index of this segment among the segments of all large files of the database. Results arrive in any order and
    /// are sorted by it.
    pub number: usize,
    pub result: Result<SegmentOutput, ExecutionFailure>,
}

/// The checksums of a segment that was fetched and written.
pub(crate) struct SegmentOutput {
    /// CRC of the bytes of the segment's page frames.
    pub crc: FileCrc,
    /// Number and checksum of the pages that this segment has written to the output.
    pub placed: Placed,
    /// For a snapshot that carries a checksum of the whole database: XOR of the checksums of all pages of the
    /// segment, whether they were written or not. For other files it stays 0.
    pub checksum: DatabaseChecksum,
}

impl Segment {
    /// Fetches the segment and sends its result on [`Segment::done`]. If another segment of the database has failed,
    /// the result is [`ExecutionFailure::Stopped`].
    pub(super) async fn run(self, worker: &Worker) {
        let result = if self.context.stopped.load(Ordering::Relaxed) {
            Err(ExecutionFailure::Stopped)
        } else {
            self.stream_or_again(worker).await
        };
        if result.is_err() {
            self.context.stopped.store(true, Ordering::Relaxed);
        }
        // `send` fails if the restore of this database was dropped. The result is not needed then.
        let _ = self.done.send(SegmentDone { number: self.number, result });
    }

    /// Fetches, decodes and writes the segment. If its frames are wrong, it is asked for once more on another connection.
    async fn stream_or_again(&self, worker: &Worker) -> Result<SegmentOutput, ExecutionFailure> {
        let _permit = request_permit(self.context.requests.as_deref()).await;
        if self.is_again {
            return Box::pin(self.stream(worker, &worker.http.on_other_connections())).await;
        }
        let failure = match self.stream(worker, &worker.http).await {
            Err(failure) if self.file.may_ask_again => failure,
            result => return result,
        };
        let Some((_, error)) = failure.wrong_content() else { return Err(failure) };
        note_asked_again(worker, &self.file.key, Some(&self.bounds.bytes), error);
        let http = worker.http.on_other_connections();
        // The future is boxed, so that the future of every segment does not grow by what is rarely needed.
        match Box::pin(self.stream(worker, &http)).await {
            // The frames agree with each other, but not with the page index. So the index may be what is wrong.
            Err(failure) if is_index_disagreement(&failure) => {
                Err(ExecutionFailure::Again { file: self.file.planned, failure: Box::new(failure) })
            }
            result => result,
        }
    }

    /// Fetches the segment with one GET, decodes its pages as they arrive, and writes those of which this file has
    /// the newest copy. If it fails, no write is in flight any more.
    async fn stream(&self, worker: &Worker, http: &Http) -> Result<SegmentOutput, ExecutionFailure> {
        let (context, file) = (&*self.context, &*self.file);
        let failed = |error| ExecutionFailure::of_request(file.planned, error);
        let body = context.store.get(http, &file.key, self.bounds.bytes.clone(), file.etag.as_ref());
        let mut body = body.await.map_err(failed)?;
        if context.fetch_only {
            while body.chunk().await.map_err(failed)?.is_some() {
                if context.stopped.load(Ordering::Relaxed) {
                    return Err(ExecutionFailure::Stopped);
                }
            }
            let (crc, checksum) = (FileCrc::new(), DatabaseChecksum::default());
            return Ok(SegmentOutput { crc, placed: Placed::default(), checksum });
        }
        let mut writer = PageWriter::new(
            worker,
            context.output.as_ref(),
            file.header.page_size,
            Arc::clone(&context.winners),
            self.overlay_share(),
            context.tracked,
        );
        match self.decode(worker, &mut body, &mut writer).await {
            Ok((crc, checksum)) => Ok(SegmentOutput { crc, placed: writer.finish().await?, checksum }),
            Err(failure) => {
                writer.give_up().await?;
                Err(failure)
            }
        }
    }

    /// Decodes the segment's pages as they arrive and passes those of which this file has the newest copy to `writer`.
    /// Returns the CRC of the frames and the XOR of the pages' checksums.
    async fn decode(
        &self,
        worker: &Worker,
        body: &mut Body,
        writer: &mut PageWriter,
    ) -> Result<(FileCrc, DatabaseChecksum), ExecutionFailure> {
        let (context, file, bounds) = (&*self.context, &*self.file, &self.bounds);
        let damaged = |error| ExecutionFailure::Damaged { file: file.planned, error };
        let failed = |error| ExecutionFailure::of_request(file.planned, error);
        let index_disagrees = || {
            let (part, offset) = (Part::Index, bounds.bytes.start);
            damaged(FormatError::Malformed { part, offset, fault: Fault::IndexDisagrees })
        };
        let page_size = file.header.page_size;
        let wants_checksum = is_tracked_snapshot(&file.header);
        let mut parser = FrameParser::new(page_size, bounds.bytes.start, bounds.after);
        let mut loser = vec![0; page_size.bytes()];
        let (mut crc, mut frames, mut checksum) = (FileCrc::new(), FrameHash::new(), DatabaseChecksum::default());
        let mut watch = Stopwatch::start();
        // This loop terminates. Each turn consumes a frame or a chunk of the body, and the body is as long
        // as the segment.
        while parser.offset() < bounds.bytes.end {
            let frame = match parser.next().map_err(damaged)? {
                Next::Frame(frame) => frame,
                Next::NeedMore => match watch.away(body.chunk()).await.map_err(failed)? {
                    Some(chunk) => {
                        if context.stopped.load(Ordering::Relaxed) {
                            return Err(ExecutionFailure::Stopped);
                        }
                        parser.push(chunk);
                        continue;
                    }
                    None => break,
                },
                Next::End { .. } => break,
            };
            let pgno = frame.pgno;
            // A page of another segment must not be written, since that segment may be complete already.
            if pgno > bounds.last {
                return Err(index_disagrees());
            }
            let wins = match &file.wins {
                None => {
                    writer.advance_to(pgno).await?;
                    writer.wants(pgno)
                }
                Some(wins) => pgno.0 <= wins.commit() && wins.is_claimed(pgno),
            };
            let page = if wins { writer.reserve(pgno).await? } else { &mut loser[..] };
            frame.decode_into(page).map_err(damaged)?;
            crc.update(frame.head);
            crc.update(page);
            if wants_checksum {
                checksum.add(pgno, page);
            }
            frames.add(pgno, frame.offset, frame.size);
            if wins {
                writer.commit(pgno);
            }
        }
        watch.less(writer.waited());
        worker.recorder().record(Stage::Decode, watch.elapsed());
        parser.end_segment(bounds.bytes.end).map_err(damaged)?;
        if frames != bounds.frames {
            return Err(index_disagrees());
        }
        Ok((crc, checksum))
    }

    /// The range of overlay entries (winning pages that wait in memory) that this segment writes between its
    /// own pages. A segment of the base takes the pages from its first page up to the next segment's first
    /// page. The first segment also takes all pages before it, the last one all pages after it. So each
    /// entry is written by exactly one segment. A segment of an increment takes none.
    fn overlay_share(&self) -> Range<usize> {
        let (overlay, bounds) = (&self.context.winners.overlay, &self.bounds);
        if self.file.wins.is_some() {
            return 0..0;
        }
        let start = if bounds.after.is_some() { overlay.position(bounds.first) } else { 0 };
        let end = bounds.next.map_or(overlay.len(), |next| overlay.position(next));
        start..end
    }
}

/// Whether a segment's frames are well-formed, but are not those that the page index lists.
fn is_index_disagreement(failure: &ExecutionFailure) -> bool {
    matches!(
        failure,
        ExecutionFailure::Damaged { error: FormatError::Malformed { fault: Fault::IndexDisagrees, .. }, .. }
    )
}

/// Whether the file is a snapshot with a database checksum. Its checksum then covers exactly the pages in
/// this file, so it can be verified from this file alone.
pub(super) const fn is_tracked_snapshot(header: &Header) -> bool {
    header.is_snapshot() && header.is_tracked()
}
