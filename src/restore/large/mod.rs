//! Fetching of LTX files that are too large for one GET (more than 8 MiB). The file's header and page index
//! are fetched first. Then the rest is fetched in segments of about 8 MiB that begin and end at frame
//! boundaries. Any free worker can take a segment (docs/ARCHITECTURE.md, "Segments").
//!
//! The segments of a file end in any order, so its checksum cannot be computed from beginning to end.
//! Instead each segment computes the CRC of its own frames. These CRCs are combined in the order of the
//! file and compared with the trailer. Each segment also computes a hash of (page number, offset, size) of
//! its frames, which must equal the hash that the page index gives.

mod cuts;
mod page_index;
mod segment;
mod segments;
mod source;

pub(super) use page_index::Indexed;
pub(super) use segment::SegmentContext;
pub(super) use segments::Segments;
pub(super) use source::{Footer, LargeSource, PlannedContent, PlannedFile, gets, note_asked_again, request_permit};
