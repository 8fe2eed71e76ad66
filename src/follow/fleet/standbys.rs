//! The databases of a followed fleet, and where each is. Pure: time is passed in.

use super::scan::{SeenKeys, Sought, StoreScan, hash_of};
use crate::cancel::{CancellationToken, Reason};
use crate::catalogue::{Layout, Replica};
use crate::ltx::{Level, Txid};
use crate::store::Store;
use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

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

/// The databases whose replicas are in one store.
#[derive(Debug)]
struct Group {
    store: Store,
    prefix: Option<String>,
    is_unsorted: bool,
    /// Databases that a discovery had its turn with, and that are not followed: the hashes of their roots.
    ignored: HashSet<u64>,
}

/// Numbers of databases by where they are, for people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FleetStatus {
    /// The number of databases.
    pub databases: usize,
    /// Those that are up to date, as far as is known.
    pub up_to_date: usize,
    /// Those that are open.
    pub open: usize,
    /// Those that wait for one of the open ones to be closed.
    pub waiting: usize,
    /// Those that cannot go on.
    pub stopped: usize,
    /// Those whose replicas are gone.
    pub vanished: usize,
    /// For how many seconds it is known that the database has not all that its replica has: the median of all
    /// databases.
    pub median_behind_seconds: u64,
    /// The same of the worst database, with its name.
    pub worst_behind: Option<(u64, Arc<str>)>,
}

impl FleetStatus {
    /// The number of databases that are known to lack something.
    pub const fn behind(&self) -> usize {
        self.databases - self.up_to_date - self.stopped
    }
}

/// What a scan has changed, to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ScanNews {
    pub vanished: Vec<usize>,
    pub returned: Vec<usize>,
    /// There are databases that nobody knows.
    pub has_unknown: bool,
}

#[derive(Debug, Default)]
pub(super) struct Standbys {
    all: Vec<FleetStandby>,
    groups: Vec<Group>,
    waiting: VecDeque<usize>,
    /// Databases that nobody knows, of the last scan of each store.
    unknown: HashSet<(usize, u64)>,
}

impl Standbys {
    /// Adds a database, which is not among them. `prefix`: what all keys of its fleet begin with, if it is known.
    pub(super) fn add(&mut self, database: FollowedDatabase, prefix: Option<&str>) {
        let is_same = |group: &Group| match (group.store.bucket(), database.store.bucket()) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let group = self.groups.iter().position(is_same).unwrap_or_else(|| {
            let (store, prefix) = (database.store.clone(), prefix.map(str::to_owned));
            self.groups.push(Group { store, prefix, is_unsorted: false, ignored: HashSet::new() });
            self.groups.len() - 1
        });
        self.all.push(FleetStandby {
            at: database.at,
            place: StandbyPlace::Idle,
            behind: None,
            warned_at: Arc::default(),
            opened_for: Txid(0),
            group,
            layout: Layout::native_to(&database.store),
            is_vanished: false,
            database,
        });
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, id: usize) -> Option<&FleetStandby> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: usize) -> Option<&mut FleetStandby> {
        self.all.get_mut(id)
    }

    /// The scans of all stores, and whether each must read all, with the number of its store.
    pub(super) fn scans(&self, is_whole: bool) -> Vec<(usize, bool, StoreScan)> {
        let mut sought: Vec<Vec<Sought>> = self.groups.iter().map(|_| Vec::new()).collect();
        for (id, standby) in self.all.iter().enumerate() {
            let Some(sought) = sought.get_mut(standby.group) else { continue };
            for root in Replica::roots(&standby.database.replica) {
                let from = match is_whole {
                    true => root.clone(),
                    false => standby.layout.key(&root, Level::TRANSACTIONS, standby.at, standby.at),
                };
                sought.push(Sought { id, root, from });
            }
        }
        let scans = self.groups.iter().zip(sought).enumerate().filter(|(_, (_, sought))| !sought.is_empty());
        scans
            .map(|(number, (group, sought))| {
                let prefix = group.prefix.clone().unwrap_or_else(|| common_directory(&sought));
                (number, group.is_unsorted, StoreScan::new(group.store.clone(), prefix, sought, is_whole))
            })
            .collect()
    }

    /// Notes what the scan of store `group` has seen, which has looked for the first `known` standbys. Standbys whose
    /// replicas have something else than they wait to be opened. A scan that is not whole shows nothing of databases that
    /// have not changed.
    pub(super) fn scanned(
        &mut self,
        group: usize,
        seen: SeenKeys,
        (is_whole, known): (bool, usize),
        now: Instant,
    ) -> ScanNews {
        let mut news = ScanNews::default();
        let sought = self.all.iter_mut().enumerate().take(known).filter(|(_, standby)| standby.group == group);
        for (id, standby) in sought {
            let Some(&(newest, layout)) = seen.newest.get(&id) else {
                if is_whole && !std::mem::replace(&mut standby.is_vanished, true) {
                    news.vanished.push(id);
                }
                continue;
            };
            standby.layout = layout;
            if std::mem::replace(&mut standby.is_vanished, false) {
                news.returned.push(id);
            }
            // A hole may have been filled, or a file been replaced, where nothing newer is there.
            let is_news = if is_whole { newest != standby.at } else { newest > standby.at.max(standby.opened_for) };
            if is_news && matches!(standby.place, StandbyPlace::Idle) {
                standby.opened_for = newest;
                standby.behind.get_or_insert(now);
                standby.place = StandbyPlace::Waiting;
                self.waiting.push_back(id);
            }
        }
        self.unknown.retain(|(of, _)| *of != group);
        if let Some(known) = self.groups.get_mut(group) {
            known.is_unsorted |= seen.is_unsorted;
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

    /// A discovery has looked at all databases. Those that it did not give to be followed are not asked for again.
    pub(super) fn discovered(&mut self) {
        let followed = self.followed();
        for (group, root) in self.unknown.drain().filter(|(_, root)| !followed.contains(root)) {
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
            StandbyPlace::Waiting => false,
            StandbyPlace::Open(open) => open.is_caught_up,
        })
    }

    pub(super) fn status(&self, now: Instant) -> FleetStatus {
        let mut status =
            FleetStatus { databases: self.all.len(), waiting: self.waiting.len(), ..FleetStatus::default() };
        let mut behind = Vec::new();
        for standby in &self.all {
            match standby.place {
                StandbyPlace::Stopped => status.stopped += 1,
                StandbyPlace::Open(_) => status.open += 1,
                StandbyPlace::Idle | StandbyPlace::Waiting => {}
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

    /// The TXID that a warning was given at, if it is another one than `at`. From then on it is `at`.
    pub(super) fn warns_anew(warned_at: &AtomicU64, at: Txid) -> bool {
        warned_at.swap(at.0, Relaxed) != at.0
    }
}

/// The longest directory that all roots lie in.
fn common_directory(sought: &[Sought]) -> String {
    let mut roots = sought.iter().map(|sought| sought.root.as_str());
    let first = roots.next().unwrap_or_default();
    let common = roots.fold(first, |common, root| {
        let same = common.bytes().zip(root.bytes()).take_while(|(a, b)| a == b).count();
        // Both begin with the same bytes, so this is where a character ends, or before a slash anyway.
        common.get(..same).or_else(|| common.get(..common.floor_char_boundary(same))).unwrap_or_default()
    });
    common.get(..common.rfind('/').map_or(0, |slash| slash + 1)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
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
        let newest = newest.iter().map(|&(id, txid)| (id, (Txid(txid), Layout::Hex))).collect();
        SeenKeys { newest, ..SeenKeys::default() }
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
        let news = standbys.scanned(0, seen(&[(0, 6), (1, 5)]), (false, 3), now);
        assert_eq!(news, ScanNews::default());
        assert_eq!((standbys.next_waiting(), standbys.next_waiting()), (Some(0), None));
        // It was opened in vain: a hole. Only something newer, or a whole scan, leads to another try.
        standbys.get_mut(0).unwrap().place = StandbyPlace::Idle;
        standbys.scanned(0, seen(&[(0, 6)]), (false, 3), now);
        assert_eq!(standbys.next_waiting(), None);
        standbys.scanned(0, seen(&[(0, 7)]), (false, 3), now);
        assert_eq!(standbys.next_waiting(), Some(0));
        standbys.get_mut(0).unwrap().place = StandbyPlace::Idle;
        standbys.scanned(0, seen(&[(0, 7), (1, 4), (2, 5)]), (true, 3), now);
        assert_eq!(
            [standbys.next_waiting(), standbys.next_waiting(), standbys.next_waiting()],
            [Some(0), Some(1), None]
        );
    }

    #[test]
    fn only_a_whole_scan_that_looked_for_a_database_shows_that_it_is_gone() {
        let (mut standbys, now) = (standbys(2), Instant::now());
        assert_eq!(standbys.scanned(0, seen(&[(0, 5)]), (false, 2), now).vanished, Vec::<usize>::new());
        standbys.add(database(2), None);
        assert_eq!(standbys.scanned(0, seen(&[(0, 5)]), (true, 2), now).vanished, [1]);
        assert_eq!(standbys.scanned(0, seen(&[(0, 5), (2, 5)]), (true, 3), now).vanished, Vec::<usize>::new());
        assert_eq!(standbys.status(now).vanished, 1);
        assert_eq!(standbys.scanned(0, seen(&[(1, 6)]), (false, 3), now).returned, [1]);
    }

    #[test]
    fn a_discovery_is_asked_for_once() {
        let (mut standbys, now) = (standbys(1), Instant::now());
        let unknown =
            |roots: &[&str]| SeenKeys { unknown: roots.iter().map(|root| hash_of(root)).collect(), ..seen(&[(0, 5)]) };
        assert!(standbys.scanned(0, unknown(&["b/1/", "b/x/"]), (false, 1), now).has_unknown);
        standbys.add(database(1), None);
        // A scan that had begun before.
        assert!(!standbys.scanned(0, unknown(&["b/1/"]), (false, 1), now).has_unknown);
        assert!(standbys.scanned(0, unknown(&["b/x/"]), (false, 2), now).has_unknown);
        standbys.discovered();
        assert!(!standbys.scanned(0, unknown(&["b/x/"]), (false, 2), now).has_unknown);
        assert!(standbys.scanned(0, unknown(&["b/x/", "b/y/"]), (false, 2), now).has_unknown);
    }

    #[test]
    fn the_quietest_are_closed_for_those_that_wait() {
        let (mut standbys, now) = (standbys(5), Instant::now());
        standbys.scanned(0, seen(&[(0, 6), (1, 6), (2, 6), (3, 6), (4, 6)]), (false, 5), now);
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
        standbys.scanned(0, seen(&[(0, 6), (1, 6), (2, 6)]), (false, 4), now);
        standbys.get_mut(3).unwrap().place = StandbyPlace::Stopped;
        standbys.get_mut(1).unwrap().behind = None;
        let status = standbys.status(now + Duration::from_secs(7));
        assert_eq!((status.up_to_date, status.stopped, status.waiting), (1, 1, 3));
        assert_eq!((status.median_behind_seconds, status.worst_behind), (7, Some((7, "2".into()))));
    }

    #[test]
    fn roots_share_their_longest_directory() {
        let common = |roots: &[&str]| {
            let sought = |root: &&str| Sought { id: 0, root: (*root).to_owned(), from: String::new() };
            common_directory(&roots.iter().map(sought).collect::<Vec<_>>())
        };
        assert_eq!(common(&["a/b/1/", "a/b/12/"]), "a/b/");
        assert_eq!(common(&["a/ä/", "a/ö/"]), "a/");
        assert_eq!((common(&["a/"]), common(&["a/", "b/"])), ("a/".to_owned(), String::new()));
    }
}
