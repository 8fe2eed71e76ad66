//! The segments of one database's large files: handed to all workers, waited for, verified.

use crate::restore::error::ExecutionFailure;
use crate::restore::large::page_index::{Indexed, SegmentChecksums};
use crate::restore::large::segment::{Segment, SegmentContext, SegmentDone, SegmentOutput};
use crate::restore::page_writer::Placed;
use crate::restore::workers::SharedResources;
use futures_util::FutureExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// Segments in flight. Dropping it stops them.
pub struct Segments {
    context: Arc<SegmentContext>,
    /// In the order in which the files' segments are numbered.
    files: Vec<ExpectedFile>,
    results: mpsc::UnboundedReceiver<SegmentDone>,
}

/// What the segments of one file must yield.
struct ExpectedFile {
    /// Index of the file in the plan.
    planned: usize,
    segments: usize,
    checksums: SegmentChecksums,
}

impl Segments {
    /// Hands the segments of the files `indexed` to the workers of `shared`.
    pub fn start(context: SegmentContext, indexed: Vec<Indexed>, shared: &SharedResources) -> Self {
        let context = Arc::new(context);
        // Only the segments hold a sender: the channel closes when the last of them is dropped.
        let (done, results) = mpsc::unbounded_channel();
        let mut files = Vec::with_capacity(indexed.len());
        let mut number = 0;
        for Indexed { file, cuts, expected } in indexed {
            files.push(ExpectedFile { planned: file.planned, segments: cuts.len(), checksums: expected });
            let file = Arc::new(file);
            for bounds in cuts {
                let (context, file, done) = (Arc::clone(&context), Arc::clone(&file), done.clone());
                let segment = Segment { context, file, number, bounds, done };
                shared.segments.push(Box::new(move |worker| async move { segment.run(&worker).await }.boxed_local()));
                number += 1;
            }
        }
        Self { context, files, results }
    }

    /// Waits for all segments and verifies each file's checksums.
    ///
    /// # Errors
    /// The first failure of a segment; [`ExecutionFailure::Stopped`] if the workers have stopped.
    pub async fn finish(mut self) -> Result<Placed, ExecutionFailure> {
        let count = self.files.iter().map(|file| file.segments).sum();
        let mut outputs: Vec<Option<SegmentOutput>> = Vec::new();
        outputs.resize_with(count, || None);
        let mut failure = None;
        // Terminates: a segment sends one result, also if it is stopped. If the workers end, the
        // queue drops its segments and the channel closes.
        for _ in 0..count {
            let Some(SegmentDone { number, result }) = self.results.recv().await else {
                return Err(failure.unwrap_or(ExecutionFailure::Stopped));
            };
            match (result, outputs.get_mut(number)) {
                (Ok(output), Some(slot)) => *slot = Some(output),
                (Ok(_), None) => {
                    return Err(ExecutionFailure::bug("a segment that was never started has ended"));
                }
                // The failure that stopped it comes from another segment.
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
                verified.map_err(|error| ExecutionFailure::Damaged { file: file.planned, error })?;
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
