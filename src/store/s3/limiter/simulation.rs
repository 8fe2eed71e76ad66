//! A bucket and its clients in simulated time: the tests of [`super::rate`] and [`super::prefixes`] run in it, and
//! `benches/limits.rs` compares policies in it. Nothing sleeps, and no clock is read but once, to have an `Instant`
//! to count from.

use super::rate::Rate;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

const LATENCY: Duration = Duration::from_millis(20);
/// A timer's grain: how far time moves at once.
const STEP: Duration = Duration::from_millis(1);
/// With busy cores, how long client and server wait for one: on average in seconds, usually and one time in a
/// hundred.
const CORE_WAITS: (f64, f64) = (0.002, 0.02);

/// What is tried: decides when a request may be sent, and learns from the answers.
pub(super) trait Control {
    /// Whether a request for `prefix` may be sent now. `passed` belongs to the request and begins as false: the rates
    /// of its prefix and of its bucket have let it pass.
    fn may_send(&mut self, now: Instant, prefix: usize, passed: &mut [bool; 2]) -> bool;
    /// A request for `prefix` that was sent at `sent` has been answered.
    fn answered(&mut self, now: Instant, sent: Instant, prefix: usize, throttled: bool);
}

/// One rate for all prefixes.
impl Control for Rate {
    fn may_send(&mut self, now: Instant, _prefix: usize, _passed: &mut [bool; 2]) -> bool {
        self.take(now).is_ok()
    }

    fn answered(&mut self, now: Instant, sent: Instant, _prefix: usize, throttled: bool) {
        Self::answered(self, now, sent, throttled);
    }
}

/// What the server allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    /// Requests per second of the whole bucket.
    pub bucket: f64,
    /// Requests per second of each prefix, where it has a limit of its own.
    pub prefix: fn(usize) -> Option<f64>,
    /// Part of the requests that is refused whatever the rate.
    pub refused: f64,
    /// What a limit saves up, in seconds of its rate.
    pub burst: f64,
}

impl Allowed {
    /// A tenth of a second's burst, and nothing refused but above the limit.
    pub(super) fn rate(bucket: f64) -> Self {
        Self { bucket, prefix: |_| None, refused: 0.0, burst: 0.1 }
    }

    /// Part of the requests is refused whatever the rate, and there is no limit.
    pub(super) fn refusing(refused: f64) -> Self {
        Self { refused, ..Self::rate(f64::INFINITY) }
    }
}

/// Tokens of one limit, on the server's side.
#[derive(Debug)]
struct Tokens {
    count: f64,
    filled: Instant,
}

#[derive(Debug)]
struct Request {
    prefix: usize,
    passed: [bool; 2],
    not_before: Instant,
    refused: u32,
}

/// What happened in some time.
#[derive(Debug, Default, Clone)]
pub(super) struct Course {
    pub seconds: f64,
    pub taken: u32,
    pub refused: u32,
    pub by_prefix: HashMap<usize, u32>,
}

impl Course {
    pub(super) fn per_second(&self) -> f64 {
        f64::from(self.taken) / self.seconds
    }

    /// Refusals among all answers.
    pub(super) fn waste(&self) -> f64 {
        f64::from(self.refused) / f64::from((self.taken + self.refused).max(1))
    }
}

/// One bucket, and clients that always have more to ask.
#[derive(Debug)]
pub(super) struct World<C> {
    pub control: C,
    now: Instant,
    random: fastrand::Rng,
    /// Client and server wait for their cores.
    pub is_busy: bool,
    /// Refused requests are sent again after a pause that doubles; else at once.
    pub backs_off: bool,
    server: HashMap<Option<usize>, Tokens>,
    waiting: VecDeque<Request>,
    in_flight: VecDeque<(Instant, Request, Instant, bool)>,
}

impl<C: Control> World<C> {
    pub(super) fn new(control: C, seed: u64) -> Self {
        Self {
            control,
            now: Instant::now(),
            random: fastrand::Rng::with_seed(seed),
            is_busy: false,
            backs_off: false,
            server: HashMap::new(),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
        }
    }

    /// `clients` requests for one prefix, waiting or in flight, for `seconds`.
    pub(super) fn run(&mut self, seconds: f64, clients: usize, allowed: Allowed) -> Course {
        self.run_prefixes(seconds, clients, allowed, |_| 0)
    }

    /// The same; `next` says which prefix the next request is for.
    pub(super) fn run_prefixes(
        &mut self,
        seconds: f64,
        clients: usize,
        allowed: Allowed,
        mut next: impl FnMut(&mut fastrand::Rng) -> usize,
    ) -> Course {
        let until = self.now + Duration::from_secs_f64(seconds);
        let mut course = Course { seconds, ..Course::default() };
        while self.now < until {
            let step = self.step();
            self.now += step;
            self.receive(&mut course);
            while self.waiting.len() + self.in_flight.len() < clients {
                let prefix = next(&mut self.random);
                self.waiting.push_back(Request { prefix, passed: [false; 2], not_before: self.now, refused: 0 });
            }
            self.send(allowed);
        }
        course
    }

    fn step(&mut self) -> Duration {
        if !self.is_busy {
            return STEP;
        }
        let mean = if self.random.u32(..100) == 0 { CORE_WAITS.1 } else { CORE_WAITS.0 };
        STEP + Duration::from_secs_f64(-mean * (1.0 - self.random.f64()).ln())
    }

    fn receive(&mut self, course: &mut Course) {
        let now = self.now;
        while self.in_flight.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, mut request, sent, is_refused)) = self.in_flight.pop_front() else { break };
            self.control.answered(now, sent, request.prefix, is_refused);
            if !is_refused {
                course.taken += 1;
                *course.by_prefix.entry(request.prefix).or_default() += 1;
                continue;
            }
            course.refused += 1;
            if self.backs_off {
                let pause = 0.05 * f64::from(1 << request.refused.min(8)) * self.random.f64();
                request.not_before = now + Duration::from_secs_f64(pause);
            }
            request.refused += 1;
            request.passed = [false; 2];
            self.waiting.push_back(request);
        }
    }

    fn send(&mut self, allowed: Allowed) {
        let now = self.now;
        for _ in 0..self.waiting.len() {
            let Some(mut request) = self.waiting.pop_front() else { break };
            if request.not_before > now || !self.control.may_send(now, request.prefix, &mut request.passed) {
                self.waiting.push_back(request);
                continue;
            }
            let of_prefix =
                (allowed.prefix)(request.prefix).is_none_or(|r| self.take(Some(request.prefix), r, allowed));
            let is_allowed = of_prefix && self.take(None, allowed.bucket, allowed);
            let is_refused = !is_allowed || self.random.f64() < allowed.refused;
            self.in_flight.push_back((now + LATENCY, request, now, is_refused));
        }
    }

    /// Takes one token of the bucket's limit, or of a prefix's.
    fn take(&mut self, of: Option<usize>, rate: f64, allowed: Allowed) -> bool {
        if rate.is_infinite() {
            return true;
        }
        let most = (rate * allowed.burst).max(3.0);
        let tokens = self.server.entry(of).or_insert(Tokens { count: most, filled: self.now });
        let gained = self.now.duration_since(tokens.filled).as_secs_f64() * rate;
        tokens.filled = self.now;
        tokens.count = (tokens.count + gained).min(most);
        let is_allowed = tokens.count >= 1.0;
        if is_allowed {
            tokens.count -= 1.0;
        }
        is_allowed
    }
}
