//! The LTX file format (docs/FORMAT.md, "LTX header" to "Trailer and checksums"): slices in, values
//! or errors out. No I/O, no unsafe, and no allocation whose size a file asks for.
//!
//! ```text
//! header 100 B | page frame … | end-of-pages 6 B zero | page index | index size u64 | trailer 16 B
//! ```
//!
//! A file fetched in one piece goes through [`decoder::FileDecoder`]. A file fetched in segments
//! is put together from the same parts: [`tail::Tail`] and [`index::IndexParser`] for the cut
//! points, a [`frame::FrameParser`] per segment, [`crc::FileCrc`] appended in the file's order,
//! [`index::FrameHash`] per segment and [`snapshot::SnapshotPages`] over the index.

pub mod crc;
pub mod decoder;
pub mod encode;
pub mod error;
pub mod frame;
pub mod header;
pub mod index;
mod lz4;
pub mod name;
pub mod snapshot;
pub mod tail;
pub mod trailer;
mod types;

#[cfg(test)]
mod tests;

pub use error::{Fault, FormatError, Part};
pub use types::{Level, PageSize, Pgno, Txid};
