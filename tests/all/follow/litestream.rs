//! A real Litestream as the primary, and the way back: a promoted standby that Litestream replicates to the same replica.
//! Takes `litestream` on PATH.

use super::support::*;
use crate::common::binary::hydrant;
use crate::common::wait;
use hydrant::ltx::Txid;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn has_litestream() -> bool {
    let version = Command::new("litestream").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_there = version.is_ok_and(|status| status.success());
    if !is_there {
        println!("skipped: no litestream here");
    }
    is_there
}

/// `litestream replicate` of one database, which compacts every 2 s and keeps level 0 for 3 s.
struct Litestream(Child);

impl Litestream {
    fn start(database: &Path, replica: &Path) -> Self {
        let config = database.with_extension("yml");
        let text = format!(
            "levels: [{{interval: 2s}}]\nl0-retention: 3s\nl0-retention-check-interval: 1s\ndbs:\n  - path: {}\n    \
             replica: {{type: file, path: {}, sync-interval: 100ms}}\n",
            database.display(),
            replica.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("litestream");
        command.args(["replicate", "-config"]).arg(config).env_remove("AWS_CA_BUNDLE");
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn stop(mut self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), Signal::TERM).unwrap();
        wait::ended(&mut self.0);
    }
}

impl Drop for Litestream {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Scene {
    dir: tempfile::TempDir,
    replica: PathBuf,
    seq: i64,
}

impl Scene {
    fn follow(&self, name: &str) -> Follower {
        let url = format!("file://{}", self.replica.display());
        let args = ["restore", "-f", "-v", "-follow-interval", "50ms", "-o", name, &url];
        Follower::start(&mut hydrant(self.dir.path(), &args))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&mut self, primary: &Connection) {
        self.seq += 1;
        let seq = self.seq;
        primary
            .execute_batch(&format!(
                "BEGIN; UPDATE a SET v = v - 3; UPDATE b SET v = v + 3; INSERT INTO log VALUES ({seq}, randomblob(5000));
                 UPDATE meta SET seq = {seq}; COMMIT"
            ))
            .unwrap();
    }

    /// Waits until the database `name` shows the newest transaction.
    #[track_caller]
    fn until_newest(&self, name: &str, follower: &Follower) {
        let shows = |reader: Connection| {
            let sql =
                "SELECT seq, (SELECT max(id) FROM log), (SELECT sum(v) FROM a) + (SELECT sum(v) FROM b) FROM meta";
            let row: (i64, i64, i64) = reader.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            assert_eq!((row.0, row.2), (row.1, 20_000), "a mixture of states");
            Ok(row.0)
        };
        let begun = std::time::Instant::now();
        while read_only(&self.path(name)).and_then(shows).ok() != Some(self.seq) {
            assert!(begun.elapsed() < wait::AT_MOST, "not at {}: {:#?}", self.seq, follower.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(wait::AT_MOST).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0").unwrap();
    connection
}

#[test]
fn a_standby_follows_litestream_is_promoted_and_replicated_back() {
    if !has_litestream() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene { replica: dir.path().join("replica"), dir, seq: 0 };
    let primary = open(&scene.path("p.db"));
    primary
        .execute_batch(
            "CREATE TABLE a(id INTEGER PRIMARY KEY, v INT); CREATE TABLE b(id INTEGER PRIMARY KEY, v INT);
             CREATE TABLE meta(seq INT); CREATE TABLE log(id INTEGER PRIMARY KEY, pad BLOB); INSERT INTO meta VALUES (0);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) INSERT INTO a SELECT i, 100 FROM n;
             INSERT INTO b SELECT id, 100 FROM a",
        )
        .unwrap();
    scene.write(&primary);
    let litestream = Litestream::start(&scene.path("p.db"), &scene.replica);
    wait::until(|| scene.replica.join("ltx/0").exists());
    let (first, second) = (scene.follow("s.db"), scene.follow("t.db"));
    first.until_line("caught up");
    second.until_line("caught up");
    for _ in 0..10 {
        scene.write(&primary);
        scene.until_newest("s.db", &first);
    }
    // Killed, and away until level 0 has been compacted.
    first.kill();
    let has_compacted = || std::fs::read_dir(scene.replica.join("ltx/1")).is_ok_and(|files| files.count() > 1);
    let begun = std::time::Instant::now();
    while !has_compacted() {
        assert!(begun.elapsed() < wait::AT_MOST, "Litestream does not compact");
        scene.seq += 1;
        let seq = scene.seq;
        let sql = format!("BEGIN; INSERT INTO log VALUES ({seq}, NULL); UPDATE meta SET seq = {seq}; COMMIT");
        primary.execute_batch(&sql).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    primary.execute_batch("VACUUM").unwrap();
    scene.write(&primary);
    let first = scene.follow("s.db");
    scene.until_newest("s.db", &first);
    // The primary is gone, the standby takes its place.
    litestream.stop();
    drop(primary);
    let url = format!("file://{}", scene.replica.display());
    let promoting = Follower::start(&mut hydrant(scene.dir.path(), &["promote", "-o", "s.db", &url]));
    assert_eq!(first.wait().0.code(), Some(0));
    let (status, _, lines) = promoting.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    let primary = open(&scene.path("s.db"));
    let litestream = Litestream::start(&scene.path("s.db"), &scene.replica);
    for _ in 0..5 {
        scene.write(&primary);
        scene.until_newest("t.db", &second);
    }
    litestream.stop();
    let checkpoint: i64 = primary.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(checkpoint, 0);
    drop(primary);
    // A restore gives the new primary, byte for byte, and so does the second standby but for page 1's counters.
    let (status, _, lines) = Follower::start(&mut hydrant(scene.dir.path(), &["restore", "-o", "r.db", &url])).wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    let new = std::fs::read(scene.path("s.db")).unwrap();
    assert!(std::fs::read(scene.path("r.db")).unwrap() == new);
    let restored = lines.iter().find_map(|line| line.split_once(" at txid ")).unwrap().1;
    let restored = Txid::parse_name(&restored.as_bytes()[..16]).unwrap();
    wait::until(|| second.count(&format!(" to {restored}: ")) > 0);
    let (_, log) = second.stop();
    assert!(!log.iter().any(|line| line.starts_with("Warning")), "{log:#?}");
    assert!(masked(std::fs::read(scene.path("t.db")).unwrap()) == masked(new));
}
