//! The loop of a follower: look for changes, apply them, note how far the standby is, wait (docs/FOLLOW.md).

use crate::cancel::CancellationToken;
use crate::catalogue::{Layout, LtxFile, Replica, ReplicaCollector};
use crate::error::Class;
use crate::follow::apply::{Applied, ApplyFailure, StandbyWriter, apply};
use crate::follow::error::FollowError;
use crate::follow::events::{FollowEvent, FollowSummary, Observer};
use crate::follow::means::Means;
use crate::follow::schedule::{PollKind, Polled, Schedule};
use crate::follow::sidecar;
use crate::follow::standby::{Standby, StandbyError};
use crate::ltx::header::Header;
use crate::ltx::{Level, Txid};
use crate::plan::Excluded;
use crate::plan::continuity::{Continuity, ReadFile};
use crate::plan::follow::{Continuation, NextFiles, continue_from};
use crate::process::threads::Threads;
use crate::restore::{ChangeFile, RestoreError, Worker, fetch_if_there, list_replica, read_header};
use crate::store::{Etag, ListPage, Store, StoreError, StoreErrorKind};
use crate::timestamp::Timestamp;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// At most 16 next keys are fetched by one poll. If all are there, level 0 is listed.
const MOST_NEXT_KEYS: usize = 16;
/// Next keys are fetched until they hold 8 MiB together.
const MOST_NEXT_BYTES: u64 = 8 << 20;
/// The sidecar is written at most every 5 s, and at the end.
const SIDECAR_EVERY: Duration = Duration::from_secs(5);
/// A damaged file is tried again after 5 min.
const DAMAGED_FOR: Duration = Duration::from_secs(300);
/// After more than 8 polls in a row whose listing named an object that the store then did not give, the store fails.
const MOST_STALE: u32 = 8;
/// A log of 256 MiB is worth a warning: a reader keeps it from being copied.
const LONG_LOG_BYTES: u64 = 256 << 20;

/// A standby to keep up to date.
pub struct FollowRequest {
    /// The store that holds the replica.
    pub store: Store,
    /// Path of the replica in the store.
    pub replica: String,
    /// The absolute path of the database, which exists.
    pub database: PathBuf,
    /// The TXID in its sidecar.
    pub at: Txid,
    /// The time between two polls.
    pub interval: Duration,
    /// When the follower ends by itself.
    pub until: Until,
    /// The directory that appears once the database is replicated from here ([`crate::follow::primary_state`]). None if
    /// the replica itself lies in it.
    pub primary_state: Option<PathBuf>,
    /// How often [`FollowEvent::Alive`] is told. None: never.
    pub heartbeat: Option<Duration>,
    /// Ends the follower. The workers must not be stopped by it: the database is closed first.
    pub cancel: CancellationToken,
}

/// When a follower ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Cancelled,
    /// Once all that the replica has is applied, or nothing continues. Failed requests are an error then.
    UpToDate,
    /// Once it has been up to date for this long without a change.
    Quiet(Duration),
}

/// Follows the replica until `request.cancel` is cancelled, or the standby cannot go on. The caller holds the lock of the
/// database ([`crate::follow::FollowLock`]). When this returns, the database is closed and its sidecar is written.
///
/// # Errors
/// [`FollowError`]: the standby cannot go on. The database is whole. After [`FollowError::ends_the_standby`] its sidecar is
/// removed.
pub async fn follow(
    worker: Rc<Worker>,
    request: FollowRequest,
    observer: Observer,
) -> (FollowSummary, Result<(), FollowError>) {
    let threads = Threads::new("sqlite", 1);
    if let Err(error) = threads.start_first() {
        let error = FollowError::Restore(crate::io::IoError::from(error).into());
        return (FollowSummary { txid: request.at, ..FollowSummary::default() }, Err(error));
    }
    follow_with(worker, request, Means { threads: Arc::new(threads), lists: None }, observer).await
}

/// As [`follow`], with the given means.
pub(super) async fn follow_with(
    worker: Rc<Worker>,
    request: FollowRequest,
    means: Means,
    observer: Observer,
) -> (FollowSummary, Result<(), FollowError>) {
    let mut summary = FollowSummary { txid: request.at, ..FollowSummary::default() };
    let writer = match open(&request.database, Arc::clone(&means.threads)).await {
        Ok(writer) => writer,
        Err(error) => return (summary, Err(error)),
    };
    let (cancel, interval, heartbeat) = (request.cancel.clone(), request.interval, request.heartbeat);
    let mut follower = Follower {
        worker,
        writer,
        began: Instant::now(),
        schedule: Schedule::new(interval, means.lists.is_some()),
        means,
        durable: request.at,
        sidecar_at: Duration::ZERO,
        continuity: Continuity::default(),
        knows_position: false,
        place: None,
        damaged: BTreeMap::new(),
        changed: Duration::ZERO,
        suspicion: None,
        warned: None,
        disk_was_full: false,
        stale: 0,
        is_sidecar_failing: false,
        is_failing: false,
        is_caught_up: false,
        log_is_long: false,
        summary: std::mem::take(&mut summary),
        request,
        observer,
    };
    let beating = Arc::clone(&follower.observer);
    follower.tell(FollowEvent::Began { txid: follower.summary.txid });
    let ended = tokio::select! {
        biased;
        _ = cancel.cancelled() => Ok(()),
        ended = follower.go_on() => ended,
        ended = beat(heartbeat, &beating) => ended,
    };
    follower.tell(FollowEvent::Ending);
    let Follower { writer, mut summary, request, durable, observer, .. } = follower;
    // A change that was in flight is taken back, or was committed although nobody waited for it any more.
    if let Some(txid) = writer.close().await.filter(|&txid| txid != summary.txid) {
        summary.txid = txid;
        summary.applied += 1;
    }
    // A promotion that fails leaves the standby as it was, if it can.
    let is_kept = |error: &FollowError| request.until == Until::UpToDate && matches!(error, FollowError::Behind { .. });
    let is_spoilt = ended.as_ref().is_err_and(|error| error.ends_the_standby() && !is_kept(error));
    if is_spoilt && let Err(error) = sidecar::remove(&request.database) {
        observer(&FollowEvent::SidecarFailed { error: &error });
    }
    if !is_spoilt
        && summary.txid != durable
        && let Err(error) = sidecar::write(&request.database, summary.txid)
    {
        observer(&FollowEvent::SidecarFailed { error: &error });
    }
    (summary, ended)
}

/// Tells every `heartbeat` that the follower's loop turns. Never ends.
async fn beat(heartbeat: Option<Duration>, observer: &Observer) -> Result<(), FollowError> {
    let Some(every) = heartbeat else { return std::future::pending().await };
    loop {
        observer(&FollowEvent::Alive);
        tokio::time::sleep(every).await;
    }
}

/// Opens the database on one of SQLite's threads.
async fn open(database: &Path, threads: Arc<Threads>) -> Result<StandbyWriter, FollowError> {
    let path = database.to_owned();
    let opened = threads.run(move || Standby::open(&path)).await;
    let standby = opened.map_err(|_| FollowError::internal("SQLite's thread has ended without a result"))??;
    Ok(StandbyWriter::new(threads, standby))
}

/// A doubt about the replica that a second listing must confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    Behind,
    Hole(Txid),
    Blocked(Txid),
}

struct Follower {
    worker: Rc<Worker>,
    request: FollowRequest,
    observer: Observer,
    writer: StandbyWriter,
    /// The time from which the schedule counts.
    began: Instant,
    schedule: Schedule,
    means: Means,
    /// The TXID in the sidecar, and when it was written.
    durable: Txid,
    sidecar_at: Duration,
    continuity: Continuity,
    /// Whether `continuity` begins with the file that the standby ended with at the start.
    knows_position: bool,
    /// Root and layout of the replica's keys, by the last listing of all levels.
    place: Option<(String, Layout)>,
    /// Size and ETag of files that are not planned because they are damaged, and since when.
    damaged: BTreeMap<String, (u64, Option<Etag>, Duration)>,
    /// When the last change was applied.
    changed: Duration,
    /// What the last listing of all levels gives rise to, until the next one confirms it.
    suspicion: Option<Doubt>,
    /// What was warned of last.
    warned: Option<Doubt>,
    disk_was_full: bool,
    /// The number of polls in a row that ended with an object that was listed and is not there, or is another one.
    stale: u32,
    is_sidecar_failing: bool,
    is_failing: bool,
    is_caught_up: bool,
    log_is_long: bool,
    /// `txid` in it is the TXID that the database holds.
    summary: FollowSummary,
}

impl Follower {
    fn tell(&self, event: FollowEvent<'_>) {
        (self.observer)(&event);
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Polls and waits. Ends by itself as [`Until`] says: otherwise the caller stops it.
    async fn go_on(&mut self) -> Result<(), FollowError> {
        loop {
            let poll = self.schedule.poll(self.now());
            self.refuse_primary()?;
            let polled = self.poll(poll).await?;
            if polled != Polled::Failed && std::mem::take(&mut self.is_failing) {
                self.tell(FollowEvent::Recovered);
            }
            if polled == Polled::Done && !std::mem::replace(&mut self.is_caught_up, true) {
                self.tell(FollowEvent::CaughtUp { txid: self.summary.txid });
            }
            match self.request.until {
                Until::UpToDate if self.is_caught_up => return Ok(()),
                Until::Quiet(most) if self.is_caught_up && self.now().saturating_sub(self.changed) >= most => {
                    return Ok(());
                }
                _ => {}
            }
            if self.now().saturating_sub(self.sidecar_at) >= SIDECAR_EVERY {
                self.write_sidecar();
            }
            self.summary.polls += 1;
            self.tell(FollowEvent::Polled { txid: self.summary.txid });
            let pause = self.schedule.ended(poll, polled, self.now(), fastrand::f64());
            tokio::time::sleep(pause).await;
        }
    }

    /// Fails if Litestream's state appeared beside the database: it is replicated from here.
    fn refuse_primary(&self) -> Result<(), FollowError> {
        match self.request.primary_state.as_ref().filter(|path| path.exists()) {
            Some(path) => Err(FollowError::Primary { path: path.clone() }),
            None => Ok(()),
        }
    }

    async fn poll(&mut self, poll: PollKind) -> Result<Polled, FollowError> {
        let polled = match (poll, self.place.clone()) {
            (PollKind::NextKey, Some((root, layout))) => self.poll_next_keys(&root, layout).await,
            (PollKind::Level0, Some((root, layout))) => self.poll_level_0(&root, layout).await,
            (PollKind::All, _) | (_, None) => self.poll_all().await,
        };
        match polled {
            Ok(polled) => {
                self.stale = 0;
                Ok(polled)
            }
            Err(PollFailure::Store(error)) if error.is_stale_listing() && self.stale < MOST_STALE => {
                self.stale += 1;
                Ok(Polled::Again(PollKind::All))
            }
            Err(PollFailure::Store(error)) if self.request.until == Until::UpToDate => {
                Err(FollowError::Restore(error.into()))
            }
            Err(PollFailure::Store(error)) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    self.tell(FollowEvent::Failing { error: &error });
                }
                self.summary.failed_polls += 1;
                Ok(Polled::Failed)
            }
            Err(PollFailure::Fatal(FollowError::Standby(error @ StandbyError::DiskFull { .. }))) => {
                if std::mem::replace(&mut self.disk_was_full, true) {
                    return Err(FollowError::DiskFull { error });
                }
                self.tell(FollowEvent::DiskFull { error: &error });
                Ok(Polled::Failed)
            }
            Err(PollFailure::Fatal(error)) => Err(error),
        }
    }

    /// Lists all levels, and applies what leads to the newest TXID.
    async fn poll_all(&mut self) -> Result<Polled, PollFailure> {
        let shared = &self.worker.shared;
        let (store, path) = (&self.request.store, &self.request.replica);
        self.means.pace(&self.request.store).await;
        let listed = list_replica(&self.worker.http, store, path, &shared.catalogue).await?;
        let replica = listed.replica;
        if replica.files.is_empty() && replica.v3.is_some() {
            return Err(FollowError::Restore(RestoreError::OnlyV3).into());
        }
        self.check_listing(&replica)?;
        self.learn_position(&replica).await?;
        self.place = replica.files.first().map(|file| (replica.root.clone(), file.layout));
        match self.continue_from(&replica) {
            Continuation::UpToDate => {
                self.suspicion = None;
                Ok(Polled::Done)
            }
            Continuation::Behind { newest } => {
                if self.is_confirmed(Doubt::Behind) {
                    return Err(FollowError::Behind { at: self.summary.txid, newest }.into());
                }
                Ok(Polled::Again(PollKind::All))
            }
            Continuation::Hole { next, newest } => {
                let (at, doubt) = (self.summary.txid, Doubt::Hole(self.summary.txid));
                if !self.is_confirmed(doubt) {
                    return Ok(Polled::Again(PollKind::All));
                }
                if self.warned.replace(doubt) != Some(doubt) {
                    self.summary.holes += 1;
                    self.tell(FollowEvent::Hole { at, next, newest });
                }
                Ok(Polled::Done)
            }
            Continuation::Blocked { txid, keys } => {
                let doubt = Doubt::Blocked(self.summary.txid);
                if self.warned.replace(doubt) != Some(doubt) {
                    self.tell(FollowEvent::Blocked { at: self.summary.txid, txid, keys: &keys });
                }
                Ok(Polled::Done)
            }
            Continuation::Chain(next) => {
                self.suspicion = None;
                let is_last = next.newest == next.txid;
                match self.apply_chain(&replica, &next).await? {
                    // What lies behind a hole is looked at once more.
                    Polled::Done if !is_last => Ok(Polled::Again(PollKind::All)),
                    polled => Ok(polled),
                }
            }
        }
    }

    /// Lists level 0 from the oldest file that is remembered on, and applies what continues.
    async fn poll_level_0(&mut self, root: &str, layout: Layout) -> Result<Polled, PollFailure> {
        let replica = self.list_level_0(root, layout).await?;
        self.check_listing(&replica)?;
        match self.continue_from(&replica) {
            // Level 0 is empty where the primary was idle for 5 min.
            Continuation::UpToDate | Continuation::Behind { .. } => Ok(Polled::Done),
            Continuation::Hole { .. } | Continuation::Blocked { .. } => Ok(Polled::Again(PollKind::All)),
            Continuation::Chain(next) => {
                let is_last = next.newest == next.txid;
                match self.apply_chain(&replica, &next).await? {
                    Polled::Done if !is_last => Ok(Polled::Again(PollKind::All)),
                    polled => Ok(polled),
                }
            }
        }
    }

    /// Once, at the start: reads the header of the file of level 0 that the standby ends with, if it is still there. The
    /// next file must continue it, as if there had been no restart.
    async fn learn_position(&mut self, replica: &Replica) -> Result<(), StoreError> {
        let at = self.summary.txid;
        let is_it = |file: &&LtxFile| (file.level, file.min_txid, file.max_txid) == (Level::TRANSACTIONS, at, at);
        if !self.knows_position
            && let Some(file) = replica.files.iter().find(is_it)
        {
            let key = replica.key(file);
            let (etag, size, level) = (file.etag.clone(), file.size, file.level);
            let (bytes, _) = read_header(&self.worker.http, &self.request.store, &key, size, etag.as_ref()).await?;
            // A damaged one says nothing.
            if let Ok(header) = Header::parse(&bytes)
                && let Ok(known) = self.continuity.after(&[ReadFile { key, level, etag, size, header }])
            {
                self.continuity = known;
            }
        }
        self.knows_position = true;
        Ok(())
    }

    async fn list_level_0(&self, root: &str, layout: Layout) -> Result<Replica, StoreError> {
        let at = self.summary.txid;
        let first = self.continuity.oldest().map_or(at, |oldest| oldest.min(at));
        let before = Txid(first.0.saturating_sub(1));
        let prefix = layout.prefix(root, Level::TRANSACTIONS);
        let start_after = layout.key(root, Level::TRANSACTIONS, before, before);
        self.means.pace(&self.request.store).await;
        let mut collector = ReplicaCollector::new(&self.request.replica, layout);
        let mut charge = self.worker.shared.catalogue.charge();
        let mut each = |page: ListPage| {
            if let Some(unlisted) = page.unlisted.first() {
                return Err(unlisted.error());
            }
            page.objects.iter().filter(|object| object.key.starts_with(&prefix)).for_each(|o| collector.insert(o));
            charge.set(collector.bytes(), &prefix)
        };
        self.request.store.list_after(&self.worker.http, &prefix, &start_after, &mut each).await?;
        Ok(collector.finish().0)
    }

    /// Asks for the next keys of level 0, until one is not there, and applies those that are.
    async fn poll_next_keys(&mut self, root: &str, layout: Layout) -> Result<Polled, PollFailure> {
        let (mut files, mut bytes, mut is_end) = (Vec::new(), 0u64, false);
        while files.len() < MOST_NEXT_KEYS && bytes < MOST_NEXT_BYTES {
            let txid = Txid(self.summary.txid.0.saturating_add(files.len() as u64 + 1));
            let key = layout.key(root, Level::TRANSACTIONS, txid, txid);
            // A damaged file is looked at again by listings, which show whether it was replaced.
            let is_damaged = self.damaged.contains_key(&key);
            let found = match is_damaged {
                true => None,
                false => match fetch_if_there(&self.worker, &self.request.store, &key).await {
                    Err(error) if error.is_unreadable() => return Ok(Polled::Again(PollKind::Level0)),
                    // S3 also says this of a key that is not there, if listings are allowed below a prefix only.
                    Err(error) if error.kind == StoreErrorKind::AccessDenied => {
                        return Ok(Polled::Again(PollKind::Level0));
                    }
                    found => found?,
                },
            };
            let Some(found) = found else {
                is_end = true;
                break;
            };
            bytes = bytes.saturating_add(found.size);
            let (level, size, etag) = (Level::TRANSACTIONS, found.size, found.etag);
            files.push(ChangeFile { key, size, etag, level, min_txid: txid, max_txid: txid, body: found.body });
        }
        if files.is_empty() {
            return Ok(Polled::Done);
        }
        match self.apply_files(files).await? {
            Polled::Done if !is_end => Ok(Polled::Again(PollKind::Level0)),
            polled => Ok(polled),
        }
    }

    /// Whether the listing before this one has given rise to the same doubt.
    fn is_confirmed(&mut self, doubt: Doubt) -> bool {
        self.suspicion.replace(doubt) == Some(doubt)
    }

    fn check_listing(&self, replica: &Replica) -> Result<(), FollowError> {
        let at = self.summary.txid;
        self.continuity.check_listing(replica).map_err(|error| FollowError::OtherWriter { at, error })
    }

    fn continue_from(&mut self, replica: &Replica) -> Continuation {
        let now = self.now();
        self.damaged.retain(|_, (_, _, since)| now.saturating_sub(*since) < DAMAGED_FOR);
        let mut excluded = Excluded::new();
        for (i, file) in replica.files.iter().enumerate().filter(|_| !self.damaged.is_empty()) {
            let known = self.damaged.get(&replica.key(file));
            if known.is_some_and(|(size, etag, _)| *size == file.size && *etag == file.etag) {
                excluded.insert(i, Class::Malformed);
            }
        }
        continue_from(replica, self.summary.txid, &excluded)
    }

    async fn apply_chain(&mut self, replica: &Replica, next: &NextFiles) -> Result<Polled, PollFailure> {
        let of = |file: &LtxFile| ChangeFile {
            key: replica.key(file),
            size: file.size,
            etag: file.etag.clone(),
            level: file.level,
            min_txid: file.min_txid,
            max_txid: file.max_txid,
            body: None,
        };
        let files = next.files.iter().filter_map(|&i| replica.files.get(i)).map(of).collect();
        self.apply_files(files).await
    }

    /// Applies `files`, oldest first. A file whose content is wrong is asked for once more on another connection: a bit may
    /// have been flipped on the way. Wrong again, it is not planned for a while.
    async fn apply_files(&mut self, mut files: Vec<ChangeFile>) -> Result<Polled, PollFailure> {
        let mut is_second = self.request.store.is_on_disk();
        // Two turns at most: the second one returns.
        loop {
            let at = (self.summary.txid, &self.continuity);
            let applied = apply(&self.worker, &self.request.store, &self.writer, at, &files, is_second).await;
            let failure = match applied {
                Ok(applied) => return self.note_applied(&files, applied),
                Err(failure) => failure,
            };
            self.writer.abandon().await?;
            match failure {
                ApplyFailure::Damaged { .. } if !is_second => {
                    is_second = true;
                    files.iter_mut().for_each(|file| file.body = None);
                }
                ApplyFailure::Damaged { file, error } => return Ok(self.exclude(&files, file, &error)),
                ApplyFailure::Store { file, error } if error.is_unreadable() => {
                    return Ok(self.exclude(&files, file, &error));
                }
                ApplyFailure::Store { error, .. } => return Err(error.into()),
                ApplyFailure::Fatal(error) => return Err(error.into()),
            }
        }
    }

    /// Leaves file `i` out of plans for a while.
    fn exclude(&mut self, files: &[ChangeFile], i: usize, error: &dyn std::fmt::Display) -> Polled {
        if let Some(file) = files.get(i) {
            self.tell(FollowEvent::Damaged { key: &file.key, error });
            self.damaged.insert(file.key.clone(), (file.size, file.etag.clone(), self.now()));
        }
        Polled::Again(PollKind::All)
    }

    fn note_applied(&mut self, files: &[ChangeFile], applied: Applied) -> Result<Polled, PollFailure> {
        let Applied { continuity, newest, pages, settled } = applied;
        let from = std::mem::replace(&mut self.summary.txid, newest.max_txid);
        (self.continuity, self.suspicion, self.warned) = (continuity, None, None);
        self.changed = self.now();
        self.summary.applied += 1;
        self.summary.files += files.len() as u64;
        self.summary.pages += pages;
        self.summary.newest = Some(newest.timestamp());
        self.tell(FollowEvent::Applied {
            from,
            to: newest.max_txid,
            files: files.len(),
            bytes: files.iter().map(|file| file.size).sum(),
            pages,
            lag: newest.timestamp().seconds_until(Timestamp::now()),
        });
        let log = settled?;
        self.disk_was_full = false;
        let is_long = !log.is_copied && log.bytes >= LONG_LOG_BYTES;
        if is_long && !self.log_is_long {
            self.tell(FollowEvent::LongLog { bytes: log.bytes });
        }
        self.log_is_long = is_long;
        Ok(Polled::Done)
    }

    /// Writes the TXID that the database holds into the sidecar. A sidecar that cannot be written stays behind, which is
    /// harmless: the next follower applies some changes twice.
    fn write_sidecar(&mut self) {
        if self.durable == self.summary.txid {
            return;
        }
        self.sidecar_at = self.now();
        match sidecar::write(&self.request.database, self.summary.txid) {
            Ok(()) => (self.durable, self.is_sidecar_failing) = (self.summary.txid, false),
            Err(error) if !std::mem::replace(&mut self.is_sidecar_failing, true) => {
                self.tell(FollowEvent::SidecarFailed { error: &error });
            }
            Err(_) => {}
        }
    }
}

/// Why a poll has failed.
enum PollFailure {
    /// A request has failed: it is tried again.
    Store(StoreError),
    /// The standby cannot go on, or the disk is full.
    Fatal(FollowError),
}

impl From<StoreError> for PollFailure {
    fn from(error: StoreError) -> Self {
        match error.kind {
            // Nothing was asked of the store: more memory is needed.
            StoreErrorKind::TooLarge => Self::Fatal(FollowError::Restore(error.into())),
            _ => Self::Store(error),
        }
    }
}

impl From<FollowError> for PollFailure {
    fn from(error: FollowError) -> Self {
        Self::Fatal(error)
    }
}
