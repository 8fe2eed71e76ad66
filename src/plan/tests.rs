mod against_search;
mod following;
mod intact;
mod intact_v3;
mod looks;
mod pinned;
mod real;
mod rules;

use super::*;
use crate::catalogue::{Layout, LtxFile};
use crate::ltx::{Level, Txid};
use crate::timestamp::Timestamp;

fn file(level: u8, min: u64, max: u64, ms: i64) -> LtxFile {
    LtxFile {
        min_txid: Txid(min),
        max_txid: Txid(max),
        size: 100,
        last_modified: Timestamp::from_millis(ms),
        etag: None,
        level: Level::new(level).unwrap(),
        layout: Layout::Hex,
        archived: false,
    }
}

fn replica(mut files: Vec<LtxFile>) -> Replica {
    files.sort_by_key(|f| (f.level, f.max_txid, f.min_txid, f.layout));
    files.dedup_by_key(|f| (f.level, f.max_txid, f.min_txid, f.layout));
    Replica { root: "a.db/".into(), files, v3: None, others: Vec::new() }
}

/// The planned files as (level, min TXID, max TXID).
fn ranges(replica: &Replica, plan: &Plan) -> Vec<(u8, u64, u64)> {
    plan.files.iter().map(|&i| &replica.files[i]).map(|f| (f.level.get(), f.min_txid.0, f.max_txid.0)).collect()
}

/// The planned files whose time in the header is not before the target's time.
fn too_new(plan: &Plan, target: Target, header_time: impl Fn(usize) -> Option<Timestamp>) -> Vec<usize> {
    let Target::Timestamp(at) = target else { return Vec::new() };
    plan.files.iter().copied().filter(|&file| header_time(file).is_some_and(|time| time >= at)).collect()
}

/// Plans, answering every request for times from `time_of`. With the number of looks and rounds.
struct Planned {
    result: Result<Plan, PlanError>,
    looks: usize,
    rounds: usize,
}

fn plan_with(
    replica: &Replica,
    target: Target,
    times: &mut Times,
    excluded: &Excluded,
    time_of: impl Fn(usize) -> Option<Timestamp>,
) -> Planned {
    plan_by(plan, replica, target, times, excluded, time_of)
}

/// [`plan()`] or [`plan_intact`].
type PlanFn = fn(&Replica, &Target, &Times, &Excluded) -> Result<PlanOutcome, PlanError>;

fn plan_by(
    plan: PlanFn,
    replica: &Replica,
    target: Target,
    times: &mut Times,
    excluded: &Excluded,
    time_of: impl Fn(usize) -> Option<Timestamp>,
) -> Planned {
    let (mut looks, mut rounds) = (0, 0);
    loop {
        match plan(replica, &target, times, excluded) {
            Ok(PlanOutcome::Plan(plan)) => return Planned { result: Ok(plan), looks, rounds },
            Err(error) => return Planned { result: Err(error), looks, rounds },
            Ok(PlanOutcome::NeedTimes(needed)) => {
                assert!(!needed.is_empty() && needed.is_sorted());
                for &i in &needed {
                    assert!(times.get(i).is_none() && i < replica.files.len());
                    match time_of(i) {
                        Some(time) => times.set(i, time),
                        None => times.set_unknowable(i),
                    }
                }
                looks += needed.len();
                rounds += 1;
                assert!(looks <= replica.files.len(), "a file was looked at twice");
            }
        }
    }
}

fn plan_now(replica: &Replica, target: Target) -> Result<Plan, PlanError> {
    plan_with(replica, target, &mut Times::new(), &Excluded::new(), |i| Some(replica.files[i].last_modified)).result
}
