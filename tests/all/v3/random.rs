//! Compares restores with the naive restorer on random histories with and without damage, and with SQLite itself on
//! databases that SQLite wrote.

use super::support::*;
use hydrant::io::IoBackend;
use hydrant::ltx::PageSize;
use hydrant::plan::{Target, V3State};
use hydrant::restore::{RestoreError, RestoreOutcome, SEGMENT_BYTES, Workers};
use hydrant::sim::generate::v3::{
    GeneratedV3, PackSpec, V3Content, V3Damage, V3HistoryParams, pack_sqlite, random_v3_history,
};
use hydrant::sim::naive_v3::{NaiveRestored, NaiveTarget, NaiveV3Error, restore_state};
use hydrant::sim::sqlite::is_intact;
use hydrant::store::Store;
use hydrant::timestamp::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Writes the replica below `dir` with its times.
fn write(dir: &Path, replica: &GeneratedV3) -> String {
    for object in &replica.objects {
        write_file(&dir.join(&object.key), &object.bytes, object.last_modified);
    }
    dir.join(&replica.root).to_str().unwrap().to_owned()
}

/// Engines that hold an index in memory, that fetch in segments, and that have no memory to hold anything.
fn engines() -> [(&'static str, Workers); 3] {
    let auto = *kinds().last().unwrap();
    [
        ("whole", engine(auto, SEGMENT_BYTES, 64 << 20, &Arc::default())),
        ("in segments", engine(IoBackend::Pwrite, 2_000, 64 << 20, &Arc::default())),
        ("with little memory", engine(auto, 2_000, 1 << 20, &Arc::default())),
    ]
}

/// The class of an error in the naive restorer's words.
fn class_of(error: &RestoreError) -> &'static str {
    match error.class() {
        hydrant::error::Class::TargetNotReachable => "timestamp does not exist",
        class => class.as_str(),
    }
}

/// Compares a restore with what the naive restorer gives. Err describes the difference.
fn compare(
    expected: &Result<NaiveRestored, NaiveV3Error>,
    found: &Result<RestoreOutcome, RestoreError>,
    output: &Path,
) -> Result<(), String> {
    match (expected, found) {
        (Ok(expected), Ok(outcome)) => {
            let database = std::fs::read(output).unwrap();
            let differs = database.iter().zip(&expected.database).position(|(a, b)| a != b);
            if database.len() != expected.database.len() || differs.is_some() {
                let sizes = (database.len(), expected.database.len());
                return Err(format!("differs at {differs:?}, sizes {sizes:?}: {outcome:?}"));
            }
            let V3State { generation, index, offset, time } = outcome.v3.unwrap();
            let reached = (generation.0, index, offset, time.as_nanos());
            let NaiveRestored { generation, index, offset, time_ns, .. } = *expected;
            if reached != (generation, index, offset, time_ns) {
                return Err(format!("reached {reached:?}, expected {generation:016x} {index} {offset} {time_ns}"));
            }
            Ok(())
        }
        (Err(expected), Err(found)) if expected.class == class_of(found) && !output.exists() => Ok(()),
        (expected, found) => {
            let expected = expected.as_ref().map(|restored| Sha256::digest(&restored.database));
            Err(format!("expected {expected:?}, found {found:?}"))
        }
    }
}

fn params() -> impl Strategy<Value = (u64, V3HistoryParams)> {
    let damage = prop_oneof![Just(Vec::new()), Just(V3Damage::ALL.to_vec())];
    let layout = (prop_oneof![Just(0.0), Just(0.3)], prop_oneof![Just(0.0), Just(0.3)], any::<bool>(), any::<bool>());
    (any::<u64>(), 9u32..=16, any::<bool>(), any::<bool>(), damage, layout).prop_map(
        |(seed, page_bits, big_endian, splits, damage, (shuffled, whole_wals, whole_seconds, noise))| {
            let page_size = PageSize::new(1 << page_bits).unwrap();
            // The database has about half a megabyte of pages at most.
            let max_pages = (1 << 19 >> page_bits).clamp(6, 100);
            let defaults = V3HistoryParams::default();
            let params = V3HistoryParams {
                page_size,
                big_endian,
                max_pages,
                splits,
                shuffled,
                whole_wals,
                whole_seconds,
                noise,
                damage,
                ..defaults
            };
            (seed, params)
        },
    )
}

/// The number of histories that are tried. proptest's own variable sets another one.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(64, |cases| cases.parse().unwrap())
}

/// The same histories in each run, so that a failure is that of a change. proptest's own variable sets another seed.
fn seed() -> RngSeed {
    RngSeed::Fixed(std::env::var("PROPTEST_RNG_SEED").map_or(1, |seed| seed.parse().unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), rng_seed: seed(), max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_naive_restorer((seed, params) in params(), picks in any::<[prop::sample::Index; 4]>()) {
        let replica = random_v3_history(seed, &params);
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &replica);
        let (entries, times) = (replica.entries(), replica.times());
        let mut targets = vec![(Target::Latest, NaiveTarget::Latest)];
        for (n, pick) in picks.iter().enumerate() {
            // At a time T itself all files of T count, one nanosecond before it none.
            let time = times[pick.index(times.len())].saturating_add_nanos(-(n as i64 % 2));
            targets.push((Target::Timestamp(time), NaiveTarget::At(time.as_nanos())));
        }
        let store = Store::File(Default::default());
        for (name, engine) in engines() {
            for (target, naive_target) in &targets {
                let expected = restore_state(&entries, *naive_target, None, &is_intact);
                let output = dir.path().join("out.db");
                let found = Wanted::at(&store, &path, *target).restore(&engine, &output);
                let compared = compare(&expected, &found, &output);
                prop_assert!(compared.is_ok(), "{} {:?} {:?}: {}", name, target, params, compared.unwrap_err());
                let _ = std::fs::remove_file(&output);
            }
        }
    }

    /// A generation that is named is restored whatever the others hold.
    #[test]
    fn named_generations_equal_the_naive_restorer((seed, params) in params()) {
        let replica = random_v3_history(seed, &params);
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &replica);
        let entries = replica.entries();
        let mut names: Vec<u64> = entries
            .iter()
            .filter(|entry| kind_of(&entry.key).is_some())
            .filter_map(|entry| u64::from_str_radix(generation_of(&entry.key)?, 16).ok())
            .collect();
        names.sort_unstable();
        names.dedup();
        let (store, engine) = (Store::File(Default::default()), engine(IoBackend::Pwrite, SEGMENT_BYTES, 64 << 20, &Arc::default()));
        for name in names {
            let expected = restore_state(&entries, NaiveTarget::Latest, Some(name), &is_intact);
            if expected.as_ref().is_err_and(|error| error.class == "backup not found") {
                // The name of a folder of foreign objects.
                continue;
            }
            let output = dir.path().join("out.db");
            let generation = Some(hydrant::catalogue::Generation(name));
            let found = Wanted { generation, ..Wanted::newest(&store, &path) }.restore(&engine, &output);
            let compared = compare(&expected, &found, &output);
            prop_assert!(compared.is_ok(), "{:016x} {:?}: {}", name, params, compared.unwrap_err());
            let _ = std::fs::remove_file(&output);
        }
    }
}

/// Databases that SQLite wrote, at the time of every object: what SQLite's own checkpoint of the live files gave.
#[test]
fn what_sqlite_itself_makes_of_the_live_files() {
    let store = Store::File(Default::default());
    let engines = engines();
    let mut counts = BTreeMap::new();
    for seed in 0..12 {
        let spec = PackSpec {
            page_size: PageSize::new([512, 4096, 1024, 65536][seed as usize % 4]).unwrap(),
            generations: 1 + seed as u32 % 3,
            auto_vacuum: seed % 3 == 1,
            ahead: seed % 2 == 0,
            dies: seed % 5 == 2,
            big_endian: seed % 4 == 3,
            whole_seconds: seed % 6 == 5,
            ..PackSpec::default()
        };
        let replica = pack_sqlite(seed, &spec).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &replica);
        for (n, truth) in replica.truths.iter().enumerate() {
            let target = truth.at.map_or(Target::Latest, Target::Timestamp);
            let (name, engine) = &engines[n % engines.len()];
            let output = dir.path().join("out.db");
            let found = Wanted::at(&store, &path, target).restore(engine, &output);
            let scene = || {
                let naive_target = truth.at.map_or(NaiveTarget::Latest, |at| NaiveTarget::At(at.as_nanos()));
                let naive = restore_state(&replica.entries(), naive_target, None, &is_intact);
                let naive =
                    naive.map(|naive| (V3Content::of(&naive.database), naive.index, naive.offset, naive.time_ns));
                let files: Vec<String> = replica
                    .objects
                    .iter()
                    .map(|object| format!("{} {} {}", object.key, object.bytes.len(), object.last_modified))
                    .collect();
                let at = truth.at.map(|at| at.to_string());
                format!("seed {seed}, {at:?}, {name}: {found:?}, naively {naive:?}, of\n{}", files.join("\n"))
            };
            match &found {
                Ok(_) => {
                    let database = std::fs::read(&output).unwrap();
                    let hash: [u8; 32] = Sha256::digest(&database).into();
                    let is_right =
                        |content: &V3Content| content.sha256 == hash && content.bytes == database.len() as u64;
                    assert!(truth.contents.iter().any(is_right), "expected {truth:?}: {}", scene());
                    *counts.entry("right").or_insert(0) += 1;
                    std::fs::remove_file(&output).unwrap();
                }
                Err(error) => {
                    assert_eq!(truth.error, Some(class_of(error)), "{}", scene());
                    assert!(!output.exists());
                    *counts.entry(class_of(error)).or_insert(0) += 1;
                }
            }
        }
    }
    println!("{counts:?}");
    assert!(counts["right"] > 50 && counts.contains_key("timestamp does not exist"), "{counts:?}");
}

/// The generators make what they promise to a test: each kind of error, and snapshots that are ahead.
#[test]
fn random_histories_have_damage_of_every_class() {
    let mut classes = BTreeMap::new();
    for seed in 0..400 {
        let params = V3HistoryParams {
            damage: V3Damage::ALL.to_vec(),
            page_size: PageSize::new(512).unwrap(),
            ..V3HistoryParams::default()
        };
        let entries = random_v3_history(seed, &params).entries();
        let class = match restore_state(&entries, NaiveTarget::Latest, None, &is_intact) {
            Ok(_) => "right",
            Err(error) => error.class,
        };
        *classes.entry(class).or_insert(0) += 1;
    }
    println!("{classes:?}");
    for class in ["right", "hole", "truncated", "malformed", "checksum mismatch", "encrypted", "no snapshot"] {
        assert!(classes.contains_key(class), "{class}: {classes:?}");
    }
}

/// Times as a server gives them, and files that are fetched over connections, instead of files on a disk.
#[test]
fn random_histories_from_the_simulator() {
    let server = simulator();
    let counters = Arc::default();
    let store = store(&server, &Default::default(), &counters);
    let engine = engine(*kinds().last().unwrap(), 2_000, 64 << 20, &counters);
    for seed in 0..40 {
        let damage = if seed % 2 == 0 { Vec::new() } else { V3Damage::ALL.to_vec() };
        let root = format!("r/{seed}");
        let params = V3HistoryParams {
            root: root.clone(),
            damage,
            page_size: PageSize::new(1024).unwrap(),
            ..V3HistoryParams::default()
        };
        let replica = random_v3_history(seed, &params);
        server.objects().put_v3("bucket", &replica);
        let middle: Timestamp = replica.times()[replica.times().len() / 2];
        for (target, naive) in
            [(Target::Latest, NaiveTarget::Latest), (Target::Timestamp(middle), NaiveTarget::At(middle.as_nanos()))]
        {
            let dir = tempfile::tempdir().unwrap();
            let output = dir.path().join("out.db");
            let expected = restore_state(&replica.entries(), naive, None, &is_intact);
            let found = Wanted::at(&store, &root, target).restore(&engine, &output);
            compare(&expected, &found, &output).unwrap_or_else(|problem| panic!("{seed} {target:?}: {problem}"));
        }
    }
}
