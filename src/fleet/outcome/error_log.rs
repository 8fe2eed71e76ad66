//! Writes `litestream-restore-errors.log` (docs/CLI.md, "Error log"). It has one line for each failed database,
//! written when the database fails, so the log is complete even if the run is interrupted. A new run replaces
//! the file. If nothing fails, there is no file.

use crate::commit::create_temporary;
use crate::error::{Class, escaped};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What an error log does if its path is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The operator named the path: the link is followed.
    Followed,
    /// The path is the default: a new file takes the place of the link. Others may have put the link there.
    Replaced,
}

#[derive(Debug)]
pub(crate) struct ErrorLog {
    path: PathBuf,
    state: LogFile,
    /// Why the log cannot be written; reported once.
    trouble: Option<String>,
}

#[derive(Debug)]
enum LogFile {
    /// Under a temporary name, until the first failure.
    Staged { file: File, temp: PathBuf },
    /// At its path. `is_regular`: it is no device and no pipe.
    Open { file: File, is_regular: bool },
    /// It cannot be written.
    Unwritable,
}

impl ErrorLog {
    /// Makes the file. If that fails, [`Self::take_trouble`] says so, and [`Self::is_written`] is false.
    pub(crate) fn open(path: &Path, links: Links) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut log = Self { path, state: LogFile::Unwritable, trouble: None };
        match log.create(links) {
            Ok(state) => log.state = state,
            Err(e) => log.broken("write", &e),
        }
        log
    }

    fn create(&self, links: Links) -> io::Result<LogFile> {
        let there = std::fs::symlink_metadata(&self.path);
        if there.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // A device, a pipe or a link (`/dev/null`, `/dev/stderr`) is written to and stays. A pipe that nobody reads
        // must not block the run.
        if links == Links::Followed && there.is_ok_and(|there| !there.is_file()) {
            let flags = OFlags::NONBLOCK.bits().cast_signed();
            let file = File::options().create(true).append(true).custom_flags(flags).open(&self.path)?;
            let set = rustix::fs::fcntl_getfl(&file)?;
            rustix::fs::fcntl_setfl(&file, set - OFlags::NONBLOCK)?;
            let is_regular = file.metadata()?.is_file();
            return Ok(LogFile::Open { file, is_regular });
        }
        let (file, temp) = create_temporary(&self.path)?;
        Ok(LogFile::Staged { file, temp })
    }

    /// Removes what an earlier run has logged. To be called when the databases of this run are known.
    pub(crate) fn begin(&mut self) {
        let removed = match &self.state {
            LogFile::Staged { .. } => std::fs::remove_file(&self.path),
            LogFile::Open { file, is_regular: true } => file.set_len(0),
            LogFile::Open { .. } | LogFile::Unwritable => Ok(()),
        };
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => self.broken("replace", &e),
            _ => {}
        }
    }

    /// Appends the line `Failed to restore: NAME - CLASS: reason`.
    pub(crate) fn append(&mut self, name: &str, class: Class, reason: &str) {
        let line = format!("Failed to restore: {} - {}\n", escaped(name), with_class(class, reason));
        if let Err(e) = self.write(line.as_bytes()) {
            self.broken("write", &e);
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if let LogFile::Staged { temp, .. } = &self.state {
            std::fs::rename(temp, &self.path)?;
            let LogFile::Staged { file, .. } = std::mem::replace(&mut self.state, LogFile::Unwritable) else {
                return Ok(());
            };
            self.state = LogFile::Open { file, is_regular: true };
        }
        match &mut self.state {
            // One write for each line, so that no line is cut when the run is killed.
            LogFile::Open { file, .. } => file.write_all(line),
            LogFile::Staged { .. } | LogFile::Unwritable => Ok(()),
        }
    }

    fn broken(&mut self, what: &str, error: &io::Error) {
        self.remove_staged();
        let path = escaped(&self.path.to_string_lossy());
        self.trouble.get_or_insert(format!("cannot {what} the error log {path}: {error}; all failures are shown here"));
        self.state = LogFile::Unwritable;
    }

    fn remove_staged(&self) {
        if let LogFile::Staged { temp, .. } = &self.state {
            let _ = std::fs::remove_file(temp);
        }
    }

    /// Whether failures are written to it.
    pub(crate) fn is_written(&self) -> bool {
        !matches!(self.state, LogFile::Unwritable)
    }

    /// The absolute path of the log, if it is a file that holds at least one failure.
    pub(crate) fn file(&self) -> Option<&Path> {
        matches!(self.state, LogFile::Open { is_regular: true, .. }).then_some(self.path.as_path())
    }

    /// Returns the first error with the log itself, once.
    pub(crate) fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }
}

impl Drop for ErrorLog {
    fn drop(&mut self) {
        self.remove_staged();
    }
}

/// `CLASS: reason`. A reason that begins with its class does not repeat it.
pub fn with_class(class: Class, reason: &str) -> String {
    let reason = escaped(reason);
    if reason.starts_with(class.as_str()) { reason } else { format!("{class}: {reason}") }
}

#[cfg(test)]
mod tests {
    use crate::fleet::outcome::error_log::*;
    use std::os::unix::fs::symlink;

    fn logged(path: &Path, links: Links) -> ErrorLog {
        let mut log = ErrorLog::open(path, links);
        log.begin();
        log.append("a.db", Class::Io, "x");
        log
    }

    #[test]
    fn a_link_that_the_operator_named_is_followed_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::fs::write(&target, "of an earlier run\n").unwrap();
        symlink(&target, &link).unwrap();
        let log = logged(&link, Links::Followed);
        assert!(link.is_symlink());
        assert_eq!(log.file(), Some(link.as_path()));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "Failed to restore: a.db - I/O error: x\n");
    }

    #[test]
    fn a_link_at_the_default_path_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::fs::write(&target, "another's file").unwrap();
        symlink(&target, &link).unwrap();
        drop(logged(&link, Links::Replaced));
        assert!(!link.is_symlink());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "another's file");
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "Failed to restore: a.db - I/O error: x\n");
    }

    #[test]
    fn the_old_log_stays_until_the_databases_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("errors.log");
        std::fs::write(&path, "old\n").unwrap();
        drop(ErrorLog::open(&path, Links::Replaced));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old\n");
        let mut log = ErrorLog::open(&path, Links::Replaced);
        log.begin();
        assert!(!path.exists() && log.file().is_none());
        log.append("a/\u{1b}[2Jb.db", Class::Hole, "have up to 1\nbut next is 3");
        log.append("c.db", Class::Hole, "hole: x");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "Failed to restore: a/\\u{1b}[2Jb.db - hole: have up to 1\\nbut next is 3");
        assert_eq!(lines[1], "Failed to restore: c.db - hole: x");
        assert_eq!((lines.len(), log.take_trouble(), log.file()), (2, None, Some(path.as_path())));
        drop(log);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_failures_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = ErrorLog::open(&dir.path().join("errors.log"), Links::Replaced);
        log.begin();
        assert!(log.is_written());
        drop(log);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_unwritable_log_is_told_at_the_start_once_and_stops_nothing() {
        for path in ["/dev/null/errors.log", "/"] {
            let mut log = ErrorLog::open(Path::new(path), Links::Replaced);
            let trouble = log.take_trouble().unwrap();
            assert!(trouble.starts_with(&format!("cannot write the error log {path}: ")), "{trouble}");
            log.begin();
            log.append("a.db", Class::Io, "x");
            assert!(log.take_trouble().is_none() && !log.is_written() && log.file().is_none());
        }
    }

    #[test]
    fn a_pipe_without_a_reader_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(ErrorLog::open(&pipe, Links::Followed).take_trouble().is_some());
        let _reader = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&pipe);
        assert!(logged(&pipe, Links::Followed).is_written());
        assert!(pipe.exists());
    }
}
