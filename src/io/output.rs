//! A file that is being restored into: its descriptors, shared by all workers.

use super::IoError;
use super::fault_seam::{FaultSeam, Step};
use super::interrupted::uninterrupted;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// From this size on O_DIRECT saves CPU (`cargo bench --bench io`); below, the page cache does.
const LARGE_BYTES: u64 = 4 << 20;

/// A file open for reading and writing, by every worker at once, each on bytes of its own.
#[derive(Debug)]
pub struct OutputFile {
    fd: OwnedFd,
    path: PathBuf,
    large: AtomicBool,
    /// The same file, O_DIRECT; None where the file system refuses.
    direct: OnceLock<Option<OwnedFd>>,
    direct_refused: AtomicBool,
    /// Changes begun, and how many of them the last good sync covers.
    changes: AtomicU64,
    synced: AtomicU64,
    sync_failed: AtomicBool,
    faults: FaultSeam,
}

impl OutputFile {
    /// `fd` is open for reading and writing; `path` is what messages call it.
    pub fn new(fd: OwnedFd, path: PathBuf) -> Self {
        let faults = FaultSeam::of(&path);
        Self {
            fd,
            path,
            large: AtomicBool::new(false),
            direct: OnceLock::new(),
            direct_refused: AtomicBool::new(false),
            changes: AtomicU64::new(1),
            synced: AtomicU64::new(0),
            sync_failed: AtomicBool::new(false),
            faults,
        }
    }

    /// What messages call it: the destination, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says how long the file will be, in bytes: large files are written past the page cache
    /// where the engine and the file system can.
    pub fn expect_size(&self, bytes: u64) {
        self.large.store(bytes >= LARGE_BYTES, Ordering::Relaxed);
    }

    /// See [`Self::expect_size`].
    pub(super) fn is_large(&self) -> bool {
        self.large.load(Ordering::Relaxed)
    }

    /// Writes all of `bytes` at `at` through the page cache, now.
    pub fn pwrite_all(&self, bytes: &[u8], at: u64) -> Result<(), IoError> {
        self.note_change();
        let mut rest = bytes;
        let mut at = at;
        while !rest.is_empty() {
            let refused = |errno| IoError::refused_at("write", &self.path, at, rest.len(), errno);
            let most = self.fault(Step::Write).map_err(refused)?;
            let now = rest.get(..most).unwrap_or(rest);
            match uninterrupted(|| rustix::io::pwrite(&self.fd, now, at)) {
                Ok(0) => {
                    let (path, len) = (self.path.clone(), rest.len() as u64);
                    return Err(IoError::Impossible { what: "write", path, at, len });
                }
                Ok(n) => {
                    rest = rest.get(n..).unwrap_or_default();
                    at = at.saturating_add(n as u64);
                }
                Err(errno) => return Err(refused(errno)),
            }
        }
        Ok(())
    }

    /// Fills `bytes` from `at`; [`IoError::Short`] when the file ends before.
    pub fn pread_exact(&self, bytes: &mut [u8], at: u64) -> Result<(), IoError> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let (from, len) = (at.saturating_add(done as u64), rest.len());
            match uninterrupted(|| rustix::io::pread(&self.fd, &mut *rest, from)) {
                Ok(0) => return Err(IoError::Short { path: self.path.clone(), at: from, len: len as u64 }),
                Ok(n) => done += n,
                Err(errno) => return Err(IoError::refused_at("read", &self.path, from, len, errno)),
            }
        }
        Ok(())
    }

    /// Makes everything written so far durable, now. A failure is final: later calls fail too.
    pub fn fsync(&self) -> Result<(), IoError> {
        let covered = self.sync_begins()?;
        self.sync_ended(covered, rustix::fs::fsync(&self.fd))
    }

    /// Whether all changes were made durable, and no sync ever failed.
    pub fn is_synced(&self) -> bool {
        !self.sync_failed.load(Ordering::Acquire)
            && self.synced.load(Ordering::Acquire) == self.changes.load(Ordering::Acquire)
    }

    /// To be called before every change, so that [`Self::is_synced`] cannot overlook one.
    pub(crate) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// The changes that a sync begun now covers.
    pub(super) fn sync_begins(&self) -> Result<u64, IoError> {
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(IoError::refused("sync", &self.path, Errno::IO));
        }
        let covered = self.changes.load(Ordering::Acquire);
        match self.fault(Step::Sync) {
            Ok(_) => Ok(covered),
            Err(errno) => self.sync_ended(covered, Err(errno)).map(|()| covered),
        }
    }

    pub(super) fn sync_ended(&self, covered: u64, result: Result<(), Errno>) -> Result<(), IoError> {
        match result {
            Ok(()) => {
                self.synced.fetch_max(covered, Ordering::AcqRel);
                Ok(())
            }
            Err(errno) => {
                self.sync_failed.store(true, Ordering::Release);
                Err(IoError::refused("sync", &self.path, errno))
            }
        }
    }

    /// The O_DIRECT descriptor, if the file is large and the file system has it.
    pub(super) fn direct(&self) -> Option<BorrowedFd<'_>> {
        if !self.is_large() || self.direct_refused.load(Ordering::Relaxed) {
            return None;
        }
        let open = || {
            // The name may not exist yet, or be another file by now; the descriptor cannot.
            let again = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
            rustix::fs::open(again, OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()).ok()
        };
        self.direct.get_or_init(open).as_ref().map(AsFd::as_fd)
    }

    /// Writes go through the page cache from now on: the file system took O_DIRECT at open but
    /// not this write.
    pub(super) fn refuse_direct(&self) {
        self.direct_refused.store(true, Ordering::Relaxed);
    }

    /// For tests: the step's injected failure, or how many bytes it may take.
    pub(crate) fn fault(&self, step: Step) -> Result<usize, Errno> {
        self.faults.pass(step)
    }
}

impl AsFd for OutputFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
