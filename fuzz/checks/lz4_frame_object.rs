//! The check for stored objects of Litestream 0.3. Each input is decoded in one piece, in chunks and block by block by
//! Hydrant's decoder, and by the naive decoder. Either all accept it with the same content, or all reject it.
//!
//! Almost every random change breaks a checksum. Each input is therefore tried twice: as it is, and as the beginning of
//! an object to which all checksums and the end are computed.

use bytes::Bytes;
use hydrant::sim::naive_v3;
use hydrant::wal::{BlockParser, ContentHash, Decoded, NextBlock, ObjectDecoder, WalError};
use twox_hash::XxHash32;

/// The size limit of an input in bytes. The naive decoder sets 4 MiB aside for every block.
const MAX_OBJECT_BYTES: usize = 4 << 10;
/// The most blocks of an object that is made. All blocks so far are decoded again for each.
const MAX_BLOCKS_MADE: usize = 16;
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const BLOCK_CHECKSUM: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
/// The flags that an object may have: all but the one for a dictionary and a reserved one.
const FLAGS: u8 = 0x3c;
const VERSION: u8 = 0x40;

pub(super) fn check(data: &[u8]) {
    if data.len() > MAX_OBJECT_BYTES {
        return;
    }
    compare(data);
    if let Some(object) = completed(data) {
        assert!(compare(&object), "an object that was made is refused");
    }
}

/// Returns whether the object is accepted.
fn compare(object: &[u8]) -> bool {
    let whole = chunked(object, object.len().max(1));
    // The chunk size can be anything and must depend only on the object, so that a finding can be repeated.
    let chunk = 1 + object.last().map_or(0, |&byte| usize::from(byte));
    assert_eq!(whole, chunked(object, chunk), "in chunks of {chunk}");
    assert_eq!(whole.as_ref().ok(), by_blocks(object).as_ref().ok(), "block by block");
    match (&whole, naive_v3::decode_object(object)) {
        (Ok(whole), Ok(naive)) => assert!(*whole == naive, "other content than the naive decoder"),
        (Err(error), Err(naive)) => {
            assert_eq!(*error == WalError::Encrypted, naive.class == "encrypted", "decoder: {error}, naive: {naive}")
        }
        (whole, naive) => {
            panic!("decoder: {:?}, naive: {:?}", whole.as_ref().map(Vec::len), naive.map(|content| content.len()))
        }
    }
    whole.is_ok()
}

fn chunked(object: &[u8], chunk: usize) -> Result<Vec<u8>, WalError> {
    let mut decoder = ObjectDecoder::new(object.len() as u64);
    let mut chunks = object.chunks(chunk);
    let mut content = Vec::new();
    loop {
        match decoder.next()? {
            Decoded::NeedMore => {
                decoder.push(Bytes::copy_from_slice(chunks.next().expect("more than the object is asked for")))
            }
            Decoded::Bytes(bytes) => content.extend_from_slice(bytes),
            Decoded::Done => return Ok(content),
        }
    }
}

/// Finds all blocks first and then decodes them, as restores do that decode them side by side.
fn by_blocks(object: &[u8]) -> Result<Vec<u8>, WalError> {
    let mut parser = BlockParser::new(object.len() as u64);
    let (front, rest) = object.split_at(object.len() / 2);
    parser.push(Bytes::copy_from_slice(front));
    parser.push(Bytes::copy_from_slice(rest));
    let mut blocks = Vec::new();
    let (checksum, content_size) = loop {
        match parser.next()? {
            NextBlock::NeedMore => panic!("the whole object was pushed"),
            NextBlock::Block(block) => blocks.push(block),
            NextBlock::End { checksum, content_size } => break (checksum, content_size),
        }
    };
    let is_independent = parser.info().is_some_and(|info| info.independent);
    let mut content = Vec::new();
    let mut hash = ContentHash::new();
    for block in blocks {
        let mut next = Vec::new();
        let decoded = block.decode(&content, &mut next);
        if is_independent {
            // As restores do that decode a block to where it is written from. What was there does not matter.
            let mut buffer = vec![0xa5; block.content_bound()];
            let in_buffer = block.decode_into(&mut buffer).map(|len| &buffer[..len]);
            assert_eq!(in_buffer, decoded.as_ref().map(|()| &next[..]).map_err(Clone::clone), "in a buffer");
        }
        decoded?;
        assert!(next.len() <= block.content_bound(), "more content than promised");
        hash.update(&next);
        content.append(&mut next);
    }
    hash.finish(checksum.as_ref(), content_size)?;
    Ok(content)
}

/// Builds the object that has the flags of `data` and the blocks in it, as far as they can be decoded. The rest is
/// computed to match.
fn completed(data: &[u8]) -> Option<Vec<u8>> {
    let flags = data.get(4)? & FLAGS | VERSION;
    let sizes = data.get(5)? & 0x30 | 0x40;
    let mut rest = data.get(if flags & CONTENT_SIZE == 0 { 7 } else { 15 }..)?;
    let header = |flags: u8, content_size: u64| {
        let mut header = [&MAGIC[..], &[flags, sizes]].concat();
        if flags & CONTENT_SIZE != 0 {
            header.extend(content_size.to_le_bytes());
        }
        header.push((XxHash32::oneshot(0, &header[4..]) >> 8) as u8);
        header
    };
    // The blocks alone, in an object that has no checksum and no size of its content.
    let bare = flags & !(CONTENT_SIZE | CONTENT_CHECKSUM);
    let mut blocks: Vec<u8> = Vec::new();
    let mut content = Vec::new();
    for _ in 0..MAX_BLOCKS_MADE {
        let Some((&field, after)) = rest.split_first_chunk::<4>() else { break };
        let len = (u32::from_le_bytes(field) & 0x7fff_ffff) as usize;
        let Some(block) = after.get(..len).filter(|_| field != [0; 4]) else { break };
        rest = &after[len..];
        let known = blocks.len();
        blocks.extend(field);
        blocks.extend(block);
        if flags & BLOCK_CHECKSUM != 0 {
            blocks.extend(XxHash32::oneshot(0, block).to_le_bytes());
            rest = rest.get(4..).unwrap_or_default();
        }
        match chunked(&[&header(bare, 0), &blocks[..], &[0; 4]].concat(), usize::MAX) {
            Ok(longer) => content = longer,
            Err(_) => {
                blocks.truncate(known);
                break;
            }
        }
    }
    let mut object = header(flags, content.len() as u64);
    object.extend(blocks);
    object.extend([0; 4]);
    if flags & CONTENT_CHECKSUM != 0 {
        object.extend(XxHash32::oneshot(0, &content).to_le_bytes());
    }
    Some(object)
}
