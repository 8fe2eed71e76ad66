//! `-metrics-textfile` of a standby.

use super::support::*;
use crate::common::metrics::{Samples, is_accepted, samples, value};
use crate::common::wait;
use hydrant::ltx::Txid;
use hydrant::sim::generate::Change;

const FILE: &str = "standby.prom";

fn text(world: &World) -> String {
    std::fs::read_to_string(world.dir.path().join(FILE)).unwrap_or_default()
}

fn number(samples: &Samples, name: &str, label: &str) -> f64 {
    value(samples, &format!("hydrant_standby_{name}"), label)
}

fn follow(world: &World) -> Follower {
    Follower::start(&mut world.command(&["-metrics-textfile", FILE]))
}

#[test]
fn they_say_what_the_standby_does_and_that_it_has_ended() {
    let mut world = World::new(4096, 0);
    let follower = follow(&world);
    // The file is written at the start, not after 15 s.
    wait::until(|| text(&world).contains("hydrant_standby_running{"));
    assert_eq!(number(&samples(&text(&world)), "running", "depth=\"follow\""), 1.0);
    follower.until_line("caught up");
    for _ in 0..2 {
        let txid = world.transact(Change::Transfer);
        follower.until_line(&format!(" to {txid}: "));
    }
    follower.stop();
    let last = text(&world);
    let found = samples(&last);
    let source = format!("source=\"{}\",db_path=\"out.db\"", world.url());
    assert!(found.keys().all(|series| series.contains(&source)), "{last}");
    for (name, expected) in
        [("running", 0.0), ("txid", 3.0), ("changes_total", 2.0), ("transactions_total", 2.0), ("files_total", 2.0)]
    {
        assert_eq!(number(&found, name, ""), expected, "{name}: {last}");
    }
    let start = number(&found, "start_timestamp_seconds", "");
    assert!(number(&found, "last_poll_timestamp_seconds", "") >= start, "{last}");
    assert!(found.keys().any(|series| series.starts_with("hydrant_standby_newest_change_timestamp_seconds{")));
    assert!(number(&found, "lag_seconds", "") >= 0.0 && number(&found, "pages_total", "") > 0.0, "{last}");
    assert!(number(&found, "polls_total", "succeeded") > 2.0, "{last}");
    assert_eq!((number(&found, "polls_total", "failed"), number(&found, "waits_total", "")), (0.0, 0.0), "{last}");
    assert!(number(&found, "requests_total", "") > 3.0 && number(&found, "received_bytes_total", "") > 0.0);
    is_accepted(&last);
    // Counters begin anew, and there may be nothing to count.
    let again = follow(&world);
    again.until_line("caught up");
    again.stop();
    let last = text(&world);
    let found = samples(&last);
    assert_eq!((number(&found, "txid", ""), number(&found, "changes_total", "")), (3.0, 0.0));
    assert!(!last.contains("hydrant_standby_lag_seconds"), "{last}");
    is_accepted(&last);
    world.has_only(&[LOCK, "out.db", "out.db-txid", FILE]);
}

#[test]
fn a_hole_is_counted() {
    let mut world = World::new(4096, 0);
    let follower = follow(&world);
    follower.until_line("caught up");
    world.transact_unseen(Change::Transfer);
    world.transact(Change::Transfer);
    follower.until_line("no file continues from it");
    follower.stop();
    let found = samples(&text(&world));
    assert_eq!((number(&found, "waits_total", ""), number(&found, "txid", "")), (1.0, 1.0), "{found:?}");
}

#[test]
fn a_first_restore_that_fails_has_no_txid() {
    let world = World::new(4096, 0);
    for level in [0, 9] {
        world.remove(level, 1, 1);
    }
    follow(&world).fails("no matching backup files available");
    let found = samples(&text(&world));
    assert_eq!(number(&found, "running", ""), 0.0);
    assert!(!found.keys().any(|series| series.starts_with("hydrant_standby_txid")), "{found:?}");
    world.has_only(&[FILE]);
}

#[test]
fn a_file_that_cannot_be_written_is_found_out_at_once() {
    let world = World::new(4096, 0);
    Follower::start(&mut world.command(&["-metrics-textfile", "nowhere/a.prom"])).fails("cannot write the metrics ");
    let (status, _, lines) = Follower::start(&mut world.command(&["-metrics-textfile", "./out.db"])).wait();
    assert_eq!(status.code(), Some(2), "{lines:#?}");
    assert_eq!(world.stats().total(), 0);
    world.has_only(&[]);
    assert_eq!(world.primary.txid(), Txid(1));
}
