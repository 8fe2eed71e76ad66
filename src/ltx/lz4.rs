//! The two LZ4 forms in which pages are stored: a bare block, or a frame.
//!
//! A frame is taken apart here, so that its blocks go straight to the block decoder. Creating a general frame decoder
//! for each page would make decoding a third slower (docs/decisions/01-lz4-decoder.md).

use crate::lz4::{BlockField, HeaderError, block_error, decode_linked, decode_to_front, encode_header, parse_header};
use lz4_flex::block::DecompressError;
use twox_hash::XxHash32;

/// The most bytes that a frame may take in addition to its compressed data: 19 for the header, 8 for the end, and 8
/// for each of up to 128 blocks. All known writers store a page as one block.
const FRAME_OVERHEAD: usize = 19 + 8 + 8 * 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lz4Error {
    Header(&'static str),
    Block(&'static str),
    /// The compressed data is longer than any page can need.
    TooLong {
        found: u64,
    },
    /// The decoded length is not that of a page. `found` is the number of bytes decoded so far, plus the bytes that
    /// the sequences seen so far announce.
    Length {
        found: u64,
    },
    Checksum {
        stored: u32,
        computed: u32,
    },
}

/// The most bytes that an LZ4 block takes for an input of `len` bytes.
pub(super) const fn block_bound(len: usize) -> usize {
    len + len / 255 + 16
}

/// The most bytes that this decoder accepts for an LZ4 frame with an input of `len` bytes.
pub(super) const fn frame_bound(len: usize) -> usize {
    block_bound(len) + FRAME_OVERHEAD
}

/// The length of a frame, as far as its beginning shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Complete(usize),
    /// More input is needed. The number is the least length, from the beginning of the frame, that must be present
    /// to go on.
    Need(usize),
}

/// Determines the length of the frame at the beginning of `buf`. A frame longer than `max` bytes is an error.
pub(super) fn frame_extent(buf: &[u8], max: usize) -> Result<Extent, Lz4Error> {
    let header = match parse_header(buf)? {
        Ok(header) => header,
        Err(need) => return Ok(Extent::Need(need)),
    };
    let block_checksum = if header.has_block_checksums { 4 } else { 0 };
    let mut at = header.len;
    // This loop ends: each turn advances by at least 4 bytes, and `max` bounds the position.
    loop {
        let Some(field) = buf.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
            return Ok(Extent::Need(at + 4));
        };
        at += 4;
        let BlockField::Block { len, .. } = BlockField::parse(*field) else { break };
        // The sum is at most 2^31 more than `max`, which does not overflow a u64. The conversion to usize is
        // checked in the next line.
        let end = at as u64 + len as u64 + block_checksum;
        at = usize::try_from(end).ok().filter(|&end| end <= max).ok_or(Lz4Error::TooLong { found: end })?;
    }
    if header.has_content_checksum {
        at += 4;
    }
    if at > max {
        return Err(Lz4Error::TooLong { found: at as u64 });
    }
    Ok(if at <= buf.len() { Extent::Complete(at) } else { Extent::Need(at) })
}

/// Decodes one block that must fill `out` exactly.
#[inline]
pub(super) fn decode_block(block: &[u8], out: &mut [u8]) -> Result<(), Lz4Error> {
    let found = decode_to_front(block, out).map_err(undecodable)?;
    if found == out.len() { Ok(()) } else { Err(Lz4Error::Length { found: found as u64 }) }
}

/// Decodes one whole frame that must fill `out` exactly.
pub(super) fn decode_frame(frame: &[u8], out: &mut [u8]) -> Result<(), Lz4Error> {
    const SHORT: Lz4Error = Lz4Error::Header("ends too early");
    let header = parse_header(frame)?.map_err(|_| SHORT)?;
    if let Some(found) = header.content_size
        && found != out.len() as u64
    {
        return Err(Lz4Error::Length { found });
    }
    let mut rest = frame.get(header.len..).ok_or(SHORT)?;
    let mut done = 0;
    // This loop ends: each turn takes a block from the rest of the frame.
    loop {
        let field = split_field(&mut rest).ok_or(SHORT)?;
        let BlockField::Block { len, is_raw } = BlockField::parse(field) else { break };
        let (block, after) = rest.split_at_checked(len).ok_or(SHORT)?;
        rest = after;
        if header.has_block_checksums {
            check_hash(block, split_field(&mut rest).ok_or(SHORT)?)?;
        }
        let (before, space) = out.split_at_mut_checked(done).ok_or(SHORT)?;
        done += if is_raw {
            let found = (before.len() + block.len()) as u64;
            space.get_mut(..block.len()).ok_or(Lz4Error::Length { found })?.copy_from_slice(block);
            block.len()
        } else if header.is_independent || before.is_empty() {
            decode_to_front(block, space).map_err(undecodable)?
        } else {
            decode_linked(block, before, space).map_err(undecodable)?
        };
    }
    if done != out.len() {
        return Err(Lz4Error::Length { found: done as u64 });
    }
    if header.has_content_checksum {
        check_hash(out, split_field(&mut rest).ok_or(SHORT)?)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(Lz4Error::Header("bytes follow its end")) }
}

fn check_hash(bytes: &[u8], stored: [u8; 4]) -> Result<(), Lz4Error> {
    let stored = u32::from_le_bytes(stored);
    let computed = XxHash32::oneshot(0, bytes);
    if stored == computed { Ok(()) } else { Err(Lz4Error::Checksum { stored, computed }) }
}

fn split_field(rest: &mut &[u8]) -> Option<[u8; 4]> {
    let (&field, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(field)
}

fn undecodable(error: DecompressError) -> Lz4Error {
    Lz4Error::Block(block_error(&error, "decodes to more than a page"))
}

impl From<HeaderError> for Lz4Error {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Rule(what) => Self::Header(what),
            HeaderError::Checksum { stored, computed } => {
                Self::Checksum { stored: u32::from(stored), computed: u32::from(computed) }
            }
        }
    }
}

/// Appends an LZ4 frame to `out`. It holds `block`, the compressed form of `page`, or `page` itself if that is
/// shorter.
pub(super) fn encode_frame(page: &[u8], block: &[u8], out: &mut Vec<u8>) {
    encode_header(out);
    let is_raw = block.len() >= page.len();
    let data = if is_raw { page } else { block };
    out.extend_from_slice(&BlockField::encode(data.len() as u32, is_raw));
    out.extend_from_slice(data);
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&XxHash32::oneshot(0, page).to_le_bytes());
}
