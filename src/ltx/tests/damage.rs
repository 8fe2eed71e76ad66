//! Tests of whole files. A file that was written must be read back, however it is cut into chunks. A damaged file
//! must be refused.

use super::samples::{self, FIXTURES, any_encoding, any_file, decode, decode_chunked};
use crate::error::Class;
use crate::ltx::decoder::{DecodeStep, FileDecoder, verify_file};
use crate::ltx::frame::Encoding;
use crate::ltx::header::Header;
use crate::ltx::{Fault, FormatError, Part, Pgno, Txid};
use bytes::Bytes;
use lz4_flex::frame::FrameDecoder;
use proptest::prelude::*;
use std::io::Read;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn round_trip_in_any_chunks((header, pages) in any_file(), first in any_encoding(), mix: u64,
                                sizes in prop::collection::vec(1usize..3000, 1..5)) {
        let file = samples::encode(&header, &pages, first, mix);
        let (verified, found) = decode(&file).unwrap();
        prop_assert_eq!(verified.header, header);
        prop_assert_eq!(verified.size, file.len() as u64);
        prop_assert_eq!(verified.pages, pages.len() as u64);
        prop_assert_eq!(&found, &pages);
        prop_assert_eq!(decode_chunked(&file, &sizes), Ok((verified, found)));
    }

    #[test]
    fn a_changed_byte_is_noticed((header, pages) in any_file(), first in any_encoding(), mix: u64,
                                 at: prop::sample::Index, xor in 1u8..) {
        let mut file = samples::encode(&header, &pages, first, mix);
        let at = at.index(file.len());
        file[at] ^= xor;
        // If a damaged file still passes, the damage is in the LZ4 data, where two encodings may mean the same
        // bytes. The header and the pages must then be unchanged.
        if let Ok((verified, found)) = decode(&file) {
            prop_assert_eq!((verified.header, found), (header, pages));
        }
    }

    #[test]
    fn noise_never_panics(mut file in prop::collection::vec(any::<u8>(), 0..400), header: bool, chunk in 1usize..50) {
        if header {
            let header = samples::header(512, 2, 3, 3).encode();
            file.splice(..0, header);
        }
        let whole = decode(&file);
        prop_assert_eq!(decode_chunked(&file, &[chunk]), whole);
    }
}

#[test]
fn lz4_frames_are_readable_by_others() {
    let page = samples::page(4096, 5, 1000);
    let header = samples::header(4096, 1, 1, 1);
    let file = samples::encode(&header, &[(Pgno(1), page.clone())], Encoding::Frame, 0);
    let mut out = Vec::new();
    FrameDecoder::new(&file[106..]).take(4096).read_to_end(&mut out).unwrap();
    assert_eq!(out, page);
}

#[test]
fn every_split_gives_the_same() {
    for file in FIXTURES {
        let whole = decode(file).unwrap();
        for cut in 0..=file.len() {
            assert_eq!(decode_chunked(file, &[cut.max(1), file.len()]).as_ref(), Ok(&whole), "{cut}");
        }
        for size in 1..40 {
            assert_eq!(decode_chunked(file, &[size]).as_ref(), Ok(&whole), "{size}");
        }
    }
}

#[test]
fn pushing_ahead_gives_the_same() {
    for file in FIXTURES {
        let whole = decode(file).unwrap();
        let mut decoder = FileDecoder::new(file.len() as u64, None);
        for piece in file.chunks(100) {
            decoder.push(Bytes::copy_from_slice(piece));
        }
        let mut pages = 0;
        loop {
            match decoder.next_page().unwrap() {
                DecodeStep::Page(page) => {
                    page.decode_into(&mut vec![0; whole.0.header.page_size.bytes()]).unwrap();
                    pages += 1;
                }
                DecodeStep::Done(verified) => {
                    assert_eq!((verified, pages), (whole.0, whole.0.pages));
                    break;
                }
                DecodeStep::Header(_) => {}
                DecodeStep::NeedMore => panic!("all is there"),
            }
        }
    }
}

#[test]
fn truncation_at_every_byte_is_named() {
    for file in FIXTURES {
        for len in 0..file.len() {
            let error = decode(&file[..len]).unwrap_err();
            let FormatError::Truncated { size, needed, .. } = error else { panic!("{len}: {error}") };
            assert_eq!((size, error.class(), error.offset()), (len as u64, Class::Truncated, len as u64));
            assert!(needed > len as u64 && needed <= file.len() as u64, "{len}: {error}");
            assert_eq!(decode_chunked(&file[..len], &[7]), Err(error), "{len}");
        }
    }
    assert_eq!(decode(&[]).unwrap_err().to_string(), "the file is empty");
}

#[test]
fn every_flipped_bit_is_noticed() {
    for original in FIXTURES {
        let (_, pages) = decode(original).unwrap();
        let mut noticed = 0;
        for bit in 0..original.len() * 8 {
            let mut file = original.to_vec();
            file[bit / 8] ^= 1 << (bit % 8);
            match decode(&file) {
                Ok((_, found)) => assert_eq!(found, pages, "bit {bit}"),
                Err(_) => noticed += 1,
            }
        }
        assert!(noticed > original.len() * 8 * 9 / 10, "{noticed}");
    }
}

#[test]
fn an_undecoded_page_fails_the_file() {
    let file = Bytes::from_static(FIXTURES[0]);
    let mut decoder = FileDecoder::new(file.len() as u64, None);
    decoder.push(file);
    let error = loop {
        match decoder.next_page() {
            Ok(DecodeStep::Done(_)) => panic!("passed"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.class(), Class::ChecksumMismatch);
}

#[test]
fn bytes_after_the_trailer() {
    for file in FIXTURES {
        let mut longer = file.to_vec();
        longer.extend([0; 40]);
        let fault = Fault::TrailingBytes { bytes: 40 };
        let error = FormatError::Malformed { part: Part::Trailer, offset: file.len() as u64, fault };
        assert_eq!(decode(&longer), Err(error));
        assert_eq!(decode_chunked(&longer, &[file.len(), 40]), Err(error));
    }
}

#[test]
fn names_are_compared() {
    let (verified, _) = decode(FIXTURES[1]).unwrap();
    let Header { min_txid, max_txid, .. } = verified.header;
    let file = Bytes::from_static(FIXTURES[1]);
    assert_eq!(verify_file(file.clone(), Some((min_txid, max_txid)), |_, _| {}), Ok(verified));
    let error = verify_file(file, Some((min_txid, Txid(max_txid.0 + 1))), |_, _| {}).unwrap_err();
    assert_eq!(error.class(), Class::NameAndHeaderDisagree);
}

fn snapshot_error(commit: u32, pgnos: &[u32]) -> Option<(Option<u32>, Option<u32>)> {
    let pages: Vec<_> = pgnos.iter().map(|&pgno| (Pgno(pgno), vec![pgno as u8; 512])).collect();
    let file = samples::encode(&samples::header(512, commit, 1, 4), &pages, Encoding::Block, 0);
    match decode(&file) {
        Ok(_) => None,
        Err(FormatError::Malformed { fault: Fault::SnapshotPage { expected, found }, .. }) => {
            Some((expected.map(|p| p.0), found.map(|p| p.0)))
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn snapshots_are_complete() {
    assert_eq!(snapshot_error(0, &[]), None);
    assert_eq!(snapshot_error(2, &[1, 2]), None);
    assert_eq!(snapshot_error(2, &[1]), Some((Some(2), None)));
    assert_eq!(snapshot_error(1, &[]), Some((Some(1), None)));
    assert_eq!(snapshot_error(3, &[1, 3]), Some((Some(2), Some(3))));
    assert_eq!(snapshot_error(3, &[2, 3]), Some((Some(1), Some(2))));
    assert_eq!(snapshot_error(1, &[1, 2]), Some((None, Some(2))));
    assert_eq!(snapshot_error(0, &[1]), Some((None, Some(1))));
}

#[test]
fn a_tracked_snapshot_checks_the_database() {
    let mut header = samples::header(512, 2, 1, 4);
    header.flags = 0;
    let pages = [(Pgno(1), vec![1; 512]), (Pgno(2), vec![2; 512])];
    let good = samples::encode(&header, &pages, Encoding::Block, 0);
    let (verified, _) = decode(&good).unwrap();
    assert_eq!(verified.trailer.post_apply_checksum >> 63, 1);
    let finish = |post_apply: u64| {
        let mut encoder = crate::ltx::encode::Encoder::new(&header, Encoding::Frame);
        pages.iter().for_each(|(pgno, page)| encoder.page(*pgno, page).unwrap());
        decode(&encoder.finish(post_apply).unwrap()).map(|_| ()).map_err(|error| error.class())
    };
    assert_eq!(finish(verified.trailer.post_apply_checksum), Ok(()));
    assert_eq!(finish(verified.trailer.post_apply_checksum ^ 1), Err(Class::ChecksumMismatch));
    assert_eq!(finish(5), Err(Class::Malformed), "lacks its top bit");
    header.flags = 2;
    let mut encoder = crate::ltx::encode::Encoder::new(&header, Encoding::Block);
    pages.iter().for_each(|(pgno, page)| encoder.page(*pgno, page).unwrap());
    assert_eq!(decode(&encoder.finish(1 << 63).unwrap()).unwrap_err().class(), Class::Malformed);
}

#[test]
fn an_index_that_disagrees_is_refused() {
    // The file has two pages of equal frame size. Its index gives the second page the number 3 instead of 2, and
    // the checksum is recomputed so that only the index is wrong.
    let header = samples::header(512, 9, 4, 4);
    let pages = |second: u32| [(Pgno(1), vec![0; 512]), (Pgno(second), vec![0; 512])];
    let (two, three) = (
        samples::encode(&header, &pages(2), Encoding::Block, 0),
        samples::encode(&header, &pages(3), Encoding::Block, 0),
    );
    assert_eq!(two.len(), three.len());
    let index = crate::ltx::tail::Tail::locate(two.len() as u64, &two).unwrap().index;
    let mut file = two.clone();
    file[index.start as usize..index.end as usize].copy_from_slice(&three[index.start as usize..index.end as usize]);
    let error = decode(&file).unwrap_err();
    assert_eq!(error, FormatError::Malformed { part: Part::Index, offset: index.start, fault: Fault::IndexDisagrees });
}
