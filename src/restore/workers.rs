//! The worker threads of the process: one per core, each with its own async runtime, HTTP connections
//! and write buffers.
//!
//! All workers take their work from two shared queues. One holds tasks: a task restores one database or
//! makes one listing. The other holds segments, which are ranges of about 8 MiB of LTX files that are
//! too large for one GET. A free worker takes the next item. `hydrant restore` submits one task.

use crate::cancel::CancellationToken;
use crate::catalogue::{CatalogueLimit, CatalogueMemory};
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

/// At most 8 segments (ranges of about 8 MiB of large files) are streamed at a time by one worker. The function
/// [`work`] lowers the bound if there are fewer write buffers.
const SEGMENTS_PER_WORKER: usize = 8;
/// At most 2 databases with large files are restored at a time. One such database has enough segments for all
/// workers. While it reads its page index or waits for its last segments, the second one gives the workers something
/// to do.
const LARGE_DATABASES: usize = 2;
/// A file of up to 8 MiB is fetched by one GET. A larger file is fetched in segments of about 8 MiB
/// (docs/decisions/06-segments.md).
pub const SEGMENT_BYTES: u64 = 8 << 20;
/// Size of one write buffer: 512 KiB. In it pages are collected before they are written to disk
/// (docs/decisions/04-write-buffers.md).
const WRITE_BUFFER_BYTES: usize = 512 * 1024;
/// One worker has at most 32 write buffers of 512 KiB each. 8 of them are filled with pages by the worker's 8
/// segments. The other 24 are being written; a number above 8 is useful because disks accept writes in bursts. A block of
/// a snapshot of Litestream 0.3 takes up to 8.
const MOST_BUFFERS: u64 = 32;
/// At most 4 of SQLite's checks run at a time, per worker thread. More than one per core pays off, because a check of
/// a large database also waits for the disk.
const CHECKS_PER_WORKER: usize = 4;

/// How many threads, tasks and bytes the workers may use.
#[derive(Debug, Clone)]
pub struct WorkersOptions {
    /// Number of worker threads, at least 1. Usually one per core.
    pub workers: usize,
    /// The I/O backend that writes files: io_uring or pwrite.
    pub kind: IoBackend,
    /// The memory budget of the process in bytes (`--memory`).
    pub memory_bytes: u64,
    /// At most this many tasks (databases to restore, listings to make) are in flight on all workers together.
    pub tasks: usize,
    /// Files larger than this many bytes are fetched in segments of about this size. It is [`SEGMENT_BYTES`], except
    /// in tests.
    pub segment_bytes: u64,
    /// True if SQLite will check databases. A thread for checks is then started before the workers.
    pub checks: bool,
    /// How much memory the lists of files may take.
    pub catalogue: CatalogueLimit,
}

/// The resources that all workers share. Resources of a single database are not in here.
pub struct SharedResources {
    /// The memory budget of the process, from which restores reserve memory for file bodies, page maps and overlays.
    pub budget: Budget,
    /// The memory of the lists of files, which the budget does not count.
    pub catalogue: CatalogueMemory,
    /// Running totals of requests and bytes, for progress and reports.
    pub counters: Arc<Counters>,
    /// The token that is cancelled when a signal ends the run. Workers then stop.
    pub cancel: CancellationToken,
    /// One permit per database with large files that may be in flight.
    pub large_databases: Semaphore,
    /// The queue of segments (ranges of about 8 MiB of large files), from which free workers take the next one.
    pub segments: WorkQueue<BoxedJob>,
    /// The queue of tasks: databases to restore, listings to make.
    tasks: WorkQueue<BoxedJob>,
    /// One permit per task that may be in flight.
    in_flight: Semaphore,
    /// Files larger than this many bytes are fetched in segments of about this size.
    pub segment_bytes: u64,
    /// Number of workers that were asked for.
    pub workers: usize,
    /// The pool of threads that run SQLite's checks, and copy databases that were staged elsewhere.
    pub checks: Threads,
    /// Latencies that the workers have handed in since [`Workers::take_stages`] was last called.
    stages: Mutex<Stages>,
}

/// The resources of one worker. They stay on its thread and need no locks.
pub struct Worker {
    /// The HTTP client of this worker, with connections of its own.
    pub http: Http,
    /// The I/O backend of this worker, with write buffers of its own.
    pub io: Io,
    /// The resources that all workers share.
    pub shared: Arc<SharedResources>,
}

/// A piece of work that any worker can run. The worker that runs it passes its own resources in.
pub(super) type BoxedJob = Box<dyn FnOnce(Rc<Worker>) -> LocalBoxFuture<'static, ()> + Send>;

/// A request to a worker to add its recorded latencies to the shared ones. The worker sends on this
/// channel once it has done so.
type HandIn = oneshot::Sender<()>;

/// The running worker threads. Dropping this value stops them. The tasks in flight are then dropped,
/// which removes the temporary files of unfinished restores.
pub struct Workers {
    shared: Arc<SharedResources>,
    threads: Vec<JoinHandle<()>>,
    /// One channel per worker. A message on it asks the worker to hand in its recorded latencies.
    hand_ins: Vec<mpsc::UnboundedSender<HandIn>>,
    /// The reason why fewer workers run than [`WorkersOptions::workers`] asked for. None if all run.
    fewer: Option<NoThread>,
}

impl Workers {
    /// Starts the worker threads. If the kernel allows fewer threads than `options.workers`, fewer
    /// workers run, but at least one.
    ///
    /// # Errors
    /// [`IoError`] if the kernel refuses the first worker's thread or the thread for SQLite's checks, or
    /// if a worker cannot make its io_uring or its write buffers.
    pub fn start(
        options: &WorkersOptions,
        counters: Arc<Counters>,
        cancel: CancellationToken,
    ) -> Result<Self, IoError> {
        let workers = options.workers.max(1);
        let memory_bytes = options.memory_bytes;
        // A quarter of the memory is set aside: one eighth for write buffers (at least 2 per worker),
        // one eighth for bodies that are being streamed. The other three quarters are the budget.
        let buffers = (memory_bytes / 8 / WRITE_BUFFER_BYTES as u64 / workers as u64).clamp(2, MOST_BUFFERS) as usize;
        let shared = Arc::new(SharedResources {
            budget: Budget::new(memory_bytes - memory_bytes / 4),
            catalogue: CatalogueMemory::new(options.catalogue),
            counters,
            cancel,
            large_databases: Semaphore::new(LARGE_DATABASES),
            segments: WorkQueue::default(),
            tasks: WorkQueue::default(),
            in_flight: Semaphore::new(options.tasks.max(1)),
            segment_bytes: options.segment_bytes.max(1),
            workers,
            checks: Threads::new("check", workers.saturating_mul(CHECKS_PER_WORKER)),
            stages: Mutex::default(),
        });
        // The thread for checks is started before the workers, because the workers may use up all
        // threads that the kernel allows. Without this thread a worker would run the checks itself, and
        // its other tasks would wait meanwhile.
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
        // A worker thread that panicked has dropped its sender without sending, so `recv` fails.
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

    /// If fewer workers run than were asked for: their number, and the kernel's reason. None otherwise.
    pub fn fewer_workers(&self) -> Option<(usize, &NoThread)> {
        self.fewer.as_ref().map(|reason| (self.threads.len(), reason))
    }

    /// The resources that all workers share.
    pub fn shared(&self) -> &Arc<SharedResources> {
        &self.shared
    }

    /// Returns the latencies that all workers have recorded since the last call, and resets them. Works
    /// also after the run was cancelled. Blocks until each worker has answered, which takes milliseconds
    /// if it is decoding. Must not be called from an async runtime, because it blocks.
    pub fn take_stages(&self) -> Stages {
        let asked: Vec<_> = (self.hand_ins.iter())
            .filter_map(|worker| {
                let (done, handed_in) = oneshot::channel();
                worker.send(done).ok().map(|()| handed_in)
            })
            .collect();
        for handed_in in asked {
            // `blocking_recv` fails if the worker has stopped. A worker hands in its latencies before it
            // stops, so nothing is lost.
            let _ = handed_in.blocking_recv();
        }
        std::mem::take(&mut *lock(&self.shared.stages))
    }

    /// Queues `task` for the next free worker and returns at once. The receiver gets the task's result. It
    /// fails if the workers stop before the task has ended.
    pub fn submit<T, F>(&self, task: F) -> oneshot::Receiver<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Worker>) -> LocalBoxFuture<'static, T> + Send + 'static,
    {
        submit(&self.shared, task)
    }

    /// Queues `task` for the next free worker and blocks until it has ended. Returns None if the workers
    /// stop before that.
    pub fn run<T, F>(&self, task: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Worker>) -> LocalBoxFuture<'static, T> + Send + 'static,
    {
        self.submit(task).blocking_recv().ok()
    }
}

/// Does the same as [`Workers::submit`]. It takes the shared resources instead of [`Workers`], so that a
/// task on a worker can submit further tasks.
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
            // `join` fails if the worker has panicked. The error is ignored here: the panic message was
            // printed, and the receivers of the worker's tasks have failed.
            let _ = thread.join();
        }
    }
}

/// The main loop of one worker. It takes tasks and segments from the shared queues until they are closed
/// or the run is cancelled. Then the runtime drops all work in flight.
///
/// The number of segments that a worker streams at a time is at most its number of write buffers.
/// Otherwise two segments could wait for each other for ever. The first waits for a buffer and holds an
/// open request, which counts against the limit of requests in flight. The second holds a buffer, loses
/// its connection, and waits for that limit to send a new request. With one buffer per segment the first
/// never waits, except for blocks of snapshots of Litestream 0.3, which hold several buffers but wait for no request.
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
    // No worker takes tasks any more. Closing the queue drops the remaining tasks, so that the receivers
    // of their results fail instead of waiting for ever.
    shared.tasks.close();
    worker.hand_in();
}

impl SharedResources {
    /// The error for work that ended without a result. It is [`RestoreError::Cancelled`] if the run was
    /// cancelled. Otherwise nothing can explain it, so it is a bug in Hydrant that `what` describes.
    pub fn stopped(&self, what: &'static str) -> RestoreError {
        match self.cancel.is_cancelled() {
            true => RestoreError::Cancelled,
            false => RestoreError::Internal { what },
        }
    }
}

impl Worker {
    /// The recorder to which the latencies of work on this worker are added.
    pub fn recorder(&self) -> &Rc<Recorder> {
        self.http.recorder()
    }

    /// Moves the latencies that this worker has recorded to the shared ones.
    fn hand_in(&self) {
        let stages = self.recorder().take();
        lock(&self.shared.stages).add(&stages);
    }
}

/// One permit of the tasks in flight. `drop` returns it, so it is returned also if the task panics or is
/// dropped before its end.
struct Slot(Arc<SharedResources>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_flight.add_permits(1);
    }
}
