//! Makes published databases durable, in batches: each directory is synced once for all databases of
//! a batch. While one batch is synced, the next is collected.

use crate::commit::{PublishedFile, sync_dirs};
use crate::error::Class;
use crate::fleet::job::{Ending, Job};
use crate::process::threads::Threads;
use crate::restore::{RestoreOutcome, Restored};
use std::future::Future;

/// Databases that have their names, but whose directories are not synced.
pub(super) struct DirectorySyncs {
    unsynced: Vec<Pending>,
    is_syncing: bool,
    /// The thread that syncs. If it cannot be started, the run's own thread syncs.
    thread: Threads,
}

struct Pending {
    job: Job,
    outcome: RestoreOutcome,
    warnings: Vec<String>,
    published: PublishedFile,
}

impl DirectorySyncs {
    pub(super) fn new() -> Self {
        Self { unsynced: Vec::new(), is_syncing: false, thread: Threads::new("directories", 1) }
    }

    pub(super) fn add(&mut self, job: Job, restored: Restored, warnings: Vec<String>) {
        let Restored { outcome, published } = restored;
        self.unsynced.push(Pending { job, outcome, warnings, published });
    }

    /// A future that syncs the directories of all databases added so far. None: nothing was added, or a
    /// batch is being synced. Call [`Self::batch_ended`] after the future has ended, or no further batch
    /// begins.
    pub(super) fn next_batch(&mut self) -> Option<impl Future<Output = Vec<(Job, Ending)>> + use<>> {
        if self.is_syncing || self.unsynced.is_empty() {
            return None;
        }
        self.is_syncing = true;
        let (mut published, mut restored) = (Vec::new(), Vec::new());
        for pending in self.unsynced.drain(..) {
            published.push(pending.published);
            restored.push((pending.job, pending.outcome, pending.warnings));
        }
        let syncing = self.thread.run(move || sync_dirs(published));
        Some(async move {
            // No results: the thread panicked. Then every database of the batch fails.
            let mut synced = syncing.await.unwrap_or_default().into_iter();
            let endings = restored.into_iter().map(|(job, outcome, warnings)| match synced.next() {
                Some(Ok(())) => (job, Ending::Restored { outcome: Box::new(outcome), warnings }),
                Some(Err(e)) => (job, Ending::Failed { class: e.class(), reason: e.to_string() }),
                None => {
                    let reason = "its directory was not synced".to_owned();
                    (job, Ending::Failed { class: Class::Io, reason })
                }
            });
            endings.collect()
        })
    }

    pub(super) fn batch_ended(&mut self) {
        debug_assert!(self.is_syncing, "no batch was being synced");
        self.is_syncing = false;
    }
}
