//! The segments of one database's large files, handed to all workers and waited for.

use crate::restore::error::ExecutionFailure;
use crate::restore::large::cuts::SegmentBounds;
use crate::restore::large::{
    Indexed, LargeFile, OnIndex, Segment, SegmentChecksums, SegmentContext, SegmentDone, SegmentOutput,
};
use crate::restore::page_writer::Placed;
use crate::restore::work_queue::WorkQueue;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// Segments under way.
pub struct Segments<'a> {
    layout: Arc<SegmentContext>,
    queue: &'a WorkQueue<Segment>,
    /// How many of each file.
    counts: Vec<usize>,
    /// In the order of the files.
    expected: Vec<SegmentChecksums>,
    /// None once all have been handed over: who waits for results learns that none will come.
    done: Option<mpsc::UnboundedSender<SegmentDone>>,
    results: mpsc::UnboundedReceiver<SegmentDone>,
}

/// The last file's segments are handed over as its index is read.
impl OnIndex for Segments<'_> {
    fn cut(&mut self, cut: SegmentBounds) {
        self.push(self.expected.len(), cut);
    }
}

impl<'a> Segments<'a> {
    /// Hands the segments of `indexed` files to the workers that `queue` feeds. Those of `last`
    /// are still to come ([`OnIndex`]), and what is expected of it ([`Self::expect`]).
    pub fn start(
        mut layout: SegmentContext,
        indexed: Vec<Indexed>,
        last: Option<LargeFile>,
        queue: &'a WorkQueue<Segment>,
    ) -> Self {
        let (done, results) = mpsc::unbounded_channel();
        let (mut cuts, mut expected) = (Vec::new(), Vec::new());
        for indexed in indexed {
            layout.files.push(indexed.file);
            cuts.push(indexed.cuts);
            expected.push(indexed.expected);
        }
        layout.files.extend(last);
        let counts = vec![0; layout.files.len()];
        let mut segments = Self { layout: Arc::new(layout), queue, counts, expected, done: Some(done), results };
        for (file, cuts) in cuts.into_iter().enumerate() {
            cuts.into_iter().for_each(|cut| segments.push(file, cut));
        }
        segments
    }

    /// What the last file's segments are compared with.
    pub fn expect(&mut self, last: SegmentChecksums) {
        self.expected.push(last);
    }

    fn push(&mut self, file: usize, cut: SegmentBounds) {
        let (Some(count), Some(done)) = (self.counts.get_mut(file), self.done.clone()) else { return };
        let layout = Arc::clone(&self.layout);
        self.queue.push(Segment { layout, file, number: *count, cut, done });
        *count += 1;
    }

    /// Waits for all and verifies each file's checksum.
    pub async fn finish(mut self) -> Result<Placed, ExecutionFailure> {
        // Nothing goes unverified.
        if self.expected.len() != self.counts.len() {
            return Err(ExecutionFailure::Stopped);
        }
        let mut outputs: Vec<Vec<Option<SegmentOutput>>> = self.counts.iter().map(|&count| vec![None; count]).collect();
        let mut left: usize = self.counts.iter().sum();
        let mut failure = None;
        self.done = None;
        // Ends: every segment answers once, also when it is stopped; and the channel closes without workers.
        while left > 0 {
            let Some(done) = self.results.recv().await else {
                return Err(failure.unwrap_or(ExecutionFailure::Stopped));
            };
            left -= 1;
            match done.result {
                Ok(output) => {
                    if let Some(slot) = outputs.get_mut(done.file).and_then(|f| f.get_mut(done.number)) {
                        *slot = Some(output);
                    }
                }
                Err(ExecutionFailure::Stopped) => {}
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        let mut placed = Placed::default();
        for (file, outputs) in self.expected.iter().zip(outputs) {
            let Some(outputs) = outputs.into_iter().collect::<Option<Vec<_>>>() else {
                return Err(ExecutionFailure::Stopped);
            };
            if !self.layout.fetch_only {
                file.verify(&outputs).map_err(|error| ExecutionFailure::Damaged { file: file.planned, error })?;
            }
            outputs.iter().for_each(|o| placed.add(o.placed));
        }
        Ok(placed)
    }
}

impl Drop for Segments<'_> {
    fn drop(&mut self) {
        self.layout.stopped.store(true, Ordering::Relaxed);
    }
}
