//! The arguments of a command after flags, defaults and environment were combined and checked.
//! Nothing on disk or in a bucket has been read yet.

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

/// The database that is asked for.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A replica URL as typed. It may hold secrets, so messages show `source_shown`.
    Url(String),
    /// The path of a configured database: absolute, cleaned, without `sqlite://`.
    Database { path: PathBuf, config: ConfigFile },
}

/// The configuration file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    pub path: PathBuf,
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
    /// `-max-requests`; None: adapts.
    pub max_requests: Option<NonZeroUsize>,
    pub store: StoreArgs,
    pub log: LogOptions,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegrityCheck {
    None,
    Quick,
    Full,
}

impl IntegrityCheck {
    /// The word of the flag and of `-json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    /// The check to run; None: no check.
    pub const fn mode(self) -> Option<check::Mode> {
        match self {
            Self::None => None,
            Self::Quick => Some(check::Mode::Quick),
            Self::Full => Some(check::Mode::Full),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreArgs {
    pub source: Source,
    /// The source as typed, secrets in a URL replaced.
    pub source_shown: String,
    /// `-o` as typed. None only for a configured database.
    pub output: Option<PathBuf>,
    pub target: Target,
    pub if_db_not_exists: bool,
    pub if_replica_exists: bool,
    pub dry_run: bool,
    pub json: bool,
    pub force: bool,
    /// At most this many requests at a time; None: no limit (0, negative, or not given).
    pub parallelism: Option<NonZeroUsize>,
    pub integrity_check: IntegrityCheck,
    pub follow: bool,
    pub follow_interval: Duration,
    pub progress: ProgressMode,
    pub common: CommonArgs,
}

/// Which levels `ltx` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelFilter {
    All,
    Only(Level),
}

impl LevelFilter {
    pub fn admits(self, level: Level) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => only == level,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LtxArgs {
    pub source: Source,
    /// The source as typed, secrets in a URL replaced.
    pub source_shown: String,
    pub level: LevelFilter,
    /// `-level` was not given, so other levels may have files that are not listed.
    pub level_is_default: bool,
    pub json: bool,
    pub times: bool,
    pub common: CommonArgs,
}

/// The pattern of `restore-pattern`.
#[derive(Clone, PartialEq, Eq)]
pub enum PatternSource {
    /// `s3://bucket/prefix/glob` or `file:///dir/glob`, as typed. It may hold secrets.
    Url(String),
    /// A valid glob over the configured paths.
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePatternArgs {
    pub source: PatternSource,
    /// The pattern as typed, secrets in a URL replaced.
    pub source_shown: String,
    pub output_dir: Option<PathBuf>,
    /// At most this many databases in flight; None: the configuration's value, else adapts.
    pub parallel: Option<NonZeroUsize>,
    pub if_replica_exists: bool,
    pub if_db_not_exists: bool,
    pub force: bool,
    /// The same for all databases.
    pub timestamp: Option<Timestamp>,
    pub integrity_check: IntegrityCheck,
    pub dry_run: bool,
    pub json: bool,
    pub progress: ProgressMode,
    /// None: the configuration's value, else the default. So is `retry_delay`.
    pub max_retries: Option<u32>,
    pub retry_delay: Option<Duration>,
    /// As typed, else `litestream-restore-errors.log`, with the share in the name if there is `-shard`.
    pub error_log: PathBuf,
    /// Valid globs, in the order typed.
    pub first: Vec<String>,
    pub shard: Option<Shard>,
    pub report: Option<PathBuf>,
    pub common: CommonArgs,
}

/// What `bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchStage {
    /// Listing only.
    List,
    /// Fetching only: the files that a restore would fetch.
    Fetch,
    /// Fetching, decoding and checking.
    Decode,
    /// A whole restore, from listing to durable files.
    All,
}

impl BenchStage {
    pub const EACH: [Self; 4] = [Self::List, Self::Fetch, Self::Decode, Self::All];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Fetch => "fetch",
            Self::Decode => "decode",
            Self::All => "all",
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct BenchArgs {
    /// A URL as `restore-pattern` takes it, as typed. It may hold secrets.
    pub url: String,
    /// `url` with its secrets replaced.
    pub source_shown: String,
    /// The stages to measure, in this order.
    pub stages: Vec<BenchStage>,
    /// The directory that [`BenchStage::All`] writes to; None if that stage is not measured.
    pub output_dir: Option<PathBuf>,
    /// Each stage is repeated until this time is over. One pass is always made.
    pub duration: Duration,
    /// At most this many databases in flight; None: adapts.
    pub parallel: Option<NonZeroUsize>,
    pub json: bool,
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
