//! Replicas whose files do not continue one by one: compaction, retention, holes.

use super::support::*;
use hydrant::ltx::Txid;
use hydrant::sim::generate::Change;

#[test]
fn a_gap_is_bridged_from_any_level() {
    for level in [1, 2, 8, 9] {
        let mut world = World::new(512, 1);
        let follower = world.follow();
        follower.until_line("caught up at txid 0000000000000001");
        for change in [Change::Grow(9000), Change::Transfer, Change::Vacuum, Change::Schema] {
            world.transact_unseen(change);
        }
        // What covers the gap begins before the standby's TXID, and ends behind it.
        let newest = world.primary.txid();
        world.upload(level, 1, newest.0);
        let later = world.transact(Change::Transfer);
        follower.until_seq(&world.path(), later);
        let (_, log) = {
            follower.signal(Signal::INT);
            let (status, stdout, log) = follower.wait();
            assert_eq!(status.code(), Some(0));
            (stdout, log)
        };
        world.is_state(later);
        assert!(!log.iter().any(|line| line.starts_with("Warning")), "{log:#?}");
    }
}

#[test]
fn a_hole_is_said_once_and_waited_for() {
    let mut world = World::new(4096, 0);
    let follower = world.follow();
    follower.until_line("caught up");
    let missing = world.transact_unseen(Change::Grow(20_000));
    world.transact(Change::Transfer);
    follower.until_line("no file continues from it, the next one begins at 0000000000000003");
    world.transact(Change::Transfer);
    // Listings of all levels go on, and say it no more.
    let before = world.stats();
    let lists = |stats: &hydrant::sim::server::Stats| stats.of_kind(hydrant::sim::server::RequestKind::Get);
    crate::common::wait::until(|| lists(&world.stats()) > lists(&before) + 20);
    assert_eq!(follower.count("no file continues"), 1, "{:#?}", follower.log());
    assert_eq!(read_only(&world.path()).and_then(|reader| seq(&reader)).unwrap(), 1);
    world.put(missing);
    world.catch_up_and_stop(follower);
}

#[test]
fn a_killed_follower_goes_on_where_it_was_also_ahead_of_the_last_snapshot() {
    let mut world = World::new(4096, 2);
    for round in 0..4 {
        let follower = world.follow();
        if round > 0 {
            follower.until_line("following out.db from txid");
        }
        for change in [Change::Grow(30_000), Change::Transfer, Change::Schema] {
            let txid = world.transact(change);
            follower.until_seq(&world.path(), txid);
        }
        follower.kill();
        // Of the log, which SQLite recovers, the sidecar knows nothing.
        assert!(world.dir.path().join("out.db-wal").exists());
        world.transact(Change::Transfer);
        // Level 0 is deleted before the follower comes back.
        let newest = world.primary.txid().0;
        world.upload(1, newest.saturating_sub(4).max(2), newest);
        for txid in newest.saturating_sub(3)..=newest {
            world.remove(0, txid, txid);
        }
    }
    // What a killed one left is put right by the next.
    let follower = world.follow();
    world.catch_up_and_stop(follower);
}

/// The database may hold a newer state than its sidecar says. Readers never see it go back, and never a mixture.
#[test]
fn readers_do_not_notice_how_far_the_sidecar_is_behind() {
    let mut world = World::new(1024, 0);
    let changes = [Change::Grow(9000), Change::Transfer, Change::Schema, Change::Vacuum, Change::Grow(500)];
    for round in 0..10 {
        world.transact(changes[round % changes.len()]);
    }
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    world.transact(Change::Transfer);
    for behind in 1..=11 {
        std::fs::write(world.dir.path().join("out.db-txid"), format!("{}\n", Txid(behind))).unwrap();
        let kept = read_only(&world.path()).unwrap();
        let first = seq(&kept).unwrap();
        let readers = Readers::start(&world.path());
        let follower = world.follow();
        follower.until_line("caught up at txid 000000000000000c");
        readers.stop();
        assert!(seq(&kept).unwrap() >= first);
        drop(kept);
        follower.stop();
        world.is_state(world.primary.txid());
    }
}
