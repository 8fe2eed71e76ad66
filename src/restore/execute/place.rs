//! Writes the base (the snapshot that a plan begins with) to the output. Pages of which an increment holds
//! a newer copy are taken from the increment instead. A base that fits one GET is decoded here. A larger
//! one is decoded segment by segment, by all workers.

use crate::commit::StagedFile;
use crate::ltx::decoder::{DecodeStep, FileDecoder};
use crate::ltx::header::Header;
use crate::ltx::trailer::Trailer;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::claim::{Claimed, Claims};
use crate::restore::execute::completeness::Shape;
use crate::restore::execute::execution::Execution;
use crate::restore::execute::fetch::{Fetched, WholeBody, fetch_again};
use crate::restore::large::{Footer, Indexed, SegmentContext, Segments};
use crate::restore::page_map::Winners;
use crate::restore::page_writer::PageWriter;
use crate::telemetry::{Stage, Stopwatch};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Writes the snapshot `base` and the pages of large increments to the output, and checks that the database is
/// complete. `claims` tells which pages increments hold; all increments must have been read.
///
/// If the snapshot's content is wrong, it is asked for once more: a bit may have been flipped on the way.
pub(super) async fn place_base(
    execution: &Execution<'_>,
    claims: Claims<'_>,
    base: Fetched,
) -> Result<Shape, ExecutionFailure> {
    let mut placing = Placing { execution, claims, claimed: None, segments: None };
    let read = match placing.read(base).await {
        // The future is boxed, so that the future of every restore does not grow by what is rarely needed.
        Err(failure) if execution.may_ask_again(0, &failure) => {
            Box::pin(async { placing.read(fetch_again(execution, 0, &failure).await?).await }).await?
        }
        read => read?,
    };
    placing.finish(read).await
}

/// A snapshot that is being written.
struct Placing<'a> {
    execution: &'a Execution<'a>,
    claims: Claims<'a>,
    /// The finished claims, once the snapshot's header was read.
    claimed: Option<Claimed>,
    /// The segments of large increments, once they are queued.
    segments: Option<Segments>,
}

/// A snapshot whose content was checked, with its header and trailer.
enum ReadBase {
    /// Its pages are decoded. The last of them may still be in the writer.
    Written(PageWriter, Header, Trailer),
    /// Its page index was read. Its pages are still to be fetched.
    Large(Box<Indexed>, Header),
    /// It has another page size, and the increments hold the whole database. None of its pages can be used, and the
    /// rest of it is not read.
    Superseded,
}

impl Placing<'_> {
    async fn read(&mut self, base: Fetched) -> Result<ReadBase, ExecutionFailure> {
        match base {
            Fetched::Whole(body) => self.decode_whole(body).await,
            Fetched::Footer(footer) => self.read_index(footer).await,
        }
    }

    /// Finishes the claims with the snapshot's header.
    async fn admit(&mut self, header: &Header) -> Result<&mut Claimed, ExecutionFailure> {
        match &mut self.claimed {
            Some(claimed) => claimed.admit_again(self.execution, header).await?,
            None => self.claimed = Some(self.claims.finish(header).await?),
        }
        self.claimed.as_mut().ok_or_else(|| ExecutionFailure::bug("the claims were finished above"))
    }

    /// Writes a snapshot that fits one GET. This worker decodes it. Meanwhile all workers fetch and decode the segments
    /// of large increments.
    async fn decode_whole(&mut self, mut body: WholeBody) -> Result<ReadBase, ExecutionFailure> {
        let execution = self.execution;
        let mut decoder = execution.decoder(0)?;
        let mut watch = Stopwatch::start();
        // This loop terminates, because each turn consumes a part of the body, which is finite.
        let header = loop {
            match decoder.next_page().map_err(|error| ExecutionFailure::Damaged { file: 0, error })? {
                DecodeStep::NeedMore => watch.away(body.feed(execution, &mut decoder, 0)).await?,
                DecodeStep::Header(header) => break header,
                DecodeStep::Page(_) | DecodeStep::Done(_) => return Err(out_of_order()),
            }
        };
        if self.claims.is_superseded(&header) {
            return Ok(ReadBase::Superseded);
        }
        let claimed = watch.away(self.admit(&header)).await?;
        let (shape, winners, large) = (claimed.shape, Arc::clone(&claimed.winners), std::mem::take(&mut claimed.large));
        self.segments.get_or_insert_with(|| start_segments(execution, large, &winners, shape));
        let mut writer = writer(execution, &winners, shape);
        match write_pages(execution, &mut decoder, &mut body, &mut writer, &mut watch).await {
            Ok(trailer) => {
                watch.less(writer.waited());
                execution.worker.recorder().record(Stage::Decode, watch.elapsed());
                Ok(ReadBase::Written(writer, header, trailer))
            }
            Err(failure) => {
                writer.give_up().await?;
                Err(failure)
            }
        }
    }

    /// Reads the page index of a snapshot that is too large for one GET.
    async fn read_index(&mut self, footer: Footer) -> Result<ReadBase, ExecutionFailure> {
        let execution = self.execution;
        let header = footer.header().map_err(|error| ExecutionFailure::Damaged { file: 0, error })?;
        execution.check_name(0, &header)?;
        if self.claims.is_superseded(&header) {
            return Ok(ReadBase::Superseded);
        }
        self.admit(&header).await?;
        let again = footer.again.clone();
        let source = execution.source(execution.planned(0)?, again.as_deref());
        let base = Indexed::read(source, 0, footer, &mut |_| {}).await?;
        Ok(ReadBase::Large(Box::new(base), header))
    }

    /// Writes what is still to be written, and checks that the database is complete.
    async fn finish(mut self, base: ReadBase) -> Result<Shape, ExecutionFailure> {
        let execution = self.execution;
        let claimed = match (self.claimed, &base) {
            (Some(claimed), _) => claimed,
            (None, ReadBase::Superseded) => self.claims.finish_without_base()?,
            (None, _) => return Err(ExecutionFailure::bug("a snapshot was read without its header")),
        };
        let Claimed { shape, mut large, mut checksums, mut placed, winners, .. } = claimed;
        // The checksum of a large file is verified at the end only, so its header may still be what is wrong.
        let unverified = |failure: ExecutionFailure| match failure.wrong_content() {
            Some((i, _)) if execution.is_large_and_may_be_asked_again(i) => {
                ExecutionFailure::Again { file: i, failure: Box::new(failure) }
            }
            _ => failure,
        };
        match base {
            ReadBase::Written(writer, header, trailer) => {
                checksums.note(0, &header, &trailer);
                // This check of missing pages comes after the snapshot's checksum was verified. Earlier, a page could
                // seem to be missing only because the snapshot's header is damaged, and the error would name the wrong
                // file.
                shape.check_growth(&winners, &header).map_err(unverified)?;
                placed.add(writer.finish().await?);
            }
            ReadBase::Large(base, header) => {
                checksums.note(0, &header, &base.expected.trailer);
                shape.check_growth(&winners, &header).map_err(unverified)?;
                large.push(*base);
            }
            ReadBase::Superseded => placed.add(writer(execution, &winners, shape).finish().await?),
        }
        // The segments of a snapshot that is too large for one GET (of about 8 MiB), and those of large increments, are
        // queued for all workers.
        let segments = self.segments.unwrap_or_else(|| start_segments(execution, large, &winners, shape));
        let (in_segments, wrong) = segments.finish().await?;
        placed.add(in_segments);
        for wrong in wrong {
            let source = execution.source(execution.planned(wrong.planned())?, None);
            placed.add(Box::pin(wrong.ask_again(source)).await?);
        }
        shape.check_complete(placed, checksums)?;
        Ok(shape)
    }
}

fn out_of_order() -> ExecutionFailure {
    ExecutionFailure::bug("a decoder gave the header twice, or not first")
}

/// Decodes the pages of a snapshot, whose header `decoder` has given, and passes those that no increment holds to
/// `writer`. Returns the snapshot's trailer.
async fn write_pages(
    execution: &Execution<'_>,
    decoder: &mut FileDecoder,
    body: &mut WholeBody,
    writer: &mut PageWriter,
    watch: &mut Stopwatch,
) -> Result<Trailer, ExecutionFailure> {
    let damaged = |error| ExecutionFailure::Damaged { file: 0, error };
    let mut loser = vec![0; writer.page_bytes()];
    // This loop terminates, because each turn consumes a part of the body, which is finite.
    loop {
        match decoder.next_page().map_err(damaged)? {
            DecodeStep::NeedMore => watch.away(body.feed(execution, decoder, 0)).await?,
            DecodeStep::Header(_) => return Err(out_of_order()),
            DecodeStep::Page(encoded) => {
                let pgno = encoded.pgno();
                writer.advance_to(pgno).await?;
                if writer.wants(pgno) {
                    encoded.decode_into(writer.reserve(pgno).await?).map_err(damaged)?;
                    writer.commit(pgno);
                } else {
                    encoded.decode_into(&mut loser).map_err(damaged)?;
                }
            }
            DecodeStep::Done(file) => return Ok(file.trailer),
        }
    }
}

/// A writer for the pages that wait in memory, and for those that the caller decodes.
fn writer(execution: &Execution<'_>, winners: &Arc<Winners>, shape: Shape) -> PageWriter {
    PageWriter::new(
        execution.worker,
        execution.output.map(StagedFile::output),
        shape.page_size,
        Arc::clone(winners),
        0..winners.overlay.len(),
        shape.tracked,
    )
}

/// Queues the segments of the LTX files `large` for all workers, and returns without waiting for them.
fn start_segments(execution: &Execution<'_>, large: Vec<Indexed>, winners: &Arc<Winners>, shape: Shape) -> Segments {
    let context = SegmentContext {
        store: execution.store.clone(),
        output: execution.output.map(|output| Arc::clone(output.output())),
        fetch_only: false,
        winners: Arc::clone(winners),
        tracked: shape.tracked,
        requests: execution.requests.clone(),
        stopped: AtomicBool::new(false),
    };
    Segments::start(context, large, &execution.worker.shared)
}
