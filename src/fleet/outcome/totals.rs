//! The totals of a run, counted as databases end.

use crate::error::Class;
use crate::fleet::job::{Ended, Ending};
use crate::fleet::outcome::reasons::Reasons;
use std::collections::BTreeMap;

/// At most this many names of databases that were restored around damage are kept.
const MOST_NAMES: usize = 10;

/// The totals of a run.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Databases that were restored.
    pub restored: u64,
    /// Databases that `-dry-run` planned.
    pub planned: u64,
    /// Databases that were skipped.
    pub skipped: u64,
    /// Databases, and entries of litestream.yml, that failed.
    pub failed: u64,
    /// Size of the restored databases.
    pub bytes: u64,
    /// Size of the LTX files of restored and planned databases.
    pub bytes_fetched: u64,
    /// LTX files of restored and planned databases.
    pub files: u64,
    /// Requests for restored and planned databases.
    pub requests: u64,
    /// How often databases were tried again, counted over all databases.
    pub retries: u64,
    /// Databases that were tried again at least once.
    pub tried_again: u64,
    /// Failures of each class.
    pub classes: BTreeMap<Class, u64>,
    /// Databases that were not restored because a sidecar is in the way.
    pub sidecars: u64,
    /// The skipped databases, by why they were skipped.
    pub skips: BTreeMap<&'static str, u64>,
    /// Why databases failed, without names and numbers.
    pub reasons: Reasons,
    /// Databases that were restored although a file was damaged, because other files cover it.
    pub around_damage: u64,
    /// The names of the first of them.
    pub around_damage_names: Vec<String>,
    /// Databases whose newest state cannot be had, and of which an older one was restored or planned
    /// (`-newest-intact`).
    pub not_newest: u64,
    /// The names of the first of them.
    pub not_newest_names: Vec<String>,
    /// With a catalogue: databases whose state there cannot be reached exactly any more, and that have moved on to the
    /// next newer one.
    pub moved: u64,
    /// The names of the first of them.
    pub moved_names: Vec<String>,
    /// Not restored because the run was interrupted.
    pub left: u64,
    /// Not begun, or waiting to be tried again, when `-fail-fast` ended the run.
    pub not_started: u64,
}

impl Totals {
    /// Databases that were restored, planned or skipped.
    pub fn done(&self) -> u64 {
        self.restored + self.planned + self.skipped
    }

    /// Databases that were restored, planned or skipped, or have failed.
    pub fn ended(&self) -> u64 {
        self.done() + self.failed
    }

    /// `2 hole, 1 truncated`.
    pub fn classes(&self) -> String {
        counted(&self.classes)
    }

    /// The class of most failures.
    pub fn most_frequent_class(&self) -> Class {
        let most = self.classes.iter().max_by_key(|(_, count)| **count);
        most.map_or(Class::Io, |(class, _)| *class)
    }

    /// `3 database already exists, 1 no backups`.
    pub fn skips(&self) -> String {
        counted(&self.skips)
    }

    fn add_not_newest(&mut self, ended: &Ended) {
        self.not_newest += 1;
        if self.not_newest_names.len() < MOST_NAMES {
            self.not_newest_names.push(ended.name().to_owned());
        }
    }

    fn add_moved(&mut self, ended: &Ended) {
        self.moved += 1;
        if self.moved_names.len() < MOST_NAMES {
            self.moved_names.push(ended.name().to_owned());
        }
    }

    pub(super) fn add(&mut self, ended: &Ended) {
        self.retries += u64::from(ended.retries);
        self.tried_again += u64::from(ended.retries > 0);
        match &ended.ending {
            Ending::Restored { outcome, .. } => {
                self.restored += 1;
                self.bytes += outcome.bytes_out;
                self.bytes_fetched += outcome.bytes_in;
                self.files += outcome.files as u64;
                self.requests += outcome.requests;
                if outcome.lost.is_some() {
                    self.add_not_newest(ended);
                }
                if outcome.moved_from().is_some() {
                    self.add_moved(ended);
                }
                // Otherwise no other files cover what is damaged.
                if !outcome.damaged.is_empty() && outcome.lost.is_none() {
                    self.around_damage += 1;
                    if self.around_damage_names.len() < MOST_NAMES {
                        self.around_damage_names.push(ended.name().to_owned());
                    }
                }
            }
            Ending::Planned(planned) => {
                self.planned += 1;
                self.bytes_fetched += planned.bytes;
                self.files += planned.files;
                self.requests += planned.requests;
                if planned.lost.is_some() {
                    self.add_not_newest(ended);
                }
                if planned.moved_from.is_some() {
                    self.add_moved(ended);
                }
            }
            // `hydrant bench` and `hydrant verify` count these themselves.
            Ending::Rehearsed(_) | Ending::Verified(_) => {}
            Ending::Skipped(why) => {
                self.skipped += 1;
                *self.skips.entry(why).or_default() += 1;
            }
            Ending::Failed { class, reason } => {
                self.failed += 1;
                self.sidecars += u64::from(*class == Class::OutputExists && reason.contains("sidecar"));
                *self.classes.entry(*class).or_default() += 1;
                self.reasons.add(ended, *class, reason);
            }
        }
    }
}

fn counted<T: std::fmt::Display>(counts: &BTreeMap<T, u64>) -> String {
    counts.iter().map(|(what, n)| format!("{n} {what}")).collect::<Vec<_>>().join(", ")
}
