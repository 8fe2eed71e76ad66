//! The two LZ4 forms in which pages are stored: a bare block, or a frame.
//!
//! The header of an LZ4 frame is parsed here, so that its blocks go straight to the block decoder. Creating a
//! general frame decoder for each page would make decoding a third slower (docs/decisions/01-lz4-decoder.md).

mod block;

use lz4_flex::block::{DecompressError, decompress_into, decompress_into_with_dict};
use twox_hash::XxHash32;

const MAGIC: u32 = 0x184d_2204;
const FLG_VERSION_MASK: u8 = 0xc0;
const FLG_VERSION: u8 = 0x40;
const FLG_INDEPENDENT: u8 = 0x20;
const FLG_BLOCK_CHECKSUM: u8 = 0x10;
const FLG_CONTENT_SIZE: u8 = 0x08;
const FLG_CONTENT_CHECKSUM: u8 = 0x04;
const FLG_RESERVED: u8 = 0x02;
const FLG_DICTIONARY: u8 = 0x01;
/// The flags in the frames that [`encode_frame`] writes: independent blocks and a content checksum.
const FLG_WRITTEN: u8 = FLG_VERSION | FLG_INDEPENDENT | FLG_CONTENT_CHECKSUM;
/// The block descriptor byte in the frames that [`encode_frame`] writes: blocks of at most 64 KiB.
const BD_WRITTEN: u8 = 0x40;
const UNCOMPRESSED: u32 = 0x8000_0000;

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

struct FrameHeader {
    flg: u8,
    content_size: Option<u64>,
    len: usize,
}

/// Parses the header of a frame. `Ok(Err(n))` means that at least `n` bytes are needed.
fn parse_header(buf: &[u8]) -> Result<Result<FrameHeader, usize>, Lz4Error> {
    let Some((&magic, rest)) = buf.split_first_chunk::<4>() else { return Ok(Err(7)) };
    if u32::from_le_bytes(magic) != MAGIC {
        return Err(Lz4Error::Header("wrong magic number"));
    }
    let [flg, bd, rest @ ..] = rest else { return Ok(Err(7)) };
    if flg & FLG_VERSION_MASK != FLG_VERSION {
        return Err(Lz4Error::Header("unknown version"));
    }
    if flg & FLG_RESERVED != 0 || bd & 0x8f != 0 {
        return Err(Lz4Error::Header("reserved bits are set"));
    }
    if bd >> 4 < 4 {
        return Err(Lz4Error::Header("unknown block size"));
    }
    if flg & FLG_DICTIONARY != 0 {
        return Err(Lz4Error::Header("asks for a dictionary"));
    }
    let (content_size, rest) = if flg & FLG_CONTENT_SIZE == 0 {
        (None, rest)
    } else {
        let Some((&size, rest)) = rest.split_first_chunk::<8>() else { return Ok(Err(15)) };
        (Some(u64::from_le_bytes(size)), rest)
    };
    let [stored, rest @ ..] = rest else { return Ok(Err(if content_size.is_some() { 15 } else { 7 })) };
    let len = buf.len() - rest.len();
    let descriptor = buf.get(4..len - 1).unwrap_or_default();
    let computed = (XxHash32::oneshot(0, descriptor) >> 8) as u8;
    if *stored != computed {
        return Err(Lz4Error::Checksum { stored: u32::from(*stored), computed: u32::from(computed) });
    }
    Ok(Ok(FrameHeader { flg: *flg, content_size, len }))
}

/// Determines the length of the frame at the beginning of `buf`. A frame longer than `max` bytes is an error.
pub(super) fn frame_extent(buf: &[u8], max: usize) -> Result<Extent, Lz4Error> {
    let header = match parse_header(buf)? {
        Ok(header) => header,
        Err(need) => return Ok(Extent::Need(need)),
    };
    let block_checksum = if header.flg & FLG_BLOCK_CHECKSUM != 0 { 4 } else { 0 };
    let mut at = header.len;
    // This loop ends: each turn advances by at least 4 bytes, and `max` bounds the position.
    loop {
        let Some(field) = buf.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
            return Ok(Extent::Need(at + 4));
        };
        at += 4;
        let field = u32::from_le_bytes(*field);
        if field == 0 {
            break;
        }
        // The sum is at most 2^31 more than `max`, which does not overflow a u64. The conversion to usize is
        // checked in the next line.
        let end = at as u64 + u64::from(field & !UNCOMPRESSED) + block_checksum;
        at = usize::try_from(end).ok().filter(|&end| end <= max).ok_or(Lz4Error::TooLong { found: end })?;
    }
    if header.flg & FLG_CONTENT_CHECKSUM != 0 {
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
    let found = decode_to_front(block, out)?;
    if found == out.len() { Ok(()) } else { Err(Lz4Error::Length { found: found as u64 }) }
}

/// Decodes one block to the beginning of `out` and returns the number of decoded bytes.
#[inline]
fn decode_to_front(block: &[u8], out: &mut [u8]) -> Result<usize, Lz4Error> {
    match block::decode(block, out) {
        Some(found) => Ok(found),
        None => decompress_into(block, out).map_err(block_error),
    }
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
        let field = split_u32(&mut rest).ok_or(SHORT)?;
        if field == 0 {
            break;
        }
        let (block, after) = rest.split_at_checked((field & !UNCOMPRESSED) as usize).ok_or(SHORT)?;
        rest = after;
        if header.flg & FLG_BLOCK_CHECKSUM != 0 {
            check_hash(block, split_u32(&mut rest).ok_or(SHORT)?)?;
        }
        let (before, space) = out.split_at_mut_checked(done).ok_or(SHORT)?;
        done += if field & UNCOMPRESSED != 0 {
            let found = (before.len() + block.len()) as u64;
            space.get_mut(..block.len()).ok_or(Lz4Error::Length { found })?.copy_from_slice(block);
            block.len()
        } else if header.flg & FLG_INDEPENDENT != 0 || before.is_empty() {
            decode_to_front(block, space)?
        } else {
            decompress_into_with_dict(block, space, before).map_err(block_error)?
        };
    }
    if done != out.len() {
        return Err(Lz4Error::Length { found: done as u64 });
    }
    if header.flg & FLG_CONTENT_CHECKSUM != 0 {
        check_hash(out, split_u32(&mut rest).ok_or(SHORT)?)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(Lz4Error::Header("bytes follow its end")) }
}

fn check_hash(bytes: &[u8], stored: u32) -> Result<(), Lz4Error> {
    let computed = XxHash32::oneshot(0, bytes);
    if stored == computed { Ok(()) } else { Err(Lz4Error::Checksum { stored, computed }) }
}

fn split_u32(rest: &mut &[u8]) -> Option<u32> {
    let (&field, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(field))
}

fn block_error(error: DecompressError) -> Lz4Error {
    Lz4Error::Block(match error {
        DecompressError::OutputTooSmall { .. } => "decodes to more than a page",
        DecompressError::LiteralOutOfBounds => "literals reach past its end",
        DecompressError::ExpectedAnotherByte => "ends too early",
        DecompressError::OffsetOutOfBounds => "a match begins before the page",
        DecompressError::OffsetZero => "a match has offset 0",
        _ => "cannot be decoded",
    })
}

/// Appends an LZ4 frame to `out`. It holds `block`, the compressed form of `page`, or `page` itself if that is
/// shorter.
pub(super) fn encode_frame(page: &[u8], block: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[FLG_WRITTEN, BD_WRITTEN]);
    out.push((XxHash32::oneshot(0, &[FLG_WRITTEN, BD_WRITTEN]) >> 8) as u8);
    let (field, data) =
        if block.len() < page.len() { (block.len() as u32, block) } else { (page.len() as u32 | UNCOMPRESSED, page) };
    out.extend_from_slice(&field.to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&XxHash32::oneshot(0, page).to_le_bytes());
}
