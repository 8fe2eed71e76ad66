//! Makes files under temporary names.

use crate::commit::parents;
use crate::commit::sys::mode;
use crate::commit::temp_name::TempName;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The number of temporary names that are tried. Each is one of 36^8.
pub(super) const TRIES: usize = 16;

/// Makes a file with a temporary name beside `path`, for a file other than an output. Returns the file, which must
/// stay open as long as the name is in use, and its path. A later run deletes the file if this one is killed.
///
/// # Errors
/// The directory cannot be opened or written into, or `path` has no file name.
pub(crate) fn create_temporary(path: &Path) -> std::io::Result<(File, PathBuf)> {
    let name = path.file_name().ok_or(Errno::ISDIR)?;
    let dir = parents::open(&parents::directory_of(path))?;
    let (fd, temp) = create_named(dir.as_fd(), name)?;
    Ok((File::from(fd), path.with_file_name(temp.as_os_str())))
}

/// Makes a file in `dir` with a random temporary name that is to become `name`, and locks it. The lock tells sweeps
/// that its run is alive.
pub(super) fn create_named(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(OwnedFd, TempName), Errno> {
    create_named_for(OFlags::RDWR, mode(), dir, name)
}

/// As [`create_named`], for this access, and with this mode less the umask.
pub(super) fn create_named_for(
    access: OFlags,
    mode: Mode,
    dir: BorrowedFd<'_>,
    name: &OsStr,
) -> Result<(OwnedFd, TempName), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | access;
    for _ in 0..TRIES {
        let temp = TempName::plain(name);
        match rustix::fs::openat(dir, temp.as_os_str(), flags, mode) {
            Ok(fd) => {
                let locked = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive);
                let linked = rustix::fs::fstat(&fd).map(|stat| stat.st_nlink > 0);
                if locked != Err(Errno::WOULDBLOCK) && linked == Ok(true) {
                    return Ok((fd, temp));
                }
                // A sweep of another run took the file between open and flock, or fstat failed.
                let _ = rustix::fs::unlinkat(dir, temp.as_os_str(), AtFlags::empty());
                linked?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

/// Opens a file that was closed under its temporary name, for reading, and locks it as [`create_named`] does. ENOENT if
/// a sweep of another run took it in between.
pub(super) fn reopen_named(dir: BorrowedFd<'_>, temp: &TempName) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, temp.as_os_str(), flags, Mode::empty())?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Errno::NOENT),
        _ => Ok(fd),
    }
}
