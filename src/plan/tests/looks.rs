//! Tests how many file times the planner asks for, and that the result is right even if the times are unusual.

use super::*;
use proptest::prelude::*;

/// Builds a replica as Litestream writes it. It has `count` transactions, one about every `step_ms` milliseconds.
/// Level 0 is kept only for the last `kept_l0` transactions. A compaction joins `fan` files of the level below. A
/// snapshot is made after every `snapshot_every` transactions. The field `size` holds a file's creation time;
/// `last_modified` is a little later.
fn litestream(count: u64, step_ms: i64, kept_l0: u64, fan: u64, levels: u8, snapshot_every: u64) -> Replica {
    let time = |txid: u64| 1_000_000_000 + txid as i64 * step_ms + (txid as i64 * 7919) % step_ms.min(13);
    let mut files = Vec::new();
    let mut push = |level, min, max, ms: i64, late: i64| {
        files.push(LtxFile { size: ms as u64, ..file(level, min, max, ms + late) });
    };
    (count.saturating_sub(kept_l0) + 1..=count).for_each(|t| push(0, t, t, time(t), 5));
    let mut width = 1;
    for level in 1..=levels {
        width *= fan;
        (0..count / width).for_each(|n| push(level, n * width + 1, (n + 1) * width, time((n + 1) * width), 40_000));
    }
    (1..=count / snapshot_every).for_each(|n| push(9, 1, n * snapshot_every, time(n * snapshot_every) + 17, 300));
    replica(files)
}

fn time_of(r: &Replica) -> impl Fn(usize) -> Option<Timestamp> + '_ {
    |i| Some(Timestamp::from_millis(r.files[i].size as i64))
}

/// Times in which the time of every file is known and required, so that each file is decided by its own.
fn all_times(r: &Replica) -> Times {
    let mut times = Times::new();
    times.require_all();
    (0..r.files.len()).for_each(|i| times.set(i, time_of(r)(i).unwrap()));
    times
}

/// The plan that results if the times of all files are known.
fn exhaustive(r: &Replica, target: Target) -> Result<Plan, PlanError> {
    plan_with(r, target, &mut all_times(r), &Excluded::new(), time_of(r)).result
}

fn bound(files: usize) -> usize {
    (4.0 * (files as f64).log2()) as usize + 20
}

#[test]
fn four_log_n_looks_and_twenty_suffice() {
    let (mut worst, mut worst_rounds) = (String::new(), 0);
    let mut worst_share = 0.0;
    for (count, kept, fan, levels, every) in [
        (20, 20, 5, 1, 10),
        (1_000, 100, 4, 4, 250),
        (1_000, 1_000, 2, 8, 100),
        (3_000, 3_000, 10, 0, 5_000),
        (50_000, 300, 10, 3, 7_000),
        (5_000, 5_000, 3, 8, 999),
        (10_000, 10_000, 10, 3, 6_000),
        (5_000, 10, 100_000, 1, 1),
    ] {
        for step in [1, 30_000] {
            let own = litestream(count, step, kept, fan, levels, every);
            let mut copied = own.clone();
            let newest = own.files.iter().map(|f| f.last_modified).max().unwrap();
            copied.files.iter_mut().for_each(|f| f.last_modified = newest.saturating_add_nanos(1 << 50));
            let mut shuffled = own.clone();
            for (i, f) in shuffled.files.iter_mut().enumerate() {
                f.last_modified = newest.saturating_add_nanos((i as i64 * 7_919_999_983) % (1 << 50));
            }
            for (name, r) in [("own", &own), ("copied", &copied), ("shuffled copy", &shuffled)] {
                let mut all = all_times(r);
                for k in 0..=7 {
                    let at = 1_000_000_000 + count as i64 * step * k / 6 + k;
                    let target = Target::Timestamp(Timestamp::from_millis(at));
                    let got = plan_with(r, target, &mut Times::new(), &Excluded::new(), time_of(r));
                    let expected = plan_with(r, target, &mut all, &Excluded::new(), time_of(r)).result;
                    assert_eq!(got.result, expected, "{name} {count} {at}");
                    let n = r.files.len();
                    assert!(got.looks <= bound(n), "{name} {count} {fan} {step} {k}: {} looks of {n}", got.looks);
                    assert!(got.rounds <= 8, "{name}: {} rounds of {n}", got.rounds);
                    let share = got.looks as f64 / bound(n) as f64;
                    if share > worst_share {
                        worst_share = share;
                        worst = format!("{name}: {} looks, {} rounds for {n} files", got.looks, got.rounds);
                    }
                    worst_rounds = worst_rounds.max(got.rounds);
                }
            }
        }
    }
    println!("worst: {worst}; most rounds {worst_rounds}");
}

#[test]
fn a_fresh_bucket_needs_few_looks_and_two_or_three_rounds() {
    let r = litestream(10_000, 1_000, 10_000, 30, 2, 2_000);
    for k in 1..20 {
        let target = Target::Timestamp(Timestamp::from_millis(1_000_000_000 + 500_000 * k + k % 3));
        let got = plan_with(&r, target, &mut Times::new(), &Excluded::new(), time_of(&r));
        assert_eq!(got.result, exhaustive(&r, target));
        assert!(got.rounds <= 3 && got.looks <= 25, "{} rounds, {} looks", got.rounds, got.looks);
    }
}

#[test]
fn all_objects_uploaded_long_before_need_no_look() {
    let r = litestream(1_000, 1_000, 100, 10, 2, 100);
    let target = Target::Timestamp(Timestamp::from_millis(9_000_000_000));
    let got = plan_with(&r, target, &mut Times::new(), &Excluded::new(), time_of(&r));
    assert_eq!((got.looks, got.result.unwrap().txid), (0, Txid(1_000)));
}

#[test]
fn a_store_that_tells_no_modification_time_is_looked_at() {
    let mut r = litestream(1_000, 1_000, 100, 10, 2, 100);
    r.files.iter_mut().for_each(|f| f.last_modified = Timestamp::from_nanos(0));
    let target = Target::Timestamp(Timestamp::from_millis(1_000_555_500));
    let got = plan_with(&r, target, &mut Times::new(), &Excluded::new(), time_of(&r));
    assert_eq!(got.result, exhaustive(&r, target));
    assert!(got.looks > 0 && got.looks <= bound(r.files.len()));
}

#[test]
fn a_modification_time_that_lies_is_found_out() {
    // All modification times are old, as after unpacking an archive, so all files seem to be older than the target
    // time.
    let mut r = litestream(100, 60_000, 100, 10, 1, 1_000);
    r.files.iter_mut().for_each(|f| f.last_modified = Timestamp::from_millis(5));
    let target = Target::Timestamp(Timestamp::from_millis(1_000_000_000 + 50 * 60_000));
    let mut times = Times::new();
    let plan = plan_with(&r, target, &mut times, &Excluded::new(), time_of(&r)).result.unwrap();
    let late = too_new(&plan, target, time_of(&r));
    assert!(!late.is_empty());
    late.iter().for_each(|&i| times.set(i, time_of(&r)(i).unwrap()));
    times.require_all();
    let again = plan_with(&r, target, &mut times, &Excluded::new(), time_of(&r)).result;
    assert_eq!(again, exhaustive(&r, target));
    assert_eq!(too_new(&again.unwrap(), target, time_of(&r)), [0; 0]);
}

#[test]
fn a_level_whose_looks_contradict_its_order_is_judged_file_by_file() {
    let r = replica([(1, 1), (2, 2), (2, 3), (4, 4), (5, 5)].map(|(min, max)| file(0, min, max, 1)).to_vec());
    let times = [10, 50, 20, 60, 70].map(Timestamp::from_millis);
    let target = Target::Timestamp(Timestamp::from_millis(30));
    let plan = plan_with(&r, target, &mut Times::new(), &Excluded::new(), |i| Some(times[i])).result.unwrap();
    assert_eq!((plan.txid, plan.files), (Txid(3), vec![0, 2]));
}

#[test]
fn a_damaged_file_without_time_does_not_give_an_older_state() {
    let r = litestream(20, 1_000, 20, 100, 1, 1_000);
    let unreadable = |bad: usize| move |i: usize| (i != bad).then(|| Timestamp::from_millis(1_000_000_000 + i as i64));
    let run = |bad: usize, ms: i64| {
        let target = Target::Timestamp(Timestamp::from_millis(1_000_000_000 + ms));
        let mut excluded = Excluded::new();
        excluded.insert(bad, crate::error::Class::Truncated);
        plan_with(&r, target, &mut Times::new(), &excluded, unreadable(bad)).result
    };
    // The newest file has no readable time, but it may be older than the target. The result must be an error and
    // not an older state.
    let error = run(19, 1_000_000).unwrap_err();
    assert!(matches!(error, PlanError::NoOtherChain { txid: Txid(20), class: crate::error::Class::Truncated, .. }));
    // Files before it on its level are too new, so the file with an unknown time is too new as well.
    assert_eq!(run(19, 10).unwrap().txid, Txid(10));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each level is ordered by time, but the levels are unrelated to each other, LastModified is random, and some
    /// times are unknowable. The plan must be the same as if all times were known.
    #[test]
    fn the_answer_rests_on_the_order_within_a_level_only(
        levels in prop::collection::vec((0..10u8, 1..60usize, 0..200i64, 0..9i64, any::<u64>()), 1..8),
        at in 0..400i64,
        moved in prop::bool::ANY,
    ) {
        let mut files = Vec::new();
        for (level, count, start, step, seed) in levels {
            for n in 0..count as u64 {
                let max = n + 1 + seed % 3;
                let modified = 4_000_000 + if moved { (seed.rotate_left(n as u32) % 900) as i64 } else { 0 };
                files.push(LtxFile { size: (start + n as i64 * step) as u64, ..file(level, (n + 1).min(max), max, modified) });
            }
        }
        let r = replica(files);
        // The generator may make files of one level twice, and then their times are out of order. Sorting restores
        // the order.
        let mut r = r;
        for level in (0..10).filter_map(Level::new) {
            let range = r.level(level);
            let mut sizes: Vec<u64> = r.files[range.clone()].iter().map(|f| f.size).collect();
            sizes.sort_unstable();
            r.files[range].iter_mut().zip(sizes).for_each(|(f, size)| f.size = size);
        }
        let target = Target::Timestamp(Timestamp::from_millis(at));
        let got = plan_with(&r, target, &mut Times::new(), &Excluded::new(), time_of(&r));
        prop_assert_eq!(got.result, exhaustive(&r, target));
    }

    /// The times have no order at all, and some looks fail. Planning must end, and no planned file may be known to
    /// be too new.
    #[test]
    fn any_disorder_ends(
        raw in prop::collection::vec((0..10u8, 1..40u64, 0..9u64, 0..40i64, 0..60_000_000i64, prop::bool::weighted(0.2)), 0..60),
        at in 0..40i64,
        all in prop::bool::ANY,
    ) {
        let files = raw.iter().map(|&(level, min, length, ms, modified, blind)| LtxFile {
            size: ms as u64, archived: blind, ..file(level, if min % 4 == 0 { 1 } else { min }, min + length, modified)
        });
        let mut r = replica(files.collect());
        let blind: Vec<bool> = r.files.iter_mut().map(|f| std::mem::take(&mut f.archived)).collect();
        let target = Target::Timestamp(Timestamp::from_millis(at));
        let mut times = Times::new();
        if all {
            times.require_all();
        }
        let look = |i: usize| (!blind[i]).then(|| Timestamp::from_millis(r.files[i].size as i64));
        if let Ok(plan) = plan_with(&r, target, &mut times, &Excluded::new(), look).result {
            for &i in &plan.files {
                prop_assert!(times.get(i).is_none_or(|time| time < Timestamp::from_millis(at)));
            }
        }
    }
}
