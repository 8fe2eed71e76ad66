//! Injected faults, for tests only. The n-th step of a kind on an output or on a replica's file fails, is cut
//! short, comes late, or kills the process.

use crate::process::locks::lock;
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An operation on an output or on a replica's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Create,
    Reserve,
    Truncate,
    Write,
    Sync,
    /// Each system call that changes a name.
    Publish,
    /// The second sync of a file that got its name after its first (`commit::journal`).
    SyncInode,
    SyncDir,
    /// A stat of a replica's file while its directory is listed.
    Stat,
    /// An open of a replica's file for reading.
    Open,
    /// One pread of a replica's file.
    Read,
}

/// What happens instead of the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Fail(Errno),
    /// A write or a read transfers at most this number of bytes.
    Short(usize),
    /// SIGKILL before the step is done.
    Kill,
    /// The step begins this much later.
    Late(Duration),
    /// The file at this path is truncated to this number of bytes, then the step is done.
    Truncate(PathBuf, u64),
    /// A read returns 0 bytes although the file is longer. Only for [`Step::Read`].
    EndOfFile,
}

#[derive(Debug)]
struct PlannedFault {
    path: PathBuf,
    /// None: any step.
    step: Option<Step>,
    effect: Effect,
    /// The number of steps up to and including the fault. 0: the fault has struck.
    left: AtomicU32,
}

/// Static: a test injects faults into files that other code opens, without a way to hand them through.
static PLANNED: Mutex<Vec<Arc<PlannedFault>>> = Mutex::new(Vec::new());

/// A fault that is in force until this is dropped.
#[derive(Debug)]
pub struct Injected(Arc<PlannedFault>);

impl Injected {
    /// Whether the fault has struck.
    pub fn struck(&self) -> bool {
        self.0.left.load(Relaxed) == 0
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        lock(&PLANNED).retain(|planned| !Arc::ptr_eq(planned, &self.0));
    }
}

/// Applies `effect` to the `nth` (from 1) `step` on the file at `path`. [`Effect::Short`] and [`Effect::EndOfFile`]
/// also apply to all later ones. `step` None: steps of every kind are counted. The faults of an output are looked
/// up when it is created, those of a replica's file each time it is opened.
pub fn inject(path: &Path, step: Option<Step>, nth: u32, effect: Effect) -> Injected {
    let planned = Arc::new(PlannedFault { path: path.to_owned(), step, effect, left: AtomicU32::new(nth.max(1)) });
    lock(&PLANNED).push(Arc::clone(&planned));
    Injected(planned)
}

fn truncate(path: &Path, bytes: u64) -> Result<(), Errno> {
    let file = std::fs::File::options().write(true).open(path);
    file.and_then(|file| file.set_len(bytes)).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

/// The faults of one file.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Arc<PlannedFault>>);

impl Faults {
    pub(crate) fn of(path: &Path) -> Self {
        let planned = lock(&PLANNED);
        Self(planned.iter().filter(|fault| fault.path == path).cloned().collect())
    }

    /// The number of bytes that the step may transfer, or its injected failure.
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
                (Ok(1), Effect::Late(by)) => std::thread::sleep(*by),
                (Ok(1), Effect::Truncate(path, bytes)) => truncate(path, *bytes)?,
                (Ok(1) | Err(_), Effect::Short(bytes)) => most = most.min((*bytes).max(1)),
                (Ok(1) | Err(_), Effect::EndOfFile) => most = 0,
                _ => {}
            }
        }
        Ok(most)
    }
}
