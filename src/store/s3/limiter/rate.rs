//! Limits the requests per second to one bucket, or to one prefix in it, after it has answered 503 for the first time.
//!
//! ```text
//!                503: doubles from the     more 503s than
//!  ┌───────────┐ rate of the responses  ┌─────────┐ the step ┌─────────┐ 503s  ┌───────────────┐
//!  │ unlimited │───────────────────────▶│ raising │─────────▶│ holding │──────▶│     trial     │
//!  └───────────┘                        │ by 2, 4,│          │ 1 s, at │◀──────│ far below the │
//!        ▲                              │ 8, 15 % │◀─────────│   98 %  │ fewer │     limit     │
//!        │ from any: a minute           │ or 100 %│  no 503s └─────────┘ 503s  └───────────────┘
//!        │ without a 503                └─────────┘◀──────────────────────────── as many 503s
//! ```
//!
//! Some buckets refuse a share of the requests at any rate. If 503s go on while a rate is held, a trial at a much lower
//! rate finds out. If the share of 503s stays, it becomes the usual share, and from then on only what exceeds it by
//! more than chance counts. Responses to requests sent before the last change of the rate do not count.

use super::policy;
use std::time::{Duration, Instant};

/// Limit of requests per second of one bucket, or of one prefix in it.
#[derive(Debug)]
pub(super) struct Rate {
    state: RateState,
    /// Limit in requests per second. It has no meaning in the state `Unlimited`.
    rate: f64,
    /// Number of requests that may be sent at once (token bucket).
    tokens: f64,
    filled: Instant,
    /// Time of the last change of the state or of the rate.
    changed: Instant,
    throttled_at: Instant,
    measured: Counts,
    /// Responses of the latest trial, from which the usual share of 503s is computed. The trial ended at `usual.since`.
    usual: Counts,
}

/// State of a rate: how the limit is searched for or held.
#[derive(Debug, Clone, Copy, PartialEq)]
enum RateState {
    /// No limit: the bucket has not answered 503 yet, or not for a minute.
    Unlimited,
    /// The rate is raised again and again by the fraction `step` of it, until the bucket answers with more 503s.
    Raising { step: f64 },
    /// The rate is 2 % below the limit that was found.
    Holding,
    /// A trial: requests are far below `rate` for a while, to see whether the fraction `share` of 503s falls.
    Trial { rate: f64, share: f64 },
}

/// Number of responses in a period, and how many of them were 503s.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub since: Instant,
    pub answers: u32,
    pub refused: u32,
    sent: u32,
    /// Whether the first 503 of the period has come and the counts were restarted there.
    is_met: bool,
}

impl Counts {
    pub(super) const fn new(since: Instant) -> Self {
        Self { since, answers: 0, refused: 0, sent: 0, is_met: false }
    }

    pub(super) fn add(&mut self, throttled: bool) {
        self.answers += 1;
        self.refused += u32::from(throttled);
    }

    pub(super) fn share(&self) -> f64 {
        f64::from(self.refused) / f64::from(self.answers.max(1))
    }

    /// Whether more responses are 503s than chance explains. `usual` is the share of 503s in `known` earlier responses.
    pub(super) fn is_more_than_chance(&self, usual: f64, known: u32) -> bool {
        let expected = usual * f64::from(self.answers);
        let variance = expected * (1.0 - usual) * (1.0 + f64::from(self.answers) / f64::from(known.max(1)));
        f64::from(self.refused) > expected + policy::DEVIATIONS * variance.sqrt()
    }
}

impl Rate {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            state: RateState::Unlimited,
            rate: 0.0,
            tokens: 0.0,
            filled: now,
            changed: now,
            throttled_at: now,
            measured: Counts::new(now),
            usual: Counts::new(now),
        }
    }

    /// Limit of requests per second. None: requests are not limited.
    pub(super) fn per_second(&self) -> Option<f64> {
        (self.state != RateState::Unlimited).then_some(self.rate)
    }

    /// Whether a trial (a time at a very low rate) runs, and the response to a request sent at `sent` counts for it.
    pub(super) fn is_trial_of(&self, sent: Instant) -> bool {
        matches!(self.state, RateState::Trial { .. }) && sent >= self.changed
    }

    /// Admits one request, or returns the time to wait before the next attempt.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        if self.state == RateState::Unlimited {
            return Ok(());
        }
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.rate;
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + gained).min(self.most_tokens().max(1.0));
        if self.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate));
        }
        self.tokens -= 1.0;
        self.measured.sent += 1;
        Ok(())
    }

    /// Records the response to a request sent at `sent`; `throttled`: it was a 503. Returns the counts of a trial if it
    /// has just ended and the share of 503s is as large as before.
    pub(super) fn answered(&mut self, now: Instant, sent: Instant, throttled: bool) -> Option<Counts> {
        if throttled {
            self.throttled_at = now;
        }
        if self.state == RateState::Unlimited {
            self.watch(now, throttled);
        } else if now.saturating_duration_since(self.throttled_at) > policy::FORGET_AFTER {
            *self = Self::new(now);
        } else if sent >= self.changed && throttled && !self.measured.is_met && !self.is_trial_of(sent) {
            // Counting restarts at the first 503: until then the server still allowed a burst above its limit.
            self.measured = Counts { is_met: true, ..Counts::new(now) };
        } else if sent >= self.changed {
            self.measured.add(throttled);
            return self.judge(now);
        }
        None
    }

    /// Counts the responses per second while there is no limit. The first 503 starts a limit at that rate.
    fn watch(&mut self, now: Instant, throttled: bool) {
        let span = now.saturating_duration_since(self.measured.since);
        // The time is at least half a measurement, because a few responses can arrive together.
        let per_second = f64::from(self.measured.answers) / span.max(policy::MEASUREMENT / 2).as_secs_f64();
        if throttled {
            self.set(now, RateState::Raising { step: 1.0 }, per_second);
        } else if span >= policy::MEASUREMENT {
            self.measured = Counts::new(now);
        }
        self.measured.answers += u32::from(!throttled);
    }

    fn judge(&mut self, now: Instant) -> Option<Counts> {
        let measured = self.measured;
        let span = now.saturating_duration_since(measured.since);
        let is_over = span >= policy::MEASUREMENT && measured.answers >= policy::LEAST_ANSWERS;
        // If at least 20 responses are 503s, half a measurement (50 ms) is enough.
        let is_clear = span >= policy::MEASUREMENT / 2 && measured.refused >= policy::LEAST_ANSWERS;
        if !is_over && !is_clear {
            return None;
        }
        if let RateState::Trial { rate, share } = self.state {
            return self.judge_trial(now, rate, share);
        }
        self.measured = Counts::new(now);
        let usual = self.usual.share();
        let excess = (measured.share() - usual).max(0.0);
        let is_more = measured.is_more_than_chance(usual, self.usual.answers);
        let is_due = usual > 0.0 && now >= self.usual.since + 2 * policy::HOLD;
        // Without 503s, a rate that is not used up shows nothing about the limit.
        let sent = f64::from(measured.sent) / span.as_secs_f64();
        let is_used = sent >= self.rate / 2.0;
        match self.state {
            RateState::Raising { step } if is_more && excess > policy::TOLERATED * step => {
                let exceeded = if is_used { self.rate } else { sent };
                self.hold(now, exceeded * (1.0 - excess));
            }
            RateState::Raising { step } if is_used => {
                let next = if step < 1.0 { (step * 2.0).min(policy::LARGEST_STEP) } else { step };
                self.set(now, RateState::Raising { step: next }, self.rate * (1.0 + step));
            }
            // After an outage the rate is at its minimum. No real limit is that low, and a trial would take seconds.
            RateState::Holding if self.rate <= policy::LEAST_RATE && excess <= policy::TOLERATED => {
                self.set(now, RateState::Raising { step: 1.0 }, self.rate * 2.0);
            }
            RateState::Raising { step: 1.0.. } | RateState::Holding if is_more || is_due => {
                let share = if is_more { measured.share() } else { usual };
                // The trial's rate is so low that a limit would refuse nothing, even one that was overestimated by
                // `share`.
                let low = self.rate * policy::NEARLY_ALL * (1.0 - share).powi(2);
                self.set(now, RateState::Trial { rate: self.rate, share }, low);
            }
            RateState::Holding => {
                self.follow(measured);
                if now >= self.changed + policy::HOLD {
                    self.state = RateState::Raising { step: policy::MARGIN };
                }
            }
            _ => {}
        }
        None
    }

    /// Adapts the usual share of 503s to those that come below the limit, as an average over 50 measurements.
    fn follow(&mut self, measured: Counts) {
        if self.usual.refused > 0 {
            self.usual.answers += measured.answers;
            self.usual.refused += measured.refused;
            if self.usual.answers > 50 * policy::LEAST_ANSWERS {
                self.usual.answers /= 2;
                self.usual.refused /= 2;
            }
        }
    }

    fn judge_trial(&mut self, now: Instant, rate: f64, share: f64) -> Option<Counts> {
        let tried = self.measured;
        // The trial ends once this many 503s would be expected if the share stays. Half are enough if none came.
        let due = if tried.refused > 0 { policy::LEAST_ANSWERS / 2 } else { policy::LEAST_ANSWERS / 4 };
        if share * f64::from(tried.answers) < f64::from(due) {
            return None;
        }
        let left = tried.share();
        let step = if self.usual.refused > 0 { policy::LARGEST_STEP } else { 1.0 };
        self.usual = if tried.refused > 1 { Counts { since: now, ..tried } } else { Counts::new(now) };
        if left > policy::NEARLY_ALL || left > 2.0 * share {
            // Even at this low rate there are more 503s than before: the bucket is down, or its limit has fallen.
            self.usual = Counts::new(now);
            self.hold(now, self.rate * (1.0 - left));
        } else if left < share / 2.0 {
            self.hold(now, rate * (1.0 - (share - left)));
        } else {
            self.set(now, RateState::Raising { step }, rate);
            return Some(tried);
        }
        None
    }

    /// Holds the rate 2 % below `limit`.
    pub(super) fn hold(&mut self, now: Instant, limit: f64) {
        self.set(now, RateState::Holding, limit * (1.0 - policy::MARGIN));
    }

    fn set(&mut self, now: Instant, state: RateState, rate: f64) {
        self.state = state;
        self.rate = rate.max(policy::LEAST_RATE);
        self.tokens = self.tokens.min(self.most_tokens());
        self.changed = now;
        self.measured = Counts::new(now);
    }

    /// Maximum number of tokens that a pause saves up: what the rate allows in 10 ms.
    fn most_tokens(&self) -> f64 {
        self.rate * policy::MEASUREMENT.as_secs_f64() / 10.0
    }
}
