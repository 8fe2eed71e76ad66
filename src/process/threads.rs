//! Threads for work that blocks: SQLite's check, the resolution of names, the sync of
//! directories.
//!
//! tokio's own threads for such work are not used: `spawn_blocking` panics where no thread can be
//! started, as under `ulimit -u`, a cgroup's pids.max or a seccomp profile. Here the first thread
//! is started early, by who cannot do without, or the work is done on the thread that asks for it.

use crate::process::cgroup;
use crate::process::locks::{self, lock};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

/// The kernel refused to start a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoThread {
    errno: Option<Errno>,
    text: String,
}

impl From<std::io::Error> for NoThread {
    fn from(error: std::io::Error) -> Self {
        Self { errno: Errno::from_io_error(&error), text: error.to_string() }
    }
}

impl fmt::Display for NoThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no thread can be started here: ")?;
        match self.errno {
            Some(Errno::AGAIN) => write!(f, "the limit on threads is reached ({})", limits()),
            Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => write!(
                f,
                "{}: a seccomp profile or a pids limit forbids it, as Docker before 20.10.10 does in recent images",
                self.text
            ),
            _ => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for NoThread {}

/// The limits that can have been reached, with their values where they are known.
fn limits() -> String {
    let user = getrlimit(Resource::Nproc).current.map_or("unlimited".to_owned(), |most| most.to_string());
    let group = cgroup::THREADS.tightest().map_or("none seen".to_owned(), |most| most.to_string());
    format!("ulimit -u: {user}; pids.max of its container or service: {group}")
}

/// Whether a thread can be started now: for those who would start one out of sight, and panic.
///
/// # Errors
/// The kernel's refusal.
pub fn try_one() -> Result<(), NoThread> {
    let thread = std::thread::Builder::new().name("try".to_owned()).stack_size(64 << 10).spawn(|| ())?;
    // It does nothing: it cannot panic, and is over at once.
    let _ = thread.join();
    Ok(())
}

type Work = Box<dyn FnOnce() + Send>;

/// A few threads that do one piece of work after the other, in the order in which it comes.
/// Dropped, it gives up what has not begun and waits for nothing.
#[derive(Debug)]
pub struct Threads {
    shared: Arc<ThreadsShared>,
    name: &'static str,
    most: usize,
}

#[derive(Debug, Default)]
struct ThreadsShared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// Bounded by who asks: one piece for each database in flight, or for each name.
    waiting: VecDeque<Work>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Threads {
    /// At most `most` threads, none of them started yet.
    pub fn new(name: &'static str, most: usize) -> Self {
        Self { shared: Arc::default(), name, most: most.max(1) }
    }

    /// Starts the first thread, so that no work is ever done on the thread that asks for it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn start_first(&self) -> Result<(), NoThread> {
        let mut state = self.shared.lock();
        if state.threads == 0 { self.start(&mut state) } else { Ok(()) }
    }

    /// Does `work` on one of the threads. More are started while all are busy, as far as that can
    /// be had. Where there is none, `work` is done before this returns.
    ///
    /// The receiver fails where `work` panicked, or was given up.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.shared.lock();
        state.waiting.push_back(Box::new(move || {
            // Closed where nobody waits for the answer any more.
            if !reply.is_closed() {
                let _ = reply.send(work());
            }
        }));
        if state.idle >= state.waiting.len() {
            self.shared.news.notify_one();
        } else if state.threads < self.most && self.start(&mut state).is_err() && state.threads == 0 {
            let own = state.waiting.pop_back();
            drop(state);
            own.into_iter().for_each(done);
        }
        answer
    }

    fn start(&self, state: &mut State) -> Result<(), NoThread> {
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().name(self.name.to_owned()).spawn(move || shared.live())?;
        state.threads += 1;
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let given_up = std::mem::take(&mut state.waiting);
        drop(state);
        self.shared.news.notify_all();
        drop(given_up);
    }
}

impl ThreadsShared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A thread's life.
    fn live(&self) {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                drop(state);
                done(work);
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = locks::wait(&self.news, state);
                state.idle -= 1;
            }
        }
    }
}

/// Does `work`. Its panic is told by its receiver; the thread goes on.
fn done(work: Work) {
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
        // Neither ends before the other has begun.
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
