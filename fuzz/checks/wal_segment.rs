//! The check for the WAL of an index. Each input is read in one piece, in chunks and in two segments by Hydrant's
//! reader, and by the naive reader. Either all accept it with the same frames, or all reject it.
//!
//! Almost every random change breaks a checksum. Each input is therefore tried twice: as it is, and with salts and
//! checksums that match.

use hydrant::sim::naive_v3;
use hydrant::wal::{WalError, WalReader};

/// The size limit of an input in bytes.
const MAX_WAL_BYTES: usize = 64 << 10;
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

type Frames = Vec<(u32, u32, Vec<u8>)>;

pub(super) fn check(data: &[u8]) {
    if data.len() > MAX_WAL_BYTES {
        return;
    }
    compare(data);
    if let Some(wal) = completed(data) {
        compare(&wal);
    }
}

fn compare(wal: &[u8]) {
    let whole = segments(&[wal], wal.len().max(1));
    // The chunk size can be anything and must depend only on the WAL, so that a finding can be repeated.
    let chunk = 1 + wal.last().map_or(0, |&byte| usize::from(byte)) * 7;
    assert_eq!(whole, segments(&[wal], chunk), "in chunks of {chunk}");
    match (&whole, naive_v3::read_wal(wal)) {
        (Ok(frames), Ok(naive)) => {
            assert!(*frames == naive.frames, "other frames than the naive reader");
            let frame = FRAME_HEADER + naive.page_size as usize;
            let cut = HEADER + frames.len() / 2 * frame;
            assert_eq!(whole, segments(&[&wal[..cut], &wal[cut..]], chunk), "in segments");
        }
        (Err(error), Err(naive)) => assert_eq!(error.class().as_str(), naive.class, "reader: {error}, naive: {naive}"),
        (whole, naive) => {
            panic!("reader: {:?}, naive: {:?}", whole.as_ref().map(Vec::len), naive.map(|wal| wal.frames.len()))
        }
    }
}

fn segments(segments: &[&[u8]], chunk: usize) -> Result<Frames, WalError> {
    let mut reader = WalReader::new();
    let mut frames = Frames::new();
    for segment in segments {
        for bytes in segment.chunks(chunk) {
            reader.push::<WalError>(bytes, &mut |frame| {
                frames.push((frame.pgno.0, frame.commit, frame.page.to_vec()));
                assert_eq!(frame.number, frames.len() as u64);
                Ok(())
            })?;
        }
        reader.end_segment()?;
    }
    let last = frames.iter().rposition(|frame| frame.1 != 0);
    assert_eq!(reader.last_commit(), last.map(|last| (last as u64 + 1, frames[last].1)));
    assert_eq!(reader.is_inside_transaction(), last.map_or(0, |last| last + 1) < frames.len());
    assert_eq!(reader.position(), segments.iter().map(|segment| segment.len() as u64).sum::<u64>());
    assert_eq!(reader.frames(), frames.len() as u64);
    Ok(frames)
}

/// Builds the WAL that has the fields and pages of `data`, with the right magic, version, salts and checksums. Its page
/// size is 512, or that of `data` if it is allowed.
fn completed(data: &[u8]) -> Option<Vec<u8>> {
    let (head, mut rest) = data.split_at_checked(HEADER)?;
    let big_endian = head[3] & 1 == 1;
    let mut wal = [&[0x37, 0x7f, 0x06, 0x82 | u8::from(big_endian)][..], &3_007_000u32.to_be_bytes()].concat();
    let page_size = u32::from_be_bytes(head[8..12].try_into().expect("four bytes"));
    let page_size = if page_size.is_power_of_two() && (512..=65536).contains(&page_size) { page_size } else { 512 };
    wal.extend(page_size.to_be_bytes());
    wal.extend(&head[12..24]);
    let mut sums = add([0; 2], &wal, big_endian);
    wal.extend(sums.iter().flat_map(|sum| sum.to_be_bytes()));
    while let Some((frame, after)) = rest.split_at_checked(FRAME_HEADER + page_size as usize) {
        let (numbers, page) = (&frame[..8], &frame[FRAME_HEADER..]);
        sums = add(add(sums, numbers, big_endian), page, big_endian);
        wal.extend(numbers);
        wal.extend(&head[16..24]);
        wal.extend(sums.iter().flat_map(|sum| sum.to_be_bytes()));
        wal.extend(page);
        rest = after;
    }
    // The last bytes may be a part of a frame, which both must refuse.
    wal.extend(rest);
    Some(wal)
}

fn add([mut first, mut second]: [u32; 2], bytes: &[u8], big_endian: bool) -> [u32; 2] {
    for (i, word) in bytes.chunks_exact(4).enumerate() {
        let word = word.try_into().expect("four bytes");
        let word = if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) };
        if i % 2 == 0 {
            first = first.wrapping_add(word).wrapping_add(second);
        } else {
            second = second.wrapping_add(word).wrapping_add(first);
        }
    }
    [first, second]
}
