//! What people see of a verification: a table with the failures first, and lines that sum it up.

use super::record::DrillRecord;
use super::run_summary::DrillSummary;
use super::verdicts::Verdict;
use crate::cli::ui::human;
use crate::error::escaped;
use std::collections::BTreeMap;
use std::time::Duration;

/// The table fits a terminal of 80 columns.
const WIDTH: usize = 80;
/// At most this many databases that pass have a row each. All are in JSON.
const MOST_ROWS: usize = 50;

/// The records that the table shows: all failures, and the first 50 that pass by verdict and name.
#[derive(Default)]
pub(super) struct ShownRecords {
    failed: Vec<DrillRecord>,
    passed: BTreeMap<(Verdict, String), DrillRecord>,
    passed_count: usize,
}

impl ShownRecords {
    pub(super) fn add(&mut self, record: DrillRecord) {
        if record.verdict.is_failure() {
            return self.failed.push(record);
        }
        self.passed_count += 1;
        self.passed.insert((record.verdict, record.name.clone()), record);
        if self.passed.len() > MOST_ROWS {
            self.passed.pop_last();
        }
    }

    /// The table of all databases, the worst first.
    pub(super) fn table(&mut self) -> String {
        self.failed.sort_by(|a, b| (a.verdict, &a.name).cmp(&(b.verdict, &b.name)));
        let more = self.passed_count.saturating_sub(self.passed.len());
        table(self.failed.iter().chain(self.passed.values()), more)
    }
}

fn table<'a>(records: impl Iterator<Item = &'a DrillRecord>, more: usize) -> String {
    let mut out = format!("{:<15}{:<11}{:>6}{:>11}  {}\n", "verdict", "age", "files", "size", "database");
    for record in records {
        let state = record.state.as_ref().or(record.newest_intact.as_ref().map(|intact| &intact.state));
        let age = state.map_or_else(|| "-".to_owned(), |state| human::age(state.age_seconds));
        let size = record.bytes.map_or_else(|| "-".to_owned(), human::bytes);
        let row = format!("{:<15}{age:<11}{:>6}{size:>11}  ", record.verdict.as_str(), record.files);
        out.push_str(&format!(
            "{row}{}\n",
            shortened(&escaped(&record.name), WIDTH.saturating_sub(row.chars().count()))
        ));
        if let Some(reason) = &record.reason {
            out.push_str(&indented(&escaped(reason)));
        }
        if let Some(intact) = &record.newest_intact {
            let text = format!("the newest state that can be had is of {}:", intact.state.timestamp);
            out.push_str(&indented(&text));
            // A command is one line, so that it can be copied.
            out.push_str(&format!("    {}\n", intact.command));
        }
        for query in &record.queries {
            let answer = match (&query.row, &query.error) {
                (Some(row), _) => row.join(" | "),
                (None, error) => error.clone().unwrap_or_default(),
            };
            out.push_str(&indented(&escaped(&format!("{}: {answer}", query.sql))));
        }
    }
    if more > 0 {
        out.push_str(&format!("and {} more that pass\n", human::count(more as u64, "database")));
    }
    out
}

/// The lines that sum a verification up, the most important first.
pub(super) fn summary_lines(summary: &DrillSummary, matched: u64) -> Vec<String> {
    let counts = Verdict::ALL.into_iter().filter(|verdict| summary.count(*verdict) > 0);
    let counts: Vec<String> =
        counts.map(|verdict| format!("{} {}", human::thousands(summary.count(verdict)), verdict.as_str())).collect();
    let (fetched, requests, seconds) = summary.amounts();
    let took = human::duration(Duration::from_secs_f64(seconds));
    let of = if matched > summary.databases() { format!(" of {}", human::thousands(matched)) } else { String::new() };
    let mut lines = vec![format!(
        "verified {}{of}: {}; {} in files, {} in {took}",
        human::count(summary.databases(), "database"),
        counts.join(", "),
        human::bytes(fetched),
        human::count(requests, "request"),
    )];
    if let Some(oldest) = &summary.oldest_state {
        let age = human::age(oldest.age_seconds);
        lines.push(format!("oldest state: {age} old ({}), {}", oldest.timestamp, escaped(&oldest.name)));
    }
    if let Some(forecast) = &summary.forecast {
        let seconds = |seconds: f64| human::duration(Duration::from_secs_f64(seconds));
        let disk = match forecast.disk_bytes_per_second {
            Some(speed) => format!("the disk writes {}", human::speed(speed)),
            None => "disk not measured (-scratch or -output-dir)".to_owned(),
        };
        let free = forecast.bytes_free.map_or_else(String::new, |free| format!(" of {} free", human::bytes(free)));
        lines.push(format!(
            "a restore here would take about {} for half and {} for all ({}{free}), held back by {}; {disk}",
            seconds(forecast.half_seconds),
            seconds(forecast.all_seconds),
            human::bytes(forecast.bytes_needed),
            forecast.limited_by,
        ));
        let hosts = forecast.hosts.iter().map(|of| format!("{} hosts {}", of.hosts, seconds(of.all_seconds)));
        lines.push(format!("with -shard: {}", hosts.collect::<Vec<_>>().join(", ")));
    }
    lines
}

/// The text in lines of at most 80 columns, each after four spaces.
fn indented(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH - 4 {
            out.push_str(&format!("    {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&format!("    {line}\n"));
    out
}

/// The text, or its end after an ellipsis if it is longer than `most` characters.
fn shortened(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most || most < 2 {
        return text.to_owned();
    }
    std::iter::once('…').chain(text.chars().skip(count - most + 1)).collect()
}
