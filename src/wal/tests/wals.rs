//! Tests of the reader of a WAL: every frame of a valid WAL is returned, and nothing else is accepted.

use super::samples::{Frame, WalWriter, push, read_chunked, small_wal};
use crate::error::Class;
use crate::ltx::PageSize;
use crate::wal::{WalChecksum, WalError, WalFault, WalReader};
use proptest::prelude::*;

/// The size of a frame with a page of 512 bytes.
const FRAME: usize = 24 + 512;

fn read(wal: &[u8]) -> (Vec<Frame>, Result<WalReader, WalError>) {
    read_chunked(wal, &[wal.len().max(1)])
}

fn error(wal: &[u8]) -> WalError {
    read(wal).1.unwrap_err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_wal_in_any_chunks(
        log in 9u32..=16,
        is_big_endian: bool,
        numbers in prop::collection::vec((1u32.., prop_oneof![Just(0), any::<u32>()]), 0..6),
        seed: u64,
        sizes in prop::collection::vec(prop_oneof![1..40usize, 1..70_000usize], 1..4),
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut wal = WalWriter::new(1 << log, is_big_endian);
        let mut frames = Vec::new();
        for (pgno, commit) in numbers {
            let page: Vec<u8> = (0..1 << log).map(|_| rng.u8(..)).collect();
            wal.frame(pgno, commit, &page);
            frames.push((pgno, commit, page));
        }
        let (found, reader) = read_chunked(&wal.bytes, &sizes);
        let reader = reader.unwrap();
        prop_assert!(found == frames);
        prop_assert_eq!(reader.position(), wal.bytes.len() as u64);
        prop_assert_eq!(reader.page_size(), PageSize::new(1 << log));
    }

    #[test]
    fn noise_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..1200), header: bool, chunk in 1..50usize) {
        if header {
            bytes.splice(..0, WalWriter::new(512, false).bytes);
        }
        let (whole, chunked) = (read(&bytes), read_chunked(&bytes, &[chunk]));
        prop_assert_eq!(whole.0, chunked.0);
        prop_assert_eq!(whole.1.map(drop), chunked.1.map(drop));
    }
}

#[test]
fn both_byte_orders() {
    for is_big_endian in [false, true] {
        let (wal, frames) = small_wal(is_big_endian);
        for size in [1, 2, 31, 32, 33, 56, FRAME - 1, FRAME, FRAME + 1, 5000] {
            let (found, reader) = read_chunked(&wal, &[size]);
            assert_eq!(found, frames);
            let reader = reader.unwrap();
            assert_eq!((reader.frames(), reader.last_commit()), (4, Some((3, 3))));
            assert!(reader.is_inside_transaction());
        }
    }
    // The order of the words in the checksum is that of the magic number.
    let (mut wal, _) = small_wal(false);
    wal[3] = 0x83;
    assert!(matches!(error(&wal), WalError::ChecksumMismatch { what: WalChecksum::Header, offset: 24, .. }));
}

#[test]
fn commits_are_counted() {
    let mut reader = WalReader::new();
    assert_eq!((reader.position(), reader.frames(), reader.page_size()), (0, 0, None));
    let (wal, mut frames) = (small_wal(false).0, Vec::new());
    let mut states = Vec::new();
    for byte in &wal {
        push(&mut reader, &[*byte], &mut frames).unwrap();
        let state = (reader.frames(), reader.last_commit(), reader.is_inside_transaction());
        if states.last() != Some(&state) {
            states.push(state);
        }
    }
    assert_eq!(
        states,
        [
            (0, None, false),
            (1, None, true),
            (2, Some((2, 2)), false),
            (3, Some((3, 3)), false),
            (4, Some((3, 3)), true)
        ]
    );
}

#[test]
fn segments_may_end_between_frames_only() {
    let (wal, frames) = small_wal(true);
    for cut in 0..=wal.len() {
        let mut reader = WalReader::new();
        let mut found = Vec::new();
        push(&mut reader, &wal[..cut], &mut found).unwrap();
        assert_eq!(reader.position(), cut as u64);
        let is_between = cut >= 32 && (cut - 32).is_multiple_of(FRAME);
        let taken = if cut < 32 { 0 } else { cut - (cut - 32) % FRAME };
        match reader.clone().end_segment() {
            Ok(()) => assert!(is_between, "{cut}"),
            Err(error) => {
                assert!(!is_between, "{cut}");
                let found = cut - taken;
                let fault = match cut {
                    0..32 => WalFault::HalfHeader { found, needed: 32 },
                    _ => WalFault::HalfFrame { found, needed: FRAME },
                };
                assert_eq!(error, WalError::Malformed { offset: taken as u64, fault });
                assert_eq!((error.class(), error.is_transport()), (Class::Malformed, false));
            }
        }
        if is_between {
            reader.end_segment().unwrap();
            push(&mut reader, &wal[cut..], &mut found).unwrap();
            assert_eq!(found, frames);
        } else {
            // A file that still grows: what is complete counts.
            reader.end_growing();
            assert_eq!(reader.position(), taken as u64);
            assert_eq!(found, frames[..taken.saturating_sub(32) / FRAME]);
        }
    }
}

#[test]
fn a_header_alone_is_a_segment() {
    let (wal, frames) = small_wal(false);
    let mut reader = WalReader::new();
    let mut found = Vec::new();
    push(&mut reader, &wal[..32], &mut found).unwrap();
    reader.end_segment().unwrap();
    assert_eq!((reader.position(), reader.frames(), reader.last_commit()), (32, 0, None));
    assert_eq!(reader.page_size(), PageSize::new(512));
    assert!(!reader.is_inside_transaction());
    push(&mut reader, &wal[32..], &mut found).unwrap();
    reader.end_segment().unwrap();
    assert_eq!(found, frames);
    // A segment without content changes nothing.
    push(&mut reader, &[], &mut found).unwrap();
    reader.end_segment().unwrap();
    assert_eq!((reader.position(), found.len()), (wal.len() as u64, 4));
}

#[test]
fn every_flipped_bit_is_noticed() {
    for is_big_endian in [false, true] {
        let (wal, frames) = small_wal(is_big_endian);
        for bit in 0..wal.len() * 8 {
            let mut damaged = wal.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (found, result) = read(&damaged);
            let error = result.unwrap_err();
            // All frames before it are intact.
            let intact = (bit / 8).saturating_sub(32) / FRAME;
            assert_eq!(found, frames[..intact], "bit {bit}");
            let offset = if bit / 8 < 32 { 0 } else { 32 + intact * FRAME };
            match error {
                WalError::Malformed { offset: 0, fault: WalFault::WalMagic { .. } } => assert!(bit < 32),
                WalError::ChecksumMismatch { what, offset: found, stored, computed } => {
                    assert_ne!(stored, computed);
                    let in_frame = (bit / 8).wrapping_sub(32) % FRAME;
                    let (expected, offset) = match bit / 8 {
                        0..32 => (WalChecksum::Header, 24),
                        _ if (8..16).contains(&in_frame) => (WalChecksum::Salts, offset),
                        _ => (WalChecksum::Frame, offset),
                    };
                    assert_eq!((what, found), (expected, offset as u64), "bit {bit}");
                }
                other => panic!("bit {bit}: {other:?}"),
            }
        }
    }
}

#[test]
fn frames_out_of_their_chain() {
    let (wal, frames) = small_wal(false);
    // Without the second frame; the first twice; the chain of another WAL.
    let lacking = [&wal[..32 + FRAME], &wal[32 + 2 * FRAME..]].concat();
    let twice = [&wal[..32 + FRAME], &wal[32..]].concat();
    let mut other = WalWriter::new(512, false);
    other.frame(9, 0, &[0; 512]);
    let mixed = [&wal[..32 + FRAME], &other.bytes[32..]].concat();
    for damaged in [lacking, twice, mixed] {
        let (found, result) = read(&damaged);
        assert_eq!(found, frames[..1]);
        let error = result.unwrap_err();
        let offset = 32 + FRAME as u64;
        assert!(
            matches!(error, WalError::ChecksumMismatch { what: WalChecksum::Frame, offset: found, .. } if found == offset)
        );
        assert_eq!((error.class(), error.is_transport()), (Class::ChecksumMismatch, false));
    }
}

#[test]
fn wrong_salts_show_both() {
    let (mut wal, _) = small_wal(false);
    wal[32 + 8] = 0xee;
    let expected = "WAL at offset 32: the salt pair of the frame is stored as ee020304050607ff, the header of the WAL has \
        01020304050607ff";
    assert_eq!(error(&wal).to_string(), expected);
}

#[test]
fn page_zero_is_malformed() {
    let mut wal = WalWriter::new(1024, false);
    wal.frame(7, 9, &[1; 1024]);
    wal.frame(0, 9, &[1; 1024]);
    let (found, result) = read(&wal.bytes);
    assert_eq!(found.len(), 1);
    let offset = 32 + 24 + 1024;
    assert_eq!(result.unwrap_err(), WalError::Malformed { offset, fault: WalFault::PageZero });
}

#[test]
fn wrong_headers() {
    let with = |at: usize, value: u32| {
        let mut wal = WalWriter::new(4096, false);
        wal.bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        wal.seal_header();
        error(&wal.bytes)
    };
    let malformed = |fault| WalError::Malformed { offset: 0, fault };
    assert_eq!(with(0, 0x377f_0681), malformed(WalFault::WalMagic { found: 0x377f_0681 }));
    assert_eq!(with(4, 3_007_001), malformed(WalFault::WalVersion { found: 3_007_001 }));
    for found in [0, 1, 256, 513, 4095, 131_072, u32::MAX] {
        assert_eq!(with(8, found), malformed(WalFault::PageSize { found }));
    }
    let empty = malformed(WalFault::HalfHeader { found: 0, needed: 32 });
    assert_eq!(error(&[]), empty);
    assert_eq!(WalReader::new().end_segment(), Err(empty));
}

#[test]
fn the_callers_error_ends_the_reading() {
    #[derive(Debug, PartialEq)]
    enum Stop {
        Wal(WalError),
        Enough(u64),
    }
    impl From<WalError> for Stop {
        fn from(error: WalError) -> Self {
            Self::Wal(error)
        }
    }
    let (wal, _) = small_wal(false);
    let stop_at = |bytes: &[u8], last: u64| {
        WalReader::new().push(bytes, &mut |frame| if frame.number == last { Err(Stop::Enough(last)) } else { Ok(()) })
    };
    assert_eq!(stop_at(&wal, 3), Err(Stop::Enough(3)));
    assert_eq!(stop_at(&wal, 9), Ok(()));
    assert!(matches!(stop_at(&[7; 40], 1), Err(Stop::Wal(_))));
}
