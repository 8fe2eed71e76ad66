//! The new file before its publication, while nobody sees it.

use crate::commit::destination::Standing;
use crate::commit::devices::{self, Device};
use crate::commit::sys::{open_unnamed, sync_inode};
use crate::commit::temp_name::TempName;
use crate::commit::temporary::{TRIES, create_named};
use crate::commit::{CommitError, Destination, Notice, Replace, access, rename};
use crate::io::{OutputFile, Step, fault_at, uninterrupted};
use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Destination {
    /// Makes a new, empty file in the destination's directory. `named`: the file gets a temporary name
    /// ([`StagedFile::path`]), so that SQLite can open it before it is published.
    ///
    /// # Errors
    /// The directory cannot be written into. This is found here, before anything is fetched.
    pub fn create(self: &Arc<Self>, named: bool) -> Result<StagedFile, CommitError> {
        StagedFile::create(self, named)
    }
}

/// A file that is not published yet. Drop deletes it.
#[derive(Debug)]
pub struct StagedFile {
    output: Arc<OutputFile>,
    // After `output`, so dropped after it: some file systems do not remove a file that is open.
    temp: StagedName,
    path: Option<PathBuf>,
    /// Whether its inode must be synced once more when it has a name (`journal`).
    is_named_late: bool,
    // Last field, so dropped last: its drop removes directories, which must be empty by then.
    destination: Arc<Destination>,
}

impl StagedFile {
    fn create(destination: &Arc<Destination>, named: bool) -> Result<Self, CommitError> {
        let refused = |errno| not_created(destination, errno);
        fault_at(destination.path(), Step::Create).map_err(refused)?;
        let device = destination.context().devices().of(destination.directory_id());
        let unnamed = if named { None } else { unnamed(destination, &device).map_err(refused)? };
        let (fd, temp) = match unnamed {
            Some(fd) => (fd, None),
            None => {
                device.check_named(destination.dir(), destination.dir_path(), destination.name())?;
                let (fd, temp) = create_named(destination.dir(), destination.name()).map_err(refused)?;
                (fd, Some(temp))
            }
        };
        let path = temp.as_ref().map(|temp| destination.dir_path().join(temp.as_os_str()));
        let output = Arc::new(OutputFile::new(fd, destination.path().to_owned()));
        let is_named_late = temp.is_none() && !device.keeps_late_names(destination.dir());
        let temp = StagedName { name: temp, destination: Arc::clone(destination) };
        let new = Self { output, temp, path, is_named_late, destination: Arc::clone(destination) };
        if destination.replace() == Replace::Force
            && let Standing::Database(old) = destination.standing()?
        {
            access::take_after(&new.output, destination.dir(), destination.name(), &old);
        }
        Ok(new)
    }

    /// The file, to be written.
    pub fn output(&self) -> &Arc<OutputFile> {
        &self.output
    }

    /// The file's path; None if it has no name.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Reserves `len` bytes of disk and makes the file that long, so that a full disk is found before anything is
    /// fetched.
    ///
    /// # Errors
    /// [`CommitError::NoSpace`] says how much is needed and how much is free.
    pub fn reserve(&self, len: u64) -> Result<(), CommitError> {
        let file = &self.output;
        file.expect_size(len);
        file.note_change();
        if len == 0 {
            return Ok(());
        }
        let reserved = match file.fault(Step::Reserve) {
            Err(errno) => Err(errno),
            // Mode 0 also sets the file's size, so that later writes need not.
            Ok(_) => uninterrupted(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len)),
        };
        match reserved {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                // This file system cannot reserve space (ZFS, NFS). Check the free space instead.
                match self.free() {
                    Some(free) if free < len => Err(self.no_space(len, Errno::NOSPC)),
                    _ => self.truncate(len),
                }
            }
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(self.no_space(len, errno)),
            Err(errno) => Err(CommitError::refused("reserve space for", file.path(), errno)),
        }
    }

    /// Makes the file exactly `len` bytes long.
    pub fn truncate(&self, len: u64) -> Result<(), CommitError> {
        debug_assert!(len <= i64::MAX as u64, "no file is that long");
        self.output.note_change();
        self.output
            .fault(Step::Truncate)
            .and_then(|_| uninterrupted(|| rustix::fs::ftruncate(&self.output, len)))
            .map_err(|errno| CommitError::refused("set the length of", self.output.path(), errno))
    }

    /// Whether its inode must be synced once more when it has its name.
    pub(super) fn is_named_late(&self) -> bool {
        self.is_named_late
    }

    pub(super) fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    pub(super) fn temp(&self) -> Option<&TempName> {
        self.temp.name.as_ref()
    }

    /// The file's metadata.
    pub(super) fn stat(&self) -> Result<Stat, CommitError> {
        let path = self.output.path();
        rustix::fs::fstat(&self.output).map_err(|errno| CommitError::refused("look at the new file for", path, errno))
    }

    /// Forgets the temporary name, so that drop deletes nothing: the file was published, or the name now belongs to
    /// the file that it replaced.
    pub(super) fn forget_name(&mut self) {
        self.temp.name = None;
    }

    /// Gives the file a temporary name made by `make`, in place of the one it has.
    pub(super) fn rename(&mut self, make: impl Fn() -> TempName) -> Result<(), CommitError> {
        let (dir, links) = (self.destination.dir(), self.destination.context().links());
        let mut result = Err(Errno::EXIST);
        for _ in 0..TRIES {
            let name = make();
            let step = || self.output.fault(Step::Publish).map(drop);
            result = match &self.temp.name {
                // Locked before it has a name. The lock tells sweeps that its run is alive.
                None => step().and_then(|()| {
                    let _ = rustix::fs::flock(&self.output, FlockOperation::NonBlockingLockExclusive);
                    links.link(self.output.as_fd(), dir, name.as_os_str())
                }),
                Some(old) => rename::to_random(dir, old.as_os_str(), name.as_os_str(), &step),
            };
            match result {
                Ok(()) => {
                    self.temp.name = Some(name);
                    return self.sync_late_name();
                }
                Err(Errno::EXIST) => {}
                Err(_) => break,
            }
        }
        let errno = result.err().unwrap_or(Errno::EXIST);
        Err(CommitError::refused("name the new file beside", self.output.path(), errno))
    }

    /// Syncs the inode if its file system needs that: a file must be durable, under any name, before it replaces
    /// another.
    fn sync_late_name(&mut self) -> Result<(), CommitError> {
        if self.is_named_late {
            sync_inode(&self.output)?;
            self.is_named_late = false;
        }
        Ok(())
    }

    fn free(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.output).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn no_space(&self, needed: u64, errno: Errno) -> CommitError {
        // EFBIG is a limit on one file; the free space of the disk does not matter.
        let free = if errno == Errno::FBIG { None } else { self.free() };
        CommitError::NoSpace { path: self.output.path().to_owned(), needed, free, errno }
    }
}

/// The temporary name of a file. Drop deletes the file.
#[derive(Debug)]
struct StagedName {
    /// None: the file has no name, or one that is not to be deleted.
    name: Option<TempName>,
    destination: Arc<Destination>,
}

impl Drop for StagedName {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        match rustix::fs::unlinkat(self.destination.dir(), name.as_os_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => {
                let path = self.destination.dir_path().join(name.as_os_str());
                self.destination.context().note(Notice::LeftBehind { path, errno });
            }
        }
    }
}

/// The error for a file that could not be created in the destination's directory.
fn not_created(destination: &Destination, errno: Errno) -> CommitError {
    let (dir, path) = (destination.dir(), destination.dir_path());
    match rustix::fs::fstat(dir) {
        // /proc answers ENOENT although the directory exists.
        Ok(stat) if errno == Errno::NOENT && stat.st_nlink > 0 => CommitError::TakesNothing { path: path.to_owned() },
        // rclone without a cache, mountpoint-s3.
        _ if matches!(errno, Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) && devices::is_foreign(dir) => {
            devices::not_fit(dir, path, "makes no files for both reading and writing", errno)
        }
        _ => CommitError::refused("create a file in", path, errno),
    }
}

/// Opens a file without a name (O_TMPFILE). None if the file system has no such files, if they cannot be linked later,
/// or if a sandbox refuses them.
fn unnamed(destination: &Destination, device: &Device) -> Result<Option<OwnedFd>, Errno> {
    let links = destination.context().links();
    if !links.has_proc() || !device.links_unnamed(destination.dir(), destination.path(), links) {
        return Ok(None);
    }
    match open_unnamed(destination.dir()) {
        Ok(fd) => Ok(Some(fd)),
        Err(errno) if rename::is_no_way(errno) || matches!(errno, Errno::ISDIR | Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
