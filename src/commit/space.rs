//! Free disk space: how much a file system reports, and the reservations that a run makes of it.

use crate::process::locks::lock;
use rustix::fs::StatVfs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

/// A database is up to about ten times as large as the LTX files that it is restored from, because their pages are
/// compressed. With less free space than ten times their size, its exact size is read before they are fetched.
const TIMES_FILES: u64 = 10;

/// The free space of a file system in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// The space that every user may take.
    pub available: u64,
    /// The same, and the space that is kept for root (on ext4 5 % of the disk by default).
    pub with_roots_share: u64,
}

impl FreeSpace {
    /// The free space where `file` lies. None if it is not known.
    pub(super) fn of(file: impl AsFd) -> Option<Self> {
        Self::from(&rustix::fs::fstatvfs(file).ok()?)
    }

    /// The free space below the directory `path`, which need not exist yet. The nearest directory above it that
    /// exists is looked at. None if the free space is not known.
    pub fn below(path: &Path) -> Option<Self> {
        let stat = path.ancestors().find_map(|above| rustix::fs::statvfs(above).ok())?;
        Self::from(&stat)
    }

    /// None for a file system that does not know its size: it reports a size of 0 blocks. Its 0 free blocks say
    /// nothing then.
    fn from(stat: &StatVfs) -> Option<Self> {
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        (stat.f_blocks > 0).then(|| Self { available: bytes(stat.f_bavail), with_roots_share: bytes(stat.f_bfree) })
    }

    /// Whether the free space is less than ten times `bytes`, the size of a database's files.
    pub(super) const fn is_scarce_for(&self, bytes: u64) -> bool {
        self.available < bytes.saturating_mul(TIMES_FILES)
    }
}

/// What a run remembers of disk space.
#[derive(Debug, Default)]
pub(super) struct SpaceMemory {
    was_full: AtomicBool,
    turn: Mutex<()>,
}

impl SpaceMemory {
    /// Records that a reservation or a write failed because a disk or a quota was full.
    pub(super) fn note_full(&self) {
        if !self.was_full.swap(true, Relaxed) {
            tracing::debug!(target: "hydrant::commit", "disk full: from now on sizes are read before files are fetched");
        }
    }

    /// Whether a reservation or a write has failed so in this run.
    pub(super) fn was_full(&self) -> bool {
        self.was_full.load(Relaxed)
    }

    /// Waits until no other reservation is being made where space is scarce. A reservation that fails may have taken
    /// all free space for a moment. Without the wait, a smaller one at that moment would fail although it fits.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::StatVfsMountFlags;

    fn stat(f_blocks: u64) -> StatVfs {
        StatVfs {
            f_bsize: 4096,
            f_frsize: 4096,
            f_blocks,
            f_bfree: 5,
            f_bavail: 3,
            f_files: 0,
            f_ffree: 0,
            f_favail: 0,
            f_fsid: 0,
            f_flag: StatVfsMountFlags::empty(),
            f_namemax: 255,
        }
    }

    #[test]
    fn a_file_system_without_a_size_has_no_known_free_space() {
        assert_eq!(FreeSpace::from(&stat(0)), None);
        let free = FreeSpace::from(&stat(9)).unwrap();
        assert_eq!((free.available, free.with_roots_share), (3 * 4096, 5 * 4096));
        assert!(free.is_scarce_for(3 * 410) && !free.is_scarce_for(3 * 409));
    }

    #[test]
    fn a_directory_that_does_not_exist_has_the_space_of_the_one_above() {
        let dir = tempfile::tempdir().unwrap();
        let new = FreeSpace::below(&dir.path().join("new/newer")).unwrap();
        assert!(new.with_roots_share > 0 && FreeSpace::below(Path::new("/proc/none")).is_none());
    }
}
