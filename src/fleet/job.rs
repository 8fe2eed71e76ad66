//! The databases of a fleet as jobs, and how each of them ended.

use crate::catalogue::Replica;
use crate::error::Class;
use crate::fleet::discovery::found::{DatabaseRef, Discovery, Found, FoundError, FoundFailure};
use crate::fleet::only::{Chosen, Only};
use crate::fleet::outputs::{Admitted, OutputPath, Refused};
use crate::fleet::priority::{First, estimated_bytes};
use crate::ltx::Txid;
use crate::restore::{Discarded, RestoreOutcome};
use crate::store::StoreError;
use crate::timestamp::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A database that is to be restored.
#[derive(Debug)]
pub struct Job {
    pub database: Arc<DatabaseRef>,
    pub place: OutputPath,
    pub listing: Known,
    pub estimated_bytes: u64,
    /// The index of the glob of `--first` that it matches ([`First::turn_of`]).
    pub(super) turn: usize,
    /// When it was first started.
    pub(super) begun: Option<Instant>,
    pub(super) retries: u32,
}

/// What discovery knows of a database's files.
#[derive(Debug)]
pub enum Known {
    Known(Replica),
    /// The bucket holds nothing of it.
    Absent,
    /// Its listing failed.
    Failed(StoreError),
    /// Its files are to be listed (again) when it is restored.
    Unknown,
}

/// What an [`Ended`] speaks of.
#[derive(Debug, Clone)]
pub enum Subject {
    Database(Arc<DatabaseRef>),
    /// An entry of litestream.yml that cannot be used, or a `dir:` entry whose databases could not be
    /// listed: its path.
    Entry(String),
}

/// How one database ended.
#[derive(Debug)]
pub struct Ended {
    pub subject: Subject,
    /// The absolute output path. None: it has no safe one.
    pub output: Option<PathBuf>,
    pub retries: u32,
    /// The time since it was first started, pauses between retries included.
    pub elapsed: Duration,
    pub ending: Ending,
}

#[derive(Debug)]
pub enum Ending {
    Restored {
        outcome: Box<RestoreOutcome>,
        /// Warnings besides those in `outcome`.
        warnings: Vec<String>,
    },
    Planned(PlannedDatabase),
    Rehearsed(Discarded),
    Skipped(&'static str),
    Failed {
        class: Class,
        reason: String,
    },
}

/// What `-dry-run` shows of a database.
#[derive(Debug, Clone)]
pub struct PlannedDatabase {
    /// The TXID that a restore would reach.
    pub txid: Txid,
    pub files: u64,
    /// Bytes to be fetched.
    pub bytes: u64,
    pub requests: u64,
    pub warnings: Vec<String>,
    /// The state that a restore would reach.
    pub state: Option<NewestState>,
}

/// The time of the state that a database was restored to, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestState {
    pub time: Timestamp,
    /// `header` or `last_modified`, as `time_source` in JSON.
    pub source: &'static str,
}

impl NewestState {
    /// How much older than `reference` it is. 0 if it is newer: clocks differ.
    pub fn age_seconds(self, reference: Timestamp) -> u64 {
        self.time.seconds_until(reference)
    }
}

/// How outputs get their paths.
#[derive(Debug, Clone)]
pub struct Places {
    /// An absolute path.
    pub output_dir: Arc<Path>,
    /// Absolute paths of the files that the run itself writes.
    pub reserved: Vec<PathBuf>,
    /// See [`crate::fleet::outputs::folds_case`].
    pub folds: fn(&Path) -> bool,
}

/// Turns found databases into jobs and refuses outputs that collide ([`Admitted::claim`]).
pub struct Admission<'a> {
    places: Places,
    first: &'a First,
    only: Option<&'a Only>,
}

/// What is to be done, and what cannot be done.
#[derive(Debug, Default)]
pub struct Jobs {
    pub jobs: Vec<Job>,
    pub refused: Vec<Ended>,
    /// Indexes of the globs of `--first` that no database matches.
    pub unmatched_first: Vec<usize>,
    /// With `--only`: what its file names.
    pub only: Option<OnlyFound>,
}

/// What the file of `--only` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlyFound {
    /// The number of databases that it names and that were found.
    pub databases: usize,
    /// Names in it that are no database's.
    pub unmatched: Vec<String>,
}

impl Subject {
    /// The configured path; with a URL, the key.
    pub fn name(&self) -> &str {
        match self {
            Self::Database(database) => &database.name,
            Self::Entry(name) => name,
        }
    }

    /// `bucket/key`; None for an entry.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Database(database) => Some(&database.id),
            Self::Entry(_) => None,
        }
    }

    /// `s3` or `file`; empty for an entry.
    pub fn replica(&self) -> &'static str {
        match self {
            Self::Database(database) => database.store.kind(),
            Self::Entry(_) => "",
        }
    }
}

/// The fields `name` and, of a database, `key`.
impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("name", self.name())?;
        if let Some(id) = self.id() {
            fields.serialize_entry("key", id)?;
        }
        fields.end()
    }
}

impl Ended {
    pub fn name(&self) -> &str {
        self.subject.name()
    }
}

impl<'a> Admission<'a> {
    pub const fn new(places: Places, first: &'a First) -> Self {
        Self { places, first, only: None }
    }

    /// Only the databases that `only` names are restored.
    pub fn only(self, only: Option<&'a Only>) -> Self {
        Self { only, ..self }
    }

    /// Admits the databases of `discovery`.
    pub fn admit(&self, discovery: Discovery) -> Jobs {
        let mut all = Jobs::default();
        let mut again = Vec::new();
        for error in discovery.failed {
            match error {
                FoundError { failure: FoundFailure::Store(e), found: Some(found), .. } => again.push((*found, Some(e))),
                error => {
                    let why = Refused { class: error.class(), reason: error.to_string() };
                    all.refused.push(refused(Subject::Entry(error.name), None, why));
                }
            }
        }
        let found = discovery.found.into_iter().map(|found| (found, None)).chain(again);
        let mut jobs = Vec::new();
        let mut unmatched_first: Vec<usize> = (0..self.first.len()).collect();
        for (found, error) in found {
            unmatched_first.retain(|glob| !self.first.matches(*glob, &found));
            let turn = self.first.turn_of(&found);
            let Found { database, replica, output } = found;
            let estimated_bytes = replica.as_ref().map_or(0, estimated_bytes);
            let listing = match (error, replica) {
                (Some(e), _) => Known::Failed(e),
                (None, Some(replica)) => Known::Known(replica),
                (None, None) => Known::Absent,
            };
            match OutputPath::of(output, &self.places.output_dir) {
                Err(why) => all.refused.push(refused(Subject::Database(database), None, why)),
                Ok(place) => {
                    jobs.push(Job { database, place, listing, estimated_bytes, turn, begun: None, retries: 0 });
                }
            }
        }
        let paths: Vec<PathBuf> = jobs.iter().map(|job| job.place.path()).collect();
        let mut colliding = Admitted::new(&self.places.reserved, self.places.folds).claim(&paths);
        for (i, (job, path)) in jobs.into_iter().zip(paths).enumerate() {
            match colliding.remove(&i) {
                Some(why) => all.refused.push(refused(Subject::Database(job.database), Some(path), why)),
                None => all.jobs.push(job),
            }
        }
        debug_assert!(colliding.is_empty(), "a collision of a job that does not exist");
        all.unmatched_first = unmatched_first;
        if let Some(only) = self.only {
            all.limit_to(only);
        }
        all
    }
}

impl Jobs {
    /// Drops what `only` does not name. Collisions were judged before: a database that lost its path to another one
    /// does not get it because the other is already restored.
    fn limit_to(&mut self, only: &Only) {
        let of_job = |job: &Job| Subject::Database(Arc::clone(&job.database));
        let subjects: Vec<Subject> =
            self.jobs.iter().map(of_job).chain(self.refused.iter().map(|ended| ended.subject.clone())).collect();
        let names: Vec<_> = subjects.iter().map(|subject| (subject.name(), subject.id())).collect();
        let Chosen { indexes, unmatched } = only.choose(&names);
        let mut index = 0;
        let mut is_chosen = || {
            index += 1;
            indexes.contains(&(index - 1))
        };
        self.jobs.retain(|_| is_chosen());
        self.refused.retain(|_| is_chosen());
        self.only = Some(OnlyFound { databases: indexes.len(), unmatched });
    }
}

fn refused(subject: Subject, output: Option<PathBuf>, why: Refused) -> Ended {
    let ending = Ending::Failed { class: why.class, reason: why.reason };
    Ended { subject, output, retries: 0, elapsed: Duration::ZERO, ending }
}
