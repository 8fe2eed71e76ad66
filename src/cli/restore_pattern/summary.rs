//! Formats the lines and tables that sum up a `restore-pattern` run.

use crate::cli::args::resolved::CatalogueArgs;
use crate::cli::ui::{human, screen};
use crate::error::escaped;
use crate::fleet::{Discovered, FrequentReason, RunSummary, Shard, Totals};
use crate::report::DatabaseRow;
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use std::path::Path;
use std::time::Duration;

/// At most 20 failures of databases are shown on stderr without `-v`, so that they do not flood the terminal. All of
/// them are in the error log and in the report.
pub(super) const MAX_FAILURES_SHOWN: u64 = 20;

/// The message when all databases were found, for example
/// `found 49 databases in 22 folders: 47 with backups, 2 without (3 listings, 120 ms)`.
pub(super) fn found_line(discovered: &Discovered, shard: Option<Shard>) -> String {
    let mut line = format!(
        "found {} in {}: {} with backups, {} without",
        human::count(discovered.databases, "database"),
        human::count(discovered.folders, "folder"),
        human::thousands(discovered.with_backups),
        human::thousands(discovered.without_backups),
    );
    if discovered.v3_only > 0 {
        line.push_str(&format!(", {} in Litestream 0.3's format", human::thousands(discovered.v3_only)));
    }
    if let Some(Shard { index, of }) = shard {
        line.push_str(&format!("; share {index} of {of}, {} in all", human::thousands(discovered.matched)));
    }
    let took = human::duration(Duration::from_millis(discovered.discovery_ms));
    line.push_str(&format!(" ({}, {took})", human::count(discovered.lists, "listing")));
    line
}

/// The message about the catalogue of a run, for example
/// `states as of 2026-01-31T12:00:00Z, 3 hours ago, from the catalogue fleet.cat`.
pub(in crate::cli) fn recovery_point_line(time: Timestamp, catalogue: &CatalogueArgs) -> String {
    let age = human::age(time.seconds_until(Timestamp::now()));
    let file = catalogue.path().unwrap_or(Path::new("")).display();
    let source = if catalogue.written().is_some() { "saved in" } else { "from" };
    format!("states as of {}, {age} ago, {source} the catalogue {file}", time.to_rfc3339_seconds())
}

/// The message at the end of a run, for example
/// `restored 45, skipped 0, failed 4; 1.2 MiB from 800 KiB fetched (3.0 MiB/s); 195 requests in 0.4 s`.
pub(super) fn totals_line(totals: &Totals, counters: &Counters, took: Duration) -> String {
    let mut line = match totals.planned {
        0 => format!("restored {}", human::thousands(totals.restored)),
        planned => format!("can restore {}", human::thousands(planned)),
    };
    line.push_str(&format!(
        ", skipped {}{}, failed {}",
        human::thousands(totals.skipped),
        if totals.skipped > 0 { format!(" ({})", totals.skips()) } else { String::new() },
        human::thousands(totals.failed)
    ));
    if totals.left > 0 {
        line.push_str(&format!(", interrupted {}", human::thousands(totals.left)));
    }
    if totals.not_started > 0 {
        line.push_str(&format!(", not started {}", human::thousands(totals.not_started)));
    }
    if totals.restored > 0 {
        line.push_str(&format!(
            "; {} from {} fetched ({})",
            human::bytes(totals.bytes),
            human::bytes(totals.bytes_fetched),
            human::speed(totals.bytes as f64 / took.as_secs_f64().max(0.001)),
        ));
    }
    let took = human::duration(took);
    line.push_str(&match counters.sent() {
        // No requests are counted for replicas on a local disk, so their number is left out.
        0 => format!("; in {took}"),
        requests => format!("; {} in {took}", human::count(requests, "request")),
    });
    if totals.tried_again > 0 {
        line.push_str(&format!(", {} tried again", human::count(totals.tried_again, "database")));
    }
    if totals.retries > totals.tried_again {
        line.push_str(&format!(" ({} times)", human::thousands(totals.retries)));
    }
    line
}

/// The messages after the totals: the age of the states, damage that was avoided, and the most frequent reasons.
pub(super) fn further_lines(summary: &RunSummary, dry_run: bool) -> Vec<String> {
    let (totals, ages) = (&summary.totals, &summary.ages);
    let mut lines = Vec::new();
    if let Some((name, state)) = ages.oldest() {
        let age = human::age(state.age_seconds(ages.reference()));
        let source = if state.source == "header" { "" } else { ", by the listing" };
        let mut line =
            format!("oldest state: {age} old ({}{source}), {}", state.time.to_rfc3339_seconds(), escaped(name));
        if ages.older_than_a_day > 0 {
            line.push_str(&format!("; {} older than a day", human::count(ages.older_than_a_day, "database")));
        }
        lines.push(line);
    }
    let named = |what: &str, count: u64, names: &[String]| {
        let more = if (names.len() as u64) < count { ", …" } else { "" };
        let names = names.iter().map(|name| escaped(name)).collect::<Vec<_>>().join(", ");
        format!("{what}: {}: {names}{more}", human::count(count, "database"))
    };
    if totals.not_newest > 0 {
        let names = &totals.not_newest_names;
        lines.push(named("older than the newest state, which cannot be had", totals.not_newest, names));
    }
    if totals.moved > 0 {
        lines.push(named("moved on to a newer state than the catalogue's", totals.moved, &totals.moved_names));
    }
    if totals.around_damage > 0 {
        lines.push(named("restored around damaged files", totals.around_damage, &totals.around_damage_names));
    }
    // Fewer failures have all been shown.
    if totals.failed > MAX_FAILURES_SHOWN {
        let what = if dry_run { "the most frequent obstacles" } else { "the most frequent reasons" };
        let shown =
            |reason: &&FrequentReason| format!("{} times: {}: {}", reason.count, escaped(&reason.name), reason.reason);
        lines.extend(totals.reasons.most_frequent().iter().map(shown).map(|shown| format!("{what}: {shown}")));
    }
    lines
}

/// One row of the table that a dry run prints: database, target path, TXID (for files of Litestream 0.3 generation and
/// index), number of files, bytes, requests, the time
/// of the state and its age.
pub(super) type Row = [String; 8];

/// Formats the row of one planned database in the table of a dry run.
pub(super) fn plan_row(row: &DatabaseRow) -> Row {
    let number = |n: Option<u64>| n.unwrap_or_default().to_string();
    [
        escaped(&row.name),
        escaped(row.db_path.as_deref().unwrap_or_default()),
        row.place().unwrap_or_else(|| row.txid.clone().unwrap_or_default()),
        number(row.files),
        number(row.bytes_fetched),
        number(row.requests),
        row.timestamp.clone().unwrap_or_default(),
        row.age_seconds.map(human::age).unwrap_or_default(),
    ]
}

/// The output of a dry run: the table, sorted by the bytes of the databases' names, and a line with the totals.
pub(super) fn plan_text(mut rows: Vec<Row>, totals: &Totals) -> String {
    rows.sort();
    rows.insert(0, ["database", "target", "txid", "files", "bytes", "requests", "state", "age"].map(str::to_owned));
    format!(
        "{}\n{}: {}, {} in {}\n",
        screen::table(&rows),
        human::count(totals.planned, "database"),
        human::count(totals.files, "file"),
        human::bytes(totals.bytes_fetched),
        human::count(totals.requests, "request"),
    )
}
