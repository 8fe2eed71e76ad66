//! Lanes against a bucket in simulated time.

use super::*;
use std::collections::VecDeque;

const LATENCY: Duration = Duration::from_millis(20);
const STEP: Duration = Duration::from_millis(1);

/// What a server allows.
enum Limit {
    Bucket(f64),
    /// Each prefix, as far as it has one.
    Prefixes(fn(usize) -> Option<f64>),
}

struct Tokens {
    tokens: f64,
    filled: Instant,
}

impl Tokens {
    /// With a tenth of a second's burst.
    fn take(&mut self, now: Instant, rate: f64) -> bool {
        let gained = now.duration_since(self.filled).as_secs_f64() * rate;
        self.filled = now;
        self.tokens = (self.tokens + gained).min((rate / 10.0).max(1.0));
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

struct Request {
    prefix: usize,
    /// Which leaves it has: its lane's, the bucket's.
    leave: [bool; 2],
    not_before: Instant,
    tries: u32,
}

/// Clients that always have more to ask, of prefixes by turns, by chance, or one after the other.
struct World {
    lanes: Lanes,
    now: Instant,
    server: HashMap<Option<usize>, Tokens>,
    random: fastrand::Rng,
    waiting: VecDeque<Request>,
    in_flight: VecDeque<(Instant, Request, Instant, bool)>,
}

#[derive(Debug, Default)]
struct Came {
    taken: u32,
    refused: u32,
    by_prefix: HashMap<usize, u32>,
}

impl Came {
    fn waste(&self) -> f64 {
        f64::from(self.refused) / f64::from(self.taken + self.refused)
    }
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            lanes: Lanes::default(),
            now: Instant::now(),
            server: HashMap::new(),
            random: fastrand::Rng::with_seed(seed),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
        }
    }

    /// `clients` requests at once, waiting or in flight; `next` says of which prefix one is.
    fn run(
        &mut self,
        seconds: f64,
        clients: usize,
        limit: &Limit,
        mut next: impl FnMut(&mut fastrand::Rng) -> usize,
    ) -> Came {
        let until = self.now + Duration::from_secs_f64(seconds);
        let mut came = Came::default();
        while self.now < until {
            self.now += STEP;
            let now = self.now;
            while self.in_flight.front().is_some_and(|(at, ..)| *at <= now) {
                let Some((_, mut request, sent, refused)) = self.in_flight.pop_front() else { break };
                let lane = self.lanes.of(&format!("p/{:04}/x", request.prefix));
                self.lanes.answered(lane.as_deref(), now, sent, refused);
                if refused {
                    came.refused += 1;
                    let pause = 0.1 * f64::from(1 << request.tries.min(4)) * self.random.f64();
                    request.not_before = now + Duration::from_secs_f64(pause);
                    request.tries += 1;
                    request.leave = [false; 2];
                    self.waiting.push_back(request);
                } else {
                    came.taken += 1;
                    *came.by_prefix.entry(request.prefix).or_default() += 1;
                }
            }
            while self.waiting.len() + self.in_flight.len() < clients {
                let prefix = next(&mut self.random);
                self.waiting.push_back(Request { prefix, leave: [false; 2], not_before: now, tries: 0 });
            }
            for _ in 0..self.waiting.len() {
                let Some(mut request) = self.waiting.pop_front() else { break };
                if request.not_before > now || !self.may_go(&mut request) {
                    self.waiting.push_back(request);
                    continue;
                }
                let allowed = match *limit {
                    Limit::Bucket(rate) => self.take(None, Some(rate)),
                    Limit::Prefixes(of) => self.take(Some(request.prefix), of(request.prefix)),
                };
                self.in_flight.push_back((now + LATENCY, request, now, !allowed));
            }
        }
        came
    }

    fn may_go(&self, request: &mut Request) -> bool {
        let lane = self.lanes.of(&format!("p/{:04}/x", request.prefix));
        for (lane, leave) in [lane.as_deref(), Some(self.lanes.bucket())].into_iter().zip(&mut request.leave) {
            let Some(lane) = lane else { continue };
            if !*leave && lane.is_limited() && lock(&lane.state).rate.take(self.now).is_err() {
                return false;
            }
            *leave = *leave || lane.is_limited();
        }
        true
    }

    fn take(&mut self, of: Option<usize>, rate: Option<f64>) -> bool {
        let Some(rate) = rate else { return true };
        let now = self.now;
        self.server.entry(of).or_insert(Tokens { tokens: rate / 10.0, filled: now }).take(now, rate)
    }

    fn are_apart(&self) -> bool {
        self.lanes.are_apart.load(Relaxed)
    }
}

#[test]
fn a_prefix_is_the_first_two_folders() {
    let lanes = Lanes::default();
    let lane = |key: &str| lanes.of(key).map(|lane| Arc::as_ptr(&lane));
    assert_eq!(lane("a/b/c"), lane("a/b/d/e"));
    assert_ne!(lane("a/b/c"), lane("a/c/c"));
    assert_eq!(lane("a/file"), lane("a/other"));
    assert_eq!(lane("file"), None);
}

#[test]
fn lanes_are_bounded_and_those_that_nobody_uses_go() {
    let lanes = Lanes::default();
    let count = || lock(&lanes.by_prefix).lanes.len();
    let later = || lock(&lanes.by_prefix).swept = None;
    let held: Vec<_> = (0..MAX_LANES).map(|i| lanes.of(&format!("{i}/x/y")).unwrap()).collect();
    assert!(lanes.of("another/x/y").is_none());
    let now = Instant::now();
    lanes.answered(held.first().map(Arc::as_ref), now, now, true);
    drop(held);
    assert!(lanes.of("another/x/y").is_none(), "looked for too often");
    later();
    assert!(lanes.of("another/x/y").is_some());
    assert_eq!(count(), 2, "what is throttled is known, the other is new");
    for i in 0..4 * MAX_LANES {
        lanes.of(&format!("{i}/y/y"));
    }
    assert!(count() <= MAX_LANES);
}

#[test]
fn equally_throttled_prefixes_are_each_used_in_full() {
    const SEEDS: u32 = 20;
    let (mut taken, mut refused, mut apart) = (0, 0, 0);
    for seed in 1..=SEEDS {
        let mut world = World::new(u64::from(seed));
        let limit = Limit::Prefixes(|_| Some(100.0));
        let first = world.run(5.0, 64, &limit, |random| random.usize(..3));
        let second = world.run(10.0, 64, &limit, |random| random.usize(..3));
        assert!(first.taken > 1000, "{seed}: {first:?}");
        assert!(second.taken > 2400 && second.waste() < 0.06, "{seed}: {second:?}");
        (taken, refused) = (taken + second.taken, refused + second.refused);
        // Refused alike, they may be taken for one; a rate too many there is not.
        let prefixes = world.lanes.limited().len();
        assert_eq!(prefixes, if world.lanes.bucket().is_limited() { 0 } else { 3 }, "{seed}");
        apart += u32::from(prefixes > 0);
    }
    assert!(taken > 2700 * SEEDS && f64::from(refused) < 0.04 * f64::from(taken), "{taken} {refused}");
    assert!(apart > SEEDS / 2, "{apart}");
}

/// Whatever the order in which prefixes are asked for, and however the limit changes.
#[test]
fn a_limit_on_the_bucket_is_told_from_limits_on_prefixes() {
    for prefixes in [3, 30] {
        for order in 0..3 {
            let mut world = World::new(1);
            let mut asked = 0;
            for rate in [1000.0, 300.0, 1000.0] {
                let mut next = |random: &mut fastrand::Rng| {
                    asked += 1;
                    match order {
                        0 => random.usize(..prefixes),
                        1 => (asked / 3 * 7919) % prefixes,
                        _ => (asked / 150 + random.usize(..2)) % prefixes,
                    }
                };
                let limit = Limit::Bucket(rate);
                world.run(4.0, 64, &limit, &mut next);
                let came = world.run(4.0, 64, &limit, &mut next);
                let case = format!("{prefixes} {order} {rate}: {came:?}");
                assert!(f64::from(came.taken) > 0.9 * 4.0 * rate && came.waste() < 0.03, "{case}");
                assert!(!world.are_apart(), "{case}");
            }
        }
    }
}

#[test]
fn one_throttled_prefix_does_not_hold_others_back() {
    for seed in 1..=2 {
        let mut world = World::new(seed);
        let limit = Limit::Prefixes(|prefix| (prefix == 0).then_some(100.0));
        world.run(5.0, 400, &limit, |random| random.usize(..30));
        let came = world.run(5.0, 400, &limit, |random| random.usize(..30));
        assert!(came.taken > 10_000 && came.waste() < 0.01, "{seed}: {came:?}");
        assert!(came.by_prefix.get(&0).is_some_and(|&taken| taken > 400), "{seed}: {came:?}");
        assert!(!world.lanes.bucket().is_limited() && world.lanes.limited().len() == 1);
    }
}
