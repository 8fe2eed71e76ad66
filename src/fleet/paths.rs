//! Where each database goes, and which of them cannot go anywhere (CONTRACT, `restore-pattern`;
//! PROMISES 7).
//!
//! What a bucket's keys say is checked as text here, before anything is restored; `commit`
//! checks again, with the file system's own eyes, when a database's turn has come. Of outputs
//! that stand in each other's way, one is restored: the shorter, then the first in byte order.

use super::discover::Output;
use crate::commit::{CommitError, Destination, OutputRoot, Replace, check_relative};
use crate::error::Class;
use rustix::fs::{AtFlags, Mode, OFlags};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What SQLite puts beside a database.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A checked place for an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The operator's own word.
    Path(PathBuf),
    /// Beneath `root`, by a name from the bucket; checked.
    Beneath { root: Arc<Path>, relative: String },
}

/// Why a database goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub class: Class,
    pub reason: String,
}

impl Place {
    /// The place of `output`; relative ones lie beneath `output_dir` (absolute).
    ///
    /// # Errors
    /// `unsafe path`.
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

    /// Whether anything stands there (CONTRACT, `-if-db-not-exists`): not a dangling link.
    pub fn exists(&self) -> bool {
        self.path().metadata().is_ok()
    }
}

/// Open output directories: one descriptor each, for as long as a database is being restored
/// beneath it.
#[derive(Debug, Default)]
pub struct Roots(Mutex<HashMap<Arc<Path>, Weak<OutputRoot>>>);

impl Roots {
    /// A checked destination at `place`.
    ///
    /// # Errors
    /// As [`Destination::prepare`] and [`Destination::prepare_beneath`].
    pub fn prepare(&self, place: &Place, replace: Replace) -> Result<Destination, CommitError> {
        match place {
            Place::Path(path) => Destination::prepare(path, replace),
            Place::Beneath { root, relative } => Destination::prepare_beneath(&self.open(root)?, relative, replace),
        }
    }

    fn open(&self, path: &Arc<Path>) -> Result<Arc<OutputRoot>, CommitError> {
        let mut roots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = roots.get(path).and_then(Weak::upgrade) {
            return Ok(root);
        }
        let root = Arc::new(OutputRoot::open(path)?);
        roots.insert(Arc::clone(path), Arc::downgrade(&root));
        Ok(root)
    }
}

/// Which of `places` stand in another's way, by index: that one is restored. `reserved` are
/// absolute paths that the run itself writes to. `folds` says whether the file system at a
/// directory takes names that differ by case for one; it is asked only where that matters.
pub fn collisions(
    places: &[Option<PathBuf>],
    reserved: &[PathBuf],
    folds: impl Fn(&Path) -> bool,
) -> HashMap<usize, Refused> {
    let mut refused = HashMap::new();
    let texts: Vec<Cow<'_, str>> =
        places.iter().map(|path| path.as_deref().map_or(Cow::Borrowed(""), Path::to_string_lossy)).collect();
    let reserved: Vec<String> = reserved.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let mut order: Vec<usize> = (0..texts.len()).filter(|&i| !texts.get(i).is_none_or(|t| t.is_empty())).collect();
    let text = |i: usize| texts.get(i).map_or("", |text| text.as_ref());
    order.sort_by(|&a, &b| (text(a).len(), text(a)).cmp(&(text(b).len(), text(b))));
    let collision = |reason: String| Refused { class: Class::PathCollision, reason };

    let mut taken = Taken::default();
    order.retain(|&i| {
        if reserved.iter().any(|own| is_same_or_beside(text(i), own)) {
            refused.insert(i, collision(format!("this run's own files are written to {}", text(i))));
            return false;
        }
        match taken.claim(Cow::Borrowed(text(i)), i) {
            None => true,
            Some(winner) => {
                refused.insert(i, collision(in_the_way(text(i), text(winner))));
                false
            }
        }
    });
    // Once more as a file system without case sees them; most fleets have none that differ so.
    let mut folded = Taken::default();
    let mut known: HashMap<&Path, bool> = HashMap::new();
    for &i in &order {
        let Some(winner) = folded.claim(Cow::Owned(text(i).to_lowercase()), i) else { continue };
        let dir = shared_dir(text(i), text(winner));
        if *known.entry(dir).or_insert_with(|| folds(dir)) {
            let reason = in_the_way(text(i), text(winner));
            refused.insert(i, collision(format!("{reason} (the file system ignores case)")));
        }
    }
    refused
}

fn in_the_way(loser: &str, winner: &str) -> String {
    if loser == winner {
        return format!("another database is restored to {winner}");
    }
    format!("{loser} cannot stand beside {winner}, to which another database is restored")
}

/// The longest directory in which both lie, or would but for their case.
fn shared_dir<'a>(a: &'a str, b: &str) -> &'a Path {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let dir = a.get(..same).or_else(|| a.get(..0)).and_then(|same| same.rfind('/')).map_or(0, |at| at.max(1));
    Path::new(a.get(..dir).unwrap_or("/"))
}

/// `path` is `own`, or one of its sidecars, or the other way round.
fn is_same_or_beside(path: &str, own: &str) -> bool {
    let is_sidecar = |sidecar: &str, main: &str| sidecar.strip_prefix(main).is_some_and(|s| SIDECARS.contains(&s));
    path == own || is_sidecar(path, own) || is_sidecar(own, path)
}

/// Outputs that have their place.
#[derive(Default)]
struct Taken<'a> {
    files: HashMap<Cow<'a, str>, usize>,
}

impl<'a> Taken<'a> {
    /// None: it has its place now. Else who stands in its way. Shorter ones come first.
    fn claim(&mut self, path: Cow<'a, str>, index: usize) -> Option<usize> {
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]).filter(|&end| end > 0) {
            let upto = path.get(..end).unwrap_or("");
            if let Some(&winner) = self.files.get(upto) {
                return Some(winner);
            }
            let main = SIDECARS.iter().find_map(|suffix| self.files.get(upto.strip_suffix(suffix)?));
            if let Some(&winner) = main {
                return Some(winner);
            }
        }
        self.files.insert(path, index);
        None
    }
}

/// Whether the file system at `dir`, or at what exists of it, takes `a` and `A` for one name:
/// by trying. No where that cannot be tried.
pub fn folds_case(dir: &Path) -> bool {
    let Some(existing) = dir.ancestors().find(|dir| dir.is_dir()) else { return false };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::open(existing, flags, Mode::empty()) else { return false };
    // Named so that a later run sweeps it away if this one is killed here.
    let random: String = (0..8).map(|_| fastrand::alphanumeric().to_ascii_lowercase()).collect();
    let (name, other) = (format!(".case.hydrant-{random}"), format!(".CASE.hydrant-{random}"));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    if rustix::fs::openat(&fd, &name, flags, Mode::RUSR | Mode::WUSR).is_err() {
        return false;
    }
    let folds = rustix::fs::statat(&fd, &other, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    let _ = rustix::fs::unlinkat(&fd, &name, AtFlags::empty());
    folds
}

/// Litestream's own state of an older database beside `output` confuses it when it resumes
/// (PROMISES 29): what to say of it. `source` is where a replica on disk lies.
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
    use super::*;

    fn losers(paths: &[&str], folds: bool) -> Vec<usize> {
        let places: Vec<_> = paths.iter().map(|path| Some(PathBuf::from(path))).collect();
        let mut losers: Vec<_> = collisions(&places, &["/o/errors.log".into()], |_| folds).into_keys().collect();
        losers.sort();
        losers
    }

    #[test]
    fn the_shorter_then_the_first_is_restored() {
        assert_eq!(losers(&["/o/a/app.db/old.db", "/o/a/app.db", "/o/a/app.db-2"], false), [0]);
        assert_eq!(losers(&["/o/b.db", "/o/b.db"], false), [1]);
        assert_eq!(losers(&["/o/x.db-wal", "/o/x.db", "/o/x.db-wal/y.db", "/o/x.db-walx"], false), [0, 2]);
        // Who has lost takes nobody's place.
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
            let refused = Place::of(Output::Relative(name.to_owned()), &root).unwrap_err();
            assert_eq!(refused.class, Class::UnsafePath, "{name:?}");
            let in_dir = Output::InDir { dir: "/srv".into(), relative: name.to_owned() };
            assert!(Place::of(in_dir, &root).is_err(), "{name:?}");
        }
        for name in ["a", "..a", "a..", "...", "a b/ö/\\", ".a/.b"] {
            let place = Place::of(Output::Relative(name.to_owned()), &root).unwrap();
            assert_eq!(place.path(), Path::new("/out").join(name));
        }
    }
}
