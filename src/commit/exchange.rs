//! Exchange of the new file with what stands at the destination: an empty file, or with `-force`
//! a database and its sidecars.
//!
//! In this order, each step one system call on names:
//! 1. the old file is locked (SQLite's locks and a flock), and is what was looked at;
//! 2. the new file gets a name that tells both inodes and when the old one was last written to, and
//!    is synced under it where that is needed (`journal`);
//! 3. the old sidecars are moved aside, to that name and their suffixes: -shm, -journal, -wal;
//! 4. the two files are exchanged: the old one now stands with its sidecars under the temporary
//!    name, the new one alone under its own;
//! 5. after the directory was synced: the old sidecars are deleted, then the old file.
//!
//! Killed between two of them, `sweep` puts back (before 4) or deletes (after 4). Killed between 3
//! and 4, the old file stands without its sidecars until then, and a program that opens it does not
//! see what only they hold. No order avoids that: no call renames several names at once, and a -wal
//! beside the new file would be worse. So 4 follows 3 at once, nothing is synced in between, and the
//! -wal is the last to be moved.
//!
//! Without RENAME_EXCHANGE (NFS, some FUSE) step 4 is a rename that replaces: still atomic, but
//! an empty file that is filled in the instant before it is lost.

use crate::commit::in_use::{self, DatabaseLock};
use crate::commit::sidecars::{MOVE_ORDER, suffixed};
use crate::commit::sys::rename_to_absent;
use crate::commit::temp_name::{Exchange, Replacing, TempName};
use crate::commit::{CommitError, StagedFile};
use crate::io::{Step, uninterrupted};
use rustix::fs::{AtFlags, FlockOperation, RenameFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::time::Duration;

/// Pause before a file that another restore has locked is looked at again.
const LOCKED_PAUSE: Duration = Duration::from_millis(5);

/// How it went.
pub(super) enum Swapped {
    Done(Replaced),
    /// The destination changed meanwhile: look again.
    Again,
}

/// What was replaced, to be deleted when the new name is durable.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// Names in the destination's directory, in the order of their deletion.
    pub(super) names: Vec<OsString>,
    /// Keeps other runs from sweeping it before.
    pub(super) _held: Option<DatabaseLock>,
}

/// Puts `new` in the place of `old`, which stands at its destination.
pub(super) fn replace(new: &mut StagedFile, old: &Stat, kind: Replacing) -> Result<Swapped, CommitError> {
    let destination = new.destination().clone();
    let (dir, name, path) = (destination.dir(), destination.name(), destination.path());
    let held = match in_use::hold(dir, name, path) {
        Err(CommitError::Refused { errno: Errno::NOENT, .. }) => return Ok(Swapped::Again),
        result => result?,
    };
    if rustix::fs::flock(&held.fd, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        // Another restore is about to replace it, or has just made it: a child that this process
        // starts keeps the new file's lock between its fork and its exec.
        std::thread::sleep(LOCKED_PAUSE);
        return Ok(Swapped::Again);
    }
    // Under the lock: still the same file, under the same name.
    let locked = rustix::fs::fstat(&held.fd).map_err(|errno| CommitError::refused("look at", path, errno))?;
    let same = |stat: &Stat| {
        (stat.st_dev, stat.st_ino) == (old.st_dev, old.st_ino) && (kind == Replacing::Forced || stat.st_size == 0)
    };
    let named = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    if !same(&locked) || !named.is_ok_and(|stat| same(&stat)) {
        return Ok(Swapped::Again);
    }

    if kind == Replacing::Forced && !destination.has_no_sidecar() {
        // The time of its last change is to survive a power failure: `sweep` goes by it. Where that
        // fails, the sidecars may not be put back by themselves, but they are not lost.
        let _ = uninterrupted(|| rustix::fs::fsync(&held.fd));
    }
    let exchange = Exchange::of(kind, Some(&locked), &new.stat()?);
    new.rename(|| TempName::replacing(name, exchange))?;
    let mut aside = Aside::default();
    if kind == Replacing::Forced {
        aside.move_from(new)?;
    }
    let temp = temp_of(new)?;
    let refused = |errno| CommitError::refused("replace", path, errno);
    new.output().fault(Step::Publish).map_err(refused)?;
    match rustix::fs::renameat_with(dir, &temp, dir, name, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::renameat(dir, &temp, dir, name).map_err(refused)?;
            new.forget_name();
            return Ok(Swapped::Done(Replaced { names: aside.keep(), _held: Some(held) }));
        }
        Err(Errno::NOENT) => return Ok(Swapped::Again),
        Err(errno) => return Err(refused(errno)),
    }
    let exchanged = rustix::fs::statat(dir, &temp, AtFlags::SYMLINK_NOFOLLOW);
    if !exchanged.is_ok_and(|stat| same(&stat)) {
        rustix::fs::renameat_with(dir, &temp, dir, name, RenameFlags::EXCHANGE).map_err(|errno| {
            // What was there stands under the temporary name now: it must not be deleted, and its
            // sidecars must not come to stand beside the new file.
            new.forget_name();
            aside.keep();
            CommitError::refused("put back what stood at", path, errno)
        })?;
        return Ok(Swapped::Again);
    }
    new.forget_name();
    let mut names = aside.keep();
    names.push(temp);
    Ok(Swapped::Done(Replaced { names, _held: Some(held) }))
}

/// Publishes `new` where no database stands but sidecars do, which `-force` takes away.
pub(super) fn publish_beside_sidecars(new: &mut StagedFile) -> Result<Swapped, CommitError> {
    let destination = new.destination().clone();
    let (dir, name, path) = (destination.dir(), destination.name(), destination.path());
    let exchange = Exchange::of(Replacing::Forced, None, &new.stat()?);
    new.rename(|| TempName::replacing(name, exchange))?;
    let mut aside = Aside::default();
    aside.move_from(new)?;
    let temp = temp_of(new)?;
    match new.output().fault(Step::Publish).and_then(|_| rename_to_absent(dir, &temp, name)) {
        Ok(()) => {
            new.forget_name();
            Ok(Swapped::Done(Replaced { names: aside.keep(), _held: None }))
        }
        Err(Errno::EXIST) => Ok(Swapped::Again),
        Err(errno) => Err(CommitError::refused("publish", path, errno)),
    }
}

fn temp_of(new: &StagedFile) -> Result<OsString, CommitError> {
    let temp = new.temp().map(|temp| temp.as_os_str().to_owned());
    temp.ok_or_else(|| CommitError::refused("name the new file beside", new.output().path(), Errno::NOENT))
}

/// Sidecars moved aside. Dropped, they are put back.
#[derive(Default)]
struct Aside {
    /// Where they are, where they belong.
    moved: Vec<(OsString, OsString)>,
    destination: Option<std::sync::Arc<crate::commit::Destination>>,
}

impl Aside {
    fn move_from(&mut self, new: &StagedFile) -> Result<(), CommitError> {
        let destination = new.destination();
        let temp = temp_of(new)?;
        self.destination = Some(destination.clone());
        for suffix in MOVE_ORDER {
            let (place, aside) = (suffixed(destination.name(), suffix), suffixed(&temp, suffix));
            let moved =
                new.output().fault(Step::Publish).and_then(|_| rename_to_absent(destination.dir(), &place, &aside));
            match moved {
                Ok(()) => self.moved.push((aside, place)),
                Err(Errno::NOENT | Errno::NAMETOOLONG) => {}
                Err(errno) => {
                    let path = suffixed(destination.path().as_os_str(), suffix);
                    return Err(CommitError::refused("move aside", path.as_ref(), errno));
                }
            }
        }
        Ok(())
    }

    /// They stay where they are; their names.
    fn keep(&mut self) -> Vec<OsString> {
        std::mem::take(&mut self.moved).into_iter().map(|(aside, _)| aside).collect()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(destination) = &self.destination {
            for (aside, place) in self.moved.iter().rev() {
                let _ = rename_to_absent(destination.dir(), aside, place);
            }
        }
    }
}
