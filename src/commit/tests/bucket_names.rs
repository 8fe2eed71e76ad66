//! Tests of outputs whose names come from a bucket and that must stay below one directory.

use crate::commit::tests::*;
use crate::error::Class;
use std::os::fd::AsRawFd;

fn publish_beneath(root: &Path, relative: &str) -> Result<(), CommitError> {
    let root = Arc::new(open_root(root)?);
    let destination = Arc::new(Destination::prepare_beneath(&root, relative, Replace::Never)?);
    let new = destination.create(false)?;
    new.output().fsync()?;
    new.publish()?.sync_dir()
}

#[test]
fn directories_are_made_and_what_was_made_in_vain_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/out");
    let root = Arc::new(open_root(&out).unwrap());
    let destination = Destination::prepare_beneath(&root, "a/b/c.db", Replace::Never).unwrap();
    assert_eq!(destination.path(), out.join("a/b/c.db"));
    assert!(out.join("a/b").is_dir());
    drop(destination);
    assert!(!out.join("a").exists() && out.is_dir());
    drop(root);
    assert!(tree(dir.path()).is_empty());

    publish_beneath(&out, "a/b/c.db").unwrap();
    publish_beneath(&out, "a/d.db").unwrap();
    publish_beneath(&out, "e.db").unwrap();
    assert!(["a/b/c.db", "a/d.db", "e.db"].iter().all(|file| out.join(file).is_file()));
    assert_eq!(out.join("a").metadata().unwrap().permissions().mode() & 0o077, 0);
    // An existing file of 0 bytes counts as absent. An existing directory does not.
    publish_beneath(&out, "e.db").unwrap();
    assert!(matches!(publish_beneath(&out, "a/b"), Err(CommitError::IsDirectory { .. })));
}

#[test]
fn links_and_files_on_the_way_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (out, elsewhere) = (dir.path().join("out"), dir.path().join("elsewhere"));
    std::fs::create_dir_all(out.join("real")).unwrap();
    std::fs::create_dir_all(elsewhere.join("sub")).unwrap();
    std::fs::write(out.join("file"), b"x").unwrap();
    std::os::unix::fs::symlink(&elsewhere, out.join("link")).unwrap();
    std::os::unix::fs::symlink("../../elsewhere", out.join("real/up")).unwrap();
    std::os::unix::fs::symlink("real", out.join("inside")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("canary"), out.join("dangling")).unwrap();
    for relative in ["link/x.db", "link/sub/x.db", "real/up/x.db", "inside/x.db", "dangling", "dangling/x.db"] {
        let error = publish_beneath(&out, relative).unwrap_err();
        assert!(matches!(error, CommitError::IsSymlink { .. }), "{relative}: {error}");
        assert_eq!(error.class(), Class::UnsafePath);
    }
    let error = publish_beneath(&out, "file/x.db").unwrap_err();
    assert_eq!(error.class(), Class::PathCollision, "{error}");
    for relative in ["../elsewhere/x.db", "/x.db", "real//x.db", "real/../../x.db", ""] {
        let error = publish_beneath(&out, relative).unwrap_err();
        assert!(matches!(error, CommitError::UnsafeName { .. }), "{relative}: {error}");
    }
    assert_eq!(tree(&elsewhere).len(), 1, "nothing came to stand elsewhere");
    assert!(tree(&elsewhere.join("sub")).is_empty());
    // The output directory that the operator names may be a symbolic link. Only links below it are refused.
    publish_beneath(&out.join("link"), "x.db").unwrap();
    assert!(elsewhere.join("x.db").is_file());
}

#[test]
fn a_name_that_the_file_system_has_no_room_for_is_unsafe() {
    let dir = tempfile::tempdir().unwrap();
    publish_beneath(dir.path(), &"n".repeat(255)).unwrap();
    let error = prepare(&dir.path().join("n".repeat(256)), Replace::Never).unwrap_err();
    assert_eq!(error.class(), Class::UnsafePath, "{error}");
}

/// Outputs in one directory share its file descriptor, but only as long as the directory's path leads to it.
#[test]
fn a_directory_is_shared_while_its_name_leads_there() {
    let dir = tempfile::tempdir().unwrap();
    let root = Arc::new(open_root(&dir.path().join("out")).unwrap());
    let commit = |relative: &str| {
        let destination = Arc::new(Destination::prepare_beneath(&root, relative, Replace::Never)?);
        let new = destination.create(false)?;
        new.output().fsync()?;
        new.publish()?.sync_dir()
    };
    let at = |name: &str| dir.path().join("out").join(name);
    let held = Destination::prepare_beneath(&root, "a/1.db", Replace::Never).unwrap();
    let other = Destination::prepare_beneath(&root, "a/2.db", Replace::Never).unwrap();
    assert_eq!(held.dir().as_raw_fd(), other.dir().as_raw_fd());

    // The directory was renamed, so a new one is created for the next output.
    std::fs::rename(at("a"), at("moved")).unwrap();
    commit("a/3.db").unwrap();
    assert!(at("a/3.db").is_file() && tree(&at("moved")).is_empty());
    // A symbolic link back to the renamed directory, or a file, now has the directory's name: both are refused.
    for link in [true, false] {
        std::fs::remove_dir_all(at("a")).unwrap();
        if link {
            std::os::unix::fs::symlink("moved", at("a")).unwrap();
            assert!(matches!(commit("a/4.db"), Err(CommitError::IsSymlink { .. })));
            std::fs::remove_file(at("a")).unwrap();
        } else {
            std::fs::write(at("a"), b"").unwrap();
            assert!(matches!(commit("a/4.db"), Err(CommitError::IsNoDirectory { .. })));
            std::fs::remove_file(at("a")).unwrap();
        }
        std::fs::create_dir(at("a")).unwrap();
    }
    // The directory was removed while it was open, so it is created again.
    let open = Destination::prepare_beneath(&root, "a/5.db", Replace::Never).unwrap();
    std::fs::remove_dir(at("a")).unwrap();
    commit("a/6.db").unwrap();
    assert!(at("a/6.db").is_file());
    drop((held, other, open));
    assert!(at("a/6.db").is_file() && tree(&at("moved")).is_empty());
}

/// The first of two outputs creates the directory. The directory stays while one of the outputs exists, and is
/// removed when both were dropped without being published.
#[test]
fn a_shared_directory_goes_with_the_last_who_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let root = Arc::new(open_root(dir.path()).unwrap());
    let prepare = |relative| Arc::new(Destination::prepare_beneath(&root, relative, Replace::Never).unwrap());
    let (first, second) = (prepare("a/b/1.db"), prepare("a/b/2.db"));
    drop(first);
    assert!(dir.path().join("a/b").is_dir());
    drop(second);
    assert!(tree(dir.path()).is_empty());
    let (first, second) = (prepare("a/b/1.db"), prepare("a/b/2.db"));
    let new = second.create(false).unwrap();
    drop(second);
    new.output().fsync().unwrap();
    drop(first);
    new.publish().unwrap().sync_dir().unwrap();
    assert_eq!(tree(&dir.path().join("a/b")), files([("2.db", b"")]));
}

/// Files that appear in a directory after this run created it are found at the latest when the output is
/// published.
#[test]
fn what_comes_into_a_new_directory_is_not_overlooked() {
    for name in ["x.db", "x.db-wal", "x.db-shm", "x.db-journal"] {
        let dir = tempfile::tempdir().unwrap();
        let root = Arc::new(open_root(&dir.path().join("out")).unwrap());
        std::fs::write(dir.path().join("out").join(name), b"theirs").unwrap();
        let error = Destination::prepare_beneath(&root, "x.db", Replace::Never)
            .and_then(|destination| Arc::new(destination).create(false))
            .and_then(|new| {
                new.output().fsync()?;
                new.publish()?.sync_dir()
            })
            .unwrap_err();
        match name {
            "x.db" => assert!(matches!(error, CommitError::Exists { .. }), "{error:?}"),
            _ => assert!(matches!(error, CommitError::SidecarExists { .. }), "{error:?}"),
        }
        assert_eq!(tree(&dir.path().join("out")), files([(name, b"theirs")]));
    }
}

/// Two paths lead to one new directory. Both outputs make its name durable, whichever path it was created by.
#[test]
fn a_directory_that_has_several_names_is_durable_under_each() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    let run = CommitContext::default();
    let [made, other] = ["link/new/1.db", "real/new/2.db"].map(|path| {
        let new = unpublished_by(&run, &dir.path().join(path), Replace::Never, false, b"content").unwrap();
        new.publish().unwrap()
    });
    assert!(!run.unsynced().above(&dir.path().join("link/new")).is_empty());
    assert!(sync_dirs(vec![other, made]).iter().all(Result::is_ok));
    assert_eq!(run.unsynced().above(&dir.path().join("link/new")), []);
}

/// The kernel reports a failed sync only once per file descriptor. The other outputs that share the descriptor
/// must fail too.
#[test]
fn a_failed_sync_of_a_directory_is_final_for_all_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = Arc::new(open_root(dir.path()).unwrap());
    let _fault = inject(&dir.path().join("a/1.db"), Some(Step::SyncDir), 1, Effect::Fail(Errno::IO));
    let published = ["a/1.db", "a/2.db", "b/3.db"].map(|relative| {
        let destination = Arc::new(Destination::prepare_beneath(&root, relative, Replace::Never).unwrap());
        let new = destination.create(false).unwrap();
        new.output().fsync().unwrap();
        new.publish().unwrap()
    });
    let synced = published.map(|published| sync_dirs(vec![published]).remove(0).is_ok());
    assert_eq!(synced, [false, false, true]);
}
