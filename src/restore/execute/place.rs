//! Writes the base (the snapshot that a plan begins with) to the output. Pages of which an increment holds
//! a newer copy are taken from the increment instead. A base that fits one GET is decoded here. A larger
//! one is decoded segment by segment, by all workers.

use crate::commit::StagedFile;
use crate::ltx::decoder::DecodeStep;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::claim::{Claimed, Claims};
use crate::restore::execute::completeness::Shape;
use crate::restore::execute::execution::Execution;
use crate::restore::execute::fetch::{Fetched, WholeBody};
use crate::restore::large::{Footer, Indexed, SegmentContext, Segments};
use crate::restore::page_map::Winners;
use crate::restore::page_writer::PageWriter;
use crate::telemetry::{Stage, Stopwatch};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Writes the snapshot `base` and the pages of large increments to the output, and checks that the database is
/// complete. `claims` tells which pages increments hold; all increments must have been read.
pub(super) async fn place_base(
    execution: &Execution<'_>,
    claims: Claims<'_>,
    base: Fetched,
) -> Result<Shape, ExecutionFailure> {
    match base {
        Fetched::Whole(body) => place_whole(execution, claims, body).await,
        Fetched::Footer(footer) => place_large(execution, claims, footer).await,
    }
}

/// Writes a snapshot that fits one GET. This worker decodes it. Meanwhile all workers fetch and decode the segments
/// of large increments.
async fn place_whole(
    execution: &Execution<'_>,
    claims: Claims<'_>,
    mut body: WholeBody,
) -> Result<Shape, ExecutionFailure> {
    let damaged = |error| ExecutionFailure::Damaged { file: 0, error };
    let out_of_order = || ExecutionFailure::bug("a decoder gave the header twice, or not first");
    let mut decoder = execution.decoder(0)?;
    let mut watch = Stopwatch::start();
    // This loop and the next one terminate, because each turn consumes a part of the body, which is finite.
    let header = loop {
        match decoder.next_page().map_err(damaged)? {
            DecodeStep::NeedMore => watch.away(body.feed(&mut decoder, 0)).await?,
            DecodeStep::Header(header) => break header,
            DecodeStep::Page(_) | DecodeStep::Done(_) => return Err(out_of_order()),
        }
    };
    if claims.is_superseded(&header) {
        return place_without_base(execution, claims).await;
    }
    let claimed = watch.away(claims.finish(&header)).await?;
    let Claimed { shape, large, mut checksums, mut placed, winners } = claimed;
    let segments = start_segments(execution, large, &winners, shape);

    let mut writer = writer(execution, &winners, shape);
    let mut loser = vec![0; shape.page_size.bytes()];
    loop {
        match decoder.next_page().map_err(damaged)? {
            DecodeStep::NeedMore => watch.away(body.feed(&mut decoder, 0)).await?,
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
            DecodeStep::Done(file) => {
                checksums.note(0, &file.header, &file.trailer);
                break;
            }
        }
    }
    watch.less(writer.waited());
    execution.worker.recorder().record(Stage::Decode, watch.elapsed());
    // This check of missing pages comes after the snapshot's checksum was verified. Earlier, a page could seem to be
    // missing only because the snapshot's header is damaged, and the error would name the wrong file.
    shape.check_growth(&winners, &header)?;
    placed.add(writer.finish().await?);
    placed.add(segments.finish().await?);
    shape.check_complete(placed, checksums)?;
    Ok(shape)
}

/// Writes a snapshot that is too large for one GET. Reads its page index, then queues its segments (of about 8 MiB)
/// and those of large increments for all workers, and waits for them.
async fn place_large(execution: &Execution<'_>, claims: Claims<'_>, footer: Footer) -> Result<Shape, ExecutionFailure> {
    let header = footer.header().map_err(|error| ExecutionFailure::Damaged { file: 0, error })?;
    execution.check_name(0, &header)?;
    if claims.is_superseded(&header) {
        return place_without_base(execution, claims).await;
    }
    let Claimed { shape, mut large, mut checksums, mut placed, winners } = claims.finish(&header).await?;
    let source = execution.source(execution.planned(0)?);
    let base = Indexed::read(source, 0, footer, &mut |_| {}).await?;
    checksums.note(0, &header, &base.expected.trailer);
    shape.check_growth(&winners, &header)?;
    large.push(base);
    placed.add(start_segments(execution, large, &winners, shape).finish().await?);
    shape.check_complete(placed, checksums)?;
    Ok(shape)
}

/// Writes the pages of the increments, which hold the whole database. The snapshot has another page size, so none of
/// its pages can be used, and the rest of it is not read.
async fn place_without_base(execution: &Execution<'_>, claims: Claims<'_>) -> Result<Shape, ExecutionFailure> {
    let Claimed { shape, large, checksums, mut placed, winners } = claims.finish_without_base()?;
    let segments = start_segments(execution, large, &winners, shape);
    let writer = writer(execution, &winners, shape);
    placed.add(writer.finish().await?);
    placed.add(segments.finish().await?);
    shape.check_complete(placed, checksums)?;
    Ok(shape)
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
