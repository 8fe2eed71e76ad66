//! One large SQLite database as a replica of Litestream 0.3: a snapshot, and much WAL after it. Any page of it can be
//! computed again, so a test can compare a restored database without keeping a copy.

use super::lz4::{FrameWriter, pack};
use super::replica::{GeneratedV3, GeneratedV3Object, V3Content, V3Truth, segment_key, snapshot_key};
use super::wal_writer::WalWriter;
use crate::ltx::{PageSize, Pgno};
use crate::sim::generate::GenerateError;
use crate::sim::generate::chain::EPOCH_MS;
use crate::sim::generate::table::Table;
use crate::sim::random::{Random, mix};
use crate::timestamp::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::io::Write;

/// The properties of a large database.
#[derive(Debug, Clone)]
pub struct LargeV3Spec {
    /// The prefix of the keys, with or without a slash at its end.
    pub root: String,
    /// The page size of the database.
    pub page_size: PageSize,
    /// The size of the database in bytes, rounded down to whole pages.
    pub bytes: u64,
    /// The number of indexes, each with its own WAL.
    pub indexes: u32,
    /// The number of segments of each index. Each is one transaction.
    pub segments: u32,
    /// The number of pages that each segment writes.
    pub pages_per_segment: u32,
    /// The probability, 0 to 1, that a page of a segment comes from a fixed set of hot pages. The set has
    /// `pages_per_segment` pages.
    pub overlap: f64,
    /// The seed of all random choices. The same seed gives the same bytes.
    pub seed: u64,
}

impl Default for LargeV3Spec {
    fn default() -> Self {
        Self {
            root: "large-v3.db".into(),
            page_size: const { PageSize::new(4096).unwrap() },
            bytes: 1_060_000_000,
            indexes: 200,
            segments: 5,
            pages_per_segment: 20,
            overlap: 0.8,
            seed: 1,
        }
    }
}

/// A generated large database: its segments, and what is needed to compute any of its pages.
#[derive(Debug, Clone)]
pub struct LargeV3 {
    /// The properties from which the database was generated.
    pub spec: LargeV3Spec,
    /// The objects. The snapshot comes first, if it is held in memory.
    pub objects: Vec<GeneratedV3Object>,
    /// The size of the database in pages.
    pub pages: u32,
    table: Table,
    /// For each page that the WAL holds: the number of the last segment that wrote it.
    newest: HashMap<u32, u32>,
}

/// Generates a large database with all its objects in memory. The snapshot compresses to about half of its size. It
/// takes a few seconds per GB.
pub fn large_v3(spec: &LargeV3Spec) -> Result<LargeV3, GenerateError> {
    let mut large = LargeV3::without_snapshot(spec)?;
    let bytes = large.write_snapshot(Vec::new())?;
    let snapshot = GeneratedV3Object { bytes: bytes.into(), ..large.snapshot_object() };
    large.objects.insert(0, snapshot);
    Ok(large)
}

impl LargeV3 {
    /// Generates only the WAL. [`Self::write_snapshot`] writes the snapshot where the caller wants it.
    pub fn without_snapshot(spec: &LargeV3Spec) -> Result<Self, GenerateError> {
        let pages = u32::try_from(spec.bytes / u64::from(spec.page_size.get()))
            .ok()
            .filter(|&pages| pages > 0)
            .ok_or_else(|| GenerateError(format!("{} bytes are no whole pages", spec.bytes)))?;
        let mut large = Self {
            spec: spec.clone(),
            objects: Vec::new(),
            pages,
            table: Table::new(spec.seed, spec.page_size, pages),
            newest: HashMap::new(),
        };
        let mut random = Random::new(mix(spec.seed ^ 0x3a1));
        let mut version = 0;
        for index in 0..spec.indexes {
            let mut wal = WalWriter::new(spec.page_size, false, random.next_u64());
            let mut from = 0;
            for _ in 0..spec.segments {
                version += 1;
                large.transaction(&mut wal, version, &mut random);
                let object = GeneratedV3Object {
                    key: segment_key(&spec.root, large.generation(), index, from),
                    bytes: pack(&wal.bytes()[from as usize..]).into(),
                    last_modified: time(version),
                };
                large.objects.push(object);
                from = wal.bytes().len() as u64;
            }
        }
        Ok(large)
    }

    fn transaction(&mut self, wal: &mut WalWriter, version: u32, random: &mut Random) {
        let spec = &self.spec;
        let hot = u64::from(spec.pages_per_segment.max(1)).min(u64::from(self.pages));
        // The first page is in each transaction, as in most of SQLite's.
        let mut written = BTreeSet::from([1u32]);
        for _ in 1..spec.pages_per_segment {
            let place = if random.chance(spec.overlap) {
                mix(spec.seed ^ random.below(hot)) % u64::from(self.pages)
            } else {
                random.below(u64::from(self.pages))
            };
            written.insert(1 + place as u32);
        }
        written.remove(&spec.page_size.lock_page().0);
        let mut page = vec![0; spec.page_size.bytes()];
        let last = written.last().copied();
        for &pgno in &written {
            self.table.fill(pgno, version, &mut page);
            wal.frame(pgno, if Some(pgno) == last { self.pages } else { 0 }, &page);
        }
        self.newest.extend(written.into_iter().map(|pgno| (pgno, version)));
    }

    fn generation(&self) -> u64 {
        mix(self.spec.seed)
    }

    /// Writes the bytes of the snapshot object to `out`, block by block.
    pub fn write_snapshot<W: Write>(&self, out: W) -> Result<W, GenerateError> {
        let mut frame = FrameWriter::begin(out)?;
        let mut page = vec![0; self.spec.page_size.bytes()];
        for pgno in 1..=self.pages {
            self.fill(pgno, 0, &mut page);
            frame.push(&page)?;
        }
        Ok(frame.finish()?)
    }

    /// The key and the time of the snapshot, without its bytes. For callers that write the bytes with
    /// [`Self::write_snapshot`].
    pub fn snapshot_object(&self) -> GeneratedV3Object {
        let key = snapshot_key(&self.spec.root, self.generation(), 0);
        GeneratedV3Object { key, bytes: Default::default(), last_modified: time(0) }
    }

    fn fill(&self, pgno: u32, version: u32, page: &mut [u8]) {
        if Pgno(pgno) == self.spec.page_size.lock_page() {
            page.fill(0);
        } else {
            self.table.fill(pgno, version, page);
        }
    }

    /// Computes page `pgno` (from 1) of the newest state into `page`, which must be one page long.
    pub fn expected_page(&self, pgno: u32, page: &mut [u8]) {
        self.fill(pgno, self.newest.get(&pgno).copied().unwrap_or(0), page);
    }

    /// Computes the hash of the newest state, by computing every page. It takes one to two seconds per GB.
    pub fn expected(&self) -> V3Content {
        let mut hash = Sha256::new();
        let mut page = vec![0; self.spec.page_size.bytes()];
        for pgno in 1..=self.pages {
            self.expected_page(pgno, &mut page);
            hash.update(&page);
        }
        V3Content { bytes: self.size_bytes(), sha256: hash.finalize().into() }
    }

    /// The size of the database in bytes.
    pub fn size_bytes(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.spec.page_size.get())
    }

    /// Converts to the common type of generated replicas. This computes the hash of the newest state.
    pub fn to_replica(&self) -> GeneratedV3 {
        GeneratedV3 {
            root: self.spec.root.clone(),
            objects: self.objects.clone(),
            page_size: self.spec.page_size,
            truths: vec![V3Truth { at: None, contents: vec![self.expected()], error: None }],
        }
    }
}

/// The time of a segment, by its number from 1. 0 is the snapshot.
fn time(version: u32) -> Timestamp {
    Timestamp::from_millis(EPOCH_MS + 1000 * i64::from(version))
}
