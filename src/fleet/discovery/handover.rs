//! Decides which databases can be handed over while their listing still runs
//! (docs/ARCHITECTURE.md, "Listing and order"). It makes no requests itself.
//!
//! A database is handed over when
//! 1. the ordered listing has moved past its root, so all of its files are known, and
//! 2. no key still to come could reveal a database with a better claim to the same output path. Of
//!    outputs that collide, the shorter is restored, then the first in byte order
//!    (docs/CLI.md, "Output paths of a pattern").
//!
//! A database with a better claim would be one of these:
//! - One whose path is a directory on the way to this database. This is decided once the places are
//!   listed where that database's keys would be. Most names sort before `ltx/`, so this can take until
//!   the end of the directory. Where 64 or more databases wait for one directory, small listings ask
//!   for these places (at most one directory for 8 pages).
//! - One with the same output path, or one of which this database would be a sidecar. Databases with
//!   such names are rare. They are kept until the end of the listing.
//!
//! Invariant: a database that is handed over also gets its output path if all databases of the same
//! listing are admitted at once ([`crate::fleet::outputs::Admitted`]).

use crate::catalogue::{Catalogue, Replica};
use crate::fleet::discovery::found::{has_sidecar_name, key_of};
use crate::fleet::discovery::key_ranges::{Split, Unlisted};
use crate::store::ListPage;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// A directory is asked for once this many databases wait for it.
const WORTH_ASKING: usize = 64;
/// One directory may be asked for per this many pages of the listing.
const PAGES_PER_DIRECTORY: usize = 8;
/// The places in a directory that hold the keys of a database whose path is the directory itself: below
/// a second slash, or in the folders of the two layouts and of v0.3.x (docs/FORMAT.md, "Key layouts").
/// Only the folders are asked for. Below a second slash other databases' keys can lie too.
const MORE_SLASHES: &str = "/";
const ASKED: [&str; 12] =
    ["0000/", "0001/", "0002/", "0003/", "0004/", "0005/", "0006/", "0007/", "0008/", "0009/", "generations/", "ltx/"];

/// Whose a listed database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The pattern does not match it.
    Nobody,
    /// The pattern matches it, and another shard restores it.
    OtherShard,
    Us,
}

/// Watches a listing and hands databases over.
pub(crate) struct Early<'a> {
    /// The directory that output paths are relative to.
    literal_dir: &'a str,
    /// The output of a database whose path is that directory.
    own_name: &'a str,
    owner: &'a dyn Fn(&str) -> Owner,
    give: &'a mut dyn FnMut(Vec<Replica>),
    /// Complete databases that wait until it is decided whether a directory on their path is a
    /// database, by that directory (with its slash).
    waiting: BTreeMap<String, Vec<Replica>>,
    /// Complete databases that are kept until the end of the listing.
    held: Vec<Replica>,
    /// Hashes of the keys of complete databases. A collision of hashes only delays a database.
    seen: HashSet<u64>,
    hasher: RandomState,
    /// Prefixes to be asked for.
    questions: Vec<String>,
    /// Directories that were asked for.
    asked: HashSet<String>,
    /// Pages of the listing so far.
    pages: usize,
    /// Prefixes that were asked for and hold no key.
    vacant: HashSet<String>,
    /// [`WORTH_ASKING`], except in tests.
    worth_asking: usize,
    /// Databases that were taken from the catalogue and not put back.
    taken: usize,
    others: Others,
}

/// Counts other shards' databases. A store that lists out of order can show one several times; it is
/// counted once.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// Hashes of their roots.
    roots: HashSet<u64>,
    hasher: RandomState,
}

impl Others {
    pub(crate) fn count(&mut self, root: &str) {
        self.roots.insert(self.hasher.hash_one(root));
    }

    pub(crate) fn len(&self) -> u64 {
        self.roots.len() as u64
    }
}

enum Verdict {
    Ready,
    Held,
    /// Until it is decided whether this directory is a database.
    Waits(String),
}

impl<'a> Early<'a> {
    pub(crate) fn new(
        literal_dir: &'a str,
        own_name: &'a str,
        owner: &'a dyn Fn(&str) -> Owner,
        give: &'a mut dyn FnMut(Vec<Replica>),
    ) -> Self {
        Self {
            literal_dir,
            own_name,
            owner,
            give,
            waiting: BTreeMap::new(),
            held: Vec::new(),
            seen: HashSet::new(),
            hasher: RandomState::new(),
            questions: Vec::new(),
            asked: HashSet::new(),
            pages: 0,
            vacant: HashSet::new(),
            worth_asking: WORTH_ASKING,
            taken: 0,
            others: Others::default(),
        }
    }

    /// To be called after each page and after each answer to a question.
    pub(crate) fn advance(&mut self, split: &Split, catalogue: &mut Catalogue) {
        if split.is_unordered() {
            return self.give_back(catalogue);
        }
        self.pages += 1;
        let unlisted = split.unlisted();
        let mut complete = Vec::new();
        for replica in catalogue.take(|root| unlisted.is_listed(root)) {
            self.taken += 1;
            match (self.owner)(&replica.root) {
                Owner::Nobody => continue,
                Owner::OtherShard => self.others.count(&replica.root),
                Owner::Us => {
                    self.seen.insert(self.hasher.hash_one(key_of(&replica.root)));
                    complete.push(replica);
                }
            }
        }
        for dir in self.waiting.keys().cloned().collect::<Vec<_>>() {
            if self.is_database(&dir, catalogue) || self.is_decided(&dir, &unlisted) {
                complete.extend(self.waiting.remove(&dir).unwrap_or_default());
            }
        }
        let mut ready = Vec::new();
        for replica in complete {
            match self.judge(&replica.root, &unlisted, catalogue) {
                Verdict::Ready => ready.push(replica),
                Verdict::Held => self.held.push(replica),
                Verdict::Waits(dir) => self.waiting.entry(dir).or_default().push(replica),
            }
        }
        self.ask(&unlisted);
        if !ready.is_empty() {
            (self.give)(ready);
        }
    }

    /// The next prefix to list. If it holds no key, databases can be handed over earlier.
    pub(crate) fn next_question(&mut self) -> Option<String> {
        self.questions.pop()
    }

    /// Takes the answer to a question. Returns whether the prefix holds no key. An empty page that is
    /// followed by another page does not show that.
    pub(crate) fn answered(&mut self, prefix: String, page: &ListPage) -> bool {
        let is_vacant = page.objects.is_empty() && page.continuation.is_none();
        if is_vacant {
            self.vacant.insert(prefix);
        }
        is_vacant
    }

    /// Puts all databases that were not handed over back into the catalogue.
    pub(crate) fn give_back(&mut self, catalogue: &mut Catalogue) {
        let waiting = std::mem::take(&mut self.waiting).into_values().flatten();
        for replica in waiting.chain(self.held.drain(..)) {
            self.taken -= 1;
            catalogue.put_back(replica);
        }
    }

    /// Forgets what was listed, because the listing begins again.
    pub(crate) fn forget(&mut self) {
        self.waiting.clear();
        self.held.clear();
        self.seen.clear();
        self.taken = 0;
        self.others = Others::default();
    }

    /// How many databases were taken from the catalogue and not put back.
    pub(crate) const fn taken(&self) -> usize {
        self.taken
    }

    /// The databases of other shards that were seen.
    pub(crate) fn into_others(self) -> Others {
        self.others
    }

    fn judge(&self, root: &str, unlisted: &Unlisted<'_>, catalogue: &Catalogue) -> Verdict {
        let key = key_of(root);
        let relative = key.strip_prefix(self.literal_dir).unwrap_or("");
        let first = relative.split('/').next().unwrap_or("");
        if relative.is_empty()
            || root.len() != key.len() + 1
            || first == self.own_name
            || relative.split('/').any(has_sidecar_name)
        {
            return Verdict::Held;
        }
        for (slash, _) in relative.match_indices('/') {
            let dir = root.get(..self.literal_dir.len() + slash + 1).unwrap_or("");
            if self.is_database(dir, catalogue) {
                return Verdict::Held;
            }
            if !self.is_decided(dir, unlisted) {
                return Verdict::Waits(dir.to_owned());
            }
        }
        Verdict::Ready
    }

    /// Whether a database is known to lie at `dir` itself.
    fn is_database(&self, dir: &str, catalogue: &Catalogue) -> bool {
        self.seen.contains(&self.hasher.hash_one(key_of(dir)))
            || catalogue.contains(dir)
            || catalogue.contains_below(&format!("{dir}/"))
    }

    /// Whether a database at `dir` would be known by now.
    fn is_decided(&self, dir: &str, unlisted: &Unlisted<'_>) -> bool {
        unlisted.is_listed(&format!("{dir}{MORE_SLASHES}")) && self.open(dir, unlisted).next().is_none()
    }

    /// The folders in which keys of a database at `dir` can still come.
    fn open(&self, dir: &str, unlisted: &Unlisted<'_>) -> impl Iterator<Item = String> {
        let prefixes = ASKED.iter().map(move |own| format!("{dir}{own}"));
        prefixes.filter(|prefix| !unlisted.is_listed(prefix) && !self.vacant.contains(prefix))
    }

    /// Asks for the directory that most databases wait for.
    fn ask(&mut self, unlisted: &Unlisted<'_>) {
        if self.asked.len() * PAGES_PER_DIRECTORY > self.pages {
            return;
        }
        let is_open = |dir: &str| !self.asked.contains(dir) && unlisted.is_listed(&format!("{dir}{MORE_SLASHES}"));
        let worth = self.waiting.iter().filter(|(dir, waiting)| waiting.len() >= self.worth_asking && is_open(dir));
        let Some((dir, _)) = worth.max_by_key(|(_, waiting)| waiting.len()) else { return };
        let (dir, questions) = (dir.clone(), self.open(dir, unlisted).collect::<Vec<_>>());
        self.questions.extend(questions);
        self.asked.insert(dir);
    }
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
