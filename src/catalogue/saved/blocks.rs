//! The blocks of a saved catalogue, and the integers and texts in them.

use super::error::SavedError;
use crc_fast::{CrcAlgorithm::Crc64Nvme, Digest};
use std::io::{Read, Write};

const MAGIC: [u8; 8] = *b"HYDRCAT\n";
/// The version of the format that this program writes and reads.
pub(super) const VERSION: u32 = 1;
/// The content of a block. More of it compresses no better: LZ4 looks back 64 KiB.
const BLOCK_BYTES: usize = 256 << 10;
/// The longest text. Keys have at most 1,024 bytes, paths at most 4,096, and errors of services hardly more.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// Writes blocks.
pub(super) struct BlockWriter<W> {
    out: W,
    digest: Digest,
    content: Vec<u8>,
    /// The bytes of content so far, in all blocks.
    raw_bytes: u64,
}

impl<W: Write> BlockWriter<W> {
    pub(super) fn new(out: W) -> Result<Self, SavedError> {
        let digest = Digest::new(Crc64Nvme);
        let mut writer = Self { out, digest, content: Vec::with_capacity(BLOCK_BYTES), raw_bytes: 0 };
        writer.covered(&MAGIC)?;
        writer.covered(&VERSION.to_le_bytes())?;
        Ok(writer)
    }

    /// The bytes of content so far, before compression.
    pub(super) fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    pub(super) fn byte(&mut self, byte: u8) -> Result<(), SavedError> {
        self.bytes(&[byte])
    }

    pub(super) fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), SavedError> {
        self.raw_bytes += bytes.len() as u64;
        // Ends: each turn takes at least one byte, because a full block is written at once.
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.content.len()));
            self.content.extend_from_slice(now);
            bytes = later;
            if self.content.len() == BLOCK_BYTES {
                self.block()?;
            }
        }
        Ok(())
    }

    pub(super) fn number(&mut self, mut value: u64) -> Result<(), SavedError> {
        // Ends after at most 10 turns: each takes 7 bits away.
        while value >= 0x80 {
            self.byte((value & 0x7f) as u8 | 0x80)?;
            value >>= 7;
        }
        self.byte((value & 0x7f) as u8)
    }

    /// A number that may be negative. Small ones are short, whatever their sign.
    pub(super) fn signed(&mut self, value: i64) -> Result<(), SavedError> {
        self.number((value << 1 ^ value >> 63).cast_unsigned())
    }

    /// A text. What is longer than 64 KiB is cut, which happens to no key and no path.
    pub(super) fn text(&mut self, text: &str) -> Result<(), SavedError> {
        let text = text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or(text);
        self.number(text.len() as u64)?;
        self.bytes(text.as_bytes())
    }

    /// Writes the last block and returns the stream.
    pub(super) fn finish(mut self) -> Result<W, SavedError> {
        if !self.content.is_empty() {
            self.block()?;
        }
        self.block()?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Writes the content that has gathered as a block. Without content it is the last one.
    fn block(&mut self) -> Result<(), SavedError> {
        let packed = if self.content.is_empty() { Vec::new() } else { lz4_flex::block::compress(&self.content) };
        // Both are at most a few hundred KiB.
        let lengths = [packed.len() as u32, self.content.len() as u32].map(u32::to_le_bytes);
        self.covered(lengths.as_flattened())?;
        self.digest.update(&packed);
        let checksum = self.digest.finalize();
        self.out.write_all(&checksum.to_le_bytes())?;
        self.out.write_all(&packed)?;
        self.content.clear();
        Ok(())
    }

    fn covered(&mut self, bytes: &[u8]) -> Result<(), SavedError> {
        self.digest.update(bytes);
        Ok(self.out.write_all(bytes)?)
    }
}

/// Reads blocks. Memory: two blocks.
pub(super) struct BlockReader<R> {
    input: R,
    digest: Digest,
    /// The content of the block that is being read, of which `at` bytes were taken.
    content: Vec<u8>,
    at: usize,
    packed: Vec<u8>,
    /// The offset in the file of what is read next.
    offset: u64,
    is_over: bool,
}

impl<R: Read> BlockReader<R> {
    pub(super) fn new(input: R) -> Result<Self, SavedError> {
        let digest = Digest::new(Crc64Nvme);
        let mut reader =
            Self { input, digest, content: Vec::new(), at: 0, packed: Vec::new(), offset: 0, is_over: false };
        match reader.covered::<8>() {
            Ok(MAGIC) => {}
            Ok(_) | Err(SavedError::Truncated) => return Err(SavedError::NoCatalogue),
            Err(e) => return Err(e),
        }
        match u32::from_le_bytes(reader.covered()?) {
            VERSION => Ok(reader),
            found => Err(SavedError::OtherVersion { found, expected: VERSION }),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, SavedError> {
        if self.at == self.content.len() {
            self.block()?;
        }
        let byte = self.content.get(self.at).copied().ok_or_else(|| self.damaged("a record is cut off"))?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], SavedError> {
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.byte()?;
        }
        Ok(array)
    }

    pub(super) fn number(&mut self) -> Result<u64, SavedError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.damaged("a number of more than 64 bits"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, SavedError> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(super) fn text(&mut self) -> Result<String, SavedError> {
        let len = self.number()?;
        if len > MAX_TEXT_BYTES as u64 {
            return Err(self.damaged("a text of more than 64 KiB"));
        }
        let mut text = Vec::new();
        for _ in 0..len {
            text.push(self.byte()?);
        }
        String::from_utf8(text).map_err(|_| self.damaged("a text that is not UTF-8"))
    }

    /// Reads the last block. Behind it there must be nothing.
    pub(super) fn finish(&mut self) -> Result<(), SavedError> {
        if self.at < self.content.len() {
            return Err(self.damaged("something after the last record"));
        }
        self.block()?;
        if !self.is_over {
            return Err(self.damaged("something after the last record"));
        }
        // Ends: a read of a byte gives one, none, or an error.
        loop {
            return match self.input.read(&mut [0]) {
                Ok(0) => Ok(()),
                Ok(_) => Err(self.damaged("something after the last block")),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => Err(e.into()),
            };
        }
    }

    /// The error for content that cannot be right.
    pub(super) fn damaged(&self, what: &'static str) -> SavedError {
        SavedError::Damaged { what, offset: self.offset }
    }

    /// Reads the next block. Nothing of it is decompressed before its checksum was compared.
    fn block(&mut self) -> Result<(), SavedError> {
        (self.at, self.content) = (0, Vec::new());
        if self.is_over {
            return Err(self.damaged("a record is cut off"));
        }
        let [packed, raw] =
            [self.covered::<4>()?, self.covered::<4>()?].map(|bytes| u32::from_le_bytes(bytes) as usize);
        let checksum = u64::from_le_bytes(self.uncovered()?);
        if raw > BLOCK_BYTES || packed > lz4_flex::block::get_maximum_output_size(BLOCK_BYTES) {
            return Err(self.damaged("a block that is too long"));
        }
        self.packed.clear();
        self.packed.resize(packed, 0);
        self.input.read_exact(&mut self.packed)?;
        self.digest.update(&self.packed);
        if self.digest.finalize() != checksum {
            return Err(self.damaged("a wrong checksum"));
        }
        self.offset += packed as u64;
        if raw == 0 {
            self.is_over = packed == 0;
            return if self.is_over { Ok(()) } else { Err(self.damaged("a block without content")) };
        }
        self.content.resize(raw, 0);
        match lz4_flex::block::decompress_into(&self.packed, &mut self.content) {
            Ok(len) if len == raw => Ok(()),
            _ => Err(self.damaged("a block that cannot be decompressed")),
        }
    }

    fn covered<const N: usize>(&mut self) -> Result<[u8; N], SavedError> {
        let bytes = self.uncovered()?;
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn uncovered<const N: usize>(&mut self) -> Result<[u8; N], SavedError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.offset += N as u64;
        Ok(bytes)
    }
}
