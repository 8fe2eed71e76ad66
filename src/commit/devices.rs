//! What the file systems of the outputs can do. Each device is asked when the first file is made on it, before
//! anything is fetched, and the answers are kept for the run.
//!
//! - Can a file without a name (O_TMPFILE) get one? AppArmor and seccomp profiles refuse the link.
//! - Can a file be written in any order, and renamed while it is open? If not, can it be written in order, closed and
//!   then renamed? This is asked of file systems that are not known to do the first two, when a named file is made
//!   there.
//! - Does a name last that came after the sync (`journal`)?

use crate::commit::mounts::{is_foreign, type_of};
use crate::commit::parents::DirectoryId;
use crate::commit::rename::is_no_way;
use crate::commit::sys::{UnnamedLinks, mode, open_unnamed};
use crate::commit::temp_name::TempName;
use crate::commit::temporary::{create_named, create_named_for, reopen_named};
use crate::commit::{CommitError, journal, rename};
use crate::io::{Step, close, fault_at, uninterrupted};
use crate::process::locks::lock;
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

/// The number of remembered devices. Above it all are forgotten and asked again.
const MOST_REMEMBERED: usize = 1024;
/// The offset of the write that shows whether a file can be written in any order.
const FAR: u64 = 4096;
/// What a file system that only appends cannot do, in the words of the message.
pub(super) const IN_ORDER_ONLY: &str = "takes bytes in order only";

/// The devices of a run.
#[derive(Debug, Default)]
pub(super) struct KnownDevices(Mutex<Vec<(u64, Arc<Device>)>>);

/// The answers of one device.
#[derive(Debug, Default)]
pub(super) struct Device {
    keeps_late_names: OnceLock<bool>,
    links_unnamed: OnceLock<bool>,
    fit: OnceLock<Fit>,
}

/// How a file system takes new files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Written in any order, and renamed while they are open.
    AnyOrder,
    /// Written in order only, and renamed once they are closed. The error is that of a write in another order.
    InOrder(Errno),
    /// Not at all: what it cannot do, in the words of the message, and its error for that.
    Unfit(&'static str, Errno),
}

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
        let Ok(file) = open_unnamed(dir, mode()) else { return true };
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

    /// How named files are taken. The first call tries it with files of its own that are to become `name`, on file
    /// systems that are not known.
    pub(super) fn fit(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Fit {
        match self.fit.get() {
            Some(known) => *known,
            None if !is_foreign(dir) => *self.fit.get_or_init(|| Fit::AnyOrder),
            // An error that says nothing about the file system comes again when the file itself is made.
            None => try_named(dir, name).map_or(Fit::AnyOrder, |tried| *self.fit.get_or_init(|| tried)),
        }
    }
}

/// The error for a file system on which nothing can be restored.
pub(super) fn not_fit(dir: BorrowedFd<'_>, path: &Path, what: &'static str, errno: Errno) -> CommitError {
    let kind = type_of(dir).unwrap_or_else(|| "its type is not known".to_owned());
    CommitError::FileSystem { path: path.to_owned(), kind, what, errno }
}

/// Tries what a named file needs, with files that are to become `name`. An error says nothing about the file system.
pub(super) fn try_named(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Fit, Errno> {
    let (file, made, refused) = match create_named(dir, name) {
        // Some have no files for both reading and writing (mountpoint-s3).
        Err(errno) if is_unknown(errno) => {
            let (file, made) = create_named_for(OFlags::WRONLY, mode(), dir, name)?;
            (file, made, Some(errno))
        }
        created => created.map(|(file, made)| (file, made, None))?,
    };
    // rclone stores a file that was not written to in the background, after its name was removed.
    let written = uninterrupted(|| rustix::io::pwrite(&file, &[0], 0))
        .and_then(|_| uninterrupted(|| rustix::io::pwrite(&file, &[0], FAR)));
    if let Some(errno) = written.err().or(refused) {
        drop(file);
        let removed = rustix::fs::unlinkat(dir, made.as_os_str(), AtFlags::empty());
        return match removed {
            _ if is_full(errno) => Err(errno),
            Ok(()) | Err(Errno::NOENT) => try_in_order(dir, name, errno),
            // mountpoint-s3 without --allow-delete. What is tried next would leave an object for ever.
            Err(errno) => Ok(Fit::Unfit("takes bytes in order only, and does not remove a file", errno)),
        };
    }
    // gcsfuse renames only what it has stored.
    let _ = uninterrupted(|| rustix::fs::fsync(&file));
    let other = TempName::plain(name);
    let renamed = rename::after_look(dir, made.as_os_str(), other.as_os_str(), &|| Ok(()));
    drop(file);
    let left = if renamed.is_ok() { other } else { made };
    let _ = rustix::fs::unlinkat(dir, left.as_os_str(), AtFlags::empty());
    Ok(renamed.map_or_else(|errno| Fit::Unfit("does not rename a file that is open", errno), |()| Fit::AnyOrder))
}

/// Tries what a copy in order needs, as [`try_named`]: a file is written, closed, opened again, and renamed as a new
/// database is. `unordered` is the error of a write in another order.
fn try_in_order(dir: BorrowedFd<'_>, name: &OsStr, unordered: Errno) -> Result<Fit, Errno> {
    let (file, made) = create_named_for(OFlags::WRONLY, mode(), dir, name)?;
    let other = TempName::plain(name);
    let written = uninterrupted(|| rustix::io::pwrite(&file, &[0], 0));
    let closed = close(file);
    let fit = match (written, closed) {
        (Err(errno), _) | (_, Err(errno)) if is_full(errno) => Err(errno),
        (Err(_), _) => Ok(Fit::Unfit(IN_ORDER_ONLY, unordered)),
        (_, Err(errno)) => Ok(Fit::Unfit("takes bytes in order only, and does not store a file", errno)),
        (Ok(_), Ok(())) => {
            let renamed = reopen_named(dir, &made)
                .and_then(|_locked| rename::after_look(dir, made.as_os_str(), other.as_os_str(), &|| Ok(())));
            Ok(match renamed {
                Ok(()) => Fit::InOrder(unordered),
                Err(errno) => {
                    Fit::Unfit("takes bytes in order only, and does not rename a file that it has stored", errno)
                }
            })
        }
    };
    for name in [made, other] {
        let _ = rustix::fs::unlinkat(dir, name.as_os_str(), AtFlags::empty());
    }
    fit
}

/// Whether a write failed because a disk is full or a file too large, which says nothing about its file system.
const fn is_full(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::FBIG)
}

/// Whether a file system says by `errno` that it has no files of that kind.
pub(super) const fn is_unknown(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS)
}
