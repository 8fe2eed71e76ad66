//! Reports each database of a `restore-pattern` run when it has ended: by a message on stderr, a line of JSON on
//! stdout (`-json`), or a row of the table that a dry run prints.

use super::summary::{MAX_FAILURES_SHOWN, Row, found_line, plan_row, recovery_point_line};
use crate::cli::args::resolved::RestorePatternArgs;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::{human, screen};
use crate::cli::warnings;
use crate::error::escaped;
use crate::fleet::{Ended, Ending, Instead, OnlyFound, RunEvent, RunSummary, Subject};
use std::path::Path;
use std::time::Instant;

/// At most 20 warnings about databases are shown on stderr without `-v`. All of them are in the report.
const MAX_WARNINGS_SHOWN: u64 = 20;

/// At most 20 skipped databases are shown with `-v`. With `-vv` all are.
const MAX_SKIPS_SHOWN: u64 = 20;
/// At most 5 names in the file of `-only` that are no database's are shown.
const MAX_NAMES_SHOWN: usize = 5;

/// Adds each event of a run to the summary, and reports it to the user.
pub(super) struct Reporter<'a> {
    args: &'a RestorePatternArgs,
    log: &'a Log,
    summary: &'a mut RunSummary,
    /// The start of the run.
    begun: Instant,
    /// The table of a dry run: one row per planned database.
    rows: Vec<Row>,
    /// Number of warnings about databases so far. It is compared with [`MAX_WARNINGS_SHOWN`].
    warnings: u64,
    /// If nothing matches: what lies there instead.
    instead: Option<Instead>,
    /// The first failure to write to stdout. After it, no more JSON is printed.
    stdout_failure: Option<Failure>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(args: &'a RestorePatternArgs, log: &'a Log, summary: &'a mut RunSummary, begun: Instant) -> Self {
        Self { args, log, summary, begun, rows: Vec::new(), warnings: 0, instead: None, stdout_failure: None }
    }

    /// Ends the reporting and returns the rows of a dry run's table.
    ///
    /// # Errors
    /// A line of JSON could not be written to stdout.
    pub(super) fn finish(self) -> Result<Vec<Row>, Failure> {
        self.stdout_failure.map_or(Ok(self.rows), Err)
    }

    /// What lies there instead, if nothing matches.
    pub(super) fn take_instead(&mut self) -> Option<Instead> {
        self.instead.take()
    }

    /// Adds one event of the run to the summary and reports it.
    pub(super) fn event(&mut self, event: RunEvent) {
        match event {
            RunEvent::ListingAgain(e) => self.log.warn(&format!("listing again: {e}")),
            RunEvent::PutRight(notice) => warnings::of_notice(self.log, &notice),
            RunEvent::LittleSpace(little) => warnings::of_little_space(self.log, &little),
            RunEvent::Ended(ended) => self.ended(&ended),
            RunEvent::AllFound { discovered, unmatched_first, only, warnings, instead, recovery_point } => {
                warnings.iter().for_each(|warning| self.warning(warning, &[]));
                self.instead = instead;
                self.log.info(&found_line(&discovered, self.args.shard));
                if let Some(time) = recovery_point {
                    self.log.info(&recovery_point_line(time, &self.args.catalogue));
                }
                self.summary.recovery_point = recovery_point;
                if discovered.matched > 0 {
                    for glob in unmatched_first.iter().filter_map(|index| self.args.first.get(*index)) {
                        self.log.warn(&format!("no database matches --first {glob}"));
                    }
                    only.iter().for_each(|only| self.only_found(only));
                }
                self.summary.found(discovered);
                self.trouble();
            }
        }
    }

    /// Reports which databases `--only` has chosen.
    fn only_found(&self, found: &OnlyFound) {
        let file = self.args.only.as_deref().unwrap_or(Path::new("")).display();
        let count = human::count(found.databases as u64, "database");
        self.log.info(&format!("{count} of them named in {file}"));
        if !found.unmatched.is_empty() {
            let names: Vec<_> = found.unmatched.iter().take(MAX_NAMES_SHOWN).map(|name| escaped(name)).collect();
            let (unmatched, names) = (human::count(found.unmatched.len() as u64, "name"), names.join(", "));
            self.log.warn(&format!("{unmatched} in {file} that no database of the pattern has: {names}"));
        }
    }

    /// Reports that error log or report cannot be written.
    fn trouble(&mut self) {
        if let Some(trouble) = self.summary.take_trouble() {
            self.log.essential(Severity::Warn, &trouble, &[]);
        }
    }

    /// Reports a database that was restored or planned, has failed or was skipped.
    fn ended(&mut self, ended: &Ended) {
        let (args, log) = (self.args, self.log);
        let command = match (&ended.ending, &ended.subject) {
            (Ending::Failed { .. }, Subject::Database(database)) => args
                .repeat
                .as_ref()
                .and_then(|repeat| repeat.of(database.name(), database.path(), ended.output.as_deref())),
            _ => None,
        };
        let row = self.summary.add(ended, self.begun.elapsed(), command);
        self.trouble();
        if args.json && self.stdout_failure.is_none() {
            self.stdout_failure = screen::print(&row.to_json_line()).err();
        }
        let name = escaped(&row.name);
        let path = row.db_path.as_deref().map(|path| ("path", path));
        let class = row.class.map(|class| ("class", class));
        let keys: Vec<_> = [("database", row.name.as_str())].into_iter().chain(path).chain(class).collect();
        for warning in &row.warnings {
            self.warning(&format!("{name}: {warning}"), &keys);
        }
        match &ended.ending {
            Ending::Failed { .. } => self.failed(&name, row.reason.as_deref().unwrap_or_default(), &keys),
            Ending::Skipped(why) => self.skipped(&format!("{name}: {why}, skipping"), &keys),
            Ending::Restored { outcome, .. } if log.shows(Severity::Debug) => log.about(
                Severity::Debug,
                &format!(
                    "restored {name}: {} at {} in {}",
                    human::bytes(outcome.bytes_out),
                    screen::state(outcome.txid, outcome.v3.as_ref()),
                    human::duration(ended.elapsed)
                ),
                &keys,
            ),
            Ending::Restored { .. } | Ending::Rehearsed(_) | Ending::Verified(_) => {}
            Ending::Planned(_) if args.json => {}
            Ending::Planned(_) => self.rows.push(plan_row(&row)),
        }
    }

    /// Logs a warning about one database. Beyond [`MAX_WARNINGS_SHOWN`], warnings are shown only with `-v`.
    fn warning(&mut self, text: &str, keys: &[(&str, &str)]) {
        self.warnings += 1;
        let severity = if self.warnings <= MAX_WARNINGS_SHOWN { Severity::Warn } else { Severity::Debug };
        self.log.about(severity, text, keys);
        if self.warnings == MAX_WARNINGS_SHOWN {
            self.log.warn("further warnings are shown with -v, and in the report");
        }
    }

    /// Logs the failure of the database `name`. Beyond [`MAX_FAILURES_SHOWN`], failures are shown only with `-v`,
    /// unless there is no error log: then stderr is the only place where they all are.
    fn failed(&self, name: &str, reason: &str, keys: &[(&str, &str)]) {
        let failed = self.summary.totals.failed;
        let line = format!("{name}: {reason}");
        let is_elsewhere = self.summary.is_logged() || self.args.dry_run;
        if failed <= MAX_FAILURES_SHOWN || !is_elsewhere {
            self.log.essential(Severity::Warn, &line, keys);
        } else {
            self.log.about(Severity::Debug, &line, keys);
        }
        if failed == MAX_FAILURES_SHOWN && is_elsewhere {
            let place = match self.summary.failures_file() {
                Some(log) => format!("in {}", log.display()),
                None => "shown with -v, and in the report".to_owned(),
            };
            self.log.warn(&format!("further failures are {place}"));
        }
    }

    /// Logs a skipped database with `-v`, and beyond [`MAX_SKIPS_SHOWN`] with `-vv`. The summary counts all.
    fn skipped(&self, text: &str, keys: &[(&str, &str)]) {
        let skipped = self.summary.totals.skipped;
        let severity = if skipped <= MAX_SKIPS_SHOWN { Severity::Debug } else { Severity::Trace };
        self.log.about(severity, text, keys);
        if skipped == MAX_SKIPS_SHOWN {
            self.log.debug("further skipped databases are shown with -vv, and in the report");
        }
    }
}
