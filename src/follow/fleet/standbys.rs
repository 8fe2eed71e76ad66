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
    group: usize,
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
    /// A LIST of the prefix is refused: each database is listed by itself.
    is_denied: bool,
    is_unsorted: bool,
    /// The beginning of the last whole scan, and how long it took.
    whole: Option<(Instant, Duration)>,
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

/// The scans of one group.
pub(super) struct ScanOrder {
    pub group: usize,
    pub is_whole: bool,
    pub is_unsorted: bool,
    /// The number of standbys that it looks for: the first ones.
    pub known: usize,
    pub scans: Vec<StoreScan>,
}

#[derive(Debug, Default)]
pub(super) struct Standbys {
    all: Vec<FleetStandby>,
    groups: Vec<Group>,
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
                is_denied: false,
                is_unsorted: false,
                whole: None,
                ignored: HashSet::new(),
            });
            self.groups.len() - 1
        });
        self.all.push(FleetStandby {
            at: database.at,
            place: StandbyPlace::Idle,
            behind: None,
            warned_at: Arc::default(),
            opened_for: Txid(0),
            last: None,
            failures: 0,
            was_caught_up: false,
            group,
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

    /// The scans of all groups, of which each is whole if the last whole one began `whole_every` ago.
    pub(super) fn scans(&self, whole_every: Duration, now: Instant) -> Vec<ScanOrder> {
        // A scan that takes minutes must not follow itself at once.
        let is_due = |(begun, took): (Instant, Duration)| {
            now.saturating_duration_since(begun) >= whole_every.max(took * MOST_WHOLE_SHARE)
        };
        let whole: Vec<bool> = self.groups.iter().map(|group| group.whole.is_none_or(is_due)).collect();
        let mut sought: Vec<Vec<Sought>> = self.groups.iter().map(|_| Vec::new()).collect();
        for (id, standby) in self.all.iter().enumerate() {
            let (Some(sought), Some(&is_whole)) = (sought.get_mut(standby.group), whole.get(standby.group)) else {
                continue;
            };
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
        let mut orders = Vec::new();
        for (number, ((group, sought), is_whole)) in self.groups.iter().zip(sought).zip(whole).enumerate() {
            let scan = |prefix: &str, sought| StoreScan::new(group.store.clone(), prefix.to_owned(), sought, is_whole);
            let scans = match group.is_denied {
                true => sought.into_iter().map(|one| scan(&one.root.clone(), vec![one])).collect(),
                false if sought.is_empty() => Vec::new(),
                false => vec![scan(&group.prefix, sought)],
            };
            let known = self.all.len();
            orders.push(ScanOrder { group: number, is_whole, is_unsorted: group.is_unsorted, known, scans });
        }
        orders.retain(|order| !order.scans.is_empty());
        orders
    }

    /// The service refuses to list the prefix of `group`. Returns whether its databases are listed one by one from now on.
    pub(super) fn denied(&mut self, group: usize) -> bool {
        self.groups.get_mut(group).is_some_and(|group| !std::mem::replace(&mut group.is_denied, true))
    }

    /// Notes what a scan has seen, which took `took`. Standbys whose replicas have something else than they wait to be
    /// opened. A scan that is not whole shows nothing of databases that have not changed.
    pub(super) fn scanned(&mut self, order: &ScanOrder, seen: SeenKeys, took: Duration, now: Instant) -> ScanNews {
        let mut news = ScanNews::default();
        // A scan that has met another order than expected has not seen all.
        let is_whole = order.is_whole && (order.is_unsorted || !seen.is_unsorted);
        let group = order.group;
        let sought = self.all.iter_mut().enumerate().take(order.known).filter(|(_, standby)| standby.group == group);
        for (id, standby) in sought {
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
            if let Some(last) = found.last.as_ref().filter(|last| is_idle && last.txid == standby.at) {
                match &standby.last {
                    Some(known) if known.txid == last.txid && known != last => {
                        news.replaced.push(id);
                        continue;
                    }
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
            known.is_unsorted |= seen.is_unsorted;
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
        self.waiting.pop_front()
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
mod tests {
    use super::super::scan::SeenDatabase;
    use super::*;
    use crate::store::file::FileStore;
    use std::time::Duration;

    fn standbys(count: usize) -> Standbys {
        let mut standbys = Standbys::default();
        (0..count).for_each(|n| standbys.add(database(n), Some("b/")));
        standbys
    }

    fn database(n: usize) -> FollowedDatabase {
        FollowedDatabase {
            name: format!("{n}").into(),
            store: Store::File(FileStore::default()),
            replica: format!("b/{n}").into(),
            database: Arc::new(PathBuf::from(format!("/{n}"))),
            at: Txid(5),
        }
    }

    fn seen(newest: &[(usize, u64)]) -> SeenKeys {
        let seen = |txid| SeenDatabase { newest: Txid(txid), layout: Layout::Hex, last: None };
        let databases = newest.iter().map(|&(id, txid)| (id, seen(txid))).collect();
        SeenKeys { databases, ..SeenKeys::default() }
    }

    fn scanned(standbys: &mut Standbys, seen: SeenKeys, (is_whole, known): (bool, usize), now: Instant) -> ScanNews {
        let order = ScanOrder { group: 0, is_whole, is_unsorted: false, known, scans: Vec::new() };
        standbys.scanned(&order, seen, Duration::ZERO, now)
    }

    fn open(standbys: &mut Standbys, changed: Instant) -> CancellationToken {
        let cancel = CancellationToken::new();
        let id = standbys.next_waiting().unwrap();
        let place = OpenStandby { cancel: cancel.clone(), changed, is_caught_up: true, is_stuck: false };
        standbys.get_mut(id).unwrap().place = StandbyPlace::Open(place);
        cancel
    }

    #[test]
    fn what_has_changed_waits_once() {
        let (mut standbys, now) = (standbys(3), Instant::now());
        let news = scanned(&mut standbys, seen(&[(0, 6), (1, 5)]), (false, 3), now);
        assert_eq!(news, ScanNews::default());
        assert_eq!((standbys.next_waiting(), standbys.next_waiting()), (Some(0), None));
        // It was opened in vain: a hole. Only something newer, or a whole scan, leads to another try.
        standbys.get_mut(0).unwrap().place = StandbyPlace::Idle;
        scanned(&mut standbys, seen(&[(0, 6)]), (false, 3), now);
        assert_eq!(standbys.next_waiting(), None);
        scanned(&mut standbys, seen(&[(0, 7)]), (false, 3), now);
        assert_eq!(standbys.next_waiting(), Some(0));
        standbys.get_mut(0).unwrap().place = StandbyPlace::Idle;
        scanned(&mut standbys, seen(&[(0, 7), (1, 4), (2, 5)]), (true, 3), now);
        assert_eq!(
            [standbys.next_waiting(), standbys.next_waiting(), standbys.next_waiting()],
            [Some(0), Some(1), None]
        );
    }

    #[test]
    fn only_a_whole_scan_that_looked_for_a_database_shows_that_it_is_gone() {
        let (mut standbys, now) = (standbys(2), Instant::now());
        assert_eq!(scanned(&mut standbys, seen(&[(0, 5)]), (false, 2), now).vanished, Vec::<usize>::new());
        standbys.add(database(2), None);
        assert_eq!(scanned(&mut standbys, seen(&[(0, 5)]), (true, 2), now).vanished, [1]);
        assert_eq!(scanned(&mut standbys, seen(&[(0, 5), (2, 5)]), (true, 3), now).vanished, Vec::<usize>::new());
        assert_eq!(standbys.status(now).vanished, 1);
        assert_eq!(scanned(&mut standbys, seen(&[(1, 6)]), (false, 3), now).returned, [1]);
    }

    #[test]
    fn a_discovery_is_asked_for_once() {
        let (mut standbys, now) = (standbys(1), Instant::now());
        let unknown =
            |roots: &[&str]| SeenKeys { unknown: roots.iter().map(|root| hash_of(root)).collect(), ..seen(&[(0, 5)]) };
        assert!(scanned(&mut standbys, unknown(&["b/1/", "b/x/"]), (false, 1), now).has_unknown);
        standbys.add(database(1), None);
        // A scan that had begun before.
        assert!(!scanned(&mut standbys, unknown(&["b/1/"]), (false, 1), now).has_unknown);
        assert!(scanned(&mut standbys, unknown(&["b/x/"]), (false, 2), now).has_unknown);
        standbys.discovering();
        standbys.discovered();
        assert!(!scanned(&mut standbys, unknown(&["b/x/"]), (false, 2), now).has_unknown);
        assert!(scanned(&mut standbys, unknown(&["b/x/", "b/y/"]), (false, 2), now).has_unknown);
    }

    #[test]
    fn the_quietest_are_closed_for_those_that_wait() {
        let (mut standbys, now) = (standbys(5), Instant::now());
        scanned(&mut standbys, seen(&[(0, 6), (1, 6), (2, 6), (3, 6), (4, 6)]), (false, 5), now);
        let later = |seconds| now + Duration::from_secs(seconds);
        let open = [open(&mut standbys, later(9)), open(&mut standbys, later(1)), open(&mut standbys, later(5))];
        let closing = || open.each_ref().map(CancellationToken::is_cancelled);
        standbys.close_for_waiting();
        assert_eq!(closing(), [false, true, true], "two wait");
        standbys.close_for_waiting();
        assert_eq!(closing(), [false, true, true], "as long as these are closing");
    }

    #[test]
    fn the_status_says_how_far_behind_the_median_and_the_worst_are() {
        let (mut standbys, now) = (standbys(4), Instant::now());
        assert_eq!(standbys.status(now).worst_behind, None);
        scanned(&mut standbys, seen(&[(0, 6), (1, 6), (2, 6)]), (false, 4), now);
        standbys.get_mut(3).unwrap().place = StandbyPlace::Stopped;
        standbys.get_mut(1).unwrap().behind = None;
        let status = standbys.status(now + Duration::from_secs(7));
        assert_eq!((status.up_to_date, status.stopped, status.waiting), (1, 1, 3));
        assert_eq!((status.median_behind_seconds, status.worst_behind), (7, Some((7, "2".into()))));
    }

    #[test]
    fn a_last_file_with_other_content_is_another_writer() {
        let (mut standbys, now) = (standbys(2), Instant::now());
        let with = |size| {
            let mut seen = seen(&[(0, 5), (1, 6)]);
            for database in seen.databases.values_mut() {
                database.last = Some(LastFile { txid: Txid(5), size, etag: None });
            }
            seen
        };
        assert_eq!(scanned(&mut standbys, with(9), (true, 2), now), ScanNews::default());
        assert_eq!(standbys.next_waiting(), Some(1));
        // The second one is not idle: its follower looks itself.
        assert_eq!(scanned(&mut standbys, with(8), (false, 2), now).replaced, [0]);
        assert_eq!(standbys.next_waiting(), None);
    }

    #[test]
    fn what_may_pass_is_tried_again_after_longer_and_longer_pauses() {
        let (mut standbys, now) = (standbys(1), Instant::now());
        let mut pauses = Vec::new();
        for n in 0..8 {
            assert_eq!(standbys.pause(0, now), n == 0);
            let StandbyPlace::Paused(until) = standbys.get(0).unwrap().place else { panic!() };
            standbys.end_pauses(until - Duration::from_millis(1));
            assert_eq!(standbys.next_waiting(), None);
            standbys.end_pauses(until);
            assert_eq!(standbys.next_waiting(), Some(0));
            pauses.push((until - now).as_secs());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn databases_of_one_directory_are_scanned_together() {
        let mut standbys = Standbys::default();
        let mut add = |replica: &str, prefix| {
            let database = FollowedDatabase { replica: replica.into(), ..database(0) };
            standbys.add(database, prefix);
        };
        ["/a/1", "/a/2", "/b/c/3"].into_iter().for_each(|replica| add(replica, None));
        let prefixes =
            |standbys: &Standbys| -> Vec<String> { standbys.groups.iter().map(|group| group.prefix.clone()).collect() };
        // Replicas on a disk, beside which anything may lie.
        assert_eq!(prefixes(&standbys), ["/a/1/", "/a/2/", "/b/c/3/"]);
        assert_eq!([parent_of("a/b/"), parent_of("a/"), parent_of("")], ["a/", "", ""]);
        let mut standbys = super::Standbys::default();
        (0..2).for_each(|n| standbys.add(database(n), Some("b/")));
        assert_eq!(prefixes(&standbys), ["b/"]);
        assert_eq!(standbys.scans(Duration::ZERO, Instant::now()).len(), 1);
        assert!(standbys.denied(0) && !standbys.denied(0));
        assert_eq!(standbys.scans(Duration::ZERO, Instant::now())[0].scans.len(), 2);
    }
}
