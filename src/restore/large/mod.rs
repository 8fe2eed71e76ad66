//! Files too large for one GET: header and page index are fetched first, then segments of about
//! 8 MiB that are cut at frame boundaries and streamed by any free worker
//! (docs/ARCHITECTURE.md, "Segments").
//!
//! Each segment yields the CRC of its frames and a hash of (page, offset, size). The CRCs are
//! combined in order and compared with the trailer. The hash must equal that of the index.

mod cuts;
mod page_index;
mod segment;
mod segments;
mod source;

pub(super) use page_index::Indexed;
pub(super) use segment::SegmentContext;
pub(super) use segments::Segments;
pub(super) use source::{Footer, LargeSource, PlannedFile, gets, request_permit};
