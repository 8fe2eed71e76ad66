//! Reads a planned file only to find out whether it is intact, after another file of the plan has proved damaged
//! ([`Execution::finds_all_damage`]).

use crate::ltx::decoder::DecodeStep;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::execution::Execution;
use crate::restore::execute::fetch::{Fetched, fetch_again};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

/// Decodes file `i` of the plan to its end and discards its pages. If its content is wrong, it is asked for once more.
/// A file that is fetched in segments is not read: the next execution does that.
///
/// # Errors
/// The file is damaged or cannot be read.
// The future is boxed, so that the future of every restore does not grow by what is rarely needed.
pub(super) fn verify<'a>(
    execution: &'a Execution<'_>,
    i: usize,
    fetched: Fetched,
) -> LocalBoxFuture<'a, Result<(), ExecutionFailure>> {
    async move {
        match decode(execution, i, fetched).await {
            Err(failure) if execution.may_ask_again(i, &failure) => {
                decode(execution, i, fetch_again(execution, i, &failure).await?).await
            }
            decoded => decoded,
        }
    }
    .boxed_local()
}

async fn decode(execution: &Execution<'_>, i: usize, fetched: Fetched) -> Result<(), ExecutionFailure> {
    let Fetched::Whole(mut body) = fetched else { return Ok(()) };
    let damaged = |error| ExecutionFailure::Damaged { file: i, error };
    let mut decoder = execution.decoder(i)?;
    let mut page = Vec::new();
    // This loop terminates, because each turn consumes a part of the body, which is finite.
    loop {
        match decoder.next_page().map_err(damaged)? {
            DecodeStep::NeedMore => body.feed(execution, &mut decoder, i).await?,
            DecodeStep::Header(header) => page = vec![0; header.page_size.bytes()],
            DecodeStep::Page(encoded) => encoded.decode_into(&mut page).map_err(damaged)?,
            DecodeStep::Done(_) => return Ok(()),
        }
    }
}
