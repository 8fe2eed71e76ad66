//! Decodes and checks a whole object that arrives in order, in chunks of any size.

use super::blocks::{BlockParser, ContentHash, FrameInfo, NextBlock, StoredBlock, slide};
use super::error::WalError;
use bytes::Bytes;

/// The result of [`ObjectDecoder::next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The decoder needs the next chunk: call [`ObjectDecoder::push`].
    NeedMore,
    /// The content that follows: 1 byte to 4 MiB. The object may still prove to be damaged further on.
    Bytes(&'a [u8]),
    /// The end of the object: all checks have passed. Further calls return the same.
    Done,
}

/// The result of one step, without the content itself.
#[derive(Debug, Clone, Copy)]
enum ObjectStep {
    NeedMore,
    /// The content is in the block, which stores it as it is.
    InBlock,
    InBuffer,
    Done,
}

/// The decoder of one object, which also checks it. Memory is bounded by the chunks that were pushed and two blocks,
/// one stored and one decoded, of at most 4 MiB.
#[derive(Debug)]
pub struct ObjectDecoder {
    parser: BlockParser,
    hash: ContentHash,
    /// The block whose content was returned last.
    block: Option<StoredBlock>,
    /// The content of that block, unless it is stored as it is.
    buffer: Vec<u8>,
    /// The last 64 KiB of content, if blocks refer to the content before them.
    window: Vec<u8>,
    failed: Option<WalError>,
}

impl ObjectDecoder {
    /// Creates a decoder for an object of `size` bytes, the size that the listing shows.
    pub fn new(size: u64) -> Self {
        Self {
            parser: BlockParser::new(size),
            hash: ContentHash::new(),
            block: None,
            buffer: Vec::new(),
            window: Vec::new(),
            failed: None,
        }
    }

    /// Adds the bytes that follow in the object. Nothing is copied. Call it when [`Self::next`] has returned
    /// [`Decoded::NeedMore`]; chunks that are pushed earlier wait in memory.
    pub fn push(&mut self, chunk: Bytes) {
        self.parser.push(chunk);
    }

    /// The number of bytes of the object that were pushed so far.
    pub const fn received(&self) -> u64 {
        self.parser.received()
    }

    /// The number of bytes of content that were returned so far.
    pub const fn content_len(&self) -> u64 {
        self.hash.len()
    }

    /// What the header of the object says. None until it was parsed.
    pub const fn info(&self) -> Option<FrameInfo> {
        self.parser.info()
    }

    /// Decodes the content that follows. It never asks for more if all bytes of the object were pushed.
    ///
    /// # Errors
    ///
    /// A [`WalError`] if the object breaks a rule. After an error every further call returns the same.
    #[expect(clippy::should_implement_trait, reason = "it lends from self")]
    pub fn next(&mut self) -> Result<Decoded<'_>, WalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        Ok(match self.step().inspect_err(|error| self.failed = Some(error.clone()))? {
            ObjectStep::NeedMore => Decoded::NeedMore,
            ObjectStep::InBlock => Decoded::Bytes(self.block.as_ref().map_or(&[], StoredBlock::data)),
            ObjectStep::InBuffer => Decoded::Bytes(&self.buffer),
            ObjectStep::Done => Decoded::Done,
        })
    }

    fn step(&mut self) -> Result<ObjectStep, WalError> {
        // This loop ends: each turn but the last takes a block without content from the input.
        loop {
            // The memory of the last block can then be used for the next.
            self.block = None;
            match self.parser.next()? {
                NextBlock::NeedMore => return Ok(ObjectStep::NeedMore),
                NextBlock::Block(block) => {
                    let step = self.decode(&block)?;
                    let is_empty = match step {
                        ObjectStep::InBlock => block.data().is_empty(),
                        _ => self.buffer.is_empty(),
                    };
                    self.block = Some(block);
                    if !is_empty {
                        return Ok(step);
                    }
                }
                NextBlock::End { checksum, content_size } => {
                    self.hash.finish(checksum.as_ref(), content_size)?;
                    return Ok(ObjectStep::Done);
                }
            }
        }
    }

    /// Decodes the block and adds its content to the checksum. Returns where the content is.
    fn decode(&mut self, block: &StoredBlock) -> Result<ObjectStep, WalError> {
        let info = self.parser.info();
        let (content, step) = match block.checked_raw()? {
            Some(raw) => (raw, ObjectStep::InBlock),
            None => {
                self.buffer.clear();
                block.decode(&self.window, &mut self.buffer)?;
                (self.buffer.as_slice(), ObjectStep::InBuffer)
            }
        };
        self.hash.update(content);
        self.hash.check_size_so_far(info.and_then(|info| info.content_size))?;
        if info.is_some_and(|info| !info.independent) {
            slide(&mut self.window, content);
        }
        Ok(step)
    }
}
