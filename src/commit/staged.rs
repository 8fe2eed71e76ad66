//! The new output file before its publication. No other program sees it under its final name.

use crate::commit::destination::Standing;
use crate::commit::devices::{Device, Fit, IN_ORDER_ONLY, is_unknown, not_fit};
use crate::commit::mounts::is_foreign;
use crate::commit::space::FreeSpace;
use crate::commit::staging::StagingDirectory;
use crate::commit::sys::{mode, open_unnamed, sync_inode};
use crate::commit::temp_name::TempName;
use crate::commit::temporary::{TRIES, create_named};
use crate::commit::{CommitError, Destination, Notice, Replace, access, rename};
use crate::io::{OutputFile, Step, fault_at, uninterrupted};
use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

impl Destination {
    /// Creates a new, empty file in the destination's directory, or in the directory for staging if the file system
    /// takes bytes in order only ([`StagedFile::is_elsewhere`]). If `named` is true, the file gets a temporary
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
    // After `output`, so dropped after it: some file systems do not remove a file that is open.
    temp: StagedName,
    path: Option<PathBuf>,
    /// Whether the inode must be synced once more after the file got its name (`journal`).
    is_named_late: bool,
    /// Whether this is the copy of a file that was staged elsewhere.
    is_copied: bool,
    /// The length that [`Self::reserve`] gave the file.
    reserved: AtomicU64,
    // Last field, so dropped last: its drop removes directories, which must be empty by then.
    destination: Arc<Destination>,
}

impl StagedFile {
    fn create(destination: &Arc<Destination>, named: bool) -> Result<Self, CommitError> {
        let refused = |errno| not_created(destination, errno);
        fault_at(destination.path(), Step::Create).map_err(refused)?;
        let device = destination.context().devices().of(destination.directory_id());
        let unnamed = if named { None } else { unnamed(destination, &device).map_err(refused)? };
        let (dir, dir_path) = (destination.dir(), destination.dir_path());
        let (fd, temp) = match unnamed {
            Some(fd) => (fd, None),
            None => match device.fit(dir, destination.name()) {
                Fit::AnyOrder => {
                    let (fd, temp) = create_named(dir, destination.name()).map_err(refused)?;
                    (fd, Some(temp))
                }
                Fit::InOrder(errno) => return Self::create_elsewhere(destination, named, errno),
                Fit::Unfit(what, errno) => return Err(not_fit(dir, dir_path, what, errno)),
            },
        };
        let is_named_late = temp.is_none() && !device.keeps_late_names(dir);
        let output = OutputFile::new(fd, destination.path().to_owned());
        let temp = StagedName { name: temp, staging: None, destination: Arc::clone(destination) };
        let new = Self { is_named_late, ..Self::new(output, temp) };
        give_rights(&new.output, destination)?;
        Ok(new)
    }

    /// Creates the file in the directory for staging. `errno` is the error of the destination's file system for a
    /// write that is not in order.
    pub(super) fn create_elsewhere(
        destination: &Arc<Destination>,
        named: bool,
        errno: Errno,
    ) -> Result<Self, CommitError> {
        let (context, name) = (destination.context(), destination.name());
        let Some(staging) = context.staging().directory(context.devices(), name)? else {
            return Err(not_fit(destination.dir(), destination.dir_path(), IN_ORDER_ONLY, errno));
        };
        let swept = context.swept().sweep(staging.fd(), staging.id, &staging.path, name);
        swept.into_iter().for_each(|notice| context.note(notice));
        if context.staging().is_first_use() {
            context.note(Notice::Staged { dir: staging.path.clone(), to: destination.dir_path().to_owned() });
        }
        let (fd, temp) = staging.create(name, named)?;
        let output = OutputFile::new(fd, staging.path.join(name));
        let temp = StagedName { name: temp, staging: Some(staging), destination: Arc::clone(destination) };
        Ok(Self::new(output, temp))
    }

    /// The open file `output` under the name `temp`.
    pub(super) fn new(output: OutputFile, temp: StagedName) -> Self {
        let path = temp.path();
        let destination = Arc::clone(&temp.destination);
        let (is_named_late, is_copied) = (false, false);
        Self {
            output: Arc::new(output),
            temp,
            path,
            is_named_late,
            is_copied,
            reserved: AtomicU64::new(0),
            destination,
        }
    }

    /// As [`Self::new`], for the copy of a file that was staged elsewhere.
    pub(super) fn copy(output: OutputFile, temp: StagedName) -> Self {
        Self { is_copied: true, ..Self::new(output, temp) }
    }

    /// Whether this is the copy of a file that was staged elsewhere. Its file system stores a file when it is closed.
    pub(super) fn is_copied(&self) -> bool {
        self.is_copied
    }

    /// Whether the file is in the directory for staging, not in the destination's.
    pub fn is_elsewhere(&self) -> bool {
        self.temp.staging.is_some()
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
    /// fetched: less than ten times `planned_bytes`, the size of these files, or a disk was found full in this run.
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
                let path = self.destination.path().to_owned();
                Err(match &self.temp.staging {
                    None => CommitError::NoSpace { path, needed: len, free, errno },
                    Some(staging) => {
                        CommitError::NoStagingSpace { dir: staging.path.clone(), path, needed: len, free, errno }
                    }
                })
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

    /// # Errors
    /// [`CommitError::Internal`] if the content was not synced after its last change.
    pub(super) fn check_synced(&self) -> Result<(), CommitError> {
        if self.output.is_synced() {
            return Ok(());
        }
        let (what, path) = ("the content to publish was not synced", self.output.path().to_owned());
        Err(CommitError::Internal { what, path })
    }

    /// Whether the inode must be synced once more after the file got its name (`journal`).
    pub(super) fn is_named_late(&self) -> bool {
        self.is_named_late
    }

    pub(super) fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    pub(super) fn temp(&self) -> Option<&TempName> {
        self.temp.name.as_ref()
    }

    /// Returns the new file's inode number, size and times (fstat).
    pub(super) fn stat(&self) -> Result<Stat, CommitError> {
        let path = self.output.path();
        rustix::fs::fstat(&self.output).map_err(|errno| CommitError::refused("look at the new file for", path, errno))
    }

    /// Forgets the temporary name, so that dropping this value deletes nothing. Called when the file was
    /// published, or when the temporary name now belongs to the old file.
    pub(super) fn forget_name(&mut self) {
        self.temp.name = None;
    }

    /// Gives the file a new temporary name, which the closure `make` generates. If the name is taken, tries
    /// another one.
    pub(super) fn rename(&mut self, make: impl Fn() -> TempName) -> Result<(), CommitError> {
        debug_assert!(!self.is_elsewhere(), "a staged file is copied before it is published");
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
                Some(old) => rename::after_look(dir, old.as_os_str(), name.as_os_str(), &step),
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

    /// Syncs the inode if the file system needs that (`journal`). The new file must be durable under some name
    /// before it replaces another file.
    fn sync_late_name(&mut self) -> Result<(), CommitError> {
        if self.is_named_late {
            sync_inode(&self.output)?;
            self.is_named_late = false;
        }
        Ok(())
    }
}

/// Gives the new file `output` the owner, the group and the rights that it is to have at `destination`.
pub(super) fn give_rights(output: &OutputFile, destination: &Destination) -> Result<(), CommitError> {
    let permissions = destination.context().permissions();
    if destination.replace() == Replace::Force
        && let Standing::Database(old) = destination.standing()?
    {
        access::take_after(output, destination.dir(), destination.name(), &old, permissions.group.is_some());
    }
    let set = permissions.set_on_file(output);
    set.map_err(|errno| CommitError::refused("set owner and mode of", destination.path(), errno))
}

/// The temporary name of a file. Drop deletes the file.
#[derive(Debug)]
pub(super) struct StagedName {
    /// None: the file has no name, or one that is not to be deleted.
    pub(super) name: Option<TempName>,
    /// The directory that the file is in. None: the destination's.
    pub(super) staging: Option<Arc<StagingDirectory>>,
    pub(super) destination: Arc<Destination>,
}

impl StagedName {
    fn dir(&self) -> (BorrowedFd<'_>, &Path) {
        match &self.staging {
            None => (self.destination.dir(), self.destination.dir_path()),
            Some(staging) => (staging.fd(), &staging.path),
        }
    }

    fn path(&self) -> Option<PathBuf> {
        self.name.as_ref().map(|name| self.dir().1.join(name.as_os_str()))
    }
}

impl Drop for StagedName {
    fn drop(&mut self) {
        let Some(path) = self.path() else { return };
        let Some(name) = self.name.take() else { return };
        match rustix::fs::unlinkat(self.dir().0, name.as_os_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => self.destination.context().note(Notice::LeftBehind { path, errno }),
        }
    }
}

/// Returns the error for a file that could not be created in the destination's directory.
fn not_created(destination: &Destination, errno: Errno) -> CommitError {
    let (dir, path) = (destination.dir(), destination.dir_path());
    match rustix::fs::fstat(dir) {
        // /proc answers ENOENT although the directory exists.
        Ok(stat) if errno == Errno::NOENT && stat.st_nlink > 0 => CommitError::TakesNothing { path: path.to_owned() },
        // rclone without a cache, mountpoint-s3.
        _ if is_unknown(errno) && is_foreign(dir) => {
            not_fit(dir, path, "makes no files for both reading and writing", errno)
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
    match open_unnamed(destination.dir(), mode()) {
        Ok(fd) => Ok(Some(fd)),
        Err(errno) if rename::is_no_way(errno) || matches!(errno, Errno::ISDIR | Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
