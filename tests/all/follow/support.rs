//! A primary, the simulator that holds its replica, and the program that follows it.

use crate::common::binary::hydrant;
use crate::common::wait::{self, AT_MOST};
use hydrant::ltx::{PageSize, Txid};
use hydrant::sim::generate::{Change, GeneratedObject, INVARIANT, Primary};
use hydrant::sim::server::{Object, SimCredentials, SimOptions, SimServer, Stats};
use rusqlite::{Connection, ErrorCode, OpenFlags};
pub(super) use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

pub(super) const BUCKET: &str = "bucket";
/// The file of a standby that names its source.
pub(super) const LOCK: &str = ".out.db-hydrant-follow";

pub(super) struct World {
    pub primary: Primary,
    pub server: SimServer,
    pub dir: tempfile::TempDir,
}

/// A simulator that checks signatures, with an empty bucket.
pub(super) fn serve() -> SimServer {
    let credentials = SimCredentials {
        access_key: "AKIDHYDRANTTESTS".into(),
        secret_key: "hydrant-tests-secret-key".into(),
        session_token: None,
    };
    let server = SimServer::start(SimOptions { credentials: Some(credentials), ..SimOptions::default() }).unwrap();
    server.objects().create_bucket(BUCKET);
    server
}

impl World {
    pub(super) fn new(page_size: u32, auto_vacuum: u8) -> Self {
        let server = serve();
        let primary = Primary::new("app.db", PageSize::new(page_size).unwrap(), auto_vacuum, 7).unwrap();
        let mut world = Self { primary, server, dir: tempfile::tempdir().unwrap() };
        world.upload(0, 1, 1);
        world.upload(9, 1, 1);
        world
    }

    pub(super) fn put(&self, object: GeneratedObject) {
        let stored = Object::new(object.bytes).last_modified(object.last_modified);
        self.server.objects().put(BUCKET, &object.key, stored);
    }

    /// Commits a transaction and uploads its file of level 0.
    pub(super) fn transact(&mut self, change: Change) -> Txid {
        let file = self.primary.transact(change).unwrap();
        self.put(file);
        self.primary.txid()
    }

    /// Commits a transaction whose file of level 0 is not uploaded.
    pub(super) fn transact_unseen(&mut self, change: Change) -> GeneratedObject {
        self.primary.transact(change).unwrap()
    }

    pub(super) fn upload(&mut self, level: u8, min: u64, max: u64) {
        let file = self.primary.file(level, (min, max)).unwrap();
        self.put(file);
    }

    pub(super) fn remove(&self, level: u8, min: u64, max: u64) {
        assert!(self.server.objects().remove(BUCKET, &key(level, min, max)), "{level} {min} {max}");
    }

    pub(super) fn url(&self) -> String {
        format!("s3://{BUCKET}/app.db?endpoint={}&region=us-east-1", self.server.endpoint())
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("out.db")
    }

    pub(super) fn command(&self, more: &[&str]) -> Command {
        self.command_of(&self.url(), more)
    }

    pub(super) fn follow(&self) -> Follower {
        Follower::start(&mut self.command(&[]))
    }

    /// The replica of another database with the same page size, up to `newest`. Returns its URL.
    pub(super) fn other_replica(&self, newest: Txid) -> (Primary, String) {
        let mut other = Primary::new("other.db", PageSize::new(4096).unwrap(), 0, 99).unwrap();
        [0, 9].into_iter().for_each(|level| self.put(other.file(level, (1, 1)).unwrap()));
        while other.txid() < newest {
            self.put(other.transact(Change::Transfer).unwrap());
        }
        (other, self.url().replace("app.db", "other.db"))
    }

    /// As [`Self::command`], of the replica at `url`.
    pub(super) fn command_of(&self, url: &str, more: &[&str]) -> Command {
        let args = [&["restore", "-f", "-follow-interval", "20ms", "-v", "-o", "out.db"], more, &[url]].concat();
        hydrant(self.dir.path(), &args)
    }

    /// The source that the standby names. Empty if it names none.
    pub(super) fn source(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join(LOCK)).unwrap_or_default();
        text.lines().nth(1).and_then(|line| line.strip_prefix("replica ")).unwrap_or_default().to_owned()
    }

    /// Waits until the standby shows the newest transaction, then stops the follower.
    #[track_caller]
    pub(super) fn catch_up_and_stop(&self, follower: Follower) {
        // Without this line it may not handle signals yet.
        follower.until_line("caught up");
        follower.until_seq(&self.path(), self.primary.txid());
        follower.stop();
        self.is_state(self.primary.txid());
    }

    /// Checks that the standby, whose follower has ended, holds exactly the state at `txid`, and that its sidecar says so.
    #[track_caller]
    pub(super) fn is_state(&self, txid: Txid) {
        let image = self.primary.image(txid).unwrap().to_vec();
        assert!(masked(std::fs::read(self.path()).unwrap()) == masked(image), "another state than {txid}");
        assert_eq!(self.sidecar(), format!("{txid}\n"));
        self.has_only(&[LOCK, "out.db", "out.db-txid"]);
    }

    pub(super) fn sidecar(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out.db-txid")).unwrap()
    }

    #[track_caller]
    pub(super) fn has_only(&self, expected: &[&str]) {
        let names = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, expected);
    }

    pub(super) fn stats(&self) -> Stats {
        self.server.stats()
    }
}

pub(super) fn key(level: u8, min: u64, max: u64) -> String {
    format!("app.db/{level:04x}/{min:016x}-{max:016x}.ltx")
}

/// An image without the bytes of page 1 that a standby sets anew.
pub(super) fn masked(mut image: Vec<u8>) -> Vec<u8> {
    for range in [18..20, 24..28, 92..100] {
        image[range].fill(0);
    }
    image
}

pub(super) fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// The TXID of the state that a reader sees, after it has checked that it is a state and no mixture.
pub(super) fn seq(reader: &Connection) -> rusqlite::Result<u64> {
    let sql =
        "SELECT (SELECT sum(v) FROM a) + (SELECT sum(v) FROM b), (SELECT seq FROM meta), (SELECT max(id) FROM log)";
    let (sum, seq, log) =
        reader.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?;
    assert_eq!((sum, seq), (INVARIANT, log), "a mixture of states");
    Ok(u64::try_from(seq).unwrap())
}

/// A follower that runs, and what it has logged.
pub(super) struct Follower {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl Follower {
    pub(super) fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (stderr, to) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&lines));
        let reader = std::thread::spawn(move || stderr.lines().for_each(|line| to.lock().unwrap().push(line.unwrap())));
        Self { child, lines, reader }
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub(super) fn count(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.contains(text)).count()
    }

    #[track_caller]
    pub(super) fn until_line(&self, text: &str) {
        self.until_lines(text, 1);
    }

    #[track_caller]
    pub(super) fn until_lines(&self, text: &str, count: usize) {
        let begun = Instant::now();
        while self.count(text) < count {
            assert!(begun.elapsed() < AT_MOST, "no {text:?} in {:#?}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Waits until the database at `path` shows the state at `txid`.
    #[track_caller]
    pub(super) fn until_seq(&self, path: &Path, txid: Txid) {
        let begun = Instant::now();
        while read_only(path).and_then(|reader| seq(&reader)).ok() != Some(txid.0) {
            assert!(begun.elapsed() < AT_MOST, "not at {txid}: {:#?}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, signal: Signal) {
        // The child has not been waited for, so its process ID cannot have been reused.
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end. Returns the exit status, stdout and the log.
    pub(super) fn wait(mut self) -> (ExitStatus, String, Vec<String>) {
        let status = wait::ended(&mut self.child);
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.reader.join().unwrap();
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        (status, stdout, lines)
    }

    /// Ends the follower by SIGTERM, which must be a success.
    #[track_caller]
    pub(super) fn stop(self) -> (String, Vec<String>) {
        self.signal(Signal::TERM);
        let (status, stdout, lines) = self.wait();
        assert_eq!(status.code(), Some(0), "{lines:#?}");
        (stdout, lines)
    }

    pub(super) fn kill(self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Waits for the end, which must be a failure whose message holds `text`.
    #[track_caller]
    pub(super) fn fails(self, text: &str) -> Vec<String> {
        let (status, stdout, lines) = self.wait();
        assert_eq!((status.code(), &*stdout), (Some(1), ""), "{lines:#?}");
        assert!(
            lines.iter().any(|line| line.starts_with("Error: ") && line.contains(text)),
            "no {text:?} in {lines:#?}"
        );
        lines
    }
}

/// Readers that read a standby without pause, until they are stopped. They fail if they see anything but states that only
/// advance.
pub(super) struct Readers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Readers {
    pub(super) fn start(path: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spawn = |keeps: bool, mmap: i64| {
            let (path, stop) = (path.to_owned(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let (mut reads, mut newest, mut kept) = (0, 0, None);
                // On a busy machine the follower may end before the first read.
                while reads == 0 || !stop.load(SeqCst) {
                    let reader = match kept.take() {
                        Some(reader) => Ok(reader),
                        None => read_only(&path),
                    };
                    // While the last connection closes, a reader may find no database that it can open.
                    let Ok(reader) = reader else { continue };
                    let _ = reader.execute_batch(&format!("PRAGMA mmap_size = {mmap}"));
                    let seen = match seq(&reader) {
                        Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => continue,
                        seen => seen.unwrap(),
                    };
                    assert!(seen >= newest, "the state at {seen} after {newest}");
                    (reads, newest) = (reads + 1, seen);
                    if keeps {
                        kept = Some(reader);
                    }
                }
                reads
            })
        };
        let threads = vec![spawn(true, 0), spawn(false, 0), spawn(true, 1 << 28)];
        Self { stop, threads }
    }

    /// Ends them. Each must have read something.
    pub(super) fn stop(self) {
        self.stop.store(true, SeqCst);
        for thread in self.threads {
            assert!(thread.join().unwrap() > 0);
        }
    }
}
