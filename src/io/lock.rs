//! POSIX record locks (fcntl), which SQLite uses to lock a database.

use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd};

/// The process that holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockHolder {
    /// The process ID. None if the process is in another PID namespace or on another machine, or if the lock
    /// belongs to a file descriptor and not to a process.
    pub(crate) pid: Option<u32>,
}

/// Finds another process that holds a lock on any of the `len` bytes from offset `start` on. None if there is no
/// such process.
pub(crate) fn holder(file: impl AsFd, start: u64, len: u64) -> Result<Option<LockHolder>, Errno> {
    let mut lock = write_lock(start, len)?;
    call(file, libc::F_GETLK, &mut lock)?;
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return Ok(None);
    }
    Ok(Some(LockHolder { pid: u32::try_from(lock.l_pid).ok().filter(|pid| *pid > 0) }))
}

/// Takes a write lock on the `len` bytes from offset `start` on. Returns true, or false if another process holds a
/// lock on any of these bytes. The kernel drops the lock when this process closes any descriptor of the file.
pub(crate) fn try_lock(file: impl AsFd, start: u64, len: u64) -> Result<bool, Errno> {
    match call(file, libc::F_SETLK, &mut write_lock(start, len)?) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn write_lock(start: u64, len: u64) -> Result<libc::flock, Errno> {
    Ok(libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start.try_into().map_err(|_| Errno::INVAL)?,
        l_len: len.try_into().map_err(|_| Errno::INVAL)?,
        l_pid: 0,
    })
}

fn call(file: impl AsFd, command: libc::c_int, lock: &mut libc::flock) -> Result<(), Errno> {
    // SAFETY: the descriptor is open during the call. Both commands read and write one `flock` structure, and
    // `lock` is one.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, std::ptr::from_mut(lock)) };
    if result == -1 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(())
}
