//! Plans the restore of a replica of Litestream 0.3: from its generations to a snapshot and the pieces of WAL to apply
//! to it, in order (docs/FORMAT-V3.md, "What is chosen"). The only times are those of the uploads, which the listing
//! has, so nothing is looked up.

use super::error::MAX_KEYS;
use super::{Excluded, PlanError, Target, Wanted, Warning};
use crate::catalogue::{Generation, V3File, V3Kind, V3Replica};
use crate::error::Class;
use crate::timestamp::Timestamp;

/// The state that a plan for a replica of Litestream 0.3 leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V3State {
    /// The generation that is restored.
    pub generation: Generation,
    /// The index of the newest planned piece of WAL, or of the snapshot if no WAL is planned.
    pub index: u32,
    /// The offset of that piece in the WAL of its index, in bytes. 0 if no WAL is planned.
    pub offset: u64,
    /// The time of the upload of the newest planned file.
    pub time: Timestamp,
}

/// What a plan for a replica of Litestream 0.3 says beyond its list of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V3Plan {
    /// The state that the plan leads to.
    pub state: V3State,
    /// Index and offset of the first piece after the planned ones. It is newer than the target. The planned pieces
    /// must lead to it without a gap.
    pub next: Option<(u32, u64)>,
    /// Set if the snapshot may hold pages that are newer than the planned WAL (docs/FORMAT-V3.md, "The snapshot that
    /// is ahead").
    pub ahead: Option<Ahead>,
}

/// What is known before the restore about a snapshot that may be ahead of the planned WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// The pieces of the snapshot's own index behind the target that may prove it: at most two. Indexes into
    /// [`V3Replica::files`].
    pub behind: Vec<usize>,
    /// Whether an older snapshot of the generation can be restored from instead.
    pub has_older: bool,
}

/// The snapshot and the pieces of WAL that are planned, oldest first, as indexes into [`V3Replica::files`].
pub(super) struct Chosen {
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

/// Plans a restore from the snapshots and the WAL of one generation.
///
/// # Errors
/// A [`PlanError`] if the target cannot be reached, or cannot be reached without the excluded files.
pub(super) fn plan(v3: &V3Replica, target: &Target, excluded: &Excluded, wanted: Wanted) -> Result<Chosen, PlanError> {
    let until = match *target {
        Target::Timestamp(at) => at,
        Target::Latest | Target::Txid(_) | Target::Pinned(_) => Timestamp::MAX,
    };
    let generations = generations(v3);
    match wanted {
        Wanted::Exact => plan_in(v3, &generations, choose(v3, &generations, until, target)?, until, excluded, wanted),
        Wanted::Intact => plan_intact(v3, &generations, until, target, excluded),
    }
}

/// Plans a restore from the generation with the newest snapshot that gives any state.
fn plan_intact(
    v3: &V3Replica,
    generations: &[GenerationFiles<'_>],
    until: Timestamp,
    target: &Target,
    excluded: &Excluded,
) -> Result<Chosen, PlanError> {
    let mut by_time: Vec<_> = generations.iter().filter(|g| newest_snapshot(g, until).is_some()).collect();
    by_time.sort_by_key(|g| std::cmp::Reverse((newest_snapshot(g, until), g.newest(Timestamp::MAX), g.name)));
    let mut first_error = None;
    for generation in by_time {
        match plan_in(v3, generations, generation, until, excluded, Wanted::Intact) {
            Ok(chosen) => return Ok(chosen),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(match first_error {
        Some(error) => error,
        None => choose(v3, generations, until, target).err().unwrap_or(PlanError::NoBackups),
    })
}

/// Plans a restore from the generation `chosen`.
fn plan_in(
    v3: &V3Replica,
    generations: &[GenerationFiles<'_>],
    chosen: &GenerationFiles<'_>,
    until: Timestamp,
    excluded: &Excluded,
    wanted: Wanted,
) -> Result<Chosen, PlanError> {
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

    let pieces: Vec<(usize, &V3File)> = chosen.pieces().filter(|(_, file)| file.index >= base.index).collect();
    let used = pieces.iter().take_while(|(_, file)| file.last_modified <= until).count();
    let (mut inside, behind) = pieces.split_at(used);
    let mut next = behind.first().map(|(_, file)| file.position());
    let mut lost = 0;
    if wanted == Wanted::Intact {
        let intact = inside.iter().take_while(|&&(at, file)| usable(at, file)).count();
        let intact = (0..=intact).rev().find(|&n| check_order(v3, base, inside.split_at(n).0, None).is_ok());
        let all = inside.len();
        inside = inside.split_at(intact.unwrap_or(0)).0;
        lost = all - inside.len();
        next = None;
    }
    check_order(v3, base, inside, next)?;
    let archived: Vec<String> = inside.iter().filter(|(_, file)| file.archived).map(|(_, f)| v3.key(f)).collect();
    if !archived.is_empty() {
        return Err(PlanError::ArchivedFiles { keys: archived.into_iter().take(MAX_KEYS).collect() });
    }

    let (index, offset) = inside.last().map_or((base.index, 0), |(_, file)| file.position());
    let time = inside.iter().map(|(_, file)| file.last_modified).chain([base.last_modified]).max();
    let time = time.unwrap_or(base.last_modified);
    let has_older = snapshots().any(|(at, file)| at != base_at && file.index < base.index && usable(at, file));
    let ahead = (index == base.index).then(|| ahead(base, &pieces, used)).flatten();
    let mut warnings = chosen.warnings(generations, until, base.index);
    for (at, file) in snapshots() {
        match excluded.get_v3(at) {
            Some(Class::IntegrityCheck) => warnings.push(Warning::SnapshotAhead { key: v3.key(file) }),
            Some(_) => warnings.push(Warning::RoutedAround { keys: vec![v3.key(file)] }),
            None => {}
        }
    }
    if lost > 0 {
        warnings.push(Warning::NewestIntactWal { generation: chosen.name, index, offset, lost });
    }
    Ok(Chosen {
        files: std::iter::once(base_at).chain(inside.iter().map(|&(at, _)| at)).collect(),
        plan: V3Plan {
            state: V3State { generation: chosen.name, index, offset, time },
            next,
            ahead: ahead.map(|behind| Ahead { behind, has_older }),
        },
        warnings,
        newer_exist: lost > 0 || !behind.is_empty(),
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
    let newest_snapshot =
        |generation: &&GenerationFiles<'_>| snapshot_times(generation).into_iter().filter(|&time| time <= until).max();
    // Where times are whole seconds, snapshots of two generations may be of the same one. The generation that went on
    // is the later one, also if its other files are newer than the target.
    let by_time = generations.iter().filter_map(|g| Some((newest_snapshot(&g)?, g.newest(Timestamp::MAX), g.name, g)));
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

/// Checks that no piece of WAL is missing, as far as the names show it. Whether a piece ends where the next one begins
/// is only known when it was unpacked.
fn check_order(
    v3: &V3Replica,
    base: &V3File,
    inside: &[(usize, &V3File)],
    next: Option<(u32, u64)>,
) -> Result<(), PlanError> {
    let mut before: Option<(u32, u64)> = None;
    for position in inside.iter().map(|(_, file)| file.position()).chain(next) {
        let continues = match before {
            None => position == (base.index, 0),
            Some((index, offset)) => {
                (position.0 == index && position.1 > offset)
                    || (index.checked_add(1) == Some(position.0) && position.1 == 0)
            }
        };
        if !continues {
            let after = before.map_or_else(
                || v3.key(base),
                |(index, offset)| {
                    let file = inside.iter().find(|(_, file)| file.position() == (index, offset));
                    file.map_or_else(String::new, |(_, file)| v3.key(file))
                },
            );
            return Err(PlanError::WalHole {
                generation: base.generation,
                after,
                index: position.0,
                offset: position.1,
            });
        }
        before = Some(position);
    }
    Ok(())
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

/// A generation, with the times of its first and last file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatedGeneration {
    /// The generation.
    pub name: Generation,
    /// The time of the file that was uploaded first.
    pub first: Timestamp,
    /// The time of the file that was uploaded last.
    pub last: Timestamp,
}

impl DatedGeneration {
    /// The generation that `files` belong to. None if there are no files.
    pub fn of(files: &[V3File]) -> Option<Self> {
        let times = || files.iter().map(|file| file.last_modified);
        Some(Self { name: files.first()?.generation, first: times().min()?, last: times().max()? })
    }
}

impl std::fmt::Display for DatedGeneration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} to {})", self.name, self.first, self.last)
    }
}
