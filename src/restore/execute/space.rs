//! Finds out whether a database fits the disk before its files are fetched, where the free space is small.
//!
//! The exact size of a database is in the header of the newest planned file: page count × page size. Normally that
//! file's GET is the first, and the space is reserved when its header has arrived, before anything is written. No
//! request is added then. Where space is scarce, the header is read alone, before any other byte is fetched.

use crate::ltx::header::Header;
use crate::restore::error::ExecutionFailure;
use crate::restore::execute::execution::{Execution, MIN_STORED_PAGE_BYTES};
use crate::restore::large::request_permit;
use crate::restore::replica_listing::read_header;

/// Whether the planned files are too small to hold the pages that `header` promises. One of them is damaged then.
pub(super) fn is_implausible(header: &Header, planned_bytes: u64) -> bool {
    u64::from(header.commit) * MIN_STORED_PAGE_BYTES > planned_bytes
}

/// Where space is scarce, reads the header of the newest planned file and reserves the database's space.
///
/// # Errors
/// The database does not fit the disk, or the request for the header fails. A header that is damaged or too new is no
/// error here: the file is about to be fetched and checked.
pub(super) async fn reserve_where_scarce(execution: &Execution<'_>) -> Result<(), ExecutionFailure> {
    let planned_bytes = execution.planned_bytes();
    let (Some(output), Some(newest)) = (execution.output, execution.files.last()) else { return Ok(()) };
    if newest.size == 0 || !output.is_space_scarce(planned_bytes) {
        return Ok(());
    }
    let file = execution.files.len() - 1;
    let _permit = request_permit(execution.requests.as_deref()).await;
    let header =
        read_header(&execution.worker.http, execution.store, &newest.key, newest.size, newest.etag.as_ref()).await;
    let (header, _) = header.map_err(|error| ExecutionFailure::of_request(file, error))?;
    let Ok(header) = Header::parse(&header) else { return Ok(()) };
    let too_new = execution.before.is_some_and(|before| header.timestamp() >= before);
    if too_new || is_implausible(&header, planned_bytes) || execution.check_name(file, &header).is_err() {
        return Ok(());
    }
    let needed = header.database_bytes();
    tracing::debug!(target: "hydrant::plan", key = newest.key, needed, planned_bytes, "little space: size read first");
    Ok(output.reserve(needed)?)
}
