//! Plans the restore of a replica of Litestream 0.3: from its generations to a snapshot and the pieces of WAL to apply
//! to it, in order (docs/FORMAT-V3.md, "What is chosen"). The only times are those of the uploads, which the listing
//! has, so nothing is looked up.

use super::error::MAX_KEYS;
use super::generation::{DatedGeneration, PossiblyAhead, V3Plan, V3State};
use super::{Excluded, PlanError, StateWanted, Target, Warning};
use crate::catalogue::{Generation, V3File, V3Kind, V3Replica};
use crate::error::Class;
use crate::timestamp::Timestamp;
use std::cmp::Reverse;

/// The snapshot and the pieces of WAL that are planned, oldest first, as indexes into [`V3Replica::files`].
pub(super) struct ChosenGeneration {
    pub files: Vec<usize>,
    pub plan: V3Plan,
    pub warnings: Vec<Warning>,
    /// Whether newer pieces of the generation exist.
    pub newer_exist: bool,
}

/// One generation, with the pieces of WAL that count.
struct GenerationFiles<'a> {
    name: Generation,
    files: &'a [V3File],
    /// The index of `files[0]` in the replica.
    first: usize,
}

/// Plans a restore from the snapshots and the WAL of one generation, for the newest state inside the target or, if
/// `wanted` says so, for the newest one that can be had.
///
/// # Errors
/// A [`PlanError`] if the target cannot be reached, or cannot be reached without the excluded files.
pub(super) fn plan(
    v3: &V3Replica,
    target: &Target,
    excluded: &Excluded,
    wanted: StateWanted,
) -> Result<ChosenGeneration, PlanError> {
    let until = match *target {
        Target::Timestamp(at) => at,
        Target::Latest | Target::Txid(_) | Target::Pinned(_) => Timestamp::MAX,
    };
    let generations = generations(v3);
    let exact = choose(v3, &generations, until, target)
        .and_then(|chosen| plan_in(v3, &generations, chosen, until, excluded, StateWanted::Exact));
    match exact {
        Err(error) if wanted == StateWanted::Intact && error.leaves_older_states() => {
            plan_intact(v3, &generations, until, excluded, error)
        }
        exact => exact,
    }
}

/// Plans a restore from the generation with the newest snapshot that gives any state, after the plan for the newest state
/// has failed with `error`.
fn plan_intact(
    v3: &V3Replica,
    generations: &[GenerationFiles<'_>],
    until: Timestamp,
    excluded: &Excluded,
    error: PlanError,
) -> Result<ChosenGeneration, PlanError> {
    let with_snapshot = generations.iter().filter_map(|g| Some((newest_snapshot(g, until)?, g)));
    let mut by_time: Vec<_> =
        with_snapshot.map(|(snapshot, g)| (snapshot, g.newest(Timestamp::MAX), g.name, g)).collect();
    by_time.sort_by_key(|&(snapshot, newest, name, _)| Reverse((snapshot, newest, name)));
    // The generations of which nothing can be had. A newer one without a snapshot is the first of them.
    let mut lost: Vec<&GenerationFiles<'_>> = match error {
        PlanError::NoSnapshot { generation, .. } => generations.iter().filter(|g| g.name == generation).collect(),
        _ => Vec::new(),
    };
    for (.., generation) in by_time {
        let Ok(mut chosen) = plan_in(v3, generations, generation, until, excluded, StateWanted::Intact) else {
            lost.push(generation);
            continue;
        };
        if let Some((used, newest)) = generation.dated().zip(lost.first().and_then(|g| g.dated())) {
            // That these generations are newer is what the first warning says, and no sign of a second writer.
            let is_lost = |name: Generation| lost.iter().any(|g| g.name == name);
            chosen.warnings.retain(|w| !matches!(w, Warning::NewerGeneration { newer, .. } if is_lost(newer.name)));
            chosen.warnings.insert(0, Warning::NewestIntactGeneration { used, lost: newest });
        }
        return Ok(chosen);
    }
    Err(error)
}

/// Plans a restore from the generation `chosen`.
fn plan_in(
    v3: &V3Replica,
    generations: &[GenerationFiles<'_>],
    chosen: &GenerationFiles<'_>,
    until: Timestamp,
    excluded: &Excluded,
    wanted: StateWanted,
) -> Result<ChosenGeneration, PlanError> {
    let snapshots = || chosen.all().filter(|(_, file)| file.kind.is_snapshot() && file.last_modified <= until);
    let usable = |at: usize, file: &V3File| !excluded.contains_v3(at) && !file.archived;
    // `all` is sorted by index, so the last one has the highest.
    let best = snapshots().filter(|&(at, file)| usable(at, file)).last();
    let Some((base_at, base)) = best else {
        let keys = || snapshots().map(|(_, file)| v3.key(file)).take(MAX_KEYS).collect();
        return Err(match snapshots().find_map(|(at, _)| excluded.get_v3(at)) {
            Some(class) => PlanError::NoOtherSnapshot { generation: chosen.name, class, keys: keys() },
            None => PlanError::ArchivedFiles { keys: keys() },
        });
    };

    let highest = snapshots().map(|(_, file)| file.index).max().unwrap_or(base.index);
    let pieces: Vec<(usize, &V3File)> = chosen.pieces().filter(|(_, file)| file.index >= base.index).collect();
    let inside = pieces.iter().take_while(|(_, file)| file.last_modified <= until).count();
    let (used, lost) = match wanted {
        StateWanted::Exact => (inside, None),
        StateWanted::Intact => {
            let contiguous = contiguous(base, &pieces);
            let intact = pieces.iter().take(inside).take_while(|&&(at, file)| usable(at, file)).count();
            let used = contiguous.min(intact);
            // What is missing before the first piece behind the target may be inside it.
            let hole_behind =
                pieces.get(inside).is_some_and(|&(at, _)| contiguous <= inside || excluded.contains_v3(at));
            let is_short =
                used < inside || hole_behind || !reaches(base, highest, pieces.get(..used).unwrap_or_default());
            (used, is_short.then(|| inside.saturating_sub(used)))
        }
    };
    let (inside, behind) = pieces.split_at(used);
    let next = if lost.is_some() { None } else { behind.first().map(|(_, file)| file.position()) };
    if wanted == StateWanted::Exact {
        check_order(v3, base, inside, next)?;
        check_usable(v3, inside, behind.first(), excluded)?;
        if !reaches(base, highest, inside) {
            let (generation, after) = (chosen.name, v3.key(inside.last().map_or(base, |(_, file)| file)));
            return Err(PlanError::SnapshotNotReached { generation, index: highest, after });
        }
    }

    let (index, offset) = inside.last().map_or((base.index, 0), |(_, file)| file.position());
    let time = inside.iter().map(|(_, file)| file.last_modified).chain([base.last_modified]).max();
    let time = time.unwrap_or(base.last_modified);
    let has_older = snapshots().any(|(at, file)| at != base_at && file.index < base.index && usable(at, file));
    let ahead = (index == base.index).then(|| ahead(base, &pieces, used)).flatten().map(|behind| PossiblyAhead {
        // Of the pieces behind a damaged one nothing is known.
        behind: behind.into_iter().take_while(|&at| !excluded.contains_v3(at)).collect(),
        has_older,
    });
    let mut warnings = Vec::new();
    if let Some(lost) = lost {
        warnings.push(Warning::NewestIntactWal { generation: chosen.name, index, offset, lost });
    }
    warnings.extend(chosen.warnings(generations, until, base.index));
    for (at, file) in snapshots() {
        match excluded.get_v3(at) {
            Some(Class::IntegrityCheck) => warnings.push(Warning::SnapshotAhead { key: v3.key(file) }),
            Some(_) => warnings.push(Warning::RoutedAround { keys: vec![v3.key(file)] }),
            None => {}
        }
    }
    Ok(ChosenGeneration {
        files: std::iter::once(base_at).chain(inside.iter().map(|&(at, _)| at)).collect(),
        plan: V3Plan { state: V3State { generation: chosen.name, index, offset, time }, next, ahead },
        warnings,
        newer_exist: !behind.is_empty(),
    })
}

/// The newest file that is not newer than the target.
pub(super) fn newest_inside(v3: &V3Replica, at: Timestamp) -> Option<Timestamp> {
    v3.files.iter().map(|file| file.last_modified).filter(|&time| time <= at).max()
}

fn generations(v3: &V3Replica) -> Vec<GenerationFiles<'_>> {
    let mut first = 0;
    let generation = |files: &'_ [V3File]| -> Option<(Generation, usize)> {
        let begins = first;
        first += files.len();
        Some((files.first()?.generation, begins))
    };
    let starts: Vec<_> = v3.generations().map(generation).collect();
    let with_start = starts.into_iter().zip(v3.generations());
    with_start.filter_map(|(start, files)| start.map(|(name, first)| GenerationFiles { name, files, first })).collect()
}

fn snapshot_times(generation: &GenerationFiles<'_>) -> Vec<Timestamp> {
    let snapshots = generation.files.iter().filter(|file| file.kind.is_snapshot());
    snapshots.map(|file| file.last_modified).collect()
}

/// The time of the newest snapshot that is not newer than `until`.
fn newest_snapshot(generation: &GenerationFiles<'_>, until: Timestamp) -> Option<Timestamp> {
    snapshot_times(generation).into_iter().filter(|&time| time <= until).max()
}

/// Chooses the generation: the one with the newest snapshot that is not newer than the target.
fn choose<'a, 'b>(
    v3: &V3Replica,
    generations: &'b [GenerationFiles<'a>],
    until: Timestamp,
    target: &Target,
) -> Result<&'b GenerationFiles<'a>, PlanError> {
    // Where times are whole seconds, snapshots of two generations may be of the same one. The generation that went on
    // is the later one, also if its other files are newer than the target.
    let latest = |g: &GenerationFiles<'_>| g.newest(Timestamp::MAX);
    let by_time = generations.iter().filter_map(|g| Some((newest_snapshot(g, until)?, latest(g), g.name, g)));
    let Some((.., chosen)) = by_time.max_by_key(|&(snapshot, newest, name, _)| (snapshot, newest, name)) else {
        let oldest = generations.iter().flat_map(snapshot_times).min();
        return Err(
            match (target, oldest, generations.iter().max_by_key(|g| g.newest(Timestamp::MAX)), &v3.prerelease) {
                (Target::Timestamp(at), Some(_), _, _) => PlanError::TimestampDoesNotExist { at: *at, oldest },
                (_, _, Some(newest), _) => {
                    PlanError::NoSnapshot { generation: newest.name, files: newest.files.len(), instead: None }
                }
                (_, _, None, Some(key)) => PlanError::Prerelease { key: key.to_string() },
                (_, _, None, None) => PlanError::NoBackups,
            },
        );
    };
    let newest = chosen.newest(until);
    // Retention deletes snapshots first, so an old generation without one is normal. A newer one is not: to restore an
    // older generation in its stead would lose what it holds, without a word.
    let is_newer = |g: &&GenerationFiles<'_>| snapshot_times(g).is_empty() && g.newest(until) > newest;
    match generations.iter().find(is_newer) {
        Some(newer) => {
            let (generation, files, instead) = (newer.name, newer.files.len(), Some(chosen.name));
            Err(PlanError::NoSnapshot { generation, files, instead })
        }
        None => Ok(chosen),
    }
}

/// Whether a piece at `position` continues the WAL after the piece at `before`, or after the snapshot `base` if that is
/// None, as far as the names show it.
fn continues(base: &V3File, before: Option<(u32, u64)>, position: (u32, u64)) -> bool {
    match before {
        None => position == (base.index, 0),
        Some((index, offset)) => {
            (position.0 == index && position.1 > offset)
                || (index.checked_add(1) == Some(position.0) && position.1 == 0)
        }
    }
}

/// The number of pieces before the first hole that the names show.
fn contiguous(base: &V3File, pieces: &[(usize, &V3File)]) -> usize {
    let mut before = None;
    let is_next = |(_, file): &&(usize, &V3File)| continues(base, before.replace(file.position()), file.position());
    pieces.iter().take_while(is_next).count()
}

/// Checks that no piece of WAL is missing, as far as the names show it. Whether a piece ends where the next one begins
/// is only known when it was unpacked.
fn check_order(
    v3: &V3Replica,
    base: &V3File,
    inside: &[(usize, &V3File)],
    next: Option<(u32, u64)>,
) -> Result<(), PlanError> {
    let mut before: Option<&V3File> = None;
    let positions = inside.iter().map(|&(_, file)| (file.position(), Some(file)));
    for (position, file) in positions.chain(next.map(|next| (next, None))) {
        if !continues(base, before.map(V3File::position), position) {
            let (generation, after) = (base.generation, v3.key(before.unwrap_or(base)));
            return Err(PlanError::WalHole { generation, after, index: position.0, offset: position.1 });
        }
        before = file;
    }
    Ok(())
}

/// Whether the snapshot `base` and the pieces after it stand in for the snapshot of index `highest`, which holds all that
/// the WAL of the indexes before it holds.
fn reaches(base: &V3File, highest: u32, pieces: &[(usize, &V3File)]) -> bool {
    highest == base.index || pieces.last().is_some_and(|(_, file)| file.index.saturating_add(1) >= highest)
}

/// Checks that all pieces of WAL can be read, as far as it is known, and that no gap was found before `next`, the first
/// piece behind them.
fn check_usable(
    v3: &V3Replica,
    inside: &[(usize, &V3File)],
    next: Option<&(usize, &V3File)>,
    excluded: &Excluded,
) -> Result<(), PlanError> {
    let archived = inside.iter().filter(|(_, file)| file.archived).map(|(_, file)| v3.key(file));
    let archived: Vec<String> = archived.take(MAX_KEYS).collect();
    if !archived.is_empty() {
        return Err(PlanError::ArchivedFiles { keys: archived });
    }
    let mut damaged = inside.iter().chain(next).filter_map(|&(at, file)| Some((excluded.get_v3(at)?, file))).peekable();
    match damaged.peek() {
        Some(&(class, _)) => {
            let keys = damaged.map(|(_, file)| v3.key(file)).take(MAX_KEYS).collect();
            Err(PlanError::DamagedWal { class, keys })
        }
        None => Ok(()),
    }
}

/// The pieces behind the target that may show that the snapshot is ahead of it. None if all pieces that could show it
/// are inside the target. `used` is the number of `pieces` that are.
fn ahead(base: &V3File, pieces: &[(usize, &V3File)], used: usize) -> Option<Vec<usize>> {
    let own = pieces.iter().enumerate().filter(|(_, (_, file))| file.index == base.index);
    let later = own.filter(|(_, (_, file))| file.last_modified > base.last_modified).take(2);
    let later: Vec<(usize, usize)> = later.map(|(i, &(at, _))| (i, at)).collect();
    let is_inside = !later.is_empty() && later.iter().all(|&(i, _)| i < used);
    (!is_inside).then(|| later.into_iter().filter(|&(i, _)| i >= used).map(|(_, at)| at).collect())
}

impl GenerationFiles<'_> {
    /// All files with their indexes in the replica.
    fn all(&self) -> impl Iterator<Item = (usize, &V3File)> {
        self.files.iter().enumerate().map(|(i, file)| (self.first + i, file))
    }

    /// The pieces of WAL that count, in order. A whole WAL (Litestream 0.3.0 to 0.3.4) counts only where its index has
    /// no segments, and an unpacked one is right where both forms exist.
    fn pieces(&self) -> impl Iterator<Item = (usize, &V3File)> {
        let wal = self.all().filter(|(_, file)| !file.kind.is_snapshot()).collect::<Vec<_>>();
        let mut counted: Vec<(usize, &V3File)> = Vec::new();
        for of_index in wal.chunk_by(|a, b| a.1.index == b.1.index) {
            let segments = of_index.iter().filter(|(_, file)| matches!(file.kind, V3Kind::Segment { .. }));
            let before = counted.len();
            for &(at, file) in segments {
                // The same offset may be listed twice, with different numbers of digits.
                let is_again = counted.last().is_some_and(|(_, last)| last.position() == file.position());
                if !is_again {
                    counted.push((at, file));
                }
            }
            if counted.len() == before {
                let growing = of_index.iter().find(|(_, file)| !file.kind.is_packed());
                counted.extend(growing.or(of_index.first()));
            }
        }
        counted.into_iter()
    }

    /// The time of the newest file that is not newer than `until`.
    fn newest(&self, until: Timestamp) -> Option<Timestamp> {
        self.files.iter().map(|file| file.last_modified).filter(|&time| time <= until).max()
    }

    fn dated(&self) -> Option<DatedGeneration> {
        DatedGeneration::of(self.files)
    }

    fn warnings(&self, all: &[GenerationFiles<'_>], until: Timestamp, from: u32) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let newest = self.newest(until);
        let elsewhere = all.iter().filter(|other| other.name != self.name && other.newest(until) > newest);
        if let (Some(used), Some(newer)) =
            (self.dated(), elsewhere.max_by_key(|g| g.newest(until)).and_then(|g| g.dated()))
        {
            warnings.push(Warning::NewerGeneration { used, newer });
        }
        let times: Vec<Timestamp> =
            self.pieces().filter(|(_, f)| f.index >= from).map(|(_, f)| f.last_modified).collect();
        if !times.is_sorted() {
            let generations = all.iter().filter_map(GenerationFiles::dated).collect();
            warnings.push(Warning::TimesOfACopy { generations });
        }
        warnings
    }
}
