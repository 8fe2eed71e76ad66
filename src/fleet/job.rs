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

/// Turns found databases into jobs and refuses outputs that collide. Of several databases that are
/// admitted in one call the winner is chosen by [`Admitted::claim`]; a database that was admitted in
/// an earlier call keeps its output.
pub struct Admission<'a> {
    output_dir: Arc<Path>,
    first: &'a First,
    admitted: Admitted,
    any_first: bool,
}

/// What is to be done, and what cannot be done.
#[derive(Debug, Default)]
pub struct Jobs {
    pub jobs: Vec<Job>,
    pub refused: Vec<Ended>,
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
    pub fn new(places: Places, first: &'a First) -> Self {
        let Places { output_dir, reserved, folds } = places;
        Self { output_dir, first, admitted: Admitted::new(&reserved, folds), any_first: false }
    }

    /// Whether any admitted database matches `--first`.
    pub const fn any_first(&self) -> bool {
        self.any_first
    }

    /// Admits some of the databases. No database that is found later may have a better claim to one
    /// of their outputs.
    pub fn some(&mut self, found: Vec<Found>) -> Jobs {
        self.admit(found.into_iter().map(|found| (found, None)), Jobs::default())
    }

    /// Admits all other databases.
    pub fn rest(&mut self, discovery: Discovery) -> Jobs {
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
        self.admit(discovery.found.into_iter().map(|found| (found, None)).chain(again), all)
    }

    /// How a database ends whose restore started from a listing that later proved to be out of order,
    /// and whose files in the full listing are others.
    pub(super) fn possibly_incomplete(&self, found: Found) -> Ended {
        let output = OutputPath::of(found.output, &self.output_dir).ok().map(|place| place.path());
        let reason = "the bucket does not list in order, and showed more of this database's files after its \
                      restore had begun with those before: restore it again, with --force";
        let why = Refused { class: Class::S3Error, reason: reason.to_owned() };
        refused(Subject::Database(found.database), output, why)
    }

    fn admit(&mut self, found: impl Iterator<Item = (Found, Option<StoreError>)>, mut all: Jobs) -> Jobs {
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
            match OutputPath::of(output, &self.output_dir) {
                Err(why) => all.refused.push(refused(Subject::Database(database), None, why)),
                Ok(place) => {
                    jobs.push(Job { database, place, listing, estimated_bytes, turn, begun: None, retries: 0 });
                }
            }
        }
        let paths: Vec<PathBuf> = jobs.iter().map(|job| job.place.path()).collect();
        let mut colliding = self.admitted.claim(&paths);
        for (i, (job, path)) in jobs.into_iter().zip(paths).enumerate() {
            match colliding.remove(&i) {
                Some(why) => all.refused.push(refused(Subject::Database(job.database), Some(path), why)),
                None => {
                    self.any_first |= job.turn < self.first.len();
                    all.jobs.push(job);
                }
            }
        }
        debug_assert!(colliding.is_empty(), "a collision of a job that does not exist");
        all
    }
}

fn refused(subject: Subject, output: Option<PathBuf>, why: Refused) -> Ended {
    let ending = Ending::Failed { class: why.class, reason: why.reason };
    Ended { subject, output, retries: 0, elapsed: Duration::ZERO, ending }
}
