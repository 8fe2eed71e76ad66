//! Tests with real objects, which Litestream 0.3.13 has written.

use super::samples::{decode, decode_chunked, push};
use crate::wal::{BlockParser, NextBlock, WalReader};
use bytes::Bytes;
use lz4_flex::frame::FrameDecoder;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The folders of all generations in the fixtures.
fn generations() -> Vec<PathBuf> {
    let folders = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let replicas = folders(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus/single"));
    let generations: Vec<_> = replicas.into_iter().flat_map(|replica| folders(replica.join("generations"))).collect();
    assert!(generations.len() >= 2);
    generations
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |path: PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap());
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap().path())).collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

#[test]
fn snapshots_are_databases() {
    for generation in generations() {
        for (_, object) in files(&generation.join("snapshots")) {
            let content = decode(&object).unwrap();
            assert!(content.starts_with(b"SQLite format 3\0"));
            let page_size = u16::from_be_bytes([content[16], content[17]]);
            assert!(content.len().is_multiple_of(if page_size == 1 { 65_536 } else { usize::from(page_size) }));
            let mut other = Vec::new();
            FrameDecoder::new(object.as_slice()).read_to_end(&mut other).unwrap();
            assert!(content == other);
        }
    }
}

#[test]
fn segments_are_a_wal() {
    let mut indexes = 0;
    for generation in generations() {
        let mut readers: BTreeMap<String, WalReader> = BTreeMap::new();
        for (name, object) in files(&generation.join("wal")) {
            let (index, offset) = name.split_once('_').unwrap();
            let offset = u64::from_str_radix(offset.split_once('.').unwrap().0, 16).unwrap();
            let content = decode(&object).unwrap();
            for size in [1, 1000] {
                assert!(decode_chunked(&object, &[size]).as_ref() == Ok(&content));
            }
            let reader = readers.entry(index.to_owned()).or_default();
            if reader.position() != offset {
                // One replica lacks a segment.
                assert!(reader.position() < offset, "{name}");
                continue;
            }
            for chunk in content.chunks(10_007) {
                push(reader, chunk, &mut Vec::new()).unwrap();
            }
            reader.end_segment().unwrap();
            assert_eq!(reader.position(), offset + content.len() as u64);
            assert!(reader.page_size().is_some());
        }
        // Every index ends with a commit, which need not be so for every segment.
        assert!(readers.values().all(|reader| reader.last_commit().is_some() && !reader.is_inside_transaction()));
        indexes += readers.len();
    }
    assert!(indexes >= 2);
}

#[test]
fn objects_have_the_known_form() {
    // Some of the other replicas were made by hand.
    let by_litestream = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "v3-s3");
    for generation in generations().into_iter().filter(by_litestream) {
        for (_, object) in files(&generation.join("wal")) {
            let mut parser = BlockParser::new(object.len() as u64);
            parser.push(Bytes::from(object));
            assert!(matches!(parser.next(), Ok(NextBlock::Block(_))));
            let info = parser.info().unwrap();
            assert_eq!((info.independent, info.block_max), (true, 4 << 20));
            assert_eq!((info.content_checksum, info.content_size), (true, None));
        }
    }
}
