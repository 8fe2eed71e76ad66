//! Which rate a request is subject to: its bucket's, and its prefix's where prefixes are throttled
//! each by itself. S3 allows so many requests a second for each of the parts into which it has cut
//! a bucket's keys, and does not tell where it cuts; here a prefix is a key's first two folders.
//!
//! Refusals are the bucket's until they prove to be the prefixes': where the bucket's rate does not
//! cure them, and they fall on one prefix more than on the others in the same time, more than by
//! chance ([`super::apart`]). From then on each prefix that is refused has a rate of its own. If all are
//! refused alike either explanation serves; the bucket's is kept, being one rate and not many.

use super::apart::{All, Own};
use super::lock;
use super::rate::Rate;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Prefixes that are told apart; more share the bucket's rate.
const MAX_LANES: usize = 1024;
/// Where there are so many, those that nobody uses go, looked for at most so often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Without a refusal for so long, nothing is known of what is refused.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// A timer's grain, and the longest sleep before asking again.
const MIN_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The rates of one bucket.
#[derive(Debug, Default)]
pub struct Lanes {
    bucket: Lane,
    /// Taken before any lane's state.
    all: Mutex<All>,
    are_apart: AtomicBool,
    by_prefix: Mutex<Prefixes>,
}

#[derive(Debug, Default)]
struct Prefixes {
    lanes: HashMap<Box<str>, Arc<Lane>>,
    swept: Option<Instant>,
}

/// One rate, and those who wait for it.
#[derive(Debug, Default)]
pub struct Lane {
    /// Held by the first of those who wait.
    turn: tokio::sync::Mutex<()>,
    is_limited: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rate: Rate,
    own: Own,
    limited_since: Option<Instant>,
    throttled_at: Option<Instant>,
}

impl Lanes {
    pub const fn bucket(&self) -> &Lane {
        &self.bucket
    }

    /// Whether the bucket, or prefixes in it, are throttled.
    pub fn any_limited(&self) -> bool {
        self.bucket.is_limited() || self.are_apart.load(Relaxed)
    }

    /// The lane of `key`'s prefix; None where it has none, or there are too many.
    pub fn of(&self, key: &str) -> Option<Arc<Lane>> {
        let end = key.match_indices('/').map(|(at, _)| at).take(2).last()?;
        let prefix = key.get(..end)?;
        let mut prefixes = lock(&self.by_prefix);
        if let Some(lane) = prefixes.lanes.get(prefix) {
            return Some(Arc::clone(lane));
        }
        if prefixes.lanes.len() >= MAX_LANES && !prefixes.sweep(Instant::now()) {
            return None;
        }
        Some(Arc::clone(prefixes.lanes.entry(prefix.into()).or_default()))
    }

    /// Prefixes that are throttled by themselves, in order, with their requests per second.
    pub fn limited(&self) -> Vec<(String, f64)> {
        let prefixes = lock(&self.by_prefix);
        let rates = prefixes.lanes.iter().filter_map(|(prefix, lane)| Some((prefix.to_string(), lane.per_second()?)));
        let mut limited: Vec<_> = rates.collect();
        limited.sort_by(|a, b| a.0.cmp(&b.0));
        limited
    }

    /// A request sent at `sent` was answered.
    pub fn answered(&self, lane: Option<&Lane>, now: Instant, sent: Instant, throttled: bool) {
        let mut all = lock(&self.all);
        let mut bucket = lock(&self.bucket.state);
        all.add(now, throttled);
        let is_quiet = !bucket.was_throttled(now);
        if throttled {
            bucket.throttled_at = Some(now);
        } else if is_quiet && self.are_apart.load(Relaxed) {
            self.are_apart.store(false, Relaxed);
            all.forget();
        }
        let Some(lane) = lane else {
            return self.bucket.answered(&mut bucket, now, sent, throttled);
        };
        let mut state = lock(&lane.state);
        state.own.add(now, throttled, &mut all, bucket.limited_since);
        if all.is_proven() && !self.are_apart.swap(true, Relaxed) {
            // What the bucket's rate was blamed for was the prefixes' doing.
            bucket.rate = Rate::default();
            self.bucket.set_limited(&mut bucket, now);
        }
        if throttled {
            state.throttled_at = Some(now);
        }
        // The bucket's still: what a prefix is refused that hardly asks, and what all are refused
        // when this one could not ask for less.
        let is_least = state.rate.is_least() && state.own.is_alike();
        let is_own = self.are_apart.load(Relaxed) && state.own.is_busy(now) && !is_least;
        if !throttled || is_own {
            lane.answered(&mut state, now, sent, throttled);
        }
        if !throttled || !is_own {
            self.bucket.answered(&mut bucket, now, sent, throttled);
        }
    }
}

impl Prefixes {
    /// Lets go of lanes that nobody uses and that nothing is known of. Whether there is room.
    fn sweep(&mut self, now: Instant) -> bool {
        if self.swept.is_some_and(|at| now.saturating_duration_since(at) < SWEEP_EVERY) {
            return false;
        }
        self.swept = Some(now);
        self.lanes.retain(|_, lane| Arc::strong_count(lane) > 1 || lane.is_known(now));
        self.lanes.len() < MAX_LANES
    }
}

impl Lane {
    pub fn is_limited(&self) -> bool {
        self.is_limited.load(Relaxed)
    }

    pub fn per_second(&self) -> Option<f64> {
        lock(&self.state).rate.per_second()
    }

    /// Waits, first come first served, until the rate allows one more.
    pub async fn leave(&self) {
        let _turn = self.turn.lock().await;
        // Ends: a rate is never below its least, so the next token comes; only who has the turn takes it.
        loop {
            let taken = lock(&self.state).rate.take(Instant::now());
            match taken {
                Ok(()) => return,
                Err(pause) => tokio::time::sleep(pause.clamp(MIN_PAUSE, MAX_PAUSE)).await,
            }
        }
    }

    fn answered(&self, state: &mut State, now: Instant, sent: Instant, throttled: bool) {
        state.rate.answered(now, sent, throttled);
        self.set_limited(state, now);
    }

    fn set_limited(&self, state: &mut State, now: Instant) {
        let is_limited = state.rate.per_second().is_some();
        if is_limited != state.limited_since.is_some() {
            state.limited_since = is_limited.then_some(now);
            self.is_limited.store(is_limited, Relaxed);
        }
    }

    /// Whether anything is known that is worth keeping.
    fn is_known(&self, now: Instant) -> bool {
        lock(&self.state).was_throttled(now)
    }
}

impl State {
    fn was_throttled(&self, now: Instant) -> bool {
        self.throttled_at.is_some_and(|at| now.saturating_duration_since(at) <= FORGET_AFTER)
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
