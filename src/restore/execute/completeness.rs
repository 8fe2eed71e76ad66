//! Checks that the restored database is complete: every page was written, and the database checksums
//! that LTX files carry agree from file to file.

use crate::ltx::header::Header;
use crate::ltx::trailer::Trailer;
use crate::ltx::{PageSize, Pgno};
use crate::restore::chain_times::ChainTimes;
use crate::restore::error::{ChainError, ExecutionFailure};
use crate::restore::page_map::Winners;
use crate::restore::page_writer::Placed;
use crate::timestamp::Timestamp;

/// Size and age of the restored database, from the header of the newest planned file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Page size of the SQLite database.
    pub page_size: PageSize,
    /// Size of the database in pages.
    pub commit: u32,
    /// True if the newest file carries a checksum of the whole database, with which the written pages
    /// are compared.
    pub tracked: bool,
    /// Creation time of the newest planned file.
    pub timestamp: Timestamp,
    /// The creation times of the planned files, to find out whether they run backwards.
    pub times: ChainTimes,
    /// Index of the newest file in the plan.
    pub newest: usize,
}

/// The database checksums of a plan's tracked files. A tracked LTX file carries two checksums of the whole
/// database: the one before its changes (pre-apply) and the one after them (post-apply).
#[derive(Default)]
pub(super) struct ChainChecksums(Vec<TrackedFile>);

/// The two checksums of the whole database that one LTX file carries: before and after its changes.
struct TrackedFile {
    file: usize,
    /// The file's header, which holds its pre-apply checksum.
    header: Header,
    /// The file's post-apply checksum, which its trailer holds.
    post_apply: u64,
}

impl ChainChecksums {
    /// Stores the database checksums of file `file` of the plan. Does nothing if that file carries none.
    pub(super) fn note(&mut self, file: usize, header: &Header, trailer: &Trailer) {
        if header.is_tracked() {
            self.0.push(TrackedFile { file, header: *header, post_apply: trailer.post_apply_checksum });
        }
    }

    /// Compares the checksums along the chain. A file that follows another one without overlap must have
    /// the other's post-apply checksum as its pre-apply checksum. The post-apply checksum of file
    /// `newest` must equal the checksum of the pages that were written (`placed`).
    fn verify(mut self, newest: usize, placed: &Placed) -> Result<(), ExecutionFailure> {
        self.0.sort_by_key(|tracked| tracked.file);
        for pair in self.0.windows(2) {
            if let [older, newer] = pair
                && newer.file == older.file + 1
                && older.header.max_txid.0.checked_add(1) == Some(newer.header.min_txid.0)
                && newer.header.pre_apply_checksum != older.post_apply
            {
                let error = ChainError::PreApply { expected: older.post_apply, found: newer.header.pre_apply_checksum };
                return Err(ExecutionFailure::Chain { file: newer.file, error });
            }
        }
        if let Some(last) = self.0.last()
            && last.file == newest
        {
            let found = placed.checksum.finish();
            if last.post_apply != found {
                let error = ChainError::Database { expected: last.post_apply, found };
                return Err(ExecutionFailure::Chain { file: newest, error });
            }
        }
        Ok(())
    }
}

impl Shape {
    /// Checks that file `i` of the plan, which has the header `header`, has the page size of the newest file.
    pub(super) fn check_page_size(&self, i: usize, header: &Header) -> Result<(), ExecutionFailure> {
        let (expected, found) = (self.page_size.get(), header.page_size.get());
        match expected == found {
            true => Ok(()),
            false => Err(ExecutionFailure::Chain { file: i, error: ChainError::PageSize { expected, found } }),
        }
    }

    /// Checks that the increments hold every page by which the database has grown since the base. The base
    /// is a snapshot. Its decoder has checked already that it holds all pages of its own page count.
    pub(super) fn check_growth(&self, winners: &Winners, base: &Header) -> Result<(), ExecutionFailure> {
        match winners.map.first_unclaimed_after(base.commit, self.page_size.lock_page()) {
            None => Ok(()),
            Some(pgno) => Err(self.page_missing(pgno)),
        }
    }

    /// Checks that as many pages were written as the database has, and that the checksums agree. SQLite's
    /// lock page (the page at 1 GiB, which holds no data) is never written and does not count.
    pub(super) fn check_complete(&self, placed: Placed, checksums: ChainChecksums) -> Result<(), ExecutionFailure> {
        let lock_page = u64::from(self.page_size.lock_page().0 <= self.commit);
        if placed.pages != u64::from(self.commit) - lock_page {
            // `check_growth` and the base's decoder should have found a missing page. If the count is
            // wrong nevertheless, the restore fails here. Which page is missing is not known, so the
            // error names the count as the page.
            return Err(self.page_missing(Pgno(placed.pages as u32)));
        }
        checksums.verify(self.newest, &placed)
    }

    fn page_missing(&self, pgno: Pgno) -> ExecutionFailure {
        let error = ChainError::PageMissing { pgno, commit: self.commit };
        ExecutionFailure::Chain { file: self.newest, error }
    }
}
