//! The path of an output, checked, with its open directory. All later steps are relative to that directory.

use super::parents::{self, Directory, DirectoryId};
use super::sidecars::{Replace, SIDECARS, suffixed};
use super::unsafe_name::check_relative;
use super::{CommitError, in_use};
use crate::commit::contained::OutputRoot;
use crate::commit::context::CommitContext;
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A checked destination. While it lives, other restores do not remove its directory. When the last destination in
/// a directory is dropped and nothing was published there, the directories that were made for it are removed.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    name: OsString,
    replace: Replace,
    context: CommitContext,
    directory: Arc<Directory>,
    // Declared after `directory`, so dropped after it: `directory` removes directories beneath the root.
    root: Option<Arc<OutputRoot>>,
}

/// What is at a destination.
#[derive(Debug, Clone, Copy)]
pub(super) enum Standing {
    Nothing,
    Empty(Stat),
    Database(Stat),
}

impl Destination {
    /// Opens the directory of `path`, makes its missing parents (mode 0700 less the umask), sweeps it once per
    /// context ([`CommitContext::sweep_beside`]), and checks `path` in the order of docs/CLI.md, "Order of checks". An
    /// existing empty file counts as absent.
    ///
    /// # Errors
    /// What is in the way, or a directory that cannot be opened or made. Symbolic links, files that are not
    /// regular, and a database that another process uses are refused, with [`Replace::Force`] too.
    pub fn prepare(context: &CommitContext, path: &Path, replace: Replace) -> Result<Self, CommitError> {
        let name = file_name(path)?;
        let directory = Arc::new(Directory::of(path, context.new_directories())?);
        Self { path: path.to_owned(), name, replace, context: context.clone(), directory, root: None }.checked()
    }

    /// As [`Self::prepare`], for `relative` (with slashes between its components) beneath `root`, a name from a
    /// bucket. The name is refused if it, or a symbolic link on its way, would lead out of `root`.
    ///
    /// # Errors
    /// As [`Self::prepare`]; [`CommitError::UnsafeName`], [`CommitError::IsNoDirectory`].
    pub fn prepare_beneath(root: &Arc<OutputRoot>, relative: &str, replace: Replace) -> Result<Self, CommitError> {
        let unsafe_name = |why| CommitError::UnsafeName { name: relative.to_owned(), why };
        check_relative(root.path(), relative).map_err(unsafe_name)?;
        let path = root.path().join(relative);
        let name = file_name(&path)?;
        let (context, directory) = (root.context().clone(), root.directory_of(relative)?);
        Self { path, name, replace, context, directory, root: Some(Arc::clone(root)) }.checked()
    }

    /// Sweeps its directory and checks what is there. An error drops it, which removes new directories.
    fn checked(self) -> Result<Self, CommitError> {
        // A new directory holds no leftovers. Notices are dropped here: the caller gets them from `sweep_beside`,
        // which it calls first.
        if !self.directory.is_new {
            drop(self.context.swept().sweep(self.dir(), self.directory.id, &self.directory.path, &self.name));
        }
        let standing = look_at(self.dir(), &self.name, &self.path, self.replace)?;
        // A new directory holds no sidecars. Sidecars that appear later are found by the publication.
        if !self.directory.is_new {
            look_at_sidecars(self.dir(), &self.name, &self.path, self.replace)?;
        }
        if !matches!(standing, Standing::Nothing) {
            in_use::hold(self.dir(), &self.name, &self.path)?;
        }
        Ok(self)
    }

    /// The path, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its directory was made for it, or for another destination of this run that still lives.
    pub fn is_in_new_directory(&self) -> bool {
        self.directory.is_new
    }

    pub(super) fn context(&self) -> &CommitContext {
        &self.context
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    pub(super) fn replace(&self) -> Replace {
        self.replace
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.directory.fd.as_fd()
    }

    pub(super) fn dir_path(&self) -> &Path {
        &self.directory.path
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(super) fn directory_id(&self) -> Option<DirectoryId> {
        self.directory.id
    }

    /// Keeps the directories that were made for it: something was published.
    pub(super) fn keep_parents(&self) {
        self.directory.keep();
        if let Some(root) = &self.root {
            root.keep();
        }
    }

    /// Whether there is certainly no sidecar beside it. False if the kernel refuses the look.
    pub(super) fn has_no_sidecar(&self) -> bool {
        SIDECARS.iter().all(|suffix| {
            let sidecar = rustix::fs::statat(self.dir(), suffixed(&self.name, suffix), AtFlags::SYMLINK_NOFOLLOW);
            matches!(sidecar, Err(Errno::NOENT | Errno::NAMETOOLONG))
        })
    }

    /// What is at the destination now.
    ///
    /// # Errors
    /// The reason why it must not be replaced.
    pub(super) fn standing(&self) -> Result<Standing, CommitError> {
        let standing = look_at(self.dir(), &self.name, &self.path, self.replace)?;
        look_at_sidecars(self.dir(), &self.name, &self.path, self.replace)?;
        Ok(standing)
    }
}

/// Checks the directories on the way to `output` without making anything, for runs that change nothing.
/// [`Destination::prepare`] finds the same obstacles: a dangling link, a loop of links, a file, a file system of
/// the kernel.
///
/// # Errors
/// What is in the way.
pub fn check_way(output: &Path) -> Result<(), CommitError> {
    parents::check_way(&parents::directory_of(output))
}

/// The last component of `path`, if it names a file.
fn file_name(path: &Path) -> Result<OsString, CommitError> {
    let bytes = path.as_os_str().as_bytes();
    let no_file = || CommitError::NotAFileName { path: path.to_owned() };
    if bytes.contains(&0) {
        return Err(no_file());
    }
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b"." || bytes.ends_with(b"..") && path.is_dir() {
        let is_dir = path.is_dir();
        return Err(if is_dir { CommitError::IsDirectory { path: path.to_owned() } } else { no_file() });
    }
    path.file_name().map(OsStr::to_owned).ok_or_else(no_file)
}

/// What is at `name` in `dir`. This comes first in docs/CLI.md, "Order of checks".
fn look_at(dir: BorrowedFd<'_>, name: &OsStr, path: &Path, replace: Replace) -> Result<Standing, CommitError> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(Standing::Nothing),
        Err(errno) => Err(CommitError::refused("look at", path, errno)),
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_size == 0 => Ok(Standing::Empty(stat)),
            FileType::RegularFile if replace == Replace::Never => Err(CommitError::Exists { path: path.to_owned() }),
            FileType::RegularFile => Ok(Standing::Database(stat)),
            FileType::Directory => Err(CommitError::IsDirectory { path: path.to_owned() }),
            FileType::Symlink => Err(CommitError::IsSymlink { path: path.to_owned() }),
            _ => Err(CommitError::NotRegular { path: path.to_owned() }),
        },
    }
}

/// Checks the sidecars beside `name`: without `-force` there must be none, with it none may be a directory.
fn look_at_sidecars(dir: BorrowedFd<'_>, name: &OsStr, path: &Path, replace: Replace) -> Result<(), CommitError> {
    for suffix in SIDECARS {
        let sidecar = PathBuf::from(suffixed(path.as_os_str(), suffix));
        match rustix::fs::statat(dir, suffixed(name, suffix), AtFlags::SYMLINK_NOFOLLOW) {
            // NAMETOOLONG: there can be no sidecar of that name.
            Err(Errno::NOENT | Errno::NAMETOOLONG) => {}
            Err(errno) => return Err(CommitError::refused("look at", &sidecar, errno)),
            Ok(_) if replace == Replace::Never => return Err(CommitError::SidecarExists { path: sidecar }),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(CommitError::IsDirectory { path: sidecar });
            }
            Ok(_) => {}
        }
    }
    Ok(())
}
