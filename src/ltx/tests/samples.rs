//! Sample files for tests: real ones from tests/fixtures and the corpus, and random ones.

use crate::ltx::crc::DatabaseChecksum;
use crate::ltx::decoder::{DecodeStep, FileDecoder, Verified, verify_file};
use crate::ltx::encode::Encoder;
use crate::ltx::frame::Encoding;
use crate::ltx::header::{FLAG_NO_CHECKSUM, Header};
use crate::ltx::{FormatError, PageSize, Pgno, Txid};
use bytes::Bytes;
use proptest::prelude::*;
use std::path::PathBuf;

pub(crate) type Pages = Vec<(Pgno, Vec<u8>)>;

/// Real files: a snapshot with LZ4 blocks, and increments of 512-byte pages, one with LZ4 blocks and one with LZ4
/// frames.
pub(crate) const FIXTURES: [&[u8]; 3] = [
    include_bytes!("../../../tests/fixtures/ltx/one-page-4096-block.ltx"),
    include_bytes!("../../../tests/fixtures/ltx/increment-512-block.ltx"),
    include_bytes!("../../../tests/fixtures/ltx/increment-512-frame.ltx"),
];

/// The directory with the corpus of real replicas. None if it is not on this machine.
pub(crate) fn corpus() -> Option<PathBuf> {
    let path = match std::env::var_os("HYDRANT_CORPUS") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
    };
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: no corpus at {}", path.display());
    None
}

pub(crate) fn header(page_size: u32, commit: u32, min: u64, max: u64) -> Header {
    Header {
        flags: FLAG_NO_CHECKSUM,
        page_size: PageSize::new(page_size).unwrap(),
        commit,
        min_txid: Txid(min),
        max_txid: Txid(max),
        timestamp_ms: 1_795_311_156_211,
        pre_apply_checksum: 0,
        wal_offset: 32,
        wal_size: 4152,
        wal_salt1: 1,
        wal_salt2: 2,
        node_id: 0,
    }
}

/// Encodes pages into a file. The bits of `mix` choose which pages get the other encoding than `first`.
pub(crate) fn encode(header: &Header, pages: &[(Pgno, Vec<u8>)], first: Encoding, mix: u64) -> Vec<u8> {
    let mut encoder = Encoder::new(header, first);
    let mut sum = DatabaseChecksum::default();
    for (i, (pgno, page)) in pages.iter().enumerate() {
        let other = if first == Encoding::Block { Encoding::Frame } else { Encoding::Block };
        encoder.set_encoding(if mix >> (i % 64) & 1 == 1 { other } else { first });
        encoder.page(*pgno, page).unwrap();
        sum.add(*pgno, page);
    }
    encoder.finish(if header.is_tracked() { sum.finish() } else { 0 }).unwrap()
}

/// Checks a file that is held in memory and returns its pages.
pub(crate) fn decode(file: &[u8]) -> Result<(Verified, Pages), FormatError> {
    let mut pages = Pages::new();
    let verified = verify_file(Bytes::copy_from_slice(file), None, |pgno, page| pages.push((pgno, page.to_vec())))?;
    Ok((verified, pages))
}

/// Checks a file that arrives in chunks of the given sizes, which are repeated until the file ends.
pub(crate) fn decode_chunked(file: &[u8], sizes: &[usize]) -> Result<(Verified, Pages), FormatError> {
    let file = Bytes::copy_from_slice(file);
    let mut decoder = FileDecoder::new(file.len() as u64, None);
    let mut sizes = sizes.iter().cycle();
    let (mut at, mut pages, mut size) = (0, Pages::new(), 0);
    loop {
        match decoder.next_page()? {
            DecodeStep::NeedMore => {
                let end = (at + sizes.next().unwrap()).min(file.len());
                decoder.push(file.slice(at..end));
                at = end;
            }
            DecodeStep::Header(header) => size = header.page_size.bytes(),
            DecodeStep::Page(page) => {
                let (pgno, mut out) = (page.pgno(), vec![0xaa; size]);
                page.decode_into(&mut out)?;
                pages.push((pgno, out));
            }
            DecodeStep::Done(verified) => return Ok((verified, pages)),
        }
    }
}

/// Makes a page with content like a database's: runs and repeats, and `noise` random bytes at its end.
pub(crate) fn page(size: usize, seed: u64, noise: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut page: Vec<u8> = (0..size).map(|i| (i / 37) as u8 ^ seed as u8).collect();
    let noise = noise.min(size);
    rng.fill(&mut page[size - noise..]);
    page
}

/// Generates a header and pages that make a valid file.
pub(crate) fn any_file() -> impl Strategy<Value = (Header, Pages)> {
    let page = (1u32..5, any::<u64>(), 0usize..700, any::<bool>());
    (9u32..=16, prop::collection::vec(page, 0..9), any::<bool>(), any::<bool>()).prop_map(
        |(log, picks, snapshot, tracked)| {
            let size = 1u32 << log;
            let mut pgno = 0;
            let mut pages = Pages::new();
            for (step, seed, noise, all_noise) in picks {
                pgno += if snapshot { 1 } else { step };
                let noise = if all_noise { size as usize } else { noise };
                pages.push((Pgno(pgno), self::page(size as usize, seed, noise)));
            }
            let min = if snapshot { 1 } else { 7 };
            let mut header = header(size, pgno, min, 9);
            if tracked {
                header.flags = 0;
                header.pre_apply_checksum = if snapshot { 0 } else { 1 << 63 | 5 };
            }
            (header, pages)
        },
    )
}

pub(crate) fn any_encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Block), Just(Encoding::Frame)]
}
