//! Tests of `-timestamp`: it must give the right state with few header reads, even if every LastModified is wrong.

use super::support::*;
use hydrant::sim::naive::{self, NaiveEntry, NaiveTarget};
use hydrant::sim::server::{Faults, RequestKind};
use hydrant::timestamp::Timestamp;

/// A server with a snapshot and many small level 0 files, one per second.
fn many() -> Served {
    serve(large(64 << 10, 1500), Faults::default())
}

fn expected(served: &Served, at: Timestamp) -> (String, usize) {
    let objects = &served.database.objects;
    let entries: Vec<NaiveEntry> = objects
        .iter()
        .map(|o| NaiveEntry {
            level: o.level.get(),
            min_txid: o.min_txid.0,
            max_txid: o.max_txid.0,
            time_ns: o.litestream_timestamp.as_nanos(),
        })
        .collect();
    let files = naive::plan(&entries, NaiveTarget::Before(at.as_nanos())).unwrap();
    let image = naive::restore(files.iter().map(|&i| &objects[i].bytes[..])).unwrap();
    use sha2::Digest;
    (hex(&sha2::Sha256::digest(image)), files.len())
}

fn restores_in_few_looks(served: &Served) {
    let n = served.database.objects.len();
    let bound = (4.0 * (n as f64).log2()) as u64 + 20;
    for i in [1, 2, n / 3, n - 2, n - 1] {
        let at = served.database.objects[i].litestream_timestamp;
        let (hash, files) = expected(served, at);
        let place = Place::new();
        let before = served.server.stats();
        let time = at.to_string();
        let ran = run(&mut hydrant_s3(&["restore", "-json", "-timestamp", &time, "-o", &place.out(), &served.url]));
        let ran = ran.succeeded();
        place.holds_only(&hash);
        let made = served.server.stats().since(&before);
        let looks = made.of_kind(RequestKind::Get) + made.of_kind(RequestKind::Head) - files as u64;
        println!("{time}: {files} of {n} files, {looks} looks, {} lists", made.of_kind(RequestKind::List));
        assert!(looks <= bound, "{looks} looks, {bound} allowed");
        assert_eq!(made.of_kind(RequestKind::List), 2);
        // A hedge that was cancelled may never have reached the server, so the server may have counted fewer
        // requests.
        let (requests, hedged) = (ran.json()["requests"].as_u64().unwrap(), ran.json()["hedged"].as_u64().unwrap());
        assert!((requests - hedged..=requests).contains(&made.total()), "{requests} {hedged} {}", made.total());
    }
}

#[test]
fn few_looks() {
    restores_in_few_looks(&many());
}

#[test]
fn few_looks_in_a_copied_bucket() {
    let served = many();
    let now = Timestamp::now();
    for object in &served.database.objects {
        served.server.objects().update("bucket", &object.key, |o| o.last_modified = now);
    }
    restores_in_few_looks(&served);
    // `ltx -times` must say that the time comes from the metadata or the header.
    let ran = run(&mut hydrant_s3(&["ltx", "-level", "9", "-json", "-times", &served.url])).succeeded();
    assert_ne!(ran.json()[0]["time_source"], "last_modified");
    let snapshot = served.database.objects.iter().find(|o| o.level.get() == 9).unwrap();
    assert_eq!(ran.json()[0]["timestamp"], snapshot.litestream_timestamp.to_rfc3339_seconds());
}

#[test]
fn a_time_after_everything_is_the_newest_state() {
    let served = serve(large(256 << 10, 5), Faults::default());
    for time in ["2199-01-01T00:00:00Z", "2199-01-01T00:00:00.123456789+02:00"] {
        let place = Place::new();
        run(&mut hydrant_s3(&["restore", "-timestamp", time, "-o", &place.out(), &served.url])).succeeded();
        place.holds_only(&served.sha256);
    }
    let place = Place::new();
    let args = ["restore", "-if-replica-exists", "-timestamp", "2001-01-01T00:00:00Z", "-o", &place.out(), &served.url];
    run(&mut hydrant_s3(&args)).failed("timestamp does not exist");
    place.is_empty();
}
