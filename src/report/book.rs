//! Collects the rows of a run and writes its reports, each in the format that its name's ending asks for.
//!
//! JSON is written row by row as databases end, so it takes no memory. Pages are written at the end, from sums over
//! all rows and the rows that they show.

use crate::error::{escaped, json_escaped};
use crate::report::document::{MOST_FAILURES, MOST_OTHERS, Purpose, ReportDocument, RunEnd, SCHEMA_VERSION, ShownRows};
use crate::report::file::ReportFile;
use crate::report::rows::{DatabaseRow, RowStanding};
use crate::report::tally::Tally;
use crate::report::{html, markdown};
use serde_json::json;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// A report that cannot be written.
#[derive(Debug, Error)]
#[error("cannot write the report {}: {reason}", escaped(&.path.to_string_lossy()))]
pub struct ReportError {
    /// The path of the report.
    pub path: PathBuf,
    /// Why, as the kernel says it.
    pub reason: io::Error,
}

/// The format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// One JSON document (docs/report.schema.json).
    Json,
    /// One page for browsers.
    Html,
    /// A short text for tickets.
    Markdown,
}

impl ReportFormat {
    /// The format for a file of this name: its ending decides. Everything but `.html` and `.md` is JSON.
    pub fn of(path: &Path) -> Self {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("html") => Self::Html,
            Some("md") => Self::Markdown,
            _ => Self::Json,
        }
    }
}

#[derive(Debug)]
struct OpenReport {
    path: PathBuf,
    format: ReportFormat,
    file: ReportFile,
}

/// The rows that pages will show: at most 5,000 failures and 20,000 others. What matters less gives way.
#[derive(Debug, Default)]
struct KeptRows {
    failed: Vec<DatabaseRow>,
    stale: Vec<DatabaseRow>,
    /// Rows with a result around damage or with warnings.
    noted: Vec<DatabaseRow>,
    quiet: Vec<DatabaseRow>,
}

impl KeptRows {
    /// Keeps `row`. `most_others` is the number of rows without a failure that a page can show.
    fn keep(&mut self, row: &DatabaseRow, most_others: usize) {
        let is_noted = row.standing == RowStanding::Degraded || !row.warnings.is_empty();
        match row.standing {
            RowStanding::Bad if row.verdict == "stale" => keep_later(&self.failed, &mut self.stale, MOST_FAILURES, row),
            RowStanding::Bad => keep_first(&mut self.failed, &mut self.stale, MOST_FAILURES, row),
            _ if is_noted => keep_first(&mut self.noted, &mut self.quiet, most_others, row),
            _ => keep_later(&self.noted, &mut self.quiet, most_others, row),
        }
    }

    /// The rows in the order of a page. Databases end in any order. By name, equal runs make equal pages.
    fn take(&mut self) -> ShownRows {
        let Self { mut failed, stale, noted: mut others, quiet } = std::mem::take(self);
        failed.extend(stale);
        failed.sort_by(|a, b| (a.verdict == "stale", &a.name).cmp(&(b.verdict == "stale", &b.name)));
        others.extend(quiet);
        others.sort_by(|a, b| (a.standing, &a.name).cmp(&(b.standing, &b.name)));
        ShownRows { failures: failed, others }
    }
}

/// Adds `row` to the rows that come first. If both hold `most` rows, one of the later rows gives way.
fn keep_first(first: &mut Vec<DatabaseRow>, later: &mut Vec<DatabaseRow>, most: usize, row: &DatabaseRow) {
    if first.len() + later.len() < most || later.pop().is_some() {
        first.push(row.clone());
    }
}

/// Adds `row` to the rows that come later, unless both hold `most` rows.
fn keep_later(first: &[DatabaseRow], later: &mut Vec<DatabaseRow>, most: usize, row: &DatabaseRow) {
    if first.len() + later.len() < most {
        later.push(row.clone());
    }
}

/// The reports of a run.
#[derive(Debug, Default)]
pub struct ReportBook {
    open: Vec<OpenReport>,
    /// The absolute paths of the complete JSON documents.
    complete: Vec<PathBuf>,
    tally: Tally,
    rows: KeptRows,
    is_first_row: bool,
    trouble: Option<String>,
}

impl ReportBook {
    /// Makes the files of the reports.
    ///
    /// # Errors
    /// One of them cannot be written. None is left then.
    pub fn open(paths: &[PathBuf]) -> Result<Self, ReportError> {
        let open = |path: &PathBuf| {
            let format = ReportFormat::of(path);
            let begun = ReportFile::create(path).and_then(|mut file| {
                if format == ReportFormat::Json {
                    file.write(&format!("{{\"schema_version\":{SCHEMA_VERSION},\"databases\":[\n"))?;
                }
                Ok(file)
            });
            match begun {
                Ok(file) => Ok(OpenReport { path: path.clone(), format, file }),
                Err(reason) => Err(ReportError { path: path.clone(), reason }),
            }
        };
        let open = paths.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { open, is_first_row: true, ..Self::default() })
    }

    /// Whether a report is wanted. If not, nothing is collected.
    pub fn is_wanted(&self) -> bool {
        !self.open.is_empty()
    }

    /// Adds a database that ended `at` this time since the start of the run. A report that cannot be written is
    /// given up, and [`Self::take_trouble`] says so.
    pub fn add(&mut self, row: &DatabaseRow, at: Duration) {
        if !self.is_wanted() {
            return;
        }
        self.tally.add(row, at);
        let comma = if std::mem::take(&mut self.is_first_row) { "" } else { ",\n" };
        let line = match serde_json::to_string(row) {
            Ok(text) => format!("{comma}{}", json_escaped(text)),
            Err(e) => return self.broken(ReportError { path: PathBuf::new(), reason: e.into() }),
        };
        let mut broken = None;
        self.open.retain_mut(|report| match report.format {
            ReportFormat::Json => match report.file.write(&line) {
                Ok(()) => true,
                Err(reason) => {
                    broken = Some(ReportError { path: report.path.clone(), reason });
                    false
                }
            },
            ReportFormat::Html | ReportFormat::Markdown => true,
        });
        if let Some(error) = broken {
            self.broken(error);
        }
        self.keep(row);
    }

    /// Keeps the row, if a page will show it.
    fn keep(&mut self, row: &DatabaseRow) {
        let is_asked = |format| self.open.iter().any(|report| report.format == format);
        if is_asked(ReportFormat::Html) {
            self.rows.keep(row, MOST_OTHERS);
        } else if is_asked(ReportFormat::Markdown) {
            self.rows.keep(row, markdown::MOST_SHOWN);
        }
    }

    fn broken(&mut self, error: ReportError) {
        self.trouble.get_or_insert(error.to_string());
    }

    /// Returns why a report was given up, once.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// The absolute path of a complete JSON report.
    pub fn complete_json(&self) -> Option<&Path> {
        self.complete.first().map(PathBuf::as_path)
    }

    /// Completes the reports and gives them their names. One that cannot be written does not exist then.
    pub fn finish(&mut self, end: &RunEnd) -> Vec<ReportError> {
        if !self.is_wanted() {
            return Vec::new();
        }
        let rows = self.rows.take();
        // A measurement makes several passes; it is no recovery.
        let milestones = self.tally.milestones().filter(|_| end.run.purpose != Purpose::Bench);
        let ages = self.tally.ages(end.reference.clone());
        let document = ReportDocument { end, tally: &self.tally, milestones, ages, rows: &rows };
        let mut errors = Vec::new();
        for OpenReport { path, format, mut file } in std::mem::take(&mut self.open) {
            let text = match format {
                ReportFormat::Json => json_end(&document),
                ReportFormat::Html => html::page(&document),
                ReportFormat::Markdown => markdown::text(&document),
            };
            match file.write(&text).and_then(|()| file.finish()) {
                Ok(Some(path)) if format == ReportFormat::Json => self.complete.push(path),
                Ok(_) => {}
                Err(reason) => errors.push(ReportError { path, reason }),
            }
        }
        errors
    }
}

/// What follows the rows in JSON.
fn json_end(document: &ReportDocument<'_>) -> String {
    let RunEnd { run, summary, timeline, forecast, bench, .. } = document.end;
    let mut rest = vec![("summary", json!(summary)), ("run", json!(run))];
    rest.extend(document.milestones.map(|milestones| ("milestones", json!(milestones))));
    rest.push(("ages", json!(document.ages)));
    rest.push(("timeline", json!(timeline)));
    rest.extend(forecast.as_ref().map(|forecast| ("forecast", json!(forecast))));
    rest.extend(bench.as_ref().map(|bench| ("bench", bench.clone())));
    let rest: Vec<String> = rest.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    json_escaped(format!("\n],{}}}\n", rest.join(",\n")))
}
