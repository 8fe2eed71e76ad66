//! Early writeback. The kernel would keep dirty pages until the sync and leave the disk idle, so it is asked to begin
//! with them while the file is still being written.

use crate::io::OutputFile;
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd};

/// The kernel is asked to begin writeback each time this number of bytes was written.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// The bytes of one file that one worker has written since it last asked for writeback.
#[derive(Default)]
pub(super) struct Writeback {
    bytes: Cell<u64>,
    /// The first offset and the offset after the last; meaningful if `bytes` > 0.
    span: Cell<(u64, u64)>,
}

impl Writeback {
    /// Notes that `len` bytes were written at offset `at` through the page cache. Begins writeback if enough were.
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
        // SAFETY: a system call on an open descriptor that passes no memory. Its result does not
        // matter: it only begins early what the sync does and reports.
        unsafe {
            libc::sync_file_range(file.as_fd().as_raw_fd(), from, span, libc::SYNC_FILE_RANGE_WRITE);
        }
    }
}
