//! Writes by pwrite, on the worker's own thread: with sync_file_range to keep the disk busy it
//! is faster than handing each write to another thread (docs/PERFORMANCE.md).

use super::{Buffer, IoError, OutputFile, Writer, sync};
use crate::io::writeback::Unkicked;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::rc::Rc;
use std::sync::Arc;

pub(super) struct PwriteWriter {
    file: Arc<OutputFile>,
    unkicked: Rc<Unkicked>,
    syncs: sync::Syncs,
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
