//! The directory that a bench writes to: a new one below an existing one. It is removed at the end.
//! Nothing outside it is changed.

use crate::cli::ui::failure::Failure;
use crate::commit::random_letters;
use crate::error::Class;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The directory. Dropping this removes it with everything in it.
pub(super) struct Scratch {
    /// The absolute path.
    dir: PathBuf,
    made: AtomicU64,
}

impl Scratch {
    /// A new directory in `parent`.
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

    /// A new, empty directory inside.
    pub(super) fn fresh(&self) -> Result<PathBuf, Failure> {
        let dir = self.dir.join(self.made.fetch_add(1, Relaxed).to_string());
        std::fs::create_dir(&dir).map_err(|e| refused("make", &dir, &e))?;
        Ok(dir)
    }

    /// Removes a directory that [`Self::fresh`] made.
    pub(super) fn remove(&self, dir: &Path) -> Result<(), Failure> {
        std::fs::remove_dir_all(dir).map_err(|e| refused("remove", dir, &e))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn refused(what: &str, path: &Path, e: &io::Error) -> Failure {
    Failure::failed(Class::Io, format!("cannot {what} {}: {e}", path.display()))
}
