//! Whether another process uses a database, by SQLite's own lock bytes (PROMISES 27).
//!
//! Limit: a connection in a rollback-journal mode that is between transactions holds no lock and
//! cannot be seen. In WAL mode every connection holds one for as long as it is open.

use super::CommitError;
use super::sidecars::suffixed;
use crate::io::lock;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// SQLite's PENDING, RESERVED and SHARED bytes of a database file.
const DATABASE_LOCKS: (u64, u64) = (0x4000_0000, 512);
/// The locks of a -shm file: eight of the WAL, and the dead man's switch.
const SHM_LOCKS: (u64, u64) = (120, 9);

/// The database that is to be replaced, held so that no transaction can begin on it.
#[derive(Debug)]
pub(super) struct DatabaseLock {
    pub(super) fd: OwnedFd,
}

/// Opens `name` in `dir`, makes sure that nobody uses it, and holds SQLite's locks on it where
/// permissions allow: a program that opens it meanwhile finds it busy, not half replaced.
pub(super) fn hold(dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<DatabaseLock, CommitError> {
    let refused = |errno| CommitError::refused("open", path, errno);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |access| rustix::fs::openat(dir, name, flags | access, Mode::empty());
    let (fd, writable) = match open(OFlags::RDWR) {
        Ok(fd) => (fd, true),
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY) => {
            (open(OFlags::RDONLY).map_err(refused)?, false)
        }
        Err(errno) => return Err(refused(errno)),
    };
    let (start, len) = DATABASE_LOCKS;
    refuse_if_locked(&fd, start, len, path)?;
    let shm = suffixed(name, "-shm");
    if let Ok(shm) = rustix::fs::openat(dir, shm, flags | OFlags::RDONLY, Mode::empty()) {
        refuse_if_locked(&shm, SHM_LOCKS.0, SHM_LOCKS.1, path)?;
    }
    if writable && lock::try_lock(&fd, start, len) == Ok(false) {
        refuse_if_locked(&fd, start, len, path)?;
        return Err(CommitError::InUse { path: path.to_owned(), pid: None });
    }
    Ok(DatabaseLock { fd })
}

fn refuse_if_locked(fd: &OwnedFd, start: u64, len: u64, path: &Path) -> Result<(), CommitError> {
    match lock::holder(fd, start, len) {
        Ok(Some(held)) => Err(CommitError::InUse { path: path.to_owned(), pid: held.pid }),
        Ok(None) => Ok(()),
        // A file system without locks: nobody can hold one.
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(errno) => Err(CommitError::refused("look for locks on", path, errno)),
    }
}
