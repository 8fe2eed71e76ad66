//! The check for whole LTX files. Each input is decoded in one piece, in chunks and in segments by Hydrant's
//! decoder, and by the naive decoder. Either all accept it with the same pages, or all reject it.
//!
//! Almost every random change breaks a checksum or the index. Each input is therefore tried twice: as it is, and as
//! the beginning of a file (header and page frames) to which the matching rest is computed.

use bytes::Bytes;
use hydrant::ltx::crc::{DatabaseChecksum, FileCrc};
use hydrant::ltx::decoder::{DecodeStep, FileDecoder, verify_file};
use hydrant::ltx::frame::{END_MARK_SIZE, FrameParser, Next};
use hydrant::ltx::header::{HEADER_SIZE, Header};
use hydrant::ltx::index::{FrameHash, IndexParser};
use hydrant::ltx::snapshot::SnapshotPages;
use hydrant::ltx::tail::Tail;
use hydrant::ltx::trailer::{HASHED_SIZE, Trailer};
use hydrant::ltx::{Fault, FormatError, Pgno};
use hydrant::sim::naive;
use std::collections::BTreeMap;

/// The size limit of an input in bytes. A file of this size decodes to at most 16 MiB, which this check and the
/// naive decoder keep in memory.
const MAX_FILE_BYTES: usize = 64 << 10;
/// The byte range of the field `commit` (the database size in pages) in the LTX header.
const COMMIT: std::ops::Range<usize> = 12..16;

type Pages = BTreeMap<u32, Vec<u8>>;

pub(super) fn check(data: &[u8]) {
    if data.len() > MAX_FILE_BYTES {
        return;
    }
    compare(data);
    if let Some(file) = completed(data) {
        compare(&file);
    }
}

fn compare(file: &[u8]) {
    let whole = whole(file);
    // The chunk size can be anything and must depend only on the file, so that a finding can be repeated.
    let chunk = 1 + file.last().map_or(0, |&byte| usize::from(byte)) * 3;
    same("in chunks", &whole, &chunked(file, chunk));
    same("in segments", &whole, &segmented(file, chunk));
    match (&whole, naive_pages(file)) {
        (Ok(whole), Ok(naive)) => assert!(*whole == naive, "other pages than the naive decoder"),
        (Err(_), Err(_)) => {}
        // Hydrant's decoder limits the size of a frame; the naive decoder does not.
        (Err(FormatError::Malformed { fault: Fault::FrameSize { .. }, .. }), Ok(_)) => {}
        (whole, naive) => {
            panic!("decoder: {:?}, naive: {:?}", whole.as_ref().map(BTreeMap::len), naive.map(|p| p.len()))
        }
    }
}

fn same(how: &str, whole: &Result<Pages, FormatError>, other: &Result<Pages, FormatError>) {
    match (whole, other) {
        (Ok(whole), Ok(other)) => assert!(whole == other, "other pages {how}"),
        (Err(_), Err(_)) => {}
        _ => panic!("whole: {:?}, {how}: {:?}", whole.as_ref().map(BTreeMap::len), other.as_ref().map(BTreeMap::len)),
    }
}

fn whole(file: &[u8]) -> Result<Pages, FormatError> {
    let mut pages = Pages::new();
    verify_file(Bytes::copy_from_slice(file), None, |pgno, page| {
        pages.insert(pgno.0, page.to_vec());
    })?;
    Ok(pages)
}

fn chunked(file: &[u8], chunk: usize) -> Result<Pages, FormatError> {
    let mut pages = Pages::new();
    let mut decoder = FileDecoder::new(file.len() as u64, None);
    let mut chunks = file.chunks(chunk);
    let mut page = Vec::new();
    loop {
        match decoder.next_page()? {
            DecodeStep::NeedMore => {
                decoder.push(Bytes::copy_from_slice(chunks.next().expect("more than the file is asked for")))
            }
            DecodeStep::Header(header) => page.resize(header.page_size.bytes(), 0),
            DecodeStep::Page(encoded) => {
                let pgno = encoded.pgno().0;
                encoded.decode_into(&mut page)?;
                pages.insert(pgno, page.clone());
            }
            DecodeStep::Done(_) => return Ok(pages),
        }
    }
}

fn naive_pages(file: &[u8]) -> Result<Pages, naive::NaiveError> {
    let decoded = naive::decode_file(file)?;
    // The checksum of the whole database is compared when the database is put together, which is possible for a
    // snapshot.
    if decoded.min_txid == 1 {
        naive::restore([file])?;
    }
    Ok(decoded.pages)
}

/// Decodes as a restore reads large files: the tail first, then the index, then the segments in any order.
fn segmented(file: &[u8], segment_bytes: usize) -> Result<Pages, FormatError> {
    let slice = |range: std::ops::Range<u64>| &file[range.start as usize..range.end as usize];
    let header = Header::parse(file)?;
    let tail = Tail::locate(file.len() as u64, file)?;
    let mut segments: Vec<(std::ops::Range<u64>, Option<Pgno>, FrameHash)> = Vec::new();
    let mut index = IndexParser::new(tail.index.start);
    let mut snapshot = header.is_snapshot().then(|| SnapshotPages::new(header.page_size, header.commit));
    let mut last = None;
    let consumed = index.feed(slice(tail.index.clone()), &mut |entry| {
        if let Some(snapshot) = &mut snapshot {
            snapshot.see(entry.pgno, entry.offset)?;
        }
        if segments.last().is_none_or(|(range, ..)| entry.offset - range.start >= segment_bytes as u64) {
            segments.push((entry.offset..entry.offset, last, FrameHash::new()));
        }
        if let Some((range, _, hash)) = segments.last_mut() {
            range.end = entry.offset + u64::from(entry.size);
            hash.add(entry.pgno, entry.offset, entry.size);
        }
        last = Some(entry.pgno);
        Ok(())
    })?;
    if !index.is_done() || consumed != slice(tail.index.clone()).len() {
        return Err(index.truncated(file.len() as u64));
    }
    if let Some(snapshot) = snapshot {
        snapshot.finish(tail.index.start)?;
    }
    let mut crcs = Vec::new();
    let mut pages = Pages::new();
    let mut database = DatabaseChecksum::default();
    for (range, after, expected) in segments.iter().rev() {
        let (mut crc, mut hash, mut part) = (FileCrc::new(), FrameHash::new(), DatabaseChecksum::default());
        let mut parser = FrameParser::new(header.page_size, range.start, *after);
        parser.push(Bytes::copy_from_slice(slice(range.clone())));
        let mut page = vec![0; header.page_size.bytes()];
        while let Next::Frame(frame) = parser.next()? {
            frame.decode_into(&mut page)?;
            crc.update(frame.head);
            crc.update(&page);
            part.add(frame.pgno, &page);
            hash.add(frame.pgno, frame.offset, frame.size);
            pages.insert(frame.pgno.0, page.clone());
        }
        parser.end_segment(range.end)?;
        if hash != *expected {
            return Err(index.truncated(0));
        }
        database.join(part);
        crcs.push(crc);
    }
    let mut crc = FileCrc::new();
    crc.update(&file[..HEADER_SIZE]);
    for part in crcs.iter().rev() {
        crc.append(part);
    }
    if slice(tail.end_mark.clone()) != [0; END_MARK_SIZE] {
        return Err(index.truncated(0));
    }
    crc.update(&file[tail.end_mark.start as usize..tail.trailer.start as usize]);
    let bytes = slice(tail.trailer.clone()).first_chunk().expect("the tail is long enough");
    crc.update(&bytes[..HASHED_SIZE]);
    let trailer = Trailer::parse(bytes, tail.trailer.start, &header)?;
    let wrong_database =
        header.is_snapshot() && header.is_tracked() && trailer.post_apply_checksum != database.finish();
    if trailer.file_checksum != crc.finish() || wrong_database {
        return Err(index.truncated(0));
    }
    Ok(pages)
}

/// Builds the file that begins with `data`, as far as the frames in it are complete and can be decoded. The rest is
/// computed to match.
fn completed(data: &[u8]) -> Option<Vec<u8>> {
    let header = Header::parse(data).ok()?;
    let mut parser = FrameParser::new(header.page_size, HEADER_SIZE as u64, None);
    parser.push(Bytes::copy_from_slice(data.get(HEADER_SIZE..)?));
    let mut frames_crc = FileCrc::new();
    let mut database = DatabaseChecksum::default();
    let mut index = Vec::new();
    let mut end = HEADER_SIZE;
    let mut last = 0;
    let mut page = vec![0; header.page_size.bytes()];
    while let Ok(Next::Frame(frame)) = parser.next() {
        if frame.decode_into(&mut page).is_err() {
            break;
        }
        frames_crc.update(frame.head);
        frames_crc.update(&page);
        database.add(frame.pgno, &page);
        for value in [u64::from(frame.pgno.0), frame.offset, u64::from(frame.size)] {
            put_varint(value, &mut index);
        }
        end = frame.offset as usize + frame.size as usize;
        last = frame.pgno.0;
    }
    index.push(0);
    let index_size = index.len() as u64;
    index.extend(index_size.to_be_bytes());

    let mut file = data.get(..end)?.to_vec();
    if header.is_snapshot() {
        file[COMMIT].copy_from_slice(&last.to_be_bytes());
    }
    let mut crc = FileCrc::new();
    crc.update(&file[..HEADER_SIZE]);
    crc.append(&frames_crc);
    let rest = file.len();
    file.extend([0; END_MARK_SIZE]);
    file.extend(index);
    file.extend(if header.is_tracked() { database.finish() } else { 0 }.to_be_bytes());
    crc.update(&file[rest..]);
    file.extend(crc.finish().to_be_bytes());
    Some(file)
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
