//! [`Execution`]: a plan's files, the store that they are read from, and the output that their pages are
//! written to.

use crate::commit::{CommitError, StagedFile};
use crate::ltx::decoder::FileDecoder;
use crate::ltx::header::Header;
use crate::ltx::name::check_name;
use crate::plan::V3Plan;
use crate::restore::error::ExecutionFailure;
use crate::restore::large::{LargeSource, PlannedFile};
use crate::restore::workers::Worker;
use crate::store::{Http, Store};
use crate::timestamp::Timestamp;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A page takes at least 15 bytes in an LTX file: 12 in its frame (6 for page number and flags, 4 for the
/// compressed size, 2 of LZ4 data) and 3 in its index entry. If a header's page count would need more bytes
/// than the plan's files have, the header is refused. So a wrong header cannot make Hydrant reserve much
/// memory or disk space.
pub(super) const MIN_STORED_PAGE_BYTES: u64 = 15;
/// A page map of up to 1 MiB (8 million pages) is allocated without a reservation in the memory budget. It
/// is small beside the buffers of the large files that such a database is made of.
pub(super) const UNRESERVED_MAP_BYTES: u64 = 1 << 20;

/// A plan (a chain of LTX files) with the store to read them from and the output to write pages to.
pub(crate) struct Execution<'a> {
    /// The worker thread that runs this execution, with its HTTP connections and write buffers.
    pub worker: &'a Rc<Worker>,
    /// The store that the planned files are read from.
    pub store: &'a Store,
    /// The planned files, oldest first. The first is the base (a snapshot), the others are increments.
    pub files: &'a [PlannedFile],
    /// The file that pages are written to. With None, pages are decoded, checked and discarded.
    pub output: Option<&'a StagedFile>,
    /// For a restore to a point in time: every file's header time must be before this.
    pub before: Option<Timestamp>,
    /// One permit per request of this database that may be in flight (`-parallelism`). None: no limit.
    pub requests: Option<Arc<Semaphore>>,
    /// Set if the files are those of Litestream 0.3: a snapshot and pieces of WAL.
    pub v3: Option<V3Execution<'a>>,
    /// Whether the other files are still read after one has proved damaged, so that all damage is known before the next
    /// plan is made (`-newest-intact`). No file is then fetched more than twice.
    pub finds_all_damage: bool,
}

/// What an execution needs to know besides its files, if they are those of Litestream 0.3.
pub(crate) struct V3Execution<'a> {
    pub plan: &'a V3Plan,
    /// The pieces behind the target that may show that the snapshot is ahead of it.
    pub behind: &'a [PlannedFile],
    /// The number of frames of the snapshot's own index to apply, if an earlier execution found the snapshot ahead.
    pub through: Option<u64>,
}

impl V3Execution<'_> {
    /// Whether SQLite must check the result, because the snapshot may be ahead of the WAL.
    pub(crate) fn needs_check(&self) -> bool {
        self.plan.ahead.is_some() && self.through.is_none()
    }

    /// Whether a state can be had although the snapshot is ahead: from an older one, or by the frames up to `through`.
    pub(crate) fn goes_on_without(&self, through: Option<u64>) -> bool {
        through.is_some() || self.plan.ahead.as_ref().is_some_and(|ahead| ahead.has_older)
    }
}

impl Execution<'_> {
    /// Splits the planned files into the base and the increments, which are ordered from the oldest to the
    /// newest.
    ///
    /// # Errors
    /// The plan has no files, which is a bug.
    pub(crate) fn base_and_increments(&self) -> Result<(&PlannedFile, &[PlannedFile]), ExecutionFailure> {
        self.files.split_first().ok_or_else(|| ExecutionFailure::bug("a plan has no files"))
    }

    /// File `i` of the plan, counted from 0.
    ///
    /// # Errors
    /// The plan has fewer files, which is a bug.
    pub(crate) fn planned(&self, i: usize) -> Result<&PlannedFile, ExecutionFailure> {
        self.files.get(i).ok_or_else(|| ExecutionFailure::bug("a file is not in the plan"))
    }

    /// Total size of the planned files in bytes.
    pub(crate) fn planned_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).sum()
    }

    /// Whether `file` is too large for one GET (more than 8 MiB) and is fetched in segments.
    pub(crate) fn is_large(&self, file: &PlannedFile) -> bool {
        file.size > self.worker.shared.segment_bytes
    }

    /// For a large database, waits until fewer than two other large databases are in flight, and returns
    /// the permit. For any other database, returns None at once.
    ///
    /// A database is large if one of its files is fetched in segments. It is large also if its page map may
    /// exceed [`UNRESERVED_MAP_BYTES`], because it then reserves memory in a second step.
    pub(crate) async fn large_database_permit(&self) -> Option<SemaphorePermit<'_>> {
        let may_reserve_a_map = self.planned_bytes() / MIN_STORED_PAGE_BYTES / 8 >= UNRESERVED_MAP_BYTES;
        match may_reserve_a_map || self.files.iter().any(|f| self.is_large(f)) {
            true => self.worker.shared.large_databases.acquire().await.ok(),
            false => None,
        }
    }

    /// Makes a reader for the large file `planned`, which is fetched in segments. It uses the connections `again` if the
    /// file is fetched for the second time, otherwise the worker's.
    pub(crate) fn source<'b>(&'b self, planned: &'b PlannedFile, again: Option<&'b Http>) -> LargeSource<'b> {
        let http = again.unwrap_or(&self.worker.http);
        LargeSource { worker: self.worker, http, store: self.store, planned, requests: self.requests.as_deref() }
    }

    /// Empties the output before a file is read again that gives the size of the database.
    ///
    /// # Errors
    /// [`CommitError`] if the file system refuses.
    pub(crate) fn empty_output(&self) -> Result<(), CommitError> {
        self.output.map_or(Ok(()), |output| output.truncate(0))
    }

    /// Whether the execution goes on after `failure`, to find further damage.
    pub(crate) fn goes_on_after(&self, failure: &ExecutionFailure) -> bool {
        self.finds_all_damage && failure.file_at_fault().is_some()
    }

    /// Whether `failure` says that the content of file `i` is wrong, and the file may be asked for once more.
    pub(crate) fn may_ask_again(&self, i: usize, failure: &ExecutionFailure) -> bool {
        failure.wrong_content().is_some_and(|(file, _)| file == i)
            && self.files.get(i).is_some_and(|planned| self.source(planned, None).may_ask_again())
    }

    /// A decoder for file `i` of the plan. It also checks the header's TXIDs against those in the file's
    /// name.
    pub(crate) fn decoder(&self, i: usize) -> Result<FileDecoder, ExecutionFailure> {
        let file = self.planned(i)?;
        Ok(FileDecoder::new(file.size, file.content.txids()))
    }

    /// Whether file `i` is fetched in segments and may be asked for once more.
    pub(crate) fn is_large_and_may_be_asked_again(&self, i: usize) -> bool {
        let planned = self.files.get(i);
        planned.is_some_and(|planned| self.is_large(planned) && self.source(planned, None).may_ask_again())
    }

    /// Compares the TXIDs in the name of file `i` with those in `header`.
    ///
    /// # Errors
    /// [`ExecutionFailure::Damaged`] if they differ.
    pub(crate) fn check_name(&self, i: usize, header: &Header) -> Result<(), ExecutionFailure> {
        let Some((min_txid, max_txid)) = self.planned(i)?.content.txids() else { return Ok(()) };
        check_name(header, min_txid, max_txid).map_err(|error| ExecutionFailure::Damaged { file: i, error })
    }
}
