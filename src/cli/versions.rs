//! `hydrant ltx -versions`: all versions of a database's files in a versioned bucket (docs/VERSIONS.md).

use crate::catalogue::{CatalogueMemory, History, SpanEnd, VersionSpan};
use crate::cli::args::resolved::LtxArgs;
use crate::cli::failures::from_store;
use crate::cli::past::{incomplete, reach_text};
use crate::cli::ui::failure::Failure;
use crate::cli::ui::human;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::screen::{pretty, table};
use crate::ltx::{Level, Txid};
use crate::plan::deletions;
use crate::restore::{HistoryExtent, list_history};
use crate::store::{CompleteSince, Http, Store};
use crate::timestamp::Timestamp;
use serde::Serialize;

/// One version of an LTX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VersionLine {
    level: Level,
    min_txid: Txid,
    max_txid: Txid,
    size: u64,
    created: Timestamp,
    ended: SpanEnd,
    version_id: String,
    is_latest: bool,
    storage_class: String,
}

#[derive(Serialize)]
struct JsonVersion<'a> {
    level: u8,
    min_txid: String,
    max_txid: String,
    size: u64,
    version_id: &'a str,
    last_modified: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'static str>,
    is_latest: bool,
    storage_class: &'a str,
}

impl VersionLine {
    fn of(span: &VersionSpan<'_>) -> Option<Self> {
        let VersionSpan { ltx, version_id, created, ended, is_latest, data, .. } = *span;
        let (level, min_txid, max_txid) = ltx?;
        Some(Self {
            level,
            min_txid,
            max_txid,
            size: data.size,
            created,
            ended,
            version_id: version_id.to_owned(),
            is_latest,
            storage_class: data.storage_class.as_deref().unwrap_or("STANDARD").to_owned(),
        })
    }

    /// The end of the version's time, and the word for how it ended.
    fn end(&self) -> (Option<Timestamp>, Option<&'static str>) {
        match self.ended {
            SpanEnd::Deleted(at) => (Some(at), Some("deleted")),
            SpanEnd::Replaced(at) => (Some(at), Some("replaced")),
            SpanEnd::Not => (None, None),
        }
    }
}

/// Lists the history of the replica at `path`. Returns the lines of the levels that `-level` admits, and says on stderr
/// what the history shows.
///
/// # Errors
/// A request fails, or the service has no versions.
pub(super) async fn list(
    args: &LtxArgs,
    http: &Http,
    store: &Store,
    path: &str,
    memory: &CatalogueMemory,
    log: &Log,
) -> Result<Vec<VersionLine>, Failure> {
    let s3 = store.bucket().ok_or_else(|| Failure::usage("-versions needs a versioned S3 bucket"))?;
    let listed = list_history(http, s3, path, HistoryExtent::Whole, memory).await.map_err(|e| from_store(&e))?;
    let history = listed.history;
    summarise(&history, path, s3.bucket(), log);
    let lines = history.spans().filter_map(|span| VersionLine::of(&span));
    let mut lines: Vec<_> = lines.filter(|line| args.level.admits(line.level)).collect();
    // Stable: versions of one file stay in the order of the listing.
    lines.sort_by_key(|line| (line.level, line.min_txid, line.max_txid));
    Ok(lines)
}

/// Says what the history shows: how long it is and whether it is complete, deletions that took states away, and files
/// with several contents.
fn summarise(history: &History, path: &str, bucket: &str, log: &Log) {
    let say = |text: &str| log.essential(Severity::Info, text, &[]);
    let Some((from, to)) = history.range() else {
        return say("history: no versions of backup files lie there");
    };
    let since = history.complete_since();
    let complete = match since {
        CompleteSince::Ever => "complete".to_owned(),
        CompleteSince::Time(since) => format!("complete since {since}"),
        CompleteSince::Never => "not complete".to_owned(),
    };
    say(&format!(
        "history: {} versions and markers of {}, {from} – {to}, {complete}",
        human::thousands(history.len() as u64),
        human::count(history.keys() as u64, "file")
    ));
    if since != CompleteSince::Ever {
        log.warn(&incomplete(history, bucket, since));
    }
    for deletion in deletions(history, path) {
        say(&format!(
            "deleted: {} at {} – {}; last full state: -as-of {} ({})",
            human::count(deletion.files as u64, "file"),
            deletion.from,
            deletion.to,
            deletion.peak.at,
            reach_text(deletion.peak.reach)
        ));
    }
    let several = history.with_several_contents();
    if several > 0 {
        say(&format!(
            "replaced: {} 2 contents or more (two writers or a new lineage)",
            match several {
                1 => "1 file has".to_owned(),
                n => format!("{} files have", human::thousands(n as u64)),
            }
        ));
    }
}

/// The lines as a table with a heading.
pub(super) fn text(lines: &[VersionLine]) -> String {
    let heading = ["level", "min_txid", "max_txid", "size", "created", "until", "ended", "version_id"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(lines.iter().map(|line| {
        let (until, ended) = line.end();
        [
            line.level.to_string(),
            line.min_txid.to_string(),
            line.max_txid.to_string(),
            line.size.to_string(),
            line.created.to_string(),
            until.map_or_else(|| "-".to_owned(), |until| until.to_string()),
            ended.unwrap_or("-").to_owned(),
            crate::error::escaped(&line.version_id).to_string(),
        ]
    }));
    table(&rows)
}

/// The lines as a JSON array.
pub(super) fn json<'a>(lines: &'a [VersionLine]) -> String {
    let version = |line: &'a VersionLine| {
        let (until, ended) = line.end();
        JsonVersion {
            level: line.level.get(),
            min_txid: line.min_txid.to_string(),
            max_txid: line.max_txid.to_string(),
            size: line.size,
            version_id: &line.version_id,
            last_modified: line.created.to_string(),
            until: until.map(|until| until.to_string()),
            ended,
            is_latest: line.is_latest,
            storage_class: &line.storage_class,
        }
    };
    pretty(&lines.iter().map(version).collect::<Vec<_>>())
}
