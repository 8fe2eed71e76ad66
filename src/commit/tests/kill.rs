//! SIGKILL before every step, in every way of publication: the old state or the new one, and
//! the next run sweeps.

use super::*;
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;

const SCENES: [&str; 5] = ["absent", "empty", "old", "old-sidecars", "sidecars"];

fn scene(dir: &Path, scene: &str) -> BTreeMap<OsString, Vec<u8>> {
    let write = |name: &str, content: &[u8]| std::fs::write(dir.join(name), content).unwrap();
    match scene {
        "empty" => write("app.db", b""),
        "old" | "old-sidecars" => write("app.db", b"old"),
        _ => {}
    }
    if scene.contains("sidecars") {
        write("app.db-wal", b"old wal");
        write("app.db-shm", b"old shm");
    }
    tree(dir)
}

#[test]
fn killed_at_every_step() {
    for scene_name in SCENES {
        for named in ["named", "unnamed"] {
            let mut steps = 0;
            loop {
                let dir = folder(named == "named");
                let before = scene(dir.path(), scene_name);
                let what = format!("kill {scene_name} {named} {}", steps + 1);
                let output = child_of(&what, dir.path()).output().unwrap();
                let after = tree(dir.path());
                let new = files([("app.db", b"new")]);
                if output.status.success() {
                    assert_eq!(after, new, "{what}");
                    break;
                }
                assert_eq!(output.status.signal(), Some(9), "{what}: {}", String::from_utf8_lossy(&output.stderr));
                steps += 1;

                // At once: never a stale sidecar beside the new file, never the old data lost.
                let main = after.get(&OsString::from("app.db"));
                if main.is_some_and(|main| main == b"new") {
                    assert!(SIDECARS.iter().all(|s| !after.contains_key(&suffixed("app.db".as_ref(), s))), "{what}");
                } else {
                    assert_eq!(main, before.get(&OsString::from("app.db")), "{what}");
                    for content in before.values() {
                        assert!(after.values().any(|found| found == content), "{what}: lost {content:?}");
                    }
                }
                // After the next run's sweep: exactly the old state or the new one.
                let directory = std::fs::File::open(dir.path()).unwrap();
                leftover::sweep_directory(std::os::fd::AsFd::as_fd(&directory), "app.db".as_ref());
                let swept = tree(dir.path());
                assert!(swept == before || swept == new, "{what}: {after:?} became {swept:?}");
                // And that run succeeds.
                if swept == before {
                    commit(&dir.path().join("app.db"), Replace::Force, false, b"new").unwrap();
                    assert_eq!(tree(dir.path()), new, "{what}");
                }
            }
            let least = if scene_name == "old-sidecars" { 12 } else { 6 };
            assert!(steps >= least, "{scene_name} {named}: only {steps} steps");
        }
    }
}

pub(super) fn child(words: &[&str]) {
    let [scene, named, nth] = words else { panic!("{words:?}") };
    let path = Path::new("app.db");
    let replace = if matches!(*scene, "absent" | "empty") { Replace::Never } else { Replace::Force };
    let _fault = inject(path, None, nth.parse().unwrap(), Effect::Kill);
    let destination = Arc::new(Destination::prepare(path, replace).unwrap());
    let new = destination.create(*named == "named").unwrap();
    new.reserve(10).unwrap();
    new.output().pwrite_all(b"new", 0).unwrap();
    new.truncate(3).unwrap();
    new.output().fsync().unwrap();
    new.publish().unwrap().sync_dir().unwrap();
}

#[test]
fn the_living_are_not_swept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let new = unpublished(&path, Replace::Never, true, b"new").unwrap();
    let directory = std::fs::File::open(dir.path()).unwrap();
    let sweep = || leftover::sweep_directory(std::os::fd::AsFd::as_fd(&directory), "app.db".as_ref());
    sweep();
    assert_eq!(tree(dir.path()).len(), 1);
    new.publish().unwrap().sync_dir().unwrap();

    // Between the exchange and the deletion of what was replaced.
    std::fs::write(dir.path().join("app.db-wal"), b"old wal").unwrap();
    let published = unpublished(&path, Replace::Force, false, b"newer").unwrap().publish().unwrap();
    let before = tree(dir.path());
    sweep();
    assert_eq!(tree(dir.path()), before);
    published.sync_dir().unwrap();
    assert_eq!(tree(dir.path()), files([("app.db", b"newer")]));
}

#[test]
fn data_that_came_into_an_empty_file_are_put_back() {
    // Killed between an exchange and its undoing: the file that was empty holds data by now.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("theirs"), b"theirs").unwrap();
    let inode = std::fs::metadata(dir.path().join("theirs")).unwrap().ino();
    let aside = leftover::TempName::replacing("app.db".as_ref(), leftover::Replacing::Empty, inode);
    std::fs::rename(dir.path().join("theirs"), dir.path().join(aside.as_os_str())).unwrap();
    std::fs::write(dir.path().join("app.db"), b"new").unwrap();
    let directory = std::fs::File::open(dir.path()).unwrap();
    leftover::sweep_directory(std::os::fd::AsFd::as_fd(&directory), "app.db".as_ref());
    assert_eq!(tree(dir.path()), files([("app.db", b"theirs")]));
}

#[test]
fn a_replaced_database_is_kept_where_the_new_one_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &OsStr| dir.path().join(name);
    std::fs::write(at("old".as_ref()), b"old").unwrap();
    let inode = std::fs::metadata(at("old".as_ref())).unwrap().ino();
    let aside = leftover::TempName::replacing("app.db".as_ref(), leftover::Replacing::Forced, inode);
    std::fs::rename(at("old".as_ref()), at(aside.as_os_str())).unwrap();
    std::fs::write(at(&suffixed(aside.as_os_str(), "-wal")), b"old wal").unwrap();
    let before = tree(dir.path());
    let directory = std::fs::File::open(dir.path()).unwrap();
    let sweep = || leftover::sweep_directory(std::os::fd::AsFd::as_fd(&directory), "app.db".as_ref());
    sweep();
    assert_eq!(tree(dir.path()), before);
    // Once another stands, it was replaced.
    commit(&at("app.db".as_ref()), Replace::Never, false, b"new").unwrap();
    sweep();
    assert_eq!(tree(dir.path()), files([("app.db", b"new")]));
}

#[test]
fn links_and_strangers_are_not_swept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("canary"), b"canary").unwrap();
    std::os::unix::fs::symlink("canary", dir.path().join(".app.db.hydrant-abcdefgh")).unwrap();
    std::fs::create_dir(dir.path().join(".app.db.hydrant-01234567")).unwrap();
    std::fs::write(dir.path().join(".app.db.hydrant-"), b"not ours").unwrap();
    let before = tree(dir.path());
    let directory = std::fs::File::open(dir.path()).unwrap();
    leftover::sweep_directory(std::os::fd::AsFd::as_fd(&directory), "app.db".as_ref());
    assert_eq!(tree(dir.path()), before);
}
