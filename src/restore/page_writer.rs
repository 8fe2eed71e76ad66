//! Collects consecutive pages in a buffer of 512 KiB and writes them to the output in one piece
//! (docs/ARCHITECTURE.md, "Overlay"). Such a piece is called a run.
//!
//! Pages come in ascending order, and each page comes once. The caller decodes the pages of its file into
//! the buffer. The [`PageWriter`] adds the pages of the overlay (winning pages that wait in memory) between
//! them.
//!
//! A run ends when the buffer is full. It also ends when the next page number is missing, because that
//! page was written before or is written by another large file. A full buffer ends on a 4 KiB boundary of
//! the output, so that the next run begins on one. Direct writes (O_DIRECT), which bypass the page cache,
//! need this alignment.
//!
//! A caller that has put pages into buffers of its own hands them over as one run ([`PageWriter::write_run`]).

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

/// Direct writes (O_DIRECT) begin and end at multiples of 4,096 bytes, as the kernel requires.
const BLOCK: u64 = 4096;

/// Number and checksum of the pages that were written to the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Placed {
    /// Number of pages written.
    pub pages: u64,
    /// XOR of the pages' checksums. It stays 0 if the database has no checksum to compare it with.
    pub checksum: DatabaseChecksum,
}

impl Placed {
    /// Adds number and checksum of the pages that another task has written.
    pub(super) fn add(&mut self, other: Self) {
        self.pages += other.pages;
        self.checksum.join(other.checksum);
    }

    /// Counts one page with number `pgno` and content `page`. Adds its checksum if `tracked`: the database
    /// has a checksum to compare with.
    pub(super) fn count(&mut self, pgno: Pgno, page: &[u8], tracked: bool) {
        self.pages += 1;
        if tracked {
            self.checksum.add(pgno, page);
        }
    }
}

/// Writes an ascending sequence of pages to the output in runs of consecutive pages.
pub(super) struct PageWriter {
    io: Io,
    /// The writer of the output file. With None, pages are discarded.
    writer: Option<Rc<dyn Writer>>,
    page_size: PageSize,
    winners: Arc<Winners>,
    /// The range of overlay entries (pages that wait in memory) that this writer has not written yet. Entry 0 has the
    /// lowest page number.
    overlay: Range<usize>,
    /// True if the checksums of the written pages are to be computed, because the database has a checksum to compare
    /// with.
    tracked: bool,
    /// The run that pages are being added to. None if no page was added since the last run ended.
    run: Option<PageRun>,
    /// The writes to the output that are in flight.
    writes: Vec<JoinHandle<Result<(), IoError>>>,
    placed: Placed,
    counters: Arc<Counters>,
    recorder: Rc<Recorder>,
    /// Total time that calls have waited for free buffers and for writes.
    waited: Duration,
}

/// A run: consecutive pages in one buffer, which are written to the output in one piece.
struct PageRun {
    buffer: Buffer,
    /// Offset in the output file of the buffer's first byte.
    at: u64,
    /// Number of bytes at the start of the buffer that hold pages.
    len: usize,
    /// Upper bound of `len`. If `at` is not a multiple of 4 KiB, the bound is smaller than the buffer by the
    /// remainder, so that a full run ends at a multiple of 4 KiB.
    max: usize,
}

impl PageWriter {
    /// Makes a writer for two sources of pages: those that the caller decodes, and the overlay entries (pages that
    /// wait in memory) with the indexes `overlay`. With an `output` of None, pages are counted and discarded.
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

    /// The size of a page in bytes.
    pub(super) const fn page_bytes(&self) -> usize {
        self.page_size.bytes()
    }

    /// Whether the snapshot's copy of page `pgno` is to be written, because no increment holds that page.
    pub(super) fn wants(&self, pgno: Pgno) -> bool {
        !self.winners.map.is_claimed(pgno)
    }

    /// Adds the pages that wait in memory (the overlay) up to and including page `pgno`, as far as they are not
    /// written yet. The caller calls this before it adds page `pgno`, so that pages come in ascending order.
    pub(super) async fn advance_to(&mut self, pgno: Pgno) -> Result<(), IoError> {
        while self.next_overlaid().is_some_and(|next| next <= pgno) {
            // The `Arc` is cloned only if there is a page to write, not for each page of the snapshot. Cloning
            // changes the reference count, for which the cores of all workers compete.
            let winners = Arc::clone(&self.winners);
            let Some((pgno, page)) = winners.overlay.get(self.overlay.start) else { break };
            self.overlay.start += 1;
            self.reserve(pgno).await?.copy_from_slice(page);
            self.commit(pgno);
        }
        Ok(())
    }

    /// Number of the next page that waits in memory (in the overlay). None if all are written.
    fn next_overlaid(&self) -> Option<Pgno> {
        let next = (!self.overlay.is_empty()).then(|| self.winners.overlay.get(self.overlay.start));
        next.flatten().map(|(pgno, _)| pgno)
    }

    /// Returns the part of the buffer into which the caller is to decode page `pgno`. The caller then calls
    /// [`PageWriter::commit`] to keep the page. Without that call, the next `reserve` returns the same part.
    ///
    /// # Errors
    /// [`IoError`] if an earlier write has failed.
    #[expect(clippy::indexing_slicing, reason = "`len + size <= max`, which is within the buffer")]
    pub(super) async fn reserve(&mut self, pgno: Pgno) -> Result<&mut [u8], IoError> {
        let at = self.page_size.offset_of(pgno);
        let size = self.page_size.bytes();
        let fits = self.run.as_ref().is_some_and(|run| run.at + run.len as u64 == at && run.len + size <= run.max);
        let run = match if fits { self.run.take() } else { None } {
            Some(run) => run,
            None => {
                let begun = Instant::now();
                self.flush().await?;
                let buffer = self.io.buffer().await;
                self.waited += begun.elapsed();
                let max = buffer.len() - (at % BLOCK) as usize;
                PageRun { buffer, at, len: 0, max }
            }
        };
        let run = self.run.insert(run);
        Ok(&mut run.buffer[run.len..run.len + size])
    }

    /// Keeps the page that the caller has decoded into the bytes of the last [`PageWriter::reserve`]. `pgno`
    /// must be the same as in that call.
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

    /// Writes `count` pages from page `first` on, which the caller has put at the beginning of `buffer`, and nothing else.
    /// Returns number and checksum of the pages.
    ///
    /// # Errors
    /// [`IoError`] if the write has failed.
    pub(super) async fn write_run(mut self, buffer: Buffer, first: Pgno, count: u32) -> Result<Placed, IoError> {
        let (at, len) = (self.page_size.offset_of(first), count as usize * self.page_size.bytes());
        let pages = buffer.get(..len).unwrap_or_default().chunks_exact(self.page_size.bytes());
        for (page, pgno) in pages.zip(first.0..) {
            self.placed.count(Pgno(pgno), page, self.tracked);
        }
        self.run = Some(PageRun { buffer, at, len, max: len });
        self.finish().await
    }

    /// How long calls of this writer have waited for free buffers and for the disk. The caller subtracts it
    /// from the time that it measures for decoding.
    pub(super) const fn waited(&self) -> Duration {
        self.waited
    }

    /// Adds the remaining pages of the overlay, ends the last run, and waits for all writes. Returns number
    /// and checksum of the pages.
    ///
    /// # Errors
    /// [`IoError`] if a write has failed.
    pub(super) async fn finish(mut self) -> Result<Placed, IoError> {
        self.advance_to(Pgno(u32::MAX)).await?;
        // The last write runs in this task. A task of its own would cost more, and for most databases this
        // is the only write.
        if let Some(write) = self.take_run() {
            write.await?;
        }
        for write in std::mem::take(&mut self.writes) {
            joined(write).await?;
        }
        Ok(self.placed)
    }

    /// Drops the run that is being filled and waits for the writes in flight. Afterwards the same pages may be written
    /// by another writer.
    ///
    /// # Errors
    /// [`IoError`] if a write has failed.
    pub(super) async fn give_up(mut self) -> Result<(), IoError> {
        for write in std::mem::take(&mut self.writes) {
            joined(write).await?;
        }
        Ok(())
    }

    /// Ends the run that is being filled and returns the future that writes it. None if the run is empty or
    /// pages are discarded.
    fn take_run(&mut self) -> Option<impl Future<Output = Result<(), IoError>> + use<>> {
        let run = self.run.take().filter(|run| run.len > 0)?;
        debug_assert!(run.len <= run.max && run.max <= run.buffer.len(), "a run fits its buffer");
        let writer = self.writer.as_ref()?;
        self.counters.bytes_out.add(run.len as u64);
        let (write, recorder) = (writer.write(run.buffer, run.len, run.at), Rc::clone(&self.recorder));
        Some(async move {
            let begun = Instant::now();
            write.await?;
            recorder.record(Stage::Write, begun.elapsed());
            Ok(())
        })
    }

    /// Ends the run that is being filled and begins to write it. Does not wait for the write. Returns the
    /// errors of earlier writes that have ended.
    async fn flush(&mut self) -> Result<(), IoError> {
        let Some(write) = self.take_run() else { return Ok(()) };
        let mut write = Box::pin(write);
        // The write is polled once here, which sends it to the kernel. A new task would begin only when the
        // current task waits for something. That may take long while it decodes, and the disk would be idle.
        match poll!(&mut write) {
            Poll::Ready(written) => written?,
            // The write continues in a task of its own, so that its buffer returns to the pool as soon as it
            // has ended, also while this task waits for something else.
            Poll::Pending => self.writes.push(tokio::task::spawn_local(write)),
        }
        // This loop terminates, because each turn removes one write from the list.
        while let Some(i) = self.writes.iter().position(JoinHandle::is_finished) {
            joined(self.writes.swap_remove(i)).await?;
        }
        Ok(())
    }
}

/// Waits for the task of one write and returns the write's result.
async fn joined(write: JoinHandle<Result<(), IoError>>) -> Result<(), IoError> {
    match write.await {
        Ok(result) => result,
        // The task of the write has panicked, or was dropped together with its runtime.
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
        let options = WorkersOptions {
            workers: 1,
            kind,
            memory_bytes: 64 << 20,
            tasks: 1,
            segment_bytes,
            checks: false,
            catalogue: Default::default(),
        };
        let workers = Workers::start(&options, Arc::default(), CancellationToken::new()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let output = Arc::new(OutputFile::new(file.reopen().unwrap().into(), file.path().to_owned()));
        let page_size = PageSize::new(4096).unwrap();
        let winners = Arc::new(Winners { map: PageMap::new(0, None), overlay: Overlay::new(page_size, 0) });
        let run = workers.run(move |worker| {
            Box::pin(async move {
                let mut writer = PageWriter::new(&worker, Some(&output), page_size, winners, 0..0, false);
                let pages = (worker.io.buffer_bytes() / page_size.bytes()) as u32;
                // One page more than the buffer holds is added. The buffer is written when the next page
                // does not fit.
                for pgno in (1..=pages + 1).map(Pgno) {
                    // No call in this loop has to wait, so no other task runs. Thus the write below can only
                    // have been done by this task.
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
