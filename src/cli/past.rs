//! `-as-of`: restoring from the past of a versioned bucket (docs/VERSIONS.md). Finds out which past it is, whether the
//! bucket still has it, and what to say about it.

use crate::catalogue::{CatalogueMemory, History, Replica, Surroundings, root_of};
use crate::cli::args::resolved::{AsOf, PastArgs};
use crate::cli::failures::from_store;
use crate::cli::ui::failure::{Advice, Failure};
use crate::cli::ui::human;
use crate::cli::ui::log::Log;
use crate::config::StoreConfig;
use crate::error::Class;
use crate::plan::{Peak, Reach, last_full};
use crate::restore::{HistoryExtent, ListedHistory, NothingFound, PastState, first_page_of_history, list_history};
use crate::store::{ALLOW_HINT, CompleteSince, Http, Past, Store, future_text, incomplete_text, is_later};
use crate::timestamp::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// What must be known before Litestream replicates a database that was restored from a bucket's past.
const BEFORE_REPLICATING: &str = "nothing in the bucket was changed: before Litestream replicates this database \
                                  again, give it a new path, or one that has been emptied";

/// Which files of a past time are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilesWanted {
    /// Those that lead to the newest state.
    OfNewestState,
    /// All: for a listing, and for a state before the newest, which may need files of level 0 that the newest does not.
    All,
}

/// A database in a bucket of the past.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    /// The bucket of the past.
    pub store: Store,
    /// The files of that time.
    pub replica: Replica,
    /// The time.
    pub as_of: Timestamp,
    /// Number of files of that time.
    files: u64,
    /// Number of versions that were listed.
    versions: u64,
    /// The time from which more can be had, if files were being deleted at `as_of`.
    better: Option<Peak>,
    reach: Reach,
    /// The warning about a history with missing parts that was accepted.
    incomplete: Option<String>,
}

/// Refuses `-as-of` for a store that has no versions.
///
/// # Errors
/// The store is a disk.
pub(super) fn refuse_on_disk(past: &PastArgs, config: &StoreConfig) -> Result<(), Failure> {
    match config {
        StoreConfig::File if past.as_of.is_some() => Err(Failure::usage("-as-of needs a versioned S3 bucket")),
        StoreConfig::File | StoreConfig::S3(_) => Ok(()),
    }
}

/// Lists the history of the database at `path`, and finds the files of the time that `past` asks for. `wanted` says
/// whether all files of that time are needed, or those that lead to its newest state.
///
/// # Errors
/// A request fails; the time lies after the service's; the bucket has no such past, or has lost a part of it and that
/// is not accepted; nothing of the database was there at the time.
pub(super) async fn survey(
    http: &Http,
    store: &Store,
    path: &str,
    past: &PastArgs,
    wanted: FilesWanted,
    memory: &CatalogueMemory,
) -> Result<Survey, Failure> {
    let s3 = store.bucket().ok_or_else(|| Failure::usage("-as-of needs a versioned S3 bucket"))?;
    let asked = match past.as_of {
        Some(AsOf::Time(time)) => time,
        Some(AsOf::Last) | None => Timestamp::MAX,
    };
    let extent = match wanted {
        FilesWanted::OfNewestState => HistoryExtent::AsOf(asked),
        FilesWanted::All => HistoryExtent::Whole,
    };
    let listed = list_history(http, s3, path, extent, memory).await.map_err(|e| from_store(&e))?;
    let ListedHistory { history, server_time, .. } = listed;
    let now = server_time.unwrap_or_else(Timestamp::now);
    if past.as_of != Some(AsOf::Last) && is_later(asked, now) {
        return Err(Failure::usage(future_text(asked, now)));
    }
    if history.is_empty() {
        return Err(Failure::no_backups(NothingFound::of(path, store, &Surroundings::default())));
    }
    // `last` looks for the best time whether or not the history is complete at the present.
    let peak = last_full(&history, path, asked.min(latest(&history)));
    let as_of = if past.as_of == Some(AsOf::Last) { peak.at } else { asked };
    let since = history.complete_since();
    let incomplete = (!since.covers(as_of)).then(|| incomplete(&history, s3.bucket(), since));
    if let Some(text) = &incomplete
        && !past.allow_incomplete
    {
        return Err(Failure::failed(Class::TargetNotReachable, format!("{text}; {ALLOW_HINT}")));
    }
    let objects: Vec<_> = history.objects_at(as_of).collect();
    if objects.is_empty() {
        return Err(nothing_at(&history, as_of, peak));
    }
    let bucket = Past::new(Arc::clone(s3), as_of, past.limit_bytes, past.allow_incomplete, root_of);
    for (object, version_id) in &objects {
        bucket.set_version_id(&object.key, version_id).map_err(|e| from_store(&e))?;
    }
    if incomplete.is_some() {
        bucket.set_incomplete();
    }
    let files = objects.len() as u64;
    let replica = history.replica_at(path, as_of);
    let reach = Reach::at(&history, path, as_of);
    Ok(Survey {
        store: Store::Past(Arc::new(bucket)),
        replica,
        as_of,
        files,
        versions: history.versions() as u64,
        better: (peak.reach > reach).then_some(peak),
        reach,
        incomplete,
    })
}

fn latest(history: &History) -> Timestamp {
    history.range().map_or(Timestamp::MAX, |(_, last)| last)
}

/// What is said about a history with missing parts.
pub(super) fn incomplete(history: &History, bucket: &str, since: CompleteSince) -> String {
    incomplete_text(history.is_never_versioned().then_some(bucket), since)
}

/// The failure for a time at which nothing of the database was there.
fn nothing_at(history: &History, as_of: Timestamp, peak: Peak) -> Failure {
    let first = history.first_version();
    let message = match (first, history.last_deletion(as_of)) {
        (Some(first), _) if first > as_of => format!("no backup as of {as_of}: the first file is of {first}"),
        (_, Some(deleted)) => format!("no backup as of {as_of}: everything had been deleted by {deleted}"),
        (_, None) => format!("no backup as of {as_of}: no version of any file is left"),
    };
    let advice = match first {
        Some(first) if first > as_of => None,
        _ => (peak.reach > Reach::Nothing).then(|| Advice::Value("as-of", peak.at.to_string())),
    };
    Failure::failed(Class::BackupNotFound, message).advised(advice)
}

impl Survey {
    /// Warns of what makes the state doubtful.
    pub(super) fn warn(&self, log: &Log) {
        if let Some(text) = &self.incomplete {
            log.warn(&format!("{text}: what is restored may be an older state than the bucket had"));
        }
        if let Some(Peak { at, reach }) = self.better {
            log.warn(&format!(
                "files were being deleted at {}: {} reached, as of {at} {}",
                self.as_of,
                reach_text(self.reach),
                reach_text(reach)
            ));
        }
    }

    /// Adds to a failure the time from which more can be had.
    pub(super) fn advised(&self, failure: Failure) -> Failure {
        match (&failure, self.better) {
            (Failure::Failed { .. } | Failure::NoBackups { .. }, Some(peak)) => {
                failure.advised(Some(Advice::Value("as-of", peak.at.to_string())))
            }
            _ => failure,
        }
    }

    /// Says what was restored or planned, and how far it lies before the time.
    pub(super) fn report(&self, state: &str, past: Option<&PastState>, log: &Log) {
        let newest = past.and_then(|past| past.state_time);
        let before = newest.map_or_else(String::new, |newest| format!(", newest file {}", before(newest, self.as_of)));
        log.info(&format!(
            "as of {}: {} of {}; {state}{before}",
            self.as_of,
            human::count(self.files, "file"),
            human::count(self.versions, "version")
        ));
    }

    /// Says what to do before the database is replicated again.
    pub(super) fn say_what_follows(log: &Log) {
        log.info(BEFORE_REPLICATING);
    }
}

/// How far `newest` lies before `as_of`: `1.2 s before 2026-01-31T12:00:00Z`.
fn before(newest: Timestamp, as_of: Timestamp) -> String {
    let nanos = as_of.as_nanos().saturating_sub(newest.as_nanos());
    let gap = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
    let gap = if gap < Duration::from_secs(3_600) { human::duration(gap) } else { human::age(gap.as_secs()) };
    format!("{gap} before {as_of}")
}

pub(super) fn reach_text(reach: Reach) -> String {
    match reach {
        Reach::Nothing => "nothing".to_owned(),
        Reach::V3(time) => format!("the state of {time}"),
        Reach::Txid(txid) => format!("TXID {txid}"),
    }
}

/// Says what a command about many databases has found in the past of its buckets.
pub(super) fn say_of_fleet(pasts: &[Arc<Past>], log: &Log) {
    for past in pasts {
        let (all, gone) = past.databases();
        if all > 0 {
            log.info(&format!(
                "as of {}: {}, of which {} have nothing in the bucket now",
                past.as_of(),
                human::count(all as u64, "database"),
                human::thousands(gone as u64)
            ));
        }
        if past.is_incomplete() {
            log.warn(&format!("the history of {} is incomplete: states may be wrong", past.bucket().bucket()));
        }
    }
}

/// `failure` as wrong usage if the wanted time has proved to lie after the present.
pub(super) fn or_usage(failure: Failure, pasts: &[Arc<Past>]) -> Failure {
    let is_usage = pasts.iter().any(|past| past.is_in_the_future());
    if is_usage { Failure::usage(failure.message()) } else { failure }
}

/// What the bucket's versions hold beyond its present: a time from which more can be had. One request; None if it is
/// not allowed or not known to the service.
pub(super) async fn deleted_states(http: &Http, store: &Store, path: &str) -> Option<(usize, Advice)> {
    let Store::S3(s3) = store else { return None };
    let (history, is_whole) = first_page_of_history(http, s3, path).await.ok()??;
    let deleted = history.deleted_now();
    if deleted == 0 || history.versions() == 0 {
        return None;
    }
    if !is_whole {
        return Some((deleted, Advice::Value("as-of", "last".to_owned())));
    }
    let latest = latest(&history);
    let peak = last_full(&history, path, latest);
    let is_more = peak.reach > Reach::at(&history, path, latest);
    (is_more && peak.at < latest).then(|| (deleted, Advice::Value("as-of", peak.at.to_string())))
}
