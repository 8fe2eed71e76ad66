//! The last step: a name that cannot replace anything, or an exchange that loses nothing.

use super::CommitError;
use std::path::Path;

/// A file under its final name; not yet durable.
#[derive(Debug)]
#[must_use = "the name is not durable before sync_dir"]
pub struct Published {}

impl Published {
    pub fn path(&self) -> &Path {
        todo!()
    }

    /// Makes the name durable (and the new parent directories), then deletes what it replaced.
    pub fn sync_dir(self) -> Result<(), CommitError> {
        todo!()
    }
}

/// [`Published::sync_dir`] for many, each directory synced once. The results are in the order
/// of `published`.
pub fn sync_dirs(published: Vec<Published>) -> Vec<Result<(), CommitError>> {
    published.into_iter().map(Published::sync_dir).collect()
}
