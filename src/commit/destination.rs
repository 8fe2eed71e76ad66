//! The checked path of an output file, and the open directory that it belongs to. All later steps use the
//! directory's file descriptor, so that a renamed directory cannot redirect them.

use super::parents::{self, Directory, DirectoryId};
use super::sidecars::{Replace, SIDECARS, suffixed};
use super::unsafe_name::check_relative;
use super::{CommitError, in_use, mounts};
use crate::commit::contained::OutputRoot;
use crate::commit::context::CommitContext;
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The checked path of an output file. While a `Destination` exists, no other restore removes its directory.
/// Directories that were created for it are removed again when the last `Destination` in them is dropped and
/// nothing was published there.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    name: OsString,
    replace: Replace,
    context: CommitContext,
    directory: Arc<Directory>,
    // `root` is declared after `directory` because fields are dropped in the order of declaration: dropping
    // `directory` removes new directories below `root`, which must happen before `root` removes itself.
    root: Option<Arc<OutputRoot>>,
}

/// What exists at the path of an output before the restore: nothing, an empty file, or a file with content.
#[derive(Debug, Clone, Copy)]
pub(super) enum Standing {
    Nothing,
    Empty(Stat),
    Database(Stat),
}

impl Destination {
    /// Opens the directory of `path`, creates its missing parents (mode 0700 minus the umask) and cleans up
    /// after killed runs there, once per context ([`CommitContext::sweep_beside`]). Then checks `path` in the
    /// order that docs/CLI.md, "Order of checks", lists. An existing file of 0 bytes counts as absent.
    ///
    /// # Errors
    /// [`CommitError`] if an existing file forbids the restore, or if the directory cannot be opened or
    /// created. Symbolic links, files that are not regular, and databases that another process uses are refused
    /// even with [`Replace::Force`].
    pub fn prepare(context: &CommitContext, path: &Path, replace: Replace) -> Result<Self, CommitError> {
        let name = file_name(path)?;
        let directory = Arc::new(Directory::of(path, context.new_directories())?);
        Self { path: path.to_owned(), name, replace, context: context.clone(), directory, root: None }.checked()
    }

    /// Does the same as [`Self::prepare`] for an output below `root` whose name comes from a bucket. `relative`
    /// is its path with `/` between the components. The name is refused if the name itself, or a symbolic link
    /// on the way, would lead out of `root`.
    ///
    /// # Errors
    /// The errors of [`Self::prepare`]. Also [`CommitError::UnsafeName`] for a name that is not allowed, and
    /// [`CommitError::IsNoDirectory`] if a file is where a directory must be.
    pub fn prepare_beneath(root: &Arc<OutputRoot>, relative: &str, replace: Replace) -> Result<Self, CommitError> {
        let unsafe_name = |why| CommitError::UnsafeName { name: relative.to_owned(), why };
        check_relative(root.path(), relative).map_err(unsafe_name)?;
        let path = root.path().join(relative);
        let name = file_name(&path)?;
        let (context, directory) = (root.context().clone(), root.directory_of(relative)?);
        Self { path, name, replace, context, directory, root: Some(Arc::clone(root)) }.checked()
    }

    /// Cleans up after killed runs in the directory and checks the existing file and its sidecars (-wal, -shm,
    /// -journal). On error `self` is dropped, which removes directories that were just created.
    fn checked(self) -> Result<Self, CommitError> {
        // A new directory cannot hold files of killed runs. The messages of this clean-up are dropped, because
        // callers that show messages have called `sweep_beside` before.
        if !self.directory.is_new {
            drop(self.context.swept().sweep(self.dir(), self.directory.id, &self.directory.path, &self.name));
        }
        let standing = look_at(self.dir(), &self.name, &self.path, self.replace)?;
        // A new directory holds no sidecars. Sidecars that another program creates later are found when the
        // output is published.
        if !self.directory.is_new {
            look_at_sidecars(self.dir(), &self.name, &self.path, self.replace)?;
        }
        if !matches!(standing, Standing::Nothing) {
            in_use::hold(self.dir(), &self.name, &self.path)?;
        }
        Ok(self)
    }

    /// Path of the output file, for messages, exactly as the caller gave it to [`Self::prepare`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the output's directory was created by this run, for this destination or for another one that
    /// still exists.
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

    /// Notes that the disk was found full. From then on the size of each database of this run is read before its files
    /// are fetched.
    pub fn note_disk_full(&self) {
        self.context.space().note_full();
    }

    /// Notes that an output was published here, so that the directories that were created for it are kept.
    pub(super) fn keep_parents(&self) {
        self.directory.keep();
        if let Some(root) = &self.root {
            root.keep();
        }
    }

    /// Returns true if certainly no sidecar (-wal, -shm or -journal) is beside the output. Returns false if the
    /// kernel refuses to say.
    pub(super) fn has_no_sidecar(&self) -> bool {
        SIDECARS.iter().all(|suffix| {
            let sidecar = rustix::fs::statat(self.dir(), suffixed(&self.name, suffix), AtFlags::SYMLINK_NOFOLLOW);
            matches!(sidecar, Err(Errno::NOENT | Errno::NAMETOOLONG))
        })
    }

    /// Returns what is at the destination now.
    ///
    /// # Errors
    /// [`CommitError`] that says why the existing file must not be replaced.
    pub(super) fn standing(&self) -> Result<Standing, CommitError> {
        let standing = look_at(self.dir(), &self.name, &self.path, self.replace)?;
        look_at_sidecars(self.dir(), &self.name, &self.path, self.replace)?;
        Ok(standing)
    }
}

/// Checks the directories on the way to `output` without creating anything, for `-dry-run`. It finds the same
/// obstacles as [`Destination::prepare`]: a dangling symbolic link, a loop of links, a file where a directory
/// must be, or a file system of the kernel such as /proc.
///
/// # Errors
/// [`CommitError`] that names the obstacle.
pub fn check_way(output: &Path) -> Result<(), CommitError> {
    parents::check_way(&parents::directory_of(output))
}

/// Returns the last component of `path`. It is an error if `path` names a directory or no file at all, as `a/`
/// and `..` do.
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

/// Determines what is at `name` in the directory `dir`. This is the first check in docs/CLI.md, "Order of
/// checks".
fn look_at(dir: BorrowedFd<'_>, name: &OsStr, path: &Path, replace: Replace) -> Result<Standing, CommitError> {
    let standing = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Standing::Nothing),
        Err(errno) => return Err(CommitError::refused("look at", path, errno)),
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_size == 0 => Ok(Standing::Empty(stat)),
            FileType::RegularFile if replace == Replace::Never => Err(CommitError::Exists { path: path.to_owned() }),
            FileType::RegularFile => Ok(Standing::Database(stat)),
            FileType::Directory => Err(CommitError::IsDirectory { path: path.to_owned() }),
            FileType::Symlink => Err(CommitError::IsSymlink { path: path.to_owned() }),
            _ => Err(CommitError::NotRegular { path: path.to_owned() }),
        },
    };
    if standing.is_ok() && mounts::is_mount_point(dir, name) {
        return Err(CommitError::MountPoint { path: path.to_owned() });
    }
    standing
}

/// Checks the sidecars (-wal, -shm, -journal) beside `name`. Without `-force` any sidecar is an error. With
/// `-force` only a directory with a sidecar's name is an error.
fn look_at_sidecars(dir: BorrowedFd<'_>, name: &OsStr, path: &Path, replace: Replace) -> Result<(), CommitError> {
    for suffix in SIDECARS {
        let sidecar = PathBuf::from(suffixed(path.as_os_str(), suffix));
        match rustix::fs::statat(dir, suffixed(name, suffix), AtFlags::SYMLINK_NOFOLLOW) {
            // ENAMETOOLONG: a sidecar's name would be longer than the file system allows, so no such sidecar
            // can exist.
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
