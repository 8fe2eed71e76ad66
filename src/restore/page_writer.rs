//! Collects winning pages in long runs and writes each run at once (docs/ARCHITECTURE.md,
//! "Overlay").
//!
//! Pages come in ascending order and each page once: the caller decodes those of its file, the
//! [`PageWriter`] adds those of the overlay. A run ends when a page of the sequence is missing
//! (spilled, or won by another large file) and when the buffer is full. A full buffer ends on a
//! 4 KiB boundary of the file, so all writes of a sequence but the first can bypass the page cache.

use crate::io::{Buffer, Io, IoError, OutputFile, Writer};
use crate::ltx::crc::DatabaseChecksum;
use crate::ltx::{PageSize, Pgno};
use crate::restore::page_map::Winners;
use crate::restore::workers::Worker;
use crate::telemetry::{Counters, Recorder, Stage};
use futures_util::poll;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Direct writes begin and end on multiples of this many bytes.
const BLOCK: u64 = 4096;

/// Pages that were placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Placed {
    pub pages: u64,
    /// XOR of the pages' checksums, if the database has a checksum to compare with.
    pub checksum: DatabaseChecksum,
}

impl Placed {
    pub(super) fn add(&mut self, other: Self) {
        self.pages += other.pages;
        self.checksum.join(other.checksum);
    }

    /// Counts `page`. Adds its checksum if `tracked`.
    pub(super) fn count(&mut self, pgno: Pgno, page: &[u8], tracked: bool) {
        self.pages += 1;
        if tracked {
            self.checksum.add(pgno, page);
        }
    }
}

/// See the file.
pub(super) struct PageWriter {
    io: Io,
    /// None: pages are discarded.
    writer: Option<Rc<dyn Writer>>,
    page_size: PageSize,
    winners: Arc<Winners>,
    /// Overlay entries still to be written: indexes in the order of pages.
    overlay: Range<usize>,
    tracked: bool,
    run: Option<PageRun>,
    writes: Vec<JoinHandle<Result<(), IoError>>>,
    placed: Placed,
    counters: Arc<Counters>,
    recorder: Rc<Recorder>,
    /// Time spent waiting for buffers and writes.
    waited: Duration,
}

/// Consecutive pages in one buffer.
struct PageRun {
    buffer: Buffer,
    /// File offset of the buffer's first byte.
    at: u64,
    len: usize,
    /// Upper bound of `len`: the buffer's size, less what lies before `at` in its block, so that the
    /// next run begins on a block.
    max: usize,
}

impl PageWriter {
    /// A writer that adds the overlay's entries `overlay` to the pages of its caller.
    pub(super) fn new(
        worker: &Worker,
        output: Option<&Arc<OutputFile>>,
        page_size: PageSize,
        winners: Arc<Winners>,
        overlay: Range<usize>,
        tracked: bool,
    ) -> Self {
        Self {
            io: worker.io.clone(),
            writer: output.map(|output| worker.io.writer(output)),
            page_size,
            winners,
            overlay,
            tracked,
            run: None,
            writes: Vec::new(),
            placed: Placed::default(),
            counters: Arc::clone(&worker.shared.counters),
            recorder: Rc::clone(worker.recorder()),
            waited: Duration::ZERO,
        }
    }

    /// Whether the base's copy of `pgno` wins.
    pub(super) fn wants(&self, pgno: Pgno) -> bool {
        !self.winners.map.is_claimed(pgno)
    }

    /// Writes the overlay's pages up to and including `pgno`.
    pub(super) async fn advance_to(&mut self, pgno: Pgno) -> Result<(), IoError> {
        while self.next_overlaid().is_some_and(|next| next <= pgno) {
            // Cloned here and not for each page: all workers count references in one cache line.
            let winners = Arc::clone(&self.winners);
            let Some((pgno, page)) = winners.overlay.get(self.overlay.start) else { break };
            self.overlay.start += 1;
            self.reserve(pgno).await?.copy_from_slice(page);
            self.commit(pgno);
        }
        Ok(())
    }

    /// The next page of the overlay.
    fn next_overlaid(&self) -> Option<Pgno> {
        let next = (!self.overlay.is_empty()).then(|| self.winners.overlay.get(self.overlay.start));
        next.flatten().map(|(pgno, _)| pgno)
    }

    /// Reserves the bytes into which page `pgno` is to be decoded. [`PageWriter::commit`] keeps them;
    /// without it, the next call reserves them again.
    #[expect(clippy::indexing_slicing, reason = "`len + size <= max`, which is within the buffer")]
    pub(super) async fn reserve(&mut self, pgno: Pgno) -> Result<&mut [u8], IoError> {
        let at = self.page_size.offset_of(pgno);
        let size = self.page_size.bytes();
        let fits = self.run.as_ref().is_some_and(|run| run.at + run.len as u64 == at && run.len + size <= run.max);
        if !fits {
            let begun = Instant::now();
            self.flush().await?;
            let buffer = self.io.buffer().await;
            self.waited += begun.elapsed();
            let max = buffer.len() - (at % BLOCK) as usize;
            self.run = Some(PageRun { buffer, at, len: 0, max });
        }
        match &mut self.run {
            Some(run) => Ok(&mut run.buffer[run.len..run.len + size]),
            None => unreachable!("a run was begun above"),
        }
    }

    /// Keeps the bytes reserved for `pgno`: they hold its page now.
    #[expect(clippy::indexing_slicing, reason = "`reserve` found that the page fits")]
    pub(super) fn commit(&mut self, pgno: Pgno) {
        let size = self.page_size.bytes();
        debug_assert!(
            (self.run.as_ref()).is_some_and(|run| run.at + run.len as u64 == self.page_size.offset_of(pgno)),
            "page {pgno} was reserved last"
        );
        if let Some(run) = &mut self.run {
            self.placed.count(pgno, &run.buffer[run.len..run.len + size], self.tracked);
            run.len += size;
        }
    }

    /// How long calls of this writer have waited for buffers and writes.
    pub(super) const fn waited(&self) -> Duration {
        self.waited
    }

    /// Writes the rest of the overlay and waits for all writes.
    pub(super) async fn finish(mut self) -> Result<Placed, IoError> {
        self.advance_to(Pgno(u32::MAX)).await?;
        // Without a task of its own: for most databases it is the only write.
        if let Some(write) = self.take_run() {
            write.await?;
        }
        for write in std::mem::take(&mut self.writes) {
            joined(write).await?;
        }
        Ok(self.placed)
    }

    /// Ends the run and returns its write; None if there is nothing to write.
    fn take_run(&mut self) -> Option<impl Future<Output = Result<(), IoError>> + use<>> {
        let run = self.run.take().filter(|run| run.len > 0)?;
        debug_assert!(run.len <= run.max && run.max <= run.buffer.len(), "a run fits its buffer");
        self.counters.bytes_out.add(run.len as u64);
        let (write, recorder) = (self.writer.as_ref()?.write(run.buffer, run.len, run.at), Rc::clone(&self.recorder));
        Some(async move {
            let begun = Instant::now();
            write.await?;
            recorder.record(Stage::Write, begun.elapsed());
            Ok(())
        })
    }

    async fn flush(&mut self) -> Result<(), IoError> {
        let Some(write) = self.take_run() else { return Ok(()) };
        let mut write = Box::pin(write);
        // Polled once here. A new task would begin only when this one waits for something; while it
        // decodes, that may take long, and the disk would be idle.
        match poll!(&mut write) {
            Poll::Ready(written) => written?,
            // In a task of its own, so that the buffer returns to the pool whatever this task waits for.
            Poll::Pending => self.writes.push(tokio::task::spawn_local(write)),
        }
        // Terminates: each turn takes one of the writes away.
        while let Some(i) = self.writes.iter().position(JoinHandle::is_finished) {
            joined(self.writes.swap_remove(i)).await?;
        }
        Ok(())
    }
}

async fn joined(write: JoinHandle<Result<(), IoError>>) -> Result<(), IoError> {
    match write.await {
        Ok(result) => result,
        // The write's task has panicked, or was dropped with its runtime.
        Err(_) => Err(IoError::NoRuntime { reason: "a write was given up".into() }),
    }
}

#[cfg(test)]
mod tests {
    use crate::cancel::CancellationToken;
    use crate::io::IoBackend;
    use crate::restore::page_map::{Overlay, PageMap};
    use crate::restore::page_writer::*;
    use crate::restore::{SEGMENT_BYTES, Workers, WorkersOptions};

    #[test]
    fn a_full_buffer_is_written_while_its_task_goes_on() {
        let (kind, segment_bytes) = (IoBackend::Pwrite, SEGMENT_BYTES);
        let options =
            WorkersOptions { workers: 1, kind, memory_bytes: 64 << 20, tasks: 1, segment_bytes, checks: false };
        let workers = Workers::start(&options, Arc::default(), CancellationToken::new()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let output = Arc::new(OutputFile::new(file.reopen().unwrap().into(), file.path().to_owned()));
        let page_size = PageSize::new(4096).unwrap();
        let winners = Arc::new(Winners { map: PageMap::new(0, None), overlay: Overlay::new(page_size, 0) });
        let run = workers.run(move |worker| {
            Box::pin(async move {
                let mut writer = PageWriter::new(&worker, Some(&output), page_size, winners, 0..0, false);
                let pages = (worker.io.buffer_bytes() / page_size.bytes()) as u32;
                // One page more: a buffer is full once the next page does not fit.
                for pgno in (1..=pages + 1).map(Pgno) {
                    // Nothing here waits, so no other task runs.
                    writer.reserve(pgno).await.unwrap().fill(pgno.0 as u8);
                    writer.commit(pgno);
                }
                let mut last = vec![0; page_size.bytes()];
                output.pread_exact(&mut last, page_size.offset_of(Pgno(pages))).unwrap();
                assert!(last.iter().all(|&byte| byte == pages as u8));
                writer.finish().await.unwrap()
            })
        });
        assert_eq!(run.unwrap().pages, (512 << 10) / 4096 + 1);
    }
}
