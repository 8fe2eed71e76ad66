//! Tests of files of two lineages at one path: an old copy in the other key layout beside a live replica, or old
//! files of which a new database has overwritten only a part.

use super::support::*;
use crate::common::ltx_header;
use hydrant::ltx::encode::Encoder;
use hydrant::ltx::frame::Encoding;
use hydrant::ltx::{PageSize, Pgno, Txid};
use hydrant::sim::server::{Faults, Object, SimServer};
use hydrant::timestamp::Timestamp;
use std::ops::RangeInclusive;

const HOUR_MS: i64 = 3_600_000;
/// The time at which the old lineage began, in milliseconds. The live one began a day later.
const OLD_MS: i64 = 1_790_000_000_000;
const LIVE_MS: i64 = OLD_MS + 24 * HOUR_MS;
const PAGE_BYTES: usize = 512;

/// The page of the one-page database after this transaction of this lineage.
fn page(lineage: u8, txid: u64) -> Vec<u8> {
    let mut page = vec![lineage; PAGE_BYTES];
    page[0] = txid as u8;
    page
}

/// The bytes of a level 0 file for a database of one page.
fn ltx_file(lineage: u8, txid: u64, timestamp_ms: i64) -> Vec<u8> {
    let page_size = PageSize::new(PAGE_BYTES as u32).unwrap();
    let header = ltx_header(page_size, 1, txid, timestamp_ms);
    let mut encoder = Encoder::new(&header, Encoding::Block);
    encoder.page(Pgno(1), &page(lineage, txid)).unwrap();
    encoder.finish(0).unwrap()
}

/// The files of one lineage: the folder of level 0, the TXIDs, and the times.
struct Files {
    lineage: u8,
    folder: &'static str,
    txids: RangeInclusive<u64>,
    begun_ms: i64,
}

const OLD: Files = Files { lineage: b'o', folder: "a.db/ltx/0", txids: 1..=8, begun_ms: OLD_MS };
const LIVE: Files = Files { lineage: b'l', folder: "a.db/0000", txids: 1..=3, begun_ms: LIVE_MS };

impl Files {
    /// The lineage's files as (key, content, time).
    fn all(&self) -> impl Iterator<Item = (String, Vec<u8>, Timestamp)> + '_ {
        self.txids.clone().map(|txid| {
            let ms = self.begun_ms + txid as i64 * HOUR_MS;
            let key = format!("{}/{}-{}.ltx", self.folder, Txid(txid), Txid(txid));
            (key, ltx_file(self.lineage, txid, ms), Timestamp::from_millis(ms))
        })
    }
}

fn bucket(files: &[Files]) -> SimServer {
    let server = simulator(Faults::default());
    for (key, content, time) in files.iter().flat_map(Files::all) {
        let object = Object::new(content).last_modified(time).litestream_timestamp(time);
        server.objects().put("bucket", &key, object);
    }
    server
}

fn restored(place: &Place) -> Vec<u8> {
    std::fs::read(place.out()).unwrap()
}

#[test]
fn a_bucket_is_restored_from_the_files_that_litestream_writes_to_one() {
    let server = bucket(&[LIVE, OLD]);
    let url = url(&server.endpoint(), "a.db");
    let place = Place::new();
    let ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &url])).succeeded();
    assert_eq!(restored(&place), page(b'l', 3));
    for named in ["never joined", "a.db/000N/ (3 files up to TXID 0000000000000003", "a.db/ltx/ (8 files"] {
        assert!(ran.stderr.contains(named), "{named}: {ran:?}");
    }
    // The same must hold for a target time that is later than both lineages.
    let place = Place::new();
    let now = Timestamp::from_millis(LIVE_MS + 30 * HOUR_MS).to_string();
    run(&mut hydrant_s3(&["restore", "-timestamp", &now, "-o", &place.out(), &url])).succeeded();
    assert_eq!(restored(&place), page(b'l', 3));

    let plan = run(&mut hydrant_s3(&["restore", "-dry-run", "-o", &place.path("plan.db"), &url])).succeeded();
    assert!(plan.stderr.contains("never joined") && plan.stdout.contains("- 0000000000000003"), "{plan:?}");
    let list = run(&mut hydrant_s3(&["ltx", "-level", "all", &url])).succeeded();
    assert!(list.stderr.contains("another lineage") && list.stdout.lines().count() == 4, "{list:?}");
}

#[test]
fn what_only_the_other_lineage_reaches_is_an_error_that_names_it() {
    let server = bucket(&[LIVE, OLD]);
    let url = url(&server.endpoint(), "a.db");
    let place = Place::new();
    let before_live = Timestamp::from_millis(LIVE_MS).to_string();
    for (flag, value, text) in [
        ("-txid", "7", "TXID 0000000000000007 cannot be reached exactly"),
        ("-timestamp", before_live.as_str(), "timestamp does not exist"),
    ] {
        let ran = run(&mut hydrant_s3(&["restore", flag, value, "-o", &place.out(), &url])).failed(text);
        assert!(ran.stderr.contains("only the files below a.db/ltx/, another lineage, reach it"), "{ran:?}");
    }
    // No lineage reaches these targets, so the error must not recommend another lineage.
    let too_old = Timestamp::from_millis(OLD_MS).to_string();
    for (flag, value) in [("-txid", "9"), ("-timestamp", too_old.as_str())] {
        let ran = run(&mut hydrant_s3(&["restore", flag, value, "-o", &place.out(), &url])).failed("");
        assert!(!ran.stderr.contains("lineage, reach"), "{ran:?}");
    }
    place.is_empty();
}

#[test]
fn without_a_snapshot_of_its_own_the_live_layout_is_not_taken() {
    let server = bucket(&[Files { txids: 2..=3, ..LIVE }, OLD]);
    let place = Place::new();
    let ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &url(&server.endpoint(), "a.db")])).succeeded();
    assert_eq!(restored(&place), page(b'o', 8));
    assert!(ran.stderr.contains("never joined"), "{ran:?}");
}

#[test]
fn a_folder_is_restored_from_the_files_that_litestream_writes_to_one() {
    let place = Place::new();
    for (key, content, _) in [LIVE, OLD].iter().flat_map(Files::all) {
        let path = place.dir().join("replica").join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let url = format!("file://{}", place.path("replica/a.db"));
    let ran = run(&mut hydrant(&["restore", "-o", &place.out(), &url])).succeeded();
    assert_eq!(restored(&place), page(b'o', 8));
    assert!(ran.stderr.contains("restored from") && ran.stderr.contains("never joined"), "{ran:?}");
}

#[test]
fn a_whole_copy_in_the_other_layout_is_nothing_to_speak_of() {
    let server = bucket(&[LIVE, Files { folder: OLD.folder, ..LIVE }]);
    let place = Place::new();
    let ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &url(&server.endpoint(), "a.db")])).succeeded();
    assert_eq!(restored(&place), page(b'l', 3));
    assert!(!ran.stderr.contains("lineage"), "{ran:?}");
}

#[test]
fn a_fleet_says_the_same() {
    let server = bucket(&[LIVE, OLD]);
    let place = Place::new();
    let out = place.path("out");
    let pattern = url(&server.endpoint(), "**");
    let ran = run(hydrant_s3(&["restore-pattern", "--output-dir", &out, &pattern]).current_dir(place.dir()));
    let ran = ran.succeeded();
    assert_eq!(std::fs::read(place.path("out/a.db")).unwrap(), page(b'l', 3));
    assert!(ran.stderr.contains("never joined"), "{ran:?}");
}

#[test]
fn at_a_buckets_root_the_files_are_taken_that_litestream_lists_for_the_url() {
    let server = bucket(&[
        Files { folder: "0000", lineage: b'n', ..LIVE },
        Files { folder: "/0000", lineage: b's', ..LIVE },
        Files { folder: "./0000", lineage: b'd', ..LIVE },
    ]);
    let query = format!("endpoint={}&region=us-east-1", server.endpoint());
    for (url, lineage) in [("s3://bucket", b'd'), ("s3://bucket/", b's')] {
        let place = Place::new();
        let ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &format!("{url}?{query}")])).succeeded();
        assert_eq!(restored(&place), page(lineage, 3), "{url}");
        assert_eq!(ran.stderr.matches("never joined").count(), 2, "{ran:?}");
    }
}

#[test]
fn times_that_run_backwards_are_a_warning_that_names_both_files() {
    // A new database of the same name has overwritten TXIDs 1 and 2.
    let server = bucket(&[Files { folder: LIVE.folder, ..OLD }, Files { txids: 1..=2, ..LIVE }]);
    let place = Place::new();
    let ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &url(&server.endpoint(), "a.db")])).succeeded();
    let [older, newer] = [2, 3].map(|txid| format!("a.db/0000/{}-{}.ltx", Txid(txid), Txid(txid)));
    let warning = ran.stderr.lines().find(|line| line.contains("run backwards")).unwrap_or_else(|| panic!("{ran:?}"));
    let (at, then) = (warning.find(&older), warning.find(&newer));
    assert!(at.is_some() && at < then, "{warning}");
    // Without files of an old lineage there must be no warning.
    let place = Place::new();
    let server = bucket(&[LIVE]);
    let ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &url(&server.endpoint(), "a.db")])).succeeded();
    assert!(!ran.stderr.contains("backwards"), "{ran:?}");
}
