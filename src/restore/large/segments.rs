//! Coordinates the segments of one database's large files: queues them for all workers, waits for their
//! results, and verifies each file's checksums.

use crate::ltx::FormatError;
use crate::restore::error::ExecutionFailure;
use crate::restore::large::cuts::SegmentBounds;
use crate::restore::large::page_index::{Indexed, SegmentChecksums};
use crate::restore::large::segment::{LargeFile, Segment, SegmentContext, SegmentDone, SegmentOutput};
use crate::restore::large::source::{Footer, LargeSource, note_asked_again};
use crate::restore::page_writer::Placed;
use crate::restore::workers::SharedResources;
use futures_util::FutureExt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// The segments of one database's large files that are queued or in flight. Dropping this value stops them.
pub(crate) struct Segments {
    context: Arc<SegmentContext>,
    shared: Arc<SharedResources>,
    /// The large files, in the order in which their segments are numbered: first all segments of the first file.
    files: Vec<ExpectedFile>,
    /// True if the files are asked for once more.
    is_again: bool,
    /// Number of segments of all large files together, and thus of results to wait for.
    count: usize,
    /// The channel on which the segments' results arrive, in any order.
    results: mpsc::UnboundedReceiver<SegmentDone>,
}

/// A large file with the checksums that its segments must have.
struct ExpectedFile {
    file: Arc<LargeFile>,
    /// The segments that the file was divided into.
    cuts: Vec<Arc<SegmentBounds>>,
    checksums: SegmentChecksums,
}

/// A large file whose checksum differs, although each of its segments seemed right. Any of its bytes may be wrong, so
/// all of it is asked for once more.
pub(crate) struct WrongFile {
    file: ExpectedFile,
    error: FormatError,
    context: SegmentContext,
    shared: Arc<SharedResources>,
}

impl Segments {
    /// Queues the segments of the large files `indexed` for all workers, and returns without waiting for them.
    pub(crate) fn start(context: SegmentContext, indexed: Vec<Indexed>, shared: &Arc<SharedResources>) -> Self {
        let files = indexed.into_iter().map(|Indexed { file, cuts, expected }| {
            let file = Arc::new(file);
            ExpectedFile { file, cuts, checksums: expected }
        });
        Self::queue(context, files.collect(), false, shared)
    }

    fn queue(context: SegmentContext, files: Vec<ExpectedFile>, is_again: bool, shared: &Arc<SharedResources>) -> Self {
        let context = Arc::new(context);
        // Only the segments hold clones of the sender. So when the last segment is dropped, the channel
        // closes and `finish` does not wait for ever.
        let (done, results) = mpsc::unbounded_channel();
        let mut count = 0;
        for ExpectedFile { file, cuts, .. } in &files {
            for bounds in cuts {
                let (context, file, done) = (Arc::clone(&context), Arc::clone(file), done.clone());
                let segment = Segment { context, file, number: count, bounds: Arc::clone(bounds), is_again, done };
                shared.segments.push(Box::new(move |worker| async move { segment.run(&worker).await }.boxed_local()));
                count += 1;
            }
        }
        Self { context, shared: Arc::clone(shared), files, is_again, count, results }
    }

    /// Waits for all segments and verifies each file's checksums. Returns number and checksum of the pages that were
    /// written, and the files whose checksums differ and that may be asked for once more.
    ///
    /// # Errors
    /// The first failure of a segment, a checksum that differs, or (a bug, unless the run was cancelled) a
    /// segment that ended without a result.
    pub(crate) async fn finish(mut self) -> Result<(Placed, Vec<WrongFile>), ExecutionFailure> {
        let mut outputs: Vec<Option<SegmentOutput>> = Vec::new();
        outputs.resize_with(self.count, || None);
        let mut failure = None;
        // This loop terminates. Each segment sends one result, also if it is stopped. If the workers end
        // before that, the queue drops its segments, the channel closes, and `recv` returns None.
        for _ in 0..self.count {
            let Some(SegmentDone { number, result }) = self.results.recv().await else {
                let stopped = || self.shared.stopped("a segment has ended without a result").into();
                return Err(failure.unwrap_or_else(stopped));
            };
            match (result, outputs.get_mut(number)) {
                (Ok(output), Some(slot)) => *slot = Some(output),
                (Ok(_), None) => {
                    return Err(ExecutionFailure::bug("a segment that was never started has ended"));
                }
                // This segment stopped because another one failed. That one reports the failure.
                (Err(ExecutionFailure::Stopped), _) => {}
                (Err(error), _) => {
                    failure.get_or_insert(error);
                }
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        let Some(outputs) = outputs.into_iter().collect::<Option<Vec<_>>>() else {
            return Err(ExecutionFailure::bug("a segment was stopped although none has failed"));
        };
        let (mut placed, mut rest, mut wrong) = (Placed::default(), &outputs[..], Vec::new());
        for expected in std::mem::take(&mut self.files) {
            let Some((outputs, others)) = rest.split_at_checked(expected.cuts.len()) else {
                return Err(ExecutionFailure::bug("a large file has fewer results than segments"));
            };
            rest = others;
            let verified = if self.context.fetch_only { Ok(()) } else { expected.checksums.verify(outputs) };
            match verified {
                Ok(()) => outputs.iter().for_each(|o| placed.add(o.placed)),
                Err(error) if expected.file.may_ask_again && !self.is_again => {
                    let (context, shared) = (self.context.again(), Arc::clone(&self.shared));
                    wrong.push(WrongFile { file: expected, error, context, shared });
                }
                Err(error) => return Err(ExecutionFailure::Damaged { file: expected.file.planned, error }),
            }
        }
        Ok((placed, wrong))
    }
}

impl WrongFile {
    /// Index of the file in the plan.
    pub(crate) fn planned(&self) -> usize {
        self.file.file.planned
    }

    /// Asks for the whole file once more: first for its header, page index and trailer, then for its segments. Returns
    /// number and checksum of the pages that were written.
    ///
    /// # Errors
    /// [`ExecutionFailure::Damaged`] if the checksum differs again. [`ExecutionFailure::Again`] if header, index or
    /// trailer were what was wrong: the claims of pages depend on them.
    pub(crate) async fn ask_again(self, source: LargeSource<'_>) -> Result<Placed, ExecutionFailure> {
        let planned = self.planned();
        note_asked_again(source.worker, &source.planned.key, None, &self.error);
        let http = Rc::new(source.worker.http.on_other_connections());
        let source = LargeSource { http: &http, ..source };
        let footer = source.footer().await.map_err(|e| ExecutionFailure::of_request(planned, e))?;
        let footer = Footer { again: Some(Rc::clone(&http)), ..footer };
        let Indexed { cuts, expected, .. } = Indexed::read(source, planned, footer, &mut |_| {}).await?;
        if cuts != self.file.cuts || expected != self.file.checksums {
            let failure = Box::new(ExecutionFailure::Damaged { file: planned, error: self.error });
            return Err(ExecutionFailure::Again { file: planned, failure });
        }
        let (placed, _) = Segments::queue(self.context, vec![self.file], true, &self.shared).finish().await?;
        Ok(placed)
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.context.stopped.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::{CancellationToken, Reason};
    use crate::io::IoBackend;
    use crate::ltx::PageSize;
    use crate::restore::error::RestoreError;
    use crate::restore::page_map::{Overlay, PageMap, Winners};
    use crate::restore::workers::{SEGMENT_BYTES, Workers, WorkersOptions};
    use crate::store::Store;
    use std::sync::atomic::AtomicBool;

    /// Makes a [`Segments`] of one segment that was dropped before it had a result, as happens if its worker
    /// panics.
    fn dropped(shared: &Arc<SharedResources>) -> Segments {
        let overlay = Overlay::new(PageSize::new(4096).unwrap(), 0);
        let context = SegmentContext {
            store: Store::File(Default::default()),
            output: None,
            fetch_only: true,
            winners: Arc::new(Winners { map: PageMap::new(0, None), overlay }),
            tracked: false,
            requests: None,
            stopped: AtomicBool::new(false),
        };
        let (_, results) = mpsc::unbounded_channel();
        Segments {
            context: Arc::new(context),
            shared: Arc::clone(shared),
            files: Vec::new(),
            is_again: false,
            count: 1,
            results,
        }
    }

    #[test]
    fn a_segment_without_a_result_is_a_bug_unless_the_run_was_cancelled() {
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
        let cancel = CancellationToken::new();
        let workers = Workers::start(&options, Arc::default(), cancel.clone()).unwrap();
        let finish = || futures_util::future::FutureExt::now_or_never(dropped(workers.shared()).finish());
        let failure = finish();
        assert!(
            matches!(failure, Some(Err(ExecutionFailure::Fatal(RestoreError::Internal { .. })))),
            "the user must not read that the run was stopped"
        );
        cancel.cancel(Reason::Interrupt);
        assert!(matches!(finish(), Some(Err(ExecutionFailure::Fatal(RestoreError::Cancelled)))));
    }
}
