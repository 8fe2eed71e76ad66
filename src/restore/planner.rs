//! Plans the restore of one database. [`Planner`] lists the replica's LTX files, reads the header times that
//! the pure function [`plan::plan`] asks for, and has it choose the files.
//!
//! If the execution of a plan fails, [`Planner`] makes another plan: without the damaged file, or from a new
//! listing if files were deleted or replaced (docs/ARCHITECTURE.md, "One database").

mod learning;

use crate::catalogue::{Generation, Replica};
use crate::error::{Class, escaped};
use crate::ltx::Txid;
use crate::plan::{self, DatedGeneration, Excluded, Plan, PlanError, Target, Times, V3State, Warning};
use crate::restore::error::RestoreError;
use crate::restore::large::{PlannedContent, PlannedFile, gets};
use crate::restore::nothing_found::NothingFound;
use crate::restore::replica_listing::{HeaderTime, ListedReplica, list_replica, look_at_times};
use crate::restore::workers::Worker;
use crate::store::{Store, StoreError, StoreErrorKind};
use crate::timestamp::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::Semaphore;

const TARGET: &str = "hydrant::plan";

/// After 8 new listings because planned files were deleted or replaced, the restore fails.
const MAX_RELISTINGS: u32 = 8;

/// A replica and the plan for restoring it, which `-dry-run` shows.
pub struct PlannedRestore {
    /// The LTX files that the replica has.
    pub replica: Replica,
    /// The files that a restore fetches, as indexes into `replica.files`, and the state that they lead to.
    pub plan: Plan,
    /// The creation times that were read from files' headers while planning.
    pub times: Times,
    /// Why the newest state cannot be had, if the plan leads to an older one (`-newest-intact`).
    pub lost: Option<PlanError>,
}

impl PlannedRestore {
    /// All warnings about the plan as texts for the user, the most important first.
    pub fn all_warnings(&self) -> Vec<String> {
        let lost = self.lost.as_ref().map(ToString::to_string);
        warning_texts(&self.plan.warnings, lost.as_deref(), &[])
    }

    /// The time of the state that the plan leads to, and whether it is from a header. If planning read no header of
    /// the newest file, it is the LastModified of the listing.
    pub fn newest_time(&self) -> Option<(Timestamp, bool)> {
        if let Some(v3) = &self.plan.v3 {
            return Some((v3.state.time, false));
        }
        let index = *self.plan.files.last()?;
        match self.times.get(index) {
            Some(time) => Some((time, true)),
            None => Some((self.replica.files.get(index)?.last_modified, false)),
        }
    }
}

/// The texts of warnings, the most important first: which older state is restored and what is `lost`, then what is
/// `damaged`, then everything else.
pub(super) fn warning_texts(warnings: &[Warning], lost: Option<&str>, damaged: &[(String, String)]) -> Vec<String> {
    let of_loss = warnings.iter().filter(|warning| warning.is_loss()).map(ToString::to_string);
    let others = warnings.iter().filter(|warning| !warning.is_loss()).map(ToString::to_string);
    let why = lost.map(|why| format!("the newest state cannot be had: {why}"));
    of_loss.chain(why).chain(damaged.iter().map(|(_, what)| what.clone())).chain(others).collect()
}

/// Plans the restore of the database at `path` to the state `target`. Lists the files unless `replica` has
/// them, and reads the header times that the plan depends on. Fetches no pages.
///
/// # Errors
/// [`RestoreError::Plan`] if no chain of files leads to `target`, or none of the generation that is asked for. If files
/// seem to be missing, a second listing has confirmed that. Otherwise the failure of a request.
pub async fn plan_database(
    worker: &Worker,
    store: &Store,
    path: &str,
    replica: Option<Replica>,
    target: &Target,
    generation: Option<Generation>,
    newest_intact: bool,
) -> Result<PlannedRestore, RestoreError> {
    let mut planner = Planner::new(worker, store, path, replica, *target, generation, None).await?;
    planner.newest_intact = newest_intact;
    let plan = planner.plan().await?;
    Ok(PlannedRestore { replica: planner.replica, plan, times: planner.times, lost: planner.lost })
}

/// Plans one database, repeatedly if executions fail. Between two plans it remembers the listed files, the
/// times read from their headers, and the files that proved damaged and must not be planned again.
pub(super) struct Planner<'a> {
    worker: &'a Worker,
    pub store: &'a Store,
    /// Path of the replica in the store.
    path: &'a str,
    pub target: Target,
    /// The generation of Litestream 0.3 to restore from, if the user has named one.
    generation: Option<Generation>,
    /// One permit per request of this database that may be in flight (`-parallelism`). None: no limit.
    pub parallelism: Option<Arc<Semaphore>>,
    /// The TXID of the first plan. Each further plan must reach the same TXID, unless the target is
    /// [`Target::Pinned`]. None before the first plan.
    pinned: Option<Pinned>,
    /// The number of frames of the snapshot's own index to apply, because the snapshot is ahead of the target.
    pub through: Option<u64>,
    /// Whether the newest state that can be had is restored if the newest cannot (`-newest-intact`).
    pub newest_intact: bool,
    /// Set once the newest state proved not to be had: why.
    pub lost: Option<PlanError>,
    pub replica: Replica,
    /// Why `replica` has no files, if it has none and was listed here.
    nothing: Option<NothingFound>,
    /// True if `replica` comes from a second listing, which was made to confirm that files are missing.
    fresh: bool,
    /// The creation times that were read from files' headers so far.
    times: Times,
    /// The files that proved damaged and must not be planned again.
    excluded: Excluded,
    /// Key of each file that proved damaged, and a text that says what is wrong.
    pub damaged: Vec<(String, String)>,
    /// Estimated number of LIST and GET requests, retries not counted.
    pub requests: u64,
    /// Number of executions that have failed, each of which led to a new plan.
    pub replanned: u32,
    /// Number of listings after the first one. It is bounded by [`MAX_RELISTINGS`].
    relisted: u32,
    /// Keys of files whose content was wrong, for which the plan was executed once more. The next time, such a file
    /// counts as damaged.
    asked_again: BTreeSet<String>,
    /// Keys of files that have proved shorter than their listed size once. The second time, such a file counts as
    /// damaged.
    shorter: BTreeSet<String>,
}

impl PlannedRestore {
    /// Total size of the planned files in bytes.
    pub fn bytes(&self) -> u64 {
        planned_sizes(&self.replica, &self.plan).sum()
    }

    /// Estimated number of GETs that fetch the planned files, if files larger than `segment_bytes` are fetched
    /// in segments.
    pub fn gets(&self, segment_bytes: u64) -> u64 {
        planned_sizes(&self.replica, &self.plan).map(|size| gets(size, segment_bytes)).sum()
    }
}

/// The state that the first plan leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pinned {
    Txid(Txid),
    V3(V3State),
}

/// The sizes of the files of `plan`, from the oldest to the newest. `plan` must have been made for `replica`.
pub(super) fn planned_sizes<'a>(replica: &'a Replica, plan: &'a Plan) -> impl Iterator<Item = u64> {
    let v3 = plan.v3.as_ref().and(replica.v3.as_ref());
    plan.files.iter().filter_map(move |&i| match v3 {
        Some(v3) => v3.files.get(i).map(|file| file.size),
        None => replica.files.get(i).map(|file| file.size),
    })
}

/// Describes the files of a plan for the log, the oldest first: for each run of files of one level
/// `level×files`, such as `9×1,3×2,0×5`.
fn files_by_level(replica: &Replica, plan: &Plan) -> String {
    if plan.v3.is_some() {
        return format!("snapshot×1,wal×{}", plan.files.len().saturating_sub(1));
    }
    let mut runs: Vec<(u8, u32)> = Vec::new();
    for file in plan.files.iter().filter_map(|&i| replica.files.get(i)) {
        match runs.last_mut() {
            Some((level, files)) if *level == file.level.get() => *files += 1,
            _ => runs.push((file.level.get(), 1)),
        }
    }
    runs.iter().map(|(level, files)| format!("{level}×{files}")).collect::<Vec<_>>().join(",")
}

/// How many LISTs show a database of up to 1,000 files.
fn lists(path: &str) -> u64 {
    Replica::list_prefixes(path).len() as u64
}

impl<'a> Planner<'a> {
    pub(super) async fn new(
        worker: &'a Worker,
        store: &'a Store,
        path: &'a str,
        replica: Option<Replica>,
        target: Target,
        generation: Option<Generation>,
        parallelism: Option<Arc<Semaphore>>,
    ) -> Result<Self, RestoreError> {
        let (listed, requests) = match replica {
            Some(replica) => (ListedReplica { replica, nothing: None }, 0),
            None => (list_replica(&worker.http, store, path, &worker.shared.catalogue).await?, lists(path)),
        };
        let ListedReplica { replica, nothing } = listed;
        let replica = match generation {
            // Where nothing lies, that is the error, which `-if-replica-exists` permits.
            Some(generation) if nothing.is_none() => only_generation(replica, generation)?,
            Some(_) | None => replica,
        };
        Ok(Self {
            worker,
            store,
            path,
            target,
            generation,
            parallelism,
            pinned: None,
            through: None,
            newest_intact: false,
            lost: None,
            replica,
            nothing,
            fresh: false,
            times: Times::new(),
            excluded: Excluded::new(),
            damaged: Vec::new(),
            requests,
            replanned: 0,
            relisted: 0,
            asked_again: BTreeSet::new(),
            shorter: BTreeSet::new(),
        })
    }

    /// The creation times that were read so far.
    pub(super) const fn times(&self) -> &Times {
        &self.times
    }

    /// Records the time in the header of `file`.
    pub(super) fn set_time(&mut self, file: usize, time: Timestamp) {
        self.times.set(file, time);
    }

    /// The files that must not be planned again.
    pub(super) const fn excluded(&self) -> &Excluded {
        &self.excluded
    }

    /// Excludes a file that is too short to be whole.
    pub(super) fn exclude_truncated(&mut self, file: usize, is_v3: bool, key: Option<String>) {
        match is_v3 {
            true => self.excluded.insert_v3(file, Class::Truncated),
            false => self.excluded.insert(file, Class::Truncated),
        }
        let key = key.unwrap_or_default();
        self.damaged
            .push((key.clone(), format!("{}: {}: the file is empty or too short", Class::Truncated, escaped(&key))));
    }

    /// Makes a plan for the target. Reads header times and lists the files again where planning needs it.
    ///
    /// # Errors
    /// [`RestoreError::Plan`] if no chain of files leads to the target, or the failure of a request.
    pub(super) async fn plan(&mut self) -> Result<Plan, RestoreError> {
        // This loop terminates. Each turn that does not return either sets the times of files that had none,
        // or lists the files again, which happens a bounded number of times.
        loop {
            match self.plan_once() {
                Ok(plan::PlanOutcome::NeedTimes(wanted)) => {
                    tracing::trace!(target: TARGET, database = self.path, files = wanted.len(), "reads times in headers");
                    self.look(&wanted).await?;
                }
                Ok(plan::PlanOutcome::Plan(mut plan)) => {
                    self.check_pinned(&mut plan)?;
                    self.log_plan(&plan);
                    return Ok(plan);
                }
                Err(e) if !self.fresh && (e.needs_fresh_listing() || self.may_list_more(&e)) => {
                    // LIST is not atomic: missing files may have been written while it ran.
                    self.list_again(&e).await?;
                    self.fresh = true;
                }
                // The first listing showed backups, so they were deleted meanwhile. `-if-replica-exists`, which
                // permits "no backups", must not turn this into a success.
                Err(PlanError::NoBackups) if self.relisted > 0 => return Err(RestoreError::Vanished),
                Err(PlanError::NoBackups) if self.nothing.is_some() => {
                    return Err(self.nothing.take().map_or(PlanError::NoBackups.into(), RestoreError::Nothing));
                }
                Err(e) if self.newest_intact && self.lost.is_none() && e.leaves_older_states() => {
                    tracing::debug!(target: TARGET, database = self.path, %e, "plans the newest intact state");
                    self.lost = Some(e);
                }
                Err(e) => return Err(self.or_only_another_lineage(e).await.into()),
            }
        }
    }

    /// Checks that a further plan reaches the state of the first one. Otherwise avoiding a damaged file would silently give
    /// an older state. With `-newest-intact` it may, and `plan` then says so.
    ///
    /// # Errors
    /// [`PlanError::TxidNotReachable`] if it reaches another state.
    fn check_pinned(&mut self, plan: &mut Plan) -> Result<(), PlanError> {
        if !plan.is_short() {
            self.lost = None;
        }
        let reached = plan.txid;
        match self.pinned {
            Some(Pinned::Txid(txid))
                if txid != reached && self.lost.is_none() && !matches!(self.target, Target::Pinned(_)) =>
            {
                let error = PlanError::TxidNotReachable { txid, below: Some(reached), above: None };
                if !self.newest_intact {
                    return Err(error);
                }
                if reached < txid && plan.v3.is_none() {
                    plan.warnings.insert(0, Warning::NewestIntact { reached, newest: txid });
                    self.lost = Some(error);
                }
            }
            _ => {}
        }
        self.pinned = Some(match (&plan.v3, self.pinned) {
            // A further plan for a replica of Litestream 0.3 uses the same WAL: nothing stands in for it.
            (Some(v3), _) => Pinned::V3(v3.state),
            (None, Some(Pinned::Txid(txid))) => Pinned::Txid(txid.max(reached)),
            (None, _) => Pinned::Txid(reached),
        });
        Ok(())
    }

    /// The target of the next plan. A further plan must reach the same TXID as the first one. With `-newest-intact`, a newer
    /// one that another listing shows is as good.
    fn next_target(&self) -> Target {
        match (self.target, self.pinned) {
            (Target::Timestamp(_) | Target::Pinned(_), _) | (_, None | Some(Pinned::V3(_))) => self.target,
            _ if self.newest_intact => self.target,
            (_, Some(Pinned::Txid(txid))) => Target::Txid(txid),
        }
    }

    /// Makes a plan from what is known.
    fn plan_once(&self) -> Result<plan::PlanOutcome, PlanError> {
        let (replica, target) = (&self.replica, self.next_target());
        match &self.lost {
            Some(_) => plan::plan_intact(replica, &target, &self.times, &self.excluded),
            None => plan::plan(replica, &target, &self.times, &self.excluded),
        }
    }

    fn log_plan(&self, plan: &Plan) {
        if tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
            let v3 = plan.v3.as_deref();
            tracing::debug!(
                target: TARGET,
                database = self.path,
                txid = plan.v3.is_none().then(|| plan.txid.to_string()),
                generation = v3.map(|v3| v3.state.generation.to_string()),
                index = v3.map(|v3| format!("{:08x}", v3.state.index)),
                offset = v3.map(|v3| format!("{:08x}", v3.state.offset)),
                files = plan.files.len(),
                levels = files_by_level(&self.replica, plan),
                bytes = planned_sizes(&self.replica, plan).sum::<u64>(),
                listed = self.replica.files.len() + self.replica.v3.as_ref().map_or(0, |v3| v3.files.len()),
                avoided = self.damaged.len(),
                other_lineages = self.replica.others.len(),
                newer_exist = plan.newer_exist,
                "plan"
            );
        }
    }

    /// `error`, unless another lineage at this path reaches the target: then an error that says so.
    async fn or_only_another_lineage(&mut self, error: PlanError) -> PlanError {
        if matches!(error, PlanError::NoOtherChain { .. }) {
            return error;
        }
        let target = self.next_target();
        for other in &self.replica.others {
            let mut times = Times::new();
            // This loop terminates. A turn that adds no times ends it, and there are finitely many files.
            let planned = loop {
                let known = times.len();
                match plan::plan(other, &target, &times, &Excluded::new()) {
                    Ok(plan::PlanOutcome::NeedTimes(wanted)) => {
                        self.requests += wanted.len() as u64;
                        let requests = self.parallelism.as_deref();
                        let looks = look_at_times(self.worker, self.store, other, &wanted, requests).await;
                        // If a request fails here, it is not known whether this lineage reaches the target. No times
                        // are added, the loop ends without a plan, and the original `error` is returned.
                        for (file, time) in looks.unwrap_or_default() {
                            match time {
                                HeaderTime::At(time) => times.set(file, time),
                                HeaderTime::Unknowable | HeaderTime::Stale(_) => times.set_unknowable(file),
                            }
                        }
                        if times.len() == known {
                            break None;
                        }
                    }
                    Ok(plan::PlanOutcome::Plan(plan)) => break Some(plan),
                    Err(_) => break None,
                }
            };
            if planned.is_some()
                && let Some(lineage) = other.lineage()
            {
                return PlanError::OnlyOtherLineage { error: Box::new(error), folder: lineage.folder };
            }
        }
        error
    }

    /// Reads the header times of the files `wanted` (indexes into the replica). If one of them was deleted or
    /// replaced since the listing, lists the files again.
    async fn look(&mut self, wanted: &[usize]) -> Result<(), RestoreError> {
        self.requests += wanted.len() as u64;
        let looks = look_at_times(self.worker, self.store, &self.replica, wanted, self.parallelism.as_deref()).await?;
        if looks.len() != wanted.len() {
            // Without this check, the planner would ask for the same times again and again.
            return Err(RestoreError::Internal { what: "a plan needs the time of a file that is not listed" });
        }
        let mut stale = None;
        for (file, time) in looks {
            match time {
                HeaderTime::At(time) => self.times.set(file, time),
                HeaderTime::Unknowable => self.times.set_unknowable(file),
                HeaderTime::Stale(e) => match self.replica.files.get(file).map(|f| self.replica.key(f)) {
                    Some(key) if self.is_shorter_again(&key, &e) => self.times.set_unknowable(file),
                    _ => stale = Some(e),
                },
            }
        }
        match stale {
            Some(e) => self.list_again_after(e).await,
            None => Ok(()),
        }
    }

    /// Whether the file `key` is shorter than its listed size for the second time. The first time, the file may
    /// have been replaced, so the files are listed again. If it is also shorter than the new listing says, it
    /// is damaged.
    fn is_shorter_again(&mut self, key: &str, error: &StoreError) -> bool {
        error.kind == StoreErrorKind::SizeDiffers && !self.shorter.insert(key.to_owned())
    }

    /// Lists the files again, because `e` says that a file was deleted or replaced.
    ///
    /// # Errors
    /// [`RestoreError::Restless`] after [`MAX_RELISTINGS`] listings, or the failure of the listing.
    async fn list_again_after(&mut self, e: StoreError) -> Result<(), RestoreError> {
        if self.relisted >= MAX_RELISTINGS {
            return Err(RestoreError::Restless { attempts: self.relisted, last: e });
        }
        // The bucket is changing at this moment. If files are missing in the new listing, yet another listing
        // has to confirm that.
        self.fresh = false;
        self.list_again(&e).await
    }

    /// Whether another listing may show files that stand in for those that cannot be used. Of a bucket's past, only the
    /// files that lead to the newest state were listed (docs/VERSIONS.md, "What is listed").
    fn may_list_more(&self, e: &PlanError) -> bool {
        matches!(self.store, Store::Past(_)) && !matches!(e, PlanError::NoBackups)
    }

    async fn list_again(&mut self, why: &dyn std::error::Error) -> Result<(), RestoreError> {
        self.relisted += 1;
        tracing::debug!(target: TARGET, database = self.path, times = self.relisted, %why, "lists again");
        self.requests += lists(self.path);
        let listed = list_replica(&self.worker.http, self.store, self.path, &self.worker.shared.catalogue).await?;
        let mut new = listed.replica.keeping_to(&self.replica);
        if let Some(generation) = self.generation {
            new = new.only_generation(generation);
        }
        self.times = self.times.carried(&self.replica, &new);
        self.excluded = self.excluded.carried(&self.replica, &new);
        self.replica = new;
        // With the new listing, the newest state may be had.
        self.lost = None;
        Ok(())
    }

    /// The files of `plan` with their keys, from the oldest to the newest.
    ///
    /// # Errors
    /// [`RestoreError::Internal`] if `plan` was made for another listing, which is a bug.
    pub(super) fn files(&self, plan: &Plan) -> Result<Vec<PlannedFile>, RestoreError> {
        self.files_at(&plan.files, plan.v3.is_some())
    }

    /// The files with these indexes in the list of their format.
    fn files_at(&self, files: &[usize], are_v3: bool) -> Result<Vec<PlannedFile>, RestoreError> {
        let v3 = self.replica.v3.as_ref().filter(|_| are_v3);
        let planned = files.iter().map(|&i| {
            let planned = match v3 {
                Some(v3) => v3.files.get(i).map(|file| {
                    let (index, kind, last_modified) = (file.index, file.kind, file.last_modified);
                    let content = PlannedContent::V3 { index, kind, last_modified };
                    (v3.key(file), file.size, file.etag.clone(), content)
                }),
                None => self.replica.files.get(i).map(|file| {
                    let content = PlannedContent::Ltx { min_txid: file.min_txid, max_txid: file.max_txid };
                    (self.replica.key(file), file.size, file.etag.clone(), content)
                }),
            };
            let what = "a planned file is not in the listing";
            let (key, size, etag, content) = planned.ok_or(RestoreError::Internal { what })?;
            Ok(PlannedFile { asked_again: self.asked_again.contains(&key), key, size, etag, content })
        });
        planned.collect()
    }

    /// The pieces of WAL behind the target that may prove that the snapshot of `plan` is ahead of it.
    ///
    /// # Errors
    /// [`RestoreError::Internal`] if `plan` was made for another listing, which is a bug.
    pub(super) fn files_behind(&self, plan: &Plan) -> Result<Vec<PlannedFile>, RestoreError> {
        match plan.v3.as_ref().and_then(|v3| v3.ahead.as_ref()) {
            Some(ahead) => self.files_at(&ahead.behind, true),
            None => Ok(Vec::new()),
        }
    }
}

/// The replica with the files of one generation.
///
/// # Errors
/// [`PlanError::UnknownGeneration`] if it has none.
fn only_generation(replica: Replica, generation: Generation) -> Result<Replica, PlanError> {
    let known: Vec<DatedGeneration> =
        replica.v3.iter().flat_map(|v3| v3.generations()).filter_map(DatedGeneration::of).collect();
    match known.iter().any(|known| known.name == generation) {
        true => Ok(replica.only_generation(generation)),
        false => Err(PlanError::UnknownGeneration { generation, known }),
    }
}
