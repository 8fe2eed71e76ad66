//! Carries the databases that discovery finds from the worker that runs it to the thread that runs the fleet.

use crate::fleet::discovery::catalogue_file::CatalogueUse;
use crate::fleet::discovery::discover::{DiscoverError, FleetSource, discover_by};
use crate::fleet::discovery::found::{Discovery, DiscoveryProgress, Options};
use crate::process::backoff::backoff;
use crate::restore::Workers;
use crate::store::StoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// Settings of a discovery: which databases to return, where they are known from, and how to retry.
#[derive(Debug, Clone)]
pub struct DiscoverySearch {
    /// Which shard to return, and how output paths are formed.
    pub options: Options,
    /// Whether the stores are listed.
    pub catalogue: CatalogueUse,
    /// Maximum number of times that discovery starts again after a transient failure.
    pub max_retries: u32,
    /// Pause before the first retry. It doubles with each further retry, up to 64 times its value.
    pub retry_delay: Duration,
}

impl DiscoverySearch {
    /// Returns the pause before retry number `retries`, counted from 0.
    fn pause(&self, retries: u32) -> Duration {
        backoff(self.retry_delay, retries, self.retry_delay.saturating_mul(64), 1.0..1.0)
    }
}

/// An event that discovery, on a worker thread, sends to the thread that runs the fleet.
#[derive(Debug)]
pub enum DiscoveryEvent {
    /// Discovery failed with a transient error and starts again.
    Again(StoreError),
    /// Discovery has ended with all databases or with an error. This event is the last one.
    Ended(Box<Result<Discovery, DiscoverError>>),
}

/// Receiver of the events of one discovery: at most one for each retry, and the last one.
#[derive(Debug)]
pub struct Feed(UnboundedReceiver<DiscoveryEvent>);

impl Feed {
    /// Starts a discovery on one of the worker threads. Its events arrive through `Self::next`.
    pub fn start(
        engine: &Workers,
        source: Arc<FleetSource>,
        search: DiscoverySearch,
        progress: Arc<DiscoveryProgress>,
    ) -> Self {
        let (events, feed) = mpsc::unbounded_channel();
        // The result is in the events. If nobody receives them, the run was cancelled, and the worker stops
        // anyway.
        let submitted = engine.submit(move |worker| {
            Box::pin(async move {
                let (mut tries, mut has_stalled) = (0, false);
                // This loop ends: it runs at most `max_retries` + 1 times.
                let ended = loop {
                    match discover_by(&worker, &source, search.options, &search.catalogue, &progress).await {
                        Err(DiscoverError::Store(e))
                            if tries < search.max_retries && e.may_pass_again(&mut has_stalled) =>
                        {
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

    /// Returns a feed whose only event is the end of the given discovery.
    pub fn of(discovery: Discovery) -> Self {
        let (events, feed) = mpsc::unbounded_channel();
        let _ = events.send(DiscoveryEvent::Ended(Box::new(Ok(discovery))));
        Self(feed)
    }

    /// Waits for the next event. Returns None if discovery was cancelled or its worker panicked.
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
            catalogue: CatalogueUse::List,
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
