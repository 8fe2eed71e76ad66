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

#[derive(Debug, Default)]
pub struct Hedge {
    latencies: Vec<Duration>,
    next: usize,
    reviewed: usize,
    threshold: Option<Duration>,
    credit: f64,
}

impl Hedge {
    /// A first byte came after `latency`.
    pub fn answered(&mut self, latency: Duration) {
        self.credit = (self.credit + SHARE).min(MAX_CREDIT);
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

    /// How long to wait for a first byte before another request is sent; None: not known.
    pub const fn threshold(&self) -> Option<Duration> {
        self.threshold
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_stands_above_what_is_usual_whatever_the_stragglers_do() {
        let mut hedge = Hedge::default();
        assert_eq!(hedge.threshold(), None);
        for i in 0..1000 {
            hedge.answered(Duration::from_millis(if i % 50 == 0 { 400 } else { 20 + i % 5 }));
        }
        let threshold = hedge.threshold().unwrap();
        assert!((Duration::from_millis(40)..Duration::from_millis(60)).contains(&threshold), "{threshold:?}");
        // A slower bucket is none of stragglers.
        (0..300).for_each(|_| hedge.answered(Duration::from_millis(200)));
        assert_eq!(hedge.threshold(), Some(Duration::from_millis(400)));
        // Nor is a fast one of hedges for microseconds.
        (0..300).for_each(|_| hedge.answered(Duration::from_micros(80)));
        assert_eq!(hedge.threshold(), Some(MIN_WAIT));
    }

    #[test]
    fn hedges_are_a_small_share_of_the_requests() {
        let mut hedge = Hedge::default();
        assert!(!hedge.take());
        let mut taken = 0;
        for _ in 0..10_000 {
            hedge.answered(Duration::from_millis(20));
            taken += u32::from(hedge.take());
        }
        assert!((190..=200).contains(&taken), "{taken}");
        (0..10_000).for_each(|_| hedge.answered(Duration::from_millis(20)));
        let burst = (0..100).filter(|_| hedge.take()).count();
        assert_eq!(burst, 16);
    }
}
