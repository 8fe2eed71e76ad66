//! The flags that say which store is read, and which past of it.

use clap::ValueHint;

/// The store's settings, stronger than those of URL, configuration file and environment.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Flags of all commands")]
pub struct StoreFlags {
    /// The S3 service, e.g. http://minio:9000, whatever URL and configuration say
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub endpoint: Option<String>,

    /// The bucket's region, whatever URL and configuration say
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,

    /// The AWS profile whose credentials are used, before keys in the environment
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,

    /// Sign no requests: the bucket is public
    #[arg(long)]
    pub no_sign_request: bool,
}

/// Which past of a versioned bucket is read.
#[derive(clap::Args, Debug)]
pub struct PastFlags {
    /// Read a versioned bucket as it was at T, also what was deleted since; `last`: before its last deletion
    #[arg(long, value_name = "T")]
    pub as_of: Option<String>,

    /// With -as-of: go on where the bucket has lost versions, though the state may be wrong
    #[arg(long)]
    pub allow_incomplete_history: bool,
}
