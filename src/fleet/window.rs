//! How many databases may be in flight. `-parallel N` is a hard limit
//! (docs/CLI.md, "hydrant restore-pattern"). Without it the window begins at 10, grows by 1 with every
//! database that ends, and follows the number of requests that may be in flight
//! (docs/decisions/13-databases-in-flight.md). The buckets' limiters bound the requests themselves.

use super::Descriptors;
use crate::store::s3;

const BEGIN: usize = 10;
/// While a bucket throttles, one prefix gets at most a fourth of the window as long as others wait.
const SHARES: usize = 4;

#[derive(Debug)]
pub struct DatabaseWindow {
    size: usize,
    max: usize,
    is_given: bool,
    requests: s3::ProcessLimiter,
}

impl DatabaseWindow {
    /// `parallel` is the operator's number. `max` is what the descriptors allow. `requests` limits the
    /// stores' requests.
    pub fn new(parallel: Option<usize>, max: usize, requests: &s3::ProcessLimiter) -> Self {
        let max = max.max(1);
        let size = parallel.unwrap_or(BEGIN).clamp(1, max);
        Self { size, max, is_given: parallel.is_some(), requests: requests.clone() }
    }

    pub const fn size(&self) -> usize {
        self.size
    }

    /// How many databases of one prefix may be at work while others wait. None: no bucket throttles.
    pub fn share(&self) -> Option<usize> {
        self.requests.per_second().is_some().then(|| (self.size / SHARES).max(1))
    }

    /// Adapts the size. To be called when a database has ended.
    pub fn ended(&mut self) {
        if self.is_given {
            return;
        }
        // Without a bucket, replicas are read from files, and nothing limits the requests.
        let useful = self.requests.window().map_or(self.max, |window| Descriptors::useful_databases(Some(window)));
        let most = useful.max(BEGIN).min(self.max);
        // It changes by 1 in both directions, because the requests' limit is itself being measured.
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
        // A new bucket's limit of requests begins small.
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
