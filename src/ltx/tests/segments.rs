//! Tests of a file that is fetched as a restore fetches large files: first the tail, then the index, then the
//! segments in any order.

use super::samples::{self, FIXTURES};
use crate::ltx::crc::FileCrc;
use crate::ltx::frame::{Encoding, FrameParser, Next};
use crate::ltx::header::{HEADER_SIZE, Header};
use crate::ltx::index::{FrameHash, IndexParser};
use crate::ltx::tail::{TAIL_SIZE, Tail};
use crate::ltx::trailer::{HASHED_SIZE, Trailer};
use crate::ltx::{FormatError, Pgno};
use bytes::Bytes;

struct Segment {
    start: u64,
    end: u64,
    after: Option<Pgno>,
    hash: FrameHash,
}

/// Decodes the pages segment by segment, beginning with the last segment.
fn by_segments(file: &[u8], segment_size: u64, chunk: usize) -> Result<samples::Pages, FormatError> {
    let slice = |range: std::ops::Range<u64>| &file[range.start as usize..range.end as usize];
    let header = Header::parse(file)?;
    let tail = Tail::locate(file.len() as u64, &file[file.len() - TAIL_SIZE..])?;
    let mut segments: Vec<Segment> = Vec::new();
    let mut index = IndexParser::new(tail.index.start);
    let mut last = None;
    for piece in slice(tail.index.clone()).chunks(chunk) {
        index.feed(piece, &mut |entry| {
            let fresh = segments.last().is_none_or(|segment| entry.offset - segment.start >= segment_size);
            if fresh {
                segments.push(Segment { start: entry.offset, end: entry.offset, after: last, hash: FrameHash::new() });
            }
            let segment = segments.last_mut().unwrap();
            segment.end = entry.offset + u64::from(entry.size);
            segment.hash.add(entry.pgno, entry.offset, entry.size);
            last = Some(entry.pgno);
            Ok(())
        })?;
    }
    assert!(index.is_done());
    let mut results = Vec::new();
    for segment in segments.iter().rev() {
        let (mut crc, mut hash, mut pages) = (FileCrc::new(), FrameHash::new(), Vec::new());
        let mut parser = FrameParser::new(header.page_size, segment.start, segment.after);
        let mut chunks = slice(segment.start..segment.end).chunks(chunk);
        loop {
            match parser.next()? {
                Next::Frame(frame) => {
                    let mut page = vec![0; header.page_size.bytes()];
                    frame.decode_into(&mut page)?;
                    crc.update(frame.head);
                    crc.update(&page);
                    hash.add(frame.pgno, frame.offset, frame.size);
                    pages.push((frame.pgno, page));
                }
                Next::NeedMore => match chunks.next() {
                    Some(chunk) => parser.push(Bytes::copy_from_slice(chunk)),
                    None => break,
                },
                Next::End { .. } => panic!("no end mark inside"),
            }
        }
        parser.end_segment(segment.end)?;
        assert_eq!(hash, segment.hash);
        results.push((crc, pages));
    }
    let mut crc = FileCrc::new();
    crc.update(&file[..HEADER_SIZE]);
    let mut pages = Vec::new();
    for (part, mut more) in results.into_iter().rev() {
        crc.append(&part);
        pages.append(&mut more);
    }
    let trailer = *slice(tail.trailer.clone()).first_chunk().unwrap();
    crc.update(slice(tail.end_mark));
    crc.update(slice(tail.index));
    crc.update(&trailer[..HASHED_SIZE]);
    assert_eq!(Trailer::parse(&trailer, tail.trailer.start, &header)?.file_checksum, crc.finish());
    Ok(pages)
}

#[test]
fn segments_give_what_the_whole_file_gives() {
    let mut files: Vec<Vec<u8>> = FIXTURES.iter().map(|file| file.to_vec()).collect();
    let pages: samples::Pages = (1..200).map(|pgno| (Pgno(pgno), samples::page(1024, pgno.into(), 300))).collect();
    files.push(samples::encode(&samples::header(1024, 199, 1, 3), &pages, Encoding::Block, 0x55aa));
    files.push(samples::encode(&samples::header(512, 0, 1, 3), &[], Encoding::Block, 0));
    for file in files {
        let (_, whole) = samples::decode(&file).unwrap();
        for (segment_size, chunk) in [(1, 1), (500, 13), (5000, 700), (1 << 20, 1 << 20)] {
            assert_eq!(by_segments(&file, segment_size, chunk).unwrap(), whole, "{segment_size} {chunk}");
        }
    }
}

#[test]
fn a_segment_that_ends_inside_a_frame_is_refused() {
    let file = Bytes::from_static(FIXTURES[1]);
    let header = Header::parse(&file).unwrap();
    let tail = Tail::locate(file.len() as u64, &file).unwrap();
    let mut parser = FrameParser::new(header.page_size, 100, None);
    let end = tail.frames.end - 1;
    parser.push(file.slice(100..end as usize));
    while let Next::Frame(_) = parser.next().unwrap() {}
    assert!(parser.end_segment(end).is_err());
    parser.push(file.slice(end as usize..tail.frames.end as usize));
    assert!(matches!(parser.next(), Ok(Next::Frame(_))));
    assert_eq!(parser.end_segment(tail.frames.end), Ok(()));
    // The end mark arrives byte by byte, followed by the index.
    for byte in tail.end_mark.clone() {
        assert!(matches!(parser.next(), Ok(Next::NeedMore)));
        parser.push(file.slice(byte as usize..byte as usize + 1));
    }
    assert!(matches!(parser.next(), Ok(Next::End { offset }) if offset == tail.index.start));
    parser.push(file.slice(tail.index.start as usize..));
    assert_eq!(parser.take_rest(), file.slice(tail.index.start as usize..));
}
