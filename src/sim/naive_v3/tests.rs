//! Tests the naive restorer on replicas that Litestream 0.3 wrote, and on damaged objects.

use super::*;
use crate::hex::Hex;
use crate::sim::sqlite::is_intact;
use crate::timestamp::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The replicas that the repository holds a copy of.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus/single")
}

/// A folder of real replicas beside the repository. None if it is not there.
fn beside(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no {}", folder.display());
    None
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn nanos(text: &str) -> i64 {
    Timestamp::parse_rfc3339(text).unwrap_or_else(|| panic!("no time: {text}")).as_nanos()
}

/// The time of an object of a manifest: of the upload, or of the file.
fn time_of(object: &Value) -> i64 {
    match object["last_modified"].as_str() {
        Some(text) => nanos(text),
        None => object["mtime_ns"].as_i64().unwrap(),
    }
}

/// The objects of the replica in `folder`, with the times of its manifest.
fn entries(folder: &Path, manifest: &Value) -> Vec<V3Entry> {
    let objects = manifest["objects"].as_array().unwrap();
    objects
        .iter()
        .map(|object| {
            let key = object["key"].as_str().unwrap();
            let bytes = std::fs::read(folder.join(key)).unwrap_or_else(|error| panic!("{key}: {error}"));
            V3Entry { key: key.to_owned(), bytes: bytes.into(), time_ns: time_of(object) }
        })
        .collect()
}

fn sha256(bytes: &[u8]) -> String {
    Hex(&Sha256::digest(bytes)).to_string()
}

/// Restores one replica to all targets of its manifest that Litestream 0.3 can reach. Returns how many there are.
fn check_replica(folder: &Path) -> usize {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let manifest = json(&folder.with_extension("json"));
    let entries = entries(folder, &manifest);
    let mut checked = 0;
    for target in manifest["targets"].as_array().unwrap() {
        let wanted = match target["target"].as_str().unwrap() {
            "latest" => NaiveTarget::Latest,
            "timestamp" => NaiveTarget::At(nanos(target["timestamp"].as_str().unwrap())),
            _ => continue,
        };
        // Where LTX files lie beside those of 0.3, the hash of "latest" is that of the LTX files. What 0.3.13
        // restored is the newest state of the others.
        let mut expected = target["sha256"].as_str();
        if name.starts_with("v3-then-ltx") && target["note"].as_str() != Some("v0.3") {
            match target["litestream_0313_sha256"].as_str() {
                Some(hash) => expected = Some(hash),
                None => continue,
            }
        }
        checked += 1;
        let restored = restore(&entries, wanted, None, &is_intact);
        match (&restored, expected) {
            (Ok(database), Some(expected)) => assert_eq!(sha256(database), expected, "{name} {target}"),
            (Err(error), None) => {
                let class = match target["error"].as_str().unwrap() {
                    "nothing that old" => "timestamp does not exist",
                    class => class,
                };
                assert_eq!(error.class, class, "{name} {target}: {error}");
            }
            _ => panic!("{name} {target}: {:?}", restored.map(|database| sha256(&database))),
        }
    }
    checked
}

fn check_folder(folder: &Path) -> usize {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("v3-") && !name.ends_with(".json"));
    names.sort();
    names.iter().map(|name| check_replica(&folder.join(name))).sum()
}

#[test]
fn copied_replicas_restore_to_their_hashes() {
    let checked = check_folder(&fixtures());
    assert!(checked > 50, "{checked} targets");
}

#[test]
fn real_replicas_restore_to_their_hashes() {
    for (name, least) in [("corpus-v3/single", 420), ("corpus/single", 20)] {
        if let Some(folder) = beside(name) {
            let checked = check_folder(&folder);
            assert!(checked >= least, "{name}: {checked} targets");
        }
    }
}

#[test]
fn a_fleet_restores_and_damage_has_its_class() {
    let Some(folder) = beside("corpus-v3/fleet") else { return };
    let manifest = json(&folder.join("fleet.json"));
    let mut checked = 0;
    for database in manifest["databases"].as_array().unwrap() {
        if database["format"].as_str() == Some("ltx") {
            continue;
        }
        let key = database["key"].as_str().unwrap();
        let root = format!("{key}/");
        let entries: Vec<V3Entry> = manifest["objects"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|object| {
                let key = object["key"].as_str().unwrap();
                let below = key.strip_prefix(&root)?;
                let bytes = std::fs::read(folder.join("bucket").join(key)).unwrap();
                Some(V3Entry { key: below.to_owned(), bytes: bytes.into(), time_ns: time_of(object) })
            })
            .collect();
        let restored = restore(&entries, NaiveTarget::Latest, None, &is_intact);
        match (restored, database["sha256"].as_str()) {
            (Ok(restored), Some(hash)) => assert_eq!(sha256(&restored), hash, "{key}"),
            (Err(error), None) => {
                let expect = database["expect"].as_str().unwrap();
                assert!(expect.split(" or ").any(|class| class == error.class), "{key}: {error}, not {expect}");
            }
            (restored, _) => panic!("{key}: {:?}", restored.map(|restored| sha256(&restored))),
        }
        for (time, hash) in database["at"].as_object().into_iter().flatten() {
            let restored = restore(&entries, NaiveTarget::At(nanos(time)), None, &is_intact);
            let restored = restored.unwrap_or_else(|error| panic!("{key} at {time}: {error}"));
            assert_eq!(sha256(&restored), hash.as_str().unwrap(), "{key} at {time}");
            checked += 1;
        }
        checked += 1;
    }
    assert!(checked > 90, "{checked} targets");
}

/// A replica of the repository, by name.
fn fixture(name: &str) -> Vec<V3Entry> {
    let folder = fixtures().join(name);
    entries(&folder, &json(&folder.with_extension("json")))
}

fn class(entries: &[V3Entry]) -> &'static str {
    restore(entries, NaiveTarget::Latest, None, &is_intact).map_or_else(|error| error.class, |_| "")
}

#[test]
fn flipped_bits_and_cut_objects_are_never_accepted() {
    let entries = fixture("v3-page-512");
    let object = &entries.iter().min_by_key(|entry| entry.bytes.len()).unwrap().bytes;
    let content = decode_object(object).unwrap();
    let mut harmless = 0;
    for bit in 0..object.len() * 8 {
        let mut damaged = object.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // A flipped bit may make a match copy equal bytes from another place.
        if let Ok(decoded) = decode_object(&damaged) {
            assert_eq!(decoded, content, "bit {bit}");
            harmless += 1;
        }
    }
    assert!(harmless < object.len() / 4, "{harmless} of {} bits", object.len() * 8);
    for len in 0..object.len() {
        assert_eq!(decode_object(&object[..len]).unwrap_err().class, "truncated", "{len} bytes");
    }
    for bit in 0..content.len() * 8 {
        let mut damaged = content.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(read_wal(&damaged).is_err(), "bit {bit}");
    }
    assert_eq!(read_wal(&content[..content.len() - 1]).unwrap_err().class, "malformed");
    assert_eq!(read_wal(&[]).unwrap_err().class, "malformed");
}

#[test]
fn frames_of_other_kinds_are_read() {
    let text: Vec<u8> = (0..300_000u32).flat_map(|number| (number / 7 % 251).to_le_bytes()).collect();
    for (mode, size) in [
        (lz4_flex::frame::BlockMode::Linked, lz4_flex::frame::BlockSize::Max64KB),
        (lz4_flex::frame::BlockMode::Independent, lz4_flex::frame::BlockSize::Max256KB),
    ] {
        let info = lz4_flex::frame::FrameInfo::new()
            .block_mode(mode)
            .block_size(size)
            .block_checksums(true)
            .content_checksum(true)
            .content_size(Some(text.len() as u64));
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        std::io::Write::write_all(&mut encoder, &text).unwrap();
        let mut object = encoder.finish().unwrap();
        assert!(decode_object(&object).unwrap() == text);
        object.push(0);
        assert_eq!(decode_object(&object).unwrap_err().class, "malformed");
    }
    assert_eq!(decode_object(b"age-encryption.org/v1\n").unwrap_err().class, "encrypted");
    assert_eq!(decode_object(b"PK").unwrap_err().class, "malformed");
}

#[test]
fn names_decide_what_is_missing() {
    let entries = fixture("v3-split");
    assert_eq!(class(&entries), "");
    let wal: Vec<usize> = (0..entries.len()).filter(|&at| entries[at].key.contains("/wal/")).collect();
    for (nth, &at) in wal.iter().enumerate() {
        let mut fewer = entries.clone();
        fewer.remove(at);
        // Nothing shows that the last segment is missing. It may be needed only to end a transaction.
        let expected = if nth + 1 == wal.len() { "" } else { "hole" };
        assert_eq!(class(&fewer), expected, "without {}", entries[at].key);
    }
    let mut none = entries.clone();
    none.retain(|entry| !entry.key.contains("/snapshots/"));
    assert_eq!(class(&none), "no snapshot");
    assert_eq!(class(&[]), "backup not found");
    let unknown = restore(&entries, NaiveTarget::Latest, Some(1), &is_intact).unwrap_err();
    assert_eq!(unknown.class, "backup not found");
    let early = restore(&entries, NaiveTarget::At(0), None, &is_intact).unwrap_err();
    assert_eq!(early.class, "timestamp does not exist");
}

#[test]
fn names_of_other_versions() {
    let entries = fixture("v3-page-512");
    let newest = restore(&entries, NaiveTarget::Latest, None, &is_intact).unwrap();
    let generation = entries[0].key.split('/').nth(1).unwrap();
    for name in [
        "snapshots/0000000000000001.snapshot.lz4",
        "wal/0000000000000001/0000000000000020.wal.lz4",
        "wal/00000001/00000020.wal.lz4",
    ] {
        let mut with = entries.clone();
        with.push(V3Entry { key: format!("generations/{generation}/{name}"), ..entries[0].clone() });
        let error = restore(&with, NaiveTarget::Latest, None, &is_intact).unwrap_err();
        assert!(error.class == "malformed" && error.text.contains("0.4.0"), "{name}: {error}");
    }

    // As 0.3.0 to 0.3.4 would have stored it: one file for each index, and the newest one not packed, with a part of
    // a frame at its end.
    let mut wals: HashMap<String, (Vec<u8>, i64)> = HashMap::new();
    let mut segments: Vec<&V3Entry> = entries.iter().filter(|entry| entry.key.contains("/wal/")).collect();
    segments.sort_by(|a, b| a.key.cmp(&b.key));
    for segment in segments {
        let (index, _) = segment.key.split_once('_').unwrap();
        let (wal, time) = wals.entry(index.to_owned()).or_default();
        wal.extend(decode_object(&segment.bytes).unwrap());
        *time = segment.time_ns;
    }
    let mut old: Vec<V3Entry> = entries.iter().filter(|entry| entry.key.contains("/snapshots/")).cloned().collect();
    let newest_index = wals.keys().max().cloned().unwrap();
    for (index, (mut wal, time_ns)) in wals {
        if index == newest_index {
            wal.extend([7; 100]);
            old.push(V3Entry { key: format!("{index}.wal.lz4"), bytes: "not used".into(), time_ns });
            old.push(V3Entry { key: format!("{index}.wal"), bytes: wal.into(), time_ns });
        } else {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            std::io::Write::write_all(&mut encoder, &wal).unwrap();
            old.push(V3Entry { key: format!("{index}.wal.lz4"), bytes: encoder.finish().unwrap().into(), time_ns });
        }
    }
    assert_eq!(restore(&old, NaiveTarget::Latest, None, &is_intact).unwrap(), newest);
}
