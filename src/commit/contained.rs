//! Outputs whose names come from a bucket: every name stays beneath the directory that the operator named
//! (docs/GUARANTEES.md, 6 and 7).
//!
//! A name is first checked as text (`unsafe_name`). Then its directory is opened by `openat2` with RESOLVE_BENEATH
//! and without symbolic links. If that call fails (no such call in the kernel or the sandbox, or missing
//! directories), the components are opened one after the other without following links, which is equally safe.

use crate::commit::context::CommitContext;
use crate::commit::parents::{self, Directory, Missing};
use crate::commit::unsafe_name::check_relative;
use crate::commit::{CommitError, Notice};
use crate::process::locks::lock;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};

/// The number of remembered directories from which on closed ones are forgotten.
const MOST_REMEMBERED: usize = 1024;

/// The directory beneath which outputs lie. It is made if it is missing. A directory that was made is removed on
/// drop if nothing was published beneath it.
#[derive(Debug)]
pub struct OutputRoot {
    context: CommitContext,
    directory: Arc<Directory>,
    /// Directories beneath it that are in use, by relative path. All outputs of one directory share its descriptor
    /// and its lock.
    open: Mutex<HashMap<Box<str>, Weak<Directory>>>,
}

impl OutputRoot {
    /// Opens `path`, and makes it if it is missing. Symbolic links on the way to it are followed: the operator set
    /// them.
    ///
    /// # Errors
    /// The directory cannot be made or opened.
    pub fn open(context: &CommitContext, path: &Path) -> Result<Self, CommitError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let directory = Arc::new(Directory::at(path, context.new_directories())?);
        Ok(Self { context: context.clone(), directory, open: Mutex::default() })
    }

    pub(super) fn context(&self) -> &CommitContext {
        &self.context
    }

    /// The path, made absolute.
    pub fn path(&self) -> &Path {
        &self.directory.path
    }

    /// Keeps the directory on drop: something was published beneath it.
    pub(super) fn keep(&self) {
        self.directory.keep();
    }

    /// Opens the directory of the output `relative` and makes what is missing of it. `relative` must have passed
    /// [`check_relative`]. An open directory is shared as long as its path still leads to it.
    pub(super) fn directory_of(&self, relative: &str) -> Result<Arc<Directory>, CommitError> {
        let parents = parents_of(relative);
        let known = match parents {
            "" => Some(Arc::clone(&self.directory)),
            _ => lock(&self.open).get(parents).and_then(Weak::upgrade),
        };
        if let Some(directory) = known.filter(|directory| self.leads_to(parents, directory)) {
            return Ok(directory);
        }
        let directory = Arc::new(self.open_directory(parents)?);
        let mut open = lock(&self.open);
        if open.len() >= MOST_REMEMBERED {
            open.retain(|_, directory| directory.strong_count() > 0);
        }
        open.insert(parents.into(), Arc::downgrade(&directory));
        Ok(directory)
    }

    /// Whether the path `parents` still leads to `directory`.
    fn leads_to(&self, parents: &str, directory: &Directory) -> bool {
        let stat = rustix::fs::statat(&self.directory.fd, dot_if_empty(parents), AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| stat.st_nlink > 0 && directory.id == Some((stat.st_dev, stat.st_ino)))
    }

    fn open_directory(&self, parents: &str) -> Result<Directory, CommitError> {
        let mut path = self.directory.path.clone();
        if !parents.is_empty() {
            path.push(parents);
        }
        Directory::open_or_make(path, self.context.new_directories(), |made| {
            match open_beneath(&self.directory.fd, parents) {
                Ok(fd) => Ok(fd),
                // The walk finds the reason and the component.
                Err(_) => self.walk(parents, made),
            }
        })
    }

    /// Opens one component after the other, and makes those that are missing.
    fn walk(&self, parents: &str, made: &mut Missing<'_>) -> Result<OwnedFd, CommitError> {
        let mut path = self.directory.path.clone();
        let mut fd = open_beneath_slowly(&self.directory.fd, OsStr::new("."))
            .map_err(|errno| CommitError::refused("open directory", &path, errno))?;
        for name in parents.split('/').filter(|name| !name.is_empty()) {
            path.push(name);
            let is_new = match rustix::fs::mkdirat(&fd, name, Mode::RWXU) {
                Ok(()) => {
                    made.note(&path);
                    true
                }
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(CommitError::refused("create directory", &path, errno)),
            };
            fd = match open_beneath_slowly(&fd, OsStr::new(name)) {
                Ok(next) => next,
                Err(errno) => return Err(not_opened(&fd, name, &path, errno)),
            };
            if is_new {
                made.set_permissions(&fd, &path)?;
            }
        }
        Ok(fd)
    }
}

/// Checks the directories on the way to the output `relative` beneath `root` without making anything. See
/// [`super::check_way`].
///
/// # Errors
/// What is in the way.
pub fn check_way_beneath(root: &Path, relative: &str) -> Result<(), CommitError> {
    let unsafe_name = |why| CommitError::UnsafeName { name: relative.to_owned(), why };
    check_relative(root, relative).map_err(unsafe_name)?;
    parents::check_way(root)?;
    let mut path = root.to_owned();
    let Ok(mut fd) = parents::open(root) else { return Ok(()) };
    for name in parents_of(relative).split('/').filter(|name| !name.is_empty()) {
        path.push(name);
        fd = match open_beneath_slowly(&fd, OsStr::new(name)) {
            Ok(next) => next,
            Err(Errno::NOENT | Errno::ACCESS) => return Ok(()),
            Err(errno) => return Err(not_opened(&fd, name, &path, errno)),
        };
    }
    Ok(())
}

/// Opens the directory of the output `relative`; None if there is none, or if a symbolic link leads to it.
fn open_existing(root: &Path, relative: &str) -> Option<OwnedFd> {
    let root = parents::open(root).ok()?;
    if parents_of(relative).is_empty() {
        return Some(root);
    }
    match open_beneath(&root, parents_of(relative)) {
        Ok(fd) => Some(fd),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
        // The kernel or the sandbox has no openat2.
        Err(_) => {
            parents_of(relative).split('/').try_fold(root, |dir, name| open_beneath_slowly(&dir, OsStr::new(name)).ok())
        }
    }
}

impl CommitContext {
    /// [`Self::sweep_beside`] for the output `relative` beneath `root`, a name from a bucket: no symbolic link
    /// beneath `root` is followed.
    pub fn sweep_beneath(&self, root: &Path, relative: &str) -> Vec<Notice> {
        if check_relative(root, relative).is_err() {
            return Vec::new();
        }
        let path = root.join(relative);
        match (open_existing(root, relative), path.parent(), path.file_name()) {
            (Some(fd), Some(parent), Some(name)) => self.swept().sweep(fd.as_fd(), parents::id_of(&fd), parent, name),
            _ => Vec::new(),
        }
    }
}

/// The directories of an output: its relative path without the last component.
fn parents_of(relative: &str) -> &str {
    relative.rsplit_once('/').map_or("", |(parents, _)| parents)
}

fn open_beneath(root: &OwnedFd, parents: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, dot_if_empty(parents), flags, Mode::empty(), resolve)
}

fn dot_if_empty(parents: &str) -> &str {
    if parents.is_empty() { "." } else { parents }
}

/// Opens the directory `name` in `dir` without following a link. `name` must be one component, and not `..`.
fn open_beneath_slowly(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    debug_assert!(!name.as_encoded_bytes().contains(&b'/') && name != "..");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Why the component `name` of `path` could not be opened as a directory.
fn not_opened(dir: &OwnedFd, name: &str, path: &Path, errno: Errno) -> CommitError {
    match rustix::fs::statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).map(|s| FileType::from_raw_mode(s.st_mode)) {
        Ok(FileType::Symlink) => CommitError::IsSymlink { path: path.to_owned() },
        Ok(FileType::Directory) | Err(_) => CommitError::refused("open directory", path, errno),
        Ok(_) => CommitError::IsNoDirectory { path: path.to_owned() },
    }
}
