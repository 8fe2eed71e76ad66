//! The flags of each command as clap definitions: names, help texts, types of values. The doc comments of the
//! fields are the help texts that users read.
//!
//! The module `argv` passes every flag to clap as `--name`, also a flag of one letter, such as `-o`. A flag of one
//! letter therefore also has a hidden long alias, `--o`.

use crate::catalogue::Generation;
pub use crate::cli::args::common_flags::CommonFlags;
use crate::cli::args::follow_flags::FleetFollowFlags;
use crate::cli::args::resolved::{BenchStage, LevelFilter, Shard};
use crate::cli::args::store_flags::PastFlags;
use crate::cli::args::{examples, values};
use crate::ltx::Txid;
use crate::restore::VerifyDepth;
use clap::{Parser, ValueHint};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::time::Duration;

#[derive(Parser, Debug)]
#[command(
    name = "restore",
    about = "Recover a database from its replica",
    disable_help_flag = true,
    next_help_heading = "Flags",
    override_usage = "hydrant restore [flags] DB_PATH\n       hydrant restore [flags] -o PATH REPLICA_URL",
    after_help = examples::RESTORE.after_help()
)]
pub struct RestoreFlags {
    #[arg(hide = true)]
    pub source: Vec<OsString>,

    #[command(flatten)]
    pub config: ConfigFlags,

    /// Write the database to PATH; required for a URL [default: the configured path]
    #[arg(short = 'o', alias = "o", value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub output: Option<OsString>,

    /// Restore up to this transaction, inclusive; it is reached exactly or the restore fails
    #[arg(long, value_name = "HEX", value_parser = values::txid)]
    pub txid: Option<Txid>,

    /// Restore the newest state before this time, e.g. 2026-01-31T12:00:00Z
    #[arg(long, value_name = "T")]
    pub timestamp: Option<String>,

    /// Restore this generation of a replica of Litestream 0.3, whatever else lies there: 16 hex digits
    #[arg(long, value_name = "GEN", value_parser = values::generation)]
    pub generation: Option<Generation>,

    /// Exit with 0 if the output exists already
    #[arg(long)]
    pub if_db_not_exists: bool,

    /// Exit with 0 if there are no backups
    #[arg(long)]
    pub if_replica_exists: bool,

    /// Where files are damaged or missing, restore the newest state that can be had
    #[arg(long)]
    pub newest_intact: bool,

    /// Show what would be fetched, and write nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Print the result, or the plan, as JSON
    #[arg(long)]
    pub json: bool,

    /// Replace an existing output, once the new one is complete and verified
    #[arg(long)]
    pub force: bool,

    /// At most N requests at a time [default: adapts]
    #[arg(long, value_name = "N", value_parser = values::integer)]
    pub parallelism: Option<i64>,

    /// SQLite's own check of the result before it is published: none, quick or full
    #[arg(long, value_name = "MODE", default_value = "none")]
    pub integrity_check: String,

    /// Follow: keep the database up to date, as a warm standby
    #[arg(short = 'f', alias = "f")]
    pub follow: bool,

    /// How often to look for changes with -f
    #[arg(long, value_name = "D", default_value = "1s", value_parser = values::duration)]
    pub follow_interval: Duration,

    #[command(flatten)]
    pub permissions: PermissionFlags,

    #[command(flatten)]
    pub progress: ProgressFlags,

    #[command(flatten)]
    pub metrics: MetricsFlags,

    #[command(flatten)]
    pub past: PastFlags,

    #[command(flatten)]
    pub common: CommonFlags,
}

#[derive(Parser, Debug)]
#[command(
    name = "ltx",
    about = "List the LTX files of a replica",
    disable_help_flag = true,
    next_help_heading = "Flags",
    override_usage = "hydrant ltx [flags] DB_PATH\n       hydrant ltx [flags] REPLICA_URL",
    after_help = examples::LTX.after_help()
)]
pub struct LtxFlags {
    #[arg(hide = true)]
    pub source: Vec<OsString>,

    #[command(flatten)]
    pub config: ConfigFlags,

    /// The compaction level to list, 0 to 9, or all
    #[arg(long, value_name = "LEVEL", default_value = "0", value_parser = values::level)]
    pub level: LevelFilter,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Look into the files for their times (one request a file): in a copied bucket the listing
    /// shows the time of the copy
    #[arg(long)]
    pub times: bool,

    /// List all versions of the files in a versioned bucket, also deleted ones, and when each was there
    #[arg(long)]
    pub versions: bool,

    #[command(flatten)]
    pub past: PastFlags,

    #[command(flatten)]
    pub common: CommonFlags,
}

#[derive(Parser, Debug)]
#[command(
    name = "restore-pattern",
    about = "Recover all databases that match a pattern",
    disable_help_flag = true,
    next_help_heading = "Flags",
    override_usage = "hydrant restore-pattern [flags] PATTERN",
    after_help = examples::RESTORE_PATTERN.after_help()
)]
pub struct PatternFlags {
    #[arg(hide = true)]
    pub pattern: Vec<OsString>,

    #[command(flatten)]
    pub config: ConfigFlags,

    /// Restore below DIR, keeping the relative structure
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output_dir: Option<OsString>,

    /// At most N databases at a time [default: adapts, from 10]
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    pub parallel: Option<NonZeroUsize>,

    /// Skip configured databases that have no backups
    #[arg(long)]
    pub if_replica_exists: bool,

    /// Where files are damaged or missing, restore the newest state that can be had
    #[arg(long)]
    pub newest_intact: bool,

    /// Skip databases whose output exists already
    #[arg(long)]
    pub if_db_not_exists: bool,

    /// Replace existing outputs, each once the new one is complete and verified
    #[arg(long)]
    pub force: bool,

    /// Restore every database to its newest state before this time
    #[arg(long, value_name = "T")]
    pub timestamp: Option<String>,

    /// SQLite's own check of each result before it is published: none, quick or full
    #[arg(long, value_name = "MODE", default_value = "none")]
    pub integrity_check: String,

    /// Show what would be restored, and write nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Print a line of JSON for each database as it ends, then a summary line
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub permissions: PermissionFlags,

    #[command(flatten)]
    pub progress: ProgressFlags,

    /// Try a database again up to N times if the failure may pass, as a time-out does [default: 3]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub max_retries: Option<u32>,

    /// Wait about this long before the first retry; doubles each time [default: 5s]
    #[arg(long, value_name = "D", value_parser = values::duration)]
    pub retry_delay: Option<Duration>,

    /// Where failures are logged [default: litestream-restore-errors.log]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub error_log: Option<OsString>,

    /// Restore these before all others (repeatable)
    #[arg(long, value_name = "GLOB", action = clap::ArgAction::Append, value_parser = values::glob)]
    pub first: Vec<String>,

    /// Restore only share I of N
    #[arg(long, value_name = "I/N", value_parser = values::shard)]
    pub shard: Option<Shard>,

    /// Restore only what FILE names: an error log, a report, JSON lines, or names, one a line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub only: Option<OsString>,

    /// Begin no further database after the first failed one
    #[arg(long)]
    pub fail_fast: bool,

    /// Write a report: a page to NAME.html, a text for tickets to NAME.md, else JSON (repeatable)
    #[arg(long, value_name = "FILE", action = clap::ArgAction::Append, value_hint = ValueHint::FilePath)]
    pub report: Vec<OsString>,

    #[command(flatten)]
    pub follow: FleetFollowFlags,

    #[command(flatten)]
    pub catalogue: CatalogueFlags,

    #[command(flatten)]
    pub metrics: MetricsFlags,

    #[command(flatten)]
    pub past: PastFlags,

    #[command(flatten)]
    pub common: CommonFlags,
}

#[derive(Parser, Debug)]
#[command(
    name = "verify",
    about = "Prove that databases can be recovered, without restoring them",
    disable_help_flag = true,
    next_help_heading = "Flags",
    override_usage = "hydrant verify [flags] PATTERN | DB_PATH | REPLICA_URL",
    after_help = examples::VERIFY.after_help()
)]
pub struct VerifyFlags {
    #[arg(hide = true)]
    pub pattern: Vec<OsString>,

    #[command(flatten)]
    pub config: ConfigFlags,

    /// How thoroughly: plan, headers, full or sqlite
    #[arg(long, value_name = "DEPTH", default_value = "full", value_parser = values::depth)]
    pub depth: VerifyDepth,

    /// Where databases are restored to for -depth sqlite, and removed again [default: $TMPDIR]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub scratch: Option<OsString>,

    /// Restored databases take at most this much in the scratch directory at once
    #[arg(long, value_name = "SIZE", default_value = "10GiB", value_parser = values::size)]
    pub scratch_size: u64,

    /// With -depth sqlite: report the first row of this query for each database; no row fails it
    /// (repeatable)
    #[arg(long, value_name = "SELECT", action = clap::ArgAction::Append)]
    pub sql: Vec<String>,

    /// With -depth sqlite: SQLite's own check, quick or full
    #[arg(long, value_name = "MODE", default_value = "quick")]
    pub integrity_check: String,

    /// A newest state older than this fails
    #[arg(long, value_name = "D", value_parser = values::age)]
    pub max_age: Option<Duration>,

    /// Fail what is worse than in this earlier report
    #[arg(long, value_name = "REPORT", value_hint = ValueHint::FilePath)]
    pub expect: Option<OsString>,

    /// Verify sample R of K, so that K runs cover all
    #[arg(long, value_name = "R/K", value_parser = values::shard)]
    pub sample: Option<Shard>,

    /// Divide the samples otherwise
    #[arg(long, value_name = "S", default_value = "")]
    pub seed: String,

    /// Verify the newest state before this time
    #[arg(long, value_name = "T")]
    pub timestamp: Option<String>,

    /// Configured databases without backups pass
    #[arg(long)]
    pub if_replica_exists: bool,

    /// Measure the disk of this directory for the forecast
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output_dir: Option<OsString>,

    /// At most N databases at a time [default: adapts, from 10]
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    pub parallel: Option<NonZeroUsize>,

    /// Print a line of JSON for each database as it ends, then a summary line
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub progress: ProgressFlags,

    /// Try a database again up to N times if the failure may pass [default: 3]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub max_retries: Option<u32>,

    /// Wait about this long before the first retry; doubles each time [default: 5s]
    #[arg(long, value_name = "D", value_parser = values::duration)]
    pub retry_delay: Option<Duration>,

    /// Verify only share I of N
    #[arg(long, value_name = "I/N", value_parser = values::shard)]
    pub shard: Option<Shard>,

    /// Write a report: a page to NAME.html, a text for tickets to NAME.md, else JSON (repeatable)
    #[arg(long, value_name = "FILE", action = clap::ArgAction::Append, value_hint = ValueHint::FilePath)]
    pub report: Vec<OsString>,

    #[command(flatten)]
    pub catalogue: CatalogueFlags,

    #[command(flatten)]
    pub metrics: MetricsFlags,

    #[command(flatten)]
    pub past: PastFlags,

    #[command(flatten)]
    pub common: CommonFlags,
}

#[derive(Parser, Debug)]
#[command(
    name = "find",
    about = "Find out when something changed in a database",
    disable_help_flag = true,
    next_help_heading = "Flags",
    override_usage = "hydrant find [flags] -sql SELECT DB_PATH\n       hydrant find [flags] -sql SELECT REPLICA_URL",
    after_help = examples::FIND.after_help()
)]
pub struct FindFlags {
    #[arg(hide = true)]
    pub source: Vec<OsString>,

    #[command(flatten)]
    pub config: ConfigFlags,

    /// The question: a query whose first row changed
    #[arg(long, value_name = "SELECT")]
    pub sql: Option<String>,

    /// Search from the newest state before this time [default: the oldest state]
    #[arg(long, value_name = "T")]
    pub from: Option<String>,

    /// Search up to the newest state before this time [default: the newest state]
    #[arg(long, value_name = "T")]
    pub to: Option<String>,

    /// Look at every state and list every change
    #[arg(long)]
    pub all: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Where states are restored to, and removed again [default: $TMPDIR]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub scratch: Option<OsString>,

    #[command(flatten)]
    pub common: CommonFlags,
}

#[derive(Parser, Debug)]
#[command(
    name = "bench",
    about = "Measure how fast each stage of restoring is",
    disable_help_flag = true,
    next_help_heading = "Flags",
    override_usage = "hydrant bench [flags] SOURCE",
    after_help = examples::BENCH.after_help()
)]
pub struct BenchFlags {
    #[arg(hide = true)]
    pub source: Vec<OsString>,

    /// Write nothing: list, fetch and decode only; the default
    #[arg(long)]
    pub discard: bool,

    /// Also restore everything, into a new directory in DIR that is removed afterwards
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output_dir: Option<OsString>,

    /// Repeat each stage until this time is over, e.g. 30s [default: one pass over all databases]
    #[arg(long, value_name = "D", value_parser = values::duration)]
    pub duration: Option<Duration>,

    /// Measure one stage only: list, fetch, decode or all [default: one after the other]
    #[arg(long, value_name = "STAGE", value_parser = values::bench_stage)]
    pub stage: Option<BenchStage>,

    /// At most N databases at a time [default: adapts, from 10]
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    pub parallel: Option<NonZeroUsize>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Write the latencies' histograms, second by second, in HdrHistogram's log format
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub hlog: Option<OsString>,

    /// Write a report: a page to NAME.html, a text for tickets to NAME.md, else JSON (repeatable)
    #[arg(long, value_name = "FILE", action = clap::ArgAction::Append, value_hint = ValueHint::FilePath)]
    pub report: Vec<OsString>,

    #[command(flatten)]
    pub past: PastFlags,

    #[command(flatten)]
    pub common: CommonFlags,
}

#[derive(Parser, Debug)]
#[command(
    name = "completions",
    about = "Print a completion script for a shell",
    disable_help_flag = true,
    next_help_heading = "Flags",
    override_usage = "hydrant completions SHELL",
    after_help = examples::COMPLETIONS.after_help()
)]
pub struct CompletionsFlags {
    #[arg(hide = true)]
    pub shell: Vec<OsString>,

    /// Show this help
    #[arg(short = 'h', alias = "help", action = clap::ArgAction::SetTrue)]
    pub help: bool,
}

#[derive(Parser, Debug)]
#[command(
    name = "man",
    about = "Print a man page",
    disable_help_flag = true,
    next_help_heading = "Flags",
    override_usage = "hydrant man [COMMAND]",
    after_help = examples::MAN.after_help()
)]
pub struct ManFlags {
    #[arg(hide = true)]
    pub command: Vec<OsString>,

    /// Show this help
    #[arg(short = 'h', alias = "help", action = clap::ArgAction::SetTrue)]
    pub help: bool,
}

#[derive(clap::Args, Debug)]
pub struct ConfigFlags {
    /// The configuration file [default: $LITESTREAM_CONFIG, else /etc/litestream.yml]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub config: Option<OsString>,

    /// Leave $VAR in the configuration file as it is
    #[arg(long)]
    pub no_expand_env: bool,
}

/// Who may use what is restored.
#[derive(clap::Args, Debug)]
pub struct PermissionFlags {
    /// Give databases and new directories to USER, GROUP or both: names of /etc/passwd and /etc/group, or numbers
    #[arg(long, value_name = "USER[:GROUP]")]
    pub owner: Option<String>,

    /// The mode of databases, e.g. 0640 [default: 0666 less the umask]
    #[arg(long, value_name = "MODE", value_parser = values::mode)]
    pub mode: Option<u32>,

    /// The mode of new directories, e.g. 0750 [default: 0700 less the umask]
    #[arg(long, value_name = "MODE", value_parser = values::mode)]
    pub dir_mode: Option<u32>,
}

/// Several runs on the same states.
#[derive(clap::Args, Debug)]
pub struct CatalogueFlags {
    /// For -catalogue in further runs: write the list of all files to FILE
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub save_catalogue: Option<OsString>,

    /// List nothing: work on the states that were newest when FILE was saved
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub catalogue: Option<OsString>,
}

#[derive(clap::Args, Debug)]
pub struct MetricsFlags {
    /// Write metrics of the run for node_exporter's textfile collector; PATH ends in .prom
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub metrics_textfile: Option<OsString>,
}

#[derive(clap::Args, Debug)]
pub struct ProgressFlags {
    /// Show progress: a bar, or plain lines where stderr is not a terminal
    #[arg(long)]
    pub progress: bool,

    /// Show no progress
    #[arg(long)]
    pub no_progress: bool,
}
