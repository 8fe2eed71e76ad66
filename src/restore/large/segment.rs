//! One segment of a large file: a range of whole frames, streamed, checked and placed by one
//! worker. Any worker can take any segment.

use crate::io::OutputFile;
use crate::ltx::crc::{DatabaseChecksum, FileCrc};
use crate::ltx::frame::{FrameParser, Next};
use crate::ltx::header::Header;
use crate::ltx::index::FrameHash;
use crate::ltx::{Fault, FormatError, Part};
use crate::restore::error::ExecutionFailure;
use crate::restore::large::cuts::SegmentBounds;
use crate::restore::large::source::request_permit;
use crate::restore::page_map::{PageMap, Winners};
use crate::restore::page_writer::{PageWriter, Placed};
use crate::restore::workers::Worker;
use crate::store::{Etag, Store};
use crate::telemetry::{Stage, Stopwatch};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Semaphore, mpsc};

/// What all segments of one database share.
pub(crate) struct SegmentContext {
    pub store: Store,
    /// None: decoded pages are discarded.
    pub output: Option<Arc<OutputFile>>,
    /// Fetched bytes are discarded without being decoded.
    pub fetch_only: bool,
    pub winners: Arc<Winners>,
    /// The database has a checksum to compare with.
    pub tracked: bool,
    /// Bounds the database's requests in flight (`-parallelism`).
    pub requests: Option<Arc<Semaphore>>,
    /// Set once a part of the restore has failed: the other segments end at their next chunk.
    pub stopped: AtomicBool,
}

/// A large file as its segments need it.
pub(crate) struct LargeFile {
    /// Index of the file in the plan.
    pub planned: usize,
    pub key: String,
    pub etag: Option<Etag>,
    pub header: Header,
    /// The pages that it wins. None for the base: it wins each page that no increment claimed.
    pub wins: Option<PageMap>,
}

/// One segment of one file of one database.
pub(super) struct Segment {
    pub context: Arc<SegmentContext>,
    pub file: Arc<LargeFile>,
    /// Index among the segments of all files of the database.
    pub number: usize,
    pub bounds: SegmentBounds,
    pub done: mpsc::UnboundedSender<SegmentDone>,
}

/// The end of a segment.
pub(super) struct SegmentDone {
    /// [`Segment::number`].
    pub number: usize,
    pub result: Result<SegmentOutput, ExecutionFailure>,
}

/// What a segment has computed.
pub(crate) struct SegmentOutput {
    /// CRC of its frames.
    pub crc: FileCrc,
    pub placed: Placed,
    /// For tracked snapshots: XOR of the checksums of all its pages, winners or not.
    pub checksum: DatabaseChecksum,
}

impl Segment {
    /// Streams the segment and sends the result to [`Segment::done`].
    pub(super) async fn run(self, worker: &Worker) {
        let result = if self.context.stopped.load(Ordering::Relaxed) {
            Err(ExecutionFailure::Stopped)
        } else {
            self.stream(worker).await
        };
        if result.is_err() {
            self.context.stopped.store(true, Ordering::Relaxed);
        }
        // Fails if nobody waits for the database any more.
        let _ = self.done.send(SegmentDone { number: self.number, result });
    }

    async fn stream(&self, worker: &Worker) -> Result<SegmentOutput, ExecutionFailure> {
        let (context, file, bounds) = (&*self.context, &*self.file, &self.bounds);
        let damaged = |error| ExecutionFailure::Damaged { file: file.planned, error };
        let failed = |error| ExecutionFailure::of_request(file.planned, error);
        let _permit = request_permit(context.requests.as_deref()).await;
        let body = context.store.get(&worker.http, &file.key, bounds.bytes.clone(), file.etag.as_ref());
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
        let page_size = file.header.page_size;
        let wants_checksum = is_tracked_snapshot(&file.header);
        let mut parser = FrameParser::new(page_size, bounds.bytes.start, bounds.after);
        let mut writer = PageWriter::new(
            worker,
            context.output.as_ref(),
            page_size,
            Arc::clone(&context.winners),
            self.overlay_share(),
            context.tracked,
        );
        let mut loser = vec![0; page_size.bytes()];
        let (mut crc, mut frames, mut checksum) = (FileCrc::new(), FrameHash::new(), DatabaseChecksum::default());
        let mut watch = Stopwatch::start();
        // Terminates: each turn takes a frame, or a chunk of the body, which has the segment's length.
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
            let (part, offset) = (Part::Index, bounds.bytes.start);
            return Err(damaged(FormatError::Malformed { part, offset, fault: Fault::IndexDisagrees }));
        }
        Ok(SegmentOutput { crc, placed: writer.finish().await?, checksum })
    }

    /// The overlay's entries that this segment lays out. A segment of the base takes those from
    /// its first page to the next segment's first page. The first segment also takes those before,
    /// the last those behind. A segment of an increment takes none.
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

/// Whether the database checksum in the trailer is that of this file's own pages.
pub(super) const fn is_tracked_snapshot(header: &Header) -> bool {
    header.is_snapshot() && header.is_tracked()
}
