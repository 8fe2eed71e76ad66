//! Divides the file descriptors that the process may open (`ulimit -n`) between databases and HTTP connections.

use crate::store::s3::default_max_requests;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors that one database needs while it is restored: the new file, the same file for direct I/O,
/// its directory, the output directory, the file that it replaces, and SQLite's.
const PER_DATABASE: u64 = 6;
/// File descriptors that the process needs besides workers, databases and connections.
const OWN: u64 = 24;
/// File descriptors that one worker needs: io_uring, timers and wakers.
const PER_WORKER: u64 = 6;
/// Maximum number of databases in flight, however many descriptors are free.
const MOST_DATABASES: u64 = 4096;

/// Numbers of databases and requests in flight that the process's file descriptors allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Maximum number of databases that can be restored at the same time, at least 1.
    pub databases: usize,
    /// Maximum number of requests in flight, at least 2. None: the limiter's own maximum is lower.
    pub requests: Option<usize>,
}

impl Descriptors {
    /// Raises the soft limit of open files to the hard limit, and divides it. `workers` is the number of worker
    /// threads.
    pub fn of_process(workers: usize) -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let mut limit = current.unwrap_or(u64::MAX);
        if maximum.unwrap_or(u64::MAX) > limit
            && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok()
        {
            limit = maximum.unwrap_or(u64::MAX);
        }
        let divided = Self::of(limit, workers);
        let Self { databases, requests } = divided;
        tracing::debug!(target: "hydrant::fleet", descriptors = limit, databases, requests, "open files divided");
        divided
    }

    /// Returns the number of databases in flight that keep `max_requests` requests busy: three quarters of
    /// them. A database sends a few requests at a time and is then written and synced. More databases only need
    /// more memory.
    pub fn useful_databases(max_requests: Option<usize>) -> usize {
        max_requests.unwrap_or_else(default_max_requests).saturating_mul(3).div_ceil(4).max(4)
    }

    fn of(descriptors: u64, workers: usize) -> Self {
        let workers = workers as u64;
        let free = descriptors.saturating_sub(OWN + PER_WORKER * workers);
        let databases = (free / 2 / PER_DATABASE).clamp(1, MOST_DATABASES);
        let sockets = free.saturating_sub(databases * PER_DATABASE);
        // With several workers only half of the descriptors count, because a connection stays open for a while
        // after its request, and workers do not share connections.
        let requests = (sockets / if workers > 1 { 2 } else { 1 }).max(2);
        Self {
            databases: databases as usize,
            requests: (requests < default_max_requests() as u64).then_some(requests as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fleet::descriptors::*;

    #[test]
    fn few_descriptors_are_divided_and_many_do_not_matter() {
        for (descriptors, workers) in [(64, 1), (256, 2), (1024, 2), (1024, 16), (4096, 8)] {
            let limits = Descriptors::of(descriptors, workers);
            let pools = if workers > 1 { 2 } else { 1 };
            let used = OWN
                + PER_WORKER * workers as u64
                + PER_DATABASE * limits.databases as u64
                + pools * limits.requests.unwrap_or(0) as u64;
            assert!(used <= descriptors, "{descriptors} {workers}: {limits:?} uses {used}");
        }
        assert_eq!(Descriptors::of(u64::MAX, 64), Descriptors { databases: 4096, requests: None });
        assert_eq!(Descriptors::useful_databases(Some(256)), 192);
        assert_eq!(Descriptors::of(3, 8), Descriptors { databases: 1, requests: Some(2) });
    }
}
