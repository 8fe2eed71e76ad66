//! Tests that generated replicas of Litestream 0.3 restore to what their generator promises. The naive restorer
//! restores them.

use super::*;
use crate::ltx::PageSize;
use crate::sim::naive_v3::{NaiveTarget, NaiveV3Error, restore, restore_state};
use crate::sim::sqlite::is_intact;
use std::collections::{BTreeMap, BTreeSet};

fn page_size(bytes: u32) -> PageSize {
    PageSize::new(bytes).unwrap()
}

fn newest(replica: &GeneratedV3) -> Result<Vec<u8>, NaiveV3Error> {
    restore(&replica.entries(), NaiveTarget::Latest, None, &is_intact)
}

/// Restores a packed database to all its truths. Returns how many there are.
fn check_truths(replica: &GeneratedV3, what: &str) -> usize {
    let entries = replica.entries();
    for truth in &replica.truths {
        let target = truth.at.map_or(NaiveTarget::Latest, |at| NaiveTarget::At(at.as_nanos()));
        let what = format!("{what}, {target:?}");
        match restore(&entries, target, None, &is_intact) {
            Ok(database) => {
                let content = V3Content::of(&database);
                assert!(truth.contents.contains(&content), "{what}: {content:?} instead of {truth:?}");
            }
            Err(error) => assert_eq!(Some(error.class), truth.error, "{what}: {error}"),
        }
    }
    assert!(replica.truths.iter().any(|truth| truth.at.is_none()), "{what}");
    replica.truths.len()
}

fn packed(seed: u64) -> (GeneratedV3, PackSpec) {
    let spec = PackSpec {
        page_size: page_size([4096, 1024, 512, 8192, 4096, 65536, 2048][seed as usize % 7]),
        generations: 1 + (seed % 3) as u32,
        steps: 24,
        auto_vacuum: seed % 4 == 1,
        splits: seed % 5 != 2,
        dies: seed.is_multiple_of(3),
        big_endian: seed % 8 == 5,
        whole_seconds: seed % 6 == 4,
        ..PackSpec::default()
    };
    (pack_sqlite(seed, &spec).unwrap(), spec)
}

/// SQLite's own truncating checkpoint and the naive restorer agree, byte for byte, at the time of every object.
#[test]
fn what_sqlite_wrote_restores_to_every_state() {
    let mut checked = 0;
    for seed in 0..24 {
        let (replica, spec) = packed(seed);
        checked += check_truths(&replica, &format!("seed {seed}, {spec:?}"));
    }
    assert!(checked > 500, "{checked} targets");
}

/// With one generation, nothing else stands in for a snapshot that is ahead.
#[test]
fn snapshots_that_are_ahead_are_seen() {
    let mut several = 0;
    for seed in 0..40 {
        let spec = PackSpec { generations: 1, steps: 12, ..PackSpec::default() };
        let replica = pack_sqlite(seed, &spec).unwrap();
        check_truths(&replica, &format!("seed {seed}, {spec:?}"));
        several += replica.truths.iter().filter(|truth| truth.contents.len() > 1).count();
    }
    assert!(several > 0, "no snapshot was ahead");
}

#[test]
fn packed_replicas_hold_what_they_promise() {
    let (mut indexes, mut snapshots, mut header_alone) = (0, 0, 0);
    for seed in 0..6 {
        let (replica, _) = packed(seed);
        let names: Vec<&str> = replica.objects.iter().map(|object| object.key.rsplit('/').next().unwrap()).collect();
        let of_wal: BTreeSet<&str> = replica
            .objects
            .iter()
            .filter(|object| object.key.contains("/wal/"))
            .map(|object| &object.key[..60])
            .collect();
        indexes += of_wal.len();
        snapshots += names.iter().filter(|name| name.contains("snapshot")).count();
        header_alone += names.iter().filter(|name| name.ends_with("_00000020.wal.lz4")).count();
        assert!(replica.objects.iter().all(|object| object.key.starts_with("packed.db/generations/")));
    }
    assert!(indexes > 12 && snapshots > 12 && header_alone > 0, "{indexes} {snapshots} {header_alone}");
}

#[test]
fn same_seed_same_objects() {
    let (one, two, other) = (packed(3).0, packed(3).0, packed(10).0);
    assert_eq!(one.objects, two.objects);
    assert_ne!(one.newest(), other.newest());
    let params = V3HistoryParams::default();
    assert_eq!(random_v3_history(5, &params).objects, random_v3_history(5, &params).objects);
    assert_ne!(random_v3_history(5, &params).objects, random_v3_history(6, &params).objects);
}

/// A random history without damage restores at all times, from its first snapshot on. Only a snapshot that is ahead
/// may be refused.
#[test]
fn random_histories_restore() {
    let (mut restored, mut refused) = (0, 0);
    for seed in 0..60u64 {
        let params = V3HistoryParams {
            page_size: page_size(512 << (seed % 8)),
            big_endian: seed % 3 == 0,
            max_pages: if seed % 8 > 4 { 10 } else { 60 },
            whole_seconds: seed % 4 == 0,
            ..V3HistoryParams::default()
        };
        let replica = random_v3_history(seed, &params);
        let entries = replica.entries();
        let mut begun = false;
        for at in replica.times() {
            match restore_state(&entries, NaiveTarget::At(at.as_nanos()), None, &is_intact) {
                Ok(state) => {
                    let reached = (state.generation, state.index, state.offset);
                    assert!(is_intact(&state.database), "seed {seed} at {at}: {reached:x?}");
                    begun = true;
                    restored += 1;
                }
                Err(error) if error.class == "integrity check" => refused += 1,
                Err(error) => {
                    let is_early = !begun && error.class == "timestamp does not exist";
                    assert!(is_early, "seed {seed} at {at}: {error}");
                }
            }
        }
    }
    assert!(restored > 600 && refused * 10 < restored, "{restored} restored, {refused} refused");
}

#[test]
fn damage_is_noticed() {
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..300 {
        let params = V3HistoryParams {
            page_size: page_size(512),
            max_pages: 20,
            max_generations: 1,
            ahead: 0.0,
            damage: V3Damage::ALL.to_vec(),
            ..V3HistoryParams::default()
        };
        let class = newest(&random_v3_history(seed, &params)).map_or_else(|error| error.class, |_| "restored");
        *classes.entry(class).or_default() += 1;
    }
    println!("{classes:?}");
    for class in ["restored", "hole", "truncated", "malformed", "checksum mismatch", "encrypted", "no snapshot"] {
        assert!(classes.contains_key(class), "{class}: {classes:?}");
    }
}

#[test]
fn shuffled_times_never_give_a_wrong_database() {
    for seed in 0..40 {
        let params = V3HistoryParams {
            page_size: page_size(512),
            shuffled: 1.0,
            ahead: 0.0,
            whole_wals: 0.0,
            ..V3HistoryParams::default()
        };
        let replica = random_v3_history(seed, &params);
        let entries = replica.entries();
        for at in replica.times() {
            if let Ok(database) = restore(&entries, NaiveTarget::At(at.as_nanos()), None, &is_intact) {
                assert!(is_intact(&database), "seed {seed} at {at}");
            }
        }
    }
}

#[test]
fn fleets_restore() {
    let fleet = v3_fleet(&FleetV3 { count: 40, templates: 8, ..FleetV3::default() });
    assert_eq!(fleet.len(), 40);
    for replica in &fleet {
        assert_eq!(replica.objects.len(), 6);
        let database = newest(replica).unwrap();
        assert_eq!(Some(V3Content::of(&database)), replica.newest(), "{}", replica.root);
        assert!((32 * 1024..=36 * 1024).contains(&database.len()) && is_intact(&database));
    }
    assert!(fleet[17].objects[0].key.starts_with("fleet/000017.db/generations/"));
    assert!(std::ptr::eq(fleet[0].objects[0].bytes.as_ptr(), fleet[8].objects[0].bytes.as_ptr()));
    let generations: BTreeSet<&str> = fleet.iter().map(|replica| &replica.objects[0].key[..44]).collect();
    assert_eq!(generations.len(), 40);
}

#[test]
fn large_databases_restore_and_compress_two_to_one() {
    let spec = LargeV3Spec { bytes: 10_000_000, indexes: 12, segments: 3, ..LargeV3Spec::default() };
    let large = large_v3(&spec).unwrap();
    let replica = large.to_replica();
    assert_eq!(replica.objects.len(), 1 + 12 * 3);
    let database = newest(&replica).unwrap();
    assert_eq!(Some(V3Content::of(&database)), replica.newest());
    assert!(is_intact(&database));
    let mut page = vec![0; 4096];
    for (pgno, found) in (1..).zip(database.chunks(4096)) {
        large.expected_page(pgno, &mut page);
        assert_eq!(found, page, "page {pgno}");
    }
    let ratio = large.objects[0].bytes.len() as f64 / large.size_bytes() as f64;
    assert!((0.40..0.56).contains(&ratio), "{ratio}");
    // The snapshot is written block by block elsewhere, to the same bytes.
    let mut content = crate::sim::naive_v3::decode_object(&large.objects[0].bytes).unwrap();
    assert_eq!(pack(&content), &large.objects[0].bytes[..]);
    content.truncate(0);
    assert_eq!(crate::sim::naive_v3::decode_object(&pack(&content)).unwrap(), content);
}
