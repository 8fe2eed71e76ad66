//! Decides which request meets which fault. The random choice depends on the seed, on the request, and on how often
//! the same request came before. It does not depend on the order in which different requests arrive. Only the rate
//! limit depends on time.

use super::options::{Failure, Faults, Quirk, RateLimit, RequestKind};
use crate::process::locks::{self, lock};
use crate::sim::random::{Random, hash, mix};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The faults that one request meets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Verdict {
    /// The latency before the first byte of the answer.
    pub delay: Duration,
    pub failure: Option<Failure>,
    pub changed_etag: bool,
    /// The bandwidth limit of the connection, in bytes per second.
    pub bandwidth: Option<u64>,
    /// The place in the body of the bit that is flipped, as a fraction of its length in units of 2^-64.
    pub flip_at: u64,
    pub quirk: Option<Quirk>,
}

type Scripts = HashMap<(RequestKind, String), VecDeque<Option<Failure>>>;

#[derive(Debug)]
pub(super) struct FaultState {
    seed: u64,
    faults: RwLock<Arc<Faults>>,
    /// The number of times that each request was made, by the hash of the request.
    seen: Mutex<HashMap<u64, u64>>,
    tokens: Mutex<HashMap<String, TokenBucket>>,
    scripts: Mutex<Scripts>,
    any_script: AtomicBool,
    /// How many more requests of a kind are answered. Kinds that are not in it are not limited.
    answers_left: Mutex<HashMap<RequestKind, u64>>,
    more_answers: Notify,
}

#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    filled: Instant,
}

impl FaultState {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            faults: RwLock::new(Arc::new(faults)),
            seen: Mutex::default(),
            tokens: Mutex::default(),
            scripts: Mutex::default(),
            any_script: AtomicBool::new(false),
            answers_left: Mutex::default(),
            more_answers: Notify::new(),
        }
    }

    pub(super) fn set(&self, faults: Faults) {
        *locks::write(&self.faults) = Arc::new(faults);
    }

    pub(super) fn current(&self) -> Arc<Faults> {
        Arc::clone(&locks::read(&self.faults))
    }

    pub(super) fn script(&self, kind: RequestKind, key: &str, failures: impl IntoIterator<Item = Option<Failure>>) {
        lock(&self.scripts).entry((kind, key.to_owned())).or_default().extend(failures);
        self.any_script.store(true, Ordering::Release);
    }

    pub(super) fn answer_only(&self, kind: RequestKind, count: Option<u64>) {
        let mut left = lock(&self.answers_left);
        match count {
            Some(count) => drop(left.insert(kind, count)),
            None => drop(left.remove(&kind)),
        }
        drop(left);
        self.more_answers.notify_waiters();
    }

    fn may_answer(&self, kind: RequestKind) -> bool {
        let mut answers_left = lock(&self.answers_left);
        let Some(left) = answers_left.get_mut(&kind) else { return true };
        let may_answer = *left > 0;
        *left = left.saturating_sub(1);
        may_answer
    }

    /// Waits until a request of this kind may be answered.
    pub(super) async fn admitted(&self, kind: RequestKind) {
        // Ends: with the connection, if no call lets the request through.
        loop {
            let mut more = std::pin::pin!(self.more_answers.notified());
            // Registered before the count is read, so that no notice in between is missed.
            more.as_mut().enable();
            if self.may_answer(kind) {
                return;
            }
            more.await;
        }
    }

    /// `detail` tells apart requests for the same key: the range, the continuation token.
    pub(super) fn judge(&self, kind: RequestKind, bucket: &str, key: &str, detail: &[u8], now: Instant) -> Verdict {
        let faults = self.current();
        let mut verdict =
            Verdict { bandwidth: faults.bandwidth_per_connection, quirk: faults.quirk, ..Verdict::default() };
        let mut random =
            if faults.is_random() { Random::new(self.identity(kind, bucket, key, detail)) } else { Random::new(0) };
        verdict.delay = faults.latency.draw(&mut random);
        let concerned = faults.only_prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix.as_str()))
            && faults.only_kind.is_none_or(|only| only == kind);
        if concerned {
            if faults.tail.is_some_and(|tail| random.chance(tail.fraction)) {
                verdict.delay = verdict.delay.mul_f64(faults.tail.map_or(1.0, |tail| tail.factor.max(0.0)));
            }
            verdict.changed_etag = faults.changed_etag > 0.0 && random.chance(faults.changed_etag);
            let mut point = if faults.fail.is_empty() { 1.0 } else { random.unit() };
            for &(failure, probability) in &faults.fail {
                if point < probability {
                    verdict.failure = Some(failure);
                    verdict.flip_at = random.next_u64();
                    break;
                }
                point -= probability;
            }
        }
        if let Some(limit) = faults.rate_limit
            && !self.take_token(limit, bucket, key, now)
        {
            verdict.failure = Some(Failure::SlowDown);
        }
        if self.any_script.load(Ordering::Acquire)
            && let Some(scripted) = self.next_scripted(kind, key)
        {
            verdict.failure = scripted;
            verdict.flip_at = mix(self.seed);
        }
        verdict
    }

    fn identity(&self, kind: RequestKind, bucket: &str, key: &str, detail: &[u8]) -> u64 {
        let what = hash(hash(hash(self.seed ^ kind as u64, bucket.as_bytes()), key.as_bytes()), detail);
        let mut seen = lock(&self.seen);
        let times = seen.entry(what).or_insert(0);
        *times += 1;
        mix(what ^ mix(*times))
    }

    fn take_token(&self, limit: RateLimit, bucket: &str, key: &str, now: Instant) -> bool {
        let end = match limit.prefix_parts {
            0 => 0,
            parts => key.match_indices('/').nth(parts - 1).map_or(key.len(), |(at, _)| at),
        };
        let prefix = key.get(..end).unwrap_or(key);
        let mut buckets = lock(&self.tokens);
        let name = format!("{bucket}/{prefix}");
        let tokens = buckets.entry(name).or_insert(TokenBucket { tokens: limit.burst, filled: now });
        let gained = now.duration_since(tokens.filled).as_secs_f64() * limit.requests_per_second;
        tokens.tokens = (tokens.tokens + gained).min(limit.burst.max(1.0));
        tokens.filled = now;
        let allowed = tokens.tokens >= 1.0;
        if allowed {
            tokens.tokens -= 1.0;
        }
        allowed
    }

    fn next_scripted(&self, kind: RequestKind, key: &str) -> Option<Option<Failure>> {
        lock(&self.scripts).get_mut(&(kind, key.to_owned()))?.pop_front()
    }
}

impl Faults {
    fn is_random(&self) -> bool {
        !self.fail.is_empty()
            || self.tail.is_some()
            || self.changed_etag > 0.0
            || matches!(self.latency, super::Latency::LogNormal { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Latency;
    use super::*;

    #[test]
    fn latency_bandwidth_and_rate() {
        let faults = Faults {
            latency: Latency::Fixed(Duration::from_millis(20)),
            bandwidth_per_connection: Some(5_000_000),
            rate_limit: Some(RateLimit::per_bucket(500.0)),
            ..Faults::default()
        };
        let (state, begun) = (FaultState::new(1, faults), Instant::now());
        // 2,000 requests a second for 600 ms, of which 300 and a burst of 50 are allowed.
        let judge = |i| state.judge(RequestKind::Get, "b", "k", b"", begun + Duration::from_micros(500) * i);
        let verdicts: Vec<Verdict> = (0..1200).map(judge).collect();
        assert!(verdicts.iter().all(|v| (v.delay, v.bandwidth) == (Duration::from_millis(20), Some(5_000_000))));
        let allowed = verdicts.iter().filter(|v| v.failure.is_none()).count();
        assert!((348..=350).contains(&allowed), "{allowed}");
        assert!(verdicts.iter().all(|v| matches!(v.failure, None | Some(Failure::SlowDown))));
    }
}
