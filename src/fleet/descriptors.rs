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
/// Connections that each worker must be able to open. With fewer descriptors there are fewer workers.
const CONNECTIONS_PER_WORKER: u64 = 4;
const MOST_DATABASES: u64 = 4096;
/// With fewer requests in flight than this, the limit is mentioned.
const FEW_REQUESTS: usize = 16;

/// Numbers of databases and requests in flight that the process's file descriptors allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// How many descriptors there are (`ulimit -n`).
    pub limit: u64,
    /// Worker threads, at least 1 and at most one per core.
    pub workers: usize,
    cores: usize,
    /// Databases in flight, at least 1.
    pub databases: usize,
    /// Maximum number of requests in flight, at least 2. None: the limiter's own maximum is lower.
    pub requests: Option<usize>,
}

impl Descriptors {
    /// Raises the soft limit to the hard limit and divides it.
    pub fn of_process(cores: usize) -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let mut limit = current.unwrap_or(u64::MAX);
        if maximum.unwrap_or(u64::MAX) > limit
            && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok()
        {
            limit = maximum.unwrap_or(u64::MAX);
        }
        let divided = Self::of(limit, cores);
        let Self { workers, databases, requests, .. } = divided;
        tracing::debug!(target: "hydrant::fleet", descriptors = limit, workers, databases, requests, "open files divided");
        divided
    }

    /// What to tell the operator if the limit makes this process slow. None: it does not.
    pub fn note(&self) -> Option<String> {
        let few = self.requests.filter(|requests| *requests < FEW_REQUESTS || self.workers < self.cores)?;
        let Self { limit, workers, cores, databases, .. } = self;
        Some(format!(
            "only {limit} files may be open (ulimit -n): workers {workers} of {cores}, databases at a time {databases}, \
             requests at a time {few}; a limit of 1024 or more is faster"
        ))
    }

    /// How many databases in flight keep all requests busy. Each has a few requests at a time, then it is
    /// written and synced. More databases would only need more memory.
    pub fn useful_databases(max_requests: Option<usize>) -> usize {
        max_requests.unwrap_or_else(default_max_requests).saturating_mul(3).div_ceil(4).max(4)
    }

    fn of(descriptors: u64, cores: usize) -> Self {
        let for_workers = descriptors.saturating_sub(OWN + PER_DATABASE);
        let workers = (for_workers / (PER_WORKER + CONNECTIONS_PER_WORKER)).clamp(1, cores.max(1) as u64);
        let free = descriptors.saturating_sub(OWN + PER_WORKER * workers);
        let databases = (free / 2 / PER_DATABASE).clamp(1, MOST_DATABASES);
        let sockets = free.saturating_sub(databases * PER_DATABASE);
        // With several workers only half of the descriptors count, because a connection stays open for a while
        // after its request, and workers do not share connections.
        let requests = (sockets / if workers > 1 { 2 } else { 1 }).max(2);
        Self {
            limit: descriptors,
            workers: workers as usize,
            cores,
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
        for (descriptors, cores) in [(64, 1), (64, 16), (256, 2), (1024, 2), (1024, 16), (4096, 8)] {
            let limits = Descriptors::of(descriptors, cores);
            let pools = if limits.workers > 1 { 2 } else { 1 };
            let used = OWN
                + PER_WORKER * limits.workers as u64
                + PER_DATABASE * limits.databases as u64
                + pools * limits.requests.unwrap_or(0) as u64;
            assert!(used <= descriptors, "{descriptors} {cores}: {limits:?} uses {used}");
        }
        let many = Descriptors::of(u64::MAX, 64);
        assert_eq!((many.workers, many.databases, many.requests, many.note()), (64, 4096, None, None));
        assert_eq!(Descriptors::useful_databases(Some(256)), 192);
        let few = Descriptors::of(3, 8);
        assert_eq!((few.workers, few.databases, few.requests), (1, 1, Some(2)));
    }

    #[test]
    fn workers_leave_descriptors_for_the_work_and_the_limit_is_named() {
        for (descriptors, cores, workers) in [(32, 16, 1), (64, 16, 3), (256, 16, 16), (1024, 64, 64)] {
            assert_eq!(Descriptors::of(descriptors, cores).workers, workers, "{descriptors}");
        }
        assert_eq!(
            Descriptors::of(32, 16).note().as_deref(),
            Some(
                "only 32 files may be open (ulimit -n): workers 1 of 16, databases at a time 1, requests at a time 2; \
                 a limit of 1024 or more is faster"
            )
        );
        assert_eq!((Descriptors::of(1024, 16).note(), Descriptors::of(256, 2).note()), (None, None));
    }
}
