//! Writes `litestream-restore-errors.log` (docs/CLI.md, "Error log"). It has one line for each failed database,
//! written when the database fails, so the log is complete even if the run is interrupted. A new run replaces
//! the file. If nothing fails, there is no file.

use crate::error::{Class, escaped};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) struct ErrorLog {
    path: PathBuf,
    file: Option<File>,
    /// Why the log cannot be written. It is reported once.
    trouble: Option<String>,
}

impl ErrorLog {
    /// Removes the log of an earlier run. If that fails, [`ErrorLog::take_trouble`] returns the reason, and the
    /// restore goes on.
    pub(crate) fn fresh(path: &Path) -> Self {
        // A device or a pipe, such as `/dev/null` or `/dev/stderr`, is written to but not removed.
        let is_special = std::fs::symlink_metadata(path).is_ok_and(|m| !m.is_file());
        let trouble = match if is_special { Ok(()) } else { std::fs::remove_file(path) } {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Some(format!("cannot replace the error log: {e}")),
            _ => None,
        };
        Self { path: path.to_owned(), file: None, trouble }
    }

    /// Appends the line `Failed to restore: NAME - CLASS: reason`.
    pub(crate) fn append(&mut self, name: &str, class: Class, reason: &str) {
        let line = format!("Failed to restore: {} - {}\n", escaped(name), with_class(class, reason));
        let file = match &mut self.file {
            Some(file) => Ok(file),
            None => File::options().create(true).append(true).open(&self.path).map(|file| self.file.insert(file)),
        };
        // Each line is written with one system call, so that killing the run does not cut a line.
        if let Err(e) = file.and_then(|file| file.write_all(line.as_bytes())) {
            self.trouble.get_or_insert(format!("cannot write the error log {}: {e}", self.path.display()));
        }
    }

    /// Returns the first error of writing the log. Later calls return None.
    pub(crate) fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }
}

/// Returns `CLASS: reason`. If `reason` already begins with the class, it is returned alone.
pub fn with_class(class: Class, reason: &str) -> String {
    let reason = escaped(reason);
    if reason.starts_with(class.as_str()) { reason } else { format!("{class}: {reason}") }
}

#[cfg(test)]
mod tests {
    use crate::fleet::outcome::error_log::*;

    #[test]
    fn what_is_no_regular_file_is_written_to_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        ErrorLog::fresh(&link).append("a.db", Class::Io, "x");
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "Failed to restore: a.db - I/O error: x\n");
    }

    #[test]
    fn replaced_by_a_fresh_run_absent_without_failures_one_line_each() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("errors.log");
        std::fs::write(&path, "old\n").unwrap();
        let mut log = ErrorLog::fresh(&path);
        assert!(!path.exists());
        log.append("a/\u{1b}[2Jb.db", Class::Hole, "have up to 1\nbut next is 3");
        log.append("c.db", Class::Hole, "hole: x");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "Failed to restore: a/\\u{1b}[2Jb.db - hole: have up to 1\\nbut next is 3");
        assert_eq!(lines[1], "Failed to restore: c.db - hole: x");
        assert_eq!((lines.len(), log.take_trouble()), (2, None));
    }

    #[test]
    fn an_unwritable_log_is_told_once_and_stops_nothing() {
        let mut log = ErrorLog::fresh(Path::new("/dev/null/errors.log"));
        log.append("a.db", Class::Io, "x");
        assert!(log.take_trouble().is_some());
        assert!(log.take_trouble().is_none());
    }
}
