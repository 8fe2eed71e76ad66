//! What a listing shows besides the files of the databases that were looked for. If none was found, a message says what
//! lies there instead.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Roots, counted once each. Only the first one is kept: 8 bytes are enough for each of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootCount {
    seen: HashSet<u64>,
    first: Option<Box<str>>,
}

impl RootCount {
    /// Counts `root`, unless it was counted before.
    pub fn add(&mut self, root: &str) {
        let mut hasher = DefaultHasher::new();
        root.hash(&mut hasher);
        if self.seen.insert(hasher.finish()) && self.first.is_none() {
            self.first = Some(root.into());
        }
    }

    /// Adds the roots of another count.
    pub fn merge(&mut self, other: Self) {
        self.seen.extend(other.seen);
        self.first = self.first.take().or(other.first);
    }

    /// The number of different roots.
    pub fn len(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Whether no root was counted.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// The root that was counted first.
    pub fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }
}

/// Objects that are no backup files: their number, and the first one's key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherObjects {
    /// How many were listed.
    pub count: u64,
    /// The key of the first one.
    pub first: Option<Box<str>>,
}

impl OtherObjects {
    pub(super) fn add(&mut self, key: &str) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(key.into());
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

/// What the listing of one database's replica shows of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The roots of databases below the path. Not all are kept: see [`Self::below_count`].
    pub below: Vec<String>,
    /// The number of databases below the path.
    pub below_count: u64,
    /// The root of the replica that the path lies in: the path is one of its directories or files.
    pub around: Option<String>,
    /// Objects that are no backup files.
    pub objects: OtherObjects,
}
