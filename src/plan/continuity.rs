//! Whether the files of a replica still come from one writer (docs/FOLLOW.md, "Another writer").
//!
//! Files of level 0 say which part of the primary's WAL they were made from. One file continues the one before it, or
//! begins a WAL anew. Files of two primaries that write to one replica break that. A file that is replaced after it was
//! applied breaks nothing, so the last [`REMEMBERED`] files are also remembered by ETag and size.

use crate::catalogue::{LtxFile, Replica};
use crate::ltx::header::Header;
use crate::ltx::{Level, Txid};
use crate::store::Etag;
use std::collections::BTreeMap;
use thiserror::Error;

/// The number of applied files of level 0 that are remembered. Litestream keeps them for 5 minutes, and writes one per
/// second at most where it is busy; a second writer replaces the newest ones first.
pub const REMEMBERED: usize = 64;
/// The length of a WAL header in bytes: the offset of the first frame of a WAL.
const WAL_HEADER_BYTES: i64 = 32;

/// Two writers on one replica. The text names the file and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OtherWriter {
    /// The file was made from another WAL, or from another part of it, than the one that continues.
    #[error(
        "{key} does not continue the WAL of the file before it (salts {:08x} {:08x} at offset {found_offset}, expected \
         {:08x} {:08x} at offset {expected_offset} or a new WAL)",
        .found.0, .found.1, .expected.0, .expected.1
    )]
    Break {
        /// Key of the file.
        key: String,
        /// The salts in the file's header.
        found: (u32, u32),
        /// The offset in the file's header.
        found_offset: i64,
        /// The salts of the file before it.
        expected: (u32, u32),
        /// The offset at which the file before it ends.
        expected_offset: i64,
    },
    /// A file has other content than when it was applied.
    #[error("{key} was replaced after it was applied")]
    Replaced {
        /// Key of the file.
        key: String,
    },
}

/// What is known of the files that were applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Continuity {
    position: Option<WalPosition>,
    /// ETag and size of the files of level 0, by their TXID.
    applied: BTreeMap<Txid, (Option<Etag>, u64)>,
}

/// Where in the primary's WAL the newest applied file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WalPosition {
    txid: Txid,
    salts: (u32, u32),
    end: i64,
}

/// A file that was read, with what its header says.
#[derive(Debug, Clone)]
pub struct ReadFile {
    /// Key of the file.
    pub key: String,
    /// Its level.
    pub level: Level,
    /// Its ETag, if the store has any.
    pub etag: Option<Etag>,
    /// Its size in bytes.
    pub size: u64,
    /// Its header.
    pub header: Header,
}

impl Continuity {
    /// What is known once `files`, oldest first, are applied after the files before.
    ///
    /// # Errors
    /// [`OtherWriter::Break`] if one of them does not continue the file before it.
    pub fn after(&self, files: &[ReadFile]) -> Result<Self, OtherWriter> {
        let mut after = self.clone();
        for file in files {
            after.position = if file.level.get() == 0 { Some(after.next_position(file)?) } else { None };
            if file.level.get() == 0 {
                after.applied.insert(file.header.max_txid, (file.etag.clone(), file.size));
            }
        }
        while after.applied.len() > REMEMBERED {
            after.applied.pop_first();
        }
        Ok(after)
    }

    fn next_position(&self, file: &ReadFile) -> Result<WalPosition, OtherWriter> {
        let header = &file.header;
        let salts = (header.wal_salt1, header.wal_salt2);
        if let Some(before) = self.position.filter(|before| header.min_txid.0 == before.txid.0.saturating_add(1)) {
            let continues = salts == before.salts && header.wal_offset == before.end;
            if !continues && header.wal_offset != WAL_HEADER_BYTES {
                return Err(OtherWriter::Break {
                    key: file.key.clone(),
                    found: salts,
                    found_offset: header.wal_offset,
                    expected: before.salts,
                    expected_offset: before.end,
                });
            }
        }
        let end = header.wal_offset.saturating_add(header.wal_size);
        Ok(WalPosition { txid: header.max_txid, salts, end })
    }

    /// The TXID of the oldest file that is remembered. Listings of level 0 begin with it.
    pub fn oldest(&self) -> Option<Txid> {
        self.applied.first_key_value().map(|(&txid, _)| txid)
    }

    /// Compares the files that are remembered with those of a listing.
    ///
    /// # Errors
    /// [`OtherWriter::Replaced`] if one differs in ETag or size.
    pub fn check_listing(&self, replica: &Replica) -> Result<(), OtherWriter> {
        let replaced = replica.files.iter().filter(|file| file.level.get() == 0).find(|file| self.is_replaced(file));
        replaced.map_or(Ok(()), |file| Err(OtherWriter::Replaced { key: replica.key(file) }))
    }

    fn is_replaced(&self, file: &LtxFile) -> bool {
        let known = self.applied.get(&file.max_txid).filter(|_| file.min_txid == file.max_txid);
        known.is_some_and(|(etag, size)| {
            let differs = |(known, found): (&Etag, &Etag)| !known.is_same_object(found);
            *size != file.size || etag.as_ref().zip(file.etag.as_ref()).is_some_and(differs)
        })
    }
}
