//! The new output file before its publication. No other program sees it under its final name.

use crate::commit::destination::Standing;
use crate::commit::space::FreeSpace;
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
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Maximum number of random temporary names that are tried. A name has 8 random letters or digits (36^8
/// possible names).
const TRIES: usize = 16;

impl Destination {
    /// Creates a new, empty file in the destination's directory. If `named` is true, the file gets a temporary
    /// name ([`StagedFile::path`]), which SQLite needs to open it before publication. Otherwise the file has no
    /// name where the file system offers that (O_TMPFILE).
    ///
    /// # Errors
    /// [`CommitError`] if no file can be created in the directory. The restore thus fails before it fetches
    /// anything.
    pub fn create(self: &Arc<Self>, named: bool) -> Result<StagedFile, CommitError> {
        StagedFile::create(self, named)
    }
}

/// A new output file that is not published yet. Dropping it deletes the file.
#[derive(Debug)]
pub struct StagedFile {
    output: Arc<OutputFile>,
    /// Temporary name of the file. None if it is an unnamed file (O_TMPFILE).
    temp: Option<TempName>,
    path: Option<PathBuf>,
    /// Whether the inode must be synced once more after the file got its name (`journal`).
    is_named_late: bool,
    /// The length that [`Self::reserve`] gave the file.
    reserved: AtomicU64,
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
        let reserved = AtomicU64::new(0);
        let new = Self { output, temp, path, is_named_late, reserved, destination: Arc::clone(destination) };
        if destination.replace() == Replace::Force
            && let Standing::Database(old) = destination.standing()?
        {
            new.take_after(&old);
        }
        Ok(new)
    }

    /// The open file, into which the restore writes the database.
    pub fn output(&self) -> &Arc<OutputFile> {
        &self.output
    }

    /// Path of the file under its temporary name. None if the file is unnamed.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether the free space is so small that the exact size of the database must be read before its files are
    /// fetched: less than ten times `planned_bytes`, the size of these files, or a reservation has failed in this run.
    pub fn is_space_scarce(&self, planned_bytes: u64) -> bool {
        self.destination.context().space().was_full()
            || FreeSpace::of(&self.output).is_some_and(|free| free.is_scarce_for(planned_bytes))
    }

    /// Reserves `len` bytes of disk and makes the file that long, so that a full disk is found before anything is
    /// fetched. A second call with the same `len` does nothing.
    ///
    /// # Errors
    /// [`CommitError::NoSpace`], with the bytes needed and the bytes free, if the disk or the user's quota is
    /// too small.
    pub fn reserve(&self, len: u64) -> Result<(), CommitError> {
        self.output.expect_size(len);
        let before = self.reserved.load(Relaxed);
        if len == before {
            return Ok(());
        }
        self.output.note_change();
        let space = self.destination.context().space();
        let free = FreeSpace::of(&self.output);
        // Where space is ample nobody waits.
        let scarce = free.is_some_and(|free| free.is_scarce_for(len));
        let _turn = scarce.then(|| space.turn());
        let free = if scarce { FreeSpace::of(&self.output) } else { free };
        let reserved = match free {
            // An attempt would take all that is left before it fails.
            Some(free) if free.with_roots_share < len.saturating_sub(before) => Err(Errno::NOSPC),
            _ => self.output.fault(Step::Reserve).and_then(|_| {
                // Mode 0 also sets the file's size, so that later writes need not.
                uninterrupted(|| rustix::fs::fallocate(&self.output, FallocateFlags::empty(), 0, len))
            }),
        };
        let reserved = match reserved {
            // This file system cannot reserve space (ZFS, NFS, some of FUSE). The free space is compared instead.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => match free {
                Some(free) if free.available < len => Err(Errno::NOSPC),
                _ => Ok(self.truncate(len)?),
            },
            reserved => reserved,
        };
        match reserved {
            Ok(()) => {
                self.reserved.store(len, Relaxed);
                Ok(())
            }
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                // What the attempt took is given back at once: other databases of this run may fit.
                let _ = uninterrupted(|| rustix::fs::ftruncate(&self.output, 0));
                self.reserved.store(0, Relaxed);
                if errno != Errno::FBIG {
                    space.note_full();
                }
                // The free space says nothing about a quota (EDQUOT) or a limit on one file (EFBIG).
                let free = free.filter(|_| errno == Errno::NOSPC).map(|free| free.available);
                Err(CommitError::NoSpace { path: self.output.path().to_owned(), needed: len, free, errno })
            }
            Err(errno) => Err(CommitError::refused("reserve space for", self.output.path(), errno)),
        }
    }

    /// Sets the file's length to exactly `len` bytes.
    pub fn truncate(&self, len: u64) -> Result<(), CommitError> {
        debug_assert!(len <= i64::MAX as u64, "no file is that long");
        self.output.note_change();
        self.output
            .fault(Step::Truncate)
            .and_then(|_| uninterrupted(|| rustix::fs::ftruncate(&self.output, len)))
            .map_err(|errno| CommitError::refused("set the length of", self.output.path(), errno))
    }

    /// Whether the inode must be synced once more after the file got its name (`journal`).
    pub(super) fn is_named_late(&self) -> bool {
        self.is_named_late
    }

    pub(super) fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    pub(super) fn temp(&self) -> Option<&TempName> {
        self.temp.as_ref()
    }

    /// Returns the new file's inode number, size and times (fstat).
    pub(super) fn stat(&self) -> Result<Stat, CommitError> {
        let path = self.output.path();
        rustix::fs::fstat(&self.output).map_err(|errno| CommitError::refused("look at the new file for", path, errno))
    }

    /// Forgets the temporary name, so that dropping this value deletes nothing. Called when the file was
    /// published, or when the temporary name now belongs to the old file.
    pub(super) fn forget_name(&mut self) {
        self.temp = None;
    }

    /// Gives the file a new temporary name, which the closure `make` generates. If the name is taken, tries
    /// another one.
    pub(super) fn rename(&mut self, make: impl Fn() -> TempName) -> Result<(), CommitError> {
        let (dir, links) = (self.destination.dir(), self.destination.context().links());
        let mut result = Err(Errno::EXIST);
        for _ in 0..TRIES {
            let name = make();
            result = self.output.fault(Step::Publish).and_then(|_| match &self.temp {
                // The file is locked before it gets a name. The lock tells the clean-up of other runs that this
                // run is alive.
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

    /// Syncs the inode if the file system needs that (`journal`). The new file must be durable under some name
    /// before it replaces another file.
    fn sync_late_name(&mut self) -> Result<(), CommitError> {
        if self.is_named_late {
            sync_inode(&self.output)?;
            self.is_named_late = false;
        }
        Ok(())
    }

    /// Copies owner, group and mode of the file that is to be replaced, as far as permitted. Never grants more than
    /// the old file: if the group cannot be kept, the new group gets the permissions that others had.
    fn take_after(&self, old: &Stat) {
        let kept = self.take_owner(old);
        let mut mode = old.st_mode & 0o777;
        if !kept {
            let others = mode & 0o007;
            mode &= 0o707 | others << 3;
        }
        let _ = rustix::fs::fchmod(&self.output, Mode::from_raw_mode(mode));
    }

    /// Copies owner and group of the old file. Returns whether the new file has the old group now. chown is
    /// called only if something differs, because a sandbox can kill a process that calls it (systemd's
    /// `SystemCallFilter=~@privileged`), and most databases belong to the user who restores them.
    fn take_owner(&self, old: &Stat) -> bool {
        let new = rustix::fs::fstat(&self.output).ok();
        let owner = new.is_none_or(|new| new.st_uid != old.st_uid).then(|| Uid::from_raw(old.st_uid));
        let group = new.is_none_or(|new| new.st_gid != old.st_gid).then(|| Gid::from_raw(old.st_gid));
        let chown = |owner, group| rustix::fs::fchown(&self.output, owner, group).is_ok();
        match (owner, group) {
            (None, None) => true,
            // The group is equal already, so true is returned whether or not chown can change the owner.
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

/// Returns the error for a file that could not be created in the destination's directory.
fn not_created(destination: &Destination, errno: Errno) -> CommitError {
    let path = destination.dir_path();
    match rustix::fs::fstat(destination.dir()) {
        // In /proc, creating a file fails with ENOENT although the directory exists.
        Ok(stat) if errno == Errno::NOENT && stat.st_nlink > 0 => CommitError::TakesNothing { path: path.to_owned() },
        _ => CommitError::refused("create a file in", path, errno),
    }
}

/// Creates an unnamed file (O_TMPFILE) in the destination's directory. Returns None if the file system does not
/// offer unnamed files, or if /proc is not mounted, through which the file may have to be linked later.
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

/// Creates a file with a temporary name beside `path`, for a file that is not an output, such as a report.
/// Returns the open file and its path. Keep the file open as long as the name is in use: its lock tells other
/// runs that this run is alive. If this run is killed, a later run deletes the file.
///
/// # Errors
/// The error of the kernel if the directory cannot be opened or written to; EISDIR if `path` has no file name.
pub(crate) fn create_temporary(path: &Path) -> std::io::Result<(File, PathBuf)> {
    let name = path.file_name().ok_or(Errno::ISDIR)?;
    let dir = parents::open(&parents::directory_of(path))?;
    let (fd, temp) = create_named(dir.as_fd(), name)?;
    Ok((File::from(fd), path.with_file_name(temp.as_os_str())))
}

/// Creates a file with a random temporary name in `dir`, which will later be renamed to `name`, and locks it
/// with flock. The lock tells the clean-up of other runs that this run is alive.
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
                // Another run's clean-up deleted the file between openat and flock, or fstat failed. Try the
                // next name.
                let _ = rustix::fs::unlinkat(dir, temp.as_os_str(), AtFlags::empty());
                linked?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}
