//! Reports each database of a `restore-pattern` run when it has ended: by a message on stderr, a line of JSON on
//! stdout (`-json`), or a row of the table that a dry run prints.

use super::summary::{Row, found_line, row};
use crate::cli::args::resolved::RestorePatternArgs;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::{human, screen};
use crate::error::escaped;
use crate::fleet::{Ended, Ending, RunEvent, RunSummary};

/// At most 20 failures of databases are shown on stderr without `-v`, so that they do not flood the terminal. All of
/// them are in the error log and in the report.
const MAX_FAILURES_SHOWN: u64 = 20;
/// At most 20 warnings about databases are shown on stderr without `-v`. All of them are in the report.
const MAX_WARNINGS_SHOWN: u64 = 20;

/// Adds each event of a run to the summary, and reports it to the user.
pub(super) struct Reporter<'a> {
    args: &'a RestorePatternArgs,
    log: &'a Log,
    summary: &'a mut RunSummary,
    /// The table of a dry run: one row per planned database.
    rows: Vec<Row>,
    /// Number of warnings about databases so far. It is compared with [`MAX_WARNINGS_SHOWN`].
    warnings: u64,
    /// If nothing matches: what lies there instead.
    instead: Option<String>,
    /// The first failure to write to stdout. After it, no more JSON is printed.
    stdout_failure: Option<Failure>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(args: &'a RestorePatternArgs, log: &'a Log, summary: &'a mut RunSummary) -> Self {
        Self { args, log, summary, rows: Vec::new(), warnings: 0, instead: None, stdout_failure: None }
    }

    /// Ends the reporting and returns the rows of a dry run's table.
    ///
    /// # Errors
    /// A line of JSON could not be written to stdout.
    pub(super) fn finish(self) -> Result<Vec<Row>, Failure> {
        self.stdout_failure.map_or(Ok(self.rows), Err)
    }

    /// What lies there instead, if nothing matches.
    pub(super) fn take_instead(&mut self) -> Option<String> {
        self.instead.take()
    }

    /// Adds one event of the run to the summary and reports it.
    pub(super) fn event(&mut self, event: RunEvent) {
        match event {
            RunEvent::ListingAgain(e) => self.log.warn(&format!("listing again: {e}")),
            RunEvent::PutRight(notice) => self.log.warn(&notice.to_string()),
            RunEvent::LittleSpace(little) => self.log.warn(&format!(
                "about {} of files, {} free below {}",
                human::bytes(little.estimated_bytes),
                human::bytes(little.free_bytes),
                escaped(&little.below.to_string_lossy())
            )),
            RunEvent::Ended(ended) => self.ended(&ended),
            RunEvent::AllFound { discovered, any_first, warnings, instead } => {
                warnings.iter().for_each(|warning| self.warning(warning));
                self.instead = instead;
                self.log.info(&found_line(&discovered, self.args.shard));
                if !any_first && !self.args.first.is_empty() && discovered.matched > 0 {
                    self.log.warn("no database matches --first");
                }
                self.summary.discovered = discovered;
            }
        }
    }

    /// Reports a database that was restored or planned, has failed or was skipped.
    fn ended(&mut self, ended: &Ended) {
        let (args, log) = (self.args, self.log);
        let record = self.summary.add(ended);
        if let Some(trouble) = self.summary.take_trouble() {
            log.warn(&trouble);
        }
        if args.json && self.stdout_failure.is_none() {
            self.stdout_failure = screen::print(&record.to_json_line()).err();
        }
        let name = escaped(record.subject.name());
        for warning in &record.warnings {
            self.warning(&format!("{name}: {warning}"));
        }
        match &ended.ending {
            Ending::Failed { .. } => self.failed(&name, record.reason.as_deref().unwrap_or_default()),
            Ending::Skipped(why) => log.debug(&format!("{name}: {why}, skipping")),
            Ending::Restored { outcome, .. } if log.shows(Severity::Debug) => log.debug(&format!(
                "restored {name}: {} at txid {} in {}",
                human::bytes(outcome.bytes_out),
                outcome.txid,
                human::duration(ended.elapsed)
            )),
            Ending::Restored { .. } | Ending::Rehearsed(_) => {}
            Ending::Planned(_) if args.json => {}
            Ending::Planned(_) => self.rows.push(row(&record)),
        }
    }

    /// Logs a warning about one database. Beyond [`MAX_WARNINGS_SHOWN`], warnings are shown only with `-v`.
    fn warning(&mut self, text: &str) {
        self.warnings += 1;
        let severity = if self.warnings <= MAX_WARNINGS_SHOWN { Severity::Warn } else { Severity::Debug };
        self.log.say(severity, text, &[]);
        if self.warnings == MAX_WARNINGS_SHOWN {
            self.log.warn("further warnings are shown with -v, and in the report");
        }
    }

    /// Logs the failure of the database `name`. Beyond [`MAX_FAILURES_SHOWN`], failures are shown only with `-v`.
    fn failed(&self, name: &str, reason: &str) {
        let failed = self.summary.totals.failed;
        let line = format!("{name}: {reason}");
        match failed {
            ..=MAX_FAILURES_SHOWN => self.log.warn(&line),
            _ => self.log.debug(&line),
        }
        if failed == MAX_FAILURES_SHOWN && !self.args.dry_run {
            self.log.warn(&format!("further failures are in {}", self.args.error_log.display()));
        }
    }
}
