//! A primary that goes on: a database that SQLite writes, and the files of its replica, made one after the other as the
//! test asks for them. Its tables keep an invariant, so a reader of a standby can tell a state from a mixture of two:
//! the sum over `a` and `b` is constant, and `meta.seq` is the TXID and the highest `log.id`.

use super::chain::{Chain, FileStyle, WalPlace};
use super::{EncodingMix, GenerateError, GeneratedObject};
use crate::catalogue::Layout;
use crate::ltx::{PageSize, Txid};
use crate::sim::random::Random;
use crate::sim::sqlite::TemporaryFolder;
use crate::timestamp::Timestamp;
use rusqlite::Connection;
use std::path::PathBuf;

/// The sum over the tables `a` and `b`.
pub const INVARIANT: i64 = 2 * ROWS * 1000;
/// The number of rows in each of them.
const ROWS: i64 = 100;

/// A kind of transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Moves amounts from `a` to `b`. The size stays.
    Transfer,
    /// Adds rows of about this many bytes together.
    Grow(u32),
    /// Deletes rows, and gives the space back.
    Vacuum,
    /// Changes the schema.
    Schema,
    /// Changes nothing but page 1's `user_version`.
    Header,
}

/// A primary, and its replica's files.
pub struct Primary {
    connection: Connection,
    path: PathBuf,
    chain: Chain,
    images: Vec<Vec<u8>>,
    root: String,
    style: FileStyle,
    random: Random,
    wal: WalPlace,
    // Last, so removed after the connection is closed.
    _folder: TemporaryFolder,
}

impl Primary {
    /// A primary whose replica has the key prefix `root`. Its first transaction is TXID 1.
    pub fn new(root: &str, page_size: PageSize, auto_vacuum: u8, seed: u64) -> Result<Self, GenerateError> {
        let folder = TemporaryFolder::create()?;
        let path = folder.path().join("primary.db");
        let connection = Connection::open(&path)?;
        connection.execute_batch(&format!(
            "PRAGMA page_size = {}; PRAGMA auto_vacuum = {auto_vacuum}; PRAGMA journal_mode = WAL;
             PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE a(id INTEGER PRIMARY KEY, v INT); CREATE TABLE b(id INTEGER PRIMARY KEY, v INT);
             CREATE TABLE meta(seq INT); INSERT INTO meta VALUES (1);
             CREATE TABLE log(id INTEGER PRIMARY KEY, pad BLOB); INSERT INTO log VALUES (1, NULL);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
             INSERT INTO a SELECT i, 1000 FROM n;
             INSERT INTO b SELECT id, 1000 FROM a;",
            page_size.get()
        ))?;
        let style = FileStyle { layout: Layout::Hex, encoding: EncodingMix::Block, tracked: false };
        let mut primary = Self {
            connection,
            path,
            chain: Chain::new(page_size, false),
            images: Vec::new(),
            root: root.to_owned(),
            style,
            random: Random::new(seed),
            wal: WalPlace { offset: 32, size: 0, salts: (seed as u32, 1) },
            _folder: folder,
        };
        primary.push()?;
        Ok(primary)
    }

    /// The newest TXID.
    pub fn txid(&self) -> Txid {
        Txid(self.chain.len())
    }

    /// The database after the transaction `txid`.
    pub fn image(&self, txid: Txid) -> Option<&[u8]> {
        self.images.get((txid.0 as usize).checked_sub(1)?).map(Vec::as_slice)
    }

    /// Commits a transaction. Returns its file of level 0.
    pub fn transact(&mut self, change: Change) -> Result<GeneratedObject, GenerateError> {
        let seq = self.chain.len() + 1;
        let amount = self.random.below(50);
        let extra = match change {
            Change::Transfer | Change::Vacuum => String::new(),
            Change::Grow(bytes) => format!("UPDATE log SET pad = randomblob({bytes}) WHERE id = {};", seq - 1),
            Change::Schema => format!("CREATE TABLE s{seq}(x); CREATE INDEX i{seq} ON a(v, id);"),
            Change::Header => format!("PRAGMA user_version = {seq};"),
        };
        let of_row = self.random.below(ROWS as u64) + 1;
        self.connection.execute_batch(&format!(
            "BEGIN; {extra}
             UPDATE a SET v = v - {amount} WHERE id = {of_row};
             UPDATE b SET v = v + {amount} WHERE id = {};
             UPDATE meta SET seq = {seq}; INSERT INTO log VALUES ({seq}, NULL);",
            ROWS as u64 + 1 - of_row
        ))?;
        if change == Change::Vacuum {
            self.connection.execute_batch(&format!("DELETE FROM log WHERE id < {seq}; COMMIT; VACUUM;"))?;
        } else {
            self.connection.execute_batch("COMMIT")?;
        }
        self.push()?;
        self.file(0, (seq, seq))
    }

    /// Begins another WAL with the next transaction, as a checkpoint or a restart does.
    pub fn restart_wal(&mut self) {
        let (first, second) = self.wal.salts;
        self.wal = WalPlace { offset: 32, size: 0, salts: (first.wrapping_add(1), second.wrapping_add(77)) };
    }

    /// The file with the transactions `min` to `max` at `level`.
    pub fn file(&mut self, level: u8, (min, max): (u64, u64)) -> Result<GeneratedObject, GenerateError> {
        self.chain.write(&self.root, level, (min, max), self.style, 0, &mut self.random)?;
        self.chain.objects().pop().ok_or_else(|| GenerateError("no file".into()))
    }

    /// Adds what the database holds now as a transaction.
    fn push(&mut self) -> Result<(), GenerateError> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        let image = std::fs::read(&self.path)?;
        if !self.chain.push_image(&image, Timestamp::now().as_nanos() / 1_000_000) {
            return Err(GenerateError("nothing changed".into()));
        }
        self.wal.offset += self.wal.size;
        self.wal.size = self.chain.newest_wal_bytes();
        self.chain.set_wal(self.wal);
        self.images.push(image);
        Ok(())
    }
}
