//! The segments of one database's large files, handed to all workers and waited for.

use super::error::Failure;
use super::large::{Layout, Segment, SegmentDone, SegmentOutput};
use super::place::Placed;
use super::queue::Queue;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// Segments under way.
pub struct Segments {
    layout: Arc<Layout>,
    results: mpsc::UnboundedReceiver<SegmentDone>,
}

impl Segments {
    /// Hands the segments of the layout's files to the workers.
    pub fn start(layout: Layout, queue: &Queue<Segment>) -> Self {
        let (done, results) = mpsc::unbounded_channel();
        let layout = Arc::new(layout);
        for (file, large) in layout.files.iter().enumerate() {
            for cut in 0..large.cuts.len() {
                queue.push(Segment { layout: Arc::clone(&layout), file, cut, done: done.clone() });
            }
        }
        Self { layout, results }
    }

    /// Waits for all and verifies each file's checksum.
    pub async fn finish(mut self) -> Result<Placed, Failure> {
        let mut outputs: Vec<Vec<Option<SegmentOutput>>> =
            self.layout.files.iter().map(|f| vec![None; f.cuts.len()]).collect();
        let mut left: usize = outputs.iter().map(Vec::len).sum();
        let mut failure = None;
        while left > 0 {
            let Some(done) = self.results.recv().await else { return Err(failure.unwrap_or(Failure::Stopped)) };
            left -= 1;
            match done.result {
                Ok(output) => {
                    if let Some(slot) = outputs.get_mut(done.file).and_then(|f| f.get_mut(done.cut)) {
                        *slot = Some(output);
                    }
                }
                Err(Failure::Stopped) => {}
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        let mut placed = Placed::default();
        for (file, outputs) in self.layout.files.iter().zip(outputs) {
            let Some(outputs) = outputs.into_iter().collect::<Option<Vec<_>>>() else { return Err(Failure::Stopped) };
            if !self.layout.fetch_only {
                file.verify(&outputs).map_err(|error| Failure::Damaged { file: file.planned, error })?;
            }
            outputs.iter().for_each(|o| placed.add(o.placed));
        }
        Ok(placed)
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.layout.stopped.store(true, Ordering::Relaxed);
    }
}
