//! The flags with which `hydrant restore-pattern` follows a fleet.

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

impl FleetFollowFlags {
    /// Whether a fleet is to be followed, and how. None: it is not. `refused`: the flags that cannot go with `--follow`, and
    /// whether each was given.
    ///
    /// # Errors
    /// One of them was given, or the interval is 0.
    pub(super) fn resolve(&self, refused: &[(bool, &str)]) -> Result<Option<FleetFollowArgs>, Failure> {
        if !self.follow {
            return Ok(None);
        }
        if let Some((_, flag)) = refused.iter().find(|(is_given, _)| *is_given) {
            return Err(Failure::usage(format!("cannot use --follow with {flag}")));
        }
        if self.follow_interval.is_zero() {
            return Err(Failure::usage("--follow-interval must be above 0"));
        }
        Ok(Some(FleetFollowArgs { interval: self.follow_interval, lists_per_second: self.list_rate }))
    }
}
