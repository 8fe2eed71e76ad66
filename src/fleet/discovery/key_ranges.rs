//! Splits one long listing into ranges of keys that are listed at the same time. This file sends no requests:
//! it says which page to request next, and takes the answers in any order. `listing` sends the requests.
//!
//! A listing that fits on one page is not split. A longer one needs keys at which ranges can begin, called
//! cuts. LISTs with a delimiter, called looks, find cuts: they return the names in a directory. Looks go on
//! while ranges have more than one page left. A range that still has many cuts before it gives its end to a new
//! range.
//!
//! Invariants:
//! - The ranges cover all keys without overlap, whatever the cuts are. A key counts only in the range that it
//!   lies in.
//! - [`Split::is_sound`] is true only if every range was listed in ascending order up to the key at which the
//!   next range began. Then no key is missing, whatever order the store lists in.
//! - With n pages of keys, there are at most n/2 + 2 looks and at most n/2 + 16 ranges.

use crate::store::{ListPage, ListRequest, ObjectMeta};

/// Maximum number of ranges that are listed at the same time.
pub(crate) const MAX_RANGES: usize = 16;
/// Maximum number of looks (LISTs with a delimiter) in flight. Each reads the names in another directory.
const MAX_LOOKS: usize = 4;
/// Number of looks (LISTs with a delimiter) that are allowed in addition to one for every two pages of keys.
const FREE_LOOKS: usize = 2;
/// Maximum number of cuts (keys at which ranges may begin). With more, every second one is dropped, which bounds
/// memory.
const MAX_CUTS: usize = 1 << 16;

/// Identifies what a requested page is for: the keys of a range, or a look (names in a directory).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ask {
    /// The page lists keys of the range with this index.
    Keys(usize),
    /// The page lists names in a directory, for the look (LIST with a delimiter) with this index.
    Look(usize),
}

#[derive(Debug)]
pub(crate) struct RangeRequest {
    pub ask: Ask,
    pub request: ListRequest,
}

#[derive(Debug)]
pub(crate) struct Split {
    prefix: String,
    ranges: Vec<Range>,
    /// Cuts: keys at which ranges may begin, in sorted order.
    cuts: Vec<String>,
    looks: Vec<RangeLook>,
    may_split: bool,
    may_look: bool,
    /// Number of pages of keys that were received so far, by which looks and ranges are limited.
    pages: usize,
    /// Number of looks (LISTs with a delimiter) that were requested so far.
    looked: usize,
    /// Largest number of keys on one page so far, an estimate of the store's page size.
    page_keys: usize,
    /// Whether the store returned keys out of order, so that no further ranges are made.
    unordered: bool,
}

/// The keys that are greater than `after` and at most `end`, and how far they are listed. None: no bound.
#[derive(Debug)]
struct Range {
    after: Option<String>,
    end: Option<String>,
    state: RangeState,
    /// The last key of this range that was received. Before the first key it is `after`.
    position: String,
    /// The last key that was received for this range. It can be greater than `end`.
    last_seen: Option<String>,
    /// The first key that was received for this range. It must meet the end of the range before it.
    first: Option<String>,
    /// The first received key that is greater than `end`. It must meet the beginning of the next range.
    beyond: Option<String>,
    /// The first key of the latest page, from which the density of cuts is estimated.
    page_first: Option<String>,
    /// Number of keys of the latest page that lie in this range.
    page_taken: usize,
}

/// State of the requests of one range or one look.
#[derive(Debug, PartialEq, Eq)]
enum RangeState {
    /// The next page must be requested: with this continuation token, or from the beginning if there is none.
    Waiting(Option<String>),
    InFlight,
    Done,
}

/// A look: a LIST with a delimiter, which reads the names in a directory.
#[derive(Debug)]
struct RangeLook {
    dir: String,
    state: RangeState,
    /// The last name on the look's latest page.
    last: String,
}

impl Split {
    /// Starts a listing of all keys that begin with `prefix`. `cuts` are known keys at which ranges may begin.
    /// If `may_look` is false, no other cuts are searched for.
    pub(crate) fn new(prefix: &str, mut cuts: Vec<String>, may_look: bool) -> Self {
        cuts.sort_unstable();
        cuts.dedup();
        Self {
            prefix: prefix.to_owned(),
            ranges: vec![Range::new(None, None)],
            cuts,
            looks: Vec::new(),
            may_split: true,
            may_look,
            pages: 0,
            looked: 0,
            page_keys: 1,
            unordered: false,
        }
    }

    /// Starts a listing without ranges, one page after another.
    pub(crate) fn serial(prefix: &str) -> Self {
        Self { may_split: false, ..Self::new(prefix, Vec::new(), false) }
    }

    /// Returns the next page to request. Returns None if an answer must arrive first.
    pub(crate) fn next_job(&mut self) -> Option<RangeRequest> {
        if let Some(job) = self.continued() {
            return Some(job);
        }
        if !self.may_split || self.pages == 0 {
            return None;
        }
        self.further_range().or_else(|| self.further_look())
    }

    /// Takes a page. `taken` is called with each object on it that lies in the requested range.
    pub(crate) fn take(&mut self, ask: Ask, page: ListPage, mut taken: impl FnMut(ObjectMeta)) {
        match ask {
            Ask::Look(id) => self.take_look(id, page),
            Ask::Keys(id) => {
                self.pages += 1;
                self.page_keys = self.page_keys.max(page.objects.len());
                debug_assert!(id < self.ranges.len(), "a page of range {id}, which does not exist");
                let Some(range) = self.ranges.get_mut(id) else { return };
                let ordered = range.take(page, self.unordered, &mut taken);
                if !ordered {
                    self.unordered = true;
                    self.may_split = false;
                }
            }
        }
    }

    /// Notes that a look (LIST for the names in a directory) has failed. The listing goes on without looks, because
    /// they only make it faster.
    pub(crate) fn look_failed(&mut self) {
        self.may_look = false;
    }

    /// Returns whether every range is listed to its end.
    pub(crate) fn is_done(&self) -> bool {
        self.ranges.iter().all(|range| range.state == RangeState::Done)
    }

    /// Returns whether keys came out of order. A listing without ranges is complete even then.
    pub(crate) fn is_unordered(&self) -> bool {
        self.unordered
    }

    pub(crate) fn is_split(&self) -> bool {
        self.ranges.len() > 1
    }

    /// Returns whether it is certain that no key is missing. Call this only when all ranges are listed.
    pub(crate) fn is_sound(&self) -> bool {
        if !self.is_split() {
            return true;
        }
        let mut order: Vec<&Range> = self.ranges.iter().collect();
        order.sort_by_key(|range| range.after.as_deref());
        let meets = |pair: &[&Range]| match pair {
            [range, next] => range.meets(next),
            _ => true,
        };
        !self.unordered && order.windows(2).all(meets)
    }

    /// Returns the request for the next page of a range that has more pages.
    fn continued(&mut self) -> Option<RangeRequest> {
        let (id, range) =
            self.ranges.iter_mut().enumerate().find(|(_, r)| matches!(r.state, RangeState::Waiting(_)))?;
        let RangeState::Waiting(continuation) = std::mem::replace(&mut range.state, RangeState::InFlight) else {
            return None;
        };
        let start_after = if continuation.is_none() { range.after.clone() } else { None };
        let request = ListRequest { prefix: self.prefix.clone(), start_after, delimiter: None, continuation };
        Some(RangeRequest { ask: Ask::Keys(id), request })
    }

    /// Splits the range of keys that has most cuts (possible beginnings of ranges) left, and returns the request for
    /// the first page of the new range.
    fn further_range(&mut self) -> Option<RangeRequest> {
        let free = MAX_RANGES.checked_sub(self.active())?;
        if free == 0 || self.ranges.len() > MAX_RANGES + self.pages / 2 {
            return None;
        }
        let per_page = self.cuts_per_page();
        let active = self.ranges.iter().enumerate().filter(|(_, range)| range.state != RangeState::Done);
        let longest = active.map(|(id, range)| (id, self.ahead(range))).max_by_key(|(_, ahead)| ahead.len());
        let (id, ahead) = longest?;
        // The range's next page is already in flight, so only the cuts after that page count. If they are less than a
        // third of a page, they are not worth a range of their own.
        let open = ahead.len().checked_sub(per_page)?;
        if open == 0 || open < per_page / 3 {
            return None;
        }
        // The new range gets a little less than one page, so that a single LIST is enough if the estimate is
        // right.
        let wanted = (per_page - per_page / 10).max(open.div_ceil(free + 1)).min(open);
        let cut = self.cuts.get(ahead.end.checked_sub(wanted)?)?.clone();
        let range = self.ranges.get_mut(id)?;
        let end = range.end.replace(cut.clone());
        self.ranges.push(Range::new(Some(cut), end));
        self.continued()
    }

    /// Starts a look (LIST with a delimiter) in a range that has too few cuts, that is, keys at which it could be
    /// split.
    fn further_look(&mut self) -> Option<RangeRequest> {
        let in_flight = self.looks.iter().filter(|look| look.state == RangeState::InFlight).count();
        let allowed = self.may_look && in_flight < MAX_LOOKS && self.looked < FREE_LOOKS + self.pages / 2;
        if !allowed || self.active() >= MAX_RANGES {
            return None;
        }
        let enough = self.cuts_per_page().saturating_mul(MAX_RANGES);
        let short = self.ranges.iter().filter(|r| r.state != RangeState::Done && self.ahead(r).len() < enough);
        let (dir, from) = short.filter_map(|range| Some((self.dir_to_look_in(range)?, range))).next()?;
        // The look begins at the latest page of keys: comparing its keys with the cuts shows how many cuts a
        // page has.
        let from_page = from.page_first.clone();
        let passed = |look: &RangeLook| look.last < from.position;
        let known = self.looks.iter().position(|look| look.dir == dir);
        let restart = known.and_then(|id| self.looks.get(id)).is_none_or(passed);
        let id = known.unwrap_or_else(|| {
            self.looks.push(RangeLook { dir: dir.clone(), state: RangeState::Waiting(None), last: String::new() });
            self.looks.len() - 1
        });
        let look = self.looks.get_mut(id)?;
        let state = std::mem::replace(&mut look.state, RangeState::InFlight);
        self.looked += 1;
        let (start_after, continuation) = match state {
            RangeState::Waiting(Some(token)) if !restart => (None, Some(token)),
            _ => (from_page, None),
        };
        let request = ListRequest { prefix: dir, start_after, delimiter: Some('/'), continuation };
        Some(RangeRequest { ask: Ask::Look(id), request })
    }

    /// Returns the outermost directory that contains all keys of the range's latest page and whose names are
    /// not known yet. Returns None if there is none, or while a look reads that directory.
    fn dir_to_look_in(&self, range: &Range) -> Option<String> {
        let first = range.page_first.as_deref()?;
        let below = range.position.get(self.prefix.len()..)?;
        let slashes = below.match_indices('/').map(|(at, _)| self.prefix.len() + at + 1);
        for (dir_len, next_len) in std::iter::once(self.prefix.len()).chain(slashes.clone()).zip(slashes) {
            let dir = range.position.get(..dir_len)?;
            let name = range.position.get(dir_len..next_len)?;
            if !first.starts_with(dir) || is_inside_database(name) {
                return None;
            }
            match self.looks.iter().find(|look| look.dir == dir).map(|look| &look.state) {
                None | Some(RangeState::Waiting(_)) => return Some(dir.to_owned()),
                Some(RangeState::InFlight) => return None,
                Some(RangeState::Done) => {}
            }
        }
        None
    }

    fn take_look(&mut self, id: usize, page: ListPage) {
        debug_assert!(id < self.looks.len(), "a page of look {id}, which does not exist");
        let Some(look) = self.looks.get_mut(id) else { return };
        let dir = look.dir.as_str();
        let names = page.common_prefixes.into_iter().filter(|name| name.len() > dir.len() && name.starts_with(dir));
        let before = self.cuts.len();
        self.cuts.extend(names);
        let last = self.cuts.get(before..).and_then(|new| new.iter().max().cloned());
        look.state = match (&last, page.continuation) {
            (Some(_), Some(token)) => RangeState::Waiting(Some(token)),
            // The directory has no more names, or the page had only objects. More looks there would not help.
            _ => RangeState::Done,
        };
        look.last = last.unwrap_or_default();
        self.cuts.sort_unstable();
        self.cuts.dedup();
        if self.cuts.len() > MAX_CUTS {
            let mut odd = false;
            self.cuts.retain(|_| {
                odd = !odd;
                odd
            });
        }
    }

    fn active(&self) -> usize {
        self.ranges.iter().filter(|range| range.state != RangeState::Done).count()
    }

    /// Returns the indexes of the cuts (keys at which ranges may begin) inside a range that its listing has not
    /// reached yet.
    fn ahead(&self, range: &Range) -> std::ops::Range<usize> {
        let start = self.cuts.partition_point(|cut| *cut <= range.position);
        let end = range.end.as_ref().map_or(self.cuts.len(), |end| self.cuts.partition_point(|cut| cut < end));
        start..end.max(start)
    }

    /// Returns the estimated number of cuts (keys at which ranges may begin) on one page of keys, at least 1. The
    /// estimate uses the latest page of every range.
    fn cuts_per_page(&self) -> usize {
        let (mut passed, mut keys) = (0, 0);
        for range in &self.ranges {
            let Some(first) = &range.page_first else { continue };
            let start = self.cuts.partition_point(|cut| cut < first);
            let end = self.cuts.partition_point(|cut| *cut <= range.position);
            passed += end.saturating_sub(start);
            keys += range.page_taken;
        }
        self.page_keys.saturating_mul(passed).checked_div(keys).unwrap_or(1).max(1)
    }
}

impl Range {
    fn new(after: Option<String>, end: Option<String>) -> Self {
        Self {
            position: after.clone().unwrap_or_default(),
            last_seen: after.clone(),
            after,
            end,
            state: RangeState::Waiting(None),
            first: None,
            beyond: None,
            page_first: None,
            page_taken: 0,
        }
    }

    /// Takes a page of keys. Returns whether they came in ascending order. With `any_order` it always returns
    /// true.
    fn take(&mut self, page: ListPage, any_order: bool, taken: &mut impl FnMut(ObjectMeta)) -> bool {
        let mut ordered = true;
        self.page_first = page.objects.first().map(|object| object.key.clone());
        self.page_taken = 0;
        if self.first.is_none() {
            self.first.clone_from(&self.page_first);
        }
        for object in page.objects {
            if !any_order {
                ordered &= self.last_seen.as_ref().is_none_or(|last| *last < object.key);
                replace(self.last_seen.get_or_insert_default(), &object.key);
            }
            if self.end.as_ref().is_some_and(|end| object.key > *end) {
                self.beyond.get_or_insert(object.key);
                continue;
            }
            replace(&mut self.position, &object.key);
            self.page_taken += 1;
            taken(object);
        }
        self.state = match page.continuation {
            Some(token) if self.beyond.is_none() => RangeState::Waiting(Some(token)),
            _ => RangeState::Done,
        };
        ordered
    }

    /// Returns whether this range ended at the key with which the range `next` began. Programs can write and
    /// delete keys during a listing. The two keys may therefore differ, if both lie in the directory where
    /// `next` begins.
    fn meets(&self, next: &Self) -> bool {
        let (Some(beyond), Some(first)) = (&self.beyond, &next.first) else {
            return self.beyond.is_none() && next.first.is_none();
        };
        let same_dir = |cut: &String| beyond.starts_with(cut.as_str()) && first.starts_with(cut.as_str());
        beyond == first || next.after.as_ref().is_some_and(same_dir)
    }
}

/// Copies `from` into `to`. Reuses the memory of `to` if it is large enough.
fn replace(to: &mut String, from: &str) {
    to.clear();
    to.push_str(from);
}

/// Returns whether a directory of this name, with its slash, lies inside a database's folder and so contains no
/// databases (docs/FORMAT.md, "Key layouts").
fn is_inside_database(name: &str) -> bool {
    let level = |digits: &str| matches!(digits.as_bytes(), [b'0', b'0', b'0', digit] if digit.is_ascii_digit());
    matches!(name, "ltx/" | "generations/") || name.strip_suffix('/').is_some_and(level)
}

#[cfg(test)]
#[path = "key_ranges_tests.rs"]
mod tests;
