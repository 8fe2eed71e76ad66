//! The transactions of one generated database, and the LTX files that hold any range of them.

use super::{EncodingMix, GenerateError, GeneratedDatabase, GeneratedObject, State, key};
use crate::catalogue::Layout;
use crate::ltx::crc::DatabaseChecksum;
use crate::ltx::encode::Encoder;
use crate::ltx::frame::Encoding;
use crate::ltx::header::{FLAG_NO_CHECKSUM, Header};
use crate::ltx::{Level, PageSize, Pgno, Txid};
use crate::sim::random::Random;
use crate::timestamp::Timestamp;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The time of the first transaction of every generated database, in milliseconds since the Unix epoch (September
/// 2026).
pub(super) const EPOCH_MS: i64 = 1_790_000_000_000;

/// The transactions 1, 2, 3 … of one database. Keeps the pages that each one changed, and the newest content of the
/// database.
pub(super) struct Chain {
    page_size: PageSize,
    /// Whether checksums of the database are computed, for files that track them.
    tracks: bool,
    image: Vec<u8>,
    transactions: Vec<Transaction>,
    objects: Vec<GeneratedObject>,
}

struct Transaction {
    pages: BTreeMap<u32, Bytes>,
    commit: u32,
    timestamp_ms: i64,
    checksum: u64,
    state: State,
    wal: WalPlace,
}

/// The part of the primary's WAL that a transaction lies in, as files of level 0 say it. Zeros: they do not say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WalPlace {
    pub offset: i64,
    pub size: i64,
    pub salts: (u32, u32),
}

/// The way in which one LTX file of a chain is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileStyle {
    pub layout: Layout,
    pub encoding: EncodingMix,
    /// Whether the file tracks checksums of the database (docs/FORMAT.md, "Trailer and checksums").
    pub tracked: bool,
}

impl Chain {
    pub(super) fn new(page_size: PageSize, tracks: bool) -> Self {
        Self { page_size, tracks, image: Vec::new(), transactions: Vec::new(), objects: Vec::new() }
    }

    pub(super) fn len(&self) -> u64 {
        self.transactions.len() as u64
    }

    pub(super) fn commit(&self) -> u32 {
        self.transactions.last().map_or(0, |last| last.commit)
    }

    /// Adds the next transaction. `pages` are the pages that it writes, and `commit` is the size of the database in
    /// pages after it. All pages by which the database grows must be among `pages`. Pages beyond `commit` are
    /// ignored.
    pub(super) fn push(&mut self, mut pages: BTreeMap<u32, Bytes>, commit: u32, timestamp_ms: i64) {
        pages.retain(|&pgno, _| pgno <= commit);
        self.image.resize(commit as usize * self.page_size.bytes(), 0);
        for (&pgno, page) in &pages {
            let start = self.page_size.offset_of(Pgno(pgno)) as usize;
            if let Some(place) = self.image.get_mut(start..start + page.len()) {
                place.copy_from_slice(page);
            }
        }
        let mut checksum = DatabaseChecksum::default();
        if self.tracks {
            for (number, page) in (1..).zip(self.image.chunks(self.page_size.bytes())) {
                checksum.add(Pgno(number), page);
            }
        }
        let state = State {
            txid: Txid(self.len() + 1),
            timestamp: Timestamp::from_millis(timestamp_ms),
            bytes: self.image.len() as u64,
            sha256: Sha256::digest(&self.image).into(),
        };
        self.transactions.push(Transaction {
            pages,
            commit,
            timestamp_ms,
            checksum: checksum.finish(),
            state,
            wal: WalPlace::default(),
        });
    }

    /// Sets the part of the WAL that the newest transaction lies in.
    pub(super) fn set_wal(&mut self, wal: WalPlace) {
        self.transactions.iter_mut().last().into_iter().for_each(|last| last.wal = wal);
    }

    /// The bytes that the newest transaction takes in a WAL.
    pub(super) fn newest_wal_bytes(&self) -> i64 {
        let pages = self.transactions.last().map_or(0, |last| last.pages.len());
        (pages * (self.page_size.bytes() + 24)) as i64
    }

    /// Adds the next transaction, given by the content of the whole database after it. Returns false, and adds
    /// nothing, if no page changed.
    pub(super) fn push_image(&mut self, image: &[u8], timestamp_ms: i64) -> bool {
        let page_bytes = self.page_size.bytes();
        let pages: BTreeMap<u32, Bytes> = (1..)
            .zip(image.chunks(page_bytes))
            .filter(|(pgno, page)| {
                let start = (*pgno as usize - 1) * page_bytes;
                self.image.get(start..start + page.len()) != Some(*page)
            })
            .map(|(pgno, page)| (pgno, Bytes::copy_from_slice(page)))
            .collect();
        let commit = (image.len() / page_bytes) as u32;
        if pages.is_empty() && commit == self.commit() {
            return false;
        }
        self.push(pages, commit, timestamp_ms);
        true
    }

    /// Writes the LTX file with the transactions `min` to `max` at `level`. The numbers count from 1 and must exist
    /// in the chain. The file's upload time is `delay_ms` after the last transaction.
    pub(super) fn write(
        &mut self,
        root: &str,
        level: u8,
        (min, max): (u64, u64),
        style: FileStyle,
        delay_ms: i64,
        random: &mut Random,
    ) -> Result<(), GenerateError> {
        let level = Level::new(level).ok_or_else(|| GenerateError(format!("no level {level}")))?;
        let run = (min as usize).checked_sub(1).and_then(|first| self.transactions.get(first..max as usize));
        let Some((run, last)) = run.and_then(|run| Some((run, run.last()?))) else {
            return Err(GenerateError(format!("no transactions {min} to {max} of {}", self.len())));
        };
        let mut pages: BTreeMap<u32, &Bytes> = BTreeMap::new();
        for transaction in run {
            pages.extend(transaction.pages.iter().map(|(&pgno, page)| (pgno, page)));
        }
        let before = (min as usize).checked_sub(2).and_then(|before| self.transactions.get(before));
        let tracked = style.tracked && self.tracks;
        let wal = if level.get() == 0 { last.wal } else { WalPlace::default() };
        let header = Header {
            flags: if tracked { 0 } else { FLAG_NO_CHECKSUM },
            page_size: self.page_size,
            commit: last.commit,
            min_txid: Txid(min),
            max_txid: Txid(max),
            timestamp_ms: last.timestamp_ms,
            pre_apply_checksum: before.filter(|_| tracked).map_or(0, |before| before.checksum),
            wal_offset: wal.offset,
            wal_size: wal.size,
            wal_salt1: wal.salts.0,
            wal_salt2: wal.salts.1,
            node_id: 0,
        };
        let mut encoding = style.encoding.draw(random);
        let mut encoder = Encoder::new(&header, encoding);
        for (&pgno, page) in &pages {
            if pgno > last.commit {
                break;
            }
            if min < max && style.encoding == EncodingMix::Mixed {
                encoding = style.encoding.draw(random);
                encoder.set_encoding(encoding);
            }
            encoder.page(Pgno(pgno), page)?;
        }
        let bytes = encoder.finish(if tracked { last.checksum } else { 0 })?;
        self.objects.push(GeneratedObject {
            key: key(root, style.layout, level, Txid(min), Txid(max)),
            bytes: bytes.into(),
            litestream_timestamp: Timestamp::from_millis(last.timestamp_ms),
            last_modified: Timestamp::from_millis(last.timestamp_ms + delay_ms),
            level,
            min_txid: Txid(min),
            max_txid: Txid(max),
        });
        Ok(())
    }

    pub(super) fn objects(&mut self) -> &mut Vec<GeneratedObject> {
        &mut self.objects
    }

    /// Returns the replica that consists of the files that were written.
    pub(super) fn finish(mut self, root: &str) -> Result<GeneratedDatabase, GenerateError> {
        self.objects.sort_by(|a, b| a.key.cmp(&b.key));
        let states: Vec<State> = self.transactions.into_iter().map(|transaction| transaction.state).collect();
        let expected = states.last().cloned().ok_or_else(|| GenerateError("no transactions".into()))?;
        Ok(GeneratedDatabase {
            root: root.to_owned(),
            objects: self.objects,
            page_size: self.page_size,
            expected,
            states,
        })
    }
}

impl EncodingMix {
    pub(super) fn draw(self, random: &mut Random) -> Encoding {
        match self {
            Self::Block => Encoding::Block,
            Self::Frame => Encoding::Frame,
            Self::Mixed if random.chance(0.5) => Encoding::Frame,
            Self::Mixed => Encoding::Block,
        }
    }
}
