//! Finds out which index has the newest copy of each page. The indexes claim their pages from the newest to the
//! oldest (docs/FORMAT-V3.md, "The database").

use super::index::IndexPages;
use crate::catalogue::Generation;
use crate::ltx::{PageSize, Pgno};
use crate::plan::PlanError;
use crate::restore::error::{ChainError, ExecutionFailure, RestoreError};
use crate::restore::execute::Execution;
use crate::restore::page_map::{Overlay, PageMap, Winners};
use crate::restore::page_writer::Placed;
use crate::telemetry::Stage;
use std::sync::Arc;
use std::time::Instant;

/// The pages of WAL that wait in memory until the snapshot's pages around them are written take at most 24 MiB. Pages
/// that do not fit are written at once.
const OVERLAY_BYTES: u64 = 24 << 20;
/// LZ4 stores at most 255 bytes in one. A database that would need a higher ratio cannot be in the planned files.
const MOST_RATIO: u64 = 255;
/// A page map of up to 1 MiB is allocated without a reservation in the memory budget.
const UNRESERVED_MAP_BYTES: u64 = 1 << 20;

/// Collects the claims of the indexes, from the newest to the oldest.
pub(super) struct Claiming<'a> {
    execution: &'a Execution<'a>,
    generation: Generation,
    /// Page size and number of pages of the snapshot, if it was written before.
    written: Option<(PageSize, u32)>,
    state: Option<ClaimingState>,
}

/// The claims so far, once an index with a commit was read.
struct ClaimingState {
    page_size: PageSize,
    /// The size of the database in pages, after the newest commit.
    size: u32,
    /// Pages of older indexes count up to this number: the smallest size that an index since then has left.
    limit: u32,
    map: PageMap,
    overlay: Overlay,
    /// The growth of the index that was read last, which the size before it must explain.
    grown: Growth,
    spilled: Placed,
}

/// An index holds all pages from `from + 1` to `pages`.
#[derive(Clone, Copy)]
struct Growth {
    /// The place of the index's first piece in the plan.
    file: usize,
    index: u32,
    from: u32,
    pages: u32,
}

/// The claims of all indexes.
pub(super) struct ClaimedPages {
    pub winners: Arc<Winners>,
    /// Page size and size in pages, as the WAL has them. None if no index has a commit: the snapshot is the database.
    pub shape: Option<(PageSize, u32)>,
    generation: Generation,
    /// Whether the snapshot was written before, and pages over it.
    is_over: bool,
    grown: Option<Growth>,
    spilled: Placed,
}

impl<'a> Claiming<'a> {
    pub(super) fn new(execution: &'a Execution<'a>, generation: Generation) -> Self {
        Self { execution, generation, written: None, state: None }
    }

    /// The same where the snapshot, of this page size and number of pages, was written before. Pages are written over its
    /// own, and none waits in memory.
    pub(super) fn over(execution: &'a Execution<'a>, generation: Generation, snapshot: (PageSize, u32)) -> Self {
        Self { execution, generation, written: Some(snapshot), state: None }
    }

    /// The same without any claim.
    pub(super) fn anew(&self) -> Self {
        Self { execution: self.execution, generation: self.generation, written: self.written, state: None }
    }

    /// Adds the next older index, whose first piece is file `file` of the plan.
    ///
    /// # Errors
    /// The index has another page size, or pages are missing by which a newer index has grown the database.
    pub(super) async fn add(&mut self, file: usize, index: &IndexPages) -> Result<(), ExecutionFailure> {
        let (Some(size), Some(page_size)) = (index.size, index.page_size) else { return Ok(()) };
        self.begin_index(file, page_size, size, index.index, index.grown_from).await?;
        for &(pgno, place) in &index.pages {
            let at = place * page_size.bytes();
            if let Some(page) = index.bytes.get(at..at + page_size.bytes()) {
                self.add_page(pgno, page)?;
            }
        }
        Ok(())
    }

    /// Begins an index that leaves the database with `size` pages.
    pub(super) async fn begin_index(
        &mut self,
        file: usize,
        page_size: PageSize,
        size: u32,
        index: u32,
        grown_from: u32,
    ) -> Result<(), ExecutionFailure> {
        let grown = Growth { file, index, from: grown_from, pages: size };
        match &mut self.state {
            Some(state) if state.page_size != page_size => {
                let (expected, found) = (state.page_size.get(), page_size.get());
                Err(ExecutionFailure::Chain { file, error: ChainError::WalPageSize { expected, found } })
            }
            Some(state) => {
                check_growth(self.generation, state.grown, size, page_size)?;
                state.limit = state.limit.min(size);
                state.grown = grown;
                Ok(())
            }
            None => {
                self.state = Some(self.begin(file, page_size, size, grown).await?);
                Ok(())
            }
        }
    }

    /// Begins with the newest commit, which gives the size of the database. Reserves disk space and memory.
    async fn begin(
        &self,
        file: usize,
        page_size: PageSize,
        size: u32,
        grown: Growth,
    ) -> Result<ClaimingState, ExecutionFailure> {
        if let Some((expected, _)) = self.written.filter(|(snapshot, _)| *snapshot != page_size) {
            let (expected, found) = (page_size.get(), expected.get());
            return Err(ExecutionFailure::Chain { file: 0, error: ChainError::SnapshotPageSize { expected, found } });
        }
        let shared = &self.execution.worker.shared;
        let planned_bytes = self.execution.planned_bytes();
        let bytes = u64::from(size) * u64::from(page_size.get());
        if bytes / MOST_RATIO > planned_bytes {
            let error = ChainError::Commit { commit: size, planned_bytes };
            return Err(ExecutionFailure::Chain { file, error });
        }
        if let Some(output) = self.execution.output {
            output.reserve(bytes)?;
        }
        shared.counters.bytes_out_planned.add(bytes);
        let map_bytes = PageMap::bytes_for(size);
        let memory = match map_bytes <= UNRESERVED_MAP_BYTES {
            true => None,
            false if map_bytes > shared.budget.total_bytes() / 4 => {
                let budget_bytes = shared.budget.total_bytes();
                return Err(RestoreError::Memory { needed_bytes: map_bytes, budget_bytes }.into());
            }
            false => Some(shared.budget.reserve(map_bytes).await),
        };
        let overlay_bytes = if self.written.is_some() { 0 } else { OVERLAY_BYTES.min(shared.budget.total_bytes() / 8) };
        let overlay = Overlay::new(page_size, overlay_bytes);
        let map = PageMap::new(size, memory);
        Ok(ClaimingState { page_size, size, limit: size, map, overlay, grown, spilled: Placed::default() })
    }

    /// Claims a page for the index that was begun last, and keeps or writes its content if no newer index has it.
    fn add_page(&mut self, pgno: Pgno, page: &[u8]) -> Result<(), ExecutionFailure> {
        let Some(state) = &mut self.state else { return Ok(()) };
        if pgno.0 > state.limit || !state.map.claim(pgno) {
            return Ok(());
        }
        if !state.overlay.insert(&self.execution.worker.shared.budget, pgno, page) {
            spill(self.execution, page, state.page_size.offset_of(pgno))?;
            if is_new(self.written, pgno) {
                state.spilled.count(pgno, page, false);
            }
        }
        Ok(())
    }

    /// Whether a page of the index that is being read is to be written: it lies within the database, and no newer index
    /// has it. Used while an index is written that is not held in memory, of which a page may come several times.
    pub(super) fn wants(&self, pgno: Pgno) -> bool {
        self.state.as_ref().is_none_or(|state| pgno.0 <= state.limit && !state.map.is_claimed(pgno))
    }

    /// Sets which pages the index that was begun last has grown the database by: all from `from + 1` on.
    pub(super) fn grown_from(&mut self, from: u32) {
        if let Some(state) = &mut self.state {
            state.grown.from = from;
        }
    }

    /// Whether the size of the database is known.
    pub(super) const fn is_begun(&self) -> bool {
        self.state.is_some()
    }

    /// Claims pages that were written already. `pages` are those of an index that was not held in memory.
    pub(super) fn claim_written(&mut self, pages: impl Iterator<Item = Pgno>) {
        let Some(state) = &mut self.state else { return };
        for pgno in pages {
            if pgno.0 <= state.limit && state.map.claim(pgno) && is_new(self.written, pgno) {
                state.spilled.pages += 1;
            }
        }
    }

    /// The claims, after the oldest index was added.
    pub(super) fn finish(self) -> ClaimedPages {
        let (generation, is_over) = (self.generation, self.written.is_some());
        match self.state {
            Some(mut state) => {
                state.overlay.sort();
                ClaimedPages {
                    winners: Arc::new(Winners { map: state.map, overlay: state.overlay }),
                    shape: Some((state.page_size, state.size)),
                    generation,
                    is_over,
                    grown: Some(state.grown),
                    spilled: state.spilled,
                }
            }
            None => ClaimedPages {
                winners: Arc::new(Winners { map: PageMap::unbounded(), overlay: Overlay::empty() }),
                shape: None,
                generation,
                is_over,
                grown: None,
                spilled: Placed::default(),
            },
        }
    }
}

impl ClaimedPages {
    /// Checks that every page of the database was written: the snapshot has `pages` pages, of which `placed` were. Returns the size of the database in pages.
    pub(super) fn check_complete(&self, pages: u32, placed: u64) -> Result<u32, ExecutionFailure> {
        let Some((page_size, size)) = self.shape else { return Ok(pages) };
        if let Some(grown) = self.grown {
            check_growth(self.generation, grown, pages, page_size)?;
        }
        let lock_page = page_size.lock_page();
        let has_no_lock_page = lock_page.0 <= size && lock_page.0 > pages && !self.winners.map.is_claimed(lock_page);
        let of_snapshot = if self.is_over { u64::from(pages.min(size)) } else { placed };
        let written = of_snapshot + self.spilled.pages;
        debug_assert_eq!(written + u64::from(has_no_lock_page), u64::from(size), "every page is written once");
        if written + u64::from(has_no_lock_page) != u64::from(size) {
            return Err(ExecutionFailure::bug("a page of the database was not written"));
        }
        Ok(size)
    }
}

/// Whether a page was not written with the snapshot.
fn is_new(written: Option<(PageSize, u32)>, pgno: Pgno) -> bool {
    written.is_none_or(|(_, pages)| pgno.0 > pages)
}

/// Checks that all pages by which an index has grown the database are in it. `before` is the size before it.
fn check_growth(
    generation: Generation,
    grown: Growth,
    before: u32,
    page_size: PageSize,
) -> Result<(), ExecutionFailure> {
    let Growth { file, index, from, pages } = grown;
    if from <= before || (from == before.saturating_add(1) && page_size.lock_page().0 == from) {
        return Ok(());
    }
    let error = PlanError::PageHole { generation, index, page: from, pages };
    Err(ExecutionFailure::WalGap { file, error })
}

/// Writes a page to the output at byte offset `at`, with a blocking pwrite. Without an output it does nothing.
pub(super) fn spill(execution: &Execution<'_>, page: &[u8], at: u64) -> Result<(), ExecutionFailure> {
    let Some(output) = execution.output else { return Ok(()) };
    let begun = Instant::now();
    output.output().pwrite_all(page, at)?;
    execution.worker.recorder().record(Stage::Write, begun.elapsed());
    execution.worker.shared.counters.bytes_out.add(page.len() as u64);
    Ok(())
}
