//! Sample objects and WALs for tests. They are written by code that shares nothing with the readers.

use crate::ltx::{PageSize, Pgno};
use crate::wal::{BlockParser, ContentHash, Decoded, NextBlock, ObjectDecoder, StoredBlock, WalError, WalReader};
use bytes::Bytes;
use lz4_flex::block::{compress, compress_with_dict};
use proptest::prelude::*;
use twox_hash::XxHash32;

/// The form of an LZ4 frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) independent: bool,
    pub(super) block_checksums: bool,
    pub(super) content_size: bool,
    pub(super) content_checksum: bool,
    /// 4 to 7: blocks of at most 64 KiB, 256 KiB, 1 MiB, 4 MiB.
    pub(super) block_code: u8,
    /// Whether the blocks are stored as they are.
    pub(super) raw: bool,
}

/// The form in which Litestream writes objects.
pub(super) const WRITTEN: Form = Form {
    independent: true,
    block_checksums: false,
    content_size: false,
    content_checksum: true,
    block_code: 7,
    raw: false,
};

/// A small form with everything that a frame can have.
pub(super) const FULL: Form =
    Form { independent: false, block_checksums: true, content_size: true, block_code: 4, ..WRITTEN };

impl Form {
    pub(super) fn header(&self, content_size: u64) -> Vec<u8> {
        let flag = |is_set: bool, bit: u8| if is_set { 1 << bit } else { 0 };
        let flags = 1 << 6
            | flag(self.independent, 5)
            | flag(self.block_checksums, 4)
            | flag(self.content_size, 3)
            | flag(self.content_checksum, 2);
        let mut header = vec![0x04, 0x22, 0x4d, 0x18, flags, self.block_code << 4];
        if self.content_size {
            header.extend(content_size.to_le_bytes());
        }
        seal_header(&mut header);
        header
    }

    /// Makes an object whose blocks have the given contents.
    pub(super) fn object(&self, blocks: &[&[u8]]) -> Vec<u8> {
        let content = blocks.concat();
        let mut object = self.header(content.len() as u64);
        let mut done = 0;
        for block in blocks {
            let window = &content[done.max(65_535) - 65_535..done];
            let packed = if self.independent { compress(block) } else { compress_with_dict(block, window) };
            // What does not shrink is stored as it is.
            let (field, data) = if self.raw || packed.len() >= block.len() {
                (block.len() as u32 | 1 << 31, *block)
            } else {
                (packed.len() as u32, packed.as_slice())
            };
            object.extend(field.to_le_bytes());
            object.extend(data);
            if self.block_checksums {
                object.extend(XxHash32::oneshot(0, data).to_le_bytes());
            }
            done += block.len();
        }
        object.extend([0; 4]);
        if self.content_checksum {
            object.extend(XxHash32::oneshot(0, &content).to_le_bytes());
        }
        object
    }
}

/// Appends the checksum to a header that lacks it.
pub(super) fn seal_header(header: &mut Vec<u8>) {
    header.push((XxHash32::oneshot(0, &header[4..]) >> 8) as u8);
}

/// Decodes an object in order, given to the decoder in chunks of the sizes, which are repeated.
pub(super) fn decode_chunked(object: &[u8], sizes: &[usize]) -> Result<Vec<u8>, WalError> {
    let object = Bytes::copy_from_slice(object);
    let mut decoder = ObjectDecoder::new(object.len() as u64);
    let mut sizes = sizes.iter().cycle();
    let (mut at, mut content) = (0, Vec::new());
    loop {
        match decoder.next() {
            Ok(Decoded::NeedMore) => {
                assert!(at < object.len(), "the decoder asks for more than the object");
                let end = (at + sizes.next().unwrap()).min(object.len());
                decoder.push(object.slice(at..end));
                at = end;
            }
            Ok(Decoded::Bytes(bytes)) => {
                assert!(!bytes.is_empty());
                content.extend_from_slice(bytes);
            }
            Ok(Decoded::Done) => {
                assert_eq!(decoder.next(), Ok(Decoded::Done));
                assert_eq!(decoder.content_len(), content.len() as u64);
                assert_eq!(decoder.received(), object.len() as u64);
                return Ok(content);
            }
            Err(error) => {
                assert_eq!(decoder.next(), Err(error.clone()), "it stays as it is");
                return Err(error);
            }
        }
    }
}

/// Decodes an object block by block, the last one first where blocks are independent.
pub(super) fn decode_blocks(object: &[u8]) -> Result<Vec<u8>, WalError> {
    let mut parser = BlockParser::new(object.len() as u64);
    parser.push(Bytes::copy_from_slice(object));
    let mut blocks = Vec::new();
    let (checksum, content_size) = loop {
        match parser.next()? {
            NextBlock::NeedMore => panic!("the whole object was pushed"),
            NextBlock::Block(block) => blocks.push(block),
            NextBlock::End { checksum, content_size } => break (checksum, content_size),
        }
    };
    let info = parser.info().unwrap();
    assert_eq!(info.content_checksum, checksum.is_some());
    let content = if info.independent {
        let mut contents: Vec<Vec<u8>> = blocks.iter().rev().map(decode_independent_block).collect::<Result<_, _>>()?;
        contents.reverse();
        contents.concat()
    } else {
        let mut content = Vec::new();
        for block in &blocks {
            let next = decode_block(block, &content)?;
            content.extend(next);
        }
        content
    };
    let mut hash = ContentHash::new();
    content.chunks(1000).for_each(|part| hash.update(part));
    hash.finish(checksum.as_ref(), content_size)?;
    Ok(content)
}

fn decode_block(block: &StoredBlock, window: &[u8]) -> Result<Vec<u8>, WalError> {
    let mut out = b"before".to_vec();
    let result = block.decode(window, &mut out);
    assert_eq!(out[..6], *b"before");
    let content = out.split_off(6);
    assert!(content.len() <= block.content_bound());
    assert!(result.is_ok() || content.is_empty());
    result.map(|()| content)
}

/// Decodes a block that is independent of the others, in both ways.
fn decode_independent_block(block: &StoredBlock) -> Result<Vec<u8>, WalError> {
    let result = decode_block(block, &[]);
    // Neither what is in the buffer nor the room behind the content may matter.
    let mut buffer = vec![0xa5; block.content_bound() + 100];
    let in_buffer = block.decode_into(&mut buffer).map(|len| buffer[..len].to_vec());
    assert!(in_buffer == result, "other content in a buffer");
    assert!(buffer[block.content_bound()..].iter().all(|byte| *byte == 0xa5));
    result
}

/// Decodes an object in one piece. Other ways must give the same.
pub(super) fn decode(object: &[u8]) -> Result<Vec<u8>, WalError> {
    let whole = decode_chunked(object, &[object.len().max(1)]);
    assert_eq!(decode_blocks(object).is_ok(), whole.is_ok());
    if let Ok(whole) = &whole {
        assert!(decode_blocks(object).as_ref() == Ok(whole), "other content block by block");
    }
    whole
}

/// Content with repeats near and far, and random bytes.
pub(super) fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut content = Vec::with_capacity(len + 200);
    while content.len() < len {
        content.extend((0..rng.usize(..12)).map(|_| rng.u8(..)));
        let from = content.len() - rng.usize(..=content.len().min(70_000));
        let end = content.len().min(from + rng.usize(..200));
        content.extend_from_within(from..end);
    }
    content.truncate(len);
    content
}

pub(super) fn any_form() -> impl Strategy<Value = Form> {
    (any::<[bool; 5]>(), 4u8..8).prop_map(
        |([independent, block_checksums, content_size, content_checksum, raw], block_code)| Form {
            independent,
            block_checksums,
            content_size,
            content_checksum,
            block_code,
            raw,
        },
    )
}

/// A frame as a test gives and reads it: page number, commit, first byte of the page.
pub(super) type Frame = (u32, u32, Vec<u8>);

/// The salts in all sample WALs.
const SALTS: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 0xff];

/// A WAL that is written frame by frame. Its checksum is computed byte by byte, as the SQLite documentation gives it.
#[derive(Debug, Clone)]
pub(super) struct WalWriter {
    pub(super) bytes: Vec<u8>,
    is_big_endian: bool,
    sum: (u32, u32),
}

impl WalWriter {
    pub(super) fn new(page_size: u32, is_big_endian: bool) -> Self {
        let mut wal = Self { bytes: Vec::new(), is_big_endian, sum: (0, 0) };
        wal.bytes.extend(if is_big_endian { [0x37, 0x7f, 0x06, 0x83] } else { [0x37, 0x7f, 0x06, 0x82] });
        wal.bytes.extend(3_007_000u32.to_be_bytes());
        wal.bytes.extend(page_size.to_be_bytes());
        wal.bytes.extend(9u32.to_be_bytes());
        wal.bytes.extend(SALTS);
        wal.seal_header();
        wal
    }

    /// Appends the checksum of the header, whose 24 bytes are there.
    pub(super) fn seal_header(&mut self) {
        self.sum = (0, 0);
        self.bytes.truncate(24);
        self.add(&self.bytes.clone());
        self.push_sum();
    }

    pub(super) fn frame(&mut self, pgno: u32, commit: u32, page: &[u8]) {
        let numbers = [pgno.to_be_bytes(), commit.to_be_bytes()].concat();
        self.bytes.extend(&numbers);
        self.bytes.extend(SALTS);
        self.add(&numbers);
        self.add(page);
        self.push_sum();
        self.bytes.extend(page);
    }

    fn push_sum(&mut self) {
        self.bytes.extend(self.sum.0.to_be_bytes());
        self.bytes.extend(self.sum.1.to_be_bytes());
    }

    fn add(&mut self, bytes: &[u8]) {
        let word = |at: usize| {
            let word: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
            if self.is_big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
        };
        for at in (0..bytes.len()).step_by(8) {
            self.sum.0 = self.sum.0.wrapping_add(word(at).wrapping_add(self.sum.1));
            self.sum.1 = self.sum.1.wrapping_add(word(at + 4).wrapping_add(self.sum.0));
        }
    }
}

/// A WAL with pages of 512 bytes: a transaction of two pages, one of one page, one that has not ended.
pub(super) fn small_wal(is_big_endian: bool) -> (Vec<u8>, Vec<Frame>) {
    let frames: Vec<Frame> = [(1, 0), (2, 2), (1, 3), (5, 0)]
        .iter()
        .enumerate()
        .map(|(i, &(pgno, commit))| (pgno, commit, crate::ltx::tests::samples::page(512, i as u64, 100)))
        .collect();
    let mut wal = WalWriter::new(512, is_big_endian);
    frames.iter().for_each(|(pgno, commit, page)| wal.frame(*pgno, *commit, page));
    (wal.bytes, frames)
}

/// Reads a WAL in chunks of the sizes, which are repeated. Returns the frames before the first error, too.
pub(super) fn read_chunked(wal: &[u8], sizes: &[usize]) -> (Vec<Frame>, Result<WalReader, WalError>) {
    let mut reader = WalReader::new();
    let (mut frames, mut rest) = (Vec::new(), wal);
    for &size in sizes.iter().cycle() {
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        if let Err(error) = push(&mut reader, chunk, &mut frames) {
            return (frames, Err(error));
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    let result = reader.end_segment().map(|()| reader);
    (frames, result)
}

/// Pushes bytes and collects the frames. What they say of themselves must agree with what the reader says.
pub(super) fn push(reader: &mut WalReader, bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), WalError> {
    let (mut number, mut end) = (reader.frames(), None);
    reader.push::<WalError>(bytes, &mut |frame| {
        number += 1;
        assert_eq!(frame.number, number);
        assert_eq!(frame.offset, 32 + (number - 1) * (24 + frame.page.len() as u64));
        assert!(frame.pgno > Pgno(0));
        end = Some(frame.offset + 24 + frame.page.len() as u64);
        frames.push((frame.pgno.0, frame.commit, frame.page.to_vec()));
        Ok(())
    })?;
    assert_eq!(reader.frames(), number);
    assert!(end.is_none_or(|end| (end..end + 65_560).contains(&reader.position())));
    assert!(number == 0 || reader.page_size().map(PageSize::bytes) == frames.last().map(|frame| frame.2.len()));
    let last = frames.iter().rposition(|frame| frame.1 != 0);
    if frames.len() as u64 == number {
        assert_eq!(reader.last_commit(), last.map(|at| (at as u64 + 1, frames[at].1)));
        assert_eq!(reader.is_inside_transaction(), last.map_or(0, |at| at + 1) < frames.len());
    }
    Ok(())
}
