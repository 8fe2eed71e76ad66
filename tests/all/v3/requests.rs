//! Tests of the requests that a restore of a 0.3 replica makes, and of files that vanish or change meanwhile.

use super::support::*;
use crate::common::wait::until;
use hydrant::sim::server::{Failure, Outcome, RequestKind, Stats};
use std::process::Child;

const NEWEST: &str = "82fdcf411c47acbc";

fn starts(served: &Served, args: &[&str]) -> (tempfile::TempDir, Child) {
    let dir = tempfile::tempdir().unwrap();
    let url = served.url();
    let child = command_in(&dir, &[&["restore", "-json", "-o", "out.db", &url], args].concat()).spawn().unwrap();
    (dir, child)
}

fn ended((dir, child): (tempfile::TempDir, Child)) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran::of(dir, output)
}

fn gets(stats: &Stats) -> u64 {
    stats.of_kind(RequestKind::Get)
}

/// The number of files of the newest generation, all of which a restore of the newest state needs.
fn planned(served: &Served) -> u64 {
    served.recorded.files.iter().filter(|file| file.key.contains(NEWEST)).count() as u64
}

#[test]
fn one_listing_and_one_get_for_each_planned_file() {
    let served = serve(fixture("v3-s3"));
    let bytes: usize =
        served.recorded.files.iter().filter(|file| file.key.contains(NEWEST)).map(|file| file.bytes.len()).sum();
    let ran = restore_with(&["-json", "--max-requests", "1", &served.url()]).gives(served.recorded.latest());
    let stats = served.server.stats();
    assert_eq!((stats.of_kind(RequestKind::List), gets(&stats)), (1, planned(&served)), "{stats}");
    assert_eq!(stats.total(), 1 + planned(&served), "{stats}");
    let result = ran.json();
    assert_eq!((&result["requests"], &result["bytes_fetched"]), (&stats.total().into(), &bytes.into()), "{result}");
    assert_eq!(result["files"], planned(&served));
}

/// Every recorded replica, whatever the number of its generations.
#[test]
fn one_listing_for_any_number_of_generations() {
    for recorded in all() {
        let latest = recorded.targets().iter().find(|t| t["target"] == "latest").unwrap();
        if latest["error"].is_string() || recorded.files.iter().any(|file| file.key.ends_with(".ltx")) {
            continue;
        }
        let served = serve(recorded);
        let ran = restore_with(&["-json", &served.url()]).gives(served.recorded.latest());
        let (stats, files) = (served.server.stats(), ran.json()["files"].as_u64().unwrap());
        let name = &served.recorded.name;
        assert_eq!(stats.of_kind(RequestKind::List), 1, "{name}: {stats}");
        assert!(files > 0 && (files..=2 * files).contains(&gets(&stats)), "{name}: {files} files, {stats}");
    }
}

#[test]
fn files_are_fetched_side_by_side() {
    let served = serve(fixture("v3-s3"));
    served.server.answer_only(RequestKind::Get, Some(0));
    let started = starts(&served, &[]);
    // All requests wait at the simulator before the first is answered.
    until(|| served.server.stats().in_flight_now >= planned(&served));
    served.server.answer_only(RequestKind::Get, None);
    ended(started).gives(served.recorded.latest());
}

/// Retention deletes the snapshot between the listing and its GET: an older one, with all WAL since, gives the same.
#[test]
fn a_snapshot_that_vanishes_is_replaced_by_an_older_one() {
    let Some(recorded) = of_fleet("damaged/noise/app.db") else { return };
    let hash = recorded.manifest["sha256"].as_str().unwrap().to_owned();
    let newest = recorded.files.iter().find(|file| file.key.ends_with("00000005.snapshot.lz4")).unwrap().key.clone();
    let served = serve(recorded);
    served.server.answer_only(RequestKind::Get, Some(0));
    let started = starts(&served, &[]);
    until(|| served.server.stats().count(RequestKind::List, Outcome::Ok) > 0);
    assert!(served.server.objects().remove("bucket", &format!("db/{newest}")));
    served.server.answer_only(RequestKind::Get, None);
    ended(started).gives(&hash);
    let stats = served.server.stats();
    assert_eq!(stats.count(RequestKind::Get, Outcome::NotFound), 1, "{stats}");
    assert_eq!(stats.of_kind(RequestKind::List), 2, "{stats}");
}

/// Every file of the plan, one at a time, is not found once although it is there.
#[test]
fn after_a_404_the_files_are_listed_again() {
    let served = serve(fixture("v3-s3"));
    for file in served.recorded.files.iter().filter(|file| file.key.contains(NEWEST)) {
        let before = served.server.stats();
        served.server.script(RequestKind::Get, &format!("db/{}", file.key), [Some(Failure::NoSuchKey)]);
        restore_with(&[&served.url()]).gives(served.recorded.latest());
        let stats = served.server.stats().since(&before);
        assert_eq!(stats.of_kind(RequestKind::List), 2, "{}: {stats}", file.key);
    }
}

/// A new generation begins while an old plan is executed, whose files are then deleted.
#[test]
fn a_generation_that_is_deleted_meanwhile() {
    let recorded = fixture("v3-s3");
    let [(older, _), (newer, hash)] = &recorded.last_states()[..] else { panic!() };
    let mut begun = fixture("v3-s3");
    begun.files.retain(|file| file.key.contains(older.as_str()));
    let served = serve(begun);
    served.server.answer_only(RequestKind::Get, Some(0));
    let started = starts(&served, &[]);
    until(|| served.server.stats().count(RequestKind::List, Outcome::Ok) > 0);
    recorded.put(&served.server, "bucket", "db/");
    for file in recorded.files.iter().filter(|file| file.key.contains(older.as_str())) {
        assert!(served.server.objects().remove("bucket", &format!("db/{}", file.key)));
    }
    served.server.answer_only(RequestKind::Get, None);
    let ran = ended(started).gives(hash);
    assert_eq!(ran.json()["generation"], *newer);
}

#[test]
fn a_segment_that_is_gone_is_a_hole_after_a_fresh_listing() {
    let served = serve(fixture("v3-s3").without("82fdcf411c47acbc/wal/00000000_000ed640.wal.lz4"));
    let ran = restore_with(&["-if-replica-exists", &served.url()]).fails("hole");
    assert!(ran.stderr.contains(NEWEST), "{ran:?}");
    // A listing may lag behind: the hole is believed when it is seen twice.
    assert_eq!(served.server.stats().of_kind(RequestKind::List), 2);
}

/// A listing that lags behind: the segment comes with the second one.
#[test]
fn a_hole_that_the_next_listing_fills() {
    let segment = "82fdcf411c47acbc/wal/00000000_000ed640.wal.lz4";
    let late = fixture("v3-s3");
    let served = serve(fixture("v3-s3").without(segment));
    served.server.answer_only(RequestKind::List, Some(1));
    let started = starts(&served, &[]);
    // The second listing waits at the simulator until the segment is there.
    let waits = || {
        let stats = served.server.stats();
        stats.count(RequestKind::List, Outcome::Ok) == 1 && stats.in_flight_now == 1
    };
    until(waits);
    let file = late.file(segment);
    served.server.objects().put("bucket", &format!("db/{}", file.key), file.object());
    served.server.answer_only(RequestKind::List, None);
    ended(started).gives(served.recorded.latest());
}

/// A snapshot taken again at the same index replaces the one that was listed.
#[test]
fn a_snapshot_that_was_replaced_is_listed_again() {
    let served = serve(fixture("v3-s3"));
    served.server.answer_only(RequestKind::Get, Some(0));
    let started = starts(&served, &[]);
    until(|| served.server.stats().count(RequestKind::List, Outcome::Ok) > 0);
    let key = format!("db/{}", served.recorded.file("82fdcf411c47acbc/snapshots/00000000.snapshot.lz4").key);
    served.server.objects().update("bucket", &key, |object| object.etag = "0123456789abcdef0123456789abcdef".into());
    served.server.answer_only(RequestKind::Get, None);
    ended(started).gives(served.recorded.latest());
    let stats = served.server.stats();
    assert_eq!(stats.of_kind(RequestKind::List), 2, "{stats}");
    assert!(stats.count(RequestKind::Get, Outcome::PreconditionFailed) > 0, "{stats}");
}

#[test]
fn archived_files_are_named() {
    let served = serve(fixture("v3-s3"));
    let key = format!("db/{}", served.recorded.file("82fdcf411c47acbc/wal/00000000_00000000.wal.lz4").key);
    served.server.objects().update("bucket", &key, |object| object.storage_class = Some("GLACIER".into()));
    let ran = restore_with(&[&served.url()]).fails("archived");
    assert!(ran.stderr.contains(&key), "{ran:?}");
}
