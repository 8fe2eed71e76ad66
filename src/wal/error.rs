//! The errors of an object of Litestream 0.3 that breaks its format. A text names the place and the facts. The caller
//! puts the class of the error and the name of the object before it.

#![allow(missing_docs, reason = "the text in #[error] says what each variant and field is")]

use crate::error::Class;
use std::fmt;
use thiserror::Error;

/// An object, or the WAL inside, that breaks the format. Errors of the LZ4 frame have offsets in the object, errors of
/// the WAL offsets in the WAL of the index (all segments joined).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WalError {
    /// The object has `size` bytes and ends inside `part`.
    #[error(fmt = truncated)]
    Truncated { size: u64, part: &'static str },
    #[error("{} at offset {offset}: {fault}", if .fault.is_of_frame() { "object" } else { "WAL" })]
    Malformed { offset: u64, fault: WalFault },
    /// A stored checksum differs from the computed one. `offset` is the place of the stored checksum in the object; for
    /// a frame of the WAL it is the beginning of the frame. For the salts of a frame, `computed` holds those in the
    /// header of the WAL. Two words of 32 bits are given as one number, the first word in the upper half.
    #[error(fmt = checksum_mismatch)]
    ChecksumMismatch { what: WalChecksum, offset: u64, stored: u64, computed: u64 },
    #[error("the object is encrypted (it begins with age-encryption.org/v1), and cannot be read without its key")]
    Encrypted,
}

/// The kinds of checksums that may not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalChecksum {
    /// The second byte of the xxHash-32 of the LZ4 frame header.
    Lz4Header,
    /// The xxHash-32 of a block as it is stored.
    Lz4Block,
    /// The xxHash-32 of the whole content.
    Lz4Content,
    /// The checksum of the WAL's header.
    Header,
    /// The checksum of a frame, which covers all frames before it.
    Frame,
    /// The two salts of a frame. They must be those of the WAL's header.
    Salts,
}

/// The rule of docs/FORMAT-V3.md that an object breaks. Always inside [`WalError::Malformed`], which adds the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WalFault {
    #[error(fmt = magic)]
    Magic { found: [u8; 4] },
    #[error("LZ4 frame: {0}")]
    Lz4Header(&'static str),
    #[error("LZ4 block of {found} bytes, but this frame's blocks have at most {max}")]
    BlockSize { found: usize, max: usize },
    #[error("LZ4 block: {0}")]
    Lz4Block(&'static str),
    #[error("the content is said to have {stored} bytes, but has {found}")]
    ContentSize { stored: u64, found: u64 },
    #[error("{bytes} bytes follow the LZ4 frame")]
    TrailingBytes { bytes: u64 },
    #[error("begins with {found:08x}, not with 377f0682 or 377f0683")]
    WalMagic { found: u32 },
    #[error("version {found}, but only 3007000 is known")]
    WalVersion { found: u32 },
    #[error("page size {found} is no power of two from 512 to 65536")]
    PageSize { found: u32 },
    #[error("a frame for page 0")]
    PageZero,
    #[error("the segment ends inside the header, after {found} of its {needed} bytes")]
    HalfHeader { found: usize, needed: usize },
    #[error("the segment ends inside a frame, after {found} of its {needed} bytes")]
    HalfFrame { found: usize, needed: usize },
}

impl WalChecksum {
    /// Whether it is a checksum of the LZ4 frame, not of the WAL.
    const fn is_of_frame(self) -> bool {
        matches!(self, Self::Lz4Header | Self::Lz4Block | Self::Lz4Content)
    }

    const fn hex_digits(self) -> usize {
        match self {
            Self::Lz4Header => 2,
            Self::Lz4Block | Self::Lz4Content => 8,
            Self::Header | Self::Frame | Self::Salts => 16,
        }
    }
}

impl fmt::Display for WalChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lz4Header => "checksum of the LZ4 frame header",
            Self::Lz4Block => "checksum of the LZ4 block",
            Self::Lz4Content => "checksum of the content",
            Self::Header => "checksum of the header",
            Self::Frame => "checksum of the frame",
            Self::Salts => "salt pair of the frame",
        })
    }
}

impl WalFault {
    /// Whether it is a rule of the LZ4 frame, not of the WAL.
    const fn is_of_frame(self) -> bool {
        match self {
            Self::Magic { .. }
            | Self::Lz4Header(_)
            | Self::BlockSize { .. }
            | Self::Lz4Block(_)
            | Self::ContentSize { .. }
            | Self::TrailingBytes { .. } => true,
            Self::WalMagic { .. }
            | Self::WalVersion { .. }
            | Self::PageSize { .. }
            | Self::PageZero
            | Self::HalfHeader { .. }
            | Self::HalfFrame { .. } => false,
        }
    }
}

impl WalError {
    /// The class that the error log names.
    pub const fn class(&self) -> Class {
        match self {
            Self::Truncated { .. } => Class::Truncated,
            Self::Malformed { .. } => Class::Malformed,
            Self::ChecksumMismatch { .. } => Class::ChecksumMismatch,
            Self::Encrypted => Class::Encrypted,
        }
    }

    /// Whether bits that were changed on the way from the bucket can be the cause, so that the object should be fetched
    /// once more. This is so for everything that the LZ4 frame shows. An error of the WAL inside a frame with a content
    /// checksum was there before the object was written. This holds only once the whole object was decoded and checked;
    /// before that, any error can come from the way.
    pub const fn is_transport(&self) -> bool {
        match self {
            Self::Truncated { .. } => true,
            Self::Malformed { fault, .. } => fault.is_of_frame(),
            Self::ChecksumMismatch { what, .. } => what.is_of_frame(),
            Self::Encrypted => false,
        }
    }
}

fn truncated(size: &u64, part: &&'static str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match size {
        0 => f.write_str("the object is empty"),
        _ => write!(f, "the object ends at byte {size}, in: {part}"),
    }
}

fn magic(found: &[u8; 4], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let what = match u32::from_le_bytes(*found) {
        0x184c_2102 => " (the legacy format of LZ4)",
        0x184d_2a50..=0x184d_2a5f => " (a skippable LZ4 frame)",
        _ => "",
    };
    let found = u32::from_be_bytes(*found);
    write!(f, "begins with {found:08x}{what}, not with an LZ4 frame (04224d18)")
}

fn checksum_mismatch(
    what: &WalChecksum,
    offset: &u64,
    stored: &u64,
    computed: &u64,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let place = if what.is_of_frame() { "object" } else { "WAL" };
    let digits = what.hex_digits();
    let other = if *what == WalChecksum::Salts { "the header of the WAL has" } else { "the data gives" };
    write!(f, "{place} at offset {offset}: the {what} is stored as {stored:0digits$x}, {other} {computed:0digits$x}")
}
