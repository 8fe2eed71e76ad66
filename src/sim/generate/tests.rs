//! Tests that generated replicas restore to the states that their generator promises. The naive restorer restores
//! them.

use super::*;
use crate::sim::naive::{self, NaiveEntry, NaiveTarget};
use sha2::{Digest, Sha256};

fn restore(database: &GeneratedDatabase, target: NaiveTarget) -> Result<Vec<u8>, naive::NaiveError> {
    let entries: Vec<NaiveEntry> = database
        .objects
        .iter()
        .map(|object| NaiveEntry {
            level: object.level.get(),
            min_txid: object.min_txid.0,
            max_txid: object.max_txid.0,
            time_ns: object.litestream_timestamp.as_nanos(),
        })
        .collect();
    let chain = naive::plan(&entries, target)?;
    naive::restore(chain.iter().map(|&at| &database.objects[at].bytes[..]))
}

fn assert_state(database: &[u8], state: &State, what: &str) {
    assert_eq!(database.len() as u64, state.bytes, "{what}");
    assert_eq!(<[u8; 32]>::from(Sha256::digest(database)), state.sha256, "{what}");
}

fn integrity(database: &std::path::Path) -> String {
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

#[test]
fn random_histories_restore_to_every_state() {
    for seed in 0..60u64 {
        let params = HistoryParams {
            page_size: PageSize::new(512 << (seed % 8)).unwrap(),
            max_pages: if seed % 8 > 4 { 12 } else { 64 },
            retention: seed % 3 == 0,
            layout: if seed % 2 == 0 { Layout::Hex } else { Layout::Decimal },
            ..HistoryParams::default()
        };
        let database = random_history(seed, &params).unwrap();
        let newest = restore(&database, NaiveTarget::Latest).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_state(&newest, &database.expected, &format!("seed {seed}"));
        let mut reached = 0;
        for state in &database.states {
            match restore(&database, NaiveTarget::Txid(state.txid.0)) {
                Ok(found) => {
                    reached += 1;
                    assert_state(&found, state, &format!("seed {seed}, txid {}", state.txid));
                }
                Err(error) => assert!(params.retention, "seed {seed}: {error}"),
            }
        }
        assert!(reached > 0);
    }
}

#[test]
fn histories_hold_what_they_promise() {
    let (mut shrinks, mut empties, mut tracked, mut overlaps, mut mixed) = (0, 0, 0, 0, 0);
    for seed in 0..100 {
        let database = random_history(seed, &HistoryParams::default()).unwrap();
        shrinks += database.states.windows(2).filter(|pair| pair[1].bytes < pair[0].bytes).count();
        empties += database.states.iter().filter(|state| state.bytes == 0).count();
        for object in &database.objects {
            tracked += usize::from(object.bytes[7] == 0);
            overlaps += database
                .objects
                .iter()
                .filter(|other| {
                    object.min_txid < other.min_txid
                        && other.min_txid <= object.max_txid
                        && object.max_txid < other.max_txid
                })
                .count();
        }
        let firsts: std::collections::HashSet<u8> =
            database.objects.iter().filter(|object| object.bytes.len() > 200).map(|object| object.bytes[105]).collect();
        mixed += usize::from(firsts.len() == 2);
    }
    assert!(shrinks > 20 && empties > 5 && tracked > 50 && overlaps > 50 && mixed > 20);
}

#[test]
fn same_seed_same_bytes() {
    let one = random_history(7, &HistoryParams::default()).unwrap();
    let two = random_history(7, &HistoryParams::default()).unwrap();
    assert!(one.objects.iter().zip(&two.objects).all(|(a, b)| a.key == b.key && a.bytes == b.bytes));
    let other = random_history(8, &HistoryParams::default()).unwrap();
    assert_ne!(one.expected.sha256, other.expected.sha256);
}

#[test]
fn tiny_fleet_restores() {
    let fleet = tiny_fleet(&TinyFleet { count: 40, templates: 8, ..TinyFleet::default() }).unwrap();
    assert_eq!(fleet.len(), 40);
    for database in &fleet {
        assert_eq!(database.objects.len(), 5);
        let restored = restore(database, NaiveTarget::Latest).unwrap();
        assert_state(&restored, &database.expected, &database.root);
        assert!((32 * 1024..=36 * 1024).contains(&restored.len()));
    }
    assert_eq!(fleet[17].objects[0].key, "fleet/000017.db/0000/0000000000000005-0000000000000005.ltx");
    assert!(std::ptr::eq(fleet[0].objects[0].bytes.as_ptr(), fleet[8].objects[0].bytes.as_ptr()));
}

#[test]
fn large_database_restores_and_compresses_two_to_one() {
    let spec = LargeSpec { bytes: 6_000_000, increments: 20, ..LargeSpec::default() };
    let large = large_database(&spec).unwrap();
    let database = large.to_database();
    let restored = restore(&database, NaiveTarget::Latest).unwrap();
    assert_state(&restored, &database.expected, "large");
    let mut page = vec![0; 4096];
    for (pgno, found) in (1..).zip(restored.chunks(4096)) {
        large.expected_page(pgno, &mut page);
        assert_eq!(found, page, "page {pgno}");
    }
    let ratio = large.objects[0].bytes.len() as f64 / large.size_bytes() as f64;
    assert!((0.48..0.56).contains(&ratio), "{ratio}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.db");
    std::fs::write(&path, restored).unwrap();
    assert_eq!(integrity(&path), "ok");
}

#[test]
fn sample_fleet_is_sqlite() {
    let fleet = sample_fleet(9, 3).unwrap();
    let again = sample_fleet(9, 3).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (database, again) in fleet.iter().zip(&again) {
        assert_eq!(database.expected, again.expected, "{}", database.root);
        for state in &database.states {
            if let Ok(found) = restore(database, NaiveTarget::Txid(state.txid.0)) {
                assert_state(&found, state, &database.root);
            }
        }
        let restored = restore(database, NaiveTarget::Latest).unwrap();
        assert_state(&restored, &database.expected, &database.root);
        let path = folder.path().join("restored.db");
        std::fs::write(&path, restored).unwrap();
        assert_eq!(integrity(&path), "ok");
        let connection = rusqlite::Connection::open(&path).unwrap();
        let notes: i64 = connection.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap();
        assert!(notes > 0);
        drop(connection);
        std::fs::remove_file(path).unwrap();
    }
}
