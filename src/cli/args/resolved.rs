//! The arguments of each command, after flags, defaults and environment variables were combined and checked. At
//! this point nothing on disk or in a bucket has been read.

use crate::cli::ui::log::LogOptions;
use crate::cli::ui::redact;
use crate::commit::check;
use crate::io::BackendChoice;
use crate::ltx::Level;
use crate::plan::Target;
use crate::timestamp::Timestamp;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::cli::ui::log::LogFormat;
pub use crate::cli::ui::progress::ProgressMode;
pub use crate::fleet::Shard;

/// The database that a command is about.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A replica URL as typed. It may hold secrets, so messages show the field `source_shown` instead.
    Url(String),
    /// The path of a database in the configuration file: absolute, without `.` and `..`, without `sqlite://`.
    Database { path: PathBuf, config: ConfigFile },
}

/// The configuration file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    pub path: PathBuf,
    /// True if `$VAR` in the file is replaced by the value of that environment variable.
    pub expand_env: bool,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.debug_tuple("Url").field(&redact::url(url)).finish(),
            Self::Database { path, config } => {
                f.debug_struct("Database").field("path", path).field("config", config).finish()
            }
        }
    }
}

/// The arguments that all commands have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommonArgs {
    /// The memory budget of the process: `-memory`, else [`super::memory::default_budget_bytes`].
    pub memory_bytes: u64,
    pub io_engine: BackendChoice,
    /// At most this many requests are in flight in the whole process (`-max-requests`). None: the limit adapts.
    pub max_requests: Option<NonZeroUsize>,
    pub log: LogOptions,
}

/// SQLite's check of a restored database before it is published (`-integrity-check`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegrityCheck {
    /// No check.
    None,
    /// `PRAGMA quick_check`.
    Quick,
    /// `PRAGMA integrity_check`.
    Full,
}

impl IntegrityCheck {
    /// The word for this check in `-integrity-check` and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    /// The check that SQLite runs. None if no check is wanted.
    pub const fn mode(self) -> Option<check::Mode> {
        match self {
            Self::None => None,
            Self::Quick => Some(check::Mode::Quick),
            Self::Full => Some(check::Mode::Full),
        }
    }
}

/// The arguments of `hydrant restore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreArgs {
    pub source: Source,
    /// The source as typed, with the secrets in a URL replaced.
    pub source_shown: String,
    /// The path of the database to create: `-o` as typed. None stands for the path of the configured database.
    pub output: Option<PathBuf>,
    /// The state to restore: the newest, a TXID, or a point in time.
    pub target: Target,
    /// Exit with 0 if the output exists already.
    pub if_db_not_exists: bool,
    /// Exit with 0 if the replica is empty.
    pub if_replica_exists: bool,
    /// Show the plan and write nothing.
    pub dry_run: bool,
    pub json: bool,
    /// Replace an existing output.
    pub force: bool,
    /// At most this many requests of this restore are in flight at a time. None if `-parallelism` is 0, negative
    /// or not given: no limit of its own.
    pub parallelism: Option<NonZeroUsize>,
    pub integrity_check: IntegrityCheck,
    pub follow: bool,
    pub follow_interval: Duration,
    pub progress: ProgressMode,
    pub common: CommonArgs,
}

/// The compaction levels that `hydrant ltx` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelFilter {
    All,
    Only(Level),
}

impl LevelFilter {
    /// Whether files at `level` are listed.
    pub fn admits(self, level: Level) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => only == level,
        }
    }
}

/// The arguments of `hydrant ltx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LtxArgs {
    pub source: Source,
    /// The source as typed, with the secrets in a URL replaced.
    pub source_shown: String,
    pub level: LevelFilter,
    /// True if `-level` was not given. A message then tells how many files other levels have.
    pub level_is_default: bool,
    pub json: bool,
    /// Read the creation time of each file, by one request per file.
    pub times: bool,
    pub common: CommonArgs,
}

/// The pattern by which `hydrant restore-pattern` selects databases.
#[derive(Clone, PartialEq, Eq)]
pub enum PatternSource {
    /// `s3://bucket/prefix/glob` or `file:///dir/glob`, as typed. It may hold secrets.
    Url(String),
    /// A valid glob that is matched against the paths of the databases in the configuration file.
    Configured { glob: String, config: ConfigFile },
}

impl fmt::Debug for PatternSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.debug_tuple("Url").field(&redact::url(url)).finish(),
            Self::Configured { glob, config } => {
                f.debug_struct("Configured").field("glob", glob).field("config", config).finish()
            }
        }
    }
}

/// The arguments of `hydrant restore-pattern`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePatternArgs {
    pub source: PatternSource,
    /// The pattern as typed, with the secrets in a URL replaced.
    pub source_shown: String,
    /// Restore below this directory. None: configured databases go to their own paths, others below the current
    /// directory.
    pub output_dir: Option<PathBuf>,
    /// At most this many databases are restored at a time. None: the value in the configuration file; if it has
    /// none, the number adapts.
    pub parallel: Option<NonZeroUsize>,
    /// Skip configured databases whose replica is empty.
    pub if_replica_exists: bool,
    /// Skip databases whose output exists already.
    pub if_db_not_exists: bool,
    /// Replace existing outputs.
    pub force: bool,
    /// Restore every database to its newest state before this time. None: to its newest state.
    pub timestamp: Option<Timestamp>,
    pub integrity_check: IntegrityCheck,
    /// Show the plans and write nothing.
    pub dry_run: bool,
    pub json: bool,
    pub progress: ProgressMode,
    /// A failed database is restored again at most this often. None: the value in the configuration file, else the
    /// default.
    pub max_retries: Option<u32>,
    /// The pause before the first retry. None: the value in the configuration file, else the default.
    pub retry_delay: Option<Duration>,
    /// Path of the error log: `-error-log` as typed, else `litestream-restore-errors.log`. With `-shard`, the
    /// default name holds the share.
    pub error_log: PathBuf,
    /// Databases that match one of these globs are restored before all others, in the order of the globs.
    pub first: Vec<String>,
    /// Restore only this share of the databases.
    pub shard: Option<Shard>,
    /// Path of the report to write.
    pub report: Option<PathBuf>,
    pub common: CommonArgs,
}

/// A stage of a restore that `hydrant bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchStage {
    /// The replicas are listed.
    List,
    /// The files that a restore would fetch are fetched and discarded.
    Fetch,
    /// The files are fetched, decoded and checked, and the pages are discarded.
    Decode,
    /// The databases are listed, restored and written durably.
    All,
}

impl BenchStage {
    /// All stages, in the order in which they are measured.
    pub const EACH: [Self; 4] = [Self::List, Self::Fetch, Self::Decode, Self::All];

    /// The word for this stage in `-stage`, in the table and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Fetch => "fetch",
            Self::Decode => "decode",
            Self::All => "all",
        }
    }
}

/// The arguments of `hydrant bench`.
#[derive(Clone, PartialEq, Eq)]
pub struct BenchArgs {
    /// The URL of the databases as typed, in the syntax of `restore-pattern`. It may hold secrets.
    pub url: String,
    /// `url` with its secrets replaced.
    pub source_shown: String,
    /// The stages to measure, in this order.
    pub stages: Vec<BenchStage>,
    /// The directory in which [`BenchStage::All`] restores databases. None if that stage is not measured.
    pub output_dir: Option<PathBuf>,
    /// Each stage is repeated over all databases until this time is over, but measured at least once.
    pub duration: Duration,
    /// At most this many databases are restored at a time. None: the number adapts.
    pub parallel: Option<NonZeroUsize>,
    pub json: bool,
    /// Path of the file for histograms of latencies.
    pub hlog: Option<PathBuf>,
    pub common: CommonArgs,
}

impl fmt::Debug for BenchArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BenchArgs")
            .field("source", &self.source_shown)
            .field("stages", &self.stages)
            .field("output_dir", &self.output_dir)
            .finish_non_exhaustive()
    }
}
