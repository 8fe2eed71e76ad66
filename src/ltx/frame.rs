//! Page frames (docs/FORMAT.md, "Page frames"): a parser that splits a stream of chunks of any size into frames,
//! and the decoder of one frame.
//!
//! A frame that lies inside one chunk is borrowed from it. A frame that spans several chunks is put together in the
//! parser's carry buffer, which holds at most one frame of legal size. No memory is allocated per frame. The parser
//! checks the heads of frames (page order, flags, sizes). It does not decode, hash, or compare with the index.

use super::error::{Checksum, Fault, FormatError, Part};
use super::lz4::{self, Extent, Lz4Error};
use super::{PageSize, Pgno};
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// The length in bytes of the end mark, the zeros after the last frame.
pub const END_MARK_SIZE: usize = 6;
/// The length in bytes of page number and flags, with which each frame begins.
const HEAD_SIZE: usize = 6;
/// The length in bytes of page number, flags and compressed size, the head of a frame with an LZ4 block.
const BLOCK_HEAD_SIZE: usize = 10;
/// The flag for an LZ4 block: the head stores the compressed size, and one block of that size follows.
const FLAG_BLOCK: u16 = 0x1;

/// The most bytes that a frame of the largest page takes, including its head.
pub const MAX_FRAME_SIZE: usize = HEAD_SIZE + lz4::frame_bound(PageSize::MAX as usize);

/// The way in which a page is compressed. One file may contain both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// One LZ4 block. The head of the frame stores its size.
    Block,
    /// The page is one LZ4 frame, whose size is not stored.
    Frame,
}

/// One page as it is stored in the file, still compressed.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The number of the page in the database, from 1.
    pub pgno: Pgno,
    /// The offset of the frame's first byte in the file.
    pub offset: u64,
    /// The size of the whole frame in bytes, including its head. The page index stores the same number.
    pub size: u32,
    /// The part of the frame before the payload that the file checksum covers: 6 bytes for an LZ4 frame, 10 bytes
    /// for an LZ4 block. The checksum continues with the decoded page.
    pub head: &'a [u8],
    /// The bytes of the compressed page, without the frame's head.
    pub payload: &'a [u8],
    /// The way in which the payload is compressed.
    pub encoding: Encoding,
}

impl Frame<'_> {
    /// Decodes the page into `out`, which must be one page long. After an error the content of `out` is
    /// unspecified.
    ///
    /// # Errors
    ///
    /// Malformed if the payload is not valid LZ4 or does not decode to exactly one page. Checksum mismatch if a
    /// checksum inside the LZ4 frame does not match.
    #[inline]
    pub fn decode_into(&self, out: &mut [u8]) -> Result<(), FormatError> {
        let result = match self.encoding {
            Encoding::Block => lz4::decode_block(self.payload, out),
            Encoding::Frame => lz4::decode_frame(self.payload, out),
        };
        result.map_err(|error| lz4_error(error, self.pgno, self.offset, out.len()))
    }
}

/// The result of [`FrameParser::next`].
#[derive(Debug, Clone, Copy)]
pub enum Next<'a> {
    /// No frame is complete yet: push the next chunk.
    NeedMore,
    /// The next page frame of the file.
    Frame(Frame<'a>),
    /// The end mark was read, so there are no more frames.
    End {
        /// The offset in the file of the byte after the end mark.
        offset: u64,
    },
}

/// The place of a frame in the parser's buffers. Valid until the parser is used again.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub pgno: Pgno,
    pub offset: u64,
    pub size: u32,
    encoding: Encoding,
    in_carry: bool,
    range: Range<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum Poll {
    NeedMore,
    Frame(Located),
    End,
}

/// What the parser finds at the beginning of its input.
enum Scan {
    /// The input is too short. The number is the least number of bytes, from the beginning, that must be present
    /// before more can be said.
    Need(usize),
    Frame {
        pgno: Pgno,
        encoding: Encoding,
        size: usize,
    },
    End,
}

/// Splits a stream of chunks into frames.
#[derive(Debug)]
pub struct FrameParser {
    page_size: PageSize,
    lock_page: Pgno,
    /// The offset in the file of the next frame.
    offset: u64,
    last: Option<Pgno>,
    chunk: Bytes,
    /// The number of bytes of `chunk` that were consumed.
    pos: usize,
    /// The beginning of a frame whose rest has not arrived. It holds at most one frame.
    carry: Vec<u8>,
    /// Whether the frame in `carry` was returned to the caller, so that `carry` can be cleared.
    carry_spent: bool,
    /// The least number of bytes after `offset` that are needed to go on. 0 if it is not known that bytes are
    /// missing.
    needed: usize,
    ended: bool,
}

impl FrameParser {
    /// Creates a parser that begins at a frame's first byte, at `offset` of the file. `after` is the page number of
    /// the frame before, or None if that is unknown. Page numbers must ascend from it.
    pub fn new(page_size: PageSize, offset: u64, after: Option<Pgno>) -> Self {
        Self {
            page_size,
            lock_page: page_size.lock_page(),
            offset,
            last: after,
            chunk: Bytes::new(),
            pos: 0,
            carry: Vec::new(),
            carry_spent: false,
            needed: 0,
            ended: false,
        }
    }

    /// Adds the bytes that follow in the file. Call it when [`Self::next`] has returned [`Next::NeedMore`]. Calling
    /// it earlier is correct, but then unread bytes are copied.
    pub fn push(&mut self, chunk: Bytes) {
        let unread = self.chunk.get(self.pos..).unwrap_or_default();
        self.chunk = join(unread, chunk);
        self.pos = 0;
    }

    /// Parses the next frame.
    ///
    /// # Errors
    ///
    /// Malformed. After an error, and after the end mark, every further call returns the same.
    #[expect(clippy::should_implement_trait, reason = "it lends from self")]
    #[inline]
    pub fn next(&mut self) -> Result<Next<'_>, FormatError> {
        Ok(match self.poll()? {
            Poll::NeedMore => Next::NeedMore,
            Poll::Frame(located) => Next::Frame(self.view(&located)),
            Poll::End => Next::End { offset: self.offset },
        })
    }

    /// The offset in the file of the next frame. After the end mark, the offset of the byte behind it.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of the last page that was parsed. Before the first, the number that was given to [`Self::new`].
    pub const fn last(&self) -> Option<Pgno> {
        self.last
    }

    /// The error to report if the input has ended although the parser needs more. `size` is the size of the file in
    /// bytes.
    pub fn truncated(&self, size: u64) -> FormatError {
        let part = self.carried_pgno().map_or(Part::Pages, Part::Page);
        let needed = self.offset.saturating_add(self.needed.max(END_MARK_SIZE) as u64);
        FormatError::Truncated { part, size, needed }
    }

    /// Checks at the end of a segment that its frames end at offset `end`, which the index gave.
    ///
    /// # Errors
    ///
    /// Malformed if they end elsewhere or if bytes are left.
    pub fn end_segment(&self, end: u64) -> Result<(), FormatError> {
        let unread = self.chunk.len() > self.pos || (!self.carry.is_empty() && !self.carry_spent);
        if self.offset == end && !unread {
            return Ok(());
        }
        let found = self.offset.saturating_add(if unread { self.needed as u64 } else { 0 });
        let fault = Fault::SegmentEnd { expected: end, found };
        Err(FormatError::Malformed { part: Part::Pages, offset: self.offset, fault })
    }

    /// Takes the bytes that were pushed behind the end mark. They are the beginning of the page index, which
    /// another parser reads. Call it after [`Next::End`].
    pub fn take_rest(&mut self) -> Bytes {
        let pos = std::mem::take(&mut self.pos).min(self.chunk.len());
        std::mem::take(&mut self.chunk).split_off(pos)
    }

    #[inline]
    pub(super) fn poll(&mut self) -> Result<Poll, FormatError> {
        if self.carry_spent {
            self.carry.clear();
            self.carry_spent = false;
        }
        if self.ended {
            return Ok(Poll::End);
        }
        if !self.carry.is_empty() {
            return self.poll_carry();
        }
        let rest = self.chunk.get(self.pos..).unwrap_or_default();
        match self.scan(rest)? {
            Scan::Frame { pgno, encoding, size } => {
                let range = self.pos..self.pos + size;
                self.pos += size;
                Ok(Poll::Frame(self.found(pgno, encoding, size, false, range)))
            }
            Scan::End => {
                self.pos += END_MARK_SIZE;
                Ok(self.found_end())
            }
            Scan::Need(needed) => {
                self.carry.extend_from_slice(rest);
                self.drop_chunk();
                self.needed = needed;
                Ok(Poll::NeedMore)
            }
        }
    }

    /// Completes the frame in `carry` with bytes of the chunk.
    fn poll_carry(&mut self) -> Result<Poll, FormatError> {
        // This loop ends: each turn but the last takes bytes from the chunk.
        loop {
            match self.scan(&self.carry)? {
                Scan::Need(needed) => {
                    self.needed = needed;
                    let rest = self.chunk.get(self.pos..).unwrap_or_default();
                    let missing = needed.saturating_sub(self.carry.len());
                    let Some(more) = rest.get(..missing.min(rest.len())).filter(|more| !more.is_empty()) else {
                        self.drop_chunk();
                        return Ok(Poll::NeedMore);
                    };
                    self.carry.extend_from_slice(more);
                    self.pos += more.len();
                }
                Scan::Frame { pgno, encoding, size } => {
                    self.carry_spent = true;
                    return Ok(Poll::Frame(self.found(pgno, encoding, size, true, 0..size)));
                }
                Scan::End => {
                    self.carry_spent = true;
                    return Ok(self.found_end());
                }
            }
        }
    }

    pub(super) fn view(&self, located: &Located) -> Frame<'_> {
        let buffer: &[u8] = if located.in_carry { &self.carry } else { &self.chunk };
        let bytes = buffer.get(located.range.clone()).unwrap_or_default();
        let head = match located.encoding {
            Encoding::Block => BLOCK_HEAD_SIZE,
            Encoding::Frame => HEAD_SIZE,
        };
        let (head, payload) = bytes.split_at_checked(head).unwrap_or_default();
        let Located { pgno, offset, size, encoding, .. } = *located;
        Frame { pgno, offset, size, head, payload, encoding }
    }

    fn found(&mut self, pgno: Pgno, encoding: Encoding, size: usize, in_carry: bool, range: Range<usize>) -> Located {
        let offset = self.offset;
        // The conversion loses nothing, because a frame has at most MAX_FRAME_SIZE bytes.
        let size = size as u32;
        self.offset = offset.saturating_add(u64::from(size));
        self.last = Some(pgno);
        self.needed = 0;
        Located { pgno, offset, size, encoding, in_carry, range }
    }

    fn found_end(&mut self) -> Poll {
        self.offset = self.offset.saturating_add(END_MARK_SIZE as u64);
        self.ended = true;
        Poll::End
    }

    fn drop_chunk(&mut self) {
        self.chunk = Bytes::new();
        self.pos = 0;
    }

    fn carried_pgno(&self) -> Option<Pgno> {
        let pgno = u32::from_be_bytes(*self.carry.first_chunk()?);
        (pgno != 0 && !self.carry_spent).then_some(Pgno(pgno))
    }

    /// Examines the beginning of `buf`, which must be the first byte of a frame.
    #[inline]
    fn scan(&self, buf: &[u8]) -> Result<Scan, FormatError> {
        let Some((&head, rest)) = buf.split_first_chunk::<HEAD_SIZE>() else { return Ok(Scan::Need(HEAD_SIZE)) };
        let [p0, p1, p2, p3, f0, f1] = head;
        let pgno = Pgno(u32::from_be_bytes([p0, p1, p2, p3]));
        let flags = u16::from_be_bytes([f0, f1]);
        if pgno.0 == 0 {
            return if flags == 0 {
                Ok(Scan::End)
            } else {
                let fault = Fault::EndMark { found: flags };
                Err(FormatError::Malformed { part: Part::Pages, offset: self.offset, fault })
            };
        }
        if flags & !FLAG_BLOCK != 0 {
            return Err(self.malformed(pgno, Fault::FrameFlags { found: flags }));
        }
        if let Some(after) = self.last
            && pgno <= after
        {
            return Err(self.malformed(pgno, Fault::PageOrder { after }));
        }
        if pgno == self.lock_page {
            return Err(self.malformed(pgno, Fault::LockPage));
        }
        let page = self.page_size.bytes();
        if flags == FLAG_BLOCK {
            let Some((&size, payload)) = rest.split_first_chunk() else { return Ok(Scan::Need(BLOCK_HEAD_SIZE)) };
            let size = u32::from_be_bytes(size);
            let max = lz4::block_bound(page) as u64;
            if u64::from(size) > max {
                return Err(self.malformed(pgno, Fault::FrameSize { found: u64::from(size), max }));
            }
            let whole = BLOCK_HEAD_SIZE + size as usize;
            return Ok(if payload.len() < size as usize {
                Scan::Need(whole)
            } else {
                Scan::Frame { pgno, encoding: Encoding::Block, size: whole }
            });
        }
        match lz4::frame_extent(rest, lz4::frame_bound(page)) {
            Ok(Extent::Complete(len)) => Ok(Scan::Frame { pgno, encoding: Encoding::Frame, size: HEAD_SIZE + len }),
            Ok(Extent::Need(len)) => Ok(Scan::Need(HEAD_SIZE + len)),
            Err(error) => Err(lz4_error(error, pgno, self.offset, page)),
        }
    }

    #[cold]
    fn malformed(&self, pgno: Pgno, fault: Fault) -> FormatError {
        FormatError::Malformed { part: Part::Page(pgno), offset: self.offset, fault }
    }
}

/// Returns `unread` followed by `chunk`. Bytes are copied only if `unread` is not empty.
pub(super) fn join(unread: &[u8], chunk: Bytes) -> Bytes {
    if unread.is_empty() {
        return chunk;
    }
    let mut joined = BytesMut::with_capacity(unread.len() + chunk.len());
    joined.extend_from_slice(unread);
    joined.extend_from_slice(&chunk);
    joined.freeze()
}

#[cold]
fn lz4_error(error: Lz4Error, pgno: Pgno, offset: u64, page: usize) -> FormatError {
    let part = Part::Page(pgno);
    let fault = match error {
        Lz4Error::Header(what) => Fault::Lz4Header(what),
        Lz4Error::Block(what) => Fault::Lz4Block(what),
        Lz4Error::TooLong { found } => Fault::FrameSize { found, max: lz4::frame_bound(page) as u64 },
        Lz4Error::Length { found } => Fault::PageLength { expected: page as u64, found },
        Lz4Error::Checksum { stored, computed } => {
            let (stored, computed) = (u64::from(stored), u64::from(computed));
            return FormatError::ChecksumMismatch { what: Checksum::Lz4, part, offset, stored, computed };
        }
    };
    FormatError::Malformed { part, offset, fault }
}
