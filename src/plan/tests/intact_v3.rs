//! Tests the plan for the newest intact state (docs/CLI.md, "The newest intact state") of replicas of Litestream 0.3: on
//! random ones, compared with a direct search, and on small ones made by hand.

use super::*;
use crate::catalogue::{Generation, V3File, V3Kind, V3Replica};
use crate::error::Class;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn v3_file(generation: u64, index: u32, kind: V3Kind, ms: i64) -> V3File {
    V3File {
        generation: Generation(generation),
        index,
        kind,
        size: 100,
        last_modified: Timestamp::from_millis(ms),
        etag: None,
        archived: false,
    }
}

pub(super) fn snapshot(generation: u64, index: u32, ms: i64) -> V3File {
    v3_file(generation, index, V3Kind::Snapshot { packed: true }, ms)
}

pub(super) fn piece(generation: u64, index: u32, offset: u64, ms: i64) -> V3File {
    v3_file(generation, index, V3Kind::Segment { offset, digits: 8 }, ms)
}

/// The replica of these files, in the order of a catalogue.
pub(super) fn v3(mut files: Vec<V3File>) -> V3Replica {
    files.sort_by_key(|f| (f.generation, !f.kind.is_snapshot(), f.position()));
    V3Replica { root: "a.db/".into(), files, prerelease: None }
}

fn only_v3(files: Vec<V3File>) -> Replica {
    Replica { root: "a.db/".into(), files: Vec::new(), v3: Some(Box::new(v3(files))), others: Vec::new() }
}

fn excluding(files: &[usize]) -> Excluded {
    let mut excluded = Excluded::new();
    files.iter().for_each(|&i| excluded.insert_v3(i, Class::Truncated));
    excluded
}

fn planned(plan: PlanFn, replica: &Replica, target: Target, excluded: &Excluded) -> Result<Plan, PlanError> {
    plan_by(plan, replica, target, &mut Times::new(), excluded, |_| None).result
}

/// Everything on which a plan depends.
#[derive(Debug, Clone)]
struct V3World {
    replica: Replica,
    excluded: BTreeSet<usize>,
    until: Option<i64>,
}

/// The files of one generation: for each index its number of pieces, and whether it has a snapshot. `keep` says which
/// files are there, and `archived` which are archived. Times rise by 1 from file to file.
fn generation(name: u64, begin: i64, indexes: &[(u64, bool)], keep: &[bool], archived: &[bool]) -> Vec<V3File> {
    let mut files = Vec::new();
    for (index, &(pieces, has_snapshot)) in (3..).zip(indexes) {
        let time = |files: &Vec<V3File>| begin + files.len() as i64;
        if has_snapshot {
            files.push(snapshot(name, index, time(&files)));
        }
        for i in 0..pieces {
            files.push(piece(name, index, i * 4120, time(&files)));
        }
    }
    let with_fate = files.into_iter().zip(keep.iter().zip(archived));
    with_fate.filter(|(_, (keep, _))| **keep).map(|(file, (_, &archived))| V3File { archived, ..file }).collect()
}

fn v3_world() -> impl Strategy<Value = V3World> {
    let fates = |weight| prop::collection::vec(prop::bool::weighted(weight), 20);
    let generation_of =
        (0..60i64, prop::collection::vec((0..4u64, prop::bool::weighted(0.5)), 1..5), fates(0.93), fates(0.03));
    (
        prop::collection::vec(generation_of, 1..4),
        prop::collection::btree_set(0..30usize, 0..4),
        prop::option::of(0..80i64),
    )
        .prop_map(|(generations, excluded, until)| {
            let files = (1..).zip(generations).flat_map(|(name, (begin, indexes, keep, archived))| {
                generation(name, begin, &indexes, &keep, &archived)
            });
            let replica = only_v3(files.collect());
            let count = replica.v3.as_ref().map_or(0, |v3| v3.files.len());
            V3World { replica, excluded: excluded.into_iter().filter(|&i| i < count).collect(), until }
        })
}

/// What a direct search finds.
#[derive(Debug, Default, PartialEq)]
struct Best {
    files: Vec<usize>,
    /// The number of generations with a snapshot that are newer.
    passed_over: usize,
    /// The number of pieces inside the target that are not used.
    lost: usize,
    /// Whether WAL is missing behind the used pieces.
    is_cut: bool,
}

impl V3World {
    fn files(&self) -> &[V3File] {
        &self.replica.v3.as_ref().unwrap().files
    }

    fn is_inside(&self, file: &V3File) -> bool {
        self.until.is_none_or(|until| file.last_modified <= Timestamp::from_millis(until))
    }

    /// The newest state that can be had: of the generation with the newest snapshot of which one is intact, that snapshot
    /// with the highest index, and the pieces that follow it one by one.
    fn best(&self) -> Option<Best> {
        let names: BTreeSet<Generation> = self.files().iter().map(|f| f.generation).collect();
        let of = |name: Generation| self.files().iter().enumerate().filter(move |(_, f)| f.generation == name);
        let inside = |name: Generation| of(name).filter(|(_, f)| self.is_inside(f));
        let newest_snapshot =
            |name| inside(name).filter(|(_, f)| f.kind.is_snapshot()).map(|(_, f)| f.last_modified).max();
        // Of two whose snapshots have one time, the one that went on, also if that was after the target.
        let newest = |name| of(name).map(|(_, f)| f.last_modified).max();
        let mut order: Vec<Generation> = names.into_iter().filter(|&name| newest_snapshot(name).is_some()).collect();
        order.sort_by_key(|&name| (newest_snapshot(name), newest(name), name));
        let usable = |i: usize| !self.excluded.contains(&i) && !self.files()[i].archived;
        for (passed_over, &name) in order.iter().rev().enumerate() {
            let snapshots = inside(name).filter(|&(i, f)| f.kind.is_snapshot() && usable(i));
            let Some((base, index)) = snapshots.map(|(i, f)| (i, f.index)).max_by_key(|&(_, index)| index) else {
                continue;
            };
            let wal: Vec<usize> =
                of(name).filter(|(_, f)| !f.kind.is_snapshot() && f.index >= index).map(|(i, _)| i).collect();
            let mut best = Best { files: vec![base], passed_over, ..Best::default() };
            let mut allowed = vec![(index, 0)];
            for (n, &i) in wal.iter().enumerate() {
                let file = &self.files()[i];
                let is_inside = wal[..=n].iter().all(|&i| self.is_inside(&self.files()[i]));
                let follows = match allowed.last() {
                    Some(&(index, 0)) if allowed.len() == 1 => file.position() == (index, 0),
                    Some(&(index, offset)) => {
                        file.index == index && file.position().1 > offset || file.position() == (index + 1, 0)
                    }
                    None => false,
                };
                if is_inside && follows && usable(i) && !best.is_cut {
                    best.files.push(i);
                    allowed.push(file.position());
                } else if is_inside {
                    best.lost += 1;
                    best.is_cut = true;
                } else {
                    best.is_cut |= !follows || self.excluded.contains(&i);
                    break;
                }
            }
            // An older snapshot stands in for the one with the highest index only with all WAL before that.
            let highest = inside(name).filter(|(_, f)| f.kind.is_snapshot()).map(|(_, f)| f.index).max()?;
            let reached = match allowed.as_slice() {
                [] | [_] => index,
                [.., (last, _)] => last + 1,
            };
            best.is_cut |= reached < highest;
            return Some(best);
        }
        None
    }
}

fn check(world: &V3World) -> Result<(), TestCaseError> {
    let target = world.until.map_or(Target::Latest, |ms| Target::Timestamp(Timestamp::from_millis(ms)));
    let excluded = excluding(&world.excluded.iter().copied().collect::<Vec<_>>());
    let exact = planned(plan, &world.replica, target, &excluded);
    let intact = planned(plan_intact, &world.replica, target, &excluded);
    let best = world.best();
    let error = match exact {
        Err(error) if error.leaves_older_states() => error,
        exact => {
            prop_assert_eq!(&intact, &exact);
            if let Ok(plan) = exact {
                let whole = Best { files: plan.files.clone(), ..Best::default() };
                prop_assert_eq!(best, Some(whole));
                prop_assert!(!plan.is_short());
            }
            return Ok(());
        }
    };
    let plan = match (intact, best.as_ref()) {
        (Ok(plan), Some(_)) => plan,
        (Err(intact), None) => {
            prop_assert_eq!(intact, error);
            return Ok(());
        }
        (intact, best) => return Err(TestCaseError::fail(format!("{intact:?} {best:?}"))),
    };
    let best = best.unwrap_or_default();
    prop_assert_eq!(&plan.files, &best.files);
    let v3 = plan.v3.as_deref().unwrap();
    let last = &world.files()[*plan.files.last().unwrap()];
    prop_assert_eq!(v3.state.generation, last.generation);
    let times = plan.files.iter().map(|&i| world.files()[i].last_modified);
    prop_assert_eq!(Some(v3.state.time), times.max());
    let mut warnings = plan.warnings.iter();
    let is_passed_over = best.passed_over > 0 || matches!(error, PlanError::NoSnapshot { .. });
    if is_passed_over {
        let first = warnings.next();
        let Some(Warning::NewestIntactGeneration { used, lost }) = first else {
            return Err(TestCaseError::fail(format!("{plan:?}")));
        };
        prop_assert!(used.name == last.generation && lost.name != used.name, "{plan:?}");
    }
    if best.is_cut {
        let first = warnings.next();
        let Some(&Warning::NewestIntactWal { generation, lost, .. }) = first else {
            return Err(TestCaseError::fail(format!("{plan:?}")));
        };
        prop_assert_eq!((generation, lost), (last.generation, best.lost));
    }
    prop_assert!(is_passed_over || best.is_cut, "{error:?}: nothing is lost");
    prop_assert!(plan.is_short() && !warnings.any(Warning::is_loss), "{plan:?}");
    // What is planned must be whole: nothing behind it is compared with it.
    prop_assert!(v3.next.is_none() || !best.is_cut);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_newest_intact_state_is_what_a_direct_search_finds(world in v3_world()) {
        check(&world)?;
    }
}

/// One generation with snapshots at the indexes 0 and 2. Files 0 and 1 are the snapshots, 2 to 8 the pieces of WAL.
fn two_snapshots() -> Vec<V3File> {
    vec![
        snapshot(7, 0, 10),
        snapshot(7, 2, 40),
        piece(7, 0, 0, 20),
        piece(7, 1, 0, 30),
        piece(7, 2, 0, 50),
        piece(7, 2, 4152, 60),
        piece(7, 3, 0, 70),
        piece(7, 3, 4152, 80),
        piece(7, 4, 0, 90),
    ]
}

/// The planned files, and the texts of the warnings.
fn seen(replica: &Replica, target: Target, excluded: &[usize]) -> (Vec<usize>, Vec<String>) {
    let plan = planned(plan_intact, replica, target, &excluding(excluded)).unwrap();
    (plan.files, plan.warnings.iter().map(ToString::to_string).collect())
}

const LATEST: Target = Target::Latest;

#[test]
fn wal_is_applied_up_to_the_first_piece_that_cannot_be_used() {
    let replica = only_v3(two_snapshots());
    let (files, warnings) = seen(&replica, LATEST, &[7]);
    assert_eq!(files, [1, 4, 5, 6]);
    assert_eq!(
        warnings,
        [
            "not the newest state: index 00000003 offset 00000000 of generation 0000000000000007 is the newest that can be \
          had, 2 pieces of WAL behind it are lost, because files are damaged or missing"
        ]
    );
    assert!(seen(&replica, LATEST, &[8]).1[0].contains("1 piece of WAL behind it is lost"));
    // Damage behind the target, or before the snapshot, is none of it.
    let until = |ms| Target::Timestamp(Timestamp::from_millis(ms));
    assert_eq!(seen(&replica, until(75), &[8]), (vec![1, 4, 5, 6], vec![]));
    assert_eq!(seen(&replica, LATEST, &[2, 3]).1, Vec::<String>::new());
    // All WAL of the snapshot's own index is lost.
    let (files, warnings) = seen(&replica, LATEST, &[4]);
    assert!(files == [1] && warnings[0].contains("index 00000002 offset 00000000"), "{files:?} {warnings:?}");
}

#[test]
fn what_is_missing_before_the_next_piece_may_be_inside_the_target() {
    let mut files = two_snapshots();
    files.remove(7);
    files.insert(7, piece(7, 5, 0, 85));
    files.pop();
    let replica = only_v3(files);
    // Index 4 may have been written before this time, or after it.
    let target = Target::Timestamp(Timestamp::from_millis(80));
    assert!(matches!(planned(plan, &replica, target, &Excluded::new()), Err(PlanError::WalHole { .. })));
    let (files, warnings) = seen(&replica, target, &[]);
    assert_eq!(files, [1, 4, 5, 6]);
    assert!(warnings[0].contains("can be had, WAL behind it is lost"), "{warnings:?}");
}

#[test]
fn an_older_snapshot_gives_the_same_state() {
    let replica = only_v3(two_snapshots());
    let (files, warnings) = seen(&replica, LATEST, &[1]);
    assert_eq!(files, [0, 2, 3, 4, 5, 6, 7, 8]);
    let key = "a.db/generations/0000000000000007/snapshots/00000002.snapshot.lz4";
    assert_eq!(warnings, [format!("damaged, restored through other files: {key}")]);
    // With damage before the snapshot that is lost, the state is older than that snapshot.
    let (files, warnings) = seen(&replica, LATEST, &[1, 3]);
    assert_eq!(files, [0, 2]);
    assert!(warnings[0].contains("index 00000000 offset 00000000") && warnings[0].contains("6 pieces"), "{warnings:?}");
}

#[test]
fn an_older_generation_only_if_no_snapshot_of_the_newest_is_usable() {
    let mut files = two_snapshots();
    // Files 9 to 11.
    files.extend([snapshot(8, 0, 100), piece(8, 0, 0, 110), piece(8, 0, 4152, 120)]);
    let replica = only_v3(files.clone());
    assert_eq!(seen(&replica, LATEST, &[10]).0, [9]);
    let (files, warnings) = seen(&replica, LATEST, &[9]);
    assert_eq!(files, [1, 4, 5, 6, 7, 8]);
    assert_eq!(
        warnings,
        [
            "not the newest state: generation 0000000000000007 (1970-01-01T00:00:00.01Z to 1970-01-01T00:00:00.09Z) is the \
          newest that can be had, all of generation 0000000000000008 (1970-01-01T00:00:00.1Z to \
          1970-01-01T00:00:00.12Z) is lost, because files are damaged or missing"
        ]
    );
    // Both losses are named, the greater first.
    let (files, warnings) = seen(&replica, LATEST, &[9, 8]);
    assert_eq!((files.len(), warnings.len()), (5, 2));
    assert!(warnings[0].contains("all of generation") && warnings[1].contains("1 piece of WAL"), "{warnings:?}");
    // Without any snapshot, nothing can be had, and the error is that of the newest generation.
    let nothing = planned(plan_intact, &replica, LATEST, &excluding(&[0, 1, 9])).unwrap_err();
    assert!(matches!(nothing, PlanError::NoOtherSnapshot { generation: Generation(8), .. }), "{nothing:?}");
}

#[test]
fn a_newer_generation_whose_snapshots_were_deleted() {
    let mut files = two_snapshots();
    files.extend([piece(8, 0, 0, 110), piece(8, 0, 4152, 120)]);
    let replica = only_v3(files);
    let exact = planned(plan, &replica, LATEST, &Excluded::new());
    assert!(matches!(exact, Err(PlanError::NoSnapshot { generation: Generation(8), .. })));
    let (files, warnings) = seen(&replica, LATEST, &[]);
    assert_eq!((files[0], warnings.len()), (1, 1));
    assert!(warnings[0].contains("all of generation 0000000000000008"), "{warnings:?}");
}

#[test]
fn archived_pieces_count_as_missing_and_what_is_archived_behind_the_target_does_not() {
    let mut files = two_snapshots();
    files[6].archived = true;
    let replica = only_v3(files);
    assert_eq!(seen(&replica, LATEST, &[]).0, [1, 4, 5]);
    let target = Target::Timestamp(Timestamp::from_millis(65));
    let exact = planned(plan, &replica, target, &Excluded::new()).unwrap();
    assert_eq!(planned(plan_intact, &replica, target, &Excluded::new()).unwrap(), exact);
}

/// WAL of the snapshot's own index is lost: the snapshot may hold pages of it.
#[test]
fn a_snapshot_whose_own_wal_is_lost_may_be_ahead() {
    let replica = only_v3(two_snapshots());
    let ahead = |excluded: &[usize]| {
        let plan = planned(plan_intact, &replica, LATEST, &excluding(excluded)).unwrap();
        plan.v3.unwrap().ahead.map(|ahead| (ahead.behind, ahead.has_older))
    };
    assert_eq!(ahead(&[]), None);
    // Both pieces that were uploaded after the snapshot are applied.
    assert_eq!(ahead(&[6]), None);
    // A piece that is damaged proves nothing, and what lies behind it does not either.
    assert_eq!(ahead(&[5]), Some((vec![], true)));
    assert_eq!(ahead(&[4]), Some((vec![], true)));
    assert_eq!(ahead(&[5, 0]), Some((vec![], false)));
}
