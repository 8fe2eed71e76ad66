//! Tests of `-newest-intact` (docs/CLI.md, "The newest intact state") with LTX files, from disk and from the simulator.
//! The restored state is compared with that of the naive restorer.

use super::support::*;
use bytes::Bytes;
use hydrant::sim::generate::{GeneratedDatabase, GeneratedObject, HistoryParams, random_history};
use hydrant::sim::naive::{self, NaiveEntry, NaiveTarget};
use hydrant::sim::random::Random;
use hydrant::sim::server::{Content, Failure, Faults, Object, Outcome, RequestKind, SimServer};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

const FLAG: &str = "-newest-intact";

/// What is done to one file of a replica.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Damage {
    Deleted,
    Empty,
    /// Half of the file is missing.
    Half,
    /// A bit in the middle is flipped.
    Flipped,
    /// The object is in the storage class GLACIER.
    Archived,
}

impl Damage {
    fn of(self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Deleted => None,
            Self::Empty => Some(Vec::new()),
            Self::Half => Some(bytes[..bytes.len() / 2].to_vec()),
            Self::Flipped => {
                let mut bytes = bytes.to_vec();
                let at = bytes.len() / 2;
                bytes[at] ^= 4;
                Some(bytes)
            }
            Self::Archived => Some(bytes.to_vec()),
        }
    }

    /// The class of the failure without the flag, as messages begin.
    fn class(self) -> &'static [&'static str] {
        match self {
            Self::Deleted => &["cannot calc restore plan: non-contiguous ltx files"],
            Self::Empty | Self::Half => &["truncated: "],
            Self::Flipped => &["checksum mismatch: ", "malformed: "],
            Self::Archived => &["archived storage class"],
        }
    }
}

/// The GETs that the simulator has answered, by key.
#[derive(Clone, Default)]
pub(super) struct Gets(Arc<Mutex<BTreeMap<String, u64>>>);

impl Gets {
    /// An object whose GETs are counted.
    pub(super) fn counted(&self, key: &str, bytes: Vec<u8>) -> Object {
        let (gets, key, bytes) = (Arc::clone(&self.0), key.to_owned(), Bytes::from(bytes));
        let len = bytes.len() as u64;
        let make = move |range: std::ops::Range<u64>| {
            if range.start == 0 {
                *gets.lock().unwrap().entry(key.clone()).or_default() += 1;
            }
            bytes.slice(range.start as usize..range.end as usize)
        };
        Object::with_content(Content::Generated { len, make: Arc::new(make) })
    }

    pub(super) fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A database of a snapshot (TXID 1, object 0) and eight increments (TXIDs 2 to 9, objects 1 to 8), some of which are
/// damaged, in a folder and in the simulator.
struct Scene {
    database: GeneratedDatabase,
    damage: Vec<(usize, Damage)>,
    folder: tempfile::TempDir,
    server: SimServer,
    gets: Gets,
}

fn entries(database: &GeneratedDatabase) -> Vec<NaiveEntry> {
    let entry = |o: &GeneratedObject| NaiveEntry {
        level: o.level.get(),
        min_txid: o.min_txid.0,
        max_txid: o.max_txid.0,
        time_ns: o.litestream_timestamp.as_nanos(),
    };
    database.objects.iter().map(entry).collect()
}

/// The state after this transaction, as the naive restorer makes it.
fn state(database: &GeneratedDatabase, txid: u64) -> Vec<u8> {
    let files = naive::plan(&entries(database), NaiveTarget::Txid(txid)).unwrap();
    naive::restore(files.iter().map(|&i| &database.objects[i].bytes[..])).unwrap()
}

impl Scene {
    fn new(damage: &[(usize, Damage)]) -> Self {
        Self::of(large(64 << 10, 8), damage)
    }

    fn of(database: GeneratedDatabase, damage: &[(usize, Damage)]) -> Self {
        let (folder, server, gets) = (tempfile::tempdir().unwrap(), simulator(Faults::default()), Gets::default());
        server.objects().create_bucket("bucket");
        let scene = Self { database, damage: damage.to_vec(), folder, server, gets };
        for (i, object) in scene.database.objects.iter().enumerate() {
            let damage = scene.damage.iter().find(|(at, _)| *at == i).map(|(_, damage)| *damage);
            let Some(bytes) = damage.map_or_else(|| Some(object.bytes.to_vec()), |d| d.of(&object.bytes)) else {
                continue;
            };
            let path = scene.folder.path().join(&object.key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
            let mut content = scene.gets.counted(&object.key, bytes).last_modified(object.last_modified);
            content = content.litestream_timestamp(object.litestream_timestamp);
            content.storage_class = (damage == Some(Damage::Archived)).then(|| "GLACIER".into());
            scene.server.objects().put("bucket", &object.key, content);
        }
        scene
    }

    fn key(&self, i: usize) -> &str {
        &self.database.objects[i].key
    }

    fn url(&self) -> String {
        url(&self.server.endpoint(), &self.database.root)
    }

    /// Where the replica is: in the simulator, and on disk unless a file is archived.
    fn places(&self) -> Vec<String> {
        let folder = format!("file://{}", self.folder.path().join(&self.database.root).display());
        let is_archived = self.damage.iter().any(|(_, damage)| *damage == Damage::Archived);
        if is_archived { vec![self.url()] } else { vec![self.url(), folder] }
    }
}

pub(super) fn warnings(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter_map(|line| line.strip_prefix("Warning: ")).collect()
}

fn restored(place: &Place) -> Vec<u8> {
    std::fs::read(place.out()).unwrap()
}

/// SQLite finds nothing wrong with the database.
pub(super) fn is_sound(path: &Path) -> bool {
    let database = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    database.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap() == "ok"
}

fn is_one_of(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

#[test]
fn the_newest_state_that_can_be_had_is_restored_and_what_is_lost_is_said() {
    use Damage::{Archived, Deleted, Empty, Flipped, Half};
    // The damaged objects, and the TXID that can be reached.
    let scenes: [(&[(usize, Damage)], u64); 11] = [
        (&[(4, Deleted)], 4),
        (&[(1, Deleted)], 1),
        (&[(4, Flipped)], 4),
        (&[(4, Half)], 4),
        (&[(8, Flipped)], 8),
        (&[(8, Empty)], 8),
        (&[(1, Empty)], 1),
        (&[(5, Archived)], 5),
        (&[(3, Flipped), (7, Half)], 3),
        (&[(3, Deleted), (2, Flipped), (6, Flipped)], 2),
        (&[(7, Archived), (2, Half), (4, Empty)], 2),
    ];
    for (damage, reached) in scenes {
        let scene = Scene::new(damage);
        let expected = state(&scene.database, reached);
        let newest = scene.database.objects[reached as usize - 1].litestream_timestamp;
        for source in scene.places() {
            let what = format!("{damage:?} {source}");
            let place = Place::new();
            // Without the flag nothing changes.
            let failed = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &source])).failed("");
            let classes: Vec<&str> = damage.iter().flat_map(|(_, damage)| damage.class()).copied().collect();
            assert!(is_one_of(&failed.stderr, &classes), "{what}: {failed:?}");
            place.is_empty();
            scene.gets.take();

            let ran = run(&mut hydrant_s3(&["restore", FLAG, "-json", "-o", &place.out(), &source])).succeeded();
            assert!(restored(&place) == expected && is_sound(Path::new(&place.out())), "{what}");
            let gets = scene.gets.take();
            assert!(gets.values().all(|&gets| gets <= 2), "{what}: {gets:?}");

            let (json, warnings) = (ran.json(), warnings(&ran));
            assert_eq!(json["txid"], format!("{reached:016x}"), "{what}");
            assert_eq!(json["timestamp"], newest.to_rfc3339_seconds(), "{what}");
            let lost = format!(
                "not the newest state: TXID {reached:016x} is the newest that can be had, {:016x} to {:016x} are lost",
                reached + 1,
                9
            );
            assert!(warnings[0].starts_with(&lost), "{what}: {warnings:?}");
            let why = json["lost"].as_str().unwrap();
            assert_eq!(warnings[1], format!("the newest state cannot be had: {why}"), "{what}");
            assert_eq!(json["warnings"][0], warnings[0], "{what}");
            // The files that are at fault are named, and no other.
            let bad = |i: usize| damage.iter().any(|(at, damage)| *at == i && *damage != Deleted);
            for i in 0..9 {
                // An archived file is named only where it is the first that cannot be had.
                if damage.contains(&(i, Archived)) {
                    continue;
                }
                let is_named = warnings.iter().any(|warning| warning.contains(scene.key(i)));
                // Behind a hole or an archived file none is read.
                let is_read = damage.iter().all(|&(at, damage)| !matches!(damage, Deleted | Archived) || i <= at);
                assert!(is_named == bad(i) || !is_read, "{what} {i}: {warnings:?}");
            }
            assert!(!ran.stderr.contains("restored through other files"), "{what}: {ran:?}");
        }
    }
}

#[test]
fn a_dry_run_shows_the_older_plan_as_far_as_the_listing_tells() {
    for (damage, reached) in
        [((4, Damage::Deleted), Some(4)), ((5, Damage::Archived), Some(5)), ((4, Damage::Flipped), None)]
    {
        let scene = Scene::new(&[damage]);
        let place = Place::new();
        let out = place.out();
        let ran = run(&mut hydrant_s3(&["restore", FLAG, "-dry-run", "-json", "-o", &out, &scene.url()])).succeeded();
        let json = ran.json();
        assert_eq!(json["max_txid"], format!("{:016x}", reached.unwrap_or(9)), "{damage:?}");
        assert_eq!(json["files"].as_array().unwrap().len() as u64, reached.unwrap_or(9), "{damage:?}");
        assert_eq!(json["lost"].is_string(), reached.is_some(), "{damage:?}: {json}");
        assert_eq!(warnings(&ran).len(), if reached.is_some() { 2 } else { 0 }, "{ran:?}");
        if let Some(reached) = reached {
            assert!(warnings(&ran)[0].starts_with(&format!("not the newest state: TXID {reached:016x}")), "{ran:?}");
            let text = run(&mut hydrant_s3(&["restore", FLAG, "-dry-run", "-o", &out, &scene.url()])).succeeded();
            assert!(text.stdout.contains(&format!("txid range: {:016x} - {reached:016x}", 1)), "{text:?}");
        }
        place.is_empty();
    }
}

#[test]
fn without_a_snapshot_nothing_can_be_had() {
    for damage in [Damage::Flipped, Damage::Half, Damage::Empty, Damage::Archived] {
        let scene = Scene::new(&[(0, damage), (5, Damage::Flipped)]);
        for source in scene.places() {
            let place = Place::new();
            for flags in [&[][..], &[FLAG]] {
                let out = place.out();
                let args = [&["restore", "-o", &out], flags, &[&source]].concat();
                let ran = run(&mut hydrant_s3(&args)).failed("");
                let error = ran.stderr.lines().find(|line| line.starts_with("Error: ")).unwrap();
                // With the flag, the cause is the snapshot.
                let is_named = error.contains(scene.key(0)) && is_one_of(error, damage.class());
                assert!(is_named || flags.is_empty(), "{damage:?} {ran:?}");
            }
            place.is_empty();
        }
    }
    let scene = Scene::new(&[(0, Damage::Deleted)]);
    for source in scene.places() {
        let place = Place::new();
        let args = ["restore", FLAG, "-if-replica-exists", "-o", &place.out(), &source];
        run(&mut hydrant_s3(&args)).failed("does not begin at TXID 1");
        place.is_empty();
    }
}

#[test]
fn an_intact_replica_is_restored_as_without_the_flag() {
    let scene = Scene::new(&[]);
    for source in scene.places() {
        let place = Place::new();
        let ran = run(&mut hydrant_s3(&["restore", FLAG, "-json", "-o", &place.out(), &source])).succeeded();
        place.holds_only(&hex(&scene.database.expected.sha256));
        let json = ran.json();
        assert!(warnings(&ran).is_empty() && json["lost"].is_null() && json["warnings"].is_null(), "{ran:?}");
    }
    let gets = scene.gets.take();
    assert!(gets.len() == 9 && gets.values().all(|&gets| gets == 1), "{gets:?}");
}

#[test]
fn a_transaction_is_reached_exactly_or_not_at_all() {
    let scene = Scene::new(&[]);
    let place = Place::new();
    let ran = run(&mut hydrant_s3(&["restore", FLAG, "-txid", "5", "-o", &place.out(), &scene.url()]));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("-newest-intact cannot go with -txid"), "{ran:?}");
    place.is_empty();
}

/// Only what is inside the target is lost.
#[test]
fn a_target_time() {
    use Damage::{Deleted, Flipped};
    // The damaged objects, the TXID of the newest state before the target, and the TXID that can be reached.
    for (damage, before, reached) in
        [((5, Deleted), 5, 5), ((5, Deleted), 7, 5), ((7, Flipped), 5, 5), ((3, Flipped), 5, 3), ((5, Flipped), 5, 5)]
    {
        let scene = Scene::new(&[damage]);
        let time = scene.database.objects[before as usize - 1].litestream_timestamp.saturating_add_nanos(1_000_000);
        let time = time.to_string();
        for source in scene.places() {
            let what = format!("{damage:?} {before} {source}");
            let place = Place::new();
            let args = ["restore", FLAG, "-json", "-timestamp", &time, "-o", &place.out(), &source];
            let ran = run(&mut hydrant_s3(&args)).succeeded();
            assert!(restored(&place) == state(&scene.database, reached), "{what}");
            let lost = format!("{:016x} to {before:016x} are lost", reached + 1);
            assert_eq!(ran.json()["lost"].is_string(), reached < before, "{what}: {ran:?}");
            assert_eq!(
                warnings(&ran).iter().any(|warning| warning.contains(&lost)),
                reached < before,
                "{what}: {ran:?}"
            );
        }
    }
}

/// A listing that lags behind shows a hole. The next one does not.
#[test]
fn a_hole_that_a_fresh_listing_closes_is_none() {
    let scene = Scene::new(&[(4, Damage::Deleted)]);
    let place = Place::new();
    scene.server.answer_only(RequestKind::List, Some(1));
    let out = place.out();
    let running = start(&mut hydrant_s3(&["restore", FLAG, "-json", "-o", &out, &scene.url()]));
    // The second listing waits at the simulator until the file is there.
    until(|| {
        let stats = scene.server.stats();
        stats.count(RequestKind::List, Outcome::Ok) == 1 && stats.in_flight_now == 1
    });
    let object = &scene.database.objects[4];
    scene.server.objects().put("bucket", &object.key, Object::new(object.bytes.clone()));
    scene.server.answer_only(RequestKind::List, None);
    let ran = running.wait().succeeded();
    place.holds_only(&hex(&scene.database.expected.sha256));
    assert!(warnings(&ran).is_empty() && ran.json()["lost"].is_null(), "{ran:?}");
}

/// A history with a compaction (number two of the result) that is written, and the files of level 0 below it deleted,
/// after the first listing.
fn compacted_meanwhile() -> (GeneratedDatabase, usize, Vec<usize>) {
    for seed in 0..200 {
        let params = HistoryParams { tracked: 0.0, ..HistoryParams::default() };
        let database = random_history(seed, &params).unwrap();
        let newest = database.expected.txid.0;
        let reaches = |without: &dyn Fn(usize) -> bool| {
            let kept = entries(&database).into_iter().enumerate().filter(|(i, _)| !without(*i)).map(|(_, entry)| entry);
            let planned = naive::plan(&kept.collect::<Vec<_>>(), NaiveTarget::Txid(newest));
            planned.is_ok()
        };
        for (i, object) in database.objects.iter().enumerate() {
            let (min, max) = (object.min_txid.0, object.max_txid.0);
            let is_below = |o: &GeneratedObject| o.level.get() == 0 && min <= o.min_txid.0 && o.max_txid.0 <= max;
            let below: Vec<usize> = (0..database.objects.len()).filter(|&j| is_below(&database.objects[j])).collect();
            let is_compaction = object.level.get() == 1 && min > 1 && max > min && below.len() as u64 == max - min + 1;
            // No other compaction may cover them, so that they are planned.
            let covers = |o: &GeneratedObject| o.level.get() > 0 && o.min_txid.0 <= max && o.max_txid.0 >= min;
            let is_alone = database.objects.iter().enumerate().all(|(j, o)| i == j || !covers(o));
            if is_compaction && is_alone && reaches(&|j| j == i) && reaches(&|j| below.contains(&j)) {
                return (database, i, below);
            }
        }
    }
    panic!("no such history");
}

#[test]
fn files_that_retention_deletes_meanwhile_are_not_damaged() {
    let (database, compaction, below) = compacted_meanwhile();
    let scene = Scene::of(database, &[(compaction, Damage::Deleted)]);
    let place = Place::new();
    scene.server.answer_only(RequestKind::Get, Some(0));
    let out = place.out();
    let running = start(&mut hydrant_s3(&["restore", FLAG, "-json", "-o", &out, &scene.url()]));
    until(|| scene.server.stats().count(RequestKind::List, Outcome::Ok) > 0);
    let object = &scene.database.objects[compaction];
    scene.server.objects().put("bucket", &object.key, Object::new(object.bytes.clone()));
    for &i in &below {
        assert!(scene.server.objects().remove("bucket", scene.key(i)));
    }
    scene.server.answer_only(RequestKind::Get, None);
    let ran = running.wait().succeeded();
    place.holds_only(&hex(&scene.database.expected.sha256));
    assert!(warnings(&ran).is_empty() && ran.json()["lost"].is_null(), "{ran:?}");
    assert!(scene.server.stats().count(RequestKind::Get, Outcome::NotFound) > 0, "{}", scene.server.stats());
}

/// A file that is listed and is never found is no reason for an older state: what is wrong is not known.
#[test]
fn a_file_that_is_listed_and_never_found_is_a_failure() {
    let scene = Scene::new(&[]);
    scene.server.script(RequestKind::Get, scene.key(5), [Some(Failure::NoSuchKey); 100]);
    let place = Place::new();
    for flags in [&[][..], &[FLAG]] {
        let (out, url) = (place.out(), scene.url());
        let args = [&["restore", "-o", &out], flags, &[&url]].concat();
        run(&mut hydrant_s3(&args)).failed("replaced or deleted while restoring");
    }
    place.is_empty();
}

/// The damage is known, and then a compaction covers it: the newest state can be had after all.
#[test]
fn a_newer_listing_may_give_the_newest_state_after_all() {
    let scene = Scene::new(&[(4, Damage::Deleted)]);
    let place = Place::new();
    scene.server.answer_only(RequestKind::Get, Some(0));
    let out = place.out();
    let running = start(&mut hydrant_s3(&["restore", FLAG, "-json", "-o", &out, &scene.url()]));
    // Both listings show the hole, and the older state is being fetched.
    until(|| {
        let stats = scene.server.stats();
        stats.count(RequestKind::List, Outcome::Ok) == 2 && stats.in_flight_now == 4
    });
    let object = &scene.database.objects[4];
    scene.server.objects().put("bucket", &object.key, Object::new(object.bytes.clone()));
    scene.server.script(RequestKind::Get, scene.key(2), [Some(Failure::NoSuchKey)]);
    scene.server.answer_only(RequestKind::Get, None);
    let ran = running.wait().succeeded();
    place.holds_only(&hex(&scene.database.expected.sha256));
    assert!(warnings(&ran).is_empty() && ran.json()["lost"].is_null(), "{ran:?}");
}

/// Random histories with compactions, of which random files are damaged: what can be had is what a search of all chains
/// of the other files reaches.
#[test]
fn any_damage_of_any_history() {
    let (mut whole, mut older, mut nothing, mut random) = (0, 0, 0, Random::new(7));
    for seed in 1..25 {
        let params =
            HistoryParams { max_pages: 12, max_transactions: 14, may_empty: false, ..HistoryParams::default() };
        let database = random_history(seed, &params).unwrap();
        let kinds = [Damage::Deleted, Damage::Empty, Damage::Half];
        let damaged = |i| (random.below(2) == 0).then(|| (i, kinds[random.below(3) as usize]));
        let damage: Vec<(usize, Damage)> = (0..database.objects.len()).filter_map(damaged).collect();
        let scene = Scene::of(database, &damage);
        let is_bad = |i: usize| damage.iter().any(|(at, _)| *at == i);
        let listed = |i: usize| !damage.contains(&(i, Damage::Deleted));
        let all = entries(&scene.database);
        let reached = |usable: &dyn Fn(usize) -> bool| {
            let mut reached = 0;
            while let Some(next) = (0..all.len())
                .filter(|&i| usable(i) && all[i].min_txid <= reached + 1 && all[i].max_txid > reached)
                .map(|i| all[i].max_txid)
                .max()
            {
                reached = next;
            }
            reached
        };
        let best = reached(&|i| !is_bad(i));
        let newest = (0..all.len()).filter(|&i| listed(i)).map(|i| all[i].max_txid).max().unwrap_or(0);
        for source in scene.places() {
            let what = format!("{seed} {damage:?} {source}: {best} of {newest}");
            let place = Place::new();
            let ran = run(&mut hydrant_s3(&["restore", FLAG, "-json", "-o", &place.out(), &source]));
            if best == 0 {
                assert_eq!(ran.code, Some(1), "{what}: {ran:?}");
                nothing += 1;
                continue;
            }
            let ran = ran.succeeded();
            let files = naive::plan(&all, NaiveTarget::Txid(best)).unwrap();
            let expected = naive::restore(files.iter().map(|&i| &scene.database.objects[i].bytes[..])).unwrap();
            assert!(restored(&place) == expected, "{what}: {ran:?}");
            let json = ran.json();
            assert_eq!(json["lost"].is_string(), best < newest, "{what}: {ran:?}");
            assert_eq!(warnings(&ran).iter().any(|w| w.starts_with("not the newest")), best < newest, "{what}");
            if best < newest { older += 1 } else { whole += 1 }
        }
    }
    println!("whole {whole}, older {older}, nothing {nothing}");
    assert!(whole > 3 && older > 3, "whole {whole}, older {older}, nothing {nothing}");
}
