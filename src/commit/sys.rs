//! System calls on inodes and on files without a name, with the ways that older kernels need.

use super::{CommitError, journal};
use crate::io::{OutputFile, Step, uninterrupted};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Syncs the inode, and so the link count, of a file that got its name after its sync (`journal`).
pub(super) fn sync_inode(file: &OutputFile) -> Result<(), CommitError> {
    let synced = file.fault(Step::SyncInode).and_then(|_| {
        journal::mark_inode(file);
        uninterrupted(|| rustix::fs::fsync(file))
    });
    synced.map_err(|errno| CommitError::refused("sync the name of", file.path(), errno))
}

/// The mode of new files: 0666. The kernel subtracts the umask.
pub(super) fn mode() -> Mode {
    Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH
}

/// How the kernel lets this process link files without a name.
#[derive(Debug, Default)]
pub(super) struct UnnamedLinks {
    has_proc: OnceLock<bool>,
    /// Whether a link by the descriptor failed and one through /proc worked.
    needs_proc: AtomicBool,
}

impl UnnamedLinks {
    /// Whether there is a /proc, which a link may need.
    pub(super) fn has_proc(&self) -> bool {
        *self.has_proc.get_or_init(|| rustix::fs::access("/proc/self/fd", rustix::fs::Access::EXISTS).is_ok())
    }

    /// Links a file without a name as `name`. EEXIST if the name is taken.
    pub(super) fn link(&self, file: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
        if !self.needs_proc.load(Ordering::Relaxed) {
            match rustix::fs::linkat(file, "", dir, name, AtFlags::EMPTY_PATH) {
                // Before Linux 6.10 only privileged processes may. Others get ENOENT, as for a directory that is gone.
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
pub(super) fn open_unnamed(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode())
}
