//! The temporary directory that `hydrant bench` restores databases to. It is a new directory inside the existing one
//! of `-output-dir`, and is removed at the end. Nothing outside it is changed.

use crate::cli::ui::failure::Failure;
use crate::commit::random_letters;
use crate::error::Class;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A temporary directory for the databases that `hydrant bench` restores. Dropping this value removes the directory
/// with everything in it.
pub(super) struct Scratch {
    dir: PathBuf,
    /// Number of directories made inside this one so far. The number is also the name of the next directory.
    made: AtomicU64,
}

impl Scratch {
    /// Creates a new directory with a random name in the directory `parent`.
    ///
    /// # Errors
    /// `parent` does not exist or cannot be written to.
    pub(super) fn new(parent: &Path) -> Result<Self, Failure> {
        let dir = std::path::absolute(parent).map_err(|e| refused("use", parent, &e))?;
        let dir = dir.join(format!("hydrant-bench-{}", random_letters()));
        // Fails if the directory exists.
        std::fs::create_dir(&dir).map_err(|e| refused("make a directory in", parent, &e))?;
        Ok(Self { dir, made: AtomicU64::new(0) })
    }

    /// Creates a new, empty directory inside this one and returns its path.
    pub(super) fn fresh(&self) -> Result<PathBuf, Failure> {
        let dir = self.dir.join(self.made.fetch_add(1, Relaxed).to_string());
        std::fs::create_dir(&dir).map_err(|e| refused("make", &dir, &e))?;
        Ok(dir)
    }

    /// Removes the directory `dir`, which [`Self::fresh`] has made, with everything in it.
    pub(super) fn remove(&self, dir: &Path) -> Result<(), Failure> {
        std::fs::remove_dir_all(dir).map_err(|e| refused("remove", dir, &e))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Makes the failure with the message `cannot WHAT PATH: ERROR`.
fn refused(what: &str, path: &Path, e: &io::Error) -> Failure {
    Failure::failed(Class::Io, format!("cannot {what} {}: {e}", path.display()))
}
