//! Asks the kernel to begin writeback early. Otherwise the kernel would keep written pages in memory until the
//! fsync at the end, and the disk would be idle until then.

use crate::io::OutputFile;
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd};

/// The number of bytes after which the kernel is asked to begin writeback.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// The bytes of one file that one worker has written since it last asked for writeback.
#[derive(Default)]
pub(super) struct Writeback {
    bytes: Cell<u64>,
    /// The range of these bytes in the file: the first offset, and the offset after the last. Valid if `bytes` is
    /// greater than 0.
    span: Cell<(u64, u64)>,
}

impl Writeback {
    /// Notes that `len` bytes were written at offset `at` through the page cache. Asks for writeback once
    /// [`WRITEBACK_BYTES`] have been written.
    pub(super) fn add(&self, file: &OutputFile, at: u64, len: u64) {
        let (start, end) = if self.bytes.get() == 0 { (at, at) } else { self.span.get() };
        let (start, end) = (start.min(at), end.max(at.saturating_add(len)));
        let bytes = self.bytes.get().saturating_add(len);
        if bytes < WRITEBACK_BYTES {
            self.bytes.set(bytes);
            self.span.set((start, end));
            return;
        }
        self.bytes.set(0);
        debug_assert!(i64::try_from(end).is_ok(), "the kernel has accepted these offsets");
        let (Ok(from), Ok(span)) = (i64::try_from(start), i64::try_from(end - start)) else { return };
        // SAFETY: sync_file_range uses an open descriptor and no memory. Its result does not matter: it only begins
        // early what fsync does and reports.
        unsafe {
            libc::sync_file_range(file.as_fd().as_raw_fd(), from, span, libc::SYNC_FILE_RANGE_WRITE);
        }
    }
}
