//! The output file: its file descriptors, which all workers share, and the record of which changes are durable.

use super::IoError;
use super::fault_seam::{FaultSeam, Step};
use super::interrupted::uninterrupted;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The size in bytes from which a file is written with O_DIRECT. Above it O_DIRECT takes less CPU time than the
/// page cache, below it more (measured by `cargo bench --bench io`).
pub const LARGE_BYTES: u64 = 4 << 20;

/// An output file, open for reading and writing. All workers may use it at the same time, each for different bytes.
#[derive(Debug)]
pub struct OutputFile {
    fd: OwnedFd,
    path: PathBuf,
    large: AtomicBool,
    /// A second descriptor of the file, opened with O_DIRECT. None if the file system refuses O_DIRECT.
    direct: OnceLock<Option<OwnedFd>>,
    direct_refused: AtomicBool,
    /// The number of changes that were begun: writes, and changes of the length.
    changes: AtomicU64,
    /// The number of changes that the last successful sync made durable.
    synced: AtomicU64,
    sync_failed: AtomicBool,
    faults: FaultSeam,
}

impl OutputFile {
    /// Wraps the descriptor `fd`, which must be open for reading and writing. Messages call the file `path`.
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

    /// The file's name in messages: the path of the destination, as the user gave it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Announces the final size in bytes. It decides whether the file counts as large and is written with O_DIRECT
    /// (if writer and file system can).
    pub fn expect_size(&self, bytes: u64) {
        self.large.store(bytes >= LARGE_BYTES, Ordering::Relaxed);
    }

    /// Whether the announced size is at least [`LARGE_BYTES`].
    pub(super) fn is_large(&self) -> bool {
        self.large.load(Ordering::Relaxed)
    }

    /// Writes all of `bytes` at offset `at` through the page cache, on this thread.
    ///
    /// # Errors
    ///
    /// [`IoError::Refused`] if the kernel refuses, [`IoError::NoProgress`] if it writes nothing.
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
                    return Err(IoError::NoProgress { what: "write", path, at, len });
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

    /// Fills `bytes` from offset `at`.
    ///
    /// # Errors
    ///
    /// [`IoError::Short`] if the file ends before, [`IoError::Refused`] if the kernel refuses.
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

    /// Makes everything that was written so far durable, on this thread. After a failure all later calls fail too,
    /// because the kernel may have dropped the unwritten pages.
    pub fn fsync(&self) -> Result<(), IoError> {
        let covered = self.sync_begins()?;
        self.sync_ended(covered, rustix::fs::fsync(&self.fd))
    }

    /// Syncs and closes the file, then opens it again by `reopen`, for reading only. For file systems that store a
    /// file when it is closed, and only then say whether they could. A sync that they do not know is no error.
    ///
    /// # Errors
    ///
    /// [`IoError::Refused`] if the sync, the close or `reopen` fails. The file is closed in any case.
    pub(crate) fn stored(self, reopen: impl FnOnce() -> Result<OwnedFd, Errno>) -> Result<Self, IoError> {
        let covered = self.sync_begins()?;
        let synced = match uninterrupted(|| rustix::fs::fsync(&self.fd)) {
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            synced => synced,
        };
        self.sync_ended(covered, synced)?;
        let closing = self.fault(Step::Sync);
        let Self { fd, path, .. } = self;
        closing.and_then(|_| close(fd)).map_err(|errno| IoError::refused("close", &path, errno))?;
        let fd = reopen().map_err(|errno| IoError::refused("open again", &path, errno))?;
        let synced = AtomicU64::new(self.changes.load(Ordering::Acquire));
        Ok(Self { fd, path, direct: OnceLock::new(), synced, ..self })
    }

    /// Whether all changes of the file are durable and no sync of it ever failed.
    pub fn is_synced(&self) -> bool {
        !self.sync_failed.load(Ordering::Acquire)
            && self.synced.load(Ordering::Acquire) == self.changes.load(Ordering::Acquire)
    }

    /// Counts a change. Must be called before each change, because [`Self::is_synced`] compares this count with
    /// what was synced.
    pub(crate) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Begins a sync and returns the number of changes that it will cover.
    ///
    /// # Errors
    ///
    /// An earlier sync failed.
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

    /// Notes the result of a sync that covers the first `covered` changes.
    pub(super) fn sync_ended(&self, covered: u64, result: Result<(), Errno>) -> Result<(), IoError> {
        match result {
            Ok(()) => {
                debug_assert!(covered <= self.changes.load(Ordering::Acquire), "a sync covers changes to come");
                self.synced.fetch_max(covered, Ordering::AcqRel);
                Ok(())
            }
            Err(errno) => {
                self.sync_failed.store(true, Ordering::Release);
                Err(IoError::refused("sync", &self.path, errno))
            }
        }
    }

    /// The descriptor with O_DIRECT. None if the file is small or the file system refuses O_DIRECT.
    pub(super) fn direct(&self) -> Option<BorrowedFd<'_>> {
        if !self.is_large() || self.direct_refused.load(Ordering::Relaxed) {
            return None;
        }
        let open = || {
            // The file is opened again by its descriptor, not by its name: the name may not exist yet, or may
            // belong to another file by now.
            let again = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
            let opened = rustix::fs::open(again, OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty());
            opened.inspect_err(|error| self.log_buffered(*error)).ok()
        };
        self.direct.get_or_init(open).as_ref().map(AsFd::as_fd)
    }

    /// Sends later writes through the page cache. For file systems that accept O_DIRECT at open but not for a write.
    pub(super) fn refuse_direct(&self, errno: Errno) {
        if !self.direct_refused.swap(true, Ordering::Relaxed) {
            self.log_buffered(errno);
        }
    }

    fn log_buffered(&self, error: Errno) {
        let path = self.path.display();
        tracing::debug!(target: "hydrant::io", %path, %error, "no O_DIRECT: written through the page cache");
    }

    /// Asks whether a test has injected a fault into an operation of kind `step`. Returns the number of bytes that
    /// the operation may transfer, or the error with which it fails.
    pub(crate) fn fault(&self, step: Step) -> Result<usize, Errno> {
        self.faults.pass(step)
    }
}

/// Closes a descriptor. FUSE and NFS return errors of earlier writes here. After an error the descriptor is closed too.
pub(crate) fn close(fd: OwnedFd) -> Result<(), Errno> {
    // SAFETY: `into_raw_fd` gives the descriptor up, so nothing else closes or uses it.
    match unsafe { libc::close(fd.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

impl AsFd for OutputFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
