//! What a plan is executed with: its files, where they are read from, where their pages go.

use crate::catalogue::LtxFile;
use crate::commit::StagedFile;
use crate::ltx::decoder::FileDecoder;
use crate::ltx::header::Header;
use crate::ltx::name::check_name;
use crate::restore::error::ExecutionFailure;
use crate::restore::large::{LargeSource, PlannedFile};
use crate::restore::workers::Worker;
use crate::store::Store;
use crate::timestamp::Timestamp;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A stored page takes at least 15 bytes: a frame of 6 + 4 + 2 and an index entry of 3. A header
/// whose page count would need more bytes than the plan has is refused.
pub(super) const MIN_STORED_PAGE_BYTES: u64 = 15;
/// Page maps up to 1 MiB are not reserved: they are no larger than a large file's own buffers.
pub(super) const UNRESERVED_MAP_BYTES: u64 = 1 << 20;

/// A plan to execute.
pub(crate) struct Execution<'a> {
    pub worker: &'a Rc<Worker>,
    pub store: &'a Store,
    /// Oldest first; the first is the base, the others are increments.
    pub files: &'a [PlannedFile],
    /// None: what is decoded is checked and discarded.
    pub output: Option<&'a StagedFile>,
    /// Each header's time must be before this.
    pub before: Option<Timestamp>,
    /// Bounds the database's requests in flight (`-parallelism`).
    pub requests: Option<Arc<Semaphore>>,
}

impl Execution<'_> {
    /// The base, and the increments from the oldest to the newest.
    pub(crate) fn base_and_increments(&self) -> Result<(&PlannedFile, &[PlannedFile]), ExecutionFailure> {
        self.files.split_first().ok_or_else(|| ExecutionFailure::bug("a plan has no files"))
    }

    /// File `i` of the plan.
    pub(crate) fn planned(&self, i: usize) -> Result<&PlannedFile, ExecutionFailure> {
        self.files.get(i).ok_or_else(|| ExecutionFailure::bug("a file is not in the plan"))
    }

    pub(crate) fn planned_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.file.size).sum()
    }

    /// Whether `file` is fetched in segments.
    pub(crate) fn is_large(&self, file: &LtxFile) -> bool {
        file.size > self.worker.shared.segment_bytes
    }

    /// Waits while two other databases are in flight that have large files, or so many bytes that
    /// their page map may have to be reserved in a second step. None for other databases.
    pub(crate) async fn large_database_permit(&self) -> Option<SemaphorePermit<'_>> {
        let may_reserve_a_map = self.planned_bytes() / MIN_STORED_PAGE_BYTES / 8 >= UNRESERVED_MAP_BYTES;
        match may_reserve_a_map || self.files.iter().any(|f| self.is_large(&f.file)) {
            true => self.worker.shared.large_databases.acquire().await.ok(),
            false => None,
        }
    }

    pub(crate) fn source<'b>(&'b self, planned: &'b PlannedFile) -> LargeSource<'b> {
        LargeSource { worker: self.worker, store: self.store, planned, requests: self.requests.as_deref() }
    }

    /// A decoder for file `i`.
    pub(crate) fn decoder(&self, i: usize) -> Result<FileDecoder, ExecutionFailure> {
        let file = &self.planned(i)?.file;
        Ok(FileDecoder::new(file.size, Some((file.min_txid, file.max_txid))))
    }

    /// Compares the TXIDs in the name of file `i` with those in its header.
    pub(crate) fn check_name(&self, i: usize, header: &Header) -> Result<(), ExecutionFailure> {
        let file = &self.planned(i)?.file;
        check_name(header, file.min_txid, file.max_txid).map_err(|error| ExecutionFailure::Damaged { file: i, error })
    }
}
