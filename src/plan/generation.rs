//! What plans for replicas of Litestream 0.3 lead to, and what messages name of a generation.

use crate::catalogue::{Generation, V3File};
use crate::timestamp::Timestamp;

/// The state that a plan for a replica of Litestream 0.3 leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V3State {
    /// The generation that is restored.
    pub generation: Generation,
    /// The index of the newest planned piece of WAL, or of the snapshot if no WAL is planned.
    pub index: u32,
    /// The offset of that piece in the WAL of its index, in bytes. 0 if no WAL is planned.
    pub offset: u64,
    /// The time of the upload of the newest planned file.
    pub time: Timestamp,
}

/// What a plan for a replica of Litestream 0.3 says beyond its list of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V3Plan {
    /// The state that the plan leads to.
    pub state: V3State,
    /// Index and offset of the first piece after the planned ones. It is newer than the target. The planned pieces
    /// must lead to it without a gap.
    pub next: Option<(u32, u64)>,
    /// Set if the snapshot may hold pages that are newer than the planned WAL (docs/FORMAT-V3.md, "The snapshot that
    /// is ahead").
    pub ahead: Option<PossiblyAhead>,
}

/// What is known before the restore about a snapshot that may be ahead of the planned WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PossiblyAhead {
    /// The pieces of the snapshot's own index behind the target that may prove it: at most two. Indexes into
    /// [`V3Replica::files`](crate::catalogue::V3Replica::files).
    pub behind: Vec<usize>,
    /// Whether an older snapshot of the generation leads to the same state, as far as the names show.
    pub has_older: bool,
}

/// A generation, with the times of its first and last file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatedGeneration {
    /// The generation.
    pub name: Generation,
    /// The time of the file that was uploaded first.
    pub first: Timestamp,
    /// The time of the file that was uploaded last.
    pub last: Timestamp,
}

impl DatedGeneration {
    /// The generation that `files` belong to. None if there are no files.
    pub fn of(files: &[V3File]) -> Option<Self> {
        let times = || files.iter().map(|file| file.last_modified);
        Some(Self { name: files.first()?.generation, first: times().min()?, last: times().max()? })
    }
}

impl std::fmt::Display for DatedGeneration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} to {})", self.name, self.first, self.last)
    }
}
