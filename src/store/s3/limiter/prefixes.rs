//! The limits of requests per second ("rates") of one bucket: its own, and those of prefixes that are throttled by
//! themselves. S3 limits parts of a bucket without saying which. Here a part is a prefix: the first two folders of a
//! key.
//!
//! During a trial of the bucket's rate (see `rate`), the responses of each prefix are counted. If the share of 503s
//! does not fall, prefixes that were refused more often than the bucket, and not by chance, get their own rates. The
//! bucket's ends.

use super::policy;
use super::rate::{Counts, Rate};
use crate::process::locks::lock;
use crate::store::s3::request_log::log_rate_change;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The rates of one bucket. Locks must be taken in this order: the bucket's rate, one of the maps, a prefix's rate.
#[derive(Debug)]
pub(super) struct Prefixes {
    pub bucket: Arc<PrefixLimiter>,
    /// Numbers of responses and of 503s for each prefix in the current trial (a time at a very low rate).
    tried: Mutex<HashMap<Box<str>, Counts>>,
    limited: Mutex<BTreeMap<Box<str>, Arc<PrefixLimiter>>>,
}

/// One limit of requests per second, and the queue of the requests that wait for it.
#[derive(Debug)]
pub(super) struct PrefixLimiter {
    /// Lock that the first of the waiting requests holds, so that they are served in order.
    turn: tokio::sync::Mutex<()>,
    rate: Mutex<Rate>,
}

/// Returns the first two folders of a key. Returns None if the key has no folder.
fn prefix_of(key: &str) -> Option<&str> {
    key.rsplit_once('/').map(|(folder, _)| prefix_of_folder(folder))
}

/// Returns the prefix of the keys below `folder`, which has no slash at its end: its first two folders, or `folder`
/// itself if it is less than two deep.
pub fn prefix_of_folder(folder: &str) -> &str {
    let end = folder.match_indices('/').nth(1).map_or(folder.len(), |(at, _)| at);
    folder.get(..end).unwrap_or(folder)
}

impl Prefixes {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            bucket: Arc::new(PrefixLimiter::new(Rate::new(now))),
            tried: Mutex::default(),
            limited: Mutex::default(),
        }
    }

    /// Returns the prefixes that are throttled by themselves, sorted, each with its limit of requests per second.
    pub(super) fn limited(&self) -> Vec<(String, f64)> {
        let limited = lock(&self.limited);
        limited.iter().filter_map(|(prefix, of)| Some((prefix.to_string(), of.per_second()?))).collect()
    }

    /// Returns the next rate that a request for `key` must wait for: first its prefix's, then its bucket's. `passed`
    /// belongs to the request: which of the two it has waited for already.
    pub(super) fn next(&self, key: Option<&str>, passed: &mut [bool; 2]) -> Option<Arc<PrefixLimiter>> {
        let rates = [self.of(key.and_then(prefix_of)), Some(Arc::clone(&self.bucket))];
        rates.into_iter().zip(passed).find_map(|(rate, passed)| {
            let rate = rate.filter(|rate| !*passed && rate.per_second().is_some())?;
            *passed = true;
            Some(rate)
        })
    }

    /// Records the response to a request for `key` that was sent at `sent`. `throttled`: the response was a 503.
    pub(super) fn answered(&self, key: Option<&str>, now: Instant, sent: Instant, throttled: bool) {
        let prefix = key.and_then(prefix_of);
        if let Some(prefix) = prefix
            && let Some(own) = self.of(Some(prefix))
        {
            let before = own.per_second();
            lock(&own.rate).answered(now, sent, throttled);
            log_rate_change(Some(prefix), before, own.per_second());
            if own.per_second().is_none() {
                lock(&self.limited).remove(prefix);
            }
            if throttled {
                return;
            }
        }
        let mut rate = lock(&self.bucket.rate);
        let is_tried = rate.is_trial_of(sent);
        if is_tried && let Some(prefix) = prefix {
            let mut tried = lock(&self.tried);
            if tried.len() < policy::MAX_PREFIXES || tried.contains_key(prefix) {
                tried.entry(prefix.into()).or_insert(Counts::new(now)).add(throttled);
            }
        }
        let before = rate.per_second();
        let not_cured = rate.answered(now, sent, throttled);
        if is_tried && !rate.is_trial_of(now) {
            let tried = std::mem::take(&mut *lock(&self.tried));
            if not_cured.is_some_and(|all| self.blame(now, tried, all)) {
                *rate = Rate::new(now);
            }
        }
        log_rate_change(None, before, rate.per_second());
    }

    /// Returns the limiter of a prefix that is throttled by itself.
    fn of(&self, prefix: Option<&str>) -> Option<Arc<PrefixLimiter>> {
        lock(&self.limited).get(prefix?).map(Arc::clone)
    }

    /// Gives rates to the prefixes that were refused more often in a trial than the bucket as a whole (`all`). Returns
    /// whether there was such a prefix.
    fn blame(&self, now: Instant, tried: HashMap<Box<str>, Counts>, all: Counts) -> bool {
        let seconds = now.saturating_duration_since(all.since).as_secs_f64();
        let mut limited = lock(&self.limited);
        let before = limited.len();
        for (prefix, counts) in tried {
            let is_known = counts.refused >= policy::LEAST_ANSWERS / 4;
            let is_blamed = is_known && counts.is_more_than_chance(all.share(), u32::MAX);
            if is_blamed && limited.len() < policy::MAX_PREFIXES {
                let allowed = f64::from(counts.answers - counts.refused) / seconds;
                let mut rate = Rate::new(now);
                rate.hold(now, allowed);
                log_rate_change(Some(&prefix), None, rate.per_second());
                limited.insert(prefix, Arc::new(PrefixLimiter::new(rate)));
            }
        }
        limited.len() > before
    }
}

impl PrefixLimiter {
    fn new(rate: Rate) -> Self {
        Self { turn: tokio::sync::Mutex::default(), rate: Mutex::new(rate) }
    }

    /// Limit of requests per second. None: there is no limit.
    pub(super) fn per_second(&self) -> Option<f64> {
        lock(&self.rate).per_second()
    }

    /// Waits until the rate allows one more request. Requests are served in the order in which they came.
    pub(super) async fn acquire(&self) {
        let _turn = self.turn.lock().await;
        // This loop ends: the rate is never 0, so a token becomes free, and only the holder of `_turn` takes tokens.
        loop {
            let taken = lock(&self.rate).take(Instant::now());
            match taken {
                Ok(()) => return,
                Err(pause) => tokio::time::sleep(pause).await,
            }
        }
    }
}

#[cfg(test)]
#[path = "prefixes_tests.rs"]
mod tests;
