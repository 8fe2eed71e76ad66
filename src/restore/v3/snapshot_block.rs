//! Decodes one LZ4 block of a snapshot, adds its content to the hash, and writes its pages.
//!
//! A block is decoded straight into adjacent write buffers, if some are free and the snapshot is not small. If its content begins with a page where
//! a direct write can begin, and all newer copies of its pages are in memory, those are copied over it and it is written
//! from where it lies. All other pages are copied one by one to a [`PageWriter`].

use super::frames::content_hash;
use crate::io::{ALIGNMENT, Buffer, OutputFile};
use crate::ltx::{PageSize, Pgno};
use crate::process::locks::lock;
use crate::restore::error::{ChainError, ExecutionFailure};
use crate::restore::page_map::Winners;
use crate::restore::page_writer::{PageWriter, Placed};
use crate::restore::workers::Worker;
use crate::telemetry::{Stage, Stopwatch};
use crate::wal::{ContentHash, StoredBlock, WalError};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// The bytes of a database's header that are looked at: its magic and the page size after it.
const HEADER_BYTES: usize = 18;
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What all jobs of one snapshot share.
pub(super) struct SnapshotContext {
    pub output: Option<Arc<OutputFile>>,
    pub winners: Arc<Winners>,
    /// The pages whose hashes are returned, to compare them with frames.
    pub watched: Arc<HashSet<u32>>,
    /// The page size of the WAL. None if there is none.
    pub page_size: Option<PageSize>,
    /// Whether the whole snapshot is small. Its blocks are not decoded into write buffers: memory for 4 MiB of content would
    /// be too much for it.
    pub is_small: bool,
    /// Memory for blocks that no write buffers are free for. To use it again saves the kernel from clearing new memory.
    pub spare: Mutex<Vec<Vec<u8>>>,
}

/// How far the content was read, passed from one block to the next.
pub(super) struct ContentProgress {
    pub hash: ContentHash,
    pub page_size: Option<PageSize>,
    /// The number of the page that `carry` begins.
    pub next: u32,
    /// The beginning of a page whose rest is in the next block.
    pub carry: Vec<u8>,
}

/// The content of one block, before it is decoded.
pub(super) enum Content {
    Stored(StoredBlock),
    Plain(Vec<u8>),
}

/// The content of one block.
enum DecodedContent {
    /// The first bytes of a write buffer.
    InBuffer(Buffer, usize),
    /// The first bytes of [`SnapshotContext::spare`] memory.
    InSpare(Vec<u8>, usize),
    Plain(Vec<u8>),
}

/// The result of the job of one block.
#[derive(Default)]
pub(super) struct BlockDone {
    pub placed: Placed,
    /// The hashes of the watched pages, by page number.
    pub seen: Vec<(u32, u64)>,
}

/// The job of one block.
pub(super) struct BlockJob {
    pub context: Arc<SnapshotContext>,
    pub content: Content,
    pub before: Option<oneshot::Receiver<ContentProgress>>,
    pub pass_on: oneshot::Sender<ContentProgress>,
}

/// An error of the snapshot's LZ4 frame. The snapshot is file 0 of the plan.
pub(super) fn of_base(error: WalError) -> ExecutionFailure {
    ExecutionFailure::Wal { file: 0, error }
}

impl BlockJob {
    pub(super) async fn run(self, worker: &Worker) -> Result<BlockDone, ExecutionFailure> {
        let Self { context, content, before, pass_on } = self;
        let mut watch = Stopwatch::start();
        let content = content.decode(worker, &context)?;
        // If the job before this one has failed, it reports the failure. This one may hold buffers meanwhile: no job
        // waits for a buffer before it has passed its progress on.
        let before = before.ok_or(ExecutionFailure::Stopped)?;
        let mut progress = watch.away(before).await.map_err(|_| ExecutionFailure::Stopped)?;
        progress.hash.update(content.bytes());
        let pages = progress.take(content.bytes(), context.page_size)?;
        // The receiver is gone if the restore has failed or was dropped.
        let _ = pass_on.send(progress);
        let Some(pages) = pages else { return Ok(BlockDone::default()) };
        let done = pages.write(content, worker, &context).await?;
        worker.recorder().record(Stage::Decode, watch.elapsed());
        Ok(done)
    }
}

impl Content {
    fn decode(self, worker: &Worker, context: &SnapshotContext) -> Result<DecodedContent, ExecutionFailure> {
        let block = match self {
            Self::Plain(content) => return Ok(DecodedContent::Plain(content)),
            Self::Stored(block) => block,
        };
        if context.is_small {
            let mut content = Vec::new();
            block.decode(&[], &mut content).map_err(of_base)?;
            return Ok(DecodedContent::Plain(content));
        }
        let most = block.content_bound();
        // To wait until buffers are free would let the blocks after this one hold them for ever.
        if let Some(mut buffer) = worker.io.try_adjacent_buffers(most) {
            let len = block.decode_into(&mut buffer).map_err(of_base)?;
            return Ok(DecodedContent::InBuffer(buffer, len));
        }
        let mut spare = lock(&context.spare).pop().unwrap_or_default();
        spare.resize(most.max(spare.len()), 0);
        let len = block.decode_into(&mut spare).map_err(of_base)?;
        Ok(DecodedContent::InSpare(spare, len))
    }
}

impl DecodedContent {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::InBuffer(buffer, len) => buffer.get(..*len).unwrap_or_default(),
            Self::InSpare(spare, len) => spare.get(..*len).unwrap_or_default(),
            Self::Plain(content) => content,
        }
    }

    /// The same, after the write buffer was given back.
    fn without_buffer(self, context: &SnapshotContext) -> Self {
        if !matches!(self, Self::InBuffer(..)) {
            return self;
        }
        let mut spare = lock(&context.spare).pop().unwrap_or_default();
        spare.clear();
        spare.extend_from_slice(self.bytes());
        let len = spare.len();
        Self::InSpare(spare, len)
    }
}

/// The pages that are complete with one block: one that began in the block before, and those of the block itself.
struct WholePages {
    page_size: PageSize,
    first: u32,
    carried: Vec<u8>,
    /// Where the pages of the block itself are in its content.
    rest: Range<usize>,
}

impl ContentProgress {
    /// Adds the content of the next block. Returns the pages that are complete with it.
    ///
    /// # Errors
    /// The snapshot is no database, or has another page size than `expected`.
    fn take(&mut self, content: &[u8], expected: Option<PageSize>) -> Result<Option<WholePages>, ExecutionFailure> {
        if self.page_size.is_none() && self.carry.len() + content.len() >= HEADER_BYTES {
            let header: Vec<u8> = self.carry.iter().chain(content).copied().take(HEADER_BYTES).collect();
            self.page_size = Some(page_size(&header, expected)?);
        }
        let Some(page_size) = self.page_size else {
            self.carry.extend_from_slice(content);
            return Ok(None);
        };
        let size = page_size.bytes();
        let missing = if self.carry.is_empty() { 0 } else { size.saturating_sub(self.carry.len()) };
        let Some((completes, rest)) = content.split_at_checked(missing) else {
            self.carry.extend_from_slice(content);
            return Ok(None);
        };
        let mut carried = std::mem::take(&mut self.carry);
        carried.extend_from_slice(completes);
        let (rest, carry) = rest.split_at(rest.len() - rest.len() % size);
        self.carry.extend_from_slice(carry);
        let (first, count) = (self.next, (carried.len() + rest.len()) / size);
        let next = u32::try_from(count).ok().and_then(|count| first.checked_add(count));
        self.next = next.ok_or_else(|| {
            let found = b"a database of more than 2^32 pages".to_vec();
            ExecutionFailure::Chain { file: 0, error: ChainError::NotADatabase { found } }
        })?;
        Ok(Some(WholePages { page_size, first, carried, rest: missing..missing + rest.len() }))
    }
}

/// The page size in the header of a database.
fn page_size(header: &[u8], expected: Option<PageSize>) -> Result<PageSize, ExecutionFailure> {
    let wrong = |error| ExecutionFailure::Chain { file: 0, error };
    let not_a_database = || {
        let found = header.get(..MAGIC.len()).unwrap_or_default().to_vec();
        wrong(ChainError::NotADatabase { found })
    };
    let (Some(magic), Some(&[high, low])) = (header.first_chunk::<16>(), header.last_chunk::<2>()) else {
        return Err(not_a_database());
    };
    // The header has 1 for the size that does not fit its 16 bits.
    let found = match u16::from_be_bytes([high, low]) {
        1 => PageSize::MAX,
        size => u32::from(size),
    };
    let Some(found) = PageSize::new(found).filter(|_| magic == MAGIC) else { return Err(not_a_database()) };
    match expected {
        Some(expected) if expected != found => {
            Err(wrong(ChainError::SnapshotPageSize { expected: expected.get(), found: found.get() }))
        }
        _ => Ok(found),
    }
}

impl WholePages {
    /// The pages with their numbers, in order. `content` is that of the block.
    fn pages<'a>(&'a self, content: &'a DecodedContent) -> impl Iterator<Item = (Pgno, &'a [u8])> {
        let rest = content.bytes().get(self.rest.clone()).unwrap_or_default();
        let size = self.page_size.bytes();
        let pages = self.carried.chunks_exact(size).chain(rest.chunks_exact(size));
        pages.zip(self.first..).map(|(page, pgno)| (Pgno(pgno), page))
    }

    /// Writes the pages that no WAL holds, and the pages of the WAL that lie between them. `content` is that of the block.
    async fn write(
        self,
        content: DecodedContent,
        worker: &Worker,
        context: &SnapshotContext,
    ) -> Result<BlockDone, ExecutionFailure> {
        let (page_size, first, size) = (self.page_size, self.first, self.page_size.bytes());
        let count = ((self.carried.len() + self.rest.len()) / size) as u32;
        let numbers = first..first.saturating_add(count);
        let Winners { map, overlay } = &*context.winners;
        let share = overlay.position(Pgno(numbers.start))..overlay.position(Pgno(numbers.end));
        let watched = self.pages(&content).filter(|(pgno, _)| context.watched.contains(&pgno.0));
        let seen = watched.map(|(pgno, page)| (pgno.0, content_hash(page))).collect();
        let writer = |share| {
            PageWriter::new(worker, context.output.as_ref(), page_size, Arc::clone(&context.winners), share, false)
        };
        let claimed = numbers.filter(|&pgno| map.is_claimed(Pgno(pgno))).count();
        let is_aligned = page_size.offset_of(Pgno(first)).is_multiple_of(ALIGNMENT as u64);
        let is_whole = self.rest.start == 0 && is_aligned && claimed == share.len();
        let content = match content {
            DecodedContent::InBuffer(mut buffer, _) if is_whole => {
                for (pgno, page) in share.filter_map(|entry| overlay.get(entry)) {
                    let at = (pgno.0 - first) as usize * size;
                    if let Some(older) = buffer.get_mut(at..at + size) {
                        older.copy_from_slice(page);
                    }
                }
                let placed = writer(0..0).write_run(buffer, Pgno(first), count).await?;
                return Ok(BlockDone { placed, seen });
            }
            // The writer below waits for buffers, of which this block may hold the last ones.
            content => content.without_buffer(context),
        };
        let mut writer = writer(share);
        for (pgno, page) in self.pages(&content) {
            writer.advance_to(pgno).await?;
            if writer.wants(pgno) {
                writer.reserve(pgno).await?.copy_from_slice(page);
                writer.commit(pgno);
            }
        }
        let placed = writer.finish().await?;
        if let DecodedContent::InSpare(spare, _) = content {
            lock(&context.spare).push(spare);
        }
        Ok(BlockDone { placed, seen })
    }
}
