//! Writeback begun early: the kernel would let dirty pages lie until the sync, and the disk idle.

use crate::io::OutputFile;
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd};

/// The disk is told to begin after so many bytes.
const KICK_BYTES: u64 = 8 << 20;

/// Bytes written since the disk was last told to begin, and where they lie.
#[derive(Default)]
pub(super) struct Unkicked {
    bytes: Cell<u64>,
    /// First offset and the offset after the last; meaningful while `bytes` > 0.
    span: Cell<(u64, u64)>,
}

impl Unkicked {
    /// Notes that `len` bytes were written at `at`, through the page cache.
    pub(super) fn add(&self, file: &OutputFile, at: u64, len: u64) {
        let (start, end) = if self.bytes.get() == 0 { (at, at) } else { self.span.get() };
        let (start, end) = (start.min(at), end.max(at.saturating_add(len)));
        let bytes = self.bytes.get().saturating_add(len);
        if bytes < KICK_BYTES {
            self.bytes.set(bytes);
            self.span.set((start, end));
            return;
        }
        self.bytes.set(0);
        let (Ok(from), Ok(span)) = (i64::try_from(start), i64::try_from(end - start)) else { return };
        // SAFETY: a system call on an open descriptor that passes no memory. Its result does not
        // matter: it only begins early what the sync does and reports.
        unsafe {
            libc::sync_file_range(file.as_fd().as_raw_fd(), from, span, libc::SYNC_FILE_RANGE_WRITE);
        }
    }
}
