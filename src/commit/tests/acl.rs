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
