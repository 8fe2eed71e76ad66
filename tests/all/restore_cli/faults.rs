//! Tests of buckets that change, throttle, stall or return wrong data during a restore.

use super::support::*;
use crate::common::ltx_header;
use crate::common::raw::{RawServer, answer};
use hydrant::ltx::encode::Encoder;
use hydrant::ltx::frame::Encoding;
use hydrant::ltx::header::Header;
use hydrant::ltx::{PageSize, Pgno, Txid};
use hydrant::sim::generate::sample_fleet;
use hydrant::sim::server::{Failure, Faults, Object, Outcome, RequestKind};

/// A server whose replica has three level 0 files, and a snapshot of the same state that is not stored yet.
fn compacted() -> (Served, Object) {
    let served = serve(large(1 << 20, 0), Faults::default());
    let snapshot = served.database.objects[0].clone();
    let object = Object::new(snapshot.bytes.clone()).litestream_timestamp(snapshot.litestream_timestamp);
    (served, object)
}

#[test]
fn files_compacted_away_meanwhile_are_planned_anew() {
    // The replica has level 0 files 1 to n. Between listing and fetching they are replaced by a snapshot of the
    // same state.
    let database = sample_fleet(1, 7).unwrap().remove(0);
    let newest = database.expected.txid;
    let level_0 = database.objects.iter().filter(|o| o.level.get() == 0).cloned().collect::<Vec<_>>();
    let served = serve(database, Faults::default());
    served.server.answer_only(RequestKind::Get, Some(0));
    let objects = served.server.objects();
    for key in objects.keys("bucket", "") {
        objects.remove("bucket", &key);
    }
    for object in &level_0 {
        objects.put("bucket", &object.key, Object::new(object.bytes.clone()));
    }
    let snapshot = merged(&level_0);
    let place = Place::new();
    let running = start(&mut hydrant_s3(&["restore", "-json", "-o", &place.out(), &served.url]));
    until(|| served.server.stats().count(RequestKind::List, Outcome::Ok) > 0);
    for object in &level_0 {
        objects.remove("bucket", &object.key);
    }
    let key = hydrant::sim::generate::key(
        &served.database.root,
        hydrant::catalogue::Layout::Hex,
        hydrant::ltx::Level::SNAPSHOT,
        Txid(1),
        newest,
    );
    objects.put("bucket", &key, Object::new(snapshot));
    served.server.answer_only(RequestKind::Get, None);
    let ran = running.wait().succeeded();
    place.holds_only(&served.sha256);
    assert_eq!(ran.json()["txid"], newest.to_string());
    assert!(served.server.stats().count(RequestKind::Get, Outcome::NotFound) > 0, "nothing was missing");
}

/// The bytes of the snapshot that a compaction of these files makes.
fn merged(files: &[hydrant::sim::generate::GeneratedObject]) -> Vec<u8> {
    let mut pages = std::collections::BTreeMap::new();
    let mut last = None;
    for file in files {
        let verified = hydrant::ltx::decoder::verify_file(file.bytes.clone(), None, |pgno, page| {
            pages.insert(pgno, page.to_vec());
        });
        last = Some(verified.unwrap().header);
    }
    let header = Header { min_txid: Txid(1), pre_apply_checksum: 0, ..last.unwrap() };
    let mut encoder = Encoder::new(&header, Encoding::Block);
    for (pgno, page) in pages.range(..=Pgno(header.commit)) {
        encoder.page(*pgno, page).unwrap();
    }
    encoder.finish(0).unwrap()
}

#[test]
fn a_file_that_was_replaced_meanwhile_is_listed_anew() {
    let served = serve(large(1 << 20, 3), Faults::default());
    served.server.answer_only(RequestKind::Get, Some(0));
    let place = Place::new();
    let running = start(&mut hydrant_s3(&["restore", "-o", &place.out(), &served.url]));
    until(|| served.server.stats().count(RequestKind::List, Outcome::Ok) > 0);
    for object in &served.database.objects {
        served.server.objects().update("bucket", &object.key, |o| o.etag = "0123456789abcdef0123456789abcdef".into());
    }
    served.server.answer_only(RequestKind::Get, None);
    running.wait().succeeded();
    place.holds_only(&served.sha256);
    assert!(served.server.stats().count(RequestKind::Get, Outcome::PreconditionFailed) > 0);
    assert_eq!(served.server.stats().of_kind(RequestKind::List), 2);
}

#[test]
fn a_bucket_that_never_rests_is_given_up() {
    let served = serve(large(256 << 10, 2), Faults { changed_etag: 1.0, ..Faults::default() });
    let place = Place::new();
    let ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &served.url]));
    ran.failed("replaced or deleted while restoring");
    place.is_empty();
}

#[test]
fn a_black_holed_request_is_made_again() {
    let (served, _) = compacted();
    let key = served.database.objects[0].key.clone();
    served.server.script(RequestKind::Get, &key, [Some(Failure::BlackHole)]);
    let place = Place::new();
    let ran = run(&mut hydrant_s3(&["restore", "-json", "-o", &place.out(), &served.url])).succeeded();
    place.holds_only(&served.sha256);
    assert_eq!(ran.json()["retries"], 1);
}

#[test]
fn bodies_that_stall_break_or_end_early_are_resumed() {
    let served = serve(large(20 << 20, 4), Faults::default());
    let snapshot = served.database.objects[0].key.clone();
    let broken = [
        Some(Failure::HalfBody),
        Some(Failure::ResetAfterHeaders),
        Some(Failure::ResetBeforeHeaders),
        None,
        Some(Failure::HalfBody),
        Some(Failure::StalledBody),
        Some(Failure::InternalError),
    ];
    served.server.script(RequestKind::Get, &snapshot, broken);
    for object in &served.database.objects[1..] {
        served.server.script(RequestKind::Get, &object.key, [Some(Failure::HalfBody), Some(Failure::RequestTimeout)]);
    }
    let place = Place::new();
    run(&mut hydrant_s3(&["restore", "-o", &place.out(), &served.url])).succeeded();
    place.holds_only(&served.sha256);
}

#[test]
fn a_storm_of_503_passes() {
    let served = serve(large(20 << 20, 200), Faults { fail: vec![(Failure::SlowDown, 0.3)], ..Faults::default() });
    let place = Place::new();
    let ran = run(&mut hydrant_s3(&["restore", "-json", "-o", &place.out(), &served.url])).succeeded();
    place.holds_only(&served.sha256);
    let stats = served.server.stats();
    let unavoidable = stats.total() - stats.with_outcome(Outcome::SlowDown);
    assert!(stats.total() as f64 <= 1.15 * unavoidable as f64 / 0.7 + 10.0, "{stats}");
    assert!(ran.json()["retries"].as_u64().unwrap() > 0);
}

#[test]
fn a_bit_turned_on_the_way_is_found() {
    let served = serve(large(1 << 20, 2), Faults::default());
    // The faults concern only this one file, and no other chain of files exists.
    let key = served.database.objects[0].key.clone();
    let faults = Faults { only_prefix: Some(key), fail: vec![(Failure::FlippedBit, 1.0)], ..Faults::default() };
    served.server.set_faults(Faults { only_kind: Some(RequestKind::Get), ..faults });
    let place = Place::new();
    let ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &served.url]));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    place.is_empty();
}

#[test]
fn a_damaged_file_is_restored_around_and_reported() {
    let place = Place::new();
    let ran = run(&mut hydrant(&["restore", "-json", "-o", &place.out(), &damaged("bit-in-page")])).succeeded();
    let fleet = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus/fleet/fleet.json");
    let fleet: serde_json::Value = serde_json::from_slice(&std::fs::read(fleet).unwrap()).unwrap();
    let databases = fleet["databases"].as_array().unwrap();
    let expected = databases.iter().find(|d| d["key"] == "damaged/bit-in-page/app.db").unwrap();
    place.holds_only(expected["sha256"].as_str().unwrap());
    let warnings = ran.json()["warnings"].as_array().unwrap().clone();
    assert!(warnings.iter().any(|w| w.as_str().unwrap().contains("/0009/")), "{warnings:?}");
    assert!(ran.stderr.contains("Warning: "), "{}", ran.stderr);
}

/// A damaged file that is too large for one GET must give the same class of error as a small one.
#[test]
fn damage_in_the_tail_of_a_large_file_gets_its_class() {
    let database = large(20 << 20, 1);
    let whole = database.objects[0].bytes.clone();
    assert!(whole.len() > 9 << 20, "{}", whole.len());
    let end = whole.len();
    let flipped = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x10;
        bytes
    };
    let cases = [
        ("cut by a byte", whole[..end - 1].to_vec(), "truncated"),
        ("cut in the index", whole[..end - 40_000].to_vec(), "truncated"),
        ("cut in the pages", whole[..9 << 20].to_vec(), "truncated"),
        ("cut and filled with zeros", [&whole[..9 << 20], &vec![0; end - (9 << 20)]].concat(), "malformed"),
        ("a bit in a page", flipped(5 << 20), ""),
        ("a bit in the index", flipped(end - 1000), ""),
        ("a bit in the index's size", flipped(end - 18), "malformed"),
        ("a bit in the checksum", flipped(end - 3), "checksum mismatch"),
        ("a byte too many", [&whole[..], b"x"].concat(), "malformed"),
        ("nothing but the header", whole[..100].to_vec(), "truncated"),
        ("noise", vec![0x5a; 9 << 20], "malformed"),
    ];
    let served = serve(database, Faults::default());
    for (what, bytes, class) in cases {
        served.server.objects().put("bucket", &served.database.objects[0].key, Object::new(bytes));
        let place = Place::new();
        let ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &served.url]));
        println!("{what}: {}", ran.stderr.trim_end());
        let ran = ran.failed(&served.database.objects[0].key);
        let found = ["truncated", "malformed", "checksum mismatch"]
            .into_iter()
            .find(|c| ran.stderr.contains(&format!("Error: {c}: ")));
        assert!(found.is_some_and(|found| class.is_empty() || found == class), "{what}: {ran:?}");
        place.is_empty();
    }
}

/// Whatever damage the snapshot has, the smaller files give the same state, and a message names the snapshot.
#[test]
fn redundancy_is_used() {
    let (folder, manifest) = fixture("block-4096");
    let replica = Place::new();
    for object in manifest["objects"].as_array().unwrap() {
        let key = object["key"].as_str().unwrap();
        let path = replica.path(key);
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::copy(folder.join(key), path).unwrap();
    }
    let snapshot = "0009/0000000000000001-000000000000000d.ltx";
    let whole = std::fs::read(folder.join(snapshot)).unwrap();
    let mut cases: Vec<(String, Vec<u8>)> = [0, 1, 99, 100, 101, 300, whole.len() / 2, whole.len() - 1]
        .map(|len| (format!("cut to {len}"), whole[..len].to_vec()))
        .into();
    let places = (0..100).step_by(3).chain([13, 14, 15, whole.len() / 2, whole.len() - 30, whole.len() - 1]);
    for (n, at) in places.enumerate() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (n % 8);
        cases.push((format!("a bit at {at}"), bytes));
    }
    cases.push(("a byte too many".into(), [&whole[..], b"x"].concat()));
    let url = format!("file://{}", replica.dir().display());
    for (what, bytes) in cases {
        std::fs::write(replica.path(snapshot), bytes).unwrap();
        let place = Place::new();
        let ran = run(&mut hydrant(&["restore", "-json", "-o", &place.out(), &url]));
        assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
        place.holds_only(&latest(&manifest));
        let warnings = ran.json()["warnings"].to_string();
        assert!(warnings.contains(snapshot) && !warnings.contains("0000/"), "{what}: {warnings}");
    }
}

/// A valid LTX file with these pages, which are not a valid SQLite database.
fn one_file(pages: &[u8], page_size: u32) -> Vec<u8> {
    let page_size = PageSize::new(page_size).unwrap();
    let header = ltx_header(page_size, (pages.len() / page_size.bytes()) as u32, 1, 1_790_000_000_000);
    let mut encoder = Encoder::new(&header, Encoding::Block);
    for (pgno, page) in (1..).zip(pages.chunks(page_size.bytes())) {
        encoder.page(Pgno(pgno), page).unwrap();
    }
    encoder.finish(0).unwrap()
}

#[test]
fn sqlite_checks_before_anything_is_published() {
    let database = sample_fleet(1, 3).unwrap().remove(0);
    let served = serve(database, Faults::default());
    for mode in ["quick", "full"] {
        let place = Place::new();
        let args = ["restore", "-json", "-integrity-check", mode, "-o", &place.out(), &served.url];
        let ran = run(&mut hydrant_s3(&args)).succeeded();
        place.holds_only(&served.sha256);
        assert_eq!(ran.json()["integrity_check"], mode);
    }

    let place = Place::new();
    run(&mut hydrant_s3(&["restore", "-o", &place.out(), &served.url])).succeeded();
    let mut image = std::fs::read(place.out()).unwrap();
    let page_size = served.database.page_size.bytes();
    // Every page but the first gets wrong cells. The header stays valid, so that SQLite opens the database.
    for page in image.chunks_mut(page_size).skip(1) {
        page[page_size / 2..].iter_mut().for_each(|b| *b ^= 0x55);
    }
    let replica = Place::new();
    let file = replica.path("ltx/9/0000000000000001-0000000000000001.ltx");
    std::fs::create_dir_all(std::path::Path::new(&file).parent().unwrap()).unwrap();
    std::fs::write(&file, one_file(&image, page_size as u32)).unwrap();
    let url = format!("file://{}", replica.dir().display());
    for force in ["-force", "-force=false"] {
        let place = Place::new();
        if force == "-force" {
            place.write("out.db", "old");
            place.write("out.db-wal", "old wal");
        }
        let before = place.contents();
        run(&mut hydrant(&["restore", force, "-integrity-check", "full", "-o", &place.out(), &url]))
            .failed("integrity check failed, nothing was published");
        assert_eq!(place.contents(), before);
    }
    // Without -integrity-check SQLite does not check the database.
    let place = Place::new();
    run(&mut hydrant(&["restore", "-o", &place.out(), &url])).succeeded();
    assert_eq!(std::fs::read(place.out()).unwrap(), image);
}

/// Each page of the listing refers to a further page, for ever.
#[test]
fn a_listing_that_does_not_end_is_an_error() {
    let page = |token: &str| {
        let more = "<IsTruncated>true</IsTruncated>";
        format!("<ListBucketResult>{more}<NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>")
    };
    let two_in_turn: fn(usize) -> String = |n| (n % 2).to_string();
    let always_new: fn(usize) -> String = |n| n.to_string();
    for (token, why) in [(two_in_turn, "a continuation token that it gave before"), (always_new, "1000 pages in a row")]
    {
        let server = RawServer::start(move |request, to| answer(to, "200 OK", "", page(&token(request.n)).as_bytes()));
        let (place, url) = (Place::new(), url(&server.endpoint(), "p/a.db"));
        let ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &url])).failed("the listing does not end");
        assert!(ran.stderr.contains(why), "{ran:?}");
        let ran = run(hydrant_s3(&["restore-pattern", "-output-dir", &place.path("d"), &url]).current_dir(place.dir()));
        assert!(ran.code == Some(1) && ran.stderr.contains(why), "{ran:?}");
    }
}
