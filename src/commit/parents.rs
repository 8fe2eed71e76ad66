//! Parent directories of an output that did not exist: they are created, made durable, and removed again if
//! nothing is published in them.
//!
//! A restore holds a shared flock on the directory that it publishes into. A directory is removed only under an
//! exclusive flock. A restore therefore cannot remove a directory that another restore is using.

use super::{CommitError, Permissions};
use crate::io::uninterrupted;
use crate::process::locks::lock;
use rustix::fs::{Access, AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Maximum number of attempts to open a directory that other restores remove at the same time.
const TRIES: usize = 16;
/// Pause before the next attempt to lock a new directory. Another run holds the exclusive lock only while it
/// removes the directory, which takes less than 1 ms.
const LOCKED_PAUSE: Duration = Duration::from_millis(1);
/// `f_type` in statfs of /proc, where no files can be created.
const PROC_MAGIC: u64 = 0x9fa0;
/// `f_type` in statfs of /sys, where no files can be created.
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// Directories that this run created and whose names are not durable yet. One restore can create a directory
/// that many others publish below. Each of them consults this list before it reports success.
#[derive(Debug, Default)]
pub(super) struct UnsyncedNames(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    /// Key: a directory that was not synced since entries were created in it. Value: the value of the counter
    /// `made` when the last such entry was created. A sync covers only the entries that existed when the sync
    /// began.
    unsynced: HashMap<PathBuf, u64>,
    /// Number of directories that this run has created so far. It serves as a time stamp: a sync covers the
    /// directories that were created before it.
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

/// An open directory with a shared flock that protects it from removal by other restores. Dropping it removes
/// the directories that were created for it, unless [`Self::keep`] was called.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    /// Directory part of the output's path; `.` if the path has none.
    pub(super) path: PathBuf,
    /// Device and inode number of the directory. None if fstat failed.
    pub(super) id: Option<DirectoryId>,
    /// Whether this directory was created when it was opened. If so, it was empty then.
    pub(super) is_new: bool,
    /// Directories that were created for this one, the outermost first.
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

    /// Takes the shared flock on the directory that the closure `open` opens. `open` also creates missing
    /// directories. If another restore removes the directory meanwhile, tries again, at most 16 times.
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
                // Removing a directory never takes this long. Another program holds the lock for its own
                // reasons, so this restore goes on without the lock.
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

    /// Syncs the directory, unless `before` is an error. Once a sync has failed, it fails for all restores that
    /// share this directory, because the kernel reports a failed write only once per file descriptor.
    pub(super) fn sync(&self, before: Result<usize, Errno>) -> Result<(), Errno> {
        let synced = tolerant(before.and_then(|_| uninterrupted(|| rustix::fs::fsync(&self.fd))));
        if synced.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        } else if self.sync_failed.load(Ordering::Acquire) {
            return Err(Errno::IO);
        }
        synced
    }

    /// Keeps the directories that were created for an output, because something was published in them. Dropping
    /// `self` then removes nothing.
    pub(super) fn keep(&self) {
        lock(&self.made).clear();
    }
}

impl Drop for Directory {
    /// Removes the directories that were created for this one, if they are empty and no other restore uses
    /// them.
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

/// Returns device and inode number of an open directory. None if fstat failed.
pub(super) fn id_of(fd: &OwnedFd) -> Option<DirectoryId> {
    rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// Returns the directory part of the path `output`; `.` if the path has none.
pub(super) fn directory_of(output: &Path) -> PathBuf {
    match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Result of an attempt to take the shared flock that protects a directory from removal by other restores.
enum Hold {
    /// The lock is held, or the file system cannot lock directories, so nothing protects the directory from
    /// removal.
    Held(Option<DirectoryId>),
    /// Another process holds an exclusive lock. It is removing the directory, or locked it for its own reasons.
    LockedByOther(Option<DirectoryId>),
    /// The directory was removed after it was opened: its link count is 0.
    Gone,
}

/// Takes the shared flock that protects a directory from removal by other restores. Does not wait for the lock.
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

/// Directories that were missing and were created, the outermost first.
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

    /// Notes that the directory `path` was created and that its name is not durable yet.
    pub(super) fn note(&mut self, path: &Path) {
        if !self.directories.iter().any(|dir| dir == path) {
            self.directories.push(path.to_owned());
        }
        self.new.unsynced.note(path);
    }
}

/// Creates the directory `path` and its missing parents, and adds them to `made`, the outermost first. The loop
/// goes up the path once and down once, so it terminates. If another process removes a parent meanwhile, this
/// fails with ENOENT, and [`Directory::open_or_make`] tries again.
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

/// Iterates over `path`, its parent, that one's parent and so on, as long as the path is not empty.
fn components(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().filter(|dir| !dir.as_os_str().is_empty())
}

/// Checks whether the directory `path` could be opened or created, without creating anything. It finds a
/// dangling symbolic link, a loop of links, a file, or /proc and /sys on the way. It does not check
/// permissions.
pub(super) fn check_way(path: &Path) -> Result<(), CommitError> {
    let nearest = nearest_directory(path)?;
    let magic = rustix::fs::statfs(&nearest).map(|fs| fs.f_type as u64);
    match magic {
        Ok(PROC_MAGIC | SYSFS_MAGIC) => Err(CommitError::TakesNothing { path: nearest }),
        _ => check_writable(CWD, &nearest, &nearest),
    }
}

/// Checks that this process may make files in the directory `path`, seen from `at`. `shown` is its path in messages.
pub(super) fn check_writable(at: BorrowedFd<'_>, path: &Path, shown: &Path) -> Result<(), CommitError> {
    match rustix::fs::accessat(at, path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        Err(errno @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => {
            Err(CommitError::refused("create files in", shown, errno))
        }
        // Other errors say nothing about permissions: an old kernel, a sandbox.
        _ => Ok(()),
    }
}

/// Returns the deepest existing directory on the way to `path`. Fails if a file, a dangling symbolic link or a
/// loop of links is on the way.
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

/// Returns an error that names what is in the way of the directory `path`. Returns `error` unchanged if no
/// obstacle is found.
fn explained(error: CommitError, path: &Path) -> CommitError {
    let CommitError::Refused { errno, .. } = &error else { return error };
    if !matches!(*errno, Errno::NOENT | Errno::LOOP | Errno::NOTDIR) {
        return error;
    }
    match nearest_directory(path) {
        Err(obstacle) => obstacle,
        // The directory exists, but the kernel lets nobody create files in it, or another program removes them
        // at once.
        Ok(nearest) if *errno == Errno::NOENT => CommitError::TakesNothing { path: nearest },
        Ok(_) => error,
    }
}

/// Removes the directories `made`, the innermost first. Stops at the first one that is in use or not empty.
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
    /// Notes that the directory `path` was created, so that its parent must be synced.
    fn note(&self, path: &Path) {
        let mut names = lock(&self.0);
        names.made += 1;
        let made = names.made;
        names.unsynced.insert(parent_of(&absolute(path)), made);
    }

    /// Syncs all directories above `directory` in which this run created directories. `done` holds directories
    /// that were synced after `directory` was created: they are skipped, and those synced here are added.
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

    /// Returns the directories above `directory` that have to be synced, with the value of the counter
    /// `Names::made` at their last new entry.
    pub(super) fn above(&self, directory: &Path) -> Vec<(PathBuf, u64)> {
        let absolute = absolute(directory);
        let names = lock(&self.0);
        if names.unsynced.is_empty() {
            return Vec::new();
        }
        let last_made = |path: &Path| Some((path.to_owned(), *names.unsynced.get(path)?));
        absolute.ancestors().skip(1).filter_map(last_made).collect()
    }

    /// Notes that `path` was synced and that the sync covers the entries up to counter `made`. Call this only
    /// after the sync has ended, because other restores report success when they find no note.
    fn synced(&self, path: &Path, made: u64) {
        let mut names = lock(&self.0);
        if names.unsynced.get(path) == Some(&made) {
            names.unsynced.remove(path);
        }
    }
}

/// Syncs a directory with fsync. If the file system cannot sync directories (EINVAL), that is not an error.
pub(super) fn sync(directory: impl AsFd) -> Result<(), Errno> {
    tolerant(uninterrupted(|| rustix::fs::fsync(&directory)))
}

/// The result of a directory's sync. A file system that has no such sync is no error. It says so in different ways.
fn tolerant(synced: Result<(), Errno>) -> Result<(), Errno> {
    match synced {
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::BADF | Errno::ISDIR) => Ok(()),
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
