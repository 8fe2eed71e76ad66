//! The worker threads: one per core, each with its own runtime, HTTP connections and write
//! buffers. Tasks (a database, a listing) and segments of large files are shared through queues;
//! whichever worker is free takes the next. A single restore is one task.

use crate::cancel::CancellationToken;
use crate::io::{self, Io, IoBackend, IoError, IoOptions};
use crate::process::locks::lock;
use crate::process::threads::{NoThread, Threads};
use crate::restore::budget::Budget;
use crate::restore::large::Segment;
use crate::restore::work_queue::WorkQueue;
use crate::store::Http;
use crate::telemetry::{Counters, Recorder, Stages};
use futures_util::future::LocalBoxFuture;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Segments that one worker streams at once, at most; see [`work`].
const SEGMENTS_PER_WORKER: usize = 8;
/// Databases with large files in flight: each keeps every worker busy by itself.
const LARGE_DATABASES: usize = 2;
/// Up to this size one GET fetches all of a file (DESIGN engine 3).
pub const SEGMENT_BYTES: u64 = 8 << 20;
const WRITE_BUFFER_BYTES: usize = 512 * 1024;
/// Write buffers of a worker at most: one for each of its segments, the others on their way to a
/// disk that takes them in bursts.
const MOST_BUFFERS: u64 = 32;
/// SQLite's checks side by side, per worker: they need the processor and, of large files, the disk.
const CHECKS_PER_WORKER: usize = 4;

/// How the process may use the machine.
#[derive(Debug, Clone)]
pub struct WorkersOptions {
    pub workers: usize,
    pub kind: IoBackend,
    /// The process's byte budget (`--memory`).
    pub memory_bytes: u64,
    /// Tasks in flight over all workers.
    pub tasks: usize,
    /// Larger files are cut into segments of about this size; [`SEGMENT_BYTES`] but in tests.
    pub segment_bytes: u64,
    /// Databases will be checked by SQLite: a thread for that is started at once.
    pub checks: bool,
}

/// What all workers share.
pub struct SharedResources {
    pub budget: Budget,
    pub counters: Arc<Counters>,
    pub cancel: CancellationToken,
    pub large_databases: Semaphore,
    pub segments: WorkQueue<Segment>,
    tasks: WorkQueue<Task>,
    in_flight: Semaphore,
    pub segment_bytes: u64,
    /// For SQLite's checks.
    pub checks: Threads,
    /// What workers have handed in and nobody has taken yet.
    stages: Mutex<Stages>,
}

/// What one worker has for itself; never leaves its thread.
pub struct Worker {
    pub http: Http,
    pub io: Io,
    pub shared: Arc<SharedResources>,
}

type Task = Box<dyn FnOnce(Rc<Worker>) -> LocalBoxFuture<'static, ()> + Send>;

/// Asks a worker to hand in what it has recorded.
type HandIn = oneshot::Sender<()>;

/// The running workers. Dropping it stops them: tasks in flight are dropped, and clean up.
pub struct Workers {
    shared: Arc<SharedResources>,
    threads: Vec<JoinHandle<()>>,
    /// One per worker.
    hand_ins: Vec<mpsc::UnboundedSender<HandIn>>,
    /// Why there are fewer workers than asked for.
    fewer: Option<NoThread>,
}

impl Workers {
    /// Starts the workers: as many as threads can be had, at least one.
    ///
    /// # Errors
    /// No thread for a worker, or for SQLite's checks; a worker's ring or buffers cannot be made.
    pub fn start(
        options: &WorkersOptions,
        counters: Arc<Counters>,
        cancel: CancellationToken,
    ) -> Result<Self, IoError> {
        let workers = options.workers.max(1);
        let memory_bytes = options.memory_bytes;
        // A quarter for the fixed pools (write buffers, bodies being streamed), at least two
        // buffers per worker; the rest is charged as it is used.
        let buffers = (memory_bytes / 8 / WRITE_BUFFER_BYTES as u64 / workers as u64).clamp(2, MOST_BUFFERS) as usize;
        let shared = Arc::new(SharedResources {
            budget: Budget::new(memory_bytes - memory_bytes / 4),
            counters,
            cancel,
            large_databases: Semaphore::new(LARGE_DATABASES),
            segments: WorkQueue::default(),
            tasks: WorkQueue::default(),
            in_flight: Semaphore::new(options.tasks.max(1)),
            segment_bytes: options.segment_bytes.max(1),
            checks: Threads::new("check", workers.saturating_mul(CHECKS_PER_WORKER)),
            stages: Mutex::default(),
        });
        // Before the workers take what threads there are: a worker that checks does nothing else.
        if options.checks {
            shared.checks.start_first().map_err(IoError::from)?;
        }
        let mut engine = Self { shared, threads: Vec::with_capacity(workers), hand_ins: Vec::new(), fewer: None };
        let mut starts = Vec::with_capacity(workers);
        for i in 0..workers {
            let (started, start) = std::sync::mpsc::channel();
            let (shared, kind) = (Arc::clone(&engine.shared), options.kind);
            let (ask, asked) = mpsc::unbounded_channel();
            let io_options = IoOptions { buffer_bytes: WRITE_BUFFER_BYTES, buffers };
            let thread = std::thread::Builder::new().name(format!("worker-{i}")).spawn(move || {
                let failed = started.clone();
                let ran = io::block_on(kind, async move {
                    match Io::new(kind, io_options) {
                        Ok(io) => {
                            let _ = started.send(Ok(()));
                            work(Rc::new(Worker { http: Http::default(), io, shared }), buffers, asked).await;
                        }
                        Err(e) => {
                            let _ = started.send(Err(e));
                        }
                    }
                });
                if let Err(e) = ran {
                    let _ = failed.send(Err(e));
                }
            });
            match thread.map_err(NoThread::from) {
                Ok(thread) => engine.threads.push(thread),
                Err(e) if i == 0 => return Err(e.into()),
                Err(e) => {
                    engine.fewer = Some(e);
                    break;
                }
            }
            engine.hand_ins.push(ask);
            starts.push(start);
        }
        // A worker that cannot even answer has dropped its end.
        for start in starts {
            start.recv().unwrap_or_else(|_| Err(IoError::NoRuntime { reason: "a worker died".into() }))?;
        }
        Ok(engine)
    }

    /// How many workers there are, and why no more, where fewer than asked for could be started.
    pub fn fewer_workers(&self) -> Option<(usize, &NoThread)> {
        self.fewer.as_ref().map(|reason| (self.threads.len(), reason))
    }

    pub fn shared(&self) -> &Arc<SharedResources> {
        &self.shared
    }

    /// What all workers have recorded since the last call, also when the run was cancelled.
    /// Waits until each has come round to it: milliseconds, while it decodes. Not to be called
    /// from within a runtime.
    pub fn take_stages(&self) -> Stages {
        let asked: Vec<_> = (self.hand_ins.iter())
            .filter_map(|worker| {
                let (done, handed_in) = oneshot::channel();
                worker.send(done).ok().map(|()| handed_in)
            })
            .collect();
        for handed_in in asked {
            // A worker that stops hands in by itself.
            let _ = handed_in.blocking_recv();
        }
        std::mem::take(&mut *lock(&self.shared.stages))
    }

    /// Runs `task` on some worker; the receiver fails if the engine stops first.
    pub fn submit<T, F>(&self, task: F) -> oneshot::Receiver<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Worker>) -> LocalBoxFuture<'static, T> + Send + 'static,
    {
        submit(&self.shared, task)
    }

    /// Runs `task` on some worker and waits for it; None if the engine was stopped first.
    pub fn run<T, F>(&self, task: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Worker>) -> LocalBoxFuture<'static, T> + Send + 'static,
    {
        self.submit(task).blocking_recv().ok()
    }
}

/// Hands `task` to the workers of `shared`: for tasks that begin further tasks.
pub fn submit<T, F>(shared: &SharedResources, task: F) -> oneshot::Receiver<T>
where
    T: Send + 'static,
    F: FnOnce(Rc<Worker>) -> LocalBoxFuture<'static, T> + Send + 'static,
{
    let (reply, receiver) = oneshot::channel();
    shared.tasks.push(Box::new(move |worker| {
        Box::pin(async move {
            let _ = reply.send(task(worker).await);
        })
    }));
    receiver
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.tasks.close();
        self.shared.segments.close();
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so; its tasks' receivers have failed.
            let _ = thread.join();
        }
    }
}

/// Takes tasks and segments until the queues close or the run is cancelled; then what is in
/// flight is dropped with the runtime.
///
/// No more segments at once than write buffers. One that waits for a buffer holds its place among
/// the requests in flight; one that holds a buffer may need such a place, when its connection
/// breaks. With a buffer for each, none waits for another's.
async fn work(worker: Rc<Worker>, buffers: usize, mut asked: mpsc::UnboundedReceiver<HandIn>) {
    for _ in 0..SEGMENTS_PER_WORKER.min(buffers) {
        let worker = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            while let Some(segment) = worker.shared.segments.pop().await {
                segment.run(&worker).await;
            }
        });
    }
    let handing_in = Rc::clone(&worker);
    tokio::task::spawn_local(async move {
        while let Some(done) = asked.recv().await {
            handing_in.hand_in();
            let _ = done.send(());
        }
    });
    let shared = Arc::clone(&worker.shared);
    let take_tasks = async {
        loop {
            let Ok(permit) = shared.in_flight.acquire().await else { return };
            let Some(task) = shared.tasks.pop().await else { return };
            permit.forget();
            let worker = Rc::clone(&worker);
            tokio::task::spawn_local(async move {
                let _slot = Slot(Arc::clone(&worker.shared));
                task(worker).await;
            });
        }
    };
    tokio::select! {
        () = take_tasks => {}
        _ = shared.cancel.cancelled() => {}
    }
    // Nobody takes tasks any more: whoever waits for one hears of it.
    shared.tasks.close();
    worker.hand_in();
}

impl Worker {
    /// Where this worker's durations are recorded.
    pub fn recorder(&self) -> &Rc<Recorder> {
        self.http.recorder()
    }

    fn hand_in(&self) {
        let stages = self.recorder().take();
        lock(&self.shared.stages).add(&stages);
    }
}

/// A task's place among those in flight; given back also when the task panics or is dropped.
struct Slot(Arc<SharedResources>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_flight.add_permits(1);
    }
}
