//! Hedging: a late request is sent a second time on another connection. This file decides after what time a request is
//! late, and how many hedges are allowed. It reads no clock: callers pass measured times.

use super::policy;
use std::time::Duration;

/// Latencies and allowed hedges of one bucket. Listings and objects are kept apart, because a page of a listing takes
/// longer than the first byte of an object.
#[derive(Debug, Default)]
pub(super) struct Hedge {
    objects: FirstBytes,
    listings: FirstBytes,
    /// Number of hedges that may be sent now. Each answered request adds 0.02.
    credit: f64,
}

/// The latest times to the first byte of one kind of request.
#[derive(Debug, Default)]
struct FirstBytes {
    latencies: Vec<Duration>,
    /// Index of the oldest latency in `latencies`, which the next one replaces.
    next: usize,
    threshold: Option<Duration>,
}

impl Hedge {
    /// Records that the first byte of `key` (None: of a listing) arrived after `latency`.
    pub(super) fn answered(&mut self, key: Option<&str>, latency: Duration) {
        self.credit = (self.credit + policy::HEDGE_SHARE).min(policy::HEDGE_BURST as f64);
        let first_bytes = if key.is_some() { &mut self.objects } else { &mut self.listings };
        first_bytes.answered(latency);
    }

    /// Returns the time after which a request for `key` is hedged. None while too few latencies are known.
    pub(super) fn threshold(&self, key: Option<&str>) -> Option<Duration> {
        if key.is_some() { self.objects.threshold } else { self.listings.threshold }
    }

    /// Takes the permission for one hedge (a second request). Returns false if the credit is used up.
    pub(super) fn take(&mut self) -> bool {
        let allowed = self.credit >= 1.0;
        if allowed {
            self.credit -= 1.0;
        }
        allowed
    }
}

impl FirstBytes {
    fn answered(&mut self, latency: Duration) {
        match self.latencies.get_mut(self.next) {
            Some(oldest) => *oldest = latency,
            None => self.latencies.push(latency),
        }
        self.next = (self.next + 1) % policy::HEDGE_SAMPLE;
        // The threshold is computed again after every 32 latencies, and the first time after 32.
        if self.next.is_multiple_of(policy::HEDGE_SAMPLE / 8) {
            let mut sorted = self.latencies.clone();
            let at = ((sorted.len() as f64 * policy::HEDGE_QUANTILE) as usize).min(sorted.len() - 1);
            let (_, slow, _) = sorted.select_nth_unstable(at);
            self.threshold = Some((*slow * policy::HEDGE_FACTOR).max(policy::HEDGE_LEAST_WAIT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: Option<&str> = Some("key");
    const LISTING: Option<&str> = None;
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_threshold_stands_above_what_is_usual_whatever_the_stragglers_do() {
        let mut hedge = Hedge::default();
        assert_eq!(hedge.threshold(OBJECT), None);
        (0..1000).for_each(|i| hedge.answered(OBJECT, if i % 50 == 0 { 400 } else { 20 + i % 5 } * MS));
        let threshold = hedge.threshold(OBJECT).unwrap();
        assert!((40 * MS..60 * MS).contains(&threshold), "{threshold:?}");
        // If the whole bucket becomes slower, its requests are not late, so the threshold rises.
        (0..300).for_each(|_| hedge.answered(OBJECT, 200 * MS));
        assert_eq!(hedge.threshold(OBJECT), Some(400 * MS));
        // If a bucket is very fast, a delay of microseconds is not late, so the threshold is at least 10 ms.
        (0..300).for_each(|_| hedge.answered(OBJECT, MS / 12));
        assert_eq!(hedge.threshold(OBJECT), Some(10 * MS));
    }

    #[test]
    fn a_listing_is_no_straggler_for_taking_longer_than_an_object() {
        let mut hedge = Hedge::default();
        for i in 0..10_000 {
            hedge.answered(OBJECT, 20 * MS);
            if i % 60 == 0 {
                hedge.answered(LISTING, 150 * MS);
            }
        }
        assert_eq!((hedge.threshold(OBJECT), hedge.threshold(LISTING)), (Some(40 * MS), Some(300 * MS)));
    }

    #[test]
    fn hedges_are_a_small_share_of_the_requests() {
        let mut hedge = Hedge::default();
        assert!(!hedge.take());
        let mut taken = 0;
        for _ in 0..10_000 {
            hedge.answered(OBJECT, 20 * MS);
            taken += u32::from(hedge.take());
        }
        assert!((190..=200).contains(&taken), "{taken}");
        (0..10_000).for_each(|_| hedge.answered(OBJECT, 20 * MS));
        let burst = (0..100).filter(|_| hedge.take()).count();
        assert_eq!(burst, 16);
    }
}
