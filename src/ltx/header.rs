//! The first 100 bytes of a file (docs/FORMAT.md, "LTX header"). A parsed header has passed every
//! rule that can be checked without the rest of the file; a header built by hand has not.

use super::error::{Fault, FormatError, Part};
use super::types::MIN_TXID_OFFSET;
use super::{PageSize, Txid};
use crate::timestamp::Timestamp;

/// Bytes of the header; the first frame begins here.
pub const HEADER_SIZE: usize = 100;
/// "LTX1".
const MAGIC: u32 = 0x4c54_5831;
/// The only defined flag: the file does not track checksums of the database.
pub const FLAG_NO_CHECKSUM: u32 = 0x2;
/// Set in every checksum that is present.
pub(super) const CHECKSUM_BIT: u64 = 1 << 63;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub flags: u32,
    pub page_size: PageSize,
    /// Size of the database in pages after this file.
    pub commit: u32,
    pub min_txid: Txid,
    pub max_txid: Txid,
    /// Milliseconds since the Unix epoch; any value is legal.
    pub timestamp_ms: i64,
    pub pre_apply_checksum: u64,
    pub wal_offset: i64,
    pub wal_size: i64,
    pub wal_salt1: u32,
    pub wal_salt2: u32,
    pub node_id: u64,
}

impl Header {
    /// Parses the first [`HEADER_SIZE`] bytes; what follows them is ignored.
    ///
    /// Errors: truncated when there are fewer, malformed when they break a rule of docs/FORMAT.md,
    /// "LTX header".
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let Some(mut rest) = bytes.get(..HEADER_SIZE) else {
            let (size, needed) = (bytes.len() as u64, HEADER_SIZE as u64);
            return Err(FormatError::Truncated { part: Part::Header, size, needed });
        };
        let rest = &mut rest;
        let magic = u32::from_be_bytes(take(rest));
        if magic != MAGIC {
            return Err(malformed(0, Fault::Magic { found: magic }));
        }
        let flags = u32::from_be_bytes(take(rest));
        if flags & !FLAG_NO_CHECKSUM != 0 {
            return Err(malformed(4, Fault::HeaderFlags { found: flags }));
        }
        let page_size = u32::from_be_bytes(take(rest));
        let page_size = PageSize::new(page_size).ok_or(malformed(8, Fault::PageSize { found: page_size }))?;
        let header = Self {
            flags,
            page_size,
            commit: u32::from_be_bytes(take(rest)),
            min_txid: Txid(u64::from_be_bytes(take(rest))),
            max_txid: Txid(u64::from_be_bytes(take(rest))),
            timestamp_ms: i64::from_be_bytes(take(rest)),
            pre_apply_checksum: u64::from_be_bytes(take(rest)),
            wal_offset: i64::from_be_bytes(take(rest)),
            wal_size: i64::from_be_bytes(take(rest)),
            wal_salt1: u32::from_be_bytes(take(rest)),
            wal_salt2: u32::from_be_bytes(take(rest)),
            node_id: u64::from_be_bytes(take(rest)),
        };
        header.check()?;
        for (i, &byte) in rest.iter().enumerate() {
            if byte != 0 {
                return Err(malformed((HEADER_SIZE - rest.len() + i) as u64, Fault::Padding { found: byte }));
            }
        }
        Ok(header)
    }

    fn check(&self) -> Result<(), FormatError> {
        if self.min_txid.0 == 0 {
            return Err(malformed(MIN_TXID_OFFSET, Fault::MinTxidZero));
        }
        if self.min_txid > self.max_txid {
            let (min, max) = (self.min_txid, self.max_txid);
            return Err(malformed(MIN_TXID_OFFSET, Fault::TxidsReversed { min, max }));
        }
        let found = self.pre_apply_checksum;
        let broken = if self.is_snapshot() {
            (found != 0).then_some("must be 0 in a snapshot")
        } else if !self.is_tracked() {
            (found != 0).then_some("must be 0 in a file that does not track checksums")
        } else {
            (found & CHECKSUM_BIT == 0).then_some("lacks its top bit")
        };
        match broken {
            Some(rule) => Err(malformed(40, Fault::PreApply { found, rule })),
            None => Ok(()),
        }
    }

    /// The bytes that [`Header::parse`] reads.
    #[expect(clippy::indexing_slicing, reason = "the fields add up to HEADER_SIZE")]
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC.to_be_bytes());
        put(&self.flags.to_be_bytes());
        put(&self.page_size.get().to_be_bytes());
        put(&self.commit.to_be_bytes());
        put(&self.min_txid.0.to_be_bytes());
        put(&self.max_txid.0.to_be_bytes());
        put(&self.timestamp_ms.to_be_bytes());
        put(&self.pre_apply_checksum.to_be_bytes());
        put(&self.wal_offset.to_be_bytes());
        put(&self.wal_size.to_be_bytes());
        put(&self.wal_salt1.to_be_bytes());
        put(&self.wal_salt2.to_be_bytes());
        put(&self.node_id.to_be_bytes());
        out
    }

    /// Whether the file holds every page of the database, whatever its level.
    pub const fn is_snapshot(&self) -> bool {
        self.min_txid.0 == 1
    }

    /// Whether the file tracks checksums of the database.
    pub const fn is_tracked(&self) -> bool {
        self.flags & FLAG_NO_CHECKSUM == 0
    }

    pub const fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.timestamp_ms)
    }
}

const fn malformed(offset: u64, fault: Fault) -> FormatError {
    FormatError::Malformed { part: Part::Header, offset, fault }
}

/// Splits `N` bytes off the front; zeros where they are missing, which the caller has excluded.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    match bytes.split_first_chunk() {
        Some((&front, rest)) => {
            *bytes = rest;
            front
        }
        None => [0; N],
    }
}
