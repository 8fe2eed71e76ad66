//! Finds out which file of a plan has the newest copy of each page (docs/ARCHITECTURE.md, "Winners
//! first"). The increments (files with changed pages) claim their pages from the newest file to the
//! oldest. The first file that claims a page wins it: its copy is written, older copies are not.
//!
//! A small increment is decoded here, and its winning pages wait in the overlay in memory. Of a large
//! increment only the page index is read here. Its pages are written later, segment by segment.

use crate::io::IoError;
use crate::ltx::Pgno;
use crate::ltx::decoder::DecodeStep;
use crate::ltx::header::Header;
use crate::restore::budget::MemoryReservation;
use crate::restore::chain_times::ChainTimes;
use crate::restore::error::{ChainError, ExecutionFailure, RestoreError};
use crate::restore::execute::completeness::{ChainChecksums, Shape};
use crate::restore::execute::execution::{Execution, UNRESERVED_MAP_BYTES};
use crate::restore::execute::fetch::{Fetched, WholeBody, fetch_again};
use crate::restore::execute::space::is_implausible;
use crate::restore::large::{Footer, Indexed};
use crate::restore::page_map::{Overlay, PageMap, Winners};
use crate::restore::page_writer::Placed;
use crate::telemetry::{Stage, Stopwatch};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The overlay (newest copies of changed pages, held in memory until the snapshot is written) has at most 48 MiB per
/// database. Pages that do not fit are written to the output at once.
const OVERLAY_BYTES: u64 = 48 << 20;

/// Records which pages of one database occur in its increments, while these are being read. A page belongs to (is
/// claimed by) the newest increment that holds it.
pub(super) struct Claims<'a> {
    execution: &'a Execution<'a>,
    /// The claims so far. None until the header of the newest file was read, which holds page size and page count.
    state: Option<ClaimState>,
}

/// The claimed pages of one database, as far as its increments were read.
struct ClaimState {
    shape: Shape,
    /// The pages that some increment holds, so far.
    map: PageMap,
    /// Memory reserved for the page maps of those large increments that are still to be read. A part is split off for
    /// each.
    reserved_maps: Option<MemoryReservation>,
    overlay: Overlay,
    /// What the file that is being read has changed here.
    undo: Undo,
    /// A page map that a failed reading of a large increment has left.
    spare_map: Option<PageMap>,
    /// Number and checksum of the pages that were written at once because the overlay was full.
    spilled: Placed,
    /// The increments that are too large for one GET. Only their header, page index and trailer were read so far.
    large: Vec<Indexed>,
    checksums: ChainChecksums,
}

/// What is needed to take the claims of one file back, because its content proved wrong and it is asked for once more.
#[derive(Default)]
struct Undo {
    /// The number of pages in the overlay before the file.
    overlaid: usize,
    /// The pages of the file that were written at once. Kept only for a body in memory, which is small.
    spilled_pages: Vec<Pgno>,
    /// The pages that a large increment has claimed, if it could not be read to its end.
    wins: Option<PageMap>,
    /// The pages that were written at once before the file.
    spilled: Placed,
    /// The creation times of the files before it.
    times: ChainTimes,
}

/// Records which pages of one database occur in its increments, after all of them were read.
pub(super) struct Claimed {
    pub shape: Shape,
    /// The creation times of the increments, without that of the base.
    increments_times: ChainTimes,
    /// The increments that are too large for one GET. Their pages are still to be fetched and written, in segments of
    /// about 8 MiB.
    pub large: Vec<Indexed>,
    pub checksums: ChainChecksums,
    /// Number and checksum of the pages that were already written.
    pub placed: Placed,
    pub winners: Arc<Winners>,
}

impl<'a> Claims<'a> {
    pub(super) fn new(execution: &'a Execution<'a>) -> Self {
        Self { execution, state: None }
    }

    /// Adds the increment that is file `i` of the plan. It claims those of its pages that no newer increment has
    /// claimed. Must be called from the newest increment to the oldest.
    ///
    /// If the file's content is wrong, it is asked for once more: a bit may have been flipped on the way.
    pub(super) async fn claim(&mut self, i: usize, fetched: Fetched) -> Result<(), ExecutionFailure> {
        let is_first = self.state.is_none();
        if let Some(state) = &mut self.state {
            state.begin_file();
        }
        let is_streamed = matches!(&fetched, Fetched::Whole(body) if !body.is_in_memory());
        let failure = match self.claim_once(i, fetched).await {
            Err(failure) if self.execution.may_ask_again(i, &failure) => failure,
            result => return result,
        };
        if is_streamed {
            // The pages that it has claimed are not remembered.
            return Err(ExecutionFailure::Again { file: i, failure: Box::new(failure) });
        }
        match &mut self.state {
            Some(state) if !is_first => state.take_back_file(),
            state => {
                *state = None;
                self.execution.empty_output()?;
            }
        }
        // The future is boxed, so that the future of every restore does not grow by what is rarely needed.
        Box::pin(async {
            let fetched = fetch_again(self.execution, i, &failure).await?;
            self.claim_once(i, fetched).await
        })
        .await
    }

    async fn claim_once(&mut self, i: usize, fetched: Fetched) -> Result<(), ExecutionFailure> {
        match fetched {
            Fetched::Whole(body) => self.claim_whole(i, body).await,
            Fetched::Footer(footer) => self.claim_large(i, footer).await,
        }
    }

    /// Whether the file with this header cannot matter: its page size differs (VACUUM can change it), and newer files
    /// hold every page of the database.
    pub(super) fn is_superseded(&self, header: &Header) -> bool {
        let differs = |state: &&ClaimState| state.shape.page_size != header.page_size;
        let superseded = self.state.as_ref().filter(differs).is_some_and(ClaimState::has_every_page);
        if superseded {
            let page_size = header.page_size.get();
            tracing::debug!(target: "hydrant::plan", page_size, max_txid = %header.max_txid, "page size changed: not needed");
        }
        superseded
    }

    /// Ends the reading of increments: checks `base`, the header of the snapshot, against the increments' headers,
    /// sorts the pages held in memory, and returns the finished claims.
    pub(super) async fn finish(&mut self, base: &Header) -> Result<Claimed, ExecutionFailure> {
        let increments_times = self.state.as_ref().map(|state| state.shape.times).unwrap_or_default();
        self.admit(0, base).await?;
        let state = self.state.take().ok_or_else(|| ExecutionFailure::bug("claims are finished twice"))?;
        Ok(Self::finished(state, increments_times))
    }

    /// The same where the snapshot is superseded ([`Self::is_superseded`]).
    pub(super) fn finish_without_base(&mut self) -> Result<Claimed, ExecutionFailure> {
        let state = self.state.take();
        let state = state.ok_or_else(|| ExecutionFailure::bug("no file was read that supersedes the snapshot"))?;
        let times = state.shape.times;
        Ok(Self::finished(state, times))
    }

    fn finished(mut state: ClaimState, increments_times: ChainTimes) -> Claimed {
        state.overlay.sort();
        Claimed {
            increments_times,
            shape: state.shape,
            large: state.large,
            checksums: state.checksums,
            placed: state.spilled,
            winners: Arc::new(Winners { map: state.map, overlay: state.overlay }),
        }
    }

    /// Decodes and checks a small increment, which was fetched whole. Those of its pages that no newer file holds are
    /// kept in the overlay in memory, or written to the output if the overlay is full.
    async fn claim_whole(&mut self, i: usize, mut body: WholeBody) -> Result<(), ExecutionFailure> {
        let (execution, damaged) = (self.execution, |error| ExecutionFailure::Damaged { file: i, error });
        let mut decoder = execution.decoder(i)?;
        let mut page = Vec::new();
        let mut watch = Stopwatch::start();
        let may_be_taken_back = body.is_in_memory();
        // This loop terminates, because each turn consumes a part of the body, which is finite.
        loop {
            match decoder.next_page().map_err(damaged)? {
                DecodeStep::NeedMore => body.feed(execution, &mut decoder, i).await?,
                DecodeStep::Header(header) if self.is_superseded(&header) => return Ok(()),
                DecodeStep::Header(header) => {
                    watch.away(self.admit(i, &header)).await?;
                    page = vec![0; header.page_size.bytes()];
                }
                DecodeStep::Page(encoded) => {
                    let pgno = encoded.pgno();
                    encoded.decode_into(&mut page).map_err(damaged)?;
                    let state = admitted(&mut self.state)?;
                    if state.map.claim(pgno) && !state.overlay.insert(&execution.worker.shared.budget, pgno, &page) {
                        watch.less(spill(execution, &page, state.shape.page_size.offset_of(pgno))?);
                        state.spilled.count(pgno, &page, state.shape.tracked);
                        if may_be_taken_back {
                            state.undo.spilled_pages.push(pgno);
                        }
                    }
                }
                DecodeStep::Done(file) => {
                    admitted(&mut self.state)?.checksums.note(i, &file.header, &file.trailer);
                    execution.worker.recorder().record(Stage::Decode, watch.elapsed());
                    return Ok(());
                }
            }
        }
    }

    /// Reads the page index of a large increment and claims its pages. The pages of which it has the newest copy are
    /// marked in a page map of its own. By this map the tasks that fetch its pages later know which of them to write.
    async fn claim_large(&mut self, i: usize, footer: Footer) -> Result<(), ExecutionFailure> {
        let execution = self.execution;
        let header = footer.header().map_err(|error| ExecutionFailure::Damaged { file: i, error })?;
        execution.check_name(i, &header)?;
        if self.is_superseded(&header) {
            return Ok(());
        }
        self.admit(i, &header).await?;
        let state = admitted(&mut self.state)?;
        let mut wins = another_page_map(execution, state)?;
        let mut on_page = |pgno| {
            if state.map.claim(pgno) {
                wins.claim(pgno);
            }
        };
        let again = footer.again.clone();
        let source = execution.source(execution.planned(i)?, again.as_deref());
        match Indexed::read(source, i, footer, &mut on_page).await {
            Ok(mut indexed) => {
                indexed.file.wins = Some(wins);
                state.checksums.note(i, &header, &indexed.expected.trailer);
                state.large.push(indexed);
                Ok(())
            }
            Err(failure) => {
                state.undo.wins = Some(wins);
                Err(failure)
            }
        }
    }

    /// Checks the header of file `i` against the headers of the newer files. The first call is for the newest file,
    /// whose header sets page size and page count.
    ///
    /// # Errors
    /// The file is not older than the target time, or its page size differs from the newest file's.
    async fn admit(&mut self, i: usize, header: &Header) -> Result<(), ExecutionFailure> {
        check_time(self.execution, i, header)?;
        match &mut self.state {
            Some(state) => {
                state.shape.check_page_size(i, header)?;
                state.shape.times.note(i, header.timestamp());
            }
            None => self.state = Some(begin(self.execution, i, header).await?),
        }
        Ok(())
    }
}

impl ClaimState {
    /// Remembers what is needed to take the claims of the next file back.
    fn begin_file(&mut self) {
        self.undo =
            Undo { overlaid: self.overlay.len(), spilled: self.spilled, times: self.shape.times, ..Undo::default() };
    }

    /// Takes the claims of the file that was read last back. Pages that it has written at once are written again,
    /// since no file claims them any more.
    fn take_back_file(&mut self) {
        let undo = std::mem::take(&mut self.undo);
        let map = &mut self.map;
        self.overlay.truncate(undo.overlaid, &mut |pgno| map.unclaim(pgno));
        undo.spilled_pages.into_iter().for_each(|pgno| map.unclaim(pgno));
        if let Some(mut wins) = undo.wins {
            map.unclaim_all(&mut wins);
            self.spare_map = Some(wins);
        }
        self.spilled = undo.spilled;
        self.shape.times = undo.times;
        self.begin_file();
    }
}

impl Claimed {
    /// Fits the claims to `base`, the header of the snapshot, which was asked for once more. The header that was read
    /// the first time may have been wrong.
    pub(super) async fn admit_again(
        &mut self,
        execution: &Execution<'_>,
        base: &Header,
    ) -> Result<(), ExecutionFailure> {
        if self.shape.newest == 0 {
            // Without increments it is the snapshot that sets page size and page count.
            execution.empty_output()?;
            *self = Claims::new(execution).finish(base).await?;
            return Ok(());
        }
        check_time(execution, 0, base)?;
        self.shape.check_page_size(0, base)?;
        self.shape.times = self.increments_times;
        self.shape.times.note(0, base.timestamp());
        Ok(())
    }
}

/// Checks that file `i` of the plan, which has the header `header`, is older than the target time.
fn check_time(execution: &Execution<'_>, i: usize, header: &Header) -> Result<(), ExecutionFailure> {
    match execution.before {
        Some(before) if header.timestamp() >= before => {
            let error = ChainError::NotBefore { target: before, found: header.timestamp() };
            Err(ExecutionFailure::TooNew { file: i, error })
        }
        _ => Ok(()),
    }
}

impl ClaimState {
    /// Whether the files that were read hold every page of the database.
    fn has_every_page(&self) -> bool {
        self.map.first_unclaimed_after(0, self.shape.page_size.lock_page()).is_none()
    }
}

fn admitted(state: &mut Option<ClaimState>) -> Result<&mut ClaimState, ExecutionFailure> {
    state.as_mut().ok_or_else(|| ExecutionFailure::bug("a decoder gave a page before the file's header"))
}

/// Begins with the newest file, which is file `i` of the plan and has the header `header`. The header gives page size
/// and page count. Reserves disk space for the output and memory for the page maps.
async fn begin(execution: &Execution<'_>, i: usize, header: &Header) -> Result<ClaimState, ExecutionFailure> {
    debug_assert_eq!(i + 1, execution.files.len(), "the newest file comes first");
    let (commit, planned_bytes) = (header.commit, execution.planned_bytes());
    if is_implausible(header, planned_bytes) {
        // The header promises more pages than the plan's files can hold. Either the snapshot was truncated, or this
        // header is wrong. Reading the snapshot again from its beginning tells which.
        let base = execution.planned(0)?;
        let fault = execution.source(base, None).fault(0, base.etag.as_ref()).await;
        let wrong = || ExecutionFailure::Chain { file: i, error: ChainError::Commit { commit, planned_bytes } };
        return Err(fault.unwrap_or_else(wrong));
    }
    let shared = &execution.worker.shared;
    let bytes = header.database_bytes();
    // The disk space for the database is reserved before the first page is written and before a large file is
    // fetched, so that a full disk is found early.
    if let Some(output) = execution.output {
        output.reserve(bytes)?;
    }
    shared.counters.bytes_out_planned.add(bytes);
    let mut times = ChainTimes::default();
    times.note(i, header.timestamp());
    let shape = Shape {
        page_size: header.page_size,
        commit,
        tracked: header.is_tracked(),
        timestamp: header.timestamp(),
        times,
        newest: i,
    };
    let (map, reserved_maps) = page_maps(execution, commit).await?;
    Ok(ClaimState {
        shape,
        map,
        reserved_maps,
        overlay: Overlay::new(header.page_size, OVERLAY_BYTES.min(shared.budget.total_bytes() / 4)),
        undo: Undo::default(),
        spare_map: None,
        spilled: Placed::default(),
        large: Vec::new(),
        checksums: ChainChecksums::default(),
    })
}

/// Reserves memory for the database's page map and for the page maps of its large increments, together at
/// most a quarter of the budget, in one step.
///
/// This is the second reservation of a database that already holds memory for file bodies. It cannot
/// deadlock. A small database reserves no map, so it waits for nothing and gives its memory back. At most
/// two large databases run at a time. The bodies of each take at most a quarter of the budget, and so do
/// its maps. Two times two quarters fit.
async fn page_maps(
    execution: &Execution<'_>,
    commit: u32,
) -> Result<(PageMap, Option<MemoryReservation>), ExecutionFailure> {
    let (map_bytes, budget) = (PageMap::bytes_for(commit), &execution.worker.shared.budget);
    if map_bytes <= UNRESERVED_MAP_BYTES {
        return Ok((PageMap::new(commit, None), None));
    }
    let most = budget.total_bytes() / 4 / map_bytes;
    if most == 0 {
        return Err(no_memory(execution, map_bytes));
    }
    let large = execution.files.iter().skip(1).filter(|planned| execution.is_large(planned)).count() as u64;
    let count = u32::try_from(most.min(1 + large)).unwrap_or(u32::MAX);
    let mut maps = budget.reserve_each(map_bytes, count).await;
    Ok((PageMap::new(commit, maps.split(map_bytes)), Some(maps)))
}

/// Makes a page map for the pages that one large increment wins. Its memory comes from the reservation
/// that [`page_maps`] made. If that is used up, it is reserved from the free part of the budget.
///
/// # Errors
/// The budget has too little free memory. Waiting for more could deadlock, as this restore holds memory.
fn another_page_map(execution: &Execution<'_>, state: &mut ClaimState) -> Result<PageMap, ExecutionFailure> {
    if let Some(map) = state.spare_map.take() {
        return Ok(map);
    }
    let commit = state.shape.commit;
    let map_bytes = PageMap::bytes_for(commit);
    if map_bytes <= UNRESERVED_MAP_BYTES {
        return Ok(PageMap::new(commit, None));
    }
    let reserved = state.reserved_maps.as_mut().and_then(|maps| maps.split(map_bytes));
    let reserved = reserved.or_else(|| execution.worker.shared.budget.try_reserve(map_bytes));
    Ok(PageMap::new(commit, Some(reserved.ok_or_else(|| no_memory(execution, map_bytes))?)))
}

fn no_memory(execution: &Execution<'_>, needed_bytes: u64) -> ExecutionFailure {
    RestoreError::Memory { needed_bytes, budget_bytes: execution.worker.shared.budget.total_bytes() }.into()
}

/// Writes a page that does not fit the overlay in memory to the output at byte offset `at`, with a blocking pwrite.
/// Returns how long that took. Without an output it does nothing.
fn spill(execution: &Execution<'_>, page: &[u8], at: u64) -> Result<Duration, IoError> {
    let begun = Instant::now();
    let Some(output) = execution.output else { return Ok(Duration::ZERO) };
    output.output().pwrite_all(page, at)?;
    let took = begun.elapsed();
    execution.worker.recorder().record(Stage::Write, took);
    execution.worker.shared.counters.bytes_out.add(page.len() as u64);
    Ok(took)
}
