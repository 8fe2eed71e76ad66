//! A file that is being restored into: its descriptors, shared by all workers.

use super::IoError;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A file open for reading and writing, by every worker at once, each on bytes of its own.
#[derive(Debug)]
pub struct OutputFile {
    fd: OwnedFd,
    path: PathBuf,
}

impl OutputFile {
    /// `fd` is open for reading and writing; `path` is what messages call it.
    pub fn new(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// What messages call it: the destination, as typed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of `bytes` at `at` through the page cache, now.
    pub fn pwrite_all(&self, bytes: &[u8], at: u64) -> Result<(), IoError> {
        let _ = (&self.fd, bytes, at);
        todo!()
    }

    /// Fills `bytes` from `at`; [`IoError::Short`] when the file ends before.
    pub fn pread_exact(&self, bytes: &mut [u8], at: u64) -> Result<(), IoError> {
        let _ = (bytes, at);
        todo!()
    }
}
