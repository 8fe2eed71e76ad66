//! Tests of `-force`: the old database and its sidecars either all exist unchanged or are all deleted.

use super::*;
use std::io::{BufRead, BufReader, Write};

const OLD: [(&str, &[u8]); 4] =
    [("app.db", b"old"), ("app.db-journal", b"old journal"), ("app.db-shm", b"old shm"), ("app.db-wal", b"old wal")];

fn with_old() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in OLD {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let path = dir.path().join("app.db");
    (dir, path)
}

#[test]
fn the_old_one_is_deleted_when_the_new_name_is_durable() {
    for named in [false, true] {
        let (dir, path) = with_old();
        let published = unpublished(&path, Replace::Force, named, b"new").unwrap().publish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let before = tree(dir.path());
        assert_eq!(before.len(), 5, "{before:?}");
        for suffix in SIDECARS {
            assert!(!before.contains_key(&suffixed("app.db".as_ref(), suffix)), "stale sidecar");
        }
        // The replaced database can still be opened: its sidecars have its temporary name plus their suffix.
        let old = before.iter().find(|(_, content)| *content == b"old").unwrap().0;
        assert_eq!(before.get(&suffixed(old, "-wal")).unwrap(), b"old wal");
        published.sync_dir().unwrap();
        assert_eq!(tree(dir.path()), files([("app.db", b"new")]));
    }
}

#[test]
fn sidecars_without_a_database_are_removed() {
    for named in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        std::fs::write(dir.path().join("app.db-wal"), b"stale").unwrap();
        let new = unpublished(&path, Replace::Force, named, b"new").unwrap();
        assert!(dir.path().join("app.db-wal").exists());
        new.publish().unwrap().sync_dir().unwrap();
        assert_eq!(tree(dir.path()), files([("app.db", b"new")]));
    }
}

#[test]
fn every_failing_step_leaves_the_old_one_as_it_was() {
    for named in [false, true] {
        for step in [Step::Create, Step::Reserve, Step::Write, Step::Sync] {
            let (dir, path) = with_old();
            let _fault = inject(&path, Some(step), 1, Effect::Fail(Errno::IO));
            commit(&path, Replace::Force, named, b"new").unwrap_err();
            assert_eq!(tree(dir.path()), files(OLD), "{step:?}");
        }
        let mut completed = false;
        for nth in 1..20 {
            let (dir, path) = with_old();
            let fault = inject(&path, Some(Step::Publish), nth, Effect::Fail(Errno::IO));
            match unpublished(&path, Replace::Force, named, b"new").unwrap().publish() {
                Err(_) => assert_eq!(tree(dir.path()), files(OLD), "step {nth}"),
                Ok(published) => {
                    assert!(nth > 5, "steps were skipped");
                    drop(fault);
                    published.sync_dir().unwrap();
                    completed = true;
                    break;
                }
            }
        }
        assert!(completed);
    }
}

#[test]
fn a_directory_that_cannot_be_synced_keeps_the_old_one() {
    let (dir, path) = with_old();
    let _fault = inject(&path, Some(Step::SyncDir), 1, Effect::Fail(Errno::IO));
    unpublished(&path, Replace::Force, false, b"new").unwrap().publish().unwrap().sync_dir().unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert!(tree(dir.path()).values().any(|content| content == b"old"), "the old data are lost");
}

#[test]
fn mode_and_owner_are_kept() {
    for mode in [0o600, 0o640, 0o444, 0o666] {
        let (_dir, path) = with_old();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(54_321), Some(54_322)).unwrap();
        }
        let old = std::fs::metadata(&path).unwrap();
        commit(&path, Replace::Force, false, b"new").unwrap();
        let new = std::fs::metadata(&path).unwrap();
        assert_eq!(new.mode() & 0o7777, mode);
        assert_eq!((new.uid(), new.gid()), (old.uid(), old.gid()));
    }
}

#[test]
fn an_owner_or_a_group_alone_is_kept() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root may give files away");
    }
    for (uid, gid) in [(Some(54_321), None), (None, Some(54_322)), (None, None)] {
        let (_dir, path) = with_old();
        std::os::unix::fs::chown(&path, uid, gid).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o664)).unwrap();
        commit(&path, Replace::Force, false, b"new").unwrap();
        let new = std::fs::metadata(&path).unwrap();
        assert_eq!((new.uid(), new.gid()), (uid.unwrap_or(0), gid.unwrap_or(0)));
        assert_eq!(new.mode() & 0o7777, 0o664);
    }
}

#[test]
fn no_owner_is_set_that_is_right_already() {
    let dir = tempfile::tempdir().unwrap();
    let output = child_of("chown-kills", dir.path()).output().unwrap();
    let (text, status) = (String::from_utf8_lossy(&output.stderr), output.status);
    assert!(status.success(), "{status} {:?}: {text}", std::os::unix::process::ExitStatusExt::signal(&status));
    assert_eq!(tree(dir.path()), files([("app.db", b"new"), ("other.db", b"new")]));
}

/// Replaces a database under a seccomp filter that kills every process that calls chown, as a service's sandbox
/// does.
pub(super) fn where_chown_kills() {
    std::fs::write("app.db", "old").unwrap();
    std::fs::set_permissions("app.db", PermissionsExt::from_mode(0o640)).unwrap();
    crate::io::limits_tests::filter(&[libc::SYS_fchown, libc::SYS_fchownat], libc::SECCOMP_RET_KILL_PROCESS);
    commit(Path::new("app.db"), Replace::Force, true, b"new").unwrap();
    assert_eq!(std::fs::metadata("app.db").unwrap().mode() & 0o7777, 0o640);
    // A second fsync, which some file systems need, is preceded by setting the file's times. That needs no chown
    // either.
    let other = unpublished(Path::new("other.db"), Replace::Never, false, b"new").unwrap();
    sys::sync_inode(other.output()).unwrap();
    other.publish().unwrap().sync_dir().unwrap();
}

#[test]
fn of_many_forced_all_or_one_win_and_the_file_is_whole() {
    for _ in 0..10 {
        let (dir, path) = with_old();
        let run = CommitContext::default();
        let won: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let (run, path) = (&run, &path);
                    scope.spawn(move || {
                        let content = format!("restore {n}");
                        let new = unpublished_by(run, path, Replace::Force, n % 2 == 0, content.as_bytes());
                        match new.and_then(StagedFile::publish).and_then(PublishedFile::sync_dir) {
                            Ok(()) => Some(content),
                            Err(CommitError::Busy { .. } | CommitError::InUse { .. }) => None,
                            Err(error) => panic!("{error:?}"),
                        }
                    })
                })
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert!(!won.is_empty());
        let tree = tree(dir.path());
        assert_eq!(tree.len(), 1, "{tree:?}");
        assert!(won.iter().any(|content| tree.values().any(|found| found == content.as_bytes())));
    }
}

/// Starts a child process that uses `app.db` until its standard input is closed.
pub(super) fn user_of(dir: &Path, how: &str) -> Child {
    let mut command = child_of(&format!("use {how}"), dir);
    let mut child = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped())).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("in use")), "the child failed");
    child
}

#[test]
fn a_database_in_use_is_refused() {
    for how in ["writer", "reader", "wal"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        let mode = if how == "wal" { "wal" } else { "delete" };
        connection
            .execute_batch(&format!("PRAGMA journal_mode={mode}; CREATE TABLE t(x); INSERT INTO t VALUES(1)"))
            .unwrap();
        drop(connection);
        let mut user = user_of(dir.path(), how);
        let pid = Some(user.id());
        let refused = |error: CommitError| {
            assert_eq!(error, CommitError::InUse { path: path.clone(), pid }, "{how}");
            assert!(error.to_string().contains(&format!("process {}", user.id())));
        };
        refused(prepare(&path, Replace::Force).unwrap_err());
        drop(user.stdin.take());
        user.wait().unwrap();
        // Another process opens the old database while the new one is being restored.
        let new = unpublished(&path, Replace::Force, false, b"new").unwrap();
        let mut user = user_of(dir.path(), how);
        let error = new.publish().unwrap_err();
        assert_eq!(error, CommitError::InUse { path: path.clone(), pid: Some(user.id()) }, "{how}");
        drop(user.stdin.take());
        user.wait().unwrap();
        commit(&path, Replace::Force, false, b"new").unwrap();
        assert_eq!(tree(dir.path()), files([("app.db", b"new")]));
    }
}

pub(super) fn use_database(how: &str) {
    let connection = rusqlite::Connection::open("app.db").unwrap();
    match how {
        "writer" => connection.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES(2)").unwrap(),
        // The row is committed. In WAL mode it is only in the -wal.
        "insert" => connection.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES(9, 'z')").unwrap(),
        "reader" => connection.execute_batch("BEGIN; SELECT * FROM t").unwrap(),
        // The connection is idle, between two transactions.
        _ => connection.query_row("SELECT count(*) FROM t", [], |_| Ok(())).unwrap(),
    }
    println!("in use");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
}
