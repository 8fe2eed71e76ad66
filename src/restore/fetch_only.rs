//! Asks for everything that a restore asks for, and throws it away as it comes: how fast the
//! network and the client are by themselves.

use super::error::ExecutionFailure;
use super::execute::{Execution, INCREMENTS_IN_FLIGHT, PlannedFile};
use super::large::{Indexed, SegmentChecksums, SegmentContext, allowed};
use crate::restore::large::segments::Segments;
use crate::restore::page_map::{Overlay, PageMap, Winners};
use crate::store::StoreError;
use futures_util::{StreamExt, stream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

impl Execution<'_> {
    /// The same requests: small files whole, of large ones the ends and then their segments, by
    /// all workers.
    ///
    /// # Errors
    /// The store's; a large file whose index cannot be read.
    pub(super) async fn fetch_only(&self) -> Result<(), ExecutionFailure> {
        let _turn = self.turn().await;
        let fetches = self.files.iter().enumerate().rev().map(|(i, file)| async move {
            if !self.is_large(&file.file) {
                self.fetch_away(file).await.map_err(|e| ExecutionFailure::of_request(i, e))?;
                return Ok::<_, ExecutionFailure>(None);
            }
            let ends = self.source(file).ends().await.map_err(|e| ExecutionFailure::of_request(i, e))?;
            let header = ends.header().map_err(|error| ExecutionFailure::Damaged { file: i, error })?;
            let (source, mut cuts) = (self.source(file), Vec::new());
            let file = ends.file(source, i, header);
            let expected = SegmentChecksums::read(source, i, ends, &mut cuts).await?;
            Ok(Some(Indexed { file, cuts, expected }))
        });
        let mut fetches = stream::iter(fetches).buffer_unordered(INCREMENTS_IN_FLIGHT);
        let mut indexed = Vec::new();
        while let Some(fetched) = fetches.next().await {
            indexed.extend(fetched?);
        }
        let Some(page_size) = indexed.first().map(|indexed| indexed.file.header.page_size) else { return Ok(()) };
        let layout = SegmentContext {
            store: self.store.clone(),
            output: None,
            fetch_only: true,
            claims: Arc::new(Winners { map: PageMap::new(0, None), overlay: Overlay::new(page_size, 0) }),
            files: Vec::new(),
            tracked: false,
            requests: self.requests.clone(),
            stopped: AtomicBool::new(false),
        };
        Segments::start(layout, indexed, None, &self.worker.shared.segments).finish().await.map(drop)
    }

    async fn fetch_away(&self, file: &PlannedFile) -> Result<(), StoreError> {
        let _request = allowed(self.requests.as_deref()).await;
        if file.file.size > 0 {
            let (whole, etag) = (0..file.file.size, file.file.etag.as_ref());
            let mut body = self.store.get(&self.worker.http, &file.key, whole, etag).await?;
            while body.chunk().await?.is_some() {}
        }
        Ok(())
    }
}
