//! Writes by pwrite, on the worker's own thread: with sync_file_range to keep the disk busy it
//! is faster than handing each write to another thread (docs/PERFORMANCE.md).

use super::{Buffer, IoError, OutputFile, Writer, sync};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::sync::Arc;

/// The disk is told to begin after so many bytes.
const KICK_BYTES: u64 = 8 << 20;

pub(super) struct PwriteWriter {
    file: Arc<OutputFile>,
    unkicked: Rc<Unkicked>,
    syncs: sync::Syncs,
}

/// Bytes written since the disk was last told to begin, and where they lie.
#[derive(Default)]
struct Unkicked {
    bytes: Cell<u64>,
    /// First offset and the offset after the last; meaningful while `bytes` > 0.
    span: Cell<(u64, u64)>,
}

impl PwriteWriter {
    pub(super) fn new(file: Arc<OutputFile>, syncs: sync::Syncs) -> Self {
        Self { file, unkicked: Rc::default(), syncs }
    }
}

impl Writer for PwriteWriter {
    fn write(&self, buf: Buffer, len: usize, at: u64) -> LocalBoxFuture<'static, Result<(), IoError>> {
        let (file, unkicked) = (Arc::clone(&self.file), Rc::clone(&self.unkicked));
        async move {
            let bytes = super::part(&file, &buf, 0, len, at)?;
            file.pwrite_all(bytes, at)?;
            unkicked.add(&file, at, len as u64);
            Ok(())
        }
        .boxed_local()
    }

    fn sync(&self) -> LocalBoxFuture<'static, Result<(), IoError>> {
        self.syncs.sync(&self.file)
    }
}

impl Unkicked {
    fn add(&self, file: &OutputFile, at: u64, len: u64) {
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
