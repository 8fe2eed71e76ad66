//! The frames of the snapshot's own index, by number, page and content, to find out whether the snapshot is ahead of
//! the WAL.

use crate::wal::WalFrame;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// One frame of a WAL: which page it holds, and a hash of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameContent {
    /// The number of the frame in its index, from 1.
    pub number: u64,
    pub page: u32,
    pub hash: u64,
}

/// The frames of one index, inside the target and behind it.
#[derive(Debug, Default)]
pub(super) struct IndexFrames {
    pub frames: Vec<FrameContent>,
    /// The numbers of the frames that end a transaction.
    pub commits: Vec<u64>,
    /// The number of frames inside the target up to the last commit. Those after it are not applied.
    pub inside: u64,
}

impl IndexFrames {
    pub(super) fn add(&mut self, frame: &WalFrame<'_>) {
        self.frames.push(FrameContent { number: frame.number, page: frame.pgno.0, hash: content_hash(frame.page) });
        if frame.commit != 0 {
            self.commits.push(frame.number);
        }
    }

    /// The numbers of the pages that occur.
    pub(super) fn pages(&self) -> HashSet<u32> {
        self.frames.iter().map(|frame| frame.page).collect()
    }
}

/// A hash of a page's content. It is compared only with hashes of the same run.
pub(super) fn content_hash(page: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    page.hash(&mut hasher);
    hasher.finish()
}
