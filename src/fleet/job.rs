//! A fleet's databases as jobs, in the order of their turns, and how each of them ended.

use super::discover::{Discovery, FoundError, FoundFailure, Output};
use super::order::{First, estimated_bytes};
use super::paths::{Place, Refused, collisions};
use crate::catalogue::Replica;
use crate::error::Class;
use crate::ltx::Txid;
use crate::restore::{Outcome, Rehearsed};
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
    pub place: Place,
    pub listing: Listing,
    pub estimated_bytes: u64,
    pub(super) begun: Option<Instant>,
    pub(super) retries: u32,
}

/// What discovery knows of a database's files.
#[derive(Debug)]
pub enum Listing {
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
        outcome: Box<Outcome>,
        /// Besides those in the outcome.
        warnings: Vec<String>,
    },
    Planned(PlannedDatabase),
    Rehearsed(Rehearsed),
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
pub struct Places {
    /// Absolute.
    pub output_dir: Arc<Path>,
    /// Absolute paths that the run itself writes to.
    pub reserved: Vec<PathBuf>,
    /// See [`collisions`].
    pub folds: fn(&Path) -> bool,
}

/// What is to be done, and what cannot be.
pub struct Jobs {
    /// In the order of their turns.
    pub jobs: Vec<Job>,
    pub refused: Vec<Ended>,
    /// Whether any database is one of `--first`.
    pub any_first: bool,
}

/// Turns what was found into jobs.
pub fn jobs(discovery: Discovery, places: &Places, first: &First) -> Jobs {
    let mut all = Jobs { jobs: Vec::new(), refused: Vec::new(), any_first: false };
    let mut turns: Vec<(usize, Job)> = Vec::with_capacity(discovery.found.len());
    let mut again = Vec::new();
    for error in discovery.failed {
        match error {
            FoundError { failure: FoundFailure::Store(e), found: Some(found), .. } => again.push((*found, Some(e))),
            error => all.refused.push(refused_error(error)),
        }
    }
    let found = discovery.found.into_iter().map(|found| (found, None)).chain(again);
    for (mut found, error) in found {
        let turn = first.turn_of(&found);
        let listing = match (error, found.replica.take()) {
            (Some(e), _) => Listing::Failed(e),
            (None, Some(replica)) => Listing::Known(replica),
            (None, None) => Listing::Absent,
        };
        let output = std::mem::replace(&mut found.output, Output::Relative(String::new()));
        match Place::of(output, &places.output_dir) {
            Err(why) => all.refused.push(refused(found.name, found.id, None, found.store.kind(), why)),
            Ok(place) => turns.push((
                turn,
                Job {
                    name: found.name,
                    id: found.id,
                    store: found.store,
                    path: found.path,
                    place,
                    estimated_bytes: match &listing {
                        Listing::Known(replica) => estimated_bytes(replica),
                        _ => 0,
                    },
                    listing,
                    begun: None,
                    retries: 0,
                },
            )),
        }
    }
    let paths: Vec<Option<PathBuf>> = turns.iter().map(|(_, job)| Some(job.place.path())).collect();
    let mut colliding = collisions(&paths, &places.reserved, places.folds);
    let mut kept = Vec::with_capacity(turns.len());
    for (i, (turn, job)) in turns.into_iter().enumerate() {
        match colliding.remove(&i) {
            Some(why) => {
                let output = Some(job.place.path());
                all.refused.push(refused(job.name, job.id, output, job.store.kind(), why));
            }
            None => kept.push((turn, job)),
        }
    }
    all.any_first = kept.iter().any(|(turn, _)| *turn < first.len());
    kept.sort_by(|(turn_a, a), (turn_b, b)| {
        turn_a.cmp(turn_b).then(b.estimated_bytes.cmp(&a.estimated_bytes)).then_with(|| a.name.cmp(&b.name))
    });
    all.jobs = kept.into_iter().map(|(_, job)| job).collect();
    all
}

fn refused_error(error: FoundError) -> Ended {
    let why = Refused { class: error.class(), reason: error.to_string() };
    refused(error.name, String::new(), None, "", why)
}

fn refused(name: String, id: String, output: Option<PathBuf>, replica: &'static str, why: Refused) -> Ended {
    let ending = Ending::Failed { class: why.class, reason: why.reason };
    Ended { name, id, output, replica, retries: 0, elapsed: Duration::ZERO, ending }
}
