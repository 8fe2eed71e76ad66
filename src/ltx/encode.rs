//! Writes LTX files for tests, benches and the sample fleet. Nothing is checked, so that damaged files can be made
//! too.

use super::Pgno;
use super::crc::FileCrc;
use super::frame::{END_MARK_SIZE, Encoding};
use super::header::{HEADER_SIZE, Header};
use super::index::put_varint;
use super::lz4;
use super::trailer::{HASHED_SIZE, Trailer};
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use std::io::{self, Write};

/// Writes one file from its first byte to its last. The page index is held in memory, about eight bytes per page.
pub struct Encoder<W: Write = Vec<u8>> {
    out: W,
    encoding: Encoding,
    crc: FileCrc,
    /// The offset in the file of the next byte to write.
    offset: u64,
    index: Vec<u8>,
    table: CompressTable,
    /// The compressed form of the page that is being written.
    block: Vec<u8>,
    /// The frame (head and compressed page) of the page that is being written.
    frame: Vec<u8>,
}

impl Encoder {
    /// Begins an LTX file in memory, with this header.
    pub fn new(header: &Header, encoding: Encoding) -> Self {
        let mut encoder = Self::start(Vec::new(), encoding);
        encoder.out.extend_from_slice(&header.encode());
        encoder.crc.update(&header.encode());
        encoder
    }
}

impl<W: Write> Encoder<W> {
    /// Begins an LTX file in the writer `out`, which should be buffered.
    pub fn to_writer(out: W, header: &Header, encoding: Encoding) -> io::Result<Self> {
        let mut encoder = Self::start(out, encoding);
        encoder.out.write_all(&header.encode())?;
        encoder.crc.update(&header.encode());
        Ok(encoder)
    }

    fn start(out: W, encoding: Encoding) -> Self {
        Self {
            out,
            encoding,
            crc: FileCrc::new(),
            offset: HEADER_SIZE as u64,
            index: Vec::new(),
            table: CompressTable::default(),
            block: Vec::new(),
            frame: Vec::new(),
        }
    }

    /// Changes the LZ4 form of the pages that follow.
    pub fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    /// Appends a page frame for page `pgno` to the file.
    pub fn page(&mut self, pgno: Pgno, page: &[u8]) -> io::Result<()> {
        self.block.resize(get_maximum_output_size(page.len()), 0);
        let len = compress_into_with_table(page, &mut self.block, &mut self.table).map_err(io::Error::other)?;
        self.block.truncate(len);
        self.frame.clear();
        self.frame.extend_from_slice(&pgno.0.to_be_bytes());
        let head = match self.encoding {
            Encoding::Block => {
                self.frame.extend_from_slice(&1u16.to_be_bytes());
                self.frame.extend_from_slice(&(len as u32).to_be_bytes());
                let head = self.frame.len();
                self.frame.extend_from_slice(&self.block);
                head
            }
            Encoding::Frame => {
                self.frame.extend_from_slice(&0u16.to_be_bytes());
                let head = self.frame.len();
                lz4::encode_frame(page, &self.block, &mut self.frame);
                head
            }
        };
        self.crc.update(self.frame.split_at(head).0);
        self.crc.update(page);
        put_varint(u64::from(pgno.0), &mut self.index);
        put_varint(self.offset, &mut self.index);
        put_varint(self.frame.len() as u64, &mut self.index);
        self.offset += self.frame.len() as u64;
        self.out.write_all(&self.frame)
    }

    /// Ends the file: writes the end mark, the page index and the trailer. `post_apply` is the checksum of the
    /// database after this file. It is 0 if the file does not track checksums. The writer is not flushed.
    pub fn finish(mut self, post_apply: u64) -> io::Result<W> {
        put_varint(0, &mut self.index);
        let size = self.index.len() as u64;
        self.index.extend_from_slice(&size.to_be_bytes());
        self.crc.update(&[0; END_MARK_SIZE]);
        self.crc.update(&self.index);
        let mut trailer = Trailer { post_apply_checksum: post_apply, file_checksum: 0 };
        self.crc.update(&trailer.encode()[..HASHED_SIZE]);
        trailer.file_checksum = self.crc.finish();
        self.out.write_all(&[0; END_MARK_SIZE])?;
        self.out.write_all(&self.index)?;
        self.out.write_all(&trailer.encode())?;
        Ok(self.out)
    }
}
