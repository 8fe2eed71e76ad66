//! A rate against a bucket in simulated time.

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
    /// The machine's cores are busy: what comes waits until there is one.
    busy: Option<fastrand::Rng>,
}

/// Mean waits for a core, in seconds; the longer one, one time in a hundred.
const WAITS: (f64, f64) = (0.002, 0.02);

impl World {
    fn new(burst: f64) -> Self {
        let now = Instant::now();
        let answers = BinaryHeap::new();
        Self { rate: Rate::default(), now, tokens: burst, burst, filled: now, answers, in_flight: 0, busy: None }
    }

    fn busy(burst: f64, seed: u64) -> Self {
        Self { busy: Some(fastrand::Rng::with_seed(seed)), ..Self::new(burst) }
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
            if let Some(random) = &mut self.busy {
                let mean = if random.u32(..100) == 0 { WAITS.1 } else { WAITS.0 };
                self.now += Duration::from_secs_f64(-mean * (1.0 - random.f64()).ln());
            }
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
    for allowed in [60.0, 100.0, 150.0, 300.0, 1000.0, 5500.0] {
        for burst in [f64::max(allowed / 30.0, 3.0), allowed / 10.0, allowed] {
            let mut world = World::new(burst);
            let clients = ((allowed * 0.08) as usize).clamp(32, 256);
            let first = world.run(5.0, clients, allowed, || false);
            let second = world.run(10.0, clients, allowed, || false);
            let (taken, refused) = (first.0 + second.0, first.1 + second.1);
            let reached = f64::from(second.0) / 10.0 / allowed;
            let waste = f64::from(refused) / f64::from(taken + refused);
            assert!(reached >= 0.9, "{allowed} {burst}: {reached}");
            assert!(waste <= 0.03 || allowed < 200.0, "{allowed} {burst}: {waste}");
            assert!(f64::from(first.0) / 5.0 > 0.75 * allowed, "{allowed} {burst}: {first:?}");
        }
    }
}

#[test]
fn finds_the_limit_where_client_and_server_wait_for_their_cores() {
    for allowed in [1000.0, 2500.0, 5500.0] {
        let (mut wasted, mut reached) = (Vec::new(), Vec::new());
        for seed in 1..=20 {
            let mut world = World::busy(allowed / 10.0, seed);
            let clients = (allowed * 0.08) as usize;
            let first = world.run(5.0, clients.min(256), allowed, || false);
            let second = world.run(10.0, clients.min(256), allowed, || false);
            let (taken, refused) = (first.0 + second.0, first.1 + second.1);
            wasted.push(f64::from(refused) / f64::from(taken + refused));
            reached.push(f64::from(second.0) / 10.0 / allowed);
        }
        assert!(wasted.iter().all(|&waste| waste <= 0.03), "{allowed}: {wasted:?}");
        assert!(reached.iter().all(|&part| part >= 0.9), "{allowed}: {reached:?}");
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
    let mut slow = 0;
    for (share, seed) in [0.02, 0.05, 0.1, 0.3, 0.5].into_iter().flat_map(|share| (1..=10).map(move |n| (share, n))) {
        let mut world = World::new(1e9);
        let mut random = fastrand::Rng::with_seed(seed);
        world.run(10.0, 64, 1e9, || random.f64() < share);
        let (taken, _) = world.run(10.0, 64, 1e9, || random.f64() < share);
        // Without any limit it would be this many.
        let possible = 64.0 * 10.0 / LATENCY.as_secs_f64() * (1.0 - share);
        assert!(f64::from(taken) > 0.01 * possible, "{share} {seed}: {taken} of {possible}");
        slow += u32::from(f64::from(taken) < 0.5 * possible);
    }
    assert!(slow <= 5, "{slow} of 50 were held back");
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
fn a_limit_is_found_among_refusals_that_no_rate_cures_and_when_they_end() {
    for seed in 1..=5 {
        let mut world = World::new(100.0);
        let mut random = fastrand::Rng::with_seed(seed);
        world.run(10.0, 64, 1000.0, || random.f64() < 0.1);
        let (taken, refused) = world.run(10.0, 64, 1000.0, || random.f64() < 0.1);
        let waste = f64::from(refused) / f64::from(taken + refused);
        assert!(taken > 9000 && waste < 0.3, "{seed}: {taken} {waste}");
        world.run(5.0, 64, 1000.0, || false);
        let (taken, refused) = world.run(10.0, 64, 1000.0, || false);
        let waste = f64::from(refused) / f64::from(taken + refused);
        assert!(taken > 9000 && waste < 0.03, "{seed}: {taken} {waste}");
    }
}

#[test]
fn a_rate_that_nobody_uses_does_not_grow() {
    let mut world = World::new(30.0);
    world.run(3.0, 64, 300.0, || false);
    let before = world.rate.per_second().unwrap();
    world.run(5.0, 1, 300.0, || false);
    assert!(world.rate.per_second().unwrap() <= before * 1.05);
}
