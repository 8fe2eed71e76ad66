//! Tests of a `-force` that was killed just before it exchanged the files. The old database is at its path, but its
//! -wal, which holds rows that the database file does not have, was moved aside. The next command that looks at the
//! destination must move it back.

use super::support::*;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const ROWS: i64 = 3;

/// Creates a database at `path` as a killed program leaves it: all of its rows are in the -wal.
fn hot_database(path: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("app.db");
    let connection = rusqlite::Connection::open(&original).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(x);
             PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES(1), (2), (3)",
        )
        .unwrap();
    for suffix in ["", "-wal", "-shm"] {
        std::fs::copy(beside(&original, suffix), beside(path, suffix)).unwrap();
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Moves the sidecars of the database at `path` aside, as `-force` does before it exchanges the files.
fn interrupt_force_on(path: &Path) {
    let temp = |name: &str| {
        let own = path.file_name().unwrap().to_str().unwrap();
        path.with_file_name(format!(".{own}.hydrant-abcdefgh{name}"))
    };
    std::fs::write(temp(""), b"the new database, complete").unwrap();
    let (old, new) = (path.metadata().unwrap(), temp("").metadata().unwrap());
    let modified = old.mtime() as u64 * 1_000_000_000 + old.mtime_nsec() as u64;
    let name = format!("-f{:x}-{:x}-{modified:x}", old.ino(), new.ino());
    std::fs::rename(temp(""), temp(&name)).unwrap();
    for suffix in ["-wal", "-shm"] {
        std::fs::rename(beside(path, suffix), temp(&format!("{name}{suffix}"))).unwrap();
    }
}

fn rows(path: &Path) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn names(place: &Place) -> Vec<String> {
    place.contents().into_keys().collect()
}

const PUT_RIGHT: &str = "is back in its place";

#[test]
fn restore_makes_the_old_database_whole_before_it_decides() {
    // No server listens on this port, so a command that sent a request would fail.
    let nowhere = url("http://127.0.0.1:1", "db");
    let arrange = || {
        let place = Place::new();
        hot_database(Path::new(&place.out()));
        interrupt_force_on(Path::new(&place.out()));
        place
    };
    // While the -wal is moved aside, SQLite sees no rows.
    let place = arrange();
    assert_eq!(rows(Path::new(&place.out())), 0);

    for flags in [vec![], vec!["-json"], vec!["-force"]] {
        let place = arrange();
        let out = place.out();
        let args = [&["restore", "-if-db-not-exists", "-o", &out], &*flags, &[&nowhere]].concat();
        let ran = run(&mut hydrant(&args)).succeeded();
        let lines: Vec<&str> = ran.stderr.lines().collect();
        let [warning, skip] = *lines else { panic!("{ran:?}") };
        assert!(warning.starts_with("Warning: ") && warning.contains(PUT_RIGHT), "{ran:?}");
        assert_eq!((skip, &*ran.stdout), ("database already exists, skipping", ""));
        assert_eq!(names(&place), ["out.db", "out.db-shm", "out.db-wal"]);
        assert_eq!(rows(Path::new(&place.out())), ROWS);
        // The second run has nothing left to repair, so it reports nothing.
        assert_eq!(run(&mut hydrant(&args)).stderr, "database already exists, skipping\n");
    }
    // A dry run must not move the sidecars back.
    let place = arrange();
    let before = place.contents();
    run(&mut hydrant(&["restore", "-if-db-not-exists", "-dry-run", "-o", &place.out(), &nowhere])).succeeded();
    assert_eq!(place.contents(), before);

    let (folder, manifest) = fixture("block-4096");
    let source = format!("file://{}", folder.display());
    let ran = run(&mut hydrant(&["restore", "-o", &place.out(), &source])).failed("already exists and is not empty");
    assert!(ran.stderr.contains(PUT_RIGHT), "{ran:?}");
    assert_eq!(rows(Path::new(&place.out())), ROWS);
    let place = arrange();
    run(&mut hydrant(&["restore", "-force", "-o", &place.out(), &source])).succeeded();
    place.holds_only(&latest(&manifest));
}

/// Leftover files without content that matters: a new file, one that was about to replace an empty file, and one of
/// another output.
#[test]
fn other_leftovers_are_removed_without_a_word() {
    let nowhere = url("http://127.0.0.1:1", "db");
    let place = Place::new();
    place.write("out.db", "");
    let inode = |name: &str| Path::new(&place.path(name)).metadata().unwrap().ino();
    for (name, kind) in [("abcdefgh", "e"), ("01234567", "f")] {
        let temp = place.write("temp", "new");
        let named = format!(".out.db.hydrant-{name}-{kind}{:x}-{:x}-0", inode("out.db"), inode("temp"));
        std::fs::rename(temp, place.path(&named)).unwrap();
    }
    place.write(".out.db.hydrant-abcdefgh", "");
    place.write(".other.db.hydrant-abcdefgh", "half a database");
    let ran = run(&mut hydrant(&["restore", "-if-db-not-exists", "-o", &place.out(), &nowhere])).succeeded();
    assert_eq!(ran.stderr, "database already exists, skipping\n");
    assert_eq!(names(&place), ["out.db"]);
}

/// The databases are restored by URL into a directory, and by their configured paths.
#[test]
fn restore_pattern_makes_old_databases_whole_before_it_skips_them() {
    let (folder, _) = fixture("block-4096");
    for configured in [false, true] {
        for flag in ["--if-db-not-exists", "--force=false"] {
            let place = Place::new();
            let out = PathBuf::from(place.path("out/block-4096"));
            std::fs::create_dir(place.path("out")).unwrap();
            hot_database(&out);
            interrupt_force_on(&out);
            let log = place.path("errors.log");
            let config =
                format!("dbs:\n  - path: {}\n    replica:\n      url: file://{}\n", out.display(), folder.display());
            let config = place.write("config.yml", &config);
            let (dir, pattern) = (place.path("out"), format!("file://{}*", folder.display()));
            let (all, args) = (place.path("out/*"), ["restore-pattern", flag, "-json", "--error-log", &log]);
            let args = match configured {
                true => [&args, &["-config", &config, &*all][..]].concat(),
                false => [&args, &["--output-dir", &dir, &*pattern][..]].concat(),
            };
            let ran = run(&mut hydrant(&args));
            let skips = flag == "--if-db-not-exists";
            assert_eq!(ran.code, Some(if skips { 0 } else { 1 }), "{ran:?}");
            assert_eq!(ran.stderr.matches(PUT_RIGHT).count(), 1, "{ran:?}");
            assert!(ran.stdout.contains(if skips { "skipped" } else { "output exists" }), "{ran:?}");
            assert_eq!(contents(&place.dir().join("out")).len(), 3, "{ran:?}");
            assert_eq!(rows(&out), ROWS);
        }
    }
}

/// A program has written to the database before Hydrant ran again. The new rows and the old -wal must both be kept,
/// and a message must name both files.
#[test]
fn what_no_longer_fits_is_kept_and_named() {
    let place = Place::new();
    let out = PathBuf::from(place.out());
    hot_database(&out);
    interrupt_force_on(&out);
    let aside = names(&place).into_iter().find(|name| name.ends_with("-wal")).unwrap();
    let before = sha256(Path::new(&place.path(&aside)));
    rusqlite::Connection::open(&out).unwrap().execute_batch("INSERT INTO t VALUES(9)").unwrap();
    let nowhere = url("http://127.0.0.1:1", "db");
    for _ in 0..2 {
        let ran = run(&mut hydrant(&["restore", "-if-db-not-exists", "-o", &place.out(), &nowhere])).succeeded();
        let warning = ran.stderr.lines().next().unwrap();
        assert!(warning.contains(&aside) && warning.contains("written to since"), "{ran:?}");
        assert!(ran.stderr.ends_with("database already exists, skipping\n"), "{ran:?}");
        assert_eq!(sha256(Path::new(&place.path(&aside))), before);
        assert_eq!(rows(&out), 1);
    }
}
