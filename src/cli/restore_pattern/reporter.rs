//! What is said while a run goes on: a message, a line of JSON or a row of a table for each database.

use super::summary::{Row, found_line, row};
use crate::cli::args::resolved::RestorePatternArgs;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::{human, screen};
use crate::error::escaped;
use crate::fleet::{Ended, Ending, RunEvent, RunSummary};

/// This many failures are shown on stderr; with `-v`, and in the error log and the report, all are.
const MAX_FAILURES_SHOWN: u64 = 20;
/// This many warnings are shown on stderr; with `-v`, and in the report, all are.
const MAX_WARNINGS_SHOWN: u64 = 20;

/// Records each event of a run in the summary, and reports it.
pub(super) struct Reporter<'a> {
    args: &'a RestorePatternArgs,
    log: &'a Log,
    summary: &'a mut RunSummary,
    /// The table of a dry run.
    rows: Vec<Row>,
    warnings: u64,
    /// The first failure to write to stdout. No JSON is printed after it.
    stdout_failure: Option<Failure>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(args: &'a RestorePatternArgs, log: &'a Log, summary: &'a mut RunSummary) -> Self {
        Self { args, log, summary, rows: Vec::new(), warnings: 0, stdout_failure: None }
    }

    /// The table of a dry run.
    ///
    /// # Errors
    /// stdout could not be written to.
    pub(super) fn finish(self) -> Result<Vec<Row>, Failure> {
        self.stdout_failure.map_or(Ok(self.rows), Err)
    }

    pub(super) fn event(&mut self, event: RunEvent) {
        match event {
            RunEvent::ListingAgain(e) => self.log.warn(&format!("listing again: {e}")),
            RunEvent::PutRight(notice) => self.log.warn(&notice.to_string()),
            RunEvent::Ended(ended) => self.ended(&ended),
            RunEvent::AllFound { discovered, any_first } => {
                self.log.info(&found_line(&discovered, self.args.shard));
                if !any_first && !self.args.first.is_empty() && discovered.matched > 0 {
                    self.log.warn("no database matches --first");
                }
                self.summary.discovered = discovered;
            }
        }
    }

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

    fn warning(&mut self, text: &str) {
        self.warnings += 1;
        let severity = if self.warnings <= MAX_WARNINGS_SHOWN { Severity::Warn } else { Severity::Debug };
        self.log.say(severity, text, &[]);
        if self.warnings == MAX_WARNINGS_SHOWN {
            self.log.warn("further warnings are shown with -v, and in the report");
        }
    }

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
