//! The lock of a standby: one follower per database (docs/FOLLOW.md, "One follower").
//!
//! Two followers would apply an older chain over a newer state. The file `.NAME-hydrant-follow` beside the database holds
//! the follower's process ID and its source, and is locked as long as the follower runs. The kernel says who holds the
//! lock, so a process ID that a killed follower left is never taken for a running one.

use crate::error::escaped;
use crate::io::lock::{holder, try_lock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// At most this many times the file is opened again because another follower has removed it in between.
const TRIES: usize = 16;
/// The name of the lock file of a fleet.
const FLEET_LOCK: &str = ".hydrant-follow";
/// The most bytes that are read of a lock file.
const MOST_BYTES: u64 = 16 << 10;

/// The path of the lock file of the database at `path`.
fn path_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}-hydrant-follow"))
}

/// A lock that this process holds. Dropping it removes the file and gives the lock back. The kernel also gives it back
/// when the process closes any other descriptor of the file, so this process opens the file once.
#[derive(Debug)]
pub struct FollowLock {
    file: File,
    path: PathBuf,
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
    /// Takes the lock of the database at `path`, and writes this process and `source` (without secrets) into its file.
    ///
    /// # Errors
    /// The file cannot be made or locked, for example on a file system without locks. The text names it.
    pub fn take(path: &Path, source: &str) -> io::Result<Taken> {
        let lock = path_of(path);
        Self::take_file(&lock, source)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", escaped(&lock.to_string_lossy()))))
    }

    /// Takes the lock of a fleet whose databases lie in `directory`, as [`Self::take`] does for one database.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_directory(directory: &Path, source: &str) -> io::Result<Taken> {
        Self::take_file(&directory.join(FLEET_LOCK), source)
    }

    fn take_file(lock: &Path, source: &str) -> io::Result<Taken> {
        for _ in 0..TRIES {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(lock)?;
            if !try_lock(&file, 0, 1)? {
                match other(&mut file)? {
                    Some(other) => return Ok(Taken::Other(other)),
                    // It has ended in between.
                    None => continue,
                }
            }
            // A follower that has ended in between has removed the file that is locked now.
            let (own, named) = (file.metadata()?, std::fs::metadata(lock));
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())) {
                file.set_len(0)?;
                file.write_all(format!("{}\n{source}\n", std::process::id()).as_bytes())?;
                return Ok(Taken::Lock(Self { file, path: lock.to_owned() }));
            }
        }
        Err(io::Error::other("followers come and go; try again"))
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
    let mut text = String::new();
    file.rewind()?;
    Read::take(file, MOST_BYTES).read_to_string(&mut text)?;
    Ok(Some(OtherFollower { pid: holder.pid, source: text.lines().nth(1).unwrap_or_default().to_owned() }))
}

impl Drop for FollowLock {
    fn drop(&mut self) {
        // Removed while it is locked: nobody else holds the lock of the file that has this name.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.flush();
    }
}
