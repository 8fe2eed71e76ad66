//! The interface of both writers, `pwrite` and `uring`.

use super::{Buffer, IoError, OutputFile};
use futures_util::future::LocalBoxFuture;

/// Writes to one file, from one worker.
pub trait Writer {
    /// Writes the first `len` bytes of `buf` at offset `at`. Nothing happens until the future is polled. The buffer
    /// returns to its pool when the kernel is done with it, also if the future is dropped before. Full buffers at
    /// aligned offsets are fastest; every other length and offset is correct too.
    fn write(&self, buf: Buffer, len: usize, at: u64) -> LocalBoxFuture<'static, Result<(), IoError>>;

    /// Makes durable what all workers have written to the file. To be called when all writes have ended. A failure is
    /// final and the file must be given up: a second fsync would report success although the kernel has dropped
    /// pages.
    fn sync(&self) -> LocalBoxFuture<'static, Result<(), IoError>>;
}

/// Bytes `from` to `to` of `buf`, which are to be written at offset `at + from`.
///
/// # Errors
/// [`IoError::Internal`] if they are not inside the buffer.
pub(super) fn part<'a>(
    file: &OutputFile,
    buf: &'a Buffer,
    from: usize,
    to: usize,
    at: u64,
) -> Result<&'a [u8], IoError> {
    let what = "a write of more than its buffer holds";
    let beyond = || IoError::Internal { what, path: file.path().to_owned(), at, len: to as u64 };
    buf.get(from..to).ok_or_else(beyond)
}
