//! Which rate a request is subject to: its bucket's, and its prefix's where that is throttled by
//! itself. S3 allows so many requests a second for each of the parts into which it has cut a
//! bucket's keys, and does not tell where it cuts; here a prefix is a key's first two folders.

use super::lock;
use super::rate::Rate;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Prefixes that are told apart; more share the bucket's rate.
const MAX_LANES: usize = 1024;
/// A prefix is throttled by itself if among at least so many of its recent answers, and of the
/// others',
const MIN_ANSWERS: (f64, f64) = (10.0, 20.0);
/// the others' share of 503s is less than this part of its own.
const OTHERS_PART: f64 = 0.25;
/// What is recent.
const RECENT: Duration = Duration::from_secs(1);
/// A timer's grain.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// The rates of one bucket.
#[derive(Debug, Default)]
pub struct Lanes {
    bucket: Lane,
    by_prefix: Mutex<HashMap<Box<str>, Arc<Lane>>>,
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
    traffic: Traffic,
}

impl Lanes {
    pub const fn bucket(&self) -> &Lane {
        &self.bucket
    }

    /// The lane of `key`'s prefix; None where it has none, or there are too many.
    pub fn of(&self, key: &str) -> Option<Arc<Lane>> {
        let end = key.match_indices('/').map(|(at, _)| at).take(2).last()?;
        let prefix = key.get(..end)?;
        let mut lanes = lock(&self.by_prefix);
        if let Some(lane) = lanes.get(prefix) {
            return Some(Arc::clone(lane));
        }
        if lanes.len() >= MAX_LANES {
            return None;
        }
        Some(Arc::clone(lanes.entry(prefix.into()).or_default()))
    }

    /// Prefixes that are throttled by themselves, in order, with their requests per second.
    pub fn limited(&self) -> Vec<(String, f64)> {
        let lanes = lock(&self.by_prefix);
        let rates = lanes.iter().filter_map(|(prefix, lane)| Some((prefix.to_string(), lane.per_second()?)));
        let mut limited: Vec<_> = rates.collect();
        limited.sort_by(|a, b| a.0.cmp(&b.0));
        limited
    }

    /// A request sent at `sent` was answered.
    pub fn answered(&self, lane: Option<&Lane>, now: Instant, sent: Instant, throttled: bool) {
        let mut all = lock(&self.bucket.state);
        all.traffic.add(now, throttled);
        let Some(lane) = lane else {
            return self.bucket.answered(&mut all, now, sent, throttled);
        };
        let mut own = lock(&lane.state);
        own.traffic.add(now, throttled);
        if !throttled {
            lane.answered(&mut own, now, sent, false);
            self.bucket.answered(&mut all, now, sent, false);
        } else if lane.is_limited() || own.traffic.is_worse_than_the_rest_of(&all.traffic) {
            lane.answered(&mut own, now, sent, true);
        } else {
            self.bucket.answered(&mut all, now, sent, true);
        }
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
        loop {
            let taken = lock(&self.state).rate.take(Instant::now());
            match taken {
                Ok(()) => return,
                Err(pause) => tokio::time::sleep(pause.clamp(MIN_PAUSE, RECENT)).await,
            }
        }
    }

    fn answered(&self, state: &mut State, now: Instant, sent: Instant, throttled: bool) {
        state.rate.answered(now, sent, throttled);
        self.is_limited.store(state.rate.per_second().is_some(), Relaxed);
    }
}

/// Recent answers; what is older counts ever less.
#[derive(Debug, Default)]
struct Traffic {
    answers: f64,
    throttled: f64,
    at: Option<Instant>,
}

impl Traffic {
    fn add(&mut self, now: Instant, throttled: bool) {
        let age = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let kept = (-age.as_secs_f64() / RECENT.as_secs_f64()).exp();
        self.answers = self.answers * kept + 1.0;
        self.throttled = self.throttled * kept + f64::from(u8::from(throttled));
        self.at = Some(now);
    }

    /// Whether of `all`, which this is a part of, this part alone is throttled.
    fn is_worse_than_the_rest_of(&self, all: &Self) -> bool {
        let others = all.answers - self.answers;
        let others_throttled = (all.throttled - self.throttled).max(0.0);
        self.answers >= MIN_ANSWERS.0
            && others >= MIN_ANSWERS.1
            && others_throttled / others < OTHERS_PART * self.throttled / self.answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_first_two_folders() {
        let lanes = Lanes::default();
        let lane = |key: &str| lanes.of(key).map(|lane| Arc::as_ptr(&lane));
        assert_eq!(lane("a/b/c"), lane("a/b/d/e"));
        assert_ne!(lane("a/b/c"), lane("a/c/c"));
        assert_eq!(lane("a/file"), lane("a/other"));
        assert_eq!(lane("file"), None);
        for i in 0..2 * MAX_LANES {
            lanes.of(&format!("{i}/x/y"));
        }
        assert_eq!(lane("another/x/y"), None);
    }

    #[test]
    fn what_is_throttled_everywhere_is_the_buckets() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        for i in 0..200_u64 {
            let lane = lanes.of(&format!("{}/x/y", i % 4)).unwrap();
            lanes.answered(Some(&lane), now + Duration::from_millis(i), now, i % 3 == 0);
        }
        assert!(lanes.bucket().is_limited());
        assert_eq!(lanes.limited(), []);
    }
}
