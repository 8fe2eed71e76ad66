//! What the file systems of the outputs can do. Each device is asked when the first file is made on it, before
//! anything is fetched, and the answers are kept for the run.
//!
//! - Can a file without a name (O_TMPFILE) get one? AppArmor and seccomp profiles refuse the link.
//! - Can a file be written in any order, and renamed while it is open? This is asked of file systems that are not
//!   known to do both, when a named file is made there.
//! - Does a name last that came after the sync (`journal`)?

use crate::commit::mounts::type_of;
use crate::commit::parents::DirectoryId;
use crate::commit::rename::is_no_way;
use crate::commit::sys::{UnnamedLinks, open_unnamed};
use crate::commit::temp_name::TempName;
use crate::commit::temporary::create_named;
use crate::commit::{CommitError, journal, rename};
use crate::io::{Step, fault_at, uninterrupted};
use crate::process::locks::lock;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

/// The number of remembered devices. Above it all are forgotten and asked again.
const MOST_REMEMBERED: usize = 1024;
/// The `f_type` of file systems that write in any order and rename open files: ext2 to ext4, XFS, Btrfs, tmpfs,
/// overlayfs, ZFS, F2FS, NFS.
const CAPABLE: [u64; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1, 0xf2f5_2010, 0x6969];
/// The offset of the write that shows whether a file can be written in any order.
const FAR: u64 = 4096;

/// The devices of a run.
#[derive(Debug, Default)]
pub(super) struct KnownDevices(Mutex<Vec<(u64, Arc<Device>)>>);

/// The answers of one device.
#[derive(Debug, Default)]
pub(super) struct Device {
    keeps_late_names: OnceLock<bool>,
    links_unnamed: OnceLock<bool>,
    lack: OnceLock<Option<Lack>>,
}

/// What a file system cannot do, in the words of the message, and its error for that.
type Lack = (&'static str, Errno);

impl KnownDevices {
    /// The device of a directory. If its ID is not known, nothing is remembered.
    pub(super) fn of(&self, id: Option<DirectoryId>) -> Arc<Device> {
        let Some((device, _)) = id else { return Arc::default() };
        let mut known = lock(&self.0);
        if let Some((_, answers)) = known.iter().find(|(known, _)| *known == device) {
            return Arc::clone(answers);
        }
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        let answers = Arc::<Device>::default();
        known.push((device, Arc::clone(&answers)));
        answers
    }
}

impl Device {
    /// See [`journal::keeps_late_names`]. `dir` must be on this device, as in all methods.
    pub(super) fn keeps_late_names(&self, dir: BorrowedFd<'_>) -> bool {
        *self.keeps_late_names.get_or_init(|| journal::keeps_late_names(dir))
    }

    /// Whether a file without a name can be linked. The first call links one beside `path` and removes it. True if an
    /// error says nothing about that, such as a full disk.
    pub(super) fn links_unnamed(&self, dir: BorrowedFd<'_>, path: &Path, links: &UnnamedLinks) -> bool {
        if let Some(known) = self.links_unnamed.get() {
            return *known;
        }
        debug_assert!(path.file_name().is_some(), "a destination has a file name");
        let name = TempName::plain(path.file_name().unwrap_or_default());
        let Ok(file) = open_unnamed(dir) else { return true };
        let linked = fault_at(path, Step::Probe).and_then(|_| links.link(file.as_fd(), dir, name.as_os_str()));
        match linked {
            Ok(()) => {
                if fault_at(path, Step::Probe).is_ok() {
                    let _ = rustix::fs::unlinkat(dir, name.as_os_str(), AtFlags::empty());
                }
                *self.links_unnamed.get_or_init(|| true)
            }
            Err(errno) if is_no_way(errno) || errno == Errno::NOENT => {
                tracing::debug!(target: "hydrant::commit", path = %path.display(), error = %errno,
                    "files without a name cannot be linked here: temporary files get names");
                *self.links_unnamed.get_or_init(|| false)
            }
            Err(_) => true,
        }
    }

    /// Checks that a named file can be written in any order and renamed while it is open. The first call tries it
    /// with a file of its own, on file systems that are not known to do both.
    ///
    /// # Errors
    /// [`CommitError::FileSystem`] names the file system.
    pub(super) fn check_named(&self, dir: BorrowedFd<'_>, path: &Path, name: &OsStr) -> Result<(), CommitError> {
        let lack = match self.lack.get() {
            Some(known) => *known,
            // An error that says nothing about the file system comes again when the file itself is made.
            None if !is_foreign(dir) => *self.lack.get_or_init(|| None),
            None => try_named(dir, name).map_or(None, |tried| *self.lack.get_or_init(|| tried)),
        };
        match lack {
            None => Ok(()),
            Some((what, errno)) => Err(not_fit(dir, path, what, errno)),
        }
    }
}

/// The error for a file system on which nothing can be restored.
pub(super) fn not_fit(dir: BorrowedFd<'_>, path: &Path, what: &'static str, errno: Errno) -> CommitError {
    let kind = type_of(dir).unwrap_or_else(|| "its type is not known".to_owned());
    CommitError::FileSystem { path: path.to_owned(), kind, what, errno }
}

/// Whether the file system of `dir` is one that programs provide (FUSE), or is not known.
pub(super) fn is_foreign(dir: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(dir).is_ok_and(|fs| !CAPABLE.contains(&(fs.f_type as u64)))
}

/// Tries what a named file needs, with a file that is to become `name`. An error says nothing about the file system.
pub(super) fn try_named(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Lack>, Errno> {
    let (file, made) = create_named(dir, name)?;
    let other = TempName::plain(name);
    let mut lack = None;
    match uninterrupted(|| rustix::io::pwrite(&file, &[0], FAR)) {
        Ok(_) => {}
        Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
            let _ = rustix::fs::unlinkat(dir, made.as_os_str(), AtFlags::empty());
            return Err(errno);
        }
        Err(errno) => lack = Some(("takes bytes in order only", errno)),
    }
    // gcsfuse renames only what it has stored.
    let _ = uninterrupted(|| rustix::fs::fsync(&file));
    let renamed = rename::to_random(dir, made.as_os_str(), other.as_os_str(), &|| Ok(()));
    if let Err(errno) = renamed
        && lack.is_none()
    {
        lack = Some(("does not rename a file that is open", errno));
    }
    drop(file);
    let left = if renamed.is_ok() { other } else { made };
    let _ = rustix::fs::unlinkat(dir, left.as_os_str(), AtFlags::empty());
    Ok(lack)
}
