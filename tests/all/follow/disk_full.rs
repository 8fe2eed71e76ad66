//! A disk that is full: the old state stays whole, and the standby goes on once there is room.

use super::support::*;
use crate::common::disk::SmallDisk;
use hydrant::sim::generate::Change;
use hydrant::sim::server::RequestKind;

#[test]
fn a_full_disk_is_waited_for_once() {
    let mut world = World::new(4096, 0);
    let dir = world.dir.path().to_owned();
    let Some(_disk) = SmallDisk::on(&dir, "1m") else { return };
    let follower = world.follow();
    follower.until_line("caught up");
    // The simulator keeps the requests of the second attempt until there is room.
    world.server.answer_only(RequestKind::Get, Some(0));
    crate::common::wait::until(|| world.stats().in_flight_now > 0);
    let filler = dir.join("filler");
    std::fs::write(&filler, vec![1; 700 << 10]).unwrap();
    world.transact(Change::Grow(300_000));
    world.server.answer_only(RequestKind::Get, Some(2));
    follower.until_line("trying once more");
    assert_eq!(read_only(&world.path()).and_then(|reader| seq(&reader)).unwrap(), 1);
    std::fs::remove_file(&filler).unwrap();
    world.server.answer_only(RequestKind::Get, None);
    world.catch_up_and_stop(follower);
    // Full for good: it stops, and the old state stays.
    let old = world.primary.txid();
    world.transact(Change::Grow(2_000_000));
    let lines = world.follow().fails("out.db is full (twice in a row)");
    assert!(!lines.iter().any(|line| line.starts_with("Try:")), "{lines:#?}");
    world.is_state(old);
}
