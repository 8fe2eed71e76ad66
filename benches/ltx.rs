//! Measures the decoding of LTX files on one thread. Usage: `cargo bench --bench ltx [-- FILE.ltx …]`. It prints
//! medians of CPU time, which other work on the machine disturbs less than wall time. For files given as arguments
//! it compares Hydrant's decoder with that of `lz4_flex`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;
use hydrant::ltx::crc::FileCrc;
use hydrant::ltx::decoder::{DecodeStep, FileDecoder};
use hydrant::ltx::encode::Encoder;
use hydrant::ltx::frame::{Encoding, Frame, FrameParser, Next};
use hydrant::ltx::header::{FLAG_NO_CHECKSUM, HEADER_SIZE, Header};
use hydrant::ltx::index::{FrameHash, IndexParser};
use hydrant::ltx::tail::Tail;
use hydrant::ltx::{PageSize, Pgno, Txid};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;

const PAGES: u32 = 16_384;
const PAGE: usize = 4096;
const CHUNK: usize = 128 << 10;
const RUNS: usize = 15;

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The median time of several runs of `f`, in seconds.
fn median(mut f: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = cpu_seconds();
            f();
            cpu_seconds() - start
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[RUNS / 2]
}

/// Makes a page with rows of ids, words and random bytes. LZ4 compresses it to about half, as it does most
/// databases.
fn page(rng: &mut fastrand::Rng, words: &[String]) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE + 64);
    while page.len() < PAGE {
        page.extend(rng.u64(..1 << 40).to_be_bytes());
        for _ in 0..rng.usize(1..5) {
            page.extend(words[rng.usize(..words.len())].as_bytes());
            page.push(b' ');
        }
    }
    page.truncate(PAGE);
    page
}

fn file(encoding: Encoding) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(7);
    let words: Vec<String> = (0..60).map(|_| (0..rng.usize(6..24)).map(|_| rng.lowercase()).collect()).collect();
    let header = Header {
        flags: FLAG_NO_CHECKSUM,
        page_size: PageSize::new(PAGE as u32).expect("legal"),
        commit: PAGES,
        min_txid: Txid(1),
        max_txid: Txid(1),
        timestamp_ms: 0,
        pre_apply_checksum: 0,
        wal_offset: 0,
        wal_size: 0,
        wal_salt1: 0,
        wal_salt2: 0,
        node_id: 0,
    };
    let mut encoder = Encoder::new(&header, encoding);
    for pgno in 1..=PAGES {
        encoder.page(Pgno(pgno), &page(&mut rng, &words)).expect("in memory");
    }
    encoder.finish(0).expect("in memory").into()
}

fn chunks(file: &Bytes, start: usize) -> impl Iterator<Item = Bytes> {
    (start..file.len()).step_by(CHUNK).map(|at| file.slice(at..file.len().min(at + CHUNK)))
}

/// Decodes every page of the LTX file `file` with the decoder `decode`.
fn pages(file: &Bytes, decode: impl Fn(&Frame<'_>, &mut [u8])) {
    let header = Header::parse(&file[..HEADER_SIZE]).expect("a header");
    let mut chunks = chunks(file, HEADER_SIZE);
    let mut parser = FrameParser::new(header.page_size, HEADER_SIZE as u64, None);
    // The pages are decoded into a space as large as a write buffer, over and over.
    let (mut out, page, mut slot) = (vec![0; 256 << 10], header.page_size.bytes(), 0);
    loop {
        match parser.next().expect("sound") {
            Next::NeedMore => parser.push(chunks.next().expect("ends with a mark")),
            Next::Frame(frame) => {
                decode(&frame, &mut out[slot..slot + page]);
                slot = (slot + page) % out.len();
            }
            Next::End { .. } => break,
        }
    }
    black_box(&out);
}

fn by_us(frame: &Frame<'_>, page: &mut [u8]) {
    frame.decode_into(page).expect("sound");
}

/// Decodes a page with `lz4_flex`. The frame must hold an LZ4 block.
fn by_lz4_flex(frame: &Frame<'_>, page: &mut [u8]) {
    lz4_flex::block::decompress_into(frame.payload, page).expect("a sound block");
}

/// Measures the decoding of the pages of a file. They are decoded so often that the time can be measured.
fn named(path: &str) {
    let file = Bytes::from(std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}")));
    let times = (64 << 20) / file.len().max(1) + 1;
    println!("{path}: {} KiB", file.len() / 1024);
    let count = std::cell::Cell::new(0u32);
    pages(&file, |_, _| count.set(count.get() + 1));
    let row = |name: &str, seconds: f64| {
        println!("{name:<58} {:8.2} µs per page", seconds * 1e6 / times as f64 / f64::from(count.get()));
    };
    row("  decode", median(|| (0..times).for_each(|_| pages(&file, by_us))));
    row("  the same by lz4_flex", median(|| (0..times).for_each(|_| pages(&file, by_lz4_flex))));
}

/// Processes a file as a restore processes a segment of a large file. `decode` and `hash` say whether pages are
/// decoded and hashed.
fn segment(file: &Bytes, decode: bool, hash: bool) {
    let mut chunks = chunks(file, HEADER_SIZE);
    let mut parser = FrameParser::new(PageSize::new(PAGE as u32).expect("legal"), HEADER_SIZE as u64, None);
    // The pages are decoded into a space as large as a write buffer, over and over.
    let mut out = vec![0; 256 << 10];
    let (mut crc, mut frames, mut slot) = (FileCrc::new(), FrameHash::new(), 0);
    loop {
        match parser.next().expect("sound") {
            Next::NeedMore => parser.push(chunks.next().expect("ends with a mark")),
            Next::Frame(frame) => {
                let page = &mut out[slot..slot + PAGE];
                slot = (slot + PAGE) % (256 << 10);
                if decode {
                    frame.decode_into(page).expect("sound");
                }
                if hash {
                    crc.update(frame.head);
                    crc.update(page);
                }
                frames.add(frame.pgno, frame.offset, frame.size);
            }
            Next::End { .. } => break,
        }
    }
    black_box((crc.finish(), frames));
}

fn whole(file: &Bytes) {
    let mut chunks = chunks(file, 0);
    let mut decoder = FileDecoder::new(file.len() as u64, None);
    let mut page = vec![0; PAGE];
    loop {
        match decoder.next_page().expect("sound") {
            DecodeStep::NeedMore => decoder.push(chunks.next().expect("whole")),
            DecodeStep::Header(_) => {}
            DecodeStep::Page(encoded) => encoded.decode_into(&mut page).expect("sound"),
            DecodeStep::Done(verified) => {
                black_box(verified);
                return;
            }
        }
    }
}

fn main() {
    let files: Vec<String> = std::env::args().skip(1).filter(|arg| arg.ends_with(".ltx")).collect();
    if !files.is_empty() {
        return files.iter().for_each(|path| named(path));
    }
    let output = f64::from(PAGES) * PAGE as f64;
    let gb = |name: &str, seconds: f64| println!("{name:<58} {:8.2} GB/s of pages", output / seconds / 1e9);
    for encoding in [Encoding::Block, Encoding::Frame] {
        let file = file(encoding);
        println!("{encoding:?}: {} KiB pages, compressed to {:.0} %", PAGE / 1024, 100.0 * file.len() as f64 / output);
        gb("  parse only", median(|| segment(&file, false, false)));
        gb("  parse, decode", median(|| segment(&file, true, false)));
        if encoding == Encoding::Block {
            gb("  the same by lz4_flex", median(|| pages(&file, by_lz4_flex)));
        }
        gb("  parse, decode, CRC (a segment)", median(|| segment(&file, true, true)));
        gb("  FileDecoder (a whole file)", median(|| whole(&file)));
        let tail = Tail::locate(file.len() as u64, &file).expect("sound");
        let index = file.slice(tail.index.start as usize..tail.index.end as usize);
        let seconds = median(|| {
            let (mut parser, mut hash) = (IndexParser::new(tail.index.start), FrameHash::new());
            parser
                .feed(&index, &mut |entry| {
                    hash.add(entry.pgno, entry.offset, entry.size);
                    Ok(())
                })
                .expect("sound");
            black_box(hash);
        });
        println!("{:<58} {:8.2} ns per entry", "  index", seconds * 1e9 / f64::from(PAGES));
    }

    const CALLS: usize = 100_000;
    let ns = |name: String, seconds: f64| println!("{name:<58} {:8.2} ns", seconds * 1e9 / CALLS as f64);
    let page = vec![7; PAGE];
    for len in [6, 10, 16, 32, 64, 96, 512, 4096] {
        ns(
            format!("CRC update of {len} bytes"),
            median(|| {
                let mut crc = FileCrc::new();
                (0..CALLS).for_each(|_| crc.update(black_box(&page[..len])));
                black_box(crc);
            }),
        );
        ns(
            "  the same by crc-fast's Digest".to_owned(),
            median(|| {
                let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64GoIso);
                (0..CALLS).for_each(|_| crc.update(black_box(&page[..len])));
                black_box(crc.finalize());
            }),
        );
    }
    let mut part = FileCrc::new();
    part.update(&vec![1; 8 << 20]);
    const APPENDS: usize = 1000;
    let seconds = median(|| {
        let mut crc = part;
        (0..APPENDS).for_each(|_| crc.append(black_box(&part)));
        black_box(crc);
    });
    println!("{:<58} {:8.2} µs", "append of an 8 MiB range", seconds * 1e6 / APPENDS as f64);
    let seconds = median(|| {
        for _ in 0..APPENDS {
            let algorithm = crc_fast::CrcAlgorithm::Crc64GoIso;
            black_box(crc_fast::checksum_combine(algorithm, black_box(1), black_box(2), 8 << 20));
        }
    });
    println!("{:<58} {:8.2} µs", "  the same by crc-fast's checksum_combine", seconds * 1e6 / APPENDS as f64);
}
