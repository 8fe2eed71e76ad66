//! Tests of which generation is restored, and what is said about the choice.

use super::support::*;
use hydrant::timestamp::Timestamp;

const HOUR_NANOS: i64 = 3_600_000_000_000;

/// Restores the newest state of `recorded` from the simulator. Returns the run.
#[track_caller]
fn newest(recorded: Recorded) -> Ran {
    let served = serve(recorded);
    restore_with(&["-json", &served.url()])
}

/// The fixture, and its two generations with the last state of each.
fn two() -> (Recorded, [(String, String); 2]) {
    let recorded = fixture("v3-s3");
    let generations = recorded.last_states().try_into().unwrap();
    (recorded, generations)
}

/// Moves the times of the files of `generation` for which `moved` holds.
fn later(recorded: &mut Recorded, generation: &str, nanos: i64, moved: impl Fn(&str) -> bool) {
    for file in recorded.of_generation(generation).filter(|file| moved(&file.key)) {
        file.time = file.time.saturating_add_nanos(nanos);
    }
}

fn warnings(ran: &Ran) -> String {
    ran.json()["warnings"].as_array().map(|all| format!("{all:?}")).unwrap_or_default()
}

#[test]
fn a_healthy_replica_is_restored_without_warnings() {
    let (recorded, [_, (newer, hash)]) = two();
    let ran = newest(recorded).gives(&hash);
    let result = ran.json();
    assert!(result["warnings"].is_null(), "{result}");
    assert_eq!(result["generation"], newer);
    assert!(!ran.stderr.contains("Warning"), "{}", ran.stderr);
}

#[test]
fn the_generation_of_the_newest_snapshot_is_taken() {
    let (mut recorded, [(older, hash), (newer, _)]) = two();
    // The order of names and of files says nothing: the whole older generation is made the newer one.
    later(&mut recorded, &older, 24 * HOUR_NANOS, |_| true);
    let ran = newest(recorded).gives(&hash);
    assert_eq!(ran.json()["generation"], older);
    assert!(!warnings(&ran).contains(&newer), "{}", warnings(&ran));
}

#[test]
fn a_newer_file_in_another_generation_is_told() {
    let (mut recorded, [(older, _), (newer, hash)]) = two();
    // Two writers: the other generation still grows.
    let last = recorded.of_generation(&older).map(|file| file.key.clone()).max().unwrap();
    assert!(last.contains("/wal/"));
    later(&mut recorded, &older, 24 * HOUR_NANOS, |key| key == last);
    let ran = newest(recorded).gives(&hash);
    let said = warnings(&ran);
    assert!(said.contains(&older) && said.contains(&newer), "{said}");
    assert!(ran.stderr.contains(&older), "{}", ran.stderr);
}

#[test]
fn snapshots_of_the_same_second() {
    let (mut recorded, [(a, of_a), (b, of_b)]) = two();
    let second = Timestamp::from_millis(1_800_000_000_000);
    for generation in [&a, &b] {
        for file in recorded.of_generation(generation).filter(|file| file.key.contains("/snapshots/")) {
            file.time = second;
        }
    }
    // The generation with the newest file.
    for (this, other, hash) in [(&a, &b, &of_a), (&b, &a, &of_b)] {
        let mut recorded = recorded.clone();
        for (generation, after) in [(this, 2), (other, 1)] {
            for file in recorded.of_generation(generation).filter(|file| file.key.contains("/wal/")) {
                file.time = second.saturating_add_nanos(after * HOUR_NANOS);
            }
        }
        newest(recorded).gives(hash);
    }
    // The same second is asked for: the generation that goes on after it is the later one.
    for (this, hash) in [(&a, &of_a), (&b, &of_b)] {
        let mut recorded = recorded.clone();
        recorded.files.iter_mut().for_each(|file| file.time = second);
        let last = recorded.of_generation(this).map(|file| file.key.clone()).max().unwrap();
        later(&mut recorded, this, HOUR_NANOS, |key| key == last);
        let served = serve(recorded);
        let ran = restore_with(&["-json", "-timestamp", &second.to_string(), &served.url()]);
        assert_eq!((ran.code, &ran.json()["generation"]), (0, &this.as_str().into()), "{ran:?}");
        restore_with(&[&served.url()]).gives(hash);
    }
    // All times are the same: the greater name.
    recorded.files.iter_mut().for_each(|file| file.time = second);
    newest(recorded).gives(if a > b { &of_a } else { &of_b });
}

#[test]
fn a_newer_generation_without_a_snapshot_is_an_error_and_an_older_one_is_not() {
    let (recorded, [(older, _), (newer, _)]) = two();
    let snapshot = |generation: &str| format!("{generation}/snapshots/00000000.snapshot.lz4");
    let ran = newest(recorded.without(&snapshot(&newer))).fails("no snapshot");
    assert!(ran.stderr.contains(&newer), "{ran:?}");
    let (recorded, [_, (_, hash)]) = two();
    newest(recorded.without(&snapshot(&older))).gives(&hash);
}

/// In whole generations of a copy nothing tells which is the newest, except the times of the copy.
#[test]
fn times_against_the_order_of_files_are_told() {
    let (mut recorded, [_, (newer, hash)]) = two();
    let mut keys: Vec<String> = recorded.of_generation(&newer).map(|file| file.key.clone()).collect();
    keys.sort();
    let first = keys.iter().find(|key| key.contains("/wal/")).unwrap().clone();
    later(&mut recorded, &newer, HOUR_NANOS, |key| key == first);
    let times: Vec<Timestamp> = recorded.of_generation(&newer).map(|file| file.time).collect();
    let ran = newest(recorded).gives(&hash);
    let said = warnings(&ran);
    assert!(said.contains(&newer) && said.contains("cop"), "{said}");
    // Both ends of the generation's times are named.
    for end in [times.iter().min().unwrap(), times.iter().max().unwrap()] {
        assert!(said.contains(&end.to_rfc3339_seconds()[..19]), "{end}: {said}");
    }
}

/// The corpus has such a copy, of which every T gives a prefix of the WAL and never a mixture.
#[test]
fn a_shuffled_copy_is_told() {
    let Some(recorded) = named("v3-shuffled") else { return };
    let (latest, generation) = (recorded.latest().to_owned(), recorded.generations().remove(0).0);
    let ran = newest(recorded).gives(&latest);
    assert!(warnings(&ran).contains(&generation), "{}", warnings(&ran));
}

/// An older snapshot stands in for a damaged one only with all WAL since. Where the WAL between them is missing, it
/// would lead to an older state.
#[test]
fn an_older_snapshot_without_the_wal_since_stands_in_for_none() {
    let Some(mut recorded) = of_fleet("damaged/snapshot-past-wal/app.db") else { return };
    let newest = recorded.files.iter().filter(|file| file.key.contains("/snapshots/")).map(|file| file.key.clone());
    let newest = newest.max().unwrap();
    let snapshot = recorded.files.iter_mut().find(|file| file.key == newest).unwrap();
    snapshot.bytes[100] ^= 1;
    let served = serve(recorded.clone());
    let ran = restore_with(&[&served.url()]).fails("hole");
    assert!(ran.stderr.contains("0000000f"), "{ran:?}");
    // -newest-intact restores the older state, and says that it is older.
    let hash = recorded.manifest["sha256"].as_str().unwrap();
    let ran = restore_with(&["-json", "-newest-intact", &served.url()]).gives(hash);
    assert!(warnings(&ran).contains("0000000f"), "{}", warnings(&ran));
    // Up to the index before the damaged snapshot's, WAL gives the same state.
    let is_wal_since = |file: &RecordedFile| file.key.contains("/wal/") && file.key.contains("/0000000");
    assert!(recorded.files.iter().any(is_wal_since));
    for file in &mut recorded.files {
        file.key = file.key.replace("/0000000f.snapshot", "/00000009.snapshot");
    }
    restore_with(&[&serve(recorded.clone()).url()]).gives(hash);
    // Without any WAL, the older snapshots are too old.
    recorded.files.retain(|file| !file.key.contains("/wal/"));
    restore_with(&[&serve(recorded).url()]).fails("hole");
}

/// Where retention deletes while a restore reads, and below the oldest snapshot, holes do not matter.
#[test]
fn what_lies_before_the_snapshot_is_not_needed() {
    let Some(mut recorded) = named("v3-snaps-s3") else { return };
    let (newest_generation, ..) = recorded.generations().pop().unwrap();
    let latest = recorded.latest().to_owned();
    let snapshots: Vec<String> = recorded
        .of_generation(&newest_generation)
        .map(|file| file.key.clone())
        .filter(|key| key.contains("/snapshots/"))
        .collect();
    let index = snapshots.iter().max().unwrap().rsplit('/').next().unwrap()[..8].to_owned();
    let is_older = |key: &str| {
        generation_of(key) == Some(&newest_generation)
            && key.contains("/wal/")
            && key.rsplit('/').next().unwrap()[..8] < *index
    };
    let older = recorded.files.iter().filter(|file| is_older(&file.key)).count();
    // Of the files before it every second one is deleted.
    let mut n = 0;
    recorded.files.retain(|file| {
        n += usize::from(is_older(&file.key));
        !is_older(&file.key) || n % 2 == 0
    });
    println!("{older} files before the snapshot");
    newest(recorded).gives(&latest);
}
