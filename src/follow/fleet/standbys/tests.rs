//! What scans lead to, which databases are opened and closed, and what is said of them.

use super::*;
use crate::follow::fleet::scan::SeenDatabase;
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
    let scans = Vec::new();
    let (is_unsorted, by_root, pause) = (false, false, Duration::ZERO);
    let order = ScanOrder { group: 0, is_whole, is_unsorted, by_root, pause, known, scans };
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
    assert_eq!([standbys.next_waiting(), standbys.next_waiting(), standbys.next_waiting()], [Some(0), Some(1), None]);
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
            let layout = Layout::Hex;
            database.last = Some(LastFile { txid: Txid(5), layout, size, etag: None, modified: None });
        }
        seen
    };
    assert_eq!(scanned(&mut standbys, with(9), (true, 2), now), ScanNews::default());
    assert_eq!(standbys.next_waiting(), Some(1));
    standbys.get_mut(1).unwrap().place = StandbyPlace::Stopped;
    assert_eq!(scanned(&mut standbys, with(8), (false, 2), now).replaced, [0]);
    // Also one that waits, or pauses.
    standbys.pause(0, now);
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
    let (now, whole_every) = (Instant::now(), Duration::from_secs(300));
    let orders = standbys.begin_scans(whole_every, now);
    assert_eq!((orders.len(), orders[0].scans.len()), (1, 1));
    assert!(standbys.begin_scans(whole_every, now).is_empty(), "it runs");
    standbys.denied(0, now);
    standbys.scan_ended(&orders[0], (now, Duration::ZERO), 1, true);
    let orders = standbys.begin_scans(whole_every, now);
    assert_eq!(orders[0].scans.len(), 2);
    standbys.scan_ended(&orders[0], (now, Duration::ZERO), 2, false);
    // A store that is down is no reason to wait with what the others have.
    assert!(!standbys.is_looked_at() && !standbys.is_tried());
    standbys.scan_ended(&orders[0], (now, Duration::ZERO), 2, true);
    assert!(!standbys.is_looked_at() && standbys.is_tried());
    // The directory is tried again later.
    assert_eq!(standbys.begin_scans(whole_every, now + whole_every)[0].scans.len(), 1);
}
