//! The nouns of the format as types that cannot be mistaken for one another.

use std::fmt;

/// Where the min TXID lies.
pub(super) const MIN_TXID_OFFSET: u64 = 16;

/// A transaction ID. Written as 16 lower-case hex digits; 0 means "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Txid(pub u64);

impl Txid {
    /// Exactly 16 lower-case hex digits, as file names hold them.
    pub fn parse_name(text: &[u8]) -> Option<Self> {
        if text.len() != 16 {
            return None;
        }
        let mut value = 0u64;
        for &b in text {
            let digit = match b {
                b'0'..=b'9' => b - b'0',
                b'a'..=b'f' => b - b'a' + 10,
                _ => return None,
            };
            value = value << 4 | u64::from(digit);
        }
        Some(Self(value))
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A page number, from 1. 0 is no page: as a frame's number it ends the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pgno(pub u32);

impl fmt::Display for Pgno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A page size: a power of two from 512 to 65536 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    pub const MIN: u32 = 512;
    pub const MAX: u32 = 65536;

    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes >= Self::MIN && bytes <= Self::MAX && bytes.is_power_of_two() { Some(Self(bytes)) } else { None }
    }

    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    pub const fn get(self) -> u32 {
        self.0
    }

    /// The page that SQLite locks on, at 1 GiB: never stored, a page of zeros in the database.
    pub const fn lock_page(self) -> Pgno {
        Pgno(0x4000_0000 / self.0 + 1)
    }

    /// Where page `pgno` (from 1) begins in the database file.
    pub const fn offset_of(self, pgno: Pgno) -> u64 {
        (pgno.0 as u64 - 1) * self.0 as u64
    }
}

/// A compaction level, 0 … 9; 9 is the snapshot level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    pub const SNAPSHOT: Self = Self(9);

    pub const fn new(level: u8) -> Option<Self> {
        if level <= 9 { Some(Self(level)) } else { None }
    }

    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
