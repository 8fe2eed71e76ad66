//! Tests of objects: every legal form of a frame is decoded, however it is cut into chunks. A damaged one is refused.

use super::samples::{FULL, Form, WRITTEN, any_form, content, decode, decode_chunked, seal_header};
use crate::error::Class;
use crate::wal::{BlockParser, Decoded, NextBlock, ObjectDecoder, WalChecksum, WalError, WalFault};
use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use proptest::prelude::*;
use std::io::{Read, Write};

fn malformed(offset: u64, fault: WalFault) -> Result<Vec<u8>, WalError> {
    Err(WalError::Malformed { offset, fault })
}

/// A short content in three blocks, the second of which does not shrink and the last of which refers to the first.
fn short_blocks() -> [Vec<u8>; 3] {
    let mut rng = fastrand::Rng::with_seed(4);
    let noise = (0..40).map(|_| rng.u8(..)).collect();
    [b"abcdefgh".repeat(9), noise, b"abcdefgh_".repeat(7)]
}

fn short_object(form: Form) -> (Vec<u8>, Vec<u8>) {
    let blocks = short_blocks();
    (form.object(&blocks.each_ref().map(Vec::as_slice)), blocks.concat())
}

fn others(object: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    FrameDecoder::new(object).read_to_end(&mut content).unwrap();
    content
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_form_in_any_chunks(
        form in any_form(),
        lens in prop::collection::vec(prop_oneof![0..200usize, 0..=65_536usize], 0..5),
        seed: u64,
        sizes in prop::collection::vec(1..9000usize, 1..5),
    ) {
        let whole = content(lens.iter().sum(), seed);
        let mut rest = whole.as_slice();
        let blocks: Vec<&[u8]> = lens.iter().map(|&len| rest.split_off(..len).unwrap()).collect();
        let object = form.object(&blocks);
        prop_assert!(decode(&object).as_ref() == Ok(&whole));
        prop_assert!(decode_chunked(&object, &sizes).as_ref() == Ok(&whole));
        // The other decoder takes a block without content for the end.
        prop_assert!(lens.contains(&0) || others(&object) == whole);
    }

    #[test]
    fn what_others_write(
        linked: bool, block_checksums: bool, content_checksum: bool, content_size: bool,
        code in 0..4usize, len in 0..400_000usize, seed: u64, chunk in 1..70_000usize,
    ) {
        let size = [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB][code];
        let info = FrameInfo::new()
            .block_mode(if linked { BlockMode::Linked } else { BlockMode::Independent })
            .block_checksums(block_checksums)
            .content_checksum(content_checksum)
            .content_size(content_size.then_some(len as u64))
            .block_size(size);
        let whole = content(len, seed);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&whole).unwrap();
        let object = encoder.finish().unwrap();
        prop_assert!(decode(&object).as_ref() == Ok(&whole));
        prop_assert!(decode_chunked(&object, &[chunk]).as_ref() == Ok(&whole));
    }

    #[test]
    fn a_changed_byte_is_noticed(form in any_form(), at: prop::sample::Index, xor in 1u8.., chunk in 1..50usize) {
        let (mut object, content) = short_object(Form { content_checksum: true, ..form });
        let at = at.index(object.len());
        object[at] ^= xor;
        let found = decode(&object);
        // Two encodings may mean the same content.
        prop_assert!(found.as_ref().is_err() || found.as_ref() == Ok(&content));
        prop_assert_eq!(decode_chunked(&object, &[chunk]), found);
    }

    #[test]
    fn noise_never_panics(
        form in any_form(), mut object in prop::collection::vec(any::<u8>(), 0..300), header: bool, chunk in 1..50usize,
    ) {
        if header {
            object.splice(..0, form.header(300));
        }
        prop_assert_eq!(decode_chunked(&object, &[chunk]), decode(&object));
    }
}

#[test]
fn the_form_that_litestream_writes() {
    assert_eq!(WRITTEN.header(0), [0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9]);
}

#[test]
fn every_beginning_is_truncated() {
    for form in [WRITTEN, FULL, Form { independent: true, raw: true, ..FULL }] {
        let (object, content) = short_object(form);
        assert_eq!(decode(&object), Ok(content));
        for len in 0..object.len() {
            for sizes in [&[len.max(1)][..], &[1], &[7]] {
                match decode_chunked(&object[..len], sizes) {
                    Err(error @ WalError::Truncated { size, part }) => {
                        assert_eq!((size, error.class()), (len as u64, Class::Truncated));
                        assert!(!part.is_empty());
                    }
                    other => panic!("{len}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn an_end_between_two_blocks_is_truncated() {
    // 64 KiB blocks stored raw: their ends are known.
    let whole = content(100_000, 1);
    let object = Form { raw: true, block_code: 4, ..WRITTEN }.object(&[&whole[..65_536], &whole[65_536..]]);
    for (len, expected) in [
        (7, "LZ4 blocks, before the end mark"),
        (7 + 4 + 65_536 - 1, "LZ4 block"),
        (7 + 4 + 65_536, "LZ4 blocks, before the end mark"),
        (7 + 8 + 100_000, "LZ4 blocks, before the end mark"),
        (7 + 12 + 100_000, "content checksum"),
    ] {
        let expected = Err(WalError::Truncated { size: len as u64, part: expected });
        assert_eq!(decode(&object[..len]), expected);
        assert_eq!(decode_chunked(&object[..len], &[3000]), expected);
    }
    assert_eq!(decode(&[]).unwrap_err().to_string(), "the object is empty");
    let error = decode(&object[..7]).unwrap_err();
    assert_eq!(error.to_string(), "the object ends at byte 7, in: LZ4 blocks, before the end mark");
}

#[test]
fn a_block_longer_than_the_object_is_truncated_at_once() {
    let object = Form { raw: true, ..WRITTEN }.object(&[&[7; 5000]]);
    let mut parser = BlockParser::new(4000);
    parser.push(Bytes::copy_from_slice(&object[..11]));
    assert!(matches!(parser.next(), Err(WalError::Truncated { size: 4000, .. })));
}

#[test]
fn every_flipped_bit_is_noticed() {
    for form in [WRITTEN, FULL, Form { independent: true, raw: true, ..FULL }] {
        let (object, content) = short_object(form);
        for bit in 0..object.len() * 8 {
            let mut damaged = object.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(found) = decode(&damaged) {
                assert_eq!(found, content, "bit {bit}");
            }
        }
    }
}

#[test]
fn nothing_may_follow() {
    let (object, _) = short_object(WRITTEN);
    let end = object.len() as u64;
    for (after, chunk) in [(vec![0], 1), (vec![0; 9], 1000), (object.clone(), 1000), (object.clone(), 3)] {
        let long = [object.as_slice(), &after].concat();
        let expected = malformed(end, WalFault::TrailingBytes { bytes: after.len() as u64 });
        assert_eq!(decode_chunked(&long, &[chunk]), expected);
    }
    // More bytes than were listed.
    let mut decoder = ObjectDecoder::new(end);
    decoder.push(Bytes::from(object));
    decoder.push(Bytes::from_static(b"more"));
    let error = loop {
        match decoder.next() {
            Ok(Decoded::Bytes(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, WalError::Malformed { offset: end, fault: WalFault::TrailingBytes { bytes: 4 } });
}

#[test]
fn encrypted_objects_are_named() {
    let age = b"age-encryption.org/v1\n-> X25519 8hWaIUmk67IuRZ41zMk2V9f/w3f5qUnXLL7MGPA+zE8\n";
    for len in 21..age.len() {
        for chunk in [1, 4, 100] {
            assert_eq!(decode_chunked(&age[..len], &[chunk]), Err(WalError::Encrypted));
        }
    }
    for len in 4..21 {
        for chunk in [1, 4, 100] {
            let expected = malformed(0, WalFault::Magic { found: *b"age-" });
            assert_eq!(decode_chunked(&age[..len], &[chunk]), expected);
        }
    }
    let other = malformed(0, WalFault::Magic { found: *b"age-" });
    assert_eq!(decode(b"age-encryption.org/v2\n"), other);
    assert_eq!(WalError::Encrypted.class(), Class::Encrypted);
}

#[test]
fn other_magic_numbers_are_malformed() {
    let text = |object: &[u8]| {
        let error = decode(object).unwrap_err();
        assert_eq!(decode_chunked(object, &[1]), Err(error.clone()));
        assert_eq!((error.class(), error.is_transport()), (Class::Malformed, true));
        error.to_string()
    };
    let legacy = [&[0x02, 0x21, 0x4c, 0x18][..], &[0; 20]].concat();
    let expected = "begins with 02214c18 (the legacy format of LZ4), not with an LZ4 frame (04224d18)";
    assert_eq!(text(&legacy), format!("object at offset 0: {expected}"));
    let (object, _) = short_object(WRITTEN);
    let skippable = [&[0x5f, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &object].concat();
    let expected = "begins with 5f2a4d18 (a skippable LZ4 frame), not with an LZ4 frame (04224d18)";
    assert_eq!(text(&skippable), format!("object at offset 0: {expected}"));
    assert_eq!(text(b"SQLite"), "object at offset 0: begins with 53514c69, not with an LZ4 frame (04224d18)");
    assert_eq!(text(b"<"), "object at offset 0: begins with 3c000000, not with an LZ4 frame (04224d18)");
}

#[test]
fn wrong_headers() {
    let with = |at: usize, byte: u8| {
        let mut header = WRITTEN.header(0);
        header[at] = byte;
        header.pop();
        seal_header(&mut header);
        header.extend([0; 4]);
        header.extend(0x02cc_5d05u32.to_le_bytes());
        decode(&header)
    };
    let rule = |what| malformed(0, WalFault::Lz4Header(what));
    assert_eq!(with(4, 0x64), Ok(Vec::new()));
    assert_eq!(with(4, 0x24), rule("unknown version"));
    assert_eq!(with(4, 0xa4), rule("unknown version"));
    assert_eq!(with(4, 0x66), rule("reserved bits are set"));
    assert_eq!(with(4, 0x65), rule("asks for a dictionary"));
    assert_eq!(with(5, 0xf0), rule("reserved bits are set"));
    assert_eq!(with(5, 0x71), rule("reserved bits are set"));
    assert_eq!(with(5, 0x30), rule("unknown block size"));
    let mut header = WRITTEN.header(0);
    header[6] ^= 1;
    let error = decode(&header).unwrap_err();
    assert_eq!(
        error,
        WalError::ChecksumMismatch { what: WalChecksum::Lz4Header, offset: 0, stored: 0xb8, computed: 0xb9 }
    );
    let expected = "object at offset 0: the checksum of the LZ4 frame header is stored as b8, the data gives b9";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn blocks_beyond_their_limit() {
    for code in 4..8 {
        let max = 1 << (8 + 2 * code);
        for raw in [false, true] {
            let form = Form { raw, block_code: code, ..WRITTEN };
            let full = content(max, 5);
            assert!(decode(&form.object(&[&full])).as_ref() == Ok(&full));
        }
        // One byte of content too many, in a block that itself is short enough.
        let long = vec![9; max + 1];
        let fault = WalFault::Lz4Block("has more content than this frame's blocks may have");
        assert_eq!(decode(&Form { block_code: code, ..WRITTEN }.object(&[&long])), malformed(11, fault));
        // A block that is stored with a byte too many.
        let fault = WalFault::BlockSize { found: max + 1, max };
        assert_eq!(decode(&Form { block_code: code, raw: true, ..WRITTEN }.object(&[&long])), malformed(7, fault));
    }
}

#[test]
fn half_a_megabyte_of_blocks() {
    let whole = content(2_600_000, 8);
    for form in [WRITTEN, Form { block_code: 6, ..FULL }, Form { block_code: 6, independent: true, ..FULL }] {
        let blocks: Vec<&[u8]> = whole.chunks(524_288).collect();
        let object = form.object(&blocks);
        assert!(decode(&object).as_ref() == Ok(&whole));
        for chunk in [1, 997, 65_536, 300_000] {
            assert!(decode_chunked(&object, &[chunk]).as_ref() == Ok(&whole), "{chunk}");
        }
    }
}

#[test]
fn blocks_may_refer_to_64_kib_before_them() {
    // Blocks of a few bytes and of 64 KiB, so that the window reaches over many blocks and into one.
    let whole = content(300_000, 6);
    let mut blocks = Vec::new();
    let mut rest = whole.as_slice();
    for len in [65_536, 3, 1, 40_000, 65_536, 65_536, 9, 20_000].into_iter().chain([7; 2000]) {
        blocks.push(rest.split_off(..len).unwrap());
    }
    let object = FULL.object(&blocks);
    let whole = blocks.concat();
    assert!(decode(&object).as_ref() == Ok(&whole));
    assert!(decode_chunked(&object, &[5000]).as_ref() == Ok(&whole));
    // Said to be independent, the blocks after the first may not refer to anything before.
    let mut lies = Form { block_checksums: false, content_size: false, ..FULL }.object(&blocks);
    assert!(decode(&lies).is_ok());
    lies.splice(..7, Form { block_code: 4, ..WRITTEN }.header(0));
    assert!(matches!(decode(&lies), Err(WalError::Malformed { fault: WalFault::Lz4Block(_), .. })));
}

#[test]
fn blocks_without_content_are_passed_over() {
    for form in [WRITTEN, FULL] {
        assert_eq!(decode(&form.object(&[])), Ok(Vec::new()));
        assert_eq!(decode(&form.object(&[b"", b"abc", b"", b""])), Ok(b"abc".to_vec()));
    }
    // The token 0 is a block without content, too.
    let mut object = WRITTEN.header(0);
    object.extend([1, 0, 0, 0, 0, 0, 0, 0, 0]);
    object.extend(0x02cc_5d05u32.to_le_bytes());
    assert_eq!(decode(&object), Ok(Vec::new()));
}

#[test]
fn content_size_must_be_right() {
    let blocks = short_blocks();
    let right = blocks.concat().len() as u64;
    for (stored, found) in [(0, 72), (71, 72), (right - 1, right), (right + 1, right), (u64::MAX, right)] {
        let mut object = FULL.object(&blocks.each_ref().map(Vec::as_slice));
        object.splice(..15, FULL.header(stored));
        let expected = malformed(6, WalFault::ContentSize { stored, found });
        assert_eq!(decode_chunked(&object, &[1000]), expected);
        assert_eq!(decode(&object).is_ok(), expected.is_ok());
    }
}

#[test]
fn checksums_of_blocks_and_content() {
    let (object, _) = short_object(FULL);
    let mut damaged = object.clone();
    let end = damaged.len();
    damaged[end - 1] ^= 0x80;
    match decode(&damaged) {
        Err(WalError::ChecksumMismatch { what: WalChecksum::Lz4Content, offset, stored, computed }) => {
            assert_eq!((offset, stored ^ computed), (end as u64 - 4, 0x8000_0000));
        }
        other => panic!("{other:?}"),
    }
    // The last bytes before the end mark are the checksum of the last block.
    let mut damaged = object.clone();
    damaged[end - 12] ^= 1;
    match decode(&damaged) {
        Err(error @ WalError::ChecksumMismatch { what: WalChecksum::Lz4Block, offset, stored, computed }) => {
            assert_eq!((offset, stored ^ computed), (end as u64 - 12, 1));
            assert_eq!((error.class(), error.is_transport()), (Class::ChecksumMismatch, true));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn blocks_in_one_chunk_are_not_copied() {
    let (object, _) = short_object(Form { raw: true, ..FULL });
    let object = Bytes::from(object);
    let mut parser = BlockParser::new(object.len() as u64);
    parser.push(object.slice(..100));
    parser.push(object.slice(100..));
    let mut inside = Vec::new();
    while let NextBlock::Block(block) = parser.next().unwrap() {
        inside.push(object.as_ptr_range().contains(&block.data().as_ptr()));
    }
    // The second block spans both chunks.
    assert_eq!(inside, [true, false, true]);
}

#[test]
fn the_header_is_known_before_the_first_block() {
    let (object, whole) = short_object(FULL);
    let mut parser = BlockParser::new(object.len() as u64);
    for byte in &object[..15] {
        assert_eq!(parser.info(), None);
        parser.push(Bytes::copy_from_slice(&[*byte]));
        assert!(matches!(parser.next(), Ok(NextBlock::NeedMore)));
    }
    let info = parser.info().unwrap();
    assert_eq!((info.independent, info.block_max, info.content_checksum), (false, 65_536, true));
    assert_eq!(info.content_size, Some(whole.len() as u64));
}
