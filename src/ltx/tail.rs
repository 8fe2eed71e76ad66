//! Finds the parts of a file from its size and its last bytes.
//!
//! At this point nothing else of the file is known. If the last bytes make no sense, the file may have been cut, or
//! the size of its index may be damaged; both look the same. To find out which, check the whole file with
//! [`crate::ltx::decoder::FileDecoder`].

use super::error::{Fault, FormatError, Part};
use super::frame::END_MARK_SIZE;
use super::header::HEADER_SIZE;
use super::trailer::TRAILER_SIZE;
use std::ops::Range;

/// The length in bytes of the field that holds the size of the index.
const INDEX_SIZE_FIELD: u64 = 8;
/// The number of bytes at the end of a file that [`Tail::locate`] needs.
pub const TAIL_SIZE: usize = INDEX_SIZE_FIELD as usize + TRAILER_SIZE;
/// The size in bytes of the smallest possible file: no pages, and an index of one byte.
pub const MIN_FILE_SIZE: u64 = HEADER_SIZE as u64 + END_MARK_SIZE as u64 + 1 + TAIL_SIZE as u64;

/// The byte ranges of the parts of a file. They follow one another without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The bytes of all page frames, without the end mark.
    pub frames: Range<u64>,
    /// The six zero bytes that end the pages.
    pub end_mark: Range<u64>,
    /// The whole index including its size field, as [`super::index::IndexParser`] reads it.
    pub index: Range<u64>,
    /// The bytes of the trailer, the last 16 of the file.
    pub trailer: Range<u64>,
}

impl Tail {
    /// Finds the parts from the size of the file and its last bytes. `last` must hold at least [`TAIL_SIZE`] bytes,
    /// unless the file is shorter.
    ///
    /// # Errors
    ///
    /// Truncated if the file is smaller than [`MIN_FILE_SIZE`], malformed if the stored size of the index does not
    /// fit into the file.
    pub fn locate(file_size: u64, last: &[u8]) -> Result<Self, FormatError> {
        let truncated = FormatError::Truncated { part: Part::Index, size: file_size, needed: MIN_FILE_SIZE };
        if file_size < MIN_FILE_SIZE {
            return Err(truncated);
        }
        let Some(Some(field)) = last.last_chunk::<TAIL_SIZE>().map(|tail| tail.first_chunk::<8>()) else {
            return Err(truncated);
        };
        let index_size = u64::from_be_bytes(*field);
        let max = file_size - (MIN_FILE_SIZE - 1);
        let trailer = file_size - TRAILER_SIZE as u64;
        let index_end = trailer - INDEX_SIZE_FIELD;
        if index_size == 0 || index_size > max {
            let fault = Fault::IndexSizeBeyondFile { found: index_size, max };
            return Err(FormatError::Malformed { part: Part::Index, offset: index_end, fault });
        }
        let index = index_end - index_size;
        let end_mark = index - END_MARK_SIZE as u64;
        Ok(Self {
            frames: HEADER_SIZE as u64..end_mark,
            end_mark: end_mark..index,
            index: index..trailer,
            trailer: trailer..file_size,
        })
    }
}
