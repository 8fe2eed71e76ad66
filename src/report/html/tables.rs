//! The tables of a page: failed databases first, then the others.

use crate::error::escaped;
use crate::human;
use crate::report::answer::shown_time;
use crate::report::document::{ReportDocument, ShownRows};
use crate::report::rows::{DatabaseRow, NewestIntact, QueryAnswer, RowStanding};
use maud::{Markup, html};

/// One column of the table of databases that did not fail.
struct Column {
    title: &'static str,
    is_number: bool,
    cell: fn(&DatabaseRow) -> Option<Cell>,
}

/// The text of a cell, and the number to sort by where the text is not that number.
type Cell = (String, Option<u64>);

const COLUMNS: [Column; 13] = [
    Column { title: "Outcome", is_number: false, cell: |row| Some((outcome(row), None)) },
    Column { title: "State (UTC)", is_number: false, cell: |row| Some((time(row)?, None)) },
    Column { title: "Age", is_number: true, cell: |row| row.age_seconds.map(|age| (human::age(age), Some(age))) },
    Column { title: "TXID", is_number: false, cell: |row| Some((position(row)?, None)) },
    Column { title: "Reaches back to", is_number: false, cell: |row| Some((plain_time(row.oldest.as_deref()?), None)) },
    Column { title: "Files", is_number: true, cell: |row| Some((row.files?.to_string(), None)) },
    Column {
        title: "Without another chain",
        is_number: true,
        cell: |row| Some((row.files_without_another_chain?.to_string(), None)),
    },
    Column {
        title: "Fetched",
        is_number: true,
        cell: |row| row.bytes_fetched.map(|bytes| (human::bytes(bytes), Some(bytes))),
    },
    Column { title: "Size", is_number: true, cell: |row| row.bytes.map(|bytes| (human::bytes(bytes), Some(bytes))) },
    Column { title: "Requests", is_number: true, cell: |row| Some((row.requests?.to_string(), None)) },
    Column {
        title: "Retries",
        is_number: true,
        cell: |row| (row.retries > 0).then(|| (row.retries.to_string(), None)),
    },
    Column { title: "Seconds", is_number: true, cell: |row| Some((format!("{:.3}", row.seconds?), None)) },
    Column { title: "Answers", is_number: false, cell: |row| Some((escaped(&answers(row)?), None)) },
];

fn outcome(row: &DatabaseRow) -> String {
    match row.standing {
        RowStanding::Skipped => {
            let reason = row.reason.as_deref().map(|reason| format!(": {}", escaped(reason)));
            format!("{}{}", row.word(), reason.unwrap_or_default())
        }
        RowStanding::Degraded if row.lost.is_some() => format!("{}, not the newest", row.word()),
        RowStanding::Degraded if row.verdict.is_empty() => format!("{}, around damage", row.word()),
        _ => row.word().to_owned(),
    }
}

/// The time of the state. One that the listing shows may be that of a copy, and is marked.
fn time(row: &DatabaseRow) -> Option<String> {
    let time = plain_time(row.timestamp.as_deref()?);
    Some(if row.time_source == Some("last_modified") { format!("{time} (listing)") } else { time })
}

/// A time without what all have in common.
fn plain_time(time: &str) -> String {
    time.replacen('T', " ", 1).trim_end_matches('Z').to_owned()
}

/// How far the state goes: a TXID, or generation, index and offset.
fn position(row: &DatabaseRow) -> Option<String> {
    if let Some(generation) = &row.generation {
        let place = [&row.index, &row.offset].into_iter().flatten().map(|part| format!("/{part}"));
        return Some(format!("{generation}{}", place.collect::<String>()));
    }
    // Leading zeros say nothing, and take the space that names need.
    let digits = row.txid.as_deref()?.trim_start_matches('0');
    Some(if digits.is_empty() { "0" } else { digits }.to_owned())
}

/// The answers to the queries of a drill.
fn answers(row: &DatabaseRow) -> Option<String> {
    let one = |answer: &QueryAnswer| {
        let result = match (&answer.error, &answer.row) {
            (Some(error), _) => error.clone(),
            (None, Some(values)) => values.join(" | "),
            (None, None) => "no row".to_owned(),
        };
        format!("{}: {result}", answer.sql)
    };
    (!row.queries.is_empty()).then(|| row.queries.iter().map(one).collect::<Vec<_>>().join("; "))
}

/// How far the newest intact state goes.
fn intact_place(intact: &NewestIntact) -> String {
    match (&intact.txid, &intact.generation) {
        (Some(txid), _) => format!("TXID {txid}"),
        (None, Some(generation)) => {
            let place = [&intact.index, &intact.offset].into_iter().flatten().map(|part| format!("/{part}"));
            format!("generation {generation}{}", place.collect::<String>())
        }
        (None, None) => "a state".to_owned(),
    }
}

/// The reason without its class, which has a column of its own.
fn bare_reason(row: &DatabaseRow) -> &str {
    let reason = row.reason.as_deref().unwrap_or_default();
    let bare = row.class.and_then(|class| reason.strip_prefix(class)?.strip_prefix(": "));
    bare.unwrap_or(reason)
}

/// At most 8 notes of a database are shown, and the rest is counted.
const MOST_NOTES: usize = 8;

/// What is damaged or lost, and warnings, for people.
fn notes(row: &DatabaseRow) -> Vec<String> {
    let all = row.notes();
    let more = all.len().saturating_sub(MOST_NOTES);
    let shown = all.into_iter().take(MOST_NOTES).map(|note| escaped(note).to_string());
    shown.chain((more > 0).then(|| format!("and {more} more, which a report in JSON holds"))).collect()
}

/// The failed databases. None: there are none.
pub(super) fn failures(document: &ReportDocument<'_>) -> Option<Markup> {
    let ShownRows { failures, .. } = document.rows;
    let all = document.tally.count(RowStanding::Bad);
    if all == 0 {
        return None;
    }
    let tally = document.tally;
    let has_commands = failures.iter().any(|row| row.command.is_some());
    Some(html! {
        section #failures {
            h2 { (document.end.run.purpose.failed_heading(all)) }
            @if !tally.classes.is_empty() {
                p {
                    "By class: "
                    @for (index, (class, count)) in tally.classes.iter().enumerate() {
                        @if index > 0 { ", " }
                        (human::thousands(*count)) " " (class)
                    }
                    "."
                }
            }
            @if (failures.len() as u64) < all { p { (left_out(failures.len(), all, "failed databases")) } }
            div .scroll {
                table .fails data-sort {
                    thead {
                        tr {
                            th scope="col" { "Database" }
                            th scope="col" { "Class" }
                            th scope="col" { "Reason" @if has_commands { ", and the command that does it again" } }
                            th .n scope="col" { "Seconds" }
                        }
                    }
                    tbody {
                        @for row in failures {
                            tr {
                                td { (escaped(&row.name)) }
                                td { (row.class.unwrap_or(row.word())) }
                                td {
                                    (escaped(bare_reason(row)))
                                    @for note in notes(row) { small { (note) } }
                                    @if let Some(answers) = answers(row) { small { (escaped(&answers)) } }
                                    @if let Some(command) = &row.command { code { (escaped(command)) } }
                                    @if let Some(intact) = &row.newest_intact {
                                        small {
                                            "Newest intact state: " (intact_place(intact)) ", "
                                            (shown_time(&intact.timestamp)) " (" (intact.time_source) "), "
                                            (human::age(intact.age_seconds)) " old"
                                        }
                                        @if let Some(command) = &intact.command { code { (escaped(command)) } }
                                    }
                                }
                                td .n { (row.seconds.map(|seconds| format!("{seconds:.3}")).unwrap_or_default()) }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// The databases with a result around damage, or with warnings. None: there are none.
pub(super) fn noted(document: &ReportDocument<'_>) -> Option<Markup> {
    let noted: Vec<&DatabaseRow> = document.rows.others.iter().filter(|row| !row.notes().is_empty()).collect();
    if noted.is_empty() {
        return None;
    }
    Some(html! {
        section #noted .later {
            h2 { (human::count(noted.len() as u64, "database")) " with warnings" }
            div .scroll {
                table .notes data-sort {
                    thead { tr { th scope="col" { "Database" } th scope="col" { "Warnings" } th scope="col" { "Outcome" } } }
                    tbody {
                        @for row in &noted {
                            tr {
                                td { (escaped(&row.name)) }
                                td { @for note in notes(row) { p { (note) } } }
                                td { (outcome(row)) }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// The databases that did not fail. None: there are none.
pub(super) fn others(document: &ReportDocument<'_>) -> Option<Markup> {
    let ShownRows { others, .. } = document.rows;
    let all = document.tally.databases() - document.tally.count(RowStanding::Bad);
    if all == 0 {
        return None;
    }
    // A column without any value is left out.
    let columns: Vec<&Column> =
        COLUMNS.iter().filter(|column| others.iter().any(|row| (column.cell)(row).is_some())).collect();
    Some(html! {
        section #others .later {
            h2 { @if document.rows.failures.is_empty() { "Databases" } @else { "All other databases" } }
            @if (others.len() as u64) < all { p { (left_out(others.len(), all, "databases")) } }
            div .scroll {
                table .rows data-sort {
                    thead {
                        tr {
                            th scope="col" { "Database" }
                            @for column in &columns { th scope="col" class=[column.is_number.then_some("n")] { (column.title) } }
                        }
                    }
                    tbody {
                        @for row in others {
                            tr {
                                td { (escaped(&row.name)) }
                                @for column in &columns { (cell(column, row)) }
                            }
                        }
                    }
                }
            }
        }
    })
}

fn cell(column: &Column, row: &DatabaseRow) -> Markup {
    let (text, value) = (column.cell)(row).unwrap_or_default();
    html! { td class=[column.is_number.then_some("n")] data-v=[value] { (text) } }
}

fn left_out(shown: usize, all: u64, what: &str) -> String {
    format!(
        "{} of {} {what} are shown here. A report with another ending, as report.json, holds all of them.",
        human::thousands(shown as u64),
        human::thousands(all)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_notes_are_counted() {
        let of = |n: usize| {
            let damaged = (0..n).map(|i| format!("f{i} is torn")).collect();
            notes(&DatabaseRow { damaged, lost: Some("the newest".to_owned()), ..DatabaseRow::default() })
        };
        assert_eq!(of(1), ["the newest", "f0 is torn"]);
        assert_eq!((of(7).len(), of(7)[7].as_str()), (8, "f6 is torn"));
        assert_eq!((of(9).len(), of(9)[8].as_str()), (9, "and 2 more, which a report in JSON holds"));
    }

    #[test]
    fn cells() {
        let mut row = DatabaseRow {
            outcome: "restored",
            txid: Some("000000000000001f".to_owned()),
            timestamp: Some("2026-09-21T14:13:20Z".to_owned()),
            time_source: Some("last_modified"),
            standing: RowStanding::Degraded,
            ..DatabaseRow::default()
        };
        assert_eq!(outcome(&row), "restored, around damage");
        assert_eq!(time(&row).as_deref(), Some("2026-09-21 14:13:20 (listing)"));
        assert_eq!(position(&row).as_deref(), Some("1f"));
        row.txid = Some("0000000000000000".to_owned());
        assert_eq!(position(&row).as_deref(), Some("0"));
        (row.generation, row.index, row.offset) =
            (Some("0123456789abcdef".to_owned()), Some("00000011".to_owned()), Some("00001020".to_owned()));
        assert_eq!(position(&row).as_deref(), Some("0123456789abcdef/00000011/00001020"));
        let markup = cell(&COLUMNS[7], &DatabaseRow { bytes_fetched: Some(2048), ..row }).into_string();
        assert_eq!(markup, r#"<td class="n" data-v="2048">2.0 KiB</td>"#);
    }
}
