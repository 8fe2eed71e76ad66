//! File systems on which a file that gets its name late needs a second sync (docs/GUARANTEES.md, 2;
//! docs/decisions/09-unnamed-files.md).
//!
//! On ext4 without a journal (and ext2) an O_TMPFILE file that is linked later can be lost in a power failure
//! although file and directory were synced. The file's sync writes its inode with link count 0, the directory's
//! sync writes the name, and nothing writes the inode again. A check of the file system then finds a name of a
//! deleted file. Such a file is synced once more when it has its name. The second sync comes after the link, or
//! before the exchange if the file replaces another.
//!
//! A link alone does not mark the inode as changed, and before Linux 6.18.21 an fsync on ext4 without a journal
//! skipped an inode that was not marked. Calls that could mark it:
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

/// The `f_type` of ext2, ext3 and ext4.
const EXT_MAGIC: u64 = 0xef53;
/// The `f_type` of overlayfs, the root of most containers. The file system below it cannot be seen from within.
const OVERLAY_MAGIC: u64 = 0x794c_7630;
/// Whether a file in `dir` that is linked after its sync is durable once `dir` is synced. False if that cannot be
/// found out.
pub(super) fn keeps_late_names(dir: BorrowedFd<'_>) -> bool {
    looks_durable(dir).unwrap_or(false)
}

/// Marks the inode of `file` as changed, for its next fsync. Sets the file's times to now.
///
/// A refusal by the kernel is ignored: only kernels before 6.18.21 need the mark, and a restore must not fail
/// because, say, the file belongs to another user by now.
pub(super) fn mark_inode(file: impl AsFd) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ = rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now });
}

/// As [`keeps_late_names`], with the kernel's refusal.
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

/// Whether `journal`, a name in /proc/fs/jbd2, is the journal of `device`: `vda1-8` is inside `vda1`.
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
        assert!(!is_other || keeps_late_names(dir.as_fd()));
    }
}
