//! Writes output files. Two writers, io_uring and pwrite, stand behind one trait; a probe chooses between them.
//! They share aligned buffers (docs/ARCHITECTURE.md, "io_uring traps" and "Durability").
//!
//! The names of files, directories and publication belong to `commit`. Which bytes are written where is decided by
//! `restore`. This is the only module with `unsafe` code. It is necessary for anonymous memory mappings, for
//! io_uring (buffer and descriptor must live until the operation has ended), for record locks, and for signals.

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
mod writer;

pub use crate::io::backend::{BackendChoice, ChosenBackend, IoBackend, block_on, probe};
pub use buffer::{ALIGNMENT, Buffer, IoOptions};
pub use error::IoError;
pub(crate) use error::{class_of, shown, text_of};
pub(crate) use fault_seam::{FaultSeam, Step, fault_at};
pub(crate) use interrupted::uninterrupted;
pub(crate) use output::close;
pub use output::{LARGE_BYTES, OutputFile};
pub use writer::Writer;

use std::rc::Rc;
use std::sync::Arc;

/// The buffers and the writer of one worker. Clones share them. It must be created and used inside [`block_on`], on
/// one thread.
#[derive(Clone)]
pub struct Io {
    kind: IoBackend,
    pool: Rc<buffer::BufferPool>,
    syncs: sync::Syncs,
}

impl Io {
    /// Creates the buffers of this worker. `kind` is the result of [`probe`]. If this thread has no io_uring ring,
    /// pwrite is used.
    ///
    /// # Errors
    ///
    /// [`IoError::NoRuntime`] if there is no memory for the buffers.
    pub fn new(kind: IoBackend, options: IoOptions) -> Result<Self, IoError> {
        let kind = if backend::has_ring() { kind } else { IoBackend::Pwrite };
        Ok(Self { kind, pool: buffer::BufferPool::new(options)?, syncs: sync::Syncs::new() })
    }

    /// The writer that is used on this thread: io_uring or pwrite.
    pub fn kind(&self) -> IoBackend {
        self.kind
    }

    /// The capacity of each buffer, in bytes.
    pub fn buffer_bytes(&self) -> usize {
        self.pool.buffer_bytes()
    }

    /// The number of buffers that are registered with the kernel. It is 0 until all buffers have been in use at the
    /// same time and an O_DIRECT write begins. Then all are registered, or fewer if the limit on locked memory
    /// (RLIMIT_MEMLOCK) is low.
    pub fn registered_buffers(&self) -> usize {
        usize::from(self.pool.registered().unwrap_or(0))
    }

    /// Takes a free buffer. Waits while all are in use. The buffer may hold bytes of its last user.
    pub async fn buffer(&self) -> Buffer {
        self.pool.take().await
    }

    /// Takes a free buffer. Returns None if all are in use.
    pub fn try_buffer(&self) -> Option<Buffer> {
        self.pool.try_take()
    }

    /// Takes adjacent free buffers that together hold `bytes`, as one buffer. Returns None if there are none: too many
    /// are in use, or the worker has fewer.
    pub fn try_adjacent_buffers(&self, bytes: usize) -> Option<Buffer> {
        self.pool.try_take_adjacent(bytes)
    }

    /// Creates a writer to `file` for this worker. Several workers may write to one file, each to different bytes.
    pub fn writer(&self, file: &Arc<OutputFile>) -> Rc<dyn Writer> {
        let (file, syncs) = (Arc::clone(file), self.syncs.clone());
        match self.kind {
            IoBackend::Uring => Rc::new(uring::UringWriter::new(file, syncs)),
            IoBackend::Pwrite => Rc::new(pwrite::PwriteWriter::new(file, syncs)),
        }
    }
}
