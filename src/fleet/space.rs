//! Compares the size of a fleet's files with the free disk space, once all databases are known.
//!
//! The size is an estimate from the listing: databases are larger than their compressed files, and files that a
//! restore does not need are not counted exactly. So it leads to a warning, never to a refusal. Each database is
//! refused for itself, by its exact size, before its files are fetched (`restore::execute::space`).

use crate::commit::FreeSpace;
use crate::fleet::job::Job;
use crate::fleet::outputs::OutputPath;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files of databases that go to one file system are larger than its free space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LittleSpace {
    /// The estimated size of these files.
    pub estimated_bytes: u64,
    /// The free space of the file system, as it was before the first restore.
    pub free_bytes: u64,
    /// The directory that all these databases go below.
    pub below: PathBuf,
}

impl LittleSpace {
    /// For one database with files of `bytes`, which is to be restored to `output`. None if the free space is not
    /// smaller, or not known.
    pub fn for_one(output: &Path, bytes: u64) -> Option<Self> {
        let below = output.parent().unwrap_or(output);
        let free_bytes = FreeSpace::below(below)?.available;
        (bytes > free_bytes).then(|| Self { estimated_bytes: bytes, free_bytes, below: below.to_owned() })
    }
}

/// The databases that go to one file system.
#[derive(Default)]
struct Share<'a> {
    jobs: Vec<&'a Job>,
    /// The directory that all of them lie below. None: none was added yet.
    below: Option<PathBuf>,
}

/// The file systems whose free space is smaller than the files of the databases that go there. With
/// `skips_existing`, databases that exist already do not count.
pub(super) fn little_space(jobs: &[Job], skips_existing: bool) -> Vec<LittleSpace> {
    let mut devices = Devices::default();
    let mut shares: BTreeMap<u64, Share<'_>> = BTreeMap::new();
    for job in jobs {
        let below: &Path = match &job.place {
            OutputPath::Path(path) => path.parent().unwrap_or(path),
            OutputPath::Beneath { root, .. } => root,
        };
        let Some(device) = devices.of(below) else { continue };
        let share = shares.entry(device).or_default();
        share.jobs.push(job);
        share.below = Some(match share.below.take() {
            Some(other) => common(other, below),
            None => below.to_owned(),
        });
    }
    shares.into_values().filter_map(|share| share.compare(skips_existing)).collect()
}

impl Share<'_> {
    fn compare(self, skips_existing: bool) -> Option<LittleSpace> {
        let below = self.below?;
        let free_bytes = FreeSpace::below(&below)?.available;
        let sum = |counts: &dyn Fn(&Job) -> bool| -> u64 {
            self.jobs.iter().filter(|job| counts(job)).map(|job| job.estimated_bytes).sum()
        };
        let mut estimated_bytes = sum(&|_| true);
        // Each look at a database takes a system call, so it is done only where it may matter.
        if estimated_bytes > free_bytes && skips_existing {
            estimated_bytes = sum(&|job| !job.place.exists());
        }
        (estimated_bytes > free_bytes).then_some(LittleSpace { estimated_bytes, free_bytes, below })
    }
}

/// The longest path that both `a` and `b` lie below.
fn common(mut a: PathBuf, b: &Path) -> PathBuf {
    while !b.starts_with(&a) && a.pop() {}
    a
}

/// The devices of directories. Each directory is looked at once.
#[derive(Default)]
struct Devices(HashMap<PathBuf, Option<u64>>);

impl Devices {
    /// The device of `dir`, or of the nearest directory above it that exists.
    fn of(&mut self, dir: &Path) -> Option<u64> {
        if let Some(known) = self.0.get(dir) {
            return *known;
        }
        // This recursion ends: each turn removes a component of the path.
        let device = match dir.metadata() {
            Ok(metadata) => Some(metadata.dev()),
            Err(_) => dir.parent().and_then(|above| self.of(above)),
        };
        self.0.insert(dir.to_owned(), device);
        device
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Replica;
    use crate::fleet::discovery::found::{DatabaseRef, Discovery, Found, Output};
    use crate::fleet::job::{Admission, Places};
    use crate::fleet::priority::First;
    use crate::store::{Store, file::FileStore};
    use std::sync::Arc;

    /// Databases with these names below `dir`, of `bytes` each.
    fn jobs(dir: &Path, names: &[&str], bytes: u64) -> Vec<Job> {
        let first = First(Vec::new());
        let places = Places { output_dir: dir.into(), reserved: Vec::new(), folds: |_| false };
        let found = names.iter().map(|name| {
            let replica = Replica { root: format!("{name}/"), files: vec![], v3: None, others: Vec::new() };
            let (name, store) = ((*name).to_owned(), Store::File(FileStore::default()));
            let database = DatabaseRef::new(&name, format!("bucket/{name}"), store, &name);
            Found { database: Arc::new(database), replica: Some(replica), output: Output::Relative(name) }
        });
        let mut jobs =
            Admission::new(places, &first).admit(Discovery { found: found.collect(), ..Discovery::default() }).jobs;
        jobs.iter_mut().for_each(|job| job.estimated_bytes = bytes);
        jobs
    }

    #[test]
    fn files_larger_than_the_disk_are_named_with_what_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("not/yet/there");
        assert_eq!(little_space(&jobs(&new, &["a.db", "b.db"], 1), false), []);
        let huge = jobs(&new, &["a.db", "b.db"], 1 << 61);
        let found = little_space(&huge, true);
        assert_eq!((found.len(), found[0].estimated_bytes, &found[0].below), (1, 1 << 62, &new));
        assert!(found[0].free_bytes < 1 << 61);
        // A database that exists is skipped, so it needs no space.
        std::fs::create_dir_all(&new).unwrap();
        std::fs::write(new.join("a.db"), "exists").unwrap();
        assert_eq!(little_space(&huge, true)[0].estimated_bytes, 1 << 61);
        assert_eq!(little_space(&huge, false)[0].estimated_bytes, 1 << 62);
        std::fs::write(new.join("b.db"), "exists").unwrap();
        assert_eq!(little_space(&huge, true), []);
    }

    #[test]
    fn one_database_is_compared_with_the_disk_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("new/a.db");
        assert_eq!(LittleSpace::for_one(&output, 1), None);
        let little = LittleSpace::for_one(&output, 1 << 62).unwrap();
        assert_eq!((little.estimated_bytes, little.below), (1 << 62, dir.path().join("new")));
    }

    #[test]
    fn several_directories_of_one_file_system_count_together() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = jobs(&dir.path().join("x/one"), &["a.db"], 1 << 61);
        all.extend(jobs(&dir.path().join("x/two"), &["a.db"], 1 << 61));
        let found = little_space(&all, false);
        assert_eq!((found.len(), found[0].estimated_bytes, &found[0].below), (1, 1 << 62, &dir.path().join("x")));
    }
}
