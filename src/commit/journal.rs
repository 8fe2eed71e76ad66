//! Finds the file systems on which a file that gets its name after its fsync needs a second fsync
//! (docs/GUARANTEES.md, 2; docs/decisions/09-unnamed-files.md).
//!
//! The affected file systems are ext4 without a journal and ext2. An output is first an unnamed file
//! (O_TMPFILE), which is fsynced and then linked to its name. The first fsync writes the inode with link count
//! 0. The fsync of the directory writes the name. Nothing writes the inode again, so after a power failure the
//! file system check finds a name that points to a deleted inode, and removes it. Such a file is therefore
//! fsynced a second time: after it was linked to its final name or, if it replaces another file, under its
//! temporary name before the exchange.
//!
//! The second fsync needs help. link() does not mark the inode as changed, and Linux before 6.18.21 skips an
//! fsync of an unmarked inode on ext4 without a journal. This table lists the system calls that could mark the
//! inode, and which one is used:
//!
//! | call | used | reason |
//! |---|---|---|
//! | `utimensat`, both times now | yes | the owner and everybody with write permission may call it; it changes only the times |
//! | `utimensat`, both times omitted | no | the kernel returns before it looks at the file, so nothing is marked |
//! | `utimensat` with the times read before, `fchmod` with the mode read before | no | undoes what another program changes in between; only the owner may call it |
//! | `fchown` without ids | no | sandboxes kill the caller (systemd's `SystemCallFilter=~@privileged`, `~@chown`) |

use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `f_type` in statfs of ext2, ext3 and ext4, which share one number.
const EXT_MAGIC: u64 = 0xef53;
/// `f_type` in statfs of overlayfs, the root file system of most containers. A process cannot see which file
/// system is below it.
const OVERLAY_MAGIC: u64 = 0x794c_7630;
/// Whether a file in `dir` that is linked after its sync is durable once `dir` is synced. False if that cannot be
/// found out.
pub(super) fn keeps_late_names(dir: BorrowedFd<'_>) -> bool {
    looks_durable(dir).unwrap_or(false)
}

/// Sets both times of `file` to now, which marks its inode as changed, so that the next fsync writes the inode.
///
/// Errors are ignored. Only Linux before 6.18.21 needs the mark, and a restore must not fail because, for
/// example, the file was given to another user meanwhile.
pub(super) fn mark_inode(file: impl AsFd) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ = rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now });
}

/// Returns whether a file in `dir` that is linked after its fsync is durable once `dir` is synced, or the kernel's
/// error if that cannot be found out.
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

/// Returns whether `journal`, a name in /proc/fs/jbd2 such as `vda1-8`, is the journal of the block device
/// `device`, such as `vda1`. The number after `-` is the journal's inode.
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
        // The clock of file times advances only with the kernel's timer tick, so it can lag behind by some
        // milliseconds.
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
        assert!(!is_other || keeps_late_names(dir.as_fd()));
    }
}
