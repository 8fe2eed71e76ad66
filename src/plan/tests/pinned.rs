//! Plans for a pinned state: exactly it, or the next newer one that can be reached.

use super::against_search::world;
use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A pinned state is planned as by its TXID. If no chain ends there, the plan is the one for the first TXID after it
    /// at which some chain ends.
    #[test]
    fn exactly_the_state_or_the_next_newer_one(world in world(), pinned in 1..18u64) {
        let plan_for = |target| plan(&world.replica, &target, &Times::new(), &world.excluded());
        let found = plan_for(Target::Pinned(Txid(pinned)));
        let exact = plan_for(Target::Txid(Txid(pinned)));
        let Err(PlanError::TxidNotReachable { .. }) = exact else {
            prop_assert_eq!(found, exact);
            return Ok(());
        };
        let next = world.reachable(|_| true).into_iter().find(|txid| *txid > pinned);
        let Some(next) = next else {
            prop_assert_eq!(found, exact);
            return Ok(());
        };
        match (found, plan_for(Target::Txid(Txid(next)))) {
            (Ok(PlanOutcome::Plan(mut found)), Ok(PlanOutcome::Plan(expected))) => {
                let moved = Warning::MovedOn { pinned: Txid(pinned), reached: Txid(next) };
                prop_assert_eq!(found.warnings.remove(0), moved);
                prop_assert_eq!(found.txid, Txid(next));
                prop_assert_eq!(found, expected);
            }
            (found, expected) => prop_assert_eq!(found, expected),
        }
    }
}

#[test]
fn a_state_that_was_compacted_away_moves_on_and_a_hole_stays_one() {
    let compacted = replica(vec![file(9, 1, 3, 0), file(1, 4, 8, 0), file(0, 9, 9, 0)]);
    let plan = plan_now(&compacted, Target::Pinned(Txid(6))).unwrap();
    assert_eq!((plan.txid, plan.newer_exist), (Txid(8), true));
    assert_eq!(plan.warnings, [Warning::MovedOn { pinned: Txid(6), reached: Txid(8) }]);
    assert_eq!(
        plan.warnings[0].to_string(),
        "the state of the catalogue, TXID 0000000000000006, cannot be reached exactly any more: moved on to the next \
         newer one, TXID 0000000000000008"
    );
    assert!(plan_now(&compacted, Target::Pinned(Txid(9))).unwrap().warnings.is_empty());
    // Never back to an older state.
    let error = plan_now(&compacted, Target::Pinned(Txid(10))).unwrap_err();
    assert!(matches!(error, PlanError::TxidNotReachable { above: None, .. }), "{error}");
    let holed = replica(vec![file(9, 1, 3, 0), file(0, 6, 6, 0)]);
    assert!(matches!(plan_now(&holed, Target::Pinned(Txid(6))), Err(PlanError::Hole { .. })));
}
