//! Calls fsync on separate threads, so that many files are synced in parallel (docs/decisions/08-fsync-threads.md).
//!
//! A few threads take files from a queue. A sleeping thread is woken only if more files wait than threads are
//! awake, so under load no thread goes to sleep between two files. Invariant: while a file waits, at least one
//! thread is awake or notified that is not busy with a large file, whose sync may take seconds.

use super::{IoError, OutputFile};
use crate::process::locks::{self, lock};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// The limit on syncs in flight per worker, and on the threads for them.
const AT_ONCE: usize = 16;

/// The syncs of one worker. Its queue is never longer than the number of databases in flight.
#[derive(Clone)]
pub(super) struct Syncs(Rc<SyncPool>);

/// The threads and the queue. Dropping the pool waits for the syncs that have begun and gives up the others.
struct SyncPool {
    shared: Arc<SyncShared>,
}

#[derive(Default)]
struct SyncShared {
    state: Mutex<SyncState>,
    changed: Condvar,
}

#[derive(Default)]
struct SyncState {
    waiting: VecDeque<SyncJob>,
    /// The number of sync threads that sleep because they have no work.
    asleep: usize,
    /// The number of sleeping threads that were notified and have not woken up yet.
    notified: usize,
    /// The number of threads that are busy with the sync of a large file.
    with_large: usize,
    threads: Vec<JoinHandle<()>>,
    closed: bool,
}

struct SyncJob {
    file: Arc<OutputFile>,
    done: oneshot::Sender<Result<(), IoError>>,
}

impl Syncs {
    pub(super) fn new() -> Self {
        Self(Rc::new(SyncPool { shared: Arc::default() }))
    }

    pub(super) fn sync(&self, file: &Arc<OutputFile>) -> LocalBoxFuture<'static, Result<(), IoError>> {
        let (pool, file) = (Rc::clone(&self.0), Arc::clone(file));
        async move {
            let (done, synced) = oneshot::channel();
            pool.push(SyncJob { file: Arc::clone(&file), done });
            // The channel is closed if the worker is shutting down. The file was then not synced, and it is not
            // published.
            let canceled = |_| Err(IoError::refused("sync", file.path(), rustix::io::Errno::CANCELED));
            synced.await.unwrap_or_else(canceled)
        }
        .boxed_local()
    }
}

impl SyncPool {
    fn push(&self, job: SyncJob) {
        let mut state = self.shared.lock();
        state.waiting.push_back(job);
        let must_notify = self.shared.serve_waiting(&mut state);
        // If no thread could be started, the file is synced on this thread.
        let own = if state.threads.is_empty() { state.waiting.pop_back() } else { None };
        drop(state);
        if must_notify {
            self.shared.changed.notify_one();
        }
        own.into_iter().for_each(SyncJob::run);
    }
}

impl Drop for SyncPool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.waiting.clear();
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        self.shared.changed.notify_all();
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl SyncShared {
    fn lock(&self) -> MutexGuard<'_, SyncState> {
        lock(&self.state)
    }

    /// Makes sure that the files in the queue are synced soon. Each thread that is notified, or busy with a small
    /// file, will take one file. If more files wait than that, one more thread is needed. If a thread sleeps, it is
    /// counted as notified and the result is true: the caller must notify it. If none sleeps, a thread is started.
    fn serve_waiting(self: &Arc<Self>, state: &mut SyncState) -> bool {
        let free = state.asleep.saturating_sub(state.notified);
        let soon = state.threads.len().saturating_sub(free).saturating_sub(state.with_large);
        if state.waiting.len() <= soon {
            return false;
        }
        if free > 0 {
            state.notified += 1;
            return true;
        }
        if state.threads.len() < AT_ONCE {
            let shared = Arc::clone(self);
            // If no thread can be started, the existing ones sync the file later.
            if let Ok(thread) = std::thread::Builder::new().name("sync".to_owned()).spawn(move || shared.work()) {
                state.threads.push(thread);
            }
        }
        false
    }

    /// The loop of each thread: syncs files until the pool is dropped.
    fn work(self: &Arc<Self>) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                let is_large = job.file.is_large();
                state.with_large += usize::from(is_large);
                let must_notify = is_large && self.serve_waiting(&mut state);
                drop(state);
                if must_notify {
                    self.changed.notify_one();
                }
                job.run();
                state = self.lock();
                state.with_large -= usize::from(is_large);
            } else if state.closed {
                return;
            } else {
                state.asleep += 1;
                state = locks::wait(&self.changed, state);
                // A condition variable may wake a thread that nobody notified. Such a thread is counted as the
                // notified one. The thread that was really notified then finds the queue empty and sleeps again.
                state.asleep -= 1;
                debug_assert!(state.notified <= state.asleep + 1);
                state.notified = state.notified.saturating_sub(1);
            }
        }
    }
}

impl SyncJob {
    fn run(self) {
        // The receiver is gone if the restore was dropped. Its file need not be synced.
        if !self.done.is_closed() {
            let _ = self.done.send(self.file.fsync());
        }
    }
}
