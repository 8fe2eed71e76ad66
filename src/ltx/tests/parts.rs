//! Tests of each part of the format: checksums, headers, names, varints, LZ4 frames. Each is compared with an
//! independent implementation.

use super::samples;
use crate::error::Class;
use crate::ltx::crc::{DatabaseChecksum, FileCrc, page_checksum};
use crate::ltx::frame::{Encoding, FrameParser, MAX_FRAME_SIZE, Next};
use crate::ltx::header::{HEADER_SIZE, Header};
use crate::ltx::index::{FrameHash, IndexEntry, IndexParser};
use crate::ltx::tail::{MIN_FILE_SIZE, Tail};
use crate::ltx::{Fault, FormatError, PageSize, Pgno, Txid, name};
use bytes::Bytes;
use crc_fast::CrcAlgorithm::Crc64GoIso;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;
use std::io::Write;

const TOP: u64 = 1 << 63;

fn crc_of(bytes: &[u8]) -> u64 {
    let mut crc = FileCrc::new();
    crc.update(bytes);
    crc.finish()
}

/// The CRC computed one bit at a time, for comparison.
fn naive_crc(bytes: &[u8]) -> u64 {
    let mut state = u64::MAX;
    for &byte in bytes {
        state ^= u64::from(byte);
        for _ in 0..8 {
            state = if state & 1 == 1 { state >> 1 ^ 0xd800_0000_0000_0000 } else { state >> 1 };
        }
    }
    !state | TOP
}

#[test]
fn crc_check_value() {
    assert_eq!(crc_of(b"123456789"), 0xb909_56c7_75a4_1001);
    assert_eq!(FileCrc::new().finish(), TOP);
    assert_eq!(page_checksum(Pgno(0x3132_3334), b"56789"), 0xb909_56c7_75a4_1001);
}

#[test]
fn crc_of_every_length_and_split() {
    let bytes = samples::page(700, 3, 700);
    for len in 0..bytes.len() {
        let whole = naive_crc(&bytes[..len]);
        assert_eq!(crc_of(&bytes[..len]), whole, "{len}");
        assert_eq!(crc_fast::checksum(Crc64GoIso, &bytes[..len]) | TOP, whole);
        for cut in (0..=len).step_by(1 + len / 9) {
            let (mut running, mut front, mut back) = (FileCrc::new(), FileCrc::new(), FileCrc::new());
            running.update(&bytes[..cut]);
            running.update(&bytes[cut..len]);
            front.update(&bytes[..cut]);
            back.update(&bytes[cut..len]);
            front.append(&back);
            assert_eq!((running.finish(), running.len()), (whole, len as u64), "{cut} of {len}");
            assert_eq!(front, running, "{cut} of {len}");
        }
    }
}

#[test]
fn crc_append_over_long_ranges_equals_crc_fast() {
    // The range of 2^40 + 3 zero bytes is never read. Only its length and its CRC are used.
    let len = (1u64 << 40) + 3;
    let expected = crc_fast::checksum_combine(Crc64GoIso, crc_fast::checksum(Crc64GoIso, b"front"), 0, len) | TOP;
    let mut zeros = FileCrc::new();
    let mut run = FileCrc::new();
    run.update(&[0]);
    // `run` is the CRC of 2^i zero bytes. It doubles in each turn.
    for bit in 0..41 {
        if len >> bit & 1 == 1 {
            zeros.append(&run);
        }
        let half = run;
        run.append(&half);
    }
    let mut whole = FileCrc::new();
    whole.update(b"front");
    whole.append(&zeros);
    assert_eq!(whole.len(), len + 5);
    // `checksum_combine` was given 0 as the CRC of the zeros. XORing the real CRC gives the same as computing with
    // it.
    assert_eq!((whole.finish() ^ (zeros.finish() & !TOP)) | TOP, expected);
}

proptest! {
    #[test]
    fn crc_appends_associate(a in prop::collection::vec(any::<u8>(), 0..200),
                             b in prop::collection::vec(any::<u8>(), 0..200),
                             c in prop::collection::vec(any::<u8>(), 0..200)) {
        let crc = |bytes: &[u8]| { let mut crc = FileCrc::new(); crc.update(bytes); crc };
        let (mut left, mut right, mut bc) = (crc(&a), crc(&a), crc(&b));
        left.append(&crc(&b));
        left.append(&crc(&c));
        bc.append(&crc(&c));
        right.append(&bc);
        prop_assert_eq!(left, right);
        prop_assert_eq!(left.finish(), naive_crc(&[a, b, c].concat()));
    }
}

#[test]
fn database_checksum_does_not_depend_on_order() {
    let (mut a, mut b, mut c) = (DatabaseChecksum::default(), DatabaseChecksum::default(), DatabaseChecksum::default());
    a.add(Pgno(1), b"x");
    a.add(Pgno(2), b"y");
    b.add(Pgno(2), b"y");
    c.add(Pgno(1), b"x");
    b.join(c);
    assert_eq!(a.finish(), b.finish());
    assert_eq!(a.finish(), page_checksum(Pgno(1), b"x") ^ page_checksum(Pgno(2), b"y") | TOP);
}

#[test]
fn header_round_trip() {
    let mut header = samples::header(65536, u32::MAX, 2, u64::MAX);
    (header.timestamp_ms, header.wal_offset, header.node_id) = (i64::MIN, -1, 77);
    assert_eq!(Header::parse(&header.encode()), Ok(header));
    assert!(!header.is_snapshot() && !header.is_tracked());
    header.flags = 0;
    header.pre_apply_checksum = TOP;
    assert_eq!(Header::parse(&header.encode()), Ok(header));
    assert!(header.is_tracked());
    let snapshot = samples::header(512, 0, 1, 1);
    assert_eq!(Header::parse(&snapshot.encode()), Ok(snapshot));
    assert!(snapshot.is_snapshot());
    assert_eq!(snapshot.timestamp().to_string(), "2026-11-22T01:32:36.211Z");
}

#[test]
fn header_refusals() {
    let refused = |change: fn(&mut [u8; HEADER_SIZE])| {
        let mut bytes = samples::header(4096, 3, 5, 6).encode();
        change(&mut bytes);
        let error = Header::parse(&bytes).unwrap_err();
        assert_eq!(error.class(), Class::Malformed);
        (error.offset(), error.to_string())
    };
    assert_eq!(refused(|b| b[3] = b'2').0, 0);
    assert_eq!(refused(|b| b[7] = 1).0, 4);
    assert_eq!(refused(|b| b[4] = 0x80).0, 4);
    assert_eq!(refused(|b| b[11] = 1).0, 8);
    assert_eq!(refused(|b| b[8..12].copy_from_slice(&[0, 0, 1, 0])).0, 8);
    assert_eq!(refused(|b| b[8..12].copy_from_slice(&[0, 2, 0, 0])).0, 8);
    assert_eq!(refused(|b| b[23] = 0).0, 16);
    assert_eq!(refused(|b| b[31] = 4).0, 16);
    assert_eq!(refused(|b| b[47] = 4).0, 40);
    assert_eq!(refused(|b| b[7] = 0).0, 40, "tracked increments have a pre-apply checksum");
    assert_eq!(refused(|b| (b[23], b[40], b[7]) = (1, 0x80, 0)).0, 40, "snapshots have none");
    let padding = refused(|b| b[99] = 9);
    assert_eq!(padding, (99, "header at offset 99: padding holds 0x09, not zero".to_owned()));
    assert_eq!(Header::parse(&[0; 99]).unwrap_err().class(), Class::Truncated);
}

#[test]
fn names() {
    let (min, max) = (Txid(1), Txid(0xa3f));
    let text = name::format(min, max);
    assert_eq!(text, "0000000000000001-0000000000000a3f.ltx");
    assert_eq!(name::parse(text.as_bytes()), Some((min, max)));
    for bad in [
        "",
        ".ltx",
        "0000000000000001-0000000000000A3f.ltx",
        "0000000000000001-0000000000000a3f.ltx.tmp",
        "0000000000000001-0000000000000a3f",
        "000000000000001-0000000000000a3f.ltx",
        "0000000000000001_0000000000000a3f.ltx",
        "00000000000000010-000000000000a3f.ltx",
        "+000000000000001-0000000000000a3f.ltx",
    ] {
        assert_eq!(name::parse(bad.as_bytes()), None, "{bad}");
    }
    let header = samples::header(512, 1, 1, 5);
    assert_eq!(name::check_name(&header, Txid(1), Txid(5)), Ok(()));
    let error = name::check_name(&header, Txid(1), Txid(6)).unwrap_err();
    assert_eq!(error.class(), Class::NameAndHeaderDisagree);
}

/// Builds a frame from page number, flags and payload.
fn frame(pgno: u32, flags: u16, payload: &[u8]) -> Vec<u8> {
    [&pgno.to_be_bytes()[..], &flags.to_be_bytes(), payload].concat()
}

/// Parses and decodes the first frame of `bytes`. None if the frame is not complete.
fn first_page(page_size: u32, bytes: &[u8]) -> Result<Option<Vec<u8>>, FormatError> {
    let page_size = PageSize::new(page_size).unwrap();
    let mut parser = FrameParser::new(page_size, 100, None);
    parser.push(Bytes::copy_from_slice(bytes));
    match parser.next()? {
        Next::Frame(frame) => {
            let mut page = vec![0; page_size.bytes()];
            frame.decode_into(&mut page)?;
            Ok(Some(page))
        }
        _ => Ok(None),
    }
}

#[test]
fn lz4_frames_of_every_form_decode() {
    for (i, size) in [512, 4096, 65536].into_iter().enumerate() {
        for noise in [0, 100, size] {
            let page = samples::page(size, i as u64, noise);
            for bits in 0..32 {
                let info = FrameInfo::new()
                    .block_size(BlockSize::Max64KB)
                    .block_mode(if bits & 1 == 0 { BlockMode::Independent } else { BlockMode::Linked })
                    .block_checksums(bits & 2 != 0)
                    .content_checksum(bits & 4 != 0)
                    .content_size((bits & 8 != 0).then_some(size as u64));
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                let blocks = if bits & 16 != 0 { 5 } else { 1 };
                for block in page.chunks(size.div_ceil(blocks)) {
                    encoder.write_all(block).unwrap();
                    encoder.flush().unwrap();
                }
                let lz4 = encoder.finish().unwrap();
                let bytes = frame(3, 0, &lz4);
                assert_eq!(first_page(size as u32, &bytes), Ok(Some(page.clone())), "{size} {noise} {bits:#b}");
                assert_eq!(first_page(size as u32, &bytes[..bytes.len() - 1]), Ok(None));
                // A decoder that expects another page size must return an error, never a wrong page.
                assert!(first_page(1024, &bytes).is_err(), "{size} {noise} {bits:#b}");
                if bits & 4 != 0 {
                    let mut bytes = bytes;
                    *bytes.last_mut().unwrap() ^= 1;
                    assert_eq!(first_page(size as u32, &bytes).unwrap_err().class(), Class::ChecksumMismatch);
                }
            }
        }
    }
}

#[test]
fn frame_refusals() {
    let refused = |bytes: &[u8]| match first_page(512, bytes) {
        Err(FormatError::Malformed { fault, offset: 100, .. }) => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&frame(1, 2, &[])), Fault::FrameFlags { found: 2 });
    assert_eq!(refused(&frame(1, 0x101, &[])), Fault::FrameFlags { found: 0x101 });
    assert_eq!(refused(&frame(0, 1, &[])), Fault::EndMark { found: 1 });
    assert_eq!(refused(&frame(0x4000_0000 / 512 + 1, 1, &[0; 8])), Fault::LockPage);
    let max = 512 + 2 + 16;
    assert_eq!(refused(&frame(1, 1, &[0, 0, 2, 19])), Fault::FrameSize { found: max + 1, max });
    assert_eq!(refused(&frame(1, 1, &[0xff; 4])), Fault::FrameSize { found: u32::MAX.into(), max });
    assert_eq!(first_page(512, &frame(1, 1, &[0, 0, 2, 18])), Ok(None));
    assert!(matches!(refused(&frame(1, 1, &[0; 4])), Fault::Lz4Block(_)));
    assert_eq!(refused(&frame(1, 1, &[0, 0, 0, 2, 0x10, 7])), Fault::PageLength { expected: 512, found: 1 });
    // A prerelease of Litestream 0.5 wrote only the page number before the LZ4 frame.
    let prerelease = refused(&[0, 0, 0, 1, 0x04, 0x22, 0x4d, 0x18, 0x64, 0x40]);
    assert!(prerelease.to_string().contains("prerelease"), "{prerelease}");
    // Each LZ4 frame breaks one rule: magic, version, reserved bits, block size, dictionary, an endless run of
    // blocks.
    let lz4 = |flg: u8, bd: u8| refused(&frame(1, 0, &[0x04, 0x22, 0x4d, 0x18, flg, bd, 0, 0, 0, 0, 0]));
    assert!(matches!(refused(&frame(1, 0, &[0; 7])), Fault::Lz4Header(_)));
    for (flg, bd) in [(0x24, 0x40), (0x66, 0x40), (0x64, 0x41), (0x64, 0xc0), (0x64, 0x30), (0x65, 0x40)] {
        assert!(matches!(lz4(flg, bd), Fault::Lz4Header(_)), "{flg:#x} {bd:#x}");
    }
    let empty_blocks = [&[0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7][..], &[0, 0, 0, 0x80].repeat(1000)].concat();
    assert!(matches!(refused(&frame(1, 0, &empty_blocks)), Fault::FrameSize { .. }));
}

#[test]
fn frames_must_ascend() {
    let file = samples::encode(
        &samples::header(512, 9, 4, 4),
        &[(Pgno(3), vec![1; 512]), (Pgno(3), vec![2; 512])],
        Encoding::Block,
        0,
    );
    let error = samples::decode(&file).unwrap_err();
    assert!(matches!(error, FormatError::Malformed { fault: Fault::PageOrder { after: Pgno(3) }, .. }), "{error}");
    let mut parser = FrameParser::new(PageSize::new(512).unwrap(), 100, Some(Pgno(3)));
    parser.push(Bytes::from(file).slice(100..));
    assert!(parser.next().is_err());
}

#[test]
fn index_refusals() {
    let refused = |start: u64, bytes: &[u8]| {
        let mut index = IndexParser::new(start);
        match index.feed(bytes, &mut |_| Ok(())) {
            Err(FormatError::Malformed { fault, .. }) => fault,
            other => panic!("{other:?} {index:?}"),
        }
    };
    let size = |size: u64| size.to_be_bytes();
    assert_eq!(refused(106, &[&[0][..], &size(2)].concat()), Fault::IndexSize { expected: 1, found: 2 });
    assert_eq!(refused(107, &[0]), Fault::IndexEnd { frames_end: 100, expected: 101 });
    assert_eq!(refused(0, &[0]), Fault::IndexEnd { frames_end: 100, expected: 0 });
    assert_eq!(refused(200, &[1, 101]), Fault::IndexOffset { pgno: Pgno(1), expected: 100, found: 101 });
    assert_eq!(refused(200, &[1, 100, 6]), Fault::IndexFrameSize { pgno: Pgno(1), found: 6, max: 94 });
    assert_eq!(refused(200, &[1, 100, 95]), Fault::IndexFrameSize { pgno: Pgno(1), found: 95, max: 94 });
    let (huge, max) = (1 << 40, MAX_FRAME_SIZE as u64);
    let entry = [&[1, 100][..], &[0xff, 0xff, 0xff, 0x7f]].concat();
    assert_eq!(refused(huge, &entry), Fault::IndexFrameSize { pgno: Pgno(1), found: (1 << 28) - 1, max });
    let order = Fault::IndexOrder { after: Pgno(2), found: Pgno(2) };
    assert_eq!(refused(200, &[2, 100, 10, 2]), order);
    assert_eq!(refused(200, &[0x80, 0x80, 0x80, 0x80, 0x10]), Fault::IndexPgno { found: 1 << 32 });
    assert_eq!(refused(200, &[0xff; 10]), Fault::Varint);
    // Go's Uvarint accepts varints with unnecessary zero bytes, so Hydrant must accept them too.
    let mut entries = Vec::new();
    let mut index = IndexParser::new(116);
    let bytes = [&[0x82, 0x00, 100, 10, 0x80, 0x00][..], &size(6), b"rest"].concat();
    let consumed = index.feed(&bytes, &mut |entry| {
        entries.push(entry);
        Ok(())
    });
    assert_eq!((consumed, index.is_done(), index.offset()), (Ok(14), true, 130));
    assert_eq!(entries, [IndexEntry { pgno: Pgno(2), offset: 100, size: 10 }]);
}

#[test]
fn tails() {
    let file = samples::encode(&samples::header(512, 0, 1, 1), &[], Encoding::Block, 0);
    assert_eq!(file.len() as u64, MIN_FILE_SIZE);
    let tail = Tail::locate(MIN_FILE_SIZE, &file).unwrap();
    assert_eq!((tail.frames, tail.end_mark, tail.index, tail.trailer), (100..100, 100..106, 106..115, 115..131));
    assert_eq!(Tail::locate(130, &file).unwrap_err().class(), Class::Truncated);
    assert_eq!(Tail::locate(131, &file[108..]).unwrap_err().class(), Class::Truncated);
    for size in [0u64, 2, 1 << 62, u64::MAX] {
        let last = [&size.to_be_bytes()[..], &[0; 16]].concat();
        assert_eq!(Tail::locate(131, &last).unwrap_err().class(), Class::Malformed, "{size}");
    }
}

#[test]
fn frame_hashes_tell_runs_apart() {
    let hash = |frames: &[(u32, u64, u32)]| {
        let mut hash = FrameHash::new();
        frames.iter().for_each(|&(pgno, offset, size)| hash.add(Pgno(pgno), offset, size));
        hash
    };
    let a = hash(&[(1, 100, 50), (2, 150, 60)]);
    assert_eq!(a, hash(&[(1, 100, 50), (2, 150, 60)]));
    for other in [
        hash(&[]),
        hash(&[(1, 100, 50)]),
        hash(&[(2, 150, 60), (1, 100, 50)]),
        hash(&[(1, 100, 50), (3, 150, 60)]),
        hash(&[(1, 100, 50), (2, 151, 60)]),
        hash(&[(1, 100, 51), (2, 150, 60)]),
    ] {
        assert_ne!(a, other);
    }
}
