//! Writes the WAL of one index (docs/FORMAT-V3.md, "WAL").

use crate::ltx::PageSize;

/// Writes a SQLite WAL with right salts and checksums.
#[derive(Debug, Clone)]
pub struct WalWriter {
    bytes: Vec<u8>,
    page_size: PageSize,
    big_endian: bool,
    salts: [u8; 8],
    sums: (u32, u32),
}

/// The length of the header of a WAL in bytes.
pub(super) const HEADER_BYTES: u64 = 32;
/// The length of a frame's header in bytes.
const FRAME_HEADER_BYTES: u64 = 24;

impl WalWriter {
    /// Begins a WAL with its header. `big_endian` is the byte order of the words that the checksums cover. Other
    /// `salts` give other frames.
    pub fn new(page_size: PageSize, big_endian: bool, salts: u64) -> Self {
        let salts = salts.to_be_bytes();
        let mut bytes = Vec::new();
        bytes.extend((0x377f_0682 + u32::from(big_endian)).to_be_bytes());
        bytes.extend(3_007_000u32.to_be_bytes());
        bytes.extend(page_size.get().to_be_bytes());
        bytes.extend(0u32.to_be_bytes());
        bytes.extend(salts);
        let sums = checksum((0, 0), &bytes, big_endian);
        push_sums(&mut bytes, sums);
        Self { bytes, page_size, big_endian, salts, sums }
    }

    /// Adds a frame. `commit` is the size of the database in pages, or 0 if the transaction goes on. `page` must be
    /// one page long.
    pub fn frame(&mut self, pgno: u32, commit: u32, page: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend(pgno.to_be_bytes());
        self.bytes.extend(commit.to_be_bytes());
        let sums = checksum(self.sums, &self.bytes[start..], self.big_endian);
        self.sums = checksum(sums, page, self.big_endian);
        self.bytes.extend(self.salts);
        push_sums(&mut self.bytes, self.sums);
        self.bytes.extend_from_slice(page);
    }

    /// The header and all frames.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of frames.
    pub fn frames(&self) -> u64 {
        (self.bytes.len() as u64 - HEADER_BYTES) / self.frame_bytes()
    }

    /// The offset in the WAL at which the frame after the first `frames` ones begins.
    pub fn offset(&self, frames: u64) -> u64 {
        HEADER_BYTES + frames * self.frame_bytes()
    }

    /// The page number and the page of a frame, by its number from 0.
    pub(super) fn page(&self, frame: u64) -> Option<(u32, &[u8])> {
        let (head, page) = self.nth(frame)?.split_at(FRAME_HEADER_BYTES as usize);
        Some((big_endian(&head[..4]), page))
    }

    /// The size of the database in pages after a frame, by its number from 0. 0 inside a transaction.
    pub(super) fn commit(&self, frame: u64) -> Option<u32> {
        Some(big_endian(&self.nth(frame)?[4..8]))
    }

    fn nth(&self, frame: u64) -> Option<&[u8]> {
        let start = usize::try_from(self.offset(frame)).ok()?;
        self.bytes.get(start..start + self.frame_bytes() as usize)
    }

    fn frame_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES + u64::from(self.page_size.get())
    }
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

fn push_sums(bytes: &mut Vec<u8>, sums: (u32, u32)) {
    bytes.extend(sums.0.to_be_bytes());
    bytes.extend(sums.1.to_be_bytes());
}

fn checksum(mut sums: (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let mut word = [0; 4];
        word.copy_from_slice(bytes);
        if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    for pair in bytes.chunks_exact(8) {
        sums.0 = sums.0.wrapping_add(word(&pair[..4])).wrapping_add(sums.1);
        sums.1 = sums.1.wrapping_add(word(&pair[4..])).wrapping_add(sums.0);
    }
    sums
}
