//! Decodes and checks a whole LTX file that arrives in order, in chunks of any size. All rules of docs/FORMAT.md
//! for a file are checked. The caller chooses where each page is decoded to.
//!
//! Memory is bounded by the size of one page frame, whatever the file claims. A file is valid only when
//! [`DecodeStep::Done`] was returned. Pages that were returned before may belong to a damaged file.

use crate::ltx::crc::{DatabaseChecksum, FileCrc};
use crate::ltx::error::{Checksum, Fault, FormatError, Part};
use crate::ltx::frame::{Encoding, Frame, FrameParser, Located, Poll, join};
use crate::ltx::header::{HEADER_SIZE, Header};
use crate::ltx::index::{FrameHash, IndexParser};
use crate::ltx::name::check_name;
use crate::ltx::snapshot::SnapshotPages;
use crate::ltx::trailer::{HASHED_SIZE, TRAILER_SIZE, Trailer};
use crate::ltx::{PageSize, Pgno, Txid};
use bytes::Bytes;

/// A file that has passed every check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The parsed header of the file.
    pub header: Header,
    /// The parsed trailer of the file.
    pub trailer: Trailer,
    /// The number of page frames in the file.
    pub pages: u64,
    /// The size of the file in bytes.
    pub size: u64,
}

/// The result of one step of the decoder through an LTX file.
#[derive(Debug)]
pub enum DecodeStep<'a> {
    /// The decoder needs the next chunk: call [`FileDecoder::push`].
    NeedMore,
    /// The header of the file. This is the first result, and it comes once.
    Header(Header),
    /// One page, in the order of the file. The caller must decode it, otherwise the checksum of the file will not
    /// match.
    Page(EncodedPage<'a>),
    /// The end of the file: all checks have passed. Further calls return the same.
    Done(Verified),
}

/// A compressed page that the caller has to decode.
#[derive(Debug)]
pub struct EncodedPage<'a> {
    frame: Frame<'a>,
    page_size: PageSize,
    crc: &'a mut FileCrc,
    database: Option<&'a mut DatabaseChecksum>,
}

impl EncodedPage<'_> {
    /// The number of the page in the database, from 1.
    pub const fn pgno(&self) -> Pgno {
        self.frame.pgno
    }

    /// The offset of the page's frame in the file, in bytes.
    pub const fn offset(&self) -> u64 {
        self.frame.offset
    }

    /// The way in which the page is compressed.
    pub const fn encoding(&self) -> Encoding {
        self.frame.encoding
    }

    /// The page frame as it is stored, for callers that keep it and decode it later. Decoding that copy does not
    /// add the page to the file's checksums; [`Self::decode_into`] still has to be called.
    pub const fn frame(&self) -> &Frame<'_> {
        &self.frame
    }

    /// Decodes the page into `out` and adds it to the file's checksums.
    ///
    /// # Errors
    ///
    /// Those of [`Frame::decode_into`], and malformed if `out` is not exactly one page long.
    #[inline]
    pub fn decode_into(self, out: &mut [u8]) -> Result<(), FormatError> {
        let expected = self.page_size.bytes();
        if out.len() != expected {
            let fault = Fault::PageLength { expected: expected as u64, found: out.len() as u64 };
            let part = Part::Page(self.frame.pgno);
            return Err(FormatError::Malformed { part, offset: self.frame.offset, fault });
        }
        self.frame.decode_into(out)?;
        self.crc.update(self.frame.head);
        self.crc.update(out);
        if let Some(database) = self.database {
            database.add(self.frame.pgno, out);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DecoderStage {
    Header,
    Pages,
    Index,
    Trailer,
    Done,
}

/// The decoder of one LTX file, which also checks it.
#[derive(Debug)]
pub struct FileDecoder {
    stage: DecoderStage,
    size: u64,
    received: u64,
    name: Option<(Txid, Txid)>,
    /// Bytes that were pushed and not read yet. While page frames are read, they are in `frames` instead.
    input: Bytes,
    /// The header or the trailer, as far as it has arrived.
    small: [u8; HEADER_SIZE],
    small_len: usize,
    crc: FileCrc,
    parts: Option<Parts>,
    done: Option<Verified>,
}

/// The parts of the decoder that can only be created when the file's header is known.
#[derive(Debug)]
struct Parts {
    header: Header,
    frames: FrameParser,
    index: IndexParser,
    frames_hash: FrameHash,
    index_hash: FrameHash,
    snapshot: Option<SnapshotPages>,
    database: Option<DatabaseChecksum>,
}

impl FileDecoder {
    /// Creates a decoder for a file of `expected_size` bytes, the size that the listing shows. `name` holds the min
    /// and max TXID in the file's name; if it is given, the header must agree.
    pub fn new(expected_size: u64, name: Option<(Txid, Txid)>) -> Self {
        Self {
            stage: DecoderStage::Header,
            size: expected_size,
            received: 0,
            name,
            input: Bytes::new(),
            small: [0; HEADER_SIZE],
            small_len: 0,
            crc: FileCrc::new(),
            parts: None,
            done: None,
        }
    }

    /// Adds the bytes that follow in the file. Call it when [`Self::next_page`] has returned
    /// [`DecodeStep::NeedMore`]. Calling it earlier is correct, but then unread bytes are copied.
    pub fn push(&mut self, chunk: Bytes) {
        self.received = self.received.saturating_add(chunk.len() as u64);
        match &mut self.parts {
            Some(parts) if self.stage == DecoderStage::Pages => parts.frames.push(chunk),
            _ => self.input = join(&self.input, chunk),
        }
    }

    /// The number of bytes of the file that were pushed so far.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Takes the next step through the file.
    ///
    /// # Errors
    ///
    /// A [`FormatError`] if the file breaks a rule of docs/FORMAT.md. After an error the decoder must not be used
    /// any more.
    #[inline]
    pub fn next_page(&mut self) -> Result<DecodeStep<'_>, FormatError> {
        let located = if self.stage == DecoderStage::Pages { self.next_frame()? } else { None };
        let Some(located) = located else {
            return if self.stage == DecoderStage::Pages { Ok(DecodeStep::NeedMore) } else { self.next_other() };
        };
        let Some(parts) = &mut self.parts else { return Ok(DecodeStep::NeedMore) };
        Ok(DecodeStep::Page(EncodedPage {
            frame: parts.frames.view(&located),
            page_size: parts.header.page_size,
            crc: &mut self.crc,
            database: parts.database.as_mut(),
        }))
    }

    /// The next page frame. None if more input is needed or if the pages have ended.
    #[inline]
    fn next_frame(&mut self) -> Result<Option<Located>, FormatError> {
        let Some(parts) = &mut self.parts else { return Ok(None) };
        match parts.frames.poll()? {
            Poll::NeedMore if self.received >= self.size => Err(parts.frames.truncated(self.size)),
            Poll::NeedMore => Ok(None),
            Poll::Frame(located) => {
                parts.frames_hash.add(located.pgno, located.offset, located.size);
                if let Some(snapshot) = &mut parts.snapshot {
                    snapshot.see(located.pgno, located.offset)?;
                }
                Ok(Some(located))
            }
            Poll::End => {
                self.input = parts.end_pages(&mut self.crc)?;
                self.stage = DecoderStage::Index;
                Ok(None)
            }
        }
    }

    fn next_other(&mut self) -> Result<DecodeStep<'static>, FormatError> {
        if self.stage == DecoderStage::Header {
            return self.next_header();
        }
        let Some(parts) = &mut self.parts else { return Ok(DecodeStep::NeedMore) };
        if self.stage == DecoderStage::Index {
            let Parts { index, index_hash, .. } = parts;
            let consumed = index.feed(&self.input, &mut |entry| {
                index_hash.add(entry.pgno, entry.offset, entry.size);
                Ok(())
            })?;
            self.crc.update(&self.input.split_to(consumed));
            if !index.is_done() {
                return if self.received >= self.size {
                    Err(index.truncated(self.size))
                } else {
                    Ok(DecodeStep::NeedMore)
                };
            }
            if parts.frames_hash != parts.index_hash {
                let offset = parts.frames.offset();
                return Err(FormatError::Malformed { part: Part::Index, offset, fault: Fault::IndexDisagrees });
            }
            self.stage = DecoderStage::Trailer;
        }
        let offset = parts.index.offset();
        let header = parts.header;
        if self.stage == DecoderStage::Trailer {
            if !self.fill_small::<TRAILER_SIZE>() {
                let needed = offset.saturating_add(TRAILER_SIZE as u64);
                return self.need_more(Part::Trailer, needed);
            }
            self.end_file(offset, &header)?;
            self.stage = DecoderStage::Done;
        }
        Ok(self.done.map_or(DecodeStep::NeedMore, DecodeStep::Done))
    }

    fn next_header(&mut self) -> Result<DecodeStep<'static>, FormatError> {
        if !self.fill_small::<HEADER_SIZE>() {
            return self.need_more(Part::Header, HEADER_SIZE as u64);
        }
        let header = Header::parse(&self.small)?;
        if let Some((min, max)) = self.name {
            check_name(&header, min, max)?;
        }
        self.crc.update(&self.small);
        self.small_len = 0;
        let mut frames = FrameParser::new(header.page_size, HEADER_SIZE as u64, None);
        frames.push(std::mem::take(&mut self.input));
        let snapshot = header.is_snapshot().then(|| SnapshotPages::new(header.page_size, header.commit));
        let tracked_snapshot = header.is_snapshot() && header.is_tracked();
        self.parts = Some(Parts {
            header,
            frames,
            index: IndexParser::new(0),
            frames_hash: FrameHash::new(),
            index_hash: FrameHash::new(),
            snapshot,
            database: tracked_snapshot.then(DatabaseChecksum::default),
        });
        self.stage = DecoderStage::Pages;
        Ok(DecodeStep::Header(header))
    }

    /// Moves input to `small` until it holds `N` bytes. Returns whether it does.
    fn fill_small<const N: usize>(&mut self) -> bool {
        let Some(space) = self.small.get_mut(self.small_len..N) else { return false };
        let front = self.input.split_to(space.len().min(self.input.len()));
        if let Some(space) = space.get_mut(..front.len()) {
            space.copy_from_slice(&front);
        }
        self.small_len += front.len();
        self.small_len == N
    }

    fn need_more(&self, part: Part, needed: u64) -> Result<DecodeStep<'static>, FormatError> {
        if self.received >= self.size {
            return Err(FormatError::Truncated { part, size: self.size, needed });
        }
        Ok(DecodeStep::NeedMore)
    }

    /// Checks the trailer, which has arrived in `small`. It begins at `offset` of the file.
    fn end_file(&mut self, offset: u64, header: &Header) -> Result<(), FormatError> {
        let Some(bytes) = self.small.first_chunk::<TRAILER_SIZE>() else { return Ok(()) };
        let trailer = Trailer::parse(bytes, offset, header)?;
        self.crc.update(&bytes[..HASHED_SIZE]);
        let (part, computed) = (Part::Trailer, self.crc.finish());
        if trailer.file_checksum != computed {
            let (offset, stored) = (offset.saturating_add(HASHED_SIZE as u64), trailer.file_checksum);
            return Err(FormatError::ChecksumMismatch { what: Checksum::File, part, offset, stored, computed });
        }
        let parts = self.parts.as_ref();
        if let Some(computed) = parts.and_then(|parts| parts.database).map(DatabaseChecksum::finish)
            && trailer.post_apply_checksum != computed
        {
            let stored = trailer.post_apply_checksum;
            return Err(FormatError::ChecksumMismatch { what: Checksum::Database, part, offset, stored, computed });
        }
        let end = offset.saturating_add(TRAILER_SIZE as u64);
        let bytes = self.size.max(self.received).saturating_sub(end);
        if bytes != 0 {
            let fault = Fault::TrailingBytes { bytes };
            return Err(FormatError::Malformed { part, offset: end, fault });
        }
        let pages = parts.map_or(0, |parts| parts.frames_hash.frames());
        self.done = Some(Verified { header: *header, trailer, pages, size: end });
        Ok(())
    }
}

impl Parts {
    /// Ends the parsing of pages after the end mark. Returns the bytes that were pushed behind it.
    fn end_pages(&mut self, crc: &mut FileCrc) -> Result<Bytes, FormatError> {
        let index = self.frames.offset();
        if let Some(snapshot) = &self.snapshot {
            snapshot.finish(index)?;
        }
        crc.update(&[0; crate::ltx::frame::END_MARK_SIZE]);
        self.index = IndexParser::new(index);
        Ok(self.frames.take_rest())
    }
}

/// Checks a file that is held in memory, and calls `on_page` for each page. When `on_page` is called, it is not
/// known yet whether the rest of the file is valid.
///
/// # Errors
///
/// A [`FormatError`] if the file breaks a rule of docs/FORMAT.md.
pub fn verify_file(
    bytes: Bytes,
    name: Option<(Txid, Txid)>,
    mut on_page: impl FnMut(Pgno, &[u8]),
) -> Result<Verified, FormatError> {
    let size = bytes.len() as u64;
    let mut decoder = FileDecoder::new(size, name);
    decoder.push(bytes);
    let mut page = Vec::new();
    // This loop ends: each turn consumes a part of the file, and all of the file has been pushed.
    loop {
        match decoder.next_page()? {
            DecodeStep::Header(header) => page.resize(header.page_size.bytes(), 0),
            DecodeStep::Page(encoded) => {
                let pgno = encoded.pgno();
                encoded.decode_into(&mut page)?;
                on_page(pgno, &page);
            }
            DecodeStep::Done(verified) => return Ok(verified),
            // All of the file has been pushed, so the decoder reports a truncated file instead of asking for more.
            // This case cannot happen.
            DecodeStep::NeedMore => return Err(FormatError::Truncated { part: Part::Pages, size, needed: size }),
        }
    }
}
