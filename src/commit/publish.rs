//! Publication of an output: the new file gets its final name. A new name is made by a link, which cannot
//! replace a file. An existing file is exchanged, so that it still exists if something fails.

use super::destination::Standing;
use super::parents::DirectoryId;
use super::temp_name::{Exchange, Replacing, TempName};
use super::{CommitError, Destination, Replace, StagedFile, rename};
use crate::commit::exchange::{self, Attempt, Replaced};
use crate::commit::sys::sync_inode;
use crate::io::{OutputFile, Step};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum number of attempts to publish at a destination that other programs keep changing.
const TRIES: usize = 8;
/// Number of threads that sync the inodes of a batch of files. 2, 8 and 16 threads take equally long
/// (docs/decisions/09-unnamed-files.md).
const INODE_THREADS: usize = 4;
/// Minimum number of inodes per thread. Fewer are not worth starting a thread.
const FEWEST_INODES: usize = 8;

/// A file that has its final name. The name can still be lost in a power failure until [`Self::sync_dir`] has
/// ended.
#[derive(Debug)]
#[must_use = "the name is not durable before sync_dir"]
pub struct PublishedFile {
    output: Arc<OutputFile>,
    /// Whether the inode must be synced once more, because the file got its name after its fsync (`journal`).
    is_named_late: bool,
    replaced: Replaced,
    destination: Arc<Destination>,
}

impl PublishedFile {
    /// Path of the output file, for messages, exactly as the caller gave it.
    pub fn path(&self) -> &Path {
        self.destination.path()
    }

    /// Makes the file's name and the names of newly created parent directories durable. Then deletes the file
    /// that the new one replaced.
    ///
    /// # Errors
    /// [`CommitError::Refused`] if a sync fails. The new file is then at its destination and the replaced file
    /// is beside it under a temporary name. Either can be lost in a power failure.
    pub fn sync_dir(mut self) -> Result<(), CommitError> {
        let synced = self.sync_name().and_then(|()| self.sync_above(&mut HashSet::new()));
        if synced.is_ok() {
            self.delete_replaced();
        } else {
            self.replaced.names.clear();
        }
        synced
    }

    /// Makes the names of newly created parent directories durable. For `done` see
    /// [`crate::commit::parents::UnsyncedNames::sync_above`].
    fn sync_above(&self, done: &mut HashSet<PathBuf>) -> Result<(), CommitError> {
        self.destination.context().unsynced().sync_above(self.destination.dir_path(), done)
    }

    fn sync_name(&self) -> Result<(), CommitError> {
        self.sync_inode().and_then(|()| self.sync_entry())
    }

    /// Syncs the inode with its link count, if the file system needs that for a file that got its name late.
    fn sync_inode(&self) -> Result<(), CommitError> {
        if self.is_named_late { sync_inode(&self.output) } else { Ok(()) }
    }

    /// Syncs the directory, which makes the file's name durable.
    fn sync_entry(&self) -> Result<(), CommitError> {
        let refused = |errno| CommitError::refused("sync the directory of", self.path(), errno);
        self.destination.directory().sync(self.output.fault(Step::SyncDir)).map_err(refused)
    }

    fn delete_replaced(&mut self) {
        for name in std::mem::take(&mut self.replaced.names) {
            // A replaced file that cannot be deleted stays under its temporary name. It does no harm, and the
            // next run tries to delete it again.
            if self.output.fault(Step::Publish).is_ok() {
                let _ = rustix::fs::unlinkat(self.destination.dir(), &name, AtFlags::empty());
            }
        }
    }
}

impl Drop for PublishedFile {
    /// Handles a file for which [`Self::sync_dir`] was not called: its replaced files are deleted if a sync
    /// succeeds here. Otherwise they stay.
    fn drop(&mut self) {
        if !self.replaced.names.is_empty() && self.sync_name().is_ok() {
            self.delete_replaced();
        }
    }
}

/// Does for many files what [`PublishedFile::sync_dir`] does for one, and syncs each directory only once. The
/// results have the order of `published`.
pub fn sync_dirs(published: Vec<PublishedFile>) -> Vec<Result<(), CommitError>> {
    let inodes = sync_inodes(&published);
    let mut synced: HashMap<DirectoryId, Result<(), CommitError>> = HashMap::new();
    let mut done_above = HashSet::new();
    let mut results = Vec::with_capacity(published.len());
    debug_assert_eq!(inodes.len(), published.len(), "one result for each file");
    for (mut published, inode) in published.into_iter().zip(inodes) {
        let entry = match published.destination.directory_id() {
            None => published.sync_entry(),
            Some(id) => synced.entry(id).or_insert_with(|| published.sync_entry()).clone(),
        };
        // Parents are synced for each file, because different paths can lead to one directory.
        let result = inode.and(entry).and_then(|()| published.sync_above(&mut done_above));
        if result.is_ok() {
            published.delete_replaced();
        } else {
            published.replaced.names.clear();
        }
        results.push(result);
    }
    results
}

/// Does [`PublishedFile::sync_inode`] for all files, on several threads if there are many.
fn sync_inodes(published: &[PublishedFile]) -> Vec<Result<(), CommitError>> {
    let sync = |part: &[PublishedFile]| part.iter().map(PublishedFile::sync_inode).collect::<Vec<_>>();
    let part = published.len().div_ceil(INODE_THREADS).max(FEWEST_INODES);
    let (own, others) = published.split_at(published.len().min(part));
    if !others.iter().any(|published| published.is_named_late) {
        return sync(published);
    }
    std::thread::scope(|scope| {
        let start = |part| std::thread::Builder::new().spawn_scoped(scope, move || sync(part)).map_err(|_| part);
        let others: Vec<_> = others.chunks(part).map(start).collect();
        let mut results = sync(own);
        for other in others {
            results.extend(match other {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // The operating system could not start the thread, so this thread syncs its part.
                Err(part) => sync(part),
            });
        }
        results
    })
}

impl StagedFile {
    /// Gives the file its final name. The content must have been synced with `Writer::sync` after the last
    /// write. The name is durable once [`PublishedFile::sync_dir`] or [`sync_dirs`] has ended.
    ///
    /// # Errors
    /// [`CommitError::Internal`] if the content was not synced, or is staged elsewhere ([`StagedFile::copied`]). Otherwise the errors of
    /// [`Destination::prepare`], if an obstacle appeared since. The new file is then deleted, and the
    /// destination is unchanged.
    pub fn publish(self) -> Result<PublishedFile, CommitError> {
        publish(self)
    }
}

/// Gives the new file its final name, by a link or by an exchange with the old file ([`StagedFile::publish`]).
fn publish(mut new: StagedFile) -> Result<PublishedFile, CommitError> {
    new.check_synced()?;
    if new.is_elsewhere() {
        let (what, path) = ("the content to publish is in another directory", new.output().path().to_owned());
        return Err(CommitError::Internal { what, path });
    }
    let destination = Arc::clone(new.destination());
    // The destination is not examined before the link, because the link itself fails with EEXIST if the name is
    // taken.
    if destination.replace() == Replace::Never
        && destination.has_no_sidecar()
        && let Attempt::Done(replaced) = publish_new(&mut new)?
    {
        return Ok(done(&new, replaced));
    }
    for _ in 0..TRIES {
        let attempt = match (destination.standing()?, destination.replace()) {
            (Standing::Nothing, Replace::Force) if !destination.has_no_sidecar() => {
                exchange::publish_beside_sidecars(&mut new)?
            }
            (Standing::Nothing, _) => publish_new(&mut new)?,
            (Standing::Empty(old), Replace::Never) => exchange::replace(&mut new, &old, Replacing::Empty)?,
            (Standing::Empty(old) | Standing::Database(old), _) => {
                exchange::replace(&mut new, &old, Replacing::Forced)?
            }
        };
        if let Attempt::Done(replaced) = attempt {
            return Ok(done(&new, replaced));
        }
    }
    let path = destination.path().to_owned();
    Err(match destination.replace() {
        // Another restore keeps the empty file locked and is about to replace it.
        Replace::Never => CommitError::Exists { path },
        Replace::Force => CommitError::Busy { path },
    })
}

fn done(new: &StagedFile, replaced: Replaced) -> PublishedFile {
    debug_assert!(new.temp().is_none(), "a published file would be deleted on drop");
    let destination = Arc::clone(new.destination());
    destination.keep_parents();
    PublishedFile { output: Arc::clone(new.output()), is_named_late: new.is_named_late(), replaced, destination }
}

/// Gives the new file its final name by a link, or by a rename that fails if a file has that name already.
fn publish_new(new: &mut StagedFile) -> Result<Attempt, CommitError> {
    let destination = Arc::clone(new.destination());
    let (dir, name) = (destination.dir(), destination.name());
    let step = || new.output().fault(Step::Publish).map(drop);
    let mut published = match new.temp() {
        None => step().and_then(|()| destination.context().links().link(new.output().as_fd(), dir, name)),
        Some(temp) if new.is_copied() => rename::after_look(dir, temp.as_os_str(), name, &step),
        Some(temp) => rename::without_placeholder(dir, temp.as_os_str(), name, &step),
    };
    if published == Err(rename::NO_WAY) && new.temp().is_some() && !new.is_copied() {
        published = publish_over_placeholder(new)?;
    }
    match published {
        Ok(()) => {
            new.forget_name();
            Ok(Attempt::Done(Replaced::default()))
        }
        Err(Errno::EXIST) => Ok(Attempt::Again),
        Err(errno) => Err(CommitError::refused("publish", destination.path(), errno)),
    }
}

/// As [`publish_new`], with a placeholder (`rename`). First the file gets a temporary name that tells a sweep what an
/// empty file at the destination is, and that name is made durable.
fn publish_over_placeholder(new: &mut StagedFile) -> Result<Result<(), Errno>, CommitError> {
    let destination = Arc::clone(new.destination());
    let (dir, name) = (destination.dir(), destination.name());
    // A file that stands there already must never be taken for the placeholder.
    if !matches!(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT)) {
        return Ok(Err(Errno::EXIST));
    }
    let exchange = Exchange::of(Replacing::Forced, None, &new.stat()?);
    new.rename(|| TempName::replacing(name, exchange))?;
    let synced = destination.directory().sync(new.output().fault(Step::SyncDir));
    synced.map_err(|errno| CommitError::refused("sync the directory of", destination.path(), errno))?;
    tracing::debug!(target: "hydrant::commit", output = %destination.path().display(),
        "no links and no renames with flags here: publishing over a placeholder");
    let step = || new.output().fault(Step::Publish).map(drop);
    let published = match new.temp() {
        Some(temp) => rename::over_placeholder(dir, temp.as_os_str(), name, &step),
        None => Err(rename::NO_WAY),
    };
    if published.is_err() {
        // What stands at the destination is somebody else's.
        new.rename(|| TempName::plain(name))?;
    }
    Ok(published)
}
