//! Found databases on their way from the discovery, on a worker, to the run: as they are found,
//! or all when all are known.

use crate::fleet::discovery::discover::{DiscoverError, FleetSource, HandOver, discover_early};
use crate::fleet::discovery::found::{Discovery, DiscoveryProgress, Found, Options};
use crate::restore::Workers;
use crate::store::StoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// How a discovery is made.
#[derive(Debug, Clone, Copy)]
pub struct DiscoverySearch {
    pub options: Options,
    /// Databases may be restored before all are known.
    pub early: bool,
    /// After transient failures; the first pause before a retry, doubled with each.
    pub max_retries: u32,
    pub retry_delay: Duration,
}

/// What a discovery says.
#[derive(Debug)]
pub enum DiscoveryEvent {
    /// Some of the databases.
    Found(Vec<Found>),
    /// It failed, and begins anew.
    Again(StoreError),
    /// All the others; nothing comes after this.
    Ended(Box<Result<Discovery, DiscoverError>>),
}

/// A discovery's news; bounded by what there is to be found.
#[derive(Debug)]
pub struct Feed(UnboundedReceiver<DiscoveryEvent>);

impl Feed {
    /// Discovers on some worker.
    pub fn start(
        engine: &Workers,
        source: Arc<FleetSource>,
        search: DiscoverySearch,
        progress: Arc<DiscoveryProgress>,
    ) -> Self {
        let (news, feed) = mpsc::unbounded_channel();
        // Answers by its news; nobody listening means cancelled, and the worker stops by itself.
        let submitted = engine.submit(move |worker| {
            Box::pin(async move {
                let to_run = news.clone();
                let mut hand_over = match search.early {
                    true => HandOver::to(move |found| drop(to_run.send(DiscoveryEvent::Found(found)))),
                    false => HandOver::default(),
                };
                let mut tries = 0;
                // `max_retries` more turns at most.
                let ended = loop {
                    match discover_early(&worker, &source, search.options, &progress, &mut hand_over).await {
                        Err(DiscoverError::Store(e)) if e.is_transient() && tries < search.max_retries => {
                            let _ = news.send(DiscoveryEvent::Again(e));
                            tokio::time::sleep(search.retry_delay.saturating_mul(1 << tries.min(6))).await;
                            tries += 1;
                        }
                        ended => break ended,
                    }
                };
                let _ = news.send(DiscoveryEvent::Ended(Box::new(ended)));
            })
        });
        drop(submitted);
        Self(feed)
    }

    /// All of it at once.
    pub fn of(discovery: Discovery) -> Self {
        let (news, feed) = mpsc::unbounded_channel();
        let _ = news.send(DiscoveryEvent::Ended(Box::new(Ok(discovery))));
        Self(feed)
    }

    /// None: the discovery was stopped before its end.
    pub(in crate::fleet) async fn next(&mut self) -> Option<DiscoveryEvent> {
        self.0.recv().await
    }
}
