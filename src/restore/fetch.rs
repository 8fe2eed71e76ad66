//! A planned file's body: fetched whole, or read from a disk while it is decoded.

use super::execute::{Execution, PlannedFile};
use super::large::{Footer, allowed};
use crate::store::{Body, StoreError};
use bytes::Bytes;

/// Bodies up to this size are copied together: a chunk keeps its connection's whole buffer, which
/// hundreds of waiting bodies would hold many times over. On a disk they are one read.
const GATHERED_BYTES: u64 = 128 << 10;

/// A file's body, or the ends of one that is too large.
pub(super) enum Fetched {
    Whole(WholeBody),
    Ends(Footer),
}

/// When a file on a disk is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// At once: the file does not stay open while others are worked on.
    Now,
    /// Chunk by chunk as it is decoded: two buffers are enough, and they stay in the core's cache.
    /// Files of up to [`GATHERED_BYTES`] are read at once all the same.
    OnDemand,
}

/// A body that fits one GET.
#[derive(Default)]
pub(super) struct WholeBody {
    fetched: std::vec::IntoIter<Bytes>,
    /// What follows, on a disk.
    unread: Option<Body>,
}

impl WholeBody {
    fn fetched(chunks: Vec<Bytes>) -> Self {
        Self { fetched: chunks.into_iter(), unread: None }
    }

    /// The next chunk; None at the body's end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        match (self.fetched.next(), &mut self.unread) {
            (Some(chunk), _) => Ok(Some(chunk)),
            (None, Some(unread)) => unread.chunk().await,
            (None, None) => Ok(None),
        }
    }
}

impl Execution<'_> {
    pub(super) async fn fetch(&self, file: &PlannedFile, reading: Reading) -> Result<Fetched, StoreError> {
        let (size, etag) = (file.file.size, file.file.etag.as_ref());
        if self.is_large(&file.file) {
            return self.source(file).ends().await.map(Fetched::Ends);
        }
        let _request = allowed(self.requests.as_deref()).await;
        // The file of a replica on a disk is opened even so: its size may not have been readable.
        if size == 0 && !self.store.is_on_disk() {
            return Ok(Fetched::Whole(WholeBody::default()));
        }
        let mut body = self.store.get(&self.worker.http, &file.key, 0..size, etag).await?;
        if body.is_on_disk() {
            if reading == Reading::OnDemand && size > GATHERED_BYTES {
                return Ok(Fetched::Whole(WholeBody { unread: Some(body), ..WholeBody::default() }));
            }
        } else if size <= GATHERED_BYTES {
            let mut gathered = Vec::with_capacity(size as usize);
            while let Some(chunk) = body.chunk().await? {
                gathered.extend_from_slice(&chunk);
            }
            return Ok(Fetched::Whole(WholeBody::fetched(vec![gathered.into()])));
        }
        let mut chunks = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            chunks.push(chunk);
        }
        Ok(Fetched::Whole(WholeBody::fetched(chunks)))
    }
}
