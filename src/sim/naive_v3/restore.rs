//! Builds the database from a snapshot and the WAL after it (docs/FORMAT-V3.md, "Contiguity" and "The database").

use super::catalogue::{GenerationFiles, StoredFile, V3Entry, generations};
use super::choose::{NaiveTarget, generation as choose_generation};
use super::error::{NaiveV3Error, fail};
use super::object::{decode_object, decode_until_damage};
use super::wal::Reading;
use std::collections::BTreeMap;

/// A database that the naive restorer has restored, and the state that it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NaiveRestored {
    /// The bytes of the database file.
    pub database: Vec<u8>,
    /// The generation of the files that were used.
    pub generation: u64,
    /// The index of the newest WAL that was used, or that of the snapshot if no WAL was used.
    pub index: u32,
    /// The offset in that WAL of the newest segment that was used. 0 if no WAL was used.
    pub offset: u64,
    /// The latest upload time of the files that were used, in nanoseconds since the Unix epoch.
    pub time_ns: i64,
}

/// Restores the database that `entries` hold. `generation` names the generation to use; without it, the one with the
/// newest snapshot inside the target is used. `integrity` decides whether SQLite's full integrity check finds a
/// database right. It is asked only where the snapshot may be ahead (docs/FORMAT-V3.md, "The snapshot that is
/// ahead").
pub fn restore(
    entries: &[V3Entry],
    target: NaiveTarget,
    generation: Option<u64>,
    integrity: &dyn Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, NaiveV3Error> {
    restore_state(entries, target, generation, integrity).map(|restored| restored.database)
}

/// Like [`restore`], and returns in addition which state the database shows.
pub fn restore_state(
    entries: &[V3Entry],
    target: NaiveTarget,
    generation: Option<u64>,
    integrity: &dyn Fn(&[u8]) -> bool,
) -> Result<NaiveRestored, NaiveV3Error> {
    let generations = generations(entries)?;
    let generation = choose_generation(&generations, target, generation)?;
    let files = &generations[&generation];
    let usable = |file: &&StoredFile| target.allows(file.entry.time_ns);
    let snapshots: Vec<StoredFile> = files.snapshots.iter().filter(usable).copied().collect();
    Restorer { generation, files, target, integrity }
        .first_usable(&snapshots, None)
        .map_err(|error| error.within(&format!("generation {generation:016x}")))
}

struct Restorer<'a> {
    generation: u64,
    files: &'a GenerationFiles<'a>,
    target: NaiveTarget,
    integrity: &'a dyn Fn(&[u8]) -> bool,
}

/// The database of a snapshot.
struct Base {
    bytes: Vec<u8>,
    page_size: u32,
}

impl Restorer<'_> {
    /// Restores from the first of `snapshots` that can be read (docs/FORMAT-V3.md, "Redundancy"). `instead_of` is the
    /// index of the better snapshot that could not be used, if there is one: its state must be reached without it.
    fn first_usable(
        &self,
        snapshots: &[StoredFile],
        mut instead_of: Option<u32>,
    ) -> Result<NaiveRestored, NaiveV3Error> {
        let mut first_error = None;
        for (at, snapshot) in snapshots.iter().enumerate() {
            match read_snapshot(snapshot) {
                Ok(base) => return self.restored_from(snapshot, &base, &snapshots[at + 1..], instead_of),
                Err(error) => {
                    first_error.get_or_insert(error.within(&snapshot.entry.key));
                    instead_of = instead_of.max(Some(snapshot.index));
                }
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => fail("no snapshot", "no snapshot is left"),
        }
    }

    fn restored_from(
        &self,
        snapshot: &StoredFile,
        base: &Base,
        older: &[StoredFile],
        instead_of: Option<u32>,
    ) -> Result<NaiveRestored, NaiveV3Error> {
        let (used, beyond) = self.segments_since(snapshot);
        check_names(snapshot, used, beyond, instead_of)?;

        let mut state = self.bare(snapshot, base);
        let mut index = snapshot.index;
        let mut reading = Reading::default();
        for segment in used {
            if segment.index != index {
                end_of_index(&reading, index)?;
                apply(&mut state.database, base, &reading, reading.wal.committed())?;
                (index, reading) = (segment.index, Reading::default());
            }
            read_segment(&mut reading, base, segment)?;
            state.note(segment);
        }
        match beyond {
            Some(beyond) if beyond.index == index => continues(&reading, beyond)?,
            Some(_) => end_of_index(&reading, index)?,
            None => {}
        }
        let applied = apply(&mut state.database, base, &reading, reading.wal.committed());
        if index != snapshot.index {
            return applied.map(|()| state);
        }
        self.unless_ahead(snapshot, base, older, used, &reading, applied.map(|()| state))
    }

    /// The segments inside the target from the snapshot's index on, and the first one beyond them.
    fn segments_since(&self, snapshot: &StoredFile) -> (&[StoredFile<'_>], Option<&StoredFile<'_>>) {
        let since = self.files.segments.partition_point(|segment| segment.index < snapshot.index);
        let since = &self.files.segments[since..];
        let used = since.iter().take_while(|segment| self.target.allows(segment.entry.time_ns)).count();
        (&since[..used], since.get(used))
    }

    /// The state that the snapshot alone shows.
    fn bare(&self, snapshot: &StoredFile, base: &Base) -> NaiveRestored {
        NaiveRestored {
            database: base.bytes.clone(),
            generation: self.generation,
            index: snapshot.index,
            offset: 0,
            time_ns: snapshot.entry.time_ns,
        }
    }

    /// Decides whether the snapshot is ahead of the WAL inside the target, which is `used`, read as `reading` and
    /// applied in `state`. All of it is of the snapshot's own index (docs/FORMAT-V3.md, "The snapshot that is
    /// ahead"). `state` is an error if the WAL does not fit the snapshot: a snapshot that is ahead may lack pages which
    /// a later transaction has cut off.
    fn unless_ahead(
        &self,
        snapshot: &StoredFile,
        base: &Base,
        older: &[StoredFile],
        used: &[StoredFile],
        reading: &Reading,
        state: Result<NaiveRestored, NaiveV3Error>,
    ) -> Result<NaiveRestored, NaiveV3Error> {
        let own: Vec<&StoredFile> =
            self.files.segments.iter().filter(|segment| segment.index == snapshot.index).collect();
        let is_later = |at: &usize| own[*at].entry.time_ns > snapshot.entry.time_ns;
        let after: Vec<usize> = (0..own.len()).filter(is_later).take(2).collect();
        if !after.is_empty() && after.iter().all(|&at| at < used.len()) {
            return state;
        }

        // Reads on to the end of the index as far as that is possible. `ends` has the number of frames up to the
        // end of each segment.
        let mut whole = Reading::default();
        let mut ends = Vec::new();
        for segment in &own {
            let read = read_until_damage(&mut whole, segment);
            ends.push(whole.wal.frames.len());
            if read.is_err() {
                break;
            }
        }
        let frames = &whole.wal.frames[..ends.last().copied().unwrap_or(0)];
        let end_of = |at: usize| ends.get(at).copied().unwrap_or(frames.len());
        let committed = reading.wal.committed();

        let equals_snapshot = |at: usize| {
            let (pgno, _, page) = &frames[at];
            base.page(*pgno) == Some(page)
        };
        // Frames inside the target after its last commit prove as much as those behind it.
        let read = after.last().copied().max(used.len().checked_sub(1));
        let last = read.map_or(committed, end_of);
        let proven = (committed..last).any(|at| {
            let pgno = frames[at].0;
            let versions: Vec<usize> = (0..committed).filter(|&before| frames[before].0 == pgno).collect();
            equals_snapshot(at) && !versions.is_empty() && !versions.into_iter().any(equals_snapshot)
        });
        if let Ok(state) = &state
            && !proven
            && (self.integrity)(&state.database)
        {
            return Ok(state.clone());
        }
        if let Some(next) = older.first()
            && let (used, beyond) = self.segments_since(next)
            && check_names(next, used, beyond, Some(snapshot.index)).is_ok()
        {
            return self.first_usable(older, Some(snapshot.index));
        }

        let greatest = (committed..last).filter(|&at| equals_snapshot(at)).max();
        // What the snapshot holds was committed before it was taken, so the commit was uploaded with it.
        let commit = greatest.and_then(|from| (from..last).find(|&at| frames[at].1 != 0));
        let Some(commit) = commit else {
            state?;
            return fail("integrity check", format!("{} is ahead of the WAL", snapshot.entry.key));
        };
        let mut state = self.bare(snapshot, base);
        apply(&mut state.database, base, &whole, commit + 1)?;
        for (segment, _) in own.iter().zip(&ends).take_while(|(_, end)| **end <= commit) {
            state.note(segment);
        }
        if let Some(at) = ends.iter().position(|&end| end > commit) {
            state.note(own[at]);
        }
        Ok(state)
    }
}

impl NaiveRestored {
    /// Notes that a segment was used.
    fn note(&mut self, segment: &StoredFile) {
        self.index = segment.index;
        self.offset = segment.offset;
        self.time_ns = self.time_ns.max(segment.entry.time_ns);
    }
}

impl Base {
    /// Page `pgno` of the snapshot, if the snapshot has it.
    fn page(&self, pgno: u32) -> Option<&[u8]> {
        let size = self.page_size as usize;
        let start = (pgno as usize).checked_sub(1)?.checked_mul(size)?;
        self.bytes.get(start..start + size)
    }
}

fn content(file: &StoredFile) -> Result<Vec<u8>, NaiveV3Error> {
    match file.packed {
        true => decode_object(&file.entry.bytes),
        false => Ok(file.entry.bytes.to_vec()),
    }
}

fn read_snapshot(file: &StoredFile) -> Result<Base, NaiveV3Error> {
    let bytes = content(file)?;
    if !bytes.starts_with(b"SQLite format 3\0") || bytes.len() < 100 {
        return fail("malformed", "the snapshot is no SQLite database");
    }
    let page_size = match u32::from(bytes[16]) << 8 | u32::from(bytes[17]) {
        1 => 65536,
        size => size,
    };
    if !(512..=65536).contains(&page_size) || !page_size.is_power_of_two() {
        return fail("malformed", format!("page size {page_size} of the snapshot"));
    }
    if !bytes.len().is_multiple_of(page_size as usize) {
        return fail("malformed", format!("{} bytes are no whole pages of {page_size}", bytes.len()));
    }
    Ok(Base { bytes, page_size })
}

/// Checks what the names alone show: whether the WAL begins with the snapshot's index, and no index and no beginning
/// of an index is missing, up to the first segment beyond the target.
fn check_names(
    snapshot: &StoredFile,
    used: &[StoredFile],
    beyond: Option<&StoredFile>,
    instead_of: Option<u32>,
) -> Result<(), NaiveV3Error> {
    let mut before: Option<u32> = None;
    for segment in used.iter().chain(beyond) {
        let expected = match before {
            None => snapshot.index,
            Some(index) if segment.index == index => continue,
            Some(index) => index + 1,
        };
        if (segment.index, segment.offset) != (expected, 0) {
            return fail("hole", format!("{} instead of the beginning of index {expected:08x}", segment.entry.key));
        }
        before = Some(segment.index);
    }
    // A snapshot of index N stands for the whole WAL before N.
    if let Some(better) = instead_of.filter(|&better| better != snapshot.index)
        && used.last().is_none_or(|last| last.index + 1 < better)
    {
        return fail("hole", format!("the WAL before the snapshot of index {better:08x} is missing"));
    }
    Ok(())
}

/// Checks that `segment` begins where the WAL of its index ends so far.
fn continues(reading: &Reading, segment: &StoredFile) -> Result<(), NaiveV3Error> {
    let (key, at) = (&segment.entry.key, reading.position);
    match segment.offset.cmp(&at) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => fail("hole", format!("{key}: the WAL before it ends at {at}")),
        std::cmp::Ordering::Less => fail("malformed", format!("{key}: the WAL before it ends later, at {at}")),
    }
}

/// Checks that an index that another one follows ends with a commit.
fn end_of_index(reading: &Reading, index: u32) -> Result<(), NaiveV3Error> {
    match reading.is_inside_transaction() {
        true => fail("hole", format!("index {index:08x} ends inside a transaction")),
        false => Ok(()),
    }
}

/// Reads a segment. After an error its whole frames before the damage count.
fn read_until_damage(reading: &mut Reading, segment: &StoredFile) -> Result<(), NaiveV3Error> {
    continues(reading, segment)?;
    if !segment.packed {
        return reading.growing(&segment.entry.bytes);
    }
    let mut content = Vec::new();
    let decoded = decode_until_damage(&segment.entry.bytes, &mut content);
    reading.segment(&content).and(decoded)
}

fn read_segment(reading: &mut Reading, base: &Base, segment: &StoredFile) -> Result<(), NaiveV3Error> {
    continues(reading, segment)?;
    let key = &segment.entry.key;
    let bytes = content(segment).map_err(|error| error.within(key))?;
    let read = if segment.packed { reading.segment(&bytes) } else { reading.growing(&bytes) };
    read.map_err(|error| error.within(key))?;
    match reading.wal.page_size {
        0 => Ok(()),
        size if size == base.page_size => Ok(()),
        size => fail("malformed", format!("{key}: page size {size}, but {} in the snapshot", base.page_size)),
    }
}

/// Applies the first `count` frames of an index, the last of which is a commit. 0 changes nothing.
fn apply(database: &mut Vec<u8>, base: &Base, reading: &Reading, count: usize) -> Result<(), NaiveV3Error> {
    let frames = &reading.wal.frames[..count];
    let Some(&(_, size, _)) = frames.last() else { return Ok(()) };
    let page_size = base.page_size as usize;
    let pages: BTreeMap<u32, &Vec<u8>> =
        frames.iter().filter(|(pgno, ..)| *pgno <= size).map(|(pgno, _, page)| (*pgno, page)).collect();
    let lock_page = 0x4000_0000 / base.page_size + 1;
    let old_size = (database.len() / page_size) as u32;
    for pgno in old_size + 1..=size {
        if pgno != lock_page && !pages.contains_key(&pgno) {
            return fail("hole", format!("no frame holds page {pgno}, by which the database grows to {size}"));
        }
    }
    database.resize(size as usize * page_size, 0);
    for (pgno, page) in pages {
        let start = (pgno as usize - 1) * page_size;
        database[start..start + page_size].copy_from_slice(page);
    }
    Ok(())
}
