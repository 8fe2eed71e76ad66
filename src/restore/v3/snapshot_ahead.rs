//! Finds out whether a snapshot is ahead of the WAL that is applied to it (docs/FORMAT-V3.md, "The snapshot that is
//! ahead"): whether it holds pages that checkpoints had moved into the database file before their WAL was uploaded.

use super::frames::IndexFrames;
use std::collections::HashMap;

/// What the contents of frames and snapshot show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Whether the snapshot is certainly ahead: of some page that the target's frames hold, the snapshot has the content
    /// that only a later frame has.
    pub is_proven: bool,
    /// The number of frames up to the first commit after which the snapshot is no longer ahead. None if no frame behind
    /// the target is in the snapshot.
    pub through: Option<u64>,
}

/// Compares the frames with the hashes of the snapshot's pages.
pub(super) fn compare(frames: &IndexFrames, snapshot: &HashMap<u32, u64>) -> Comparison {
    let in_snapshot = |page: u32, hash: u64| snapshot.get(&page) == Some(&hash);
    // For each page of the target's frames, whether one of them is what the snapshot has.
    let mut inside: HashMap<u32, bool> = HashMap::new();
    for frame in frames.frames.iter().filter(|frame| frame.number <= frames.inside) {
        *inside.entry(frame.page).or_default() |= in_snapshot(frame.page, frame.hash);
    }
    let behind = || frames.frames.iter().filter(|f| f.number > frames.inside && in_snapshot(f.page, f.hash));
    let is_proven = behind().any(|frame| inside.get(&frame.page) == Some(&false));
    let greatest = behind().map(|frame| frame.number).max();
    let through = greatest.and_then(|greatest| frames.commits.iter().copied().find(|&commit| commit >= greatest));
    Comparison { is_proven, through }
}

#[cfg(test)]
mod tests {
    use super::super::frames::FrameContent;
    use super::*;

    fn frames(inside: u64, contents: &[(u32, u64)], commits: &[u64]) -> IndexFrames {
        let frames = contents.iter().zip(1..).map(|(&(page, hash), number)| FrameContent { number, page, hash });
        IndexFrames { frames: frames.collect(), commits: commits.to_vec(), inside }
    }

    #[test]
    fn only_content_that_no_frame_inside_has_is_a_proof() {
        let snapshot = HashMap::from([(1, 10), (2, 20), (3, 31)]);
        // Page 3 of the snapshot is that of frame 3, which is behind the target of two frames.
        let proven = compare(&frames(2, &[(3, 30), (1, 10), (3, 31), (9, 9)], &[2, 4]), &snapshot);
        assert_eq!(proven, Comparison { is_proven: true, through: Some(4) });
        // The same content inside the target: SQLite rewrites pages that have not changed.
        let rewritten = compare(&frames(2, &[(3, 31), (1, 10), (3, 31)], &[2, 3]), &snapshot);
        assert_eq!(rewritten, Comparison { is_proven: false, through: Some(3) });
        // A page that no frame inside the target holds.
        let other = compare(&frames(1, &[(1, 10), (2, 20)], &[1, 2]), &snapshot);
        assert_eq!(other, Comparison { is_proven: false, through: Some(2) });
        // The transaction of the frame was never uploaded whole.
        let open = compare(&frames(1, &[(3, 30), (3, 31)], &[1]), &snapshot);
        assert_eq!(open, Comparison { is_proven: true, through: None });
    }
}
