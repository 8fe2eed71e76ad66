//! The trailer, which is the last 16 bytes of a file (docs/FORMAT.md, "Trailer and checksums").

use super::error::{Fault, FormatError, Part};
use super::header::{CHECKSUM_BIT, Header, take};

/// The length of the trailer of an LTX file in bytes.
pub const TRAILER_SIZE: usize = 16;
/// The number of bytes of the trailer that the file checksum covers: the post-apply checksum.
pub const HASHED_SIZE: usize = 8;

/// The fields of an LTX file's trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// The checksum of the database after this file was applied. 0 if the file does not track checksums.
    pub post_apply_checksum: u64,
    /// The checksum of the file: CRC-64/GO-ISO with bit 63 set.
    pub file_checksum: u64,
}

impl Trailer {
    /// Parses the trailer, which begins at `offset` of a file with this `header`.
    ///
    /// # Errors
    ///
    /// Malformed if the post-apply checksum lacks bit 63 in a file that tracks checksums, or is not 0 in another
    /// file.
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

    /// Encodes the trailer into the bytes that [`Trailer::parse`] reads.
    pub fn encode(&self) -> [u8; TRAILER_SIZE] {
        let mut out = [0; TRAILER_SIZE];
        out[..8].copy_from_slice(&self.post_apply_checksum.to_be_bytes());
        out[8..].copy_from_slice(&self.file_checksum.to_be_bytes());
        out
    }
}
