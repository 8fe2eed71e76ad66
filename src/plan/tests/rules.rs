//! Tests the rules of docs/FORMAT.md, "Choosing the files" and "Holes", on small replicas made by hand.

use super::*;
use crate::catalogue::{Layout, Replica};
use crate::error::Class;

fn error_of(replica: &Replica, target: Target) -> PlanError {
    plan_now(replica, target).unwrap_err()
}

/// A healthy replica: level 0 with the TXIDs 1 to 20, two compactions of ten and five, and a snapshot up to TXID 7.
fn healthy() -> Replica {
    let mut files: Vec<LtxFile> = (1..=20).map(|t| file(0, t, t, t as i64 * 1000)).collect();
    files.extend([file(1, 1, 10, 10_000), file(1, 11, 15, 15_000), file(9, 1, 7, 7_500)]);
    replica(files)
}

#[test]
fn newest_snapshot_then_the_furthest_file() {
    let r = healthy();
    let plan = plan_now(&r, Target::Latest).unwrap();
    assert_eq!((plan.txid, plan.min_txid, plan.newer_exist), (Txid(20), Txid(1), false));
    let expected =
        [(9, 1, 7), (1, 1, 10), (1, 11, 15), (0, 16, 16), (0, 17, 17), (0, 18, 18), (0, 19, 19), (0, 20, 20)];
    assert_eq!(ranges(&r, &plan), expected);
    assert_eq!(plan_now(&r, Target::Txid(Txid(0))).unwrap(), plan);
    assert!(plan.warnings.is_empty());
}

#[test]
fn a_txid_is_reached_exactly_or_not_at_all() {
    let r = healthy();
    let plan = plan_now(&r, Target::Txid(Txid(12))).unwrap();
    assert_eq!(ranges(&r, &plan), [(9, 1, 7), (1, 1, 10), (0, 11, 11), (0, 12, 12)]);
    assert!(plan.newer_exist);
    assert_eq!(ranges(&r, &plan_now(&r, Target::Txid(Txid(3))).unwrap()), [(0, 1, 1), (0, 2, 2), (0, 3, 3)]);
    let beyond = error_of(&r, Target::Txid(Txid(21)));
    assert_eq!(beyond, PlanError::TxidNotReachable { txid: Txid(21), below: Some(Txid(20)), above: None });
    assert!(beyond.to_string().starts_with("no matching backup files available"));
    assert_eq!(beyond.class(), Class::TargetNotReachable);
    let compacted = replica(vec![file(0, 1, 1, 1), file(1, 2, 9, 9), file(2, 1, 20, 20)]);
    assert_eq!(
        error_of(&compacted, Target::Txid(Txid(5))),
        PlanError::TxidNotReachable { txid: Txid(5), below: Some(Txid(1)), above: Some(Txid(9)) }
    );
    let only = replica(vec![file(9, 1, 9, 9)]);
    assert_eq!(
        error_of(&only, Target::Txid(Txid(5))),
        PlanError::TxidNotReachable { txid: Txid(5), below: None, above: Some(Txid(9)) }
    );
}

#[test]
fn ties_are_broken_by_min_level_and_time() {
    let tie = |files: Vec<LtxFile>| {
        let r = replica(files);
        let plan = plan_now(&r, Target::Latest).unwrap();
        r.files[*plan.files.last().unwrap()].clone()
    };
    let first = file(0, 1, 4, 1);
    assert_eq!(tie(vec![first.clone(), file(0, 5, 8, 9), file(0, 3, 8, 9)]).min_txid, Txid(3));
    assert_eq!(tie(vec![first.clone(), file(0, 5, 8, 9), file(2, 5, 8, 9), file(1, 5, 8, 9)]).level.get(), 2);
}

#[test]
fn other_lineages_are_named_unless_they_are_copies() {
    let at_root = |layout, files: Vec<LtxFile>| {
        let files = files.into_iter().map(|file| LtxFile { layout, ..file }).collect();
        Replica { root: "a.db/".into(), files, v3: None, others: Vec::new() }
    };
    let live = || vec![file(0, 1, 1, 1), file(0, 2, 2, 2)];
    let chosen = |other: Vec<LtxFile>| {
        Replica::choose([at_root(Layout::Hex, live()), at_root(Layout::Decimal, other)], Layout::Hex)
    };
    let copy = plan_now(&chosen(live()), Target::Latest).unwrap();
    assert_eq!((copy.txid, copy.warnings), (Txid(2), vec![]));
    let longer = chosen(vec![file(0, 1, 1, 1), file(0, 2, 2, 2), file(0, 3, 3, 3)]);
    let plan = plan_now(&longer, Target::Latest).unwrap();
    assert_eq!(plan.txid, Txid(2));
    let [Warning::OtherLineage { used, other }] = plan.warnings.as_slice() else { panic!("{:?}", plan.warnings) };
    assert_eq!((used.folder.as_str(), used.max_txid), ("a.db/000N/", Txid(2)));
    assert_eq!((other.folder.as_str(), other.max_txid), ("a.db/ltx/", Txid(3)));
}

#[test]
fn overlaps_are_normal() {
    let r =
        replica(vec![file(9, 1, 10, 1), file(1, 8, 14, 2), file(2, 3, 18, 3), file(0, 19, 19, 4), file(1, 12, 30, 5)]);
    assert_eq!(ranges(&r, &plan_now(&r, Target::Latest).unwrap()), [(9, 1, 10), (2, 3, 18), (1, 12, 30)]);
}

#[test]
fn a_hole_is_an_error_in_every_mode_and_names_both_sides() {
    let r = replica([1, 2, 4, 5].map(|t| file(0, t, t, t as i64)).to_vec());
    let hole = PlanError::Hole { have: Txid(2), next: Txid(4) };
    for target in [Target::Latest, Target::Txid(Txid(5)), Target::Txid(Txid(3)), at(6), at(5)] {
        assert_eq!(error_of(&r, target), hole, "{target:?}");
    }
    assert_eq!(
        hole.to_string(),
        "cannot calc restore plan: non-contiguous ltx files: have up to 0000000000000002 but next file starts at \
         0000000000000004"
    );
    assert_eq!(hole.class(), Class::Hole);
    assert!(hole.needs_fresh_listing());
    // States before the hole can still be restored.
    assert_eq!(plan_now(&r, Target::Txid(Txid(2))).unwrap().txid, Txid(2));
    assert_eq!(plan_now(&r, at(4)).unwrap().txid, Txid(2));
    // A snapshot that ends behind the hole heals it.
    let mut healed = r.files.clone();
    healed.push(file(9, 1, 4, 9));
    assert_eq!(plan_now(&replica(healed), Target::Latest).unwrap().txid, Txid(5));
}

fn at(ms: i64) -> Target {
    Target::Timestamp(Timestamp::from_millis(ms))
}

/// All files seem to be older than the target by their LastModified, also those behind the hole.
#[test]
fn a_hole_behind_the_target_is_no_error_though_last_modified_says_otherwise() {
    let truth = |i: usize| Some(Timestamp::from_millis(1_000_000_000 + 1_000_000 * i as i64));
    let files = [1, 2, 4, 5, 6].map(|t| file(0, t, t, 5));
    // A compaction of level 1 lies behind the hole too.
    let r = replica([&files[..], &[file(1, 4, 6, 5)]].concat());
    let plan = |target| plan_with(&r, target, &mut Times::new(), &Excluded::new(), truth);
    let found = plan(at(1_000_000_000 + 1_500_000));
    assert_eq!(found.result.unwrap().txid, Txid(2));
    assert!(found.looks <= 4, "{} looks", found.looks);
    // The hole lies before the target.
    let hole = PlanError::Hole { have: Txid(2), next: Txid(4) };
    assert_eq!(plan(at(1_000_000_000 + 2_500_000)).result, Err(hole));
}

#[test]
fn a_gap_that_some_file_covers_is_no_hole() {
    let r = replica(vec![file(0, 1, 6, 60), file(0, 8, 8, 80), file(0, 14, 14, 140), file(1, 7, 14, 141)]);
    let plan = plan_now(&r, at(100)).unwrap();
    assert_eq!(plan.txid, Txid(6));
    assert_eq!(plan.warnings, [Warning::StateBetweenRetired { reached: Txid(6), newest: Txid(8) }]);
    assert!(matches!(error_of(&r, Target::Txid(Txid(8))), PlanError::TxidNotReachable { .. }));
    // The gap is covered only in part, so it is a hole. The TXIDs around it are computed from all files.
    let r = replica(vec![file(0, 1, 6, 60), file(0, 12, 12, 80), file(1, 7, 9, 141)]);
    assert_eq!(error_of(&r, at(100)), PlanError::Hole { have: Txid(9), next: Txid(12) });
}

#[test]
fn before_the_first_state_there_is_no_timestamp() {
    let r = healthy();
    let error = error_of(&r, at(1000));
    assert_eq!(error.class(), Class::TargetNotReachable);
    assert!(error.to_string().starts_with("timestamp does not exist"));
    assert_eq!(plan_now(&r, at(1001)).unwrap().txid, Txid(1));
    assert_eq!(plan_now(&r, at(1_000_000)).unwrap().txid, Txid(20));
    // Older files exist, but only a file that is too new leads to them.
    let r = replica(vec![file(0, 5, 5, 50), file(9, 1, 9, 90)]);
    assert!(matches!(error_of(&r, at(60)), PlanError::TimestampDoesNotExist { .. }));
}

#[test]
fn a_chain_must_begin_at_one() {
    let r = replica(vec![file(0, 3, 3, 1), file(9, 2, 8, 9)]);
    for target in [Target::Latest, Target::Txid(Txid(3)), Target::Txid(Txid(1)), at(1), at(100)] {
        let error = error_of(&r, target);
        assert_eq!(error, PlanError::ChainDoesNotBeginAtOne { first: Txid(2) });
        assert_eq!(error.class(), Class::ChainDoesNotBeginAtOne);
    }
}

#[test]
fn no_backup_at_all() {
    let r = replica(vec![]);
    assert_eq!(error_of(&r, at(1)), PlanError::NoBackups);
    assert_eq!(PlanError::NoBackups.class(), Class::BackupNotFound);
    assert_eq!(PlanError::NoBackups.to_string(), "no matching backup files available");
}

fn excluding(replica: &Replica, which: &[(u8, u64, u64)]) -> Excluded {
    let mut excluded = Excluded::new();
    for (i, f) in replica.files.iter().enumerate() {
        if which.contains(&(f.level.get(), f.min_txid.0, f.max_txid.0)) {
            excluded.insert(i, Class::ChecksumMismatch);
        }
    }
    assert_eq!(excluded.len(), which.len());
    excluded
}

#[test]
fn damage_is_routed_around_to_the_same_txid() {
    let r = healthy();
    let plan_without = |which: &[(u8, u64, u64)], target| {
        plan_with(&r, target, &mut Times::new(), &excluding(&r, which), |i| Some(r.files[i].last_modified)).result
    };
    let snapshot = plan_without(&[(9, 1, 7)], Target::Txid(Txid(8))).unwrap();
    assert_eq!(ranges(&r, &snapshot), (1..=8).map(|t| (0, t, t)).collect::<Vec<_>>());
    assert_eq!(
        snapshot.warnings,
        [Warning::RoutedAround { keys: vec!["a.db/0009/0000000000000001-0000000000000007.ltx".into()] }]
    );
    let both = plan_without(&[(9, 1, 7), (1, 11, 15)], Target::Latest).unwrap();
    assert_eq!(both.txid, Txid(20));
    assert_eq!(ranges(&r, &both)[..2], [(1, 1, 10), (0, 11, 11)]);
    // No other file covers the newest file. The result must be an error and never an older state.
    for target in [Target::Latest, Target::Txid(Txid(20)), at(1_000_000)] {
        let error = plan_without(&[(0, 20, 20)], target).unwrap_err();
        let keys = vec!["a.db/0000/0000000000000014-0000000000000014.ltx".into()];
        assert_eq!(error, PlanError::NoOtherChain { txid: Txid(20), class: Class::ChecksumMismatch, keys });
        assert_eq!(error.class(), Class::ChecksumMismatch);
    }
    // Damaged files behind the target are not needed, so they cause no warning.
    assert!(plan_without(&[(0, 20, 20)], Target::Txid(Txid(19))).unwrap().warnings.is_empty());
}

#[test]
fn archived_files_are_the_last_resort() {
    let mut r = healthy();
    let archive = |r: &mut Replica, level: u8, max: u64| {
        r.files.iter_mut().filter(|f| f.level.get() == level && f.max_txid.0 == max).for_each(|f| f.archived = true);
    };
    archive(&mut r, 9, 7);
    let plan = plan_now(&r, Target::Txid(Txid(8))).unwrap();
    assert_eq!(ranges(&r, &plan)[0], (0, 1, 1));
    assert!(matches!(&plan.warnings[..], [Warning::AvoidedArchived { keys }] if keys.len() == 1));
    archive(&mut r, 0, 3);
    let error = error_of(&r, Target::Txid(Txid(8)));
    let PlanError::Archived { keys, .. } = &error else { panic!("{error:?}") };
    assert_eq!(keys.len(), 2, "either would do: {keys:?}");
    assert!(error.to_string().contains(&keys[0]));
    assert_eq!(error.class(), Class::TargetNotReachable);
}

#[test]
fn knowledge_is_carried_to_a_fresh_listing() {
    let old = healthy();
    let mut files = old.files.clone();
    files.retain(|f| f.max_txid != Txid(2));
    files.iter_mut().filter(|f| f.max_txid == Txid(4)).for_each(|f| f.size += 1);
    files.push(file(2, 1, 10, 99));
    let new = replica(files);
    let (mut times, mut excluded) = (Times::new(), Excluded::new());
    for (i, f) in old.files.iter().enumerate() {
        times.set(i, f.last_modified);
        excluded.insert(i, Class::Malformed);
    }
    times.require_all();
    let (times, excluded) = (times.carried(&old, &new), excluded.carried(&old, &new));
    assert!(times.are_all_required());
    for (i, f) in new.files.iter().enumerate() {
        let same = old.files.contains(f);
        assert_eq!(times.get(i), same.then_some(f.last_modified), "{f:?}");
        assert_eq!(excluded.contains(i), same);
    }
}
