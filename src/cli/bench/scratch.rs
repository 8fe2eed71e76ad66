//! Where a bench writes: a directory of its own, below one that is there. Nothing else is ever
//! touched, and nothing of it stays.

use crate::cli::ui::failure::Failure;
use crate::error::Class;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The directory; removed with all that is in it when this is dropped.
pub struct Scratch {
    /// Absolute.
    dir: PathBuf,
    made: AtomicU64,
}

impl Scratch {
    /// A new directory in `parent`.
    ///
    /// # Errors
    /// `parent` is not there, or cannot be written into.
    pub fn new(parent: &Path) -> Result<Self, Failure> {
        let random: String = (0..8).map(|_| fastrand::alphanumeric().to_ascii_lowercase()).collect();
        let dir = std::path::absolute(parent).map_err(|e| refused("use", parent, &e))?;
        let dir = dir.join(format!("hydrant-bench-{random}"));
        // Refuses what is there already.
        std::fs::create_dir(&dir).map_err(|e| refused("make a directory in", parent, &e))?;
        Ok(Self { dir, made: AtomicU64::new(0) })
    }

    /// A new, empty directory in it.
    pub fn fresh(&self) -> Result<PathBuf, Failure> {
        let dir = self.dir.join(self.made.fetch_add(1, Relaxed).to_string());
        std::fs::create_dir(&dir).map_err(|e| refused("make", &dir, &e))?;
        Ok(dir)
    }

    /// Removes one of [`Self::fresh`].
    pub fn remove(&self, dir: &Path) -> Result<(), Failure> {
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
