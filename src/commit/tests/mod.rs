//! Tests of publication: concurrent restores, symbolic links, failed system calls and killed processes.

mod acl;
mod bucket_names;
mod checks;
mod copied;
mod force;
mod kill;
mod leftovers;
mod owner;
mod publication;
mod refused;
mod reserve;
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

/// Environment variable that tells a child process of a test which task to run.
const CHILD: &str = "HYDRANT_TEST_COMMIT_CHILD";

/// The environment variable that names the sandbox of a child process ([`refused::enter`]).
const SANDBOX: &str = "HYDRANT_TEST_COMMIT_SANDBOX";

/// Held for writing to start a process: a child has this process's file locks between its fork and its exec.
static FORKS: RwLock<()> = RwLock::new(());

/// While the returned guard exists, no test starts a process, so a file lock ends when this process closes the
/// file.
fn no_forks() -> RwLockReadGuard<'static, ()> {
    locks::read(&FORKS)
}

fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _alone = locks::write(&FORKS);
    command.spawn()
}

/// Runs a child process to its end. Returns its exit status and its output.
fn ended(command: &mut Command) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command).unwrap().wait_with_output().unwrap()
}

/// Returns a temporary folder. With `named`, outputs in it start with a temporary name. Otherwise it is in
/// /dev/shm, whose file system offers unnamed files (O_TMPFILE).
fn folder(named: bool) -> tempfile::TempDir {
    let in_memory = (!named).then(|| tempfile::tempdir_in("/dev/shm"));
    in_memory.and_then(Result::ok).unwrap_or_else(|| tempfile::tempdir().unwrap())
}

/// Cleans up after killed runs in `dir` (a sweep), as a run does that has just started.
fn sweep(dir: &Path) -> Vec<Notice> {
    CommitContext::default().sweep_beside(&dir.join("app.db"))
}

/// Checks the output path `path` and opens its directory, as a run does that has just started.
fn prepare(path: &Path, replace: Replace) -> Result<Destination, CommitError> {
    Destination::prepare(&CommitContext::default(), path, replace)
}

/// Opens the directory `path` for outputs with names from a bucket, as a run does that has just started.
fn open_root(path: &Path) -> Result<OutputRoot, CommitError> {
    OutputRoot::open(&CommitContext::default(), path)
}

/// Creates a file with the given content, written and synced but not published, in a run that has just started.
fn unpublished(path: &Path, replace: Replace, named: bool, content: &[u8]) -> Result<StagedFile, CommitError> {
    unpublished_by(&CommitContext::default(), path, replace, named, content)
}

/// Creates a file with the given content, written and synced but not published, as one of several files of `run`.
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

/// Creates, writes, publishes and syncs a file.
fn commit(path: &Path, replace: Replace, named: bool, content: &[u8]) -> Result<(), CommitError> {
    unpublished(path, replace, named, content)?.publish()?.sync_dir()
}

/// Returns the names in `dir` with the files' contents. For directories and links, the content is their kind.
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

/// Returns the command that runs this test binary again, with [`child`] doing the task `what` in `dir`.
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
    if let Ok(sandbox) = std::env::var(SANDBOX) {
        refused::enter(&sandbox);
    }
    let mut words = what.split_whitespace();
    match words.next() {
        Some("kill") => kill::child(&words.collect::<Vec<_>>()),
        Some("force") => kill::forcing_child(&words.collect::<Vec<_>>()),
        Some("hot") => kill::make_hot(words.next().unwrap()),
        Some("look") => kill::looking_child(&words.collect::<Vec<_>>()),
        Some("use") => force::use_database(words.next().unwrap()),
        Some("unprivileged") => publication::without_privileges(),
        Some("acl") => acl::child(),
        Some("refused") => refused::child(words.next().unwrap()),
        Some("may-not-chown") => owner::where_chown_is_refused(),
        Some("chown-kills") => force::where_chown_kills(),
        other => panic!("unknown child {other:?}"),
    }
}
