//! A primary that goes on, with everything that Litestream does to its replica.

use super::support::*;
use hydrant::sim::generate::Change;

#[test]
fn a_standby_shows_each_transaction_and_ends_as_the_primary() {
    let mut world = World::new(4096, 0);
    for _ in 0..5 {
        world.transact(Change::Transfer);
    }
    let follower = world.follow();
    follower.until_seq(&world.path(), world.primary.txid());
    let readers = Readers::start(&world.path());
    for (change, restarts) in [
        (Change::Transfer, false),
        (Change::Grow(50_000), false),
        (Change::Schema, true),
        (Change::Header, false),
        (Change::Vacuum, true),
        (Change::Grow(3000), false),
        (Change::Transfer, true),
    ] {
        if restarts {
            world.primary.restart_wal();
        }
        let txid = world.transact(change);
        follower.until_seq(&world.path(), txid);
    }
    readers.stop();
    world.catch_up_and_stop(follower);
}
