//! The databases of a fleet as jobs, and how each of them ended.

use crate::catalogue::Replica;
use crate::error::Class;
use crate::fleet::discovery::found::{DatabaseRef, Discovery, Found, FoundError, FoundFailure};
use crate::fleet::outputs::{Admitted, OutputPath, Refused};
use crate::fleet::priority::{First, estimated_bytes};
use crate::ltx::Txid;
use crate::restore::{Discarded, RestoreOutcome};
use crate::store::StoreError;
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
}

/// What is to be done, and what cannot be done.
#[derive(Debug, Default)]
pub struct Jobs {
    pub jobs: Vec<Job>,
    pub refused: Vec<Ended>,
    /// Whether any of `jobs` matches `--first`.
    pub any_first: bool,
}

impl Subject {
    /// The configured path; with a URL, the key.
    pub fn name(&self) -> &str {
        match self {
            Self::Database(database) => database.name(),
            Self::Entry(name) => name,
        }
    }

    /// `bucket/key`; None for an entry.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Database(database) => Some(database.id()),
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
        Self { places, first }
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
        for (found, error) in found {
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
        // In place: there may be millions of jobs.
        let mut index = 0;
        let losers = jobs.extract_if(.., |_| {
            index += 1;
            colliding.contains_key(&(index - 1))
        });
        let losers: Vec<Job> = losers.collect();
        let mut indexes: Vec<usize> = colliding.keys().copied().collect();
        indexes.sort_unstable();
        for (job, i) in losers.into_iter().zip(indexes) {
            if let Some(why) = colliding.remove(&i) {
                all.refused.push(refused(Subject::Database(job.database), paths.get(i).cloned(), why));
            }
        }
        all.any_first = jobs.iter().any(|job| job.turn < self.first.len());
        all.jobs = jobs;
        debug_assert!(colliding.is_empty(), "a collision of a job that does not exist");
        all
    }
}

fn refused(subject: Subject, output: Option<PathBuf>, why: Refused) -> Ended {
    let ending = Ending::Failed { class: why.class, reason: why.reason };
    Ended { subject, output, retries: 0, elapsed: Duration::ZERO, ending }
}
