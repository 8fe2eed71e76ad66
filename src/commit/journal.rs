//! Where a file that began without a name may not survive a power failure although it was given
//! one, and its directory synced (PROMISES 2).
//!
//! ext4 without a journal, and ext2: the file's sync writes an inode that nothing links to, the
//! directory's sync writes the name, and nothing writes the inode again. A check of the file
//! system then finds a name that leads to a deleted file. So such a file is synced once more when it
//! has its name, which writes its inode (and those of its neighbours in that block): after the link, or
//! where it is to take another file's place, before.
//!
//! The link alone does not mark the inode, and until Linux 6.18.21 ext4 without a journal left an
//! inode that is not marked out of an fsync. Of the calls that mark it:
//!
//! | call | why, or why not |
//! |---|---|
//! | `utimensat`, both times now | allowed to the owner and to who may write; changes nothing else, and a program that changes the file at the same moment loses nothing |
//! | `utimensat`, both omitted | the kernel returns before it looks at the file: nothing is marked |
//! | `utimensat` with the times read before, `fchmod` with the mode read before | would undo what another program changes in between; for the owner alone |
//! | `fchown` without ids | sandboxes kill whoever calls it (systemd's `SystemCallFilter=~@privileged`, `~@chown`) |

use super::parents::DirectoryId;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What ext2, ext3 and ext4 say they are.
const EXT_MAGIC: u64 = 0xef53;
/// A container's own root, on top of a file system that cannot be seen from within.
const OVERLAY_MAGIC: u64 = 0x794c_7630;
/// Devices remembered; past that they are looked at again.
const MOST_REMEMBERED: usize = 1024;
/// What is known of devices, by their numbers.
static KNOWN: Mutex<Vec<(u64, bool)>> = Mutex::new(Vec::new());

/// Whether a name that is given late to a file in `dir` is durable with its directory. False
/// where that cannot be told.
pub(super) fn keeps_late_names(dir: BorrowedFd<'_>, id: Option<DirectoryId>) -> bool {
    let Some((device, _)) = id else { return looks_durable(dir).unwrap_or(false) };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, keeps)) = known.iter().find(|(known, _)| *known == device) {
        return *keeps;
    }
    let keeps = looks_durable(dir).unwrap_or(false);
    if known.len() >= MOST_REMEMBERED {
        known.clear();
    }
    known.push((device, keeps));
    keeps
}

/// Marks the inode of `file` as changed, for its next fsync. The times of the file become now.
///
/// A refusal is no error: the file has its name by then, and whoever refuses this (a file that was
/// given to another user) is no reason to call it failed. Only kernels before 6.18.21 need the mark.
pub(super) fn mark_inode(file: impl AsFd) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ = rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now });
}

fn looks_durable(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    match rustix::fs::fstatfs(dir)?.f_type as u64 {
        EXT_MAGIC => {}
        other => return Ok(other != OVERLAY_MAGIC),
    }
    let device = rustix::fs::fstat(dir)?.st_dev;
    let link = format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let (Ok(device), Ok(journals)) = (std::fs::read_link(link), Path::new("/proc/fs/jbd2").read_dir()) else {
        return Ok(false);
    };
    let Some(device) = device.file_name() else { return Ok(false) };
    Ok(journals.flatten().any(|journal| is_journal_of(&journal.file_name(), device)))
}

/// `vda1-8` is the journal inside `vda1`.
fn is_journal_of(journal: &OsStr, device: &OsStr) -> bool {
    let inode = journal.as_bytes().strip_prefix(device.as_bytes()).and_then(|rest| rest.strip_prefix(b"-"));
    inode.is_some_and(|inode| !inode.is_empty() && inode.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_mark_changes_times_and_nothing_else() {
        let file = tempfile::tempfile().unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        file.set_modified(long_ago).unwrap();
        let before = file.metadata().unwrap();
        let earliest = SystemTime::now() - Duration::from_secs(60);
        mark_inode(&file);
        let after = file.metadata().unwrap();
        // The clock of file times lags behind by a tick.
        assert!(after.modified().unwrap() > earliest, "{after:?}");
        assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    }

    #[test]
    fn journals_are_told_by_their_names() {
        let is = |journal: &str, device: &str| is_journal_of(OsStr::new(journal), OsStr::new(device));
        assert!(is("vda1-8", "vda1") && is("dm-0-8", "dm-0") && is("nvme0n1p1-8", "nvme0n1p1"));
        assert!(!is("vda1-8", "vda") && !is("vda10-8", "vda1") && !is("vda1", "vda1") && !is("dm-0-8", "dm"));
    }

    #[test]
    fn other_file_systems_need_no_journal() {
        let Ok(dir) = std::fs::File::open("/dev/shm") else { return };
        let magic = rustix::fs::fstatfs(&dir).map(|fs| fs.f_type as u64);
        let is_other = magic.is_ok_and(|magic| magic != EXT_MAGIC && magic != OVERLAY_MAGIC);
        assert!(!is_other || keeps_late_names(dir.as_fd(), None));
    }
}
