//! Copies a staged database to a file system that takes bytes in order only: from its first byte to its last, into a
//! file under a temporary name, which is stored when it is closed. A process that is killed meanwhile leaves a part of
//! the database under the temporary name only (docs/decisions/19-file-systems-that-only-append.md).

use crate::commit::mounts::stored_len;
use crate::commit::staged::{StagedName, give_rights};
use crate::commit::sys::mode;
use crate::commit::temporary::{create_named_for, reopen_named};
use crate::commit::{CommitError, StagedFile};
use crate::io::OutputFile;
use rustix::fs::OFlags;
use std::sync::Arc;

/// The bytes that are copied at a time.
const PIECE: u64 = 1 << 20;

impl StagedFile {
    /// Copies the file to the destination's directory if it is elsewhere ([`Self::is_elsewhere`]), and deletes the
    /// original. Blocks meanwhile. The content must have been synced. None if `is_cancelled` has returned true.
    ///
    /// # Errors
    /// [`CommitError`] if the copy cannot be written and stored, with its whole length. It is then deleted.
    pub fn copied(self, is_cancelled: &dyn Fn() -> bool) -> Result<Option<Self>, CommitError> {
        if !self.is_elsewhere() {
            return Ok(Some(self));
        }
        self.check_synced()?;
        let destination = Arc::clone(self.destination());
        let (dir, path) = (destination.dir(), destination.path());
        let created = create_named_for(OFlags::WRONLY, mode(), dir, destination.name());
        let (fd, name) =
            created.map_err(|errno| CommitError::refused("create a file in", destination.dir_path(), errno))?;
        // Declared before `copy`, so dropped after it: some file systems do not remove a file that is open.
        let temp = StagedName { name: Some(name.clone()), staging: None, destination: Arc::clone(&destination) };
        let copy = OutputFile::new(fd, path.to_owned());
        give_rights(&copy, &destination)?;
        let expected = u64::try_from(self.stat()?.st_size).unwrap_or(0);
        let mut piece = vec![0; PIECE as usize];
        let mut at = 0;
        while at < expected {
            let len = PIECE.min(expected - at);
            let bytes = piece.get_mut(..len as usize).unwrap_or_default();
            self.output().pread_exact(bytes, at)?;
            copy.pwrite_all(bytes, at)?;
            at += len;
            // Not before the first write: rclone stores a file that was not written to in the background, after its name
            // was removed.
            if is_cancelled() {
                return Ok(None);
            }
        }
        let copy = copy.stored(|| reopen_named(dir, &name))?;
        let found = stored_len(dir, name.as_os_str()).map_err(|errno| CommitError::refused("look at", path, errno))?;
        if found != expected {
            return Err(CommitError::WrongLength { path: path.to_owned(), expected, found });
        }
        Ok(Some(Self::copy(copy, temp)))
    }
}
