//! The bookkeeping of Litestream 0.3 for one database: its generations, its copy of the WAL (the shadow WAL), and what
//! of it has been uploaded. It also works out what restores must give, from what it knows of the source and not from
//! the objects.

use super::live::{Commit, LiveWal, PackSpec, Source};
use super::lz4::pack;
use super::replica::{GeneratedV3Object, V3Content, V3Truth, segment_key, snapshot_key};
use super::wal_writer::WalWriter;
use crate::ltx::{PageSize, Pgno};
use crate::sim::generate::chain::EPOCH_MS;
use crate::sim::random::Random;
use crate::timestamp::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The copy of the WAL of one index.
struct ShadowIndex {
    number: u32,
    wal: WalWriter,
    commits: Vec<Commit>,
    base: Option<usize>,
    /// The number of frames that have been uploaded. None if the header has not been uploaded either.
    uploaded: Option<u64>,
}

struct TakenSnapshot {
    time: i64,
    /// The number of frames of its index that it holds.
    held: u64,
    bytes: Vec<u8>,
}

struct Uploaded {
    index: u32,
    /// The number of frames of the index up to the end of the segment.
    frames: u64,
    time: i64,
}

struct ShadowGeneration {
    name: u64,
    indexes: Vec<ShadowIndex>,
    /// By index. A snapshot replaces an older one of the same index.
    snapshots: BTreeMap<u32, TakenSnapshot>,
    segments: Vec<Uploaded>,
}

/// The replicator of one database. Times are in milliseconds since the Unix epoch.
pub(super) struct Shadow {
    spec: PackSpec,
    salts: Random,
    clock: i64,
    /// The restart of the live WAL that is being copied.
    run: u64,
    generations: Vec<ShadowGeneration>,
    objects: BTreeMap<String, GeneratedV3Object>,
    /// Whether a snapshot may be ahead of what is uploaded. The next upload is then complete and has at most two
    /// segments of the snapshot's index.
    owes: bool,
}

impl Shadow {
    pub(super) fn new(spec: &PackSpec, seed: u64) -> Self {
        Self {
            spec: spec.clone(),
            salts: Random::new(seed),
            clock: EPOCH_MS,
            run: 0,
            generations: Vec::new(),
            objects: BTreeMap::new(),
            owes: false,
        }
    }

    /// Begins a generation with all of the live WAL.
    pub(super) fn begin_generation(&mut self, live: &LiveWal, random: &mut Random) {
        // So that no two generations have snapshots with the same time, even in whole seconds.
        self.clock += 3000;
        let name = random.next_u64();
        let first = if random.chance(0.5) { 0 } else { random.below(12) as u32 };
        self.generations.push(ShadowGeneration {
            name,
            indexes: Vec::new(),
            snapshots: BTreeMap::new(),
            segments: Vec::new(),
        });
        self.run = live.run;
        self.begin_index(first, live);
        self.follow(live);
    }

    fn begin_index(&mut self, number: u32, live: &LiveWal) {
        let wal = WalWriter::new(self.spec.page_size, self.spec.big_endian, self.salts.next_u64());
        let index = ShadowIndex { number, wal, commits: Vec::new(), base: live.base, uploaded: None };
        if let Some(generation) = self.generations.last_mut() {
            generation.indexes.push(index);
        }
    }

    fn current(&mut self) -> Option<&mut ShadowIndex> {
        self.generations.last_mut()?.indexes.last_mut()
    }

    /// Copies what is new in the live WAL. It must be called after each transaction.
    pub(super) fn follow(&mut self, live: &LiveWal) {
        if self.run != live.run {
            self.run = live.run;
            let number = self.current().map_or(0, |index| index.number + 1);
            self.begin_index(number, live);
        }
        let Some(index) = self.current() else { return };
        for frame in live.frames.iter().skip(index.wal.frames() as usize) {
            index.wal.frame(frame.pgno, frame.commit, &frame.page);
        }
        index.commits.clone_from(&live.commits);
    }

    fn tick(&mut self, random: &mut Random) -> i64 {
        self.clock += 1 + random.below(2500) as i64;
        if self.spec.whole_seconds { self.clock.div_euclid(1000) * 1000 } else { self.clock }
    }

    fn put(&mut self, key: String, content: &[u8], time: i64) {
        let object = GeneratedV3Object {
            key: key.clone(),
            bytes: pack(content).into(),
            last_modified: Timestamp::from_millis(time),
        };
        self.objects.insert(key, object);
    }

    /// Uploads the database file as the snapshot of the current index. `held` frames of the index are in it already.
    pub(super) fn snapshot(&mut self, database: Vec<u8>, held: u64, random: &mut Random) {
        let time = self.tick(random);
        let Some(number) = self.current().map(|index| index.number) else { return };
        let Some(generation) = self.generations.last_mut() else { return };
        let key = snapshot_key(&self.spec.root, generation.name, number);
        self.owes = true;
        generation.snapshots.insert(number, TakenSnapshot { time, held, bytes: database.clone() });
        self.put(key, &database, time);
    }

    /// Uploads all of the shadow WAL.
    pub(super) fn upload_all(&mut self, random: &mut Random) {
        let Some(generation) = self.generations.last() else { return };
        let parts: Vec<(usize, Vec<u64>)> =
            generation.indexes.iter().enumerate().map(|(at, index)| (at, self.cuts(index, random))).collect();
        for (at, cuts) in parts {
            for frames in cuts {
                self.upload(at, frames, random);
            }
        }
        self.owes = false;
    }

    /// Uploads a part of the shadow WAL, up to the end of a transaction, unless a snapshot waits for all of it.
    pub(super) fn upload_some(&mut self, random: &mut Random) {
        if self.owes {
            return self.upload_all(random);
        }
        let Some(generation) = self.generations.last() else { return };
        let next = generation.indexes.iter().position(|index| index.uploaded != Some(index.wal.frames()));
        let Some(at) = next else { return };
        let Some(index) = generation.indexes.get(at) else { return };
        let ends: Vec<u64> = index
            .commits
            .iter()
            .map(|commit| commit.frames)
            .filter(|&frames| index.uploaded.is_none_or(|before| frames > before))
            .collect();
        if let Some(&frames) = ends.get(random.below(ends.len() as u64) as usize) {
            self.upload(at, frames, random);
        }
    }

    /// The numbers of frames at which segments with the rest of an index end.
    fn cuts(&self, index: &ShadowIndex, random: &mut Random) -> Vec<u64> {
        let end = index.wal.frames();
        if index.uploaded == Some(end) {
            return Vec::new();
        }
        let from = index.uploaded.map_or(0, |before| before + 1);
        let most = match (self.spec.splits, self.owes) {
            (false, _) => 0,
            (true, true) => random.below(2),
            (true, false) => random.below(4),
        };
        let mut cuts: BTreeSet<u64> = (0..most).map(|_| from + random.below(end - from + 1)).collect();
        cuts.insert(end);
        cuts.into_iter().collect()
    }

    /// Uploads one segment: the rest of an index up to this number of frames.
    fn upload(&mut self, at: usize, frames: u64, random: &mut Random) {
        let time = self.tick(random);
        let Some(generation) = self.generations.last_mut() else { return };
        let name = generation.name;
        let Some(index) = generation.indexes.get_mut(at) else { return };
        let from = index.uploaded.map_or(0, |before| index.wal.offset(before));
        let content = index.wal.bytes()[from as usize..index.wal.offset(frames) as usize].to_vec();
        index.uploaded = Some(frames);
        generation.segments.push(Uploaded { index: index.number, frames, time });
        let key = segment_key(&self.spec.root, name, index.number, from);
        self.put(key, &content, time);
    }

    pub(super) fn into_objects(self) -> Vec<GeneratedV3Object> {
        self.objects.into_values().collect()
    }

    /// What restores must give at the time of each object, and of the newest state.
    pub(super) fn truths(&self, source: &Source) -> Vec<V3Truth> {
        let times: BTreeSet<Timestamp> = self.objects.values().map(|object| object.last_modified).collect();
        let before_all = times.first().map(|first| first.saturating_add_nanos(-1));
        let mut truths = Vec::new();
        for at in before_all.into_iter().chain(times).map(Some).chain([None]) {
            truths.extend(self.truth(at, source).map(|(contents, error)| V3Truth { at, contents, error }));
        }
        truths
    }

    /// What is right at one time. None if that is not known, as between two commits of one statement.
    fn truth(&self, at: Option<Timestamp>, source: &Source) -> Option<Right> {
        let is_inside = |time: i64| at.is_none_or(|at| Timestamp::from_millis(time) <= at);
        let inside = |generation: &&ShadowGeneration| generation.snapshots.values().any(|s| is_inside(s.time));
        let Some(generation) = self.generations.iter().rev().find(inside) else {
            return Some((Vec::new(), Some("timestamp does not exist")));
        };
        let mut snapshots = generation.snapshots.iter().rev().filter(|(_, snapshot)| is_inside(snapshot.time));
        let (&own, snapshot) = snapshots.next()?;
        let has_older = snapshots.next().is_some();
        let last = generation.segments.iter().rfind(|segment| segment.index >= own && is_inside(segment.time));
        let (index, frames) = last.map_or((own, 0), |last| (last.index, last.frames));
        let exact = generation.state(index, frames).map(|state| source.state(state));
        let committed = generation.committed(index, frames);
        if index != own || committed >= snapshot.held {
            return exact.map(|exact| (vec![exact], None));
        }

        let wal = generation.index(own)?;
        let after: Vec<&Uploaded> =
            generation.segments.iter().filter(|s| s.index == own && s.time > snapshot.time).take(2).collect();
        let end = after.last().map_or(committed, |last| last.frames);
        let fits = wal.fits(snapshot.bytes.len() / self.spec.page_size.bytes(), committed);
        if fits && !wal.proves_ahead(&snapshot.bytes, self.spec.page_size, committed, end) {
            // What the integrity check finds right is accepted, although it may be no state that ever existed.
            let prefix = &wal.wal.bytes()[..if frames == 0 { 0 } else { wal.wal.offset(frames) as usize }];
            if let Some(content) = source.mixture(&snapshot.bytes, prefix) {
                return Some((vec![content], None));
            }
        }
        if has_older {
            return Some((vec![exact?], None));
        }
        if after.is_empty() {
            return Some((Vec::new(), Some(if fits { "integrity check" } else { "hole" })));
        }
        // Any later state. How far the snapshot reaches is only known to be at most to the end of `after`.
        let mut right = Vec::new();
        for commit in wal.commits.iter().filter(|commit| (committed + 1..=end).contains(&commit.frames)) {
            right.push(source.state(commit.state?));
        }
        Some((right, None))
    }
}

impl ShadowIndex {
    /// Whether the first `committed` frames have all pages by which they make a snapshot of `pages` pages grow. If they
    /// do not, a later transaction has made the snapshot shorter.
    fn fits(&self, pages: usize, committed: u64) -> bool {
        let size = committed.checked_sub(1).and_then(|last| self.wal.commit(last)).unwrap_or(0);
        let written: BTreeSet<u32> = (0..committed).filter_map(|at| Some(self.wal.page(at)?.0)).collect();
        (pages as u32 + 1..=size).all(|pgno| written.contains(&pgno))
    }

    /// Whether a page of the first `committed` frames is, in the snapshot, as a frame from then on to `end` has it and
    /// none of the first ones.
    fn proves_ahead(&self, snapshot: &[u8], page_size: PageSize, committed: u64, end: u64) -> bool {
        let equals = |(pgno, page): &(u32, &[u8])| {
            let start = page_size.offset_of(Pgno(*pgno)) as usize;
            snapshot.get(start..start + page.len()) == Some(*page)
        };
        let first: Vec<(u32, &[u8])> = (0..committed).filter_map(|at| self.wal.page(at)).collect();
        let mut later = (committed..end).filter_map(|at| self.wal.page(at)).filter(equals);
        later.any(|(pgno, _)| {
            let mut versions = first.iter().filter(|(before, _)| *before == pgno).peekable();
            versions.peek().is_some() && !versions.any(equals)
        })
    }
}

/// The contents that are right, and the class of the error that is right.
type Right = (Vec<V3Content>, Option<&'static str>);

impl ShadowGeneration {
    fn index(&self, number: u32) -> Option<&ShadowIndex> {
        self.indexes.iter().find(|index| index.number == number)
    }

    /// The number of frames up to the last commit in the first `frames` frames of an index.
    fn committed(&self, number: u32, frames: u64) -> u64 {
        self.last_commit(number, frames).map_or(0, |commit| commit.frames)
    }

    fn last_commit(&self, number: u32, frames: u64) -> Option<Commit> {
        self.index(number)?.commits.iter().rev().find(|commit| commit.frames <= frames).copied()
    }

    /// The state after the first `frames` frames of an index.
    fn state(&self, number: u32, frames: u64) -> Option<usize> {
        match self.last_commit(number, frames) {
            Some(commit) => commit.state,
            None => self.index(number)?.base,
        }
    }
}
