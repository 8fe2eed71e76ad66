//! The limit on received bytes per second (`-limit-rate`), one for all connections and files of a process.
//!
//! A reader that has received bytes pauses until the limit has room for them. Meanwhile it reads no more, so a
//! connection's buffers fill and the sender slows down.

use crate::process::locks::lock;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// After a pause in the traffic, at most this much time's bytes are received at once.
const BURST: Duration = Duration::from_millis(100);

/// The limit. Clones share it. The default has no limit.
#[derive(Debug, Clone, Default)]
pub struct ByteRate(Option<Arc<ByteBudget>>);

#[derive(Debug)]
struct ByteBudget {
    bytes_per_second: u64,
    /// When the bytes received so far are paid for.
    paid: Mutex<Option<Instant>>,
}

impl ByteRate {
    /// At most `bytes_per_second`; None: no limit.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self(bytes_per_second.map(|bytes_per_second| {
            Arc::new(ByteBudget { bytes_per_second: bytes_per_second.max(1), paid: Mutex::default() })
        }))
    }

    /// Waits until the limit has room for `bytes` that were received.
    pub(in crate::store) async fn take(&self, bytes: u64) {
        let Some(budget) = &self.0 else { return };
        let pause = budget.take(bytes, Instant::now());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

impl ByteBudget {
    /// Counts `bytes` and returns how long to pause at `now`.
    fn take(&self, bytes: u64, now: Instant) -> Duration {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let mut paid = lock(&self.paid);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let due = paid.map_or(now, |paid| paid.max(earliest)) + cost;
        *paid = Some(due);
        due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_many_readers() {
        let rate = ByteRate::new(Some(1_000_000));
        let (budget, start) = (rate.0.clone().unwrap(), Instant::now());
        // Four readers that receive at once: the pauses add up.
        let pauses: Vec<u128> = (0..4).map(|_| budget.take(250_000, start).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 750, 1000]);
        // A second later it is all paid for.
        assert_eq!(budget.take(100_000, start + Duration::from_secs(1)).as_millis(), 100);
        // After an idle minute only a short burst is free.
        assert_eq!(budget.take(300_000, start + Duration::from_secs(61)).as_millis(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_pauses_and_without_a_limit_it_does_not() {
        let begun = tokio::time::Instant::now();
        ByteRate::default().take(u64::MAX).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        ByteRate::new(Some(1000)).take(10_000).await;
        assert!(begun.elapsed() >= Duration::from_secs(9), "{:?}", begun.elapsed());
    }
}
