//! What all standbys of a fleet share: the rate of listings (`-list-rate`), and the threads that SQLite runs on.

use crate::process::locks::lock;
use crate::process::threads::Threads;
use crate::store::Store;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// What was not used within the last second may be made up for.
const BURST: Duration = Duration::from_secs(1);

/// At most this many listings per second.
#[derive(Debug)]
pub(super) struct ListRate {
    every: Duration,
    /// The time of the next listing.
    next: Mutex<Instant>,
}

impl ListRate {
    /// At most `per_second` listings per second. Infinity stands for no limit.
    pub(super) fn new(per_second: f64) -> Self {
        let every = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::ZERO);
        Self { every, next: Mutex::new(Instant::now()) }
    }

    /// The time between two listings.
    pub(super) const fn every(&self) -> Duration {
        self.every
    }

    /// Waits for the turn of a listing. Turns are given in the order of the calls.
    pub(super) async fn take(&self) {
        let turn = {
            let mut next = lock(&self.next);
            let now = Instant::now();
            let turn = (*next).max(now.checked_sub(BURST).unwrap_or(now));
            *next = turn + self.every;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

/// What a follower works with besides its worker.
#[derive(Clone)]
pub(super) struct Means {
    /// The threads that SQLite runs on.
    pub threads: Arc<Threads>,
    /// The rate of listings that all standbys of a fleet share. None: the follower is alone.
    pub lists: Option<Arc<ListRate>>,
}

impl Means {
    /// Waits until `store` may be listed. A disk may be at any time.
    pub(super) async fn pace(&self, store: &Store) {
        if let Some(lists) = self.lists.as_ref().filter(|_| !store.is_on_disk()) {
            lists.take().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn listings_keep_the_rate_and_make_up_for_a_second_at_most() {
        let (rate, begun) = (ListRate::new(5.0), Instant::now());
        for _ in 0..26 {
            rate.take().await;
        }
        assert_eq!(begun.elapsed().as_secs(), 5);
        tokio::time::advance(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for _ in 0..11 {
            rate.take().await;
        }
        // Six at once: one for now, and five for the last second.
        assert_eq!(begun.elapsed().as_secs(), 1);
        let free = ListRate::new(f64::INFINITY);
        let begun = Instant::now();
        for _ in 0..1000 {
            free.take().await;
        }
        assert!(begun.elapsed().is_zero());
    }
}
