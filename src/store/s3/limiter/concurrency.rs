//! The number of requests in flight to one bucket. It starts at 32 and doubles while a doubling
//! raises goodput by 20 %. Then it is held, and every 2 s a quarter more is tried, which must raise
//! goodput by 5 % (`LimiterPolicy`). Pure: the time is passed in.
//!
//! Goodput is the bytes of bodies plus `LimiterPolicy::answer_bytes` for each response, so that
//! many small objects count as much as few large ones.

use super::policy::LimiterPolicy;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    policy: Arc<LimiterPolicy>,
    size: usize,
    max: usize,
    phase: Phase,
    measuring: Option<Measuring>,
    /// Goodput per second before the last increase.
    before: Option<f64>,
    /// Measurements since the last increase that showed too little gain.
    strikes: u32,
    probe_at: Option<Instant>,
    /// Smoothed time to the first byte.
    first_byte: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// `from` is the size before the last doubling, if there was one.
    Doubling {
        from: Option<usize>,
    },
    Holding,
    /// A quarter more than `from` is tried.
    Probing {
        from: usize,
    },
}

#[derive(Debug, Clone, Copy)]
struct Measuring {
    since: Instant,
    until: Instant,
    goodput: u64,
    was_full: bool,
}

impl ConcurrencyLimit {
    pub(super) fn new(policy: Arc<LimiterPolicy>, max: usize) -> Self {
        Self {
            size: max.clamp(1, policy.first_requests),
            policy,
            max: max.max(1),
            phase: Phase::Doubling { from: None },
            measuring: None,
            before: None,
            strikes: 0,
            probe_at: None,
            first_byte: Duration::ZERO,
        }
    }

    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// A first byte arrived after `latency`.
    pub(super) fn answered(&mut self, latency: Duration) {
        let latency = latency.min(self.policy.probe_every);
        self.first_byte = if self.first_byte.is_zero() { latency } else { (self.first_byte * 15 + latency) / 16 };
    }

    /// Measures goodput. `goodput` is the sum since the start; `is_full` says whether requests wait
    /// for a permit. Returns whether the size has changed.
    pub(super) fn measure(&mut self, now: Instant, goodput: u64, is_full: bool) -> bool {
        let Some(measuring) = &mut self.measuring else {
            self.begin(now, goodput, is_full);
            return false;
        };
        measuring.was_full &= is_full;
        if now < measuring.until {
            return false;
        }
        let Measuring { since, goodput: begun_with, was_full, .. } = *measuring;
        let seconds = now.saturating_duration_since(since).as_secs_f64().max(1e-6);
        let per_second = goodput.saturating_sub(begun_with) as f64 / seconds;
        let size = self.size;
        if was_full {
            self.judge(now, per_second);
        } else {
            // No request waited: a larger size would show nothing.
            (self.before, self.strikes) = (None, 0);
            if let Phase::Probing { from } = self.phase {
                (self.phase, self.size) = (Phase::Holding, from);
            }
        }
        self.begin(now, goodput, is_full);
        self.size != size
    }

    fn begin(&mut self, now: Instant, goodput: u64, is_full: bool) {
        let time = (self.first_byte * 2).clamp(self.policy.goodput_time, self.policy.probe_every);
        self.measuring = Some(Measuring { since: now, until: now + time, goodput, was_full: is_full });
    }

    fn judge(&mut self, now: Instant, per_second: f64) {
        let gains = |increase: f64| {
            let needed = 1.0 + increase * self.policy.least_gain;
            self.before.is_none_or(|before| per_second >= before * needed)
        };
        match self.phase {
            Phase::Doubling { .. } if gains(1.0) => {
                if self.size >= self.max {
                    return self.hold(now, self.size);
                }
                self.phase = Phase::Doubling { from: Some(self.size) };
                self.grow(self.size * 2, per_second);
            }
            // Twice as many requests in flight brought less than a doubling must, but as much as a probe
            // of a quarter more must: the doubled number is kept, and doubling ends.
            Phase::Doubling { .. } if gains(0.25) => self.strike(now, self.size),
            Phase::Doubling { from } => self.strike(now, from.unwrap_or(self.size)),
            Phase::Holding => {
                if self.size < self.max && self.probe_at.is_none_or(|at| now >= at) {
                    self.phase = Phase::Probing { from: self.size };
                    self.grow(self.size + (self.size / 4).max(1), per_second);
                }
            }
            Phase::Probing { .. } if gains(0.25) => {
                (self.phase, self.before, self.strikes) = (Phase::Doubling { from: None }, None, 0);
            }
            Phase::Probing { from } => self.strike(now, from),
        }
    }

    fn grow(&mut self, size: usize, per_second: f64) {
        (self.before, self.strikes) = (Some(per_second), 0);
        self.size = size.min(self.max);
    }

    /// This measurement shows too little gain from the last increase.
    fn strike(&mut self, now: Instant, from: usize) {
        self.strikes += 1;
        if self.strikes >= self.policy.gain_measurements {
            self.hold(now, from);
        }
    }

    fn hold(&mut self, now: Instant, size: usize) {
        (self.phase, self.size, self.before, self.strikes) = (Phase::Holding, size, None, 0);
        self.probe_at = Some(now + self.policy.probe_every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs against a server whose goodput with n requests in flight is `goodput(n)` per second.
    fn run(
        limit: &mut ConcurrencyLimit,
        now: &mut Instant,
        total: &mut u64,
        seconds: f64,
        goodput: impl Fn(usize) -> f64,
    ) {
        let until = *now + Duration::from_secs_f64(seconds);
        while *now < until {
            *now += Duration::from_millis(2);
            *total += (goodput(limit.size()) * 0.002) as u64;
            limit.answered(Duration::from_millis(20));
            limit.measure(*now, *total, true);
        }
    }

    #[test]
    fn doubles_while_it_brings_more_and_holds_near_the_knee() {
        for knee in [40_usize, 100, 300] {
            let (mut limit, mut now, mut total) = (ConcurrencyLimit::new(Arc::default(), 512), Instant::now(), 0);
            let goodput = |n: usize| n.min(knee) as f64 * 1e6;
            run(&mut limit, &mut now, &mut total, 1.0, goodput);
            assert!((knee * 9 / 10..=knee * 2).contains(&limit.size()), "{knee}: {}", limit.size());
            run(&mut limit, &mut now, &mut total, 20.0, goodput);
            assert!((knee * 9 / 10..=knee * 5 / 2).contains(&limit.size()), "{knee}: {}", limit.size());
            // More becomes possible, and is found.
            run(&mut limit, &mut now, &mut total, 30.0, |n| n as f64 * 1e6);
            assert_eq!(limit.size(), 512, "{knee}");
        }
    }

    #[test]
    fn what_nobody_waits_for_is_left_alone() {
        let (mut limit, now) = (ConcurrencyLimit::new(Arc::default(), 512), Instant::now());
        for i in 0..500_u64 {
            assert!(!limit.measure(now + Duration::from_millis(10 * i), i << 20, i % 2 != 0));
        }
        assert_eq!(limit.size(), LimiterPolicy::default().first_requests);
    }

    #[test]
    fn a_cap_is_a_cap() {
        let (mut limit, mut now, mut total) = (ConcurrencyLimit::new(Arc::default(), 3), Instant::now(), 0);
        run(&mut limit, &mut now, &mut total, 5.0, |n| n as f64 * 1e6);
        assert_eq!(limit.size(), 3);
    }
}
