//! Output files whose names come from keys in a bucket. Whoever can write to the bucket chooses these names, so
//! this file ensures that every output stays below the directory that the operator named (docs/GUARANTEES.md, 6
//! and 7).
//!
//! A name is first checked as text (`unsafe_name`). Then the output's directory is opened with the system call
//! `openat2` and the flags RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS. If that fails, because the kernel or a
//! sandbox does not offer `openat2` or because directories are missing, the path's components are opened one
//! after the other with O_NOFOLLOW, which is equally safe.

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

/// When 1,024 directories are remembered, those that are no longer open are forgotten, which bounds memory.
const MOST_REMEMBERED: usize = 1024;

/// The directory below which outputs with names from a bucket are written. [`Self::open`] creates the directory
/// if it is missing. If it was created and nothing was published below it, dropping this value removes it
/// again.
#[derive(Debug)]
pub struct OutputRoot {
    context: CommitContext,
    directory: Arc<Directory>,
    /// Directories below the root that are in use, by their path relative to the root. All outputs in one
    /// directory share its file descriptor and its flock.
    open: Mutex<HashMap<Box<str>, Weak<Directory>>>,
}

impl OutputRoot {
    /// Opens the directory `path`, and creates it if it is missing. Symbolic links on the way to it are
    /// followed, because the operator set them, not the bucket.
    ///
    /// # Errors
    /// [`CommitError`] if the directory cannot be created or opened.
    pub fn open(context: &CommitContext, path: &Path) -> Result<Self, CommitError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let directory = Arc::new(Directory::at(path, context.new_directories())?);
        Ok(Self { context: context.clone(), directory, open: Mutex::default() })
    }

    pub(super) fn context(&self) -> &CommitContext {
        &self.context
    }

    /// Absolute path of the directory below which all these outputs lie.
    pub fn path(&self) -> &Path {
        &self.directory.path
    }

    /// Notes that an output was published below the root, so that dropping this value does not remove the
    /// directory.
    pub(super) fn keep(&self) {
        self.directory.keep();
    }

    /// Opens the directory that the output `relative` belongs to, and creates its missing parts. The caller
    /// must have checked the name with [`check_relative`]. If the directory is open already, its descriptor is
    /// shared, unless the directory was moved or replaced since.
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

    /// Returns whether the relative path `parents` still leads to the open `directory`. It does not if another
    /// program has renamed, removed or replaced the directory.
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

    /// Opens the directory `parents` one component after the other, and creates the components that are
    /// missing.
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

/// Checks the directories between `root` and the output `relative`, without creating anything. A dry run uses
/// this to find the errors that a restore would meet. See also [`super::check_way`].
///
/// # Errors
/// [`CommitError`] that names the obstacle: an unsafe name, a symbolic link, or a file where a directory must
/// be.
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
            Err(Errno::NOENT) => {
                path.pop();
                break;
            }
            Err(Errno::ACCESS) => return Ok(()),
            Err(errno) => return Err(not_opened(&fd, name, &path, errno)),
        };
    }
    parents::check_writable(fd.as_fd(), Path::new("."), &path)
}

/// Opens the directory of the output `relative`. Returns None if the directory does not exist, or if a symbolic
/// link is on the way to it.
fn open_existing(root: &Path, relative: &str) -> Option<OwnedFd> {
    let root = parents::open(root).ok()?;
    if parents_of(relative).is_empty() {
        return Some(root);
    }
    match open_beneath(&root, parents_of(relative)) {
        Ok(fd) => Some(fd),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
        // The kernel or a sandbox does not offer openat2: open the components one after the other.
        Err(_) => {
            parents_of(relative).split('/').try_fold(root, |dir, name| open_beneath_slowly(&dir, OsStr::new(name)).ok())
        }
    }
}

impl CommitContext {
    /// Cleans up after killed runs in the directory of the output `relative` below `root`, as
    /// [`Self::sweep_beside`] does. `relative` is a name from a bucket, so no symbolic link below `root` is
    /// followed.
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

/// Returns the directory part of an output's relative path: the path without its last component.
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

/// Opens the directory `name` in `dir` with O_NOFOLLOW. `name` must be a single component and not `..`.
fn open_beneath_slowly(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    debug_assert!(!name.as_encoded_bytes().contains(&b'/') && name != "..");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Returns the error for a component `name` that could not be opened as a directory: a symbolic link, a file,
/// or the kernel's error `errno`. `path` is the whole path up to `name`.
fn not_opened(dir: &OwnedFd, name: &str, path: &Path, errno: Errno) -> CommitError {
    match rustix::fs::statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).map(|s| FileType::from_raw_mode(s.st_mode)) {
        Ok(FileType::Symlink) => CommitError::IsSymlink { path: path.to_owned() },
        Ok(FileType::Directory) | Err(_) => CommitError::refused("open directory", path, errno),
        Ok(_) => CommitError::IsNoDirectory { path: path.to_owned() },
    }
}
