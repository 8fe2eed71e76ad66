//! What polling costs, what the command prints, and how it ends.

use super::support::*;
use hydrant::sim::generate::Change;
use hydrant::sim::server::{Failure, Outcome, RequestKind};

#[test]
fn an_idle_database_costs_one_get_per_poll() {
    let mut world = World::new(4096, 0);
    let follower = Follower::start(&mut world.command(&["-json", "-follow-interval", "50ms"]));
    follower.until_line("caught up");
    let before = world.stats();
    crate::common::wait::until(|| world.stats().since(&before).of_kind(RequestKind::Get) >= 28);
    let spent = world.stats().since(&before);
    assert_eq!(spent.count(RequestKind::Get, Outcome::NotFound), spent.of_kind(RequestKind::Get));
    // One LIST for each 15 polls.
    assert!((1..=2).contains(&spent.of_kind(RequestKind::List)), "{spent:?}");
    assert_eq!(spent.of_kind(RequestKind::Head), 0);
    let txid = world.transact(Change::Transfer);
    follower.until_line("applied txid");
    let (stdout, _) = follower.stop();
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["txid"], txid.to_string());
    assert_eq!(
        (&json["restored"], &json["applied"], &json["files"], &json["holes"]),
        (&true.into(), &1.into(), &1.into(), &0.into())
    );
    assert_eq!((&json["db_path"], &json["replica"]), (&"out.db".into(), &"s3".into()));
    // The initial restore and the follower: each request of them was one of these.
    assert!(json["requests"].as_u64().unwrap() <= world.stats().total(), "{json}");
    assert!(json["polls"].as_u64().unwrap() >= 28, "{json}");
}

#[test]
fn long_intervals_poll_by_listings() {
    let world = World::new(4096, 0);
    let follower = Follower::start(&mut world.command(&["-follow-interval", "1h"]));
    follower.until_line("caught up");
    assert_eq!(world.stats().count(RequestKind::Get, Outcome::NotFound), 0);
    world.catch_up_and_stop(follower);
}

#[test]
fn listings_answer_where_absent_keys_are_denied() {
    let mut world = World::new(4096, 0);
    world.server.script(RequestKind::Get, &key(0, 2, 2), [Some(Failure::AccessDenied); 5]);
    let follower = world.follow();
    follower.until_line("caught up");
    let gets = world.stats().of_kind(RequestKind::Get);
    crate::common::wait::until(|| world.stats().of_kind(RequestKind::Get) > gets + 8);
    world.transact(Change::Transfer);
    follower.until_seq(&world.path(), world.primary.txid());
    let (_, log) = follower.stop();
    assert!(!log.iter().any(|line| line.starts_with("Warning")), "{log:#?}");
    world.is_state(world.primary.txid());
}

#[test]
fn many_new_files_are_merged_into_one_change() {
    let mut world = World::new(4096, 0);
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    for _ in 0..40 {
        world.transact(Change::Transfer);
    }
    let follower = Follower::start(&mut world.command(&["-json"]));
    follower.until_line("applied txid");
    let (stdout, _) = follower.stop();
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&json["applied"], &json["files"], &json["restored"]), (&1.into(), &40.into(), &false.into()));
    world.is_state(world.primary.txid());
}

#[test]
fn a_replica_on_disk_is_followed() {
    let mut world = World::new(4096, 0);
    let replica = tempfile::tempdir().unwrap();
    let write = |file: &hydrant::sim::generate::GeneratedObject| {
        let level = file.level;
        let path = replica.path().join(format!("ltx/{level}/{}-{}.ltx", file.min_txid, file.max_txid));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, &file.bytes).unwrap();
        std::fs::rename(temporary, path).unwrap();
    };
    write(&world.primary.file(9, (1, 1)).unwrap());
    let url = format!("file://{}", replica.path().display());
    let args = ["restore", "-f", "-v", "-follow-interval", "20ms", "-o", "out.db", &url];
    let follower = Follower::start(&mut crate::common::binary::hydrant(world.dir.path(), &args));
    follower.until_line("caught up");
    for change in [Change::Grow(9000), Change::Transfer] {
        write(&world.transact_unseen(change));
        follower.until_seq(&world.path(), world.primary.txid());
    }
    world.catch_up_and_stop(follower);
}

#[test]
fn a_signal_ends_the_first_restore_too_and_leaves_nothing() {
    let world = World::new(4096, 0);
    world.server.answer_only(RequestKind::Get, Some(0));
    let follower = Follower::start(&mut world.command(&["-json"]));
    crate::common::wait::until(|| world.stats().in_flight_now > 0);
    let (stdout, _) = follower.stop();
    assert_eq!(stdout, "");
    world.server.answer_only(RequestKind::Get, None);
    world.has_only(&[]);
}

#[test]
fn a_signal_ends_it_while_files_are_fetched() {
    let mut world = World::new(4096, 0);
    let follower = world.follow();
    follower.until_line("caught up");
    world.server.answer_only(RequestKind::Get, Some(0));
    crate::common::wait::until(|| world.stats().in_flight_now > 0);
    follower.stop();
    world.server.answer_only(RequestKind::Get, None);
    world.is_state(world.primary.txid());
    world.transact(Change::Transfer);
    let follower = world.follow();
    world.catch_up_and_stop(follower);
}

#[test]
fn systemd_hears_when_it_is_ready_lives_and_stops() {
    let mut world = World::new(4096, 0);
    let socket = std::os::unix::net::UnixDatagram::bind(world.dir.path().join("notify")).unwrap();
    let received = || {
        let mut buffer = [0; 500];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    };
    let until = |text: &str| {
        // Ends: the follower says one of these, or the test's own process is ended.
        loop {
            let message = received();
            if message.contains(text) {
                return message;
            }
        }
    };
    let mut command = world.command(&[]);
    command.env("NOTIFY_SOCKET", world.dir.path().join("notify")).env("WATCHDOG_USEC", "60000");
    let follower = Follower::start(&mut command);
    assert_eq!(received(), "EXTEND_TIMEOUT_USEC=60000000");
    assert_eq!(until("READY=1"), "READY=1\nSTATUS=at txid 0000000000000001");
    let txid = world.transact(Change::Transfer);
    assert!(until("STATUS=").starts_with(&format!("STATUS=at txid {txid}, ")));
    // The store answers nothing, and the follower lives.
    world.server.answer_only(RequestKind::Get, Some(0));
    crate::common::wait::until(|| world.stats().in_flight_now > 0);
    (0..5).for_each(|_| drop(until("WATCHDOG=1")));
    follower.signal(Signal::TERM);
    until("STOPPING=1");
    assert_eq!(follower.wait().0.code(), Some(0));
}
