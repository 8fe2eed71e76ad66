//! When a request is a straggler, and whether another may be sent in its stead (DESIGN engine 7).
//! Pure: what was measured is passed in.

use std::time::Duration;

/// First bytes that are remembered.
const REMEMBERED: usize = 256;
/// Fewer tell nothing.
const ENOUGH: usize = 32;
/// After how many the threshold is found anew.
const REVIEW_EVERY: usize = 32;
/// A straggler takes this many times as long as 19 of 20 others.
const FACTOR: u32 = 2;
/// Nothing is hedged sooner: less is the noise of a scheduler.
const MIN_WAIT: Duration = Duration::from_millis(10);
/// Hedges per request, and how many quiet times save up.
const SHARE: f64 = 0.02;
const MAX_CREDIT: f64 = 16.0;

/// What a request is measured by: a page of a listing takes longer than an object's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Listing,
    Object,
}

#[derive(Debug, Default)]
pub struct Hedge {
    objects: Usual,
    listings: Usual,
    credit: f64,
}

/// What is usual of one kind.
#[derive(Debug, Default)]
struct Usual {
    latencies: Vec<Duration>,
    next: usize,
    reviewed: usize,
    threshold: Option<Duration>,
}

impl Hedge {
    /// A first byte came after `latency`.
    pub fn answered(&mut self, kind: Kind, latency: Duration) {
        self.credit = (self.credit + SHARE).min(MAX_CREDIT);
        match kind {
            Kind::Listing => self.listings.answered(latency),
            Kind::Object => self.objects.answered(latency),
        }
    }

    /// How long to wait for a first byte before another request is sent; None: not known.
    pub const fn threshold(&self, kind: Kind) -> Option<Duration> {
        match kind {
            Kind::Listing => self.listings.threshold,
            Kind::Object => self.objects.threshold,
        }
    }

    /// Takes the leave to send one more request, if there is any.
    pub fn take(&mut self) -> bool {
        let allowed = self.credit >= 1.0;
        if allowed {
            self.credit -= 1.0;
        }
        allowed
    }
}

impl Usual {
    fn answered(&mut self, latency: Duration) {
        match self.latencies.get_mut(self.next) {
            Some(slot) => *slot = latency,
            None => self.latencies.push(latency),
        }
        self.next = (self.next + 1) % REMEMBERED;
        self.reviewed += 1;
        if self.reviewed >= REVIEW_EVERY && self.latencies.len() >= ENOUGH {
            self.reviewed = 0;
            let mut sorted = self.latencies.clone();
            let at = (sorted.len() * 19 / 20).min(sorted.len() - 1);
            let (_, high, _) = sorted.select_nth_unstable(at);
            self.threshold = Some((*high * FACTOR).max(MIN_WAIT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Kind::{Listing, Object};
    use super::*;

    #[test]
    fn the_threshold_stands_above_what_is_usual_whatever_the_stragglers_do() {
        let mut hedge = Hedge::default();
        assert_eq!(hedge.threshold(Object), None);
        for i in 0..1000 {
            hedge.answered(Object, Duration::from_millis(if i % 50 == 0 { 400 } else { 20 + i % 5 }));
        }
        let threshold = hedge.threshold(Object).unwrap();
        assert!((Duration::from_millis(40)..Duration::from_millis(60)).contains(&threshold), "{threshold:?}");
        // A slower bucket is none of stragglers.
        (0..300).for_each(|_| hedge.answered(Object, Duration::from_millis(200)));
        assert_eq!(hedge.threshold(Object), Some(Duration::from_millis(400)));
        // Nor is a fast one of hedges for microseconds.
        (0..300).for_each(|_| hedge.answered(Object, Duration::from_micros(80)));
        assert_eq!(hedge.threshold(Object), Some(MIN_WAIT));
    }

    #[test]
    fn a_listing_is_no_straggler_for_taking_longer_than_an_object() {
        let mut hedge = Hedge::default();
        for i in 0..3000 {
            hedge.answered(Object, Duration::from_millis(20));
            if i % 60 == 0 {
                hedge.answered(Listing, Duration::from_millis(150));
            }
        }
        assert_eq!(hedge.threshold(Object), Some(Duration::from_millis(40)));
        assert_eq!(hedge.threshold(Listing), Some(Duration::from_millis(300)));
    }

    #[test]
    fn hedges_are_a_small_share_of_the_requests() {
        let mut hedge = Hedge::default();
        assert!(!hedge.take());
        let mut taken = 0;
        for _ in 0..10_000 {
            hedge.answered(Object, Duration::from_millis(20));
            taken += u32::from(hedge.take());
        }
        assert!((190..=200).contains(&taken), "{taken}");
        (0..10_000).for_each(|_| hedge.answered(Object, Duration::from_millis(20)));
        let burst = (0..100).filter(|_| hedge.take()).count();
        assert_eq!(burst, 16);
    }
}
