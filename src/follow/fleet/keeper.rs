//! The loop that follows a fleet: scan, open what has changed, close what is quiet (docs/FOLLOW.md, "A fleet").
//!
//! It runs as one task of a worker. Followers are tasks of all workers, and tell the loop what they do by messages.

use super::scan::SeenKeys;
use super::standbys::{FollowedDatabase, OpenStandby, ScanOrder, StandbyPlace, Standbys};
use super::status::FleetStatus;
use super::teller::{FleetEvent, FleetObserver, Message, Teller};
use crate::cancel::{CancellationToken, Reason};
use crate::follow::error::FollowError;
use crate::follow::events::{FollowEvent, FollowSummary};
use crate::follow::lock::{FollowLock, OtherFollower, Taken, place_of};
use crate::follow::means::{ListRate, Means};
use crate::follow::run::{FollowRequest, Until, follow_with};
use crate::follow::{primary_state, sidecar};
use crate::plan::continuity::OtherWriter;
use crate::process::threads::Threads;
use crate::restore::{Worker, submit};
use crate::store::{Store, StoreError, StoreErrorKind};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A standby that has not changed for 10 min is closed.
const QUIET: Duration = Duration::from_secs(600);
/// After 300 intervals, and every 5 min at least, each database is looked at whole: for compactions, for holes that were
/// filled, for databases that vanished.
const WHOLE_EVERY: (u32, Duration) = (300, Duration::from_secs(300));
/// A discovery is asked for at most every 10 s.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// How often [`FleetEvent::Status`] is told.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// SQLite runs on at most 16 threads.
const SQLITE_THREADS: usize = 16;
/// A scan of replicas on a disk takes at most a twentieth of the time.
const DISK_DUTY: u32 = 20;

/// How to follow a fleet.
pub struct FleetOrder {
    /// The time between two polls of a database that changes, and between two scans if their rate allows it.
    pub interval: Duration,
    /// At most this many LISTs per second.
    pub lists_per_second: f64,
    /// What the keys of all databases begin with. None: it is found out.
    pub prefix: Option<String>,
    /// At most this many databases are open at a time.
    pub most_open: usize,
    /// How often [`FleetEvent::Alive`] is told. None: never.
    pub heartbeat: Option<Duration>,
    /// Ends the followers. The workers must not be stopped by it: the databases are closed first.
    pub cancel: CancellationToken,
}

/// What whoever discovers databases tells the loop.
#[derive(Debug)]
pub enum FleetNews {
    /// This database is to be followed.
    Database(FollowedDatabase),
    /// All databases are being looked at.
    Discovering,
    /// All databases were looked at. Scans begin after the first time.
    Discovered,
}

/// What a fleet's followers did together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetTotals {
    /// The number of scans, also of those that failed.
    pub scans: u64,
    /// The number of polls of open databases.
    pub polls: u64,
    /// The number of those whose requests failed.
    pub failed_polls: u64,
    /// The number of changes that were committed.
    pub applied: u64,
    /// The number of files that were applied.
    pub files: u64,
    /// The number of pages that were written.
    pub pages: u64,
    /// The number of holes that were met.
    pub holes: u64,
}

impl FleetTotals {
    const fn add(&mut self, one: &FollowSummary) {
        self.polls += one.polls;
        self.failed_polls += one.failed_polls;
        self.applied += one.applied;
        self.files += one.files;
        self.pages += one.pages;
        self.holes += one.holes;
    }
}

/// Follows the databases that `news` brings, until `order.cancel` is cancelled. `discover` asks for a discovery: a scan has
/// shown a database that nobody knows. When this returns, all databases are closed. Returns what all followers did
/// together, and where the databases were.
pub async fn follow_fleet(
    worker: Rc<Worker>,
    order: FleetOrder,
    mut news: UnboundedReceiver<FleetNews>,
    discover: std::sync::mpsc::Sender<()>,
    observer: FleetObserver,
) -> (FleetTotals, FleetStatus) {
    let (told, mut messages) = unbounded_channel();
    let means = Means {
        threads: Arc::new(Threads::new("sqlite", SQLITE_THREADS)),
        lists: Some(Arc::new(ListRate::new(order.lists_per_second))),
    };
    let (cancel, heartbeat) = (order.cancel.clone(), order.heartbeat);
    let mut keeper = Keeper {
        worker,
        order,
        means,
        standbys: Standbys::default(),
        open: 0,
        running: FuturesUnordered::new(),
        told,
        failing: Arc::default(),
        observer,
        may_scan: false,
        is_cost_told: false,
        is_ready: false,
        discover: Some((discover, None)),
        totals: FleetTotals::default(),
    };
    let mut scanning = FuturesUnordered::new();
    let mut status = tokio::time::interval(STATUS_EVERY);
    let mut beat = tokio::time::interval(heartbeat.unwrap_or(STATUS_EVERY));
    // Ends by the signal.
    loop {
        keeper.begin_scans(&scanning);
        tokio::select! {
            biased;
            _ = cancel.cancelled() => break,
            Some(message) = messages.recv() => keeper.take(message),
            Some(news) = news.recv() => keeper.learn(news),
            Some(ended) = keeper.running.next() => keeper.lost(ended),
            Some(scanned) = scanning.next() => keeper.scanned(scanned),
            _ = status.tick() => keeper.tell_status(),
            _ = beat.tick(), if heartbeat.is_some() => (keeper.observer)(&FleetEvent::Alive),
        }
        keeper.open_waiting();
    }
    (keeper.observer)(&FleetEvent::Ending);
    keeper.standbys.close_all(cancel.reason().unwrap_or(Reason::Terminate));
    // Ends: each follower sends a message, or is lost.
    while keeper.open > 0 {
        tokio::select! {
            biased;
            Some(message) = messages.recv() => keeper.take(message),
            Some(ended) = keeper.running.next() => keeper.lost(ended),
        }
    }
    let status = keeper.standbys.status(Instant::now());
    (keeper.totals, status)
}

struct Keeper {
    worker: Rc<Worker>,
    order: FleetOrder,
    means: Means,
    standbys: Standbys,
    /// The number of followers that run.
    open: usize,
    /// Each of them, with the number of its standby if it has ended without a message.
    running: FuturesUnordered<LocalBoxFuture<'static, Option<usize>>>,
    told: UnboundedSender<Message>,
    /// The number of followers whose requests fail.
    failing: Arc<AtomicUsize>,
    observer: FleetObserver,
    /// Whether the databases are known, and scans may begin.
    may_scan: bool,
    /// Whether the cost of a scan was told.
    is_cost_told: bool,
    is_ready: bool,
    /// Whom to ask for a discovery, and when that was done last. None: nobody listens any more.
    discover: Option<(std::sync::mpsc::Sender<()>, Option<Instant>)>,
    totals: FleetTotals,
}

/// What the scan of a group has brought.
struct GroupResult {
    order: ScanOrder,
    seen: SeenKeys,
    begun: Instant,
    error: Option<StoreError>,
}

impl Keeper {
    /// Begins the scans of all groups that have none. Each waits for its time.
    fn begin_scans(&mut self, scanning: &FuturesUnordered<LocalBoxFuture<'static, GroupResult>>) {
        let Some(lists) = self.means.lists.clone().filter(|_| self.may_scan) else { return };
        let whole_every = self.order.interval.saturating_mul(WHOLE_EVERY.0).min(WHOLE_EVERY.1);
        for order in self.standbys.begin_scans(whole_every, Instant::now()) {
            let (worker, lists) = (Rc::clone(&self.worker), Arc::clone(&lists));
            scanning.push(async move { scan_group(&worker, order, &lists).await }.boxed_local());
        }
    }

    fn scanned(&mut self, result: GroupResult) {
        let GroupResult { order, seen, begun, error } = result;
        let (took, lists) = (begun.elapsed(), seen.lists);
        self.totals.scans += 1;
        let least = match order.scans.iter().any(|scan| scan.store.is_on_disk()) {
            true => took.saturating_mul(DISK_DUTY),
            false => self.means.lists.as_ref().map_or(Duration::ZERO, |rate| rate.every() * lists as u32),
        };
        let is_denied = !order.by_root && error.as_ref().is_some_and(|e| e.kind == StoreErrorKind::AccessDenied);
        let error = error.filter(|_| !is_denied);
        if is_denied {
            tracing::debug!(target: "hydrant::fleet", "a directory cannot be listed, so each database in it is");
            self.standbys.denied(order.group, Instant::now());
        }
        let every = self.order.interval.max(least);
        let failures = self.standbys.scan_ended(&order, (begun, every), lists, error.is_some());
        (self.observer)(&FleetEvent::Scanned { is_ok: error.is_none() });
        match &error {
            Some(error) if failures == 0 => (self.observer)(&FleetEvent::ScanFailed(error)),
            None if failures > 0 && !is_denied => (self.observer)(&FleetEvent::ScanRecovered),
            _ => {}
        }
        if self.seen(&order, seen, took) {
            self.ask_for_discovery();
        }
        if self.standbys.is_looked_at() && !std::mem::replace(&mut self.is_cost_told, true) {
            let (lists, every) = self.standbys.cost();
            (self.observer)(&FleetEvent::FirstScan { lists, every });
        }
    }

    /// Takes what a scan has seen. Returns whether it has seen databases that nobody knows.
    fn seen(&mut self, order: &ScanOrder, seen: SeenKeys, took: Duration) -> bool {
        let news = self.standbys.scanned(order, seen, took, Instant::now());
        let name = |id: &usize| self.standbys.get(*id).map(|standby| &*standby.database.name);
        news.vanished.iter().filter_map(name).for_each(|name| (self.observer)(&FleetEvent::Vanished(name)));
        news.returned.iter().filter_map(name).for_each(|name| (self.observer)(&FleetEvent::Returned(name)));
        news.replaced.iter().for_each(|&id| self.replaced(id));
        news.has_unknown
    }

    /// Stops a standby whose last file was replaced. As another follower, which remembers nothing, could not see that, its
    /// sidecar goes.
    fn replaced(&mut self, id: usize) {
        let Some(standby) = self.standbys.get_mut(id) else { return };
        standby.place = StandbyPlace::Stopped;
        let (database, at) = (&standby.database, standby.at);
        let key = format!("the file of level 0 with txid {at} below {}", database.replica);
        let error = FollowError::OtherWriter { at, error: OtherWriter::Replaced { key } };
        if let Err(error) = sidecar::remove(&database.database) {
            (self.observer)(&FleetEvent::Of(&database.name, &FollowEvent::SidecarFailed { error: &error }));
        }
        (self.observer)(&FleetEvent::Stopped(&database.name, &error));
    }

    fn ask_for_discovery(&mut self) {
        let Some((discover, asked)) = &mut self.discover else { return };
        if asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            *asked = Some(Instant::now());
            if discover.send(()).is_err() {
                self.discover = None;
            }
        }
    }

    fn learn(&mut self, news: FleetNews) {
        match news {
            FleetNews::Database(database) => self.standbys.add(database, self.order.prefix.as_deref()),
            FleetNews::Discovering => self.standbys.discovering(),
            FleetNews::Discovered => {
                self.standbys.discovered();
                self.may_scan = true;
            }
        }
    }

    fn take(&mut self, message: Message) {
        let (Message::CaughtUp(id) | Message::Applied(id, _) | Message::Stuck(id) | Message::Ended(id, ..)) = message;
        let Some(standby) = self.standbys.get_mut(id) else { return };
        let StandbyPlace::Open(open) = &mut standby.place else { return };
        match message {
            Message::CaughtUp(_) => {
                (open.is_caught_up, standby.was_caught_up, standby.failures) = (true, true, 0);
            }
            Message::Applied(_, to) => {
                (open.changed, open.is_stuck) = (Instant::now(), false);
                standby.at = to;
            }
            Message::Stuck(_) => {
                open.is_stuck = true;
                standby.behind.get_or_insert_with(Instant::now);
            }
            Message::Ended(_, summary, ended) => return self.ended(id, &summary, ended),
        }
        if open.is_caught_up && !open.is_stuck {
            standby.behind = None;
        }
    }

    /// Takes a follower's end. If it has sent no message, that is a bug, and the database is tried again.
    fn lost(&mut self, ended: Option<usize>) {
        let Some(id) = ended else { return };
        let at = self.standbys.get(id).map(|standby| standby.at).unwrap_or_default();
        let error = FollowError::internal("a follower has ended without a result");
        self.take(Message::Ended(id, FollowSummary { txid: at, ..FollowSummary::default() }, Err(error)));
    }

    fn ended(&mut self, id: usize, summary: &FollowSummary, ended: Result<(), FollowError>) {
        self.open -= 1;
        self.totals.add(summary);
        let Some(standby) = self.standbys.get_mut(id) else { return };
        (standby.at, standby.place) = (summary.txid, StandbyPlace::Idle);
        if standby.has_what_was_seen() {
            standby.behind = None;
        }
        match ended {
            Ok(()) => {}
            Err(error) if error.may_pass() => self.pause(id, &error.to_string()),
            Err(error) => {
                standby.place = StandbyPlace::Stopped;
                (self.observer)(&FleetEvent::Stopped(&standby.database.name, &error));
            }
        }
    }

    /// Tries a database again later.
    fn pause(&mut self, id: usize, why: &str) {
        let is_first = self.standbys.pause(id, Instant::now());
        if let Some(standby) = self.standbys.get(id).filter(|_| is_first) {
            (self.observer)(&FleetEvent::Paused(&standby.database.name, why));
        }
    }

    /// Opens databases that wait, and closes quiet ones if there is no room.
    fn open_waiting(&mut self) {
        // Ends: each turn takes one of those that wait.
        while self.open < self.order.most_open.max(1) {
            let Some(id) = self.standbys.next_waiting() else { return };
            match self.open(id) {
                Ok(()) => {}
                Err(NotOpened::Now(why)) => self.pause(id, &why),
                Err(NotOpened::AnyMore(why)) => {
                    if let Some(standby) = self.standbys.get_mut(id) {
                        standby.place = StandbyPlace::Stopped;
                        (self.observer)(&FleetEvent::NotOpened(&standby.database.name, &why));
                    }
                }
            }
        }
        self.standbys.close_for_waiting();
    }

    /// Starts the follower of a database.
    fn open(&mut self, id: usize) -> Result<(), NotOpened> {
        let Some(standby) = self.standbys.get_mut(id) else { return Ok(()) };
        let database = standby.database.clone();
        let lock = lock_standby(&database.database, &database.store, &database.replica);
        let mut lock = lock.map_err(NotOpened::Now)?;
        lock.check_source().map_err(|error| NotOpened::AnyMore(error.to_string()))?;
        // Not what was known before: somebody may have put back an older copy of both.
        let at = match sidecar::read(&database.database) {
            Ok(Some(at)) => at,
            Ok(None) => {
                let why = "its sidecar (-txid) is gone: it was promoted, or restored otherwise";
                return Err(NotOpened::AnyMore(why.to_owned()));
            }
            Err(error) => return Err(NotOpened::Now(format!("cannot read its sidecar (-txid): {error}"))),
        };
        lock.keep();
        let cancel = CancellationToken::new();
        standby.at = at;
        standby.place = StandbyPlace::Open(OpenStandby {
            cancel: cancel.clone(),
            changed: Instant::now(),
            is_caught_up: false,
            is_stuck: false,
        });
        let request = FollowRequest {
            primary_state: state_beside(&database),
            store: database.store,
            replica: database.replica.to_string(),
            database: database.database.to_path_buf(),
            at,
            interval: self.order.interval,
            until: Until::Quiet(QUIET),
            heartbeat: None,
            cancel,
        };
        let teller = Teller {
            id,
            name: database.name,
            warned_at: Arc::clone(&standby.warned_at),
            is_failing: AtomicBool::new(false),
            failing: Arc::clone(&self.failing),
            told: self.told.clone(),
            observer: Arc::clone(&self.observer),
        };
        let (means, told) = (self.means.clone(), self.told.clone());
        let task = move |worker: Rc<Worker>| {
            async move {
                let observer = Arc::new(move |event: &FollowEvent<'_>| teller.tell(event));
                let (summary, ended) = follow_with(worker, request, means, observer).await;
                drop(lock);
                // Fails only if the loop has ended, which waits for this.
                let _ = told.send(Message::Ended(id, summary, ended));
            }
            .boxed_local()
        };
        // The answer comes as a message, unless the follower's worker has ended.
        let done = submit(&self.worker.shared, task);
        self.running.push(async move { done.await.is_err().then_some(id) }.boxed_local());
        self.open += 1;
        Ok(())
    }

    fn tell_status(&mut self) {
        self.standbys.end_pauses(Instant::now());
        let status = self.standbys.status(Instant::now());
        (self.observer)(&FleetEvent::Status(&status));
        if !self.is_ready && self.may_scan && self.standbys.is_tried() && self.standbys.is_caught_up() {
            self.is_ready = true;
            (self.observer)(&FleetEvent::Ready(&status));
        }
    }
}

/// Why a database was not opened.
enum NotOpened {
    /// For a reason that may pass.
    Now(String),
    /// It is no standby of its replica any more.
    AnyMore(String),
}

/// Takes the lock of a database, whose file then names its replica.
///
/// # Errors
/// Somebody else follows it, it is a standby of another replica, or the lock's file cannot be written.
pub fn lock_standby(database: &Path, store: &Store, replica: &str) -> Result<FollowLock, String> {
    let bucket = store.bucket().map(|bucket| bucket.bucket());
    match FollowLock::take(database, &place_of(bucket, replica)) {
        Ok(Taken::Lock(lock)) => Ok(lock),
        Ok(Taken::Other(OtherFollower { pid: Some(pid), .. })) => Err(format!("process {pid} follows it already")),
        Ok(Taken::Other(OtherFollower { pid: None, .. })) => {
            Err("a process in another container follows it already".to_owned())
        }
        Err(error) => Err(format!("cannot lock it: {error}")),
    }
}

/// The directory that appears once the database is replicated from here. None if the replica itself lies in it.
fn state_beside(database: &FollowedDatabase) -> Option<PathBuf> {
    let state = primary_state(&database.database);
    let is_source = database.store.is_on_disk() && Path::new(&*database.replica).starts_with(&state);
    (!is_source).then_some(state)
}

async fn scan_group(worker: &Worker, order: ScanOrder, lists: &ListRate) -> GroupResult {
    tokio::time::sleep(order.pause).await;
    let (begun, mut seen, mut error) = (Instant::now(), SeenKeys::default(), None);
    for scan in &order.scans {
        if let Err(failed) = scan.run(&worker.http, lists, order.is_unsorted, &mut seen).await {
            seen.failed.extend(scan.ids());
            error = error.or(Some(failed));
        }
    }
    GroupResult { order, seen, begun, error }
}
