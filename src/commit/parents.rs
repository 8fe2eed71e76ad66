//! The output's missing parent directories: made, made durable, and taken away again when
//! nothing came of it.
//!
//! A directory that is about to be published into is held by a shared flock on it, and taken
//! away only under an exclusive one: two restores below one new directory cannot pull it from
//! under each other.

use super::CommitError;
use crate::io::uninterrupted;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Tries against other restores that remove the directories meanwhile.
const TRIES: usize = 16;
/// Pause before a directory that someone else has locked is tried again: a removal takes less.
const LOCKED_PAUSE: Duration = Duration::from_millis(1);
/// What /proc and /sys say they are.
const PROC_MAGIC: u64 = 0x9fa0;
const SYSFS_MAGIC: u64 = 0x6265_6572;

static NAMES: LazyLock<Mutex<Names>> = LazyLock::new(Mutex::default);

/// What this process knows of the durability of directories that it made.
#[derive(Debug, Default)]
struct Names {
    /// Directories in which there are such that are not durable yet, and when the last was made: a
    /// sync covers what was made before it began. One restore makes a directory, many publish below
    /// it: each must see to it before it is done.
    unsynced: HashMap<PathBuf, u64>,
    /// Directories made so far.
    made: u64,
}

/// Device and inode.
pub(super) type DirectoryId = (u64, u64);

/// An open directory, held against removal. Dropped, it takes away what was made for it, unless
/// that is to be kept.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    /// As the output's path names it; `.` where that names none.
    pub(super) path: PathBuf,
    /// Device and inode; None where they cannot be had.
    pub(super) id: Option<DirectoryId>,
    /// It was made when it was opened: nothing stood in it then.
    pub(super) is_new: bool,
    /// What was made for it, outermost first.
    made: Mutex<Vec<PathBuf>>,
    sync_failed: AtomicBool,
}

impl Directory {
    /// Opens the directory of `output`, and makes what is missing of it (0700 less the umask).
    pub(super) fn of(output: &Path) -> Result<Self, CommitError> {
        Self::at(directory_of(output))
    }

    /// Opens the directory `path`, and makes what is missing of it.
    pub(super) fn at(path: PathBuf) -> Result<Self, CommitError> {
        let at = path.clone();
        Self::open_or_make(path, |made| match open(&at) {
            Ok(fd) => Ok(fd),
            Err(Errno::NOENT) => {
                make(&at, made)?;
                open(&at).map_err(|errno| CommitError::refused("open directory", &at, errno))
            }
            Err(errno) => Err(CommitError::refused("open directory", &at, errno)),
        })
    }

    /// Opens `path` by `open`, which also makes what is missing, and holds it against removal;
    /// again where it was removed meanwhile.
    pub(super) fn open_or_make(
        path: PathBuf,
        mut open: impl FnMut(&mut Missing) -> Result<OwnedFd, CommitError>,
    ) -> Result<Self, CommitError> {
        let mut made = Missing::default();
        let mut id = None;
        let mut result = Err(CommitError::refused("open directory", &path, Errno::NOENT));
        for tries_left in (0..TRIES).rev() {
            result = open(&mut made);
            match result.as_ref().map(hold) {
                Ok(Hold::Held(held)) => {
                    id = held;
                    break;
                }
                // For reasons of someone's own: nobody removes a directory for so long.
                Ok(Hold::LockedByOther(locked)) if tries_left == 0 => {
                    id = locked;
                    break;
                }
                Ok(Hold::LockedByOther(_)) => std::thread::sleep(LOCKED_PAUSE),
                Ok(Hold::Gone) => result = Err(CommitError::refused("open directory", &path, Errno::NOENT)),
                Err(CommitError::Refused { errno: Errno::NOENT, .. }) => {}
                Err(_) => break,
            }
        }
        match result {
            Ok(fd) => {
                let is_new = made.0.last() == Some(&path);
                Ok(Self { fd, path, id, is_new, made: Mutex::new(made.0), sync_failed: AtomicBool::new(false) })
            }
            Err(error) => {
                remove(&made.0);
                Err(explained(error, &path))
            }
        }
    }

    /// Makes its entries durable; `before` may refuse. A failure is final for all that share it: the
    /// kernel tells each descriptor once.
    pub(super) fn sync(&self, before: Result<usize, Errno>) -> Result<(), Errno> {
        let synced = before.and_then(|_| sync(&self.fd));
        if synced.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        } else if self.sync_failed.load(Ordering::Acquire) {
            return Err(Errno::IO);
        }
        synced
    }

    /// What was made stays, whatever comes.
    pub(super) fn keep(&self) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Directory {
    /// What was made for it and is empty goes, unless another restore is at work there.
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        if !made.is_empty() {
            let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
            remove(&made);
        }
    }
}

pub(super) fn open(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Device and inode of an open directory, where they can be had.
pub(super) fn id_of(fd: &OwnedFd) -> Option<DirectoryId> {
    rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// The directory that `output` lies in, as its path names it; `.` where that names none.
pub(super) fn directory_of(output: &Path) -> PathBuf {
    match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

enum Hold {
    /// Also on file systems that do not lock directories; those have no protection.
    Held(Option<DirectoryId>),
    /// Someone removes it this moment, or has it locked for reasons of his own.
    LockedByOther(Option<DirectoryId>),
    /// It was removed meanwhile.
    Gone,
}

/// Holds a directory against removal.
fn hold(fd: &OwnedFd) -> Hold {
    let locked = rustix::fs::flock(fd, FlockOperation::NonBlockingLockShared);
    let stat = rustix::fs::fstat(fd);
    let id = stat.as_ref().map(|stat| (stat.st_dev, stat.st_ino)).ok();
    match stat {
        Ok(stat) if stat.st_nlink == 0 => Hold::Gone,
        _ if locked == Err(Errno::WOULDBLOCK) => Hold::LockedByOther(id),
        _ => Hold::Held(id),
    }
}

/// Directories that were missing and were made, outermost first.
#[derive(Debug, Default)]
pub(super) struct Missing(Vec<PathBuf>);

impl Missing {
    /// `path` was made; its name is not durable yet.
    pub(super) fn note(&mut self, path: &Path) {
        if !self.0.iter().any(|dir| dir == path) {
            self.0.push(path.to_owned());
        }
        let mut names = names();
        names.made += 1;
        let made = names.made;
        names.unsynced.insert(parent_of(&absolute(path)), made);
    }
}

/// Makes `path` and its missing parents; adds what it made to `made`, outermost first. One way up and
/// one way down the path, so it ends. Where another process removes a parent meanwhile, it fails
/// with ENOENT, and [`Directory::open_or_make`] tries again.
fn make(path: &Path, made: &mut Missing) -> Result<(), CommitError> {
    let mut missing = Vec::new();
    for dir in components(path) {
        match rustix::fs::mkdir(dir, Mode::RWXU) {
            Ok(()) => {
                made.note(dir);
                break;
            }
            Err(Errno::EXIST) => break,
            Err(Errno::NOENT) => missing.push(dir),
            Err(errno) => return Err(CommitError::refused("create directory", dir, errno)),
        }
    }
    for dir in missing.into_iter().rev() {
        match rustix::fs::mkdir(dir, Mode::RWXU) {
            Ok(()) => made.note(dir),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(CommitError::refused("create directory", dir, errno)),
        }
    }
    Ok(())
}

/// `path`, its parent, and so on, as long as they have a name.
fn components(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().filter(|dir| !dir.as_os_str().is_empty())
}

/// Says, and makes nothing, why the directory `path` can be neither opened nor made: a dangling link,
/// a loop of links, a file, a file system of the kernel on the way. Permissions are not looked at.
pub(super) fn check_way(path: &Path) -> Result<(), CommitError> {
    let nearest = nearest_directory(path)?;
    let magic = rustix::fs::statfs(&nearest).map(|fs| fs.f_type as u64);
    match magic {
        Ok(PROC_MAGIC | SYSFS_MAGIC) => Err(CommitError::TakesNothing { path: nearest }),
        _ => Ok(()),
    }
}

/// The innermost directory on the way to `path` that is there.
fn nearest_directory(path: &Path) -> Result<PathBuf, CommitError> {
    let mut nearest = Path::new(if path.is_absolute() { "/" } else { "." });
    let outermost_first: Vec<&Path> = components(path).collect();
    for dir in outermost_first.into_iter().rev() {
        let at = || dir.to_owned();
        match rustix::fs::stat(dir) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => nearest = dir,
            Ok(_) | Err(Errno::NOTDIR) => return Err(CommitError::IsNoDirectory { path: at() }),
            Err(Errno::LOOP) => return Err(CommitError::LinkLoop { path: at() }),
            Err(Errno::NOENT) => {
                return match rustix::fs::readlink(dir, Vec::new()) {
                    Ok(target) => {
                        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                        Err(CommitError::DanglingLink { path: at(), target })
                    }
                    Err(_) => Ok(nearest.to_owned()),
                };
            }
            Err(_) => break,
        }
    }
    Ok(nearest.to_owned())
}

/// Why the directory `path` could not be opened or made, in words that say what to do about it;
/// `error` where that says more.
fn explained(error: CommitError, path: &Path) -> CommitError {
    let CommitError::Refused { errno, .. } = &error else { return error };
    if !matches!(*errno, Errno::NOENT | Errno::LOOP | Errno::NOTDIR) {
        return error;
    }
    match nearest_directory(path) {
        Err(obstacle) => obstacle,
        // It is there, and nothing can be made in it; or other programs remove whatever is made.
        Ok(nearest) if *errno == Errno::NOENT => CommitError::TakesNothing { path: nearest },
        Ok(_) => error,
    }
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

/// Makes durable the entries of all directories on the way to `directory` that this process made,
/// but for those in `done`: synced since `directory` was there.
pub(super) fn sync_above(directory: &Path, done: &mut HashSet<PathBuf>) -> Result<(), CommitError> {
    for (path, made) in unsynced_above(directory) {
        if done.contains(&path) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| CommitError::refused("open directory", &path, errno))?;
        sync(&fd).map_err(|errno| CommitError::refused("sync directory", &path, errno))?;
        synced(&path, made);
        done.insert(path);
    }
    Ok(())
}

/// Directories on the way whose entries are not durable, and when the last was made there.
fn unsynced_above(directory: &Path) -> Vec<(PathBuf, u64)> {
    let absolute = absolute(directory);
    let names = names();
    if names.unsynced.is_empty() {
        return Vec::new();
    }
    let last_made = |path: &Path| Some((path.to_owned(), *names.unsynced.get(path)?));
    absolute.ancestors().skip(1).filter_map(last_made).collect()
}

/// A sync of `path` is done that covers what was `made`. Not to be called before: another restore
/// that finds it gone relies on its being durable.
fn synced(path: &Path, made: u64) {
    let mut names = names();
    if names.unsynced.get(path) == Some(&made) {
        names.unsynced.remove(path);
    }
}

/// fsync of a directory, where its file system has such a thing.
pub(super) fn sync(directory: impl AsFd) -> Result<(), Errno> {
    match uninterrupted(|| rustix::fs::fsync(&directory)) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        result => result,
    }
}

fn names() -> MutexGuard<'static, Names> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn parent_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
pub(super) fn is_unsynced_above(directory: &Path) -> bool {
    !unsynced_above(directory).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_during_a_sync_is_not_covered_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let mut missing = Missing::default();
        make(&first, &mut missing).unwrap();
        let begun = unsynced_above(&first);
        assert_eq!(begun.iter().map(|(path, _)| path.as_path()).collect::<Vec<_>>(), [dir.path()]);
        make(&second, &mut missing).unwrap();
        begun.iter().for_each(|(path, made)| synced(path, *made));
        assert_eq!(unsynced_above(&second).len(), 1);
        sync_above(&second, &mut HashSet::new()).unwrap();
        assert_eq!(unsynced_above(&first), []);
    }
}
