//! What a standby must not follow, and what it says then.

use super::support::*;
use hydrant::ltx::Pgno;
use hydrant::ltx::Txid;
use hydrant::ltx::encode::Encoder;
use hydrant::ltx::frame::Encoding;
use hydrant::ltx::header::Header;
use hydrant::sim::generate::v3::{FleetV3, v3_fleet};
use hydrant::sim::generate::{Change, Primary};
use hydrant::sim::server::{Object, RequestKind};
use rusqlite::Connection;
use std::fs;
use std::os::unix::ffi::OsStrExt;

#[test]
fn a_database_without_its_txid_is_not_resumed() {
    let world = World::new(4096, 0);
    fs::write(world.path(), world.primary.image(Txid(1)).unwrap()).unwrap();
    let lines = world.follow().fails("cannot resume follow mode: ");
    assert!(lines.iter().any(|line| line.starts_with("Try: hydrant restore -force -f ")), "{lines:#?}");
    for text in ["", "garbage", "0000000000000000\n"] {
        fs::write(world.dir.path().join("out.db-txid"), text).unwrap();
        world.follow().fails("its TXID cannot be read from ");
    }
    // As advised.
    let forced = Follower::start(&mut world.command(&["-force"]));
    world.catch_up_and_stop(forced);
}

#[test]
fn a_sidecar_without_a_database_is_no_standby() {
    let mut world = World::new(4096, 0);
    fs::write(world.dir.path().join("out.db-txid"), "00000000000000ff\n").unwrap();
    let follower = world.follow();
    world.transact(Change::Transfer);
    world.catch_up_and_stop(follower);
}

#[test]
fn a_replica_that_is_behind_stops_it() {
    let mut world = World::new(4096, 0);
    let txid = world.transact(Change::Transfer);
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    world.remove(0, txid.0, txid.0);
    let lines =
        world.follow().fails("the replica ends at txid 0000000000000001, before this standby's 0000000000000002");
    assert!(lines.iter().any(|line| line.starts_with("Try: hydrant restore -force -f ")), "{lines:#?}");
    // The replica may grow again, and be another one: a later follower could not tell.
    let image = world.primary.image(txid).unwrap().to_vec();
    assert!(masked(std::fs::read(world.path()).unwrap()) == masked(image));
    world.upload(9, 1, 2);
    world.follow().fails("cannot resume follow mode");
}

/// Its files are newer, and would be applied as if they were the standby's own.
#[test]
fn another_replica_is_not_followed() {
    let mut world = World::new(4096, 0);
    world.transact(Change::Transfer);
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    assert_eq!(world.source(), "s3://bucket/app.db");
    let (other, url) = world.other_replica(Txid(9));
    let text = "this is a standby of s3://bucket/app.db, and not of s3://bucket/other.db, as ";
    let lines = Follower::start(&mut world.command_of(&url, &[])).fails(text);
    let is_named = |line: &String| line.contains(LOCK) && line.ends_with("remove that file");
    assert!(lines.iter().any(is_named), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("Try: hydrant restore -force -f ")), "{lines:#?}");
    world.is_state(Txid(2));
    // Another form of its own URL.
    let own = world.url().replace("/app.db?", "/app.db/?");
    let follower = Follower::start(&mut world.command_of(&own, &[]));
    world.catch_up_and_stop(follower);
    // As advised.
    let follower = Follower::start(&mut world.command_of(&url, &["-force"]));
    follower.until_line("caught up");
    follower.stop();
    assert_eq!(world.source(), "s3://bucket/other.db");
    assert!(masked(fs::read(world.path()).unwrap()) == masked(other.image(Txid(9)).unwrap().to_vec()));
    world.follow().fails("this is a standby of s3://bucket/other.db, and not of s3://bucket/app.db");
}

/// The replica was moved: its files are the same at another place.
#[test]
fn a_moved_replica_is_followed_once_the_file_is_removed() {
    let mut world = World::new(4096, 0);
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    let mut moved = world.url().replace("app.db", "moved/app.db");
    for txid in 1..4 {
        if txid > 1 {
            world.transact_unseen(Change::Transfer);
        }
        let file = world.primary.file(0, (txid, txid)).unwrap();
        let key = format!("moved/{}", file.key);
        world.server.objects().put(BUCKET, &key, Object::new(file.bytes).last_modified(file.last_modified));
    }
    Follower::start(&mut world.command_of(&moved, &[])).fails("if the replica was moved there, remove that file");
    fs::remove_file(world.dir.path().join(LOCK)).unwrap();
    // The service's address is no part of the place.
    moved = moved.replace("127.0.0.1", "localhost");
    let follower = Follower::start(&mut world.command_of(&moved, &[]));
    world.catch_up_and_stop(follower);
    assert_eq!(world.source(), "s3://bucket/moved/app.db");
}

#[test]
fn only_one_follower_at_a_time() {
    let world = World::new(4096, 0);
    let first = world.follow();
    first.until_line("caught up");
    let lines =
        world.follow().fails(&format!("is followed already, by a process with process ID {}, from ", first.pid()));
    assert!(lines.iter().any(|line| line.contains("s3://bucket/app.db")), "{lines:#?}");
    let restore = world.url();
    let mut restore =
        crate::common::binary::hydrant(world.dir.path(), &["restore", "-force", "-o", "out.db", &restore]);
    Follower::start(&mut restore).fails("the database is in use by process ");
    world.catch_up_and_stop(first);
}

#[test]
fn a_database_that_is_replicated_from_here_is_not_followed() {
    let mut world = World::new(4096, 0);
    let state = world.dir.path().join(".out.db-litestream");
    fs::create_dir(&state).unwrap();
    world.follow().fails("the database is or was replicated from here");
    fs::remove_dir(&state).unwrap();
    let follower = world.follow();
    follower.until_line("caught up");
    fs::create_dir(&state).unwrap();
    follower.fails("appeared: the database is replicated from here");
    fs::remove_dir(&state).unwrap();
    let txid = world.transact(Change::Transfer);
    let follower = world.follow();
    follower.until_seq(&world.path(), txid);
    follower.stop();
}

/// Two primaries that write to one replica: the second begins from a restored copy of the first.
#[test]
fn another_writer_stops_it_and_the_database_stays_whole() {
    let mut world = World::new(4096, 0);
    let first = world.transact(Change::Transfer);
    let follower = world.follow();
    follower.until_seq(&world.path(), first);
    let second = world.transact(Change::Transfer);
    follower.until_seq(&world.path(), second);
    // Its WAL is another one, and it does not begin anew.
    let mut other = Primary::new("app.db", hydrant::ltx::PageSize::new(4096).unwrap(), 0, 99).unwrap();
    for _ in 0..2 {
        other.transact(Change::Transfer).unwrap();
    }
    let foreign = other.transact(Change::Transfer).unwrap();
    assert_eq!(foreign.max_txid, Txid(second.0 + 1));
    world.put(foreign);
    follower.fails("another program writes to this replica: app.db/0000/0000000000000004-");
    is_whole_and_no_standby(&world, second);
}

/// Checks that the database holds the state at `txid`, and that no follower takes it up.
#[track_caller]
fn is_whole_and_no_standby(world: &World, txid: Txid) {
    world.has_only(&[LOCK, "out.db"]);
    assert_eq!(read_only(&world.path()).and_then(|reader| seq(&reader)).unwrap(), txid.0);
    world.follow().fails("cannot resume follow mode: ");
}

#[test]
fn another_writer_is_seen_after_a_restart_too() {
    let mut world = World::new(4096, 0);
    let second = world.transact(Change::Transfer);
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    let mut other = Primary::new("app.db", hydrant::ltx::PageSize::new(4096).unwrap(), 0, 99).unwrap();
    other.transact(Change::Transfer).unwrap();
    world.put(other.transact(Change::Transfer).unwrap());
    world.follow().fails("another program writes to this replica: app.db/0000/0000000000000003-");
    is_whole_and_no_standby(&world, second);
}

#[test]
fn a_file_that_is_replaced_after_it_was_applied_stops_it() {
    let mut world = World::new(4096, 0);
    let follower = world.follow();
    follower.until_line("caught up");
    let second = world.transact(Change::Transfer);
    follower.until_seq(&world.path(), second);
    let mut other = Primary::new("app.db", hydrant::ltx::PageSize::new(4096).unwrap(), 0, 99).unwrap();
    world.put(other.transact(Change::Transfer).unwrap());
    follower.fails(&format!("{} was replaced after it was applied", key(0, 2, 2)));
    is_whole_and_no_standby(&world, second);
}

/// Files that are whole, and that cannot be applied in place.
#[test]
fn what_cannot_be_applied_in_place_stops_it() {
    let file = |page_size: u32, commit: u32, pages: &[u32]| {
        let page_size = hydrant::ltx::PageSize::new(page_size).unwrap();
        // It begins a new WAL.
        let header = Header { wal_offset: 32, ..crate::common::ltx_header(page_size, commit, 2, 0) };
        let mut encoder = Encoder::new(&header, Encoding::Block);
        for &pgno in pages {
            encoder.page(Pgno(pgno), &vec![1; page_size.bytes()]).unwrap();
        }
        encoder.finish(0).unwrap()
    };
    let mut world = World::new(4096, 0);
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    for (bytes, text) in [
        (file(8192, 1, &[1]), "the page size changes from 4096 to 8192 after txid 0000000000000001"),
        (file(4096, 0, &[]), "empties the database (0 pages)"),
        (
            file(4096, 1000, &[1, 999, 1000]),
            "of 1000, by which the database grows after txid 0000000000000001, is in no file",
        ),
    ] {
        world.server.objects().put(BUCKET, &key(0, 2, 2), Object::new(bytes));
        let lines = world.follow().fails(text);
        assert!(lines.iter().any(|line| line.starts_with("Try: hydrant restore -force -f ")), "{lines:#?}");
        world.is_state(Txid(1));
    }
    // As it should be, and then it goes on.
    world.transact(Change::Transfer);
    let follower = world.follow();
    world.catch_up_and_stop(follower);
}

#[test]
fn an_application_that_writes_is_locked_out() {
    let mut world = World::new(4096, 0);
    let follower = world.follow();
    follower.until_line("caught up");
    let application = Connection::open(world.path()).unwrap();
    application.busy_timeout(std::time::Duration::ZERO).unwrap();
    let error = application.execute_batch("UPDATE a SET v = 0").unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
    drop(application);
    world.transact(Change::Transfer);
    world.catch_up_and_stop(follower);
}

#[test]
fn a_replica_of_litestream_0_3_is_not_followed() {
    let world = World::new(4096, 0);
    let replica = v3_fleet(&FleetV3 { count: 1, ..FleetV3::default() }).remove(0);
    world.server.objects().put_v3(BUCKET, &replica);
    let url = world.url().replace("app.db", &replica.root);
    let args = ["restore", "-f", "-o", "out.db", &url];
    Follower::start(&mut crate::common::binary::hydrant(world.dir.path(), &args))
        .fails("the replica has only files of Litestream 0.3, which have no TXIDs");
    world.has_only(&[]);
    assert_eq!(world.stats().of_kind(RequestKind::Get), 0, "nothing was fetched");
}

#[test]
fn directories_that_were_made_for_nothing_are_removed() {
    let world = World::new(4096, 0);
    let nothing = world.url().replace("app.db", "nothing.db");
    let args = ["restore", "-f", "-o", "new/directory/out.db", &nothing];
    Follower::start(&mut crate::common::binary::hydrant(world.dir.path(), &args))
        .fails("no matching backup files available");
    world.has_only(&[]);
}

/// SQLite opens the database by its name as text.
#[test]
fn a_name_that_is_not_utf_8_is_refused_before_anything() {
    let world = World::new(4096, 0);
    let name = std::ffi::OsStr::from_bytes(b"out\xff.db");
    let mut command = crate::common::binary::hydrant(world.dir.path(), &["restore", "-f"]);
    command.arg("-o").arg(name).arg(world.url());
    Follower::start(&mut command).fails("is not UTF-8, which follow mode needs");
    world.has_only(&[]);
    assert_eq!(world.stats().total(), 0);
}

/// The TXID of the old database says nothing about the new one.
#[test]
fn a_restore_without_f_takes_the_sidecar_away() {
    let mut world = World::new(4096, 0);
    world.transact(Change::Transfer);
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    let url = world.url();
    let args = ["restore", "-force", "-txid", "1", "-o", "out.db", &url];
    let (status, _, lines) = Follower::start(&mut crate::common::binary::hydrant(world.dir.path(), &args)).wait();
    assert!(status.success(), "{lines:#?}");
    world.has_only(&[LOCK, "out.db"]);
    world.follow().fails("cannot resume follow mode: ");
}
