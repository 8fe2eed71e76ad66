//! Publication against races, links, failures and kills.

mod bucket_names;
mod checks;
mod force;
mod kill;
mod leftovers;
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

/// Set in child processes of a test: what the child is to do, and where.
const CHILD: &str = "HYDRANT_TEST_COMMIT_CHILD";

/// Taken to start a process: between its fork and its exec it keeps the file locks that this one has.
static FORKS: RwLock<()> = RwLock::new(());

/// No test starts a process as long as this is held, and each lock ends with its file.
fn no_forks() -> RwLockReadGuard<'static, ()> {
    locks::read(&FORKS)
}

fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _alone = locks::write(&FORKS);
    command.spawn()
}

/// How a child ended, and what it said.
fn ended(command: &mut Command) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command).unwrap().wait_with_output().unwrap()
}

/// Where files begin with a name, or where they surely can do without.
fn folder(named: bool) -> tempfile::TempDir {
    let in_memory = (!named).then(|| tempfile::tempdir_in("/dev/shm"));
    in_memory.and_then(Result::ok).unwrap_or_else(|| tempfile::tempdir().unwrap())
}

/// A new file of this content, written and synced, ready to be published.
fn unpublished(path: &Path, replace: Replace, named: bool, content: &[u8]) -> Result<StagedFile, CommitError> {
    let destination = Arc::new(Destination::prepare(path, replace)?);
    let new = destination.create(named)?;
    new.reserve(content.len() as u64)?;
    new.output().pwrite_all(content, 0)?;
    new.output().fsync()?;
    Ok(new)
}

/// From nothing to a durable name.
fn commit(path: &Path, replace: Replace, named: bool, content: &[u8]) -> Result<(), CommitError> {
    unpublished(path, replace, named, content)?.publish()?.sync_dir()
}

/// All that is below `dir`: names and contents (of directories and links only the names).
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

/// A sweep of `dir`, whatever was swept before.
fn sweep(dir: &Path) -> Vec<Notice> {
    let directory = std::fs::File::open(dir).unwrap();
    sweep::sweep_directory(std::os::fd::AsFd::as_fd(&directory), dir, "app.db".as_ref()).0
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
        Some("once") => leftovers::looking_again(),
        Some("use") => force::use_database(words.next().unwrap()),
        Some("unprivileged") => publication::without_privileges(),
        Some("chown-kills") => force::where_chown_kills(),
        other => panic!("unknown child {other:?}"),
    }
}
