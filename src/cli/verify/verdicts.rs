//! What a verification says of one database.

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
