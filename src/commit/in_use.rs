//! Finds out whether another process uses a database, by looking for locks on the byte ranges that SQLite locks
//! (docs/GUARANTEES.md, 27).
//!
//! In WAL mode every open connection holds a lock, so it is found. In a rollback-journal mode a connection
//! holds a lock only during a transaction, so an idle connection is not found.

use super::CommitError;
use super::sidecars::suffixed;
use crate::io::lock;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// Offset and length of SQLite's PENDING, RESERVED and SHARED lock bytes in a database file.
pub(super) const DATABASE_LOCKS: (u64, u64) = (0x4000_0000, 512);
/// Offset and length of the lock bytes in a -shm file: eight locks of the WAL, and the dead man's switch.
const SHM_LOCKS: (u64, u64) = (120, 9);

/// A database file that is held open with SQLite's locks on it. While this value exists, no other process can
/// begin a transaction on the database.
#[derive(Debug)]
pub(super) struct DatabaseLock {
    pub(super) fd: OwnedFd,
}

/// Opens the database `name` in `dir`, and fails if another process uses it. If the file can be opened for
/// writing, takes SQLite's locks on it. A program that opens the database meanwhile then gets SQLITE_BUSY
/// instead of a half-replaced database.
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

/// Fails if another process holds a lock on the `len` bytes at offset `start`.
fn refuse_if_locked(fd: &OwnedFd, start: u64, len: u64, path: &Path) -> Result<(), CommitError> {
    match lock::holder(fd, start, len) {
        Ok(Some(held)) => Err(CommitError::InUse { path: path.to_owned(), pid: held.pid }),
        Ok(None) => Ok(()),
        // The file system does not support locks, so no process can hold one.
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(errno) => Err(CommitError::refused("look for locks on", path, errno)),
    }
}
