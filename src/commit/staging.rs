//! The directory in which databases are staged whose own file system takes bytes in order only
//! (docs/decisions/19-file-systems-that-only-append.md).

use crate::commit::CommitError;
use crate::commit::devices::{Fit, IN_ORDER_ONLY, KnownDevices, not_fit};
use crate::commit::parents::{self, DirectoryId};
use crate::commit::rename::is_no_way;
use crate::commit::sys::open_unnamed;
use crate::commit::temp_name::TempName;
use crate::commit::temporary::create_named_for;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// Where a run stages databases. The directory is opened when it is needed first.
#[derive(Debug, Default)]
pub(super) struct Staging {
    path: Option<PathBuf>,
    opened: OnceLock<Result<Arc<StagingDirectory>, CommitError>>,
    was_used: AtomicBool,
}

/// An open directory on a file system that writes in any order.
#[derive(Debug)]
pub(super) struct StagingDirectory {
    fd: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) id: Option<DirectoryId>,
}

impl Staging {
    /// Databases are staged in the directory `path`. None: nowhere.
    pub(super) fn in_directory(path: Option<PathBuf>) -> Self {
        Self { path, ..Self::default() }
    }

    /// The directory. None if there is none. `name` is the file name of an output, for the probe of the file system.
    ///
    /// # Errors
    /// The directory cannot be opened, or its file system takes bytes in order only, too.
    pub(super) fn directory(
        &self,
        devices: &KnownDevices,
        name: &OsStr,
    ) -> Result<Option<Arc<StagingDirectory>>, CommitError> {
        let Some(path) = &self.path else { return Ok(None) };
        let open = || {
            let fd = parents::open(path).map_err(|errno| CommitError::refused("stage databases in", path, errno))?;
            let id = parents::id_of(&fd);
            match devices.of(id).fit(fd.as_fd(), name) {
                Fit::AnyOrder => Ok(Arc::new(StagingDirectory { fd, path: path.clone(), id })),
                Fit::InOrder(errno) => Err(not_fit(fd.as_fd(), path, IN_ORDER_ONLY, errno)),
                Fit::Unfit(what, errno) => Err(not_fit(fd.as_fd(), path, what, errno)),
            }
        };
        self.opened.get_or_init(open).clone().map(Some)
    }

    /// Whether this is the first call.
    pub(super) fn is_first_use(&self) -> bool {
        !self.was_used.swap(true, Relaxed)
    }
}

impl StagingDirectory {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Creates a file that only its owner may read, since others may read the directory. It has a temporary name if
    /// `named` is true or there are no unnamed files here. `name` is the file name of the output.
    pub(super) fn create(&self, name: &OsStr, named: bool) -> Result<(OwnedFd, Option<TempName>), CommitError> {
        let mode = Mode::RUSR | Mode::WUSR;
        let refused = |errno| CommitError::refused("stage a database in", &self.path, errno);
        if !named {
            match open_unnamed(self.fd(), mode) {
                Ok(fd) => return Ok((fd, None)),
                Err(errno) if is_no_way(errno) || matches!(errno, Errno::ISDIR | Errno::NOENT) => {}
                Err(errno) => return Err(refused(errno)),
            }
        }
        let (fd, temp) = create_named_for(OFlags::RDWR, mode, self.fd(), name).map_err(refused)?;
        Ok((fd, Some(temp)))
    }
}
