//! Limits how many databases are in flight. `-parallel N` is a fixed limit (docs/CLI.md, "hydrant
//! restore-pattern"). Without it the limit begins at 10, grows by 1 with every database that ends, and follows
//! the number of requests that may be in flight (docs/decisions/13-databases-in-flight.md). The requests
//! themselves are limited for each bucket by the store.

use super::Descriptors;
use crate::store::s3;

/// Number of databases in flight at the start of a run without `-parallel`.
const BEGIN: usize = 10;
/// While a bucket throttles, one key prefix gets at most a quarter of the databases in flight, as long as
/// others wait.
const SHARES: usize = 4;

/// Limits how many databases of a run are in flight, and adapts the limit while the run goes on.
#[derive(Debug)]
pub struct DatabaseWindow {
    size: usize,
    max: usize,
    is_given: bool,
    requests: s3::ProcessLimiter,
}

impl DatabaseWindow {
    /// Makes a limit. `parallel` is the value of `-parallel`. `max` is the number of databases that the open
    /// files allow. `requests` is the limiter of the stores' requests.
    pub fn new(parallel: Option<usize>, max: usize, requests: &s3::ProcessLimiter) -> Self {
        let max = max.max(1);
        let size = parallel.unwrap_or(BEGIN).clamp(1, max);
        Self { size, max, is_given: parallel.is_some(), requests: requests.clone() }
    }

    /// Number of databases that may be in flight now.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Returns how many databases of one key prefix may be in flight while others wait. None: no bucket
    /// throttles.
    pub fn share(&self) -> Option<usize> {
        self.requests.per_second().is_some().then(|| (self.size / SHARES).max(1))
    }

    /// Adapts the limit. Call this when a database has ended.
    pub fn ended(&mut self) {
        if self.is_given {
            return;
        }
        // Without a bucket, replicas are read from files on disk, and no request limit applies.
        let useful = self.requests.window().map_or(self.max, |window| Descriptors::useful_databases(Some(window)));
        let most = useful.max(BEGIN).min(self.max);
        // The limit changes by 1 in both directions, because the limit of requests is itself still being
        // measured.
        self.size = if self.size < most { self.size + 1 } else { (self.size - 1).max(most) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_number_is_a_hard_cap() {
        let limits = s3::ProcessLimiter::default();
        let mut window = DatabaseWindow::new(Some(3), 1000, &limits);
        (0..100).for_each(|_| window.ended());
        assert_eq!(window.size(), 3);
        assert_eq!(DatabaseWindow::new(Some(300), 20, &limits).size(), 20);
    }

    #[test]
    fn grows_with_successes_as_far_as_the_requests_feed_it() {
        let limits = s3::ProcessLimiter::default();
        let mut window = DatabaseWindow::new(None, 1000, &limits);
        assert_eq!(window.size(), 10);
        (0..500).for_each(|_| window.ended());
        assert_eq!(window.size(), 510);
        // A new bucket starts with a low limit of requests in flight, so fewer databases in flight are useful.
        let _bucket = s3::S3::new(s3::S3Config::default(), &s3_options(&limits), Default::default());
        let useful = Descriptors::useful_databases(limits.window());
        assert!((10..100).contains(&useful), "{useful}");
        window.ended();
        assert_eq!(window.size(), 509);
        (0..1000).for_each(|_| window.ended());
        assert_eq!(window.size(), useful);
    }

    fn s3_options(limits: &s3::ProcessLimiter) -> s3::S3Options {
        s3::S3Options { limits: limits.clone(), ..s3::S3Options::default() }
    }
}
