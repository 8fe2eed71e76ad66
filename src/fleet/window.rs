//! How many databases are in flight (CONTRACT `--parallel`): given, a hard cap; else it begins
//! at 10, grows with every success, and keeps to what the requests that may be in flight can
//! feed. Those are bounded apart from it, by the buckets' limiters.

use super::Descriptors;
use crate::store::s3;

const BEGIN: usize = 10;
/// A throttled bucket's databases are shared among so many prefixes at least, where there are so many.
const SHARES: usize = 4;

#[derive(Debug)]
pub struct DatabaseWindow {
    size: usize,
    max: usize,
    is_given: bool,
    requests: s3::ProcessLimiter,
}

impl DatabaseWindow {
    /// `parallel` as given; `max` is what descriptors allow; `requests` limits the stores.
    pub fn new(parallel: Option<usize>, max: usize, requests: &s3::ProcessLimiter) -> Self {
        let max = max.max(1);
        let size = parallel.unwrap_or(BEGIN).clamp(1, max);
        Self { size, max, is_given: parallel.is_some(), requests: requests.clone() }
    }

    pub const fn size(&self) -> usize {
        self.size
    }

    /// How many of one prefix may be at work while others wait; None: no bucket throttles.
    pub fn share(&self) -> Option<usize> {
        self.requests.is_throttled().then(|| (self.size / SHARES).max(1))
    }

    /// A database has ended.
    pub fn ended(&mut self) {
        if self.is_given {
            return;
        }
        // Without a bucket, files are read.
        let useful = self.requests.window().map_or(self.max, |window| Descriptors::useful_databases(Some(window)));
        let most = useful.max(BEGIN).min(self.max);
        // One at a time, either way: the requests' window is measured while this follows it.
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
        // A bucket is met, whose window begins small.
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
