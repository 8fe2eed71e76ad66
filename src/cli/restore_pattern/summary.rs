//! Formats the lines and tables that sum up a `restore-pattern` run.

use crate::cli::ui::{human, screen};
use crate::error::escaped;
use crate::fleet::{Discovered, Record, Shard, Totals};
use crate::telemetry::Counters;
use std::time::Duration;

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
        line.push_str(&format!(", {} in the v0.3.x format only", human::thousands(discovered.v3_only)));
    }
    if let Some(Shard { index, of }) = shard {
        line.push_str(&format!("; share {index} of {of}, {} in all", human::thousands(discovered.matched)));
    }
    let took = human::duration(Duration::from_millis(discovered.discovery_ms));
    line.push_str(&format!(" ({}, {took})", human::count(discovered.lists, "listing")));
    line
}

/// The message at the end of a run, for example
/// `restored 45, skipped 0, failed 4; 1.2 MiB from 800 KiB fetched (3.0 MiB/s); 195 requests in 0.4 s`.
pub(super) fn totals_line(totals: &Totals, counters: &Counters, took: Duration) -> String {
    let mut line = match totals.planned {
        0 => format!("restored {}", human::thousands(totals.restored)),
        planned => format!("can restore {}", human::thousands(planned)),
    };
    line.push_str(&format!(
        ", skipped {}, failed {}",
        human::thousands(totals.skipped),
        human::thousands(totals.failed)
    ));
    if totals.left > 0 {
        line.push_str(&format!(", interrupted {}", human::thousands(totals.left)));
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
    line.push_str(&match counters.lists.get() + counters.gets.get() + counters.heads.get() {
        // No requests are counted for replicas on a local disk, so their number is left out.
        0 => format!("; in {took}"),
        requests => format!("; {} in {took}", human::count(requests, "request")),
    });
    if totals.retries > 0 {
        line.push_str(&format!(", {} tried again", human::count(totals.retries, "database")));
    }
    line
}

/// One row of the table that a dry run prints: database, target path, TXID, number of files, bytes, requests.
pub(super) type Row = [String; 6];

/// Formats the row of one planned database in the table of a dry run.
pub(super) fn row(record: &Record) -> Row {
    let number = |n: Option<u64>| n.unwrap_or_default().to_string();
    [
        escaped(record.subject.name()),
        escaped(record.db_path.as_deref().unwrap_or_default()),
        record.txid.clone().unwrap_or_default(),
        number(record.files),
        number(record.bytes_fetched),
        number(record.requests),
    ]
}

/// The output of a dry run: the table, sorted by the bytes of the databases' names, and a line with the totals.
pub(super) fn plan_text(mut rows: Vec<Row>, totals: &Totals) -> String {
    rows.sort();
    rows.insert(0, ["database", "target", "txid", "files", "bytes", "requests"].map(str::to_owned));
    format!(
        "{}\n{}: {}, {} in {}\n",
        screen::table(&rows),
        human::count(totals.planned, "database"),
        human::count(totals.files, "file"),
        human::bytes(totals.bytes_fetched),
        human::count(totals.requests, "request"),
    )
}
