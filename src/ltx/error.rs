//! The errors of an LTX file that breaks its format. A text names the place in the file and the facts. The caller
//! puts the class of the error and the name of the object before it.

#![allow(missing_docs, reason = "the text in #[error] says what each variant and field is")]

use super::{Pgno, Txid};
use crate::error::Class;
use std::fmt;
use thiserror::Error;

/// A part of an LTX file, which an error names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Header,
    /// The page frames, if the number of the page at fault is not known yet.
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

/// The kinds of checksums that may not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// The CRC-64 in the trailer, which covers the whole file.
    File,
    /// The post-apply checksum in the trailer of a snapshot that tracks checksums. It must equal the one
    /// computed over all pages of the snapshot.
    Database,
    /// An xxHash-32 inside a page's LZ4 frame.
    Lz4,
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file checksum",
            Self::Database => "database checksum",
            Self::Lz4 => "LZ4 checksum",
        })
    }
}

impl Checksum {
    const fn hex_digits(self) -> usize {
        match self {
            Self::File | Self::Database => 16,
            Self::Lz4 => 8,
        }
    }
}

/// An LTX file that breaks the format. Offsets count from the start of the file. All decoders and parsers of this
/// module return it, at the first byte that is wrong or missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FormatError {
    /// The file ends too early: it has `size` bytes and ends inside `part`, for which it would have to have at least
    /// `needed` bytes.
    #[error(fmt = truncated)]
    Truncated { part: Part, size: u64, needed: u64 },
    #[error("{part} at offset {offset}: {fault}")]
    Malformed { part: Part, offset: u64, fault: Fault },
    /// A stored checksum differs from the computed one. `offset` is the place of the stored checksum in the file; for
    /// an `Lz4` checksum it is the beginning of the page's frame.
    #[error(
        "{part} at offset {offset}: the {what} is stored as {stored:0digits$x}, the data gives {computed:0digits$x}",
        digits = .what.hex_digits()
    )]
    ChecksumMismatch { what: Checksum, part: Part, offset: u64, stored: u64, computed: u64 },
    /// The TXIDs in the file's name differ from those in its header. Both are given as (min, max).
    #[error("the name says TXIDs {}-{}, the header {}-{}", .name.0, .name.1, .header.0, .header.1)]
    NameDisagrees { name: (Txid, Txid), header: (Txid, Txid) },
}

/// The rule of docs/FORMAT.md that a file breaks. Always inside [`FormatError::Malformed`], which adds the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("begins with {found:08x}, not with LTX1 (4c545831)")]
    Magic { found: u32 },
    #[error("unknown flags {found:#010x}")]
    HeaderFlags { found: u32 },
    #[error("page size {found} is no power of two from 512 to 65536")]
    PageSize { found: u32 },
    #[error("min TXID is 0")]
    MinTxidZero,
    #[error("min TXID {min} is after max TXID {max}")]
    TxidsReversed { min: Txid, max: Txid },
    #[error("pre-apply checksum {found:016x} {rule}")]
    PreApply { found: u64, rule: &'static str },
    #[error("padding holds {found:#04x}, not zero")]
    Padding { found: u8 },
    #[error(fmt = frame_flags)]
    FrameFlags { found: u16 },
    #[error("page number 0 with flags {found:#06x}, which is neither page nor end")]
    EndMark { found: u16 },
    #[error("comes after page {after}, but numbers must ascend")]
    PageOrder { after: Pgno },
    #[error("is the lock page, which must not be stored")]
    LockPage,
    #[error("compressed size {found} is more than {max}, the most a page can take")]
    FrameSize { found: u64, max: u64 },
    #[error("LZ4 frame: {0}")]
    Lz4Header(&'static str),
    #[error("LZ4 block: {0}")]
    Lz4Block(&'static str),
    #[error("decodes to {found} bytes, a page has {expected}")]
    PageLength { expected: u64, found: u64 },
    #[error("a number is longer than 64 bits")]
    Varint,
    #[error("page number {found} is out of range")]
    IndexPgno { found: u64 },
    #[error("page {found} comes after page {after}, but numbers must ascend")]
    IndexOrder { after: Pgno, found: Pgno },
    #[error("page {pgno} is said to lie at offset {found}, but the frame before it ends at {expected}")]
    IndexOffset { pgno: Pgno, expected: u64, found: u64 },
    #[error("page {pgno} is said to take {found} bytes, outside 7 to {max}")]
    IndexFrameSize { pgno: Pgno, found: u64, max: u64 },
    #[error("the frames are said to end at offset {frames_end}, but the index needs that to be {expected}")]
    IndexEnd { frames_end: u64, expected: u64 },
    #[error("its size is stored as {found}, but should be {expected}")]
    IndexSize { expected: u64, found: u64 },
    /// The stored size of the page index is 0 or larger than the file has room for.
    #[error("its size is stored as {found}, but the file has room for 1 to {max}")]
    IndexSizeBeyondFile { found: u64, max: u64 },
    #[error("does not agree with the frames")]
    IndexDisagrees,
    /// The page frames of a segment (a part of a large file) do not end at the offset that the page index gives.
    #[error("a frame should end at offset {expected} by the index, but one ends at {found}")]
    SegmentEnd { expected: u64, found: u64 },
    /// A snapshot lacks a page or has one too many. `None` stands for the end of the pages.
    #[error(fmt = snapshot_page)]
    SnapshotPage { expected: Option<Pgno>, found: Option<Pgno> },
    #[error("post-apply checksum {found:016x} {rule}")]
    PostApply { found: u64, rule: &'static str },
    #[error("{bytes} bytes follow the end of the file")]
    TrailingBytes { bytes: u64 },
}

impl FormatError {
    /// The class that the error log names.
    pub const fn class(&self) -> Class {
        match self {
            Self::Truncated { .. } => Class::Truncated,
            Self::Malformed { .. } => Class::Malformed,
            Self::ChecksumMismatch { .. } => Class::ChecksumMismatch,
            Self::NameDisagrees { .. } => Class::NameAndHeaderDisagree,
        }
    }

    /// The place of the error in the file, in bytes from its start.
    pub const fn offset(&self) -> u64 {
        match self {
            Self::Truncated { size, .. } => *size,
            Self::Malformed { offset, .. } | Self::ChecksumMismatch { offset, .. } => *offset,
            Self::NameDisagrees { .. } => super::types::MIN_TXID_OFFSET,
        }
    }
}

fn truncated(part: &Part, size: &u64, needed: &u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match size {
        0 => f.write_str("the file is empty"),
        _ => write!(f, "the file ends at byte {size}, in: {part}; it needs at least {needed} bytes"),
    }
}

fn frame_flags(found: &u16, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match found {
        // Prereleases wrote a page header of 4 bytes without flags. The first two bytes of the LZ4 frame behind it,
        // 04 22, are then read as the flags.
        0x0422 => f.write_str("no page flags: written by a prerelease of Litestream 0.5, which cannot be read"),
        _ => write!(f, "unknown page flags {found:#06x}"),
    }
}

fn snapshot_page(expected: &Option<Pgno>, found: &Option<Pgno>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match (expected, found) {
        (Some(expected), Some(found)) => write!(f, "a snapshot must hold page {expected} next, found page {found}"),
        (Some(expected), None) => write!(f, "a snapshot must hold page {expected} next, found the end of pages"),
        (None, Some(found)) => write!(f, "page {found} of a snapshot lies beyond the database's end"),
        (None, None) => f.write_str("the end of pages"),
    }
}
