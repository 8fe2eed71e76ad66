//! Compares plans of small random replicas with a search of all chains, and with a direct implementation of
//! docs/FORMAT.md, "Choosing the files".

use super::*;
use crate::error::Class;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Everything on which a plan depends, in the simplest form.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub replica: Replica,
    times: Vec<i64>,
    excluded: BTreeSet<usize>,
    target: Target,
}

pub(super) fn world() -> impl Strategy<Value = World> {
    let raw = (0..10u8, 1..14u64, 0..6u64, 0..20i64, 0..40i64, prop::bool::weighted(0.05));
    let target = prop_oneof![
        2 => Just(Target::Latest),
        3 => (0..18u64).prop_map(|t| Target::Txid(Txid(t))),
        4 => (0..24i64).prop_map(|ms| Target::Timestamp(Timestamp::from_millis(ms))),
    ];
    (
        prop::collection::vec((raw, prop::bool::weighted(0.4)), 0..14),
        prop::collection::btree_set(0..14usize, 0..4),
        target,
    )
        .prop_map(|(raw, excluded, target)| {
            let files = raw.into_iter().map(|((level, min, length, time, modified, archived), first)| {
                let min = if first || (level == 9 && min > 3) { 1 } else { min };
                let mut f = file(level, min, min + length, time + modified);
                f.archived = archived;
                // The field `size` carries the creation time until the files are sorted.
                f.size = time as u64;
                f
            });
            let replica = replica(files.collect());
            let times = replica.files.iter().map(|f| f.size as i64).collect();
            let excluded = excluded.into_iter().filter(|&i| i < replica.files.len()).collect();
            World { replica, times, excluded, target }
        })
}

impl World {
    /// The damaged files.
    pub(super) fn excluded(&self) -> Excluded {
        let mut excluded = Excluded::new();
        self.excluded.iter().for_each(|&i| excluded.insert(i, Class::Malformed));
        excluded
    }

    fn is_allowed(&self, i: usize) -> bool {
        match self.target {
            Target::Latest | Target::Txid(Txid(0)) => true,
            Target::Txid(t) | Target::Pinned(t) => self.replica.files[i].max_txid <= t,
            Target::Timestamp(at) => Timestamp::from_millis(self.times[i]) < at,
        }
    }

    fn is_usable(&self, i: usize) -> bool {
        self.is_allowed(i) && !self.excluded.contains(&i) && !self.replica.files[i].archived
    }

    /// Every TXID at which some chain of `usable` files ends. All chains are tried.
    pub(super) fn reachable(&self, usable: impl Fn(usize) -> bool) -> BTreeSet<u64> {
        let mut reached = BTreeSet::from([0]);
        loop {
            let before = reached.len();
            for from in reached.clone() {
                for (i, f) in self.replica.files.iter().enumerate() {
                    if usable(i) && f.min_txid.0 <= from + 1 && f.max_txid.0 > from {
                        reached.insert(f.max_txid.0);
                    }
                }
            }
            if reached.len() == before {
                return reached;
            }
        }
    }

    /// The steps 1 to 3 of docs/FORMAT.md, "Choosing the files", implemented without any optimisation.
    fn literal(&self, usable: impl Fn(usize) -> bool) -> Vec<usize> {
        let files = &self.replica.files;
        let snapshot = (0..files.len())
            .filter(|&i| usable(i) && files[i].level == Level::SNAPSHOT && files[i].min_txid == Txid(1))
            .max_by_key(|&i| files[i].max_txid);
        let mut chain: Vec<usize> = snapshot.into_iter().collect();
        loop {
            let end = chain.last().map_or(0, |&i| files[i].max_txid.0);
            let next = (0..files.len())
                .filter(|&i| usable(i) && files[i].min_txid.0 <= end + 1 && files[i].max_txid.0 > end)
                .min_by_key(|&i| {
                    let f = &files[i];
                    (std::cmp::Reverse(f.max_txid), f.min_txid, std::cmp::Reverse(f.level))
                });
            match next {
                Some(next) => chain.push(next),
                None => return chain,
            }
        }
    }

    fn covers_all(&self, from: u64, to: u64) -> bool {
        (from + 1..=to).all(|t| self.replica.files.iter().any(|f| f.min_txid.0 <= t && t <= f.max_txid.0))
    }
}

fn check(world: &World) -> Result<(), TestCaseError> {
    let World { replica, times, excluded: bad, target } = world;
    let excluded = world.excluded();
    let mut known = Times::new();
    known.require_all();
    let time_of = |i: usize| Some(Timestamp::from_millis(times[i]));
    let result = plan_with(replica, *target, &mut known, &excluded, time_of).result;

    let allowed: Vec<usize> = (0..replica.files.len()).filter(|&i| world.is_allowed(i)).collect();
    let goal = match target {
        Target::Txid(t) if t.0 > 0 => t.0,
        _ => allowed.iter().map(|&i| replica.files[i].max_txid.0).max().unwrap_or(0),
    };
    let ideal = world.reachable(|i| world.is_allowed(i));
    let ideal_end = ideal.last().copied().unwrap_or(0);
    // The TXID that the plan must reach, computed from the listing alone. None if there is none.
    let must_reach = match target {
        Target::Timestamp(_) if ideal_end > 0 && world.covers_all(ideal_end, goal) => Some(ideal_end),
        Target::Timestamp(_) => None,
        _ => (goal > 0 && ideal.contains(&goal)).then_some(goal),
    };
    let usable = world.reachable(|i| world.is_usable(i));
    let expected = must_reach.filter(|txid| usable.contains(txid));
    prop_assert_eq!(result.as_ref().ok().map(|p| p.txid.0), expected, "{:?}", result);

    match result {
        Ok(plan) => {
            let mut end = 0;
            for &i in &plan.files {
                let f = &replica.files[i];
                prop_assert!(world.is_usable(i) && f.min_txid.0 <= end + 1 && f.max_txid.0 > end);
                end = f.max_txid.0;
            }
            prop_assert_eq!(end, plan.txid.0);
            let blocked = |i: usize| !world.is_usable(i);
            let literal = world.literal(|i| world.is_allowed(i));
            if literal.iter().any(|&i| blocked(i)) {
                prop_assert_eq!(&plan.files, &world.literal(|i| world.is_usable(i)));
            } else {
                prop_assert_eq!(&plan.files, &literal);
            }
        }
        Err(PlanError::Hole { have, next }) => {
            prop_assert!(have.0 < goal && next.0 > have.0 + 1);
            let covers = |f: &LtxFile| f.min_txid.0 < next.0 && f.max_txid.0 > have.0;
            prop_assert!(!replica.files.iter().any(covers), "{have} {next}");
            prop_assert!(replica.files.iter().any(|f| f.min_txid == next));
        }
        Err(PlanError::ChainDoesNotBeginAtOne { .. }) => {
            prop_assert!(replica.files.iter().all(|f| f.min_txid.0 > 1));
        }
        Err(PlanError::TxidNotReachable { below, above, .. }) => {
            let all = world.reachable(|_| true);
            prop_assert_eq!(below.map(|t| t.0), ideal.iter().copied().rfind(|&t| t > 0));
            prop_assert_eq!(above.map(|t| t.0), all.range(goal + 1..).next().copied());
        }
        Err(PlanError::TimestampDoesNotExist { .. }) => prop_assert_eq!(ideal_end, 0),
        Err(PlanError::NoOtherChain { txid, keys, .. }) => {
            prop_assert!(must_reach == Some(txid.0) && !keys.is_empty() && !bad.is_empty());
        }
        Err(PlanError::Archived { txid, keys }) => prop_assert!(must_reach == Some(txid.0) && !keys.is_empty()),
        Err(PlanError::NoBackups) => prop_assert!(replica.files.is_empty()),
        Err(error) => prop_assert!(false, "{error:?}"),
    }
    Ok(())
}

/// The plan for the newest intact state ends at the highest TXID that any chain of intact files reaches. Where the newest
/// state can be had, it is the plan for that.
fn check_intact(world: &World) -> Result<(), TestCaseError> {
    let World { replica, times, excluded: bad, target } = world;
    let mut excluded = Excluded::new();
    bad.iter().for_each(|&i| excluded.insert(i, Class::Malformed));
    let time_of = |i: usize| Some(Timestamp::from_millis(times[i]));
    let planned = |plan: PlanFn| {
        let mut known = Times::new();
        known.require_all();
        plan_by(plan, replica, *target, &mut known, &excluded, time_of).result
    };
    let (exact, intact) = (planned(plan), planned(plan_intact));
    let error = match exact {
        Err(error) if error.leaves_older_states() => error,
        exact => {
            prop_assert_eq!(intact, exact);
            return Ok(());
        }
    };
    let allowed = (0..replica.files.len()).filter(|&i| world.is_allowed(i));
    let highest = allowed.map(|i| replica.files[i].max_txid.0).max().unwrap_or(0);
    let goal = if let Target::Txid(Txid(t @ 1..)) = *target { t } else { highest };
    let best = world.reachable(|i| world.is_usable(i)).last().copied().unwrap_or(0);
    let Ok(plan) = intact else {
        prop_assert!(best == 0, "{error:?} {intact:?}");
        return Ok(());
    };
    prop_assert!(plan.txid.0 == best && best > 0, "{plan:?}, {best} can be had");
    prop_assert_eq!(&plan.files, &world.literal(|i| world.is_usable(i)));
    let Some(&Warning::NewestIntact { reached, newest }) = plan.warnings.first() else {
        return Err(TestCaseError::fail(format!("{plan:?}")));
    };
    prop_assert!(plan.is_short() && reached == plan.txid && newest > reached && newest.0 <= goal, "{plan:?}");
    if !matches!(target, Target::Timestamp(_)) || matches!(error, PlanError::Hole { .. }) {
        prop_assert_eq!(newest.0, goal);
    }
    // Only damage that other files cover is restored around.
    let covered = |key: &String| {
        let named = |f: &LtxFile| replica.key(f) == *key;
        replica.files.iter().any(|f| named(f) && f.max_txid <= reached)
    };
    for warning in &plan.warnings {
        if let Warning::RoutedAround { keys } = warning {
            prop_assert!(keys.iter().all(covered), "{plan:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_is_found_exactly_when_a_chain_exists(world in world()) {
        check(&world)?;
    }

    #[test]
    fn the_newest_intact_state_is_the_highest_that_any_chain_reaches(world in world()) {
        check_intact(&world)?;
    }
}
