//! fsync on threads of its own, so that many files are synced side by side.
//!
//! A few threads that find their next file in a queue. Another one is woken where more files wait
//! than threads are at work, so that under load none sleeps between two files
//! (docs/PERFORMANCE.md). A file that waits always has a thread that is awake or told to wake up,
//! and that is not busy with a large file: that may take seconds.

use super::{IoError, OutputFile};
use crate::process::locks::{self, lock};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Syncs in flight per worker, and so the threads for them.
const AT_ONCE: usize = 16;

/// A worker's syncs. Files wait in a queue no longer than there are databases in flight.
#[derive(Clone)]
pub(super) struct Syncs(Rc<SyncPool>);

/// Dropped, it waits for the syncs that are under way, and gives up those that are not.
struct SyncPool {
    shared: Arc<SyncShared>,
}

#[derive(Default)]
struct SyncShared {
    state: Mutex<SyncState>,
    news: Condvar,
}

#[derive(Default)]
struct SyncState {
    waiting: VecDeque<SyncJob>,
    /// Threads that sleep, and how many of them have been told to wake up.
    asleep: usize,
    told: usize,
    /// Threads that sync a large file.
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
            // Without an answer the worker is going down: what was not synced is not published.
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
        let is_one_told = self.shared.see_to_waiting(&mut state);
        // No thread to be had: this one does it.
        let own = if state.threads.is_empty() { state.waiting.pop_back() } else { None };
        drop(state);
        if is_one_told {
            self.shared.news.notify_one();
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
        self.shared.news.notify_all();
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl SyncShared {
    fn lock(&self) -> MutexGuard<'_, SyncState> {
        lock(&self.state)
    }

    /// Gets another thread where more wait than those at work, or about to be, will soon come to:
    /// each takes the next one when it is done. Whether one that sleeps is told, and to be notified.
    fn see_to_waiting(self: &Arc<Self>, state: &mut SyncState) -> bool {
        let free = state.asleep.saturating_sub(state.told);
        let soon = state.threads.len().saturating_sub(free).saturating_sub(state.with_large);
        if state.waiting.len() <= soon {
            return false;
        }
        if free > 0 {
            state.told += 1;
            return true;
        }
        if state.threads.len() < AT_ONCE {
            let shared = Arc::clone(self);
            // Where there is none to be had, those that there are will come to it.
            if let Ok(thread) = std::thread::Builder::new().name("sync".to_owned()).spawn(move || shared.work()) {
                state.threads.push(thread);
            }
        }
        false
    }

    /// A thread's life.
    fn work(self: &Arc<Self>) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                let is_large = job.file.is_large();
                state.with_large += usize::from(is_large);
                let is_one_told = is_large && self.see_to_waiting(&mut state);
                drop(state);
                if is_one_told {
                    self.news.notify_one();
                }
                job.run();
                state = self.lock();
                state.with_large -= usize::from(is_large);
            } else if state.closed {
                return;
            } else {
                state.asleep += 1;
                state = locks::wait(&self.news, state);
                // Also where nobody told it: whoever was told finds that out when it wakes up.
                state.asleep -= 1;
                state.told = state.told.saturating_sub(1);
            }
        }
    }
}

impl SyncJob {
    fn run(self) {
        // Nobody waits for it any more: the restore was dropped.
        if !self.done.is_closed() {
            let _ = self.done.send(self.file.fsync());
        }
    }
}
