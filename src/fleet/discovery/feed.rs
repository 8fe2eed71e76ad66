//! Brings the found databases from discovery, which runs on a worker, to the run.

use crate::fleet::discovery::discover::{DiscoverError, FleetSource, discover};
use crate::fleet::discovery::found::{Discovery, DiscoveryProgress, Options};
use crate::process::backoff::backoff;
use crate::restore::Workers;
use crate::store::StoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// How a discovery is made.
#[derive(Debug, Clone, Copy)]
pub struct DiscoverySearch {
    pub options: Options,
    /// How often discovery begins again after transient failures.
    pub max_retries: u32,
    /// The pause before the first retry. It doubles with each retry, up to 64 times.
    pub retry_delay: Duration,
}

impl DiscoverySearch {
    /// The pause before retry number `retries` (from 0).
    fn pause(&self, retries: u32) -> Duration {
        backoff(self.retry_delay, retries, self.retry_delay.saturating_mul(64), 1.0..1.0)
    }
}

/// What a discovery sends.
#[derive(Debug)]
pub enum DiscoveryEvent {
    /// The discovery failed and begins again.
    Again(StoreError),
    /// All databases, or why they are not known. This is the last event.
    Ended(Box<Result<Discovery, DiscoverError>>),
}

/// The events of a discovery: at most one for each retry, and the last.
#[derive(Debug)]
pub struct Feed(UnboundedReceiver<DiscoveryEvent>);

impl Feed {
    /// Starts a discovery on one of the workers.
    pub fn start(
        engine: &Workers,
        source: Arc<FleetSource>,
        search: DiscoverySearch,
        progress: Arc<DiscoveryProgress>,
    ) -> Self {
        let (events, feed) = mpsc::unbounded_channel();
        // Its result is the events. If nobody receives them the run was cancelled, and the worker stops.
        let submitted = engine.submit(move |worker| {
            Box::pin(async move {
                let mut tries = 0;
                // Bounded by `max_retries`.
                let ended = loop {
                    match discover(&worker, &source, search.options, &progress).await {
                        Err(DiscoverError::Store(e)) if e.is_transient() && tries < search.max_retries => {
                            let _ = events.send(DiscoveryEvent::Again(e));
                            tokio::time::sleep(search.pause(tries)).await;
                            tries += 1;
                        }
                        ended => break ended,
                    }
                };
                let _ = events.send(DiscoveryEvent::Ended(Box::new(ended)));
            })
        });
        drop(submitted);
        Self(feed)
    }

    /// A feed of a discovery that has ended.
    pub fn of(discovery: Discovery) -> Self {
        let (events, feed) = mpsc::unbounded_channel();
        let _ = events.send(DiscoveryEvent::Ended(Box::new(Ok(discovery))));
        Self(feed)
    }

    /// The next event. None: the discovery was stopped before its end, or its worker has panicked.
    pub(in crate::fleet) async fn next(&mut self) -> Option<DiscoveryEvent> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_64_times_the_first() {
        let search = |seconds| DiscoverySearch {
            options: Options::default(),
            max_retries: 9,
            retry_delay: Duration::from_secs(seconds),
        };
        for (retries, seconds) in [(0, 5), (1, 10), (5, 160), (6, 320), (7, 320), (u32::MAX, 320)] {
            assert_eq!(search(5).pause(retries), Duration::from_secs(seconds), "{retries}");
        }
        assert_eq!(search(0).pause(3), Duration::ZERO);
        assert!(search(u64::MAX).pause(3) >= Duration::from_secs(u64::MAX));
    }
}
