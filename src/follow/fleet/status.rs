//! How many databases of a fleet are in which state, for status lines and metrics.

use std::sync::Arc;

/// Numbers of databases by where they are, for people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FleetStatus {
    /// The number of databases.
    pub databases: usize,
    /// Those that are up to date, as far as is known.
    pub up_to_date: usize,
    /// Those that are open.
    pub open: usize,
    /// Those that wait for one of the open ones to be closed.
    pub waiting: usize,
    /// Those that cannot go on.
    pub stopped: usize,
    /// Those whose replicas are gone.
    pub vanished: usize,
    /// Whether each was looked at once.
    pub is_looked_at: bool,
    /// For how many seconds it is known that the database has not all that its replica has: the median of all
    /// databases.
    pub median_behind_seconds: u64,
    /// The same of the worst database, with its name.
    pub worst_behind: Option<(u64, Arc<str>)>,
}

impl FleetStatus {
    /// The number of databases that are known to lack something.
    pub const fn behind(&self) -> usize {
        self.databases - self.up_to_date - self.stopped
    }
}
