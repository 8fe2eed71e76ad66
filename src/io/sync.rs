//! fsync on threads of its own, so that many files are synced side by side.

use super::{IoError, OutputFile};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Syncs in flight per worker, and so the threads for them.
const AT_ONCE: usize = 32;

/// A worker's syncs.
#[derive(Clone)]
pub(super) struct Syncs(Rc<Semaphore>);

impl Syncs {
    pub(super) fn new() -> Self {
        Self(Rc::new(Semaphore::new(AT_ONCE)))
    }

    pub(super) fn sync(&self, file: &Arc<OutputFile>) -> LocalBoxFuture<'static, Result<(), IoError>> {
        let (slots, file) = (Rc::clone(&self.0), Arc::clone(file));
        async move {
            let _slot = slots.acquire().await;
            let path = file.path().to_owned();
            match tokio::task::spawn_blocking(move || file.fsync()).await {
                Ok(result) => result,
                // The runtime is going down: what was not synced is not published either.
                Err(_) => Err(IoError::refused("sync", &path, rustix::io::Errno::CANCELED)),
            }
        }
        .boxed_local()
    }
}
