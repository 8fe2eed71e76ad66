//! Whether a snapshot holds every page of its database (docs/FORMAT.md, "Page frames"), told from
//! the page numbers of its frames or of its index, in order.

use super::error::{Fault, FormatError, Part};
use super::{PageSize, Pgno};

/// Counts through pages 1 … commit, the lock page left out.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotPages {
    /// The page that must come next; beyond `commit` when all have come.
    next: u64,
    commit: u64,
    lock_page: u64,
}

impl SnapshotPages {
    /// For a database of `commit` pages.
    pub fn new(page_size: PageSize, commit: u32) -> Self {
        let lock_page = u64::from(page_size.lock_page().0);
        Self { next: 1, commit: u64::from(commit), lock_page }
    }

    /// The next page's number, of the frame or index entry at `offset`.
    #[inline]
    pub fn see(&mut self, pgno: Pgno, offset: u64) -> Result<(), FormatError> {
        if u64::from(pgno.0) != self.next || self.next > self.commit {
            return Err(self.missing(Some(pgno), offset));
        }
        self.next += 1;
        if self.next == self.lock_page {
            self.next += 1;
        }
        Ok(())
    }

    /// All pages have been seen; they end at `offset`.
    pub fn finish(&self, offset: u64) -> Result<(), FormatError> {
        if self.next > self.commit { Ok(()) } else { Err(self.missing(None, offset)) }
    }

    fn missing(&self, found: Option<Pgno>, offset: u64) -> FormatError {
        let expected = if self.next > self.commit { None } else { u32::try_from(self.next).ok().map(Pgno) };
        let part = found.map_or(Part::Pages, Part::Page);
        FormatError::Malformed { part, offset, fault: Fault::SnapshotPage { expected, found } }
    }
}
