//! Owner and mode of what is restored, as the operator asked for them: by `-owner`, `-mode` and `-dir-mode`.
//!
//! They are set by descriptor, on a file that nobody sees yet and on a directory that was just made. Nothing is
//! changed that was there before.

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use std::os::fd::AsFd;

/// What the operator asked for. None: as without the flag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions {
    /// The owner's user id.
    pub user: Option<u32>,
    /// The group's id.
    pub group: Option<u32>,
    /// The mode of databases. The umask does not apply.
    pub mode: Option<u32>,
    /// The mode of new directories. The umask does not apply.
    pub dir_mode: Option<u32>,
}

impl Permissions {
    /// Whether new directories are as the operator wants them without a further call.
    pub(super) fn keep_directories(&self) -> bool {
        self.user.is_none() && self.group.is_none() && self.dir_mode.is_none()
    }

    pub(super) fn set_on_file(&self, file: impl AsFd) -> Result<(), Errno> {
        self.set(file, self.mode)
    }

    pub(super) fn set_on_directory(&self, directory: impl AsFd) -> Result<(), Errno> {
        self.set(directory, self.dir_mode)
    }

    /// Calls chown only for what differs: a sandbox can kill the caller of chown.
    fn set(&self, fd: impl AsFd, mode: Option<u32>) -> Result<(), Errno> {
        if self.user.is_some() || self.group.is_some() {
            let now = rustix::fs::fstat(&fd)?;
            let user = self.user.filter(|user| *user != now.st_uid).map(Uid::from_raw);
            let group = self.group.filter(|group| *group != now.st_gid).map(Gid::from_raw);
            if user.is_some() || group.is_some() {
                rustix::fs::fchown(&fd, user, group)?;
            }
        }
        // After chown, which may clear bits of the mode.
        mode.map_or(Ok(()), |mode| rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)))
    }
}
