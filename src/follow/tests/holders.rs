//! The lock of a standby. That another process is refused is tested with the program (tests/all/follow).

use crate::follow::{FollowLock, Taken, place_of};
use std::path::Path;

const SOURCE: &str = "s3://bucket/app.db";

#[track_caller]
fn take(path: &Path, source: &str) -> FollowLock {
    let Taken::Lock(lock) = FollowLock::take(path, source).unwrap() else { panic!("somebody else has it") };
    lock
}

#[test]
fn a_lock_names_its_holder_and_stays_only_where_there_is_a_standby() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    assert_eq!(FollowLock::holder(&path).unwrap(), None);
    let file = folder.path().join(".app.db-hydrant-follow");
    let text = |source: &str| format!("{}\nreplica {source}\n", std::process::id());
    // What older versions, killed followers and others left names no source.
    for left in ["", "4194999\ns3://other\nand more\n", "4194999\nreplica s3://oth", "4194999\nreplica \n", "\u{0}"] {
        std::fs::write(&file, left).unwrap();
        let lock = take(&path, SOURCE);
        assert_eq!(lock.other_source(), None, "{left:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text(SOURCE));
        drop(lock);
        assert!(!file.exists());
    }
    std::fs::write(&file, [0xff; 32 << 10]).unwrap();
    let mut lock = take(&path, SOURCE);
    lock.keep();
    drop(lock);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text(SOURCE));
    // It was there before: it stays, unless it is no standby any more.
    drop(take(&path, SOURCE));
    let mut lock = take(&path, SOURCE);
    assert_eq!(lock.other_source(), None);
    lock.discard();
    drop(lock);
    assert!(!file.exists());
}

#[test]
fn a_database_of_that_name_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("app.db"), folder.path().join(".app.db-hydrant-follow"));
    let database = [b"SQLite format 3\0".as_slice(), &[0xff; 100]].concat();
    std::fs::write(&file, &database).unwrap();
    let error = FollowLock::take(&path, SOURCE).unwrap_err();
    assert!(error.to_string().ends_with("-hydrant-follow: it is a database, and no file of a follower"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), database);
}

#[test]
fn another_source_is_named_until_it_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let file = folder.path().join(".app.db-hydrant-follow");
    let long = format!("s3://bucket/{}", "x".repeat(1024));
    std::fs::write(&file, format!("1\nreplica {long}\n")).unwrap();
    let lock = take(&path, SOURCE);
    assert_eq!(lock.other_source(), Some(&*long));
    drop(lock);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{}\nreplica {long}\n", std::process::id()));
    let mut lock = take(&path, SOURCE);
    lock.name_source().unwrap();
    assert_eq!(lock.other_source(), None);
    drop(lock);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{}\nreplica {SOURCE}\n", std::process::id()));
}

#[test]
fn one_replica_has_one_place() {
    for path in ["a/app.db", "/a/app.db", "a/app.db/", "/a/app.db//"] {
        assert_eq!(place_of(Some("b"), path), "s3://b/a/app.db");
        assert_eq!(place_of(None, path), "file:///a/app.db");
    }
    for path in ["", ".", "/"] {
        assert_eq!(place_of(Some("b"), path), "s3://b/");
    }
    assert_eq!(place_of(Some("b"), "a\nreplica c").lines().count(), 1);
}

#[test]
fn a_lock_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".app.db-hydrant-follow")).unwrap();
    let error = FollowLock::take(&folder.path().join("app.db"), "s3://bucket").unwrap_err();
    assert!(error.to_string().contains("/.app.db-hydrant-follow: "), "{error}");
}
