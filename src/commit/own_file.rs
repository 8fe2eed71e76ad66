//! A file that a run writes for its operator, such as metrics, a report or a catalogue: whole under its name, or absent.

use crate::commit::temporary::create_temporary;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A file that is being written under a temporary name beside its path. [`Self::publish`] gives it its name. If it is
/// dropped before, it is deleted. A later run deletes it if this one is killed.
///
/// A device or a pipe at the path is written to and not replaced.
#[derive(Debug)]
pub(crate) struct OwnFile {
    path: PathBuf,
    /// None: there is nothing to rename or to delete, because the file is a device or a pipe, or has its name.
    temp: Option<PathBuf>,
    file: File,
}

impl OwnFile {
    /// Creates the file, with mode 0666 less the umask.
    ///
    /// # Errors
    /// No file can be created in the directory, or `path` is a directory or has no file name.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        if path.is_dir() || path.file_name().is_none() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let path = std::path::absolute(path)?;
        if std::fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            let file = File::options().write(true).open(&path)?;
            return Ok(Self { path, temp: None, file });
        }
        let (file, temp) = create_temporary(&path)?;
        Ok(Self { path, temp: Some(temp), file })
    }

    /// Takes all permissions away that are not in `mode`. A device or a pipe keeps its own.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(crate) fn limit_mode(&self, mode: u32) -> io::Result<()> {
        if self.temp.is_none() {
            return Ok(());
        }
        let now = self.file.metadata()?.permissions().mode();
        self.file.set_permissions(Permissions::from_mode(now & mode))
    }

    /// Whether a device or a pipe is written to. Asked before [`Self::publish`].
    pub(crate) fn is_device(&self) -> bool {
        self.temp.is_none()
    }

    /// The absolute path that the file gets.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file. It is empty and open for writing.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Makes the content durable. A device or a pipe cannot be synced.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.temp.is_some() { self.file.sync_all() } else { Ok(()) }
    }

    /// Gives the file its name. A file that has that name is replaced. The content is not synced here.
    ///
    /// # Errors
    /// The error of the kernel. The file is then deleted.
    pub(crate) fn publish(mut self) -> io::Result<()> {
        if let Some(temp) = &self.temp {
            std::fs::rename(temp, &self.path)?;
            self.temp = None;
        }
        Ok(())
    }
}

impl io::Write for OwnFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if let Some(temp) = self.temp.take() {
            let _ = std::fs::remove_file(temp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn whole_under_its_name_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own");
        let own = OwnFile::create(&path).unwrap();
        own.file().write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(own);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        std::fs::write(&path, "old").unwrap();
        let own = OwnFile::create(&path).unwrap();
        own.limit_mode(0o640).unwrap();
        own.file().write_all(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        own.publish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777 & !0o640, 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_device_is_written_to_and_a_directory_refused() {
        let own = OwnFile::create(Path::new("/dev/null")).unwrap();
        own.limit_mode(0o644).unwrap();
        own.file().write_all(b"x").unwrap();
        own.sync().unwrap();
        own.publish().unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
        for path in ["/", "/dev", ".."] {
            assert_eq!(OwnFile::create(Path::new(path)).unwrap_err().kind(), io::ErrorKind::IsADirectory, "{path}");
        }
        assert!(OwnFile::create(Path::new("/dev/null/metrics.prom")).is_err());
    }
}
