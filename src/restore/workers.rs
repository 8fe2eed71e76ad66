//! The worker threads: one per core, each with its own runtime, HTTP connections and write buffers.
//! They share two queues: of tasks (a database, a listing) and of segments of large files. A free
//! worker takes the next item. `hydrant restore` is one task.

use crate::cancel::CancellationToken;
use crate::io::{self, Io, IoBackend, IoError, IoOptions};
use crate::process::locks::lock;
use crate::process::threads::{NoThread, Threads};
use crate::restore::budget::Budget;
use crate::restore::error::RestoreError;
use crate::restore::work_queue::WorkQueue;
use crate::store::Http;
use crate::telemetry::{Counters, Recorder, Stages};
use futures_util::future::LocalBoxFuture;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Upper bound of the segments that one worker streams at once; see [`work`].
const SEGMENTS_PER_WORKER: usize = 8;
/// Databases with large files in flight. One of them keeps all workers busy; the second has work for
/// them while the first begins and ends.
const LARGE_DATABASES: usize = 2;
/// A file up to 8 MiB is one GET; a larger one is fetched in segments of about this size
/// (docs/decisions/06-segments.md).
pub const SEGMENT_BYTES: u64 = 8 << 20;
/// Size of a write buffer (docs/decisions/04-write-buffers.md).
const WRITE_BUFFER_BYTES: usize = 512 * 1024;
/// Upper bound of the write buffers of one worker: 8 are filled by its segments, 24 are being written
/// by a disk that accepts writes in bursts.
const MOST_BUFFERS: u64 = 32;
/// SQLite's checks that run side by side, per worker. A check uses the processor and, for large
/// files, waits for the disk.
const CHECKS_PER_WORKER: usize = 4;

/// How many threads, tasks and bytes the workers may use.
#[derive(Debug, Clone)]
pub struct WorkersOptions {
    pub workers: usize,
    pub kind: IoBackend,
    /// The memory budget of the process in bytes (`--memory`).
    pub memory_bytes: u64,
    /// Upper bound of the tasks in flight on all workers together.
    pub tasks: usize,
    /// Larger files are cut into segments of about this size. [`SEGMENT_BYTES`] except in tests.
    pub segment_bytes: u64,
    /// SQLite will check databases: a thread for that is started before the workers.
    pub checks: bool,
}

/// What all workers share. Not a part of it: what belongs to one database.
pub struct SharedResources {
    pub budget: Budget,
    pub counters: Arc<Counters>,
    pub cancel: CancellationToken,
    /// Bounds the databases with large files in flight.
    pub large_databases: Semaphore,
    /// Segments of large files.
    pub segments: WorkQueue<BoxedJob>,
    tasks: WorkQueue<BoxedJob>,
    /// Bounds the tasks in flight.
    in_flight: Semaphore,
    pub segment_bytes: u64,
    /// Threads for SQLite's checks.
    pub checks: Threads,
    /// Durations that workers have handed in; [`Workers::take_stages`] takes them.
    stages: Mutex<Stages>,
}

/// What one worker has for itself. It never leaves its thread.
pub struct Worker {
    pub http: Http,
    pub io: Io,
    pub shared: Arc<SharedResources>,
}

/// Runs on some worker.
pub(super) type BoxedJob = Box<dyn FnOnce(Rc<Worker>) -> LocalBoxFuture<'static, ()> + Send>;

/// Asks a worker to hand in what it has recorded. Answered when that is done.
type HandIn = oneshot::Sender<()>;

/// The running workers. Dropping it stops them: tasks in flight are dropped, which removes their
/// staged files.
pub struct Workers {
    shared: Arc<SharedResources>,
    threads: Vec<JoinHandle<()>>,
    /// One per worker.
    hand_ins: Vec<mpsc::UnboundedSender<HandIn>>,
    /// Why there are fewer workers than asked for; None if there are not.
    fewer: Option<NoThread>,
}

impl Workers {
    /// Starts the workers. If the kernel refuses further threads, there are fewer, at least one.
    ///
    /// # Errors
    /// No thread can be started for a worker or for SQLite's checks; a worker's ring or buffers cannot
    /// be made.
    pub fn start(
        options: &WorkersOptions,
        counters: Arc<Counters>,
        cancel: CancellationToken,
    ) -> Result<Self, IoError> {
        let workers = options.workers.max(1);
        let memory_bytes = options.memory_bytes;
        // A quarter of the memory is for write buffers and bodies being streamed, with at least 2
        // buffers per worker. The rest is the budget.
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
        // Before the workers, which may use up the threads that the kernel allows. Without a thread
        // for checks a worker would do them itself, and do nothing else meanwhile.
        if options.checks {
            shared.checks.start_first().map_err(IoError::from)?;
        }
        let mut running = Self { shared, threads: Vec::with_capacity(workers), hand_ins: Vec::new(), fewer: None };
        let mut starts = Vec::with_capacity(workers);
        for i in 0..workers {
            let (started, start) = std::sync::mpsc::channel();
            let (shared, kind) = (Arc::clone(&running.shared), options.kind);
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
                Ok(thread) => running.threads.push(thread),
                Err(e) if i == 0 => return Err(e.into()),
                Err(e) => {
                    running.fewer = Some(e);
                    break;
                }
            }
            running.hand_ins.push(ask);
            starts.push(start);
        }
        // A worker that died has dropped its sender.
        for start in starts {
            start.recv().unwrap_or_else(|_| Err(IoError::NoRuntime { reason: "a worker died".into() }))?;
        }
        tracing::debug!(
            target: "hydrant::io",
            workers = running.threads.len(),
            backend = options.kind.as_str(),
            memory = memory_bytes,
            buffers_per_worker = buffers,
            "workers started"
        );
        Ok(running)
    }

    /// How many workers there are and why there are no more. None if there are as many as asked for.
    pub fn fewer_workers(&self) -> Option<(usize, &NoThread)> {
        self.fewer.as_ref().map(|reason| (self.threads.len(), reason))
    }

    pub fn shared(&self) -> &Arc<SharedResources> {
        &self.shared
    }

    /// Takes what all workers have recorded since the last call, also after the run was cancelled.
    /// Waits until each worker has answered; one that decodes takes milliseconds. Not to be called
    /// from within a runtime.
    pub fn take_stages(&self) -> Stages {
        let asked: Vec<_> = (self.hand_ins.iter())
            .filter_map(|worker| {
                let (done, handed_in) = oneshot::channel();
                worker.send(done).ok().map(|()| handed_in)
            })
            .collect();
        for handed_in in asked {
            // Fails if the worker has stopped: it handed in before.
            let _ = handed_in.blocking_recv();
        }
        std::mem::take(&mut *lock(&self.shared.stages))
    }

    /// Runs `task` on some worker. The receiver fails if the workers stop first.
    pub fn submit<T, F>(&self, task: F) -> oneshot::Receiver<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Worker>) -> LocalBoxFuture<'static, T> + Send + 'static,
    {
        submit(&self.shared, task)
    }

    /// Runs `task` on some worker and waits for it. None if the workers stop first.
    pub fn run<T, F>(&self, task: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Worker>) -> LocalBoxFuture<'static, T> + Send + 'static,
    {
        self.submit(task).blocking_recv().ok()
    }
}

/// As [`Workers::submit`], for tasks that submit further tasks.
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
            // Fails if the worker has panicked. The panic was printed, and its tasks' receivers failed.
            let _ = thread.join();
        }
    }
}

/// Takes tasks and segments until the queues close or the run is cancelled. Then everything in
/// flight is dropped with the runtime.
///
/// There are no more segments at once than write buffers, because they could deadlock. A segment that
/// waits for a buffer holds a place among the requests in flight. A segment that holds a buffer needs
/// such a place if its connection breaks. With one buffer for each segment, none waits for another.
async fn work(worker: Rc<Worker>, buffers: usize, mut asked: mpsc::UnboundedReceiver<HandIn>) {
    for _ in 0..SEGMENTS_PER_WORKER.min(buffers) {
        let worker = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            while let Some(segment) = worker.shared.segments.pop().await {
                segment(Rc::clone(&worker)).await;
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
    // No worker takes tasks any more: drops them, so that the receivers of their results fail.
    shared.tasks.close();
    worker.hand_in();
}

impl SharedResources {
    /// Why something has ended without a result: the run was cancelled, or else `what`, a bug.
    pub fn stopped(&self, what: &'static str) -> RestoreError {
        match self.cancel.is_cancelled() {
            true => RestoreError::Cancelled,
            false => RestoreError::Internal { what },
        }
    }
}

impl Worker {
    /// Records the durations of this worker.
    pub fn recorder(&self) -> &Rc<Recorder> {
        self.http.recorder()
    }

    fn hand_in(&self) {
        let stages = self.recorder().take();
        lock(&self.shared.stages).add(&stages);
    }
}

/// A task's place among those in flight. Given back also if the task panics or is dropped.
struct Slot(Arc<SharedResources>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_flight.add_permits(1);
    }
}
