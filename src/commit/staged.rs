//! The new file before its publication, while nobody sees it.

use crate::commit::destination::Standing;
use crate::commit::sys::{mode, rename_to_absent, sync_inode};
use crate::commit::temp_name::TempName;
use crate::commit::{CommitError, Destination, Replace, parents};
use crate::io::{OutputFile, Step, fault_at, uninterrupted};
use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The number of temporary names that are tried. Each is one of 36^8.
const TRIES: usize = 16;

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
    /// None: the file has no name.
    temp: Option<TempName>,
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
        let unnamed = if named { None } else { unnamed(destination).map_err(refused)? };
        let (fd, temp) = match unnamed {
            Some(fd) => (fd, None),
            None => {
                let (fd, temp) = create_named(destination.dir(), destination.name()).map_err(refused)?;
                (fd, Some(temp))
            }
        };
        let path = temp.as_ref().map(|temp| destination.dir_path().join(temp.as_os_str()));
        let output = Arc::new(OutputFile::new(fd, destination.path().to_owned()));
        let keeps_late_names =
            || destination.context().devices().keep_late_names(destination.dir(), destination.directory_id());
        let is_named_late = temp.is_none() && !keeps_late_names();
        let new = Self { output, temp, path, is_named_late, destination: Arc::clone(destination) };
        if destination.replace() == Replace::Force
            && let Standing::Database(old) = destination.standing()?
        {
            new.take_after(&old);
        }
        let set = destination.context().permissions().set_on_file(&new.output);
        set.map_err(|errno| CommitError::refused("set owner and mode of", destination.path(), errno))?;
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
        self.temp.as_ref()
    }

    /// The file's metadata.
    pub(super) fn stat(&self) -> Result<Stat, CommitError> {
        let path = self.output.path();
        rustix::fs::fstat(&self.output).map_err(|errno| CommitError::refused("look at the new file for", path, errno))
    }

    /// Forgets the temporary name, so that drop deletes nothing: the file was published, or the name now belongs to
    /// the file that it replaced.
    pub(super) fn forget_name(&mut self) {
        self.temp = None;
    }

    /// Gives the file a temporary name made by `make`, in place of the one it has.
    pub(super) fn rename(&mut self, make: impl Fn() -> TempName) -> Result<(), CommitError> {
        let (dir, links) = (self.destination.dir(), self.destination.context().links());
        let mut result = Err(Errno::EXIST);
        for _ in 0..TRIES {
            let name = make();
            result = self.output.fault(Step::Publish).and_then(|_| match &self.temp {
                // Locked before it has a name. The lock tells sweeps that its run is alive.
                None => {
                    let _ = rustix::fs::flock(&self.output, FlockOperation::NonBlockingLockExclusive);
                    links.link(&self.output, dir, name.as_os_str())
                }
                Some(old) => rename_to_absent(dir, old.as_os_str(), name.as_os_str()),
            });
            match result {
                Ok(()) => {
                    self.temp = Some(name);
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

    /// Copies owner, group and mode of the file that is to be replaced, as far as permitted. Never grants more than
    /// the old file: if the group cannot be kept, the new group gets the permissions that others had. A group that the
    /// operator asked for gets those of the old group.
    fn take_after(&self, old: &Stat) {
        let kept = self.take_owner(old) || self.destination.context().permissions().group.is_some();
        let mut mode = old.st_mode & 0o777;
        if !kept {
            let others = mode & 0o007;
            mode &= 0o707 | others << 3;
        }
        let _ = rustix::fs::fchmod(&self.output, Mode::from_raw_mode(mode));
    }

    /// Copies owner and group. Returns whether the group is the old one. Calls chown only for what differs: a
    /// sandbox can kill the caller of chown (systemd's `SystemCallFilter=~@privileged`), and most databases belong
    /// to the user who restores them.
    fn take_owner(&self, old: &Stat) -> bool {
        let new = rustix::fs::fstat(&self.output).ok();
        let owner = new.is_none_or(|new| new.st_uid != old.st_uid).then(|| Uid::from_raw(old.st_uid));
        let group = new.is_none_or(|new| new.st_gid != old.st_gid).then(|| Gid::from_raw(old.st_gid));
        let chown = |owner, group| rustix::fs::fchown(&self.output, owner, group).is_ok();
        match (owner, group) {
            (None, None) => true,
            // The group is the same already, whether the owner can be kept or not.
            (owner, None) => {
                chown(owner, None);
                true
            }
            (owner, group) => chown(owner, group) || (owner.is_some() && chown(None, group)),
        }
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(temp) = self.temp.take() {
            let _ = rustix::fs::unlinkat(self.destination.dir(), temp.as_os_str(), AtFlags::empty());
        }
    }
}

/// The error for a file that could not be created in the destination's directory.
fn not_created(destination: &Destination, errno: Errno) -> CommitError {
    let path = destination.dir_path();
    match rustix::fs::fstat(destination.dir()) {
        // /proc answers ENOENT although the directory exists.
        Ok(stat) if errno == Errno::NOENT && stat.st_nlink > 0 => CommitError::TakesNothing { path: path.to_owned() },
        _ => CommitError::refused("create a file in", path, errno),
    }
}

/// Opens a file without a name (O_TMPFILE). None if the file system has no such files, or if /proc, which a later
/// link may need, is missing.
fn unnamed(destination: &Destination) -> Result<Option<OwnedFd>, Errno> {
    if !destination.context().links().has_proc() {
        return Ok(None);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(destination.dir(), ".", flags, mode()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Makes a file with a temporary name beside `path`, for a file other than an output. Returns the file, which must
/// stay open as long as the name is in use, and its path. A later run deletes the file if this one is killed.
///
/// # Errors
/// The directory cannot be opened or written into, or `path` has no file name.
pub(crate) fn create_temporary(path: &Path) -> std::io::Result<(File, PathBuf)> {
    let name = path.file_name().ok_or(Errno::ISDIR)?;
    let dir = parents::open(&parents::directory_of(path))?;
    let (fd, temp) = create_named(dir.as_fd(), name)?;
    Ok((File::from(fd), path.with_file_name(temp.as_os_str())))
}

/// Makes a file in `dir` with a random temporary name that is to become `name`, and locks it. The lock tells sweeps
/// that its run is alive.
fn create_named(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(OwnedFd, TempName), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        let temp = TempName::plain(name);
        match rustix::fs::openat(dir, temp.as_os_str(), flags, mode()) {
            Ok(fd) => {
                let locked = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive);
                let linked = rustix::fs::fstat(&fd).map(|stat| stat.st_nlink > 0);
                if locked != Err(Errno::WOULDBLOCK) && linked == Ok(true) {
                    return Ok((fd, temp));
                }
                // A sweep of another run took the file between open and flock, or fstat failed.
                let _ = rustix::fs::unlinkat(dir, temp.as_os_str(), AtFlags::empty());
                linked?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}
