//! Tests of `-newest-intact` (docs/CLI.md, "The newest intact state") with files of Litestream 0.3, from disk and from the
//! simulator. The restored state is compared with that of the same replica without the damaged file and all WAL behind
//! it, and with states that SQLite has made.

use super::intact::{Gets, is_sound, warnings};
use super::support::*;
use hydrant::sim::server::{Faults, SimServer};
use hydrant::timestamp::Timestamp;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

const FLAG: &str = "-newest-intact";

/// One file of a replica.
#[derive(Debug, Clone, PartialEq)]
struct RecordedFile {
    /// The key below the replica's root.
    key: String,
    bytes: Vec<u8>,
    time: Timestamp,
    is_archived: bool,
}

/// A replica as it was recorded, or with damage.
#[derive(Debug, Clone)]
struct Recorded(Vec<RecordedFile>);

/// Index and offset of a piece of WAL. None for all other files.
fn position(key: &str) -> Option<(u32, u64)> {
    let (index, offset) = key.rsplit_once("/wal/")?.1.strip_suffix(".wal.lz4")?.split_once('_')?;
    Some((u32::from_str_radix(index, 16).ok()?, u64::from_str_radix(offset, 16).ok()?))
}

impl Recorded {
    /// The files below `prefix` that the manifest names, with the recorded times.
    fn load(folder: &Path, manifest: &Value, prefix: &str) -> Self {
        let files = manifest["objects"].as_array().unwrap().iter().filter_map(|object| {
            let key = object["key"].as_str().unwrap();
            let time = Timestamp::parse_rfc3339(object["last_modified"].as_str().unwrap()).unwrap();
            let (below, bytes) = (key.strip_prefix(prefix)?.to_owned(), std::fs::read(folder.join(key)).unwrap());
            Some(RecordedFile { key: below, bytes, time, is_archived: false })
        });
        Self(files.collect())
    }

    fn file(&mut self, end: &str) -> &mut RecordedFile {
        self.0.iter_mut().find(|file| file.key.ends_with(end)).unwrap_or_else(|| panic!("no {end}"))
    }

    /// The replica without the WAL of this generation from a position on.
    fn before(&self, generation: &str, first: (u32, u64)) -> Self {
        let is_behind = |key: &str| key.contains(generation) && position(key).is_some_and(|at| at >= first);
        Self(self.0.iter().filter(|file| !is_behind(&file.key)).cloned().collect())
    }

    fn write(&self, folder: &Path) {
        for file in &self.0 {
            let path = folder.join(&file.key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &file.bytes).unwrap();
            let modified = UNIX_EPOCH + Duration::from_nanos(file.time.as_nanos().try_into().unwrap());
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        }
    }

    fn serve(&self) -> (SimServer, Gets) {
        let (server, gets) = (simulator(Faults::default()), Gets::default());
        server.objects().create_bucket("bucket");
        for file in &self.0 {
            let mut object = gets.counted(&file.key, file.bytes.clone()).last_modified(file.time);
            object.storage_class = file.is_archived.then(|| "GLACIER".into());
            server.objects().put("bucket", &format!("db/{}", file.key), object);
        }
        (server, gets)
    }

    /// What `restore` gives of this replica without the flag.
    fn exact(&self) -> Vec<u8> {
        let (server, _) = self.serve();
        let place = Place::new();
        run(&mut hydrant_s3(&["restore", "-o", &place.out(), &url(&server.endpoint(), "db")])).succeeded();
        std::fs::read(place.out()).unwrap()
    }

    /// Restores with the flag from disk and from the simulator. Without the flag it must fail with one of these words.
    /// Returns the results.
    fn intact(&self, name: &str, words: &[&str]) -> Vec<Intact> {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        let (server, gets) = self.serve();
        let mut sources = vec![url(&server.endpoint(), "db")];
        if self.0.iter().all(|file| !file.is_archived) {
            sources.push(format!("file://{}", folder.path().display()));
        }
        let restored = sources.into_iter().map(|source| {
            let place = Place::new();
            if !words.is_empty() {
                let failed = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &source])).failed("");
                assert!(words.iter().any(|word| failed.stderr.contains(word)), "{name} {source}: {words:?} {failed:?}");
                place.is_empty();
            }
            gets.take();
            let ran = run(&mut hydrant_s3(&["restore", FLAG, "-json", "-o", &place.out(), &source]));
            let most = gets.take().into_values().max().unwrap_or(0);
            assert!(most <= 2, "{name} {source}: a file was fetched {most} times");
            let bytes = std::fs::read(place.out()).unwrap_or_default();
            assert!(bytes.is_empty() || is_sound(Path::new(&place.out())), "{name} {source}: {ran:?}");
            Intact { what: format!("{name} {source}"), ran, bytes }
        });
        restored.collect()
    }
}

struct Intact {
    what: String,
    ran: Ran,
    bytes: Vec<u8>,
}

impl Intact {
    /// An older state was restored, and the warnings say so.
    #[track_caller]
    fn is_older(&self, expected: &[u8], first_warning: &str, lost: &str) {
        let Self { what, ran, bytes } = self;
        assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
        assert!(bytes == expected, "{what}: another state, {} bytes instead of {}", bytes.len(), expected.len());
        let (json, warnings) = (ran.json(), warnings(ran));
        let why = json["lost"].as_str().unwrap_or_else(|| panic!("{what}: {json}"));
        assert!(
            warnings[0].starts_with("not the newest state: ") && warnings[0].contains(first_warning),
            "{what}: {warnings:?}"
        );
        assert_eq!(warnings[1], format!("the newest state cannot be had: {why}"), "{what}");
        assert!(why.contains(lost), "{what}: no {lost} in {why}");
    }
}

/// The two generations of the fixture `v3-s3`. The newer one has one snapshot and six pieces of one index.
const OLDER: &str = "5556c89dee79b0e6";
const NEWER: &str = "82fdcf411c47acbc";
const OFFSETS: [u64; 6] = [0, 0xcf370, 0xed640, 0x1098e0, 0x124b68, 0x146e98];

fn v3_s3() -> (Recorded, Value) {
    let (folder, manifest) = fixture("v3-s3");
    (Recorded::load(&folder, &manifest, ""), manifest)
}

fn piece(generation: &str, offset: u64) -> String {
    format!("{generation}/wal/00000000_{offset:08x}.wal.lz4")
}

/// The state that SQLite had between the uploads of two files, from the manifest.
fn truth(manifest: &Value, from: Timestamp, to: Timestamp) -> Option<String> {
    let is_it = |target: &&Value| {
        let at = target["timestamp"].as_str().and_then(Timestamp::parse_rfc3339);
        at.is_some_and(|at| from <= at && at < to)
    };
    let target = manifest["targets"].as_array().unwrap().iter().find(is_it)?;
    target["sha256"].as_str().map(str::to_owned)
}

#[test]
fn wal_is_applied_up_to_the_first_damage_or_gap() {
    let (healthy, manifest) = v3_s3();
    let mut compared = 0;
    for (n, &offset) in OFFSETS.iter().enumerate() {
        let end = piece(NEWER, offset);
        let mut expected = None;
        for damage in ["half", "empty", "bit", "gap"] {
            let mut damaged = healthy.clone();
            let file = damaged.file(&end);
            match damage {
                "half" => file.bytes.truncate(file.bytes.len() / 2),
                "empty" => file.bytes.clear(),
                "bit" => {
                    let middle = file.bytes.len() / 2;
                    file.bytes[middle] ^= 1;
                }
                // If it is the newest one, nothing shows that it is missing.
                _ if n + 1 == OFFSETS.len() => continue,
                _ => damaged.0.retain(|file| !file.key.ends_with(&end)),
            }
            let expected = expected.get_or_insert_with(|| healthy.before(NEWER, (0, offset)).exact());
            let words = ["truncated: ", "checksum mismatch: ", "malformed: ", "hole: "];
            let (index, what) = (n.checked_sub(1).map_or(0, |before| OFFSETS[before]), format!("{damage} {end}"));
            let first = format!("index 00000000 offset {index:08x} of generation {NEWER}");
            for intact in damaged.intact(&what, &words) {
                intact.is_older(expected, &first, if damage == "gap" { "hole: " } else { &end });
                let named = warnings(&intact.ran).iter().any(|warning| warning.contains(&end));
                assert!(named || damage == "gap", "{what}: {:?}", intact.ran);
            }
        }
        let file_time = |offset| healthy.clone().file(&piece(NEWER, offset)).time;
        if let (Some(before), Some(expected)) = (n.checked_sub(1), expected)
            && let Some(truth) = truth(&manifest, file_time(OFFSETS[before]), file_time(offset))
        {
            assert_eq!(hex(&sha2_of(&expected)), truth, "{offset:x}");
            compared += 1;
        }
    }
    println!("{compared} states compared with those of SQLite");
    assert!(compared > 1);
}

fn sha2_of(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).to_vec()
}

#[test]
fn two_damaged_pieces_cost_no_more_than_one() {
    let (healthy, _) = v3_s3();
    let mut damaged = healthy.clone();
    let ends = [OFFSETS[2], OFFSETS[4]].map(|offset| piece(NEWER, offset));
    ends.iter().for_each(|end| damaged.file(end).bytes.truncate(100));
    let expected = healthy.before(NEWER, (0, OFFSETS[2])).exact();
    for intact in damaged.intact("two", &["truncated: "]) {
        intact.is_older(&expected, "4 pieces of WAL behind it are lost", &ends[0]);
    }
}

#[test]
fn archived_wal_counts_as_missing() {
    let (healthy, _) = v3_s3();
    let mut damaged = healthy.clone();
    let end = piece(NEWER, OFFSETS[3]);
    damaged.file(&end).is_archived = true;
    let expected = healthy.before(NEWER, (0, OFFSETS[3])).exact();
    for intact in damaged.intact("archived", &["archived"]) {
        intact.is_older(&expected, "3 pieces of WAL behind it are lost", &end);
    }
}

/// Without a usable snapshot of the newest generation, the older generation is restored.
#[test]
fn an_older_generation_where_no_snapshot_is_usable() {
    let (healthy, _) = v3_s3();
    let snapshot = format!("{NEWER}/snapshots/00000000.snapshot.lz4");
    let older = Recorded(healthy.0.iter().filter(|file| file.key.contains(OLDER)).cloned().collect());
    let expected = older.exact();
    let lost = format!("all of generation {NEWER}");
    for damage in ["half", "empty", "archived", "gone"] {
        let mut damaged = healthy.clone();
        let file = damaged.file(&snapshot);
        match damage {
            "half" => file.bytes.truncate(file.bytes.len() / 2),
            "empty" => file.bytes.clear(),
            "archived" => file.is_archived = true,
            _ => damaged.0.retain(|file| !file.key.ends_with(&snapshot)),
        }
        let why = if damage == "gone" { NEWER } else { &snapshot };
        for intact in damaged.intact(damage, &["truncated: ", "archived", "no snapshot"]) {
            intact.is_older(&expected, &lost, why);
            assert!(!intact.ran.stderr.contains("two hosts"), "{:?}", intact.ran);
        }
    }
    // Both snapshots are damaged: the failure is that of the newest.
    let mut damaged = healthy.clone();
    for generation in [NEWER, OLDER] {
        damaged.file(&format!("{generation}/snapshots/00000000.snapshot.lz4")).bytes.truncate(1000);
    }
    for Intact { what, ran, .. } in damaged.intact("both", &["truncated: "]) {
        let ran = ran.failed("truncated: ");
        assert!(ran.stderr.contains("snapshot"), "{what}: {ran:?}");
    }
}

// --- the fleet of real replicas ---

/// The folder with `fleet.json` and `bucket`. None, and a note, if it is not beside the project.
fn fleet() -> Option<PathBuf> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus =
        std::env::var_os("HYDRANT_CORPUS_V3").map_or_else(|| project.join("../shared/corpus-v3"), PathBuf::from);
    let found = Some(corpus.join("fleet")).filter(|fleet| fleet.join("fleet.json").is_file());
    if found.is_none() {
        println!("skipped: no fleet at {}", corpus.display());
    }
    found
}

/// The first position at which the WAL of a damaged replica differs from that of the healthy one.
fn first_difference(healthy: &Recorded, damaged: &Recorded) -> Option<(u32, u64)> {
    let differs = |a: &Recorded, b: &Recorded| {
        let missing =
            a.0.iter().filter(|file| !b.0.iter().any(|other| (&other.key, &other.bytes) == (&file.key, &file.bytes)));
        missing.filter_map(|file| position(&file.key)).min()
    };
    differs(healthy, damaged).into_iter().chain(differs(damaged, healthy)).min()
}

/// Every damaged replica of the fleet.
#[test]
fn every_kind_of_damage_of_real_replicas() {
    let Some(fleet) = fleet() else { return };
    let manifest: Value = serde_json::from_slice(&std::fs::read(fleet.join("fleet.json")).unwrap()).unwrap();
    let load = |key: &str| Recorded::load(&fleet.join("bucket"), &manifest, &format!("{key}/"));
    let healthy = load("damaged/noise/app.db");
    let (newest, mut seen) = (healthy.exact(), Vec::new());
    for database in manifest["databases"].as_array().unwrap() {
        let key = database["key"].as_str().unwrap();
        let (Some(name), Some(expect)) = (key.strip_prefix("damaged/"), database["expect"].as_str()) else { continue };
        let name = name.strip_suffix("/app.db").unwrap();
        let damaged = load(key);
        let words: Vec<&str> = if expect == "restores" { vec![] } else { expect.split(" or ").collect() };
        let results = damaged.intact(name, &words);
        for result in &results {
            let Intact { what, ran, bytes } = result;
            match name {
                _ if expect == "restores" => {
                    assert!(ran.code == Some(0) && *bytes == newest, "{what}: {ran:?}");
                    assert!(ran.json()["lost"].is_null(), "{what}: {ran:?}");
                }
                // Nothing can be had.
                "no-snapshot" | "truncated-snapshot" | "no-end-mark" | "empty-snapshot" | "age" | "ahead" => {
                    assert!(
                        ran.code == Some(1) && words.iter().any(|word| ran.stderr.contains(word)),
                        "{what}: {ran:?}"
                    );
                }
                "newer-without-snapshot" => result.is_older(&newest, "all of generation ", "no snapshot"),
                _ => {
                    let mut first = first_difference(&healthy, &damaged).unwrap_or_else(|| panic!("{what}"));
                    // The piece that was cut off is intact up to its last transaction.
                    if name == "ends-in-transaction" {
                        first = (first.0 + 1, 0);
                    }
                    let expected = damaged.before("", first).exact();
                    result.is_older(&expected, "of WAL behind it ", "");
                    assert!(*bytes != newest || name == "truncated-segment", "{what}");
                }
            }
        }
        seen.push(name.to_owned());
    }
    println!("{} kinds of damage", seen.len());
    assert!(seen.len() > 30, "{seen:?}");
}
