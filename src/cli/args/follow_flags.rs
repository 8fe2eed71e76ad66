//! The flags with which `hydrant restore-pattern` follows a fleet.

use crate::cli::args::flags::PatternFlags;
use crate::cli::args::resolved::FleetFollowArgs;
use crate::cli::args::values;
use crate::cli::ui::failure::Failure;
use clap::Args;
use std::time::Duration;

#[derive(Args, Debug)]
pub struct FleetFollowFlags {
    /// Then follow: keep all databases up to date, as warm standbys. Those that exist are taken up
    #[arg(long, alias = "f")]
    pub follow: bool,

    /// How often to look for changes with -follow
    #[arg(long, value_name = "D", default_value = "1s", value_parser = values::duration)]
    pub follow_interval: Duration,

    /// At most N LISTs per second with -follow
    #[arg(long, value_name = "N", default_value = "5", value_parser = values::list_rate)]
    pub list_rate: f64,
}

/// Whether a fleet is to be followed, and how. None: it is not.
///
/// # Errors
/// A flag was given that cannot go with `--follow`.
pub(super) fn fleet_follow(flags: &PatternFlags) -> Result<Option<FleetFollowArgs>, Failure> {
    let FleetFollowFlags { follow, follow_interval, list_rate } = flags.follow;
    if !follow {
        return Ok(None);
    }
    let refused = [
        (
            flags.if_db_not_exists,
            "--if-db-not-exists: with --follow, a database that exists is followed from where it is",
        ),
        (flags.dry_run, "--dry-run"),
        (flags.timestamp.is_some(), "--timestamp"),
        (flags.past.as_of.is_some(), "--as-of"),
        (flags.fail_fast, "--fail-fast"),
        (flags.only.is_some(), "--only"),
        (flags.catalogue.catalogue.is_some(), "--catalogue"),
        (flags.catalogue.save_catalogue.is_some(), "--save-catalogue"),
    ];
    if let Some((_, flag)) = refused.into_iter().find(|(is_given, _)| *is_given) {
        return Err(Failure::usage(format!("cannot use --follow with {flag}")));
    }
    if follow_interval.is_zero() {
        return Err(Failure::usage("--follow-interval must be above 0"));
    }
    Ok(Some(FleetFollowArgs { interval: follow_interval, lists_per_second: list_rate }))
}
