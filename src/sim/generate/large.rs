//! One large SQLite database as a replica: a snapshot, and small increments (LTX files with few pages) after it.
//! Any page of it can be computed again, so a test can compare a restored database without keeping a copy.

use super::chain::EPOCH_MS;
use super::table::Table;
use super::{EncodingMix, GenerateError, GeneratedDatabase, GeneratedObject, State, fill_page, key};
use crate::catalogue::Layout;
use crate::ltx::encode::Encoder;
use crate::ltx::header::{FLAG_NO_CHECKSUM, Header};
use crate::ltx::{Level, PageSize, Pgno, Txid};
use crate::sim::random::{Random, mix};
use crate::timestamp::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::io::Write;

/// The properties of a large database.
#[derive(Debug, Clone)]
pub struct LargeSpec {
    /// The prefix of the keys, with or without a slash at its end.
    pub root: String,
    /// The key layout of the LTX files.
    pub layout: Layout,
    /// The page size of the database.
    pub page_size: PageSize,
    /// The size of the database in bytes, rounded down to whole pages.
    pub bytes: u64,
    /// The number of level 0 files after the snapshot.
    pub increments: u32,
    /// The number of pages that each increment writes.
    pub pages_per_increment: u32,
    /// The probability, 0 to 1, that a page of an increment comes from a fixed set of hot pages. The set has
    /// `pages_per_increment` pages. 0: increments write different pages; 1: all write the same ones.
    pub overlap: f64,
    /// The LZ4 form in which pages are stored.
    pub encoding: EncodingMix,
    /// The seed of all random choices. The same seed gives the same bytes.
    pub seed: u64,
}

impl Default for LargeSpec {
    fn default() -> Self {
        Self {
            root: "large.db".into(),
            layout: Layout::Hex,
            page_size: const { PageSize::new(4096).unwrap() },
            bytes: 1_060_000_000,
            increments: 0,
            pages_per_increment: 20,
            overlap: 0.8,
            encoding: EncodingMix::Block,
            seed: 1,
        }
    }
}

/// A generated large database: its increments, and what is needed to compute any of its pages.
#[derive(Debug, Clone)]
pub struct LargeDatabase {
    /// The properties from which the database was generated.
    pub spec: LargeSpec,
    /// The LTX files. The snapshot comes first, if it is held in memory.
    pub objects: Vec<GeneratedObject>,
    /// The size of the database in pages.
    pub pages: u32,
    /// The newest TXID of the database.
    pub last_txid: Txid,
    table: Table,
    /// For each page that an increment wrote: the number of the last increment that did.
    newest: HashMap<u32, u32>,
}

/// Generates a large database with all its files in memory. The snapshot compresses to about half of its size. It
/// takes a few seconds per GB.
pub fn large_database(spec: &LargeSpec) -> Result<LargeDatabase, GenerateError> {
    let mut large = LargeDatabase::without_snapshot(spec)?;
    // A snapshot is a little more than half as large as the database. Reserving that at once avoids copying the
    // bytes when the vector grows.
    let capacity = usize::try_from(large.size_bytes() / 100 * 58 + 4096).map_err(|e| GenerateError(e.to_string()))?;
    let mut bytes = Vec::with_capacity(capacity);
    large.write_snapshot(&mut bytes)?;
    let snapshot = large.object(Level::SNAPSHOT, 1, bytes);
    large.objects.insert(0, snapshot);
    Ok(large)
}

impl LargeDatabase {
    /// Generates only the increments. [`Self::write_snapshot`] writes the snapshot where the caller wants it.
    pub fn without_snapshot(spec: &LargeSpec) -> Result<Self, GenerateError> {
        let pages = u32::try_from(spec.bytes / u64::from(spec.page_size.get()))
            .ok()
            .filter(|&pages| pages > 0)
            .ok_or_else(|| GenerateError(format!("{} bytes are no whole pages", spec.bytes)))?;
        let mut large = Self {
            spec: spec.clone(),
            objects: Vec::new(),
            pages,
            last_txid: Txid(1 + u64::from(spec.increments)),
            table: Table::new(spec.seed, spec.page_size, pages),
            newest: HashMap::new(),
        };
        let mut random = Random::new(mix(spec.seed ^ 0x1a26e));
        let mut page = vec![0; spec.page_size.bytes()];
        let hot = u64::from(spec.pages_per_increment.max(1)).min(u64::from(pages));
        for version in 1..=spec.increments {
            // Every transaction of SQLite writes page 1, so each increment does too.
            let mut written = BTreeSet::from([1u32]);
            for _ in 1..spec.pages_per_increment {
                let place = if random.chance(spec.overlap) {
                    // The hot pages, which many increments write, are spread over the whole database.
                    mix(spec.seed ^ random.below(hot)) % u64::from(pages)
                } else {
                    random.below(u64::from(pages))
                };
                written.insert(1 + place as u32);
            }
            written.remove(&spec.page_size.lock_page().0);
            let txid = 1 + u64::from(version);
            let mut encoder = Encoder::new(&large.header(txid, txid), spec.encoding.draw(&mut random));
            for &pgno in &written {
                large.table.fill(pgno, version, &mut page);
                encoder.page(Pgno(pgno), &page)?;
            }
            let bytes = encoder.finish(0)?;
            large.newest.extend(written.into_iter().map(|pgno| (pgno, version)));
            let object = large.object(const { Level::new(0).unwrap() }, txid, bytes);
            large.objects.push(object);
        }
        Ok(large)
    }

    /// Writes the bytes of the snapshot file to `out`, page by page.
    pub fn write_snapshot<W: Write>(&self, out: W) -> Result<W, GenerateError> {
        let mut random = Random::new(self.spec.seed);
        let mut encoder = Encoder::to_writer(out, &self.header(1, 1), self.spec.encoding.draw(&mut random))?;
        let mut page = vec![0; self.spec.page_size.bytes()];
        for pgno in 1..=self.pages {
            if Pgno(pgno) != self.spec.page_size.lock_page() {
                self.table.fill(pgno, 0, &mut page);
                encoder.page(Pgno(pgno), &page)?;
            }
        }
        Ok(encoder.finish(0)?)
    }

    /// The key, TXIDs and times of the snapshot, without its bytes. For callers that write the bytes with
    /// [`Self::write_snapshot`].
    pub fn snapshot_object(&self) -> GeneratedObject {
        self.object(Level::SNAPSHOT, 1, Vec::new())
    }

    fn header(&self, min: u64, max: u64) -> Header {
        Header {
            flags: FLAG_NO_CHECKSUM,
            page_size: self.spec.page_size,
            commit: self.pages,
            min_txid: Txid(min),
            max_txid: Txid(max),
            timestamp_ms: timestamp_ms(max),
            pre_apply_checksum: 0,
            wal_offset: 0,
            wal_size: 0,
            wal_salt1: 0,
            wal_salt2: 0,
            node_id: 0,
        }
    }

    fn object(&self, level: Level, txid: u64, bytes: Vec<u8>) -> GeneratedObject {
        GeneratedObject {
            key: key(&self.spec.root, self.spec.layout, level, Txid(txid), Txid(txid)),
            bytes: bytes.into(),
            litestream_timestamp: Timestamp::from_millis(timestamp_ms(txid)),
            last_modified: Timestamp::from_millis(timestamp_ms(txid) + 300),
            level,
            min_txid: Txid(txid),
            max_txid: Txid(txid),
        }
    }

    /// Computes page `pgno` (from 1) of the newest state into `page`, which must be one page long.
    pub fn expected_page(&self, pgno: u32, page: &mut [u8]) {
        if Pgno(pgno) == self.spec.page_size.lock_page() {
            page.fill(0);
        } else {
            self.table.fill(pgno, self.newest.get(&pgno).copied().unwrap_or(0), page);
        }
    }

    /// Computes the newest state with its hash, by computing every page. It takes one to two seconds per GB.
    pub fn expected(&self) -> State {
        let mut hash = Sha256::new();
        let mut page = vec![0; self.spec.page_size.bytes()];
        for pgno in 1..=self.pages {
            self.expected_page(pgno, &mut page);
            hash.update(&page);
        }
        State {
            txid: self.last_txid,
            timestamp: Timestamp::from_millis(timestamp_ms(self.last_txid.0)),
            bytes: self.size_bytes(),
            sha256: hash.finalize().into(),
        }
    }

    /// Converts to the common type of generated databases. This computes the hash of the newest state.
    pub fn to_database(&self) -> GeneratedDatabase {
        GeneratedDatabase {
            root: self.spec.root.clone(),
            objects: self.objects.clone(),
            page_size: self.spec.page_size,
            expected: self.expected(),
            states: Vec::new(),
        }
    }

    /// The size of the database in bytes, which is whole pages.
    pub fn size_bytes(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.spec.page_size.get())
    }
}

fn timestamp_ms(txid: u64) -> i64 {
    EPOCH_MS + 1000 * i64::try_from(txid).unwrap_or(0)
}

/// Generates a database of 64 KiB pages that ends a few pages behind 1 GiB, where SQLite's lock page (number 16385)
/// lies. No file stores that page. The second transaction writes pages before and behind it. Almost all pages are
/// zeros, so the snapshot takes a few MB for a database of 1.1 GB.
pub fn lock_page_database(
    root: &str,
    layout: Layout,
    encoding: EncodingMix,
) -> Result<GeneratedDatabase, GenerateError> {
    const PAGE_SIZE: PageSize = const { PageSize::new(65536).unwrap() };
    let lock_page = PAGE_SIZE.lock_page().0;
    let spec = LargeSpec {
        root: root.to_owned(),
        layout,
        page_size: PAGE_SIZE,
        bytes: u64::from(lock_page + 8) * u64::from(PAGE_SIZE.get()),
        increments: 0,
        encoding,
        ..LargeSpec::default()
    };
    let mut large = LargeDatabase::without_snapshot(&spec)?;
    large.last_txid = Txid(2);
    let mut random = Random::new(1);
    let mut hash = Sha256::new();
    let mut snapshot = Encoder::new(&large.header(1, 1), encoding.draw(&mut random));
    let mut increment = Encoder::new(&large.header(2, 2), encoding.draw(&mut random));
    let zeros = vec![0; PAGE_SIZE.bytes()];
    let mut page = zeros.clone();
    for pgno in 1..=large.pages {
        let written = pgno == 1 || pgno.abs_diff(lock_page) <= 3;
        if pgno == lock_page {
            hash.update(&zeros);
        } else if written {
            fill_page(1, pgno, 1, &mut page);
            snapshot.page(Pgno(pgno), &zeros)?;
            increment.page(Pgno(pgno), &page)?;
            hash.update(&page);
        } else {
            snapshot.page(Pgno(pgno), &zeros)?;
            hash.update(&zeros);
        }
    }
    large.objects = vec![
        large.object(Level::SNAPSHOT, 1, snapshot.finish(0)?),
        large.object(const { Level::new(0).unwrap() }, 2, increment.finish(0)?),
    ];
    Ok(GeneratedDatabase {
        root: root.to_owned(),
        objects: large.objects.clone(),
        page_size: PAGE_SIZE,
        expected: State {
            txid: Txid(2),
            timestamp: Timestamp::from_millis(timestamp_ms(2)),
            bytes: large.size_bytes(),
            sha256: hash.finalize().into(),
        },
        states: Vec::new(),
    })
}
