//! Executes a plan by the engine of its format.

use crate::restore::error::ExecutionFailure;
use crate::restore::execute::{self, Executed, Execution};
use crate::restore::v3;

/// Fetches all planned files, checks them, and writes their pages to the output. The output is complete when this
/// returns, but not fsynced.
///
/// # Errors
/// A planned file is damaged, cannot be read, or was replaced or deleted since the listing; or the store, the disk or the
/// memory budget fails.
pub(super) async fn execute_plan(execution: &Execution<'_>) -> Result<Executed, ExecutionFailure> {
    match &execution.v3 {
        // The future is boxed, so that the future of every restore does not grow by it.
        Some(v3) => Box::pin(v3::execute(execution, v3)).await,
        None => execute::execute(execution).await,
    }
}
