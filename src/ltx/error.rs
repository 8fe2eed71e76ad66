//! What can be wrong with an LTX file. Texts name the place and the facts; the caller adds the
//! object's name and the class's first words.

use super::{Pgno, Txid};
use crate::error::Class;
use std::fmt;

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Header,
    /// The run of frames, where no page number is known yet.
    Pages,
    Page(Pgno),
    Index,
    Trailer,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Pages => f.write_str("page frames"),
            Self::Page(pgno) => write!(f, "page {pgno}"),
            Self::Index => f.write_str("page index"),
            Self::Trailer => f.write_str("trailer"),
        }
    }
}

/// Which of the checksums disagrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// The CRC-64 in the trailer, over the whole file.
    File,
    /// The post-apply checksum in the trailer of a snapshot that tracks checksums. It must equal the one
    /// computed over all pages of the snapshot.
    Database,
    /// An xxHash-32 inside a page's LZ4 frame.
    Lz4,
}

/// An LTX file that breaks the format. Offsets count from the start of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatError {
    /// The file has `size` bytes and ends inside `part`, which needs the file to have at least
    /// `needed`.
    Truncated {
        part: Part,
        size: u64,
        needed: u64,
    },
    Malformed {
        part: Part,
        offset: u64,
        fault: Fault,
    },
    ChecksumMismatch {
        what: Checksum,
        part: Part,
        /// Of the stored checksum; for `Lz4` of the frame.
        offset: u64,
        stored: u64,
        computed: u64,
    },
    /// The name and the header say other TXIDs: (min, max) of each.
    NameDisagrees {
        name: (Txid, Txid),
        header: (Txid, Txid),
    },
}

/// What rule of docs/FORMAT.md is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Magic {
        found: u32,
    },
    HeaderFlags {
        found: u32,
    },
    PageSize {
        found: u32,
    },
    MinTxidZero,
    TxidsReversed {
        min: Txid,
        max: Txid,
    },
    PreApply {
        found: u64,
        rule: &'static str,
    },
    Padding {
        found: u8,
    },
    FrameFlags {
        found: u16,
    },
    EndMark {
        found: u16,
    },
    PageOrder {
        after: Pgno,
    },
    LockPage,
    FrameSize {
        found: u64,
        max: u64,
    },
    Lz4Header(&'static str),
    Lz4Block(&'static str),
    PageLength {
        expected: u64,
        found: u64,
    },
    Varint,
    IndexPgno {
        found: u64,
    },
    IndexOrder {
        after: Pgno,
        found: Pgno,
    },
    IndexOffset {
        pgno: Pgno,
        expected: u64,
        found: u64,
    },
    IndexFrameSize {
        pgno: Pgno,
        found: u64,
        max: u64,
    },
    IndexEnd {
        frames_end: u64,
        expected: u64,
    },
    IndexSize {
        expected: u64,
        found: u64,
    },
    /// As `IndexSize`, where only the file's size bounds it.
    IndexSizeBeyondFile {
        found: u64,
        max: u64,
    },
    IndexDisagrees,
    /// The frames of a segment do not end where the index says.
    SegmentEnd {
        expected: u64,
        found: u64,
    },
    /// Of a snapshot: `None` is the end of the pages.
    SnapshotPage {
        expected: Option<Pgno>,
        found: Option<Pgno>,
    },
    PostApply {
        found: u64,
        rule: &'static str,
    },
    TrailingBytes {
        bytes: u64,
    },
}

impl FormatError {
    pub const fn class(&self) -> Class {
        match self {
            Self::Truncated { .. } => Class::Truncated,
            Self::Malformed { .. } => Class::Malformed,
            Self::ChecksumMismatch { .. } => Class::ChecksumMismatch,
            Self::NameDisagrees { .. } => Class::NameAndHeaderDisagree,
        }
    }

    /// Where in the file the fault lies, in bytes from its start.
    pub const fn offset(&self) -> u64 {
        match self {
            Self::Truncated { size, .. } => *size,
            Self::Malformed { offset, .. } | Self::ChecksumMismatch { offset, .. } => *offset,
            Self::NameDisagrees { .. } => super::types::MIN_TXID_OFFSET,
        }
    }
}

impl std::error::Error for FormatError {}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { size: 0, .. } => f.write_str("the file is empty"),
            Self::Truncated { part, size, needed } => {
                write!(f, "the file ends at byte {size}, in: {part}; it needs at least {needed} bytes")
            }
            Self::Malformed { part, offset, fault } => write!(f, "{part} at offset {offset}: {fault}"),
            Self::ChecksumMismatch { what, part, offset, stored, computed } => {
                let (what, digits) = match what {
                    Checksum::File => ("file checksum", 16),
                    Checksum::Database => ("database checksum", 16),
                    Checksum::Lz4 => ("LZ4 checksum", 8),
                };
                write!(f, "{part} at offset {offset}: the {what} is stored as {stored:0digits$x}, ")?;
                write!(f, "the data gives {computed:0digits$x}")
            }
            Self::NameDisagrees { name, header } => {
                write!(f, "the name says TXIDs {}-{}, the header {}-{}", name.0, name.1, header.0, header.1)
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic { found } => write!(f, "begins with {found:08x}, not with LTX1 (4c545831)"),
            Self::HeaderFlags { found } => write!(f, "unknown flags {found:#010x}"),
            Self::PageSize { found } => write!(f, "page size {found} is no power of two from 512 to 65536"),
            Self::MinTxidZero => f.write_str("min TXID is 0"),
            Self::TxidsReversed { min, max } => write!(f, "min TXID {min} is after max TXID {max}"),
            Self::PreApply { found, rule } => write!(f, "pre-apply checksum {found:016x} {rule}"),
            Self::Padding { found } => write!(f, "padding holds {found:#04x}, not zero"),
            // A 4-byte page header is followed at once by the magic of an LZ4 frame, 04 22 4d 18.
            Self::FrameFlags { found: 0x0422 } => {
                f.write_str("no page flags: written by a prerelease of Litestream 0.5, which cannot be read")
            }
            Self::FrameFlags { found } => write!(f, "unknown page flags {found:#06x}"),
            Self::EndMark { found } => {
                write!(f, "page number 0 with flags {found:#06x}, which is neither page nor end")
            }
            Self::PageOrder { after } => write!(f, "comes after page {after}, but numbers must ascend"),
            Self::LockPage => f.write_str("is the lock page, which must not be stored"),
            Self::FrameSize { found, max } => {
                write!(f, "compressed size {found} is more than {max}, the most a page can take")
            }
            Self::Lz4Header(what) => write!(f, "LZ4 frame: {what}"),
            Self::Lz4Block(what) => write!(f, "LZ4 block: {what}"),
            Self::PageLength { expected, found } => write!(f, "decodes to {found} bytes, a page has {expected}"),
            Self::Varint => f.write_str("a number is longer than 64 bits"),
            Self::IndexPgno { found } => write!(f, "page number {found} is out of range"),
            Self::IndexOrder { after, found } => {
                write!(f, "page {found} comes after page {after}, but numbers must ascend")
            }
            Self::IndexOffset { pgno, expected, found } => {
                write!(f, "page {pgno} is said to lie at offset {found}, but the frame before it ends at {expected}")
            }
            Self::IndexFrameSize { pgno, found, max } => {
                write!(f, "page {pgno} is said to take {found} bytes, outside 7 to {max}")
            }
            Self::IndexEnd { frames_end, expected } => {
                write!(
                    f,
                    "the frames are said to end at offset {frames_end}, but the index needs that to be {expected}"
                )
            }
            Self::IndexSize { expected, found } => write!(f, "its size is stored as {found}, but should be {expected}"),
            Self::IndexSizeBeyondFile { found, max } => {
                write!(f, "its size is stored as {found}, but the file has room for 1 to {max}")
            }
            Self::IndexDisagrees => f.write_str("does not agree with the frames"),
            Self::SegmentEnd { expected, found } => {
                write!(f, "a frame should end at offset {expected} by the index, but one ends at {found}")
            }
            Self::SnapshotPage { expected, found } => match (expected, found) {
                (Some(expected), Some(found)) => {
                    write!(f, "a snapshot must hold page {expected} next, found page {found}")
                }
                (Some(expected), None) => {
                    write!(f, "a snapshot must hold page {expected} next, found the end of pages")
                }
                (None, Some(found)) => write!(f, "page {found} of a snapshot lies beyond the database's end"),
                (None, None) => f.write_str("the end of pages"),
            },
            Self::PostApply { found, rule } => write!(f, "post-apply checksum {found:016x} {rule}"),
            Self::TrailingBytes { bytes } => write!(f, "{bytes} bytes follow the end of the file"),
        }
    }
}
