//! The file of a report. It has a temporary name until it is complete.

use crate::commit::OwnFile;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file that is being written. If it is dropped before [`ReportFile::finish`], it is deleted.
#[derive(Debug)]
pub(super) struct ReportFile {
    out: BufWriter<OwnFile>,
}

impl ReportFile {
    /// # Errors
    /// The error of the kernel if no file can be created in the directory.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { out: BufWriter::new(OwnFile::create(path)?) })
    }

    pub(super) fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    /// Gives the file its name. Returns its absolute path; None for a device or a pipe.
    pub(super) fn finish(self) -> io::Result<Option<PathBuf>> {
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let path = (!file.is_device()).then(|| file.path().to_owned());
        file.sync()?;
        file.publish()?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_of_its_directory_leaves_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let leftover = dir.path().join(".app.db.hydrant-abcdefgh");
        std::fs::write(&leftover, b"of a run that was killed").unwrap();
        let report = ReportFile::create(&path).unwrap();
        crate::commit::CommitContext::default().sweep_beside(&dir.path().join("app.db"));
        assert!(!leftover.exists());
        assert_eq!(report.finish().unwrap(), Some(path.clone()));
        assert!(path.exists());
    }

    #[test]
    fn complete_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let mut report = ReportFile::create(&path).unwrap();
        report.write("a").unwrap();
        drop(report);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        let mut report = ReportFile::create(&path).unwrap();
        report.write("a").unwrap();
        assert!(!path.exists());
        report.write("b").unwrap();
        report.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "ab");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(ReportFile::create(dir.path()).is_err());
    }
}
