//! Reads the page index of a large LTX file. The index lists each page with the offset and size of its
//! frame. From it this file computes where the segments begin and end, which pages they hold, and the
//! checksums that the segments must have.
//!
//! The index is at the end of the file. Most of it is in the file's [`Footer`], which was fetched before.
//! If the footer is too short, the rest is fetched here. Entries are parsed as they arrive and are not
//! kept, so the index of a file of any size needs little memory.

use crate::ltx::crc::{DatabaseChecksum, FileCrc};
use crate::ltx::error::Checksum;
use crate::ltx::header::Header;
use crate::ltx::index::{IndexEntry, IndexParser};
use crate::ltx::snapshot::SnapshotPages;
use crate::ltx::tail::Tail;
use crate::ltx::trailer::{HASHED_SIZE, TRAILER_SIZE, Trailer};
use crate::ltx::{Fault, FormatError, Part, Pgno};
use crate::restore::error::ExecutionFailure;
use crate::restore::large::cuts::{Cutter, SegmentBounds};
use crate::restore::large::segment::{LargeFile, SegmentOutput, is_tracked_snapshot};
use crate::restore::large::source::{Footer, LargeSource, request_permit};
use std::sync::Arc;

/// A large file whose header, page index and trailer were read. Its pages are still to be fetched.
pub(crate) struct Indexed {
    /// Key, ETag and header of the file, which its segments need.
    pub file: LargeFile,
    /// The segments in which the file is to be fetched: their byte ranges and pages, in ascending order.
    pub cuts: Vec<Arc<SegmentBounds>>,
    /// The checksums with which the file's segments are compared once they are fetched.
    pub expected: SegmentChecksums,
}

/// The checksums with which the fetched segments of a large file are compared.
#[derive(PartialEq, Eq)]
pub(crate) struct SegmentChecksums {
    size: u64,
    header: Header,
    /// The trailer, which holds the checksum of the file and that of the database.
    pub trailer: Trailer,
    /// CRC of the header's bytes, which precede the first segment. It is combined with the CRCs of the segments.
    head_crc: FileCrc,
    /// CRC of the bytes that follow the last segment: the end mark of the pages, the index, and the trailer
    /// up to its file checksum.
    tail_crc: FileCrc,
}

impl Indexed {
    /// Reads header, page index and trailer of file number `planned` of the plan. Calls `on_page` for each
    /// page in the index, in ascending order.
    ///
    /// # Errors
    /// [`ExecutionFailure::Damaged`] if header, index or trailer are malformed or contradict each other.
    /// Otherwise the failure of a request.
    pub(crate) async fn read(
        source: LargeSource<'_>,
        planned: usize,
        footer: Footer,
        on_page: &mut dyn FnMut(Pgno),
    ) -> Result<Self, ExecutionFailure> {
        let may_ask_again = footer.again.is_none() && source.may_ask_again();
        match Self::read_once(source, planned, &footer, on_page).await {
            Err(ExecutionFailure::Damaged { file, error }) if !may_ask_again => {
                // If the file was truncated, its last bytes are not an index, and `error` says nothing
                // useful. Reading the file from its beginning finds the true cause.
                let fault = source.fault(file, footer.etag.as_ref()).await;
                Err(fault.unwrap_or(ExecutionFailure::Damaged { file, error }))
            }
            result => result,
        }
    }

    async fn read_once(
        source: LargeSource<'_>,
        planned: usize,
        footer: &Footer,
        on_page: &mut dyn FnMut(Pgno),
    ) -> Result<Self, ExecutionFailure> {
        let damaged = |error| ExecutionFailure::Damaged { file: planned, error };
        let failed = |error| ExecutionFailure::of_request(planned, error);
        let size = source.planned.size;
        let header = footer.header().map_err(damaged)?;
        let mut head_crc = FileCrc::new();
        head_crc.update(&footer.head);
        let parts = Tail::locate(size, &footer.tail).map_err(damaged)?;
        let tail_at = size - footer.tail.len() as u64;

        let mut index = IndexReader::new(&parts, &header);
        let mut cutter = Cutter::new(size, source.worker.shared.segment_bytes);
        let mut cuts = Vec::new();
        let mut on_entry = |entry: IndexEntry| {
            cuts.extend(cutter.add(entry).map(Arc::new));
            on_page(entry.pgno);
        };
        if parts.end_mark.start < tail_at {
            // The index begins before the bytes of the footer, so its first part is fetched now.
            let _permit = request_permit(source.requests).await;
            let rest = source.get(parts.end_mark.start..tail_at, footer.etag.as_ref());
            let mut body = rest.await.map_err(failed)?;
            while let Some(chunk) = body.chunk().await.map_err(failed)? {
                index.feed(&chunk, &mut on_entry).map_err(damaged)?;
            }
        }
        let from = parts.end_mark.start.saturating_sub(tail_at) as usize;
        let rest = footer.tail.get(from..).unwrap_or_default();
        let Some((rest, trailer_bytes)) = rest.split_last_chunk::<TRAILER_SIZE>() else {
            return Err(damaged(FormatError::Truncated { part: Part::Trailer, size, needed: size }));
        };
        index.feed(rest, &mut on_entry).map_err(damaged)?;
        let mut tail_crc = index.finish(size).map_err(damaged)?;
        let trailer = Trailer::parse(trailer_bytes, parts.trailer.start, &header).map_err(damaged)?;
        tail_crc.update(&trailer_bytes[..HASHED_SIZE]);
        cuts.extend(cutter.finish().map(Arc::new));
        debug_assert!(cuts.windows(2).all(|pair| matches!(pair, [a, b] if a.bytes.end == b.bytes.start)));
        let (key, etag) = (source.planned.key.clone(), footer.etag.clone());
        let file = LargeFile { planned, key, etag, header, wins: None, may_ask_again: source.may_ask_again() };
        Ok(Self { file, cuts, expected: SegmentChecksums { size, header, trailer, head_crc, tail_crc } })
    }
}

impl SegmentChecksums {
    /// Combines the CRCs of `segments` and compares the result with the file checksum in the trailer. `segments` must
    /// be in the order of the file. A snapshot may also carry a checksum of the whole database. It is compared with
    /// the XOR of the checksums of all pages.
    ///
    /// # Errors
    /// [`FormatError::ChecksumMismatch`] if one of the two differs.
    pub(crate) fn verify(&self, segments: &[SegmentOutput]) -> Result<(), FormatError> {
        let mut crc = self.head_crc;
        for segment in segments {
            crc.append(&segment.crc);
        }
        crc.append(&self.tail_crc);
        let mismatch = |what, offset, stored, computed| match stored == computed {
            true => Ok(()),
            false => Err(FormatError::ChecksumMismatch { what, part: Part::Trailer, offset, stored, computed }),
        };
        let trailer_at = self.size - TRAILER_SIZE as u64;
        mismatch(Checksum::File, trailer_at + HASHED_SIZE as u64, self.trailer.file_checksum, crc.finish())?;
        if is_tracked_snapshot(&self.header) {
            let mut pages = DatabaseChecksum::default();
            segments.iter().for_each(|s| pages.join(s.checksum));
            mismatch(Checksum::Database, trailer_at, self.trailer.post_apply_checksum, pages.finish())?;
        }
        Ok(())
    }
}

/// Parses the bytes from the end mark of the pages (6 zero bytes) to the end of the index, and computes
/// their CRC.
struct IndexReader {
    parser: IndexParser,
    crc: FileCrc,
    /// Byte offset in the file of the end mark (6 zero bytes after the last page), for error messages.
    end_mark_at: u64,
    /// Number of bytes of the end mark that were not read yet.
    end_mark_left: usize,
    /// For a snapshot: checks that the index lists every page of the database. None for other files.
    snapshot: Option<SnapshotPages>,
}

impl IndexReader {
    fn new(parts: &Tail, header: &Header) -> Self {
        let end_mark = parts.end_mark.clone();
        Self {
            parser: IndexParser::new(parts.index.start),
            crc: FileCrc::new(),
            end_mark_at: end_mark.start,
            end_mark_left: (end_mark.end - end_mark.start) as usize,
            snapshot: header.is_snapshot().then(|| SnapshotPages::new(header.page_size, header.commit)),
        }
    }

    /// Parses the next `bytes` and calls `on_entry` for each complete index entry.
    fn feed(&mut self, bytes: &[u8], on_entry: &mut dyn FnMut(IndexEntry)) -> Result<(), FormatError> {
        self.crc.update(bytes);
        let (mark, rest) = bytes.split_at(self.end_mark_left.min(bytes.len()));
        self.end_mark_left -= mark.len();
        if let Some(&found) = mark.iter().find(|&&b| b != 0) {
            let (part, fault) = (Part::Pages, Fault::EndMark { found: found.into() });
            return Err(FormatError::Malformed { part, offset: self.end_mark_at, fault });
        }
        let snapshot = &mut self.snapshot;
        self.parser.feed(rest, &mut |entry: IndexEntry| {
            if let Some(snapshot) = snapshot {
                snapshot.see(entry.pgno, entry.offset)?;
            }
            on_entry(entry);
            Ok(())
        })?;
        Ok(())
    }

    /// Ends the parsing and returns the CRC of all bytes from the end mark to the end of the index. `size`
    /// is the file's size in bytes.
    ///
    /// # Errors
    /// The index is not complete, or the file is a snapshot and lacks a page.
    fn finish(self, size: u64) -> Result<FileCrc, FormatError> {
        if !self.parser.is_done() {
            return Err(self.parser.truncated(size));
        }
        if let Some(snapshot) = &self.snapshot {
            snapshot.finish(self.end_mark_at)?;
        }
        Ok(self.crc)
    }
}
