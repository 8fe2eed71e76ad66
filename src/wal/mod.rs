//! The objects of Litestream 0.3 (docs/FORMAT-V3.md, "LZ4" and "WAL"): LZ4 frames, each around a snapshot or a piece of
//! a SQLite WAL, and the WAL inside them. Functions here take bytes and return values or errors. They do no
//! I/O and contain no unsafe code. No field of an object decides how much memory is allocated.
//!
//! - [`ObjectDecoder`] decodes one object in order, in chunks of any size.
//! - [`BlockParser`] only finds the blocks of an object. They can be decoded side by side ([`StoredBlock::decode`]),
//!   and a [`ContentHash`] then checks the content in order.
//! - [`WalReader`] reads the WAL of one index from the contents of its segments and checks every frame.
//!
//! ```
//! use bytes::Bytes;
//! use hydrant::wal::{Decoded, ObjectDecoder, WalError};
//!
//! /// Decodes a whole object that is held in memory.
//! fn content(object: &[u8]) -> Result<Vec<u8>, WalError> {
//!     let mut decoder = ObjectDecoder::new(object.len() as u64);
//!     let mut chunks = object.chunks(10);
//!     let mut content = Vec::new();
//!     loop {
//!         match decoder.next()? {
//!             Decoded::NeedMore => {
//!                 decoder.push(Bytes::copy_from_slice(chunks.next().expect("the decoder knows the object's size")));
//!             }
//!             Decoded::Bytes(bytes) => content.extend_from_slice(bytes),
//!             Decoded::Done => return Ok(content),
//!         }
//!     }
//! }
//!
//! // A frame without content.
//! let object = [0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9, 0, 0, 0, 0, 0x05, 0x5d, 0xcc, 0x02];
//! assert_eq!(content(&object)?, b"");
//! assert!(matches!(content(&object[..9]), Err(WalError::Truncated { .. })));
//! # Ok::<(), WalError>(())
//! ```

mod blocks;
mod error;
mod object;
mod reader;

#[cfg(test)]
mod tests;

pub use blocks::{BlockParser, ContentChecksum, ContentHash, FrameInfo, NextBlock, StoredBlock};
pub use error::{WalChecksum, WalError, WalFault};
pub use object::{Decoded, ObjectDecoder};
pub use reader::{WalFrame, WalReader};
