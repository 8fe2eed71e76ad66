//! The LTX file format (docs/FORMAT.md, "LTX header" to "Trailer and checksums"). Functions here take bytes and
//! return values or errors. They do no I/O and contain no unsafe code. No field of a file decides how much memory
//! is allocated.
//!
//! ```text
//! header 100 B | page frame … | end-of-pages 6 B zero | page index | index size u64 | trailer 16 B
//! ```
//!
//! A file that is fetched in one piece is checked by [`decoder::FileDecoder`]. A large file is fetched in segments
//! and checked with these parts:
//! - [`tail::Tail`] and [`index::IndexParser`] find the offsets where segments may begin.
//! - A [`frame::FrameParser`] per segment finds the page frames.
//! - A [`crc::FileCrc`] per segment; they are appended in the order of the file and compared with the trailer.
//! - An [`index::FrameHash`] per segment, which must equal the hash of the index's entries.
//! - [`snapshot::SnapshotPages`] checks from the index that a snapshot has all pages.
//!
//! To check a file, push its bytes in chunks of any size and decode every page:
//!
//! ```
//! use bytes::Bytes;
//! use hydrant::ltx::decoder::{DecodeStep, FileDecoder, Verified};
//! use hydrant::ltx::{FormatError, Txid};
//!
//! /// Checks the file that is named `0000000000000001-0000000000000001.ltx`.
//! fn check(file: &[u8]) -> Result<Verified, FormatError> {
//!     let mut decoder = FileDecoder::new(file.len() as u64, Some((Txid(1), Txid(1))));
//!     let mut chunks = file.chunks(1000);
//!     let mut page = Vec::new();
//!     loop {
//!         match decoder.next_page()? {
//!             DecodeStep::NeedMore => {
//!                 decoder.push(Bytes::copy_from_slice(chunks.next().expect("the decoder knows the file's size")));
//!             }
//!             DecodeStep::Header(header) => page.resize(header.page_size.bytes(), 0),
//!             DecodeStep::Page(encoded) => encoded.decode_into(&mut page)?,
//!             DecodeStep::Done(verified) => return Ok(verified),
//!         }
//!     }
//! }
//!
//! # use hydrant::ltx::encode::Encoder;
//! # use hydrant::ltx::frame::Encoding;
//! # use hydrant::ltx::header::{FLAG_NO_CHECKSUM, Header};
//! # use hydrant::ltx::{PageSize, Pgno};
//! # let header = Header {
//! #     flags: FLAG_NO_CHECKSUM, page_size: PageSize::new(4096).unwrap(), commit: 2,
//! #     min_txid: Txid(1), max_txid: Txid(1), timestamp_ms: 0, pre_apply_checksum: 0,
//! #     wal_offset: 0, wal_size: 0, wal_salt1: 0, wal_salt2: 0, node_id: 0,
//! # };
//! # let mut encoder = Encoder::new(&header, Encoding::Block);
//! # encoder.page(Pgno(1), &[1; 4096]).unwrap();
//! # encoder.page(Pgno(2), &[2; 4096]).unwrap();
//! # let file = encoder.finish(0).unwrap();
//! assert_eq!(check(&file)?.pages, 2);
//!
//! let mut damaged = file.clone();
//! damaged[120] ^= 1;
//! assert!(check(&damaged).is_err());
//! assert!(check(&file[..file.len() - 1]).is_err());
//! # Ok::<(), FormatError>(())
//! ```

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
pub(crate) mod tests;

pub use error::{Fault, FormatError, Part};
pub use types::{Level, PageSize, Pgno, Txid};
