//! Tests of `-integrity-check`: what counts as damage, what does not, and that a check leaves no file behind.

use super::*;
use crate::commit::check::{Check, CheckOutcome, Mode, check};
use rusqlite::Connection;

/// Creates a database of about 2,000 rows at `path`, with the extra SQL `extra`.
fn database(path: &Path, extra: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    let rows = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<2000)
        INSERT INTO t SELECT i, hex(randomblob(50)) FROM n";
    connection
        .execute_batch(&format!(
            "{extra}; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); CREATE INDEX i ON t(b); {rows}"
        ))
        .unwrap();
    connection
}

#[test]
fn a_sound_database_is_ok_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    for (name, extra) in [("app.db", ""), ("wal.db", "PRAGMA journal_mode=wal"), ("a ?#%41&b=c'ü.db", "")] {
        let path = dir.path().join(name);
        drop(database(&path, extra));
        let before = tree(dir.path());
        for mode in [Mode::Quick, Mode::Full] {
            assert_eq!(check(&path, mode), Ok(CheckOutcome::Ok), "{name}");
        }
        assert_eq!(tree(dir.path()), before);
    }
    std::fs::write(dir.path().join("empty.db"), b"").unwrap();
    assert_eq!(check(&dir.path().join("empty.db"), Mode::Full), Ok(CheckOutcome::Ok));
}

#[test]
fn an_unpublished_file_is_checked_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source.db");
    drop(database(&source, ""));
    let content = std::fs::read(&source).unwrap();
    let path = dir.path().join("out/app.db");
    let new = unpublished(&path, Replace::Never, true, &content).unwrap();
    assert_eq!(check(new.path().unwrap(), Mode::Full), Ok(CheckOutcome::Ok));
    new.publish().unwrap().sync_dir().unwrap();
    assert_eq!(tree(&dir.path().join("out")), files([("app.db", &content)]));
}

#[test]
fn damage_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    drop(database(&path, ""));
    let sound = std::fs::read(&path).unwrap();
    for (offset, what) in [(4096 * 5, "a page"), (0, "the header")] {
        let mut damaged = sound.clone();
        damaged[offset..offset + 64].fill(0x5a);
        std::fs::write(&path, damaged).unwrap();
        let before = tree(dir.path());
        for mode in [Mode::Quick, Mode::Full] {
            let outcome = check(&path, mode).unwrap();
            assert!(matches!(&outcome, CheckOutcome::Damaged(lines) if !lines.is_empty()), "{what}: {outcome:?}");
        }
        assert_eq!(tree(dir.path()), before);
    }
    // The file is one page shorter than the database header says.
    std::fs::write(&path, &sound[..sound.len() - 4096]).unwrap();
    assert!(matches!(check(&path, Mode::Quick), Ok(CheckOutcome::Damaged(_))));
}

#[test]
fn what_only_the_application_knows_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let collation = dir.path().join("collation.db");
    let connection = Connection::open(&collation).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE t(a TEXT COLLATE nocase); CREATE INDEX i ON t(a); INSERT INTO t VALUES('x'),('y');
             PRAGMA writable_schema=1;
             UPDATE sqlite_schema SET sql = replace(sql, 'nocase', 'theirs');",
        )
        .unwrap();
    drop(connection);
    for mode in [Mode::Quick, Mode::Full] {
        let outcome = check(&collation, mode).unwrap();
        println!("{mode:?} {outcome:?}");
        // `quick_check` may not need the missing collation, so its result may also be "ok".
        assert!(
            matches!(outcome, CheckOutcome::NotCheckable(_)) || mode == Mode::Quick && outcome == CheckOutcome::Ok,
            "{outcome:?}"
        );
    }
    let module = dir.path().join("module.db");
    let connection = Connection::open(&module).unwrap();
    connection
        .execute_batch(
            "PRAGMA writable_schema=1;
             INSERT INTO sqlite_schema VALUES('table','v','v',0,'CREATE VIRTUAL TABLE v USING theirs(a)');",
        )
        .unwrap();
    drop(connection);
    let outcome = check(&module, Mode::Full).unwrap();
    assert!(matches!(outcome, CheckOutcome::NotCheckable(_) | CheckOutcome::Ok), "{outcome:?}");
}

/// A database that needs functions, collations, modules or tokenizers that SQLite lacks. `built` uses some that it has;
/// `theirs` replaces a part of the schema's text.
#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("an index on a function", "CREATE INDEX i ON t(abs(a))", "abs", "no such function: theirs"),
        ("a partial index", "CREATE INDEX i ON t(a) WHERE abs(a) > 0", "abs", "no such function: theirs"),
        (
            "an index with a collation",
            "CREATE INDEX i ON t(a COLLATE nocase)",
            "nocase",
            "no such collation sequence: theirs",
        ),
        ("a tokenizer", "CREATE VIRTUAL TABLE v USING fts5(x, tokenize=porter)", "porter", "theirs"),
        ("an older tokenizer", "CREATE VIRTUAL TABLE v USING fts4(x, tokenize=porter)", "porter", "theirs"),
        (
            "a virtual table without its tables",
            "PRAGMA writable_schema=1; INSERT INTO sqlite_schema
             VALUES('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING fts5(x)')",
            "none",
            "vtable constructor failed: v",
        ),
        ("a module", "CREATE VIRTUAL TABLE v USING rtree(i, a, b)", "rtree", ""),
    ];
    for (what, built, ours, text) in cases {
        let path = dir.path().join("app.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(&format!(
                "CREATE TABLE t(a); {built}; INSERT INTO t VALUES(1), (2); PRAGMA writable_schema=1;
                 UPDATE sqlite_schema SET sql = replace(sql, '{ours}', 'theirs') WHERE name IN ('i', 'v');"
            ))
            .unwrap();
        drop(connection);
        let outcome = check(&path, Mode::Full);
        println!("{what}: {outcome:?} {:?}", check(&path, Mode::Quick));
        match outcome {
            Ok(CheckOutcome::NotCheckable(why)) => assert!(why.contains(text), "{what}: {why}"),
            // SQLite passes over virtual tables whose module it does not know.
            Ok(CheckOutcome::Ok) => assert!(built.contains("VIRTUAL"), "{what}"),
            outcome => panic!("{what}: {outcome:?}"),
        }
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_missing_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = check(&dir.path().join("absent.db"), Mode::Quick).unwrap_err();
    assert!(matches!(error, CommitError::Sqlite { .. }), "{error:?}");
    assert_eq!(tree(dir.path()).len(), 0);
}

#[test]
fn a_check_can_be_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let connection = database(&path, "");
    for _ in 0..7 {
        connection.execute_batch("INSERT INTO t(b) SELECT b || 'x' FROM t").unwrap();
    }
    drop(connection);
    let check = Check::open(&path, Mode::Full).unwrap();
    let handle = check.interrupt_handle();
    let running = std::thread::spawn(move || check.run());
    while !running.is_finished() {
        handle.interrupt();
        std::thread::yield_now();
    }
    let outcome = running.join().unwrap().unwrap();
    // If the interrupt comes before SQLite's first step, SQLite does not see it, and the check runs to its end.
    assert!(matches!(outcome, CheckOutcome::Interrupted | CheckOutcome::Ok), "{outcome:?}");
}
