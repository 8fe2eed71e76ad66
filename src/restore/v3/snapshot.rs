//! Writes the snapshot, except for the pages that the WAL holds. Its LZ4 blocks are decoded side by side by all workers;
//! a hash of the content runs through them in order.
//!
//! Each block is a [`BlockJob`]. It decodes its block, takes the [`ContentProgress`] that the job of the block before it
//! passes on, adds its content, passes it on, and writes its pages. So decoding and writing overlap, and only hashing is
//! done in order.

use super::claiming::ClaimedPages;
use super::ordered_body::{OrderedBody, PARTS_IN_FLIGHT, fetch_whole, is_fetched_in_parts, part_bytes};
use super::snapshot_block::{BlockDone, BlockJob, Content, ContentProgress, MAGIC, SnapshotContext, of_base};
use super::{may_be_of_transport, or_again};
use crate::catalogue::V3Kind;
use crate::commit::StagedFile;
use crate::ltx::{PageSize, Pgno};
use crate::restore::error::{ChainError, ExecutionFailure};
use crate::restore::execute::Execution;
use crate::restore::large::{PlannedContent, PlannedFile, note_asked_again};
use crate::restore::page_writer::{PageWriter, Placed};
use crate::restore::workers::Worker;
use crate::wal::{BlockParser, ContentHash, NextBlock, StoredBlock};
use bytes::Bytes;
use futures_util::FutureExt;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// A snapshot of at most 1 MiB is decoded by one worker.
const INLINE_BYTES: u64 = 1 << 20;
/// At most 2 blocks per worker, and 8 altogether, are decoded at a time.
const BLOCKS_PER_WORKER: usize = 2;
const MOST_BLOCKS: usize = 8;
/// A block holds at most 4 MiB.
const BLOCK_BYTES: u64 = 4 << 20;
/// Blocks that depend on each other refer to at most 64 KiB before them.
const LINKED_BYTES: usize = 64 << 10;

/// The snapshot after it was written.
pub(super) struct PlacedSnapshot {
    /// The number of pages of the snapshot.
    pub pages: u32,
    pub page_size: PageSize,
    pub placed: Placed,
    /// The hashes of the pages that are compared with frames, by page number.
    pub seen: HashMap<u32, u64>,
}

/// About how much memory it takes to write the snapshot.
pub(super) fn held_bytes(execution: &Execution<'_>, base: &PlannedFile) -> u64 {
    if base.size <= INLINE_BYTES {
        return base.size + (base.size * 8).min(BLOCK_BYTES);
    }
    let parts = (PARTS_IN_FLIGHT as u64 * part_bytes(execution)).min(base.size);
    parts + blocks_in_flight(execution) as u64 * BLOCK_BYTES
}

fn blocks_in_flight(execution: &Execution<'_>) -> usize {
    (execution.worker.shared.workers * BLOCKS_PER_WORKER).clamp(2, MOST_BLOCKS)
}

/// How much of the snapshot's body was fetched while the WAL was read.
pub(super) enum SnapshotBody<'a> {
    /// All of it.
    Whole(Vec<Bytes>),
    /// The first parts.
    Begun(OrderedBody<'a>),
    /// Nothing: it lies on a disk, or its service does not send ranges.
    NotBegun,
}

/// Awaits `work`, which reads the WAL, and fetches the snapshot's body `base` meanwhile: all of a small one, and the
/// first parts of a large one if `may_fetch_ahead`.
///
/// # Errors
/// That of `work`, or a small snapshot cannot be fetched.
pub(super) async fn fetch_during<'a, T>(
    execution: &'a Execution<'_>,
    base: &'a PlannedFile,
    may_fetch_ahead: bool,
    work: impl Future<Output = Result<T, ExecutionFailure>>,
) -> Result<(T, SnapshotBody<'a>), ExecutionFailure> {
    if execution.store.is_on_disk() {
        return Ok((work.await?, SnapshotBody::NotBegun));
    }
    if is_small(base) {
        let fetched = fetch_whole(execution, 0, base, false);
        let (done, chunks) = futures_util::future::try_join(work, fetched).await?;
        return Ok((done, SnapshotBody::Whole(chunks)));
    }
    if may_fetch_ahead && is_fetched_in_parts(execution, base) {
        let mut body = OrderedBody::open(execution, 0, base).await?;
        body.start();
        let done = body.during(work).await?;
        return Ok((done, SnapshotBody::Begun(body)));
    }
    Ok((work.await?, SnapshotBody::NotBegun))
}

/// Whether the snapshot is decoded by one worker from a body in memory.
fn is_small(base: &PlannedFile) -> bool {
    is_packed(base) && base.size <= INLINE_BYTES
}

/// Writes the snapshot, which is file 0 of the plan. `body` is what was fetched of it. `watched` are the pages whose
/// hashes are returned.
///
/// # Errors
/// The snapshot is damaged, no database, or has another page size than the WAL; or it cannot be read or written.
pub(super) async fn place<'a>(
    execution: &'a Execution<'_>,
    body: SnapshotBody<'a>,
    claimed: &ClaimedPages,
    watched: &Arc<HashSet<u32>>,
) -> Result<PlacedSnapshot, ExecutionFailure> {
    let base = execution.planned(0)?;
    let mut placing = SnapshotPlacing::new(execution, claimed, watched, is_small(base));
    if is_small(base) {
        let chunks = match body {
            SnapshotBody::Whole(chunks) => chunks,
            SnapshotBody::Begun(_) | SnapshotBody::NotBegun => fetch_whole(execution, 0, base, false).await?,
        };
        match placing.inline(base, chunks).await {
            Err(failure) if may_be_of_transport(&failure) == Some(0) && execution.may_ask_again(0, &failure) => {
                if let Some((_, error)) = failure.wrong_content() {
                    note_asked_again(execution.worker, &base.key, None, error);
                }
                placing = SnapshotPlacing::new(execution, claimed, watched, is_small(base));
                let chunks = fetch_whole(execution, 0, base, true).await?;
                placing.inline(base, chunks).await?;
            }
            done => done?,
        }
        return placing.finish().await;
    }
    let placed = async {
        let body = match body {
            SnapshotBody::Begun(body) => body,
            SnapshotBody::Whole(_) | SnapshotBody::NotBegun => OrderedBody::open(execution, 0, base).await?,
        };
        match is_packed(base) {
            true => placing.by_all_workers(base, body).await?,
            false => placing.plain(body).await?,
        }
        placing.finish().await
    };
    placed.await.map_err(|failure| or_again(execution, failure))
}

fn is_packed(base: &PlannedFile) -> bool {
    !matches!(base.content, PlannedContent::V3 { kind: V3Kind::Snapshot { packed: false }, .. })
}

/// A snapshot that is being written.
struct SnapshotPlacing<'a> {
    execution: &'a Execution<'a>,
    context: Arc<SnapshotContext>,
    /// The progress before the next block.
    progress: Option<oneshot::Receiver<ContentProgress>>,
    /// The results of jobs that were not waited for yet, in order.
    running: VecDeque<oneshot::Receiver<Result<BlockDone, ExecutionFailure>>>,
    placed: Placed,
    seen: HashMap<u32, u64>,
}

impl<'a> SnapshotPlacing<'a> {
    fn new(execution: &'a Execution<'a>, claimed: &ClaimedPages, watched: &Arc<HashSet<u32>>, is_small: bool) -> Self {
        let context = SnapshotContext {
            output: execution.output.map(StagedFile::output).cloned(),
            winners: Arc::clone(&claimed.winners),
            watched: Arc::clone(watched),
            page_size: claimed.shape.map(|(page_size, _)| page_size),
            is_small,
            spare: Mutex::default(),
        };
        let (first, progress) = oneshot::channel();
        let _ = first.send(ContentProgress { hash: ContentHash::new(), page_size: None, next: 1, carry: Vec::new() });
        Self {
            execution,
            context: Arc::new(context),
            progress: Some(progress),
            running: VecDeque::new(),
            placed: Placed::default(),
            seen: HashMap::new(),
        }
    }

    /// Writes a snapshot that is not compressed.
    async fn plain(&mut self, mut body: OrderedBody<'_>) -> Result<(), ExecutionFailure> {
        // This loop ends: the body is finite.
        while let Some(chunk) = body.chunk().await? {
            self.run_here(Content::Plain(chunk.to_vec())).await?;
        }
        Ok(())
    }

    /// Writes a snapshot whose whole body is in memory.
    async fn inline(&mut self, base: &PlannedFile, chunks: Vec<Bytes>) -> Result<(), ExecutionFailure> {
        let mut parser = BlockParser::new(base.size);
        let mut chunks = chunks.into_iter();
        let mut window = Vec::new();
        // This loop ends: each turn consumes a part of the body, which is finite.
        loop {
            match parser.next().map_err(of_base)? {
                NextBlock::NeedMore => parser.push(chunks.next().ok_or_else(no_more)?),
                NextBlock::Block(block) => {
                    let content = unlinked(block, &parser, &mut window)?;
                    self.run_here(content).await?;
                }
                NextBlock::End { checksum, content_size } => return self.check_content(&checksum, content_size).await,
            }
        }
    }

    /// Writes a snapshot whose blocks are decoded by all workers.
    async fn by_all_workers(&mut self, base: &PlannedFile, mut body: OrderedBody<'_>) -> Result<(), ExecutionFailure> {
        let mut parser = BlockParser::new(base.size);
        let mut window = Vec::new();
        let most = blocks_in_flight(self.execution);
        // This loop ends: each turn consumes a part of the body, which is finite.
        loop {
            match parser.next().map_err(of_base)? {
                NextBlock::NeedMore => parser.push(body.chunk().await?.ok_or_else(no_more)?),
                NextBlock::Block(block) => {
                    let content = unlinked(block, &parser, &mut window)?;
                    while self.running.len() >= most {
                        let waited = body.during(self.wait_for_one());
                        waited.await?;
                    }
                    self.start(content);
                }
                NextBlock::End { checksum, content_size } => {
                    // This loop ends: each turn removes a job, and none is added.
                    while !self.running.is_empty() {
                        self.wait_for_one().await?;
                    }
                    return self.check_content(&checksum, content_size).await;
                }
            }
        }
    }

    async fn run_here(&mut self, content: Content) -> Result<(), ExecutionFailure> {
        let job = self.job(content);
        let done = job.run(self.execution.worker).await?;
        self.add(done);
        Ok(())
    }

    fn start(&mut self, content: Content) {
        let job = self.job(content);
        let (done, result) = oneshot::channel();
        self.running.push_back(result);
        let work = move |worker: std::rc::Rc<Worker>| {
            async move {
                // The receiver is gone if the restore has failed or was dropped.
                let _ = done.send(job.run(&worker).await);
            }
            .boxed_local()
        };
        self.execution.worker.shared.segments.push(Box::new(work));
    }

    fn job(&mut self, content: Content) -> BlockJob {
        let (pass_on, next) = oneshot::channel();
        let before = self.progress.replace(next);
        BlockJob { context: Arc::clone(&self.context), content, before, pass_on }
    }

    async fn wait_for_one(&mut self) -> Result<(), ExecutionFailure> {
        let Some(first) = self.running.pop_front() else { return Ok(()) };
        let stopped = || self.execution.worker.shared.stopped("a block has ended without a result").into();
        let done = first.await.unwrap_or_else(|_| Err(stopped()))?;
        self.add(done);
        Ok(())
    }

    fn add(&mut self, done: BlockDone) {
        self.placed.add(done.placed);
        self.seen.extend(done.seen);
    }

    /// Compares the content with what the end of the LZ4 frame says of it.
    async fn check_content(
        &mut self,
        checksum: &Option<crate::wal::ContentChecksum>,
        content_size: Option<u64>,
    ) -> Result<(), ExecutionFailure> {
        let progress = self.end().await?;
        progress.hash.finish(checksum.as_ref(), content_size).map_err(of_base)?;
        let (again, next) = oneshot::channel();
        let _ = again.send(progress);
        self.progress = Some(next);
        Ok(())
    }

    /// The progress after the last block.
    async fn end(&mut self) -> Result<ContentProgress, ExecutionFailure> {
        let progress = self.progress.take().ok_or_else(|| ExecutionFailure::bug("a snapshot has ended twice"))?;
        progress
            .await
            .map_err(|_| self.execution.worker.shared.stopped("a block has not passed on its progress").into())
    }

    async fn finish(mut self) -> Result<PlacedSnapshot, ExecutionFailure> {
        let ContentProgress { page_size, next, carry, hash } = self.end().await?;
        let not_a_database = |error| ExecutionFailure::Chain { file: 0, error };
        let Some(page_size) = page_size else {
            let found = carry.get(..carry.len().min(MAGIC.len())).unwrap_or_default().to_vec();
            return Err(not_a_database(ChainError::NotADatabase { found }));
        };
        if !carry.is_empty() {
            return Err(not_a_database(ChainError::HalfPage { bytes: hash.len(), page_size: page_size.get() }));
        }
        let pages = next - 1;
        // The pages by which the WAL has grown the database.
        let winners = Arc::clone(&self.context.winners);
        let rest = winners.overlay.position(Pgno(next))..winners.overlay.len();
        let output = self.context.output.as_ref();
        let writer = PageWriter::new(self.execution.worker, output, page_size, winners, rest, false);
        self.placed.add(writer.finish().await?);
        Ok(PlacedSnapshot { pages, page_size, placed: self.placed, seen: self.seen })
    }
}

/// The content of a block, decoded if it depends on the blocks before it, of which `window` has the last bytes.
fn unlinked(block: StoredBlock, parser: &BlockParser, window: &mut Vec<u8>) -> Result<Content, ExecutionFailure> {
    if parser.info().is_none_or(|info| info.independent) {
        return Ok(Content::Stored(block));
    }
    let mut content = Vec::new();
    block.decode(window, &mut content).map_err(of_base)?;
    window.extend_from_slice(&content);
    let surplus = window.len().saturating_sub(LINKED_BYTES);
    window.drain(..surplus);
    Ok(Content::Plain(content))
}

fn no_more() -> ExecutionFailure {
    ExecutionFailure::bug("a decoder asked for more than the file has")
}
