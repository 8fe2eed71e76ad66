//! Requests per second, once a bucket has said that there were too many (DESIGN engine 7).
//!
//! Unarmed, all may go. The first 503 arms it at the rate of the last second's successes; from
//! there it grows fast until the next 503, which tells what the bucket allows: the share of the
//! requests that it took. From then on it stays just below that, and now and then tries whether
//! more is allowed: first a little more, then faster. Pure: the time is passed in.
//!
//! What is refused although the rate was cut is put to a trial: less than any limit would ask
//! for, for a moment. If the share of refusals stays, it is none of the rate's doing: the rate goes
//! back to where it was, and only what is refused beyond that share counts from then on.
//!
//! Only answers to requests that were sent since the rate was last changed count for it: what
//! was already on its way tells of another rate.

use std::time::{Duration, Instant};

/// How long one measurement takes, at least.
const WINDOW: Duration = Duration::from_millis(100);
/// …and how many answers: before the first limit is found, and later, when little is to be told apart.
const MIN_ANSWERS: (u32, u32) = (5, 20);
/// Few answers are taken for enough after this long.
const MAX_WINDOW: Duration = Duration::from_secs(1);
/// A measurement with so many 503s ends with so many answers from the first of them on, and no
/// fewer than come in so many seconds: what piled up while a core was busy comes at once, and says
/// little.
const ALARM: (u32, u32) = (4, 10);
const ALARM_SECONDS: f64 = 0.02;
/// Requests per second that always go.
const MIN_RATE: f64 = 40.0;
/// So far below what was measured.
const MARGIN: f64 = 0.98;
/// Growth per clean measurement until the first limit is found.
const START_GROWTH: f64 = 1.35;
/// The same afterwards; the last goes on. A bucket's burst hides for a while that it is too much.
const GROWTH: [f64; 7] = [1.02, 1.03, 1.04, 1.06, 1.1, 1.15, 1.25];
/// Time between a cut and the next growth: the first, doubled while the limit is found where it
/// was, up to the second.
const HOLD: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(3));
/// Such a share of 503s in so many measurements is no limit yet.
const DOUBTFUL: (f64, u32) = (0.15, 2);
/// One refusal among so many answers is more than chance.
const SURE: f64 = 20.0;
/// What differs by less is the same limit.
const SAME_LIMIT: f64 = 0.15;
/// After cuts, of at least so many answers so many must have been refused for a trial, and such a
/// share, or so many a second where a trial would take long; beyond [`OUTAGE`] there is nothing to
/// learn.
const TRIAL_AFTER: (f64, f64, f64, f64) = (40.0, 5.0, 0.025, 2.5);
const OUTAGE: f64 = 0.9;
/// What is remembered of answers after cuts.
const REMEMBERED: f64 = 200.0;
/// A trial lasts until so many refusals had to be expected among at least so many answers, or this
/// many and none came; it was in vain if of the expected there came this part, and not this many
/// times as many.
const TRIAL: (f64, u32) = (10.0, 40);
const NONE_CAME: f64 = 4.0;
const SAME_SHARE: (f64, f64) = (0.4, 2.0);
/// Between a trial that showed a limit and the next, doubled by every one that shows it again.
const TRIAL_EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// The same for trials that show none: what no rate cures may end, or hide a limit.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// A cut's measurement counts for a trial, and any near the least rate.
const NEAR_LEAST: f64 = 1.1;
/// Standard deviations beyond the share that no rate cures that are more than chance.
const DEVIATIONS: f64 = 2.5;
/// Such a share that no rate cures is none, and over how many answers it follows what comes.
const NEGLIGIBLE: f64 = 0.005;
const SHARE_MEMORY: f64 = 200.0;
/// What a pause may save up, in seconds of the rate.
const BURST_SECONDS: f64 = 0.01;
/// A bucket that has not throttled for this long is no longer limited.
const DISARM_AFTER: Duration = Duration::from_secs(60);

/// The rate of one bucket, or of one prefix in it.
#[derive(Debug, Default)]
pub struct Rate {
    recent: Recent,
    armed: Option<Armed>,
}

#[derive(Debug)]
struct Armed {
    /// Requests per second.
    rate: f64,
    tokens: f64,
    filled: Instant,
    /// Since when the rate is what it is.
    changed: Instant,
    measured: Measured,
    /// No limit was found yet.
    starting: bool,
    clean: u32,
    hold_until: Instant,
    next_hold: Duration,
    /// The rate at the last cut, and the limit that it showed.
    exceeded: f64,
    limit: f64,
    doubts: u32,
    /// The last change was a cut.
    is_cut: bool,
    /// Answers and refusals after cuts.
    after_cuts: (f64, f64),
    trial: Option<Trial>,
    next_trial: Instant,
    trial_every: Duration,
    /// The share of 503s that no rate cures, and what the last trial found it to be at most.
    incurable: f64,
    incurable_at_most: f64,
    throttled_at: Instant,
}

/// Less than any limit would ask for, for a moment: does it help?
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// The rate before, and the share of 503s that it met.
    rate: f64,
    share: f64,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    since: Instant,
    sent: u32,
    ok: u32,
    throttled: u32,
    /// Those of `ok` before the first refusal.
    ok_before: u32,
}

impl Measured {
    const fn new(since: Instant) -> Self {
        Self { since, sent: 0, ok: 0, throttled: 0, ok_before: 0 }
    }

    const fn add(&mut self, throttled: bool) {
        match throttled {
            true if self.throttled == 0 => (self.throttled, self.ok_before) = (1, self.ok),
            true => self.throttled += 1,
            false => self.ok += 1,
        }
    }

    /// Answers from the first refusal on.
    const fn answers_since_refused(&self) -> u32 {
        self.answers() - self.ok_before
    }

    const fn answers(&self) -> u32 {
        self.ok + self.throttled
    }

    fn share_throttled(&self) -> f64 {
        f64::from(self.throttled) / f64::from(self.answers().max(1))
    }
}

impl Rate {
    /// Leave to send one request now, or how long to wait before asking again.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let Some(armed) = &mut self.armed else { return Ok(()) };
        let burst = (armed.rate * BURST_SECONDS).max(1.0);
        let gained = now.saturating_duration_since(armed.filled).as_secs_f64() * armed.rate;
        armed.filled = armed.filled.max(now);
        armed.tokens = (armed.tokens + gained).min(burst);
        if armed.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - armed.tokens) / armed.rate));
        }
        armed.tokens -= 1.0;
        armed.measured.sent += 1;
        Ok(())
    }

    /// A request sent at `sent` was answered: with 503, or otherwise.
    pub fn answered(&mut self, now: Instant, sent: Instant, throttled: bool) {
        if !throttled {
            self.recent.add(now);
        }
        let Some(armed) = &mut self.armed else {
            if throttled {
                self.armed = Some(Armed::new(now, f64::from(self.recent.last_second(now))));
            }
            return;
        };
        if throttled {
            armed.throttled_at = now;
        } else if now.saturating_duration_since(armed.throttled_at) > DISARM_AFTER {
            self.armed = None;
            return;
        }
        if sent < armed.changed {
            return;
        }
        armed.measured.add(throttled);
        armed.judge(now);
    }

    /// Whether less is not possible.
    pub fn is_least(&self) -> bool {
        self.armed.as_ref().is_some_and(|armed| armed.rate <= MIN_RATE)
    }

    /// Requests per second; None while there is no limit.
    pub fn per_second(&self) -> Option<f64> {
        self.armed.as_ref().map(|armed| armed.rate)
    }
}

impl Armed {
    fn new(now: Instant, rate: f64) -> Self {
        Self {
            rate: rate.max(MIN_RATE),
            tokens: 0.0,
            filled: now,
            changed: now,
            measured: Measured::new(now),
            starting: true,
            clean: 0,
            hold_until: now,
            next_hold: HOLD.0,
            exceeded: f64::INFINITY,
            limit: f64::INFINITY,
            doubts: 0,
            is_cut: false,
            after_cuts: (0.0, 0.0),
            trial: None,
            next_trial: now,
            trial_every: TRIAL_EVERY.0 / 2,
            incurable: 0.0,
            incurable_at_most: 0.0,
            throttled_at: now,
        }
    }

    fn judge(&mut self, now: Instant) {
        if let Some(trial) = self.trial {
            return self.judge_trial(now, trial);
        }
        let measured = self.measured;
        let span = now.saturating_duration_since(measured.since);
        let enough = measured.answers() >= if self.starting { MIN_ANSWERS.0 } else { MIN_ANSWERS.1 };
        let told = measured.answers_since_refused() >= ALARM.1.max((self.rate * ALARM_SECONDS) as u32);
        let is_sudden = measured.throttled >= ALARM.0;
        let is_over = if is_sudden { told } else { span >= WINDOW && enough } || span >= MAX_WINDOW;
        if !is_over {
            return;
        }
        self.measured = Measured::new(now);
        if self.wants_trial(now, measured) {
            return self.begin_trial(now);
        }
        let (answers, refused) = (f64::from(measured.answers()), f64::from(measured.throttled));
        let usual = self.incurable * answers;
        let noise = DEVIATIONS * (usual * (1.0 - self.incurable)).sqrt();
        if refused <= usual + noise {
            self.follow(measured.share_throttled(), answers);
            let asked_for = f64::from(measured.sent) / span.as_secs_f64();
            self.grow(now, asked_for);
        } else {
            // A burst hides a limit until it is used up: what came before tells nothing of it.
            let answers = if is_sudden { f64::from(measured.answers_since_refused()) } else { answers };
            self.cut(now, refused - self.incurable * answers, answers);
        }
    }

    /// What no rate cures may have become less.
    fn follow(&mut self, share: f64, answers: f64) {
        if self.incurable_at_most > 0.0 {
            self.incurable += (share - self.incurable) * answers / (answers + SHARE_MEMORY);
            self.incurable = self.incurable.min(self.incurable_at_most);
            if self.incurable < NEGLIGIBLE {
                (self.incurable, self.incurable_at_most) = (0.0, 0.0);
            }
        }
    }

    /// Whether cuts leave so much refused that they may not be what helps; or whether that is
    /// what was found, and it is time to look again.
    fn wants_trial(&mut self, now: Instant, measured: Measured) -> bool {
        let is_counted = self.is_cut || self.rate <= NEAR_LEAST * MIN_RATE || self.incurable > 0.0;
        if !is_counted {
            return false;
        }
        let (answers, refused) = &mut self.after_cuts;
        if *answers > REMEMBERED {
            (*answers, *refused) = (*answers / 2.0, *refused / 2.0);
        }
        *answers += f64::from(measured.answers());
        *refused += f64::from(measured.throttled);
        let share = *refused / *answers;
        now >= self.next_trial
            && *answers >= TRIAL_AFTER.0
            && *refused >= TRIAL_AFTER.1
            && (TRIAL_AFTER.2.max(TRIAL_AFTER.3 / self.rate)..OUTAGE).contains(&share)
    }

    fn begin_trial(&mut self, now: Instant) {
        let (answers, refused) = std::mem::take(&mut self.after_cuts);
        let share = if self.incurable > 0.0 { self.incurable } else { refused / answers };
        self.trial = Some(Trial { rate: self.rate, share });
        // A limit would be cured by 1 - share.
        self.set(now, self.rate * (0.9 - 3.0 * share).max(0.5));
    }

    fn judge_trial(&mut self, now: Instant, trial: Trial) {
        let answers = self.measured.answers();
        let expected = trial.share * f64::from(answers);
        let span = now.saturating_duration_since(self.measured.since);
        let enough = answers >= TRIAL.1 && expected >= TRIAL.0;
        let none_came = self.measured.throttled == 0 && expected >= NONE_CAME;
        if !(enough || none_came) || span < WINDOW {
            return;
        }
        let share = self.measured.share_throttled();
        let came = f64::from(self.measured.throttled) / expected;
        self.trial = None;
        let was_incurable = self.incurable > 0.0;
        self.is_cut = true;
        if came < SAME_SHARE.0 || came > SAME_SHARE.1 || share >= OUTAGE {
            // Cured; or something else came between.
            if was_incurable {
                // By chance, perhaps.
                (self.next_trial, self.trial_every) = (now, TRIAL_EVERY.0 / 2);
            } else {
                self.trial_every = (self.trial_every * 2).min(TRIAL_EVERY.1);
                self.next_trial = now + self.trial_every;
            }
            (self.incurable, self.incurable_at_most) = (0.0, 0.0);
            self.hold_until = now + HOLD.0;
            let rate = if came < SAME_SHARE.0 { trial.rate * (1.0 - trial.share) } else { self.rate * (1.0 - share) };
            return self.set(now, rate * MARGIN);
        }
        self.trial_every = if was_incurable { (self.trial_every * 2).min(LOOK_EVERY.1) } else { LOOK_EVERY.0 };
        self.next_trial = now + self.trial_every;
        let deviation = (share * (1.0 - share) / f64::from(answers)).sqrt();
        (self.incurable, self.incurable_at_most) = (share, share + deviation);
        if !was_incurable {
            // No limit was found: what was taken for one was none.
            (self.starting, self.clean, self.doubts, self.is_cut) = (true, 0, 0, false);
            (self.exceeded, self.limit, self.hold_until) = (f64::INFINITY, f64::INFINITY, now);
        }
        self.set(now, trial.rate);
    }

    /// Nothing was refused that less would cure.
    fn grow(&mut self, now: Instant, asked_for: f64) {
        self.doubts = 0;
        if now < self.hold_until {
            return;
        }
        // More leave than anyone asked for proves nothing.
        if asked_for < 0.8 * self.rate {
            return;
        }
        let growth = if self.starting {
            START_GROWTH
        } else {
            let step = GROWTH.get(self.clean as usize).or(GROWTH.last());
            step.copied().unwrap_or(1.0)
        };
        self.clean += 1;
        self.is_cut = false;
        self.set(now, self.rate * growth);
    }

    /// Of so many answers so many were refused, by the rate's doing.
    fn cut(&mut self, now: Instant, refused: f64, answers: f64) {
        // Before any limit was met, a few refusals may be chance.
        if self.starting && refused < DOUBTFUL.0 * answers && self.doubts < DOUBTFUL.1 {
            self.doubts += 1;
            return;
        }
        let begun_small = self.starting && self.clean == 0;
        self.starting = false;
        self.clean = 0;
        self.is_cut = true;
        // One refusal among few answers may be chance.
        if refused < 1.5 && answers < SURE {
            return self.set(now, self.rate * MARGIN);
        }
        let surely = (refused - 1.0).max(0.0) / answers;
        let limit = self.rate * (1.0 - surely).max(0.1);
        let is_same = |now: f64, before: f64| (now / before - 1.0).abs() < SAME_LIMIT;
        let is_where_it_was = is_same(self.rate, self.exceeded) && is_same(limit, self.limit);
        self.next_hold = if is_where_it_was { (self.next_hold * 2).min(HOLD.1) } else { HOLD.0 };
        self.hold_until = if begun_small { now } else { now + self.next_hold };
        (self.exceeded, self.limit) = (self.rate, limit);
        self.set(now, limit * MARGIN);
    }

    fn set(&mut self, now: Instant, rate: f64) {
        self.rate = rate.max(MIN_RATE);
        self.tokens = self.tokens.min(self.rate * BURST_SECONDS);
        self.changed = now;
        self.measured = Measured::new(now);
    }
}

/// Successes of the last second, in tenths.
#[derive(Debug, Default)]
struct Recent {
    tenths: [u32; 10],
    /// Index of the newest tenth, counted from `epoch`.
    newest: u64,
    epoch: Option<Instant>,
}

impl Recent {
    fn add(&mut self, now: Instant) {
        self.turn(now);
        let at = (self.newest % 10) as usize;
        self.tenths[at] += 1;
    }

    fn last_second(&mut self, now: Instant) -> u32 {
        self.turn(now);
        self.tenths.iter().sum()
    }

    fn turn(&mut self, now: Instant) {
        let epoch = *self.epoch.get_or_insert(now);
        let tenth = u64::try_from(now.saturating_duration_since(epoch).as_millis() / 100).unwrap_or(u64::MAX);
        for past in 0..tenth.saturating_sub(self.newest).min(10) {
            self.tenths[((tenth - past) % 10) as usize] = 0;
        }
        self.newest = self.newest.max(tenth);
    }
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
