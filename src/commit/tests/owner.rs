//! Tests of owners and modes that the operator asked for.

use super::*;

fn run_with(permissions: Permissions) -> CommitContext {
    CommitContext::new(permissions, None)
}

fn seen(path: &Path) -> (u32, u32, u32) {
    let stat = std::fs::metadata(path).unwrap();
    (stat.uid(), stat.gid(), stat.mode() & 0o7777)
}

#[test]
fn the_umask_does_not_apply_to_modes_that_were_asked_for() {
    let permissions = Permissions { mode: Some(0o666), dir_mode: Some(0o777), ..Permissions::default() };
    for named in [false, true] {
        let dir = folder(named);
        let path = dir.path().join("new/deep/app.db");
        unpublished_by(&run_with(permissions), &path, Replace::Never, named, b"new")
            .unwrap()
            .publish()
            .unwrap()
            .sync_dir()
            .unwrap();
        assert_eq!(seen(&path).2, 0o666);
        assert_eq!((seen(&dir.path().join("new")).2, seen(&dir.path().join("new/deep")).2), (0o777, 0o777));
    }
}

#[test]
fn names_from_a_bucket_get_them_too_and_what_was_there_stays() {
    let permissions = Permissions { mode: Some(0o604), dir_mode: Some(0o711), ..Permissions::default() };
    let dir = folder(false);
    std::fs::create_dir(dir.path().join("old")).unwrap();
    let old = seen(&dir.path().join("old"));
    let root = Arc::new(OutputRoot::open(&run_with(permissions), dir.path()).unwrap());
    let destination = Destination::prepare_beneath(&root, "old/new/app.db", Replace::Never).unwrap();
    let new = Arc::new(destination).create(false).unwrap();
    new.output().fsync().unwrap();
    new.publish().unwrap().sync_dir().unwrap();
    assert_eq!((seen(&dir.path().join("old")), seen(&dir.path().join("old/new")).2), (old, 0o711));
    assert_eq!(seen(&dir.path().join("old/new/app.db")).2, 0o604);
}

#[test]
fn an_owner_that_was_asked_for_is_stronger_than_that_of_the_old_file() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root may give files away");
    }
    let dir = folder(false);
    let path = dir.path().join("app.db");
    for (permissions, expected) in [
        (Permissions::default(), (11, 12, 0o640)),
        (Permissions { user: Some(21), ..Permissions::default() }, (21, 12, 0o640)),
        (Permissions { group: Some(22), ..Permissions::default() }, (11, 22, 0o640)),
        (Permissions { user: Some(21), group: Some(22), mode: Some(0o600), dir_mode: None }, (21, 22, 0o600)),
    ] {
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(&path, Some(11), Some(12)).unwrap();
        unpublished_by(&run_with(permissions), &path, Replace::Force, false, b"new")
            .unwrap()
            .publish()
            .unwrap()
            .sync_dir()
            .unwrap();
        assert_eq!(seen(&path), expected, "{permissions:?}");
    }
}

#[test]
fn an_owner_that_cannot_be_set_fails_before_anything_is_written() {
    if rustix::process::geteuid().is_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let output = child_of("may-not-chown", dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(tree(dir.path()), files([]));
    } else {
        cannot_give_away(&tempfile::tempdir().unwrap().path().join("app.db"));
    }
}

/// Runs under a filter that refuses chown.
pub(super) fn where_chown_is_refused() {
    let refused = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    crate::io::limits_tests::filter(&[libc::SYS_fchown, libc::SYS_fchownat], refused);
    cannot_give_away(Path::new("app.db"));
    cannot_give_away(Path::new("new/app.db"));
}

fn cannot_give_away(path: &Path) {
    let permissions = Permissions { user: Some(21), ..Permissions::default() };
    let error = unpublished_by(&run_with(permissions), path, Replace::Never, false, b"new").unwrap_err();
    assert!(error.to_string().starts_with("cannot set owner and mode of "), "{error}");
}
