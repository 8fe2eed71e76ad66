//! The output's missing parent directories: they are made, made durable, and removed again if nothing is published.
//!
//! A restore holds a shared flock on the directory that it is going to publish into. A directory is removed only
//! under an exclusive flock, so a restore cannot remove a directory that another restore is using.

use super::{CommitError, Permissions};
use crate::io::uninterrupted;
use crate::process::locks::lock;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The number of attempts to open a directory while other restores remove it.
const TRIES: usize = 16;
/// The pause before another attempt to lock a new parent directory. Another run holds the lock only while
/// it removes the directory, which takes less time than this.
const LOCKED_PAUSE: Duration = Duration::from_millis(1);
/// The `f_type` of /proc.
const PROC_MAGIC: u64 = 0x9fa0;
/// The `f_type` of /sys.
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// The directories that this run made and that are not durable yet. One restore makes a directory and many publish
/// below it, so each of them checks this before it ends.
#[derive(Debug, Default)]
pub(super) struct UnsyncedNames(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    /// Keys: directories with entries that are not durable. Values: the value of `made` at the last such entry, as
    /// a sync covers only entries made before it began.
    unsynced: HashMap<PathBuf, u64>,
    /// The number of directories made so far.
    made: u64,
}

/// How missing directories are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewDirectories<'a> {
    pub(super) unsynced: &'a UnsyncedNames,
    pub(super) permissions: Permissions,
}

/// Device and inode.
pub(super) type DirectoryId = (u64, u64);

/// An open directory with a shared flock against its removal. Drop removes the directories that were made for it,
/// unless [`Self::keep`] was called.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    /// The directory part of the output's path; `.` if there is none.
    pub(super) path: PathBuf,
    /// None if fstat failed.
    pub(super) id: Option<DirectoryId>,
    /// Whether it was made when it was opened, so that it was empty.
    pub(super) is_new: bool,
    /// The directories that were made for it, outermost first.
    made: Mutex<Vec<PathBuf>>,
    sync_failed: AtomicBool,
}

impl Directory {
    /// Opens the directory of `output`, and makes what is missing of it (mode 0700 less the umask, if `new` does not
    /// say otherwise).
    pub(super) fn of(output: &Path, new: NewDirectories<'_>) -> Result<Self, CommitError> {
        Self::at(directory_of(output), new)
    }

    /// Opens the directory `path`, and makes what is missing of it.
    pub(super) fn at(path: PathBuf, new: NewDirectories<'_>) -> Result<Self, CommitError> {
        let at = path.clone();
        Self::open_or_make(path, new, |made| match open(&at) {
            Ok(fd) => Ok(fd),
            Err(Errno::NOENT) => {
                make(&at, made)?;
                open(&at).map_err(|errno| CommitError::refused("open directory", &at, errno))
            }
            Err(errno) => Err(CommitError::refused("open directory", &at, errno)),
        })
    }

    /// Opens `path` with `open`, which also makes what is missing, and takes the shared flock. Tries again if the
    /// directory is removed in the meantime.
    pub(super) fn open_or_make(
        path: PathBuf,
        new: NewDirectories<'_>,
        mut open: impl FnMut(&mut Missing<'_>) -> Result<OwnedFd, CommitError>,
    ) -> Result<Self, CommitError> {
        let mut made = Missing::new(new);
        let mut id = None;
        let mut result = Err(CommitError::refused("open directory", &path, Errno::NOENT));
        for tries_left in (0..TRIES).rev() {
            result = open(&mut made);
            match result.as_ref().map(hold) {
                Ok(Hold::Held(held)) => {
                    id = held;
                    break;
                }
                // No removal takes this long: another program has the lock for reasons of its own.
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
                let is_new = made.directories.last() == Some(&path);
                Ok(Self {
                    fd,
                    path,
                    id,
                    is_new,
                    made: Mutex::new(made.directories),
                    sync_failed: AtomicBool::new(false),
                })
            }
            Err(error) => {
                remove(&made.directories);
                Err(explained(error, &path))
            }
        }
    }

    /// Makes the directory's entries durable, unless `before` is an error. A failure is final for all restores that
    /// share this directory: the kernel reports a failed write only once per descriptor.
    pub(super) fn sync(&self, before: Result<usize, Errno>) -> Result<(), Errno> {
        let synced = before.and_then(|_| sync(&self.fd));
        if synced.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        } else if self.sync_failed.load(Ordering::Acquire) {
            return Err(Errno::IO);
        }
        synced
    }

    /// Keeps the directories that were made, whatever happens later.
    pub(super) fn keep(&self) {
        lock(&self.made).clear();
    }
}

impl Drop for Directory {
    /// Removes the directories that were made for it and are empty, unless another restore uses them.
    fn drop(&mut self) {
        let made = std::mem::take(&mut *lock(&self.made));
        if !made.is_empty() {
            let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
            remove(&made);
        }
    }
}

pub(super) fn open(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Device and inode of an open directory; None if fstat failed.
pub(super) fn id_of(fd: &OwnedFd) -> Option<DirectoryId> {
    rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// The directory part of the path `output`; `.` if there is none.
pub(super) fn directory_of(output: &Path) -> PathBuf {
    match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The result of [`hold`].
enum Hold {
    /// Held, or on a file system that cannot lock directories, where there is no protection.
    Held(Option<DirectoryId>),
    /// Another process holds an exclusive lock: it removes the directory, or has other reasons.
    LockedByOther(Option<DirectoryId>),
    /// The directory was removed in the meantime.
    Gone,
}

/// Takes the shared flock on a directory.
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
#[derive(Debug)]
pub(super) struct Missing<'a> {
    directories: Vec<PathBuf>,
    new: NewDirectories<'a>,
}

impl<'a> Missing<'a> {
    fn new(new: NewDirectories<'a>) -> Self {
        Self { directories: Vec::new(), new }
    }

    /// Gives the open directory `fd`, which was just made, the owner and mode that the operator asked for.
    pub(super) fn set_permissions(&self, fd: impl AsFd, path: &Path) -> Result<(), CommitError> {
        let set = self.new.permissions.set_on_directory(fd);
        set.map_err(|errno| CommitError::refused("set owner and mode of", path, errno))
    }

    /// [`Self::note`] and [`Self::set_permissions`] for the directory at `path`.
    fn made(&mut self, path: &Path) -> Result<(), CommitError> {
        self.note(path);
        if self.new.permissions.keep_directories() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| CommitError::refused("open directory", path, errno))?;
        self.set_permissions(fd, path)
    }

    /// Notes that `path` was made and that its name is not durable yet.
    pub(super) fn note(&mut self, path: &Path) {
        if !self.directories.iter().any(|dir| dir == path) {
            self.directories.push(path.to_owned());
        }
        self.new.unsynced.note(path);
    }
}

/// Makes `path` and its missing parents, and adds them to `made`, outermost first. Goes up the path once and down
/// once, so it ends. If another process removes a parent in the meantime, this fails with ENOENT, and
/// [`Directory::open_or_make`] tries again.
fn make(path: &Path, made: &mut Missing<'_>) -> Result<(), CommitError> {
    let mut missing = Vec::new();
    for dir in components(path) {
        match rustix::fs::mkdir(dir, Mode::RWXU) {
            Ok(()) => {
                made.made(dir)?;
                break;
            }
            Err(Errno::EXIST) => break,
            Err(Errno::NOENT) => missing.push(dir),
            Err(errno) => return Err(CommitError::refused("create directory", dir, errno)),
        }
    }
    for dir in missing.into_iter().rev() {
        match rustix::fs::mkdir(dir, Mode::RWXU) {
            Ok(()) => made.made(dir)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(CommitError::refused("create directory", dir, errno)),
        }
    }
    Ok(())
}

/// `path`, its parent, and so on, up to the last one that has a name.
fn components(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().filter(|dir| !dir.as_os_str().is_empty())
}

/// Checks, without making anything, whether the directory `path` can be opened or made. Finds a dangling link, a
/// loop of links, a file, or a file system of the kernel on the way. Does not look at permissions.
pub(super) fn check_way(path: &Path) -> Result<(), CommitError> {
    let nearest = nearest_directory(path)?;
    let magic = rustix::fs::statfs(&nearest).map(|fs| fs.f_type as u64);
    match magic {
        Ok(PROC_MAGIC | SYSFS_MAGIC) => Err(CommitError::TakesNothing { path: nearest }),
        _ => Ok(()),
    }
}

/// The innermost directory on the way to `path` that exists.
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

/// The error that says what is in the way of the directory `path`, if that can be found; else `error`.
fn explained(error: CommitError, path: &Path) -> CommitError {
    let CommitError::Refused { errno, .. } = &error else { return error };
    if !matches!(*errno, Errno::NOENT | Errno::LOOP | Errno::NOTDIR) {
        return error;
    }
    match nearest_directory(path) {
        Err(obstacle) => obstacle,
        // The directory exists, but nothing can be made in it, or other programs remove what is made.
        Ok(nearest) if *errno == Errno::NOENT => CommitError::TakesNothing { path: nearest },
        Ok(_) => error,
    }
}

/// Removes the directories in `made`, innermost first, up to the first one that is in use or not empty.
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

impl UnsyncedNames {
    /// Notes that the directory `path` was made.
    fn note(&self, path: &Path) {
        let mut names = lock(&self.0);
        names.made += 1;
        let made = names.made;
        names.unsynced.insert(parent_of(&absolute(path)), made);
    }

    /// Makes durable all directories on the way to `directory` that this run made. Skips those in `done`, which were
    /// synced after `directory` was made, and adds what it synced.
    pub(super) fn sync_above(&self, directory: &Path, done: &mut HashSet<PathBuf>) -> Result<(), CommitError> {
        for (path, made) in self.above(directory) {
            if done.contains(&path) {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&path, flags, Mode::empty())
                .map_err(|errno| CommitError::refused("open directory", &path, errno))?;
            sync(&fd).map_err(|errno| CommitError::refused("sync directory", &path, errno))?;
            self.synced(&path, made);
            done.insert(path);
        }
        Ok(())
    }

    /// The directories above `directory` with entries that are not durable, and their values in `Names::unsynced`.
    pub(super) fn above(&self, directory: &Path) -> Vec<(PathBuf, u64)> {
        let absolute = absolute(directory);
        let names = lock(&self.0);
        if names.unsynced.is_empty() {
            return Vec::new();
        }
        let last_made = |path: &Path| Some((path.to_owned(), *names.unsynced.get(path)?));
        absolute.ancestors().skip(1).filter_map(last_made).collect()
    }

    /// Notes that a sync of `path` has ended that covers entries up to `made`. To be called only after the sync:
    /// another restore that finds no note relies on the entries being durable.
    fn synced(&self, path: &Path, made: u64) {
        let mut names = lock(&self.0);
        if names.unsynced.get(path) == Some(&made) {
            names.unsynced.remove(path);
        }
    }
}

/// Syncs a directory. A file system that cannot sync directories is no error.
pub(super) fn sync(directory: impl AsFd) -> Result<(), Errno> {
    match uninterrupted(|| rustix::fs::fsync(&directory)) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        result => result,
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn parent_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_during_a_sync_is_not_covered_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let unsynced = UnsyncedNames::default();
        let mut missing = Missing::new(NewDirectories { unsynced: &unsynced, permissions: Permissions::default() });
        make(&first, &mut missing).unwrap();
        let begun = unsynced.above(&first);
        assert_eq!(begun.iter().map(|(path, _)| path.as_path()).collect::<Vec<_>>(), [dir.path()]);
        make(&second, &mut missing).unwrap();
        begun.iter().for_each(|(path, made)| unsynced.synced(path, *made));
        assert_eq!(unsynced.above(&second).len(), 1);
        unsynced.sync_above(&second, &mut HashSet::new()).unwrap();
        assert_eq!(unsynced.above(&first), []);
    }
}
