//! The basic values of the format (transaction IDs, page numbers, page sizes, levels), each with a type of its own
//! so that they cannot be confused.

use std::fmt;

/// The offset of the min TXID in the header, in bytes.
pub(super) const MIN_TXID_OFFSET: u64 = 16;

/// A transaction ID (TXID). It is printed as 16 lower-case hexadecimal digits. 0 means "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Txid(pub u64);

impl Txid {
    /// Parses exactly 16 lower-case hexadecimal digits, the form in file names. Returns None for any other text.
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

/// A page number. Pages count from 1. In a file, the number 0 marks the end of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pgno(pub u32);

impl fmt::Display for Pgno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A page size in bytes: a power of two from 512 to 65536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// The smallest page size in bytes.
    pub const MIN: u32 = 512;
    /// The largest page size in bytes.
    pub const MAX: u32 = 65536;

    /// The smallest page size.
    pub const SMALLEST: Self = Self(Self::MIN);

    /// The page size of `bytes` bytes. None if SQLite does not allow this size.
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes >= Self::MIN && bytes <= Self::MAX && bytes.is_power_of_two() { Some(Self(bytes)) } else { None }
    }

    /// The page size in bytes, as usize.
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// The page size in bytes, as u32.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number of the page at offset 1 GiB, whose bytes SQLite uses for locks. LTX files never store it. In the
    /// database it is a page of zeros.
    pub const fn lock_page(self) -> Pgno {
        Pgno(0x4000_0000 / self.0 + 1)
    }

    /// The offset of page `pgno` (from 1) in the database file, in bytes.
    pub const fn offset_of(self, pgno: Pgno) -> u64 {
        (pgno.0 as u64 - 1) * self.0 as u64
    }
}

/// A compaction level, 0 to 9. Level 9 holds snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// The compaction level that holds snapshots, 9.
    pub const SNAPSHOT: Self = Self(9);
    /// The level whose files hold one transaction each, 0.
    pub const TRANSACTIONS: Self = Self(0);

    /// The compaction level with this number. None if the number is above 9.
    pub const fn new(level: u8) -> Option<Self> {
        if level <= 9 { Some(Self(level)) } else { None }
    }

    /// The number of the level, 0 to 9.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
