//! Lists all objects under a prefix into a catalogue, page by page. A long listing is split into ranges of keys
//! that are listed at the same time (`key_ranges`). Memory holds only the catalogue and the pages in flight.

use crate::catalogue::{Catalogue, CatalogueMemory, Charge, Interest, Layout};
use crate::fleet::discovery::found::DiscoveryProgress;
use crate::fleet::discovery::key_ranges::{Ask, Split};
use crate::store::{Http, ListPage, ListRequest, ListingBound, Store, StoreError, StoreErrorKind, Unlisted, elsewhere};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;

/// Lists objects of one store with the connections of one worker, and counts them for the display.
pub(crate) struct Lister<'a> {
    pub http: &'a Http,
    pub store: &'a Store,
    /// The memory that all lists of files may take.
    pub memory: &'a CatalogueMemory,
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
    /// What could not be listed.
    pub unlisted: Vec<Unlisted>,
    /// The store does not list in the order of the keys' bytes.
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
        interest: &dyn Fn(&str) -> Interest,
    ) -> Result<FleetListing, ListingError> {
        let may_look = limits.cuts.is_none();
        let filter = Filter { wanted, interest };
        if self.store.is_on_disk() {
            return self.walk(prefix, filter).await.map_err(ListingError::Store);
        }
        let split = Split::new(prefix, limits.cuts.unwrap_or_default(), may_look);
        if let Some(listing) = self.run(split, prefix, limits.max_pages, filter).await? {
            self.store.check_history(prefix).map_err(ListingError::Store)?;
            return Ok(listing);
        }
        // The keys came out of order, so the ranges may overlap or have gaps between them. A listing without
        // ranges is certain to return every key.
        tracing::debug!(target: "hydrant::fleet", prefix, "keys out of order: listed again without ranges");
        match self.run(Split::serial(prefix), prefix, limits.max_pages, filter).await? {
            Some(listing) => {
                self.store.check_history(prefix).map_err(ListingError::Store)?;
                Ok(FleetListing { unordered: true, ..listing })
            }
            None => Err(ListingError::Store(internal(prefix, "a listing ended before its last page"))),
        }
    }

    /// Lists a directory. One task walks the disk.
    async fn walk(&self, prefix: &str, filter: Filter<'_>) -> Result<FleetListing, StoreError> {
        let mut collected = Collected::new(self, prefix);
        self.store.list_all(self.http, prefix, &mut |page| collected.take(page, filter)).await?;
        Ok(collected.finish(false))
    }

    /// None: keys may be missing.
    async fn run(
        &self,
        mut split: Split,
        prefix: &str,
        max_pages: u64,
        filter: Filter<'_>,
    ) -> Result<Option<FleetListing>, ListingError> {
        let mut collected = Collected::new(self, prefix);
        let mut pages = 0u64;
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
            let mut page = match (ask, answer) {
                (_, Ok(page)) => page,
                (Ask::Look(_), Err(_)) => {
                    split.look_failed();
                    continue;
                }
                (Ask::Keys(_), Err(e)) => return Err(ListingError::Store(e)),
            };
            let mut objects = Vec::with_capacity(page.objects.len());
            let unlisted = std::mem::take(&mut page.unlisted);
            split.take(ask, page, |object| objects.push(object));
            // A look shows again what the pages of keys show.
            let unlisted = if matches!(ask, Ask::Keys(_)) { unlisted } else { Vec::new() };
            collected
                .take(ListPage { objects, unlisted, ..ListPage::default() }, filter)
                .map_err(ListingError::Store)?;
            pages += 1;
            if split.is_split() && split.is_unordered() {
                break;
            }
            if split.is_done() {
                break;
            }
            if pages >= max_pages {
                return Err(ListingError::TooLong);
            }
        }
        if !split.is_sound() || !split.is_done() {
            return Ok(None);
        }
        let keys = bounds.iter().filter(|(ask, _)| matches!(ask, Ask::Keys(_))).map(|(_, bound)| bound);
        if let Some(key) = only_elsewhere(keys) {
            return Err(ListingError::Store(elsewhere(prefix, &key)));
        }
        Ok(Some(collected.finish(split.is_unordered())))
    }
}

/// A key, if no part of a listing has a key that begins with the prefix.
fn only_elsewhere<'a>(parts: impl Iterator<Item = &'a ListingBound>) -> Option<String> {
    let mut example = None;
    for part in parts {
        if part.any_below() {
            return None;
        }
        example = example.or_else(|| part.only_elsewhere());
    }
    example.map(str::to_owned)
}

/// Which objects are taken into the catalogue.
#[derive(Clone, Copy)]
struct Filter<'a> {
    /// By key.
    wanted: &'a dyn Fn(&str) -> bool,
    /// By root.
    interest: &'a dyn Fn(&str) -> Interest,
}

/// What a listing has brought so far. The counts of the progress are taken back if it is not finished.
struct Collected<'a> {
    prefix: &'a str,
    progress: &'a DiscoveryProgress,
    catalogue: Catalogue,
    unlisted: Vec<Unlisted>,
    charge: Option<Charge<'a>>,
    keys: u64,
    databases: usize,
}

impl<'a> Collected<'a> {
    fn new(lister: &Lister<'a>, prefix: &'a str) -> Self {
        Self {
            prefix,
            progress: lister.progress,
            catalogue: Catalogue::new(Layout::native_to(lister.store)),
            unlisted: Vec::new(),
            charge: Some(lister.memory.charge()),
            keys: 0,
            databases: 0,
        }
    }

    fn take(&mut self, page: ListPage, filter: Filter<'_>) -> Result<(), StoreError> {
        let keys = page.objects.len() as u64;
        for object in page.objects {
            if (filter.wanted)(&object.key) {
                self.catalogue.insert_if(object, filter.interest);
            }
        }
        self.unlisted.extend(page.unlisted);
        self.keys += keys;
        self.progress.answered(keys);
        self.databases = self.progress.seen(self.databases, self.catalogue.databases());
        self.charge.as_mut().map_or(Ok(()), |charge| charge.set(self.catalogue.bytes(), self.prefix))
    }

    fn finish(mut self, unordered: bool) -> FleetListing {
        if let Some(charge) = self.charge.take() {
            charge.keep();
        }
        let catalogue = std::mem::replace(&mut self.catalogue, Catalogue::new(Layout::Hex));
        FleetListing { catalogue, unlisted: std::mem::take(&mut self.unlisted), unordered }
    }
}

impl Drop for Collected<'_> {
    fn drop(&mut self) {
        if self.charge.is_some() {
            self.progress.forget(self.keys, self.databases);
        }
    }
}
