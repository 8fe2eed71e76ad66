//! Reads an index whose pages do not fit the memory that an index may take. Its pages are written while it is read, in
//! the order of its frames, so that the last copy of a page remains.
//!
//! Of the newest index, frames after the last commit do not count. It is therefore read twice: first to find the last
//! commit, then to write. An older index ends with a commit, or WAL is missing and the restore fails.

use super::claiming::{Claiming, spill};
use super::frames::IndexFrames;
use super::index::{AppliedBehind, IndexJob, IndexPages, IndexStop, PIECES_IN_FLIGHT, end, is_packed, offset_of};
use super::ordered_body::{OrderedBody, fetch_whole};
use crate::ltx::{PageSize, Pgno};
use crate::restore::ahead::Ahead;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::Execution;
use crate::restore::large::PlannedFile;
use crate::wal::{Decoded, ObjectDecoder, WalFrame, WalReader};
use tokio::sync::{Semaphore, SemaphorePermit};

/// LZ4 stores at most 255 bytes in one.
const MOST_RATIO: u64 = 255;
/// A piece of up to 1 MiB is fetched before its turn, because an index that no checkpoint ends has thousands of small
/// pieces. All that were fetched before their turn take at most 4 MiB.
const SMALL_BYTES: u64 = 1 << 20;
const SMALL_PIECES_BYTES: usize = 4 << 20;

/// Reads the index and adds it to `claiming`. Returns its frames, if they are to be compared, and no pages.
///
/// # Errors
/// A piece is damaged, cannot be read, or does not continue the one before it.
pub(super) async fn read(
    execution: &Execution<'_>,
    job: &IndexJob,
    claiming: &mut Claiming<'_>,
) -> Result<IndexPages, ExecutionFailure> {
    let mut frames = job.is_compared.then(IndexFrames::default);
    let mut last = None;
    let is_newest = !claiming.is_begun();
    if is_newest {
        let mut note = |frame: WalFrame<'_>| {
            frames.iter_mut().for_each(|frames| frames.add(&frame));
            Ok(())
        };
        let reader = read_frames(execution, job, &mut note).await?;
        if let Some(frames) = &mut frames {
            frames.inside = reader.last_commit().map_or(0, |(frames, _)| frames);
            read_behind(execution, job, reader.clone(), frames).await;
        }
        let of_target = job.through.map_or(reader.last_commit(), |_| None);
        last = match job.through {
            Some(through) => last_commit_through(execution, job, through).await?,
            None => of_target,
        };
        let (Some((_, size)), Some(page_size)) = (last, reader.page_size()) else {
            return Ok(IndexPages { index: job.index, frames, ..IndexPages::default() });
        };
        claiming.begin_index(job.first_file(), page_size, size, job.index, size).await?;
    }
    let mut seen = SeenPages::new(execution);
    let mut write = |frame: WalFrame<'_>| {
        if last.is_some_and(|(last, _)| frame.number > last) {
            return Ok(());
        }
        let page_size = PageSize::new(frame.page.len() as u32);
        let Some(page_size) = page_size else {
            return Err(IndexStop::Failed(ExecutionFailure::bug("a page has no page size")));
        };
        seen.add(frame.pgno, page_size);
        if claiming.wants(frame.pgno) {
            spill(execution, frame.page, page_size.offset_of(frame.pgno)).map_err(IndexStop::Failed)?;
        }
        Ok(())
    };
    let mut reader = read_frames(execution, job, &mut write).await?;
    let mut applied_behind = None;
    if job.through.is_some() {
        (reader, applied_behind) = apply_behind(execution, job, reader, &mut write).await?;
    }
    if let (false, Some((_, size)), Some(page_size)) = (is_newest, reader.last_commit(), reader.page_size()) {
        claiming.begin_index(job.first_file(), page_size, size, job.index, size).await?;
    }
    if let (Some(page_size), Some((_, size))) = (reader.page_size(), last.or(reader.last_commit())) {
        claiming.grown_from(seen.grown_from(size, page_size));
        claiming.claim_written(seen.pages());
    }
    Ok(IndexPages { index: job.index, frames, applied_behind, ..IndexPages::default() })
}

/// Unpacks the pieces inside the target and calls `on_frame` for each frame.
async fn read_frames(
    execution: &Execution<'_>,
    job: &IndexJob,
    on_frame: &mut dyn FnMut(WalFrame<'_>) -> Result<(), IndexStop>,
) -> Result<WalReader, ExecutionFailure> {
    let mut reader = WalReader::new();
    let pieces = || job.pieces.iter().enumerate().map(|(i, piece)| (job.first + i, piece));
    let room = Semaphore::new(SMALL_PIECES_BYTES);
    let fetches = pieces().map(|(file, piece)| fetch_small(execution, &room, file, piece));
    let mut bodies = Ahead::new(fetches, PIECES_IN_FLIGHT);
    for (file, piece) in pieces() {
        job.check_begin(&reader, file, piece)?;
        let (body, _room) = match bodies.next().await.transpose()?.flatten() {
            Some((body, room)) => (body, Some(room)),
            None => (bodies.during(OrderedBody::open(execution, file, piece)).await?, None),
        };
        bodies.during(read_piece(body, piece, file, &mut reader, on_frame)).await?;
    }
    drop(bodies);
    if job.through.is_none() {
        job.check_end(&reader)?;
    }
    Ok(reader)
}

/// Fetches a small object of a bucket as a whole, once there is `room` for it. None for all other files, which are
/// opened when their turn comes.
async fn fetch_small<'a, 'b>(
    execution: &'a Execution<'_>,
    room: &'b Semaphore,
    file: usize,
    piece: &PlannedFile,
) -> Result<Option<(OrderedBody<'a>, SemaphorePermit<'b>)>, ExecutionFailure> {
    if execution.store.is_on_disk() || piece.size > SMALL_BYTES {
        return Ok(None);
    }
    // Permits are given in order, so the piece whose turn is next never waits for those after it.
    let Ok(permit) = room.acquire_many(piece.size as u32).await else { return Ok(None) };
    let chunks = fetch_whole(execution, file, piece, false).await?;
    Ok(Some((OrderedBody::fetched(file, chunks), permit)))
}

async fn read_piece(
    mut body: OrderedBody<'_>,
    piece: &PlannedFile,
    file: usize,
    reader: &mut WalReader,
    on_frame: &mut dyn FnMut(WalFrame<'_>) -> Result<(), IndexStop>,
) -> Result<(), ExecutionFailure> {
    let stopped = |stop| match stop {
        IndexStop::Wal(error) => ExecutionFailure::Wal { file, error },
        IndexStop::Failed(failure) => failure,
        IndexStop::TooMany => ExecutionFailure::bug("a streamed index is bounded"),
    };
    if is_packed(piece) {
        let mut decoder = ObjectDecoder::new(piece.size);
        let mut damage = None;
        // This loop ends: each turn consumes a part of the body, which is finite.
        loop {
            match decoder.next().map_err(|error| ExecutionFailure::Wal { file, error })? {
                // As in `index::unpack`: the object's own checksum tells whether the WAL is damaged.
                Decoded::Bytes(bytes) if damage.is_none() => match reader.push(bytes, on_frame) {
                    Err(IndexStop::Wal(error)) => damage = Some(error),
                    read => read.map_err(stopped)?,
                },
                Decoded::Bytes(_) => {}
                Decoded::Done => break,
                Decoded::NeedMore => match body.chunk().await? {
                    Some(chunk) => decoder.push(chunk),
                    None => return Err(ExecutionFailure::bug("a decoder asked for more than the file has")),
                },
            }
        }
        if let Some(error) = damage {
            return Err(ExecutionFailure::Wal { file, error });
        }
    } else {
        while let Some(chunk) = body.chunk().await? {
            reader.push(&chunk, on_frame).map_err(stopped)?;
        }
    }
    end(reader, piece).map_err(stopped)
}

/// Adds the frames of the pieces behind the target. It is no failure if they cannot be read.
async fn read_behind(execution: &Execution<'_>, job: &IndexJob, mut reader: WalReader, frames: &mut IndexFrames) {
    for piece in &job.behind {
        if reader.position() != offset_of(piece) {
            return;
        }
        let Ok(body) = OrderedBody::open(execution, 0, piece).await else { return };
        let mut add = |frame: WalFrame<'_>| {
            frames.add(&frame);
            Ok(())
        };
        if read_piece(body, piece, 0, &mut reader, &mut add).await.is_err() {
            return;
        }
    }
}

/// Applies the pieces behind the target up to the frame that the job names. Returns which were.
async fn apply_behind(
    execution: &Execution<'_>,
    job: &IndexJob,
    mut reader: WalReader,
    on_frame: &mut dyn FnMut(WalFrame<'_>) -> Result<(), IndexStop>,
) -> Result<(WalReader, Option<AppliedBehind>), ExecutionFailure> {
    let mut applied_behind = None;
    for piece in &job.behind {
        if job.through.is_some_and(|through| reader.frames() >= through) {
            break;
        }
        let body = OrderedBody::open(execution, 0, piece).await?;
        read_piece(body, piece, 0, &mut reader, on_frame).await?;
        applied_behind = AppliedBehind::and(applied_behind, piece);
    }
    Ok((reader, applied_behind))
}

/// The last commit up to the frame `through`: its number, and the size of the database in pages.
async fn last_commit_through(
    execution: &Execution<'_>,
    job: &IndexJob,
    through: u64,
) -> Result<Option<(u64, u32)>, ExecutionFailure> {
    let mut last = None;
    let mut note = |frame: WalFrame<'_>| {
        if frame.commit != 0 && frame.number <= through {
            last = Some((frame.number, frame.commit));
        }
        Ok(())
    };
    let reader = read_frames(execution, job, &mut note).await?;
    apply_behind(execution, job, reader, &mut note).await?;
    Ok(last)
}

/// The numbers of the pages of one index: one bit per page.
struct SeenPages {
    words: Vec<u64>,
    /// The stored size of all planned files. Pages that cannot be in them are not counted.
    planned_bytes: u64,
}

impl SeenPages {
    fn new(execution: &Execution<'_>) -> Self {
        Self { words: Vec::new(), planned_bytes: execution.planned_bytes() }
    }

    fn add(&mut self, pgno: Pgno, page_size: PageSize) {
        if u64::from(pgno.0) > self.planned_bytes.saturating_mul(MOST_RATIO) / u64::from(page_size.get()) + 1 {
            return;
        }
        let word = pgno.0 as usize / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word |= 1 << (pgno.0 % 64);
        }
    }

    fn has(&self, page: u32) -> bool {
        self.words.get(page as usize / 64).is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    /// The number of the page before the pages that end with `size` and are all here, except for the lock page.
    fn grown_from(&self, size: u32, page_size: PageSize) -> u32 {
        let mut from = size;
        // This loop ends: each turn lowers a number that is not negative.
        while from > 0 && (self.has(from) || page_size.lock_page().0 == from) {
            from -= 1;
        }
        from
    }

    fn pages(&self) -> impl Iterator<Item = Pgno> + '_ {
        (1..=self.words.len() as u32 * 64).filter(|&page| self.has(page)).map(Pgno)
    }
}
