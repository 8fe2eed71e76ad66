//! What the planner learns from an execution that has failed: which files must not be planned again, and whether the
//! files must be listed again.

use super::{Planner, TARGET};
use crate::error::Class;
use crate::plan::{self, Plan, PlanError};
use crate::restore::error::{ExecutionFailure, RestoreError};
use crate::restore::large::{PlannedFile, note_asked_again};
use crate::store::StoreErrorKind;

impl Planner<'_> {
    /// Prepares the next plan after the execution of `plan` has failed with `failure`. If a file is damaged,
    /// excludes it and returns the damage, which is the error to report if no other chain exists.
    ///
    /// # Errors
    /// No further plan can help: the failure is not about a file, the file was excluded before, or the files
    /// were listed again too often.
    pub(in crate::restore) async fn learn(
        &mut self,
        plan: &Plan,
        files: &[PlannedFile],
        failure: ExecutionFailure,
    ) -> Result<Option<RestoreError>, RestoreError> {
        self.replanned += 1;
        let ExecutionFailure::Several(failures) = failure else { return self.learn_one(plan, files, failure).await };
        let (gaps, damage): (Vec<_>, Vec<_>) =
            failures.into_iter().partition(|failure| matches!(failure, ExecutionFailure::WalGap { .. }));
        let lowest = |failures: &[ExecutionFailure]| {
            failures.iter().filter_map(ExecutionFailure::file_at_fault).filter(|&file| file > 0).min()
        };
        // WAL is applied up to the first gap or damage. Gaps behind it do not matter.
        let first_gap = lowest(&gaps).filter(|&gap| lowest(&damage).is_none_or(|file| gap < file));
        // The damage of the oldest file is reported if there is no other chain: that file is what all chains lack.
        let mut oldest: Option<(usize, RestoreError)> = None;
        for failure in damage {
            let file = failure.file_at_fault().unwrap_or(usize::MAX);
            if let Some(error) = self.learn_one(plan, files, failure).await?
                && oldest.as_ref().is_none_or(|(oldest, _)| file < *oldest)
            {
                oldest = Some((file, error));
            }
        }
        // Last, because the files may be listed again for it.
        for gap in gaps.into_iter().filter(|gap| gap.file_at_fault() == first_gap) {
            self.learn_one(plan, files, gap).await?;
        }
        Ok(oldest.map(|(_, error)| error))
    }

    async fn learn_one(
        &mut self,
        plan: &Plan,
        files: &[PlannedFile],
        failure: ExecutionFailure,
    ) -> Result<Option<RestoreError>, RestoreError> {
        let at = |i: usize| plan.files.get(i).copied();
        let key = |i: usize| {
            let what = "a failure is about a file that is not in the plan";
            files.get(i).map(|f| f.key.clone()).ok_or(RestoreError::Internal { what })
        };
        let failure = match failure {
            ExecutionFailure::Again { file, failure } => match self.asked_again.insert(key(file)?) {
                true => {
                    if let Some((_, error)) = failure.wrong_content() {
                        note_asked_again(self.worker, &key(file)?, None, error);
                    }
                    return Ok(None);
                }
                false => *failure,
            },
            failure => failure,
        };
        let (i, error) = match failure {
            ExecutionFailure::Fatal(e) => return Err(e),
            ExecutionFailure::WalGap { file, error } => return self.learn_gap(plan, files, file, error).await,
            ExecutionFailure::SnapshotAhead { through } => return self.learn_ahead(plan, &key(0)?, through),
            ExecutionFailure::Stopped => return Err(RestoreError::Cancelled),
            ExecutionFailure::Again { .. } => {
                return Err(RestoreError::Internal { what: "a file is to be asked for twice more" });
            }
            ExecutionFailure::Several(_) => {
                return Err(RestoreError::Internal { what: "one of several failures is several" });
            }
            ExecutionFailure::Unreadable { file, error } if error.kind == StoreErrorKind::Archived => {
                (file, RestoreError::Store(error))
            }
            ExecutionFailure::Stale { file, error } if self.is_shorter_again(&key(file)?, &error) => {
                (file, RestoreError::Unreadable { key: key(file)?, error: error.into() })
            }
            ExecutionFailure::Stale { error, .. } => {
                self.list_again_after(error).await?;
                return Ok(None);
            }
            ExecutionFailure::Unreadable { file, error } => {
                (file, RestoreError::Unreadable { key: key(file)?, error: error.into() })
            }
            ExecutionFailure::TooNew { file, error } => {
                if self.times.are_all_required() {
                    return Err(RestoreError::Chain { key: key(file)?, error });
                }
                // The order of the files or their LastModified was wrong: all times are read from now on.
                tracing::debug!(target: TARGET, database = self.path, key = key(file)?, %error, "reads the times of all files");
                self.times.require_all();
                self.pinned = None;
                return Ok(None);
            }
            ExecutionFailure::Wal { file, error } => (file, RestoreError::Wal { key: key(file)?, error }),
            ExecutionFailure::Damaged { file, error } => (file, RestoreError::File { key: key(file)?, error }),
            ExecutionFailure::Chain { file, error } => (file, RestoreError::Chain { key: key(file)?, error }),
        };
        match at(i) {
            Some(index) if plan.v3.is_some() => {
                // An older snapshot stands in for a snapshot. Nothing stands in for WAL.
                if (i > 0 && !self.newest_intact) || self.excluded.contains_v3(index) {
                    return Err(error);
                }
                self.excluded.insert_v3(index, error.class());
            }
            Some(index) if !self.excluded.contains(index) => self.excluded.insert(index, error.class()),
            // The file was excluded before and is planned nevertheless, so no further plan can help.
            _ => return Err(error),
        }
        // Why the newest state cannot be had is found out again: this file may be what limits the state.
        self.lost = None;
        tracing::debug!(target: TARGET, database = self.path, key = key(i)?, %error, "plans around a file");
        self.damaged.push((key(i)?, error.to_string()));
        Ok(Some(error))
    }

    /// Prepares the next plan after WAL has proved to be missing before file `file` of `plan`, or before the first piece
    /// behind the plan. With `-newest-intact`, WAL is then applied up to the gap.
    async fn learn_gap(
        &mut self,
        plan: &Plan,
        files: &[PlannedFile],
        file: usize,
        error: PlanError,
    ) -> Result<Option<RestoreError>, RestoreError> {
        let next = plan.v3.as_ref().and_then(|v3| v3.next);
        if !self.fresh {
            // LIST is not atomic: missing files may have been written while it ran.
            self.list_again(&error).await?;
            self.fresh = true;
            if !self.is_planned_again(files, file, next) {
                return Ok(None);
            }
        }
        if !self.newest_intact {
            return Err(error.into());
        }
        let behind = match files.get(file) {
            Some(planned) => self.v3_file(|_, key| key == planned.key),
            None => {
                let generation = plan.v3.as_ref().map(|v3| v3.state.generation);
                self.v3_file(|v3, _| {
                    Some(v3.generation) == generation && !v3.kind.is_snapshot() && Some(v3.position()) == next
                })
            }
        };
        match behind.filter(|&index| !self.excluded.contains_v3(index)) {
            Some(index) => self.excluded.insert_v3(index, error.class()),
            None => return Err(error.into()),
        }
        tracing::debug!(target: TARGET, database = self.path, %error, "plans up to a gap");
        self.lost = Some(error);
        Ok(None)
    }

    /// Whether a plan from the new listing has the same files up to `file`, and the piece `next` behind them. Then nothing
    /// was written into the gap before it, and to execute the plan again would show the same.
    fn is_planned_again(&self, files: &[PlannedFile], file: usize, next: Option<(u32, u64)>) -> bool {
        let planned = match self.newest_intact {
            true => plan::plan_intact(&self.replica, &self.next_target(), &self.times, &self.excluded),
            false => self.plan_once(),
        };
        let Ok(plan::PlanOutcome::Plan(plan)) = planned else { return false };
        let Ok(again) = self.files(&plan) else { return false };
        let is_same = |(a, b): (&PlannedFile, &PlannedFile)| (&a.key, a.size, &a.etag) == (&b.key, b.size, &b.etag);
        let count = file.saturating_add(1).min(files.len());
        let is_same_next = file < files.len() || (again.len() == count && plan.v3.is_some_and(|v3| v3.next == next));
        again.len() >= count && is_same_next && files.iter().zip(&again).take(count).all(is_same)
    }

    /// The index of the first file of Litestream 0.3 of which this is true. It is given the file and its key.
    fn v3_file(&self, is_it: impl Fn(&crate::catalogue::V3File, &str) -> bool) -> Option<usize> {
        let v3 = self.replica.v3.as_ref()?;
        v3.files.iter().position(|file| is_it(file, &v3.key(file)))
    }

    /// Prepares the next plan after the snapshot of `plan`, which has the key `key`, has proved to be ahead of the WAL.
    /// An older snapshot gives the exact state. Without one, the WAL up to the frame `through` is applied: its
    /// transactions were committed before the snapshot was taken. If that WAL is not there, another generation is the
    /// newest that can be had.
    fn learn_ahead(
        &mut self,
        plan: &Plan,
        key: &str,
        through: Option<u64>,
    ) -> Result<Option<RestoreError>, RestoreError> {
        let ahead = plan.v3.as_ref().and_then(|v3| v3.ahead.as_ref());
        tracing::debug!(target: TARGET, database = self.path, key, through, "the snapshot is ahead of the WAL");
        let error = RestoreError::Ahead { key: key.to_owned() };
        match (plan.files.first(), ahead) {
            (Some(&base), Some(ahead)) if ahead.has_older => {
                self.excluded.insert_v3(base, Class::IntegrityCheck);
                // The older snapshot leads to the same place in the WAL.
                Ok(None)
            }
            _ if through.is_some() && self.through.is_none() => {
                self.through = through;
                Ok(None)
            }
            (Some(&base), Some(_)) if self.newest_intact && !self.excluded.contains_v3(base) => {
                self.excluded.insert_v3(base, Class::IntegrityCheck);
                (self.through, self.lost) = (None, None);
                Ok(Some(error))
            }
            _ => Err(error),
        }
    }
}
