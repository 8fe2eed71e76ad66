//! A catalogue as a file: what the listing of a fleet has shown, for further runs that work on the same states and list
//! nothing. Reads and writes streams; it opens no files.
//!
//! ```text
//! file     magic "HYDRCAT\n", version (u32), then blocks; a block without content is the last thing in the file
//! block    length as stored (u32), length of its content (u32), checksum (u64), content compressed by LZ4
//! content  of all blocks together: the head (`head`), then one record after the other (`records`)
//! ```
//! Integers of the file and of blocks are little-endian. Those of the content are LEB128 varints, which `blocks` reads
//! and writes. A block's checksum is the CRC-64/NVME of everything before it in the file, without the other checksums,
//! and of its own lengths and stored bytes. So every byte of the file is covered, and blocks cannot be left out or
//! exchanged. A block is checked before it is decompressed.
//!
//! A file of a replica takes about 40 bytes before compression, with an ETag that is not an MD5 up to 300. The catalogue
//! holds no secrets: it has bucket, endpoint and pattern, but no credentials and no query of a URL.

mod blocks;
mod error;
mod head;
mod records;
#[cfg(test)]
mod tests;

pub use error::SavedError;
pub use head::{CatalogueHead, CatalogueSource, SavedStore};
pub use records::{CatalogueReader, CatalogueWriter, SavedRecord};
