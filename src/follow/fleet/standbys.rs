//! The databases of a followed fleet, and where each is. Pure: time is passed in.

use super::scan::{LastFile, SeenKeys, Sought, StoreScan, hash_of};
use super::status::FleetStatus;
use crate::cancel::{CancellationToken, Reason};
use crate::catalogue::{Layout, Replica};
use crate::ltx::{Level, Txid};
use crate::store::Store;
use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A whole scan takes at most a tenth of the time.
const MOST_WHOLE_SHARE: u32 = 10;
/// The first pause of a database that could not go on.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// After scans that failed, the next one begins after 60 s at most.
const LONGEST_SCAN_PAUSE: Duration = Duration::from_secs(60);

/// A database to follow, which exists and has a sidecar.
#[derive(Debug, Clone)]
pub struct FollowedDatabase {
    /// How messages name it.
    pub name: Arc<str>,
    /// The store that holds its replica.
    pub store: Store,
    /// Path of the replica in the store.
    pub replica: Arc<str>,
    /// The absolute path of the database.
    pub database: Arc<PathBuf>,
    /// The TXID in its sidecar.
    pub at: Txid,
}

/// Where a database is.
#[derive(Debug)]
pub(super) enum StandbyPlace {
    /// It is closed, and nothing is known that it does not have.
    Idle,
    /// It has changed, and is to be opened.
    Waiting,
    /// A follower has it open.
    Open(OpenStandby),
    /// It could not go on for a reason that may pass. It is tried again at this time.
    Paused(Instant),
    /// It cannot go on.
    Stopped,
}

#[derive(Debug)]
pub(super) struct OpenStandby {
    pub cancel: CancellationToken,
    /// When it was opened, or last changed.
    pub changed: Instant,
    pub is_caught_up: bool,
    /// Nothing continues from where the database is.
    pub is_stuck: bool,
}

#[derive(Debug)]
pub(super) struct FleetStandby {
    pub database: FollowedDatabase,
    /// The TXID that it holds.
    pub at: Txid,
    pub place: StandbyPlace,
    /// Since when the replica is known to have something that the standby does not have.
    pub behind: Option<Instant>,
    /// The TXID at which a warning was given, so that it is given once. Shared with its follower.
    pub warned_at: Arc<AtomicU64>,
    /// The newest TXID that led to its being opened.
    opened_for: Txid,
    /// The file that it ends with, as a scan has shown it.
    last: Option<LastFile>,
    /// How often in a row it could not go on.
    pub failures: u32,
    /// Whether it had all once that the replica had.
    pub was_caught_up: bool,
    layout: Layout,
    is_vanished: bool,
}

impl FleetStandby {
    /// Whether it holds all that scans have shown.
    pub(super) fn has_what_was_seen(&self) -> bool {
        self.at >= self.opened_for
    }
}

/// The databases of one store below one directory, which are scanned together.
#[derive(Debug)]
struct Group {
    store: Store,
    /// What the keys of all begin with.
    prefix: String,
    /// The standbys.
    members: Vec<usize>,
    /// When a LIST of the prefix was refused last. Each database is then listed by itself for a while.
    denied: Option<Instant>,
    /// When the store listed in another order than ascending last. Then all is listed for a while.
    unsorted: Option<Instant>,
    /// The beginning of the last whole scan, and how long it took.
    whole: Option<(Instant, Duration)>,
    /// The beginning of the last scan, and how long after it the next one begins.
    scanned: Option<(Instant, Duration)>,
    /// The number of scans in a row with a failure.
    failures: u32,
    /// The number of LISTs of the last scan.
    lists: u64,
    /// Databases that a discovery had its turn with, and that are not followed: the hashes of their roots.
    ignored: HashSet<u64>,
}

/// What a scan has changed, to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ScanNews {
    /// The file that they end with has other content: another program writes to these replicas.
    pub replaced: Vec<usize>,
    pub vanished: Vec<usize>,
    pub returned: Vec<usize>,
    /// There are databases that nobody knows.
    pub has_unknown: bool,
}

/// The scan of one group: of its directory, or of each of its databases.
pub(super) struct ScanOrder {
    pub group: usize,
    pub is_whole: bool,
    pub is_unsorted: bool,
    pub by_root: bool,
    /// How long to wait before it.
    pub pause: Duration,
    /// The number of the group's standbys that it looks for: the first ones.
    pub known: usize,
    pub scans: Vec<StoreScan>,
}

#[derive(Debug, Default)]
pub(super) struct Standbys {
    all: Vec<FleetStandby>,
    groups: Vec<Group>,
    /// The groups without a scan that runs or waits for its time.
    not_scanning: Vec<usize>,
    waiting: VecDeque<usize>,
    /// Databases that nobody knows, of the last scan of each store.
    unknown: HashSet<(usize, u64)>,
    /// Those of them that the discovery that runs is about.
    asked: HashSet<(usize, u64)>,
}

impl Standbys {
    /// Adds a database, which is not among them. `prefix`: what all keys of its fleet begin with, if it is known. Otherwise
    /// those that lie in one directory are scanned together; replicas on a disk each by itself, as anything may lie beside
    /// them.
    pub(super) fn add(&mut self, database: FollowedDatabase, prefix: Option<&str>) {
        let root = Replica::roots(&database.replica).into_iter().next().unwrap_or_default();
        let prefix = match prefix {
            Some(prefix) => prefix,
            None if database.store.is_on_disk() => &root,
            None => parent_of(&root),
        };
        let is_same = |group: &Group| match (group.store.bucket(), database.store.bucket()) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let group = self.groups.iter().position(|group| group.prefix == prefix && is_same(group));
        let group = group.unwrap_or_else(|| {
            self.groups.push(Group {
                store: database.store.clone(),
                prefix: prefix.to_owned(),
                members: Vec::new(),
                denied: None,
                unsorted: None,
                whole: None,
                scanned: None,
                failures: 0,
                lists: 0,
                ignored: HashSet::new(),
            });
            self.not_scanning.push(self.groups.len() - 1);
            self.groups.len() - 1
        });
        if let Some(group) = self.groups.get_mut(group) {
            group.members.push(self.all.len());
        }
        self.all.push(FleetStandby {
            at: database.at,
            place: StandbyPlace::Idle,
            behind: None,
            warned_at: Arc::default(),
            opened_for: Txid(0),
            last: None,
            failures: 0,
            was_caught_up: false,
            layout: Layout::native_to(&database.store),
            is_vanished: false,
            database,
        });
    }

    pub(super) fn get(&self, id: usize) -> Option<&FleetStandby> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: usize) -> Option<&mut FleetStandby> {
        self.all.get_mut(id)
    }

    /// The next scans of the groups that have none. One is whole if the last whole one will have begun `whole_every` ago.
    pub(super) fn begin_scans(&mut self, whole_every: Duration, now: Instant) -> Vec<ScanOrder> {
        let groups = std::mem::take(&mut self.not_scanning);
        groups.into_iter().filter_map(|group| self.order(group, whole_every, now)).collect()
    }

    fn order(&self, number: usize, whole_every: Duration, now: Instant) -> Option<ScanOrder> {
        let group = self.groups.get(number)?;
        let since = |then: Instant| now.saturating_duration_since(then);
        let pause = group.scanned.map_or(Duration::ZERO, |(begun, every)| every.saturating_sub(since(begun)));
        // A whole scan that takes minutes must not follow itself at once.
        let is_due = |(begun, took): (Instant, Duration)| {
            since(begun) + pause >= whole_every.max(took.saturating_mul(MOST_WHOLE_SHARE))
        };
        let is_whole = group.whole.is_none_or(is_due);
        let is_recent = |then: Option<Instant>| then.is_some_and(|then| since(then) < whole_every);
        let (by_root, is_unsorted) = (is_recent(group.denied), is_recent(group.unsorted));
        let mut sought = Vec::new();
        for (id, standby) in group.members.iter().filter_map(|&id| Some((id, self.all.get(id)?))) {
            let at = standby.at;
            for root in Replica::roots(&standby.database.replica) {
                let key = |txid| match is_whole {
                    true => root.clone(),
                    false => standby.layout.key(&root, Level::TRANSACTIONS, txid, txid),
                };
                let (from, upto) = (key(Txid(at.0.saturating_sub(1))), key(at));
                sought.push(Sought { id, root, at, from, upto });
            }
        }
        let scan = |prefix: &str, sought| StoreScan::new(group.store.clone(), prefix.to_owned(), sought, is_whole);
        let scans = match by_root {
            true => sought.into_iter().map(|one| scan(&one.root.clone(), vec![one])).collect(),
            false => vec![scan(&group.prefix, sought)],
        };
        let known = group.members.len();
        Some(ScanOrder { group: number, is_whole, is_unsorted, by_root, pause, known, scans })
    }

    /// The service refuses to list the directory of the group: for a while each database is listed by itself.
    pub(super) fn denied(&mut self, group: usize, now: Instant) {
        if let Some(group) = self.groups.get_mut(group) {
            group.denied = Some(now);
        }
    }

    /// Notes the end of a scan that began at `begun` and made `lists` LISTs. The next one begins `every` after it, or later
    /// if this one has failed. Returns the number of scans in a row that had failed before.
    pub(super) fn scan_ended(
        &mut self,
        order: &ScanOrder,
        (begun, every): (Instant, Duration),
        lists: u64,
        has_failed: bool,
    ) -> u32 {
        self.not_scanning.push(order.group);
        let Some(group) = self.groups.get_mut(order.group) else { return 0 };
        let before = std::mem::replace(&mut group.failures, 0);
        let mut every = every;
        if has_failed {
            group.failures = before.saturating_add(1);
            every = every.max(every.saturating_mul(1 << group.failures.min(16)).min(LONGEST_SCAN_PAUSE));
        }
        group.scanned = Some((begun, every));
        group.lists = lists;
        before
    }

    /// The LISTs of the last scans of all groups together, and the longest time between two.
    pub(super) fn cost(&self) -> (u64, Duration) {
        let every = self.groups.iter().filter_map(|group| group.scanned).map(|(_, every)| every).max();
        (self.groups.iter().map(|group| group.lists).sum(), every.unwrap_or_default())
    }

    /// Notes what a scan has seen, which took `took`. Standbys whose replicas have something else than they wait to be
    /// opened. A scan that is not whole shows nothing of databases that have not changed.
    pub(super) fn scanned(&mut self, order: &ScanOrder, seen: SeenKeys, took: Duration, now: Instant) -> ScanNews {
        let mut news = ScanNews::default();
        // A scan that has met another order than expected has not seen all.
        let is_whole = order.is_whole && (order.is_unsorted || !seen.is_unsorted);
        let group = order.group;
        let members = self.groups.get(group).map(|group| group.members.iter().take(order.known).copied().collect());
        let members: Vec<usize> = members.unwrap_or_default();
        for id in members {
            let Some(standby) = self.all.get_mut(id) else { continue };
            let Some(found) = seen.databases.get(&id) else {
                let is_gone = is_whole && !seen.failed.contains(&id);
                if is_gone && !std::mem::replace(&mut standby.is_vanished, true) {
                    news.vanished.push(id);
                }
                continue;
            };
            standby.layout = found.layout;
            if std::mem::replace(&mut standby.is_vanished, false) {
                news.returned.push(id);
            }
            let is_idle = matches!(standby.place, StandbyPlace::Idle);
            // The follower of an open one looks itself.
            let is_closed = !matches!(standby.place, StandbyPlace::Open(_) | StandbyPlace::Stopped);
            if let Some(last) = found.last.as_ref().filter(|last| is_closed && last.txid == standby.at) {
                match &standby.last {
                    Some(known) if known.is_replaced_by(last) => {
                        news.replaced.push(id);
                        continue;
                    }
                    Some(known) if known.txid == last.txid => {}
                    _ => standby.last = Some(last.clone()),
                }
            }
            // A hole may have been filled where nothing newer is there.
            let is_news = match is_whole {
                true => found.newest != standby.at,
                false => found.newest > standby.at.max(standby.opened_for),
            };
            standby.was_caught_up |= is_idle && !is_news;
            if is_news && is_idle {
                standby.opened_for = found.newest;
                standby.behind.get_or_insert(now);
                standby.place = StandbyPlace::Waiting;
                self.waiting.push_back(id);
            }
        }
        self.unknown.retain(|(of, _)| *of != group);
        if let Some(known) = self.groups.get_mut(group) {
            if seen.is_unsorted && !order.is_unsorted {
                known.unsorted = Some(now);
            }
            if is_whole && seen.failed.is_empty() {
                known.whole = Some((now.checked_sub(took).unwrap_or(now), took));
            }
            let unknown = seen.unknown.into_iter().filter(|root| !known.ignored.contains(root));
            self.unknown.extend(unknown.map(|root| (group, root)));
        }
        // They may be followed since the scan began.
        if !self.unknown.is_empty() {
            let followed = self.followed();
            self.unknown.retain(|(_, root)| !followed.contains(root));
        }
        news.has_unknown = !self.unknown.is_empty();
        news
    }

    /// Whether each group was looked at whole.
    pub(super) fn is_looked_at(&self) -> bool {
        self.groups.iter().all(|group| group.whole.is_some())
    }

    /// Whether each group was looked at whole, or its listing has failed, which was said.
    pub(super) fn is_tried(&self) -> bool {
        self.groups.iter().all(|group| group.whole.is_some() || group.failures > 0)
    }

    /// A database could not go on for a reason that may pass: it is tried again after 10 s, then after pauses that double to
    /// 5 min. Returns whether this is the first time in a row.
    pub(super) fn pause(&mut self, id: usize, now: Instant) -> bool {
        let Some(standby) = self.all.get_mut(id) else { return false };
        let pause = FIRST_PAUSE.saturating_mul(1 << standby.failures.min(8)).min(LONGEST_PAUSE);
        standby.failures = standby.failures.saturating_add(1);
        standby.behind.get_or_insert(now);
        standby.place = StandbyPlace::Paused(now + pause);
        standby.failures == 1
    }

    /// Lets those wait to be opened whose pause is over.
    pub(super) fn end_pauses(&mut self, now: Instant) {
        for (id, standby) in self.all.iter_mut().enumerate() {
            if matches!(standby.place, StandbyPlace::Paused(until) if until <= now) {
                standby.place = StandbyPlace::Waiting;
                self.waiting.push_back(id);
            }
        }
    }

    /// A discovery begins.
    pub(super) fn discovering(&mut self) {
        self.asked.clone_from(&self.unknown);
    }

    /// A discovery has looked at all databases. Those that were unknown when it began, and that it did not give to be
    /// followed, are not asked for again.
    pub(super) fn discovered(&mut self) {
        let followed = self.followed();
        for (group, root) in self.asked.drain().filter(|(_, root)| !followed.contains(root)) {
            self.unknown.remove(&(group, root));
            if let Some(group) = self.groups.get_mut(group) {
                group.ignored.insert(root);
            }
        }
    }

    fn followed(&self) -> HashSet<u64> {
        self.all
            .iter()
            .flat_map(|standby| Replica::roots(&standby.database.replica))
            .map(|root| hash_of(&root))
            .collect()
    }

    /// The next database to open.
    pub(super) fn next_waiting(&mut self) -> Option<usize> {
        // Ends: each turn takes one. Some may have been stopped meanwhile.
        loop {
            let id = self.waiting.pop_front()?;
            if self.all.get(id).is_some_and(|standby| matches!(standby.place, StandbyPlace::Waiting)) {
                return Some(id);
            }
        }
    }

    /// Asks followers to end, one for each database that waits: those that have caught up and have not changed for the
    /// longest.
    pub(super) fn close_for_waiting(&self) {
        let is_closing = |open: &OpenStandby| open.cancel.is_cancelled();
        let open = self.all.iter().filter_map(|standby| match &standby.place {
            StandbyPlace::Open(open) if open.is_caught_up || is_closing(open) => Some(open),
            _ => None,
        });
        if self.waiting.is_empty() {
            return;
        }
        let (closing, mut quiet): (Vec<_>, Vec<_>) = open.partition(|open| is_closing(open));
        quiet.sort_unstable_by_key(|open| open.changed);
        let wanted = self.waiting.len().saturating_sub(closing.len());
        quiet.iter().take(wanted).for_each(|open| open.cancel.cancel(Reason::Abandoned));
    }

    /// Asks all followers to end.
    pub(super) fn close_all(&self, reason: Reason) {
        for standby in &self.all {
            if let StandbyPlace::Open(open) = &standby.place {
                open.cancel.cancel(reason);
            }
        }
    }

    /// Whether every database has caught up, or cannot go on.
    pub(super) fn is_caught_up(&self) -> bool {
        self.all.iter().all(|standby| match &standby.place {
            StandbyPlace::Idle | StandbyPlace::Stopped => true,
            // A warning has named it.
            StandbyPlace::Paused(_) => true,
            StandbyPlace::Waiting | StandbyPlace::Open(_) => standby.was_caught_up,
        })
    }

    pub(super) fn status(&self, now: Instant) -> FleetStatus {
        let mut status =
            FleetStatus { databases: self.all.len(), waiting: self.waiting.len(), ..FleetStatus::default() };
        status.is_looked_at = self.is_looked_at();
        let mut behind = Vec::new();
        for standby in &self.all {
            match standby.place {
                StandbyPlace::Stopped => status.stopped += 1,
                StandbyPlace::Open(_) => status.open += 1,
                StandbyPlace::Idle | StandbyPlace::Waiting | StandbyPlace::Paused(_) => {}
            }
            status.vanished += usize::from(standby.is_vanished);
            match standby.behind.filter(|_| !matches!(standby.place, StandbyPlace::Stopped)) {
                Some(since) => behind.push((now.saturating_duration_since(since).as_secs(), &standby.database.name)),
                None => status.up_to_date += usize::from(!matches!(standby.place, StandbyPlace::Stopped)),
            }
        }
        behind.sort_unstable();
        let running = status.up_to_date + behind.len();
        let median = (running / 2).checked_sub(status.up_to_date).and_then(|nth| behind.get(nth));
        status.median_behind_seconds = median.map_or(0, |(seconds, _)| *seconds);
        status.worst_behind = behind.last().map(|(seconds, name)| (*seconds, Arc::clone(name)));
        status
    }

    /// Whether no warning was given at `at` yet. From now on one was.
    pub(super) fn warns_anew(warned_at: &AtomicU64, at: Txid) -> bool {
        warned_at.swap(at.0, Relaxed) != at.0
    }
}

/// The directory that `root` lies in.
fn parent_of(root: &str) -> &str {
    let bare = root.strip_suffix('/').unwrap_or(root);
    bare.get(..bare.rfind('/').map_or(0, |slash| slash + 1)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
