//! A checked destination, and the unpublished file that is to become it.

use super::{CommitError, Published, Replace};
use crate::io::OutputFile;
use std::path::Path;
use std::sync::Arc;

/// A checked destination: its directory is open, and everything later is relative to it.
#[derive(Debug)]
pub struct Destination {}

impl Destination {
    /// Checks `path` in CONTRACT's order and makes its missing parents (0700).
    pub fn prepare(path: &Path, replace: Replace) -> Result<Self, CommitError> {
        let _ = (path, replace);
        todo!()
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        todo!()
    }

    /// A new, empty, unpublished file in the destination's directory. `named` when something
    /// must open it by name ([`Unpublished::path`]) before it is published.
    pub fn create(self: &Arc<Self>, named: bool) -> Result<Unpublished, CommitError> {
        let _ = named;
        todo!()
    }
}

/// A file that nobody sees yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Unpublished {}

impl Unpublished {
    pub fn output(&self) -> &Arc<OutputFile> {
        todo!()
    }

    /// Where the file can be opened by name, when it was created so.
    pub fn path(&self) -> Option<&Path> {
        todo!()
    }

    /// Reserves `len` bytes of disk and makes the file that long.
    pub fn reserve(&self, len: u64) -> Result<(), CommitError> {
        let _ = len;
        todo!()
    }

    /// Makes the file exactly `len` bytes long.
    pub fn truncate(&self, len: u64) -> Result<(), CommitError> {
        let _ = len;
        todo!()
    }

    /// Gives the file its name. The content must have been synced (`Writer::sync`) after the
    /// last write; the name is durable after [`Published::sync_dir`] or [`super::sync_dirs`].
    pub fn publish(self) -> Result<Published, CommitError> {
        todo!()
    }
}
