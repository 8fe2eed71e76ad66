//! Outputs beneath a directory, whatever stands there.

use super::*;
use crate::error::Class;

fn publish_beneath(root: &Path, relative: &str) -> Result<(), CommitError> {
    let root = Arc::new(OutputRoot::open(root)?);
    let destination = Arc::new(Destination::prepare_beneath(&root, relative, Replace::Never)?);
    let new = destination.create(false)?;
    new.output().fsync()?;
    new.publish()?.sync_dir()
}

#[test]
fn directories_are_made_and_what_was_made_in_vain_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/out");
    let root = Arc::new(OutputRoot::open(&out).unwrap());
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
    // An empty one counts as absent, a directory does not.
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
    // The operator's own directory may be a link.
    publish_beneath(&out.join("link"), "x.db").unwrap();
    assert!(elsewhere.join("x.db").is_file());
}

#[test]
fn a_name_that_the_file_system_has_no_room_for_is_unsafe() {
    let dir = tempfile::tempdir().unwrap();
    publish_beneath(dir.path(), &"n".repeat(255)).unwrap();
    let error = Destination::prepare(&dir.path().join("n".repeat(256)), Replace::Never).unwrap_err();
    assert_eq!(error.class(), Class::UnsafePath, "{error}");
}
