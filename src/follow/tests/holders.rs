//! The lock of a standby. That another process is refused is tested with the program (tests/all/follow).

use crate::follow::{FollowLock, Taken};

#[test]
fn a_lock_names_its_holder_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    assert_eq!(FollowLock::holder(&path).unwrap(), None);
    // What a killed follower left.
    let file = folder.path().join(".app.db-hydrant-follow");
    std::fs::write(&file, "4194999\ns3://other\nand more\n").unwrap();
    let Taken::Lock(lock) = FollowLock::take(&path, "s3://bucket/app.db").unwrap() else { panic!() };
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{}\ns3://bucket/app.db\n", std::process::id()));
    drop(lock);
    assert!(!file.exists());
}

#[test]
fn a_lock_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".app.db-hydrant-follow")).unwrap();
    let error = FollowLock::take(&folder.path().join("app.db"), "s3://bucket").unwrap_err();
    assert!(error.to_string().contains("/.app.db-hydrant-follow: "), "{error}");
}
