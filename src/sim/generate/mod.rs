//! Replicas made from a seed: the same seed, the same bytes.
//!
//! - [`sample_fleet`]: real SQLite databases, a few transactions each;
//! - [`tiny_fleet`]: thousands of small databases that share a few contents;
//! - [`large_database`]: one large snapshot and small increments over it;
//! - [`random_history`]: everything that the format allows, for differential tests.

use crate::catalogue::Layout;
use crate::ltx::{Level, PageSize, Txid};
use crate::timestamp::Timestamp;
use bytes::Bytes;

/// Which LZ4 encoding the files of a replica have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodingMix {
    Block,
    Frame,
    /// Per file, by chance; in compactions per page.
    Mixed,
}

/// One file of a replica.
#[derive(Debug, Clone)]
pub struct GeneratedObject {
    pub key: String,
    pub bytes: Bytes,
    /// The same as the header's.
    pub litestream_timestamp: Timestamp,
    /// The upload: never before the timestamp.
    pub last_modified: Timestamp,
    pub level: Level,
    pub min_txid: Txid,
    pub max_txid: Txid,
}

/// A database after one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub txid: Txid,
    pub timestamp: Timestamp,
    pub bytes: u64,
    pub sha256: [u8; 32],
}

/// A replica and what it must restore to.
#[derive(Debug, Clone)]
pub struct GeneratedDatabase {
    /// The keys are below this.
    pub root: String,
    pub objects: Vec<GeneratedObject>,
    pub page_size: PageSize,
    /// The newest state.
    pub expected: State,
    /// Every state, oldest first, the newest included; whether each can still be reached depends
    /// on the files. Empty where only the newest is known (tiny fleets).
    pub states: Vec<State>,
}

/// The key of a file.
pub fn key(root: &str, layout: Layout, level: Level, min: Txid, max: Txid) -> String {
    let slash = if root.is_empty() || root.ends_with('/') { "" } else { "/" };
    match layout {
        Layout::Hex => format!("{root}{slash}{:04x}/{min}-{max}.ltx", level.get()),
        Layout::Decimal => format!("{root}{slash}ltx/{}/{min}-{max}.ltx", level.get()),
    }
}

/// `count` real SQLite databases of different sizes and page sizes under `backups/…`, each with
/// L0 files, compactions and snapshots, in both encodings and layouts.
pub fn sample_fleet(_count: usize, _seed: u64) -> Result<Vec<GeneratedDatabase>, GenerateError> {
    Ok(Vec::new())
}

/// Thousands of small databases.
#[derive(Debug, Clone)]
pub struct TinyFleet {
    pub count: usize,
    /// Keys are `<prefix>/<number, 6 digits>.db/…`.
    pub prefix: String,
    pub layout: Layout,
    pub encoding: EncodingMix,
    /// Distinct contents, which the databases share in turn.
    pub templates: usize,
    pub seed: u64,
}

impl Default for TinyFleet {
    fn default() -> Self {
        Self {
            count: 1000,
            prefix: "fleet".into(),
            layout: Layout::Hex,
            encoding: EncodingMix::Block,
            templates: 16,
            seed: 1,
        }
    }
}

/// Databases of five files each (L9 1–4, L1 5–6, L0 5, 6, 7), three of them in the plan for the
/// newest state, of 32 to 36 KB.
pub fn tiny_fleet(_spec: &TinyFleet) -> Result<Vec<GeneratedDatabase>, GenerateError> {
    Ok(Vec::new())
}

/// One large database.
#[derive(Debug, Clone)]
pub struct LargeSpec {
    pub root: String,
    pub layout: Layout,
    pub page_size: PageSize,
    /// Size of the database; rounded down to whole pages.
    pub bytes: u64,
    /// L0 files after the snapshot.
    pub increments: u32,
    pub pages_per_increment: u32,
    /// 0.0: increments touch different pages; 1.0: the same ones again and again.
    pub overlap: f64,
    pub encoding: EncodingMix,
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

/// A large database; its pages can be asked for, so that nobody has to keep it.
#[derive(Debug, Clone)]
pub struct LargeDatabase {
    pub spec: LargeSpec,
    pub objects: Vec<GeneratedObject>,
    pub pages: u32,
    pub last_txid: Txid,
}

impl LargeDatabase {
    /// Page `pgno` (from 1) of the newest state, into a page-sized buffer.
    pub fn expected_page(&self, _pgno: u32, _page: &mut [u8]) {}

    /// As a database with its hash; makes and hashes every page (about a second per GB).
    pub fn expected(&self) -> State {
        State { txid: self.last_txid, timestamp: Timestamp::MIN, bytes: 0, sha256: [0; 32] }
    }

    pub fn size_bytes(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.spec.page_size.get())
    }
}

/// A snapshot that compresses about 2:1 and small increments over it; a few seconds per GB.
pub fn large_database(spec: &LargeSpec) -> Result<LargeDatabase, GenerateError> {
    Ok(LargeDatabase { spec: spec.clone(), objects: Vec::new(), pages: 0, last_txid: Txid(0) })
}

/// What a random history may hold.
#[derive(Debug, Clone)]
pub struct HistoryParams {
    pub root: String,
    pub layout: Layout,
    pub page_size: PageSize,
    /// Bounds of the numbers of pages and transactions.
    pub max_pages: u32,
    pub max_transactions: u32,
    pub encoding: EncodingMix,
    /// Probability that a file tracks checksums (FORMAT §2).
    pub tracked: f64,
    /// Whether compactions, overlapping ones included, and later snapshots are made.
    pub compactions: bool,
    /// Whether files that newer levels cover are deleted at random; the newest state stays reachable.
    pub retention: bool,
    /// Whether the database may be emptied (commit 0) on its way.
    pub may_empty: bool,
}

impl Default for HistoryParams {
    fn default() -> Self {
        Self {
            root: "random.db".into(),
            layout: Layout::Hex,
            page_size: const { PageSize::new(4096).unwrap() },
            max_pages: 64,
            max_transactions: 30,
            encoding: EncodingMix::Mixed,
            tracked: 0.2,
            compactions: true,
            retention: false,
            may_empty: true,
        }
    }
}

/// Growth, shrinking, shrinking and growing again, files with few pages, overlaps between
/// levels. [`GeneratedDatabase::states`] holds every state.
pub fn random_history(_seed: u64, _params: &HistoryParams) -> Result<GeneratedDatabase, GenerateError> {
    Err(GenerateError("unfinished".into()))
}

/// What could not be made.
#[derive(Debug, Clone)]
pub struct GenerateError(pub String);

impl std::fmt::Display for GenerateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot generate: {}", self.0)
    }
}

impl std::error::Error for GenerateError {}
