//! The file that is to become the output, while nobody sees it.

use crate::commit::destination::Standing;
use crate::commit::journal;
use crate::commit::sys::{link_unnamed, mode, rename_to_absent, sync_inode};
use crate::commit::temp_name::TempName;
use crate::commit::{CommitError, Destination, Replace};
use crate::io::{OutputFile, Step, fault_at, uninterrupted};
use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// Names tried before it is given up: each is one of 36^8.
const TRIES: usize = 16;

impl Destination {
    /// A new, empty, unpublished file in the destination's directory. `named` when something
    /// must open it by name ([`Unpublished::path`]) before it is published.
    ///
    /// # Errors
    /// A directory that cannot be written into, found here before anything is fetched.
    pub fn create(self: &Arc<Self>, named: bool) -> Result<StagedFile, CommitError> {
        StagedFile::create(self, named)
    }
}

/// A file that nobody sees yet. Dropped, it is gone.
#[derive(Debug)]
pub struct StagedFile {
    output: Arc<OutputFile>,
    /// None: the file has no name.
    temp: Option<TempName>,
    path: Option<PathBuf>,
    /// Its inode is to be written once more when it has a name (`journal`).
    is_named_late: bool,
    // Last: its drop removes directories, which must be empty by then.
    destination: Arc<Destination>,
}

impl StagedFile {
    fn create(destination: &Arc<Destination>, named: bool) -> Result<Self, CommitError> {
        let refused = |errno| not_created(destination, errno);
        fault_at(destination.path(), Step::Create).map_err(refused)?;
        let unnamed = if named { None } else { unnamed(destination).map_err(refused)? };
        let (fd, temp) = match unnamed {
            Some(fd) => (fd, None),
            None => new_name(destination).map(|(fd, temp)| (fd, Some(temp))).map_err(refused)?,
        };
        let path = temp.as_ref().map(|temp| destination.dir_path().join(temp.as_os_str()));
        let output = Arc::new(OutputFile::new(fd, destination.path().to_owned()));
        let is_named_late = temp.is_none() && !journal::keeps_late_names(destination.dir(), destination.directory_id());
        let new = Self { output, temp, path, is_named_late, destination: Arc::clone(destination) };
        if destination.replace() == Replace::Force
            && let Standing::Database(old) = destination.standing()?
        {
            new.take_after(&old);
        }
        Ok(new)
    }

    /// The file, to be written.
    pub fn output(&self) -> &Arc<OutputFile> {
        &self.output
    }

    /// Where the file can be opened by name, when it has one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Reserves `len` bytes of disk and makes the file that long: what does not fit is known
    /// before anything is fetched.
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
            // Mode 0: the size is set at once, so that later writes do not each change it.
            Ok(_) => uninterrupted(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len)),
        };
        match reserved {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                // Nothing can be reserved here (ZFS, NFS): what is free now is all that is known.
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
        self.output.note_change();
        self.output
            .fault(Step::Truncate)
            .and_then(|_| uninterrupted(|| rustix::fs::ftruncate(&self.output, len)))
            .map_err(|errno| CommitError::refused("set the length of", self.output.path(), errno))
    }

    /// Whether its inode is to be written once more when it has its name.
    pub(super) fn is_named_late(&self) -> bool {
        self.is_named_late
    }

    pub(super) fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    pub(super) fn temp(&self) -> Option<&TempName> {
        self.temp.as_ref()
    }

    /// What the kernel knows of the file.
    pub(super) fn stat(&self) -> Result<Stat, CommitError> {
        let path = self.output.path();
        rustix::fs::fstat(&self.output).map_err(|errno| CommitError::refused("look at the new file for", path, errno))
    }

    /// The name was given away, to the destination or to what it replaced.
    pub(super) fn forget_name(&mut self) {
        self.temp = None;
    }

    /// Gives the file a temporary name of the kind that `make` says, instead of the one it has.
    pub(super) fn rename(&mut self, make: impl Fn() -> TempName) -> Result<(), CommitError> {
        let dir = self.destination.dir();
        let mut result = Err(Errno::EXIST);
        for _ in 0..TRIES {
            let name = make();
            result = self.output.fault(Step::Publish).and_then(|_| match &self.temp {
                // Locked before it has a name: the lock says that its run is alive.
                None => {
                    let _ = rustix::fs::flock(&self.output, FlockOperation::NonBlockingLockExclusive);
                    link_unnamed(&self.output, dir, name.as_os_str())
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

    /// What takes another file's place must survive a power failure under any name before it does.
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
        // A limit on the size of one file says nothing of the disk.
        let free = if errno == Errno::FBIG { None } else { self.free() };
        CommitError::NoSpace { path: self.output.path().to_owned(), needed, free, errno }
    }

    /// Owner and mode of the database that is to be replaced, as far as permitted. Never more
    /// than those gave: where the group cannot be kept, the new one gets what others had.
    fn take_after(&self, old: &Stat) {
        let kept = self.take_owner(old);
        let mut mode = old.st_mode & 0o777;
        if !kept {
            let others = mode & 0o007;
            mode &= 0o707 | others << 3;
        }
        let _ = rustix::fs::fchmod(&self.output, Mode::from_raw_mode(mode));
    }

    /// Whether the group is the old one's. Asks for nothing that is so already: a service's
    /// sandbox may kill whoever calls chown (systemd's `SystemCallFilter=~@privileged`), and most
    /// databases belong to who restores them.
    fn take_owner(&self, old: &Stat) -> bool {
        let new = rustix::fs::fstat(&self.output).ok();
        let owner = new.is_none_or(|new| new.st_uid != old.st_uid).then(|| Uid::from_raw(old.st_uid));
        let group = new.is_none_or(|new| new.st_gid != old.st_gid).then(|| Gid::from_raw(old.st_gid));
        let chown = |owner, group| rustix::fs::fchown(&self.output, owner, group).is_ok();
        match (owner, group) {
            (None, None) => true,
            // The group is the same, and stays so whether the owner can be kept or not.
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

/// Why nothing can be created in the destination's directory.
fn not_created(destination: &Destination, errno: Errno) -> CommitError {
    let path = destination.dir_path();
    match rustix::fs::fstat(destination.dir()) {
        // As /proc does: the directory is there all the same.
        Ok(stat) if errno == Errno::NOENT && stat.st_nlink > 0 => CommitError::TakesNothing { path: path.to_owned() },
        _ => CommitError::refused("create a file in", path, errno),
    }
}

/// A file without a name; None where the file system has none, or where it could not be given a
/// name later.
fn unnamed(destination: &Destination) -> Result<Option<OwnedFd>, Errno> {
    static HAS_PROC: LazyLock<bool> =
        LazyLock::new(|| rustix::fs::access("/proc/self/fd", rustix::fs::Access::EXISTS).is_ok());
    if !*HAS_PROC {
        return Ok(None);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(destination.dir(), ".", flags, mode()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A file under a random name, locked: the lock says that its run is alive.
fn new_name(destination: &Destination) -> Result<(OwnedFd, TempName), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        let name = TempName::plain(destination.name());
        match rustix::fs::openat(destination.dir(), name.as_os_str(), flags, mode()) {
            Ok(fd) => {
                let locked = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive);
                let linked = rustix::fs::fstat(&fd).map(|stat| stat.st_nlink > 0);
                if locked != Err(Errno::WOULDBLOCK) && linked == Ok(true) {
                    return Ok((fd, name));
                }
                // Another run sweeps, and was here between the two calls; or nothing is known of it.
                let _ = rustix::fs::unlinkat(destination.dir(), name.as_os_str(), AtFlags::empty());
                linked?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}
