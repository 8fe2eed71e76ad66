//! Writes LZ4 frames as Litestream 0.3 writes them: independent blocks of 4 MiB and a checksum of the content
//! (docs/FORMAT-V3.md, "LZ4").

use std::hash::Hasher;
use std::io::{self, Write};
use twox_hash::XxHash32;

/// Flags (version 1, independent blocks, content checksum) and the code of blocks of 4 MiB.
const DESCRIPTOR: [u8; 2] = [0x64, 0x70];
const BLOCK_BYTES: usize = 4 << 20;
/// The bit of a block's size that marks a block which is stored as it is.
const RAW: u32 = 1 << 31;

/// Packs a snapshot or a piece of WAL as Litestream 0.3 stores it: as one LZ4 frame.
pub fn pack(content: &[u8]) -> Vec<u8> {
    let mut frame = header().to_vec();
    for block in content.chunks(BLOCK_BYTES) {
        push_block(&mut frame, block);
    }
    frame.extend([0; 4]);
    frame.extend(XxHash32::oneshot(0, content).to_le_bytes());
    frame
}

fn header() -> [u8; 7] {
    let checksum = (XxHash32::oneshot(0, &DESCRIPTOR) >> 8) as u8;
    [0x04, 0x22, 0x4d, 0x18, DESCRIPTOR[0], DESCRIPTOR[1], checksum]
}

fn push_block(frame: &mut Vec<u8>, block: &[u8]) {
    let packed = lz4_flex::block::compress(block);
    let (size, stored) = match packed.len() < block.len() {
        true => (packed.len() as u32, &packed[..]),
        false => (block.len() as u32 | RAW, block),
    };
    frame.extend(size.to_le_bytes());
    frame.extend_from_slice(stored);
}

/// Packs content that arrives in pieces, and writes the frame block by block.
pub(super) struct FrameWriter<W> {
    out: W,
    block: Vec<u8>,
    hash: XxHash32,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn begin(mut out: W) -> io::Result<Self> {
        out.write_all(&header())?;
        Ok(Self { out, block: Vec::with_capacity(BLOCK_BYTES), hash: XxHash32::with_seed(0) })
    }

    pub(super) fn push(&mut self, mut content: &[u8]) -> io::Result<()> {
        self.hash.write(content);
        while !content.is_empty() {
            let (now, later) = content.split_at(content.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            if self.block.len() == BLOCK_BYTES {
                self.write_block()?;
            }
            content = later;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        self.out.write_all(&[0; 4])?;
        self.out.write_all(&self.hash.finish_32().to_le_bytes())?;
        Ok(self.out)
    }

    fn write_block(&mut self) -> io::Result<()> {
        let mut stored = Vec::new();
        push_block(&mut stored, &self.block);
        self.block.clear();
        self.out.write_all(&stored)
    }
}
