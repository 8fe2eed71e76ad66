//! The flags that every command with a store has, as clap definitions. See `flags`.

use crate::cli::args::store_flags::StoreFlags;
use crate::cli::args::values;
use crate::cli::ui::log::LogFormat;
use crate::io::BackendChoice;
use std::num::NonZeroUsize;
use std::time::Duration;

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Flags of all commands")]
pub struct CommonFlags {
    #[command(flatten)]
    pub store: StoreFlags,

    /// Memory budget, e.g. 256MiB [default: 256MiB, less in a small container]
    #[arg(long, value_name = "SIZE", value_parser = values::memory)]
    pub memory: Option<u64>,

    /// How files are written: auto, uring or pwrite
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = values::engine)]
    pub io_engine: BackendChoice,

    /// At most N requests in flight, over all databases [default: adapts]
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    pub max_requests: Option<NonZeroUsize>,

    /// Read at most SIZE bytes per second, over all connections and from disks too, e.g. 20MiB
    #[arg(long, value_name = "SIZE", value_parser = values::rate)]
    pub limit_rate: Option<u64>,

    /// Wait this long for a service that does not answer connections yet [default: 60s]
    #[arg(long, value_name = "D", value_parser = values::duration)]
    pub connect_timeout: Option<Duration>,

    /// Give a database up after this long without a byte that moves it on; 0: never [default: 60s]
    #[arg(long, value_name = "D", value_parser = values::duration)]
    pub stall_timeout: Option<Duration>,

    /// Show more: latencies by stage, each database and its plan, failed requests and what is done; -vv: each request
    #[arg(short = 'v', alias = "v", action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// As -v, and each request and the AWS credentials chain
    #[arg(long = "vv", hide = true)]
    pub very_verbose: bool,

    /// Show only errors, failed databases and the result
    #[arg(long)]
    pub quiet: bool,

    /// Messages on stderr as text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = values::log_format)]
    pub log_format: LogFormat,

    /// No colours (also: NO_COLOR in the environment)
    #[arg(long)]
    pub no_color: bool,

    /// Show this help
    #[arg(short = 'h', alias = "help", action = clap::ArgAction::SetTrue)]
    pub help: bool,
}
