//! Files too large for one GET: header and page index first, then segments of about 8 MiB cut at
//! frame boundaries, streamed by whichever worker is free (DESIGN engine 3).
//!
//! Each segment yields the CRC of its frames and a hash of (page, offset, size); the CRCs are
//! combined in order and compared with the trailer, the hash must be the index's own. The base's
//! segments begin while its index is still being read: one core reads it, others need not wait.

pub mod cuts;
pub mod segments;

use super::error::ExecutionFailure;
use super::execute::PlannedFile;
use crate::catalogue::LtxFile;
use crate::io::OutputFile;
use crate::ltx::crc::{DatabaseChecksum, FileCrc};
use crate::ltx::decoder::{DecodeStep, FileDecoder};
use crate::ltx::error::Checksum;
use crate::ltx::frame::{FrameParser, Next};
use crate::ltx::header::{HEADER_SIZE, Header};
use crate::ltx::index::{FrameHash, IndexEntry, IndexParser};
use crate::ltx::snapshot::SnapshotPages;
use crate::ltx::tail::Tail;
use crate::ltx::trailer::{HASHED_SIZE, TRAILER_SIZE, Trailer};
use crate::ltx::{Fault, FormatError, Part, Pgno};
use crate::restore::large::cuts::{Cutter, END_DIVISOR, SegmentBounds, segment_len};
use crate::restore::page_map::{PageMap, Winners};
use crate::restore::page_writer::{PageWriter, Placed};
use crate::restore::workers::Worker;
use crate::store::{Body, Etag, Store, StoreError};
use crate::telemetry::{Stage, Stopwatch};
use futures_util::future::{LocalBoxFuture, try_join, try_join_all};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

/// What the tail's first GET brings: an index entry takes about 1/256 of its frame.
const TAIL_GUESS_DIVISOR: u64 = 128;
const TAIL_GUESS_BYTES: Range<u64> = 64 << 10..4 << 20;
/// It is fetched in parts of a segment's size by this, side by side: nothing else can begin before
/// it is there.
const TAIL_PART_DIVISOR: u64 = 16;
const SMALLEST_TAIL_PART_BYTES: u64 = 16 << 10;
/// Up to this size a damaged file is read once more, from its beginning, to say what is wrong.
const DIAGNOSED_BYTES: u64 = 1 << 30;

/// A database whose files are being streamed in segments.
pub struct SegmentContext {
    pub store: Store,
    /// None: what is decoded is thrown away.
    pub output: Option<Arc<OutputFile>>,
    /// What is fetched is thrown away.
    pub fetch_only: bool,
    pub claims: Arc<Winners>,
    /// The plan's large files; [`crate::restore::large::segments::Segments`] adds them.
    pub files: Vec<LargeFile>,
    /// The database's checksum is wanted.
    pub tracked: bool,
    /// `-parallelism`.
    pub requests: Option<Arc<Semaphore>>,
    /// Some part failed: the rest may stop.
    pub stopped: AtomicBool,
}

/// A large file whose header is known.
pub struct LargeFile {
    /// Its index in the plan.
    planned: usize,
    key: String,
    etag: Option<Etag>,
    pub header: Header,
    /// The pages it wins; None for the base, which wins whatever nobody claimed.
    pub wins: Option<PageMap>,
}

/// A large file whose index has been read.
pub struct Indexed {
    pub file: LargeFile,
    pub cuts: Vec<SegmentBounds>,
    pub expected: SegmentChecksums,
}

/// What a large file's segments are compared with, once its index has been read.
pub struct SegmentChecksums {
    /// The file's index in the plan.
    pub planned: usize,
    size: u64,
    pub header: Header,
    pub trailer: Trailer,
    head_crc: FileCrc,
    tail_crc: FileCrc,
}

/// The bytes of a large file that are fetched before its pages.
pub struct Footer {
    head: [u8; HEADER_SIZE],
    tail: Vec<u8>,
    etag: Option<Etag>,
}

/// Where a large file is read from.
#[derive(Clone, Copy)]
pub struct LargeSource<'a> {
    pub worker: &'a Worker,
    pub store: &'a Store,
    pub planned: &'a PlannedFile,
    /// `-parallelism`.
    pub requests: Option<&'a Semaphore>,
}

/// What the tail's first GETs bring together.
fn tail_guess(size: u64) -> u64 {
    (size / TAIL_GUESS_DIVISOR).clamp(TAIL_GUESS_BYTES.start, TAIL_GUESS_BYTES.end).min(size)
}

/// How much of the tail one GET brings.
fn tail_part(segment_bytes: u64) -> u64 {
    (segment_bytes / TAIL_PART_DIVISOR).max(SMALLEST_TAIL_PART_BYTES)
}

/// GETs for a file of `size` bytes, about: one fetches a whole file; of one that is larger than
/// `segment_bytes` the header, the tail and each segment take one or more.
pub fn gets(size: u64, segment_bytes: u64) -> u64 {
    if size <= segment_bytes {
        return 1;
    }
    let segment_bytes = segment_bytes.max(1);
    let whole = size.saturating_sub(segment_bytes.saturating_mul(END_DIVISOR)) / segment_bytes;
    let tail = tail_guess(size).div_ceil(tail_part(segment_bytes));
    let (mut gets, mut offset) = (1 + tail + whole, whole * segment_bytes);
    // Ends: a segment is at least a byte long.
    while offset < size {
        gets += 1;
        offset = offset.saturating_add(segment_len(offset, size, segment_bytes));
    }
    gets
}

/// Leave to make one request, where their number is bounded per database.
pub async fn allowed(requests: Option<&Semaphore>) -> Option<SemaphorePermit<'_>> {
    match requests {
        Some(requests) => requests.acquire().await.ok(),
        None => None,
    }
}

impl LargeSource<'_> {
    /// Fetches the header and, most likely, the whole index.
    pub async fn ends(self) -> Result<Footer, StoreError> {
        let (size, etag) = (self.planned.file.size, self.planned.file.etag.as_ref());
        let begin = size - tail_guess(size);
        let (mut head, mut tail) = ([0; HEADER_SIZE], vec![0; (size - begin) as usize]);
        let part_bytes = tail_part(self.worker.shared.segment_bytes) as usize;
        let parts = tail.chunks_mut(part_bytes).zip((begin..size).step_by(part_bytes));
        let parts = parts.map(|(part, at)| self.fetch(at, part));
        let (head_etag, _) = try_join(self.fetch(0, &mut head), try_join_all(parts)).await?;
        Ok(Footer { head, tail, etag: etag.cloned().or(head_etag) })
    }

    /// Fills `into` from the file's byte `at` on.
    async fn fetch(self, at: u64, into: &mut [u8]) -> Result<Option<Etag>, StoreError> {
        let _request = allowed(self.requests).await;
        let mut body = self.get(at..at + into.len() as u64, self.planned.file.etag.as_ref()).await?;
        let etag = body.etag().cloned();
        let mut rest = into;
        while let Some(chunk) = body.chunk().await? {
            // A body is as long as what was asked for.
            let (now, later) = rest.split_at_mut(chunk.len().min(rest.len()));
            now.copy_from_slice(&chunk[..now.len()]);
            rest = later;
        }
        Ok(etag)
    }

    async fn get(self, range: Range<u64>, etag: Option<&Etag>) -> Result<Body, StoreError> {
        self.store.get(&self.worker.http, &self.planned.key, range, etag).await
    }

    /// What is wrong with the plan's file `file`, which is read from its beginning to its end. None
    /// where nothing is, where a request fails for a reason that is not the file's own, or where
    /// reading would take long.
    pub fn fault<'b>(self, file: usize, etag: Option<&'b Etag>) -> LocalBoxFuture<'b, Option<ExecutionFailure>>
    where
        Self: 'b,
    {
        // Rare: not a part of every restore's state.
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
        let _request = allowed(self.requests).await;
        let mut body = self.get(0..size, etag).await?;
        let mut decoder = FileDecoder::new(size, Some((min_txid, max_txid)));
        let mut page = Vec::new();
        // Ends: each turn takes a part of the body, which is as long as what was asked for.
        loop {
            let step = match decoder.next_page() {
                Ok(DecodeStep::NeedMore) => {
                    let Some(chunk) = body.chunk().await? else { return Ok(None) };
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
    /// The file's header.
    pub fn header(&self) -> Result<Header, FormatError> {
        Header::parse(&self.head)
    }

    /// The file of this `header` as its segments need it, number `planned` of the plan.
    pub fn file(&self, source: LargeSource<'_>, planned: usize, header: Header) -> LargeFile {
        LargeFile { planned, key: source.planned.key.clone(), etag: self.etag.clone(), header, wins: None }
    }
}

/// Who is told what a large file's index says, in order, before all of it has been read.
pub trait OnIndex {
    /// Every entry's page.
    fn page(&mut self, _pgno: Pgno) {}

    /// A segment, when its last entry has been read.
    fn cut(&mut self, cut: SegmentBounds);
}

/// Keeps the segments.
impl OnIndex for Vec<SegmentBounds> {
    fn cut(&mut self, cut: SegmentBounds) {
        self.push(cut);
    }
}

impl SegmentChecksums {
    /// Reads the file's header and index from its `ends`.
    ///
    /// # Errors
    /// [`Failure::Damaged`] where header, index or trailer are malformed or disagree.
    pub async fn read(
        source: LargeSource<'_>,
        planned: usize,
        ends: Footer,
        told: &mut dyn OnIndex,
    ) -> Result<Self, ExecutionFailure> {
        let etag = ends.etag.clone();
        match Self::read_index(source, planned, ends, told).await {
            Err(ExecutionFailure::Damaged { file, error }) => {
                // The last bytes of a file that was cut off look like damage of any kind.
                Err(source.fault(file, etag.as_ref()).await.unwrap_or(ExecutionFailure::Damaged { file, error }))
            }
            result => result,
        }
    }

    async fn read_index(
        source: LargeSource<'_>,
        planned: usize,
        ends: Footer,
        told: &mut dyn OnIndex,
    ) -> Result<Self, ExecutionFailure> {
        let damaged = |error| ExecutionFailure::Damaged { file: planned, error };
        let failed = |error| ExecutionFailure::of_request(planned, error);
        let size = source.planned.file.size;
        let header = ends.header().map_err(damaged)?;
        let mut head_crc = FileCrc::new();
        head_crc.update(&ends.head);
        let parts = Tail::locate(size, &ends.tail).map_err(damaged)?;
        let tail_at = size - ends.tail.len() as u64;

        let mut index = IndexReader::new(&parts, &header);
        let mut cutter = Cutter::new(size, source.worker.shared.segment_bytes);
        let mut on_entry = |entry: IndexEntry| {
            if let Some(cut) = cutter.add(entry) {
                told.cut(cut);
            }
            told.page(entry.pgno);
        };
        if parts.end_mark.start < tail_at {
            // The guess was short: the rest of the index, streamed.
            let _request = allowed(source.requests).await;
            let rest = source.get(parts.end_mark.start..tail_at, ends.etag.as_ref());
            let mut body = rest.await.map_err(failed)?;
            while let Some(chunk) = body.chunk().await.map_err(failed)? {
                index.feed(&chunk, &mut on_entry).map_err(damaged)?;
            }
        }
        let from = parts.end_mark.start.saturating_sub(tail_at) as usize;
        let rest = ends.tail.get(from..).unwrap_or_default();
        let Some((rest, trailer_bytes)) = rest.split_last_chunk::<TRAILER_SIZE>() else {
            return Err(damaged(FormatError::Truncated { part: Part::Trailer, size, needed: size }));
        };
        index.feed(rest, &mut on_entry).map_err(damaged)?;
        let mut tail_crc = index.finish(size).map_err(damaged)?;
        let trailer = Trailer::parse(trailer_bytes, parts.trailer.start, &header).map_err(damaged)?;
        tail_crc.update(&trailer_bytes[..HASHED_SIZE]);
        if let Some(cut) = cutter.finish() {
            told.cut(cut);
        }
        Ok(Self { planned, size, header, trailer, head_crc, tail_crc })
    }

    /// Compares the file checksum with the segments' CRCs, in the order of the cuts, and for a
    /// tracked snapshot the database checksum with the XOR of all its pages.
    pub fn verify(&self, segments: &[SegmentOutput]) -> Result<(), FormatError> {
        let mut crc = self.head_crc;
        for segment in segments {
            crc.append(&segment.crc);
        }
        crc.append(&self.tail_crc);
        let mismatch = |what, offset, stored, computed| match stored == computed {
            true => Ok(()),
            false => Err(FormatError::ChecksumMismatch { what, part: Part::Trailer, offset, stored, computed }),
        };
        let trailer_at = self.size - TRAILER_SIZE as u64;
        mismatch(Checksum::File, trailer_at + HASHED_SIZE as u64, self.trailer.file_checksum, crc.finish())?;
        if is_tracked_snapshot(&self.header) {
            let mut pages = DatabaseChecksum::default();
            segments.iter().for_each(|s| pages.join(s.checksum));
            mismatch(Checksum::Database, trailer_at, self.trailer.post_apply_checksum, pages.finish())?;
        }
        Ok(())
    }
}

/// Whether the trailer's database checksum is that of this very file's pages.
const fn is_tracked_snapshot(header: &Header) -> bool {
    header.is_snapshot() && header.is_tracked()
}

/// One segment of one file of one database: a unit of work for any worker.
pub struct Segment {
    pub layout: Arc<SegmentContext>,
    /// Index into [`Layout::files`].
    pub file: usize,
    /// Which of the file's segments, and where it lies.
    pub number: usize,
    pub cut: SegmentBounds,
    pub done: mpsc::UnboundedSender<SegmentDone>,
}

pub struct SegmentDone {
    pub file: usize,
    pub number: usize,
    pub result: Result<SegmentOutput, ExecutionFailure>,
}

#[derive(Clone)]
pub struct SegmentOutput {
    pub crc: FileCrc,
    pub placed: Placed,
    /// XOR of the checksums of all its pages, winners or not; of tracked snapshots only.
    pub checksum: DatabaseChecksum,
}

impl Segment {
    pub async fn run(self, worker: &Worker) {
        let result = if self.layout.stopped.load(Ordering::Relaxed) {
            Err(ExecutionFailure::Stopped)
        } else {
            self.stream(worker).await
        };
        if result.is_err() {
            self.layout.stopped.store(true, Ordering::Relaxed);
        }
        // The receiver is gone when the database was given up.
        let _ = self.done.send(SegmentDone { file: self.file, number: self.number, result });
    }

    async fn stream(&self, worker: &Worker) -> Result<SegmentOutput, ExecutionFailure> {
        let (layout, cut) = (&*self.layout, &self.cut);
        let Some(file) = layout.files.get(self.file) else { return Err(ExecutionFailure::Stopped) };
        let damaged = |error| ExecutionFailure::Damaged { file: file.planned, error };
        let failed = |error| ExecutionFailure::of_request(file.planned, error);
        let _request = allowed(layout.requests.as_deref()).await;
        let body = layout.store.get(&worker.http, &file.key, cut.bytes.clone(), file.etag.as_ref());
        let mut body = body.await.map_err(failed)?;
        if layout.fetch_only {
            while body.chunk().await.map_err(failed)?.is_some() {
                if layout.stopped.load(Ordering::Relaxed) {
                    return Err(ExecutionFailure::Stopped);
                }
            }
            let (crc, checksum) = (FileCrc::new(), DatabaseChecksum::default());
            return Ok(SegmentOutput { crc, placed: Placed::default(), checksum });
        }
        let page_size = file.header.page_size;
        let wants_checksum = is_tracked_snapshot(&file.header);
        let mut parser = FrameParser::new(page_size, cut.bytes.start, cut.after);
        let mut placer = PageWriter::new(
            worker,
            layout.output.as_ref(),
            page_size,
            Arc::clone(&layout.claims),
            self.overlay_share(file),
            layout.tracked,
        );
        let mut loser = vec![0; page_size.bytes()];
        let (mut crc, mut frames, mut checksum) = (FileCrc::new(), FrameHash::new(), DatabaseChecksum::default());
        let mut watch = Stopwatch::start();
        // Ends: each turn takes a frame, or a chunk of the body, which ends where the cut does.
        while parser.offset() < cut.bytes.end {
            let frame = match parser.next().map_err(damaged)? {
                Next::Frame(frame) => frame,
                Next::NeedMore => match watch.away(body.chunk()).await.map_err(failed)? {
                    Some(chunk) => {
                        if layout.stopped.load(Ordering::Relaxed) {
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
                    placer.advance_to(pgno).await?;
                    placer.wants(pgno)
                }
                Some(wins) => pgno.0 <= wins.commit() && wins.is_claimed(pgno),
            };
            let page = if wins { placer.reserve(pgno).await? } else { &mut loser[..] };
            frame.decode_into(page).map_err(damaged)?;
            crc.update(frame.head);
            crc.update(page);
            if wants_checksum {
                checksum.add(pgno, page);
            }
            frames.add(pgno, frame.offset, frame.size);
            if wins {
                placer.commit(pgno);
            }
        }
        watch.less(placer.waited());
        worker.recorder().record(Stage::Decode, watch.elapsed());
        parser.end_segment(cut.bytes.end).map_err(damaged)?;
        if frames != cut.frames {
            let (part, offset) = (Part::Index, cut.bytes.start);
            return Err(damaged(FormatError::Malformed { part, offset, fault: Fault::IndexDisagrees }));
        }
        Ok(SegmentOutput { crc, placed: placer.finish().await?, checksum })
    }

    /// The overlay's entries that this segment lays out: of the base, those from its first page
    /// to the next segment's; the first and the last also what lies before and behind.
    fn overlay_share(&self, file: &LargeFile) -> Range<usize> {
        let overlay = &self.layout.claims.overlay;
        if file.wins.is_some() {
            return 0..0;
        }
        let start = if self.cut.after.is_some() { overlay.position(self.cut.first) } else { 0 };
        let end = self.cut.next.map_or(overlay.len(), |next| overlay.position(next));
        start..end
    }
}

/// Feeds the end mark and the index to their parsers and to the CRC.
struct IndexReader {
    parser: IndexParser,
    crc: FileCrc,
    end_mark_at: u64,
    end_mark_left: usize,
    snapshot: Option<SnapshotPages>,
}

impl IndexReader {
    fn new(parts: &Tail, header: &Header) -> Self {
        let end_mark = parts.end_mark.clone();
        Self {
            parser: IndexParser::new(parts.index.start),
            crc: FileCrc::new(),
            end_mark_at: end_mark.start,
            end_mark_left: (end_mark.end - end_mark.start) as usize,
            snapshot: header.is_snapshot().then(|| SnapshotPages::new(header.page_size, header.commit)),
        }
    }

    fn feed(&mut self, bytes: &[u8], on_entry: &mut dyn FnMut(IndexEntry)) -> Result<(), FormatError> {
        self.crc.update(bytes);
        let (mark, rest) = bytes.split_at(self.end_mark_left.min(bytes.len()));
        self.end_mark_left -= mark.len();
        if let Some(&found) = mark.iter().find(|&&b| b != 0) {
            let (part, fault) = (Part::Pages, Fault::EndMark { found: found.into() });
            return Err(FormatError::Malformed { part, offset: self.end_mark_at, fault });
        }
        let snapshot = &mut self.snapshot;
        self.parser.feed(rest, &mut |entry: IndexEntry| {
            if let Some(snapshot) = snapshot {
                snapshot.see(entry.pgno, entry.offset)?;
            }
            on_entry(entry);
            Ok(())
        })?;
        Ok(())
    }

    /// The CRC from the end mark to the index's end; `size` is the file's.
    fn finish(self, size: u64) -> Result<FileCrc, FormatError> {
        if !self.parser.is_done() {
            return Err(self.parser.truncated(size));
        }
        if let Some(snapshot) = &self.snapshot {
            snapshot.finish(self.end_mark_at)?;
        }
        Ok(self.crc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_for_sizes_that_nothing_has() {
        assert_eq!((gets(0, 8 << 20), gets(8 << 20, 8 << 20)), (1, 1));
        assert_eq!(gets((8 << 20) + 1, 8 << 20), 1 + 1 + 9);
        assert!(gets(u64::MAX, 8 << 20) > 1 << 40);
        assert!(gets(1000, 1) > 900 && gets(u64::MAX, u64::MAX) == 1);
    }
}
