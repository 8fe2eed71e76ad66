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

/// The bytes that one byte of a block seldom exceeds. Databases of text and numbers shrink to a third or a fifth.
const LIKELY_PER_BYTE: usize = 8;
/// As many bytes are filled with zeros in about a microsecond.
const LIKELY_BYTES: usize = 64 << 10;

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
    let before = out.len();
    let max = max.min(content_bound(block.len()));
    // Room must be filled with zeros first. Most blocks need far less than they may have.
    let likely = block.len().saturating_mul(LIKELY_PER_BYTE).max(LIKELY_BYTES).min(max);
    let mut result = append_at_most(block, window, likely, out);
    if result.is_err() && likely < max {
        out.truncate(before);
        result = append_at_most(block, window, max, out);
    }
    out.truncate(before + result.as_ref().map_or(0, |&found| found));
    result.map(drop)
}

/// Decodes one block to the bytes that follow in `out`, which has up to `room` more bytes afterwards. Returns the number
/// of decoded bytes.
fn append_at_most(block: &[u8], window: &[u8], room: usize, out: &mut Vec<u8>) -> Result<usize, DecompressError> {
    let before = out.len();
    out.resize(before + room, 0);
    let space = out.get_mut(before..).unwrap_or_default();
    if window.is_empty() { decode_to_front(block, space) } else { decode_linked(block, window, space) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ltx::tests::samples;
    use lz4_flex::block::{compress, compress_with_dict};

    fn appended(block: &[u8], window: &[u8], max: usize) -> Result<Vec<u8>, DecompressError> {
        let mut out = b"before".to_vec();
        let result = append(block, window, max, &mut out);
        let content = out.split_off(6);
        assert_eq!(out, b"before");
        assert!(result.is_ok() || content.is_empty());
        result.map(|()| content)
    }

    #[test]
    fn content_of_every_length_is_appended() {
        for len in [0, 1, 2, 20, 65_536, 1 << 20, (1 << 20) + 1, 4 << 20] {
            for noise in [0, len / 30, len / 2, len] {
                let content = samples::page(len, 3, noise);
                let block = compress(&content);
                for max in [4 << 20, len] {
                    assert!(appended(&block, &[], max).unwrap() == content, "{len} {noise} {max}");
                }
                if let Some(short) = len.checked_sub(1) {
                    let error = appended(&block, &[], short).unwrap_err();
                    assert!(matches!(error, DecompressError::OutputTooSmall { .. }), "{len} {noise} {error}");
                }
            }
        }
    }

    #[test]
    fn no_block_has_more_content_than_its_bound() {
        for len in [0, 1, 4, 16, 100, 1000, 1 << 20] {
            assert!(content_bound(compress(&vec![0; len]).len()) >= len, "{len}");
        }
    }

    #[test]
    fn linked_blocks_refer_to_the_window() {
        let window = samples::page(WINDOW, 1, WINDOW);
        // A match reaches back 65,535 bytes.
        for content in [window[1..].to_vec(), window[100..9000].repeat(30), window[WINDOW - 4000..].to_vec()] {
            let block = compress_with_dict(&content, &window);
            assert!(block.len() < content.len());
            for max in [4 << 20, content.len()] {
                assert!(appended(&block, &window, max).unwrap() == content);
            }
            assert!(appended(&block, &[], 4 << 20).is_err());
            assert!(appended(&block, &window, content.len() - 1).is_err());
        }
    }
}
