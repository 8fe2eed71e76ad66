//! Divides a large LTX file into segments, which different workers fetch and decode side by side. A
//! segment begins and ends at a boundary between two page frames (the stored form of one page). The file's
//! page index tells where these boundaries are. docs/decisions/06-segments.md explains the sizes.

use crate::ltx::Pgno;
use crate::ltx::index::{FrameHash, IndexEntry};
use std::ops::Range;

/// When less than 16 full segments (of 8 MiB) of a file are left, the next segment is 1/16 of the remaining bytes. So
/// segments get shorter towards the end of the file, and connections of equal speed finish at about the same time.
pub(super) const END_DIVISOR: u64 = 16;
/// A segment is at least 1/8 as long as a full one (1 MiB), so that the requests do not become too many. Only the
/// last segment of a file may be shorter.
const SMALLEST_DIVISOR: u64 = 8;

/// The range of bytes and pages that one segment covers in its file.
#[derive(PartialEq, Eq)]
pub(crate) struct SegmentBounds {
    /// The segment's byte range in the file. It begins and ends between two page frames.
    pub bytes: Range<u64>,
    /// Number of the segment's first page.
    pub first: Pgno,
    /// Number of the segment's last page.
    pub last: Pgno,
    /// Number of the last page of the preceding segment. None for the first segment of a file. The parser checks that
    /// page numbers ascend.
    pub after: Option<Pgno>,
    /// Number of the first page of the following segment. None for the last segment of a file.
    pub next: Option<Pgno>,
    /// Hash of (page number, offset, size) of all the segment's entries in the page index. The frames that
    /// are fetched later must give the same hash.
    pub frames: FrameHash,
}

/// The smallest length in bytes of the segment that begins at byte `offset` of a file of `size` bytes. The
/// segment ends at the first frame boundary at or after this length.
pub(super) fn segment_len(offset: u64, size: u64, segment_bytes: u64) -> u64 {
    let smallest = (segment_bytes / SMALLEST_DIVISOR).max(1);
    (size.saturating_sub(offset) / END_DIVISOR).clamp(smallest, segment_bytes.max(smallest))
}

/// Groups the entries of a large file's page index into segments, one entry at a time.
pub(super) struct Cutter {
    /// Size of the large file in bytes.
    size: u64,
    /// Length of a full segment in bytes (8 MiB, except in tests).
    segment_bytes: u64,
    /// The segment that index entries are being added to. None before the first entry.
    cut: Option<SegmentBounds>,
}

impl Cutter {
    /// Makes a [`Cutter`] for a file of `size` bytes and full segments of about `segment_bytes`.
    pub(super) const fn new(size: u64, segment_bytes: u64) -> Self {
        Self { size, segment_bytes, cut: None }
    }

    /// Adds the next entry of the page index. If the segment that is being filled has reached its length, `entry`
    /// begins a new segment, and the finished one is returned. Otherwise returns None. Entries must ascend by page
    /// number and offset.
    pub(super) fn add(&mut self, entry: IndexEntry) -> Option<SegmentBounds> {
        let len = |start| segment_len(start, self.size, self.segment_bytes);
        let is_full = |cut: &SegmentBounds| entry.offset - cut.bytes.start >= len(cut.bytes.start);
        let whole = self.cut.take_if(|cut| is_full(cut)).map(|cut| SegmentBounds { next: Some(entry.pgno), ..cut });
        let cut = self.cut.get_or_insert_with(|| SegmentBounds {
            bytes: entry.offset..entry.offset,
            first: entry.pgno,
            last: entry.pgno,
            after: whole.as_ref().map(|cut| cut.last),
            next: None,
            frames: FrameHash::new(),
        });
        cut.bytes.end = entry.offset + u64::from(entry.size);
        cut.last = entry.pgno;
        cut.frames.add(entry.pgno, entry.offset, entry.size);
        whole
    }

    /// Ends the last segment of the file and returns it. None if no index entry was added.
    pub(super) fn finish(self) -> Option<SegmentBounds> {
        self.cut
    }
}

#[cfg(test)]
mod tests {
    use crate::ltx::header::HEADER_SIZE;
    use crate::restore::large::cuts::*;
    use crate::restore::large::source::gets;

    #[test]
    fn segments_are_whole_first_and_shorter_near_the_end() {
        let size = 600 << 20;
        let (mut cutter, frame) = (Cutter::new(size, 8 << 20), 3000);
        let mut cuts = Vec::new();
        for i in 0..size / frame {
            let entry =
                IndexEntry { pgno: Pgno(i as u32 + 1), offset: HEADER_SIZE as u64 + i * frame, size: frame as u32 };
            cuts.extend(cutter.add(entry));
        }
        cuts.extend(cutter.finish());
        let lens: Vec<u64> = cuts.iter().map(|cut| cut.bytes.end - cut.bytes.start).collect();
        assert!(cuts.windows(2).all(|pair| pair[0].bytes.end == pair[1].bytes.start));
        assert!(cuts.windows(2).all(|pair| pair[0].next == Some(pair[1].first) && pair[1].after == Some(pair[0].last)));
        assert!(cuts[0].after.is_none() && cuts[cuts.len() - 1].next.is_none());
        assert!(lens[..50].iter().all(|&len| (8 << 20..(8 << 20) + frame).contains(&len)), "{lens:?}");
        let last = &lens[lens.len() - 16..lens.len() - 1];
        assert!(last.iter().all(|&len| (1 << 20..(1 << 20) + frame).contains(&len)), "{last:?}");
        let counted = gets(size, 8 << 20) - 1 - 8;
        assert!(counted.abs_diff(lens.len() as u64) <= 1, "{counted} {}", lens.len());
    }
}
