//! A checked destination: what stands there, and the open directory that all later steps are
//! relative to.

use super::parents::{self, Directory, DirectoryId};
use super::sidecars::{Replace, SIDECARS, suffixed};
use super::unsafe_name::check_relative;
use super::{CommitError, in_use};
use crate::commit::contained::OutputRoot;
use crate::commit::sweep;
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A checked destination. While it lives, its directory is not removed by other restores; when
/// it and the last other one in that directory are dropped and nothing was published, directories
/// that were made for them are removed.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    name: OsString,
    replace: Replace,
    directory: Arc<Directory>,
    // Dropped after `directory`, which removes what was made beneath it.
    root: Option<Arc<OutputRoot>>,
}

/// What stands at a destination.
#[derive(Debug, Clone, Copy)]
pub(super) enum Standing {
    Nothing,
    Empty(Stat),
    Database(Stat),
}

impl Destination {
    /// Puts right what killed runs left in the directory of `path`, once per process; checks `path` in
    /// CONTRACT's order and makes its missing parents (0700 less the umask). An existing empty file
    /// counts as absent.
    ///
    /// # Errors
    /// What stands in the way, or a directory that cannot be opened or made. Symbolic links and
    /// what is no regular file are refused, with [`Replace::Force`] too; so is a database that
    /// another process uses.
    pub fn prepare(path: &Path, replace: Replace) -> Result<Self, CommitError> {
        let name = file_name(path)?;
        Self::within(Arc::new(Directory::of(path)?), path.to_owned(), name, replace, None)
    }

    /// The same for the path `relative` (by slashes) beneath `root`, a name from a bucket: it is
    /// refused where it, or a symbolic link on its way, would lead anywhere else.
    ///
    /// # Errors
    /// As [`Self::prepare`]; [`CommitError::UnsafeName`], [`CommitError::IsNoDirectory`].
    pub fn prepare_beneath(root: &Arc<OutputRoot>, relative: &str, replace: Replace) -> Result<Self, CommitError> {
        let unsafe_name = |why| CommitError::UnsafeName { name: relative.to_owned(), why };
        check_relative(root.path(), relative).map_err(unsafe_name)?;
        let path = root.path().join(relative);
        let name = file_name(&path)?;
        Self::within(root.directory_of(relative)?, path, name, replace, Some(Arc::clone(root)))
    }

    fn within(
        directory: Arc<Directory>,
        path: PathBuf,
        name: OsString,
        replace: Replace,
        root: Option<Arc<OutputRoot>>,
    ) -> Result<Self, CommitError> {
        // From here on, its drop takes new directories away.
        let new = Self { path, name, replace, directory, root };
        // None can have been left in a new directory. What there is to say of it, `sweep_beside` says
        // to who calls it first.
        if !new.directory.is_new {
            drop(sweep::sweep(new.dir(), new.directory.id, &new.directory.path, &new.name));
        }
        let standing = look_at(new.dir(), &new.name, &new.path, new.replace)?;
        // There are none in a new directory; those that come later are found by the publication.
        if !new.directory.is_new {
            look_at_sidecars(new.dir(), &new.name, &new.path, new.replace)?;
        }
        if !matches!(standing, Standing::Nothing) {
            in_use::hold(new.dir(), &new.name, &new.path)?;
        }
        Ok(new)
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory was made for it or for others of this process, which are not all done yet.
    pub fn is_in_new_directory(&self) -> bool {
        self.directory.is_new
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

    /// Something was published: directories made for it stay.
    pub(super) fn keep_parents(&self) {
        self.directory.keep();
        if let Some(root) = &self.root {
            root.keep();
        }
    }

    /// Whether no sidecar stands beside it, for sure.
    pub(super) fn has_no_sidecar(&self) -> bool {
        SIDECARS.iter().all(|suffix| {
            let sidecar = rustix::fs::statat(self.dir(), suffixed(&self.name, suffix), AtFlags::SYMLINK_NOFOLLOW);
            matches!(sidecar, Err(Errno::NOENT | Errno::NAMETOOLONG))
        })
    }

    /// What stands there now, or why it may not be replaced.
    pub(super) fn standing(&self) -> Result<Standing, CommitError> {
        let standing = look_at(self.dir(), &self.name, &self.path, self.replace)?;
        look_at_sidecars(self.dir(), &self.name, &self.path, self.replace)?;
        Ok(standing)
    }
}

/// Says, and makes nothing, why no output can be made at `output`, as far as the directories on the way
/// tell: a dangling link, a loop of links, a file, a file system of the kernel. For runs that change
/// nothing; [`Destination::prepare`] finds out by itself.
///
/// # Errors
/// What is in the way.
pub fn check_way(output: &Path) -> Result<(), CommitError> {
    parents::check_way(&parents::directory_of(output))
}

/// The name that `path` gives a file in its directory.
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

/// What stands at `name` in `dir`, first in CONTRACT's order of checks.
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

/// Whether anything stands beside `name` that may not be there, or may not be taken away.
fn look_at_sidecars(dir: BorrowedFd<'_>, name: &OsStr, path: &Path, replace: Replace) -> Result<(), CommitError> {
    for suffix in SIDECARS {
        let sidecar = PathBuf::from(suffixed(path.as_os_str(), suffix));
        match rustix::fs::statat(dir, suffixed(name, suffix), AtFlags::SYMLINK_NOFOLLOW) {
            // A name too long for a sidecar has none.
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
