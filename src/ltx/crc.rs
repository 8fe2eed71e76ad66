//! CRC-64/GO-ISO (docs/FORMAT.md, "Trailer and checksums"): the file checksum, the page checksums
//! of tracked files, and their sums. Long runs go through crc-fast; the 6- and 10-byte heads of
//! frames would spend most of their time in its call, so they are folded here, and so is the
//! combination of ranges.

use super::Pgno;
use super::header::CHECKSUM_BIT;
use crc_fast::CrcAlgorithm::Crc64GoIso;
use crc_fast::Digest;

/// Up to here folding eight bytes at a time beats calling crc-fast (benches/ltx.rs).
const SHORT: usize = 64;

/// The running CRC of a range of a file. Ranges are hashed in any order and appended in the
/// file's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCrc {
    /// The register, bit-reflected: bit 63 is the coefficient of x^0.
    state: u64,
    /// Bytes hashed.
    len: u64,
}

impl FileCrc {
    pub const fn new() -> Self {
        Self { state: u64::MAX, len: 0 }
    }

    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        self.state = if bytes.len() <= SHORT { fold(self.state, bytes) } else { long(self.state, bytes) };
        self.len += bytes.len() as u64;
    }

    /// Bytes hashed so far.
    pub const fn len(&self) -> u64 {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes this the CRC of its own range followed by `later`'s. Takes a few microseconds.
    pub fn append(&mut self, later: &Self) {
        // `later` began with the register all ones; what differs is carried over its length.
        self.state = times(self.state ^ u64::MAX, x_to_the_8(later.len)) ^ later.state;
        self.len += later.len;
    }

    /// The checksum as files store it: bit 63 set.
    pub const fn finish(&self) -> u64 {
        !self.state | CHECKSUM_BIT
    }
}

impl Default for FileCrc {
    fn default() -> Self {
        Self::new()
    }
}

/// The checksum of one page of a tracked file: over its number and its bytes, bit 63 set.
pub fn page_checksum(pgno: Pgno, page: &[u8]) -> u64 {
    let mut crc = FileCrc::new();
    crc.update(&pgno.0.to_be_bytes());
    crc.update(page);
    crc.finish()
}

/// The checksum of a database: the XOR of its pages' checksums, in any order, bit 63 set; the
/// lock page is left out by the caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatabaseChecksum(u64);

impl DatabaseChecksum {
    pub fn add(&mut self, pgno: Pgno, page: &[u8]) {
        self.0 ^= page_checksum(pgno, page);
    }

    /// Joins the sum over other pages of the same database.
    pub fn join(&mut self, other: Self) {
        self.0 ^= other.0;
    }

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

/// x^64 ≡ x^4 + x^3 + x + 1: what leaves the register by the low end (the high powers) comes
/// back at these four places.
#[inline]
const fn back(t: u64) -> u64 {
    t ^ t >> 1 ^ t >> 3 ^ t >> 4
}

/// `t`·x^64, where [`back`] shifts bits out at the low end once more.
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

/// The product of two polynomials modulo the CRC's, both reflected.
fn times(a: u64, b: u64) -> u64 {
    // Horner's rule from b's highest power, which is its lowest bit.
    let mut product = 0u64;
    for power in 0..64 {
        product = product >> 1 ^ back((product & 1) << 63);
        product ^= a & (b >> power & 1).wrapping_neg();
    }
    product
}

/// x^(8·`bytes`) modulo the CRC's polynomial.
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
