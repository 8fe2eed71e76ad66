//! Injected faults, for tests only: the n-th step of a kind on an output or on a replica's file
//! fails, is cut short, or kills the process.

use crate::process::locks::lock;
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is done to an output, or to a replica's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Create,
    Reserve,
    Truncate,
    Write,
    Sync,
    /// Every call that changes a name, from the first to the last.
    Publish,
    /// Of a file that has its name, where that is needed.
    SyncInode,
    SyncDir,
    /// A replica's file is looked at while its directory is listed.
    Stat,
    /// A replica's file is opened for reading.
    Open,
    /// One pread of a replica's file.
    Read,
}

/// What happens instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Fail(Errno),
    /// A write or a read takes at most so many bytes.
    Short(usize),
    /// SIGKILL before the step is done.
    Kill,
    /// The step takes so much longer.
    Late(Duration),
    /// The file at this path is truncated to so many bytes, then the step is done.
    Truncate(PathBuf, u64),
    /// A read finds the end of the file, although the file's length says otherwise. Meaningful for
    /// [`Step::Read`] only.
    EndOfFile,
}

#[derive(Debug)]
struct PlannedFault {
    path: PathBuf,
    /// None: any step.
    step: Option<Step>,
    effect: Effect,
    /// Steps still to pass before the fault.
    left: AtomicU32,
}

static PLANNED: Mutex<Vec<Arc<PlannedFault>>> = Mutex::new(Vec::new());

/// A fault that is in force until it is dropped.
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

/// Makes the `nth` (from 1) `step` on the file of this path suffer `effect`, once;
/// [`Effect::Short`] and [`Effect::EndOfFile`] from then on. `step` None counts every step. Outputs
/// look their faults up when they are created, replicas' files each time they are opened.
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

    /// How many bytes the step may take.
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
