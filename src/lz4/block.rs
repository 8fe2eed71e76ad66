//! A decoder for LZ4 blocks. Most of a restore's CPU time is spent here (docs/PERFORMANCE.md, "Decoding").
//!
//! It is faster than the crate `lz4_flex` for these reasons. Literals and matches of common lengths are copied in
//! pieces of fixed size (16 and 8 bytes); a piece may write too many bytes, which the next sequence overwrites.
//! Literals of up to 32 bytes are copied without a loop. Every piece is checked to lie inside its slice. Positions
//! are `u32`, so that the compiler can see that sums of positions as `usize` never overflow.
//!
//! If a block cannot be decoded, the decoder does not say why. The caller then asks `lz4_flex`, whose result
//! counts.

/// The longest input and output in bytes that this decoder accepts. It is more than any page and any block of a frame,
/// and small enough that no sum of positions and lengths reaches 2^32.
const MAX_LEN: usize = 1 << 23;
/// The largest literal or match length in a token. It means that the length continues in the bytes that follow.
const MORE: u32 = 15;
/// The shortest match. A stored match length of 0 means this length.
const MIN_MATCH: u32 = 4;

/// Decodes `block` to the beginning of `out` and returns the number of decoded bytes. Returns None if the block is
/// not valid or decodes to more than `out` holds. The content of `out` is then unspecified. So are the bytes behind
/// the decoded ones in any case.
pub(super) fn decode(block: &[u8], out: &mut [u8]) -> Option<usize> {
    if block.len() > MAX_LEN || out.len() > MAX_LEN {
        return None;
    }
    let (mut at, mut end) = (0u32, 0u32);
    // This loop ends: each turn takes at least one token byte from the block.
    loop {
        let token = u32::from(*block.get(at as usize)?);
        at += 1;
        let mut literals = token >> 4;
        if literals != MORE
            && let Some(piece) = piece::<16>(block, at as usize)
            && end as usize + piece.len() <= out.len()
        {
            put(out, end as usize, piece)?;
            at += literals;
            end += literals;
        } else {
            if literals == MORE {
                literals = longer(block, &mut at, literals)?;
            }
            if literals <= 32
                && let Some(piece) = piece::<32>(block, at as usize)
                && end as usize + piece.len() <= out.len()
            {
                put(out, end as usize, piece)?;
            } else {
                let from = block.get(at as usize..)?.get(..literals as usize)?;
                out.get_mut(end as usize..)?.get_mut(..from.len())?.copy_from_slice(from);
            }
            at += literals;
            end += literals;
            if at as usize == block.len() {
                return Some(end as usize);
            }
        }
        let offset = u32::from(u16::from_le_bytes(piece(block, at as usize)?));
        at += 2;
        let mut len = (token & MORE) + MIN_MATCH;
        let (from, to) = (end.checked_sub(offset)? as usize, end as usize);
        // Each piece of 8 bytes is stored before the next is read. Bytes that overlap are therefore copied
        // correctly if the offset is at least 8.
        if len != MORE + MIN_MATCH && offset >= 8 && to + 18 <= out.len() {
            put(out, to, piece::<8>(out, from)?)?;
            put(out, to + 8, piece::<8>(out, from + 8)?)?;
            put(out, to + 16, piece::<2>(out, from + 16)?)?;
        } else {
            if len == MORE + MIN_MATCH {
                len = longer(block, &mut at, len)?;
            }
            // Copies pieces of 16 bytes. The last piece may write more than the match, if `out` has room for it.
            let whole = (len as usize).next_multiple_of(16);
            if offset >= 16 && len <= 128 && to + whole <= out.len() {
                for done in (0..whole).step_by(16) {
                    put(out, to + done, piece::<16>(out, from + done)?)?;
                }
            } else {
                repeat(out, from, to, len as usize)?;
            }
        }
        end += len;
    }
}

#[inline(always)]
fn piece<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.first_chunk().copied()
}

#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8], at: usize, piece: [u8; N]) -> Option<()> {
    *bytes.get_mut(at..at + N)?.first_chunk_mut()? = piece;
    Some(())
}

/// Reads the bytes in which a length continues, and adds them to `len`. A byte of 255 means that another byte
/// follows.
#[inline(always)]
fn longer(block: &[u8], at: &mut u32, mut len: u32) -> Option<u32> {
    // This loop ends: each turn takes a byte from the block.
    loop {
        let byte = *block.get(*at as usize)?;
        *at += 1;
        len += u32::from(byte);
        if byte != u8::MAX {
            return Some(len);
        }
    }
}

/// Copies `len` bytes within `out`, from `from` to `to`. If `len` is greater than the distance between the two, the
/// bytes in between are repeated, as the LZ4 format defines it.
#[inline(never)]
fn repeat(out: &mut [u8], from: usize, to: usize, len: usize) -> Option<()> {
    let period = to.checked_sub(from).filter(|&period| period > 0)?;
    if len > out.len().checked_sub(to)? {
        return None;
    }
    // The number of repeated bytes doubles with every step.
    let (mut there, whole) = (period, period + len);
    while there < whole {
        let step = there.min(whole - there);
        out.copy_within(from..from + step, from + there);
        there += step;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ltx::tests::samples;
    use lz4_flex::block::{DecompressError, compress, decompress_into};
    use proptest::prelude::*;

    fn by_lz4_flex(block: &[u8], len: usize) -> Result<Vec<u8>, DecompressError> {
        let mut out = vec![0; len];
        let decoded = decompress_into(block, &mut out)?;
        out.truncate(decoded);
        Ok(out)
    }

    fn by_us(block: &[u8], len: usize) -> Option<Vec<u8>> {
        // The output buffer is filled before decoding, to show that its old content does not matter.
        let mut out = vec![0xa5; len];
        let decoded = decode(block, &mut out)?;
        out.truncate(decoded);
        Some(out)
    }

    /// Builds a block of one sequence and an end: `literals`, then a match of `len` bytes at distance `offset`.
    fn one_match(literals: &[u8], offset: u16, len: usize) -> Vec<u8> {
        let mut block = Vec::new();
        let code = |len: usize| len.min(15) as u8;
        let longer = |block: &mut Vec<u8>, len: usize| {
            if let Some(more) = len.checked_sub(15) {
                block.extend(std::iter::repeat_n(255, more / 255));
                block.push((more % 255) as u8);
            }
        };
        block.push(code(literals.len()) << 4 | code(len - 4));
        longer(&mut block, literals.len());
        block.extend(literals);
        block.extend(offset.to_le_bytes());
        longer(&mut block, len - 4);
        block.push(0);
        block
    }

    #[test]
    fn every_offset_and_length_near_every_end() {
        for literals in [1, 7, 8, 14, 15, 16, 17, 31, 32, 33, 269, 270, 271, 600] {
            let bytes = samples::page(literals, 7, literals);
            for offset in (0..=literals.min(40) + 1).chain([literals]) {
                for len in (4..40).chain([269, 270, 271, 272, 529]) {
                    let block = one_match(&bytes, offset as u16, len);
                    let whole = literals + len;
                    // The output buffer has room to spare, is exactly long enough, or is one byte too short.
                    for room in [whole + 64, whole + 17, whole, whole - 1] {
                        let expected = by_lz4_flex(&block, room).ok();
                        assert_eq!(by_us(&block, room), expected, "{literals} {offset} {len} {room}");
                        assert_eq!(expected.is_some(), (1..=literals).contains(&offset) && room >= whole);
                    }
                }
            }
        }
    }

    #[test]
    fn every_beginning_of_a_block_is_refused() {
        let page = samples::page(4096, 3, 2048);
        let block = compress(&page);
        assert_eq!(by_us(&block, page.len()).as_deref(), Some(page.as_slice()));
        for len in 0..block.len() {
            let cut = &block[..len];
            assert_eq!(by_us(cut, page.len()), by_lz4_flex(cut, page.len()).ok(), "{len}");
        }
    }

    #[test]
    fn what_is_too_long_is_left_to_others() {
        let zeros = vec![0; MAX_LEN + 1];
        assert_eq!(decode(&compress(&zeros), &mut zeros.clone()), None);
        assert_eq!(decode(&zeros, &mut [0; 64]), None);
    }

    /// Generates bytes with repetitions of all kinds: runs, repeated words, random bytes, copies from far back.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            (any::<u8>(), 1..300usize).prop_map(|(byte, len)| vec![byte; len]),
            proptest::collection::vec(any::<u8>(), 1..70),
            (proptest::collection::vec(any::<u8>(), 1..24), 1..40usize).prop_map(|(word, times)| word.repeat(times)),
        ];
        let back = (any::<prop::sample::Index>(), 1..400usize);
        proptest::collection::vec((part, proptest::option::of(back)), 0..40).prop_map(|parts| {
            let mut bytes = Vec::new();
            for (part, back) in parts {
                bytes.extend(part);
                if let Some((from, len)) = back {
                    let from = from.index(bytes.len());
                    let end = bytes.len().min(from + len);
                    bytes.extend_from_within(from..end);
                }
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(bytes in text(), spare in 0..40usize) {
            let block = compress(&bytes);
            prop_assert_eq!(by_us(&block, bytes.len() + spare), Some(bytes.clone()));
            if let Some(short) = bytes.len().checked_sub(1) {
                prop_assert_eq!(by_us(&block, short), None);
            }
        }

        #[test]
        fn damage_is_decoded_as_lz4_flex_decodes_it(
            bytes in text(),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            spare in 0..40usize,
        ) {
            let mut block = compress(&bytes);
            for (at, byte) in damage {
                let at = at.index(block.len());
                block[at] = byte;
            }
            let len = bytes.len() + spare;
            prop_assert_eq!(by_us(&block, len), by_lz4_flex(&block, len).ok());
        }

        #[test]
        fn noise_is_decoded_as_lz4_flex_decodes_it(block in proptest::collection::vec(any::<u8>(), 0..300), len in 0..600usize) {
            prop_assert_eq!(by_us(&block, len), by_lz4_flex(&block, len).ok());
        }
    }
}
