//! Builds the chain of files to restore from, proves whether the replica has a hole, and chooses the error if there
//! is no chain.

use super::error::MAX_KEYS;
use super::{Excluded, Plan, PlanError, PlanOutcome, StateWanted, Target, Times, Warning, eligible};
use crate::catalogue::{LtxFile, Replica};
use crate::ltx::{Level, Txid};
use crate::timestamp::Timestamp;
use std::cmp::Reverse;
use std::ops::Range;

/// [`super::plan`], which documents arguments and result.
pub(super) fn plan(
    replica: &Replica,
    target: &Target,
    times: &Times,
    excluded: &Excluded,
    wanted: StateWanted,
) -> Result<PlanOutcome, PlanError> {
    let files = &replica.files;
    let newest = replica.max_txid().ok_or(PlanError::NoBackups)?;
    if !files.iter().any(LtxFile::is_snapshot) {
        let first = files.iter().map(|f| f.min_txid).min().unwrap_or(newest);
        return Err(PlanError::ChainDoesNotBeginAtOne { first });
    }
    let (allowed, goal): (Vec<bool>, Txid) = match *target {
        Target::Latest | Target::Txid(Txid(0)) => (vec![true; files.len()], newest),
        Target::Txid(txid) | Target::Pinned(txid) => (files.iter().map(|f| f.max_txid <= txid).collect(), txid),
        Target::Timestamp(at) => {
            let allowed = match eligible::before(replica, at, times) {
                Ok(eligible) => eligible,
                Err(needed) => return Ok(PlanOutcome::NeedTimes(needed)),
            };
            let goal = files.iter().zip(&allowed).filter(|(_, ok)| **ok).map(|(f, _)| f.max_txid).max();
            (allowed, goal.ok_or_else(|| timestamp_does_not_exist(replica, times, at))?)
        }
    };
    let allowed = |i: usize| allowed.get(i).copied().unwrap_or(false);

    let order = FilesByMin::new(replica, times);
    let ideal = order.chain(allowed);
    let search = ChainSearch { order: &order, target, goal, excluded, allowed: &allowed };
    let reached = ideal.reached;
    let found = match search.exact(ideal) {
        Err(error) if wanted == StateWanted::Intact && error.leaves_older_states() => search.intact(reached, error),
        exact => exact,
    };
    if let (Target::Pinned(pinned), Err(PlanError::TxidNotReachable { above: Some(next), .. })) = (*target, &found) {
        return moved_on(replica, pinned, *next, times, excluded, wanted);
    }
    Ok(match found? {
        ChainFound::Chain(chosen, warnings) => PlanOutcome::Plan(finished(replica, chosen, newest, warnings)),
        ChainFound::NeedTimes(needed) => PlanOutcome::NeedTimes(needed),
    })
}

/// A search for the files of a target. `goal` is the TXID of the newest state inside it, as far as names and times tell.
struct ChainSearch<'a> {
    order: &'a FilesByMin<'a>,
    target: &'a Target,
    goal: Txid,
    excluded: &'a Excluded,
    /// Whether a file is inside the target.
    allowed: &'a dyn Fn(usize) -> bool,
}

/// The result of a [`ChainSearch`].
enum ChainFound {
    Chain(Chain, Vec<Warning>),
    /// The times of these files must be looked up first.
    NeedTimes(Vec<usize>),
}

impl ChainSearch<'_> {
    /// Finds the chain to the target's state, and no other. `ideal` is the longest chain of allowed files, damaged ones
    /// included.
    fn exact(&self, ideal: Chain) -> Result<ChainFound, PlanError> {
        let Self { order, goal, allowed, .. } = *self;
        let mut warnings = Vec::new();
        if ideal.reached < goal {
            if let Err(hole) = check_no_hole(order, ideal.reached, goal) {
                let behind = order.first_of_levels(ideal.reached, allowed);
                let unknown: Vec<usize> = behind.into_iter().filter(|&i| order.times.look(i).is_none()).collect();
                return match *self.target {
                    // LastModified may be older than the truth. These files are then too new, and the hole lies behind
                    // the target.
                    Target::Timestamp(_) if !unknown.is_empty() => Ok(ChainFound::NeedTimes(unknown)),
                    _ => Err(hole),
                };
            }
            match *self.target {
                Target::Timestamp(at) if ideal.reached == Txid(0) => return Err(order.timestamp_does_not_exist(at)),
                Target::Timestamp(_) => {
                    warnings.push(Warning::StateBetweenRetired { reached: ideal.reached, newest: goal });
                }
                Target::Latest | Target::Txid(_) | Target::Pinned(_) => {
                    return Err(not_reachable(order, ideal.reached, goal));
                }
            }
        }
        let chosen = order.without(ideal, allowed, self.excluded, &mut warnings)?;
        Ok(ChainFound::Chain(chosen, warnings))
    }

    /// Finds the longest chain of intact files, after [`ChainSearch::exact`] has failed with `error`. `ideal` is the TXID that
    /// would be reached if no file were damaged or archived.
    ///
    /// # Errors
    /// No file is intact with which a chain could begin.
    fn intact(&self, ideal: Txid, error: PlanError) -> Result<ChainFound, PlanError> {
        let Self { order, goal, excluded, allowed, .. } = *self;
        let chain = order.chain(|i| allowed(i) && !excluded.contains(i) && !order.is_archived(i));
        if chain.files.is_empty() {
            return Err(match *self.target {
                _ if ideal > Txid(0) => order.blocked_at(Txid(0), ideal, allowed, excluded),
                Target::Timestamp(at) => order.timestamp_does_not_exist(at),
                Target::Latest | Target::Txid(_) | Target::Pinned(_) => error,
            });
        }
        // Behind a hole lies more than the ideal chain reaches.
        let newest = if matches!(error, PlanError::Hole { .. }) { goal } else { ideal };
        let mut warnings = vec![Warning::NewestIntact { reached: chain.reached, newest }];
        let covered = |i: usize| order.replica.files.get(i).is_some_and(|f| f.max_txid <= chain.reached);
        let damaged = order.keys(order.all().filter(|&i| excluded.contains(i) && allowed(i) && covered(i)));
        if !damaged.is_empty() {
            warnings.push(Warning::RoutedAround { keys: damaged });
        }
        Ok(ChainFound::Chain(chain, warnings))
    }
}

/// The plan of the chain `chosen`. `newest` is the newest TXID of the replica.
fn finished(replica: &Replica, chosen: Chain, newest: Txid, mut warnings: Vec<Warning>) -> Plan {
    for other in replica.differing() {
        if let (Some(used), Some(other)) = (replica.lineage(), other.lineage()) {
            warnings.push(Warning::OtherLineage { used, other });
        }
    }
    Plan {
        files: chosen.files,
        min_txid: Txid(1),
        txid: chosen.reached,
        newer_exist: chosen.reached < newest,
        warnings,
        v3: None,
    }
}

/// The plan for `next`, the next newer state than the target `pinned`, which cannot be reached.
fn moved_on(
    replica: &Replica,
    pinned: Txid,
    next: Txid,
    times: &Times,
    excluded: &Excluded,
    wanted: StateWanted,
) -> Result<PlanOutcome, PlanError> {
    let mut outcome = plan(replica, &Target::Txid(next), times, excluded, wanted)?;
    if let PlanOutcome::Plan(plan) = &mut outcome {
        plan.warnings.insert(0, Warning::MovedOn { pinned, reached: plan.txid });
    }
    Ok(outcome)
}

/// Returns [`PlanError::Hole`] if the chain cannot be continued because the replica has a hole (docs/FORMAT.md,
/// "Holes"). A gap is a hole only if no file of the replica covers it, whatever its time. The check therefore
/// continues from `reached` with all files. It is a hole if they end before `goal` and a file lies behind the gap.
fn check_no_hole(order: &FilesByMin<'_>, reached: Txid, goal: Txid) -> Result<(), PlanError> {
    let have = order.cover_from(reached);
    let next = order.first_beyond(have);
    match next {
        Some(next) if have < goal => Err(PlanError::Hole { have, next }),
        _ => Ok(()),
    }
}

/// The error for a target before the oldest state: that of the oldest snapshot, whose time is the one in its header if
/// that was read.
fn timestamp_does_not_exist(replica: &Replica, times: &Times, at: Timestamp) -> PlanError {
    PlanError::TimestampDoesNotExist { at, oldest: oldest(replica, times) }
}

/// The time of the oldest state: of the oldest snapshot, as its header says if it was read.
pub(super) fn oldest(replica: &Replica, times: &Times) -> Option<Timestamp> {
    let snapshots = replica.files.iter().enumerate().filter(|(_, file)| file.is_snapshot());
    snapshots.map(|(i, file)| times.get(i).unwrap_or(file.last_modified)).min()
}

fn not_reachable(order: &FilesByMin<'_>, reached: Txid, txid: Txid) -> PlanError {
    let files = &order.replica.files;
    let continues = |f: &&LtxFile| f.max_txid > txid && continues(f, reached);
    PlanError::TxidNotReachable {
        txid,
        below: (reached > Txid(0)).then_some(reached),
        above: files.iter().filter(continues).map(|f| f.max_txid).min(),
    }
}

/// Whether `file` continues a chain that ends at the TXID `reached` (docs/FORMAT.md, "Choosing the files").
fn continues(file: &LtxFile, reached: Txid) -> bool {
    begins_within(file, reached) && file.max_txid > reached
}

fn begins_within(file: &LtxFile, reached: Txid) -> bool {
    file.min_txid.0.saturating_sub(1) <= reached.0
}

struct Chain {
    files: Vec<usize>,
    reached: Txid,
}

/// A replica's files sorted by min TXID, so that one pass over them builds a chain.
struct FilesByMin<'a> {
    replica: &'a Replica,
    times: &'a Times,
    by_min: Vec<usize>,
}

impl<'a> FilesByMin<'a> {
    fn new(replica: &'a Replica, times: &'a Times) -> Self {
        let mut by_min: Vec<usize> = (0..replica.files.len()).collect();
        // A stable sort is fast here, because the files of each level are sorted already and only need merging.
        by_min.sort_by_key(|&i| replica.files.get(i).map(|f| f.min_txid));
        Self { replica, times, by_min }
    }

    fn files(&self) -> impl Iterator<Item = (usize, &'a LtxFile)> + '_ {
        self.by_min.iter().filter_map(|&i| self.replica.files.get(i).map(|f| (i, f)))
    }

    /// Builds the longest chain of files that satisfy `allowed`, by docs/FORMAT.md, "Choosing the files", steps 1
    /// to 3.
    fn chain(&self, allowed: impl Fn(usize) -> bool) -> Chain {
        let snapshots = self.replica.level(Level::SNAPSHOT);
        let snapshot = snapshots
            .filter_map(|i| self.replica.files.get(i).map(|f| (i, f)))
            .filter(|(i, f)| f.is_snapshot() && allowed(*i))
            .max_by_key(|(i, f)| self.preference(*i, f));
        let mut chain = Chain { files: Vec::new(), reached: Txid(0) };
        if let Some((i, file)) = snapshot {
            chain = Chain { files: vec![i], reached: file.max_txid };
        }
        let mut waiting = self.files().filter(|(i, _)| allowed(*i)).peekable();
        let mut best: Option<(usize, &LtxFile)> = None;
        // This loop ends: each turn reaches a higher TXID, or returns.
        loop {
            while let Some((i, file)) = waiting.next_if(|(_, f)| begins_within(f, chain.reached)) {
                if best.is_none_or(|(b, best)| self.preference(i, file) > self.preference(b, best)) {
                    best = Some((i, file));
                }
            }
            match best {
                Some((i, file)) if file.max_txid > chain.reached => {
                    chain.files.push(i);
                    chain.reached = file.max_txid;
                }
                _ => return chain,
            }
        }
    }

    /// The sort key that decides between two files that continue the chain: the greater one is taken
    /// (docs/FORMAT.md, "Choosing the files").
    fn preference(&self, index: usize, f: &LtxFile) -> impl Ord + use<> {
        let time = self.times.get(index).unwrap_or(f.last_modified);
        (f.max_txid, Reverse(f.min_txid), f.level, Reverse(time), Reverse(index))
    }

    /// The highest TXID that is reached from `reached` without a gap, if all files of the replica may be used.
    fn cover_from(&self, reached: Txid) -> Txid {
        let mut end = reached;
        for (_, file) in self.files() {
            if !begins_within(file, end) {
                break;
            }
            end = end.max(file.max_txid);
        }
        end
    }

    /// The min TXID of the first file behind a gap that begins after `end`. None if there is no such file.
    fn first_beyond(&self, end: Txid) -> Option<Txid> {
        self.files().find(|(_, f)| !begins_within(f, end)).map(|(_, f)| f.min_txid)
    }

    /// The allowed file with the lowest TXIDs of each level that ends beyond `reached`, sorted by index. If it is too
    /// new, so are all files of its level behind it.
    fn first_of_levels(&self, reached: Txid, allowed: impl Fn(usize) -> bool) -> Vec<usize> {
        let levels = (0..=Level::SNAPSHOT.get()).filter_map(Level::new).map(|level| self.replica.level(level));
        let ends_beyond = |i: &usize| self.replica.files.get(*i).is_some_and(|f| f.max_txid > reached);
        levels.filter_map(|mut files| files.find(|i| allowed(*i) && ends_beyond(i))).collect()
    }

    /// Replaces damaged and archived files of the chain `ideal`, by building another chain that reaches the same
    /// TXID. Files that were avoided are added to `warnings`.
    ///
    /// # Errors
    ///
    /// [`PlanError::NoOtherChain`] or [`PlanError::Archived`] if no other chain reaches that TXID.
    fn without(
        &self,
        ideal: Chain,
        allowed: impl Fn(usize) -> bool,
        excluded: &Excluded,
        warnings: &mut Vec<Warning>,
    ) -> Result<Chain, PlanError> {
        let archived = |i: usize| self.is_archived(i);
        let blocked = |i: usize| excluded.contains(i) || archived(i);
        let damaged = self.keys(self.all().filter(|&i| excluded.contains(i) && allowed(i)));
        let mut chain = ideal;
        if chain.files.iter().any(|&i| blocked(i)) {
            let avoided = self.keys(chain.files.iter().copied().filter(|&i| archived(i) && !excluded.contains(i)));
            let other = self.chain(|i| allowed(i) && !blocked(i));
            if other.reached < chain.reached {
                return Err(self.blocked_at(other.reached, chain.reached, &allowed, excluded));
            }
            chain = other;
            if !avoided.is_empty() {
                warnings.push(Warning::AvoidedArchived { keys: avoided });
            }
        }
        if !damaged.is_empty() {
            warnings.push(Warning::RoutedAround { keys: damaged });
        }
        Ok(chain)
    }

    /// The error for a chain that ends at `reached` instead of `txid`. It names the files that would continue the
    /// chain but are damaged or archived.
    fn blocked_at(&self, reached: Txid, txid: Txid, allowed: impl Fn(usize) -> bool, excluded: &Excluded) -> PlanError {
        let leads_on = |i: usize| allowed(i) && self.replica.files.get(i).is_some_and(|f| continues(f, reached));
        let candidates = || self.all().filter(|&i| leads_on(i));
        match candidates().find_map(|i| excluded.get(i)) {
            Some(class) => {
                let keys = self.keys(candidates().filter(|&i| excluded.contains(i)).take(MAX_KEYS));
                PlanError::NoOtherChain { txid, class, keys }
            }
            None => PlanError::Archived { txid, keys: self.keys(candidates().take(MAX_KEYS)) },
        }
    }

    fn timestamp_does_not_exist(&self, at: Timestamp) -> PlanError {
        timestamp_does_not_exist(self.replica, self.times, at)
    }

    /// The indexes of all files.
    fn all(&self) -> Range<usize> {
        0..self.replica.files.len()
    }

    fn is_archived(&self, i: usize) -> bool {
        self.replica.files.get(i).is_some_and(|f| f.archived)
    }

    fn keys(&self, files: impl Iterator<Item = usize>) -> Vec<String> {
        files.filter_map(|i| self.replica.files.get(i)).map(|f| self.replica.key(f)).collect()
    }
}
