//! Writes with pwrite on the worker's own thread. The kernel is asked to begin writeback early (`writeback`), which
//! keeps the disk busy. That is faster than handing each write to another thread.

use super::writeback::Writeback;
use super::writer::{Writer, part};
use super::{Buffer, IoError, OutputFile, sync};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::rc::Rc;
use std::sync::Arc;

pub(super) struct PwriteWriter {
    file: Arc<OutputFile>,
    writeback: Rc<Writeback>,
    syncs: sync::Syncs,
}

impl PwriteWriter {
    pub(super) fn new(file: Arc<OutputFile>, syncs: sync::Syncs) -> Self {
        Self { file, writeback: Rc::default(), syncs }
    }
}

impl Writer for PwriteWriter {
    fn write(&self, buf: Buffer, len: usize, at: u64) -> LocalBoxFuture<'static, Result<(), IoError>> {
        let (file, writeback) = (Arc::clone(&self.file), Rc::clone(&self.writeback));
        async move {
            let bytes = part(&file, &buf, 0, len, at)?;
            file.pwrite_all(bytes, at)?;
            writeback.add(&file, at, len as u64);
            Ok(())
        }
        .boxed_local()
    }

    fn sync(&self) -> LocalBoxFuture<'static, Result<(), IoError>> {
        self.syncs.sync(&self.file)
    }
}
