//! Where a large file is cut into segments: at frame boundaries, as its index says.

use crate::ltx::Pgno;
use crate::ltx::index::{FrameHash, IndexEntry};
use std::ops::Range;

/// Near a file's end a segment takes this part of what is left, but at least that part of a
/// whole one: connections that are equally fast then end together.
pub(in crate::restore) const END_DIVISOR: u64 = 16;
const SMALLEST_DIVISOR: u64 = 8;

/// A segment's place in its file.
pub struct SegmentBounds {
    /// Bytes of the file, from one frame's beginning to another's.
    pub bytes: Range<u64>,
    pub first: Pgno,
    last: Pgno,
    /// The last page of the cut before.
    pub after: Option<Pgno>,
    /// The first page of the next cut.
    pub next: Option<Pgno>,
    pub frames: FrameHash,
}

/// How long the segment that begins at `offset` of a file of `size` bytes is to be.
pub(in crate::restore) fn segment_len(offset: u64, size: u64, segment_bytes: u64) -> u64 {
    let smallest = (segment_bytes / SMALLEST_DIVISOR).max(1);
    (size.saturating_sub(offset) / END_DIVISOR).clamp(smallest, segment_bytes.max(smallest))
}

/// Cuts an index into segments.
pub struct Cutter {
    /// The file's.
    size: u64,
    segment_bytes: u64,
    /// The segment that grows.
    cut: Option<SegmentBounds>,
}

impl Cutter {
    /// For a file of `size` bytes.
    pub const fn new(size: u64, segment_bytes: u64) -> Self {
        Self { size, segment_bytes, cut: None }
    }

    /// The segment before, where it has reached its size and `entry` begins another.
    pub fn add(&mut self, entry: IndexEntry) -> Option<SegmentBounds> {
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

    /// The last segment.
    pub fn finish(self) -> Option<SegmentBounds> {
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
        let told = gets(size, 8 << 20) - 1 - 8;
        assert!(told.abs_diff(lens.len() as u64) <= 1, "{told} {}", lens.len());
    }
}
