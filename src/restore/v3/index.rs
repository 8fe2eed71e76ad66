//! Reads one index: fetches its pieces of WAL, unpacks them in order, verifies them, and keeps the newest committed
//! content of each page in memory.

use super::frames::IndexFrames;
use super::{HELD_BYTES, WINDOW_BYTES};
use crate::catalogue::{Generation, V3Kind};
use crate::ltx::{PageSize, Pgno};
use crate::plan::PlanError;
use crate::restore::error::{ChainError, ExecutionFailure};
use crate::restore::execute::Execution;
use crate::restore::execute::fetch::collect_body;
use crate::restore::large::{PlannedContent, PlannedFile, note_asked_again, request_permit};
use crate::restore::workers::Worker;
use crate::store::{Http, Store, StoreError};
use crate::telemetry::{Stage, Stopwatch};
use crate::timestamp::Timestamp;
use crate::wal::{Decoded, ObjectDecoder, WalError, WalFrame, WalReader};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// At most 16 pieces of one index are fetched at a time.
pub(super) const PIECES_IN_FLIGHT: usize = 16;
/// WAL is rarely compressed to less than a tenth. Used to estimate how much memory an index takes.
const USUAL_RATIO: u64 = 10;

/// One index to read.
#[derive(Clone)]
pub(super) struct IndexJob {
    pub index: u32,
    pub generation: Generation,
    /// The place of the first piece in the plan.
    pub first: usize,
    pub pieces: Vec<PlannedFile>,
    /// Pieces behind the target that are read to compare the snapshot with them.
    pub behind: Vec<PlannedFile>,
    /// Index and offset of the piece that follows.
    pub next: Option<(u32, u64)>,
    /// If set, the frames up to this number are applied, also those of the pieces behind the target.
    pub through: Option<u64>,
    /// Whether the frames are to be compared with the snapshot.
    pub is_compared: bool,
    store: Store,
    requests: Option<Arc<Semaphore>>,
}

/// The result of reading an index.
pub(super) enum Read {
    Held(IndexPages),
    /// The pages do not fit the memory that an index may take.
    TooMany,
}

/// The newest committed content of each page of one index.
#[derive(Default)]
pub(super) struct IndexPages {
    pub index: u32,
    pub page_size: Option<PageSize>,
    /// The size of the database in pages after the last commit. None if the index has no commit.
    pub size: Option<u32>,
    /// The number of each page and its place in `bytes`, counted in pages. Sorted by number.
    pub pages: Vec<(Pgno, usize)>,
    pub bytes: Vec<u8>,
    /// The index holds all pages from `grown_from + 1` to `size`, except for the lock page.
    pub grown_from: u32,
    /// The frames, if they are to be compared with the snapshot.
    pub frames: Option<IndexFrames>,
    /// The pieces behind the target that were applied.
    pub applied_behind: Option<AppliedBehind>,
}

/// The pieces behind the target that were applied, because the snapshot was ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AppliedBehind {
    /// The offset of the last one in the WAL of its index.
    pub offset: u64,
    /// The latest time of their uploads.
    pub time: Timestamp,
}

impl AppliedBehind {
    /// The same with one more piece.
    pub(super) fn and(before: Option<Self>, piece: &PlannedFile) -> Option<Self> {
        let PlannedContent::V3 { last_modified, .. } = piece.content else { return before };
        let time = before.map_or(last_modified, |before| before.time.max(last_modified));
        Some(Self { offset: offset_of(piece), time })
    }
}

/// Why the decoding of an index ends early.
pub(super) enum IndexStop {
    Wal(WalError),
    TooMany,
    Failed(ExecutionFailure),
}

impl From<WalError> for IndexStop {
    fn from(error: WalError) -> Self {
        Self::Wal(error)
    }
}

impl IndexJob {
    pub(super) fn new(execution: &Execution<'_>, generation: Generation, index: u32, first: usize) -> Self {
        Self {
            index,
            generation,
            first,
            pieces: Vec::new(),
            behind: Vec::new(),
            next: None,
            through: None,
            is_compared: false,
            store: execution.store.clone(),
            requests: execution.requests.clone(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.behind.is_empty()
    }

    /// The place in the plan of the file that errors about the whole index name.
    pub(super) fn first_file(&self) -> usize {
        if self.pieces.is_empty() { 0 } else { self.first }
    }

    /// The stored size of all pieces in bytes.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.pieces.iter().chain(&self.behind).map(|piece| piece.size).sum()
    }

    /// About how much memory the index takes while it is read: the stored pieces and the pages.
    pub(super) fn held_bytes(&self) -> u64 {
        let stored = self.stored_bytes();
        if stored > HELD_BYTES {
            return 0;
        }
        let newest = self.pieces.last();
        let pages = newest.map_or(0, |newest| offset_of(newest).saturating_add(newest.size * USUAL_RATIO));
        (stored + pages.min(HELD_BYTES)).min(WINDOW_BYTES)
    }

    /// Checks that a piece begins where the one before it has ended.
    pub(super) fn check_begin(
        &self,
        reader: &WalReader,
        file: usize,
        piece: &PlannedFile,
    ) -> Result<(), ExecutionFailure> {
        self.check_position(reader, file, file, (self.index, offset_of(piece)))
    }

    /// Checks that the index has ended where the piece begins that follows it.
    pub(super) fn check_end(&self, reader: &WalReader) -> Result<(), ExecutionFailure> {
        let Some(next) = self.next else { return Ok(()) };
        if next.0 != self.index && reader.is_inside_transaction() {
            let (generation, index, offset) = (self.generation, self.index, reader.position());
            let file = self.first + self.pieces.len();
            return Err(ExecutionFailure::WalGap { file, error: PlanError::CutOff { generation, index, offset } });
        }
        if next.0 != self.index || self.pieces.is_empty() {
            return Ok(());
        }
        // The next piece is not in the plan.
        let behind = self.first + self.pieces.len();
        self.check_position(reader, behind, behind - 1, next)
    }

    /// Checks that file `file` of the plan, which is at `next`, begins where the WAL ends. `overlapping` is the file to name
    /// if it begins earlier.
    fn check_position(
        &self,
        reader: &WalReader,
        file: usize,
        overlapping: usize,
        next: (u32, u64),
    ) -> Result<(), ExecutionFailure> {
        let (ended, (index, offset)) = (reader.position(), next);
        if ended == offset {
            return Ok(());
        }
        if ended > offset {
            let error = ChainError::Overlap { offset, ended };
            return Err(ExecutionFailure::Chain { file: overlapping, error });
        }
        let before = file.checked_sub(self.first + 1).and_then(|i| self.pieces.get(i)).or(self.pieces.last());
        let after = before.map_or_else(String::new, |piece| piece.key.clone());
        let generation = self.generation;
        Err(ExecutionFailure::WalGap { file, error: PlanError::WalHole { generation, after, index, offset } })
    }
}

/// The offset of a piece in the WAL of its index.
pub(super) fn offset_of(piece: &PlannedFile) -> u64 {
    match piece.content {
        PlannedContent::V3 { kind, .. } => kind.offset(),
        PlannedContent::Ltx { .. } => 0,
    }
}

/// Whether the piece is an LZ4 frame.
pub(super) fn is_packed(piece: &PlannedFile) -> bool {
    matches!(piece.content, PlannedContent::V3 { kind, .. } if kind.is_packed())
}

/// Whether the piece is a WAL that Litestream 0.3.0 to 0.3.4 was still writing: it may end inside a frame.
pub(super) fn is_growing(piece: &PlannedFile) -> bool {
    matches!(piece.content, PlannedContent::V3 { kind: V3Kind::Wal { packed: false }, .. })
}

/// Reads the index. What arrived wrong is asked for once more.
///
/// # Errors
/// A piece is damaged, cannot be read, or does not continue the one before it.
pub(super) async fn read(worker: &Worker, job: &IndexJob) -> Result<Read, ExecutionFailure> {
    if job.stored_bytes() > HELD_BYTES {
        return Ok(Read::TooMany);
    }
    let fetches = stream::iter(job.pieces.iter().enumerate()).map(|(i, piece)| async move {
        fetch(worker, job, &worker.http, piece).await.map_err(|e| ExecutionFailure::of_request(job.first + i, e))
    });
    let mut fetches = fetches.buffered(PIECES_IN_FLIGHT);
    let mut bodies = Vec::with_capacity(job.pieces.len());
    while let Some(body) = fetches.next().await {
        bodies.push(body?);
    }
    drop(fetches);
    let mut behind = Vec::with_capacity(job.behind.len());
    for piece in &job.behind {
        // To read a piece behind the target can show that the snapshot is ahead. It is no failure if it cannot be read.
        match fetch(worker, job, &worker.http, piece).await {
            Ok(body) => behind.push(body),
            Err(_) => break,
        }
    }
    let mut asked = BTreeSet::new();
    // This loop ends: each turn but the last asks for a piece that was not asked for again before.
    loop {
        let watch = Stopwatch::start();
        let decoded = decode(job, &bodies, &behind);
        worker.recorder().record(Stage::Decode, watch.elapsed());
        let (file, error) = match decoded {
            Err(ExecutionFailure::Wal { file, error }) if error.is_transport() => (file, error),
            decoded => return decoded,
        };
        let at = file.saturating_sub(job.first);
        let (Some(piece), Some(body)) = (job.pieces.get(at), bodies.get_mut(at)) else {
            return Err(ExecutionFailure::Wal { file, error });
        };
        if job.store.is_on_disk() || piece.size == 0 || !asked.insert(at) {
            return Err(ExecutionFailure::Wal { file, error });
        }
        note_asked_again(worker, &piece.key, None, &error);
        let http = worker.http.on_other_connections();
        *body = fetch(worker, job, &http, piece).await.map_err(|e| ExecutionFailure::of_request(file, e))?;
    }
}

async fn fetch(_worker: &Worker, job: &IndexJob, http: &Http, piece: &PlannedFile) -> Result<Vec<Bytes>, StoreError> {
    let _permit = request_permit(job.requests.as_deref()).await;
    collect_body(&job.store, http, &piece.key, piece.size, piece.etag.as_ref()).await
}

fn decode(job: &IndexJob, bodies: &[Vec<Bytes>], behind: &[Vec<Bytes>]) -> Result<Read, ExecutionFailure> {
    let mut reader = WalReader::new();
    let mut held = HeldPages { through: job.through, ..HeldPages::default() };
    let mut frames = job.is_compared.then(IndexFrames::default);
    for (i, (piece, body)) in job.pieces.iter().zip(bodies).enumerate() {
        let file = job.first + i;
        job.check_begin(&reader, file, piece)?;
        let mut on_frame = |frame: WalFrame<'_>| {
            frames.iter_mut().for_each(|frames| frames.add(&frame));
            held.take(&frame)
        };
        match unpack(piece, body, &mut |bytes| reader.push(bytes, &mut on_frame)).and_then(|()| end(&mut reader, piece))
        {
            Ok(()) => {}
            Err(IndexStop::TooMany) => return Ok(Read::TooMany),
            Err(IndexStop::Wal(error)) => return Err(ExecutionFailure::Wal { file, error }),
            Err(IndexStop::Failed(failure)) => return Err(failure),
        }
    }
    if job.through.is_none() {
        job.check_end(&reader)?;
    }
    if let Some(frames) = &mut frames {
        frames.inside = reader.last_commit().map_or(0, |(frames, _)| frames);
    }
    let mut applied_behind = None;
    for (piece, body) in job.behind.iter().zip(behind) {
        let before = reader.frames();
        if reader.position() != offset_of(piece) || job.through.is_some_and(|through| before >= through) {
            break;
        }
        let mut on_frame = |frame: WalFrame<'_>| {
            frames.iter_mut().for_each(|frames| frames.add(&frame));
            if job.through.is_some() { held.take(&frame) } else { Ok(()) }
        };
        let read = unpack(piece, body, &mut |bytes| reader.push(bytes, &mut on_frame));
        match read.and_then(|()| end(&mut reader, piece)) {
            Ok(()) => {}
            Err(IndexStop::TooMany) => return Ok(Read::TooMany),
            Err(_) => break,
        }
        if job.through.is_some() {
            applied_behind = AppliedBehind::and(applied_behind, piece);
        }
    }
    let mut pages = held.finish(job.index, reader.page_size());
    pages.frames = frames;
    pages.applied_behind = applied_behind;
    Ok(Read::Held(pages))
}

/// Ends a piece: it must end between two frames, unless its writer was still at work.
pub(super) fn end(reader: &mut WalReader, piece: &PlannedFile) -> Result<(), IndexStop> {
    if is_growing(piece) {
        reader.end_growing();
        return Ok(());
    }
    Ok(reader.end_segment()?)
}

/// Calls `on_bytes` with the content of the piece, in order.
fn unpack(
    piece: &PlannedFile,
    body: &[Bytes],
    on_bytes: &mut dyn FnMut(&[u8]) -> Result<(), IndexStop>,
) -> Result<(), IndexStop> {
    if !is_packed(piece) {
        return body.iter().try_for_each(|chunk| on_bytes(chunk));
    }
    let mut decoder = ObjectDecoder::new(piece.size);
    let mut chunks = body.iter();
    let mut damage = None;
    // This loop ends: each turn consumes a part of the body, which is finite.
    loop {
        match decoder.next()? {
            // A bit that was flipped on the way from a bucket first shows as damage of the WAL. That it is none is known
            // when the object's own checksum was read.
            Decoded::Bytes(bytes) if damage.is_none() => match on_bytes(bytes) {
                Err(IndexStop::Wal(error)) => damage = Some(error),
                read => read?,
            },
            Decoded::Bytes(_) => {}
            Decoded::Done => return damage.map_or(Ok(()), |error| Err(error.into())),
            Decoded::NeedMore => match chunks.next() {
                Some(chunk) => decoder.push(chunk.clone()),
                None => {
                    return Err(IndexStop::Failed(ExecutionFailure::bug("a decoder asked for more than the file has")));
                }
            },
        }
    }
}

/// Collects the pages of an index, transaction by transaction.
#[derive(Default)]
struct HeldPages {
    /// The place of each page in `bytes`, counted in pages.
    places: HashMap<u32, usize>,
    bytes: Vec<u8>,
    /// The pages of the transaction that is being read.
    open: Vec<u32>,
    open_bytes: Vec<u8>,
    size: Option<u32>,
    through: Option<u64>,
}

impl HeldPages {
    fn take(&mut self, frame: &WalFrame<'_>) -> Result<(), IndexStop> {
        if self.through.is_some_and(|through| frame.number > through) {
            return Ok(());
        }
        if (self.bytes.len() + self.open_bytes.len() + frame.page.len()) as u64 > HELD_BYTES {
            return Err(IndexStop::TooMany);
        }
        self.open.push(frame.pgno.0);
        self.open_bytes.extend_from_slice(frame.page);
        if frame.commit == 0 {
            return Ok(());
        }
        self.size = Some(frame.commit);
        for (&pgno, page) in self.open.iter().zip(self.open_bytes.chunks_exact(frame.page.len())) {
            match self.places.get(&pgno) {
                Some(place) => {
                    let at = place * page.len();
                    if let Some(old) = self.bytes.get_mut(at..at + page.len()) {
                        old.copy_from_slice(page);
                    }
                }
                None => {
                    self.places.insert(pgno, self.bytes.len() / page.len());
                    self.bytes.extend_from_slice(page);
                }
            }
        }
        self.open.clear();
        self.open_bytes.clear();
        Ok(())
    }

    fn finish(self, index: u32, page_size: Option<PageSize>) -> IndexPages {
        let mut pages: Vec<(Pgno, usize)> = self.places.iter().map(|(&pgno, &place)| (Pgno(pgno), place)).collect();
        pages.sort_unstable();
        let lock_page = page_size.map(PageSize::lock_page);
        let mut grown_from = self.size.unwrap_or(0);
        // This loop ends: each turn lowers a number that is not negative.
        while grown_from > 0 && (self.places.contains_key(&grown_from) || Some(Pgno(grown_from)) == lock_page) {
            grown_from -= 1;
        }
        let (size, bytes) = (self.size, self.bytes);
        IndexPages { index, page_size, size, pages, bytes, grown_from, frames: None, applied_behind: None }
    }
}
