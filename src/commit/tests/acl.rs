//! Tests of `-force` over files with an ACL: nobody gets more than the old file gave.

use super::access::{ATTRIBUTE, VERSION};
use super::*;
use rustix::fs::XattrFlags;

const DEFAULT: &str = "system.posix_acl_default";

/// The owner and user 1000 may read and write, the owning group may only read: the mode is 0660.
fn list() -> Vec<u8> {
    let nobody = u32::MAX;
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, right, id) in [(1_u16, 6_u16, nobody), (2, 6, 1000), (4, 4, nobody), (0x10, 6, nobody), (0x20, 0, nobody)]
    {
        list.extend(tag.to_le_bytes());
        list.extend(right.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

fn list_of(path: &Path) -> Option<Vec<u8>> {
    let mut found = vec![0; 1024];
    let len = rustix::fs::lgetxattr(path, ATTRIBUTE, found.as_mut_slice()).ok()?;
    found.truncate(len);
    Some(found)
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

/// An old database with the list. None if the file system has no lists.
fn with_list(dir: &Path) -> Option<PathBuf> {
    let path = dir.join("app.db");
    std::fs::write(&path, b"old").unwrap();
    match rustix::fs::setxattr(&path, ATTRIBUTE, &list(), XattrFlags::empty()) {
        Ok(()) => Some(path),
        Err(errno) => {
            println!("skipped: no ACL can be set here: {errno}");
            None
        }
    }
}

#[test]
fn a_list_is_kept() {
    for named in [false, true] {
        let dir = folder(named);
        let Some(path) = with_list(dir.path()) else { return };
        assert_eq!(mode_of(&path), 0o660);
        commit(&path, Replace::Force, named, b"new").unwrap();
        assert_eq!((list_of(&path), mode_of(&path)), (Some(list()), 0o660));
    }
}

/// The mode's group bits are the mask, so they say that the group may write, before and after. It may not.
#[test]
fn each_may_do_what_each_might_before() {
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let Some(path) = with_list(dir.path()) else { return };
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root may be others");
    }
    std::os::unix::fs::chown(&path, Some(54_321), Some(54_322)).unwrap();
    // The owner, user 1000, a member of the owning group, another user: who may read and write.
    let rights = || {
        [(54_321, 54_321), (1000, 54_321), (54_323, 54_322), (54_323, 54_323)].map(|(user, group)| {
            let may = |what| ended(Command::new("test").arg(what).arg(&path).uid(user).gid(group)).status.success();
            (may("-r"), may("-w"))
        })
    };
    let before = rights();
    assert_eq!(before, [(true, true), (true, true), (true, false), (false, false)]);
    commit(&path, Replace::Force, true, b"new").unwrap();
    assert_eq!(rights(), before);
}

#[test]
fn a_list_that_cannot_be_kept_makes_the_mode_narrower() {
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = with_list(dir.path()) else { return };
    let output = ended(child_of("acl", dir.path()).env(SANDBOX, "no-acl"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The owning group could read.
    assert_eq!((list_of(&path), mode_of(&path)), (None, 0o640));

    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root may give files away");
    }
    // Another group than the one that could read.
    let Some(path) = with_list(dir.path()) else { return };
    std::os::unix::fs::chown(&path, None, Some(54_322)).unwrap();
    let output = ended(child_of("acl", dir.path()).env(SANDBOX, "no-chown"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((list_of(&path), mode_of(&path)), (None, 0o600));
}

pub(super) fn child() {
    commit(Path::new("app.db"), Replace::Force, true, b"new").unwrap();
}

/// A list that the new file would get from its directory.
#[test]
fn a_list_of_the_directory_adds_nobody() {
    for named in [false, true] {
        let dir = folder(named);
        if with_list(dir.path()).is_none() {
            return;
        }
        rustix::fs::setxattr(dir.path(), DEFAULT, &list(), XattrFlags::empty()).unwrap();
        let path = dir.path().join("other.db");
        std::fs::write(&path, b"old").unwrap();
        rustix::fs::removexattr(&path, ATTRIBUTE).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o660)).unwrap();
        commit(&path, Replace::Force, named, b"new").unwrap();
        assert_eq!((list_of(&path), mode_of(&path)), (None, 0o660));
    }
}
