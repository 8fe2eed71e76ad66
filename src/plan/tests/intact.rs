//! Tests the plan for the newest intact state (docs/CLI.md, "The newest intact state") on small replicas of LTX files,
//! and of LTX files beside those of Litestream 0.3. The module `against_search` tests it on random replicas.

use super::intact_v3::{piece, snapshot, v3};
use super::*;
use crate::catalogue::Generation;
use crate::error::Class;

fn at(ms: i64) -> Target {
    Target::Timestamp(Timestamp::from_millis(ms))
}

fn without(files: &[usize]) -> Excluded {
    let mut excluded = Excluded::new();
    files.iter().for_each(|&i| excluded.insert(i, Class::Malformed));
    excluded
}

fn intact(replica: &Replica, target: Target, excluded: &Excluded) -> Result<Plan, PlanError> {
    let time_of = |i: usize| Some(replica.files[i].last_modified);
    plan_by(plan_intact, replica, target, &mut Times::new(), excluded, time_of).result
}

fn texts(plan: &Plan) -> Vec<String> {
    plan.warnings.iter().map(ToString::to_string).collect()
}

/// A snapshot up to TXID 3, and level 0 with the TXIDs 1 to 8. Each has its TXID as its time. Index 0 to 7 are level 0.
fn increments() -> Vec<LtxFile> {
    let mut files: Vec<LtxFile> = (1..=8).map(|t| file(0, t, t, t as i64)).collect();
    files.push(file(9, 1, 3, 3));
    files
}

#[test]
fn the_state_before_a_hole() {
    let mut files = increments();
    files.remove(5);
    let r = replica(files);
    let plan = intact(&r, Target::Latest, &Excluded::new()).unwrap();
    assert_eq!(ranges(&r, &plan), [(9, 1, 3), (0, 4, 4), (0, 5, 5)]);
    assert_eq!((plan.txid, plan.newer_exist), (Txid(5), true));
    assert_eq!(
        texts(&plan),
        ["not the newest state: TXID 0000000000000005 is the newest that can be had, 0000000000000006 to \
          0000000000000008 are lost, because files are damaged or missing"]
    );
    // The hole lies behind these targets, so nothing is lost.
    for target in [Target::Txid(Txid(5)), at(6), at(4)] {
        assert_eq!(intact(&r, target, &Excluded::new()), plan_now(&r, target), "{target:?}");
        assert!(plan_now(&r, target).is_ok());
    }
    // Of a target behind the hole only what is inside it is lost.
    let plan = intact(&r, at(8), &Excluded::new()).unwrap();
    assert_eq!(plan.warnings, [Warning::NewestIntact { reached: Txid(5), newest: Txid(7) }]);
}

#[test]
fn damage_is_restored_around_as_far_as_other_files_go() {
    let mut files = increments();
    files.push(file(1, 4, 6, 6));
    let r = replica(files);
    let index =
        |level: u8, min: u64| r.files.iter().position(|f| f.level.get() == level && f.min_txid.0 == min).unwrap();
    // Level 0 stands in for the compaction, but not for its own last file.
    let excluded = without(&[index(1, 4), index(0, 8)]);
    assert!(matches!(plan(&r, &Target::Latest, &Times::new(), &excluded), Err(PlanError::NoOtherChain { .. })));
    let plan = intact(&r, Target::Latest, &excluded).unwrap();
    assert_eq!(ranges(&r, &plan), [(9, 1, 3), (0, 4, 4), (0, 5, 5), (0, 6, 6), (0, 7, 7)]);
    let around = vec![r.key(&r.files[index(1, 4)])];
    let expected =
        [Warning::NewestIntact { reached: Txid(7), newest: Txid(8) }, Warning::RoutedAround { keys: around }];
    assert_eq!(plan.warnings, expected);
    // Without the snapshot, level 0 gives everything.
    let plan = intact(&r, Target::Latest, &without(&[index(9, 1)])).unwrap();
    assert_eq!((plan.txid, plan.is_short()), (Txid(8), false));
    // Without TXID 1 in any other file, nothing can be had.
    let nothing = intact(&r, Target::Latest, &without(&[index(9, 1), index(0, 1)])).unwrap_err();
    let PlanError::NoOtherChain { txid, class, keys } = nothing else { panic!("{nothing:?}") };
    assert_eq!((txid, class, keys.len()), (Txid(8), Class::Malformed, 2));
}

#[test]
fn archived_files_count_as_missing() {
    let mut files = increments();
    files[6].archived = true;
    let r = replica(files);
    assert!(matches!(plan_now(&r, Target::Latest), Err(PlanError::Archived { .. })));
    let plan = intact(&r, Target::Latest, &Excluded::new()).unwrap();
    assert_eq!(plan.warnings, [Warning::NewestIntact { reached: Txid(6), newest: Txid(8) }]);
}

/// A gap that only files that are too new close is none: the state before it is the newest of that time.
#[test]
fn what_was_retired_is_not_lost() {
    let r = replica(vec![file(9, 1, 3, 3), file(0, 5, 5, 5), file(1, 4, 8, 8)]);
    let exact = plan_now(&r, at(6)).unwrap();
    assert_eq!(exact.warnings, [Warning::StateBetweenRetired { reached: Txid(3), newest: Txid(5) }]);
    assert_eq!(intact(&r, at(6), &Excluded::new()).unwrap(), exact);
    assert!(!exact.is_short());
    // What is damaged below it is lost up to that state only.
    let mut files = r.files.clone();
    files.extend([file(9, 1, 2, 2), file(0, 3, 3, 3)]);
    let r = replica(files);
    let index =
        |level: u8, max: u64| r.files.iter().position(|f| (f.level.get(), f.max_txid.0) == (level, max)).unwrap();
    let plan = intact(&r, at(6), &without(&[index(9, 3), index(0, 3)])).unwrap();
    assert_eq!((plan.txid, &plan.warnings[0]), (Txid(2), &Warning::NewestIntact { reached: Txid(2), newest: Txid(3) }));
}

#[test]
fn a_target_that_is_a_mistake_stays_one() {
    let r = replica(increments());
    for target in [at(1), Target::Txid(Txid(9))] {
        assert_eq!(intact(&r, target, &Excluded::new()), plan_now(&r, target));
        assert!(plan_now(&r, target).is_err());
    }
    // The only snapshot is too new, and the file that would begin at TXID 1 is missing.
    let r = replica(vec![file(9, 1, 2, 9), file(0, 5, 5, 5)]);
    let excluded = Excluded::new();
    assert!(matches!(plan_now(&r, at(6)), Err(PlanError::Hole { .. })));
    assert!(matches!(intact(&r, at(6), &excluded), Err(PlanError::TimestampDoesNotExist { .. })));
    let r = replica(vec![file(0, 2, 2, 2), file(0, 3, 3, 3)]);
    assert!(matches!(intact(&r, Target::Latest, &excluded), Err(PlanError::ChainDoesNotBeginAtOne { .. })));
    assert_eq!(intact(&replica(vec![]), Target::Latest, &excluded), Err(PlanError::NoBackups));
}

/// Files of both formats. Litestream 0.3 has written up to time 30, LTX files begin at 40.
fn both() -> Replica {
    let mut both = replica(vec![file(9, 1, 3, 40), file(0, 4, 4, 50), file(0, 5, 5, 60)]);
    both.v3 = Some(Box::new(v3(vec![snapshot(1, 0, 10), piece(1, 0, 0, 20), piece(1, 0, 4152, 30)])));
    both
}

#[test]
fn the_later_of_two_formats() {
    let r = both();
    // All LTX files are lost: index 0 and 1 are level 0, 2 is the snapshot.
    let plan = intact(&r, Target::Latest, &without(&[2])).unwrap();
    assert_eq!(plan.v3.as_ref().map(|v3| (v3.state.generation, v3.state.offset)), Some((Generation(1), 4152)));
    let used = Timestamp::from_millis(30);
    assert_eq!(plan.warnings[0], Warning::NewestIntactFormat { is_v3: true, used });
    // Any state of the LTX files is the later one.
    let plan = intact(&r, Target::Latest, &without(&[0])).unwrap();
    assert_eq!((plan.txid, plan.v3), (Txid(3), None));
    assert_eq!(plan.warnings[0], Warning::NewestIntact { reached: Txid(3), newest: Txid(5) });
    assert!(matches!(plan.warnings[1..], [Warning::V3LeftAside { .. }]), "{:?}", plan.warnings);
    // The damage of the format that is not used does not matter.
    let mut excluded = Excluded::new();
    excluded.insert_v3(0, Class::Truncated);
    let plan = intact(&r, Target::Latest, &excluded).unwrap();
    assert_eq!((plan.txid, plan.is_short()), (Txid(5), false));
    // By time: the target lies in the files of Litestream 0.3, of which the last is damaged.
    excluded.insert_v3(2, Class::Truncated);
    assert!(matches!(intact(&r, at(35), &excluded), Err(PlanError::NoOtherSnapshot { .. })));
    let mut excluded = Excluded::new();
    excluded.insert_v3(2, Class::Truncated);
    let plan = intact(&r, at(35), &excluded).unwrap();
    assert_eq!(plan.v3.as_ref().map(|v3| v3.state.time), Some(Timestamp::from_millis(20)));
    assert!(matches!(plan.warnings[0], Warning::NewestIntactWal { lost: 1, .. }), "{:?}", plan.warnings);
}

/// Litestream 0.3 was used again after the LTX files were written.
#[test]
fn files_of_litestream_0_3_that_are_lost_although_they_are_newer() {
    let mut r = both();
    let generation = |name, time| vec![snapshot(name, 0, time), piece(name, 0, 0, time + 5)];
    r.v3 = Some(Box::new(v3([generation(1, 10), generation(2, 70)].concat())));
    let mut times = Times::new();
    times.set(1, Timestamp::from_millis(60));
    let plan = |files: &[usize]| {
        let mut excluded = Excluded::new();
        files.iter().for_each(|&i| excluded.insert_v3(i, Class::Truncated));
        match plan_intact(&r, &Target::Latest, &times, &excluded).unwrap() {
            PlanOutcome::Plan(plan) => plan,
            needed @ PlanOutcome::NeedTimes(_) => panic!("{needed:?}"),
        }
    };
    assert_eq!(plan(&[]).v3.unwrap().state.generation, Generation(2));
    // Generation 1 is older than the LTX files.
    let lost = plan(&[2]);
    let used = Timestamp::from_millis(60);
    assert_eq!((lost.txid, &lost.warnings[0]), (Txid(5), &Warning::NewestIntactFormat { is_v3: false, used }));
}
