//! The history of a bucket: versions and delete markers in the order of the service's listing, and the rule that tells
//! which of them stood in the bucket at a time (docs/VERSIONS.md, "The rule").

use super::{Etag, ObjectMeta, Unlisted};
use crate::timestamp::Timestamp;

/// The version id of an entry that was made while the bucket was not versioned.
pub const NULL_VERSION: &str = "null";

/// One entry in the history of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionEntry {
    /// The key.
    pub key: String,
    /// The version id, opaque. [`NULL_VERSION`] for an entry that was made while the bucket was not versioned.
    pub version_id: Box<str>,
    /// The time of the PUT or the deletion by the clock of the service, in its precision: milliseconds or seconds.
    pub last_modified: Timestamp,
    /// Whether the entry is the newest of its key.
    pub is_latest: bool,
    /// What was put. None: a delete marker.
    pub data: Option<VersionData>,
}

/// What a version holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionData {
    /// The size in bytes.
    pub size: u64,
    /// The entity tag. None if it cannot be used in the header If-Match.
    pub etag: Option<Etag>,
    /// The storage class as the listing names it. None: not named, or STANDARD.
    pub storage_class: Option<Box<str>>,
    /// Whether the version is in a storage class that GET cannot read (GLACIER, DEEP_ARCHIVE).
    pub archived: bool,
}

impl VersionData {
    /// The object that the version was.
    pub fn object(&self, key: String, last_modified: Timestamp) -> ObjectMeta {
        ObjectMeta { key, size: self.size, last_modified, etag: self.etag.clone(), archived: self.archived }
    }
}

/// Where the next page of a listing of versions begins, as the service said. Both texts are opaque and are sent back
/// unchanged: they may end in the middle of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionMarkers {
    /// `key-marker`.
    pub key: String,
    /// `version-id-marker`. None if the service gave none.
    pub version_id: Option<String>,
}

/// Request for one page of a listing of versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionsRequest {
    /// Only keys that begin with this text are listed.
    pub prefix: String,
    /// As for [`super::ListRequest`]. None: all keys are listed.
    pub delimiter: Option<char>,
    /// Where the page begins. A key without a version id: after all entries of that key, which need not exist. None:
    /// the first page.
    pub markers: Option<VersionMarkers>,
}

/// One page of a listing of versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionsPage {
    /// The entries in the order of the document: keys ascending, of each key the newest first.
    pub entries: Vec<VersionEntry>,
    /// Beginnings of keys up to the first delimiter, if the request has a delimiter.
    pub common_prefixes: Vec<String>,
    /// What could not be listed.
    pub unlisted: Vec<Unlisted>,
    /// Where the next page begins. None on the last page.
    pub next: Option<VersionMarkers>,
    /// The service's time when it answered. None if it gave none.
    pub server_time: Option<Timestamp>,
}

/// Applies the rule to entries in the order of a listing: of each key, the first entry that is not after the time
/// decides (docs/VERSIONS.md, "The rule"). Entries are never sorted: with times in whole seconds only the order of the
/// listing tells which of two entries came first.
#[derive(Debug, Clone)]
pub struct AtTime {
    as_of: Timestamp,
    /// The key whose entries are arriving.
    key: String,
    is_decided: bool,
    /// Whether any entry has arrived.
    has_begun: bool,
}

impl AtTime {
    /// The rule for the time `as_of`.
    pub fn new(as_of: Timestamp) -> Self {
        Self { as_of, key: String::new(), is_decided: false, has_begun: false }
    }

    /// The rule after the page that ended with `key`. `is_decided` is what [`Self::state`] gave.
    pub fn resume(as_of: Timestamp, key: &str, is_decided: bool) -> Self {
        Self { as_of, key: key.to_owned(), is_decided, has_begun: true }
    }

    /// The key of the last entry, and whether an entry of it has decided. None before the first entry.
    pub fn state(&self) -> Option<(&str, bool)> {
        self.has_begun.then_some((self.key.as_str(), self.is_decided))
    }

    /// Takes the next entry of the listing. Returns whether it is what stood in the bucket at the time.
    pub fn stood(&mut self, key: &str, last_modified: Timestamp, is_marker: bool) -> bool {
        if !self.has_begun || self.key != key {
            self.has_begun = true;
            self.key.clear();
            self.key.push_str(key);
            self.is_decided = false;
        }
        if self.is_decided || last_modified > self.as_of {
            return false;
        }
        self.is_decided = true;
        !is_marker
    }
}

/// Since when a history is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompleteSince {
    /// From the beginning.
    Ever,
    /// From this time on.
    Time(Timestamp),
    /// At no time: the bucket is not versioned now.
    Never,
}

impl CompleteSince {
    /// Whether the history is complete at `time`.
    pub fn covers(self, time: Timestamp) -> bool {
        match self {
            Self::Ever => true,
            Self::Time(since) => since <= time,
            Self::Never => false,
        }
    }
}

/// Finds out since when a history is complete (docs/VERSIONS.md, "Incomplete histories"). Entries may come in any order.
#[derive(Debug, Clone, Default)]
pub struct Completeness {
    /// The newest entry that was made while the bucket was not versioned.
    last_null: Option<Timestamp>,
    /// The oldest entry after `last_null` that was made while it was. Exact if entries come in the order of time.
    versioned_after: Option<Timestamp>,
    /// The newest delete marker whose key has no older entry.
    last_orphan: Option<Timestamp>,
    has_versioned: bool,
    /// The time that [`Self::covers`] is about.
    as_of: Option<Timestamp>,
    /// The newest entry up to that time that was made while the bucket was versioned.
    versioned_by: Option<Timestamp>,
}

impl Completeness {
    /// As the default, and answers whether the history is complete at `as_of`.
    pub fn for_time(as_of: Timestamp) -> Self {
        Self { as_of: Some(as_of), ..Self::default() }
    }

    /// Whether the history is complete at the time of [`Self::for_time`], in whatever order the entries came.
    pub fn covers(&self) -> bool {
        let by_null = self.last_null.is_none() || self.versioned_by > self.last_null;
        by_null && self.last_orphan.is_none_or(|orphan| self.as_of.is_some_and(|as_of| orphan <= as_of))
    }

    /// Takes an entry. `is_orphan` says that it is a delete marker and the oldest entry of its key: the data that it
    /// hid is gone.
    pub fn take(&mut self, version_id: &str, last_modified: Timestamp, is_orphan: bool) {
        if is_orphan {
            self.last_orphan = self.last_orphan.max(Some(last_modified));
        }
        if version_id == NULL_VERSION {
            self.last_null = self.last_null.max(Some(last_modified));
            self.versioned_after = self.versioned_after.filter(|after| Some(*after) > self.last_null);
            return;
        }
        self.has_versioned = true;
        if self.as_of.is_some_and(|as_of| last_modified <= as_of) {
            self.versioned_by = self.versioned_by.max(Some(last_modified));
        }
        if Some(last_modified) > self.last_null && self.versioned_after.is_none_or(|after| last_modified < after) {
            self.versioned_after = Some(last_modified);
        }
    }

    /// Whether every entry was made while the bucket was not versioned, and there is one.
    pub fn is_never_versioned(&self) -> bool {
        self.last_null.is_some() && !self.has_versioned
    }

    /// Whether no entry shows that history is missing.
    pub fn has_no_findings(&self) -> bool {
        self.last_null.is_none() && self.last_orphan.is_none()
    }

    /// Since when the history is complete.
    pub fn since(&self) -> CompleteSince {
        let by_null = match (self.last_null, self.versioned_after) {
            (Some(_), None) => return CompleteSince::Never,
            (Some(_), after) => after,
            (None, _) => None,
        };
        by_null.max(self.last_orphan).map_or(CompleteSince::Ever, CompleteSince::Time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn the_first_entry_in_the_listing_that_is_not_later_decides() {
        // Newest first. The two entries at 20 are a PUT and a deletion within the precision of the service's clock.
        let entries = [("a", 30, false), ("a", 20, true), ("a", 20, false), ("a", 10, false), ("b", 20, false)];
        let stood = |time| {
            let mut rule = AtTime::new(at(time));
            let stood = entries.iter().enumerate().filter(|(_, (k, t, marker))| rule.stood(k, at(*t), *marker));
            stood.map(|(i, _)| i).collect::<Vec<_>>()
        };
        assert!(stood(9).is_empty());
        assert_eq!(stood(10), [3]);
        assert_eq!(stood(19), [3]);
        assert_eq!(stood(20), [4]);
        assert_eq!(stood(30), [0, 4]);
    }

    #[test]
    fn a_rule_that_is_resumed_goes_on_where_the_page_ended() {
        let mut first = AtTime::new(at(20));
        assert!(first.state().is_none());
        assert!(first.stood("a", at(15), false));
        let (key, is_decided) = first.state().unwrap();
        let mut rest = AtTime::resume(at(20), key, is_decided);
        assert!(!rest.stood("a", at(10), false));
        assert!(rest.stood("b", at(10), false));
    }

    #[test]
    fn since_when_a_history_is_complete() {
        let since = |entries: &[(&str, i64, bool)]| {
            let mut found = Completeness::default();
            entries.iter().for_each(|(id, ms, orphan)| found.take(id, at(*ms), *orphan));
            found.since()
        };
        assert_eq!(since(&[]), CompleteSince::Ever);
        assert_eq!(since(&[("v", 1, false), ("w", 2, false)]), CompleteSince::Ever);
        assert_eq!(since(&[("null", 1, false)]), CompleteSince::Never);
        assert_eq!(since(&[("v", 1, false), ("null", 2, false)]), CompleteSince::Never);
        // Not the null entry itself: what was deleted between the two is unknown.
        assert_eq!(since(&[("null", 1, false), ("v", 5, false), ("w", 9, false)]), CompleteSince::Time(at(5)));
        assert_eq!(since(&[("v", 5, false), ("w", 9, true)]), CompleteSince::Time(at(9)));
        assert_eq!(since(&[("null", 1, false), ("v", 5, false), ("w", 3, true)]), CompleteSince::Time(at(3)));
        assert!(!CompleteSince::Time(at(5)).covers(at(4)) && CompleteSince::Time(at(5)).covers(at(5)));
    }
}
