//! When a request is so late that it is sent once more (hedged), and how many hedges are allowed.
//! Pure: measurements are passed in.

use super::policy::LimiterPolicy;
use std::sync::Arc;
use std::time::Duration;

/// Requests are compared within their kind: a page of a listing takes longer than an object's first
/// byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestKind {
    Listing,
    Object,
}

#[derive(Debug)]
pub(super) struct Hedge {
    policy: Arc<LimiterPolicy>,
    objects: FirstBytes,
    listings: FirstBytes,
    /// Hedges that may be sent now; a request adds a part of one.
    credit: f64,
}

/// The newest first bytes of one kind.
#[derive(Debug, Default)]
struct FirstBytes {
    latencies: Vec<Duration>,
    /// Index of the oldest, which the next one replaces.
    next: usize,
    threshold: Option<Duration>,
}

impl Hedge {
    pub(super) fn new(policy: Arc<LimiterPolicy>) -> Self {
        Self { policy, objects: FirstBytes::default(), listings: FirstBytes::default(), credit: 0.0 }
    }

    /// A first byte arrived after `latency`.
    pub(super) fn answered(&mut self, kind: RequestKind, latency: Duration) {
        self.credit = (self.credit + self.policy.hedge_share).min(self.policy.hedge_burst as f64);
        let first_bytes = match kind {
            RequestKind::Listing => &mut self.listings,
            RequestKind::Object => &mut self.objects,
        };
        first_bytes.answered(&self.policy, latency);
    }

    /// How long to wait for a first byte before the request is hedged; None while too few are
    /// known.
    pub(super) const fn threshold(&self, kind: RequestKind) -> Option<Duration> {
        match kind {
            RequestKind::Listing => self.listings.threshold,
            RequestKind::Object => self.objects.threshold,
        }
    }

    /// Takes a hedge, if one may be sent. Returns whether it may.
    pub(super) fn take(&mut self) -> bool {
        let allowed = self.credit >= 1.0;
        if allowed {
            self.credit -= 1.0;
        }
        allowed
    }
}

impl FirstBytes {
    fn answered(&mut self, policy: &LimiterPolicy, latency: Duration) {
        match self.latencies.get_mut(self.next) {
            Some(oldest) => *oldest = latency,
            None => self.latencies.push(latency),
        }
        self.next = (self.next + 1) % policy.hedge_sample;
        // The threshold is computed after every eighth of the sample, also the first time.
        if self.next.is_multiple_of(policy.hedge_sample / 8) {
            let mut sorted = self.latencies.clone();
            let at = ((sorted.len() as f64 * policy.hedge_quantile) as usize).min(sorted.len() - 1);
            let (_, slow, _) = sorted.select_nth_unstable(at);
            self.threshold = Some((*slow * policy.hedge_factor).max(policy.hedge_least_wait));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RequestKind::{Listing, Object};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_threshold_stands_above_what_is_usual_whatever_the_stragglers_do() {
        let mut hedge = Hedge::new(Arc::default());
        assert_eq!(hedge.threshold(Object), None);
        (0..1000).for_each(|i| hedge.answered(Object, if i % 50 == 0 { 400 } else { 20 + i % 5 } * MS));
        let threshold = hedge.threshold(Object).unwrap();
        assert!((40 * MS..60 * MS).contains(&threshold), "{threshold:?}");
        // A slower bucket is none of stragglers.
        (0..300).for_each(|_| hedge.answered(Object, 200 * MS));
        assert_eq!(hedge.threshold(Object), Some(400 * MS));
        // Nor is a fast one of hedges for microseconds.
        (0..300).for_each(|_| hedge.answered(Object, MS / 12));
        assert_eq!(hedge.threshold(Object), Some(10 * MS));
    }

    #[test]
    fn a_listing_is_no_straggler_for_taking_longer_than_an_object() {
        let mut hedge = Hedge::new(Arc::default());
        for i in 0..10_000 {
            hedge.answered(Object, 20 * MS);
            if i % 60 == 0 {
                hedge.answered(Listing, 150 * MS);
            }
        }
        assert_eq!((hedge.threshold(Object), hedge.threshold(Listing)), (Some(40 * MS), Some(300 * MS)));
    }

    #[test]
    fn hedges_are_a_small_share_of_the_requests() {
        let mut hedge = Hedge::new(Arc::default());
        assert!(!hedge.take());
        let mut taken = 0;
        for _ in 0..10_000 {
            hedge.answered(Object, 20 * MS);
            taken += u32::from(hedge.take());
        }
        assert!((190..=200).contains(&taken), "{taken}");
        (0..10_000).for_each(|_| hedge.answered(Object, 20 * MS));
        let burst = (0..100).filter(|_| hedge.take()).count();
        assert_eq!(burst, 16);
    }
}
