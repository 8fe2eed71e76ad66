//! Writing outputs: io_uring and pwrite behind one trait, aligned buffers, and the probe that chooses between the
//! two (docs/ARCHITECTURE.md, "io_uring traps" and "Durability").
//!
//! Not here: names, directories and publication (`commit`), and what is written where (`restore`).
//! This is the only module with `unsafe`: for anonymous mapped memory, for the promise to the kernel that buffer
//! and descriptor live until their operation has ended, for system calls on locks, and for signals.

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
pub use output::OutputFile;
pub use writer::Writer;

use std::rc::Rc;
use std::sync::Arc;

/// The buffers and the writer of one worker. Clones share them. Made and used inside [`block_on`], on one thread.
#[derive(Clone)]
pub struct Io {
    kind: IoBackend,
    pool: Rc<buffer::BufferPool>,
    syncs: sync::Syncs,
}

impl Io {
    /// `kind` is the choice of [`probe`]. Falls back to pwrite if this thread has no ring.
    ///
    /// # Errors
    /// [`IoError::NoRuntime`] if there is no memory for the buffers.
    pub fn new(kind: IoBackend, options: IoOptions) -> Result<Self, IoError> {
        let kind = if backend::has_ring() { kind } else { IoBackend::Pwrite };
        Ok(Self { kind, pool: buffer::BufferPool::new(options)?, syncs: sync::Syncs::new() })
    }

    /// The writer in use.
    pub fn kind(&self) -> IoBackend {
        self.kind
    }

    /// Capacity of each buffer, in bytes.
    pub fn buffer_bytes(&self) -> usize {
        self.pool.buffer_bytes()
    }

    /// The number of buffers that are registered with the kernel. 0 until all have been in use at the same time and
    /// an O_DIRECT write begins. Then all of them, or fewer if the limit on locked memory is low.
    pub fn registered_buffers(&self) -> usize {
        usize::from(self.pool.registered().unwrap_or(0))
    }

    /// A free buffer. Waits while all are in use. The buffer holds what its last user left.
    pub async fn buffer(&self) -> Buffer {
        self.pool.take().await
    }

    /// A free buffer; None if all are in use.
    pub fn try_buffer(&self) -> Option<Buffer> {
        self.pool.try_take()
    }

    /// A writer to `file` for this worker. Several workers may write to one file, each to different bytes.
    pub fn writer(&self, file: &Arc<OutputFile>) -> Rc<dyn Writer> {
        let (file, syncs) = (Arc::clone(file), self.syncs.clone());
        match self.kind {
            IoBackend::Uring => Rc::new(uring::UringWriter::new(file, syncs)),
            IoBackend::Pwrite => Rc::new(pwrite::PwriteWriter::new(file, syncs)),
        }
    }
}
