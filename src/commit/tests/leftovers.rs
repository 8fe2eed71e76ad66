//! Tests of the sweep, the clean-up after killed runs: which files it puts back, which it leaves alone, and
//! which it leaves with a notice.

use super::kill::{OLD_ROWS, hot_database, in_the_window, look, new_database, rows};
use super::temp_name::{Exchange, More, Replacing, TempName, modified};
use super::*;
use std::ffi::OsStr;

fn stat(path: &Path) -> rustix::fs::Stat {
    rustix::fs::lstat(path).unwrap()
}

/// Returns what a temporary name records, once as an earlier Hydrant version wrote it (only the old inode
/// number) and once as this version does.
fn exchanges(kind: Replacing, old: &rustix::fs::Stat, new: u64) -> [Exchange; 2] {
    let more = More { new, modified: modified(old) };
    [None, Some(more)].map(|more| Exchange { kind, old: old.st_ino, more })
}

#[test]
fn the_living_are_not_swept() {
    let _no_forks = no_forks();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let new = unpublished(&path, Replace::Never, true, b"new").unwrap();
    sweep(dir.path());
    assert_eq!(tree(dir.path()).len(), 1);
    new.publish().unwrap().sync_dir().unwrap();

    // The run is still alive, between exchanging the new file with the old one and deleting the old one. A sweep must
    // change nothing.
    std::fs::write(dir.path().join("app.db-wal"), b"old wal").unwrap();
    let published = unpublished(&path, Replace::Force, false, b"newer").unwrap().publish().unwrap();
    let before = tree(dir.path());
    sweep(dir.path());
    assert_eq!(tree(dir.path()), before);
    published.sync_dir().unwrap();
    assert_eq!(tree(dir.path()), files([("app.db", b"newer")]));
}

#[test]
fn data_that_came_into_an_empty_file_are_put_back() {
    let _no_forks = no_forks();
    // A run exchanged its new file with an empty file, into which another program had just written. The run was
    // killed before it could exchange them back.
    for which in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &OsStr| dir.path().join(name);
        std::fs::write(at("theirs".as_ref()), b"theirs").unwrap();
        std::fs::write(at("app.db".as_ref()), b"new").unwrap();
        let new = stat(&at("app.db".as_ref())).st_ino;
        let exchange = exchanges(Replacing::Empty, &stat(&at("theirs".as_ref())), new)[which];
        let aside = TempName::replacing("app.db".as_ref(), exchange);
        std::fs::rename(at("theirs".as_ref()), at(aside.as_os_str())).unwrap();
        let notices = sweep(dir.path());
        assert_eq!(notices, [Notice::FilePutBack { path: at("app.db".as_ref()) }]);
        assert_eq!(tree(dir.path()), files([("app.db", b"theirs")]));
    }
}

/// Another program put a file at the destination between the last check and the exchange. The run was killed
/// before it undid the exchange.
#[test]
fn what_was_exchanged_by_mistake_is_put_back() {
    let _no_forks = no_forks();
    for kind in [Replacing::Empty, Replacing::Forced] {
        for third in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &OsStr| dir.path().join(name);
            std::fs::write(at("app.db".as_ref()), b"new").unwrap();
            let new = stat(&at("app.db".as_ref())).st_ino;
            std::fs::write(at("old".as_ref()), b"").unwrap();
            let exchange = exchanges(kind, &stat(&at("old".as_ref())), new)[1];
            let aside = TempName::replacing("app.db".as_ref(), exchange);
            std::fs::write(at(aside.as_os_str()), b"theirs").unwrap();
            if third {
                // After the kill, another program has replaced the new file at the destination.
                std::fs::write(at("other".as_ref()), b"other").unwrap();
                std::fs::rename(at("other".as_ref()), at("app.db".as_ref())).unwrap();
            }
            let before = tree(dir.path());
            let notices = sweep(dir.path());
            if third {
                assert!(matches!(&*notices, [Notice::Kept { why: Why::Another, .. }]), "{notices:?}");
                assert_eq!(tree(dir.path()), before);
            } else {
                assert!(matches!(&*notices, [Notice::FilePutBack { .. }]), "{notices:?}");
                assert_eq!(tree(dir.path()), files([("app.db", b"theirs"), ("old", b"")]));
            }
        }
    }
}

#[test]
fn a_replaced_database_is_kept_where_the_new_one_is_lost() {
    let _no_forks = no_forks();
    for which in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &OsStr| dir.path().join(name);
        std::fs::write(at("old".as_ref()), b"old").unwrap();
        let exchange = exchanges(Replacing::Forced, &stat(&at("old".as_ref())), 1)[which];
        let aside = TempName::replacing("app.db".as_ref(), exchange);
        std::fs::rename(at("old".as_ref()), at(aside.as_os_str())).unwrap();
        std::fs::write(at(&suffixed(aside.as_os_str(), "-wal")), b"old wal").unwrap();
        let before = tree(dir.path());
        let notices = sweep(dir.path());
        let [Notice::Kept { files: kept, why: Why::NewIsLost, .. }] = &*notices else { panic!("{notices:?}") };
        assert_eq!(kept.len(), 2);
        assert_eq!(tree(dir.path()), before);
        // As soon as another database is at the destination, the old file counts as replaced and is deleted.
        commit(&at("app.db".as_ref()), Replace::Never, false, b"new").unwrap();
        sweep(dir.path());
        assert_eq!(tree(dir.path()), files([("app.db", b"new")]));
    }
}

#[test]
fn links_and_strangers_are_not_swept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("canary"), b"canary").unwrap();
    std::os::unix::fs::symlink("canary", dir.path().join(".app.db.hydrant-abcdefgh")).unwrap();
    std::fs::create_dir(dir.path().join(".app.db.hydrant-01234567")).unwrap();
    std::fs::write(dir.path().join(".app.db.hydrant-"), b"not ours").unwrap();
    let before = tree(dir.path());
    assert_eq!(sweep(dir.path()), []);
    assert_eq!(tree(dir.path()), before);
}

/// A run was killed between creating a temporary file and locking it, or between link and unlink, which replace
/// a rename on a file system without RENAME_NOREPLACE.
#[test]
fn what_was_half_made_is_swept() {
    let _no_forks = no_forks();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &OsStr| dir.path().join(name);
    std::fs::write(at(".app.db.hydrant-abcdefgh".as_ref()), b"").unwrap();
    std::fs::write(at("app.db".as_ref()), b"old").unwrap();
    std::fs::write(at("app.db-wal".as_ref()), b"old wal").unwrap();
    let old = stat(&at("app.db".as_ref()));
    for exchange in exchanges(Replacing::Forced, &old, 1) {
        let aside = TempName::replacing("app.db".as_ref(), exchange);
        std::fs::hard_link(at("app.db-wal".as_ref()), at(&suffixed(aside.as_os_str(), "-wal"))).unwrap();
    }
    assert_eq!(sweep(dir.path()), []);
    assert_eq!(tree(dir.path()), files([("app.db", b"old"), ("app.db-wal", b"old wal")]));
}

/// Sidecars whose temporary name comes from an earlier version are put back if no program has written to the
/// database since.
#[test]
fn sidecars_under_a_name_of_an_earlier_version_are_put_back() {
    let _no_forks = no_forks();
    for was_written in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &OsStr| dir.path().join(name);
        std::fs::write(at("app.db".as_ref()), b"old").unwrap();
        std::fs::write(at("wal".as_ref()), b"old wal").unwrap();
        let exchange = Exchange { kind: Replacing::Forced, old: stat(&at("app.db".as_ref())).st_ino, more: None };
        let aside = suffixed(TempName::replacing("app.db".as_ref(), exchange).as_os_str(), "-wal");
        std::fs::rename(at("wal".as_ref()), at(&aside)).unwrap();
        if was_written {
            let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
            std::fs::File::options().write(true).open(at("app.db".as_ref())).unwrap().set_modified(later).unwrap();
        }
        let before = tree(dir.path());
        let notices = sweep(dir.path());
        if was_written {
            assert!(matches!(&*notices, [Notice::Kept { why: Why::Changed, .. }]), "{notices:?}");
            assert_eq!(tree(dir.path()), before);
        } else {
            assert!(matches!(&*notices, [Notice::PutBack { .. }]), "{notices:?}");
            assert_eq!(tree(dir.path()), files([("app.db", b"old"), ("app.db-wal", b"old wal")]));
        }
    }
}

fn aside_wal(dir: &Path) -> PathBuf {
    let is_aside =
        |name: &OsString| name.to_string_lossy().contains("hydrant") && name.to_string_lossy().ends_with("-wal");
    dir.join(tree(dir).into_keys().find(is_aside).expect("a -wal that was moved aside"))
}

/// A run that is alive, after it moved the sidecars and before its exchange, is left alone, because it holds a
/// lock on the new file.
#[test]
fn a_living_run_in_the_window_is_left_alone() {
    let (new, hot) = (new_database(), hot_database("wal"));
    let dir = in_the_window(hot.path(), new.path());
    let base = aside_wal(dir.path()).to_str().unwrap().strip_suffix("-wal").unwrap().to_owned();
    let no_forks = no_forks();
    let living = std::fs::File::open(base).unwrap();
    rustix::fs::flock(&living, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let before = tree(dir.path());
    assert_eq!(sweep(dir.path()), []);
    assert_eq!(tree(dir.path()), before);
    drop((living, no_forks));
    assert!(look(dir.path()).contains("is back"));
    assert_eq!(rows(&dir.path().join("app.db")), OLD_ROWS);
}

/// A sweep deletes or truncates nothing before the exchange is durable. If the run published by link and was
/// killed before its unlink, the new file has both names.
#[test]
fn what_was_replaced_is_kept_until_the_exchange_is_durable() {
    let _no_forks = no_forks();
    for is_linked in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &OsStr| dir.path().join(name);
        let path = at("app.db".as_ref());
        std::fs::write(&path, b"new").unwrap();
        std::fs::write(at("old".as_ref()), b"old").unwrap();
        let (old, new) = (stat(&at("old".as_ref())), stat(&path).st_ino);
        let mut exchange = exchanges(Replacing::Forced, &old, new)[1];
        if is_linked {
            exchange.old = 0;
        }
        let temp = TempName::replacing("app.db".as_ref(), exchange);
        if is_linked {
            std::fs::remove_file(at("old".as_ref())).unwrap();
            std::fs::hard_link(&path, at(temp.as_os_str())).unwrap();
        } else {
            std::fs::rename(at("old".as_ref()), at(temp.as_os_str())).unwrap();
        }
        std::fs::write(at(&suffixed(temp.as_os_str(), "-wal")), b"old wal").unwrap();
        let before = tree(dir.path());
        let fault = inject(&path, Some(Step::Publish), 1, Effect::Fail(Errno::IO));
        assert_eq!(sweep(dir.path()), []);
        assert!(fault.struck());
        assert_eq!(tree(dir.path()), before);
        drop(fault);
        assert_eq!(sweep(dir.path()), []);
        assert_eq!(tree(dir.path()), files([("app.db", b"new")]));
    }
}

/// A `-force` was killed after it had moved the old -wal aside. Another program opens the old database before
/// the next sweep puts the -wal back.
#[test]
fn a_program_that_was_first() {
    let (new, hot) = (new_database(), hot_database("wal"));
    // The other program only reads. While it runs, the sweep changes nothing.
    for is_killed in [false, true] {
        let dir = in_the_window(hot.path(), new.path());
        let aside = std::fs::read(aside_wal(dir.path())).unwrap();
        let mut user = force::user_of(dir.path(), "wal");
        let said = look(dir.path());
        assert!(said.contains(&format!("process {}", user.id())), "{said}");
        assert_eq!(std::fs::read(aside_wal(dir.path())).unwrap(), aside);
        if is_killed {
            // SQLite cannot clean up in a killed process, so an empty -wal and a -shm stay.
            user.kill().unwrap();
        }
        drop(user.stdin.take());
        user.wait().unwrap();
        assert_eq!(dir.path().join("app.db-wal").exists(), is_killed);
        let said = look(dir.path());
        assert!(said.contains("is back"), "{said}");
        assert_eq!(rows(&dir.path().join("app.db")), OLD_ROWS);
    }
    // The other program writes. Both its rows and the old -wal are kept.
    for is_killed in [false, true] {
        let dir = in_the_window(hot.path(), new.path());
        let (aside, path) = (aside_wal(dir.path()), dir.path().join("app.db"));
        let before = std::fs::read(&aside).unwrap();
        let mut user = force::user_of(dir.path(), "insert");
        if is_killed {
            user.kill().unwrap();
        }
        drop(user.stdin.take());
        user.wait().unwrap();
        let theirs = std::fs::read(dir.path().join("app.db-wal")).ok();
        assert_eq!(theirs.is_some(), is_killed);
        for _ in 0..2 {
            let said = look(dir.path());
            assert!(said.contains(aside.to_str().unwrap()) && said.contains("nothing removes it"), "{said}");
            assert_eq!(std::fs::read(&aside).unwrap(), before);
            assert_eq!(std::fs::read(dir.path().join("app.db-wal")).ok(), theirs);
        }
        assert_eq!(rows(&path), 1);
        // The new database's file was truncated, so it takes no disk space beside the old one.
        let total: u64 = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(total < before.len() as u64 + path.metadata().unwrap().len() + 100_000, "{total}");
        // The next `-force` replaces the database and leaves the old -wal under its temporary name.
        commit(&path, Replace::Force, true, b"new").unwrap();
        look(dir.path());
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read(&aside).unwrap(), before);
        assert!(!dir.path().join("app.db-wal").exists());
    }
}

/// Sidecars are never put beside another database, even if its file has the inode number of the database that
/// they belong to.
#[test]
fn another_database_gets_no_sidecars() {
    let (new, hot) = (new_database(), hot_database("wal"));
    for in_place in [false, true] {
        let dir = in_the_window(hot.path(), new.path());
        let (aside, path) = (aside_wal(dir.path()), dir.path().join("app.db"));
        let before = std::fs::read(&aside).unwrap();
        if in_place {
            std::fs::copy(new.path().join("new.db"), &path).unwrap();
        } else {
            std::fs::copy(new.path().join("new.db"), dir.path().join("copy")).unwrap();
            std::fs::rename(dir.path().join("copy"), &path).unwrap();
        }
        for _ in 0..2 {
            let said = look(dir.path());
            assert!(said.contains(aside.to_str().unwrap()), "{said}");
            assert_eq!(rows(&path), kill::NEW_ROWS);
            assert_eq!(std::fs::read(&aside).unwrap(), before);
        }
    }
}

/// Many restores into one directory sweep it only once.
#[test]
fn a_directory_is_swept_once() {
    let _no_forks = no_forks();
    let dir = tempfile::tempdir().unwrap();
    let long = "n".repeat(200);
    let leftover = dir.path().join(".other.db.hydrant-abcdefgh");
    std::fs::write(&leftover, b"").unwrap();
    // The original name is so long that a temporary name contains only its hash.
    std::fs::write(dir.path().join(&long), b"old").unwrap();
    let exchange = exchanges(Replacing::Forced, &stat(&dir.path().join(&long)), 1)[1];
    let aside = TempName::replacing(long.as_ref(), exchange);
    std::fs::write(dir.path().join(suffixed(aside.as_os_str(), "-wal")), b"old wal").unwrap();
    let run = CommitContext::default();
    let at = |name: &str| dir.path().join(name);
    assert_eq!(run.sweep_beside(&at("app.db")), []);
    assert!(!leftover.exists());
    std::fs::write(&leftover, b"").unwrap();
    for n in 0..100 {
        let path = at(&format!("{n}.db"));
        assert_eq!(run.sweep_beside(&path), []);
        drop(Destination::prepare(&run, &path, Replace::Never).unwrap());
    }
    assert!(leftover.exists());
    // The first sweep could not recognise this output's temporary file, because it knows the name only as a
    // hash.
    std::fs::rename(&leftover, at("kept")).unwrap();
    let notices = run.sweep_beside(&at(&long));
    assert!(matches!(&*notices, [Notice::PutBack { .. }]), "{notices:?}");
    assert_eq!(std::fs::read(at(&format!("{long}-wal"))).unwrap(), b"old wal");
    // A new run does not know that the directory was swept, so it sweeps the directory again.
    std::fs::rename(at("kept"), &leftover).unwrap();
    assert_eq!(CommitContext::default().sweep_beside(&at("app.db")), []);
    assert!(!leftover.exists());
}
