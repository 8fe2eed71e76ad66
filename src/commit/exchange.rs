//! The new file takes the place of the file at the destination: an empty file, or with `-force` a database and
//! its sidecars.
//!
//! The steps, in this order:
//! 1. Lock the old file (SQLite's locks and a flock), and check that it is still the file that was chosen.
//! 2. Give the new file a temporary name that holds both inode numbers and the old file's last change. Sync it
//!    under that name if its file system needs that (`journal`).
//! 3. Move the old sidecars aside, to that name and their suffixes: -shm, -journal, -wal.
//! 4. Exchange the two files. The old file and its sidecars are now under the temporary name.
//! 5. After the directory was synced: delete the old sidecars, then the old file.
//!
//! If the process is killed before step 4, the next `sweep` puts the sidecars back; after step 4, it deletes the
//! old files. Killed between 3 and 4, the old file is without its sidecars until that sweep, and a program that
//! opens it does not see what only the sidecars hold. No order of steps avoids that: no system call renames
//! several names at once, and a -wal beside the new file would damage the new file. The window is kept short: step
//! 4 follows step 3 at once, nothing is synced in between, and the -wal is moved last
//! (docs/ARCHITECTURE.md, "Interrupted runs").
//!
//! Without RENAME_EXCHANGE (NFS, some FUSE file systems, a sandbox that refuses it) step 4 is a rename that replaces. It is still atomic, but
//! data written to an empty file in the instant before it are lost.

use crate::commit::in_use::{self, DatabaseLock};
use crate::commit::sidecars::{MOVE_ORDER, suffixed};
use crate::commit::temp_name::{Exchange, Replacing, TempName};
use crate::commit::{CommitError, StagedFile, rename};
use crate::io::{Step, uninterrupted};
use rustix::fs::{AtFlags, FlockOperation, RenameFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::time::Duration;

/// The pause before another look at a file that another restore has locked.
const LOCKED_PAUSE: Duration = Duration::from_millis(5);

/// The result of an attempt to publish.
pub(super) enum Attempt {
    Done(Replaced),
    /// The destination changed in the meantime: look at it again.
    Again,
}

/// The replaced files. They are deleted once the new name is durable.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// Names in the destination's directory, in the order in which they are deleted.
    pub(super) names: Vec<OsString>,
    /// Keeps other runs from sweeping the old file before that.
    pub(super) _held: Option<DatabaseLock>,
}

/// Exchanges `new` with `old`, the file that was found at its destination.
pub(super) fn replace(new: &mut StagedFile, old: &Stat, kind: Replacing) -> Result<Attempt, CommitError> {
    let destination = new.destination().clone();
    let (dir, name, path) = (destination.dir(), destination.name(), destination.path());
    let held = match in_use::hold(dir, name, path) {
        Err(CommitError::Refused { errno: Errno::NOENT, .. }) => return Ok(Attempt::Again),
        result => result?,
    };
    if rustix::fs::flock(&held.fd, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        // Another restore is about to replace this file or has just published it. A child of that process also
        // holds the lock between its fork and its exec.
        std::thread::sleep(LOCKED_PAUSE);
        return Ok(Attempt::Again);
    }
    // The database was looked at before it was locked. Check, with the lock held, that the same file is
    // still at the destination: another program may have replaced it in between.
    let locked = rustix::fs::fstat(&held.fd).map_err(|errno| CommitError::refused("look at", path, errno))?;
    let same = |stat: &Stat| {
        (stat.st_dev, stat.st_ino) == (old.st_dev, old.st_ino) && (kind == Replacing::Forced || stat.st_size == 0)
    };
    let named = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    if !same(&locked) || !named.is_ok_and(|stat| same(&stat)) {
        return Ok(Attempt::Again);
    }

    if kind == Replacing::Forced && !destination.has_no_sidecar() {
        // Makes the time of the last change durable: `sweep` compares it. If the sync fails, a sweep after a power
        // failure may leave the sidecars under their temporary names; they are not lost.
        let _ = uninterrupted(|| rustix::fs::fsync(&held.fd));
    }
    let exchange = Exchange::of(kind, Some(&locked), &new.stat()?);
    new.rename(|| TempName::replacing(name, exchange))?;
    let mut aside = MovedAside::default();
    if kind == Replacing::Forced {
        aside.move_from(new)?;
    }
    let temp = temp_of(new)?;
    let refused = |errno| CommitError::refused("replace", path, errno);
    new.output().fault(Step::Publish).map_err(refused)?;
    match rustix::fs::renameat_with(dir, &temp, dir, name, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(errno) if rename::is_no_way(errno) => {
            rustix::fs::renameat(dir, &temp, dir, name).map_err(refused)?;
            new.forget_name();
            return Ok(Attempt::Done(Replaced { names: aside.keep(), _held: Some(held) }));
        }
        Err(Errno::NOENT) => return Ok(Attempt::Again),
        Err(errno) => return Err(refused(errno)),
    }
    let exchanged = rustix::fs::statat(dir, &temp, AtFlags::SYMLINK_NOFOLLOW);
    if !exchanged.is_ok_and(|stat| same(&stat)) {
        rustix::fs::renameat_with(dir, &temp, dir, name, RenameFlags::EXCHANGE).map_err(|errno| {
            // The other program's file is under the temporary name now. It must not be deleted, and the old
            // sidecars must not be put beside the new file.
            new.forget_name();
            aside.keep();
            CommitError::refused("put back what stood at", path, errno)
        })?;
        return Ok(Attempt::Again);
    }
    new.forget_name();
    let mut names = aside.keep();
    names.push(temp);
    Ok(Attempt::Done(Replaced { names, _held: Some(held) }))
}

/// Publishes `new` where there are sidecars but no database. `-force` removes the sidecars.
pub(super) fn publish_beside_sidecars(new: &mut StagedFile) -> Result<Attempt, CommitError> {
    let destination = new.destination().clone();
    let (dir, name, path) = (destination.dir(), destination.name(), destination.path());
    let exchange = Exchange::of(Replacing::Forced, None, &new.stat()?);
    new.rename(|| TempName::replacing(name, exchange))?;
    let mut aside = MovedAside::default();
    aside.move_from(new)?;
    let temp = temp_of(new)?;
    let step = || new.output().fault(Step::Publish).map(drop);
    match rename::to_absent(dir, &temp, name, &step) {
        Ok(()) => {
            new.forget_name();
            Ok(Attempt::Done(Replaced { names: aside.keep(), _held: None }))
        }
        Err(Errno::EXIST) => Ok(Attempt::Again),
        Err(errno) => Err(CommitError::refused("publish", path, errno)),
    }
}

/// The temporary name of `new`.
fn temp_of(new: &StagedFile) -> Result<OsString, CommitError> {
    let temp = new.temp().map(|temp| temp.as_os_str().to_owned());
    let path = new.output().path();
    temp.ok_or_else(|| CommitError::Internal { what: "the new file has no temporary name", path: path.to_owned() })
}

/// Sidecars that were moved aside. Drop puts them back.
#[derive(Default)]
struct MovedAside {
    /// Pairs of names: the one under which a sidecar is now, and its own.
    moved: Vec<(OsString, OsString)>,
    destination: Option<std::sync::Arc<crate::commit::Destination>>,
}

impl MovedAside {
    fn move_from(&mut self, new: &StagedFile) -> Result<(), CommitError> {
        let destination = new.destination();
        let temp = temp_of(new)?;
        self.destination = Some(destination.clone());
        for suffix in MOVE_ORDER {
            let (place, aside) = (suffixed(destination.name(), suffix), suffixed(&temp, suffix));
            let step = || new.output().fault(Step::Publish).map(drop);
            match rename::to_random(destination.dir(), &place, &aside, &step) {
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

    /// Leaves the sidecars where they are. Returns their present names.
    fn keep(&mut self) -> Vec<OsString> {
        std::mem::take(&mut self.moved).into_iter().map(|(aside, _)| aside).collect()
    }
}

impl Drop for MovedAside {
    fn drop(&mut self) {
        if let Some(destination) = &self.destination {
            for (aside, place) in self.moved.iter().rev() {
                let _ = rename::to_absent(destination.dir(), aside, place, &|| Ok(()));
            }
        }
    }
}
