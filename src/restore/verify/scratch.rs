//! The scratch directory of a verification: databases that SQLite looks at are restored to it and removed again.

use crate::commit::{CommitContext, Destination, Replace, StagedFile};
use crate::restore::budget::{Budget, MemoryReservation};
use crate::restore::error::RestoreError;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A directory for databases that are removed after SQLite has looked at them.
#[derive(Debug)]
pub struct VerifyScratch {
    dir: PathBuf,
    commit: CommitContext,
    /// The bytes that databases may take at a time.
    bytes: Budget,
    made: AtomicU64,
}

impl VerifyScratch {
    /// Databases are restored to `dir`, which exists, and take at most about `bytes` at a time.
    pub fn new(dir: PathBuf, bytes: u64) -> Self {
        Self { dir, commit: CommitContext::default(), bytes: Budget::new(bytes), made: AtomicU64::new(0) }
    }

    /// Waits until a database of this size may be written. A larger one than all that is allowed is written alone.
    pub(super) async fn reserve(&self, bytes: u64) -> MemoryReservation {
        self.bytes.reserve(bytes).await
    }

    /// A new file, which has a temporary name. It is removed when it is dropped.
    pub(super) fn create(&self) -> Result<StagedFile, RestoreError> {
        let name = format!("verify-{}", self.made.fetch_add(1, Relaxed));
        let destination = Destination::prepare(&self.commit, &self.dir.join(name), Replace::Never)?;
        Ok(Arc::new(destination).create(true)?)
    }
}
