//! Generates random replicas of Litestream 0.3, with everything that the format allows and with damage. Tests restore
//! them with two restorers and compare the results.

use super::blank::{MOST_PAGES, write_first_page, write_second_page};
use super::lz4::pack;
use super::replica::{GeneratedV3, GeneratedV3Object, segment_key, snapshot_key, whole_wal_key};
use super::wal_writer::WalWriter;
use crate::ltx::{PageSize, Pgno};
use crate::sim::generate::chain::EPOCH_MS;
use crate::sim::generate::fill_page;
use crate::sim::random::Random;
use crate::timestamp::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The properties that a random replica may have.
#[derive(Debug, Clone)]
pub struct V3HistoryParams {
    /// The prefix of the keys, with or without a slash at its end.
    pub root: String,
    /// The page size of the database.
    pub page_size: PageSize,
    /// Whether the checksums of the WAL cover big-endian words.
    pub big_endian: bool,
    /// The largest number of pages, from 1 to 122.
    pub max_pages: u32,
    /// The largest number of generations, at least 1.
    pub max_generations: u32,
    /// The largest number of indexes in a generation, at least 1.
    pub max_indexes: u32,
    /// The largest number of transactions in an index, at least 1.
    pub max_transactions: u32,
    /// Whether segments may end inside transactions.
    pub splits: bool,
    /// The probability, 0 to 1, that a snapshot holds pages of WAL that is uploaded after it.
    pub ahead: f64,
    /// The probability, 0 to 1, that a generation is stored as 0.3.0 to 0.3.4 stored it on disk.
    pub whole_wals: f64,
    /// Whether upload times are whole seconds.
    pub whole_seconds: bool,
    /// The probability, 0 to 1, that the objects' times are mixed up, as in a replica that was copied.
    pub shuffled: f64,
    /// Whether foreign objects lie among those of the replica, and offsets have more than eight digits.
    pub noise: bool,
    /// The kinds of damage, one of which is done. None if it is empty.
    pub damage: Vec<V3Damage>,
}

/// What is done to one object of a replica, chosen at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V3Damage {
    /// A segment is deleted.
    MissingSegment,
    /// A snapshot is deleted.
    MissingSnapshot,
    /// An object ends early.
    Truncated,
    /// An object has no bytes.
    Empty,
    /// A bit of an object is flipped.
    FlippedBit,
    /// A bit of the content is flipped. The frame around it is right.
    FlippedContent,
    /// Bytes follow the frame.
    Trailing,
    /// The offset in a segment's name is another one.
    Renamed,
    /// A segment ends inside a frame of the WAL.
    HalfFrame,
    /// A snapshot is not a database.
    NoDatabase,
    /// An object is an age file.
    Encrypted,
}

impl V3Damage {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::MissingSegment,
        Self::MissingSnapshot,
        Self::Truncated,
        Self::Empty,
        Self::FlippedBit,
        Self::FlippedContent,
        Self::Trailing,
        Self::Renamed,
        Self::HalfFrame,
        Self::NoDatabase,
        Self::Encrypted,
    ];
}

impl Default for V3HistoryParams {
    fn default() -> Self {
        Self {
            root: "random-v3.db".into(),
            page_size: const { PageSize::new(4096).unwrap() },
            big_endian: false,
            max_pages: 40,
            max_generations: 3,
            max_indexes: 5,
            max_transactions: 6,
            splits: true,
            ahead: 0.3,
            whole_wals: 0.1,
            whole_seconds: false,
            shuffled: 0.0,
            noise: true,
            damage: Vec::new(),
        }
    }
}

/// An object before it is packed.
#[derive(Debug, Clone)]
struct Piece {
    key: String,
    content: Vec<u8>,
    time_ms: i64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Snapshot,
    Segment {
        generation: u64,
        index: u32,
        offset: u64,
    },
    /// A WAL of 0.3.0 to 0.3.4 that was not packed.
    Unpacked,
}

/// Generates a random replica from a seed. SQLite finds each state of the database right, although most of its pages
/// hold arbitrary bytes. [`GeneratedV3::truths`] is empty: the naive restorer tells what restores must give.
pub fn random_v3_history(seed: u64, params: &V3HistoryParams) -> GeneratedV3 {
    let mut maker =
        Maker { params, random: Random::new(seed), image: Vec::new(), version: 0, clock: EPOCH_MS, pieces: Vec::new() };
    for _ in 0..1 + maker.random.below(u64::from(params.max_generations.max(1))) {
        maker.generation();
    }
    let Maker { mut random, mut pieces, clock, .. } = maker;
    if random.chance(params.shuffled) {
        for piece in &mut pieces {
            piece.time_ms = EPOCH_MS + random.below((clock - EPOCH_MS) as u64 + 1) as i64;
        }
    }
    let chosen = params.damage.get(random.below(params.damage.len() as u64) as usize).copied();
    let mut objects = match chosen {
        Some(damage) => damaged(pieces, damage, params, &mut random),
        None => pieces.iter().map(|piece| stored(piece, params)).collect(),
    };
    if params.noise {
        add_noise(&mut objects, params, &mut random);
    }
    // A snapshot that was taken again replaces the one before.
    objects.reverse();
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    objects.dedup_by(|later, first| later.key == first.key);
    GeneratedV3 { root: params.root.clone(), objects, page_size: params.page_size, truths: Vec::new() }
}

struct Maker<'a> {
    params: &'a V3HistoryParams,
    random: Random,
    /// The database after the newest transaction.
    image: Vec<u8>,
    version: u32,
    clock: i64,
    pieces: Vec<Piece>,
}

/// A WAL that grows, and the database after each of its transactions with the number of frames up to then.
struct GrowingWal {
    writer: WalWriter,
    states: Vec<(u64, Vec<u8>)>,
}

impl Maker<'_> {
    fn tick(&mut self) -> i64 {
        self.clock += 1 + self.random.below(4000) as i64;
        if self.params.whole_seconds { self.clock.div_euclid(1000) * 1000 } else { self.clock }
    }

    fn generation(&mut self) {
        self.clock += 3000;
        let name = self.random.next_u64();
        let whole = self.random.chance(self.params.whole_wals);
        if self.image.is_empty() {
            // The state before the first WAL.
            self.transaction(&mut WalWriter::new(self.params.page_size, false, 0));
        }
        let first = if self.random.chance(0.5) { 0 } else { self.random.below(1 << 20) as u32 };
        let indexes = 1 + self.random.below(u64::from(self.params.max_indexes.max(1))) as u32;
        for index in first..first + indexes {
            let before = self.image.clone();
            let mut wal = self.grow();
            wal.states.insert(0, (0, before));
            let mut held = 0;
            if index == first || self.random.chance(0.25) {
                held = self.snapshot(name, index, &wal);
            }
            if whole {
                self.upload_whole(name, index, &wal, (index + 1 == first + indexes).then_some(held));
            } else {
                self.upload(name, index, &wal, held);
            }
            if self.random.chance(0.1) {
                self.snapshot(name, index, &wal);
            }
        }
    }

    /// The WAL of a new index, with some transactions.
    fn grow(&mut self) -> GrowingWal {
        let salts = self.random.next_u64();
        let mut writer = WalWriter::new(self.params.page_size, self.params.big_endian, salts);
        let mut states = Vec::new();
        for _ in 0..1 + self.random.below(u64::from(self.params.max_transactions.max(1))) {
            self.transaction(&mut writer);
            states.push((writer.frames(), self.image.clone()));
        }
        GrowingWal { writer, states }
    }

    /// One transaction: writes its frames, and changes the image.
    fn transaction(&mut self, writer: &mut WalWriter) {
        let page_size = self.params.page_size;
        let most = u64::from(self.params.max_pages.clamp(1, MOST_PAGES));
        let old = (self.image.len() / page_size.bytes()) as u64;
        let size = match self.random.below(8) {
            _ if old == 0 => 1 + self.random.below(most),
            0 | 1 => (old + 1 + self.random.below(most / 4 + 1)).min(most),
            2 => 1 + self.random.below(old),
            _ => old,
        };
        let mut written: BTreeSet<u64> = (old + 1..=size).chain([1]).collect();
        if size != old && size > 1 {
            written.insert(2);
        }
        let many = if self.random.chance(0.1) { most } else { 5 };
        for _ in 0..self.random.below(many) {
            written.insert(1 + self.random.below(size));
        }
        let mut frames: Vec<(u32, Vec<u8>)> = Vec::new();
        if self.random.chance(0.2) {
            // Pages that the transaction itself writes again, or cuts off.
            for _ in 0..1 + self.random.below(3) {
                let pgno = 1 + self.random.below(most);
                if pgno > size || written.contains(&pgno) {
                    frames.push((pgno as u32, self.page(pgno as u32)));
                }
            }
        }
        self.image.resize(size as usize * page_size.bytes(), 0);
        for pgno in written {
            let mut page = self.page(pgno as u32);
            match pgno {
                1 => write_first_page(page_size, size as u32, self.version, &mut page),
                2 => write_second_page(size as u32, &mut page),
                _ => {}
            }
            let start = page_size.offset_of(Pgno(pgno as u32)) as usize;
            self.image[start..start + page.len()].copy_from_slice(&page);
            frames.push((pgno as u32, page));
        }
        self.version += 1;
        let last = frames.len() - 1;
        for (at, (pgno, page)) in frames.into_iter().enumerate() {
            writer.frame(pgno, if at == last { size as u32 } else { 0 }, &page);
        }
    }

    /// A page of a random kind: like that of a table, zeros, or random bytes.
    fn page(&mut self, pgno: u32) -> Vec<u8> {
        let mut page = vec![0; self.params.page_size.bytes()];
        match self.random.below(8) {
            0 => {}
            1 => page.chunks_mut(8).for_each(|bytes| bytes.copy_from_slice(&self.random.next_u64().to_le_bytes())),
            _ => fill_page(self.random.next_u64(), pgno, self.version, &mut page),
        }
        page
    }

    /// Takes a snapshot of an index. It holds what checkpoints have moved so far: nothing of the index, or in the case
    /// of a snapshot that is ahead, what they moved up to some transaction. Returns how many frames that are.
    fn snapshot(&mut self, generation: u64, index: u32, wal: &GrowingWal) -> u64 {
        let ahead = self.random.chance(self.params.ahead);
        let held = if ahead { self.random.below(wal.states.len() as u64) as usize } else { 0 };
        let newest = held + self.random.below((wal.states.len() - held) as u64) as usize;
        let (held, newest) = (wal.states[held].0, wal.states[newest].0);
        let mut content = wal.states[0].1.clone();
        if held == newest {
            if let Some((_, state)) = wal.states.iter().find(|(frames, _)| *frames == held) {
                content.clone_from(state);
            }
        } else {
            // As SQLite does where a reader needs the WAL after `held`: it moves the pages that were not written again
            // until `newest`, and leaves the file as long as it was.
            let last: BTreeMap<u32, u64> = (0..newest).filter_map(|at| Some((wal.writer.page(at)?.0, at))).collect();
            let most = wal.states.iter().take_while(|(frames, _)| *frames <= held).map(|(_, state)| state.len()).last();
            for (pgno, at) in last.into_iter().filter(|&(_, at)| at < held) {
                let start = self.params.page_size.offset_of(Pgno(pgno)) as usize;
                let Some((_, page)) = wal.writer.page(at) else { continue };
                if Some(start + page.len()) <= most {
                    content.resize(content.len().max(start + page.len()), 0);
                    content[start..start + page.len()].copy_from_slice(page);
                }
            }
        }
        let time_ms = self.tick();
        let key = snapshot_key(&self.params.root, generation, index);
        self.pieces.push(Piece { key, content, time_ms, kind: Kind::Snapshot });
        held
    }

    /// Uploads the WAL of an index in segments. The first `held` frames are in its snapshot already: they are uploaded
    /// by the first two segments, as the writer guarantees.
    fn upload(&mut self, generation: u64, index: u32, wal: &GrowingWal, held: u64) {
        let frames = wal.writer.frames();
        let mut cuts = BTreeSet::from([frames]);
        for _ in 0..self.random.below(5) {
            let (at, _) = wal.states[self.random.below(wal.states.len() as u64) as usize];
            cuts.insert(if self.params.splits { self.random.below(frames + 1) } else { at });
        }
        let early = cuts.iter().copied().find(|&cut| cut < held);
        cuts.retain(|&cut| cut >= held || Some(cut) == early);
        let mut from = 0;
        for cut in cuts {
            let to = wal.writer.offset(cut);
            let content = wal.writer.bytes()[from as usize..to as usize].to_vec();
            let time_ms = self.tick();
            let kind = Kind::Segment { generation, index, offset: from };
            let key = segment_key(&self.params.root, generation, index, from);
            self.pieces.push(Piece { key, content, time_ms, kind });
            from = to;
        }
    }

    /// Stores the WAL as 0.3.0 to 0.3.4 did: packed, or, if it is the newest, as it grows. Of the newest, `newest`
    /// frames at least have been stored.
    fn upload_whole(&mut self, generation: u64, index: u32, wal: &GrowingWal, newest: Option<u64>) {
        let time_ms = self.tick();
        let root = &self.params.root;
        let mut content = wal.writer.bytes().to_vec();
        let packed = Piece {
            key: whole_wal_key(root, generation, index, true),
            content: content.clone(),
            time_ms,
            kind: Kind::Segment { generation, index, offset: 0 },
        };
        if let Some(frames) = newest {
            // It may end inside a frame, and a packed one of the same index may be left from before.
            let cut = self.random.below(2 * self.params.page_size.bytes() as u64) as usize;
            content.truncate(content.len().saturating_sub(cut).max(wal.writer.offset(frames) as usize));
            let key = whole_wal_key(root, generation, index, false);
            self.pieces.push(Piece { key, content, time_ms, kind: Kind::Unpacked });
        }
        if newest.is_none() || self.random.chance(0.3) {
            self.pieces.push(packed);
        }
    }
}

fn stored(piece: &Piece, params: &V3HistoryParams) -> GeneratedV3Object {
    let mut key = piece.key.clone();
    if let (true, Kind::Segment { offset, .. }) = (params.noise && piece.time_ms % 5 == 0, piece.kind) {
        key = key.replace(&format!("_{offset:08x}."), &format!("_{offset:016x}."));
    }
    let bytes = if piece.kind == Kind::Unpacked { piece.content.clone() } else { pack(&piece.content) };
    GeneratedV3Object { key, bytes: bytes.into(), last_modified: Timestamp::from_millis(piece.time_ms) }
}

/// Packs the objects, one of them with damage. Nothing is damaged if no object can have this damage.
fn damaged(
    mut pieces: Vec<Piece>,
    damage: V3Damage,
    params: &V3HistoryParams,
    random: &mut Random,
) -> Vec<GeneratedV3Object> {
    let fits = |piece: &Piece| match damage {
        V3Damage::MissingSnapshot | V3Damage::NoDatabase => piece.kind == Kind::Snapshot,
        V3Damage::MissingSegment | V3Damage::Renamed | V3Damage::HalfFrame => {
            matches!(piece.kind, Kind::Segment { .. })
        }
        _ => piece.kind != Kind::Unpacked,
    };
    let places: Vec<usize> = (0..pieces.len()).filter(|&at| fits(&pieces[at])).collect();
    let Some(&at) = places.get(random.below(places.len() as u64) as usize) else {
        return pieces.iter().map(|piece| stored(piece, params)).collect();
    };
    let piece = &mut pieces[at];
    match damage {
        V3Damage::FlippedContent => flip(&mut piece.content, random),
        V3Damage::HalfFrame => {
            piece
                .content
                .truncate(piece.content.len() - 1 - random.below(100.min(piece.content.len() as u64)) as usize);
        }
        V3Damage::NoDatabase => piece.content[..16].copy_from_slice(b"no SQLite format"),
        V3Damage::Renamed => {
            if let Kind::Segment { generation, index, offset } = piece.kind {
                let other = if random.chance(0.5) { offset + 1 } else { offset.saturating_sub(1) };
                piece.key = segment_key(&params.root, generation, index, other);
            }
        }
        _ => {}
    }
    let mut objects: Vec<GeneratedV3Object> = pieces.iter().map(|piece| stored(piece, params)).collect();
    let mut bytes = objects[at].bytes.to_vec();
    match damage {
        V3Damage::MissingSegment | V3Damage::MissingSnapshot => {
            objects.remove(at);
            return objects;
        }
        V3Damage::Truncated => bytes.truncate(random.below(bytes.len() as u64) as usize),
        V3Damage::Empty => bytes.clear(),
        V3Damage::FlippedBit => flip(&mut bytes, random),
        V3Damage::Trailing => bytes.extend(std::iter::repeat_n(random.next_u64() as u8, 1 + random.below(40) as usize)),
        V3Damage::Encrypted => bytes = [b"age-encryption.org/v1\n", &bytes[..]].concat(),
        _ => {}
    }
    objects[at].bytes = bytes.into();
    objects
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    let bit = random.below(bytes.len() as u64 * 8) as usize;
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Adds objects that do not belong to the replica, with names that resemble those of its files.
fn add_noise(objects: &mut Vec<GeneratedV3Object>, params: &V3HistoryParams, random: &mut Random) {
    let Some(sample) = objects.get(random.below(objects.len() as u64) as usize).cloned() else { return };
    let slash = if params.root.is_empty() || params.root.ends_with('/') { "" } else { "/" };
    let folder = match sample.key.find("generations/") {
        Some(at) => sample.key[..at + "generations/".len() + 16].to_owned(),
        None => return,
    };
    for name in [
        "snapshots/000000ff.snapshot.lz4.tmp",
        "snapshots/ff.snapshot.lz4",
        "snapshots/80000000.snapshot.lz4",
        "wal/000000FF_00000000.wal.lz4",
        "wal/00000001_0000000.wal.lz4",
        "wal/00000001_00000000000000000.wal.lz4",
        "wal/00000001_00000000.wal",
        "wal/00000001_00000000.wal.lz4.tmp",
        "notes/00000001_00000000.wal.lz4",
    ] {
        if random.chance(0.3) {
            objects.push(GeneratedV3Object { key: format!("{folder}/{name}"), ..sample.clone() });
        }
    }
    for name in ["generations/README", "generations/0123456789ABCDEF/snapshots/00000000.snapshot.lz4", ".DS_Store"] {
        if random.chance(0.3) {
            objects.push(GeneratedV3Object { key: format!("{}{slash}{name}", params.root), ..sample.clone() });
        }
    }
}
