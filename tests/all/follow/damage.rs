//! Files that are damaged, deleted or slow: no page of the standby changes before everything has proved right.

use super::support::*;
use bytes::Bytes;
use hydrant::sim::generate::{Change, GeneratedObject};
use hydrant::sim::server::{Failure, Faults, RequestKind};

/// The object with other bytes.
fn with_bytes(object: &GeneratedObject, bytes: Vec<u8>) -> GeneratedObject {
    GeneratedObject { bytes: Bytes::from(bytes), ..object.clone() }
}

#[test]
fn a_damaged_file_changes_nothing_until_it_is_whole() {
    let mut world = World::new(512, 0);
    let follower = world.follow();
    follower.until_line("caught up");
    let readers = Readers::start(&world.path());
    let file = world.transact_unseen(Change::Grow(5000));
    let len = file.bytes.len();
    // Header, frames, index and trailer; cut in each of them.
    for at in [30, 101, 300, len / 2, len - 60, len - 3] {
        let mut flipped = file.bytes.to_vec();
        flipped[at] ^= 0x10;
        let damaged = follower.count("Warning: app.db/0000/");
        world.put(with_bytes(&file, flipped));
        follower.until_lines("Warning: app.db/0000/", damaged + 1);
        world.put(with_bytes(&file, file.bytes[..at].to_vec()));
        follower.until_lines("Warning: app.db/0000/", damaged + 2);
        assert_eq!(read_only(&world.path()).and_then(|reader| seq(&reader)).unwrap(), 1);
    }
    world.put(file);
    follower.until_seq(&world.path(), world.primary.txid());
    readers.stop();
    follower.stop();
    world.is_state(world.primary.txid());
}

#[test]
fn damage_is_planned_around() {
    let mut world = World::new(4096, 0);
    let follower = world.follow();
    follower.until_line("caught up");
    let file = world.transact_unseen(Change::Grow(9000));
    let mut damaged = file.bytes.to_vec();
    damaged[len_of(&file) / 2] ^= 1;
    world.put(with_bytes(&file, damaged));
    follower
        .until_line("waits at txid 0000000000000001: the files that lead to 0000000000000002 are damaged or archived");
    // It is not fetched again and again, and said once.
    let before = world.stats();
    crate::common::wait::until(|| world.stats().since(&before).of_kind(RequestKind::List) >= 6);
    let spent = world.stats().since(&before);
    assert_eq!(spent.of_kind(RequestKind::Get), 0, "{spent:?}");
    assert_eq!(follower.count("Warning: app.db/0000/"), 1, "{:#?}", follower.log());
    assert_eq!(follower.count("waits at txid"), 1, "{:#?}", follower.log());
    world.upload(1, 1, 2);
    world.catch_up_and_stop(follower);
}

fn len_of(file: &GeneratedObject) -> usize {
    file.bytes.len()
}

#[test]
fn broken_and_slow_connections_are_no_readers_business() {
    let mut world = World::new(4096, 0);
    let follower = world.follow();
    follower.until_line("caught up");
    let readers = Readers::start(&world.path());
    world.server.script(RequestKind::Get, &key(0, 2, 2), [Some(Failure::ResetBeforeHeaders), Some(Failure::HalfBody)]);
    let txid = world.transact(Change::Grow(60_000));
    follower.until_seq(&world.path(), txid);
    world.server.set_faults(Faults { bandwidth_per_connection: Some(200 << 10), ..Faults::default() });
    let txid = world.transact(Change::Grow(200_000));
    follower.until_seq(&world.path(), txid);
    readers.stop();
    world.catch_up_and_stop(follower);
}

#[test]
fn files_that_are_deleted_between_listing_and_reading_are_listed_again() {
    let mut world = World::new(4096, 0);
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    for _ in 0..3 {
        world.transact(Change::Transfer);
    }
    // The first GET of a listed file finds nothing: it was compacted in between.
    world.server.script(RequestKind::Get, &key(0, 3, 3), [Some(Failure::NoSuchKey)]);
    let follower = world.follow();
    let (_, log) = {
        follower.until_seq(&world.path(), world.primary.txid());
        follower.stop()
    };
    assert!(!log.iter().any(|line| line.starts_with("Warning")), "{log:#?}");
    world.is_state(world.primary.txid());
}

#[test]
fn a_store_that_never_gives_what_it_lists_is_an_outage() {
    let mut world = World::new(4096, 0);
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    world.transact(Change::Transfer);
    world.server.set_faults(Faults { changed_etag: 1.0, ..Faults::default() });
    let follower = world.follow();
    follower.until_line("trying again");
    world.server.set_faults(Faults::default());
    follower.until_line("requests succeed again");
    world.catch_up_and_stop(follower);
}

#[test]
fn an_outage_is_said_once_and_waited_for() {
    let mut world = World::new(4096, 0);
    let follower = world.follow();
    follower.until_line("caught up");
    world.server.set_faults(Faults { fail: vec![(Failure::AccessDenied, 1.0)], ..Faults::default() });
    follower.until_line("trying again");
    let before = world.stats().total();
    crate::common::wait::until(|| world.stats().total() > before + 3);
    assert_eq!(follower.count("trying again"), 1, "{:#?}", follower.log());
    assert_eq!(read_only(&world.path()).and_then(|reader| seq(&reader)).unwrap(), 1);
    world.transact(Change::Transfer);
    world.server.set_faults(Faults::default());
    follower.until_line("requests succeed again");
    world.catch_up_and_stop(follower);
}
