//! How many requests are in flight to one bucket (DESIGN engine 7): begins small, doubles while
//! that brings more, then stays and now and then tries a little more. Pure: the time is passed in.
//!
//! What counts is goodput: bytes of bodies, and for each answer as much as [`ANSWER_BYTES`], so
//! that many small objects count as well as few large ones.

use std::time::{Duration, Instant};

/// In flight before anything is known.
pub const BEGIN: usize = 32;
/// An answer's weight beside the bytes of bodies.
pub const ANSWER_BYTES: u64 = 32 << 10;
/// One measurement takes as long as this, or as two first bytes if that is longer.
const EPOCH: Duration = Duration::from_millis(20);
const MAX_EPOCH: Duration = Duration::from_secs(1);
/// Twice as many must bring so much more; probes, a quarter more, so much more.
const DOUBLING_GAIN: f64 = 1.2;
const PROBE_GAIN: f64 = 1.08;
/// A doubling that brought less than this is taken back.
const USELESS_GAIN: f64 = 1.05;
/// Between probes: the first, doubled while they bring nothing, up to the second.
const PROBE_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));

#[derive(Debug)]
pub struct Window {
    size: usize,
    max: usize,
    phase: Phase,
    measuring: Option<Measuring>,
    /// Bytes per second with the size before.
    before: Option<f64>,
    /// Measurements since the last change that were too little.
    strikes: u32,
    probe_at: Option<Instant>,
    probe_every: Duration,
    /// Smoothed time to the first byte.
    first_byte: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// This was the size before the last doubling, if there was one.
    Doubling {
        from: Option<usize>,
    },
    Holding,
    /// A little more is tried; this was the size before.
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

impl Window {
    pub fn new(max: usize) -> Self {
        Self {
            size: max.clamp(1, BEGIN),
            max: max.max(1),
            phase: Phase::Doubling { from: None },
            measuring: None,
            before: None,
            strikes: 0,
            probe_at: None,
            probe_every: PROBE_EVERY.0,
            first_byte: Duration::ZERO,
        }
    }

    pub const fn size(&self) -> usize {
        self.size
    }

    /// A first byte came after `latency`.
    pub fn answered(&mut self, latency: Duration) {
        self.first_byte =
            if self.first_byte.is_zero() { latency } else { (self.first_byte * 15 + latency.min(MAX_EPOCH)) / 16 };
    }

    /// `goodput` is the sum of all that came since the beginning, `is_full` whether requests wait
    /// for others to end. Whether the size has changed.
    pub fn measure(&mut self, now: Instant, goodput: u64, is_full: bool) -> bool {
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
        let rate = goodput.saturating_sub(begun_with) as f64 / seconds;
        let size = self.size;
        if was_full {
            self.judge(now, rate);
        } else {
            // Nobody waited: there is nothing to learn about more.
            (self.before, self.strikes) = (None, 0);
            if let Phase::Probing { from } = self.phase {
                (self.phase, self.size) = (Phase::Holding, from);
            }
        }
        self.begin(now, goodput, is_full);
        self.size != size
    }

    fn begin(&mut self, now: Instant, goodput: u64, is_full: bool) {
        let epoch = (self.first_byte * 2).clamp(EPOCH, MAX_EPOCH);
        self.measuring = Some(Measuring { since: now, until: now + epoch, goodput, was_full: is_full });
    }

    fn judge(&mut self, now: Instant, rate: f64) {
        match self.phase {
            Phase::Doubling { from } => match self.before {
                Some(before) if rate < before * DOUBLING_GAIN => {
                    // The first measurement after a change has half of the old in it.
                    self.strikes += 1;
                    if self.strikes < 3 {
                        return;
                    }
                    if rate < before * USELESS_GAIN {
                        self.size = from.unwrap_or(self.size);
                    }
                    self.hold(now, PROBE_EVERY.0);
                }
                _ if self.size >= self.max => self.hold(now, PROBE_EVERY.1),
                _ => {
                    (self.before, self.strikes) = (Some(rate), 0);
                    self.phase = Phase::Doubling { from: Some(self.size) };
                    self.size = (self.size * 2).min(self.max);
                }
            },
            Phase::Holding => {
                if self.size < self.max && self.probe_at.is_none_or(|at| now >= at) {
                    (self.before, self.strikes) = (Some(rate), 0);
                    self.phase = Phase::Probing { from: self.size };
                    self.size = (self.size + (self.size / 4).max(1)).min(self.max);
                }
            }
            Phase::Probing { from } => {
                if self.before.is_some_and(|before| rate >= before * PROBE_GAIN) {
                    (self.phase, self.before, self.strikes) = (Phase::Doubling { from: None }, None, 0);
                    self.probe_every = PROBE_EVERY.0;
                    return;
                }
                self.strikes += 1;
                if self.strikes < 3 {
                    return;
                }
                self.size = from;
                self.hold(now, (self.probe_every * 2).min(PROBE_EVERY.1));
            }
        }
    }

    fn hold(&mut self, now: Instant, probe_every: Duration) {
        self.probe_every = probe_every;
        (self.phase, self.before, self.strikes) = (Phase::Holding, None, 0);
        self.probe_at = Some(now + probe_every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs against a server whose goodput with n requests in flight is `goodput(n)` per second.
    fn run(window: &mut Window, now: &mut Instant, total: &mut u64, seconds: f64, goodput: impl Fn(usize) -> f64) {
        let until = *now + Duration::from_secs_f64(seconds);
        while *now < until {
            *now += Duration::from_millis(2);
            *total += (goodput(window.size()) * 0.002) as u64;
            window.answered(Duration::from_millis(20));
            window.measure(*now, *total, true);
        }
    }

    #[test]
    fn doubles_while_it_brings_more_and_holds_near_the_knee() {
        for knee in [40_usize, 100, 300] {
            let (mut window, mut now, mut total) = (Window::new(512), Instant::now(), 0);
            let goodput = |n: usize| n.min(knee) as f64 * 1e6;
            run(&mut window, &mut now, &mut total, 1.0, goodput);
            assert!((knee * 9 / 10..=knee * 2).contains(&window.size()), "{knee}: {}", window.size());
            run(&mut window, &mut now, &mut total, 20.0, goodput);
            assert!((knee * 9 / 10..=knee * 5 / 2).contains(&window.size()), "{knee}: {}", window.size());
            // More becomes possible, and is found.
            run(&mut window, &mut now, &mut total, 30.0, |n| n as f64 * 1e6);
            assert_eq!(window.size(), 512, "{knee}");
        }
    }

    #[test]
    fn what_nobody_waits_for_is_left_alone() {
        let (mut window, now) = (Window::new(512), Instant::now());
        for i in 0..500_u64 {
            assert!(!window.measure(now + Duration::from_millis(10 * i), i << 20, i % 2 != 0));
        }
        assert_eq!(window.size(), BEGIN);
    }

    #[test]
    fn a_cap_is_a_cap() {
        let (mut window, mut now, mut total) = (Window::new(3), Instant::now(), 0);
        run(&mut window, &mut now, &mut total, 5.0, |n| n as f64 * 1e6);
        assert_eq!(window.size(), 3);
    }
}
