//! Executes a plan: increments first, newest to oldest, then the base around them (DESIGN
//! engine 1 – 4). Every planned file is decoded and checked whole, every page is written once.

use super::ahead::Ahead;
use super::budget::MemoryReservation;
use super::chain_times::{ChainTimes, StepBack};
use super::error::{ChainError, ExecutionFailure, RestoreError};
use super::fetch::{Fetched, Reading, WholeBody};
use super::large::{Footer, Indexed, LargeFile, LargeSource, OnIndex, SegmentChecksums, SegmentContext};
use crate::catalogue::LtxFile;
use crate::commit::StagedFile;
use crate::io::IoError;
use crate::ltx::decoder::{DecodeStep, FileDecoder};
use crate::ltx::header::Header;
use crate::ltx::name::check_name;
use crate::ltx::trailer::Trailer;
use crate::ltx::{PageSize, Pgno};
use crate::restore::large::cuts::SegmentBounds;
use crate::restore::large::segments::Segments;
use crate::restore::page_map::{Overlay, PageMap, Winners};
use crate::restore::page_writer::{PageWriter, Placed};
use crate::restore::workers::Worker;
use crate::store::Store;
use crate::telemetry::{Stage, Stopwatch};
use crate::timestamp::Timestamp;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Increments fetched ahead of the one being claimed.
pub(super) const INCREMENTS_IN_FLIGHT: usize = 64;
/// Segments' worth of increments held at once; at least one file.
const INCREMENTS_SEGMENTS: u64 = 2;
/// Winners of increments kept in memory, of one database; beyond, they go to the file at once.
const OVERLAY_BYTES: u64 = 48 << 20;
/// A stored page takes at least this: a frame of 6 + 4 + 2 bytes and an index entry of 3. Headers
/// that promise more pages than that are not believed.
const MIN_STORED_PAGE_BYTES: u64 = 15;
/// Page maps up to this size are not charged: no more than a large file's own buffers.
const UNCHARGED_MAP_BYTES: u64 = 1 << 20;

/// A planned file.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    pub key: String,
    pub file: LtxFile,
}

/// What to execute, oldest file first.
pub struct Execution<'a> {
    pub worker: &'a Rc<Worker>,
    pub store: &'a Store,
    pub files: &'a [PlannedFile],
    /// None: what is decoded is checked and thrown away.
    pub output: Option<&'a StagedFile>,
    /// Every header's time must be before this.
    pub before: Option<Timestamp>,
    /// `-parallelism`.
    pub requests: Option<Arc<Semaphore>>,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Executed {
    pub page_size: u32,
    /// Size of the database in pages.
    pub commit: u32,
    /// The last file's header time.
    pub timestamp: Timestamp,
    pub step_back: Option<StepBack>,
}

/// The newest file's header decides the database's shape.
#[derive(Debug, Clone, Copy)]
struct Shape {
    page_size: PageSize,
    commit: u32,
    tracked: bool,
    timestamp: Timestamp,
    times: ChainTimes,
}

/// Claims by increments, as they accumulate.
struct Claiming {
    shape: Shape,
    map: PageMap,
    /// For the maps of large increments.
    maps: Option<MemoryReservation>,
    overlay: Overlay,
    /// Written by spilling.
    spilled: Placed,
    large: Vec<Indexed>,
    checksums: Vec<Checksums>,
}

/// Marks the pages that a large increment wins, and keeps its segments.
struct Claimer<'a> {
    map: &'a mut PageMap,
    wins: PageMap,
    cuts: Vec<SegmentBounds>,
}

impl OnIndex for Claimer<'_> {
    fn page(&mut self, pgno: Pgno) {
        if self.map.claim(pgno) {
            self.wins.claim(pgno);
        }
    }

    fn cut(&mut self, cut: SegmentBounds) {
        self.cuts.push(cut);
    }
}

/// A tracked file's database checksums, to compare along the chain.
struct Checksums {
    file: usize,
    header: Header,
    post_apply: u64,
}

impl Execution<'_> {
    /// Fetches, checks and places all. The file is complete but not synced.
    pub async fn run(&self) -> Result<Executed, ExecutionFailure> {
        let Some((base, increments)) = self.files.split_first() else { return Err(ExecutionFailure::Stopped) };
        let planned_bytes: u64 = self.files.iter().map(|f| f.file.size).sum();
        self.worker.shared.counters.bytes_in_planned.add(planned_bytes);
        let _turn = self.turn().await;
        // One charge for all that is held at once, so that no database waits with half of it.
        let base_bytes = if self.is_large(&base.file) { 0 } else { base.file.size };
        let segment_bytes = self.worker.shared.segment_bytes;
        let window_bytes = increments.iter().map(|f| f.file.size.min(segment_bytes)).sum::<u64>();
        let budget_bytes = self.worker.shared.budget.total_bytes();
        let window_bytes = window_bytes.min(INCREMENTS_SEGMENTS * segment_bytes).min(budget_bytes / 4);
        let _charge = self.worker.shared.budget.charge(base_bytes + window_bytes).await;

        let window = Semaphore::new(window_bytes.max(1) as usize);
        let window = &window;
        let fetches = increments.iter().enumerate().rev().map(|(i, file)| async move {
            let held = file.file.size.clamp(1, window_bytes.max(1)) as u32;
            let permit = window.acquire_many(held).await.ok();
            (i + 1, self.fetch(file, Reading::Now).await, permit)
        });
        let mut fetches = Ahead::new(fetches, INCREMENTS_IN_FLIGHT);
        let claim = async {
            let mut claiming: Option<Claiming> = None;
            while let Some((i, fetched, _permit)) = fetches.next().await {
                let fetched = fetched.map_err(|e| ExecutionFailure::of_request(i, e))?;
                let claimed = async {
                    match fetched {
                        Fetched::Whole(body) => self.claim_whole(&mut claiming, i, body, planned_bytes).await,
                        Fetched::Ends(ends) => self.claim_large(&mut claiming, i, ends, planned_bytes).await,
                    }
                };
                fetches.during(claimed).await?;
            }
            Ok::<_, ExecutionFailure>(claiming)
        };
        let base_fetch =
            async { self.fetch(base, Reading::OnDemand).await.map_err(|e| ExecutionFailure::of_request(0, e)) };
        let (claiming, base_body) = futures_util::future::try_join(claim, base_fetch).await?;
        match base_body {
            Fetched::Whole(body) => self.place_whole(claiming, body, planned_bytes).await,
            Fetched::Ends(ends) => self.place_large(claiming, ends, planned_bytes).await,
        }
    }

    /// Databases with large files, or with so many bytes that their page map may have to be
    /// charged while other charges are held, wait until few others are in flight.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let planned_bytes: u64 = self.files.iter().map(|f| f.file.size).sum();
        let may_charge_a_map = planned_bytes / MIN_STORED_PAGE_BYTES / 8 >= UNCHARGED_MAP_BYTES;
        match may_charge_a_map || self.files.iter().any(|f| self.is_large(&f.file)) {
            true => self.worker.shared.large_databases.acquire().await.ok(),
            false => None,
        }
    }

    pub(super) fn source<'b>(&'b self, file: &'b PlannedFile) -> LargeSource<'b> {
        let requests = self.requests.as_deref();
        LargeSource { worker: self.worker, store: self.store, planned: file, requests }
    }

    /// Decodes and checks an increment; its pages that nobody newer holds go to the overlay.
    async fn claim_whole(
        &self,
        claiming: &mut Option<Claiming>,
        i: usize,
        mut body: WholeBody,
        planned_bytes: u64,
    ) -> Result<(), ExecutionFailure> {
        let damaged = |error| ExecutionFailure::Damaged { file: i, error };
        let failed = |error| ExecutionFailure::of_request(i, error);
        let mut decoder = self.decoder(i);
        let mut page = Vec::new();
        let mut watch = Stopwatch::start();
        // Ends: each turn takes a part of the body, which is in memory.
        loop {
            match decoder.next_page().map_err(damaged)? {
                DecodeStep::NeedMore => match body.next().await.map_err(failed)? {
                    Some(chunk) => decoder.push(chunk),
                    // The store gave all bytes that were asked for: the decoder says what is missing.
                    None => return Err(ExecutionFailure::Stopped),
                },
                DecodeStep::Header(header) => {
                    watch.away(self.admit(claiming, i, &header, planned_bytes)).await?;
                    page = vec![0; header.page_size.bytes()];
                }
                DecodeStep::Page(encoded) => {
                    let pgno = encoded.pgno();
                    encoded.decode_into(&mut page).map_err(damaged)?;
                    if let Some(c) = claiming
                        && c.map.claim(pgno)
                        && !c.overlay.insert(&self.worker.shared.budget, pgno, &page)
                    {
                        watch.less(self.spill(&page, c.shape.page_size.offset_of(pgno))?);
                        c.spilled.count(pgno, &page, c.shape.tracked);
                    }
                }
                DecodeStep::Done(file) => {
                    if let Some(c) = claiming {
                        c.note_checksums(i, &file.header, &file.trailer);
                    }
                    self.worker.recorder().record(Stage::Decode, watch.elapsed());
                    return Ok(());
                }
            }
        }
    }

    /// Writes a winner at once; how long that took.
    fn spill(&self, page: &[u8], at: u64) -> Result<Duration, IoError> {
        let begun = Instant::now();
        let Some(output) = self.output else { return Ok(Duration::ZERO) };
        output.output().pwrite_all(page, at)?;
        let took = begun.elapsed();
        self.worker.recorder().record(Stage::Write, took);
        self.worker.shared.counters.bytes_out.add(page.len() as u64);
        Ok(took)
    }

    /// Reads a large increment's index; its winning pages are marked, and placed later.
    async fn claim_large(
        &self,
        claiming: &mut Option<Claiming>,
        i: usize,
        ends: Footer,
        planned_bytes: u64,
    ) -> Result<(), ExecutionFailure> {
        let header = ends.header().map_err(|error| ExecutionFailure::Damaged { file: i, error })?;
        self.check_name(i, &header)?;
        self.admit(claiming, i, &header, planned_bytes).await?;
        let Some(c) = claiming else { return Err(ExecutionFailure::Stopped) };
        let wins = self.another_page_map(c)?;
        let source = self.source(self.planned(i)?);
        let mut file = ends.file(source, i, header);
        let mut claimer = Claimer { map: &mut c.map, wins, cuts: Vec::new() };
        let expected = SegmentChecksums::read(source, i, ends, &mut claimer).await?;
        let Claimer { wins, cuts, .. } = claimer;
        c.note_checksums(i, &header, &expected.trailer);
        file.wins = Some(wins);
        c.large.push(Indexed { file, cuts, expected });
        Ok(())
    }

    /// A base that fits one GET: decoded here, around the overlay.
    async fn place_whole(
        &self,
        mut claiming: Option<Claiming>,
        mut body: WholeBody,
        planned_bytes: u64,
    ) -> Result<Executed, ExecutionFailure> {
        let damaged = |error| ExecutionFailure::Damaged { file: 0, error };
        let failed = |error| ExecutionFailure::of_request(0, error);
        let mut decoder = self.decoder(0);
        let mut watch = Stopwatch::start();
        // Ends, as the next one does: each turn takes a part of the body, which is in memory.
        let header = loop {
            match decoder.next_page().map_err(damaged)? {
                DecodeStep::NeedMore => match watch.away(body.next()).await.map_err(failed)? {
                    Some(chunk) => decoder.push(chunk),
                    // The store gave all bytes that were asked for: the decoder says what is missing.
                    None => return Err(ExecutionFailure::Stopped),
                },
                DecodeStep::Header(header) => break header,
                // The header is the first thing that a decoder gives.
                DecodeStep::Page(_) | DecodeStep::Done(_) => return Err(ExecutionFailure::Stopped),
            }
        };
        watch.away(self.admit(&mut claiming, 0, &header, planned_bytes)).await?;
        let Some(claiming) = claiming else { return Err(ExecutionFailure::Stopped) };
        let (shape, large, mut checksums, mut placed, claims) = claiming.sealed();
        let segments = self.start_segments(large, None, &claims, shape);

        let share = 0..claims.overlay.len();
        let mut placer = PageWriter::new(
            self.worker,
            self.output.map(StagedFile::output),
            shape.page_size,
            Arc::clone(&claims),
            share,
            shape.tracked,
        );
        let mut loser = vec![0; shape.page_size.bytes()];
        loop {
            match decoder.next_page().map_err(damaged)? {
                DecodeStep::NeedMore => match watch.away(body.next()).await.map_err(failed)? {
                    Some(chunk) => decoder.push(chunk),
                    // The store gave all bytes that were asked for: the decoder says what is missing.
                    None => return Err(ExecutionFailure::Stopped),
                },
                DecodeStep::Header(_) => return Err(ExecutionFailure::Stopped),
                DecodeStep::Page(encoded) => {
                    let pgno = encoded.pgno();
                    placer.advance_to(pgno).await?;
                    if placer.wants(pgno) {
                        encoded.decode_into(placer.reserve(pgno).await?).map_err(damaged)?;
                        placer.commit(pgno);
                    } else {
                        encoded.decode_into(&mut loser).map_err(damaged)?;
                    }
                }
                DecodeStep::Done(file) => {
                    note(&mut checksums, 0, &file.header, &file.trailer);
                    break;
                }
            }
        }
        watch.less(placer.waited());
        self.worker.recorder().record(Stage::Decode, watch.elapsed());
        // Not before: until the base is verified, it may be its header that is wrong.
        self.check_growth(shape, &claims, &header)?;
        placed.add(placer.finish().await?);
        placed.add(segments.finish().await?);
        self.check_complete(shape, placed, checksums)
    }

    /// A large base: its segments, and those of large increments, go to all workers, from the
    /// first part of its index on.
    async fn place_large(
        &self,
        mut claiming: Option<Claiming>,
        ends: Footer,
        planned_bytes: u64,
    ) -> Result<Executed, ExecutionFailure> {
        let header = ends.header().map_err(|error| ExecutionFailure::Damaged { file: 0, error })?;
        self.check_name(0, &header)?;
        self.admit(&mut claiming, 0, &header, planned_bytes).await?;
        let Some(claiming) = claiming else { return Err(ExecutionFailure::Stopped) };
        let (shape, large, mut checksums, mut placed, claims) = claiming.sealed();
        let source = self.source(self.planned(0)?);
        let base = ends.file(source, 0, header);
        let mut segments = self.start_segments(large, Some(base), &claims, shape);
        let base = SegmentChecksums::read(source, 0, ends, &mut segments).await?;
        note(&mut checksums, 0, &header, &base.trailer);
        segments.expect(base);
        self.check_growth(shape, &claims, &header)?;
        placed.add(segments.finish().await?);
        self.check_complete(shape, placed, checksums)
    }

    /// Begins with the large increments' segments; those of a large base are still to come.
    fn start_segments(
        &self,
        large: Vec<Indexed>,
        base: Option<LargeFile>,
        claims: &Arc<Winners>,
        shape: Shape,
    ) -> Segments<'_> {
        let layout = SegmentContext {
            store: self.store.clone(),
            output: self.output.map(|output| Arc::clone(output.output())),
            fetch_only: false,
            claims: Arc::clone(claims),
            files: Vec::new(),
            tracked: shape.tracked,
            requests: self.requests.clone(),
            stopped: AtomicBool::new(false),
        };
        Segments::start(layout, large, base, &self.worker.shared.segments)
    }

    /// Checks file `i`'s header against the others', and begins the claims with the newest.
    async fn admit(
        &self,
        claiming: &mut Option<Claiming>,
        i: usize,
        header: &Header,
        planned_bytes: u64,
    ) -> Result<(), ExecutionFailure> {
        if let Some(before) = self.before
            && header.timestamp() >= before
        {
            let error = ChainError::NotBefore { target: before, found: header.timestamp() };
            return Err(ExecutionFailure::TooNew { file: i, error });
        }
        match claiming {
            Some(c) if c.shape.page_size != header.page_size => Err(ExecutionFailure::Chain {
                file: i,
                error: ChainError::PageSize { expected: c.shape.page_size.get(), found: header.page_size.get() },
            }),
            Some(c) => {
                c.shape.times.note(i, header.timestamp());
                Ok(())
            }
            None => {
                *claiming = Some(self.begin(i, header, planned_bytes).await?);
                Ok(())
            }
        }
    }

    async fn begin(&self, i: usize, header: &Header, planned_bytes: u64) -> Result<Claiming, ExecutionFailure> {
        let commit = header.commit;
        if u64::from(commit) * MIN_STORED_PAGE_BYTES > planned_bytes {
            // The header lies, or the base was cut short.
            let base = self.planned(0)?;
            let fault = self.source(base).fault(0, base.file.etag.as_ref()).await;
            let lie = || ExecutionFailure::Chain { file: i, error: ChainError::Commit { commit, planned_bytes } };
            return Err(fault.unwrap_or_else(lie));
        }
        let bytes = u64::from(commit) * header.page_size.bytes() as u64;
        // Reserved before the first page is placed, and before a large body is fetched.
        if let Some(output) = self.output {
            output.reserve(bytes)?;
        }
        self.worker.shared.counters.bytes_out_planned.add(bytes);
        let mut shape = Shape {
            page_size: header.page_size,
            commit,
            tracked: header.is_tracked(),
            timestamp: header.timestamp(),
            times: ChainTimes::default(),
        };
        shape.times.note(i, header.timestamp());
        let (map, maps) = self.page_maps(commit).await?;
        Ok(Claiming {
            shape,
            map,
            maps,
            overlay: Overlay::new(header.page_size, OVERLAY_BYTES.min(self.worker.shared.budget.total_bytes() / 4)),
            spilled: Placed::default(),
            large: Vec::new(),
            checksums: Vec::new(),
        })
    }

    /// The database's page map, charged where it is large, and as many charges for those of large
    /// increments as a quarter of the budget allows: at once, so that none is waited for with
    /// others in hand. Waits for small databases to give back what they hold: they need nothing
    /// more. Large ones are few at once, and what each holds and its maps are at most a quarter of
    /// the budget each: they do not wait for one another.
    async fn page_maps(&self, commit: u32) -> Result<(PageMap, Option<MemoryReservation>), ExecutionFailure> {
        let (map_bytes, budget) = (PageMap::bytes_for(commit), &self.worker.shared.budget);
        if map_bytes <= UNCHARGED_MAP_BYTES {
            return Ok((PageMap::new(commit, None), None));
        }
        let most = budget.total_bytes() / 4 / map_bytes;
        if most == 0 {
            return Err(self.no_memory(map_bytes));
        }
        let large = self.files.iter().skip(1).filter(|planned| self.is_large(&planned.file)).count() as u64;
        let count = u32::try_from(most.min(1 + large)).unwrap_or(u32::MAX);
        let mut maps = budget.charge_each(map_bytes, count).await;
        Ok((PageMap::new(commit, maps.split(map_bytes)), Some(maps)))
    }

    /// The map of a large increment's winners. Where there are so many that not all could be
    /// charged beforehand, none is waited for.
    fn another_page_map(&self, claiming: &mut Claiming) -> Result<PageMap, ExecutionFailure> {
        let commit = claiming.shape.commit;
        let map_bytes = PageMap::bytes_for(commit);
        if map_bytes <= UNCHARGED_MAP_BYTES {
            return Ok(PageMap::new(commit, None));
        }
        let charged = claiming.maps.as_mut().and_then(|maps| maps.split(map_bytes));
        let charge = charged.or_else(|| self.worker.shared.budget.try_charge(map_bytes));
        Ok(PageMap::new(commit, Some(charge.ok_or_else(|| self.no_memory(map_bytes))?)))
    }

    fn no_memory(&self, needed_bytes: u64) -> ExecutionFailure {
        RestoreError::Memory { needed_bytes, budget_bytes: self.worker.shared.budget.total_bytes() }.into()
    }

    /// The base holds its own pages (it is a snapshot, and checked as one); pages beyond must
    /// have been claimed.
    fn check_growth(&self, shape: Shape, claims: &Winners, base: &Header) -> Result<(), ExecutionFailure> {
        let Shape { page_size, commit, .. } = shape;
        match claims.map.first_unclaimed_after(base.commit, page_size.lock_page()) {
            None => Ok(()),
            Some(pgno) => Err(ExecutionFailure::Chain {
                file: self.files.len().saturating_sub(1),
                error: ChainError::PageMissing { pgno, commit },
            }),
        }
    }

    fn check_complete(
        &self,
        shape: Shape,
        placed: Placed,
        mut checksums: Vec<Checksums>,
    ) -> Result<Executed, ExecutionFailure> {
        let newest = self.files.len() - 1;
        let lock_page = u64::from(shape.page_size.lock_page().0 <= shape.commit);
        let expected = u64::from(shape.commit) - lock_page;
        if placed.pages != expected {
            // Growth and the base's completeness were checked: this names no page, but refuses.
            let error = ChainError::PageMissing { pgno: Pgno(placed.pages as u32), commit: shape.commit };
            return Err(ExecutionFailure::Chain { file: newest, error });
        }
        checksums.sort_by_key(|c| c.file);
        for pair in checksums.windows(2) {
            if let [older, newer] = pair
                && newer.file == older.file + 1
                && older.header.max_txid.0.checked_add(1) == Some(newer.header.min_txid.0)
                && newer.header.pre_apply_checksum != older.post_apply
            {
                let error = ChainError::PreApply { expected: older.post_apply, found: newer.header.pre_apply_checksum };
                return Err(ExecutionFailure::Chain { file: newer.file, error });
            }
        }
        if let Some(last) = checksums.last()
            && last.file == newest
        {
            let found = placed.checksum.finish();
            if last.post_apply != found {
                let error = ChainError::Database { expected: last.post_apply, found };
                return Err(ExecutionFailure::Chain { file: newest, error });
            }
        }
        Ok(Executed {
            page_size: shape.page_size.get(),
            commit: shape.commit,
            timestamp: shape.timestamp,
            step_back: shape.times.step_back(),
        })
    }

    fn check_name(&self, i: usize, header: &Header) -> Result<(), ExecutionFailure> {
        let file = self.planned(i)?;
        check_name(header, file.file.min_txid, file.file.max_txid)
            .map_err(|error| ExecutionFailure::Damaged { file: i, error })
    }

    fn decoder(&self, i: usize) -> FileDecoder {
        let file = self.files.get(i).map(|f| (f.file.size, f.file.min_txid, f.file.max_txid));
        let (size, min, max) = file.unwrap_or_default();
        FileDecoder::new(size, Some((min, max)))
    }

    pub(super) fn is_large(&self, file: &LtxFile) -> bool {
        file.size > self.worker.shared.segment_bytes
    }

    fn planned(&self, i: usize) -> Result<&PlannedFile, ExecutionFailure> {
        self.files.get(i).ok_or(ExecutionFailure::Stopped)
    }
}

impl Claiming {
    fn note_checksums(&mut self, file: usize, header: &Header, trailer: &Trailer) {
        note(&mut self.checksums, file, header, trailer);
    }

    /// Ends the claims: what the placing needs of them.
    fn sealed(mut self) -> (Shape, Vec<Indexed>, Vec<Checksums>, Placed, Arc<Winners>) {
        self.overlay.sort();
        let claims = Arc::new(Winners { map: self.map, overlay: self.overlay });
        (self.shape, self.large, self.checksums, self.spilled, claims)
    }
}

fn note(checksums: &mut Vec<Checksums>, file: usize, header: &Header, trailer: &Trailer) {
    if header.is_tracked() {
        checksums.push(Checksums { file, header: *header, post_apply: trailer.post_apply_checksum });
    }
}
