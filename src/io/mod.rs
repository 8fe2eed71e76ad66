//! Writers: io_uring and pwrite behind one trait, aligned buffers, and the probe that chooses
//! (DESIGN engines 4 and 5).
//!
//! Not here: names, directories and publication (`commit`), and what is written where (`restore`).
//! The only module with `unsafe`: mapped memory, and the promise to the kernel that a buffer and
//! a descriptor live until their operation has ended.

mod buffer;
mod engine;
mod error;
mod output;
mod pwrite;
mod uring;

pub use buffer::Buffer;
pub use engine::{Chosen, EngineChoice, EngineKind, block_on, probe};
pub use error::IoError;
pub(crate) use error::{class_of, shown, text_of};
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
pub struct Io {}

impl Io {
    /// `kind` as [`probe`] chose it. Falls back to pwrite when this thread has no ring.
    pub fn new(kind: EngineKind, options: IoOptions) -> Result<Self, IoError> {
        let _ = (kind, options);
        todo!()
    }

    /// The engine in use.
    pub fn kind(&self) -> EngineKind {
        todo!()
    }

    /// Capacity of every buffer, in bytes.
    pub fn buffer_bytes(&self) -> usize {
        todo!()
    }

    /// A free buffer; waits while all are in use. Its content is what its last user left.
    pub async fn buffer(&self) -> Buffer {
        todo!()
    }

    /// A free buffer, or None while all are in use.
    pub fn try_buffer(&self) -> Option<Buffer> {
        todo!()
    }

    /// Writes to `file` by this worker. Several workers may write to one file, each to bytes
    /// of its own.
    pub fn writer(&self, file: &Arc<OutputFile>) -> Rc<dyn Writer> {
        let _ = file;
        todo!()
    }
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
