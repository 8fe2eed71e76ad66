//! Gives each database its output path, and refuses unsafe and colliding paths
//! (docs/CLI.md, "Output paths of a pattern"; docs/GUARANTEES.md, 7).
//!
//! Names from a bucket are checked here as text, before anything is restored. `commit` checks the path
//! again on the file system when the database is restored. Of outputs that collide, the shorter is
//! restored, then the first in byte order.

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

/// A checked output path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputPath {
    /// An absolute path that the operator chose.
    Path(PathBuf),
    /// Below `root`, by a checked name from the bucket.
    Beneath { root: Arc<Path>, relative: String },
}

/// Why a database is not restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub class: Class,
    pub reason: String,
}

impl OutputPath {
    /// Checks `output`. Relative paths lie below `output_dir`, which is absolute.
    ///
    /// # Errors
    /// Class `unsafe path`.
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

    pub fn path(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Beneath { root, relative } => root.join(relative),
        }
    }

    /// Whether anything exists there (docs/CLI.md, "Skips"). A dangling link does not count. To be called
    /// after the sweep of its directory.
    pub fn exists(&self) -> bool {
        stands_at(&self.path())
    }

    /// Checks the directories on the way to the output without making any. For a dry run.
    ///
    /// # Errors
    /// Why a restore would fail.
    pub fn check_way(&self) -> Result<(), CommitError> {
        match self {
            Self::Path(path) => check_way(path),
            Self::Beneath { root, relative } => check_way_beneath(root, relative),
        }
    }
}

/// The output directories, and notices of what was cleaned up in them. A directory has one open
/// descriptor for as long as a database is being restored below it.
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

    /// Cleans up what killed runs left in the directory of `place`; see [`Self::take_notices`].
    pub(super) fn sweep(&self, place: &OutputPath) {
        let notices = match place {
            OutputPath::Path(path) => self.commit.sweep_beside(path),
            OutputPath::Beneath { root, relative } => self.commit.sweep_beneath(root, relative),
        };
        if !notices.is_empty() {
            lock(&self.notices).extend(notices);
        }
    }

    /// Returns the notices for the operator since the last call.
    pub(super) fn take_notices(&self) -> Vec<Notice> {
        let mut notices = std::mem::take(&mut *lock(&self.notices));
        notices.extend(self.commit.take_notices());
        notices
    }

    /// Calls [`Self::sweep`] and prepares a destination at `place`.
    ///
    /// # Errors
    /// As [`Destination::prepare`] and [`Destination::prepare_beneath`].
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

/// The outputs of the admitted databases. Outputs that collide with them are refused.
#[derive(Debug)]
pub struct Admitted {
    /// Absolute paths that the run itself writes to.
    reserved: Vec<String>,
    /// Whether the file system at a directory ignores case. It is called only where two paths differ by
    /// case alone.
    folds: fn(&Path) -> bool,
    known_to_fold: HashMap<PathBuf, bool>,
    paths: HashSet<Box<str>>,
    /// Those of `paths` that have upper-case letters, by their form in lower case.
    folded: HashMap<Box<str>, Box<str>>,
}

impl Admitted {
    pub fn new(reserved: &[PathBuf], folds: fn(&Path) -> bool) -> Self {
        Self {
            reserved: reserved.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
            folds,
            known_to_fold: HashMap::new(),
            paths: HashSet::new(),
            folded: HashMap::new(),
        }
    }

    /// Admits those of `places` that do not collide: the shorter first, then the first in byte order.
    /// Returns the others, by index.
    pub fn claim(&mut self, places: &[PathBuf]) -> HashMap<usize, Refused> {
        let texts: Vec<Cow<'_, str>> = places.iter().map(|path| path.to_string_lossy()).collect();
        let mut order: Vec<(usize, &str)> = texts.iter().map(AsRef::as_ref).enumerate().collect();
        order.sort_by_key(|(_, text)| (text.len(), *text));
        order.into_iter().filter_map(|(i, text)| Some((i, self.claim_one(text)?))).collect()
    }

    /// None: it is admitted.
    fn claim_one(&mut self, path: &str) -> Option<Refused> {
        let collision = |reason: String| Some(Refused { class: Class::PathCollision, reason });
        if self.reserved.iter().any(|own| is_same_or_beside(path, own)) {
            return collision(format!("this run's own files are written to {path}"));
        }
        if let Some(winner) = in_the_way_of(path, |taken| self.paths.get(taken)) {
            return collision(in_the_way(path, winner));
        }
        self.paths.insert(path.into());
        // Again without regard to case. Few fleets have paths that differ by case alone.
        let lower = path.to_lowercase();
        let original = |taken: &str| self.folded.get(taken).or_else(|| self.paths.get(taken).filter(|p| ***p != *path));
        if let Some(winner) = in_the_way_of(&lower, original) {
            let dir = shared_dir(path, winner);
            let folds = self.known_to_fold.get(dir).copied().unwrap_or_else(|| (self.folds)(dir));
            let reason = format!("{} (the file system ignores case)", in_the_way(path, winner));
            self.known_to_fold.insert(dir.to_owned(), folds);
            return if folds { collision(reason) } else { None };
        }
        if lower != path {
            self.folded.insert(lower.into(), path.into());
        }
        None
    }
}

/// The path known to `taken` that collides with `path`: the path itself, one of its directories, or a
/// database of which either would be a sidecar.
fn in_the_way_of<'a>(path: &str, taken: impl Fn(&str) -> Option<&'a Box<str>>) -> Option<&'a str> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).filter(|&end| end > 0);
    let winner = ends
        .filter_map(|end| path.get(..end))
        .find_map(|upto| taken(upto).or_else(|| SIDECARS.iter().find_map(|suffix| taken(upto.strip_suffix(suffix)?))));
    winner.map(AsRef::as_ref)
}

fn in_the_way(loser: &str, winner: &str) -> String {
    if loser == winner {
        return format!("another database is restored to {winner}");
    }
    format!("{loser} cannot stand beside {winner}, to which another database is restored")
}

/// The longest directory that both paths have in common.
fn shared_dir<'a>(a: &'a str, b: &str) -> &'a Path {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let dir = a.get(..same).or_else(|| a.get(..0)).and_then(|same| same.rfind('/')).map_or(0, |at| at.max(1));
    Path::new(a.get(..dir).unwrap_or("/"))
}

/// Whether the two are one path, or one is a sidecar of the other.
fn is_same_or_beside(path: &str, own: &str) -> bool {
    let is_sidecar = |sidecar: &str, main: &str| sidecar.strip_prefix(main).is_some_and(|s| SIDECARS.contains(&s));
    path == own || is_sidecar(path, own) || is_sidecar(own, path)
}

/// Whether the file system at `dir`, or at the nearest parent that exists, ignores case. It tries by
/// making a file. False where that is not possible.
pub fn folds_case(dir: &Path) -> bool {
    let Some(existing) = dir.ancestors().find(|dir| dir.is_dir()) else { return false };
    let Ok((_file, lower)) = create_temporary(&existing.join("case")) else { return false };
    let name = lower.file_name().unwrap_or_default().to_string_lossy();
    let upper = lower.with_file_name(name.replacen("case", "CASE", 1));
    let folds = upper != lower && upper.symlink_metadata().is_ok();
    let _ = std::fs::remove_file(&lower);
    folds
}

/// The warning about Litestream's state of an older database beside `output`, if there is one.
/// Litestream would resume from it (docs/GUARANTEES.md, 29). `source` is the path of a replica on disk.
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
        // `/o/a/b` is refused, but `/o/a/b/c` still collides with `/o/a`.
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
