//! One long listing as ranges of keys that are listed side by side. Pure: it says what to ask
//! for and takes the answers in any order; `listing` does the asking.
//!
//! The first page decides: a listing that fits it is not split. Otherwise looks with a delimiter
//! find places where ranges may begin (cuts), where and as long as there is more to list than
//! that page, and ranges with much before them give up their ends to new ones.
//!
//! Invariants: the ranges partition the keys whatever the cuts are. A key counts in the one
//! range it lies in. [`Split::is_sound`] holds only where every range went on, in the store's own
//! order, to where the next began: then no key was passed over, in whatever order a store lists.
//! Looks and further ranges are bounded by the pages of keys: at most half as many each, and a few.

use crate::store::{ListPage, ListRequest, ObjectMeta};

/// Ranges listed at once.
pub const MAX_RANGES: usize = 16;
/// Looks at once: in as many directories.
const MAX_LOOKS: usize = 4;
/// Looks before the first page of keys allows more.
const FREE_LOOKS: usize = 2;
/// Beyond these, every second cut is dropped.
const MAX_CUTS: usize = 1 << 16;

/// What a page was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The next keys of a range.
    Keys(usize),
    /// What lies in a directory.
    Look(usize),
}

#[derive(Debug)]
pub struct RangeRequest {
    pub ask: Ask,
    pub request: ListRequest,
}

#[derive(Debug)]
pub struct Split {
    prefix: String,
    ranges: Vec<Range>,
    /// Sorted.
    cuts: Vec<String>,
    looks: Vec<RangeLook>,
    may_split: bool,
    may_look: bool,
    /// Pages of keys taken.
    pages: usize,
    looked: usize,
    /// Keys on the fullest page.
    page_keys: usize,
    unordered: bool,
}

/// Keys after `after`, up to and with `end`.
#[derive(Debug)]
struct Range {
    after: Option<String>,
    end: Option<String>,
    state: RangeState,
    /// The last key taken, at first `after`.
    position: String,
    /// The last key seen, also beyond the end.
    last_seen: Option<String>,
    /// The first key of all, and the first beyond the end.
    first: Option<String>,
    beyond: Option<String>,
    /// Of the latest page: its first key, and how many of its keys lie in the range.
    page_first: Option<String>,
    page_taken: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum RangeState {
    /// To be asked for, from this token or its beginning.
    Waiting(Option<String>),
    InFlight,
    Done,
}

/// Reads the names in a directory.
#[derive(Debug)]
struct RangeLook {
    dir: String,
    state: RangeState,
    last: String,
}

impl Split {
    /// Of all keys that begin with `prefix`. `cuts` are places known to be of use; without
    /// `may_look` there will be no others.
    pub fn new(prefix: &str, mut cuts: Vec<String>, may_look: bool) -> Self {
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

    /// One page after another.
    pub fn serial(prefix: &str) -> Self {
        Self { may_split: false, ..Self::new(prefix, Vec::new(), false) }
    }

    /// The next page to ask for; None: only answers bring it further.
    pub fn next_job(&mut self) -> Option<RangeRequest> {
        if let Some(job) = self.continued() {
            return Some(job);
        }
        if !self.may_split || self.pages == 0 {
            return None;
        }
        self.further_range().or_else(|| self.further_look())
    }

    /// Takes an answer; `taken` gets the objects that count.
    pub fn take(&mut self, ask: Ask, page: ListPage, mut taken: impl FnMut(ObjectMeta)) {
        match ask {
            Ask::Look(id) => self.take_look(id, page),
            Ask::Keys(id) => {
                self.pages += 1;
                self.page_keys = self.page_keys.max(page.objects.len());
                let Some(range) = self.ranges.get_mut(id) else { return };
                let ordered = range.take(page, self.unordered, &mut taken);
                if !ordered {
                    self.unordered = true;
                    self.may_split = false;
                }
            }
        }
    }

    /// A look was refused: it was a help, not a need.
    pub fn look_failed(&mut self) {
        self.may_look = false;
    }

    /// Whether every range is listed.
    pub fn is_done(&self) -> bool {
        self.ranges.iter().all(|range| range.state == RangeState::Done)
    }

    /// The keys came out of order. In one row that does no harm.
    pub fn is_unordered(&self) -> bool {
        self.unordered
    }

    pub fn is_split(&self) -> bool {
        self.ranges.len() > 1
    }

    /// What is still to be listed; true only of a listing that is in order.
    pub fn unlisted(&self) -> Unlisted<'_> {
        let open = self.ranges.iter().filter(|range| range.state != RangeState::Done);
        Unlisted(open.map(|range| (range.position.as_str(), range.end.as_deref())).collect())
    }

    /// Once all is done: whether nothing can have been passed over.
    pub fn is_sound(&self) -> bool {
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

    /// A range, or a look, that has more to come.
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

    /// Cuts a new range off the end of the one with most before it.
    fn further_range(&mut self) -> Option<RangeRequest> {
        let free = MAX_RANGES.checked_sub(self.active())?;
        if free == 0 || self.ranges.len() > MAX_RANGES + self.pages / 2 {
            return None;
        }
        let per_page = self.cuts_per_page();
        let active = self.ranges.iter().enumerate().filter(|(_, range)| range.state != RangeState::Done);
        let longest = active.map(|(id, range)| (id, self.ahead(range))).max_by_key(|(_, ahead)| ahead.len());
        let (id, ahead) = longest?;
        // A page of it is in flight already, and less than a third of a page is not worth one.
        let open = ahead.len().checked_sub(per_page)?;
        if open == 0 || open < per_page / 3 {
            return None;
        }
        // A little less than a page: where the estimate is good, one LIST brings it.
        let wanted = (per_page - per_page / 10).max(open.div_ceil(free + 1)).min(open);
        let cut = self.cuts.get(ahead.end.checked_sub(wanted)?)?.clone();
        let range = self.ranges.get_mut(id)?;
        let end = range.end.replace(cut.clone());
        self.ranges.push(Range::new(Some(cut), end));
        self.continued()
    }

    /// Looks for cuts before a range that has too few.
    fn further_look(&mut self) -> Option<RangeRequest> {
        let in_flight = self.looks.iter().filter(|look| look.state == RangeState::InFlight).count();
        let allowed = self.may_look && in_flight < MAX_LOOKS && self.looked < FREE_LOOKS + self.pages / 2;
        if !allowed || self.active() >= MAX_RANGES {
            return None;
        }
        let enough = self.cuts_per_page().saturating_mul(MAX_RANGES);
        let short = self.ranges.iter().filter(|r| r.state != RangeState::Done && self.ahead(r).len() < enough);
        let (dir, from) = short.filter_map(|range| Some((self.dir_to_look_in(range)?, range))).next()?;
        // From the latest page on: what is known of it tells how dense the cuts are.
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

    /// The outermost directory that all of the range's latest page lay in, whose names are not yet
    /// known; None also while they are being read.
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
        let Some(look) = self.looks.get_mut(id) else { return };
        let dir = look.dir.as_str();
        let names = page.common_prefixes.into_iter().filter(|name| name.len() > dir.len() && name.starts_with(dir));
        let before = self.cuts.len();
        self.cuts.extend(names);
        let last = self.cuts.get(before..).and_then(|new| new.iter().max().cloned());
        look.state = match (&last, page.continuation) {
            (Some(_), Some(token)) => RangeState::Waiting(Some(token)),
            // To its end, or so many plain objects that it leads nowhere.
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

    /// The cuts inside what a range has not listed.
    fn ahead(&self, range: &Range) -> std::ops::Range<usize> {
        let start = self.cuts.partition_point(|cut| *cut <= range.position);
        let end = range.end.as_ref().map_or(self.cuts.len(), |end| self.cuts.partition_point(|cut| cut < end));
        start..end.max(start)
    }

    /// How many cuts a page passes, by the latest page of every range; at least 1.
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

/// Keys that are still to be listed: those after the first, up to and with the second.
#[derive(Debug)]
pub struct Unlisted<'a>(Vec<(&'a str, Option<&'a str>)>);

impl Unlisted<'_> {
    /// Whether no key that begins with `prefix` is among them.
    pub fn is_listed(&self, prefix: &str) -> bool {
        self.0
            .iter()
            .all(|(after, end)| end.is_some_and(|end| end < prefix) || (*after > prefix && !after.starts_with(prefix)))
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

    /// Whether all keys ascended; with `any_order` that is not asked.
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

    /// Whether this range ended with the key that `next` begins with. Keys come and go meanwhile:
    /// in the directory that `next` begins with, any two will do.
    fn meets(&self, next: &Self) -> bool {
        let (Some(beyond), Some(first)) = (&self.beyond, &next.first) else {
            return self.beyond.is_none() && next.first.is_none();
        };
        let same_dir = |cut: &String| beyond.starts_with(cut.as_str()) && first.starts_with(cut.as_str());
        beyond == first || next.after.as_ref().is_some_and(same_dir)
    }
}

/// `to` becomes `from`, in the room it has.
fn replace(to: &mut String, from: &str) {
    to.clear();
    to.push_str(from);
}

/// Whether a directory's name, slash included, is one of those inside a database (FORMAT §1).
fn is_inside_database(name: &str) -> bool {
    let level = |digits: &str| matches!(digits.as_bytes(), [b'0', b'0', b'0', digit] if digit.is_ascii_digit());
    matches!(name, "ltx/" | "generations/") || name.strip_suffix('/').is_some_and(level)
}

#[cfg(test)]
#[path = "key_ranges_tests.rs"]
pub(in crate::fleet) mod tests;
