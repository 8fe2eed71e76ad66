//! The databases of a fleet as jobs, and the result of each job.

use crate::catalogue::Replica;
use crate::error::Class;
use crate::fleet::discovery::found::{DatabaseRef, Discovery, Found, FoundError, FoundFailure};
use crate::fleet::discovery::shard::Sample;
use crate::fleet::only::{Chosen, Only};
use crate::fleet::outputs::{Admitted, OutputPath, Refused};
use crate::fleet::priority::{First, estimated_bytes};
use crate::ltx::Txid;
use crate::plan::V3State;
use crate::restore::{Discarded, PastState, RestoreOutcome, VerifiedDatabase};
use crate::store::StoreError;
use crate::timestamp::Timestamp;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A database of the run, from discovery until its restore has ended.
#[derive(Debug)]
pub struct Job {
    /// Name, id and location of the database.
    pub database: Arc<DatabaseRef>,
    /// Path to which the database is restored. Its text was checked.
    pub place: OutputPath,
    /// Whether litestream.yml replicates the database from that path.
    pub is_primary: bool,
    /// What discovery found out about the database's backup files.
    pub listing: Known,
    /// Estimated number of bytes that the restore fetches, for ordering the jobs.
    pub estimated_bytes: u64,
    /// Index of the `--first` glob that the database matches ([`First::turn_of`]). Lower numbers are restored
    /// earlier.
    pub(super) turn: usize,
    /// Time when the database was started for the first time. None: not started.
    pub(super) begun: Option<Instant>,
    pub(super) retries: u32,
    /// Whether an attempt has ended for want of progress.
    pub(super) has_stalled: bool,
}

/// What discovery knows about a database's backup files.
#[derive(Debug)]
pub enum Known {
    /// Discovery listed these files.
    Known(Replica),
    /// These files are in a catalogue. Their newest state is restored also if they change, and at each retry.
    Pinned(Arc<Replica>),
    /// The store has no file of this database.
    Absent,
    /// The listing of this database failed.
    Failed(StoreError),
    /// The worker must list the files when it restores the database, because it was tried before.
    Unknown,
}

/// What a result is about: a database or an entry of litestream.yml.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A database that discovery found.
    Database(Arc<DatabaseRef>),
    /// The path of an entry in litestream.yml that cannot be used, or of a `dir:` entry whose databases could
    /// not be listed.
    Entry(String),
}

/// Result of one database, and how long it took.
#[derive(Debug)]
pub struct Ended {
    /// The database or the entry of litestream.yml that this result is about.
    pub subject: Subject,
    /// Absolute output path. None: the database has no safe output path.
    pub output: Option<PathBuf>,
    /// Number of times that the database was tried again after transient failures.
    pub retries: u32,
    /// Time since the database was first started, including the pauses between retries.
    pub elapsed: Duration,
    /// Whether the database was restored, planned, skipped or failed, with details.
    pub ending: Ending,
}

/// Outcome of one database, with its details.
#[derive(Debug)]
pub enum Ending {
    /// The database was restored, and its file is durable.
    Restored {
        /// Sizes, TXID and timestamp of the restored database.
        outcome: Box<RestoreOutcome>,
        /// Warnings about the output path, in addition to those about the backup in `outcome`.
        warnings: Vec<String>,
    },
    /// `-dry-run`: the restore was planned, and nothing was written.
    Planned(PlannedDatabase),
    /// `hydrant bench`: the files were fetched and their data discarded.
    Rehearsed(Discarded),
    /// `hydrant verify`: the backup was looked at, and may prove not restorable.
    Verified(Box<VerifiedDatabase>),
    /// The database was skipped for this reason.
    Skipped(&'static str),
    /// The database failed.
    Failed {
        /// Class of the failure in the error log.
        class: Class,
        /// Text for the operator that says what failed.
        reason: String,
    },
}

/// What `-dry-run` shows of a database.
#[derive(Debug, Clone)]
pub struct PlannedDatabase {
    /// TXID that a restore would reach. 0 if `v3` is set.
    pub txid: Txid,
    /// The state that a restore would reach, if the files are those of Litestream 0.3.
    pub v3: Option<V3State>,
    /// Number of files that a restore would fetch.
    pub files: u64,
    /// Number of bytes that a restore would fetch.
    pub bytes: u64,
    /// Estimated number of GET requests that a restore would send.
    pub requests: u64,
    /// Why the newest state cannot be had, if it is an older one (`-newest-intact`).
    pub lost: Option<String>,
    /// With a catalogue: the TXID of its state, if that cannot be reached exactly any more.
    pub moved_from: Option<Txid>,
    /// What the planner warns about, such as a hole after the target.
    pub warnings: Vec<String>,
    /// From which past of a versioned bucket a restore would be, if it would.
    pub past: Option<Box<PastState>>,
    /// The state that a restore would reach.
    pub state: Option<NewestState>,
}

/// The time of the state that a database was restored to, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestState {
    /// When the state was created by the database's transaction.
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

/// Settings that decide each database's output path.
#[derive(Debug, Clone)]
pub struct Places {
    /// Absolute path of the output directory.
    pub output_dir: Arc<Path>,
    /// Absolute paths of files that the run itself writes, such as the error log. No database may be restored
    /// to them.
    pub reserved: Vec<PathBuf>,
    /// Returns whether a directory's file system ignores case; see [`crate::fleet::outputs::folds_case`].
    pub folds: fn(&Path) -> bool,
}

/// Turns found databases into jobs, and refuses those whose output paths collide ([`Admitted::claim`]).
pub struct Admission<'a> {
    places: Places,
    first: &'a First,
    only: Option<&'a Only>,
    sample: Option<&'a Sample>,
    except: Option<&'a HashSet<PathBuf>>,
    are_standbys: bool,
}

/// The jobs of a run, and the databases that cannot be restored.
#[derive(Debug, Default)]
pub struct Jobs {
    /// The databases to restore. The queue will order them.
    pub jobs: Vec<Job>,
    /// Databases and entries that failed before they could be started.
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
    /// Name for logs and reports: the configured path, or with a URL the key.
    pub fn name(&self) -> &str {
        match self {
            Self::Database(database) => database.name(),
            Self::Entry(name) => name,
        }
    }

    /// Id of the database, `bucket/key`. None for an entry of litestream.yml.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Database(database) => Some(database.id()),
            Self::Entry(_) => None,
        }
    }

    /// Kind of the database's store, `s3` or `file`. Empty for an entry of litestream.yml.
    pub fn replica(&self) -> &'static str {
        match self {
            Self::Database(database) => database.store.kind(),
            Self::Entry(_) => "",
        }
    }
}

impl Ended {
    /// Name of the database or entry, for logs and reports.
    pub fn name(&self) -> &str {
        self.subject.name()
    }
}

impl<'a> Admission<'a> {
    /// Makes an admission with the settings of output paths and the globs of `--first`.
    pub const fn new(places: Places, first: &'a First) -> Self {
        Self { places, first, only: None, sample: None, except: None, are_standbys: false }
    }

    /// Whether the databases are to be followed: more files then lie beside each.
    pub fn of_standbys(self, are_standbys: bool) -> Self {
        Self { are_standbys, ..self }
    }

    /// The databases whose outputs are these paths have been dealt with.
    pub fn except(self, outputs: Option<&'a HashSet<PathBuf>>) -> Self {
        Self { except: outputs, ..self }
    }

    /// Only the databases that `only` names are restored.
    pub fn only(self, only: Option<&'a Only>) -> Self {
        Self { only, ..self }
    }

    /// Only the databases of `sample` are verified.
    pub fn sample(self, sample: Option<&'a Sample>) -> Self {
        Self { sample, ..self }
    }

    /// Turns the databases of `discovery` into jobs, and refuses those without a safe, free output path.
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
        let is_pinned = discovery.recovery_point.is_some();
        let mut jobs = Vec::new();
        let mut unmatched_first: Vec<usize> = (0..self.first.len()).collect();
        for (found, error) in found {
            if self.sample.is_some_and(|sample| !sample.takes(found.database.id())) {
                continue;
            }
            unmatched_first.retain(|glob| !self.first.matches(*glob, &found));
            let turn = self.first.turn_of(&found);
            let Found { database, replica, output } = found;
            let estimated_bytes = replica.as_ref().map_or(0, estimated_bytes);
            let listing = match (error, replica) {
                (Some(e), _) => Known::Failed(e),
                (None, Some(replica)) if is_pinned => Known::Pinned(Arc::new(replica)),
                (None, Some(replica)) => Known::Known(replica),
                (None, None) => Known::Absent,
            };
            let is_primary = output.is_configured();
            match OutputPath::of(output, &self.places.output_dir) {
                Err(why) => all.refused.push(refused(Subject::Database(database), None, why)),
                Ok(place) => {
                    jobs.push(Job {
                        database,
                        place,
                        is_primary,
                        listing,
                        estimated_bytes,
                        turn,
                        begun: None,
                        retries: 0,
                        has_stalled: false,
                    });
                }
            }
        }
        let paths: Vec<PathBuf> = jobs.iter().map(|job| job.place.path()).collect();
        let mut colliding =
            Admitted::new(&self.places.reserved, self.places.folds).of_standbys(self.are_standbys).claim(&paths);
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
        if let Some(except) = self.except {
            jobs.retain(|job| !except.contains(&job.place.path()));
        }
        all.jobs = jobs;
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
