//! How many databases are in flight (CONTRACT `--parallel`): given, a hard cap; else it begins
//! at 10, grows with every success and shrinks when the bucket throttles. Requests are bounded
//! apart from it, by the stores' limiters.

use std::time::{Duration, Instant};

const BEGIN: usize = 10;
const SHRINK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Window {
    size: usize,
    max: usize,
    adapts: bool,
    throttled: u64,
    shrunk_at: Option<Instant>,
}

impl Window {
    /// `parallel` as given; `max` is what descriptors allow.
    pub fn new(parallel: Option<usize>, max: usize) -> Self {
        let max = max.max(1);
        let size = parallel.unwrap_or(BEGIN).clamp(1, max);
        Self { size, max, adapts: parallel.is_none(), throttled: 0, shrunk_at: None }
    }

    pub const fn size(&self) -> usize {
        self.size
    }

    /// A database has ended; `throttled` is the process's count of throttled requests so far.
    pub fn ended(&mut self, throttled: u64) {
        if !self.adapts {
            return;
        }
        if throttled == self.throttled {
            self.size = (self.size + 1).min(self.max);
            return;
        }
        self.throttled = throttled;
        if self.shrunk_at.is_none_or(|at| at.elapsed() >= SHRINK_EVERY) {
            self.shrunk_at = Some(Instant::now());
            self.size = (self.size * 7 / 10).max(BEGIN.min(self.max));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_number_is_a_hard_cap() {
        let mut window = Window::new(Some(3), 1000);
        (0..100).for_each(|_| window.ended(0));
        assert_eq!(window.size(), 3);
        assert_eq!(Window::new(Some(300), 20).size(), 20);
    }

    #[test]
    fn grows_with_successes_and_shrinks_once_a_second_when_throttled() {
        let mut window = Window::new(None, 100);
        assert_eq!(window.size(), 10);
        (0..500).for_each(|_| window.ended(0));
        assert_eq!(window.size(), 100);
        window.ended(1);
        assert_eq!(window.size(), 70);
        window.ended(2);
        assert_eq!(window.size(), 70);
        window.ended(2);
        assert_eq!(window.size(), 71);
    }
}
