//! Threads for blocking work: SQLite's check, the resolution of host names, the sync of directories.
//!
//! tokio's `spawn_blocking` is not used, because it panics if no thread can be started (`ulimit -u`, pids.max of a
//! cgroup, a seccomp profile). A caller of this module can start the first thread early ([`Threads::start_first`])
//! and gets an error if that fails. Later, if no thread exists and none can be started, the work is done on the
//! caller's thread.

use crate::process::cgroup;
use crate::process::locks::{self, lock};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use thiserror::Error;
use tokio::sync::oneshot;

/// The kernel refused to start a thread. Returned at the start of a run, while its threads are made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no thread can be started here: {}", self.reason())]
pub struct NoThread {
    errno: Option<Errno>,
    text: String,
}

impl From<std::io::Error> for NoThread {
    fn from(error: std::io::Error) -> Self {
        Self { errno: Errno::from_io_error(&error), text: error.to_string() }
    }
}

impl NoThread {
    fn reason(&self) -> String {
        match self.errno {
            Some(Errno::AGAIN) => format!("the limit on threads is reached ({})", limits()),
            Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => format!(
                "{}: a seccomp profile or a pids limit forbids it, as Docker before 20.10.10 does in recent images",
                self.text
            ),
            _ => self.text.clone(),
        }
    }
}

/// The limits that may have been reached, with their values.
fn limits() -> String {
    let user = getrlimit(Resource::Nproc).current.map_or("unlimited".to_owned(), |most| most.to_string());
    let group = cgroup::THREADS.tightest().map_or("none seen".to_owned(), |most| most.to_string());
    format!("ulimit -u: {user}; pids.max of its container or service: {group}")
}

/// Starts a thread that does nothing, to see whether threads can be started. Should be called before using
/// libraries that start threads themselves and panic if they cannot.
///
/// # Errors
///
/// The kernel refuses to start a thread.
pub(crate) fn try_one() -> Result<(), NoThread> {
    let thread = std::thread::Builder::new().name("try".to_owned()).stack_size(64 << 10).spawn(|| ())?;
    // `join` fails only if the thread panicked, and this thread does nothing.
    let _ = thread.join();
    Ok(())
}

type BoxedWork = Box<dyn FnOnce() + Send>;

/// A few threads that share one queue. Work is done in the order in which it was queued. Dropping the pool gives up
/// the work that has not begun, and does not wait for the rest.
#[derive(Debug)]
pub struct Threads {
    shared: Arc<ThreadsShared>,
    name: &'static str,
    most: usize,
}

#[derive(Debug, Default)]
struct ThreadsShared {
    state: Mutex<ThreadsState>,
    changed: Condvar,
}

#[derive(Default)]
struct ThreadsState {
    /// The work that has not begun. The callers bound its length: one piece of work per database in flight, or per
    /// host name.
    waiting: VecDeque<BoxedWork>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl fmt::Debug for ThreadsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadsState").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Threads {
    /// Creates a pool of at most `most` threads and starts none yet. `name` is the name of the threads.
    pub fn new(name: &'static str, most: usize) -> Self {
        Self { shared: Arc::default(), name, most: most.max(1) }
    }

    /// Starts the first thread. Without this call, work is done on the caller's thread if no thread can be started.
    ///
    /// # Errors
    ///
    /// The kernel refuses to start a thread.
    pub fn start_first(&self) -> Result<(), NoThread> {
        let mut state = self.shared.lock();
        if state.threads == 0 { self.start(&mut state) } else { Ok(()) }
    }

    /// Does `work` on one of the threads. If all are busy and fewer than the maximum run, another one is started.
    /// If there is no thread and none can be started, `work` is done on this thread before the function returns.
    ///
    /// The receiver gets the result. It fails if `work` panicked or was given up.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.shared.lock();
        state.waiting.push_back(Box::new(move || {
            // If the receiver was dropped, nobody waits for the result and the work is skipped.
            if !reply.is_closed() {
                let _ = reply.send(work());
            }
        }));
        if state.idle >= state.waiting.len() {
            self.shared.changed.notify_one();
        } else if state.threads < self.most && self.start(&mut state).is_err() && state.threads == 0 {
            let own = state.waiting.pop_back();
            drop(state);
            own.into_iter().for_each(run_caught);
        }
        answer
    }

    /// As [`Self::run`], for work that must not go on when nobody waits for it: dropping the returned value waits until
    /// it has ended. The work ends early once the flag that it gets is true.
    pub fn run_stoppable<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> StoppableWork<T> {
        let control = Arc::<WorkControl>::default();
        let own = Arc::clone(&control);
        let answer = self.run(move || {
            let _running = lock(&own.running);
            (!own.stop.load(Relaxed)).then(|| work(&own.stop))
        });
        StoppableWork { answer, control }
    }

    fn start(&self, state: &mut ThreadsState) -> Result<(), NoThread> {
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().name(self.name.to_owned()).spawn(move || shared.live())?;
        state.threads += 1;
        Ok(())
    }
}

/// Work of [`Threads::run_stoppable`]. Dropping it waits until the work has ended, or keeps it from beginning.
#[derive(Debug)]
pub struct StoppableWork<T> {
    answer: oneshot::Receiver<Option<T>>,
    control: Arc<WorkControl>,
}

#[derive(Debug, Default)]
struct WorkControl {
    stop: AtomicBool,
    /// Locked while the work is done.
    running: Mutex<()>,
}

impl<T> StoppableWork<T> {
    /// The result. None if the work panicked or was given up.
    pub async fn result(mut self) -> Option<T> {
        (&mut self.answer).await.ok().flatten()
    }
}

impl<T> Drop for StoppableWork<T> {
    fn drop(&mut self) {
        self.control.stop.store(true, Relaxed);
        drop(lock(&self.control.running));
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let given_up = std::mem::take(&mut state.waiting);
        drop(state);
        self.shared.changed.notify_all();
        drop(given_up);
    }
}

impl ThreadsShared {
    fn lock(&self) -> MutexGuard<'_, ThreadsState> {
        lock(&self.state)
    }

    /// The loop of each thread: does the work in the queue until the pool is dropped.
    fn live(&self) {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                drop(state);
                run_caught(work);
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = locks::wait(&self.changed, state);
                state.idle -= 1;
            }
        }
    }
}

/// Does `work`. If it panics, its receiver fails and the thread goes on.
fn run_caught(work: BoxedWork) {
    let _ = catch_unwind(AssertUnwindSafe(work));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread::{ThreadId, current};

    fn own_id() -> ThreadId {
        current().id()
    }

    #[test]
    fn work_is_done_elsewhere_and_side_by_side() {
        let threads = Threads::new("test", 2);
        // The two pieces of work meet: neither ends before the other has begun, so both must run at the same time.
        let (to_first, first) = mpsc::channel();
        let (to_second, second) = mpsc::channel();
        let meet = |tell: mpsc::Sender<()>, heard: mpsc::Receiver<()>| {
            move || {
                tell.send(()).unwrap();
                heard.recv().unwrap();
                own_id()
            }
        };
        let one = threads.run(meet(to_first, second));
        let other = threads.run(meet(to_second, first));
        let (one, other) = (one.blocking_recv().unwrap(), other.blocking_recv().unwrap());
        assert!(one != other && one != own_id() && other != own_id());
    }

    #[test]
    fn no_more_threads_than_were_asked_for() {
        let threads = Threads::new("test", 1);
        threads.start_first().unwrap();
        let answers: Vec<_> = (0..20).map(|n| threads.run(move || (n, own_id()))).collect();
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.blocking_recv().unwrap()).collect();
        assert!(answers.iter().map(|(n, _)| *n).eq(0..20));
        assert!(answers.iter().all(|(_, id)| *id == answers[0].1));
    }

    #[test]
    fn stoppable_work_has_ended_when_it_is_dropped() {
        let threads = Threads::new("test", 1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ended = Arc::<AtomicBool>::default();
        let (begin, begun) = mpsc::channel();
        let work = |ended: &Arc<AtomicBool>, begin: mpsc::Sender<()>| {
            let ended = Arc::clone(ended);
            move |stop: &AtomicBool| {
                begin.send(()).unwrap();
                while !stop.load(Relaxed) {
                    std::thread::yield_now();
                }
                ended.store(true, Relaxed);
            }
        };
        let running = threads.run_stoppable(work(&ended, begin.clone()));
        // The only thread is busy with the first, so this one is not begun.
        let waiting = threads.run_stoppable(work(&ended, begin));
        begun.recv().unwrap();
        drop(waiting);
        assert!(!ended.load(Relaxed));
        drop(running.result());
        assert!(ended.load(Relaxed));
        assert_eq!(runtime.block_on(threads.run_stoppable(|_| 7).result()), Some(7));
        assert!(begun.recv().is_err());
    }

    #[test]
    fn a_panic_is_told_and_the_thread_goes_on() {
        let threads = Threads::new("test", 1);
        assert!(threads.run(|| panic!("as it should")).blocking_recv().is_err());
        assert_eq!(threads.run(|| 7).blocking_recv(), Ok(7));
    }

    #[test]
    fn what_has_not_begun_is_given_up() {
        let threads = Threads::new("test", 1);
        let (release, held) = mpsc::channel::<()>();
        let (begin, begins) = mpsc::channel();
        let begun = threads.run(move || {
            begin.send(()).unwrap();
            held.recv().is_ok()
        });
        begins.recv().unwrap();
        let nobody_waits = threads.run(|| unreachable!("nobody waits for this"));
        drop(nobody_waits);
        let waiting = threads.run(|| ());
        drop(threads);
        assert!(waiting.blocking_recv().is_err());
        release.send(()).unwrap();
        assert_eq!(begun.blocking_recv(), Ok(true));
    }

    #[test]
    fn refusals_name_what_refused() {
        let text = |errno: i32| NoThread::from(std::io::Error::from_raw_os_error(errno)).to_string();
        let limit = text(libc::EAGAIN);
        assert!(
            limit.starts_with("no thread can be started here: the limit on threads is reached (ulimit -u: "),
            "{limit}"
        );
        assert!(limit.contains("pids.max"), "{limit}");
        let forbidden = text(libc::EPERM);
        assert!(
            forbidden.starts_with("no thread can be started here: ") && forbidden.contains("seccomp"),
            "{forbidden}"
        );
    }
}
