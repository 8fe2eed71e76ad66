//! Makes restored databases durable in batches: each directory is synced once for all databases of a batch.
//! While one batch is being synced, the next is collected.

use crate::commit::{PublishedFile, sync_dirs};
use crate::error::Class;
use crate::fleet::job::{Ending, Job};
use crate::process::threads::Threads;
use crate::restore::{RestoreOutcome, Restored};
use std::future::Future;

/// Databases that have their final names but whose directories are not synced yet.
pub(super) struct DirectorySyncs {
    unsynced: Vec<Pending>,
    is_syncing: bool,
    /// Thread that syncs directories. If the operating system cannot start it, the run's own thread syncs.
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

    /// Returns a future that syncs the directories of all databases added so far. Returns None if nothing was
    /// added, or if a batch is already being synced. When the future has ended, call [`Self::batch_ended`].
    /// Otherwise no further batch begins.
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
            // An empty result means that the thread panicked. Every database of the batch then fails.
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
