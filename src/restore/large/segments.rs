//! Coordinates the segments of one database's large files: queues them for all workers, waits for their
//! results, and verifies each file's checksums.

use crate::restore::error::ExecutionFailure;
use crate::restore::large::page_index::{Indexed, SegmentChecksums};
use crate::restore::large::segment::{Segment, SegmentContext, SegmentDone, SegmentOutput};
use crate::restore::page_writer::Placed;
use crate::restore::workers::SharedResources;
use futures_util::FutureExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// The segments of one database's large files that are queued or in flight. Dropping this value stops them.
pub(crate) struct Segments {
    context: Arc<SegmentContext>,
    shared: Arc<SharedResources>,
    /// The large files, in the order in which their segments are numbered: first all segments of the first file.
    files: Vec<ExpectedFile>,
    /// Number of segments of all large files together, and thus of results to wait for.
    count: usize,
    /// The channel on which the segments' results arrive, in any order.
    results: mpsc::UnboundedReceiver<SegmentDone>,
}

/// A large file with the checksums that its segments must have.
struct ExpectedFile {
    planned: usize,
    /// Number of segments that the file was divided into.
    segments: usize,
    may_ask_again: bool,
    checksums: SegmentChecksums,
}

impl Segments {
    /// Queues the segments of the large files `indexed` for all workers, and returns without waiting for them.
    pub(crate) fn start(context: SegmentContext, indexed: Vec<Indexed>, shared: &Arc<SharedResources>) -> Self {
        let context = Arc::new(context);
        // Only the segments hold clones of the sender. So when the last segment is dropped, the channel
        // closes and `finish` does not wait for ever.
        let (done, results) = mpsc::unbounded_channel();
        let mut files = Vec::with_capacity(indexed.len());
        let mut count = 0;
        for Indexed { file, cuts, expected } in indexed {
            let (planned, may_ask_again) = (file.planned, file.may_ask_again);
            files.push(ExpectedFile { planned, segments: cuts.len(), may_ask_again, checksums: expected });
            let file = Arc::new(file);
            for bounds in cuts {
                let (context, file, done) = (Arc::clone(&context), Arc::clone(&file), done.clone());
                let segment = Segment { context, file, number: count, bounds, done };
                shared.segments.push(Box::new(move |worker| async move { segment.run(&worker).await }.boxed_local()));
                count += 1;
            }
        }
        Self { context, shared: Arc::clone(shared), files, count, results }
    }

    /// Waits for all segments and verifies each file's checksums. Returns number and checksum of the pages
    /// that were written.
    ///
    /// # Errors
    /// The first failure of a segment, a checksum that differs, or (a bug, unless the run was cancelled) a
    /// segment that ended without a result.
    pub(crate) async fn finish(mut self) -> Result<Placed, ExecutionFailure> {
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
        let (mut placed, mut rest) = (Placed::default(), &outputs[..]);
        for file in &self.files {
            let Some((outputs, others)) = rest.split_at_checked(file.segments) else {
                return Err(ExecutionFailure::bug("a large file has fewer results than segments"));
            };
            rest = others;
            if !self.context.fetch_only {
                let verified = file.checksums.verify(outputs);
                verified.map_err(|error| {
                    let damaged = ExecutionFailure::Damaged { file: file.planned, error };
                    // Any byte of the file may be the wrong one.
                    match file.may_ask_again {
                        true => ExecutionFailure::Again { file: file.planned, failure: Box::new(damaged) },
                        false => damaged,
                    }
                })?;
            }
            outputs.iter().for_each(|o| placed.add(o.placed));
        }
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
        Segments { context: Arc::new(context), shared: Arc::clone(shared), files: Vec::new(), count: 1, results }
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
