//! Requests per second, once a bucket has said that there were too many (DESIGN engine 7).
//!
//! Unarmed, all may go. The first 503 arms it at the rate of the last second's successes; from
//! there it grows fast until the next 503, which tells what the bucket allows: the share of the
//! requests that it took. From then on it stays just below that, and now and then tries whether
//! more is allowed: first a little more, then faster. Pure: the time is passed in.
//!
//! Only answers to requests that were sent since the rate was last changed count for it: what
//! was already on its way tells of another rate.

use std::time::{Duration, Instant};

/// How long one measurement takes, at least.
const WINDOW: Duration = Duration::from_millis(100);
/// …and how many answers.
const MIN_ANSWERS: u32 = 5;
/// Few answers are taken for enough after this long.
const MAX_WINDOW: Duration = Duration::from_secs(1);
/// A measurement ends at once with so many 503s among at least so many answers.
const ALARM: (u32, u32) = (4, 10);
/// Requests per second that always go.
const MIN_RATE: f64 = 40.0;
/// So far below what was measured.
const MARGIN: f64 = 0.98;
/// Growth per clean measurement until the first limit is found.
const START_GROWTH: f64 = 1.35;
/// The same afterwards; the last goes on.
const GROWTH: [f64; 5] = [1.02, 1.04, 1.08, 1.16, 1.25];
/// Time between a cut and the next growth: the first, doubled while the limit is found where it
/// was, up to the second.
const HOLD: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(3));
/// Such a share of 503s in so many measurements is no limit yet.
const DOUBTFUL: (f64, u32) = (0.15, 2);
/// One refusal among so many answers is more than chance.
const SURE: u32 = 20;
/// What differs by less is the same limit.
const SAME_LIMIT: f64 = 0.15;
/// Cuts in a row that did not change the share of 503s before it is taken for none of the rate's
/// doing, and by how much a share may differ to be the same.
const FUTILE: u32 = 4;
const SAME_SHARE: f64 = 0.2;
/// Growth per measurement from then on.
const FUTILE_GROWTH: f64 = 1.6;
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
    /// The rate at the last cut.
    limit: f64,
    /// Share of 503s that the cuts so far met, and how many did not change it.
    blamed: f64,
    futile: u32,
    doubts: u32,
    throttled_at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    since: Instant,
    sent: u32,
    ok: u32,
    throttled: u32,
}

impl Measured {
    const fn new(since: Instant) -> Self {
        Self { since, sent: 0, ok: 0, throttled: 0 }
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
        match throttled {
            true => armed.measured.throttled += 1,
            false => armed.measured.ok += 1,
        }
        armed.judge(now);
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
            limit: f64::INFINITY,
            blamed: 1.0,
            futile: 0,
            doubts: 0,
            throttled_at: now,
        }
    }

    fn judge(&mut self, now: Instant) {
        let measured = self.measured;
        let (span, share) = (now.saturating_duration_since(measured.since), measured.share_throttled());
        let enough = measured.answers() >= MIN_ANSWERS;
        let is_over = (span >= WINDOW && enough)
            || (measured.throttled >= ALARM.0 && measured.answers() >= ALARM.1)
            || span >= MAX_WINDOW;
        if !is_over {
            return;
        }
        self.measured = Measured::new(now);
        if measured.throttled == 0 {
            let asked_for = f64::from(measured.sent) / span.as_secs_f64();
            self.grow(now, asked_for);
        } else {
            self.cut(now, share, measured.answers());
        }
    }

    /// Nothing was refused.
    fn grow(&mut self, now: Instant, asked_for: f64) {
        (self.futile, self.doubts) = (0, 0);
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
        self.set(now, self.rate * growth);
    }

    /// A share of the requests was refused.
    fn cut(&mut self, now: Instant, share: f64, answers: u32) {
        // A cut to what was allowed cures a limit on the rate at once. What it does not cure has
        // other reasons: then less would only be slower.
        // Before any limit was met, a few refusals may be chance.
        if self.starting && share < DOUBTFUL.0 && self.doubts < DOUBTFUL.1 {
            self.doubts += 1;
            return;
        }
        // Two standard deviations of what so few answers can tell.
        let tolerance = SAME_SHARE.max(1.0 / f64::from(answers).sqrt());
        if self.futile >= FUTILE {
            if share <= self.blamed + tolerance {
                return self.set(now, self.rate * FUTILE_GROWTH);
            }
            // More made it worse: it is the rate after all.
            self.futile = 0;
        } else if (share - self.blamed).abs() <= tolerance && share < 0.9 {
            self.futile += 1;
        } else {
            self.futile = self.futile.saturating_sub(1);
        }
        self.blamed += (share - self.blamed) / f64::from(self.futile + 1);
        let begun_small = self.starting && self.clean == 0;
        self.starting = false;
        self.clean = 0;
        // One refusal among few answers may be chance.
        let refused = share * f64::from(answers);
        if refused < 1.5 && answers < SURE {
            return self.set(now, self.rate * MARGIN);
        }
        let is_where_it_was = (self.rate / self.limit - 1.0).abs() < SAME_LIMIT;
        self.next_hold = if is_where_it_was { (self.next_hold * 2).min(HOLD.1) } else { HOLD.0 };
        self.hold_until = if begun_small { now } else { now + self.next_hold };
        self.limit = self.rate;
        let surely = (refused - 1.0) / f64::from(answers);
        self.set(now, self.rate * (1.0 - surely).max(0.1) * MARGIN);
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
mod tests {
    use super::*;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    const LATENCY: Duration = Duration::from_millis(20);

    /// A bucket that allows so many requests a second, and clients that always have more to ask.
    struct World {
        rate: Rate,
        now: Instant,
        tokens: f64,
        burst: f64,
        filled: Instant,
        /// Answers on their way: when, sent when, refused.
        answers: BinaryHeap<Reverse<(Instant, Instant, bool)>>,
        in_flight: usize,
    }

    impl World {
        fn new(burst: f64) -> Self {
            let now = Instant::now();
            let answers = BinaryHeap::new();
            Self { rate: Rate::default(), now, tokens: burst, burst, filled: now, answers, in_flight: 0 }
        }

        /// Runs for so long with `clients` requests in flight at most; how many the bucket took and refused.
        fn run(&mut self, seconds: f64, clients: usize, allowed: f64, mut refuse: impl FnMut() -> bool) -> (u32, u32) {
            let until = self.now + Duration::from_secs_f64(seconds);
            let (mut taken, mut refused) = (0, 0);
            while self.now < until {
                let mut next = until;
                while self.in_flight < clients {
                    match self.rate.take(self.now) {
                        Ok(()) => {
                            self.tokens = (self.tokens + self.now.duration_since(self.filled).as_secs_f64() * allowed)
                                .min(self.burst.max(1.0));
                            self.filled = self.now;
                            let is_refused = self.tokens < 1.0 || refuse();
                            if !is_refused {
                                self.tokens -= 1.0;
                            }
                            self.answers.push(Reverse((self.now + LATENCY, self.now, is_refused)));
                            self.in_flight += 1;
                        }
                        Err(wait) => {
                            // A timer's grain.
                            next = self.now + wait.max(Duration::from_millis(1));
                            break;
                        }
                    }
                }
                if let Some(Reverse((at, ..))) = self.answers.peek() {
                    next = next.min(*at);
                }
                self.now = next.max(self.now + Duration::from_micros(50));
                while let Some(Reverse((at, sent, is_refused))) = self.answers.peek().copied()
                    && at <= self.now
                {
                    self.answers.pop();
                    self.in_flight -= 1;
                    self.rate.answered(self.now, sent, is_refused);
                    if is_refused { refused += 1 } else { taken += 1 }
                }
            }
            (taken, refused)
        }
    }

    #[test]
    fn nothing_is_limited_before_the_first_refusal() {
        let mut world = World::new(1e9);
        let (taken, refused) = world.run(1.0, 256, 1e9, || false);
        assert!(taken > 10_000 && refused == 0, "{taken} {refused}");
        assert_eq!(world.rate.per_second(), None);
    }

    #[test]
    fn reaches_nine_tenths_within_five_seconds_and_wastes_little() {
        for allowed in [60.0, 300.0, 1000.0, 5500.0] {
            for burst in [f64::max(allowed / 30.0, 3.0), allowed / 10.0, allowed] {
                let mut world = World::new(burst);
                let clients = ((allowed * 0.08) as usize).clamp(32, 256);
                let first = world.run(5.0, clients, allowed, || false);
                let second = world.run(10.0, clients, allowed, || false);
                let (taken, refused) = (first.0 + second.0, first.1 + second.1);
                let reached = f64::from(second.0) / 10.0 / allowed;
                let waste = f64::from(refused) / f64::from(taken + refused);
                assert!(reached >= 0.9, "{allowed} {burst}: {reached}");
                assert!(waste <= 0.03 || allowed < 100.0, "{allowed} {burst}: {waste}");
                assert!(f64::from(first.0) / 5.0 > 0.75 * allowed, "{allowed} {burst}: {first:?}");
            }
        }
    }

    #[test]
    fn follows_when_the_limit_halves_or_doubles() {
        for allowed in [300.0, 1000.0, 2500.0] {
            let mut world = World::new(allowed / 10.0);
            world.run(5.0, 256, allowed, || false);
            let mut totals = (0, 0);
            for part in [allowed / 2.0, allowed, allowed * 2.0, allowed] {
                let settling = world.run(5.0, 256, part, || false);
                let (taken, refused) = world.run(5.0, 256, part, || false);
                assert!(f64::from(taken) / 5.0 >= 0.9 * part, "{part}: {taken}");
                totals = (totals.0 + settling.0 + taken, totals.1 + settling.1 + refused);
            }
            assert!(f64::from(totals.1) <= 0.03 * f64::from(totals.0 + totals.1), "{totals:?}");
        }
    }

    #[test]
    fn refusals_that_are_none_of_the_rates_doing_do_not_stop_it() {
        for (share, seed) in [0.02, 0.1, 0.3, 0.5].into_iter().flat_map(|share| (1..=5).map(move |seed| (share, seed)))
        {
            let mut world = World::new(1e9);
            let mut random = fastrand::Rng::with_seed(seed);
            world.run(5.0, 64, 1e9, || random.f64() < share);
            let (taken, _) = world.run(10.0, 64, 1e9, || random.f64() < share);

            assert!(taken > 250, "{share} {seed}: {taken}");
        }
        // An outage, and its end.
        let mut world = World::new(1e9);
        world.run(10.0, 64, 1e9, || true);
        let idle = world.rate.per_second().unwrap();
        assert!((MIN_RATE..2.0 * MIN_RATE).contains(&idle), "{idle}");
        world.run(10.0, 64, 1e9, || false);
        let again = world.rate.per_second().unwrap();
        assert!(again > 100.0, "{again}");
    }

    #[test]
    fn a_rate_that_nobody_uses_does_not_grow() {
        let mut world = World::new(30.0);
        world.run(3.0, 64, 300.0, || false);
        let before = world.rate.per_second().unwrap();
        world.run(5.0, 1, 300.0, || false);
        assert!(world.rate.per_second().unwrap() <= before * 1.05);
    }
}
