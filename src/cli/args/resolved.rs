//! The arguments of each command, after flags, defaults and environment variables were combined and checked. At
//! this point nothing on disk or in a bucket has been read.

use crate::catalogue::{CatalogueLimit, Generation};
use crate::cli::args::repeat::RepeatCall;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::LogOptions;
use crate::cli::ui::redact;
use crate::commit::check;
use crate::config::RestorePattern;
use crate::error::Class;
use crate::fleet::{CatalogueFile, CatalogueUse};
use crate::io::BackendChoice;
use crate::ltx::Level;
use crate::plan::Target;
use crate::timestamp::Timestamp;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use crate::cli::ui::log::LogFormat;
pub use crate::cli::ui::progress::ProgressMode;
pub use crate::fleet::{Sample, Shard};
pub use crate::restore::{AsOf, VerifyDepth};

/// The database that `hydrant restore` or `hydrant ltx` is about, as the positional argument names it.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A replica URL as typed. It may hold secrets, so messages show the field `source_shown` instead.
    Url(String),
    /// The path of a database in the configuration file: absolute, without `.` and `..`, without `sqlite://`.
    Database { path: PathBuf, config: ConfigFile },
}

/// The configuration file (litestream.yml) to read.
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

/// The arguments that `restore`, `restore-pattern`, `ltx` and `bench` have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommonArgs {
    /// The memory budget of the process: `-memory`, else [`super::memory::default_budget_bytes`].
    pub memory_bytes: u64,
    /// How much memory the lists of files may take: the budget, or more if `-memory` was not given.
    pub catalogue: CatalogueLimit,
    pub io_engine: BackendChoice,
    /// At most this many requests are in flight in the whole process (`-max-requests`). None: the limit adapts.
    pub max_requests: Option<NonZeroUsize>,
    /// `-limit-rate`: at most this many bytes per second are read, over all connections and from disks too. None: no limit.
    pub limit_rate: Option<u64>,
    /// `-connect-timeout`: how long a service that does not answer connections yet is waited for. None: the value in
    /// the configuration file, else the default.
    pub connect_timeout: Option<Duration>,
    /// `-stall-timeout`: how long an operation goes on without progress. Zero: without end. None: the value in the
    /// configuration file, else the default.
    pub stall_timeout: Option<Duration>,
    pub store: StoreArgs,
    pub log: LogOptions,
}

/// Who may use what is restored. None stands for the section `restore-pattern` of the configuration file, else for
/// the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PermissionArgs {
    /// `-owner`, as typed.
    pub owner: Option<String>,
    /// `-mode`: the mode of databases.
    pub mode: Option<u32>,
    /// `-dir-mode`: the mode of new directories.
    pub dir_mode: Option<u32>,
}

impl CommonArgs {
    /// Takes from the section `restore-pattern` of the configuration file what no flag says.
    pub fn use_defaults(&mut self, section: &RestorePattern) {
        self.connect_timeout = self.connect_timeout.or(section.connect_timeout);
        self.stall_timeout = self.stall_timeout.or(section.stall_timeout);
    }
}

/// What is stronger than URL, configuration and environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreArgs {
    /// `-endpoint`: `scheme://host[:port]`.
    pub endpoint: Option<String>,
    /// `-region`.
    pub region: Option<String>,
    /// `-profile`.
    pub profile: Option<String>,
    /// `-no-sign-request`.
    pub anonymous: bool,
    pub past: PastArgs,
}

/// Which past of a versioned bucket is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PastArgs {
    /// `-as-of`. None: the present.
    pub as_of: Option<AsOf>,
    /// `-allow-incomplete-history`: parts of the history may be missing.
    pub allow_incomplete: bool,
    /// The version ids may take this much memory.
    pub limit_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegrityCheck {
    /// SQLite does not check the database.
    None,
    /// SQLite runs `PRAGMA quick_check`, which does not compare indexes with their tables.
    Quick,
    /// SQLite runs `PRAGMA integrity_check`.
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

    /// Converts this to the mode in which the module `commit` has SQLite check a database. None if no check is
    /// wanted.
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
    /// The source as typed, with the secrets in a URL replaced by `***`, so that it can be printed.
    pub source_shown: String,
    /// The path of the database to create: `-o` as typed. None stands for the path of the configured database.
    pub output: Option<PathBuf>,
    /// The state to restore: the newest, the one at a TXID (`-txid`), or the last before a time (`-timestamp`).
    pub target: Target,
    /// `-generation`: the generation of Litestream 0.3 to restore from. None: it is chosen by its files' times, as is
    /// the format.
    pub generation: Option<Generation>,
    /// `-if-db-not-exists`: if the output exists already, do nothing and exit with 0.
    pub if_db_not_exists: bool,
    /// `-if-replica-exists`: if the replica has no backups, exit with 0 instead of 1.
    pub if_replica_exists: bool,
    /// `-newest-intact`: where files are damaged or missing, the newest state that can be had is restored.
    pub newest_intact: bool,
    /// `-dry-run`: show which files would be fetched, and write nothing.
    pub dry_run: bool,
    pub json: bool,
    /// `-force`: replace an existing output once the new database is complete.
    pub force: bool,
    /// At most this many requests of this restore are in flight at a time. None if `-parallelism` is 0, negative
    /// or not given: no limit of its own.
    pub parallelism: Option<NonZeroUsize>,
    pub integrity_check: IntegrityCheck,
    pub permissions: PermissionArgs,
    pub follow: bool,
    pub follow_interval: Duration,
    pub progress: ProgressMode,
    /// `-metrics-textfile`: path of the file that the metrics of the run are written to. None: they are not written.
    pub metrics_textfile: Option<PathBuf>,
    pub common: CommonArgs,
}

/// The compaction levels whose files `hydrant ltx` lists (`-level`). Litestream merges files of one level into larger
/// files of the next; level 9 has the snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelFilter {
    All,
    Only(Level),
}

impl LevelFilter {
    /// Whether files at compaction level `level` are to be listed.
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
    /// The source as typed, with the secrets in a URL replaced by `***`, so that it can be printed.
    pub source_shown: String,
    pub level: LevelFilter,
    /// True if `-level` was not given. A message then tells how many files other levels have.
    pub level_is_default: bool,
    pub json: bool,
    /// `-times`: read the creation time of each file from the file itself, by one request per file.
    pub times: bool,
    /// `-versions`: list all versions of the files in a versioned bucket.
    pub versions: bool,
    pub common: CommonArgs,
}

/// The pattern by which `hydrant restore-pattern` selects databases.
#[derive(Clone, PartialEq, Eq)]
pub enum PatternSource {
    /// A URL with a glob as typed, such as `s3://bucket/prefix/**` or `file:///dir/**`. It selects databases by the
    /// keys in the bucket or the files in the directory. It may hold secrets.
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
    /// The pattern as typed, with the secrets in a URL replaced by `***`, so that it can be printed.
    pub source_shown: String,
    /// `-output-dir`: restore databases below this directory. None: configured databases go to their own paths,
    /// others below the current directory.
    pub output_dir: Option<PathBuf>,
    /// At most this many databases are restored at a time. None: the value in the configuration file; if it has
    /// none, the number adapts.
    pub parallel: Option<NonZeroUsize>,
    /// `-if-replica-exists`: skip configured databases whose replica has no backups, instead of failing them.
    pub if_replica_exists: bool,
    /// `-newest-intact`: where files are damaged or missing, the newest state that can be had is restored.
    pub newest_intact: bool,
    /// `-if-db-not-exists`: skip databases whose output exists already.
    pub if_db_not_exists: bool,
    /// `-force`: replace existing outputs, each once its new database is complete.
    pub force: bool,
    /// `-timestamp`: restore every database to its newest state before this time. None: to its newest state.
    pub timestamp: Option<Timestamp>,
    pub integrity_check: IntegrityCheck,
    pub permissions: PermissionArgs,
    /// `-dry-run`: show what would be restored, and write nothing.
    pub dry_run: bool,
    pub json: bool,
    pub progress: ProgressMode,
    /// `-max-retries`: a failed database is restored again at most this many times. None: the value in the
    /// configuration file, else the default.
    pub max_retries: Option<u32>,
    /// `-retry-delay`: the pause before a failed database is restored again for the first time. None: the value in
    /// the configuration file, else the default.
    pub retry_delay: Option<Duration>,
    /// `-error-log`: path of the file that failed databases are logged to. The default is
    /// `litestream-restore-errors.log`. With `-shard`, the default name also has the number of the share, so that two
    /// shares in the same directory have different logs.
    pub error_log: PathBuf,
    /// True if `-error-log` was not given. If others have put a symbolic link at the default path, it is replaced.
    pub error_log_is_default: bool,
    /// `-only`: restore only the databases that this file names. None: restore all.
    pub only: Option<PathBuf>,
    /// `-fail-fast`: after the first failed database, begin none.
    pub fail_fast: bool,
    /// This command line without `-only`, `-save-catalogue` and `-catalogue`, and with the secrets of a URL replaced, to be suggested with other flags.
    pub typed: TypedCall,
    /// `-first`: databases that match one of these globs are restored before all others, in the order of the globs.
    pub first: Vec<String>,
    /// `-shard`: restore only this share of the databases, so that several machines can each restore another one.
    /// None: restore all.
    pub shard: Option<Shard>,
    /// `-report`: paths of the reports to write. Their endings decide on the format.
    pub reports: Vec<PathBuf>,
    /// The command line for one of the databases. None: it would hold a secret.
    pub repeat: Option<Box<RepeatCall>>,
    /// Where the run knows the databases from, and whether it writes that down.
    pub catalogue: CatalogueArgs,
    /// `-metrics-textfile`: as for `restore`.
    pub metrics_textfile: Option<PathBuf>,
    /// `--follow`: keep the databases up to date. None: the command ends when they are restored.
    pub follow: Option<FleetFollowArgs>,
    pub common: CommonArgs,
}

/// How a fleet is followed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FleetFollowArgs {
    /// `-follow-interval`.
    pub interval: Duration,
    /// `-list-rate`.
    pub lists_per_second: f64,
}

// The rate is a number above 0.
impl Eq for FleetFollowArgs {}

/// Whether the databases are listed or read from a saved catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogueArgs {
    /// The store is listed.
    List,
    /// `-save-catalogue`: the store is listed, and the list is written to this file.
    Save(PathBuf),
    /// `-catalogue`: nothing is listed. The databases and their files are in this file.
    Saved(PathBuf),
}

impl CatalogueArgs {
    /// What the discovery is to do. Creates the file of `-save-catalogue` under a temporary name.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(&self) -> Result<CatalogueUse, Failure> {
        match self {
            Self::List => Ok(CatalogueUse::List),
            Self::Saved(path) => Ok(CatalogueUse::Saved(Arc::from(path.as_path()))),
            Self::Save(path) => {
                let failed =
                    |e| Failure::failed(Class::Io, format!("cannot write the catalogue {}: {e}", path.display()));
                Ok(CatalogueUse::Save(Arc::new(CatalogueFile::create(path).map_err(failed)?)))
            }
        }
    }

    /// The file that is written.
    pub fn written(&self) -> Option<&Path> {
        match self {
            Self::Save(path) => Some(path),
            Self::List | Self::Saved(_) => None,
        }
    }

    /// The file that is written or read.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Save(path) | Self::Saved(path) => Some(path),
            Self::List => None,
        }
    }
}

impl PastArgs {
    /// The time from which ages of states are measured back: `timestamp`, else the time of the bucket, else the present.
    pub fn reference(&self, timestamp: Option<Timestamp>) -> Timestamp {
        let of_bucket = match self.as_of {
            Some(AsOf::Time(time)) => Some(time),
            Some(AsOf::Last) | None => None,
        };
        timestamp.or(of_bucket).unwrap_or_else(Timestamp::now)
    }
}

/// A command line in parts, so that flags can be added to it. It holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TypedCall {
    /// The command and its flags, each word quoted for a shell.
    pub flags: String,
    /// The pattern, quoted, with a space before it.
    pub pattern: String,
}

impl TypedCall {
    /// The command line with `more` flags before the pattern.
    pub fn with(&self, more: &str) -> String {
        let space = if more.is_empty() { "" } else { " " };
        format!("{}{space}{more}{}", self.flags, self.pattern)
    }
}

/// A stage of a restore that `hydrant bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchStage {
    /// Only the listing is measured.
    List,
    /// Only fetching is measured: the files that a restore would fetch are fetched and discarded.
    Fetch,
    /// Fetching and decoding are measured: files are fetched, decoded and checked, and the pages are discarded.
    Decode,
    /// Whole restores are measured: databases are listed, restored, and written durably to disk.
    All,
}

impl BenchStage {
    /// All stages in the order in which `hydrant bench` measures them.
    pub const EACH: [Self; 4] = [Self::List, Self::Fetch, Self::Decode, Self::All];

    /// The name of this stage in `-stage`, in the printed table and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Fetch => "fetch",
            Self::Decode => "decode",
            Self::All => "all",
        }
    }
}

/// The arguments of `hydrant verify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyArgs {
    pub source: PatternSource,
    /// The pattern as typed, with the secrets in a URL replaced by `***`.
    pub source_shown: String,
    pub depth: VerifyDepth,
    /// `-scratch`. None: the system's directory for temporary files.
    pub scratch: Option<PathBuf>,
    /// `-scratch-size` in bytes.
    pub scratch_bytes: u64,
    /// `-sql`: the queries.
    pub queries: Vec<String>,
    /// `-integrity-check`.
    pub check: Option<check::Mode>,
    /// `-max-age`: an older newest state is stale.
    pub max_age: Option<Duration>,
    /// `-expect`: an earlier report.
    pub expect: Option<PathBuf>,
    /// `-sample` and `-seed`.
    pub sample: Option<Sample>,
    pub timestamp: Option<Timestamp>,
    pub if_replica_exists: bool,
    /// `-output-dir`: its disk is measured.
    pub output_dir: Option<PathBuf>,
    pub parallel: Option<NonZeroUsize>,
    pub json: bool,
    pub progress: ProgressMode,
    pub max_retries: Option<u32>,
    pub retry_delay: Option<Duration>,
    pub shard: Option<Shard>,
    /// `-report`: as for `restore-pattern`.
    pub reports: Vec<PathBuf>,
    /// This command line, to be shown in a report.
    pub typed: TypedCall,
    /// The command line for one of the databases. None: it would hold a secret.
    pub repeat: Option<Box<RepeatCall>>,
    /// As for `restore-pattern`.
    pub catalogue: CatalogueArgs,
    /// `-metrics-textfile`: as for `restore`.
    pub metrics_textfile: Option<PathBuf>,
    pub common: CommonArgs,
}

/// The arguments of `hydrant find`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindArgs {
    pub source: Source,
    /// The source as typed, with the secrets in a URL replaced by `***`.
    pub source_shown: String,
    /// `-sql`: the question.
    pub sql: String,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// `-all`: every state is looked at.
    pub all: bool,
    pub json: bool,
    /// `-scratch`. None: the system's directory for temporary files.
    pub scratch: Option<PathBuf>,
    pub common: CommonArgs,
}

/// What `hydrant promote` promotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promotee {
    /// `-o`: the standby. None: the path of the configured database.
    One { source: Source, output: Option<PathBuf> },
    /// `-output-dir`: the standbys of the pattern that are below this directory.
    Fleet { pattern: PatternSource, output_dir: PathBuf },
}

/// The arguments of `hydrant promote`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromoteArgs {
    pub what: Promotee,
    /// The source as typed, with the secrets in a URL replaced by `***`.
    pub source_shown: String,
    pub integrity_check: IntegrityCheck,
    /// `-force`: promote also if Litestream cannot go on with this replica.
    pub force: bool,
    pub json: bool,
    pub common: CommonArgs,
}

/// The arguments of `hydrant bench`.
#[derive(Clone, PartialEq, Eq)]
pub struct BenchArgs {
    /// The URL of the databases as typed, in the syntax of `restore-pattern`. It may hold secrets.
    pub url: String,
    /// The field `url` with its secrets replaced by `***`, so that it can be printed.
    pub source_shown: String,
    /// The stages of a restore to measure, in this order.
    pub stages: Vec<BenchStage>,
    /// The directory in which [`BenchStage::All`] restores databases. None if that stage is not measured.
    pub output_dir: Option<PathBuf>,
    /// `-duration`: each stage is repeated over all databases until this time is over. It is measured at least once.
    pub duration: Duration,
    /// `-parallel`: at most this many databases are processed at a time. None: the number adapts.
    pub parallel: Option<NonZeroUsize>,
    pub json: bool,
    /// `-hlog`: path of the file that histograms of latencies are written to. None: they are not written.
    pub hlog: Option<PathBuf>,
    /// `-report`: paths of the reports to write. Their endings decide on the format.
    pub reports: Vec<PathBuf>,
    /// This command line, to be shown in a report.
    pub typed: TypedCall,
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
