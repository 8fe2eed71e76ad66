//! Why the place of a replica has no LTX files of a database. 'No backups' is a fact that `-if-replica-exists` turns into
//! a success. It is concluded only where the place was listed and holds nothing of any database.

#![allow(missing_docs, reason = "the text in #[error] says what each field is")]

use crate::catalogue::{Surroundings, root_of};
use crate::error::escaped;
use crate::store::Store;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The first words of all of these errors. Scripts rely on them (docs/CLI.md, "Texts that scripts rely on").
const NO_BACKUPS: &str = "no matching backup files available";

/// Why no backups were found at a place. `path` is that place as messages show it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NothingFound {
    /// Nothing lies there, or only objects that are no backup files.
    #[error("{NO_BACKUPS}: {}", empty(.path, *.objects, .example.as_deref()))]
    Empty {
        path: String,
        /// The number of objects that are no backup files.
        objects: u64,
        /// The key of one of them.
        example: Option<String>,
    },
    /// The directory does not exist. `nearest` is the nearest directory above it that does.
    #[error("{NO_BACKUPS}: {}", no_directory(.path, .nearest))]
    NoDirectory { path: PathBuf, nearest: PathBuf },
    /// The path is a directory or a file of the replica at `replica`.
    #[error(
        "{NO_BACKUPS}: {} lies inside the replica {}: give the path of the replica itself",
        escaped(.path),
        escaped(.replica)
    )]
    Inside {
        path: String,
        replica: String,
        /// The replica's path in its store, without a slash at its end.
        root: String,
    },
    /// Databases lie below the path.
    #[error("{NO_BACKUPS}: {}", below(.path, *.count, .roots))]
    Below {
        path: String,
        /// How many there are.
        count: u64,
        /// The beginning of their keys: of all of them, or of the first 1,000.
        roots: Vec<String>,
    },
}

impl NothingFound {
    /// The reason for a path that was listed, with what the listing showed.
    pub fn of(path: &str, store: &Store, around: &Surroundings) -> Self {
        let bare = path.trim_end_matches('/');
        let path = store.place(if bare == "." { "" } else { bare });
        if store.is_on_disk()
            && let Some(nearest) = nearest_directory(Path::new(&path))
        {
            return Self::NoDirectory { path: path.into(), nearest };
        }
        if let Some(root) = &around.around {
            let root = root.trim_end_matches('/').to_owned();
            return Self::Inside { path, replica: store.place(&root), root };
        }
        if around.below_count > 0 {
            return Self::Below { path, count: around.below_count, roots: around.below.clone() };
        }
        let example = around.objects.first.as_deref().map(str::to_owned);
        Self::Empty { path, objects: around.objects.count, example }
    }

    /// Whether there are no backups, so that `-if-replica-exists` permits it.
    pub fn is_no_backup(&self) -> bool {
        matches!(self, Self::Empty { .. } | Self::NoDirectory { .. })
    }

    /// What is said although `-if-replica-exists` permits that there are no backups.
    pub fn warning(&self) -> Option<String> {
        match self {
            Self::NoDirectory { path, nearest } => Some(no_directory(path, nearest)),
            _ => None,
        }
    }

    /// The same without the databases that `is_known`, because the same configuration names them.
    #[must_use]
    pub fn without(self, is_known: &dyn Fn(&str) -> bool) -> Self {
        match self {
            Self::Below { path, count, mut roots } => {
                let all = roots.len() as u64;
                roots.retain(|root| !is_known(root));
                match count - (all - roots.len() as u64) {
                    0 => Self::Empty { path, objects: 0, example: None },
                    count => Self::Below { path, count, roots },
                }
            }
            other => other,
        }
    }
}

/// The root of the replica that `path` lies in, as its name shows. None for the path of a database.
pub(super) fn root_around(path: &str) -> Option<&str> {
    root_of(path).filter(|root| !root.is_empty())
}

/// The nearest directory above `path` that exists. None if `path` itself exists.
pub fn nearest_directory(path: &Path) -> Option<PathBuf> {
    let exists = |path: &Path| path.symlink_metadata().is_ok();
    if path.metadata().is_ok() {
        return None;
    }
    path.ancestors().skip(1).find(|above| exists(above)).map(Path::to_owned)
}

/// The text for a directory that does not exist.
pub fn no_directory(path: &Path, nearest: &Path) -> String {
    format!(
        "{} does not exist, the nearest directory above it is {} (is the volume mounted?)",
        escaped(&path.to_string_lossy()),
        escaped(&nearest.to_string_lossy())
    )
}

fn below(path: &str, count: u64, roots: &[String]) -> String {
    let lie = if count == 1 { "1 database lies".to_owned() } else { format!("{count} databases lie") };
    let example = roots.first().map_or("", |root| root.strip_suffix('/').unwrap_or(root));
    format!(
        "{} is the path of no database, but {lie} below it, for example {}: give the path of one of them, or restore all \
         with restore-pattern",
        escaped(path),
        escaped(example)
    )
}

fn empty(path: &str, objects: u64, example: Option<&str>) -> String {
    let place = escaped(path);
    match example {
        None => format!("nothing lies at {place}"),
        Some(example) if objects == 1 => {
            format!("1 object lies at {place}, {}, but no backup file", escaped(example))
        }
        Some(example) => {
            format!("{objects} objects lie at {place}, for example {}, but no backup file", escaped(example))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::OtherObjects;
    use crate::store::s3::{S3, S3Config, S3Options};
    use std::sync::Arc;

    #[test]
    fn only_an_empty_place_has_no_backups() {
        let s3 = S3::new(S3Config { bucket: "b".into(), ..S3Config::default() }, &S3Options::default(), Arc::default());
        let store = Store::S3(Arc::new(s3));
        let of = |around: &Surroundings| NothingFound::of("p/a", &store, around);
        let nothing = of(&Surroundings::default());
        assert_eq!(nothing.to_string(), "no matching backup files available: nothing lies at s3://b/p/a");
        let objects = OtherObjects { count: 2, first: Some("p/a/x".into()) };
        let other = of(&Surroundings { objects, ..Surroundings::default() });
        assert!(
            other.to_string().ends_with(": 2 objects lie at s3://b/p/a, for example p/a/x, but no backup file"),
            "{other}"
        );
        assert!(nothing.is_no_backup() && other.is_no_backup());
        let inside = of(&Surroundings { around: Some("p/".into()), ..Surroundings::default() });
        assert!(inside.to_string().contains(": s3://b/p/a lies inside the replica s3://b/p: give"), "{inside}");
        let roots = ["p/a/x/", "p/a/y/"].map(str::to_owned).to_vec();
        let below = of(&Surroundings { below_count: 2, below: roots, ..Surroundings::default() });
        assert!(below.to_string().contains("but 2 databases lie below it, for example p/a/x: give"), "{below}");
        assert!(!inside.is_no_backup() && !below.is_no_backup());
        // Databases that the same file configures are no reason to doubt.
        let less = below.clone().without(&|root| root == "p/a/x/");
        assert!(less.to_string().contains("but 1 database lies below it, for example p/a/y: give"), "{less}");
        assert!(below.without(&|_| true).is_no_backup());
    }

    #[test]
    fn the_nearest_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mount/replicas/a.db");
        let nothing =
            NothingFound::of(path.to_str().unwrap(), &Store::File(Default::default()), &Surroundings::default());
        let NothingFound::NoDirectory { nearest, .. } = &nothing else { panic!("{nothing}") };
        assert_eq!(nearest, dir.path());
        assert!(nothing.is_no_backup() && nothing.warning().unwrap().ends_with("(is the volume mounted?)"));
        std::fs::create_dir_all(&path).unwrap();
        let nothing =
            NothingFound::of(path.to_str().unwrap(), &Store::File(Default::default()), &Surroundings::default());
        assert_eq!(nothing.warning(), None);
    }
}
