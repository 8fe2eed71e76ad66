//! Resolved arguments: what a command does, after flags, defaults and environment were put
//! together and checked. What was typed is `flags`; what lies on disk or on the bucket is not
//! looked at here.

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

/// Where a database is asked for.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A replica URL as typed. It may hold secrets: what is shown is `source_shown`.
    Url(String),
    /// A configured database: absolute, cleaned, without `sqlite://`.
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

/// What every command takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommonArgs {
    /// The byte budget of the process: `--memory`, else 256 MiB or half of what the cgroup
    /// allows, whichever is less.
    pub memory_bytes: u64,
    pub io_engine: BackendChoice,
    /// `--max-requests`; None adapts.
    pub max_requests: Option<NonZeroUsize>,
    pub log: LogOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegrityCheck {
    None,
    Quick,
    Full,
}

impl IntegrityCheck {
    /// As typed and as `-json` reports it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    /// None: no check.
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
    /// Upper bound on concurrent requests for this database; None for 0, -1 and not given.
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
    /// `-level` was not typed: other levels may hold more.
    pub level_is_default: bool,
    pub json: bool,
    pub times: bool,
    pub common: CommonArgs,
}

/// What `restore-pattern` matches against.
#[derive(Clone, PartialEq, Eq)]
pub enum PatternSource {
    /// `s3://bucket/prefix/glob` or `file:///dir/glob`, as typed; may hold secrets.
    Url(String),
    /// A glob over the configured paths, which it is checked to be.
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
    /// A hard cap on databases in flight; None: the config's, else adapts.
    pub parallel: Option<NonZeroUsize>,
    pub if_replica_exists: bool,
    pub if_db_not_exists: bool,
    pub force: bool,
    /// One for the whole fleet.
    pub timestamp: Option<Timestamp>,
    pub integrity_check: IntegrityCheck,
    pub dry_run: bool,
    pub json: bool,
    pub progress: ProgressMode,
    /// None: the config's, else the default.
    pub max_retries: Option<u32>,
    pub retry_delay: Option<Duration>,
    /// As typed, else `litestream-restore-errors.log`, with the shard in it under `--shard`.
    pub error_log: PathBuf,
    /// Globs, checked; in the order typed.
    pub first: Vec<String>,
    pub shard: Option<Shard>,
    pub report: Option<PathBuf>,
    pub common: CommonArgs,
}

/// What `bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchStage {
    /// LIST alone.
    List,
    /// GET alone, of what a restore fetches.
    Fetch,
    /// Fetching, decoding and checking.
    Decode,
    /// Everything, from listing to durable files.
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
    /// As `restore-pattern` takes it, as typed; may hold secrets.
    pub url: String,
    /// The same, secrets replaced.
    pub source_shown: String,
    /// What is measured, in this order.
    pub stages: Vec<BenchStage>,
    /// Where [`BenchStage::All`] writes; None where it is not among the stages.
    pub output_dir: Option<PathBuf>,
    /// How long each stage is measured at least; one pass is always made.
    pub duration: Duration,
    /// A hard cap on databases in flight; None adapts.
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
