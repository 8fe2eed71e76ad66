//! How far the files of a past time lead, and which earlier time leads further: deletions take files away one by one,
//! and a time in their midst silently gives an older state (docs/VERSIONS.md, "In the midst of a deletion").

use super::{Excluded, Plan, PlanOutcome, Target, Times, plan};
use crate::catalogue::{History, Layout, Replica};
use crate::ltx::Txid;
use crate::store::ObjectMeta;
use crate::timestamp::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// At most this many times are looked at one after the other. Longer histories are first searched in this many steps.
const MOST_STEPS: usize = 400;
/// [`deletions`] makes at most this many plans.
const MOST_PLANS: usize = 4_000;
/// Deletions that are at most this far apart belong together, in nanoseconds: 60 s.
const SAME_DELETION_NANOS: i64 = 60_000_000_000;

/// The newest state that the files of a replica lead to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// No state.
    #[default]
    Nothing,
    /// The state in the newest file of Litestream 0.3, by the time of its upload.
    V3(Timestamp),
    /// The state after this transaction.
    Txid(Txid),
}

impl Reach {
    /// How far the files of `replica` lead, without those in an archived storage class.
    pub fn of(replica: &Replica) -> Self {
        match plan(replica, &Target::Latest, &Times::new(), &Excluded::new()) {
            Ok(PlanOutcome::Plan(plan)) => Self::of_plan(&plan),
            Ok(PlanOutcome::NeedTimes(_)) | Err(_) => Self::Nothing,
        }
    }

    /// How far the files of the time `at` lead by their names. Files in an archived storage class count too: they were
    /// not deleted, and a plan that needs one names it.
    pub fn at(history: &History, path: &str, at: Timestamp) -> Self {
        let objects = history.objects_at(at).map(|(object, _)| ObjectMeta { archived: false, ..object });
        Self::of(&Replica::of(path, Layout::Hex, objects))
    }

    fn of_plan(plan: &Plan) -> Self {
        match &plan.v3 {
            Some(v3) => Self::V3(v3.state.time),
            None => Self::Txid(plan.txid),
        }
    }
}

/// A time, and how far the files of that time lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peak {
    /// The time.
    pub at: Timestamp,
    /// The newest state that can be had from the files of that time.
    pub reach: Reach,
}

/// Walks back from `at` as long as the files of earlier times lead at least as far. Returns the time from which most
/// can be had: `at` itself unless files were being deleted. Takes O(n) steps for each of at most about 1,200 times.
pub fn last_full(history: &History, path: &str, at: Timestamp) -> Peak {
    let reach = |at| Reach::at(history, path, at);
    let now = Peak { at, reach: reach(at) };
    let events = history.events(at);
    if events.len() <= MOST_STEPS {
        let times = events.into_iter().map(|(time, _)| time);
        return walk(now, times.map(|at| Peak { at, reach: reach(at) })).0;
    }
    // How far the files lead falls only at a delete marker, so the time before each one is enough.
    let before: Vec<Timestamp> = events
        .windows(2)
        .filter_map(|pair| match pair {
            [(_, true), (before, _)] => Some(*before),
            _ => None,
        })
        .collect();
    let step = before.len().div_ceil(MOST_STEPS).max(1);
    let coarse = before.iter().step_by(step).map(|&at| Peak { at, reach: reach(at) });
    let (peak, steps) = walk(now, coarse);
    // The time that leads furthest lies between the steps beside the best one.
    let from = steps.saturating_sub(1).saturating_mul(step).saturating_sub(step);
    let fine = before.iter().skip(from).take(3 * step).map(|&at| Peak { at, reach: reach(at) });
    let best = walk(if from == 0 { now } else { Peak { at, reach: Reach::Nothing } }, fine).0;
    if best.reach > peak.reach { best } else { peak }
}

/// The best of `peaks`, which go back in time from `now`. Ends at the first one that leads less far than the best so
/// far. Also returns the number of the best one in `peaks`, counted from 1; 0 for `now`.
fn walk(now: Peak, peaks: impl Iterator<Item = Peak>) -> (Peak, usize) {
    let (mut best, mut place) = (now, 0);
    for (i, peak) in peaks.enumerate() {
        if peak.reach > best.reach {
            (best, place) = (peak, i + 1);
        } else if peak.reach < best.reach {
            break;
        }
    }
    (best, place)
}

/// Files that were deleted so that less could be restored afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// The first deletion.
    pub from: Timestamp,
    /// The last one.
    pub to: Timestamp,
    /// Number of deleted files.
    pub files: usize,
    /// The last time before it from which most could be had.
    pub peak: Peak,
}

/// The deletions of a history that took states away, the oldest first. Plans only where a file that the last plan needs
/// went, and at most 4,000 times; what follows in a longer history is not searched.
pub fn deletions(history: &History, path: &str) -> Vec<Deletion> {
    let mut search =
        DeletionSearch { path, there: BTreeMap::new(), chain: ProvenChain::default(), last: Timestamp::MIN, plans: 0 };
    let mut found: Vec<Deletion> = Vec::new();
    // Whether the last deletion may go on.
    let mut is_open = false;
    history.replay(|time, changes| {
        if search.plans >= MOST_PLANS {
            return;
        }
        let fall = search.step(time, changes);
        let is_deletion = changes.iter().any(|(_, now)| now.is_none());
        let is_nothing = search.chain.reach == Reach::Nothing;
        match (found.last_mut(), fall) {
            (Some(open), fall) if is_open && is_deletion && (fall.is_some() || is_nothing) && open.is_near(time) => {
                open.to = time;
            }
            (_, Some(peak)) => {
                found.push(Deletion { from: time, to: time, files: 0, peak });
                is_open = true;
            }
            // Somebody writes again.
            (_, None) if changes.iter().any(|(_, now)| now.is_some()) => is_open = false,
            (_, None) => {}
        }
    });
    for deletion in &mut found {
        deletion.files = history.deletions_between(deletion.peak.at, deletion.to);
    }
    found
}

impl Deletion {
    fn is_near(&self, time: Timestamp) -> bool {
        time.as_nanos().saturating_sub(self.to.as_nanos()) <= SAME_DELETION_NANOS
    }
}

/// How far files lead, and which of them are needed for that.
#[derive(Default)]
struct ProvenChain {
    reach: Reach,
    keys: BTreeSet<String>,
}

struct DeletionSearch<'a> {
    path: &'a str,
    /// The objects that are there.
    there: BTreeMap<&'a str, ObjectMeta>,
    /// The last plan. It proves that at least its state can be had as long as its files are there.
    chain: ProvenChain,
    /// The time before.
    last: Timestamp,
    plans: usize,
}

impl<'a> DeletionSearch<'a> {
    /// Goes to the next time. If less can be had than before, returns the time before and what could be had then.
    fn step(&mut self, time: Timestamp, changes: &[(&'a str, Option<ObjectMeta>)]) -> Option<Peak> {
        let is_hit = changes.iter().any(|(key, _)| self.chain.keys.contains(*key));
        if is_hit {
            // Files that came since the last plan may lead further, or around what goes now.
            self.plan();
        }
        let before = Peak { at: self.last, reach: self.chain.reach };
        for (key, now) in changes {
            match now {
                Some(object) => drop(self.there.insert(key, object.clone())),
                None => drop(self.there.remove(key)),
            }
        }
        self.last = time;
        let has_begun = self.chain.reach == Reach::Nothing && changes.iter().any(|(_, now)| now.is_some());
        if is_hit || has_begun {
            self.plan();
        }
        (self.chain.reach < before.reach).then_some(before)
    }

    fn plan(&mut self) {
        self.plans += 1;
        let there = self.there.values().cloned().map(|object| ObjectMeta { archived: false, ..object });
        let replica = Replica::of(self.path, Layout::Hex, there);
        let planned = plan(&replica, &Target::Latest, &Times::new(), &Excluded::new());
        self.chain = match planned {
            Ok(PlanOutcome::Plan(plan)) => {
                let v3 = plan.v3.as_ref().and(replica.v3.as_deref());
                let key = |i: &usize| match v3 {
                    Some(v3) => v3.files.get(*i).map(|file| v3.key(file)),
                    None => replica.files.get(*i).map(|file| replica.key(file)),
                };
                ProvenChain { reach: Reach::of_plan(&plan), keys: plan.files.iter().filter_map(key).collect() }
            }
            Ok(PlanOutcome::NeedTimes(_)) | Err(_) => ProvenChain::default(),
        };
    }
}
