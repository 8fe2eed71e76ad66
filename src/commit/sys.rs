//! System calls on names and inodes, with substitutes for older kernels and for file systems that lack a call.

use super::{CommitError, journal};
use crate::io::{OutputFile, Step, uninterrupted};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Fsyncs the inode, and with it the link count, of a file that got its name after its content was synced
/// (`journal`).
pub(super) fn sync_inode(file: &OutputFile) -> Result<(), CommitError> {
    let synced = file.fault(Step::SyncInode).and_then(|_| {
        journal::mark_inode(file);
        uninterrupted(|| rustix::fs::fsync(file))
    });
    synced.map_err(|errno| CommitError::refused("sync the name of", file.path(), errno))
}

/// Returns the mode for new files, 0666. The kernel subtracts the umask.
pub(super) fn mode() -> Mode {
    Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH
}

/// Remembers how the kernel lets this process give a name to an unnamed file (O_TMPFILE).
#[derive(Debug, Default)]
pub(super) struct UnnamedLinks {
    has_proc: OnceLock<bool>,
    /// True once linkat with AT_EMPTY_PATH failed and linkat through /proc/self/fd succeeded. The first way is
    /// then no longer tried.
    needs_proc: AtomicBool,
}

impl UnnamedLinks {
    /// Returns whether /proc is mounted. linkat of an unnamed file may need it.
    pub(super) fn has_proc(&self) -> bool {
        *self.has_proc.get_or_init(|| rustix::fs::access("/proc/self/fd", rustix::fs::Access::EXISTS).is_ok())
    }

    /// Links a file without a name as `name`. EEXIST if the name is taken.
    pub(super) fn link(&self, file: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
        if !self.needs_proc.load(Ordering::Relaxed) {
            match rustix::fs::linkat(file, "", dir, name, AtFlags::EMPTY_PATH) {
                // Before Linux 6.10 only privileged processes may use AT_EMPTY_PATH. Others get ENOENT, the
                // same error as for a directory that was removed. Try the way through /proc.
                Err(Errno::NOENT | Errno::INVAL | Errno::PERM | Errno::ACCESS) => {}
                result => return result,
            }
        }
        let linked = link_through_proc(file, dir, name);
        if linked.is_ok() {
            self.needs_proc.store(true, Ordering::Relaxed);
        }
        linked
    }
}

/// As [`UnnamedLinks::link`], through /proc, which needs no privilege.
pub(super) fn link_through_proc(file: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, itself, dir, name, AtFlags::SYMLINK_FOLLOW)
}

/// Opens a new file without a name in `dir` (O_TMPFILE).
pub(super) fn open_unnamed(dir: BorrowedFd<'_>, mode: Mode) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode)
}
