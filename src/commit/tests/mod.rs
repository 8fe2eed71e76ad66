//! Tests of publication: races, links, failures and kills.

mod bucket_names;
mod checks;
mod force;
mod kill;
mod leftovers;
mod owner;
mod publication;
mod way;

use super::sidecars::suffixed;
use super::*;
use crate::io::fault::{Effect, Step, inject};
use crate::process::locks;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, RwLock, RwLockReadGuard};

/// The environment variable that tells a child process of a test what to do.
const CHILD: &str = "HYDRANT_TEST_COMMIT_CHILD";

/// Held for writing to start a process: a child has this process's file locks between its fork and its exec.
static FORKS: RwLock<()> = RwLock::new(());

/// As long as this is held, no test starts a process, so each lock ends when this process closes its file.
fn no_forks() -> RwLockReadGuard<'static, ()> {
    locks::read(&FORKS)
}

fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _alone = locks::write(&FORKS);
    command.spawn()
}

/// Runs a child to its end: its status and its output.
fn ended(command: &mut Command) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command).unwrap().wait_with_output().unwrap()
}

/// A folder for files that begin with a name (`named`), or one whose file system surely has files without a name.
fn folder(named: bool) -> tempfile::TempDir {
    let in_memory = (!named).then(|| tempfile::tempdir_in("/dev/shm"));
    in_memory.and_then(Result::ok).unwrap_or_else(|| tempfile::tempdir().unwrap())
}

/// A sweep of `dir` by a run that has just begun.
fn sweep(dir: &Path) -> Vec<Notice> {
    CommitContext::default().sweep_beside(&dir.join("app.db"))
}

/// A destination of a run that has just begun.
fn prepare(path: &Path, replace: Replace) -> Result<Destination, CommitError> {
    Destination::prepare(&CommitContext::default(), path, replace)
}

/// The directory for the outputs of a run that has just begun.
fn open_root(path: &Path) -> Result<OutputRoot, CommitError> {
    OutputRoot::open(&CommitContext::default(), path)
}

/// A new file with this content, written and synced, ready to be published, of a run that has just begun.
fn unpublished(path: &Path, replace: Replace, named: bool, content: &[u8]) -> Result<StagedFile, CommitError> {
    unpublished_by(&CommitContext::default(), path, replace, named, content)
}

/// As [`unpublished`], for one of several files of a run.
fn unpublished_by(
    run: &CommitContext,
    path: &Path,
    replace: Replace,
    named: bool,
    content: &[u8],
) -> Result<StagedFile, CommitError> {
    let destination = Arc::new(Destination::prepare(run, path, replace)?);
    let new = destination.create(named)?;
    new.reserve(content.len() as u64)?;
    new.output().pwrite_all(content, 0)?;
    new.output().fsync()?;
    Ok(new)
}

/// Stages, publishes and syncs a file.
fn commit(path: &Path, replace: Replace, named: bool, content: &[u8]) -> Result<(), CommitError> {
    unpublished(path, replace, named, content)?.publish()?.sync_dir()
}

/// The names and contents in `dir`; for directories and links the kind in place of the content.
fn tree(dir: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut tree = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        let content = if kind.is_file() { std::fs::read(entry.path()).unwrap() } else { format!("{kind:?}").into() };
        tree.insert(entry.file_name(), content);
    }
    tree
}

fn files<const N: usize>(files: [(&str, &[u8]); N]) -> BTreeMap<OsString, Vec<u8>> {
    files.into_iter().map(|(name, content)| (name.into(), content.to_vec())).collect()
}

/// This test binary again, running [`child`] as `what` in `dir`.
fn child_of(what: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["commit::tests::child", "--exact", "--nocapture"]).env(CHILD, what).current_dir(dir);
    command
}

#[test]
fn outputs_may_go_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Destination>();
    is_send::<StagedFile>();
    is_send::<PublishedFile>();
    is_send::<check::Check>();
}

#[test]
fn child() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let mut words = what.split_whitespace();
    match words.next() {
        Some("kill") => kill::child(&words.collect::<Vec<_>>()),
        Some("force") => kill::forcing_child(&words.collect::<Vec<_>>()),
        Some("hot") => kill::make_hot(words.next().unwrap()),
        Some("look") => kill::looking_child(&words.collect::<Vec<_>>()),
        Some("use") => force::use_database(words.next().unwrap()),
        Some("unprivileged") => publication::without_privileges(),
        Some("may-not-chown") => owner::where_chown_is_refused(),
        Some("chown-kills") => force::where_chown_kills(),
        other => panic!("unknown child {other:?}"),
    }
}
