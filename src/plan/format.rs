//! Chooses the format to restore from, where a path has files of Litestream 0.3 and LTX files (docs/FORMAT-V3.md,
//! "Beside LTX").

use super::v3::{self, Chosen};
use super::{Excluded, Plan, PlanError, PlanOutcome, Target, Times, Wanted, Warning, chain};
use crate::catalogue::{Replica, V3Replica};
use crate::ltx::{Level, Txid};
use crate::timestamp::Timestamp;

/// If LastModified of the newest file of level 0 and its own time are further apart than this hour, the bucket is a
/// copy, and its times say nothing. In nanoseconds.
const COPIED: u64 = 3_600_000_000_000;

/// [`super::plan`], which documents arguments and result.
pub(super) fn plan(
    replica: &Replica,
    target: &Target,
    times: &Times,
    excluded: &Excluded,
    wanted: Wanted,
) -> Result<PlanOutcome, PlanError> {
    let Some(v3) = &replica.v3 else { return chain::plan(replica, target, times, excluded, wanted) };
    let ltx = || chain::plan(replica, target, times, excluded, wanted);
    let of_generations = || v3::plan(v3, target, excluded, wanted);
    let outcome = match *target {
        Target::Txid(txid) if txid != Txid(0) => {
            if replica.files.is_empty() {
                return Err(PlanError::TxidNotReachable { txid, below: None, above: None });
            }
            return ltx();
        }
        _ if replica.files.is_empty() => return Ok(of_v3(of_generations()?, replica)),
        Target::Timestamp(at) => at_time(replica, v3, at, times, ltx(), of_generations())?,
        Target::Latest | Target::Txid(_) | Target::Pinned(_) => match is_v3_newer(replica, v3, times) {
            Err(needed) => return Ok(PlanOutcome::NeedTimes(needed)),
            Ok(true) => of_v3(of_generations()?, replica),
            Ok(false) => ltx()?,
        },
    };
    Ok(match outcome {
        PlanOutcome::Plan(mut plan) => {
            if plan.v3.is_none() {
                let generations = v3.generations().count();
                plan.warnings.push(Warning::V3LeftAside { generations, newest: v3.newest() });
            }
            PlanOutcome::Plan(plan)
        }
        needed @ PlanOutcome::NeedTimes(_) => needed,
    })
}

/// Whether the newest state is that of Litestream 0.3. `Err` holds the file whose time must be looked up first.
fn is_v3_newer(replica: &Replica, v3: &V3Replica, times: &Times) -> Result<bool, Vec<usize>> {
    let ltx = replica.files.iter().map(|file| file.last_modified).max();
    if v3.newest() <= ltx {
        return Ok(false);
    }
    let newest = Level::new(0).and_then(|level| replica.level(level).next_back());
    let Some((at, file)) = newest.and_then(|at| Some((at, replica.files.get(at)?))) else { return Ok(true) };
    if times.look(at).is_none() {
        return Err(vec![at]);
    }
    let apart = |own: Timestamp| own.as_nanos().abs_diff(file.last_modified.as_nanos());
    Ok(times.get(at).is_none_or(|own| apart(own) <= COPIED))
}

/// Chooses the format whose newest state inside the target is later, and LTX if both are of the same time.
fn at_time(
    replica: &Replica,
    v3: &V3Replica,
    at: Timestamp,
    times: &Times,
    ltx: Result<PlanOutcome, PlanError>,
    v3_chosen: Result<Chosen, PlanError>,
) -> Result<PlanOutcome, PlanError> {
    let plan = match ltx {
        Ok(PlanOutcome::NeedTimes(needed)) => return Ok(PlanOutcome::NeedTimes(needed)),
        Ok(PlanOutcome::Plan(plan)) => plan,
        Err(PlanError::TimestampDoesNotExist { oldest, .. }) => {
            return match v3_chosen {
                Ok(chosen) => Ok(of_v3(chosen, replica)),
                Err(PlanError::TimestampDoesNotExist { at, oldest: other }) => {
                    let oldest = oldest.into_iter().chain(other).min();
                    Err(PlanError::TimestampDoesNotExist { at, oldest })
                }
                Err(error) => Err(error),
            };
        }
        Err(error) => return Err(error),
    };
    let Some(&newest) = plan.files.last() else { return Ok(PlanOutcome::Plan(plan)) };
    if times.look(newest).is_none() {
        return Ok(PlanOutcome::NeedTimes(vec![newest]));
    }
    let reached = times.get(newest).or_else(|| replica.files.get(newest).map(|file| file.last_modified));
    match v3_chosen {
        Ok(chosen) if Some(chosen.plan.state.time) > reached => Ok(of_v3(chosen, replica)),
        Err(PlanError::TimestampDoesNotExist { .. }) | Ok(_) => Ok(PlanOutcome::Plan(plan)),
        Err(error) if v3::newest_inside(v3, at) > reached => Err(error),
        Err(_) => Ok(PlanOutcome::Plan(plan)),
    }
}

fn of_v3(chosen: Chosen, replica: &Replica) -> PlanOutcome {
    let Chosen { files, plan, mut warnings, newer_exist } = chosen;
    if let Some(newest) = replica.files.iter().map(|file| file.last_modified).max() {
        warnings.push(Warning::LtxLeftAside { files: replica.files.len(), newest });
    }
    let v3 = Some(Box::new(plan));
    PlanOutcome::Plan(Plan { files, min_txid: Txid(0), txid: Txid(0), newer_exist, warnings, v3 })
}
