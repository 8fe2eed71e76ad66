//! Gives each database its output path, and refuses paths that are unsafe or collide (docs/CLI.md, "Output
//! paths of a pattern"; docs/GUARANTEES.md, 7).
//!
//! Names from a bucket are checked here as text, before anything is restored. `commit` checks the path again on
//! the file system when the database is restored. If two outputs collide, the one with the shorter path is
//! restored; among paths of equal length, the first in byte order.

use crate::commit::{
    CommitContext, CommitError, Destination, Notice, OutputRoot, Replace, SIDECARS, check_relative, check_way,
    check_way_beneath, create_temporary, stands_at,
};
use crate::error::Class;
use crate::fleet::discovery::found::Output;
use crate::process::locks::lock;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

/// An output path that passed the checks of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputPath {
    /// Absolute path that the operator chose in the configuration.
    Path(PathBuf),
    /// Path `relative` below the directory `root`. `relative` is a checked name from a bucket.
    Beneath {
        /// Absolute path of the directory.
        root: Arc<Path>,
        /// Path below `root`, with `/` between its components.
        relative: String,
    },
}

/// Why a database is not restored: its output path is unsafe or collides with another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Class of the failure in the error log.
    pub class: Class,
    /// What is wrong, for the operator.
    pub reason: String,
}

impl OutputPath {
    /// Checks the output path that discovery determined. Relative paths lie below `output_dir`, which is
    /// absolute.
    ///
    /// # Errors
    /// [`Refused`] of class `unsafe path` if the path could lead out of `output_dir` or is no valid file name.
    pub fn of(output: Output, output_dir: &Arc<Path>) -> Result<Self, Refused> {
        let (root, relative) = match output {
            Output::Configured(path) => return Ok(Self::Path(path)),
            Output::InDir { dir, relative } => (Arc::from(dir), relative),
            Output::Relative(relative) => (Arc::clone(output_dir), relative),
        };
        match check_relative(&root, &relative) {
            Ok(()) => Ok(Self::Beneath { root, relative }),
            Err(why) => {
                let error = CommitError::UnsafeName { name: relative, why };
                Err(Refused { class: error.class(), reason: error.to_string() })
            }
        }
    }

    /// Returns the absolute path to which the database is restored.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Beneath { root, relative } => root.join(relative),
        }
    }

    /// Returns whether a file or directory exists at the path (docs/CLI.md, "Skips"). A dangling symbolic link
    /// does not count. Call this after the clean-up of the path's directory, which can put a file back.
    pub fn exists(&self) -> bool {
        stands_at(&self.path())
    }

    /// Checks the directories on the way to the output without creating anything, for `-dry-run`.
    ///
    /// # Errors
    /// The error that a restore would meet there.
    pub fn check_way(&self) -> Result<(), CommitError> {
        match self {
            Self::Path(path) => check_way(path),
            Self::Beneath { root, relative } => check_way_beneath(root, relative),
        }
    }
}

/// The output directories of a run, and the notices about what was cleaned up in them. While a database is
/// being restored below an output directory, one file descriptor of that directory stays open.
#[derive(Debug)]
pub(super) struct Roots {
    commit: CommitContext,
    open: Mutex<HashMap<Arc<Path>, Weak<OutputRoot>>>,
    notices: Mutex<Vec<Notice>>,
}

impl Roots {
    pub(super) fn new(commit: CommitContext) -> Self {
        Self { commit, open: Mutex::default(), notices: Mutex::default() }
    }

    /// Cleans up what killed runs left in the directory of `place`. [`Self::take_notices`] returns what was
    /// done.
    pub(super) fn sweep(&self, place: &OutputPath) {
        let notices = match place {
            OutputPath::Path(path) => self.commit.sweep_beside(path),
            OutputPath::Beneath { root, relative } => self.commit.sweep_beneath(root, relative),
        };
        if !notices.is_empty() {
            lock(&self.notices).extend(notices);
        }
    }

    /// Returns the notices for the operator that were added since the last call.
    pub(super) fn take_notices(&self) -> Vec<Notice> {
        let mut notices = std::mem::take(&mut *lock(&self.notices));
        notices.extend(self.commit.take_notices());
        notices
    }

    /// Cleans up with [`Self::sweep`], then prepares a destination at `place`.
    ///
    /// # Errors
    /// The errors of [`Destination::prepare`] and [`Destination::prepare_beneath`].
    pub(super) fn prepare(&self, place: &OutputPath, replace: Replace) -> Result<Destination, CommitError> {
        self.sweep(place);
        match place {
            OutputPath::Path(path) => Destination::prepare(&self.commit, path, replace),
            OutputPath::Beneath { root, relative } => {
                Destination::prepare_beneath(&self.open(root)?, relative, replace)
            }
        }
    }

    fn open(&self, path: &Arc<Path>) -> Result<Arc<OutputRoot>, CommitError> {
        let mut roots = lock(&self.open);
        if let Some(root) = roots.get(path).and_then(Weak::upgrade) {
            return Ok(root);
        }
        let root = Arc::new(OutputRoot::open(&self.commit, path)?);
        roots.insert(Arc::clone(path), Arc::downgrade(&root));
        Ok(root)
    }
}

/// The output paths of the databases accepted so far. A database whose path collides with one of them is
/// refused.
#[derive(Debug)]
pub struct Admitted {
    /// Absolute paths that the run itself writes to, such as the error log.
    reserved: Vec<String>,
    /// Returns whether the file system of a directory ignores case. It is called only if two paths differ only
    /// in case.
    folds: fn(&Path) -> bool,
    /// What the names of files beside a database end in.
    suffixes: &'static [&'static str],
}

/// What the names of files beside a standby end in (docs/FOLLOW.md, "The sidecar").
const STANDBY_SUFFIXES: [&str; 5] = ["-wal", "-shm", "-journal", "-txid", "-txid.tmp"];

/// The outputs that were admitted so far. It keeps no copies of their paths: there may be millions.
struct Claims<'a> {
    admitted: &'a Admitted,
    known_to_fold: HashMap<PathBuf, bool>,
    paths: HashSet<&'a str>,
    /// Those of `paths` that have upper-case letters, by their form in lower case.
    folded: HashMap<Box<str>, &'a str>,
}

impl Admitted {
    /// Starts without accepted paths. `reserved` are the paths that the run itself writes to. `folds` returns
    /// whether the file system of a directory ignores case.
    pub fn new(reserved: &[PathBuf], folds: fn(&Path) -> bool) -> Self {
        let reserved = reserved.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        Self { reserved, folds, suffixes: &SIDECARS }
    }

    /// The databases are to be followed: further files lie beside each.
    pub fn of_standbys(self, are_standbys: bool) -> Self {
        Self { suffixes: if are_standbys { &STANDBY_SUFFIXES } else { &SIDECARS }, ..self }
    }

    /// Admits those of `places` that do not collide: the shorter first, then the first in byte order.
    /// Returns the others, by index.
    pub fn claim(&self, places: &[PathBuf]) -> HashMap<usize, Refused> {
        let texts: Vec<Cow<'_, str>> = places.iter().map(|path| path.to_string_lossy()).collect();
        let mut order: Vec<(usize, &str)> = texts.iter().map(AsRef::as_ref).enumerate().collect();
        order.sort_unstable_by_key(|(i, text)| (text.len(), *text, *i));
        let mut claims = Claims {
            admitted: self,
            known_to_fold: HashMap::new(),
            paths: HashSet::with_capacity(order.len()),
            folded: HashMap::new(),
        };
        order.into_iter().filter_map(|(i, text)| Some((i, claims.claim_one(text)?))).collect()
    }
}

impl<'a> Claims<'a> {
    /// None: it is admitted.
    fn claim_one(&mut self, path: &'a str) -> Option<Refused> {
        let collision = |reason: String| Some(Refused { class: Class::PathCollision, reason });
        if self.admitted.reserved.iter().any(|own| is_same_or_beside(path, own)) {
            return collision(format!("this run's own files are written to {path}"));
        }
        let suffixes = self.admitted.suffixes;
        if let Some(winner) = in_the_way_of(path, suffixes, |taken| self.paths.get(taken).copied()) {
            return collision(in_the_way(path, winner));
        }
        self.paths.insert(path);
        // Again without regard to case. Few fleets have paths that differ by case alone.
        let lower = path.to_lowercase();
        let original =
            |taken: &str| self.folded.get(taken).or_else(|| self.paths.get(taken).filter(|p| **p != path)).copied();
        if let Some(winner) = in_the_way_of(&lower, suffixes, original) {
            let dir = shared_dir(path, winner);
            let folds = self.known_to_fold.get(dir).copied().unwrap_or_else(|| (self.admitted.folds)(dir));
            let reason = format!("{} (the file system ignores case)", in_the_way(path, winner));
            self.known_to_fold.insert(dir.to_owned(), folds);
            return if folds { collision(reason) } else { None };
        }
        if lower != path {
            self.folded.insert(lower.into(), path);
        }
        None
    }
}

/// The path known to `taken` that collides with `path`: the path itself, one of its directories, or a
/// database of which either would be a sidecar.
fn in_the_way_of<'a>(path: &str, suffixes: &[&str], taken: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).filter(|&end| end > 0);
    ends.filter_map(|end| path.get(..end))
        .find_map(|upto| taken(upto).or_else(|| suffixes.iter().find_map(|suffix| taken(upto.strip_suffix(suffix)?))))
}

fn in_the_way(loser: &str, winner: &str) -> String {
    if loser == winner {
        return format!("another database is restored to {winner}");
    }
    format!("{loser} cannot stand beside {winner}, to which another database is restored")
}

/// Returns the longest directory that both paths have in common.
fn shared_dir<'a>(a: &'a str, b: &str) -> &'a Path {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let dir = a.get(..same).or_else(|| a.get(..0)).and_then(|same| same.rfind('/')).map_or(0, |at| at.max(1));
    Path::new(a.get(..dir).unwrap_or("/"))
}

/// Returns whether the two paths are equal, or one would be a sidecar (-wal, -shm, -journal) of the other.
fn is_same_or_beside(path: &str, own: &str) -> bool {
    let is_sidecar = |sidecar: &str, main: &str| sidecar.strip_prefix(main).is_some_and(|s| SIDECARS.contains(&s));
    path == own || is_sidecar(path, own) || is_sidecar(own, path)
}

/// Returns whether the file system at `dir`, or at its nearest existing parent, ignores case. It creates a
/// temporary file to find out, and returns false if that fails.
pub fn folds_case(dir: &Path) -> bool {
    let Some(existing) = dir.ancestors().find(|dir| dir.is_dir()) else { return false };
    let Ok((_file, lower)) = create_temporary(&existing.join("case")) else { return false };
    let name = lower.file_name().unwrap_or_default().to_string_lossy();
    let upper = lower.with_file_name(name.replacen("case", "CASE", 1));
    let folds = upper != lower && upper.symlink_metadata().is_ok();
    let _ = std::fs::remove_file(&lower);
    folds
}

/// Returns a warning if Litestream's state of an older database lies beside `output`: Litestream would resume
/// replication from it (docs/GUARANTEES.md, 29). `source` is the path of a replica on disk. If the state
/// directory is itself that replica, there is no warning.
pub fn stale_state(output: &Path, source: Option<&str>) -> Option<String> {
    let (directory, name) = (output.parent()?, output.file_name()?);
    let state = directory.join(format!(".{}-litestream", name.to_string_lossy()));
    let is_source = source.is_some_and(|path| Path::new(path).starts_with(&state));
    (!is_source && state.is_dir()).then(|| {
        let (state, output) = (state.to_string_lossy(), output.to_string_lossy());
        format!(
            "{} holds Litestream's state of an older database: run `litestream reset {}` before it replicates again",
            crate::error::escaped(&state),
            crate::error::escaped(&output)
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::fleet::outputs::*;

    fn losers(paths: &[&str], folds: bool) -> Vec<usize> {
        let places: Vec<_> = paths.iter().map(PathBuf::from).collect();
        let folds = if folds { |_: &Path| true } else { |_: &Path| false };
        let mut losers: Vec<_> = Admitted::new(&["/o/errors.log".into()], folds).claim(&places).into_keys().collect();
        losers.sort();
        losers
    }

    #[test]
    fn the_shorter_then_the_first_is_restored() {
        assert_eq!(losers(&["/o/a/app.db/old.db", "/o/a/app.db", "/o/a/app.db-2"], false), [0]);
        assert_eq!(losers(&["/o/b.db", "/o/b.db"], false), [1]);
        assert_eq!(losers(&["/o/x.db-wal", "/o/x.db", "/o/x.db-wal/y.db", "/o/x.db-walx"], false), [0, 2]);
        // `/o/a/b` is refused, and `/o/a/b/c` still collides with `/o/a`.
        assert_eq!(losers(&["/o/a", "/o/a/b", "/o/a/b/c"], false), [1, 2]);
        assert_eq!(losers(&["/o/errors.log", "/o/errors.log-wal", "/o/errors.logs"], false), [0, 1]);
    }

    #[test]
    fn case_counts_where_the_file_system_says_so() {
        let paths = ["/o/t/app.db", "/o/T/app.db", "/o/T/APP.DB/x", "/o/T/other.db"];
        assert_eq!(losers(&paths, false), [] as [usize; 0]);
        assert_eq!(losers(&paths, true), [0, 2]);
        assert!(!folds_case(Path::new("/proc/self")));
        assert_eq!(shared_dir("/o/t/app.db", "/o/T/app.db"), Path::new("/o"));
        assert_eq!(shared_dir("/A", "/a"), Path::new("/"));
    }

    #[test]
    fn probing_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        folds_case(&dir.path().join("not/there"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn hostile_names_are_refused_as_text() {
        let root: Arc<Path> = Arc::from(Path::new("/out"));
        let long = "n".repeat(256);
        let deep = "d/".repeat(2048) + "x";
        let hostile = [
            "",
            "..",
            "../x",
            "a/../../x",
            "a/..",
            "/etc/x",
            "a//b",
            "a/",
            "./a",
            "a\0b",
            "a\nb",
            "a\u{1b}[2Jb",
            "a\u{85}b",
            &long,
            &deep,
            ".a.hydrant-abcdefgh",
        ];
        for name in hostile {
            let refused = OutputPath::of(Output::Relative(name.to_owned()), &root).unwrap_err();
            assert_eq!(refused.class, Class::UnsafePath, "{name:?}");
            let in_dir = Output::InDir { dir: "/srv".into(), relative: name.to_owned() };
            assert!(OutputPath::of(in_dir, &root).is_err(), "{name:?}");
        }
        for name in ["a", "..a", "a..", "...", "a b/ö/\\", ".a/.b"] {
            let place = OutputPath::of(Output::Relative(name.to_owned()), &root).unwrap();
            assert_eq!(place.path(), Path::new("/out").join(name));
        }
    }
}
