//! `-report`: one JSON document about a whole run. Each record is written when its database ends, so records
//! take no memory. The file has a temporary name until it is complete.

use crate::commit::create_temporary;
use crate::error::json_escaped;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A report that is being written. If it is dropped before [`Report::finish`], its file is deleted.
#[derive(Debug)]
pub(crate) struct Report {
    path: PathBuf,
    temp: Option<PathBuf>,
    out: BufWriter<File>,
    is_first: bool,
}

impl Report {
    /// # Errors
    /// The error of the kernel if no file can be created in the directory.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        if path.is_dir() || path.file_name().is_none() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
            // A device or a pipe is written to and not replaced.
            let mut out = BufWriter::new(File::options().write(true).open(path)?);
            out.write_all(b"{\"databases\":[\n")?;
            return Ok(Self { path: path.to_owned(), temp: None, out, is_first: true });
        }
        let (out, temp) = create_temporary(path)?;
        let mut report = Self { path: path.to_owned(), temp: Some(temp), out: BufWriter::new(out), is_first: true };
        report.out.write_all(b"{\"databases\":[\n")?;
        Ok(report)
    }

    pub(crate) fn add(&mut self, record: &impl Serialize) -> io::Result<()> {
        if !std::mem::take(&mut self.is_first) {
            self.out.write_all(b",\n")?;
        }
        self.out.write_all(json_escaped(serde_json::to_string(record)?).as_bytes())
    }

    /// Writes the summary and gives the report its name. Returns its absolute path; None for a device or a pipe.
    pub(crate) fn finish(mut self, summary: &impl Serialize) -> io::Result<Option<PathBuf>> {
        self.out.write_all(b"\n],\"summary\":")?;
        self.out.write_all(json_escaped(serde_json::to_string(summary)?).as_bytes())?;
        self.out.write_all(b"}\n")?;
        self.out.flush()?;
        let Some(temp) = &self.temp else { return Ok(None) };
        self.out.get_ref().sync_all()?;
        std::fs::rename(temp, &self.path)?;
        self.temp = None;
        std::path::absolute(&self.path).map(Some)
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(temp) = self.temp.take() {
            let _ = std::fs::remove_file(temp);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fleet::outcome::report::*;

    #[test]
    fn a_sweep_of_its_directory_leaves_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let leftover = dir.path().join(".app.db.hydrant-abcdefgh");
        std::fs::write(&leftover, b"of a run that was killed").unwrap();
        let report = Report::create(&path).unwrap();
        crate::commit::CommitContext::default().sweep_beside(&dir.path().join("app.db"));
        assert!(!leftover.exists());
        assert_eq!(report.finish(&3).unwrap(), Some(path.clone()));
        assert!(path.exists());
    }

    #[test]
    fn complete_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let mut report = Report::create(&path).unwrap();
        report.add(&1).unwrap();
        drop(report);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        let mut report = Report::create(&path).unwrap();
        report.add(&"a").unwrap();
        report.add(&"b").unwrap();
        assert!(!path.exists());
        report.finish(&3).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(value, serde_json::json!({"databases": ["a", "b"], "summary": 3}));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(Report::create(dir.path()).is_err());
    }
}
