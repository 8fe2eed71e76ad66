//! Tests of answers that are wrong on their way (a bit is flipped), and of services that answer GETs otherwise than S3
//! does.

use super::support::*;
use hydrant::sim::generate::{GeneratedDatabase, LargeSpec, large_database};
use hydrant::sim::server::{Failure, Faults, Object, Outcome, Quirk, RequestKind};

/// One request at a time: nothing is hedged, and the requests come in the same order in every run.
const STEADY: [&str; 2] = ["--max-requests", "1"];

/// Restores and returns the run, after a check of its content.
#[track_caller]
fn restored(served: &Served, more: &[&str]) -> Ran {
    let place = Place::new();
    let out = place.out();
    let ran = run(&mut hydrant_s3(&[&["restore", "-json"], more, &STEADY[..], &["-o", &out, &served.url]].concat()));
    let ran = ran.succeeded();
    place.holds_only(&served.sha256);
    ran
}

fn number(ran: &Ran, field: &str) -> u64 {
    ran.json()[field].as_u64().unwrap_or_else(|| panic!("no {field} in {}", ran.stdout))
}

/// A database whose snapshot and whose increment are fetched in segments.
fn in_segments() -> GeneratedDatabase {
    let spec = LargeSpec { bytes: 32 << 20, increments: 1, pages_per_increment: 7500, ..LargeSpec::default() };
    let database = large_database(&spec).unwrap().to_database();
    let sizes: Vec<usize> = database.objects.iter().map(|object| object.bytes.len()).collect();
    assert!(sizes.iter().all(|&size| size > 8 << 20), "{sizes:?}");
    database
}

#[test]
fn a_flipped_bit_in_any_small_file_costs_one_request() {
    let served = serve(large(256 << 10, 3), Faults::default());
    assert_eq!(number(&restored(&served, &[]), "retries"), 0);
    for object in &served.database.objects {
        let end = object.bytes.len() as u64;
        // Page size and page count in the header, its time, its checksum; frames; index; trailer.
        let header = [0, 9, 12, 13, 14, 15, 23, 35, 47, 99];
        for at in header.into_iter().chain([100, 103, 107, end / 2, end - 25, end - 17, end - 12, end - 1]) {
            served.server.script(RequestKind::Get, &object.key, [Some(Failure::FlippedBitAt(at))]);
            let ran = restored(&served, &["-v"]);
            assert_eq!(number(&ran, "retries"), 1, "{} {at} {ran:?}", object.key);

            let said = ran.stderr.lines().filter(|line| line.starts_with("hydrant::s3: what arrived is damaged"));
            let said: Vec<&str> = said.collect();
            assert!(said.len() == 1 && said[0].contains(&object.key), "{at} {said:?}");
            assert!(said[0].contains(" cure=\"asked for once more on another connection\""), "{said:?}");
            assert!(ran.json()["warnings"].is_null(), "{ran:?}");
        }
    }
}

/// The page index, the header and the trailer of a large file, and its segments.
#[test]
fn a_flipped_bit_in_any_answer_of_a_large_file_is_asked_for_again() {
    let served = serve(in_segments(), Faults::default());
    let segments = number(&restored(&served, &[]), "requests");
    // The first answers are the header and the last bytes: the index and the trailer.
    let of_base = [(0, 15), (1, 100_000), (1, u64::MAX), (4, 100_000)];
    let of_increment = [(0, 15), (0, 60), (2, 4000)];
    for (object, cases) in served.database.objects.iter().zip([&of_base[..], &of_increment[..]]) {
        for &(nth, at) in cases {
            let failures = vec![None; nth].into_iter().chain([Some(Failure::FlippedBitAt(at))]);
            served.server.script(RequestKind::Get, &object.key, failures);
            let ran = restored(&served, &[]);
            // If the index is wrong, a segment is asked for again before the whole file is.
            assert!((1..=3).contains(&number(&ran, "retries")), "{} {nth} {at} {ran:?}", object.key);
            assert!(number(&ran, "requests") <= 2 * segments + 2, "{} {nth} {at} {ran:?}", object.key);
        }
        // A frame of which nothing but its own checks fails: one segment is asked for again, and nothing else.
        served.server.script(RequestKind::Get, &object.key, [None, None, Some(Failure::FlippedBitAt(3))]);
        assert_eq!(number(&restored(&served, &[]), "requests"), segments + 1, "{}", object.key);
    }
}

/// A file whose answers are wrong again and again is damaged, after its second answer.
#[test]
fn a_file_is_asked_for_again_once() {
    let served = serve(large(256 << 10, 0), Faults::default());
    let key = &served.database.objects[0].key;
    served.server.script(RequestKind::Get, key, vec![Some(Failure::FlippedBitAt(103)); 100]);
    let place = Place::new();
    run(&mut hydrant_s3(&[&["restore"], &STEADY[..], &["-o", &place.out(), &served.url]].concat())).failed(key);
    place.is_empty();
    assert_eq!(served.server.stats().count(RequestKind::Get, Outcome::Cut), 2);
}

#[test]
fn a_damaged_file_on_a_disk_is_not_asked_for_again() {
    let place = Place::new();
    let ran = run(&mut hydrant(&["restore", "-json", "-v", "-o", &place.out(), &damaged("bit-in-page")])).succeeded();
    assert!(number(&ran, "retries") == 0 && !ran.stderr.contains("asked for once more"), "{ran:?}");
}

#[test]
fn a_304_is_asked_for_again() {
    let served = serve(large(256 << 10, 2), Faults::default());
    for object in &served.database.objects {
        served.server.script(RequestKind::Get, &object.key, [Some(Failure::NotModified)]);
        assert_eq!(number(&restored(&served, &[]), "retries"), 1);
    }
    served.server.set_faults(Faults { fail: vec![(Failure::NotModified, 1.0)], ..Faults::default() });
    let place = Place::new();
    run(&mut hydrant_s3(&["restore", "-o", &place.out(), &served.url])).failed("HTTP 304");
}

#[test]
fn services_that_answer_otherwise_than_s3() {
    for database in [large(256 << 10, 3), in_segments()] {
        let served = serve(database, Faults::default());
        let gets = number(&restored(&served, &[]), "requests");
        let quirks = [Quirk::EtagSuffix, Quirk::IfMatchFails, Quirk::IfMatchUnknown, Quirk::WeakEtag];
        // Large files take long.
        let count = if served.database.objects.len() > 2 { quirks.len() } else { 1 };
        for quirk in quirks.into_iter().take(count) {
            served.server.set_faults(Faults { quirk: Some(quirk), ..Faults::default() });
            let ran = restored(&served, &["-v"]);
            let said = ran.stderr.matches("If-Match was refused for an unchanged object").count();
            assert_eq!(said, 1, "{quirk:?} {ran:?}");
            assert!((gets + 1..=2 * gets).contains(&number(&ran, "requests")), "{quirk:?} {ran:?}");
        }
        served.server.set_faults(Faults { quirk: Some(Quirk::RangeAs200), ..Faults::default() });
        assert_eq!(number(&restored(&served, &[]), "requests"), gets);
    }
}

#[test]
fn an_object_that_was_replaced_is_noticed_without_if_match() {
    for quirk in [Quirk::IfMatchFails, Quirk::IfMatchUnknown, Quirk::EtagSuffix, Quirk::WeakEtag] {
        let served = serve(large(256 << 10, 0), Faults::default());
        let faults = Faults { quirk: Some(quirk), changed_etag: 1.0, ..Faults::default() };
        served.server.set_faults(faults);
        let place = Place::new();
        run(&mut hydrant_s3(&["restore", "-o", &place.out(), &served.url])).failed("replaced or deleted");
        place.is_empty();
    }
}

/// Large files are then read from their beginning to their end, once.
#[test]
fn a_service_without_ranges() {
    let served = serve(in_segments(), Faults { quirk: Some(Quirk::NoRanges), ..Faults::default() });
    let ran = restored(&served, &["-v"]);
    assert_eq!(ran.stderr.matches("the service does not send ranges").count(), 1, "{ran:?}");
    // After a few requests for ranges, the whole file is read. If that body breaks off, it is read again up to the place
    // where it broke.
    for object in &served.database.objects {
        for failure in [Failure::HalfBody, Failure::FlippedBitAt(1_000_003)] {
            let failures = vec![None; 2].into_iter().chain(vec![Some(failure); 3]);
            served.server.script(RequestKind::Get, &object.key, failures);
            restored(&served, &[]);
        }
    }
    let place = Place::new();
    run(&mut hydrant_s3(&["restore", "-parallelism", "1", "-o", &place.out(), &served.url])).succeeded();
    place.holds_only(&served.sha256);
}

/// The listing does not say that the snapshot is archived, but its GET does.
#[test]
fn an_archived_snapshot_is_restored_around() {
    let (folder, manifest) = fixture("block-4096");
    let server = simulator(Faults::default());
    for object in manifest["objects"].as_array().unwrap() {
        let key = object["key"].as_str().unwrap();
        server.objects().put("bucket", &format!("app.db/{key}"), Object::new(std::fs::read(folder.join(key)).unwrap()));
    }
    let faults = Faults { fail: vec![(Failure::Archived, 1.0)], ..Faults::default() };
    server.set_faults(Faults { only_prefix: Some("app.db/0009/".into()), ..faults.clone() });
    let (place, url) = (Place::new(), url(&server.endpoint(), "app.db"));
    let ran = run(&mut hydrant_s3(&["restore", "-json", "-o", &place.out(), &url])).succeeded();
    place.holds_only(&latest(&manifest));
    let warnings = ran.json()["warnings"].to_string();
    assert!(warnings.contains("/0009/") && warnings.contains("the object is archived"), "{warnings}");
    server.set_faults(faults);
    let place = Place::new();
    let ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &url])).failed("the object is archived");
    assert!(ran.stderr.contains("InvalidObjectState"), "{ran:?}");
}
