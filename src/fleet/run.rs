//! Restores the databases that discovery has found, in order and several at a time. Each database is published
//! as soon as it is complete, and its failure does not affect the others. After a transient failure it is tried
//! again later.
//!
//! Restores begin when all databases are known (docs/decisions/18-early-hand-over.md). If discovery fails, no
//! database is restored.
//!
//! This code runs on the command's own thread and hands the work to the restore workers. It never waits for all
//! databases at once. One very large database among thousands of small ones therefore uses whatever capacity
//! the small ones leave.
//!
//! Invariants:
//! - A database counts as restored only when its file name is durable.
//! - Every job ends exactly once, or is counted in [`RunResult::left`] if the run is cancelled.
//! - [`DatabaseWindow`] limits how many databases are in flight.

use crate::cancel::CancellationToken;
use crate::catalogue::Replica;
use crate::commit::{CommitContext, Notice};
use crate::error::Class;
use crate::fleet::attempt::{Assignment, DatabaseAnswer, Settings, Work, may_pass, pinned, retry_delay, work};
use crate::fleet::discovery::discover::DiscoverError;
use crate::fleet::discovery::feed::{DiscoveryEvent, Feed};
use crate::fleet::discovery::found::{Discovery, Instead};
use crate::fleet::durable::DirectorySyncs;
use crate::fleet::job::{Admission, Ended, Ending, Job, Jobs, Known, OnlyFound, Subject};
use crate::fleet::outcome::record::Discovered;
use crate::fleet::outputs::Roots;
use crate::fleet::progress::Progress;
use crate::fleet::queue::JobQueue;
use crate::fleet::space::{LittleSpace, little_space};
use crate::fleet::window::DatabaseWindow;
use crate::io::IoError;
use crate::plan::{PlanError, Target};
use crate::restore::{RestoreError, Workers};
use crate::store::StoreError;
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// With 32 or more databases in flight, this thread collects ended databases every 3 ms ([`BEAT`]) and syncs
/// their directories together. Waking up for each database costs more than the delay of 3 ms.
const MANY: usize = 32;
const BEAT: Duration = Duration::from_millis(3);

/// What a run needs to restore its databases: workers, settings and counters.
pub struct Fleet<'a> {
    /// Worker threads that do the restores.
    pub engine: &'a Workers,
    /// Settings that apply to every database, such as the target and the number of retries.
    pub settings: &'a Settings,
    /// Counters that the run updates for the progress display.
    pub progress: &'a Progress,
    /// Counters of requests and bytes of the process.
    pub counters: &'a Counters,
    /// What all outputs of this command remember in common, such as directories that are not synced yet.
    pub commit: &'a CommitContext,
    /// Token that stops the run when the operator presses Ctrl-C, for example.
    pub cancel: &'a CancellationToken,
}

/// What a run reports to the command line while it is running.
#[derive(Debug)]
pub enum RunEvent {
    /// The listing failed with a transient error and starts again.
    ListingAgain(StoreError),
    /// Discovery has ended, so all databases are known.
    AllFound {
        /// Counts of what discovery found.
        discovered: Discovered,
        /// Indexes of the globs of `--first` that no database matches.
        unmatched_first: Vec<usize>,
        /// With `--only`: what its file names.
        only: Option<OnlyFound>,
        /// What is to be said although nothing has failed.
        warnings: Vec<String>,
        /// If nothing matches: what lies there instead.
        instead: Option<Instead>,
        /// With a catalogue: when its listing began.
        recovery_point: Option<Timestamp>,
    },
    /// The databases may not fit the disk.
    LittleSpace(LittleSpace),
    /// A database ended.
    Ended(Ended),
    /// A killed run's files beside a database were put back, or could not be.
    PutRight(Notice),
}

/// How a run ended. The results of the databases were reported as events.
#[derive(Debug)]
pub struct RunResult {
    /// Number of known databases that neither succeeded nor failed, because the run was cancelled.
    pub left: usize,
    /// Databases that were not begun, or waited to be tried again, when `-fail-fast` ended the run.
    pub not_started: usize,
    /// Whether all databases were found. None: the discovery was stopped.
    pub discovered: Option<Result<(), DiscoverError>>,
}

/// What a run waits for: the answer of a worker, the end of a retry's pause, or a sync of directories.
enum Event {
    /// A worker has answered for a job. None: the worker ended without an answer.
    Answered(Job, Option<Result<DatabaseAnswer, RestoreError>>),
    Retry(Job),
    Synced(Vec<(Job, Ending)>),
}

impl Fleet<'_> {
    /// Restores the databases that `feed` brings, and passes each event to `hear`. Returns when all have ended.
    ///
    /// # Errors
    /// [`IoError::NoRuntime`] if this thread cannot start the runtime with which it waits for the workers.
    pub fn run(
        &self,
        feed: Feed,
        admission: Admission<'_>,
        window: DatabaseWindow,
        hear: &mut dyn FnMut(RunEvent),
    ) -> Result<RunResult, IoError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|e| IoError::NoRuntime { reason: e.to_string() })?;
        let mut run = FleetRun {
            fleet: self,
            incoming: Incoming { begun: Instant::now(), feed: Some(feed), admission, discovered: None },
            queue: JobQueue::default(),
            window,
            active: FuturesUnordered::new(),
            counts: RunCounts::default(),
            roots: Arc::new(Roots::new(self.commit.clone())),
            syncs: DirectorySyncs::new(),
            hear,
        };
        runtime.block_on(run.drive());
        let RunCounts { left, not_started, .. } = run.counts;
        Ok(RunResult { left, not_started, discovered: run.incoming.discovered })
    }
}

struct FleetRun<'a> {
    fleet: &'a Fleet<'a>,
    incoming: Incoming<'a>,
    queue: JobQueue,
    window: DatabaseWindow,
    active: FuturesUnordered<LocalBoxFuture<'a, Event>>,
    counts: RunCounts,
    roots: Arc<Roots>,
    syncs: DirectorySyncs,
    hear: &'a mut dyn FnMut(RunEvent),
}

/// The running discovery, from which the run receives its databases.
struct Incoming<'a> {
    begun: Instant,
    /// Receiver of discovery's events. None: discovery has ended.
    feed: Option<Feed>,
    admission: Admission<'a>,
    discovered: Option<Result<(), DiscoverError>>,
}

/// Numbers of databases of a run by their state.
#[derive(Default)]
struct RunCounts {
    /// Databases that a worker restores, or that are published but not durable yet.
    in_flight: usize,
    /// Databases that wait for the end of the pause before a retry.
    delayed: usize,
    /// Databases that had neither succeeded nor failed when the run was cancelled.
    left: usize,
    /// See [`RunResult::not_started`].
    not_started: usize,
    /// A database has failed, and `-fail-fast` is set: only what is in flight goes on.
    is_failing: bool,
}

impl Incoming<'_> {
    /// Waits for the next event of discovery. After discovery has ended, it waits for ever.
    async fn next(&mut self) -> Option<DiscoveryEvent> {
        match &mut self.feed {
            Some(feed) => feed.next().await,
            None => std::future::pending().await,
        }
    }
}

impl<'a> FleetRun<'a> {
    async fn drive(&mut self) {
        let cancel = self.fleet.cancel;
        // This loop ends: each turn waits for a job or for discovery, and every job ends after at most
        // `max_retries` retries. The loop is left when discovery has ended and no job waits or is in flight.
        loop {
            while self.counts.in_flight < self.window.size() && !cancel.is_cancelled() && !self.counts.is_failing {
                let Some(job) = self.queue.next(self.window.share()) else { break };
                self.start(job);
            }
            self.sync();
            if self.counts.is_failing {
                break;
            }
            // In a cancelled run jobs are left in the queue; they are counted below.
            if self.incoming.feed.is_none() && self.active.is_empty() && self.queue.len() == 0 {
                return;
            }
            if self.counts.in_flight >= MANY {
                tokio::select! {
                    biased;
                    _ = cancel.cancelled() => break,
                    () = tokio::time::sleep(BEAT) => {}
                }
            }
            tokio::select! {
                biased;
                _ = cancel.cancelled() => break,
                event = self.incoming.next() => self.take(event),
                Some(event) = self.active.next() => self.handle(event),
            }
            while let Some(Some(event)) = self.active.next().now_or_never() {
                self.handle(event);
            }
        }
        // After a signal the workers stop too, so all that is in flight ends soon, well or not. With `-fail-fast` they
        // go on with it. What was published is still made durable.
        let waiting = self.queue.len() + self.counts.delayed;
        match cancel.is_cancelled() {
            true => self.counts.left += waiting,
            false => self.counts.not_started += waiting,
        }
        self.queue.clear();
        while self.counts.in_flight > 0 {
            match self.active.next().await {
                // The job waits for a retry, so it is already counted as left.
                Some(Event::Retry(_)) => {}
                Some(event) => self.handle(event),
                None => {
                    debug_assert!(false, "{} databases in flight without a future", self.counts.in_flight);
                    self.counts.left += self.counts.in_flight;
                    break;
                }
            }
            self.sync();
        }
        self.report_notices();
    }

    /// Takes an event of discovery. None: discovery was cancelled, or its worker panicked.
    fn take(&mut self, event: Option<DiscoveryEvent>) {
        match event {
            Some(DiscoveryEvent::Again(e)) => (self.hear)(RunEvent::ListingAgain(e)),
            Some(DiscoveryEvent::Ended(ended)) => {
                self.incoming.feed = None;
                self.incoming.discovered = Some(ended.map(|discovery| self.found_all(discovery)));
            }
            None => {
                self.incoming.feed = None;
                if !self.fleet.cancel.is_cancelled() {
                    self.incoming.discovered = Some(Err(DiscoverError::NoResult));
                }
            }
        }
    }

    fn found_all(&mut self, mut discovery: Discovery) {
        let (warnings, instead) = (std::mem::take(&mut discovery.warnings), discovery.instead.take());
        let recovery_point = discovery.recovery_point;
        let discovered = Discovered::of(&discovery, self.incoming.begun.elapsed());
        let Jobs { jobs, refused, unmatched_first, only } = self.incoming.admission.admit(discovery);
        (self.hear)(RunEvent::AllFound { discovered, unmatched_first, only, warnings, instead, recovery_point });
        let settings = self.fleet.settings;
        if matches!(settings.work, Work::Restore | Work::RestoreStandby | Work::Plan) {
            for little in little_space(&jobs, settings.skips_existing()) {
                (self.hear)(RunEvent::LittleSpace(little));
            }
        }
        let estimated = jobs.iter().map(|job| job.estimated_bytes).sum();
        let databases = (jobs.len() + refused.len()) as u64;
        self.fleet.progress.found_all(databases, estimated, self.fleet.counters);
        self.queue.add(jobs);
        self.counts.is_failing = self.fleet.settings.fail_fast && !refused.is_empty();
        for refused in refused {
            self.fleet.progress.count(&refused.ending);
            (self.hear)(RunEvent::Ended(refused));
        }
    }

    /// Hands a job to a worker, or ends it at once if nothing has to be done.
    fn start(&mut self, mut job: Job) {
        let settings = self.fleet.settings;
        job.begun.get_or_insert_with(Instant::now);
        if settings.skips_existing() {
            if matches!(settings.work, Work::Restore | Work::RestoreStandby) {
                self.roots.sweep(&job.place);
                self.report_notices();
            }
            if job.place.exists() {
                return self.end(job, Ending::Skipped("database already exists"));
            }
        }
        match std::mem::replace(&mut job.listing, Known::Unknown) {
            Known::Absent => {
                let ending = no_backups(settings);
                self.end(job, ending);
            }
            Known::Failed(e) => self.failed(job, RestoreError::Store(e)),
            Known::Unknown => self.submit(job, None, settings.target),
            Known::Known(replica) => self.submit(job, Some(replica), settings.target),
            Known::Pinned(replica) => {
                let target = pinned(settings.target, &replica);
                job.listing = Known::Pinned(Arc::clone(&replica));
                self.submit(job, Some(Arc::unwrap_or_clone(replica)), target);
            }
        }
    }

    fn submit(&mut self, job: Job, replica: Option<Replica>, target: Target) {
        let assignment = Assignment {
            database: Arc::clone(&job.database),
            place: job.place.clone(),
            is_primary: job.is_primary,
            replica,
            settings: Settings { target, ..self.fleet.settings.clone() },
            roots: Arc::clone(&self.roots),
        };
        let answer = self.fleet.engine.submit(move |worker| Box::pin(work(worker, assignment)));
        self.counts.in_flight += 1;
        tracing::trace!(
            target: "hydrant::fleet",
            database = job.database.name(),
            in_flight = self.counts.in_flight,
            window = self.window.size(),
            "database begins"
        );
        self.queue.started(&job);
        self.active.push(Box::pin(async move { Event::Answered(job, answer.await.ok()) }));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Answered(job, answer) => {
                self.queue.stopped(&job);
                self.report_notices();
                self.answered(job, answer);
            }
            Event::Retry(job) => {
                self.counts.delayed -= 1;
                self.queue.add_again(job);
            }
            Event::Synced(endings) => {
                self.syncs.batch_ended();
                for (job, ending) in endings {
                    self.landed();
                    self.end(job, ending);
                }
            }
        }
    }

    fn answered(&mut self, job: Job, answer: Option<Result<DatabaseAnswer, RestoreError>>) {
        let ending = match answer {
            // The database stays in flight until its file name is durable.
            Some(Ok(DatabaseAnswer::Restored(restored, warnings))) => return self.syncs.add(job, *restored, warnings),
            // The run was cancelled, so the worker stopped early. This is not a failure of the database.
            _ if self.fleet.cancel.is_cancelled() => {
                self.landed();
                self.counts.left += 1;
                return;
            }
            Some(Err(e)) => {
                self.landed();
                return self.failed(job, e);
            }
            Some(Ok(DatabaseAnswer::Planned(planned))) => Ending::Planned(planned),
            Some(Ok(DatabaseAnswer::Rehearsed(rehearsed))) => Ending::Rehearsed(rehearsed),
            Some(Ok(DatabaseAnswer::Verified(verified))) => Ending::Verified(verified),
            None => {
                let reason = "a worker stopped while it was at work on this".to_owned();
                Ending::Failed { class: Class::Io, reason }
            }
        };
        self.landed();
        self.end(job, ending);
    }

    fn report_notices(&mut self) {
        for notice in self.roots.take_notices() {
            (self.hear)(RunEvent::PutRight(notice));
        }
    }

    /// Notes that one database is no longer in flight.
    fn landed(&mut self) {
        debug_assert!(self.counts.in_flight > 0, "no database is in flight");
        self.counts.in_flight -= 1;
        self.window.ended();
    }

    /// Starts to sync the directories of published databases, unless a batch is already being synced.
    fn sync(&mut self) {
        if let Some(batch) = self.syncs.next_batch() {
            self.active.push(Box::pin(async move { Event::Synced(batch.await) }));
        }
    }

    /// Tries the database again later, if another attempt may succeed and retries are left. Otherwise the
    /// database has failed.
    fn failed(&mut self, mut job: Job, error: RestoreError) {
        let settings = self.fleet.settings;
        match &error {
            RestoreError::Plan(PlanError::NoBackups) => return self.end(job, no_backups(settings)),
            RestoreError::Nothing(nothing) if settings.if_replica_exists && nothing.is_no_backup() => {
                return self.end(job, Ending::Skipped("no backups"));
            }
            _ => {}
        }
        // Another restore was faster: the output exists now, and did not when this one began.
        if settings.skips_existing() && error.class() == Class::OutputExists && job.place.exists() {
            return self.end(job, Ending::Skipped("database already exists"));
        }
        if job.retries >= settings.max_retries || self.counts.is_failing || !may_pass(&error, &mut job.has_stalled) {
            let (class, reason) = (error.class(), error.to_string());
            return self.end(job, Ending::Failed { class, reason });
        }
        let pause = retry_delay(settings.retry_delay, job.retries);
        job.retries += 1;
        tracing::debug!(
            target: "hydrant::fleet",
            database = job.database.name(),
            retry = job.retries,
            of = settings.max_retries,
            pause_ms = pause.as_millis() as u64,
            %error,
            "database failed, tried again later"
        );
        self.counts.delayed += 1;
        self.active.push(Box::pin(async move {
            tokio::time::sleep(pause).await;
            Event::Retry(job)
        }));
    }

    fn end(&mut self, job: Job, ending: Ending) {
        let ended = Ended {
            output: Some(job.place.path()),
            subject: Subject::Database(job.database),
            retries: job.retries,
            elapsed: job.begun.map_or(Duration::ZERO, |begun| begun.elapsed()),
            ending,
        };
        self.counts.is_failing |= self.fleet.settings.fail_fast && matches!(ended.ending, Ending::Failed { .. });
        self.fleet.progress.ended(&ended.ending, job.estimated_bytes);
        (self.hear)(RunEvent::Ended(ended));
    }
}

fn no_backups(settings: &Settings) -> Ending {
    if settings.if_replica_exists {
        return Ending::Skipped("no backups");
    }
    let error = PlanError::NoBackups;
    Ending::Failed { class: error.class(), reason: error.to_string() }
}
