//! A bucket and its clients in simulated time. The tests of [`super::rate`] and [`super::prefixes`] use it, and
//! `benches/limits.rs` compares limiter policies with it. Nothing sleeps. The clock is read only once, for a first
//! `Instant`.

use super::rate::Rate;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

const LATENCY: Duration = Duration::from_millis(20);
/// Step of the simulated time, as coarse as a timer.
const STEP: Duration = Duration::from_millis(1);
/// Time for which client and server wait if their cores are busy: the usual mean in seconds, and the mean in one step
/// of a hundred.
const CORE_WAITS: (f64, f64) = (0.002, 0.02);

/// The limiter under test: it decides when a request may be sent, and learns from the responses.
pub(super) trait Control {
    /// Returns whether a request for `prefix` may be sent now. `passed` belongs to the request: whether its prefix's
    /// rate and its bucket's rate have admitted it.
    fn may_send(&mut self, now: Instant, prefix: usize, passed: &mut [bool; 2]) -> bool;
    /// Records the response to a request for `prefix` that was sent at `sent`. `throttled`: it was a 503.
    fn answered(&mut self, now: Instant, sent: Instant, prefix: usize, throttled: bool);
}

/// The simplest limiter under test: one limit for all prefixes together.
impl Control for Rate {
    fn may_send(&mut self, now: Instant, _prefix: usize, _passed: &mut [bool; 2]) -> bool {
        self.take(now).is_ok()
    }

    fn answered(&mut self, now: Instant, sent: Instant, _prefix: usize, throttled: bool) {
        Self::answered(self, now, sent, throttled);
    }
}

/// Limits that the simulated server applies to the requests it receives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    /// Maximum requests per second to the whole bucket.
    pub bucket: f64,
    /// Maximum requests per second to each prefix that has its own limit.
    pub prefix: fn(usize) -> Option<f64>,
    /// Fraction of the requests that the server refuses at any rate.
    pub refused: f64,
    /// Unused requests that a limit saves up, in seconds of its rate.
    pub burst: f64,
}

impl Allowed {
    /// A server that saves up 0.1 s of its rate and refuses nothing below the limit.
    pub(super) fn rate(bucket: f64) -> Self {
        Self { bucket, prefix: |_| None, refused: 0.0, burst: 0.1 }
    }

    /// A server without limit that refuses the fraction `refused` of the requests.
    pub(super) fn refusing(refused: f64) -> Self {
        Self { refused, ..Self::rate(f64::INFINITY) }
    }
}

/// Token bucket with which the simulated server applies one limit.
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

/// Numbers of accepted and refused requests in one part of the simulation.
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

    /// Fraction of the responses that were refusals.
    pub(super) fn waste(&self) -> f64 {
        f64::from(self.refused) / f64::from((self.taken + self.refused).max(1))
    }
}

/// A simulated bucket, and clients that always have another request to send.
#[derive(Debug)]
pub(super) struct World<C> {
    pub control: C,
    now: Instant,
    random: fastrand::Rng,
    /// Whether the simulation adds delays, as on machines whose cores are busy.
    pub is_busy: bool,
    /// Whether refused requests are sent again after a pause that doubles each time. Otherwise they are sent again at
    /// once.
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

    /// Runs `clients` clients for `seconds` of simulated time. All requests are for the same prefix.
    pub(super) fn run(&mut self, seconds: f64, clients: usize, allowed: Allowed) -> Course {
        self.run_prefixes(seconds, clients, allowed, |_| 0)
    }

    /// Runs `clients` clients for `seconds` of simulated time. `next` chooses the key prefix of each request.
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

    /// Takes one token from the limit of a prefix, or of the bucket if `of` is None. Returns false if there is none.
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
