//! Tests that kill the process with SIGKILL before each step of each kind of publication. After the next run's
//! clean-up (the sweep), the files must be exactly the old state or the new one.

use super::*;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

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
    kill_at_every_step("none");
}

/// Where neither a rename with flags nor a link is to be had, a kill can leave a placeholder. Nothing takes that for a
/// database.
#[test]
fn killed_at_every_step_without_links() {
    let placeholders = kill_at_every_step("no-links");
    assert!(placeholders >= 4, "only {placeholders} placeholders");
    kill_at_every_step("no-flags");
}

/// Returns how many kills left a placeholder.
fn kill_at_every_step(sandbox: &str) -> u32 {
    let mut placeholders = 0;
    for scene_name in SCENES {
        for named in ["named", "unnamed", "copied"] {
            let mut steps = 0;
            loop {
                let dir = folder(named == "named");
                let before = scene(dir.path(), scene_name);
                let what = format!("kill {scene_name} {named} {}", steps + 1);
                let output = ended(child_of(&what, dir.path()).env(SANDBOX, sandbox));
                let after = tree(dir.path());
                let new = files([("app.db", b"new")]);
                if output.status.success() {
                    assert_eq!(after, new, "{what}");
                    break;
                }
                assert_eq!(output.status.signal(), Some(9), "{what}: {}", String::from_utf8_lossy(&output.stderr));
                steps += 1;

                // Right after the kill: no stale sidecar beside the new file, no old data lost.
                let is_placeholder =
                    |main: &&Vec<u8>| main.is_empty() && !before.contains_key(&OsString::from("app.db"));
                let main = after.get(&OsString::from("app.db"));
                if main.filter(is_placeholder).is_some() {
                    placeholders += 1;
                    assert_eq!(sandbox, "no-links", "{what}");
                    assert!(!stands_at(&dir.path().join("app.db")), "{what}: {after:?}");
                }
                let main = main.filter(|main| !is_placeholder(main));
                if main.is_some_and(|main| main == b"new") {
                    assert!(SIDECARS.iter().all(|s| !after.contains_key(&suffixed("app.db".as_ref(), s))), "{what}");
                } else {
                    assert_eq!(main, before.get(&OsString::from("app.db")), "{what}");
                    for content in before.values() {
                        assert!(after.values().any(|found| found == content), "{what}: lost {content:?}");
                    }
                }
                // After a sweep: exactly the old state or the new one.
                let looked = ended(child_of("look 1000", dir.path()).env(SANDBOX, sandbox));
                assert!(looked.status.success(), "{}", String::from_utf8_lossy(&looked.stderr));
                let swept = tree(dir.path());
                assert!(swept == before || swept == new, "{what}: {after:?} became {swept:?}");
                // The killed run left nothing that makes the next restore to the same path fail.
                if swept == before {
                    commit(&dir.path().join("app.db"), Replace::Force, false, b"new").unwrap();
                    assert_eq!(tree(dir.path()), new, "{what}");
                }
            }
            let least = if scene_name == "old-sidecars" { 12 } else { 6 };
            // The copy is made without the steps of its original: create, reserve and set the length.
            let least = if named == "copied" { least - 1 } else { least };
            assert!(steps >= least, "{scene_name} {named}: only {steps} steps");
        }
    }
    placeholders
}

/// What a restore leaves that is killed when it has made its placeholder.
fn with_placeholder() -> tempfile::TempDir {
    for nth in 1..TO_THE_END {
        let dir = tempfile::tempdir().unwrap();
        let output = ended(child_of(&format!("kill absent named {nth}"), dir.path()).env(SANDBOX, "no-links"));
        assert_eq!(output.status.signal(), Some(9), "no placeholder was made");
        if dir.path().join("app.db").exists() {
            assert_eq!(tree(dir.path()).len(), 2);
            return dir;
        }
    }
    panic!("no placeholder was made");
}

#[test]
fn killed_while_a_placeholder_is_removed() {
    let mut kills = 0;
    loop {
        let dir = with_placeholder();
        let status = look_and_die(dir.path(), kills + 1);
        if status.success() {
            break;
        }
        assert_eq!(status.signal(), Some(9));
        kills += 1;
        assert!(!stands_at(&dir.path().join("app.db")), "killed at step {kills}");
        look(dir.path());
        assert_eq!(tree(dir.path()).len(), 0, "killed at step {kills}");
    }
    // The steps: the placeholder, the new file.
    assert_eq!(kills, 2);
}

#[test]
fn what_was_written_into_a_placeholder_since_is_kept() {
    let dir = with_placeholder();
    std::fs::write(dir.path().join("app.db"), b"theirs").unwrap();
    look(dir.path());
    assert_eq!(tree(dir.path()), files([("app.db", b"theirs")]));
    // An empty file that is no placeholder counts for -if-db-not-exists.
    std::fs::write(dir.path().join("app.db"), b"").unwrap();
    look(dir.path());
    assert!(stands_at(&dir.path().join("app.db")));
    assert_eq!(tree(dir.path()), files([("app.db", b"")]));
}

pub(super) fn child(words: &[&str]) {
    let [scene, named, nth] = words else { panic!("{words:?}") };
    let replace = if matches!(*scene, "absent" | "empty") { Replace::Never } else { Replace::Force };
    let nth = nth.parse().unwrap();
    match *named {
        "copied" => copied::publish_and_die(replace, nth, b"new"),
        named => publish_and_die(replace, named == "named", nth, b"new"),
    }
}

/// Runs in a child process: publishes `app.db` and is killed at step number `nth`.
fn publish_and_die(replace: Replace, named: bool, nth: u32, content: &[u8]) {
    let path = Path::new("app.db");
    let _fault = inject(path, None, nth, Effect::Kill);
    let destination = Arc::new(prepare(path, replace).unwrap());
    let new = destination.create(named).unwrap();
    let len = content.len() as u64;
    new.reserve(len + 7).unwrap();
    new.output().pwrite_all(content, 0).unwrap();
    new.truncate(len).unwrap();
    new.output().fsync().unwrap();
    new.publish().unwrap().sync_dir().unwrap();
}

/// Number of committed rows in the old test database and in the new one.
pub(super) const OLD_ROWS: i64 = 3;
pub(super) const NEW_ROWS: i64 = 7;

/// Returns the number of rows in the database, and fails if SQLite finds damage.
pub(super) fn rows(path: &Path) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

/// Runs in a child process: creates `app.db` and is killed. In WAL mode all its rows are in the -wal. Otherwise
/// the database contains pages of an unfinished transaction, and the -journal has the content that undoes it.
pub(super) fn make_hot(how: &str) {
    let connection = rusqlite::Connection::open("app.db").unwrap();
    let (mode, hot) = match how {
        "wal" => ("wal", "INSERT INTO t VALUES(1, 'a'), (2, 'b'), (3, 'c')"),
        _ => (
            "delete",
            "INSERT INTO t VALUES(1, 'a'), (2, 'b'), (3, 'c'); PRAGMA cache_size = 1; BEGIN;
             UPDATE t SET y = 'changed'; INSERT INTO t SELECT value, hex(randomblob(900)) FROM generate;
             DELETE FROM t WHERE x < 3",
        ),
    };
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = {mode}; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(x, y);
             CREATE VIEW generate AS
             WITH RECURSIVE g(value) AS (SELECT 4 UNION ALL SELECT value + 1 FROM g LIMIT 300) SELECT value FROM g;
             PRAGMA wal_checkpoint(TRUNCATE); {hot}"
        ))
        .unwrap();
    die();
}

fn die() -> ! {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    unreachable!("killed");
}

/// Returns a folder with a database and its sidecars, left by a process that was killed while it used them.
pub(super) fn hot_database(how: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let status = ended(&mut child_of(&format!("hot {how}"), dir.path())).status;
    assert_eq!(status.signal(), Some(9));
    let sidecar = if how == "wal" { "app.db-wal" } else { "app.db-journal" };
    assert!(std::fs::metadata(dir.path().join(sidecar)).unwrap().len() > 0, "{how}: nothing is hot");
    dir
}

/// Returns a folder with a new database in the file `new.db`.
pub(super) fn new_database() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(dir.path().join("new.db")).unwrap();
    connection.execute_batch("CREATE TABLE t(x, y)").unwrap();
    for x in 0..NEW_ROWS {
        connection.execute("INSERT INTO t VALUES(?1, 'new')", [x]).unwrap();
    }
    dir
}

pub(super) fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Runs a restore with `-force` in `dir`, in a child process that is killed at step number `nth`.
pub(super) fn force_and_die(dir: &Path, new: &Path, named: bool, nth: u32) -> ExitStatus {
    let named = if named { "named" } else { "unnamed" };
    let what = format!("force {named} {nth} {}", new.join("new.db").display());
    ended(&mut child_of(&what, dir)).status
}

pub(super) fn forcing_child(words: &[&str]) {
    let [named, nth, new] = words else { panic!("{words:?}") };
    let content = std::fs::read(new).unwrap();
    publish_and_die(Replace::Force, *named == "named", nth.parse().unwrap(), &content);
}

/// Runs the sweep that precedes each look at `app.db` in `dir`. Returns the operator's notices as text.
pub(super) fn look(dir: &Path) -> String {
    let _no_forks = no_forks();
    sweep(dir).iter().map(|notice| format!("notice: {notice}\n")).collect()
}

/// Sweeps `dir` in a child process that is killed at step number `nth` of the sweep.
fn look_and_die(dir: &Path, nth: u32) -> ExitStatus {
    ended(&mut child_of(&format!("look {nth}"), dir)).status
}

pub(super) fn looking_child(words: &[&str]) {
    let [nth] = words else { panic!("{words:?}") };
    let dir = std::env::current_dir().unwrap();
    let _fault = inject(&dir.join("app.db"), None, nth.parse().unwrap(), Effect::Kill);
    sweep(&dir);
}

const TO_THE_END: u32 = 1000;

/// Returns whether `dir` has the old database without its sidecars (-wal, -journal): the state between moving
/// the sidecars aside and exchanging the old file with the new one.
fn is_in_the_window(dir: &Path, hot: &Path) -> bool {
    let holds = |name: &&str| dir.join(name).metadata().is_ok_and(|file| file.len() > 0);
    let is_old = std::fs::read(dir.join("app.db")).unwrap() == std::fs::read(hot.join("app.db")).unwrap();
    is_old && !["app.db-wal", "app.db-journal"].iter().any(holds)
}

/// Committed rows are only in a sidecar. At whichever step `-force` is killed, the next sweep leaves either the
/// complete old database or the new one, and the next `-force` succeeds.
#[test]
fn killed_at_every_step_beside_a_hot_database() {
    let new = new_database();
    for how in ["wal", "journal"] {
        let hot = hot_database(how);
        for named in [true, false] {
            let (mut steps, mut in_the_window, mut read) = (0, 0, [0; 2]);
            'steps: loop {
                for look_first in [true, false] {
                    let dir = folder(named);
                    copy(hot.path(), dir.path());
                    let path = dir.path().join("app.db");
                    let status = force_and_die(dir.path(), new.path(), named, steps + 1);
                    if status.success() {
                        assert_eq!(rows(&path), NEW_ROWS);
                        break 'steps;
                    }
                    let what = format!("{how} named {named} step {}", steps + 1);
                    assert_eq!(status.signal(), Some(9), "{what}");
                    let was_in_the_window = is_in_the_window(dir.path(), hot.path());
                    if look_first {
                        let said = look(dir.path());
                        assert_eq!(said.contains("notice: a -force on"), was_in_the_window, "{what}: {said}");
                        in_the_window += usize::from(was_in_the_window);
                        let files = tree(dir.path()).into_keys().collect::<Vec<_>>();
                        let left: Vec<_> =
                            files.iter().filter(|name| name.to_string_lossy().contains("hydrant")).collect();
                        assert_eq!(left, [] as [&OsString; 0], "{what}");
                        match rows(&path) {
                            OLD_ROWS => read[0] += 1,
                            NEW_ROWS => read[1] += 1,
                            other => panic!("{what}: {other} rows"),
                        }
                    }
                    // The next `-force` runs right after the kill, or after another program has read the
                    // database.
                    let content = std::fs::read(new.path().join("new.db")).unwrap();
                    let status = force_and_die(dir.path(), new.path(), named, TO_THE_END);
                    assert!(status.success(), "{what}");
                    assert_eq!(tree(dir.path()), files([("app.db", &content)]), "{what}");
                }
                steps += 1;
            }
            assert!(in_the_window >= 1 && read[0] >= 5 && read[1] >= 2, "{how} {named}: {in_the_window} {read:?}");
        }
    }
}

/// If a sweep is killed, the next sweep finishes its work.
#[test]
fn killed_while_it_is_put_right() {
    let (new, hot) = (new_database(), hot_database("wal"));
    let mut kills = 0;
    loop {
        let dir = in_the_window(hot.path(), new.path());
        let path = dir.path().join("app.db");
        let status = look_and_die(dir.path(), kills + 1);
        if status.success() {
            break;
        }
        assert_eq!(status.signal(), Some(9));
        kills += 1;
        look(dir.path());
        assert!(!tree(dir.path()).into_keys().any(|name| name.to_string_lossy().contains("hydrant")));
        assert_eq!(rows(&path), OLD_ROWS, "killed at step {kills}");
    }
    // The sweep has three steps at which it can be killed: the -wal, the -shm, and the new file.
    assert_eq!(kills, 3);
}

/// Returns a copy of `hot` on which a `-force` was killed after it moved the sidecars and just before its
/// exchange.
pub(super) fn in_the_window(hot: &Path, new: &Path) -> tempfile::TempDir {
    for nth in 1..TO_THE_END {
        let dir = tempfile::tempdir().unwrap();
        copy(hot, dir.path());
        let status = force_and_die(dir.path(), new, true, nth);
        assert_eq!(status.signal(), Some(9), "never in the window");
        if is_in_the_window(dir.path(), hot) {
            return dir;
        }
    }
    panic!("never in the window");
}
