//! A history of 200,000 entries: how many requests and how much memory a restore from it takes.

use super::support::{BUCKET, only_read, peak_run};
use hydrant::catalogue::Layout;
use hydrant::ltx::{Level, Txid};
use hydrant::sim::generate::{HistoryParams, key, random_history};
use hydrant::sim::server::{Object, RequestKind, SimOptions, SimServer};
use hydrant::timestamp::Timestamp;

/// Files of level 0 that were put and deleted.
const FILES: u64 = 100_000;
const BEGIN_MS: i64 = 1_790_000_000_000;

/// A database whose replica was complete at a time. After it, files of level 0 with higher TXIDs are put and deleted,
/// one a second. Returns the server, the time, and the hash and TXID of the database.
fn scene() -> (SimServer, Timestamp, String, Txid, String) {
    let database = random_history(7, &HistoryParams::default()).unwrap();
    let server = SimServer::start(SimOptions::default()).unwrap();
    for object in &database.objects {
        let at = Timestamp::from_millis(BEGIN_MS);
        let stored =
            Object::new(object.bytes.clone()).litestream_timestamp(object.litestream_timestamp).last_modified(at);
        server.versions().put_version(BUCKET, &object.key, &format!("d{}", object.min_txid), stored);
    }
    let newest = database.objects.iter().map(|object| object.max_txid.0).max().unwrap();
    let level = Level::new(0).unwrap();
    for n in 1..=FILES {
        let txid = Txid(newest + 1 + n);
        let key = key(&database.root, Layout::Hex, level, txid, txid);
        let at = |ms: i64| Timestamp::from_millis(BEGIN_MS + 10_000 + n as i64 * 1_000 + ms);
        server.versions().put_version(BUCKET, &key, &format!("p{n}"), Object::new("x").last_modified(at(0)));
        server.versions().put_marker(BUCKET, &key, &format!("m{n}"), at(500));
    }
    let sha256 = hydrant::hex::Hex(&database.expected.sha256).to_string();
    (server, Timestamp::from_millis(BEGIN_MS + 1_000), sha256, database.expected.txid, database.root)
}

#[test]
fn a_history_of_200_000_entries() {
    let (server, at, sha256, txid, root) = scene();
    let dir = tempfile::tempdir().unwrap();
    let (at, url) = (at.to_string(), format!("s3://{BUCKET}/{}", root.trim_end_matches('/')));
    let measured = |args: &[&str]| {
        let before = server.stats();
        let (ran, peak_bytes, took) = peak_run(dir.path(), &server, args);
        let pages = server.stats().since(&before).of_kind(RequestKind::ListVersions);
        println!("{}: {pages} pages, {} MiB, {took:?}", args[..2].join(" "), peak_bytes >> 20);
        (ran.said(0, &[]), pages, peak_bytes)
    };
    let begin = measured(&["restore", "-o", "begin.db", "-json", "-as-of", &at, &url]);
    assert_eq!(begin.0.json()["txid"], txid.to_string());
    assert_eq!(super::support::sha256(&dir.path().join("begin.db")), sha256);
    // Not the 200 pages of level 0 behind the time.
    assert!(begin.1 < 20, "{} pages", begin.1);
    // The whole history, twice.
    let last = measured(&["restore", "-o", "last.db", "-json", "-as-of", "last", &url]);
    assert_eq!(last.0.json()["txid"], txid.to_string());
    assert!((200..230).contains(&last.1), "{} pages", last.1);
    let versions = measured(&["ltx", "-versions", &url]);
    assert!((200..230).contains(&versions.1), "{} pages", versions.1);
    assert!(versions.0.stdout.lines().count() as u64 > FILES);
    // Beside 16 MiB for the program itself: 200 bytes an entry, and a page.
    assert!(last.2 < 200 << 20, "{} MiB", last.2 >> 20);
    only_read(&server);
}
