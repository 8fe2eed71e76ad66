//! Chooses the format to restore from, where a path has files of Litestream 0.3 and LTX files (docs/FORMAT-V3.md,
//! "Beside LTX").

use super::v3::{self, ChosenGeneration};
use super::{Excluded, Plan, PlanError, PlanOutcome, StateWanted, Target, Times, Warning, chain};
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
    wanted: StateWanted,
) -> Result<PlanOutcome, PlanError> {
    let Some(v3) = &replica.v3 else { return chain::plan(replica, target, times, excluded, wanted) };
    match *target {
        Target::Txid(txid) if txid != Txid(0) => {
            if replica.files.is_empty() {
                return Err(PlanError::TxidNotReachable { txid, below: None, above: None });
            }
            return chain::plan(replica, target, times, excluded, wanted);
        }
        _ if replica.files.is_empty() => return Ok(of_v3(v3::plan(v3, target, excluded, wanted)?, replica)),
        Target::Timestamp(_) | Target::Latest | Target::Txid(_) | Target::Pinned(_) => {}
    }
    let of_either = match exact(replica, v3, target, times, excluded) {
        Err(error) if wanted == StateWanted::Intact && error.leaves_older_states() => {
            intact(replica, v3, target, times, excluded, error)
        }
        exact => exact,
    };
    Ok(match of_either? {
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

/// Plans for the newest state inside the target, in the format that has it.
fn exact(
    replica: &Replica,
    v3: &V3Replica,
    target: &Target,
    times: &Times,
    excluded: &Excluded,
) -> Result<PlanOutcome, PlanError> {
    let ltx = || chain::plan(replica, target, times, excluded, StateWanted::Exact);
    let of_generations = || v3::plan(v3, target, excluded, StateWanted::Exact);
    match *target {
        Target::Timestamp(at) => at_time(replica, v3, at, times, ltx(), of_generations()),
        Target::Latest | Target::Txid(_) | Target::Pinned(_) => match is_v3_newer(replica, v3, times) {
            Err(needed) => Ok(PlanOutcome::NeedTimes(needed)),
            Ok(true) => Ok(of_v3(of_generations()?, replica)),
            Ok(false) => ltx(),
        },
    }
}

/// Plans for the newest state that can be had in any format, after [`exact`] has failed with `error`.
fn intact(
    replica: &Replica,
    v3: &V3Replica,
    target: &Target,
    times: &Times,
    excluded: &Excluded,
    error: PlanError,
) -> Result<PlanOutcome, PlanError> {
    let ltx = match chain::plan(replica, target, times, excluded, StateWanted::Intact) {
        Ok(PlanOutcome::NeedTimes(needed)) => return Ok(PlanOutcome::NeedTimes(needed)),
        Ok(PlanOutcome::Plan(plan)) => Ok(plan),
        Err(error) => Err(error),
    };
    let of_generations = v3::plan(v3, target, excluded, StateWanted::Intact);
    let time_of = |plan: &Plan| plan.files.last().and_then(|&at| time_of(replica, times, at));
    let lacks = |error: &PlanError| error.leaves_older_states();
    // An older state is planned in one format, or the newest state of the format that does not have the newest.
    let (is_v3, used) = match (&ltx, &of_generations) {
        (Err(_), Err(_)) => return Err(error),
        (Ok(plan), Err(_)) => (false, time_of(plan)),
        (Err(_), Ok(chosen)) => (true, Some(chosen.plan.state.time)),
        (Ok(plan), Ok(chosen)) => {
            let (ltx, v3) = (time_of(plan), Some(chosen.plan.state.time));
            (v3 > ltx, v3.max(ltx))
        }
    };
    // What the other format has lost matters only if it is newer.
    let until = match *target {
        Target::Timestamp(at) => at,
        Target::Latest | Target::Txid(_) | Target::Pinned(_) => Timestamp::MAX,
    };
    let is_lost = match is_v3 {
        true => {
            let times = replica.files.iter().map(|file| file.last_modified).filter(|&time| time < until);
            times.max() > used && ltx.as_ref().map_or_else(lacks, Plan::is_short)
        }
        false => {
            let is_short = |chosen: &ChosenGeneration| chosen.warnings.iter().any(Warning::is_loss);
            v3::newest_inside(v3, until) > used && of_generations.as_ref().map_or_else(lacks, is_short)
        }
    };
    let mut plan = match (ltx, of_generations) {
        (_, Ok(chosen)) if is_v3 => v3_plan(chosen, replica),
        (Ok(plan), _) => plan,
        (Err(_), _) => return Err(error),
    };
    if let Some(used) = used.filter(|_| is_lost) {
        plan.warnings.insert(0, Warning::NewestIntactFormat { is_v3, used });
    }
    Ok(PlanOutcome::Plan(plan))
}

/// The time of an LTX file: the one in its header if it was read, else that of its upload.
fn time_of(replica: &Replica, times: &Times, at: usize) -> Option<Timestamp> {
    times.get(at).or_else(|| replica.files.get(at).map(|file| file.last_modified))
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
    v3_chosen: Result<ChosenGeneration, PlanError>,
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
    let reached = time_of(replica, times, newest);
    match v3_chosen {
        Ok(chosen) if Some(chosen.plan.state.time) > reached => Ok(of_v3(chosen, replica)),
        Err(PlanError::TimestampDoesNotExist { .. }) | Ok(_) => Ok(PlanOutcome::Plan(plan)),
        Err(error) if v3::newest_inside(v3, at) > reached => Err(error),
        Err(_) => Ok(PlanOutcome::Plan(plan)),
    }
}

fn of_v3(chosen: ChosenGeneration, replica: &Replica) -> PlanOutcome {
    PlanOutcome::Plan(v3_plan(chosen, replica))
}

fn v3_plan(chosen: ChosenGeneration, replica: &Replica) -> Plan {
    let ChosenGeneration { files, plan, mut warnings, newer_exist } = chosen;
    if let Some(newest) = replica.files.iter().map(|file| file.last_modified).max() {
        warnings.push(Warning::LtxLeftAside { files: replica.files.len(), newest });
    }
    let v3 = Some(Box::new(plan));
    Plan { files, min_txid: Txid(0), txid: Txid(0), newer_exist, warnings, v3 }
}
