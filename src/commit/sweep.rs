//! Sweep: the clean-up of files that killed runs left under temporary names (`temp_name`). A sweep runs before
//! every decision that depends on which file is at a destination (docs/ARCHITECTURE.md, "Interrupted runs").
//!
//! This table says what a sweep does after a run with `-force` was killed. "Exchange" is the step that gives
//! the new file the destination's name and the old file the temporary name.
//!
//! | the run was killed | file at the destination | the sweep |
//! |---|---|---|
//! | before the exchange | the old file | puts the old sidecars back, deletes the new file |
//! | after the exchange | the new file | deletes the old file and its sidecars |
//! | after the exchange, and the new file was deleted since | none | leaves the old file and its sidecars |
//! | before the exchange, and another program changed the destination since | a third file, or none | leaves the old sidecars |
//!
//! After a kill before the exchange, a program may have opened the old database without its sidecars. They are
//! put back only if the database is unchanged, no process uses it, and no other sidecar with content has their
//! name. Otherwise they stay under their temporary names, and a notice tells the operator.
//!
//! A live run holds a flock on each file under a temporary name that it works on. A sweep touches only files
//! that nobody has locked.

use crate::commit::CommitError;
use crate::commit::in_use::{self, DatabaseLock};
use crate::commit::notice::{Notice, Why};
use crate::commit::parents::{self, DirectoryId};
use crate::commit::rename;
use crate::commit::sidecars::{MOVE_ORDER, SIDECARS, suffixed};
use crate::commit::temp_name::{Exchange, LONGEST_STEM, ParsedName, Replacing, modified, parse};
use crate::io::{Step, fault_at};
use crate::process::locks::lock;
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// When this many swept directories are remembered, all are forgotten and swept again, which bounds memory.
const MOST_REMEMBERED: usize = 1 << 16;
/// Maximum number of attempts to lock a database whose sidecars are to be put back.
const TRIES: usize = 20;
/// Pause between two attempts to lock a database whose sidecars are to be put back.
const LOCKED_PAUSE: Duration = Duration::from_millis(5);

/// Directories that this run has swept. The value says whether the sweep knew, for every temporary name, the
/// database it belongs to. Temporary names contain long names only as a hash, so a sweep recognises a long name
/// only if it is the caller's own. A later caller with a long name may have to sweep again.
#[derive(Debug, Default)]
pub(super) struct SweptDirectories(Mutex<HashMap<DirectoryId, Arc<OnceLock<bool>>>>);

impl SweptDirectories {
    /// Cleans up what killed runs left in the directory of `output`, once per run and directory. Returns notices for
    /// the operator ([`crate::commit::CommitContext::sweep_beside`]).
    pub(super) fn sweep_beside(&self, output: &Path) -> Vec<Notice> {
        let parent = parents::directory_of(output);
        match (parents::open(&parent), output.file_name()) {
            (Ok(fd), Some(name)) => self.sweep(fd.as_fd(), parents::id_of(&fd), &parent, name),
            _ => Vec::new(),
        }
    }

    /// Cleans up what killed runs left in the open directory `dir`, once per run and directory. `path` is the
    /// directory's path, and `own` the file name of the caller's output in it.
    pub(super) fn sweep(&self, dir: BorrowedFd<'_>, id: Option<DirectoryId>, path: &Path, own: &OsStr) -> Vec<Notice> {
        let Some(id) = id else { return Vec::new() };
        let done = {
            let mut swept = lock(&self.0);
            if swept.len() >= MOST_REMEMBERED {
                swept.clear();
            }
            Arc::clone(swept.entry(id).or_default())
        };
        let mut found = None;
        let all_told = *done.get_or_init(|| {
            let (notices, all_told) = sweep_directory(dir, path, own);
            found = Some(notices);
            all_told
        });
        match found {
            Some(notices) => notices,
            // The first sweep left a file because it did not know the database it belongs to. That database may
            // be `own`.
            None if !all_told && own.len() >= LONGEST_STEM => sweep_directory(dir, path, own).0,
            None => Vec::new(),
        }
    }
}

/// Sweeps the directory `dir` without remembering it. Also returns whether the original name of every temporary
/// name was found. Temporary names contain a long name only as a hash, which is recognised only if the name is
/// `own`.
fn sweep_directory(dir: BorrowedFd<'_>, path: &Path, own: &OsStr) -> (Vec<Notice>, bool) {
    let mut sweep = Sweep { dir, path, own, notices: Vec::new(), all_told: true };
    let Ok(entries) = Dir::read_from(dir) else { return (Vec::new(), true) };
    let mut seen = BTreeSet::new();
    for entry in entries.flatten() {
        if let Some(parsed) = parse(entry.file_name().to_bytes())
            && seen.insert(parsed.base.clone())
        {
            sweep.put_right(&parsed);
        }
    }
    (sweep.notices, sweep.all_told)
}

/// Whether something stands at `output`, for `-if-db-not-exists`. True for an empty file, unless it is the placeholder
/// of another restore that has not ended. A dangling symbolic link does not count. To be called after a sweep.
pub fn stands_at(output: &Path) -> bool {
    let Ok(there) = output.metadata() else { return false };
    there.len() > 0 || !there.is_file() || !has_placeholder(output)
}

/// Whether a temporary name beside `output` says that an empty file there is a placeholder.
fn has_placeholder(output: &Path) -> bool {
    let (Ok(dir), Some(own)) = (parents::open(&parents::directory_of(output)), output.file_name()) else {
        return false;
    };
    let Ok(entries) = Dir::read_from(&dir) else { return false };
    entries.flatten().filter_map(|entry| parse(entry.file_name().to_bytes())).any(|parsed| {
        let names_it = parsed.exchange.is_some_and(|exchange| exchange.old == 0 && exchange.more.is_some());
        names_it && parsed.original(own).as_deref() == Some(own)
    })
}

struct Sweep<'a> {
    dir: BorrowedFd<'a>,
    path: &'a Path,
    own: &'a OsStr,
    notices: Vec<Notice>,
    all_told: bool,
}

/// A sidecar (-wal, -shm or -journal) that an earlier run renamed to a temporary name.
struct AsideSidecar {
    name: OsString,
    suffix: &'static str,
    stat: Stat,
}

impl AsideSidecar {
    /// Returns whether the sidecar can be deleted without losing data: it is empty, or it is a -shm, which
    /// SQLite rebuilds from the -wal.
    fn holds_nothing(&self) -> bool {
        self.suffix == "-shm" || self.stat.st_size == 0
    }
}

impl Sweep<'_> {
    fn put_right(&mut self, leftover: &ParsedName) {
        let base = leftover.base.as_os_str();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(self.dir, base, flags, Mode::empty()) {
            Ok(fd) => Some(fd),
            Err(Errno::NOENT) => None,
            Err(_) => return,
        };
        let there = match &file {
            None => None,
            Some(fd) => match locked(fd) {
                Some(stat) => Some(stat),
                None => return,
            },
        };
        let Some(exchange) = leftover.exchange else {
            self.unlink(base);
            return;
        };
        let Some(name) = leftover.original(self.own) else {
            self.all_told = false;
            return;
        };
        let standing = match self.look_at(&name) {
            Ok(stat) if there.is_some() && exchange.is_placeholder(&stat) => {
                match self.remove_placeholder(&name, stat.st_ino) {
                    Ok(true) => None,
                    Ok(false) => Some(stat.st_ino),
                    // The new file stays too: its name tells the next sweep.
                    Err(_) => return,
                }
            }
            Ok(stat) => Some(stat.st_ino),
            Err(Errno::NOENT) => None,
            Err(_) => return,
        };
        let is_old = |stat: &Stat| exchange.old != 0 && stat.st_ino == exchange.old;
        let old_is_aside = there.as_ref().is_some_and(is_old);
        match &there {
            // The destination's file was empty when the run chose it. It has data now, which another program
            // wrote.
            Some(stat) if old_is_aside && exchange.kind == Replacing::Empty && stat.st_size > 0 => {
                self.undo_exchange(&name, base, &exchange, standing);
                return;
            }
            // The file under the temporary name is neither the old nor the new one: another program put it at
            // the destination just before the exchange.
            Some(stat) if !old_is_aside && !exchange.is_new(stat.st_ino) => {
                self.undo_exchange(&name, base, &exchange, standing);
                return;
            }
            _ => {}
        }
        let is_resolved = match (exchange.kind, standing) {
            (Replacing::Empty, _) => true,
            (Replacing::Forced, standing) if standing.unwrap_or(0) == exchange.old => {
                self.put_sidecars_back(&name, base, &exchange)
            }
            (Replacing::Forced, Some(_)) if old_is_aside => self.delete_sidecars(base),
            (Replacing::Forced, Some(inode)) if exchange.is_new(inode) => self.delete_sidecars(base),
            // The new file was deleted after the exchange. The old file is the only copy of its data.
            (Replacing::Forced, None) if old_is_aside => {
                let files = self.aside(base).into_iter().map(|aside| aside.name);
                let files = std::iter::once(base.to_owned()).chain(files).collect();
                self.keep(&name, files, Why::NewIsLost);
                return;
            }
            (Replacing::Forced, _) => self.keep_sidecars(&name, base, Why::Another),
        };
        let Some(stat) = &there else { return };
        if is_resolved {
            self.unlink(base);
        } else if !old_is_aside && exchange.is_new(stat.st_ino) && standing != Some(stat.st_ino) && stat.st_nlink == 1 {
            self.empty(base);
        }
    }

    /// Removes the placeholder at `name`. Returns false if a program has written to it since.
    fn remove_placeholder(&self, name: &OsStr, inode: u64) -> Result<bool, Why> {
        let held = self.hold(name, inode)?;
        match rustix::fs::fstat(&held.fd) {
            Ok(stat) if stat.st_size == 0 => {
                let removed = self.step().and_then(|()| rustix::fs::unlinkat(self.dir, name, AtFlags::empty()));
                removed.map(|()| true).map_err(Why::Refused)
            }
            Ok(_) => Ok(false),
            Err(errno) => Err(Why::Refused(errno)),
        }
    }

    /// Puts the file under the temporary name `base` back to `name`, if the new file is there or nothing is.
    fn undo_exchange(&mut self, name: &OsStr, base: &OsStr, exchange: &Exchange, standing: Option<u64>) {
        let back = match standing {
            None => self.rename(base, name).map_err(Why::Refused),
            Some(inode) if exchange.is_new(inode) => self.exchange_back(name, base, inode),
            Some(_) => Err(Why::Another),
        };
        match back.and_then(|()| parents::sync(self.dir).map_err(Why::Refused)) {
            Ok(()) => {
                if standing.is_some() {
                    self.unlink(base);
                }
                self.notices.push(Notice::FilePutBack { path: self.path.join(name) });
            }
            Err(why) => self.keep(name, vec![base.to_owned()], why),
        }
        if exchange.kind == Replacing::Forced {
            self.keep_sidecars(name, base, Why::Another);
        }
    }

    /// Exchanges the new file at `name` with the file that it replaced, unless a program already uses the new
    /// file.
    fn exchange_back(&self, name: &OsStr, base: &OsStr, inode: u64) -> Result<(), Why> {
        let _held = self.hold(name, inode)?;
        if SIDECARS.iter().any(|suffix| self.look_at(&suffixed(name, suffix)).is_ok()) {
            return Err(Why::Occupied);
        }
        self.step()
            .and_then(|()| rustix::fs::renameat_with(self.dir, base, self.dir, name, RenameFlags::EXCHANGE))
            .map_err(Why::Refused)
    }

    /// Puts the sidecars of a run that was killed before the exchange back. Returns whether no sidecar with
    /// content has a temporary name any more.
    fn put_sidecars_back(&mut self, name: &OsStr, base: &OsStr, exchange: &Exchange) -> bool {
        let aside = self.aside(base);
        if aside.is_empty() {
            return true;
        }
        // The lock is held until all sidecars are back. No program can then open the database with only some of
        // them, and no other sweep works on it.
        let held = match exchange.old {
            0 => Ok(None),
            old => self.hold(name, old).map(Some),
        };
        let held = match held {
            Ok(held) => held,
            Err(why) => return self.keep_sidecars(name, base, why),
        };
        let stat = held.as_ref().map(|held| rustix::fs::fstat(&held.fd));
        let is_unchanged = |aside: &AsideSidecar| match (&stat, exchange.more) {
            (None, _) => true,
            (Some(Ok(stat)), Some(more)) => modified(stat) == more.modified,
            // A rename sets the ctime, so the sidecar's ctime is the time when it was moved aside.
            (Some(Ok(stat)), None) => {
                (stat.st_mtime, stat.st_mtime_nsec) <= (aside.stat.st_ctime, aside.stat.st_ctime_nsec)
            }
            (Some(Err(_)), _) => false,
        };
        let (mut back, mut kept) = (Vec::new(), Vec::new());
        for aside in aside {
            match self.put_back(name, &aside, is_unchanged(&aside)) {
                Ok(true) if !aside.holds_nothing() => back.push(self.path.join(suffixed(name, aside.suffix))),
                Ok(_) => {}
                Err(why) => kept.push((aside.name, why)),
            }
        }
        let synced = parents::sync(self.dir);
        if !back.is_empty() {
            self.notices.push(Notice::PutBack { database: self.path.join(name), files: back });
        }
        let why = kept.first().map(|(_, why)| *why);
        if let Some(why) = why {
            self.keep(name, kept.into_iter().map(|(name, _)| name).collect(), why);
        }
        why.is_none() && synced.is_ok()
    }

    /// Puts one sidecar back and returns true. If it holds no data, deletes it and returns false.
    fn put_back(&self, name: &OsStr, aside: &AsideSidecar, is_unchanged: bool) -> Result<bool, Why> {
        let place = suffixed(name, aside.suffix);
        let there = match self.look_at(&place) {
            Ok(there) => Some(there),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(Why::Refused(errno)),
        };
        // The earlier run moved the sidecar with link and unlink, and was killed between the two, so the file
        // has both names.
        let is_same = there.is_some_and(|there| there.st_ino == aside.stat.st_ino);
        if is_same || aside.holds_nothing() && (there.is_some() || !is_unchanged) {
            self.unlink(&aside.name);
            return Ok(false);
        }
        match there {
            _ if !is_unchanged => return Err(Why::Changed),
            // A program that only reads the database leaves an empty sidecar, which can be deleted.
            Some(there) if there.st_size == 0 && is_regular(&there) => self.unlink(&place),
            Some(_) => return Err(Why::Occupied),
            None => {}
        }
        self.rename(&aside.name, &place).map(|()| true).map_err(|errno| match errno {
            Errno::EXIST => Why::Occupied,
            errno => Why::Refused(errno),
        })
    }

    /// Locks the database at `name` with SQLite's locks and with flock. Fails if the file's inode is not
    /// `inode`.
    fn hold(&self, name: &OsStr, inode: u64) -> Result<DatabaseLock, Why> {
        let held = in_use::hold(self.dir, name, &self.path.join(name)).map_err(|error| match error {
            CommitError::InUse { pid, .. } => Why::InUse { pid },
            CommitError::Refused { errno, .. } => Why::Refused(errno),
            _ => Why::Refused(Errno::IO),
        })?;
        for tries_left in (0..TRIES).rev() {
            match rustix::fs::flock(&held.fd, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if tries_left == 0 => return Err(Why::InUse { pid: None }),
                // The lock is held by another sweep, or by a child of this process between fork and exec.
                Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCKED_PAUSE),
                _ => break,
            }
        }
        match rustix::fs::fstat(&held.fd) {
            Ok(stat) if stat.st_ino == inode => Ok(held),
            Ok(_) => Err(Why::Another),
            Err(errno) => Err(Why::Refused(errno)),
        }
    }

    /// Deletes the old sidecars of a run that was killed after the exchange. Syncs the directory first, so that
    /// the exchange is durable. Returns false if the sync failed and nothing was deleted.
    fn delete_sidecars(&mut self, base: &OsStr) -> bool {
        if self.step().and_then(|()| parents::sync(self.dir)).is_err() {
            return false;
        }
        self.aside(base).iter().for_each(|aside| self.unlink(&aside.name));
        true
    }

    /// Leaves sidecars that have content under their temporary names, and adds a notice. Returns true if there
    /// are none.
    fn keep_sidecars(&mut self, name: &OsStr, base: &OsStr, why: Why) -> bool {
        let (empty, kept): (Vec<_>, Vec<_>) = self.aside(base).into_iter().partition(AsideSidecar::holds_nothing);
        if why == Why::Another {
            empty.iter().for_each(|aside| self.unlink(&aside.name));
        }
        if kept.is_empty() {
            return true;
        }
        self.keep(name, kept.into_iter().map(|aside| aside.name).collect(), why);
        false
    }

    /// Leaves `files` where they are, and adds a notice for the operator.
    fn keep(&mut self, name: &OsStr, files: Vec<OsString>, why: Why) {
        let files = files.into_iter().map(|file| self.path.join(file)).collect();
        self.notices.push(Notice::Kept { database: self.path.join(name), files, why });
    }

    /// Returns the sidecars that have the temporary name `base` plus a suffix: the -wal first, the -shm last.
    fn aside(&self, base: &OsStr) -> Vec<AsideSidecar> {
        let look = |suffix| {
            let name = suffixed(base, suffix);
            self.look_at(&name).ok().map(|stat| AsideSidecar { name, suffix, stat })
        };
        MOVE_ORDER.into_iter().rev().filter_map(look).collect()
    }

    fn look_at(&self, name: &OsStr) -> Result<Stat, Errno> {
        rustix::fs::statat(self.dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
        rename::back(self.dir, from, to, &|| self.step())
    }

    /// Deletes a file. If that fails, the file stays: it does no harm, and the next run tries again.
    fn unlink(&self, name: &OsStr) {
        if self.step().is_ok() {
            let _ = rustix::fs::unlinkat(self.dir, name, AtFlags::empty());
        }
    }

    /// Truncates the new file to 0 bytes but does not delete it. Its inode number is part of the temporary
    /// names of the sidecars that stay, so no other file may get this number.
    fn empty(&self, base: &OsStr) {
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let _ = rustix::fs::openat(self.dir, base, flags, Mode::empty());
    }

    /// Tests can inject an error or a SIGKILL here. Called before each step of a sweep that changes files.
    fn step(&self) -> Result<(), Errno> {
        fault_at(&self.path.join(self.own), Step::Publish).map(drop)
    }
}

/// Locks a file that has a temporary name. Returns None if a live run holds its lock, if it is not a regular
/// file, or if its name is gone.
fn locked(fd: &OwnedFd) -> Option<Stat> {
    rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive).ok()?;
    let stat = rustix::fs::fstat(fd).ok()?;
    (is_regular(&stat) && stat.st_nlink > 0).then_some(stat)
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}
