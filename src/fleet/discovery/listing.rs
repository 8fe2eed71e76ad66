//! Lists all objects under a prefix into a catalogue, page by page. A long listing is split into ranges of keys
//! that are listed at the same time (`key_ranges`). Memory holds only the catalogue and the pages in flight.

use crate::catalogue::{Catalogue, Layout};
use crate::fleet::discovery::found::DiscoveryProgress;
use crate::fleet::discovery::key_ranges::{Ask, Split};
use crate::store::{Http, ListRequest, ListingBound, Store, StoreError, StoreErrorKind};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;

/// Lists objects of one store with the connections of one worker, and counts them for the display.
pub(crate) struct Lister<'a> {
    pub http: &'a Http,
    pub store: &'a Store,
    pub progress: &'a DiscoveryProgress,
}

/// Where a listing may be split, and when it is given up.
#[derive(Debug, Clone)]
pub(crate) struct ListingLimits {
    /// Keys at which ranges may begin. None: the listing searches for such keys itself.
    pub cuts: Option<Vec<String>>,
    /// Maximum number of pages. A longer listing is given up with [`ListingError::TooLong`].
    pub max_pages: u64,
}

impl Default for ListingLimits {
    fn default() -> Self {
        Self { cuts: None, max_pages: u64::MAX }
    }
}

/// Result of a listing that is certain to have every key.
#[derive(Debug)]
pub(crate) struct FleetListing {
    pub catalogue: Catalogue,
    /// Whether the store listed keys in another order than that of their bytes.
    pub unordered: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum ListingError {
    Store(StoreError),
    /// The listing has more pages than [`ListingLimits::max_pages`].
    TooLong,
}

impl ListingError {
    /// Returns the error of a listing that had no limit of pages, so [`Self::TooLong`] is a bug and reported as
    /// one.
    pub(crate) fn without_limits(self, prefix: &str) -> StoreError {
        match self {
            Self::Store(e) => e,
            Self::TooLong => internal(prefix, "a listing without a limit has reached its limit"),
        }
    }
}

fn internal(prefix: &str, what: &str) -> StoreError {
    StoreError {
        kind: StoreErrorKind::InvalidResponse,
        what: format!("LIST {prefix}"),
        detail: format!("{}: {what}", crate::error::BUG),
        request_id: None,
        hint: None,
        attempts: 0,
    }
}

impl Lister<'_> {
    /// Lists all objects under `prefix` and keeps those whose keys satisfy `wanted`.
    ///
    /// # Errors
    /// [`ListingError::Store`] if a request fails after all retries; [`ListingError::TooLong`] if the listing
    /// has more pages than `limits` allow.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        limits: ListingLimits,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<FleetListing, ListingError> {
        let may_look = limits.cuts.is_none();
        let split = match self.store {
            Store::S3(_) => Split::new(prefix, limits.cuts.unwrap_or_default(), may_look),
            // On a disk, one task lists everything, so ranges would not help.
            Store::File(_) => Split::serial(prefix),
        };
        if let Some(listing) = self.run(split, limits.max_pages, wanted).await? {
            return Ok(listing);
        }
        // The keys came out of order, so the ranges may overlap or have gaps between them. A listing without
        // ranges is certain to return every key.
        tracing::debug!(target: "hydrant::fleet", prefix, "keys out of order: listed again without ranges");
        match self.run(Split::serial(prefix), limits.max_pages, wanted).await? {
            Some(FleetListing { catalogue, .. }) => Ok(FleetListing { catalogue, unordered: true }),
            None => Err(ListingError::Store(internal(prefix, "a listing ended before its last page"))),
        }
    }

    /// Runs one listing. Returns None if keys may be missing because they came out of order.
    async fn run(
        &self,
        mut split: Split,
        max_pages: u64,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Option<FleetListing>, ListingError> {
        let mut catalogue = Catalogue::new(Layout::native_to(self.store));
        let (mut pages, mut keys, mut databases) = (0u64, 0u64, 0);
        let mut bounds: HashMap<Ask, ListingBound> = HashMap::new();
        let mut in_flight = FuturesUnordered::new();
        let ask = |ask: Ask, request: ListRequest| async move {
            (ask, self.store.list_page(self.http, &request).await, request.prefix)
        };
        loop {
            while let Some(job) = split.next_job() {
                in_flight.push(ask(job.ask, job.request));
            }
            let Some((ask, answer, listed)) = in_flight.next().await else { break };
            let answer = answer.and_then(|page| {
                bounds.entry(ask).or_default().check(&listed, &page)?;
                Ok(page)
            });
            let page = match (ask, answer) {
                (_, Ok(page)) => page,
                (Ask::Look(_), Err(_)) => {
                    split.look_failed();
                    continue;
                }
                (Ask::Keys(_), Err(e)) => {
                    self.progress.forget(keys, databases);
                    return Err(ListingError::Store(e));
                }
            };
            let before = keys;
            split.take(ask, page, |object| {
                keys += 1;
                if wanted(&object.key) {
                    catalogue.insert(object);
                }
            });
            self.progress.answered(keys - before);
            databases = self.progress.seen(databases, catalogue.databases());
            pages += 1;
            if split.is_split() && split.is_unordered() {
                break;
            }
            if split.is_done() {
                break;
            }
            if pages >= max_pages {
                self.progress.forget(keys, databases);
                return Err(ListingError::TooLong);
            }
        }
        if split.is_sound() && split.is_done() {
            return Ok(Some(FleetListing { catalogue, unordered: split.is_unordered() }));
        }
        self.progress.forget(keys, databases);
        Ok(None)
    }
}
