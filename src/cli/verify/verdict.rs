//! Decides what a verification says of one database, and of the run.

use super::record::DrillSummary;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::human;
use serde::Serialize;

/// What a verification says of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(super) enum Verdict {
    /// The newest state cannot be had, or an expectation is not met.
    #[serde(rename = "not restorable")]
    NotRestorable,
    /// The newest state can be had, but it is older than `-max-age` allows.
    #[serde(rename = "stale")]
    Stale,
    /// The newest state can be had, but only around damaged files.
    #[serde(rename = "degraded")]
    Degraded,
    /// The newest state can be had.
    #[serde(rename = "restorable")]
    Restorable,
    /// There is no backup, and `-if-replica-exists` permits it.
    #[serde(rename = "no backups")]
    NoBackups,
}

impl Verdict {
    /// All verdicts, the worst first.
    pub(super) const ALL: [Self; 5] =
        [Self::NotRestorable, Self::Stale, Self::Degraded, Self::Restorable, Self::NoBackups];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NotRestorable => "not restorable",
            Self::Stale => "stale",
            Self::Degraded => "degraded",
            Self::Restorable => "restorable",
            Self::NoBackups => "no backups",
        }
    }

    /// The verdict as the value of a label.
    pub(super) const fn as_metric(self) -> &'static str {
        match self {
            Self::NotRestorable => "not_restorable",
            Self::NoBackups => "no_backups",
            Self::Stale | Self::Degraded | Self::Restorable => self.as_str(),
        }
    }

    /// Whether a database with this verdict fails the run.
    pub(super) const fn is_failure(self) -> bool {
        matches!(self, Self::NotRestorable | Self::Stale)
    }
}

/// The result of the run: a success if no database fails it, a partial failure (exit code 3) if some do, a failure
/// (exit code 1) if all do.
pub(super) fn of_run(summary: &DrillSummary) -> Result<(), Failure> {
    let (failed, all) = (summary.failed(), summary.databases());
    if failed == 0 {
        return Ok(());
    }
    let message = format!(
        "{} of {} databases do not pass: {}",
        human::thousands(failed),
        human::thousands(all),
        summary.failures_text()
    );
    Err(match failed == all {
        true => Failure::failed(summary.most_frequent_class(), message),
        false => Failure::Partial { message, try_call: None },
    })
}
