//! A live database in WAL mode that SQLite writes, and its state after each transaction.

use super::replica::V3Content;
use crate::ltx::PageSize;
use crate::sim::generate::GenerateError;
use crate::sim::random::Random;
use crate::sim::sqlite::{TemporaryFolder, is_intact};
use rusqlite::Connection;
use std::path::PathBuf;
use std::time::Duration;

/// The properties of a database that SQLite writes, and of its replica.
#[derive(Debug, Clone)]
pub struct PackSpec {
    /// The prefix of the keys, with or without a slash at its end.
    pub root: String,
    /// The page size of the database.
    pub page_size: PageSize,
    /// The number of generations, at least 1.
    pub generations: u32,
    /// The number of steps in each generation. A step is a transaction (every second one), an upload, a checkpoint or
    /// a snapshot.
    pub steps: u32,
    /// Whether the database has incremental auto-vacuum.
    pub auto_vacuum: bool,
    /// Whether segments may end at any frame, also inside transactions.
    pub splits: bool,
    /// Whether snapshots are taken that hold pages of WAL that is uploaded later (docs/FORMAT-V3.md, "The snapshot
    /// that is ahead").
    pub ahead: bool,
    /// Whether the last object is such a snapshot: the machine died before the next upload.
    pub dies: bool,
    /// Whether the checksums of the WAL cover big-endian words.
    pub big_endian: bool,
    /// Whether upload times are whole seconds, as AWS has them.
    pub whole_seconds: bool,
}

impl Default for PackSpec {
    fn default() -> Self {
        Self {
            root: "packed.db".into(),
            page_size: const { PageSize::new(4096).unwrap() },
            generations: 2,
            steps: 30,
            auto_vacuum: false,
            splits: true,
            ahead: true,
            dies: false,
            big_endian: false,
            whole_seconds: false,
        }
    }
}

/// The WAL of the live database since it was restarted last.
#[derive(Debug, Clone, Default)]
pub(super) struct LiveWal {
    /// Counts the restarts.
    pub run: u64,
    pub frames: Vec<LiveFrame>,
    pub commits: Vec<Commit>,
    /// The state before the first frame.
    pub base: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct LiveFrame {
    pub pgno: u32,
    pub commit: u32,
    pub page: Vec<u8>,
}

/// The end of a transaction in a WAL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    /// The number of frames up to and including it.
    pub frames: u64,
    /// The state after it. None if it is not known, as between two commits of one statement.
    pub state: Option<usize>,
}

/// A live database in WAL mode.
pub(super) struct Source {
    connection: Connection,
    path: PathBuf,
    page_size: PageSize,
    auto_vacuum: bool,
    pub wal: LiveWal,
    /// The salts of `wal`.
    salts: [u8; 8],
    /// The content of the database after each transaction.
    states: Vec<V3Content>,
    /// After the connection in the order of fields, so that the folder is removed last.
    folder: TemporaryFolder,
}

impl Source {
    pub(super) fn create(spec: &PackSpec) -> Result<Self, GenerateError> {
        let folder = TemporaryFolder::create()?;
        let path = folder.path().join("live.db");
        let connection = Connection::open(&path)?;
        // A checkpoint does not wait for readers.
        connection.busy_timeout(Duration::ZERO)?;
        connection.execute_batch(&format!(
            "PRAGMA page_size = {}; PRAGMA auto_vacuum = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
             PRAGMA wal_autocheckpoint = 0;",
            spec.page_size.get(),
            if spec.auto_vacuum { 2 } else { 0 },
        ))?;
        let mut source = Self {
            connection,
            path,
            page_size: spec.page_size,
            auto_vacuum: spec.auto_vacuum,
            wal: LiveWal::default(),
            salts: [0; 8],
            states: Vec::new(),
            folder,
        };
        source.write(|connection| {
            connection.execute_batch(
                "BEGIN;
                 CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER);
                 CREATE TABLE _litestream_lock (id INTEGER);
                 CREATE TABLE counter (id INTEGER PRIMARY KEY, value INTEGER);
                 INSERT INTO counter VALUES (1, 0);
                 CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL, body TEXT, mark BLOB);
                 CREATE INDEX notes_by_title ON notes (title);
                 COMMIT;",
            )
        })?;
        Ok(source)
    }

    /// One transaction of random writes. Each changes the table `counter`, so that its page differs after each one.
    pub(super) fn transact(&mut self, random: &mut Random) -> Result<(), GenerateError> {
        let vacuums = self.auto_vacuum && random.chance(0.3);
        self.write(|connection| {
            connection.execute_batch("BEGIN; UPDATE counter SET value = value + 1;")?;
            match random.below(10) {
                0 => {
                    connection.execute("DELETE FROM notes WHERE id % 3 = ?1", [random.below(3) as i64])?;
                }
                1 | 2 => {
                    let seen = random.below(7) as i64;
                    connection.execute("UPDATE notes SET body = body || ' (seen)' WHERE id % 7 = ?1", [seen])?;
                }
                kind => {
                    let most = if kind == 3 { 200 } else { 12 };
                    let mut insert =
                        connection.prepare_cached("INSERT INTO notes (title, body, mark) VALUES (?1, ?2, ?3)")?;
                    for _ in 0..1 + random.below(most) {
                        let title = format!("note {:06}", random.below(1_000_000));
                        let body = "what was said at the meeting; ".repeat(1 + random.below(6) as usize);
                        let mark: Vec<u8> =
                            (0..random.below(8)).flat_map(|_| random.next_u64().to_le_bytes()).collect();
                        insert.execute((title, body, mark))?;
                    }
                }
            }
            if vacuums {
                connection.execute_batch("PRAGMA incremental_vacuum(4);")?;
            }
            connection.execute_batch("COMMIT;")
        })
    }

    pub(super) fn vacuum(&mut self) -> Result<(), GenerateError> {
        self.write(|connection| connection.execute_batch("VACUUM;"))
    }

    /// Litestream's own write.
    pub(super) fn write_sequence(&mut self) -> Result<(), GenerateError> {
        self.write(|connection| {
            connection.execute_batch(
                "INSERT INTO _litestream_seq (id, seq) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET seq = seq + 1;",
            )
        })
    }

    /// Runs a transaction, and notes its frames in the WAL and the state after it.
    fn write(&mut self, transaction: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<(), GenerateError> {
        transaction(&self.connection)?;
        let before = self.states.len().checked_sub(1);
        let wal = std::fs::read(self.folder.path().join("live.db-wal"))?;
        let settled = self.settle(&self.database()?, &wal)?;
        self.states.push(V3Content::of(&settled));

        let Some((header, frames)) = wal.split_at_checked(32) else {
            return Err(GenerateError("SQLite wrote no WAL".into()));
        };
        if header[16..24] != self.salts {
            self.salts.copy_from_slice(&header[16..24]);
            self.wal = LiveWal { run: self.wal.run + 1, base: before, ..LiveWal::default() };
        }
        // Behind the newest frames there may be older ones, from before the WAL was restarted. Their salts differ.
        let known = self.wal.frames.len();
        let frames = frames.chunks_exact(24 + self.page_size.bytes()).take_while(|frame| frame[8..16] == self.salts);
        for frame in frames.skip(known) {
            let word = |at: usize| frame[at..at + 4].iter().fold(0, |word, &byte| word << 8 | u32::from(byte));
            self.wal.frames.push(LiveFrame { pgno: word(0), commit: word(4), page: frame[24..].to_vec() });
            if word(4) != 0 {
                self.wal.commits.push(Commit { frames: self.wal.frames.len() as u64, state: None });
            }
        }
        match self.wal.commits.last_mut() {
            Some(last) if self.wal.frames.len() > known => last.state = Some(self.states.len() - 1),
            _ => return Err(GenerateError("a transaction wrote nothing".into())),
        }
        Ok(())
    }

    /// Moves the WAL into the database file, as far as readers allow it. Returns the number of frames of the WAL that
    /// the file then holds.
    pub(super) fn checkpoint(&self, mode: &str) -> Result<u64, GenerateError> {
        let pragma = format!("PRAGMA wal_checkpoint({mode})");
        let (frames, moved): (i64, i64) =
            self.connection.query_row(&pragma, [], |row| Ok((row.get(1)?, row.get(2)?)))?;
        // After a RESTART SQLite counts the frames of the next WAL. The old ones are all in the file.
        Ok(if frames <= 0 { self.wal.frames.len() as u64 } else { moved.max(0) as u64 })
    }

    /// Opens a reader that sees the newest state until it is dropped.
    pub(super) fn reader(&self) -> Result<Connection, GenerateError> {
        let reader = Connection::open(&self.path)?;
        reader.execute_batch("BEGIN;")?;
        reader.query_row("SELECT value FROM counter", [], |_| Ok(()))?;
        Ok(reader)
    }

    /// The bytes of the database file, without the WAL.
    pub(super) fn database(&self) -> Result<Vec<u8>, GenerateError> {
        Ok(std::fs::read(&self.path)?)
    }

    /// The content after a transaction.
    pub(super) fn state(&self, number: usize) -> V3Content {
        self.states[number]
    }

    /// What SQLite makes of a database file and a WAL, by a truncating checkpoint.
    fn settle(&self, database: &[u8], wal: &[u8]) -> Result<Vec<u8>, GenerateError> {
        let path = self.folder.path().join("copy.db");
        std::fs::write(&path, database)?;
        std::fs::write(self.folder.path().join("copy.db-wal"), wal)?;
        let copy = Connection::open(&path)?;
        copy.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        drop(copy);
        let settled = std::fs::read(&path)?;
        std::fs::remove_file(&path)?;
        Ok(settled)
    }

    /// What SQLite makes of a snapshot and a part of a WAL. None if its integrity check does not find that right.
    pub(super) fn mixture(&self, snapshot: &[u8], wal: &[u8]) -> Option<V3Content> {
        let settled = self.settle(snapshot, wal).ok()?;
        is_intact(&settled).then(|| V3Content::of(&settled))
    }
}
