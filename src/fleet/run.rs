//! Restores databases as discovery finds them: in order, so many at once, each published as soon
//! as it is complete, each failing alone; transient failures again later.
//!
//! By URL from a bucket, restores begin while the listing still runs; `--first` and longest first
//! hold among the databases that are known. Otherwise all databases come at once, when all are
//! known: through litestream.yml, where entries share listings and paths; from a disk, where
//! listing is quick; for a dry run, which shows all or nothing; on a file system that ignores
//! case, where a later name can win an earlier one's place (the caller's `Search::early`).
//!
//! Runs on the command's own thread; the work is done by the engine's workers. Nothing here
//! waits for all of anything: a giant among thousands uses what the small ones leave. Directories
//! are made durable in batches: while one batch is synced, the next comes together.
//!
//! Invariants: a database counts as restored only when its name is durable; every job ends
//! exactly once, or is left when the run is cancelled; what is in flight is bounded by the
//! [`Window`].

use super::job::{Admission, Ended, Ending, Job, Jobs, Known, PlannedDatabase};
use super::progress::Progress;
use super::window::DatabaseWindow;
use crate::cancel::CancellationToken;
use crate::commit::{CommitError, Notice, PublishedFile, Replace, check, sync_dirs};
use crate::error::Class;
use crate::fleet::discovery::discover::{DiscoverError, Discovery};
use crate::fleet::discovery::feed::{DiscoveryEvent, Feed};
use crate::fleet::outcome::record::Discovered;
use crate::fleet::outputs::{Roots, stale_state};
use crate::fleet::queue::JobQueue;
use crate::io::IoError;
use crate::plan::{PlanError, Target};
use crate::process::threads::Threads;
use crate::restore::{
    DiscardRequest, DiscardStage, Discarded, Request, RestoreError, Restored, Worker, Workers, discard, plan_database,
    restore,
};
use crate::store::{Store, StoreError};
use crate::telemetry::Counters;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From so many databases in flight on, this thread looks at what has ended once in a [`BEAT`], and
/// makes it durable together: to be woken for each costs more than a database can wait.
const MANY: usize = 32;
const BEAT: Duration = Duration::from_millis(3);

/// Longest pause before a database is tried again.
const RETRY_DELAY_CAP: Duration = Duration::from_secs(300);

/// How each database is to be restored.
#[derive(Debug, Clone)]
pub struct Settings {
    pub work: Work,
    pub target: Target,
    pub check: Option<check::Mode>,
    pub replace: Replace,
    pub if_db_not_exists: bool,
    pub if_replica_exists: bool,
    pub max_retries: u32,
    /// About how long the first pause before a retry is; each later one is twice as long.
    pub retry_delay: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Restore,
    /// `-dry-run`.
    Plan,
    /// For measuring: nothing is written.
    Rehearse(DiscardStage),
}

/// What the databases are restored with.
pub struct Fleet<'a> {
    pub engine: &'a Workers,
    pub settings: &'a Settings,
    pub progress: &'a Progress,
    pub counters: &'a Counters,
    pub cancel: &'a CancellationToken,
}

/// What a run says while it goes on.
#[derive(Debug)]
pub enum RunEvent {
    /// The listing failed, and begins anew.
    ListingAgain(StoreError),
    /// All databases are known.
    AllFound {
        discovered: Discovered,
        /// Whether any is one of `--first`.
        any_first: bool,
    },
    Ended(Ended),
    /// Of a database that has ended as restored: it was not from all of its files, and counts as
    /// failed.
    Doubted(Ended),
    /// What an interrupted run had left of a database was put right, or could not be.
    PutRight(Notice),
}

/// What a run came to.
#[derive(Debug)]
pub struct RunResult {
    /// Databases left because the run was cancelled, as far as they were known.
    pub left: usize,
    /// Whether all databases were found; None where the discovery was stopped.
    pub discovered: Option<Result<(), DiscoverError>>,
}

/// A worker's answer.
enum DatabaseAnswer {
    Restored(Box<Restored>, Vec<String>),
    Planned(PlannedDatabase),
    Rehearsed(Discarded),
}

/// A database that stands at its place; its name is not durable yet.
struct Pending {
    job: Job,
    restored: crate::restore::RestoreOutcome,
    warnings: Vec<String>,
    published: PublishedFile,
}

enum Event {
    /// None: the worker is gone.
    Answered(Job, Option<Result<DatabaseAnswer, RestoreError>>),
    Retry(Job),
    Synced(Vec<(Job, Ending)>),
}

impl Fleet<'_> {
    /// Runs what `feed` brings; `hear` is told of each database as it ends. A discovery that fails
    /// ends the feed: what it had brought is restored all the same.
    ///
    /// # Errors
    /// This thread cannot wait for the workers.
    pub fn run(
        &self,
        feed: Feed,
        intake: Admission<'_>,
        window: DatabaseWindow,
        hear: &mut dyn FnMut(RunEvent),
    ) -> Result<RunResult, IoError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|e| IoError::NoRuntime { reason: e.to_string() })?;
        let mut run = FleetRun {
            fleet: self,
            begun: Instant::now(),
            roots: Arc::default(),
            window,
            feed: Some(feed),
            intake,
            discovered: None,
            queue: JobQueue::default(),
            active: FuturesUnordered::new(),
            in_flight: 0,
            delayed: 0,
            left: 0,
            unsynced: Vec::new(),
            is_syncing: false,
            directories: Threads::new("directories", 1),
            at_work: HashSet::new(),
            ended_early: HashMap::new(),
            doubted: HashMap::new(),
            hear,
        };
        let left = runtime.block_on(run.drive());
        Ok(RunResult { left, discovered: run.discovered })
    }
}

struct FleetRun<'a> {
    fleet: &'a Fleet<'a>,
    begun: Instant,
    roots: Arc<Roots>,
    window: DatabaseWindow,
    /// None: it has ended.
    feed: Option<Feed>,
    intake: Admission<'a>,
    discovered: Option<Result<(), DiscoverError>>,
    queue: JobQueue,
    active: FuturesUnordered<LocalBoxFuture<'a, Event>>,
    /// At work, or not durable yet.
    in_flight: usize,
    /// Waiting to be tried again.
    delayed: usize,
    /// Neither restored nor failed when the run was cancelled.
    left: usize,
    unsynced: Vec<Pending>,
    is_syncing: bool,
    /// Where directories are synced; on this thread where no other can be had.
    directories: Threads,
    /// Names of what has begun and not ended.
    at_work: HashSet<String>,
    /// Of what ended before all was known: whether it was restored.
    ended_early: HashMap<String, bool>,
    /// At work with files that may not have been all: how it ends if it is restored.
    doubted: HashMap<String, Ending>,
    hear: &'a mut dyn FnMut(RunEvent),
}

impl<'a> FleetRun<'a> {
    async fn drive(&mut self) -> usize {
        let cancel = self.fleet.cancel;
        // Ends when nothing is to come, waits or is at work. Every job ends after a bounded number of
        // retries, and every turn waits for one of them or for the discovery.
        loop {
            while self.in_flight < self.window.size() && !cancel.is_cancelled() {
                let Some(job) = self.queue.next(self.window.share()) else { break };
                self.start(job);
            }
            self.sync();
            // What waits in the queue then was left by a cancelled run, and is counted below.
            if self.feed.is_none() && self.active.is_empty() && self.queue.len() == 0 {
                return self.left;
            }
            if self.in_flight >= MANY {
                tokio::select! {
                    biased;
                    _ = cancel.cancelled() => break,
                    () = tokio::time::sleep(BEAT) => {}
                }
            }
            tokio::select! {
                biased;
                _ = cancel.cancelled() => break,
                news = next_news(&mut self.feed) => self.take(news),
                Some(event) = self.active.next() => self.handle(event),
            }
            while let Some(Some(event)) = self.active.next().now_or_never() {
                self.handle(event);
            }
        }
        // The workers stop: whatever is in flight ends soon, one way or the other. What was
        // published is still made durable.
        self.left += self.queue.len() + self.delayed;
        self.queue.clear();
        while self.in_flight > 0 {
            match self.active.next().await {
                Some(Event::Retry(_)) => {}
                Some(event) => self.handle(event),
                None => break,
            }
            self.sync();
        }
        self.tell_notices();
        self.left
    }

    /// None: the discovery was stopped.
    fn take(&mut self, news: Option<DiscoveryEvent>) {
        match news {
            Some(DiscoveryEvent::Found(found)) => {
                let jobs = self.intake.some(found);
                self.accept(jobs);
            }
            Some(DiscoveryEvent::Again(e)) => (self.hear)(RunEvent::ListingAgain(e)),
            Some(DiscoveryEvent::Ended(ended)) => {
                self.feed = None;
                self.discovered = Some(ended.map(|discovery| self.found_all(discovery)));
            }
            None => self.feed = None,
        }
    }

    fn found_all(&mut self, mut discovery: Discovery) {
        let discovered = Discovered::of(&discovery, self.begun.elapsed());
        let doubtful = self.queue.forget_listings(std::mem::take(&mut discovery.doubtful));
        let mut jobs = self.intake.rest(discovery);
        (self.hear)(RunEvent::AllFound { discovered, any_first: self.intake.any_first() });
        for doubted in doubtful.into_iter().map(|found| self.intake.in_doubt(found)) {
            if self.at_work.contains(&doubted.name) {
                self.doubted.insert(doubted.name, doubted.ending);
                continue;
            }
            match self.ended_early.get(&doubted.name) {
                Some(true) => {
                    self.fleet.progress.doubted();
                    (self.hear)(RunEvent::Doubted(doubted));
                }
                // It failed, and is told.
                Some(false) => {}
                None => jobs.refused.push(doubted),
            }
        }
        self.ended_early.clear();
        self.accept(jobs);
        self.fleet.progress.found_all(self.fleet.counters);
    }

    fn accept(&mut self, jobs: Jobs) {
        let Jobs { jobs, refused } = jobs;
        let estimated = jobs.iter().map(|job| job.estimated_bytes).sum();
        self.fleet.progress.found((jobs.len() + refused.len()) as u64, estimated);
        self.queue.add(jobs);
        for refused in refused {
            self.fleet.progress.count(&refused.ending);
            (self.hear)(RunEvent::Ended(refused));
        }
    }

    /// Begins a job, or ends it at once.
    fn start(&mut self, mut job: Job) {
        let settings = self.fleet.settings;
        job.begun.get_or_insert_with(Instant::now);
        self.at_work.insert(job.name.clone());
        if settings.if_db_not_exists && settings.work == Work::Restore {
            self.roots.sweep(&job.place);
            self.tell_notices();
        }
        if settings.if_db_not_exists && job.place.exists() {
            return self.end(job, Ending::Skipped("database already exists"));
        }
        match std::mem::replace(&mut job.listing, Known::Unknown) {
            Known::Absent => {
                let ending = no_backups(settings);
                self.end(job, ending);
            }
            Known::Failed(e) => self.failed(job, RestoreError::Store(e)),
            Known::Unknown => self.submit(job, None),
            Known::Known(replica) => self.submit(job, Some(replica)),
        }
    }

    fn submit(&mut self, job: Job, replica: Option<crate::catalogue::Replica>) {
        let order = Assignment {
            roots: Arc::clone(&self.roots),
            settings: self.fleet.settings.clone(),
            place: job.place.clone(),
            store: job.store.clone(),
            path: job.path.clone(),
            replica,
        };
        let answer = self.fleet.engine.submit(move |worker| Box::pin(work(worker, order)));
        self.in_flight += 1;
        self.queue.started(&job);
        self.active.push(Box::pin(async move { Event::Answered(job, answer.await.ok()) }));
    }

    fn handle(&mut self, event: Event) {
        if let Event::Answered(job, _) = &event {
            self.queue.stopped(job);
            self.tell_notices();
        }
        match event {
            Event::Answered(job, Some(Ok(DatabaseAnswer::Restored(restored, warnings)))) => {
                self.publish(job, *restored, warnings);
            }
            // The workers have stopped, or are about to: that is no failure of the database.
            Event::Answered(..) if self.fleet.cancel.is_cancelled() => {
                self.landed();
                self.left += 1;
            }
            Event::Answered(job, answer) => {
                self.landed();
                match answer {
                    Some(Ok(DatabaseAnswer::Planned(planned))) => self.end(job, Ending::Planned(planned)),
                    Some(Ok(DatabaseAnswer::Rehearsed(rehearsed))) => self.end(job, Ending::Rehearsed(rehearsed)),
                    Some(Err(e)) => self.failed(job, e),
                    _ => {
                        let reason = "a worker stopped while it was at work on this".to_owned();
                        self.end(job, Ending::Failed { class: Class::Io, reason });
                    }
                }
            }
            Event::Retry(job) => {
                self.delayed -= 1;
                // Listed anew.
                self.doubted.remove(&job.name);
                self.queue.add_again(job);
            }
            Event::Synced(endings) => {
                self.is_syncing = false;
                for (job, ending) in endings {
                    self.landed();
                    self.end(job, ending);
                }
            }
        }
    }

    fn tell_notices(&mut self) {
        for notice in self.roots.take_notices() {
            (self.hear)(RunEvent::PutRight(notice));
        }
    }

    fn publish(&mut self, job: Job, restored: Restored, warnings: Vec<String>) {
        let Restored { outcome, published } = restored;
        self.unsynced.push(Pending { job, restored: outcome, warnings, published });
    }

    /// One database less in flight.
    fn landed(&mut self) {
        self.in_flight -= 1;
        self.window.ended();
    }

    /// Makes durable what was published, unless a batch is under way.
    fn sync(&mut self) {
        if self.is_syncing || self.unsynced.is_empty() {
            return;
        }
        self.is_syncing = true;
        let batch = std::mem::take(&mut self.unsynced);
        let mut published = Vec::with_capacity(batch.len());
        let mut restored = Vec::with_capacity(batch.len());
        for pending in batch {
            published.push(pending.published);
            restored.push((pending.job, pending.restored, pending.warnings));
        }
        let syncing = self.directories.run(move || sync_dirs(published));
        self.active.push(Box::pin(async move {
            let mut synced = syncing.await.unwrap_or_default().into_iter();
            let endings = restored.into_iter().map(|(job, outcome, warnings)| match synced.next() {
                Some(Ok(())) => (job, Ending::Restored { outcome: Box::new(outcome), warnings }),
                Some(Err(e)) => (job, Ending::Failed { class: e.class(), reason: e.to_string() }),
                None => {
                    let reason = "its directory was not synced".to_owned();
                    (job, Ending::Failed { class: Class::Io, reason })
                }
            });
            Event::Synced(endings.collect())
        }));
    }

    /// Tries again later, where that may help.
    fn failed(&mut self, mut job: Job, error: RestoreError) {
        let settings = self.fleet.settings;
        if matches!(error, RestoreError::Plan(PlanError::NoBackups)) {
            return self.end(job, no_backups(settings));
        }
        if job.retries >= settings.max_retries || !may_pass(&error) {
            let (class, reason) = (error.class(), error.to_string());
            return self.end(job, Ending::Failed { class, reason });
        }
        let pause = retry_delay(settings.retry_delay, job.retries);
        job.retries += 1;
        self.delayed += 1;
        self.active.push(Box::pin(async move {
            tokio::time::sleep(pause).await;
            Event::Retry(job)
        }));
    }

    fn end(&mut self, job: Job, ending: Ending) {
        let is_good = matches!(ending, Ending::Restored { .. } | Ending::Planned(_) | Ending::Rehearsed(_));
        let ending = self.doubted.remove(&job.name).filter(|_| is_good).unwrap_or(ending);
        self.at_work.remove(&job.name);
        if self.feed.is_some() {
            self.ended_early.insert(job.name.clone(), is_good);
        }
        let ended = Ended {
            output: Some(job.place.path()),
            name: job.name,
            id: job.id,
            replica: job.store.kind(),
            retries: job.retries,
            elapsed: job.begun.map_or(Duration::ZERO, |begun| begun.elapsed()),
            ending,
        };
        self.fleet.progress.ended(&ended.ending, job.estimated_bytes);
        (self.hear)(RunEvent::Ended(ended));
    }
}

/// Never where the feed has ended.
async fn next_news(feed: &mut Option<Feed>) -> Option<DiscoveryEvent> {
    match feed {
        Some(feed) => feed.next().await,
        None => std::future::pending().await,
    }
}

fn no_backups(settings: &Settings) -> Ending {
    if settings.if_replica_exists {
        return Ending::Skipped("no backups");
    }
    let error = PlanError::NoBackups;
    Ending::Failed { class: error.class(), reason: error.to_string() }
}

/// Whether the same may succeed a little later without anyone doing anything. A damaged or
/// incomplete backup stays so.
fn may_pass(error: &RestoreError) -> bool {
    match error {
        RestoreError::Store(e) => e.is_transient() || e.is_stale_listing(),
        // Shorter than listed, time and again: it may have been replaced by then.
        RestoreError::Unreadable { error, .. } => error.is_stale_listing(),
        RestoreError::Restless { .. } => true,
        _ => false,
    }
}

/// Doubles with every retry; a half more or less, so that many do not come back at once.
fn retry_delay(delay: Duration, retries: u32) -> Duration {
    let doubled = delay.saturating_mul(1u32.checked_shl(retries).unwrap_or(u32::MAX));
    doubled.min(RETRY_DELAY_CAP).mul_f64(0.5 + fastrand::f64())
}

/// What a worker is to do.
struct Assignment {
    roots: Arc<Roots>,
    settings: Settings,
    place: crate::fleet::outputs::OutputPath,
    store: Store,
    path: String,
    replica: Option<crate::catalogue::Replica>,
}

async fn work(worker: Rc<Worker>, order: Assignment) -> Result<DatabaseAnswer, RestoreError> {
    let Assignment { roots, settings, place, store, path, replica } = order;
    if settings.work == Work::Plan {
        place.check_way().map_err(RestoreError::Commit)?;
        let planned = plan_database(&worker, &store, &path, replica, &settings.target).await?;
        return Ok(DatabaseAnswer::Planned(PlannedDatabase {
            txid: planned.plan.txid,
            files: planned.plan.files.len() as u64,
            bytes: planned.bytes(),
            requests: planned.gets(worker.shared.segment_bytes),
            warnings: planned.plan.warnings.iter().map(ToString::to_string).collect(),
        }));
    }
    if let Work::Rehearse(depth) = settings.work {
        let rehearsal = DiscardRequest { store, path, replica, target: settings.target, depth };
        return discard(&worker, rehearsal).await.map(DatabaseAnswer::Rehearsed);
    }
    let destination = roots.prepare(&place, settings.replace).map_err(|e: CommitError| RestoreError::Commit(e))?;
    let on_disk = matches!(store, Store::File(_)).then(|| path.clone());
    let stale = (!destination.is_in_new_directory()).then(|| stale_state(destination.path(), on_disk.as_deref()));
    let warnings = stale.flatten().into_iter().collect();
    let request = Request {
        store,
        path,
        replica,
        target: settings.target,
        destination: Arc::new(destination),
        check: settings.check,
        parallelism: None,
    };
    restore(&worker, request).await.map(|restored| DatabaseAnswer::Restored(Box::new(restored), warnings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{StoreError, StoreErrorKind};

    #[test]
    fn pauses_double_up_to_a_cap() {
        let pause = |retries| retry_delay(Duration::from_secs(5), retries).as_secs_f64();
        for _ in 0..100 {
            assert!((2.5..7.5).contains(&pause(0)));
            assert!((10.0..30.0).contains(&pause(2)));
            assert!((150.0..450.0).contains(&pause(40)));
        }
        assert_eq!(retry_delay(Duration::ZERO, 3), Duration::ZERO);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let error = |kind| StoreError {
            kind,
            what: String::new(),
            detail: String::new(),
            request_id: None,
            hint: None,
            attempts: 1,
        };
        let store = |kind| RestoreError::Store(error(kind));
        let file = |kind| RestoreError::Unreadable { key: String::new(), error: error(kind).into() };
        use StoreErrorKind::*;
        assert!([Timeout, Throttled, Network, Server, NotFound].into_iter().all(|kind| may_pass(&store(kind))));
        assert!(![NoSuchBucket, AccessDenied, Credentials, Io].into_iter().any(|kind| may_pass(&store(kind))));
        assert!(may_pass(&file(SizeDiffers)) && !may_pass(&file(Unreadable)));
        assert!(!may_pass(&RestoreError::Plan(PlanError::NoBackups)));
    }
}
