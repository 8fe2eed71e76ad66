//! Databases that were handed over by a listing that later proved to be out of order. The listing may
//! have shown only some of their files, so their restores, which look good, count as failed.

use crate::fleet::job::{Ended, Ending};
use std::collections::{HashMap, HashSet};

/// What became of the databases that were started before discovery ended, by name.
#[derive(Debug, Default)]
pub(super) struct PossiblyIncomplete {
    /// Databases that have started and not ended.
    at_work: HashSet<String>,
    /// Databases that ended before discovery did, and whether they succeeded.
    ended_early: HashMap<String, bool>,
    /// Discovery has ended: `ended_early` is no longer kept.
    all_known: bool,
    /// Databases at work whose files were possibly incomplete, and how they end if their restore
    /// succeeds.
    to_fail: HashMap<String, Ending>,
}

impl PossiblyIncomplete {
    pub(super) fn started(&mut self, name: &str) {
        self.at_work.insert(name.to_owned());
    }

    /// A database will be tried again: its files are listed anew.
    pub(super) fn listed_again(&mut self, name: &str) {
        self.to_fail.remove(name);
    }

    /// Discovery has ended without a result: no database will prove to be incomplete.
    pub(super) fn discovery_ended(&mut self) {
        self.all_known = true;
        self.ended_early.clear();
    }

    /// A database has ended. Returns how it really ends.
    pub(super) fn ended(&mut self, name: &str, ending: Ending) -> Ending {
        let is_good = matches!(ending, Ending::Restored { .. } | Ending::Planned(_) | Ending::Rehearsed(_));
        let ending = self.to_fail.remove(name).filter(|_| is_good).unwrap_or(ending);
        self.at_work.remove(name);
        if !self.all_known {
            self.ended_early.insert(name.to_owned(), is_good);
        }
        ending
    }

    /// Discovery has ended, and found these databases to be possibly incomplete. Those that are at
    /// work are kept until they end; the others are returned.
    pub(super) fn sort_out(&mut self, found: impl Iterator<Item = Ended>) -> SortedOut {
        self.all_known = true;
        let ended_early = std::mem::take(&mut self.ended_early);
        let mut sorted = SortedOut::default();
        for one in found {
            match ended_early.get(one.name()) {
                _ if self.at_work.contains(one.name()) => {
                    self.to_fail.insert(one.name().to_owned(), one.ending);
                }
                Some(true) => sorted.restored.push(one),
                // Its failure was reported.
                Some(false) => {}
                None => sorted.never_started.push(one),
            }
        }
        sorted
    }
}

/// Possibly incomplete databases that are not at work.
#[derive(Debug, Default)]
pub(super) struct SortedOut {
    /// These were reported as restored.
    pub restored: Vec<Ended>,
    /// These have neither started nor do they wait.
    pub never_started: Vec<Ended>,
}
