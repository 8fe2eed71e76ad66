//! The page index (docs/FORMAT.md, "Page index"). It holds for each page the number, offset and size as varints,
//! then a varint 0, then the size of all that as u64.
//!
//! The index repeats what the page frames say. To compare the two without keeping either, both are fed into a
//! [`FrameHash`] and the hashes are compared.

use super::Pgno;
use super::error::{Fault, FormatError, Part};
use super::frame::{END_MARK_SIZE, MAX_FRAME_SIZE};
use super::header::HEADER_SIZE;

/// The smallest possible frame in bytes: a head of 6 bytes and at least one byte of payload.
const MIN_FRAME_SIZE: u64 = 7;

/// One entry of the page index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The number of the page in the database, from 1.
    pub pgno: Pgno,
    /// The offset of the page's frame in the file, in bytes.
    pub offset: u64,
    /// The size of the page's whole frame in bytes.
    pub size: u32,
}

/// The kind of value that comes next in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Pgno,
    Offset {
        pgno: Pgno,
    },
    Size {
        pgno: Pgno,
    },
    /// The size field at the end of the index, of which `bytes` of 8 bytes were read.
    IndexSize {
        bytes: u8,
    },
    Done,
}

/// Parses the page index from chunks of any size. It stores no entries.
///
/// It checks that page numbers ascend, that the frames lie end to end from the header to the end mark before the
/// index, and that the stored size of the index is correct.
#[derive(Debug, Clone)]
pub struct IndexParser {
    /// The offset of the index in the file.
    start: u64,
    /// The number of bytes of the index that were consumed.
    pos: u64,
    field: Field,
    /// The bits that were read of the varint or size field that is being parsed.
    value: u64,
    shift: u32,
    last: Option<Pgno>,
    /// The offset at which the next frame must begin.
    next_offset: u64,
}

impl IndexParser {
    /// Creates a parser for the index that begins at offset `start` of the file.
    pub fn new(start: u64) -> Self {
        Self { start, pos: 0, field: Field::Pgno, value: 0, shift: 0, last: None, next_offset: HEADER_SIZE as u64 }
    }

    /// Parses bytes of the index and calls `f` for each complete entry. Returns the number of bytes that belonged
    /// to the index. That is all of them, unless the index has ended ([`Self::is_done`]).
    ///
    /// # Errors
    ///
    /// Malformed, or an error that `f` returns. After an error the parser must not be used any more.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        f: &mut impl FnMut(IndexEntry) -> Result<(), FormatError>,
    ) -> Result<usize, FormatError> {
        for (consumed, &byte) in bytes.iter().enumerate() {
            match self.field {
                Field::Done => return Ok(consumed),
                Field::IndexSize { bytes } => self.size_byte(byte, bytes)?,
                _ => {
                    // The tenth byte of a varint may only hold the last bit of a u64.
                    if self.shift == 63 && byte > 1 {
                        return Err(self.malformed(Fault::Varint));
                    }
                    self.value |= u64::from(byte & 0x7f) << self.shift;
                    if byte & 0x80 != 0 {
                        self.shift += 7;
                    } else {
                        let value = std::mem::take(&mut self.value);
                        self.shift = 0;
                        self.varint(value, f)?;
                    }
                }
            }
            self.pos += 1;
        }
        Ok(bytes.len())
    }

    /// Whether the whole index has been read, including its size field.
    pub fn is_done(&self) -> bool {
        self.field == Field::Done
    }

    /// The offset in the file of the next byte. After the end of the index, the offset of the trailer.
    pub const fn offset(&self) -> u64 {
        self.start.saturating_add(self.pos)
    }

    /// The error to report if the input has ended before the index has. `size` is the size of the file in bytes.
    pub const fn truncated(&self, size: u64) -> FormatError {
        FormatError::Truncated { part: Part::Index, size, needed: self.offset().saturating_add(1) }
    }

    fn varint(
        &mut self,
        value: u64,
        f: &mut impl FnMut(IndexEntry) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let room = self.start.saturating_sub(END_MARK_SIZE as u64);
        self.field = match self.field {
            Field::Pgno if value == 0 => {
                if self.next_offset != room {
                    let fault = Fault::IndexEnd { frames_end: self.next_offset, expected: room };
                    return Err(self.malformed(fault));
                }
                Field::IndexSize { bytes: 0 }
            }
            Field::Pgno => {
                let found = u32::try_from(value).map_err(|_| self.malformed(Fault::IndexPgno { found: value }))?;
                let found = Pgno(found);
                if let Some(after) = self.last
                    && found <= after
                {
                    return Err(self.malformed(Fault::IndexOrder { after, found }));
                }
                self.last = Some(found);
                Field::Offset { pgno: found }
            }
            Field::Offset { pgno } => {
                if value != self.next_offset {
                    let fault = Fault::IndexOffset { pgno, expected: self.next_offset, found: value };
                    return Err(self.malformed(fault));
                }
                Field::Size { pgno }
            }
            Field::Size { pgno } => {
                let max = room.saturating_sub(self.next_offset).min(MAX_FRAME_SIZE as u64);
                let size = u32::try_from(value).ok().filter(|_| (MIN_FRAME_SIZE..=max).contains(&value));
                let Some(size) = size else {
                    return Err(self.malformed(Fault::IndexFrameSize { pgno, found: value, max }));
                };
                let offset = self.next_offset;
                self.next_offset += u64::from(size);
                f(IndexEntry { pgno, offset, size })?;
                Field::Pgno
            }
            done @ (Field::IndexSize { .. } | Field::Done) => done,
        };
        Ok(())
    }

    fn size_byte(&mut self, byte: u8, bytes: u8) -> Result<(), FormatError> {
        self.value = self.value << 8 | u64::from(byte);
        self.field = if bytes < 7 {
            Field::IndexSize { bytes: bytes + 1 }
        } else {
            let expected = self.pos - 7;
            if self.value != expected {
                return Err(self.malformed(Fault::IndexSize { expected, found: self.value }));
            }
            Field::Done
        };
        Ok(())
    }

    #[cold]
    fn malformed(&self, fault: Fault) -> FormatError {
        FormatError::Malformed { part: Part::Index, offset: self.offset(), fault }
    }
}

/// Appends `value` to `out` as an unsigned LEB128 varint.
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A hash over the page number, offset and size of consecutive frames. A segment's hash is computed once from the
/// index and once from the frames themselves. Equal hashes mean that both agree, except by a chance of 1 in 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameHash {
    hash: u64,
    frames: u64,
}

impl FrameHash {
    /// The hash of an empty run of frames.
    pub const fn new() -> Self {
        Self { hash: 0, frames: 0 }
    }

    /// Adds the next frame: its page number, its offset in the file and its size, both in bytes.
    #[inline]
    pub fn add(&mut self, pgno: Pgno, offset: u64, size: u32) {
        let key = u64::from(pgno.0) << 32 | u64::from(size);
        self.hash = mix(mix(self.hash ^ offset) ^ key);
        self.frames += 1;
    }

    /// The number of frames that were added to the hash.
    pub const fn frames(&self) -> u64 {
        self.frames
    }
}

/// One round of the hash: multiplies and folds the 128-bit product to 64 bits.
#[inline]
const fn mix(value: u64) -> u64 {
    let product = (value ^ 0x9e37_79b9_7f4a_7c15) as u128 * 0xd6e8_feb8_6659_fd93;
    product as u64 ^ (product >> 64) as u64
}
