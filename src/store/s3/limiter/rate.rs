//! Requests per second to one bucket, or to one prefix in it, once it has answered 503.
//!
//! ```text
//!                 503                            over a quarter of the
//!  ┌───────────┐ at rate of answers  ┌───────────┐ answers are 503  ┌─────────┐
//!  │ unlimited │────────────────────▶│ measuring │─────────────────▶│ holding │◀─┐ 503s: the rate
//!  └───────────┘                     │  doubles  │                  │  1 s at │  │ times the share
//!        ▲                           └───────────┘                  │   98 %  │  │ that was taken
//!        │ a minute                     ▲     │ 503s though       ┌─└─────────┘  │
//!        │ without 503                  │     │ the rate      503s│  ▲   │ over ┌─────────┐
//!    from any                           │     │ is not used       │  │   └─────▶│ probing │
//!                                       │     ▼                   ▼  │          │ 2, 4, 8,│
//!             as many 503s as before: ┌─────────────────────────────┐│ fewer    │  15 %   │
//!             no rate cures them      │ trial: far below the limit  │┘ 503s     └─────────┘
//!                                     └─────────────────────────────┘
//! ```
//!
//! A limit shows as a share of 503s that grows with the rate; some buckets refuse a share whatever
//! the rate. One rate cannot tell the two apart, two can: where 503s go on at a rate that was held
//! below the limit, a trial sends far less for a moment. If fewer are refused, there was a limit.
//! If the share stays, no rate cures it: it becomes the usual share, and from then on only what
//! exceeds it by more than chance counts.
//!
//! Pure: the time is passed in. Only answers to requests that were sent since the last change of
//! the rate count: the others tell of another rate.

use super::policy::LimiterPolicy;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The rate of one bucket, or of one prefix in it.
#[derive(Debug)]
pub(super) struct Rate {
    policy: Arc<LimiterPolicy>,
    state: RateState,
    /// Requests per second; meaningless while unlimited.
    rate: f64,
    /// Requests that may be sent at once.
    tokens: f64,
    filled: Instant,
    /// When the rate was last changed.
    changed: Instant,
    throttled_at: Instant,
    measured: Counts,
    /// Successes per second in the previous measurement, while unlimited.
    before: f64,
    /// The share of 503s that is refused at any rate; no responses: none.
    usual: Counts,
    /// When the usual share is tested by a trial again: it may have ended, or hide a limit.
    next_trial: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum RateState {
    /// No 503 yet, or none for a minute.
    Unlimited,
    /// The rate doubles until it meets a limit.
    Measuring,
    /// Just below the limit that was found.
    Holding { until: Instant },
    /// The rate is raised step by step; `step` is the next part to add.
    Probing { step: f64 },
    /// Far below `rate`, at which `share` of the responses were 503s.
    Trial { rate: f64, share: f64 },
}

/// Responses in a period, and how many of them were 503s.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub since: Instant,
    pub answers: u32,
    pub refused: u32,
    sent: u32,
    /// Counting was restarted at the first 503.
    is_met: bool,
}

impl Counts {
    const fn new(since: Instant) -> Self {
        Self { since, answers: 0, refused: 0, sent: 0, is_met: false }
    }

    pub(super) fn share(&self) -> f64 {
        f64::from(self.refused) / f64::from(self.answers.max(1))
    }
}

impl Rate {
    pub(super) fn new(policy: Arc<LimiterPolicy>, now: Instant) -> Self {
        Self {
            policy,
            state: RateState::Unlimited,
            rate: 0.0,
            tokens: 0.0,
            filled: now,
            changed: now,
            throttled_at: now,
            measured: Counts::new(now),
            before: 0.0,
            usual: Counts::new(now),
            next_trial: now,
        }
    }

    /// Held just below a known `limit`.
    pub(super) fn limited(policy: Arc<LimiterPolicy>, now: Instant, limit: f64) -> Self {
        let mut rate = Self::new(policy, now);
        rate.hold(now, limit);
        rate
    }

    /// Requests per second; None while there is no limit.
    pub(super) fn per_second(&self) -> Option<f64> {
        (self.state != RateState::Unlimited).then_some(self.rate)
    }

    /// Whether the answer to a request sent at `sent` counts for a trial.
    pub(super) fn is_trial_of(&self, sent: Instant) -> bool {
        matches!(self.state, RateState::Trial { .. }) && sent >= self.changed
    }

    /// Lets one request be sent now, or says how long to wait before asking again.
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

    /// A request sent at `sent` was answered, with 503 if `throttled`. Some if a trial has ended
    /// with these counts and the share of 503s is as large as before.
    pub(super) fn answered(&mut self, now: Instant, sent: Instant, throttled: bool) -> Option<Counts> {
        if throttled {
            self.throttled_at = now;
        }
        if self.state == RateState::Unlimited {
            self.watch(now, throttled);
            return None;
        }
        if now.saturating_duration_since(self.throttled_at) > self.policy.forget_after {
            *self = Self::new(Arc::clone(&self.policy), now);
            return None;
        }
        if sent < self.changed {
            return None;
        }
        // The first 503 of a measurement shows that the bucket's saved-up tokens are used. Earlier
        // responses would hide the true share of 503s, so counting restarts.
        if throttled && !self.measured.is_met && !self.is_trial_of(sent) {
            self.measured = Counts { is_met: true, ..Counts::new(now) };
            return None;
        }
        self.measured.answers += 1;
        self.measured.refused += u32::from(throttled);
        self.judge(now)
    }

    /// Counts responses per second while unlimited. The first 503 starts at that rate.
    fn watch(&mut self, now: Instant, throttled: bool) {
        let span = now.saturating_duration_since(self.measured.since);
        // At least half a measurement: a few responses may arrive together.
        let per_second = f64::from(self.measured.answers) / span.max(self.policy.measurement / 2).as_secs_f64();
        if throttled {
            self.set(now, RateState::Measuring, per_second.max(self.before));
        } else if span >= self.policy.measurement {
            self.before = per_second;
            self.measured = Counts::new(now);
        }
        self.measured.answers += u32::from(!throttled);
    }

    fn judge(&mut self, now: Instant) -> Option<Counts> {
        let policy = Arc::clone(&self.policy);
        let measured = self.measured;
        let span = now.saturating_duration_since(measured.since);
        let is_over = span >= policy.measurement && measured.answers >= policy.least_answers;
        // If many are refused, half a measurement is enough.
        let is_clear = span >= policy.measurement / 2 && measured.refused >= policy.least_answers;
        if !is_over && !is_clear {
            return None;
        }
        if let RateState::Trial { rate, share } = self.state {
            return self.judge_trial(now, rate, share);
        }
        self.measured = Counts::new(now);
        let usual = self.usual.share();
        let excess = (measured.share() - usual).max(0.0);
        let is_more = policy.is_more_than_chance(measured.refused, measured.answers, usual, self.usual.answers);
        // A rate that is not used up shows nothing if there are no 503s.
        let sent = f64::from(measured.sent) / span.as_secs_f64();
        let is_used = sent >= self.rate / 2.0;
        let exceeded = if is_used { self.rate } else { sent };
        let is_due = usual > 0.0 && now >= self.next_trial;
        match self.state {
            RateState::Measuring if excess > policy.tolerated => self.hold(now, exceeded * (1.0 - excess)),
            RateState::Measuring if is_used => self.set(now, RateState::Measuring, self.rate * 2.0),
            RateState::Measuring if is_more => self.begin_trial(now, measured.share()),
            RateState::Measuring if is_due => self.begin_trial(now, usual),
            RateState::Probing { .. } if is_more => self.hold(now, exceeded * (1.0 - excess)),
            RateState::Probing { step } if is_used => {
                let next = RateState::Probing { step: (step * 2.0).min(policy.largest_step) };
                self.set(now, next, self.rate * (1.0 + step));
            }
            // After an outage. No limit is this low, and a trial would take seconds.
            RateState::Holding { .. } if self.rate <= policy.least_rate && excess <= policy.tolerated => {
                self.set(now, RateState::Measuring, self.rate * 2.0);
            }
            RateState::Holding { .. } if is_more => self.begin_trial(now, measured.share()),
            RateState::Holding { .. } if is_due => self.begin_trial(now, usual),
            RateState::Holding { until } => {
                self.follow(measured);
                if now >= until {
                    self.state = RateState::Probing { step: policy.margin };
                }
            }
            _ => {}
        }
        None
    }

    /// The usual share follows the share of 503s below the limit, over 50 measurements.
    fn follow(&mut self, measured: Counts) {
        if self.usual.refused > 0 {
            self.usual.answers += measured.answers;
            self.usual.refused += measured.refused;
            if self.usual.answers > 50 * self.policy.least_answers {
                self.usual.answers /= 2;
                self.usual.refused /= 2;
            }
        }
    }

    /// Starts a trial: `share` was refused although the rate was held. The trial's rate is so low
    /// that a limit would refuse nothing, even if it had been overestimated by this share.
    fn begin_trial(&mut self, now: Instant, share: f64) {
        let rate = self.rate * self.policy.nearly * (1.0 - share).powi(2);
        self.set(now, RateState::Trial { rate: self.rate, share }, rate);
    }

    fn judge_trial(&mut self, now: Instant, rate: f64, share: f64) -> Option<Counts> {
        let tried = self.measured;
        // The trial ends once this many 503s are expected if the share stays; half as many if none
        // came.
        let due = if tried.refused > 0 { self.policy.least_answers / 2 } else { self.policy.least_answers / 4 };
        if share * f64::from(tried.answers) < f64::from(due) {
            return None;
        }
        let left = tried.share();
        let was_known = self.usual.refused > 0;
        self.next_trial = now + 2 * self.policy.hold;
        if left > self.policy.nearly || left > 2.0 * share {
            // The bucket is down, or its limit has fallen.
            self.usual = Counts::new(now);
            self.hold(now, self.rate * (1.0 - left));
            return None;
        }
        self.usual = if tried.refused < 2 { Counts::new(now) } else { tried };
        if left < share / 2.0 {
            self.hold(now, rate * (1.0 - (share - left)));
            return None;
        }
        let search =
            if was_known { RateState::Probing { step: self.policy.largest_step } } else { RateState::Measuring };
        self.set(now, search, rate);
        Some(tried)
    }

    fn hold(&mut self, now: Instant, limit: f64) {
        let until = now + self.policy.hold;
        self.set(now, RateState::Holding { until }, limit * (1.0 - self.policy.margin));
    }

    fn set(&mut self, now: Instant, state: RateState, rate: f64) {
        self.state = state;
        self.rate = rate.max(self.policy.least_rate);
        self.tokens = self.tokens.min(self.most_tokens());
        self.changed = now;
        self.measured = Counts::new(now);
    }

    /// Maximum number of tokens saved up in a pause: those of a tenth of a measurement.
    fn most_tokens(&self) -> f64 {
        self.rate * self.policy.measurement.as_secs_f64() / 10.0
    }
}
