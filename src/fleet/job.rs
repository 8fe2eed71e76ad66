//! A fleet's databases as jobs, and how each of them ended.

use crate::catalogue::Replica;
use crate::error::Class;
use crate::fleet::discovery::discover::{Discovery, Found, FoundError, FoundFailure, Output};
use crate::fleet::outputs::{Admitted, OutputPath, Refused};
use crate::fleet::queue::{First, estimated_bytes};
use crate::ltx::Txid;
use crate::restore::{Discarded, RestoreOutcome};
use crate::store::{Store, StoreError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A database to be restored.
#[derive(Debug)]
pub struct Job {
    pub name: String,
    pub id: String,
    pub store: Store,
    pub path: String,
    pub place: OutputPath,
    pub listing: Known,
    pub estimated_bytes: u64,
    /// Which of `--first` it is; those of none come last.
    pub(super) turn: usize,
    pub(super) begun: Option<Instant>,
    pub(super) retries: u32,
}

/// What discovery knows of a database's files.
#[derive(Debug)]
pub enum Known {
    Known(Replica),
    /// The bucket holds nothing of it.
    Absent,
    Failed(StoreError),
    /// To be listed again.
    Unknown,
}

/// How one database ended.
#[derive(Debug)]
pub struct Ended {
    /// The configured path, in URL mode the key.
    pub name: String,
    /// `bucket/key`; empty where it has no place in a bucket.
    pub id: String,
    /// Absolute; None where it has no safe one.
    pub output: Option<PathBuf>,
    /// `s3` or `file`.
    pub replica: &'static str,
    pub retries: u32,
    /// From its first turn on, pauses included.
    pub elapsed: Duration,
    pub ending: Ending,
}

#[derive(Debug)]
pub enum Ending {
    Restored {
        outcome: Box<RestoreOutcome>,
        /// Besides those in the outcome.
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

/// What `-dry-run` says of a database.
#[derive(Debug, Clone)]
pub struct PlannedDatabase {
    /// The TXID that it would reach.
    pub txid: Txid,
    pub files: u64,
    /// To be fetched.
    pub bytes: u64,
    pub requests: u64,
    pub warnings: Vec<String>,
}

/// How outputs get their places.
#[derive(Debug, Clone)]
pub struct Places {
    /// Absolute.
    pub output_dir: Arc<Path>,
    /// Absolute paths that the run itself writes to.
    pub reserved: Vec<PathBuf>,
    /// See [`crate::fleet::outputs::folds_case`].
    pub folds: fn(&Path) -> bool,
}

/// Turns what is found into jobs. Of outputs in each other's way one is restored; who has got a
/// place keeps it.
pub struct Admission<'a> {
    output_dir: Arc<Path>,
    first: &'a First,
    taken: Admitted,
    any_first: bool,
}

/// What is to be done, and what cannot be.
#[derive(Debug, Default)]
pub struct Jobs {
    pub jobs: Vec<Job>,
    pub refused: Vec<Ended>,
}

impl<'a> Admission<'a> {
    pub fn new(places: Places, first: &'a First) -> Self {
        let Places { output_dir, reserved, folds } = places;
        Self { output_dir, first, taken: Admitted::new(&reserved, folds), any_first: false }
    }

    /// Whether any database so far is one of `--first`.
    pub const fn any_first(&self) -> bool {
        self.any_first
    }

    /// Some of the databases, whose places none that is found later can win.
    pub fn some(&mut self, found: Vec<Found>) -> Jobs {
        self.take(found.into_iter().map(|found| (found, None)), Jobs::default())
    }

    /// All the others.
    pub fn rest(&mut self, discovery: Discovery) -> Jobs {
        let mut all = Jobs::default();
        let mut again = Vec::new();
        for error in discovery.failed {
            match error {
                FoundError { failure: FoundFailure::Store(e), found: Some(found), .. } => again.push((*found, Some(e))),
                error => all.refused.push(refused_error(error)),
            }
        }
        self.take(discovery.found.into_iter().map(|found| (found, None)).chain(again), all)
    }

    /// How a database ended that was handed over by a listing that then proved to be in no order,
    /// where that was found out after its turn had come.
    pub(super) fn in_doubt(&self, found: Found) -> Ended {
        let output = OutputPath::of(found.output, &self.output_dir).ok().map(|place| place.path());
        let reason = "the bucket does not list in order, and showed more of this database's files after its \
                      restore had begun with those before: restore it again, with --force";
        let why = Refused { class: Class::S3Error, reason: reason.to_owned() };
        refused(found.name, found.id, output, found.store.kind(), why)
    }

    fn take(&mut self, found: impl Iterator<Item = (Found, Option<StoreError>)>, mut all: Jobs) -> Jobs {
        let mut jobs = Vec::new();
        for (mut found, error) in found {
            let turn = self.first.turn_of(&found);
            let listing = match (error, found.replica.take()) {
                (Some(e), _) => Known::Failed(e),
                (None, Some(replica)) => Known::Known(replica),
                (None, None) => Known::Absent,
            };
            let output = std::mem::replace(&mut found.output, Output::Relative(String::new()));
            match OutputPath::of(output, &self.output_dir) {
                Err(why) => all.refused.push(refused(found.name, found.id, None, found.store.kind(), why)),
                Ok(place) => jobs.push(Job {
                    name: found.name,
                    id: found.id,
                    store: found.store,
                    path: found.path,
                    place,
                    estimated_bytes: match &listing {
                        Known::Known(replica) => estimated_bytes(replica),
                        _ => 0,
                    },
                    listing,
                    turn,
                    begun: None,
                    retries: 0,
                }),
            }
        }
        let paths: Vec<PathBuf> = jobs.iter().map(|job| job.place.path()).collect();
        let mut colliding = self.taken.claim(&paths);
        for (i, (job, path)) in jobs.into_iter().zip(paths).enumerate() {
            match colliding.remove(&i) {
                Some(why) => all.refused.push(refused(job.name, job.id, Some(path), job.store.kind(), why)),
                None => {
                    self.any_first |= job.turn < self.first.len();
                    all.jobs.push(job);
                }
            }
        }
        all
    }
}

fn refused_error(error: FoundError) -> Ended {
    let why = Refused { class: error.class(), reason: error.to_string() };
    refused(error.name, String::new(), None, "", why)
}

fn refused(name: String, id: String, output: Option<PathBuf>, replica: &'static str, why: Refused) -> Ended {
    let ending = Ending::Failed { class: why.class, reason: why.reason };
    Ended { name, id, output, replica, retries: 0, elapsed: Duration::ZERO, ending }
}
