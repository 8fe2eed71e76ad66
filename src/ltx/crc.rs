//! CRC-64/GO-ISO and the checksums that are made of it: the checksum of a file, of a page and of a database
//! (docs/FORMAT.md, "Trailer and checksums").
//!
//! The crate crc-fast computes the CRC of long inputs. Each page frame has a head of 6 or 10 bytes, for which one
//! call of crc-fast would take longer than the CRC itself. Inputs of up to 64 bytes are therefore computed here. So
//! is the combination of the CRCs of two consecutive ranges.

use super::Pgno;
use super::header::CHECKSUM_BIT;
use crc_fast::CrcAlgorithm::Crc64GoIso;
use crc_fast::Digest;

/// The input length in bytes up to which computing eight bytes at a time here is faster than calling crc-fast
/// (measured by benches/ltx.rs).
const SHORT: usize = 64;

/// The running CRC of one range of a file. Ranges may be computed in any order and are then appended in the order
/// of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCrc {
    /// The CRC register, bit-reflected: bit 63 is the coefficient of x^0.
    state: u64,
    /// The number of bytes in the range so far.
    len: u64,
}

impl FileCrc {
    /// The CRC of an empty range.
    pub const fn new() -> Self {
        Self { state: u64::MAX, len: 0 }
    }

    /// Extends the range by `bytes`.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        self.state = if bytes.len() <= SHORT { fold(self.state, bytes) } else { long(self.state, bytes) };
        self.len += bytes.len() as u64;
    }

    /// The number of bytes in the range so far.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the range of which this is the CRC has no bytes yet.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `later`, the CRC of the range that follows in the file. The result is the CRC of both ranges. Takes
    /// a few microseconds, whatever the lengths.
    pub fn append(&mut self, later: &Self) {
        // `later` began with a register of all ones instead of this range's register. CRCs are linear, so the
        // difference of the two registers is multiplied by x^(8·length of `later`) and added.
        self.state = times(self.state ^ u64::MAX, x_to_the_8(later.len)) ^ later.state;
        self.len += later.len;
    }

    /// The checksum in the form in which LTX files store it, with bit 63 set.
    pub const fn finish(&self) -> u64 {
        !self.state | CHECKSUM_BIT
    }
}

impl Default for FileCrc {
    fn default() -> Self {
        Self::new()
    }
}

/// The checksum of one page in a file that tracks checksums. It covers the page number and the bytes of the page.
/// Bit 63 is set.
pub fn page_checksum(pgno: Pgno, page: &[u8]) -> u64 {
    let mut crc = FileCrc::new();
    crc.update(&pgno.0.to_be_bytes());
    crc.update(page);
    crc.finish()
}

/// The checksum of a database: the XOR of the checksums of its pages, with bit 63 set. Pages may be added in any
/// order. The caller must leave out the lock page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatabaseChecksum(u64);

impl DatabaseChecksum {
    /// Adds page number `pgno` with the content `page` to the database's checksum.
    pub fn add(&mut self, pgno: Pgno, page: &[u8]) {
        self.0 ^= page_checksum(pgno, page);
    }

    /// Adds the pages that were added to `other`, which must be different pages of the same database.
    pub fn join(&mut self, other: Self) {
        self.0 ^= other.0;
    }

    /// The checksum in the form in which LTX files store it, with bit 63 set.
    pub const fn finish(self) -> u64 {
        self.0 | CHECKSUM_BIT
    }
}

#[inline(never)]
fn long(state: u64, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new_with_init_state(Crc64GoIso, state);
    digest.update(bytes);
    digest.get_state()
}

/// Reduces the bits that were shifted out of the register, modulo the polynomial of the CRC. Because x^64 ≡ x^4 +
/// x^3 + x + 1, each of these bits comes back at four places.
#[inline]
const fn back(t: u64) -> u64 {
    t ^ t >> 1 ^ t >> 3 ^ t >> 4
}

/// Computes `t`·x^64, for a `t` of which [`back`] alone would shift bits out of the register once more.
#[inline]
const fn back_twice(t: u64) -> u64 {
    back(t) ^ back(t << 63 ^ t << 61 ^ t << 60)
}

#[inline]
fn fold(mut state: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = back_twice(state ^ u64::from_le_bytes(*word));
    }
    let (halves, rest) = rest.as_chunks::<2>();
    for half in halves {
        let out = (state ^ u64::from(u16::from_le_bytes(*half))) << 48;
        state = state >> 16 ^ back(out);
    }
    for byte in rest {
        let out = (state ^ u64::from(*byte)) << 56;
        state = state >> 8 ^ back(out);
    }
    state
}

/// The product of two polynomials modulo the CRC's polynomial. Both are bit-reflected.
fn times(a: u64, b: u64) -> u64 {
    // Horner's rule: it begins with the highest power of `b`, which is the lowest bit.
    let mut product = 0u64;
    for power in 0..64 {
        product = product >> 1 ^ back((product & 1) << 63);
        product ^= a & (b >> power & 1).wrapping_neg();
    }
    product
}

/// Computes x^(8·`bytes`) modulo the CRC's polynomial, which stands for appending `bytes` bytes.
fn x_to_the_8(mut bytes: u64) -> u64 {
    let mut square = 1u64 << (63 - 8);
    let mut power = 1u64 << 63;
    while bytes != 0 {
        if bytes & 1 == 1 {
            power = times(power, square);
        }
        square = times(square, square);
        bytes >>= 1;
    }
    power
}
