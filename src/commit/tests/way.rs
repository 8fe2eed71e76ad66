//! Tests of obstacles on the way to an output's directory: errors name the obstacle, and a dry run finds it
//! too.

use super::*;

/// Returns the error of a restore to `path`. The check that changes nothing must give the same error.
fn refused(path: &Path) -> CommitError {
    let error = prepare(path, Replace::Never)
        .map(Arc::new)
        .and_then(|destination| destination.create(true))
        .map(drop)
        .unwrap_err();
    assert_eq!(check_way(path), Err(error.clone()), "{path:?}");
    error
}

/// Returns the error of a restore to the name `relative` from a bucket, below `root`. The check that changes nothing
/// must give the same error.
fn refused_beneath(root: &Path, relative: &str) -> CommitError {
    let error = open_root(root)
        .map(Arc::new)
        .and_then(|root| Destination::prepare_beneath(&root, relative, Replace::Never))
        .map(Arc::new)
        .and_then(|destination| destination.create(true))
        .map(drop)
        .unwrap_err();
    assert_eq!(check_way_beneath(root, relative), Err(error.clone()), "{root:?} {relative}");
    error
}

#[test]
fn links_to_nothing_loops_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, at(name)).unwrap();
    link("nowhere", "dangling");
    link("dangling/sub", "twice");
    link("loop", "loop");
    link("there", "back");
    link("back", "there");
    std::fs::write(at("file"), b"x").unwrap();
    link("file", "to-file");
    let before = tree(dir.path());
    for below in ["x.db", "sub/x.db", "sub/deeper/x.db"] {
        for (name, target) in [("dangling", "nowhere"), ("twice", "dangling/sub")] {
            let error = CommitError::DanglingLink { path: at(name), target: target.into() };
            assert_eq!(refused(&at(name).join(below)), error);
            assert_eq!(refused_beneath(&at(name), below), error);
        }
        for name in ["loop", "back", "there"] {
            let error = CommitError::LinkLoop { path: at(name) };
            assert_eq!(refused(&at(name).join(below)), error);
            assert_eq!(refused_beneath(&at(name), below), error);
        }
        for name in ["file", "to-file"] {
            let error = CommitError::IsNoDirectory { path: at(name) };
            assert_eq!(refused(&at(name).join(below)), error);
            assert_eq!(refused_beneath(&at(name), below), error);
        }
        // The operator did not create a symbolic link below the root, so it is refused.
        let error = CommitError::IsSymlink { path: at("dangling") };
        assert_eq!(refused_beneath(dir.path(), &format!("dangling/{below}")), error);
        let error = CommitError::IsNoDirectory { path: at("file") };
        assert_eq!(refused_beneath(dir.path(), &format!("file/{below}")), error);
    }
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn a_relative_path_is_named_as_given() {
    let error = CommitError::DanglingLink { path: "d".into(), target: "nowhere".into() };
    let text =
        "cannot restore, d is a symbolic link to nowhere, which is not there: make that directory, or remove the link";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_file_system_that_takes_nothing() {
    if !Path::new("/proc/self").exists() {
        println!("skipped: no /proc here");
        return;
    }
    let error = CommitError::TakesNothing { path: "/proc".into() };
    for path in ["/proc/x.db", "/proc/hydrant-none/x.db", "/proc/hydrant-none/sub/x.db"] {
        assert_eq!(refused(Path::new(path)), error, "{path}");
    }
    for (root, relative) in
        [("/proc", "x.db"), ("/proc", "none/x.db"), ("/proc/none", "x.db"), ("/proc/none", "a/x.db")]
    {
        assert_eq!(refused_beneath(Path::new(root), relative), error, "{root} {relative}");
    }
}

#[test]
fn what_is_only_missing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    for relative in ["link/a/b/1.db", "real/2.db", "3.db"] {
        assert_eq!(check_way(&dir.path().join(relative)), Ok(()));
        commit(&dir.path().join(relative), Replace::Never, false, b"content").unwrap();
    }
    assert_eq!(check_way_beneath(&dir.path().join("out"), "a/b.db"), Ok(()));
    assert!(dir.path().join("real/a/b/1.db").is_file() && !dir.path().join("out").exists());
}
