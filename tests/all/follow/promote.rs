//! `hydrant promote`: a standby becomes an ordinary database.

use super::support::*;
use crate::common::binary::hydrant;
use hydrant::ltx::Txid;
use hydrant::sim::generate::Change;
use hydrant::sim::server::{Failure, Faults, Object};
use std::process::Command;

fn promote(world: &World, more: &[&str]) -> Command {
    promote_of(world, &world.url(), more)
}

fn promote_of(world: &World, url: &str, more: &[&str]) -> Command {
    hydrant(world.dir.path(), &[&["promote", "-o", "out.db"], more, &[url]].concat())
}

/// A standby of a replica with three transactions whose follower has ended.
fn standby() -> World {
    let mut world = World::new(4096, 0);
    for change in [Change::Grow(9000), Change::Transfer] {
        world.transact(change);
    }
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    world
}

/// Checks that the database holds the state at `txid`, and is no standby any more.
#[track_caller]
fn is_promoted(world: &World, txid: Txid) {
    world.has_only(&["out.db"]);
    assert_eq!(read_only(&world.path()).and_then(|reader| seq(&reader)).unwrap(), txid.0);
    world.follow().fails("cannot resume follow mode: ");
}

#[test]
fn a_running_follower_is_ended_and_what_is_left_is_applied() {
    let mut world = World::new(4096, 0);
    let follower = Follower::start(&mut world.command(&["-follow-interval", "1h"]));
    follower.until_line("caught up");
    let txid = world.transact(Change::Grow(20_000));
    let promoting = Follower::start(&mut promote(&world, &["-json"]));
    let (status, _, lines) = follower.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    let (status, stdout, lines) = promoting.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let newest = txid.to_string();
    for (key, value) in
        [("txid", &*newest), ("replica_txid", &newest), ("level_0_txid", &newest), ("integrity_check", "full")]
    {
        assert_eq!(json[key], value, "{json}");
    }
    assert_eq!((&json["ended_follower"], &json["can_replicate"]), (&true.into(), &true.into()));
    is_promoted(&world, txid);
}

#[test]
fn a_replica_that_litestream_could_not_go_on_with_is_refused() {
    let mut world = standby();
    world.upload(1, 2, 3);
    world.remove(0, 3, 3);
    let text = "level 0 of the replica ends at txid 0000000000000002, all levels at txid 0000000000000003";
    let lines = Follower::start(&mut promote(&world, &[])).fails(text);
    assert!(lines.iter().any(|line| line.starts_with("Try: hydrant promote -force -o out.db ")), "{lines:#?}");
    world.is_state(Txid(3));
    (1..3).for_each(|txid| world.remove(0, txid, txid));
    Follower::start(&mut promote(&world, &[])).fails("level 0 of the replica ends at nothing");
    world.is_state(Txid(3));
    let (status, _, lines) = Follower::start(&mut promote(&world, &["-force"])).wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("Warning: level 0 of the replica ends at nothing")), "{lines:#?}");
    is_promoted(&world, Txid(3));
}

#[test]
fn what_lies_behind_a_hole_is_said_to_be_lost() {
    let mut world = standby();
    world.transact_unseen(Change::Transfer);
    world.transact(Change::Transfer);
    let (status, _, lines) = Follower::start(&mut promote(&world, &["-integrity-check", "quick"])).wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    let warning =
        "Warning: no file continues from txid 0000000000000003: what is newer, up to 0000000000000005, is lost";
    assert!(lines.iter().any(|line| line == warning), "{lines:#?}");
    is_promoted(&world, Txid(3));
}

#[test]
fn what_is_no_standby_or_cannot_be_asked_is_left_alone() {
    let world = standby();
    let state = world.dir.path().join(".out.db-litestream");
    std::fs::create_dir(&state).unwrap();
    Follower::start(&mut promote(&world, &[])).fails("remove it first: litestream reset ");
    std::fs::remove_dir(&state).unwrap();
    world.server.set_faults(Faults { fail: vec![(Failure::AccessDenied, 1.0)], ..Faults::default() });
    Follower::start(&mut promote(&world, &[])).fails("AccessDenied");
    world.server.set_faults(Faults { changed_etag: 1.0, ..Faults::default() });
    Follower::start(&mut promote(&world, &[])).fails("PreconditionFailed");
    world.server.set_faults(Faults::default());
    world.is_state(world.primary.txid());
    std::fs::remove_file(world.dir.path().join("out.db-txid")).unwrap();
    Follower::start(&mut promote(&world, &[])).fails("out.db is no standby: ");
    std::fs::remove_file(world.path()).unwrap();
    Follower::start(&mut promote(&world, &[])).fails("out.db does not exist");
    world.has_only(&[LOCK]);
}

/// The replica of another database has newer files, which would be applied.
#[test]
fn a_standby_is_not_promoted_with_another_replica() {
    let world = standby();
    let (_, url) = world.other_replica(Txid(9));
    let text = "this is a standby of s3://bucket/app.db, and not of s3://bucket/other.db, as ";
    Follower::start(&mut promote_of(&world, &url, &["-force"])).fails(text);
    world.is_state(Txid(3));
    assert_eq!(world.source(), "s3://bucket/app.db");
    // Neither does a standby of Litestream name its source, and it can be promoted.
    std::fs::remove_file(world.dir.path().join(LOCK)).unwrap();
    let (status, _, lines) = Follower::start(&mut promote(&world, &[])).wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    is_promoted(&world, Txid(3));
}

#[test]
fn damage_is_found_before_anything_is_given_up() {
    let world = standby();
    let mut image = std::fs::read(world.path()).unwrap();
    // A page of table `a`.
    image[4096..4296].fill(0xff);
    std::fs::write(world.path(), image).unwrap();
    Follower::start(&mut promote(&world, &[])).fails("integrity check failed: ");
    assert_eq!(world.sidecar(), "0000000000000003\n");
}

/// A database that is restored to be replicated from here again.
#[test]
fn a_restore_to_the_configured_path_warns_where_litestream_could_not_go_on() {
    let mut world = World::new(4096, 0);
    world.transact(Change::Transfer);
    let compacted = world.primary.file(1, (2, 2)).unwrap();
    let path = world.path().display().to_string();
    let config = format!(
        "dbs:\n  - path: {path}\n    replica: {{type: s3, bucket: {BUCKET}, path: app.db, endpoint: '{}', region: us-east-1, \
         force-path-style: true}}\n",
        world.server.endpoint()
    );
    std::fs::write(world.dir.path().join("litestream.yml"), config).unwrap();
    let run = |args: &[&str]| {
        let args = [args, &["-force", "-config", "litestream.yml"], &[&*path]].concat();
        let (status, _, lines) = Follower::start(&mut hydrant(world.dir.path(), &args)).wait();
        assert_eq!(status.code(), Some(0), "{lines:#?}");
        lines
    };
    let count = |args: &[&str], text: &str| {
        let is_it = |line: &String| line.starts_with("Warning: ") && line.contains(text);
        run(args).into_iter().filter(is_it).count()
    };
    let of_level_0 = |args: &[&str]| count(args, "level 0 of the replica ends at ");
    assert_eq!((of_level_0(&["restore"]), of_level_0(&["restore-pattern"])), (0, 0));
    world.remove(0, 2, 2);
    world.server.objects().put(BUCKET, &key(1, 2, 2), Object::new(compacted.bytes));
    assert_eq!((of_level_0(&["restore"]), of_level_0(&["restore-pattern"])), (1, 1));
    assert_eq!(of_level_0(&["restore", "-o", &path]), 1);
    // Elsewhere it is not replicated.
    assert_eq!(of_level_0(&["restore", "-o", "other.db"]), 0);
    assert_eq!(of_level_0(&["restore-pattern", "-output-dir", "elsewhere"]), 0);
    // Litestream's state of what was there before.
    let of_state = |args: &[&str]| count(args, "holds Litestream's state of an older database: run `litestream reset ");
    assert_eq!((of_state(&["restore"]), of_state(&["restore-pattern"])), (0, 0));
    std::fs::create_dir(world.dir.path().join(".out.db-litestream")).unwrap();
    assert_eq!((of_state(&["restore"]), of_state(&["restore-pattern"])), (1, 1));
    assert_eq!((of_state(&["restore", "-o", "other.db"]), of_state(&["restore", "-o", &path])), (0, 1));
}
