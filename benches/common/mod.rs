//! Code that the benches share: measuring commands from outside, the S3 simulator in this process, floors (the
//! least time that a task can take), other restore programs, tables and targets.
#![allow(dead_code)]

pub(crate) mod cores;
pub(crate) mod cost;
pub(crate) mod files;
pub(crate) mod floors;
pub(crate) mod results;
pub(crate) mod rivals;
pub(crate) mod server;

use std::path::PathBuf;
use std::sync::Mutex;
use tempfile::TempDir;

/// The command-line arguments of a bench.
pub(crate) struct Args(Vec<String>);

impl Args {
    pub(crate) fn of_process() -> Self {
        Self(std::env::args().skip(1).filter(|arg| arg != "--bench").collect())
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|arg| arg == flag)
    }

    /// Whether the runs should be fewer and smaller, only to show that everything works.
    pub(crate) fn is_quick(&self) -> bool {
        self.has("--quick")
    }

    pub(crate) fn text(&self, flag: &str) -> Option<&str> {
        let at = self.0.iter().position(|arg| arg == flag)?;
        self.0.get(at + 1).map(String::as_str)
    }

    pub(crate) fn number(&self, flag: &str, default: u64) -> u64 {
        self.text(flag).map_or(default, |value| value.parse().expect("a number"))
    }

    pub(crate) fn list(&self, flag: &str, default: &str) -> Vec<usize> {
        self.text(flag).unwrap_or(default).split(',').map(|n| n.parse().expect("numbers")).collect()
    }

    /// Whether this part of the bench should run, according to `--only a,b`.
    pub(crate) fn wants(&self, part: &str) -> bool {
        self.text("--only").is_none_or(|only| only.split(',').any(|name| name == part))
    }

    pub(crate) fn as_slice(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

/// The load average of the last minute. Results record it, because other work on the machine changes them.
pub(crate) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The path of a program that is found on PATH. None if there is none.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

static MADE: Mutex<Vec<TempDir>> = Mutex::new(Vec::new());
/// The environment variable with the directory in which the benches create theirs. Whoever sets it removes that
/// directory after the last of several benches.
const FOLDER: &str = "HYDRANT_BENCH_DIR";

/// A directory that did not exist before. Creating files in a directory from which many were just deleted would
/// measure the journal of the file system instead. [`remove_dirs`] removes it.
pub(crate) fn fresh_dir(name: &str) -> PathBuf {
    let folder = std::env::var_os(FOLDER);
    let parent = folder.as_deref().unwrap_or(env!("CARGO_TARGET_TMPDIR").as_ref());
    let made = tempfile::Builder::new().prefix(&format!("bench-{name}-")).tempdir_in(parent).expect("a directory");
    if folder.is_some() {
        return made.keep();
    }
    let path = made.path().to_owned();
    MADE.lock().expect("the list").push(made);
    path
}

/// Removes all directories that [`fresh_dir`] created. Must be called at the very end.
pub(crate) fn remove_dirs() {
    MADE.lock().expect("the list").clear();
}
