//! Finds the blocks of an object, which is one LZ4 frame, and decodes single blocks.
//!
//! A block that lies inside one chunk is taken from it without a copy. A block that spans several chunks is put
//! together once. Memory is bounded by the chunks that were pushed and one block, which has at most 4 MiB and is never
//! longer than the rest of the object.

use super::error::{WalChecksum, WalError, WalFault};
use crate::lz4::{
    self, BlockField, CONTENT_SIZE_OFFSET, HeaderError, MAGIC, WINDOW, block_error, content_bound, parse_header,
};
use bytes::{Bytes, BytesMut};
use lz4_flex::block::DecompressError;
use std::collections::VecDeque;
use std::hash::Hasher;
use twox_hash::XxHash32;

/// The first bytes of a file that the program age has encrypted.
const AGE: &[u8] = b"age-encryption.org/v1";
/// The length in bytes of the field before a block, and of each checksum behind the header.
const FIELD: usize = 4;
/// The least number of bytes that a frame header has.
const SHORTEST_HEADER: usize = 7;

const IN_HEADER: &str = "LZ4 frame header";
const IN_BLOCKS: &str = "LZ4 blocks, before the end mark";
const IN_BLOCK: &str = "LZ4 block";
const IN_CHECKSUM: &str = "content checksum";

/// What the header of an object says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameInfo {
    /// Whether every block can be decoded without the content before it.
    pub independent: bool,
    /// The most bytes that a block may have, stored or decoded: 64 KiB to 4 MiB.
    pub block_max: usize,
    /// Whether a checksum of the content follows the blocks.
    pub content_checksum: bool,
    /// The size of the content in bytes, if it is stored.
    pub content_size: Option<u64>,
}

/// The result of [`BlockParser::next`].
#[derive(Debug, Clone)]
pub enum NextBlock {
    /// The parser needs the next chunk: call [`BlockParser::push`].
    NeedMore,
    /// The next block of the object.
    Block(StoredBlock),
    /// The end of the object, which nothing follows. The content must still be compared with
    /// [`ContentHash::finish`]. Further calls return the same.
    End {
        /// The checksum of the content, if the object has one.
        checksum: Option<ContentChecksum>,
        /// The size of the content in bytes, if the object stores it.
        content_size: Option<u64>,
    },
}

/// The checksum of the content, as it is stored behind the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentChecksum {
    stored: u32,
    /// The offset of the checksum in the object.
    offset: u64,
}

#[derive(Debug, Clone)]
enum BlockStage {
    Magic,
    Header,
    Field,
    Block { len: usize, is_raw: bool },
    ContentChecksum,
    Done { checksum: Option<ContentChecksum> },
    Failed(WalError),
}

/// Splits an object, which arrives in order and in chunks of any size, into its blocks. It decodes none of them.
#[derive(Debug)]
pub struct BlockParser {
    size: u64,
    received: u64,
    /// The offset in the object of the first byte that was not consumed.
    offset: u64,
    /// The bytes behind those in `carry`. No chunk is empty.
    chunks: VecDeque<Bytes>,
    /// The beginning of the next part of the object, if that does not lie in one chunk.
    carry: BytesMut,
    stage: BlockStage,
    info: Option<FrameInfo>,
    has_block_checksums: bool,
}

impl BlockParser {
    /// Creates a parser for an object of `size` bytes, the size that the listing shows.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            received: 0,
            offset: 0,
            chunks: VecDeque::new(),
            carry: BytesMut::new(),
            stage: BlockStage::Magic,
            info: None,
            has_block_checksums: false,
        }
    }

    /// Adds the bytes that follow in the object. Nothing is copied. Call it when [`Self::next`] has returned
    /// [`NextBlock::NeedMore`]; chunks that are pushed earlier wait in memory.
    pub fn push(&mut self, chunk: Bytes) {
        self.received = self.received.saturating_add(chunk.len() as u64);
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// What the header of the object says. None until it was parsed, which is before the first block is returned.
    pub const fn info(&self) -> Option<FrameInfo> {
        self.info
    }

    /// The number of bytes of the object that were pushed so far.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Finds the next block. It never asks for more if all bytes of the object were pushed.
    ///
    /// # Errors
    ///
    /// Truncated, malformed, encrypted, or checksum mismatch of the header. After an error every further call returns
    /// the same.
    #[expect(clippy::should_implement_trait, reason = "it is no iterator: it asks for more input")]
    pub fn next(&mut self) -> Result<NextBlock, WalError> {
        let next = self.step();
        if let Err(error) = &next {
            self.stage = BlockStage::Failed(error.clone());
        }
        next
    }

    fn step(&mut self) -> Result<NextBlock, WalError> {
        // This loop ends: each turn but the last goes to a later stage. Only a field and its block alternate, and both
        // take bytes of the input.
        loop {
            match self.stage {
                BlockStage::Magic => {
                    if !self.check_magic()? {
                        return Ok(NextBlock::NeedMore);
                    }
                    self.stage = BlockStage::Header;
                }
                BlockStage::Header => {
                    if !self.take_header()? {
                        return Ok(NextBlock::NeedMore);
                    }
                    self.stage = BlockStage::Field;
                }
                BlockStage::Field => {
                    let Some(field) = self.take_field(IN_BLOCKS)? else { return Ok(NextBlock::NeedMore) };
                    self.stage = self.after_field(field)?;
                }
                BlockStage::Block { len, is_raw } => {
                    let Some(block) = self.take_block(len, is_raw)? else { return Ok(NextBlock::NeedMore) };
                    self.stage = BlockStage::Field;
                    return Ok(NextBlock::Block(block));
                }
                BlockStage::ContentChecksum => {
                    let offset = self.offset;
                    let Some(field) = self.take_field(IN_CHECKSUM)? else { return Ok(NextBlock::NeedMore) };
                    let checksum = ContentChecksum { stored: u32::from_le_bytes(field), offset };
                    self.stage = BlockStage::Done { checksum: Some(checksum) };
                }
                BlockStage::Done { checksum } => {
                    let bytes = self.size.max(self.received).saturating_sub(self.offset);
                    if bytes > 0 {
                        return Err(self.malformed(WalFault::TrailingBytes { bytes }));
                    }
                    let content_size = self.info.and_then(|info| info.content_size);
                    return Ok(NextBlock::End { checksum, content_size });
                }
                BlockStage::Failed(ref error) => return Err(error.clone()),
            }
        }
    }

    /// Checks the first bytes. Returns whether enough of them have arrived. Nothing is consumed.
    fn check_magic(&mut self) -> Result<bool, WalError> {
        let magic = MAGIC.to_le_bytes();
        if !self.gather(magic.len()) && (self.received < self.size || magic.starts_with(self.front())) {
            return self.need_more(IN_HEADER);
        }
        if self.front().starts_with(&magic) {
            return Ok(true);
        }
        let is_age_so_far = AGE.starts_with(self.front().get(..AGE.len()).unwrap_or(self.front()));
        if is_age_so_far && !self.gather(AGE.len()) && self.received < self.size {
            return Ok(false);
        }
        if self.front().starts_with(AGE) {
            return Err(WalError::Encrypted);
        }
        let mut found = [0; 4];
        found.iter_mut().zip(self.front()).for_each(|(found, &byte)| *found = byte);
        Err(self.malformed(WalFault::Magic { found }))
    }

    fn take_header(&mut self) -> Result<bool, WalError> {
        let mut needed = SHORTEST_HEADER;
        // This loop ends: a header is parsed as soon as 15 bytes are there.
        let header = loop {
            if !self.gather(needed) {
                return self.need_more(IN_HEADER);
            }
            match parse_header(self.front()).map_err(header_error)? {
                Ok(header) => break header,
                Err(more) => needed = more.max(needed + 1),
            }
        };
        self.info = Some(FrameInfo {
            independent: header.is_independent,
            block_max: header.block_max,
            content_checksum: header.has_content_checksum,
            content_size: header.content_size,
        });
        self.has_block_checksums = header.has_block_checksums;
        self.consume(header.len);
        Ok(true)
    }

    /// The stage after the field `field`, which was consumed.
    fn after_field(&self, field: [u8; FIELD]) -> Result<BlockStage, WalError> {
        let (has_content_checksum, max) = self.info.map_or((false, 0), |info| (info.content_checksum, info.block_max));
        let BlockField::Block { len, is_raw } = BlockField::parse(field) else {
            return Ok(if has_content_checksum {
                BlockStage::ContentChecksum
            } else {
                BlockStage::Done { checksum: None }
            });
        };
        if len > max {
            let offset = self.offset.saturating_sub(FIELD as u64);
            return Err(WalError::Malformed { offset, fault: WalFault::BlockSize { found: len, max } });
        }
        Ok(BlockStage::Block { len, is_raw })
    }

    fn take_block(&mut self, len: usize, is_raw: bool) -> Result<Option<StoredBlock>, WalError> {
        let whole = len + if self.has_block_checksums { FIELD } else { 0 };
        // Compared before memory is set aside for the block.
        if self.offset.saturating_add(whole as u64) > self.size.max(self.received) {
            return Err(WalError::Truncated { size: self.size.max(self.received), part: IN_BLOCK });
        }
        if !self.gather(whole) {
            return self.need_more(IN_BLOCK).map(|_| None);
        }
        let offset = self.offset;
        let mut data = self.consume(whole);
        let checksum = self.has_block_checksums.then(|| data.split_off(len));
        Ok(Some(StoredBlock {
            checksum: checksum.and_then(|field| field.first_chunk().copied()).map(u32::from_le_bytes),
            data,
            offset,
            block_max: self.info.map_or(0, |info| info.block_max),
            is_raw,
            is_independent: self.info.is_none_or(|info| info.independent),
        }))
    }

    fn take_field(&mut self, part: &'static str) -> Result<Option<[u8; FIELD]>, WalError> {
        if !self.gather(FIELD) {
            return self.need_more(part).map(|_| None);
        }
        let field = self.front().first_chunk().copied();
        self.consume(FIELD);
        Ok(field)
    }

    /// Returns false, or the error that the object ends inside `part`.
    fn need_more(&self, part: &'static str) -> Result<bool, WalError> {
        if self.received >= self.size {
            return Err(WalError::Truncated { size: self.received, part });
        }
        Ok(false)
    }

    /// Makes the next `len` bytes lie in one piece, without consuming them. Returns whether they have arrived.
    fn gather(&mut self, len: usize) -> bool {
        if self.front().len() >= len {
            return true;
        }
        // Memory that is set aside for a block is used for the next one, if the block was dropped by then.
        self.carry.reserve(len.saturating_sub(self.carry.len()));
        // This loop ends: each turn takes bytes from a chunk.
        while let Some(missing) = len.checked_sub(self.carry.len()).filter(|&missing| missing > 0) {
            let Some(chunk) = self.chunks.front_mut() else { return false };
            let part = chunk.split_to(missing.min(chunk.len()));
            self.carry.extend_from_slice(&part);
            self.pop_empty();
        }
        true
    }

    /// The bytes that lie in one piece. They are at least those that [`Self::gather`] was asked for.
    fn front(&self) -> &[u8] {
        match self.chunks.front() {
            Some(chunk) if self.carry.is_empty() => chunk,
            _ => &self.carry,
        }
    }

    /// Consumes `len` bytes, which must lie in one piece.
    fn consume(&mut self, len: usize) -> Bytes {
        self.offset = self.offset.saturating_add(len as u64);
        if !self.carry.is_empty() {
            debug_assert!(len <= self.carry.len(), "no more is consumed than was gathered");
            return self.carry.split_to(len.min(self.carry.len())).freeze();
        }
        let Some(chunk) = self.chunks.front_mut() else { return Bytes::new() };
        let part = chunk.split_to(len.min(chunk.len()));
        self.pop_empty();
        part
    }

    fn pop_empty(&mut self) {
        self.chunks.pop_front_if(|chunk| chunk.is_empty());
    }

    #[cold]
    fn malformed(&self, fault: WalFault) -> WalError {
        WalError::Malformed { offset: self.offset, fault }
    }
}

#[cold]
fn header_error(error: HeaderError) -> WalError {
    match error {
        HeaderError::Rule(what) => WalError::Malformed { offset: 0, fault: WalFault::Lz4Header(what) },
        HeaderError::Checksum { stored, computed } => WalError::ChecksumMismatch {
            what: WalChecksum::Lz4Header,
            offset: 0,
            stored: u64::from(stored),
            computed: u64::from(computed),
        },
    }
}

/// One block as it is stored in the object. It can be decoded by any thread.
#[derive(Debug, Clone)]
pub struct StoredBlock {
    data: Bytes,
    /// The offset of `data` in the object.
    offset: u64,
    block_max: usize,
    is_raw: bool,
    is_independent: bool,
    checksum: Option<u32>,
}

impl StoredBlock {
    /// The offset of the block's data in the object, in bytes.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of bytes that the block takes in the object, without its size and checksum.
    pub const fn stored_len(&self) -> usize {
        self.data.len()
    }

    /// The most bytes of content that the block can have. At most [`FrameInfo::block_max`].
    pub fn content_bound(&self) -> usize {
        if self.is_raw { self.data.len() } else { content_bound(self.data.len()).min(self.block_max) }
    }

    /// Checks the block's checksum and appends its content to `out`: at most [`Self::content_bound`] bytes. `window` is
    /// the content before the block, or its last 64 KiB. It may be empty if all blocks are independent. After an error
    /// `out` is as before.
    ///
    /// # Errors
    ///
    /// Checksum mismatch of the block. Malformed if the block is not valid LZ4 or has too much content.
    pub fn decode(&self, window: &[u8], out: &mut Vec<u8>) -> Result<(), WalError> {
        self.check()?;
        if self.is_raw {
            out.extend_from_slice(&self.data);
            return Ok(());
        }
        let window = if self.is_independent { &[] } else { window };
        lz4::append(&self.data, window, self.block_max, out).map_err(|error| self.malformed(&error))
    }

    /// Checks the block's checksum and writes its content to the beginning of `out`, which has at least
    /// [`Self::content_bound`] bytes. Returns the length of the content in bytes. The block must be independent of the
    /// others.
    ///
    /// # Errors
    ///
    /// Those of [`Self::decode`].
    pub fn decode_into(&self, out: &mut [u8]) -> Result<usize, WalError> {
        debug_assert!(self.is_independent, "nobody knows the content before this block");
        debug_assert!(out.len() >= self.content_bound(), "the content may not fit");
        self.check()?;
        let len = self.content_bound().min(out.len());
        let out = out.get_mut(..len).unwrap_or_default();
        if self.is_raw {
            out.copy_from_slice(self.data.get(..len).unwrap_or_default());
            return Ok(len);
        }
        lz4::decode_to_front(&self.data, out).map_err(|error| self.malformed(&error))
    }

    fn malformed(&self, error: &DecompressError) -> WalError {
        let fault = WalFault::Lz4Block(block_error(error, "has more content than this frame's blocks may have"));
        WalError::Malformed { offset: self.offset, fault }
    }

    /// Checks the block's checksum. Returns the content if it is stored as it is.
    pub(super) fn checked_raw(&self) -> Result<Option<&[u8]>, WalError> {
        if !self.is_raw {
            return Ok(None);
        }
        self.check()?;
        Ok(Some(&self.data))
    }

    /// The bytes of the block as they are stored.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    fn check(&self) -> Result<(), WalError> {
        let Some(stored) = self.checksum else { return Ok(()) };
        let offset = self.offset.saturating_add(self.data.len() as u64);
        check(WalChecksum::Lz4Block, offset, stored, XxHash32::oneshot(0, &self.data))
    }
}

/// Checks the content of an object: its checksum and its size. It is given the content in order.
#[derive(Debug, Clone)]
pub struct ContentHash {
    hash: XxHash32,
}

impl Default for ContentHash {
    fn default() -> Self {
        Self::new()
    }
}

impl ContentHash {
    /// The state before the first byte.
    pub const fn new() -> Self {
        Self { hash: XxHash32::with_seed(0) }
    }

    /// Adds the bytes that follow in the content.
    pub fn update(&mut self, content: &[u8]) {
        self.hash.write(content);
    }

    /// The number of bytes so far.
    pub const fn len(&self) -> u64 {
        self.hash.total_len()
    }

    /// Whether there was no content so far.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Compares the checksum of the content so far with the stored one.
    ///
    /// # Errors
    ///
    /// Checksum mismatch of the content.
    pub fn check(&self, checksum: &ContentChecksum) -> Result<(), WalError> {
        check(WalChecksum::Lz4Content, checksum.offset, checksum.stored, self.hash.finish_32())
    }

    /// Compares the whole content with what [`NextBlock::End`] says of it.
    ///
    /// # Errors
    ///
    /// Malformed if the size differs, and those of [`Self::check`].
    pub fn finish(&self, checksum: Option<&ContentChecksum>, content_size: Option<u64>) -> Result<(), WalError> {
        match content_size {
            Some(stored) if stored != self.len() => return Err(self.wrong_size(stored)),
            _ => {}
        }
        checksum.map_or(Ok(()), |checksum| self.check(checksum))
    }

    /// The error to report if the content is already longer than the stored size.
    ///
    /// # Errors
    ///
    /// Malformed, as above.
    pub(super) fn check_size_so_far(&self, content_size: Option<u64>) -> Result<(), WalError> {
        match content_size {
            Some(stored) if stored < self.len() => Err(self.wrong_size(stored)),
            _ => Ok(()),
        }
    }

    #[cold]
    fn wrong_size(&self, stored: u64) -> WalError {
        let fault = WalFault::ContentSize { stored, found: self.len() };
        WalError::Malformed { offset: CONTENT_SIZE_OFFSET, fault }
    }
}

fn check(what: WalChecksum, offset: u64, stored: u32, computed: u32) -> Result<(), WalError> {
    if stored == computed {
        return Ok(());
    }
    Err(WalError::ChecksumMismatch { what, offset, stored: u64::from(stored), computed: u64::from(computed) })
}

/// Keeps the last 64 KiB of `window` followed by `content` in `window`.
pub(super) fn slide(window: &mut Vec<u8>, content: &[u8]) {
    match content.len().checked_sub(WINDOW) {
        Some(from) => {
            window.clear();
            window.extend_from_slice(content.get(from..).unwrap_or_default());
        }
        None => {
            let surplus = (window.len() + content.len()).saturating_sub(WINDOW);
            window.drain(..surplus.min(window.len()));
            window.extend_from_slice(content);
        }
    }
}
