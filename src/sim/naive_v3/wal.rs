//! Reads the WAL of one index (docs/FORMAT-V3.md, "WAL").

use super::error::{NaiveV3Error, fail};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// The WAL of one index, all of whose frames are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NaiveWal {
    /// The page size in bytes, from the header.
    pub page_size: u32,
    /// The frames in order: page number, commit (the size of the database in pages, or 0 inside a transaction) and
    /// page.
    pub frames: Vec<(u32, u32, Vec<u8>)>,
}

/// Reads a whole WAL: a header and whole frames. Unlike SQLite it does not end the WAL at a wrong frame: a frame with
/// a wrong salt or checksum is an error.
pub fn read_wal(bytes: &[u8]) -> Result<NaiveWal, NaiveV3Error> {
    let mut reading = Reading::default();
    reading.segment(bytes)?;
    Ok(reading.wal)
}

impl NaiveWal {
    /// The number of frames up to and including the last commit.
    pub(super) fn committed(&self) -> usize {
        self.frames.iter().rposition(|&(_, commit, _)| commit != 0).map_or(0, |last| last + 1)
    }
}

/// The part of a WAL that its segments have given so far.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// The page size is 0 before the header.
    pub wal: NaiveWal,
    /// The number of bytes of the WAL up to here.
    pub position: u64,
    big_endian: bool,
    salts: [u8; 8],
    sums: (u32, u32),
}

impl Default for Reading {
    fn default() -> Self {
        let wal = NaiveWal { page_size: 0, frames: Vec::new() };
        Self { wal, position: 0, big_endian: false, salts: [0; 8], sums: (0, 0) }
    }
}

impl Reading {
    /// Adds the next segment, which must hold whole frames.
    pub(super) fn segment(&mut self, bytes: &[u8]) -> Result<(), NaiveV3Error> {
        let rest = self.whole_frames(bytes)?;
        if rest > 0 || self.wal.page_size == 0 {
            return fail("malformed", format!("the WAL ends inside a header or frame, at {}", self.position + rest));
        }
        Ok(())
    }

    /// Adds the content of a WAL file that grew while it was copied: a part of a frame at its end is dropped.
    pub(super) fn growing(&mut self, bytes: &[u8]) -> Result<(), NaiveV3Error> {
        self.whole_frames(bytes).map(drop)
    }

    pub(super) fn is_inside_transaction(&self) -> bool {
        self.wal.committed() < self.wal.frames.len()
    }

    /// Reads the header, if it is still to come, and all whole frames. Returns the number of bytes left.
    fn whole_frames(&mut self, mut bytes: &[u8]) -> Result<u64, NaiveV3Error> {
        if self.wal.page_size == 0 {
            if bytes.len() < HEADER {
                return Ok(bytes.len() as u64);
            }
            self.header(&bytes[..HEADER])?;
            bytes = &bytes[HEADER..];
        }
        let frame = FRAME_HEADER + self.wal.page_size as usize;
        while bytes.len() >= frame {
            self.frame(&bytes[..frame])?;
            bytes = &bytes[frame..];
        }
        Ok(bytes.len() as u64)
    }

    fn header(&mut self, header: &[u8]) -> Result<(), NaiveV3Error> {
        self.big_endian = match word(header, 0) {
            0x377f_0682 => false,
            0x377f_0683 => true,
            magic => return fail("malformed", format!("magic number {magic:08x} of the WAL")),
        };
        self.sums = checksum((0, 0), &header[..24], self.big_endian);
        if self.sums != (word(header, 24), word(header, 28)) {
            return fail("checksum mismatch", "header of the WAL");
        }
        if word(header, 4) != 3_007_000 {
            return fail("malformed", format!("version {} of the WAL", word(header, 4)));
        }
        let page_size = word(header, 8);
        if !(512..=65536).contains(&page_size) || !page_size.is_power_of_two() {
            return fail("malformed", format!("page size {page_size} of the WAL"));
        }
        self.salts.copy_from_slice(&header[16..24]);
        self.wal.page_size = page_size;
        self.position = HEADER as u64;
        Ok(())
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), NaiveV3Error> {
        let place = format!("frame at {} of the WAL", self.position);
        let (head, page) = frame.split_at(FRAME_HEADER);
        if head[8..16] != self.salts {
            return fail("checksum mismatch", format!("salt of the {place}"));
        }
        let sums = checksum(self.sums, &head[..8], self.big_endian);
        self.sums = checksum(sums, page, self.big_endian);
        if self.sums != (word(head, 16), word(head, 20)) {
            return fail("checksum mismatch", place);
        }
        let pgno = word(head, 0);
        if pgno == 0 {
            return fail("malformed", format!("page number 0 in the {place}"));
        }
        self.wal.frames.push((pgno, word(head, 4), page.to_vec()));
        self.position += frame.len() as u64;
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

/// Continues a checksum over `bytes`, whose length is a multiple of eight.
fn checksum(sums: (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let number = |bytes: &[u8], at: usize| match big_endian {
        true => word(bytes, at),
        false => word(bytes, at).swap_bytes(),
    };
    bytes.chunks_exact(8).fold(sums, |(first, second), pair| {
        let first = first.wrapping_add(number(pair, 0)).wrapping_add(second);
        let second = second.wrapping_add(number(pair, 4)).wrapping_add(first);
        (first, second)
    })
}
