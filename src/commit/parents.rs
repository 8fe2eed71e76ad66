//! The output's missing parent directories: made, made durable, and taken away again when
//! nothing came of it.
//!
//! A directory that is about to be published into is held by a shared flock on it, and taken
//! away only under an exclusive one: two restores below one new directory cannot pull it from
//! under each other.

use super::CommitError;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// Tries against other restores that remove the directories meanwhile.
const TRIES: usize = 16;
/// Pause before a directory that someone else has locked is tried again: a removal takes less.
const LOCKED_PAUSE: Duration = Duration::from_millis(1);

/// Directories in which this process made directories, and whose entries are not durable yet.
/// One restore makes a directory, many publish below it: each must see to it before it is done.
static UNSYNCED: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    /// As the output's path names it; `.` where that names none.
    pub(super) path: PathBuf,
    /// What was made for it, outermost first.
    made: Vec<PathBuf>,
}

impl Directory {
    /// Opens the directory of `output`, and makes what is missing of it (0700 less the umask).
    pub(super) fn of(output: &Path) -> Result<Self, CommitError> {
        let path = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut made = Vec::new();
        let mut refusal = Errno::NOENT;
        for tries_left in (0..TRIES).rev() {
            match open(&path) {
                Ok((_, true)) if tries_left > 0 => std::thread::sleep(LOCKED_PAUSE),
                Ok((fd, _)) => return Ok(Self { fd, path, made }),
                Err(Errno::NOENT) => {
                    if let Err(error) = make(&path, &mut made) {
                        remove(&made);
                        return Err(error);
                    }
                }
                Err(errno) => {
                    refusal = errno;
                    break;
                }
            }
        }
        remove(&made);
        Err(CommitError::refused("open directory", &path, refusal))
    }

    /// Takes away what was made for it and is empty, unless another restore is at work there.
    pub(super) fn abandon(&mut self) {
        if !self.made.is_empty() {
            let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
            remove(&std::mem::take(&mut self.made));
        }
    }

    /// What was made stays, whatever comes.
    pub(super) fn keep(&mut self) {
        self.made.clear();
    }
}

/// Opens a directory and holds it against removal. ENOENT also when it was removed meanwhile;
/// and whether someone else has it locked, to remove it or for reasons of his own. Not every file
/// system locks directories: those have no protection.
fn open(path: &Path) -> Result<(OwnedFd, bool), Errno> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let locked = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK);
    if rustix::fs::fstat(&fd)?.st_nlink == 0 { Err(Errno::NOENT) } else { Ok((fd, locked)) }
}

/// Makes `path` and its missing parents; adds what it made to `made`, outermost first.
fn make(path: &Path, made: &mut Vec<PathBuf>) -> Result<(), CommitError> {
    let mut missing = vec![path];
    while let Some(next) = missing.last().copied() {
        match rustix::fs::mkdir(next, Mode::RWXU) {
            Ok(()) => {
                missing.pop();
                if !made.iter().any(|dir| dir == next) {
                    made.push(next.to_owned());
                }
                UNSYNCED.lock().unwrap_or_else(PoisonError::into_inner).insert(parent_of(&absolute(next)));
            }
            Err(Errno::EXIST) => {
                missing.pop();
            }
            Err(Errno::NOENT) => match next.parent() {
                Some(parent) if !parent.as_os_str().is_empty() && missing.len() < 4096 => missing.push(parent),
                _ => return Err(CommitError::refused("create directory", next, Errno::NOENT)),
            },
            Err(errno) => return Err(CommitError::refused("create directory", next, errno)),
        }
    }
    Ok(())
}

fn remove(made: &[PathBuf]) {
    for path in made.iter().rev() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(fd) = rustix::fs::open(path, flags, Mode::empty()) else { return };
        if rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return;
        }
        if rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR).is_err() {
            return;
        }
    }
}

/// Makes durable the entries of all directories on the way to `directory` that this process made.
pub(super) fn sync_above(directory: &Path) -> Result<(), CommitError> {
    let absolute = absolute(directory);
    let unsynced: Vec<PathBuf> = {
        let set = UNSYNCED.lock().unwrap_or_else(PoisonError::into_inner);
        if set.is_empty() {
            return Ok(());
        }
        absolute.ancestors().skip(1).filter(|path| set.contains(*path)).map(Path::to_owned).collect()
    };
    for path in unsynced {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| CommitError::refused("open directory", &path, errno))?;
        sync(&fd).map_err(|errno| CommitError::refused("sync directory", &path, errno))?;
        // Not before: another restore that finds it gone relies on its being durable.
        UNSYNCED.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
    }
    Ok(())
}

/// fsync of a directory, where its file system has such a thing.
pub(super) fn sync(directory: &OwnedFd) -> Result<(), Errno> {
    loop {
        match rustix::fs::fsync(directory) {
            Err(Errno::INTR) => {}
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn parent_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}
