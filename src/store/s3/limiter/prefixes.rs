//! The rates that apply to a request: its bucket's, and its prefix's if the prefix is throttled
//! separately. S3 splits a bucket's keys into parts, allows a number of requests per second for
//! each (5,500 GETs by its documentation), and does not say where it splits. Here a prefix is a
//! key's first two folders.
//!
//! A 503 counts towards the bucket's rate. If a trial ends and the share of 503s did not fall,
//! either they come by chance, or some prefixes are throttled. The trial has counted the responses
//! of each prefix. Prefixes that were refused more often than the bucket as a whole, by more than
//! chance, get rates of their own, and the bucket's rate ends. If all prefixes are refused alike,
//! the bucket's rate stays.

use super::policy::LimiterPolicy;
use super::rate::{Counts, Rate};
use crate::process::locks::lock;
use crate::store::s3::request_log::TARGET;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The rates of one bucket. Locks are taken in this order: the bucket's rate, `tried`, `limited`,
/// a prefix's rate.
#[derive(Debug)]
pub(super) struct Prefixes {
    policy: Arc<LimiterPolicy>,
    bucket: PrefixLimiter,
    /// Responses and 503s of each prefix in the current trial.
    tried: Mutex<HashMap<Box<str>, (u32, u32)>>,
    limited: Mutex<HashMap<Box<str>, Arc<PrefixLimiter>>>,
    /// `limited` is not empty.
    has_limited: AtomicBool,
}

/// One rate, and the requests that wait for it.
#[derive(Debug)]
pub(super) struct PrefixLimiter {
    /// Held by the first request that waits.
    turn: tokio::sync::Mutex<()>,
    is_limited: AtomicBool,
    rate: Mutex<Rate>,
}

/// A key's first two folders; None if it has none.
pub(super) fn prefix_of(key: &str) -> Option<&str> {
    key.rsplit_once('/').map(|(folder, _)| prefix_of_folder(folder))
}

/// The prefix of the keys below `folder` (without a slash at its end): its first two folders, or all
/// of it where it is not two deep.
pub fn prefix_of_folder(folder: &str) -> &str {
    let end = folder.match_indices('/').nth(1).map_or(folder.len(), |(at, _)| at);
    folder.get(..end).unwrap_or(folder)
}

impl Prefixes {
    pub(super) fn new(policy: Arc<LimiterPolicy>, now: Instant) -> Self {
        Self {
            bucket: PrefixLimiter::new(Rate::new(Arc::clone(&policy), now)),
            policy,
            tried: Mutex::default(),
            limited: Mutex::default(),
            has_limited: AtomicBool::new(false),
        }
    }

    pub(super) const fn bucket(&self) -> &PrefixLimiter {
        &self.bucket
    }

    /// The limiter of a prefix that is throttled separately.
    pub(super) fn of(&self, prefix: Option<&str>) -> Option<Arc<PrefixLimiter>> {
        if !self.has_limited.load(Relaxed) {
            return None;
        }
        lock(&self.limited).get(prefix?).map(Arc::clone)
    }

    /// Whether the bucket, or prefixes in it, are throttled.
    pub(super) fn any_limited(&self) -> bool {
        self.bucket.is_limited() || self.has_limited.load(Relaxed)
    }

    /// Prefixes that are throttled separately, sorted, with their requests per second.
    pub(super) fn limited(&self) -> Vec<(String, f64)> {
        let limited = lock(&self.limited);
        let rates = limited.iter().filter_map(|(prefix, of)| Some((prefix.to_string(), of.per_second()?)));
        let mut rates: Vec<_> = rates.collect();
        rates.sort_by(|a, b| a.0.cmp(&b.0));
        rates
    }

    /// A request sent at `sent` was answered.
    pub(super) fn answered(&self, prefix: Option<&str>, now: Instant, sent: Instant, throttled: bool) {
        if let Some(own) = self.of(prefix) {
            own.answered(prefix, now, sent, throttled);
            if !own.is_limited() {
                self.forget(prefix);
            }
            if throttled {
                return;
            }
        }
        let mut rate = lock(&self.bucket.rate);
        let is_tried = rate.is_trial_of(sent);
        if is_tried && let Some(prefix) = prefix {
            self.count(prefix, throttled);
        }
        let before = rate.per_second();
        let not_cured = rate.answered(now, sent, throttled);
        if is_tried && !rate.is_trial_of(now) {
            let tried = std::mem::take(&mut *lock(&self.tried));
            if not_cured.is_some_and(|all| self.blame(now, &tried, all)) {
                *rate = Rate::new(Arc::clone(&self.policy), now);
            }
        }
        log_change(None, before, rate.per_second());
        self.bucket.is_limited.store(rate.per_second().is_some(), Relaxed);
    }

    fn count(&self, prefix: &str, throttled: bool) {
        let mut tried = lock(&self.tried);
        if tried.len() < self.policy.max_prefixes || tried.contains_key(prefix) {
            let (answers, refused) = tried.entry(prefix.into()).or_default();
            *answers += 1;
            *refused += u32::from(throttled);
        }
    }

    /// Gives rates to the prefixes that were refused more often than the bucket (`all`) in a trial.
    /// Returns whether there were any.
    fn blame(&self, now: Instant, tried: &HashMap<Box<str>, (u32, u32)>, all: Counts) -> bool {
        let seconds = now.saturating_duration_since(all.since).as_secs_f64();
        let mut limited = lock(&self.limited);
        let before = limited.len();
        for (prefix, &(answers, refused)) in tried {
            let is_known = refused >= self.policy.least_answers / 4;
            let is_blamed = is_known && self.policy.is_more_than_chance(refused, answers, all.share(), u32::MAX);
            if is_blamed && limited.len() < self.policy.max_prefixes {
                let allowed = f64::from(answers - refused) / seconds;
                let rate = Rate::limited(Arc::clone(&self.policy), now, allowed);
                log_change(Some(prefix), None, rate.per_second());
                limited.insert(prefix.clone(), Arc::new(PrefixLimiter::new(rate)));
            }
        }
        self.has_limited.store(!limited.is_empty(), Relaxed);
        limited.len() > before
    }

    fn forget(&self, prefix: Option<&str>) {
        let mut limited = lock(&self.limited);
        prefix.and_then(|prefix| limited.remove(prefix));
        self.has_limited.store(!limited.is_empty(), Relaxed);
    }
}

impl PrefixLimiter {
    fn new(rate: Rate) -> Self {
        let is_limited = AtomicBool::new(rate.per_second().is_some());
        Self { turn: tokio::sync::Mutex::default(), is_limited, rate: Mutex::new(rate) }
    }

    pub(super) fn is_limited(&self) -> bool {
        self.is_limited.load(Relaxed)
    }

    pub(super) fn per_second(&self) -> Option<f64> {
        lock(&self.rate).per_second()
    }

    /// Waits, first come first served, until the rate allows one more request.
    pub(super) async fn acquire(&self) {
        let _turn = self.turn.lock().await;
        // Ends: the rate never falls to zero, so a token becomes free, and nobody else can take it
        // while `_turn` is held.
        loop {
            let taken = lock(&self.rate).take(Instant::now());
            match taken {
                Ok(()) => return,
                Err(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    fn answered(&self, prefix: Option<&str>, now: Instant, sent: Instant, throttled: bool) {
        let mut rate = lock(&self.rate);
        let before = rate.per_second();
        rate.answered(now, sent, throttled);
        log_change(prefix, before, rate.per_second());
        self.is_limited.store(rate.per_second().is_some(), Relaxed);
    }
}

/// Logs that the allowed requests per second changed, of the bucket or of one prefix in it. None: no
/// limit.
fn log_change(prefix: Option<&str>, before: Option<f64>, now: Option<f64>) {
    if before != now {
        let (before, now) = (before.map(f64::round), now.map(f64::round));
        tracing::debug!(target: TARGET, prefix, before, now, "requests per second: the limit changed");
    }
}

#[cfg(test)]
#[path = "prefixes_tests.rs"]
mod tests;
