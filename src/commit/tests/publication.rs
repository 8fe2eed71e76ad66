//! Tests of new outputs: which are refused, which of two restores wins, and which files are left.

use super::*;
use crate::error::Class;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::sync::Barrier;

#[test]
fn a_new_file_appears_whole_and_alone() {
    let on_disk = tempfile::tempdir().unwrap();
    for (named, dir) in [(false, folder(false)), (false, on_disk), (true, folder(true))] {
        let path = dir.path().join("app.db");
        let new = unpublished(&path, Replace::Never, named, b"content").unwrap();
        assert!(!path.exists());
        assert!(new.path().is_some() || !named);
        assert!(new.path().is_none() || named || !dir.path().starts_with("/dev/shm"));
        if let Some(named) = new.path() {
            assert_eq!(std::fs::read(named).unwrap(), b"content");
        } else {
            assert_eq!(tree(dir.path()).len(), 0);
        }
        new.publish().unwrap().sync_dir().unwrap();
        assert_eq!(tree(dir.path()), files([("app.db", b"content")]));
        let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        rustix::process::umask(umask);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o666 & !umask.as_raw_mode());
    }
}

#[test]
fn a_dropped_file_leaves_nothing() {
    for named in [false, true] {
        let dir = folder(named);
        let path = dir.path().join("new/deep/app.db");
        drop(unpublished(&path, Replace::Never, named, b"content").unwrap());
        assert_eq!(tree(dir.path()).len(), 0, "directories are left");
    }
}

#[test]
fn what_stands_in_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("full.db"), b"x").unwrap();
    std::fs::write(at("stale.db-shm"), b"").unwrap();
    std::fs::create_dir(at("dir.db")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("dangling.db")).unwrap();
    std::os::unix::fs::symlink("full.db", at("link.db")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo.db"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    std::fs::write(at("both.db"), b"x").unwrap();
    std::fs::write(at("both.db-wal"), b"x").unwrap();
    let before = tree(dir.path());
    let text = |name: &str, replace| prepare(&at(name), replace).unwrap_err().to_string();
    let shown = |name: &str| at(name).display().to_string();

    let exists = "cannot restore, output path already exists and is not empty: ";
    assert_eq!(text("full.db", Replace::Never), format!("{exists}{}. Use -force to overwrite", shown("full.db")));
    assert_eq!(text("both.db", Replace::Never), format!("{exists}{}. Use -force to overwrite", shown("both.db")));
    let sidecar = "cannot restore, SQLite sidecar path already exists: ";
    assert_eq!(
        text("stale.db", Replace::Never),
        format!("{sidecar}{}. Use -force to overwrite", shown("stale.db-shm"))
    );
    for replace in [Replace::Never, Replace::Force] {
        let directory = "cannot restore, output path is a directory: ";
        assert_eq!(text("dir.db", replace), format!("{directory}{}", shown("dir.db")));
        assert_eq!(text("dir.db/", replace), format!("{directory}{}/", shown("dir.db")));
        for link in ["dangling.db", "link.db"] {
            let error = prepare(&at(link), replace).unwrap_err();
            assert!(matches!(error, CommitError::IsSymlink { .. }), "{error:?}");
        }
        let error = prepare(&at("fifo.db"), replace).unwrap_err();
        assert!(matches!(error, CommitError::NotRegular { .. }), "{error:?}");
        for none in ["missing/..", "missing/", ""] {
            let error = prepare(Path::new(none), replace).unwrap_err();
            assert!(matches!(error, CommitError::NotAFileName { .. }), "{none}: {error:?}");
        }
        let error = prepare(&at("full.db/app.db"), replace).unwrap_err();
        assert!(matches!(error, CommitError::IsNoDirectory { .. }), "{error:?}");
    }
    assert_eq!(tree(dir.path()), before);
}

#[test]
pub(super) fn of_many_exactly_one_wins() {
    for empty in [false, true] {
        for named in [false, true] {
            for _ in 0..10 {
                let dir = folder(named);
                let path = dir.path().join("app.db");
                if empty {
                    std::fs::write(&path, b"").unwrap();
                }
                let (run, barrier) = (CommitContext::default(), Barrier::new(8));
                let results: Vec<_> = std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..8)
                        .map(|n| {
                            let (run, path, barrier) = (&run, &path, &barrier);
                            scope.spawn(move || {
                                let content = format!("restore {n}");
                                let new = unpublished_by(run, path, Replace::Never, named, content.as_bytes());
                                barrier.wait();
                                new.and_then(StagedFile::publish).and_then(PublishedFile::sync_dir).map(|()| content)
                            })
                        })
                        .collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
                assert_eq!(won.len(), 1, "empty {empty} named {named}: {won:?}");
                for error in lost {
                    let error = error.unwrap_err();
                    assert!(matches!(error, CommitError::Exists { .. }), "{error:?}");
                }
                let content = won.into_iter().next().unwrap().unwrap();
                assert_eq!(tree(dir.path()), files([("app.db", content.as_bytes())]));
            }
        }
    }
}

#[test]
fn what_came_in_between_is_kept() {
    for named in [false, true] {
        for (name, content) in [("app.db", &b"theirs"[..]), ("app.db-wal", b"stale"), ("app.db-journal", b"")] {
            let dir = folder(named);
            let path = dir.path().join("app.db");
            let new = unpublished(&path, Replace::Never, named, b"ours").unwrap();
            std::fs::write(dir.path().join(name), content).unwrap();
            let error = new.publish().unwrap_err();
            assert_eq!(error.class(), Class::OutputExists, "{error}");
            assert_eq!(tree(dir.path()), files([(name, content)]));
        }
        // While the restore runs, another program writes to the empty file, or replaces it with a symbolic
        // link.
        let dir = tempfile::tempdir().unwrap();
        let (path, canary) = (dir.path().join("app.db"), dir.path().join("canary"));
        std::fs::write(&path, b"").unwrap();
        let new = unpublished(&path, Replace::Never, named, b"ours").unwrap();
        std::fs::write(&path, b"theirs").unwrap();
        assert!(matches!(new.publish(), Err(CommitError::Exists { .. })));
        assert_eq!(tree(dir.path()), files([("app.db", b"theirs")]));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&canary, b"canary").unwrap();
        let new = unpublished(&path, Replace::Force, named, b"ours").unwrap();
        std::os::unix::fs::symlink("canary", &path).unwrap();
        assert!(matches!(new.publish(), Err(CommitError::IsSymlink { .. })));
        assert_eq!(std::fs::read(&canary).unwrap(), b"canary");
    }
}

#[test]
fn an_empty_file_is_replaced() {
    for named in [false, true] {
        for replace in [Replace::Never, Replace::Force] {
            let dir = folder(named);
            let path = dir.path().join("app.db");
            std::fs::write(&path, b"").unwrap();
            commit(&path, replace, named, b"content").unwrap();
            assert_eq!(tree(dir.path()), files([("app.db", b"content")]));
        }
    }
}

#[test]
fn parents_are_private_and_shared() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join("a/b").join(name);
    let run = CommitContext::default();
    let first = unpublished_by(&run, &path("1.db"), Replace::Never, false, b"1").unwrap();
    let second = unpublished_by(&run, &path("2.db"), Replace::Never, false, b"2").unwrap();
    let mode = std::fs::metadata(dir.path().join("a/b")).unwrap().mode() & 0o777;
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    // The first restore created the directories and fails. The second restore still needs them.
    drop(first);
    second.publish().unwrap().sync_dir().unwrap();
    assert_eq!(tree(&dir.path().join("a/b")), files([("2.db", b"2")]));
}

#[test]
fn parents_survive_many_at_once() {
    let (dir, run) = (tempfile::tempdir().unwrap(), CommitContext::default());
    for round in 0..10 {
        let parent = dir.path().join(round.to_string()).join("deep");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let (run, path) = (&run, parent.join(format!("{n}.db")));
                scope.spawn(move || {
                    let new = unpublished_by(run, &path, Replace::Never, n % 3 == 0, b"content").unwrap();
                    if n % 2 == 0 {
                        new.publish().unwrap().sync_dir().unwrap();
                    }
                });
            }
        });
        assert_eq!(tree(&parent).len(), 4);
    }
}

#[test]
fn many_are_synced_together() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..20).map(|n| dir.path().join((n % 3).to_string()).join(n.to_string())).collect();
    let run = CommitContext::default();
    let published = paths
        .iter()
        .map(|path| unpublished_by(&run, path, Replace::Never, false, b"content").unwrap().publish().unwrap())
        .collect();
    let results = sync_dirs(published);
    assert_eq!(results.len(), 20);
    assert!(results.iter().all(Result::is_ok));
    assert!(paths.iter().all(|path| path.exists()));
}

#[test]
fn a_name_that_came_after_the_sync_is_synced_where_it_needs_that() {
    let root = tempfile::tempdir().unwrap();
    let directory = std::fs::File::open(root.path()).unwrap();
    let is_needed = !journal::keeps_late_names(std::os::fd::AsFd::as_fd(&directory));
    // 100 files use several threads, 1 file uses one. Both with and without a temporary name.
    for count in [1, 100] {
        for named in [false, true] {
            let dir = tempfile::tempdir_in(root.path()).unwrap();
            let path_of = |n: usize| dir.path().join(n.to_string());
            let failing = count * 7 / 10;
            let fault = inject(&path_of(failing), Some(Step::SyncInode), 1, Effect::Fail(Errno::IO));
            let run = CommitContext::default();
            let new = |n| unpublished_by(&run, &path_of(n), Replace::Never, named, b"content").unwrap();
            let new: Vec<_> = (0..count).map(new).collect();
            let is_needed = is_needed && new[0].path().is_none();
            let mut published: Vec<_> = new.into_iter().map(|new| new.publish().unwrap()).collect();
            let results = match count {
                1 => vec![published.remove(0).sync_dir()],
                _ => sync_dirs(published),
            };
            assert_eq!(fault.struck(), is_needed, "{count} {named}");
            for (n, result) in results.iter().enumerate() {
                assert_eq!(result.is_err(), is_needed && n == failing, "{count} {named} {n}: {result:?}");
                assert_eq!(std::fs::read(path_of(n)).unwrap(), b"content");
            }
            assert_eq!(results.len(), count);
        }
    }
}

#[test]
fn unsynced_content_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let new = unpublished(&path, Replace::Never, false, b"content").unwrap();
    new.output().pwrite_all(b"more", 7).unwrap();
    assert!(matches!(new.publish(), Err(CommitError::Internal { what, .. }) if what.contains("not synced")));
    let _fault = inject(&path, Some(Step::Sync), 1, Effect::Fail(Errno::IO));
    assert!(commit(&path, Replace::Never, false, b"content").is_err());
    assert_eq!(tree(dir.path()).len(), 0);
}

#[test]
fn every_failing_step_leaves_nothing() {
    for named in [false, true] {
        for (step, class) in [
            (Step::Create, Class::DiskFull),
            (Step::Reserve, Class::DiskFull),
            (Step::Write, Class::DiskFull),
            (Step::Sync, Class::DiskFull),
            (Step::Publish, Class::DiskFull),
        ] {
            let dir = folder(named);
            let path = dir.path().join("new/app.db");
            let _fault = inject(&path, Some(step), 1, Effect::Fail(Errno::NOSPC));
            let error = commit(&path, Replace::Never, named, b"content").unwrap_err();
            assert_eq!(error.class(), class, "{step:?}: {error}");
            assert_eq!(tree(dir.path()).len(), 0, "{step:?}");
        }
    }
}

#[test]
fn without_fallocate_the_length_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let _fault = inject(&path, Some(Step::Reserve), 1, Effect::Fail(Errno::OPNOTSUPP));
    let new = Arc::new(prepare(&path, Replace::Never).unwrap()).create(true).unwrap();
    new.reserve(100_000).unwrap();
    assert_eq!(std::fs::metadata(new.path().unwrap()).unwrap().len(), 100_000);
    new.truncate(5000).unwrap();
    assert_eq!(std::fs::metadata(new.path().unwrap()).unwrap().len(), 5000);
}

/// Links an unnamed file as a process without privileges does on Linux before 6.10: through /proc, because
/// linkat with AT_EMPTY_PATH fails.
#[test]
fn a_file_without_a_name_is_linked_through_proc_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let new = unpublished(&path, Replace::Never, false, b"content").unwrap();
    let destination = new.destination();
    let link =
        |name: &str| sys::link_through_proc(std::os::fd::AsFd::as_fd(new.output()), destination.dir(), name.as_ref());
    assert_eq!(link("app.db"), Ok(()));
    assert_eq!(link("app.db"), Err(Errno::EXIST));
    assert_eq!(link("again.db"), Ok(()));
    drop(new);
    assert_eq!(tree(dir.path()), files([("app.db", b"content"), ("again.db", b"content")]));
}

#[test]
fn the_longest_name_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let name = OsString::from_vec([b"\xff\n".to_vec(), vec![b'n'; 253]].concat());
    for (named, replace) in [(true, Replace::Never), (false, Replace::Force)] {
        commit(&dir.path().join(&name), replace, named, b"content").unwrap();
        assert!(tree(dir.path()).into_keys().eq([name.clone()]));
    }
    let long = dir.path().join("n".repeat(256));
    let error = prepare(&long, Replace::Never).unwrap_err();
    assert!(matches!(error, CommitError::Refused { errno: Errno::NAMETOOLONG, .. }), "{error:?}");
}

#[test]
fn a_full_disk_is_known_before_anything_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let mount = spawn(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path()));
    if !mount.and_then(|mut mount| mount.wait()).is_ok_and(|status| status.success()) {
        println!("skipped: no tmpfs can be mounted here");
        return;
    }
    let path = dir.path().join("app.db");
    let new = Arc::new(prepare(&path, Replace::Never).unwrap()).create(false).unwrap();
    let error = new.reserve(3 << 20).unwrap_err();
    drop(new);
    let left = tree(dir.path()).len();
    assert!(ended(Command::new("umount").arg(dir.path())).status.success());
    assert_eq!((error.class(), left), (Class::DiskFull, 0));
    let text = error.to_string();
    assert!(text.contains("3145728 bytes") && text.contains("bytes free"), "{text}");
}

#[test]
fn an_unwritable_directory_is_known_before_anything_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir(dir.path().join("closed")).unwrap();
    let mut child = child_of("unprivileged", dir.path());
    if rustix::process::geteuid().is_root() {
        child.uid(54_321).gid(54_321);
    } else {
        std::fs::set_permissions(dir.path().join("closed"), PermissionsExt::from_mode(0o500)).unwrap();
    }
    match spawn(&mut child).and_then(|mut child| child.wait()) {
        Ok(status) => assert!(status.success(), "{status}"),
        Err(error) => println!("skipped: this test cannot be run by another user: {error}"),
    }
}

pub(super) fn without_privileges() {
    let path = Path::new("closed/app.db");
    let error = Arc::new(prepare(path, Replace::Never).unwrap()).create(false).unwrap_err();
    assert!(matches!(error, CommitError::Refused { errno: Errno::ACCESS, .. }), "{error:?}");
    assert_eq!(error.to_string(), "cannot create a file in closed: permission denied");
    let error = prepare(Path::new("closed/new/app.db"), Replace::Never).unwrap_err();
    assert_eq!(error.to_string(), "cannot create directory closed/new: permission denied");
}
