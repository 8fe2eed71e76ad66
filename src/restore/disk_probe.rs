//! Writes a file that is no database the way a restore writes one, so that the disk can be measured.

use crate::commit::{Destination, PublishedFile};
use crate::io::{Buffer, IoError, Writer};
use crate::restore::error::RestoreError;
use crate::restore::workers::Worker;
use futures_util::poll;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use tokio::task::JoinHandle;

/// Each block of 4,096 bytes gets its number, so that no file system stores two of them once.
const BLOCK: usize = 4096;

/// Writes `bytes` bytes through the buffers of `worker` to a new file, syncs it and gives it the name of `destination`.
/// The content is `noise` again and again, with the number `first_block` in the first block, and so on. The caller must
/// sync the directory.
///
/// # Errors
/// [`RestoreError::Commit`] or [`RestoreError::Io`] if the file system refuses. The file is then removed.
pub async fn write_probe(
    worker: &Rc<Worker>,
    destination: &Arc<Destination>,
    bytes: u64,
    noise: &[u8],
    first_block: u64,
) -> Result<PublishedFile, RestoreError> {
    let output = destination.create(false)?;
    output.reserve(bytes)?;
    let writer = worker.io.writer(output.output());
    let (mut at, mut writes) = (0, Vec::new());
    // This loop terminates, because a buffer holds at least one byte.
    while at < bytes {
        let mut buffer = worker.io.buffer().await;
        let len = usize::try_from(bytes - at).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        fill(&mut buffer, len, noise, first_block + at / BLOCK as u64);
        writes.extend(begun(&*writer, buffer, len, at).await?);
        at += len as u64;
    }
    for write in writes {
        write.await.map_err(|_| RestoreError::Internal { what: "a write of the probe was given up" })??;
    }
    writer.sync().await?;
    Ok(output.publish()?)
}

/// Begins a write. Returns the task that goes on with it, or None if it has ended already.
async fn begun(
    writer: &dyn Writer,
    buffer: Buffer,
    len: usize,
    at: u64,
) -> Result<Option<JoinHandle<Result<(), IoError>>>, IoError> {
    let mut write = writer.write(buffer, len, at);
    match poll!(&mut write) {
        Poll::Ready(written) => written.map(|()| None),
        Poll::Pending => Ok(Some(tokio::task::spawn_local(write))),
    }
}

fn fill(buffer: &mut [u8], len: usize, noise: &[u8], first_block: u64) {
    let blocks = buffer.chunks_mut(BLOCK).take(len.div_ceil(BLOCK)).zip(noise.chunks(BLOCK).cycle());
    for (number, (block, noise)) in (first_block..).zip(blocks) {
        let same = block.len().min(noise.len());
        if let (Some(block), Some(noise)) = (block.get_mut(..same), noise.get(..same)) {
            block.copy_from_slice(noise);
        }
        if let Some(first) = block.first_chunk_mut() {
            *first = number.to_le_bytes();
        }
    }
}
