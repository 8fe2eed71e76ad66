//! Writers: io_uring and pwrite behind one trait, aligned buffers, and the probe that chooses
//! (DESIGN engines 4 and 5).
//!
//! Not here: names, directories and publication (`commit`), and what is written where (`restore`).
//! The only module with `unsafe`: anonymous mapped memory, the promise to the kernel that a buffer
//! and a descriptor live until their operation has ended, and what signals do.

#![allow(unsafe_code)]

mod backend;
mod buffer;
mod error;
#[cfg(any(test, feature = "sim"))]
pub mod fault;
mod fault_seam;
mod interrupted;
#[cfg(test)]
pub(crate) mod limits_tests;
pub(crate) mod lock;
mod output;
mod pwrite;
pub(crate) mod signals;
mod sync;
#[cfg(test)]
mod tests;
mod uring;
mod writeback;

pub use crate::io::backend::{BackendChoice, ChosenBackend, IoBackend, block_on, probe};
pub use buffer::Buffer;
pub use error::IoError;
pub(crate) use error::{class_of, shown, text_of};
pub(crate) use fault_seam::{FaultSeam, Step, fault_at};
pub(crate) use interrupted::uninterrupted;
pub use output::OutputFile;

use futures_util::future::LocalBoxFuture;
use std::rc::Rc;
use std::sync::Arc;

/// O_DIRECT's unit here: offsets, lengths and buffer addresses are multiples of it.
pub const ALIGNMENT: usize = 4096;

/// How much memory a worker's buffers take: `buffer_bytes * buffers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoOptions {
    /// Capacity of each buffer in bytes; rounded up to [`ALIGNMENT`].
    pub buffer_bytes: usize,
    /// How many buffers, 1 to 1024; also the bound on writes in flight.
    pub buffers: usize,
}

impl Default for IoOptions {
    fn default() -> Self {
        Self { buffer_bytes: 512 << 10, buffers: 8 }
    }
}

/// A worker's means of writing: its buffers, and the engine beneath. Clones share them.
/// Made and used inside [`block_on`], on one thread.
#[derive(Clone)]
pub struct Io {
    kind: IoBackend,
    pool: Rc<buffer::BufferPool>,
    syncs: sync::Syncs,
}

impl Io {
    /// `kind` as [`probe`] chose it. Falls back to pwrite when this thread has no ring.
    ///
    /// # Errors
    /// [`IoError::NoRuntime`] when there is no memory for the buffers.
    pub fn new(kind: IoBackend, options: IoOptions) -> Result<Self, IoError> {
        let kind = if backend::has_ring() { kind } else { IoBackend::Pwrite };
        Ok(Self { kind, pool: buffer::BufferPool::new(options)?, syncs: sync::Syncs::new() })
    }

    /// The engine in use.
    pub fn kind(&self) -> IoBackend {
        self.kind
    }

    /// Capacity of every buffer, in bytes.
    pub fn buffer_bytes(&self) -> usize {
        self.pool.buffer_bytes()
    }

    /// How many of the buffers are registered with the kernel: none before all have been in use
    /// and one is written past the page cache, then fewer than there are when the limit on locked
    /// memory is low.
    pub fn registered_buffers(&self) -> usize {
        usize::from(self.pool.registered().unwrap_or(0))
    }

    /// A free buffer; waits while all are in use. Its content is what its last user left.
    pub async fn buffer(&self) -> Buffer {
        self.pool.take().await
    }

    /// A free buffer, or None while all are in use.
    pub fn try_buffer(&self) -> Option<Buffer> {
        self.pool.try_take()
    }

    /// Writes to `file` by this worker. Several workers may write to one file, each to bytes
    /// of its own.
    pub fn writer(&self, file: &Arc<OutputFile>) -> Rc<dyn Writer> {
        let (file, syncs) = (Arc::clone(file), self.syncs.clone());
        match self.kind {
            IoBackend::Uring => Rc::new(uring::UringWriter::new(file, syncs)),
            IoBackend::Pwrite => Rc::new(pwrite::PwriteWriter::new(file, syncs)),
        }
    }
}

/// The bytes of `buf` from `from` to `to`, which are to be written at `at + from`.
fn part<'a>(file: &OutputFile, buf: &'a Buffer, from: usize, to: usize, at: u64) -> Result<&'a [u8], IoError> {
    let beyond = || IoError::Impossible { what: "write", path: file.path().to_owned(), at, len: to as u64 };
    buf.get(from..to).ok_or_else(beyond)
}

/// Writes to one file, from one worker.
pub trait Writer {
    /// Writes the first `len` bytes of `buf` at offset `at`; the buffer goes back to its pool
    /// when the kernel is done with it, also when the future is dropped before. Nothing happens
    /// until the future is polled. Full, aligned buffers at aligned offsets are fastest; any
    /// other length and offset is right as well.
    fn write(&self, buf: Buffer, len: usize, at: u64) -> LocalBoxFuture<'static, Result<(), IoError>>;

    /// Makes durable what was written to the file so far, by all workers: call it when all
    /// writes have ended. A failure is final: the file must be given up, a second try would
    /// report success for pages that the kernel has dropped.
    fn sync(&self) -> LocalBoxFuture<'static, Result<(), IoError>>;
}
