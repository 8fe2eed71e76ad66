//! What /proc/self/mountinfo, statx and statfs tell about mounts.

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The `f_type` of file systems that write in any order and rename open files: ext2 to ext4, XFS, Btrfs, tmpfs,
/// overlayfs, ZFS, F2FS, NFS.
const CAPABLE: [u64; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1, 0xf2f5_2010, 0x6969];
/// The `f_type` of file systems that programs provide.
const FUSE: u64 = 0x6573_5546;

/// Whether the file system of `dir` is one that programs provide (FUSE), or is not known.
pub(super) fn is_foreign(dir: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(dir).is_ok_and(|fs| !CAPABLE.contains(&(fs.f_type as u64)))
}

/// Whether a program provides the file system of `dir` (FUSE).
pub(super) fn is_fuse(dir: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(dir).is_ok_and(|fs| fs.f_type as u64 == FUSE)
}

/// The type of the file system that `dir` is on, such as `fuse.rclone`. None if that cannot be found out.
pub(super) fn type_of(dir: BorrowedFd<'_>) -> Option<String> {
    let device = rustix::fs::fstat(dir).ok()?.st_dev;
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    mounts.split(|byte| *byte == b'\n').filter_map(Mount::parse).find(|mount| mount.device == device)?.kind
}

/// The length of the file `name` in `dir`, which the file system is asked for, not a cache of the kernel.
pub(super) fn stored_len(dir: BorrowedFd<'_>, name: &OsStr) -> Result<u64, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statx(dir, name, flags | AtFlags::STATX_FORCE_SYNC, StatxFlags::SIZE) {
        Ok(looked) => Ok(looked.stx_size),
        // Some sandboxes have no statx.
        Err(_) => rustix::fs::statat(dir, name, flags).map(|stat| u64::try_from(stat.st_size).unwrap_or(0)),
    }
}

/// Whether something is mounted on the file `name` itself: a container's bind mount of a single file.
pub(super) fn is_mount_point(dir: BorrowedFd<'_>, name: &OsStr) -> bool {
    let looked = rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    match looked {
        Ok(looked) if looked.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            looked.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        }
        // Before Linux 5.8 statx does not say it, and some sandboxes have no statx.
        _ => is_listed(dir, name).unwrap_or(false),
    }
}

/// Whether /proc/self/mountinfo has a mount at `name` in `dir`.
fn is_listed(dir: BorrowedFd<'_>, name: &OsStr) -> Option<bool> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok()?.join(name);
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    Some(mounts.split(|byte| *byte == b'\n').filter_map(Mount::parse).any(|mount| mount.point == path))
}

/// One line of /proc/self/mountinfo.
struct Mount {
    device: String,
    point: OsString,
    kind: Option<String>,
}

impl Mount {
    /// Parses `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS … - TYPE SOURCE OPTIONS`.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|byte| *byte == b' ');
        let device = String::from_utf8(words.nth(2)?.to_vec()).ok()?;
        let point = unescaped(words.nth(1)?);
        let kind = words.skip_while(|word| *word != b"-").nth(1);
        let kind = kind.map(|kind| String::from_utf8_lossy(&unescaped(kind).into_vec()).into_owned());
        Some(Self { device, point, kind })
    }
}

/// Undoes the escapes of the kernel: a backslash and three octal digits.
fn unescaped(word: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsStr::from_bytes(&bytes).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn lines_are_parsed() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - fuse.x\0411 /dev/root rw";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((&*mount.device, mount.point.to_str()), ("98:0", Some("/mnt 2")));
        assert_eq!(mount.kind.as_deref(), Some("fuse.x!1"));
        assert!(Mount::parse(b"36 35").is_none() && Mount::parse(b"").is_none());
    }

    #[test]
    fn roots_of_mounts_are_told_in_both_ways() {
        let Ok(root) = std::fs::File::open("/") else { return };
        for name in ["proc", "etc"] {
            let told = is_listed(root.as_fd(), OsStr::new(name));
            assert_eq!(told.unwrap_or(false), is_mount_point(root.as_fd(), OsStr::new(name)), "{name}");
        }
    }
}
