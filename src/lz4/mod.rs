//! LZ4, as LTX files and the objects of Litestream 0.3 use it: the decoder of one block, and the fields of a frame.
//! Both formats walk through the blocks of a frame themselves, because they check different limits.

mod block;
mod header;

pub(crate) use header::{BlockField, CONTENT_SIZE_OFFSET, HeaderError, MAGIC, encode_header, parse_header};

use lz4_flex::block::{DecompressError, decompress_into, decompress_into_with_dict};

/// The distance in bytes that a match of a linked block can reach back.
pub(crate) const WINDOW: usize = 64 << 10;

/// The most bytes that one byte of a block can stand for.
const MOST_PER_BYTE: usize = 255;

/// The most bytes of content that a block of `stored` bytes can have.
pub(crate) const fn content_bound(stored: usize) -> usize {
    stored.saturating_mul(MOST_PER_BYTE)
}

/// Decodes one block to the beginning of `out` and returns the number of decoded bytes. What lies behind them in `out`
/// is unspecified.
#[inline]
pub(crate) fn decode_to_front(block: &[u8], out: &mut [u8]) -> Result<usize, DecompressError> {
    match block::decode(block, out) {
        Some(found) => Ok(found),
        None => decompress_into(block, out),
    }
}

/// Decodes one block that may refer to `window`, the content before it, to the beginning of `out`. Returns the number
/// of decoded bytes.
pub(crate) fn decode_linked(block: &[u8], window: &[u8], out: &mut [u8]) -> Result<usize, DecompressError> {
    decompress_into_with_dict(block, out, window)
}

/// Appends the content of one block to `out`, at most `max` bytes. `window` is the content before it to which it may
/// refer. After an error `out` is as before.
pub(crate) fn append(block: &[u8], window: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    let max = max.min(content_bound(block.len()));
    if window.is_empty() && block::append(block, max, out).is_some() {
        return Ok(());
    }
    let before = out.len();
    out.resize(before + max, 0);
    let space = out.get_mut(before..).unwrap_or_default();
    let result = if window.is_empty() { decompress_into(block, space) } else { decode_linked(block, window, space) };
    out.truncate(before + result.as_ref().map_or(0, |&found| found));
    result.map(drop)
}

/// Says why a block cannot be decoded. `too_long` is said of a block with more content than there may be.
pub(crate) const fn block_error(error: &DecompressError, too_long: &'static str) -> &'static str {
    match error {
        DecompressError::OutputTooSmall { .. } => too_long,
        DecompressError::LiteralOutOfBounds => "literals reach past its end",
        DecompressError::ExpectedAnotherByte => "ends too early",
        DecompressError::OffsetOutOfBounds => "a match begins before the content",
        DecompressError::OffsetZero => "a match has offset 0",
        _ => "cannot be decoded",
    }
}
