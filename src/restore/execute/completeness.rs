//! Whether the restored database is complete: each page is there, and the checksums agree from
//! file to file.

use crate::ltx::header::Header;
use crate::ltx::trailer::Trailer;
use crate::ltx::{PageSize, Pgno};
use crate::restore::chain_times::ChainTimes;
use crate::restore::error::{ChainError, ExecutionFailure};
use crate::restore::page_map::Winners;
use crate::restore::page_writer::Placed;
use crate::timestamp::Timestamp;

/// What the newest file's header says about the database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub page_size: PageSize,
    /// Size of the database in pages.
    pub commit: u32,
    /// The newest file has a database checksum.
    pub tracked: bool,
    /// The newest file's time.
    pub timestamp: Timestamp,
    pub times: ChainTimes,
    /// Index of the newest file in the plan.
    pub newest: usize,
}

/// The database checksums of the tracked files of a plan.
#[derive(Default)]
pub(super) struct ChainChecksums(Vec<TrackedFile>);

struct TrackedFile {
    /// Index in the plan.
    file: usize,
    header: Header,
    post_apply: u64,
}

impl ChainChecksums {
    /// Notes the checksums of file `file` of the plan, if it is tracked.
    pub(super) fn note(&mut self, file: usize, header: &Header, trailer: &Trailer) {
        if header.is_tracked() {
            self.0.push(TrackedFile { file, header: *header, post_apply: trailer.post_apply_checksum });
        }
    }

    /// Compares each file's checksum before it with the one after the file before it, and the
    /// newest file's checksum with that of the pages `placed`.
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
    /// Checks that the increments hold each page beyond the base's own. The base is a snapshot and
    /// was checked to hold all of its own pages.
    pub(super) fn check_growth(&self, winners: &Winners, base: &Header) -> Result<(), ExecutionFailure> {
        match winners.map.first_unclaimed_after(base.commit, self.page_size.lock_page()) {
            None => Ok(()),
            Some(pgno) => Err(self.page_missing(pgno)),
        }
    }

    /// Checks that each page was placed once, and that the checksums agree.
    pub(super) fn check_complete(&self, placed: Placed, checksums: ChainChecksums) -> Result<(), ExecutionFailure> {
        let lock_page = u64::from(self.page_size.lock_page().0 <= self.commit);
        if placed.pages != u64::from(self.commit) - lock_page {
            // The growth and the base were checked before: this names no certain page, but refuses.
            return Err(self.page_missing(Pgno(placed.pages as u32)));
        }
        checksums.verify(self.newest, &placed)
    }

    fn page_missing(&self, pgno: Pgno) -> ExecutionFailure {
        let error = ChainError::PageMissing { pgno, commit: self.commit };
        ExecutionFailure::Chain { file: self.newest, error }
    }
}
