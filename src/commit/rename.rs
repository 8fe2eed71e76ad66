//! Renames that replace no file with content, in the ways that file systems and sandboxes allow.
//!
//! | way | used |
//! |---|---|
//! | a rename with RENAME_NOREPLACE | first |
//! | a link, and the old name removed | if there is no such rename (NFS, some FUSE file systems) |
//! | a placeholder and a plain rename | if links are refused as well (gcsfuse, vboxsf, BeeGFS, AppArmor) |
//!
//! A placeholder is an empty file that is made with O_EXCL, so it takes only a free name. It is locked, for SQLite and
//! for other restores, and the rename replaces it if it is still empty. A process that is killed between the two
//! leaves the placeholder: the callers see to it that a sweep knows it.
//!
//! A file system that stores a file when it is closed may store an empty placeholder after the rename, in place of the
//! new file: rclone does it in the background. There a plain rename follows a look at the name ([`after_look`]).

use crate::commit::in_use::DATABASE_LOCKS;
use crate::commit::mounts::is_fuse;
use crate::io::{lock, uninterrupted};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The error of [`without_placeholder`] if there is neither a rename with flags nor a link.
pub(super) const NO_WAY: Errno = Errno::OPNOTSUPP;

/// Renames a file. EEXIST if the new name is taken. `step` is called before each system call that changes a name.
pub(super) fn to_absent(
    dir: BorrowedFd<'_>,
    from: &OsStr,
    to: &OsStr,
    step: &dyn Fn() -> Result<(), Errno>,
) -> Result<(), Errno> {
    match without_placeholder(dir, from, to, step) {
        Err(NO_WAY) => over_placeholder(dir, from, to, step),
        result => result,
    }
}

/// As [`to_absent`], but where there is neither a rename with flags nor a link, a file is replaced that another program
/// makes between a look at the name and the rename. For random names, which nobody else makes, and for file systems
/// with which a placeholder is a danger.
pub(super) fn after_look(
    dir: BorrowedFd<'_>,
    from: &OsStr,
    to: &OsStr,
    step: &dyn Fn() -> Result<(), Errno>,
) -> Result<(), Errno> {
    match without_placeholder(dir, from, to, step) {
        Err(NO_WAY) => match rustix::fs::statat(dir, to, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => step().and_then(|()| rustix::fs::renameat(dir, from, dir, to)),
            Ok(_) => Err(Errno::EXIST),
            Err(errno) => Err(errno),
        },
        result => result,
    }
}

/// Gives a file back the name that it had: as [`to_absent`], on FUSE as [`after_look`].
pub(super) fn back(
    dir: BorrowedFd<'_>,
    from: &OsStr,
    to: &OsStr,
    step: &dyn Fn() -> Result<(), Errno>,
) -> Result<(), Errno> {
    if is_fuse(dir) { after_look(dir, from, to, step) } else { to_absent(dir, from, to, step) }
}

/// The first two ways of [`to_absent`]. [`NO_WAY`] if both are refused.
pub(super) fn without_placeholder(
    dir: BorrowedFd<'_>,
    from: &OsStr,
    to: &OsStr,
    step: &dyn Fn() -> Result<(), Errno>,
) -> Result<(), Errno> {
    step()?;
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        Err(errno) if is_no_way(errno) => {}
        result => return result,
    }
    match rustix::fs::linkat(dir, from, dir, to, AtFlags::empty()) {
        // rclone has no links and says EIO.
        Err(errno) if is_no_way(errno) || errno == Errno::IO => return Err(NO_WAY),
        result => result?,
    }
    rustix::fs::unlinkat(dir, from, AtFlags::empty()).inspect_err(|_| {
        // Leave one name, not two.
        let _ = rustix::fs::unlinkat(dir, to, AtFlags::empty());
    })
}

/// Whether a file system, an old kernel or a sandbox refuses a kind of call with `errno`, whatever the files are.
/// Some of these errors have other causes too. The next way then meets the same cause.
pub(super) const fn is_no_way(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::MLINK | Errno::XDEV
    )
}

/// The third way of [`to_absent`].
pub(super) fn over_placeholder(
    dir: BorrowedFd<'_>,
    from: &OsStr,
    to: &OsStr,
    step: &dyn Fn() -> Result<(), Errno>,
) -> Result<(), Errno> {
    step()?;
    let mut placeholder = Placeholder::make(dir, to)?;
    step()?;
    if !placeholder.is_ours_and_empty() {
        return Err(Errno::EXIST);
    }
    let mut renamed = rustix::fs::renameat(dir, from, dir, to);
    if let Err(Errno::BUSY | Errno::ACCESS | Errno::PERM | Errno::TXTBSY) = renamed {
        // Some file systems do not replace an open file (vboxsf on a Windows host).
        placeholder.fd = None;
        renamed = rustix::fs::renameat(dir, from, dir, to);
    }
    if renamed.is_ok() {
        placeholder.name = None;
    }
    renamed
}

/// A placeholder. Drop removes it, unless it was replaced or belongs to somebody else.
struct Placeholder<'a> {
    dir: BorrowedFd<'a>,
    /// None: it is not to be removed.
    name: Option<&'a OsStr>,
    fd: Option<OwnedFd>,
    id: (u64, u64),
}

impl<'a> Placeholder<'a> {
    /// Makes and locks a placeholder. EEXIST if the name is taken, or if another restore was faster with the lock and
    /// is about to replace the placeholder.
    fn make(dir: BorrowedFd<'a>, name: &'a OsStr) -> Result<Self, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        if rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(Errno::EXIST);
        }
        // An SQLite program that opens the file finds it busy. A file system without locks is no error.
        let _ = lock::try_lock(&fd, DATABASE_LOCKS.0, DATABASE_LOCKS.1);
        // gcsfuse makes the file only when it is stored, and would store it after the rename.
        let _ = uninterrupted(|| rustix::fs::fsync(&fd));
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Self { dir, name: Some(name), fd: Some(fd), id: (stat.st_dev, stat.st_ino) })
    }

    /// Whether it is still at its name, and nobody wrote to it.
    fn is_ours_and_empty(&self) -> bool {
        let Some(name) = self.name else { return false };
        let named = rustix::fs::statat(self.dir, name, AtFlags::SYMLINK_NOFOLLOW);
        named.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.id && stat.st_size == 0)
    }
}

impl Drop for Placeholder<'_> {
    fn drop(&mut self) {
        if self.is_ours_and_empty()
            && let Some(name) = self.name
        {
            let _ = rustix::fs::unlinkat(self.dir, name, AtFlags::empty());
        }
    }
}
