//! Tests of answers that are wrong on their way (a bit is flipped), and of services that answer GETs otherwise than S3
//! does.

use super::support::*;
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
