//! Who may use the new file under `-force`: as far as permitted those who might use the old one, and never more
//! (docs/GUARANTEES.md, 24).
//!
//! In a file with an ACL (access control list) the mode's group bits are the mask: the most that any user or group
//! of the list may do. The owning group's own rights are in the list. So the list is copied. If that is refused, the
//! new file gets no list, and a mode that gives nobody more than the list gave.

use crate::io::OutputFile;
use rustix::fs::{Gid, Mode, OFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

/// The extended attribute that holds the ACL.
pub(super) const ATTRIBUTE: &str = "system.posix_acl_access";
/// The most that the kernel returns of an attribute.
const MOST_BYTES: usize = 64 << 10;
/// The version of the attribute's format.
pub(super) const VERSION: u32 = 2;

/// Copies owner, group, ACL and mode of `old`, the file `name` in `dir` that is to be replaced, as far as permitted.
/// If the group cannot be kept, the new group gets the permissions that others had.
pub(super) fn take_after(new: &OutputFile, dir: BorrowedFd<'_>, name: &OsStr, old: &Stat, has_own_group: bool) {
    // A group that the operator asked for gets the permissions of the old group.
    let keeps_group = take_owner(new, old) || has_own_group;
    let of_old = Rights::of(dir, name, old);
    let mut mode = of_old.mode;
    if !keeps_group {
        let others = mode & 0o007;
        mode &= 0o707 | others << 3;
    }
    // The new file may have got a list from its directory. The mode must not widen that one.
    let is_without = match rustix::fs::fremovexattr(new, ATTRIBUTE) {
        Ok(()) => true,
        Err(errno) => is_none(errno),
    };
    if !is_without {
        mode &= 0o707;
    }
    let _ = rustix::fs::fchmod(new, Mode::from_raw_mode(mode));
    if keeps_group
        && is_without
        && let Some(list) = &of_old.list
    {
        let _ = rustix::fs::fsetxattr(new, ATTRIBUTE, list, XattrFlags::empty());
    }
}

/// What a file grants.
struct Rights {
    /// The mode of a file without a list that gives nobody more.
    mode: u32,
    /// Its ACL as the kernel returns it.
    list: Option<Vec<u8>>,
}

impl Rights {
    fn of(dir: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Self {
        let mode = stat.st_mode & 0o777;
        match read_list(dir, name) {
            Err(errno) if is_none(errno) || errno == Errno::NOENT => Self { mode, list: None },
            Ok(list) => Self { mode: narrowed(mode, &list).unwrap_or(mode & 0o700), list: Some(list) },
            Err(_) => Self { mode: mode & 0o700, list: None },
        }
    }
}

/// Whether the error says that a file has no list, or that its file system has none.
const fn is_none(errno: Errno) -> bool {
    matches!(errno, Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)
}

/// Reads the ACL of the file `name` in `dir`.
fn read_list(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Vec<u8>, Errno> {
    // By a path and not by a descriptor of the file: to open it takes the right to read it.
    let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    let mut list = vec![0; MOST_BYTES];
    let len = match rustix::fs::lgetxattr(&path, ATTRIBUTE, list.as_mut_slice()) {
        // There is no /proc.
        Err(Errno::NOENT) => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
            rustix::fs::fgetxattr(&file, ATTRIBUTE, list.as_mut_slice())?
        }
        len => len?,
    };
    list.truncate(len);
    Ok(list)
}

/// The mode without a list that gives nobody more than `mode` and `list` do together. None if the list is malformed.
fn narrowed(mode: u32, list: &[u8]) -> Option<u32> {
    let (version, entries) = list.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || !entries.len().is_multiple_of(8) {
        return None;
    }
    // The rights of the owning group, of the mask, and the rights that every named user and group has.
    let (mut group, mut mask, mut named) = (None, 0o7, 0o7);
    for entry in entries.chunks_exact(8) {
        let [tag, _, right, _, ..] = *entry else { return None };
        let right = u32::from(right) & 0o7;
        match tag {
            0x01 | 0x20 => {}
            0x02 | 0x08 => named &= right,
            0x04 => group = Some(right),
            0x10 => mask = right,
            _ => return None,
        }
    }
    // Without the list, those who were named count as members of the group or as others.
    let most = named & mask;
    let group = group? & mask & if named == 0o7 { 0o7 } else { most };
    let others = mode & if named == 0o7 { 0o7 } else { most };
    Some(mode & 0o700 | group << 3 | others)
}

/// Copies owner and group. Returns whether the group is the old one. Calls chown only for what differs: a sandbox can
/// kill the caller of chown (systemd's `SystemCallFilter=~@privileged`), and most databases belong to the user who
/// restores them.
fn take_owner(new: &OutputFile, old: &Stat) -> bool {
    let is = rustix::fs::fstat(new).ok();
    let owner = is.is_none_or(|is| is.st_uid != old.st_uid).then(|| Uid::from_raw(old.st_uid));
    let group = is.is_none_or(|is| is.st_gid != old.st_gid).then(|| Gid::from_raw(old.st_gid));
    let chown = |owner, group| rustix::fs::fchown(new, owner, group).is_ok();
    match (owner, group) {
        (None, None) => true,
        // The group is the same already, whether the owner can be kept or not.
        (owner, None) => {
            chown(owner, None);
            true
        }
        (owner, group) => chown(owner, group) || (owner.is_some() && chown(None, group)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of entries: tag, right, ID.
    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut list = VERSION.to_le_bytes().to_vec();
        for (tag, right, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(right.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        list
    }

    const NOBODY: u32 = u32::MAX;

    #[test]
    fn a_mode_instead_of_a_list_gives_nobody_more() {
        // The owning group may nothing, bob may read and write: the mode is 0660.
        let bob = |right, group, other| {
            list(&[(1, 6, NOBODY), (2, right, 1000), (4, group, NOBODY), (0x10, 6, NOBODY), (0x20, other, NOBODY)])
        };
        assert_eq!(narrowed(0o660, &bob(6, 0, 0)), Some(0o600));
        assert_eq!(narrowed(0o664, &bob(6, 4, 4)), Some(0o644));
        // Bob may nothing: nobody may who could be bob.
        assert_eq!(narrowed(0o664, &bob(0, 4, 4)), Some(0o600));
        // The mask narrows.
        let masked = list(&[(1, 6, NOBODY), (4, 6, NOBODY), (0x10, 4, NOBODY), (0x20, 0, NOBODY)]);
        assert_eq!(narrowed(0o640, &masked), Some(0o640));
        let mut malformed = masked.clone();
        malformed.pop();
        for broken in [&malformed[..], &masked[..4], &masked[..12], &[], &list(&[(0x40, 6, 0)])] {
            assert_eq!(narrowed(0o664, broken), None);
        }
    }
}
