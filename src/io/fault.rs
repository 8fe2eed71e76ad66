//! Injects faults into file operations, for tests only. A test chooses the n-th operation of a kind on one file.
//! That operation then fails, transfers fewer bytes, is delayed, or kills the process.

use crate::process::locks::lock;
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Barrier, Mutex};

/// A kind of operation on an output file or on a file of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Creating the output file.
    Create,
    /// One step of the test whether a file without a name can be linked (`commit::devices`).
    Probe,
    /// Reserving space for the output file (fallocate).
    Reserve,
    /// Setting the length of the output file.
    Truncate,
    /// One write to the output file.
    Write,
    /// The sync of the output file before it gets its name.
    Sync,
    /// One system call that creates, changes or removes a name. Publishing a file takes several.
    Publish,
    /// The second sync of a file, after it got its name (`commit::journal` says which file systems need it).
    SyncInode,
    /// The sync of the directory that holds the output file.
    SyncDir,
    /// A stat of a replica's file while its directory is listed.
    Stat,
    /// Opening a replica's file for reading.
    Open,
    /// One pread (a read at an offset) of a replica's file.
    Read,
}

/// What happens instead of the step.
#[derive(Debug, Clone)]
pub enum Effect {
    /// The operation is not done and returns this error.
    Fail(Errno),
    /// A write or a read transfers at most this number of bytes.
    Short(usize),
    /// The process kills itself with SIGKILL before the operation is done.
    Kill,
    /// The step is done after two waits at this barrier. The first shows that it has been reached,
    /// the second lets it go on.
    Held(Arc<Barrier>),
    /// The file at this path is truncated to this number of bytes, then the step is done.
    Truncate(PathBuf, u64),
    /// A read returns 0 bytes although the file is longer. Only for [`Step::Read`].
    EndOfFile,
}

#[derive(Debug)]
struct PlannedFault {
    path: PathBuf,
    /// The kind of operation that the fault applies to. None means every kind.
    step: Option<Step>,
    effect: Effect,
    /// The number of operations until the fault happens, counting the one that it hits. 0 if it has happened.
    left: AtomicU32,
}

/// Static: a test injects faults into files that other code opens, without a way to hand them through.
static PLANNED: Mutex<Vec<Arc<PlannedFault>>> = Mutex::new(Vec::new());

/// The handle of an injected fault. Dropping it removes the fault.
#[derive(Debug)]
pub struct Injected(Arc<PlannedFault>);

impl Injected {
    /// Whether the fault has happened.
    pub fn struck(&self) -> bool {
        self.0.left.load(Relaxed) == 0
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        lock(&PLANNED).retain(|planned| !Arc::ptr_eq(planned, &self.0));
    }
}

/// Applies `effect` to the `nth` operation (counted from 1) of kind `step` on the file at `path`. If `step` is
/// None, operations of every kind are counted. [`Effect::Short`] and [`Effect::EndOfFile`] also apply to all later
/// operations.
///
/// The faults of an output file are looked up when it is created. Those of a replica's file are looked up each time
/// it is opened.
pub fn inject(path: &Path, step: Option<Step>, nth: u32, effect: Effect) -> Injected {
    let planned = Arc::new(PlannedFault { path: path.to_owned(), step, effect, left: AtomicU32::new(nth.max(1)) });
    lock(&PLANNED).push(Arc::clone(&planned));
    Injected(planned)
}

fn truncate(path: &Path, bytes: u64) -> Result<(), Errno> {
    let file = std::fs::File::options().write(true).open(path);
    file.and_then(|file| file.set_len(bytes)).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

/// The faults that were injected for one file.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Arc<PlannedFault>>);

impl Faults {
    pub(crate) fn of(path: &Path) -> Self {
        let planned = lock(&PLANNED);
        Self(planned.iter().filter(|fault| fault.path == path).cloned().collect())
    }

    /// Applies the faults to one operation of kind `step`. Returns the number of bytes that the operation may
    /// transfer, or the error with which it fails.
    pub(crate) fn pass(&self, step: Step) -> Result<usize, Errno> {
        let mut most = usize::MAX;
        for fault in &self.0 {
            if fault.step.is_some_and(|of| of != step) {
                continue;
            }
            let before = fault.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
            match (before, &fault.effect) {
                (Ok(1), Effect::Fail(errno)) => return Err(*errno),
                (Ok(1), Effect::Kill) => {
                    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                }
                (Ok(1), Effect::Held(barrier)) => {
                    barrier.wait();
                    barrier.wait();
                }
                (Ok(1), Effect::Truncate(path, bytes)) => truncate(path, *bytes)?,
                (Ok(1) | Err(_), Effect::Short(bytes)) => most = most.min((*bytes).max(1)),
                (Ok(1) | Err(_), Effect::EndOfFile) => most = 0,
                _ => {}
            }
        }
        Ok(most)
    }
}
