//! The lock of a standby, and the name of its source (docs/FOLLOW.md, "One follower" and "The source").
//!
//! Two followers would apply an older chain over a newer state. The file `.NAME-hydrant-follow` beside the database is
//! locked as long as a follower runs. The kernel says who holds the lock, so a process ID that an ended follower left is
//! never taken for a running one.
//!
//! The file has two lines: the process ID of whoever had the lock last, and `replica PLACE`. It stays after the
//! follower's end, because a TXID alone does not say of which replica it is.

use crate::error::escaped;
use crate::follow::error::FollowError;
use crate::io::lock::{holder, try_lock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// At most this many times the file is opened again because another process has removed it in between.
const TRIES: usize = 16;
/// The most bytes that are read of a lock file.
const MOST_BYTES: u64 = 16 << 10;
/// What a database begins with.
const DATABASE: &str = "SQLite format 3\0";
/// What the second line begins with.
const SOURCE: &str = "replica ";

/// The path of the lock file of the database at `path`.
fn path_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}-hydrant-follow"))
}

/// The place of a replica, as lock files name it: `s3://bucket/path`, or `file:///path` without a `bucket`. It has neither
/// secrets nor the service's address, which may change. Two URLs of one replica have one place.
pub fn place_of(bucket: Option<&str>, path: &str) -> String {
    let path = path.trim_matches('/');
    let path = escaped(if path == "." { "" } else { path });
    match bucket {
        Some(bucket) => format!("s3://{}/{path}", escaped(bucket)),
        None => format!("file:///{path}"),
    }
}

/// A lock that this process holds. Dropping it gives the lock back. Its file stays, if it names the source of a standby:
/// see [`Self::keep`]. The kernel also gives the lock back when the process closes any other descriptor of the file, so
/// this process opens the file once.
#[derive(Debug)]
pub struct FollowLock {
    file: File,
    path: PathBuf,
    source: String,
    /// What the file named before, if that is another source.
    other_source: Option<String>,
    /// Whether the file goes when this is dropped: it named no source before, and there is no standby yet.
    is_temporary: bool,
}

/// A follower that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherFollower {
    /// Its process ID. None if it runs in another container or on another machine.
    pub pid: Option<u32>,
    /// What it follows, as messages show it. Empty if it has not said so yet.
    pub source: String,
}

/// The result of [`FollowLock::take`].
#[derive(Debug)]
pub enum Taken {
    /// The lock is held from now on.
    Lock(FollowLock),
    /// Another process holds it.
    Other(OtherFollower),
}

impl FollowLock {
    /// Takes the lock of the database at `path`, and writes this process into its file. `source` is the place of its
    /// replica ([`place_of`]). It is written too, unless the file names another one ([`Self::other_source`]).
    ///
    /// # Errors
    /// The file cannot be made or locked, for example on a file system without locks. The text names it.
    pub fn take(path: &Path, source: &str) -> io::Result<Taken> {
        Self::take_named(path_of(path), source)
    }

    /// As [`Self::take`], of the databases that one process follows below `directory`: the file `.hydrant-follow` in it.
    /// `source` is the pattern that selects them.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_directory(directory: &Path, source: &str) -> io::Result<Taken> {
        Self::take_named(directory.join(".hydrant-follow"), source)
    }

    fn take_named(lock: PathBuf, source: &str) -> io::Result<Taken> {
        let shown = escaped(&lock.to_string_lossy()).to_string();
        Self::take_file(lock, source).map_err(|error| io::Error::new(error.kind(), format!("{shown}: {error}")))
    }

    fn take_file(path: PathBuf, source: &str) -> io::Result<Taken> {
        for _ in 0..TRIES {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            if !try_lock(&file, 0, 1)? {
                match other(&mut file)? {
                    Some(other) => return Ok(Taken::Other(other)),
                    // It has ended in between.
                    None => continue,
                }
            }
            // Another process, which has ended in between, may have removed the file that is locked now.
            let (own, named) = (file.metadata()?, std::fs::metadata(&path));
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())) {
                let text = read(&mut file)?;
                // A bucket may hold a database of this name.
                if text.starts_with(DATABASE) {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "it is a database, and no file of a follower",
                    ));
                }
                let named = source_in(&text);
                let is_temporary = named.is_none();
                let other_source = named.filter(|named| named != source);
                let lock = Self { file, path, source: source.to_owned(), other_source, is_temporary };
                lock.write(lock.other_source.as_deref().unwrap_or(source))?;
                // Otherwise only the process ID has changed, which nobody needs after a power failure.
                if is_temporary {
                    lock.file.sync_all()?;
                }
                return Ok(Taken::Lock(lock));
            }
        }
        Err(io::Error::other("followers come and go; try again"))
    }

    /// The source that the file names, if it is another one than this lock was taken with: the database is a standby of
    /// that one.
    pub fn other_source(&self) -> Option<&str> {
        self.other_source.as_deref()
    }

    /// Checks that the database, a standby, is one of the source that this lock was taken with.
    ///
    /// # Errors
    /// [`FollowError::OtherSource`].
    pub fn check_source(&self) -> Result<(), FollowError> {
        match &self.other_source {
            None => Ok(()),
            Some(named) => {
                let (file, named, asked) = (self.path.clone(), named.clone(), self.source.clone());
                Err(FollowError::OtherSource { file, named, asked })
            }
        }
    }

    /// Writes the source that this lock was taken with into the file. The caller has removed the sidecar before: with that
    /// of another source the database would seem to be a standby of this one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn name_source(&mut self) -> io::Result<()> {
        if self.other_source.is_some() {
            self.write(&self.source)?;
            self.file.sync_all()?;
            self.other_source = None;
        }
        Ok(())
    }

    /// There is a standby. The file stays when this is dropped.
    pub const fn keep(&mut self) {
        self.is_temporary = false;
    }

    /// There is no standby any more. The file is removed when this is dropped.
    pub const fn discard(&mut self) {
        self.is_temporary = true;
    }

    /// Writes this process and `source` into the file. It is cut after the write: a kill in between leaves a rest behind
    /// the second line, which nobody reads.
    fn write(&self, source: &str) -> io::Result<()> {
        let text = format!("{}\n{SOURCE}{source}\n", std::process::id());
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }

    /// The follower of the database at `path`. None if none runs.
    ///
    /// # Errors
    /// The lock file cannot be read.
    pub fn holder(path: &Path) -> io::Result<Option<OtherFollower>> {
        let mut file = match OpenOptions::new().read(true).write(true).open(path_of(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        other(&mut file)
    }
}

/// The process that holds the lock of `file`.
fn other(file: &mut File) -> io::Result<Option<OtherFollower>> {
    let Some(holder) = holder(&*file, 0, 1)? else { return Ok(None) };
    let source = source_in(&read(file)?).unwrap_or_default();
    Ok(Some(OtherFollower { pid: holder.pid, source }))
}

/// The text of a lock file. What is not UTF-8 in it is replaced.
fn read(file: &mut File) -> io::Result<String> {
    let mut text = Vec::new();
    file.rewind()?;
    Read::take(file, MOST_BYTES).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The source in the text of a lock file. None if its second line is missing, incomplete or of another form.
fn source_in(text: &str) -> Option<String> {
    let line = text.split_inclusive('\n').nth(1)?.strip_suffix('\n')?;
    line.strip_prefix(SOURCE).filter(|source| !source.is_empty()).map(str::to_owned)
}

impl Drop for FollowLock {
    fn drop(&mut self) {
        if self.is_temporary {
            // Removed while it is locked: nobody else holds the lock of the file that has this name.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
