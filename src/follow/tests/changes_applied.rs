//! Changes of every shape, applied through SQLite and compared byte for byte with the database that they came from.

use crate::follow::{Standby, StandbyError};
use crate::ltx::Pgno;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};

/// A primary: a database whose whole content is read after each transaction.
struct Primary {
    connection: Connection,
    path: PathBuf,
    page_bytes: usize,
}

impl Primary {
    fn new(folder: &Path, page_size: u32, auto_vacuum: u32) -> Self {
        let path = folder.join("primary.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum}; PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = OFF;
                 CREATE TABLE a(id INTEGER PRIMARY KEY, v INT); CREATE TABLE b(id INTEGER PRIMARY KEY, v INT);
                 CREATE TABLE log(id INTEGER PRIMARY KEY, pad BLOB);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) INSERT INTO a SELECT i, 100 FROM n;
                 INSERT INTO b SELECT id, 100 FROM a;"
            ))
            .unwrap();
        Self { connection, path, page_bytes: page_size as usize }
    }

    fn image(&self) -> Vec<u8> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        std::fs::read(&self.path).unwrap()
    }

    fn run(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }

    /// The pages that differ between two images, page 1 apart.
    fn changes(&self, old: &[u8], new: &[u8]) -> (Vec<Pgno>, Vec<u8>, Option<Vec<u8>>) {
        let (mut pgnos, mut contents, mut page_1) = (Vec::new(), Vec::new(), None);
        for (i, page) in new.chunks(self.page_bytes).enumerate() {
            if old.get(i * self.page_bytes..(i + 1) * self.page_bytes) == Some(page) {
                continue;
            }
            if i == 0 {
                page_1 = Some(page.to_vec());
            } else {
                pgnos.push(Pgno(i as u32 + 1));
                contents.extend_from_slice(page);
            }
        }
        (pgnos, contents, page_1)
    }

    fn apply(&self, standby: &mut Standby, old: &[u8], new: &[u8]) {
        let (pgnos, contents, page_1) = self.changes(old, new);
        standby.write(&pgnos, &contents).unwrap();
        standby.commit((new.len() / self.page_bytes) as u32, page_1).unwrap();
        assert!(standby.settle().unwrap().is_copied);
    }
}

/// An image without the bytes of page 1 that a standby sets anew: the file format's two, the change counter, and the
/// version numbers.
fn masked(mut image: Vec<u8>) -> Vec<u8> {
    for range in [18..20, 24..28, 92..100] {
        image[range].fill(0);
    }
    image
}

fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn read_only(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

#[test]
fn every_shape_of_change_arrives_byte_for_byte() {
    let statements = [
        "UPDATE a SET v = v - 7 WHERE id = 3; UPDATE b SET v = v + 7 WHERE id = 9",
        "INSERT INTO log(pad) SELECT randomblob(3000) FROM a",
        "CREATE TABLE c(x, y); CREATE INDEX d ON c(y); INSERT INTO c SELECT id, v FROM a",
        "DELETE FROM log WHERE id % 3 > 0; UPDATE a SET v = v",
        "VACUUM",
        "DROP INDEX d; DROP TABLE c; CREATE TABLE e(x); INSERT INTO e VALUES (zeroblob(100000))",
        "PRAGMA user_version = 5",
        "DELETE FROM log; DELETE FROM e; VACUUM",
        "INSERT INTO log(pad) SELECT randomblob(9000) FROM a",
    ];
    for page_size in [512, 1024, 4096, 65536] {
        for auto_vacuum in 0..3 {
            let folder = tempfile::tempdir().unwrap();
            let primary = Primary::new(folder.path(), page_size, auto_vacuum);
            let path = folder.path().join("standby.db");
            let mut image = primary.image();
            std::fs::write(&path, &image).unwrap();
            let mut standby = Standby::open(&path).unwrap();
            let kept = read_only(&path);
            for sql in statements {
                primary.run(sql);
                let new = primary.image();
                primary.apply(&mut standby, &image, &new);
                image = new;
                for reader in [&kept, &read_only(&path)] {
                    assert_eq!(
                        number(reader, "SELECT (SELECT sum(v) FROM a) + (SELECT sum(v) FROM b)"),
                        10_000,
                        "{sql}"
                    );
                    let check: String = reader.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
                    assert_eq!(check, "ok", "{page_size} {auto_vacuum} {sql}");
                }
            }
            drop(kept);
            standby.close();
            assert_eq!(masked(std::fs::read(&path).unwrap()), masked(image), "{page_size} {auto_vacuum}");
            assert!(!path.with_extension("db-wal").exists(), "no log is left");
        }
    }
}

#[test]
fn readers_see_nothing_before_the_commit_and_wait_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let primary = Primary::new(folder.path(), 4096, 0);
    let path = folder.path().join("standby.db");
    let old = primary.image();
    std::fs::write(&path, &old).unwrap();
    let mut standby = Standby::open(&path).unwrap();
    let reader = read_only(&path);
    reader.busy_timeout(std::time::Duration::ZERO).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let sum = "SELECT (SELECT sum(v) FROM a) * 10000 + (SELECT count(*) FROM log)";
    assert_eq!(number(&reader, sum), 5000 * 10_000);
    primary.run("UPDATE a SET v = v + 1; INSERT INTO log(pad) SELECT randomblob(3000) FROM a");
    let new = primary.image();
    let (pgnos, contents, page_1) = primary.changes(&old, &new);
    standby.write(&pgnos, &contents).unwrap();
    assert_eq!(number(&read_only(&path), sum), 5000 * 10_000);
    standby.commit((new.len() / 4096) as u32, page_1).unwrap();
    // The old transaction goes on, a new one sees the change. The log stays as long as the old one needs it.
    assert!(!standby.settle().unwrap().is_copied);
    assert_eq!(number(&reader, sum), 5000 * 10_000);
    assert_eq!(number(&read_only(&path), sum), 5050 * 10_000 + 50);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(number(&reader, sum), 5050 * 10_000 + 50);
    primary.run("UPDATE a SET v = v + 1");
    let newest = primary.image();
    primary.apply(&mut standby, &new, &newest);
    assert_eq!(number(&reader, sum), 5100 * 10_000 + 50);
    drop(reader);
    standby.close();
    assert_eq!(masked(std::fs::read(&path).unwrap()), masked(newest));
}

#[test]
fn what_is_abandoned_was_never_there() {
    let folder = tempfile::tempdir().unwrap();
    let primary = Primary::new(folder.path(), 512, 1);
    let path = folder.path().join("standby.db");
    let old = primary.image();
    std::fs::write(&path, &old).unwrap();
    let mut standby = Standby::open(&path).unwrap();
    primary.run("INSERT INTO log(pad) SELECT randomblob(400000) FROM a");
    let new = primary.image();
    let (pgnos, contents, _) = primary.changes(&old, &new);
    // More than SQLite keeps in memory, and than a log may have before it is cut.
    assert!(contents.len() > 16 << 20);
    standby.write(&pgnos, &contents).unwrap();
    standby.abandon().unwrap();
    assert_eq!(number(&read_only(&path), "SELECT count(*) FROM log"), 0);
    primary.apply(&mut standby, &old, &new);
    assert_eq!(number(&read_only(&path), "SELECT count(*) FROM log"), 50);
    assert_eq!(path.with_extension("db-wal").metadata().unwrap().len(), 0);
    standby.write(&pgnos, &contents).unwrap();
    standby.close();
    assert_eq!(masked(std::fs::read(&path).unwrap()), masked(new));
}

#[test]
fn other_writers_are_locked_out_and_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let primary = Primary::new(folder.path(), 4096, 0);
    let path = folder.path().join("standby.db");
    let old = primary.image();
    std::fs::write(&path, &old).unwrap();
    let mut standby = Standby::open(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    let error = other.execute_batch("UPDATE a SET v = 0").unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
    // Between commit and settling the lock is free for a moment.
    primary.run("UPDATE a SET v = v + 1");
    let new = primary.image();
    let (pgnos, contents, page_1) = primary.changes(&old, &new);
    standby.write(&pgnos, &contents).unwrap();
    standby.commit((new.len() / 4096) as u32, page_1).unwrap();
    other.execute_batch("UPDATE a SET v = 0").unwrap();
    let error = standby.settle().unwrap_err();
    assert!(matches!(error, StandbyError::ChangedByOther { .. }), "{error}");
    standby.close();
}

/// Waits in SQLite until the thread is woken, then gives up.
fn until_woken(_: i32) -> bool {
    std::thread::park();
    false
}

#[test]
fn a_program_that_copies_the_log_at_the_same_moment_is_no_writer() {
    let folder = tempfile::tempdir().unwrap();
    let primary = Primary::new(folder.path(), 4096, 0);
    let path = folder.path().join("standby.db");
    let old = primary.image();
    std::fs::write(&path, &old).unwrap();
    let mut standby = Standby::open(&path).unwrap();
    // Another program holds the lock of checkpoints as long as it waits for the writer's.
    let (mut other, probe) = (Connection::open(&path).unwrap(), Connection::open(&path).unwrap());
    other.busy_handler(Some(until_woken)).unwrap();
    let checkpoint = |connection: &Connection, mode: &str| {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        connection.query_row(&sql, [], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?))).unwrap()
    };
    // Ends: it fails at once only while `probe` holds the lock.
    let waiting = std::thread::spawn(move || while checkpoint(&other, "TRUNCATE").1 < 0 {});
    // Ends: once the other program waits.
    while !checkpoint(&probe, "PASSIVE").0 {}
    primary.run("INSERT INTO log SELECT NULL, randomblob(3000) FROM a");
    let new = primary.image();
    let (pgnos, contents, page_1) = primary.changes(&old, &new);
    standby.write(&pgnos, &contents).unwrap();
    standby.commit((new.len() / 4096) as u32, page_1).unwrap();
    assert!(!standby.settle().unwrap().is_copied);
    waiting.thread().unpark();
    waiting.join().unwrap();
    primary.run("UPDATE a SET v = v + 1");
    let newest = primary.image();
    primary.apply(&mut standby, &new, &newest);
    standby.close();
    assert!(masked(std::fs::read(&path).unwrap()) == masked(newest));
}

#[test]
fn a_large_log_stays_when_the_standby_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let primary = Primary::new(folder.path(), 4096, 0);
    let (path, log) = (folder.path().join("standby.db"), folder.path().join("standby.db-wal"));
    let old = primary.image();
    std::fs::write(&path, &old).unwrap();
    let mut standby = Standby::open(&path).unwrap();
    // A reader that keeps its state open keeps the log from being copied.
    let reader = read_only(&path);
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(number(&reader, "SELECT count(*) FROM log"), 0);
    primary.run("INSERT INTO log SELECT NULL, zeroblob(700000) FROM a");
    let new = primary.image();
    let (pgnos, contents, page_1) = primary.changes(&old, &new);
    standby.write(&pgnos, &contents).unwrap();
    standby.commit((new.len() / 4096) as u32, page_1).unwrap();
    assert!(!standby.settle().unwrap().is_copied);
    drop(reader);
    standby.close();
    assert!(std::fs::metadata(&log).unwrap().len() > 32 << 20);
    assert_eq!(number(&read_only(&path), "SELECT count(*) FROM log"), 50);
    // The next change copies it.
    let mut standby = Standby::open(&path).unwrap();
    primary.run("UPDATE a SET v = v + 1");
    let newest = primary.image();
    primary.apply(&mut standby, &new, &newest);
    standby.close();
    assert!(!log.exists());
    assert!(masked(std::fs::read(&path).unwrap()) == masked(newest));
}

#[test]
fn what_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.db");
    let error = Standby::open(&missing).map(drop).unwrap_err();
    assert!(error.to_string().contains("unable to open database"), "{error}");
    assert!(!missing.exists(), "nothing is created");
    let held = folder.path().join("held.db");
    let writer = Connection::open(&held).unwrap();
    writer.execute_batch("CREATE TABLE t(x); PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let error = Standby::open(&held).map(drop).unwrap_err();
    assert!(matches!(error, StandbyError::Locked { .. }), "{error}");
}
