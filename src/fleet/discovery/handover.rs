//! Which databases can be handed over while their listing still runs (DESIGN engine 9). Pure.
//!
//! A database is complete once the listing, in order so far, has passed everything below its
//! root. It is handed over once, besides, nothing can still turn up that would win its place
//! (CONTRACT: of outputs in each other's way the shorter, then the first in byte order, is
//! restored). That would be a database
//! - in a directory that its own path leads through: known once the places where such a
//!   database's keys would lie are listed. Where much waits for one directory, those places are
//!   asked for (small listings, bounded by the pages), since most names sort before `ltx/`;
//! - with the same path, or one that the path would be a sidecar of: whatever may be disputed so
//!   is kept to the end. Such names are rare.
//!
//! Invariant: what is handed over keeps its place in `paths`' whole view of the same listing.

use crate::catalogue::{Catalogue, Replica};
use crate::fleet::discovery::found::{has_sidecar_name, key_of};
use crate::fleet::discovery::key_ranges::{Split, Unlisted};
use crate::store::ListPage;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// A directory is asked for where so many databases wait for it.
const WORTH_ASKING: usize = 64;
/// So many pages of the listing pay for asking for one directory.
const PAGES_PER_DIRECTORY: usize = 8;
/// Where in a directory the keys of a database at that very place lie (FORMAT §1): under roots
/// with more slashes, and of the two layouts and the v0.3.x format. Only what may be told from
/// others' keys is asked for.
const MORE_SLASHES: &str = "/";
const ASKED: [&str; 12] =
    ["0000/", "0001/", "0002/", "0003/", "0004/", "0005/", "0006/", "0007/", "0008/", "0009/", "generations/", "ltx/"];

/// Whose a listed database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The pattern does not mean it.
    Nobody,
    /// The pattern means it, another shard restores it.
    OtherShard,
    Us,
}

/// Looks on at a listing and hands over what it can.
pub struct Early<'a> {
    /// What outputs are relative to.
    literal_dir: &'a str,
    /// The output of a database that lies at that directory itself.
    own_name: &'a str,
    owner: &'a dyn Fn(&str) -> Owner,
    give: &'a mut dyn FnMut(Vec<Replica>),
    /// Complete, by the directory (with its slash) that may yet be a database.
    waiting: BTreeMap<String, Vec<Replica>>,
    /// To be decided when all is known.
    held: Vec<Replica>,
    /// Hashes of the keys of complete databases. One too many does no harm.
    seen: HashSet<u64>,
    hasher: RandomState,
    questions: Vec<String>,
    asked: HashSet<String>,
    /// Listed while this looked on.
    pages: usize,
    vacant: HashSet<String>,
    /// [`WORTH_ASKING`] but in tests.
    worth_asking: usize,
    taken: usize,
    others: Others,
}

/// Other shards' databases, each once however often it turns up: a store that lists out of order
/// may show more of one later.
#[derive(Debug, Default)]
pub struct Others {
    /// Hashes.
    roots: HashSet<u64>,
    hasher: RandomState,
}

impl Others {
    pub fn count(&mut self, root: &str) {
        self.roots.insert(self.hasher.hash_one(root));
    }

    pub fn len(&self) -> u64 {
        self.roots.len() as u64
    }
}

enum Verdict {
    Ready,
    Held,
    /// For what is known of this directory.
    Waits(String),
}

impl<'a> Early<'a> {
    pub fn new(
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

    /// A page has been listed, or a question answered.
    pub fn advance(&mut self, split: &Split, catalogue: &mut Catalogue) {
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

    /// A prefix to list: if nothing lies there, that helps.
    pub fn next_question(&mut self) -> Option<String> {
        self.questions.pop()
    }

    /// The answer to a question. Whether nothing lies there: an empty page that others follow
    /// says nothing.
    pub fn answered(&mut self, prefix: String, page: &ListPage) -> bool {
        let is_vacant = page.objects.is_empty() && page.continuation.is_none();
        if is_vacant {
            self.vacant.insert(prefix);
        }
        is_vacant
    }

    /// Whatever was not handed over is the catalogue's again.
    pub fn give_back(&mut self, catalogue: &mut Catalogue) {
        let waiting = std::mem::take(&mut self.waiting).into_values().flatten();
        for replica in waiting.chain(self.held.drain(..)) {
            self.taken -= 1;
            catalogue.put_back(replica);
        }
    }

    /// The listing begins anew.
    pub fn forget(&mut self) {
        self.waiting.clear();
        self.held.clear();
        self.seen.clear();
        self.taken = 0;
        self.others = Others::default();
    }

    /// Databases that left the catalogue and are not back.
    pub const fn taken(&self) -> usize {
        self.taken
    }

    /// The databases of other shards that it saw.
    pub fn into_others(self) -> Others {
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

    /// Whether one that is not known by now does not exist.
    fn is_decided(&self, dir: &str, unlisted: &Unlisted<'_>) -> bool {
        unlisted.is_listed(&format!("{dir}{MORE_SLASHES}")) && self.open(dir, unlisted).next().is_none()
    }

    /// The places where keys of a database at `dir` could still turn up, but for more slashes.
    fn open(&self, dir: &str, unlisted: &Unlisted<'_>) -> impl Iterator<Item = String> {
        let prefixes = ASKED.iter().map(move |own| format!("{dir}{own}"));
        prefixes.filter(|prefix| !unlisted.is_listed(prefix) && !self.vacant.contains(prefix))
    }

    /// Asks for the directory that most wait for.
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
