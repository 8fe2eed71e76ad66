//! Tests the naive restorer on replicas that Litestream wrote.

use super::*;
use crate::sim::server::Objects;
use crate::timestamp::Timestamp;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

fn corpus() -> Option<PathBuf> {
    let found = std::env::var_os("HYDRANT_CORPUS")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus")))?;
    if found.is_dir() {
        return Some(found);
    }
    println!("skipped: no corpus at {}", found.display());
    None
}

#[test]
fn crc_check_value() {
    let mut crc = Crc::new();
    crc.update(b"123456789");
    assert_eq!(crc.finish(), 0xb909_56c7_75a4_1001);
}

/// Restores the smaller replicas of the corpus to every target of their manifests, and compares the hashes.
#[test]
fn real_replicas_restore_to_their_hashes() {
    let Some(corpus) = corpus() else { return };
    let mut checked = 0;
    for name in [
        "block-4096",
        "frame-4096",
        "autovacuum",
        "mixed-encodings",
        "one-page",
        "page-512-frame",
        "page-65536-block",
        "page-65536-frame",
        "shrink",
        "levels",
        "levels-frame",
    ] {
        let manifest = std::fs::read(corpus.join(format!("single/{name}.json"))).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let folder = corpus.join("single").join(name);
        let objects = Objects::default();
        objects.load_folder("b", "", &folder, Some(&corpus.join(format!("single/{name}.json")))).unwrap();
        let mut files = Vec::new();
        let mut entries = Vec::new();
        for key in objects.keys("b", "") {
            let parts: Vec<&str> = key.split('/').collect();
            let (level, file) = match parts.as_slice() {
                ["ltx", level, file] => (level.parse().unwrap(), *file),
                [level, file] => (u8::from_str_radix(level, 16).unwrap(), *file),
                _ => continue,
            };
            let Some((min, max)) = file.strip_suffix(".ltx").and_then(|name| name.split_once('-')) else { continue };
            let bytes = std::fs::read(folder.join(&key)).unwrap();
            let object = objects.get("b", &key).unwrap();
            let in_header = i64::from_be_bytes(bytes[32..40].try_into().unwrap()) * 1_000_000;
            let in_metadata = object.metadata.iter().find(|(name, _)| name == "litestream-timestamp");
            let time_ns = in_metadata.map_or(in_header, |(_, text)| Timestamp::parse_rfc3339(text).unwrap().as_nanos());
            entries.push(NaiveEntry {
                level,
                min_txid: u64::from_str_radix(min, 16).unwrap(),
                max_txid: u64::from_str_radix(max, 16).unwrap(),
                time_ns,
            });
            files.push(bytes);
        }
        assert!(!files.is_empty(), "{name}");
        for target in manifest["targets"].as_array().unwrap() {
            let wanted = match target["target"].as_str().unwrap() {
                "latest" => NaiveTarget::Latest,
                "txid" => NaiveTarget::Txid(u64::from_str_radix(target["txid"].as_str().unwrap(), 16).unwrap()),
                "timestamp" => NaiveTarget::Before(
                    Timestamp::parse_rfc3339(target["timestamp"].as_str().unwrap()).unwrap().as_nanos(),
                ),
                other => panic!("{name}: unknown target {other}"),
            };
            // Of a replica with many files, every eighth target is checked, to keep the test short. A test of the
            // real restorer checks all of them.
            if wanted != NaiveTarget::Latest && files.len() > 30 && checked % 8 != 0 {
                checked += 1;
                continue;
            }
            checked += 1;
            let restored = plan(&entries, wanted).and_then(|chain| restore(chain.iter().map(|&at| &files[at][..])));
            match (restored, target["sha256"].as_str()) {
                (Ok(database), Some(sha256)) => {
                    let found = crate::hex::Hex(&Sha256::digest(&database)).to_string();
                    assert_eq!(found, sha256, "{name} {target}");
                }
                (Err(_), None) => {}
                (restored, _) => panic!("{name} {target}: {:?}", restored.map(|database| database.len())),
            }
        }
    }
    println!("{checked} targets checked");
}

#[test]
fn every_flipped_bit_is_an_error_or_harmless() {
    let Some(corpus) = corpus() else { return };
    let file = corpus.join("single/one-page/ltx/0");
    let path = std::fs::read_dir(file).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(path).unwrap();
    let whole = decode_file(&bytes).unwrap();
    let mut harmless = 0;
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // The file checksum covers the decoded pages and not their LZ4 form. If the damaged file still passes, the
        // damage must have left the content unchanged, for example a match that copies equal bytes from another
        // place.
        if let Ok(file) = decode_file(&damaged) {
            assert_eq!(file, whole, "bit {bit}");
            harmless += 1;
        }
    }
    assert!(harmless < bytes.len() / 4, "{harmless} of {} bits", bytes.len() * 8);
    for len in 0..bytes.len() {
        assert!(decode_file(&bytes[..len]).is_err(), "{len} bytes");
    }
}
