//! Replaces the existing file at the destination with the new one. The existing file is either empty, or a
//! database with its sidecars (-wal, -shm, -journal) that `-force` permits to replace.
//!
//! The steps, in this order:
//! 1. Lock the old file (with SQLite's locks and with flock), and check that it is still the file that was
//!    chosen.
//! 2. Give the new file a temporary name that contains both inode numbers and the old file's modification time.
//!    Sync it under that name if its file system needs that (`journal`).
//! 3. Rename each old sidecar to that temporary name plus the sidecar's suffix: -shm, -journal, then -wal.
//! 4. Exchange the names of the two files with RENAME_EXCHANGE. The old file and its sidecars now have the
//!    temporary name.
//! 5. Sync the directory. Then delete the old sidecars, and last the old file.
//!
//! If the process is killed before step 4, the next clean-up (`sweep`) puts the sidecars back. If it is killed
//! after step 4, the clean-up deletes the old files. Between steps 3 and 4 the old database is without its
//! sidecars. A program that opens it then misses the transactions that only the -wal or -journal holds. No
//! order of steps avoids that: no system call renames several files at once, and an old -wal beside the new
//! database would corrupt it. The time between 3 and 4 is therefore kept short: nothing is synced in it, and
//! the -wal is moved last (docs/ARCHITECTURE.md, "Interrupted runs").
//!
//! NFS and some FUSE file systems do not offer RENAME_EXCHANGE. Step 4 is then a plain rename. It is still
//! atomic, but if another program writes to an empty old file in the instant before the rename, that data is
//! lost.

use crate::commit::in_use::{self, DatabaseLock};
use crate::commit::sidecars::{MOVE_ORDER, suffixed};
use crate::commit::temp_name::{Exchange, Replacing, TempName};
use crate::commit::{CommitError, StagedFile, rename};
use crate::io::{Step, uninterrupted};
use rustix::fs::{AtFlags, FlockOperation, RenameFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::time::Duration;

/// Pause before the next attempt if another restore has locked the file.
const LOCKED_PAUSE: Duration = Duration::from_millis(5);

/// Result of one attempt to publish the new file.
pub(super) enum Attempt {
    /// The new file has its final name. The old files are still there under temporary names.
    Done(Replaced),
    /// Another program changed the destination during the attempt. The caller must look at it again.
    Again,
}

/// The old files that were replaced. They are deleted once the directory with the new name is synced.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// Names of the old files in the destination's directory, in the order in which they are deleted.
    pub(super) names: Vec<OsString>,
    /// Lock on the old file. It keeps other runs from cleaning up the old file before the new name is durable.
    pub(super) _held: Option<DatabaseLock>,
}

/// Exchanges the new file `new` with the file at its destination. `old` is the metadata of the file that was
/// there when the caller looked.
pub(super) fn replace(new: &mut StagedFile, old: &Stat, kind: Replacing) -> Result<Attempt, CommitError> {
    let destination = new.destination().clone();
    let (dir, name, path) = (destination.dir(), destination.name(), destination.path());
    let held = match in_use::hold(dir, name, path) {
        Err(CommitError::Refused { errno: Errno::NOENT, .. }) => return Ok(Attempt::Again),
        result => result?,
    };
    if rustix::fs::flock(&held.fd, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        // Another restore holds the lock: it is about to replace this file or has just published it. The lock
        // can also be held for a moment by a child process of that restore, between fork and exec.
        std::thread::sleep(LOCKED_PAUSE);
        return Ok(Attempt::Again);
    }
    // The caller looked at the file before it was locked. Check again under the lock that the same file is
    // still at the destination, because another program may have replaced it in between.
    let locked = rustix::fs::fstat(&held.fd).map_err(|errno| CommitError::refused("look at", path, errno))?;
    let same = |stat: &Stat| {
        (stat.st_dev, stat.st_ino) == (old.st_dev, old.st_ino) && (kind == Replacing::Forced || stat.st_size == 0)
    };
    let named = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    if !same(&locked) || !named.is_ok_and(|stat| same(&stat)) {
        return Ok(Attempt::Again);
    }

    if kind == Replacing::Forced && !destination.has_no_sidecar() {
        // The fsync makes the old file's modification time durable, because a later clean-up (`sweep`) compares
        // it. If the fsync fails and the power fails too, that clean-up may leave the sidecars under their
        // temporary names. Their data is still there.
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
            // The other program's file has the temporary name now, so that name must not be deleted. The old
            // sidecars belong to neither file at the destination, so they are left aside.
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

/// Publishes the new file where the destination has sidecars but no database. The sidecars belonged to a
/// deleted database. `-force` permits to remove them.
pub(super) fn publish_beside_sidecars(new: &mut StagedFile) -> Result<Attempt, CommitError> {
    let destination = new.destination().clone();
    let (dir, name, path) = (destination.dir(), destination.name(), destination.path());
    let exchange = Exchange::of(Replacing::Forced, None, &new.stat()?);
    new.rename(|| TempName::replacing(name, exchange))?;
    let mut aside = MovedAside::default();
    aside.move_from(new)?;
    let temp = temp_of(new)?;
    let step = || new.output().fault(Step::Publish).map(drop);
    let renamed = match new.is_copied() {
        true => rename::after_look(dir, &temp, name, &step),
        false => rename::to_absent(dir, &temp, name, &step),
    };
    match renamed {
        Ok(()) => {
            new.forget_name();
            Ok(Attempt::Done(Replaced { names: aside.keep(), _held: None }))
        }
        Err(Errno::EXIST) => Ok(Attempt::Again),
        Err(errno) => Err(CommitError::refused("publish", path, errno)),
    }
}

/// Returns the temporary name of the new file. It is a bug if the file has none here.
fn temp_of(new: &StagedFile) -> Result<OsString, CommitError> {
    let temp = new.temp().map(|temp| temp.as_os_str().to_owned());
    let path = new.output().path();
    temp.ok_or_else(|| CommitError::Internal { what: "the new file has no temporary name", path: path.to_owned() })
}

/// Sidecars that were renamed to temporary names. Dropping this value renames them back, so that a failed
/// attempt leaves the old database complete.
#[derive(Default)]
struct MovedAside {
    /// For each sidecar: its temporary name, then its original name.
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
            match rename::after_look(destination.dir(), &place, &aside, &step) {
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

    /// Keeps the sidecars under their temporary names, so that dropping this value does not put them back.
    /// Returns these names.
    fn keep(&mut self) -> Vec<OsString> {
        std::mem::take(&mut self.moved).into_iter().map(|(aside, _)| aside).collect()
    }
}

impl Drop for MovedAside {
    fn drop(&mut self) {
        if let Some(destination) = &self.destination {
            for (aside, place) in self.moved.iter().rev() {
                let _ = rename::back(destination.dir(), aside, place, &|| Ok(()));
            }
        }
    }
}
