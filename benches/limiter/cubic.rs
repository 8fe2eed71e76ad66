//! A rate limiter for comparison with Hydrant's: that of the AWS SDKs' retry mode "adaptive", written anew from its
//! published constants and behaviour.
//!
//! It is a token bucket that begins with the first throttled answer. Each throttled answer cuts the rate to 0.7 of
//! the rate that was sent. Each other answer lets it grow along the cubic curve of TCP's CUBIC, which is flat near
//! the rate that was throttled last and steeper beyond it. The caller passes the time in.

use std::time::Instant;

/// The factor by which a throttled answer cuts the rate.
const BETA: f64 = 0.7;
/// The growth of the curve, in requests per second per second³.
const SCALE: f64 = 0.4;
/// The weight of the newest half second in the measured rate of sending. The rest is the earlier average.
const SMOOTHING: f64 = 0.8;
const MEASURED_SECONDS: f64 = 0.5;
/// The smallest rate that the limiter falls to, in requests per second.
const LEAST_RATE: f64 = 0.5;

pub(super) struct Cubic {
    begun: Instant,
    /// The curve along which the rate grows. None while nothing was throttled yet, when the rate is unlimited.
    curve: Option<Curve>,
    tokens: f64,
    filled: Instant,
    /// The smoothed number of answers per second. The answers since the last half second ended are counted in
    /// `answers`.
    measured: f64,
    answers: u32,
    half_second: u64,
}

#[derive(Clone, Copy)]
struct Curve {
    rate: f64,
    /// The time of the last throttled answer, in seconds. The rate at that time is in `highest`.
    throttled_at: f64,
    highest: f64,
}

impl Curve {
    /// The rate at time `seconds`, after the last throttled answer.
    fn at(self, seconds: f64) -> f64 {
        let flat_after = (self.highest * (1.0 - BETA) / SCALE).cbrt();
        SCALE * (seconds - self.throttled_at - flat_after).powi(3) + self.highest
    }
}

impl Cubic {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, curve: None, tokens: 0.0, filled: now, measured: 0.0, answers: 0, half_second: 0 }
    }

    /// Whether a request may be sent now. If so, it takes a token.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let Some(curve) = self.curve else { return true };
        self.fill(now, curve.rate);
        let is_allowed = self.tokens >= 1.0;
        if is_allowed {
            self.tokens -= 1.0;
        }
        is_allowed
    }

    pub(super) fn answered(&mut self, now: Instant, throttled: bool) {
        let seconds = now.saturating_duration_since(self.begun).as_secs_f64();
        self.measure(seconds);
        let curve = match self.curve {
            None if !throttled => return,
            None => Curve { rate: BETA * self.measured, throttled_at: seconds, highest: self.measured },
            Some(curve) if throttled => {
                let highest = curve.rate.min(self.measured);
                Curve { rate: BETA * highest, throttled_at: seconds, highest }
            }
            Some(curve) => Curve { rate: curve.at(seconds), ..curve },
        };
        self.fill(now, self.curve.map_or(0.0, |before| before.rate));
        let rate = curve.rate.min(2.0 * self.measured).max(LEAST_RATE);
        self.tokens = self.tokens.min(rate.max(1.0));
        self.curve = Some(Curve { rate, ..curve });
    }

    fn fill(&mut self, now: Instant, rate: f64) {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * rate;
        self.filled = now;
        self.tokens = (self.tokens + gained).min(rate.max(1.0));
    }

    fn measure(&mut self, seconds: f64) {
        self.answers += 1;
        let half_second = (seconds / MEASURED_SECONDS) as u64;
        if half_second > self.half_second {
            let passed = (half_second - self.half_second) as f64 * MEASURED_SECONDS;
            self.measured = SMOOTHING * f64::from(self.answers) / passed + (1.0 - SMOOTHING) * self.measured;
            (self.answers, self.half_second) = (0, half_second);
        }
    }
}
