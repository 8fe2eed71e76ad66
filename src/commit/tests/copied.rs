//! Tests of databases that are staged in another directory and copied. `tests/all/restore_cli/append_only.rs` does it on
//! a file system that needs it; here every step fails.

use super::*;

/// The most operations that a publication may take.
const TO_THE_END: u32 = 40;

/// A new file for `path` that is staged in `staging`, written and synced.
fn staged(staging: &Path, permissions: Permissions, path: &Path, replace: Replace, content: &[u8]) -> StagedFile {
    let run = CommitContext::new(permissions, Some(staging.to_owned()));
    let destination = Arc::new(Destination::prepare(&run, path, replace).unwrap());
    let new = StagedFile::create_elsewhere(&destination, false, Errno::INVAL).unwrap();
    assert_eq!(new.output().path(), staging.join("app.db"));
    new.reserve(content.len() as u64).unwrap();
    new.output().pwrite_all(content, 0).unwrap();
    new.output().fsync().unwrap();
    new
}

fn copy_and_publish(new: StagedFile) -> Result<(), CommitError> {
    new.copied(&|| false)?.expect("nobody has cancelled").publish()?.sync_dir()
}

/// Runs in a child process: copies and publishes `app.db` and is killed at step number `nth`.
pub(super) fn publish_and_die(replace: Replace, nth: u32, content: &[u8]) {
    let path = Path::new("app.db");
    let _fault = inject(path, None, nth, Effect::Kill);
    copy_and_publish(staged(Path::new("/dev/shm"), Permissions::default(), path, replace, content)).unwrap();
}

fn several_pieces() -> Vec<u8> {
    (0..(5 << 19) + 7_u32).map(|i| (i % 251) as u8).collect()
}

#[test]
fn every_byte_is_copied_though_writes_are_short() {
    let (dir, staging) = (folder(false), folder(false));
    let (path, content) = (dir.path().join("app.db"), several_pieces());
    let fault = inject(&path, Some(Step::Write), 2, Effect::Short(100_000));
    copy_and_publish(staged(staging.path(), Permissions::default(), &path, Replace::Never, &content)).unwrap();
    assert!(fault.struck());
    assert_eq!(tree(dir.path()), files([("app.db", &*content)]));
    assert_eq!(tree(staging.path()).len(), 0);
}

#[test]
fn at_any_failing_step_the_old_one_stays_and_nothing_else() {
    let (dir, staging) = (folder(false), folder(false));
    let (path, content) = (dir.path().join("app.db"), several_pieces());
    for (step, least) in [(Step::Write, 3), (Step::Sync, 2), (Step::Publish, 2)] {
        for nth in 1..TO_THE_END {
            std::fs::write(&path, b"old").unwrap();
            let fault = inject(&path, Some(step), nth, Effect::Fail(Errno::IO));
            let new = staged(staging.path(), Permissions::default(), &path, Replace::Force, &content);
            let result = copy_and_publish(new);
            assert_eq!(tree(staging.path()).len(), 0);
            if !fault.struck() {
                result.unwrap();
                assert!(nth > least, "{step:?}: only {nth}");
                break;
            }
            // The removal of the old one is the only step that may fail once the new one is there.
            match result {
                Err(_) => assert_eq!(tree(dir.path()), files([("app.db", b"old")]), "{step:?} {nth}"),
                Ok(()) => assert!(step == Step::Publish && std::fs::read(&path).unwrap() == content, "{step:?} {nth}"),
            }
            assert_eq!(sweep(dir.path()), []);
            assert_eq!(tree(dir.path()).len(), 1);
        }
    }
}

#[test]
fn a_copy_that_is_given_up_is_deleted() {
    let (dir, staging) = (folder(false), folder(false));
    let (path, calls) = (dir.path().join("app.db"), std::cell::Cell::new(0));
    let new = staged(staging.path(), Permissions::default(), &path, Replace::Never, &several_pieces());
    let copied = new.copied(&|| {
        calls.set(calls.get() + 1);
        calls.get() == 2
    });
    assert!(copied.unwrap().is_none());
    assert_eq!((calls.get(), tree(dir.path()).len(), tree(staging.path()).len()), (2, 0, 0));
}

#[test]
fn what_is_staged_is_not_published_and_not_copied_before_it_is_synced() {
    let (dir, staging) = (folder(false), folder(false));
    let path = dir.path().join("app.db");
    let new = || staged(staging.path(), Permissions::default(), &path, Replace::Never, b"new");
    assert!(matches!(new().publish(), Err(CommitError::Internal { .. })));
    let unsynced = new();
    unsynced.output().pwrite_all(b"newer", 0).unwrap();
    assert!(matches!(unsynced.copied(&|| false), Err(CommitError::Internal { .. })));
    assert_eq!((tree(dir.path()).len(), tree(staging.path()).len()), (0, 0));
}

#[test]
fn the_copy_gets_the_mode_and_what_is_staged_is_private() {
    let (dir, staging) = (folder(false), folder(false));
    let path = dir.path().join("app.db");
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    let permissions = Permissions { mode: Some(0o646), ..Permissions::default() };
    let new = staged(staging.path(), permissions, &path, Replace::Never, b"new");
    assert_eq!(new.stat().unwrap().st_mode & 0o7777, 0o600);
    copy_and_publish(new).unwrap();
    assert_eq!(mode(&path), 0o646);
    // Without such a wish, it takes after the old one.
    copy_and_publish(staged(staging.path(), Permissions::default(), &path, Replace::Force, b"newer")).unwrap();
    assert_eq!((mode(&path), std::fs::read(&path).unwrap()), (0o646, b"newer".to_vec()));
}
