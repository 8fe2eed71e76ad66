//! Checks that a snapshot holds every page of its database (docs/FORMAT.md, "LTX header"). The check is fed with
//! page numbers in ascending order, from the page frames or from the page index.

use super::error::{Fault, FormatError, Part};
use super::{PageSize, Pgno};

/// Counts through the pages 1 to `commit`, without the lock page.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotPages {
    /// The page number that must come next. Greater than `commit` if all pages have come.
    next: u64,
    commit: u64,
    lock_page: u64,
}

impl SnapshotPages {
    /// Creates the check for a snapshot of a database with `commit` pages.
    pub fn new(page_size: PageSize, commit: u32) -> Self {
        let lock_page = u64::from(page_size.lock_page().0);
        Self { next: 1, commit: u64::from(commit), lock_page }
    }

    /// Checks the number of the next page. `offset` is the place in the file of its frame or index entry; the error
    /// names it.
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

    /// Checks at the end of the pages that all have come. `offset` is where the pages end in the file; the error
    /// names it.
    pub fn finish(&self, offset: u64) -> Result<(), FormatError> {
        if self.next > self.commit { Ok(()) } else { Err(self.missing(None, offset)) }
    }

    fn missing(&self, found: Option<Pgno>, offset: u64) -> FormatError {
        let expected = if self.next > self.commit { None } else { u32::try_from(self.next).ok().map(Pgno) };
        let part = found.map_or(Part::Pages, Part::Page);
        FormatError::Malformed { part, offset, fault: Fault::SnapshotPage { expected, found } }
    }
}
