//! Buffers in which a worker reads files from disk. They are reused, because the kernel must first clear and
//! map fresh memory (page faults).

use crate::process::locks::lock;
use std::sync::{Arc, Mutex};

/// Capacity of a buffer in bytes. A file that is read in chunks uses two buffers: one is decoded while the next
/// is read. Both fit into a core's L2 cache. 64 to 512 KiB are equally fast.
pub(super) const BUFFER_BYTES: usize = 128 << 10;
/// Maximum number of free buffers that are kept: two for each of the 8 segments that a worker reads at the same
/// time. More exist only while whole files wait to be decoded. Those are freed afterwards.
const MOST_FREE: usize = 16;

/// The free buffers of one worker. Clones share them. A buffer may be dropped on another thread.
#[derive(Debug, Clone, Default)]
pub struct ReadBuffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer that is empty at first. When it is dropped, its memory returns to the worker's free buffers.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    pub(super) bytes: Vec<u8>,
    pool: ReadBuffers,
}

impl ReadBuffers {
    /// Returns an empty buffer of 128 KiB capacity, a used one if one is free.
    pub(super) fn take(&self) -> ReadBuffer {
        let free = self.free().pop();
        ReadBuffer { bytes: free.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES)), pool: self.clone() }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        lock(&self.0)
    }
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut free = self.pool.free();
        if free.len() < MOST_FREE {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn the_last_buffer_that_was_freed_is_taken_next() {
        let buffers = ReadBuffers::default();
        let mut buffer = buffers.take();
        buffer.bytes.extend_from_slice(b"content");
        let bytes = Bytes::from_owner(buffer);
        let (address, part) = (bytes.as_ptr(), bytes.slice(2..4));
        drop(bytes);
        assert_ne!(buffers.take().bytes.as_ptr(), address, "a slice still uses it");
        drop(part);
        let again = buffers.take();
        assert_eq!((again.bytes.as_ptr(), again.bytes.len()), (address, 0));
        assert!(again.bytes.capacity() >= BUFFER_BYTES);
    }

    #[test]
    fn few_are_kept_however_many_were_in_use() {
        let buffers = ReadBuffers::default();
        let many: Vec<ReadBuffer> = (0..100).map(|_| buffers.take()).collect();
        drop(many);
        assert_eq!(buffers.free().len(), MOST_FREE);
    }
}
