//! The header, which is the first 100 bytes of a file (docs/FORMAT.md, "LTX header"). A header that was parsed has
//! passed every check that is possible without the rest of the file. A header that was built by a caller has not.

use super::error::{Fault, FormatError, Part};
use super::types::MIN_TXID_OFFSET;
use super::{PageSize, Txid};
use crate::timestamp::Timestamp;

/// The length of the header in bytes. The first page frame begins at this offset.
pub const HEADER_SIZE: usize = 100;
/// The magic number at the beginning of each file, `LTX1` in ASCII.
const MAGIC: u32 = 0x4c54_5831;
/// The only defined flag: the file does not track checksums of the database.
pub const FLAG_NO_CHECKSUM: u32 = 0x2;
/// The bit that is set in every checksum, so that a checksum is never 0. 0 means that there is none.
pub(super) const CHECKSUM_BIT: u64 = 1 << 63;

/// The fields of an LTX file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The flags: 0 or [`FLAG_NO_CHECKSUM`].
    pub flags: u32,
    /// The page size of the database in bytes.
    pub page_size: PageSize,
    /// The size of the database in pages after this file was applied.
    pub commit: u32,
    /// The first transaction in the file.
    pub min_txid: Txid,
    /// The last transaction in the file.
    pub max_txid: Txid,
    /// The time of the last transaction, in milliseconds since the Unix epoch. Any value is legal.
    pub timestamp_ms: i64,
    /// The checksum of the database before this file. 0 in a snapshot and in a file that does not track checksums.
    pub pre_apply_checksum: u64,
    /// The offset of these changes in the SQLite WAL, in bytes. A restore ignores the WAL fields.
    pub wal_offset: i64,
    /// The length of these changes in the SQLite WAL, in bytes.
    pub wal_size: i64,
    /// The first salt in the header of the SQLite WAL from which the file was made.
    pub wal_salt1: u32,
    /// The second salt in the header of that WAL.
    pub wal_salt2: u32,
    /// The node that wrote the file (used by LiteFS). A restore ignores it.
    pub node_id: u64,
}

impl Header {
    /// Parses the first [`HEADER_SIZE`] bytes of `bytes` and ignores the rest.
    ///
    /// # Errors
    ///
    /// Truncated if there are fewer bytes, malformed if they break a rule of docs/FORMAT.md, "LTX header".
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

    /// The size in bytes of the database after this file was applied.
    pub fn database_bytes(&self) -> u64 {
        u64::from(self.commit) * u64::from(self.page_size.get())
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

    /// Encodes the header into the bytes that [`Header::parse`] reads.
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

    /// Whether the file is a snapshot, which holds every page of the database. That depends on the min TXID, not on
    /// the level.
    pub const fn is_snapshot(&self) -> bool {
        self.min_txid.0 == 1
    }

    /// Whether the file tracks checksums of the database.
    pub const fn is_tracked(&self) -> bool {
        self.flags & FLAG_NO_CHECKSUM == 0
    }

    /// The time of the file's last transaction.
    pub const fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.timestamp_ms)
    }
}

const fn malformed(offset: u64, fault: Fault) -> FormatError {
    FormatError::Malformed { part: Part::Header, offset, fault }
}

/// Splits `N` bytes off the front of `bytes`. If there are fewer, the result is zeros; callers have checked the
/// length before.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    match bytes.split_first_chunk() {
        Some((&front, rest)) => {
            *bytes = rest;
            front
        }
        None => [0; N],
    }
}
