//! Limits the requests in flight to one bucket. The limit starts at 32 and doubles as long as a doubling raises goodput
//! by 20 %. Then it is held. Every 2 s a limit 25 % higher is tried, which must raise goodput by 5 %. Goodput is the
//! bytes of bodies, plus 32 KiB ([`policy::ANSWER_BYTES`]) for each response. Callers pass the time.

use super::policy;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    size: usize,
    max: usize,
    phase: Phase,
    /// The limit before the last increase, to which an increase without gain falls back.
    from: usize,
    /// Goodput in bytes per second before the last increase. 0: unknown, so any goodput counts as a gain.
    before: f64,
    /// Number of measurements since the last increase that showed too little gain.
    strikes: u32,
    measuring: Option<Measuring>,
    /// Moving average of the time from a request to its first byte. A measurement lasts twice that time.
    first_byte: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Doubling,
    Holding { probe_at: Instant },
    Probing,
}

#[derive(Debug, Clone, Copy)]
struct Measuring {
    since: Instant,
    goodput: u64,
    was_full: bool,
}

impl ConcurrencyLimit {
    pub(super) fn new(max: usize) -> Self {
        let size = max.clamp(1, policy::FIRST_REQUESTS);
        Self {
            size,
            max: max.max(1),
            phase: Phase::Doubling,
            from: size,
            before: 0.0,
            strikes: 0,
            measuring: None,
            first_byte: Duration::ZERO,
        }
    }

    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// Records a first byte that arrived after `latency`. `goodput` is the sum of bytes since the start. `is_full` says
    /// whether requests wait for a permit. Adapts the limit at the end of a measurement.
    pub(super) fn answered(&mut self, now: Instant, latency: Duration, goodput: u64, is_full: bool) {
        let latency = latency.min(policy::PROBE_EVERY);
        self.first_byte = if self.first_byte.is_zero() { latency } else { (self.first_byte * 15 + latency) / 16 };
        if let Some(measuring) = &mut self.measuring {
            measuring.was_full &= is_full;
            let span = now.saturating_duration_since(measuring.since);
            if span < (self.first_byte * 2).clamp(policy::GOODPUT_TIME, policy::PROBE_EVERY) {
                return;
            }
            let per_second = goodput.saturating_sub(measuring.goodput) as f64 / span.as_secs_f64();
            if measuring.was_full {
                self.judge(now, per_second);
            } else {
                // During the measurement no request waited, so a higher limit would not have shown anything.
                (self.before, self.strikes) = (0.0, 0);
                if matches!(self.phase, Phase::Probing) {
                    (self.phase, self.size) = (Phase::Holding { probe_at: now }, self.from);
                }
            }
        }
        self.measuring = Some(Measuring { since: now, goodput, was_full: is_full });
    }

    fn judge(&mut self, now: Instant, per_second: f64) {
        let gains = |increase: f64| per_second >= self.before * (1.0 + increase * policy::LEAST_GAIN);
        let can_grow = self.size < self.max;
        match self.phase {
            Phase::Holding { probe_at } if can_grow && now >= probe_at => {
                self.grow(Phase::Probing, self.size + (self.size / 4).max(1), per_second);
            }
            Phase::Holding { .. } => {}
            Phase::Doubling if gains(1.0) && can_grow => self.grow(Phase::Doubling, self.size * 2, per_second),
            Phase::Probing if gains(0.25) => self.grow(Phase::Doubling, self.size * 2, per_second),
            Phase::Doubling | Phase::Probing => {
                self.strikes += 1;
                if self.strikes >= policy::GAIN_MEASUREMENTS {
                    // A doubling that gained only 5 %, as a probe must, is kept, but no further doubling follows.
                    self.size = if gains(0.25) { self.size } else { self.from };
                    self.phase = Phase::Holding { probe_at: now + policy::PROBE_EVERY };
                }
            }
        }
    }

    fn grow(&mut self, phase: Phase, size: usize, per_second: f64) {
        (self.phase, self.from, self.before, self.strikes) = (phase, self.size, per_second, 0);
        self.size = size.min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs against a simulated server whose goodput with n requests in flight is `goodput(n)` bytes per second.
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
            limit.answered(*now, Duration::from_millis(20), *total, true);
        }
    }

    #[test]
    fn doubles_while_it_brings_more_and_holds_near_the_knee() {
        for knee in [40_usize, 100, 300] {
            let (mut limit, mut now, mut total) = (ConcurrencyLimit::new(512), Instant::now(), 0);
            let goodput = |n: usize| n.min(knee) as f64 * 1e6;
            run(&mut limit, &mut now, &mut total, 1.0, goodput);
            assert!((knee * 9 / 10..=knee * 2).contains(&limit.size()), "{knee}: {}", limit.size());
            run(&mut limit, &mut now, &mut total, 20.0, goodput);
            assert!((knee * 9 / 10..=knee * 5 / 2).contains(&limit.size()), "{knee}: {}", limit.size());
            // From now on, goodput grows with each further request in flight, so the limit must reach its
            // maximum.
            run(&mut limit, &mut now, &mut total, 30.0, |n| n as f64 * 1e6);
            assert_eq!(limit.size(), 512, "{knee}");
        }
    }

    #[test]
    fn what_nobody_waits_for_is_left_alone() {
        let (mut limit, now) = (ConcurrencyLimit::new(512), Instant::now());
        for i in 0..500_u64 {
            limit.answered(now + Duration::from_millis(10 * i), Duration::from_millis(20), i << 20, i % 2 != 0);
            assert_eq!(limit.size(), policy::FIRST_REQUESTS);
        }
    }

    #[test]
    fn a_cap_is_a_cap() {
        let (mut limit, mut now, mut total) = (ConcurrencyLimit::new(3), Instant::now(), 0);
        run(&mut limit, &mut now, &mut total, 5.0, |n| n as f64 * 1e6);
        assert_eq!(limit.size(), 3);
    }
}
