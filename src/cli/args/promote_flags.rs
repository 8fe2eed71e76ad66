//! The flags of `hydrant promote`.

use crate::cli::args::examples;
use crate::cli::args::flags::{CommonFlags, ConfigFlags};
use clap::{Parser, ValueHint};
use std::ffi::OsString;

#[derive(Parser, Debug)]
#[command(
    name = "promote",
    about = "Make a standby the new primary",
    disable_help_flag = true,
    next_help_heading = "Flags",
    override_usage = "hydrant promote [flags] DB_PATH\n       hydrant promote [flags] -o PATH REPLICA_URL\n       hydrant promote [flags] -output-dir DIR PATTERN",
    after_help = examples::PROMOTE.after_help()
)]
pub struct PromoteFlags {
    #[arg(hide = true)]
    pub source: Vec<OsString>,

    #[command(flatten)]
    pub config: ConfigFlags,

    /// The standby, instead of the configured path
    #[arg(short = 'o', alias = "o", value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub output: Option<OsString>,

    /// Promote all standbys below DIR that PATTERN names, as restore-pattern does
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output_dir: Option<OsString>,

    /// SQLite's own check of the standby: none, quick or full
    #[arg(long, value_name = "MODE", default_value = "full")]
    pub integrity_check: String,

    /// Promote also if Litestream cannot go on with this replica
    #[arg(long)]
    pub force: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub common: CommonFlags,
}
