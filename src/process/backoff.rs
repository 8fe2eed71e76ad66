//! Pauses between attempts.

use std::ops::Range;
use std::time::Duration;

/// The pause before the next attempt: `first`, doubled `doublings` times, at most `longest`, times a
/// random factor from `jitter`. A jitter of `1.0..1.0` leaves the pause as it is.
pub(crate) fn backoff(first: Duration, doublings: u32, longest: Duration, jitter: Range<f64>) -> Duration {
    let pause = first.saturating_mul(1 << doublings.min(31)).min(longest);
    let factor = jitter.start + (jitter.end - jitter.start) * fastrand::f64();
    // Only a pause near the largest duration can overflow.
    Duration::try_from_secs_f64(pause.as_secs_f64() * factor).unwrap_or(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_vary_within_the_jitter() {
        let (first, longest) = (Duration::from_millis(50), Duration::from_secs(20));
        for (doublings, mean) in [(0, 0.05), (1, 0.1), (3, 0.4), (8, 12.8), (9, 20.0), (31, 20.0), (u32::MAX, 20.0)] {
            for jitter in [0.0..1.0, 0.5..1.5] {
                let pauses = || (0..500).map(|_| backoff(first, doublings, longest, jitter.clone()).as_secs_f64());
                assert!(pauses().all(|p| (mean * jitter.start..=mean * jitter.end).contains(&p)), "{doublings}");
                let spread = pauses().fold(0.0, f64::max) - pauses().fold(f64::INFINITY, f64::min);
                assert!(spread > 0.8 * mean, "{doublings}: {spread}");
            }
            assert!((backoff(first, doublings, longest, 1.0..1.0).as_secs_f64() - mean).abs() < 1e-6, "{doublings}");
        }
        assert_eq!(backoff(Duration::ZERO, 31, longest, 0.5..1.5), Duration::ZERO);
        assert!(backoff(Duration::MAX, 31, Duration::MAX, 0.5..1.5) >= Duration::MAX / 2);
    }
}
