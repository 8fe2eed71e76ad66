//! From the last bytes of a file and its size to where its parts lie. Nothing else of the file
//! is known then, so a file that was cut cannot be told from one whose index size is damaged:
//! where the tail makes no sense, [`crate::ltx::decoder::FileDecoder`] over the whole file names the
//! damage.

use super::error::{Fault, FormatError, Part};
use super::frame::END_MARK_SIZE;
use super::header::HEADER_SIZE;
use super::trailer::TRAILER_SIZE;
use std::ops::Range;

/// Bytes of the index's size field.
const INDEX_SIZE_FIELD: u64 = 8;
/// How many of the file's last bytes [`Tail::locate`] needs.
pub const TAIL_SIZE: usize = INDEX_SIZE_FIELD as usize + TRAILER_SIZE;
/// The smallest file: no pages, an index of one byte.
pub const MIN_FILE_SIZE: u64 = HEADER_SIZE as u64 + END_MARK_SIZE as u64 + 1 + TAIL_SIZE as u64;

/// Where the parts of a file lie: ranges that follow one another without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// All page frames, without the end mark.
    pub frames: Range<u64>,
    pub end_mark: Range<u64>,
    /// The whole index with its size field, as [`super::index::IndexParser`] takes it.
    pub index: Range<u64>,
    pub trailer: Range<u64>,
}

impl Tail {
    /// From the file's size and its last bytes, of which there must be at least [`TAIL_SIZE`]
    /// (where the file has as many).
    ///
    /// Errors: truncated for a file smaller than [`MIN_FILE_SIZE`], malformed for an index size
    /// that does not fit into the file.
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
