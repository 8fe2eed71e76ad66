//! The last 16 bytes of a file (docs/FORMAT.md, "Trailer and checksums").

use super::error::{Fault, FormatError, Part};
use super::header::{CHECKSUM_BIT, Header, take};

/// Bytes of the trailer.
pub const TRAILER_SIZE: usize = 16;
/// Its bytes that the file checksum covers: the post-apply checksum.
pub const HASHED_SIZE: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// The database's checksum after this file; 0 where the file does not track it.
    pub post_apply_checksum: u64,
    pub file_checksum: u64,
}

impl Trailer {
    /// Parses the trailer that begins at `offset` of the file with this `header`.
    pub fn parse(bytes: &[u8; TRAILER_SIZE], offset: u64, header: &Header) -> Result<Self, FormatError> {
        let mut rest = &bytes[..];
        let post_apply_checksum = u64::from_be_bytes(take(&mut rest));
        let file_checksum = u64::from_be_bytes(take(&mut rest));
        let broken = if header.is_tracked() {
            (post_apply_checksum & CHECKSUM_BIT == 0).then_some("lacks its top bit")
        } else {
            (post_apply_checksum != 0).then_some("must be 0 in a file that does not track checksums")
        };
        if let Some(rule) = broken {
            let fault = Fault::PostApply { found: post_apply_checksum, rule };
            return Err(FormatError::Malformed { part: Part::Trailer, offset, fault });
        }
        Ok(Self { post_apply_checksum, file_checksum })
    }

    pub fn encode(&self) -> [u8; TRAILER_SIZE] {
        let mut out = [0; TRAILER_SIZE];
        out[..8].copy_from_slice(&self.post_apply_checksum.to_be_bytes());
        out[8..].copy_from_slice(&self.file_checksum.to_be_bytes());
        out
    }
}
