//! What a verification says of each database, and the row of it that JSON and reports have (docs/CLI.md, "JSON").

use super::verdicts::Verdict;
use crate::cli::args::resolved::{AsOf, PastArgs, PatternSource, VerifyArgs};
use crate::cli::ui::redact;
use crate::error::Class;
use crate::fleet::{Ended, Ending, PastFields, Subject, V3Fields, with_class};
use crate::report::{DatabaseRow, NewestIntact, QueryAnswer, RowStanding};
use crate::restore::VerifiedDatabase;
use crate::timestamp::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use std::time::Duration;

/// The characters that are percent-encoded in the path of a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// A state of a database.
#[derive(Debug, Clone)]
pub(super) struct DrillState {
    pub txid: Option<String>,
    pub generation: Option<String>,
    pub index: Option<String>,
    pub offset: Option<String>,
    pub timestamp: String,
    pub time_source: &'static str,
    pub age_seconds: u64,
}

/// The newest state that can be had of a database whose newest cannot.
#[derive(Debug, Clone)]
pub(super) struct IntactState {
    pub state: DrillState,
    /// The command that restores it.
    pub command: String,
}

/// The first row of a query.
#[derive(Debug, Clone)]
pub(super) struct DrillRow {
    pub sql: String,
    pub row: Option<Vec<String>>,
    pub error: Option<String>,
}

/// What is known of one database when it was verified.
#[derive(Debug, Clone)]
pub(super) struct DrillRecord {
    pub name: String,
    pub key: Option<String>,
    pub verdict: Verdict,
    pub class: Option<&'static str>,
    pub reason: Option<String>,
    pub format: Option<&'static str>,
    pub state: Option<DrillState>,
    /// With a catalogue: the TXID of its state, if that cannot be reached exactly any more.
    pub moved_from: Option<String>,
    pub newest_intact: Option<IntactState>,
    /// The oldest point that `-timestamp` can reach.
    pub oldest: Option<String>,
    pub damaged: Vec<String>,
    pub files_without_another_chain: Option<u64>,
    /// With `-as-of`: the past that was read.
    pub past: Option<PastFields>,
    pub files: u64,
    pub bytes: Option<u64>,
    pub bytes_fetched: u64,
    pub requests: u64,
    pub retries: u32,
    pub seconds: f64,
    pub queries: Vec<DrillRow>,
    pub warnings: Vec<String>,
    pub failure: Option<Class>,
    /// The command that verifies it alone.
    pub again: Option<String>,
}

impl DrillRecord {
    /// The record of a database that has ended. None for endings that a verification does not have.
    pub(super) fn of(ended: &Ended, args: &VerifyArgs, reference: Timestamp) -> Option<Self> {
        let name = ended.name().to_owned();
        let mut record = Self::empty(name, ended.subject.id().map(str::to_owned));
        record.retries = ended.retries;
        if let (Subject::Database(database), Some(repeat)) = (&ended.subject, &args.repeat) {
            record.again = repeat.of(database.name(), database.path(), None);
        }
        record.seconds = (ended.elapsed.as_secs_f64() * 1000.0).round() / 1000.0;
        match &ended.ending {
            Ending::Verified(verified) => record.take(verified, args, reference),
            Ending::Skipped(_) => record.verdict = Verdict::NoBackups,
            Ending::Failed { class, reason } => record.fail(*class, with_class(*class, reason)),
            Ending::Restored { .. } | Ending::Planned(_) | Ending::Rehearsed(_) => return None,
        }
        Some(record)
    }

    /// A record of a database of which nothing is known but its name.
    pub(super) fn empty(name: String, key: Option<String>) -> Self {
        Self {
            name,
            key,
            verdict: Verdict::Restorable,
            class: None,
            reason: None,
            format: None,
            state: None,
            newest_intact: None,
            moved_from: None,
            oldest: None,
            damaged: Vec::new(),
            files_without_another_chain: None,
            past: None,
            files: 0,
            bytes: None,
            bytes_fetched: 0,
            requests: 0,
            retries: 0,
            seconds: 0.0,
            queries: Vec::new(),
            warnings: Vec::new(),
            failure: None,
            again: None,
        }
    }

    /// Sets the verdict to "not restorable".
    pub(super) fn fail(&mut self, class: Class, reason: String) {
        self.verdict = Verdict::NotRestorable;
        self.class = Some(class.as_str());
        self.failure = Some(class);
        self.reason = Some(reason);
    }

    fn take(&mut self, verified: &VerifiedDatabase, args: &VerifyArgs, reference: Timestamp) {
        let state = verified.state.map(|state| {
            let v3 = state.v3.as_ref().map(V3Fields::of);
            DrillState {
                txid: v3.is_none().then(|| state.txid.to_string()),
                generation: v3.as_ref().map(|v3| v3.generation.clone()),
                index: v3.as_ref().map(|v3| v3.index.clone()),
                offset: v3.map(|v3| v3.offset),
                timestamp: state.time.to_rfc3339_seconds(),
                time_source: if state.is_time_of_header { "header" } else { "last_modified" },
                age_seconds: state.time.seconds_until(reference),
            }
        });
        self.format = verified.state.map(|state| if state.v3.is_some() { "v0.3" } else { "ltx" });
        self.moved_from = verified.moved_from.map(|txid| txid.to_string());
        self.oldest = verified.oldest.map(Timestamp::to_rfc3339_seconds);
        self.damaged = verified.damaged.iter().map(|(_, what)| what.clone()).collect();
        self.files_without_another_chain = verified.uncovered;
        self.past = verified.past.as_deref().map(PastFields::of);
        self.files = verified.files;
        self.bytes = verified.bytes_out;
        self.bytes_fetched = verified.bytes_in;
        self.requests = verified.requests;
        self.warnings.clone_from(&verified.warnings);
        self.queries = verified
            .rows
            .iter()
            .map(|row| DrillRow {
                sql: row.sql.clone(),
                row: row.row.as_ref().ok().cloned(),
                error: row.row.as_ref().err().cloned(),
            })
            .collect();
        match &verified.failure {
            Some(failure) => {
                match verified.is_older {
                    true => self.newest_intact = state.map(|state| IntactState { state, command: self.command(args) }),
                    false => self.state = state,
                }
                self.fail(failure.class, with_class(failure.class, &failure.reason));
            }
            None => {
                let age = state.as_ref().map(|state| state.age_seconds);
                self.state = state;
                if !self.damaged.is_empty() {
                    self.verdict = Verdict::Degraded;
                }
                self.check_age(age, args.max_age);
            }
        }
    }

    fn check_age(&mut self, age: Option<u64>, max_age: Option<Duration>) {
        let (Some(age), Some(max_age)) = (age, max_age) else { return };
        if age > max_age.as_secs() {
            self.verdict = Verdict::Stale;
            self.reason = Some(format!(
                "the newest state is {} old, -max-age allows {}",
                crate::cli::ui::human::age(age),
                crate::cli::ui::human::age(max_age.as_secs())
            ));
        }
    }

    /// The command that restores the newest intact state.
    fn command(&self, args: &VerifyArgs) -> String {
        let quoted = |text: &str| crate::cli::args::shell::shell_word(text);
        let time = args.timestamp.map_or_else(String::new, |at| format!(" -timestamp {at}"));
        let time = as_of(&args.common.store.past) + &time;
        match &args.source {
            PatternSource::Configured { config, .. } => {
                let config = quoted(&config.path.to_string_lossy());
                format!("hydrant restore -newest-intact{time} -config {config} {}", quoted(&self.name))
            }
            PatternSource::Url(pattern) => {
                let output = self.name.trim_end_matches('/').rsplit('/').next().unwrap_or("restored.db");
                let url = redact::url(&database_url(pattern, &self.name));
                format!("hydrant restore -newest-intact{time} -o {} {}", quoted(output), quoted(&url))
            }
        }
    }

    /// The row that JSON and reports have.
    pub(super) fn to_row(&self) -> DatabaseRow {
        let state = self.state.as_ref();
        let query =
            |row: &DrillRow| QueryAnswer { sql: row.sql.clone(), row: row.row.clone(), error: row.error.clone() };
        let mut drilled = DatabaseRow {
            kind: "database",
            name: self.name.clone(),
            key: self.key.clone(),
            verdict: self.verdict.as_str(),
            class: self.class,
            reason: self.reason.clone(),
            command: self.again.clone().filter(|_| self.verdict.is_failure()),
            format: self.format,
            txid: state.and_then(|state| state.txid.clone()),
            generation: state.and_then(|state| state.generation.clone()),
            index: state.and_then(|state| state.index.clone()),
            offset: state.and_then(|state| state.offset.clone()),
            timestamp: state.map(|state| state.timestamp.clone()),
            time_source: state.map(|state| state.time_source),
            age_seconds: state.map(|state| state.age_seconds),
            moved_from: self.moved_from.clone(),
            newest_intact: self.newest_intact.as_ref().map(|IntactState { state, command }| NewestIntact {
                txid: state.txid.clone(),
                generation: state.generation.clone(),
                index: state.index.clone(),
                offset: state.offset.clone(),
                timestamp: state.timestamp.clone(),
                time_source: state.time_source,
                age_seconds: state.age_seconds,
                command: Some(command.clone()),
            }),
            oldest: self.oldest.clone(),
            damaged: self.damaged.clone(),
            files_without_another_chain: self.files_without_another_chain,
            files: Some(self.files),
            bytes: self.bytes,
            bytes_fetched: Some(self.bytes_fetched),
            requests: Some(self.requests),
            retries: self.retries,
            seconds: Some(self.seconds),
            queries: self.queries.iter().map(query).collect(),
            warnings: self.warnings.clone(),
            standing: match self.verdict {
                Verdict::NotRestorable | Verdict::Stale => RowStanding::Bad,
                Verdict::Degraded => RowStanding::Degraded,
                Verdict::Restorable => RowStanding::Good,
                Verdict::NoBackups => RowStanding::Skipped,
            },
            ..DatabaseRow::default()
        };
        if let Some(past) = &self.past {
            past.clone().set(&mut drilled);
        }
        drilled
    }
}

/// The flags of a command that reads the same past.
fn as_of(past: &PastArgs) -> String {
    let time = match past.as_of {
        Some(AsOf::Time(time)) => format!(" -as-of {time}"),
        Some(AsOf::Last) => " -as-of last".to_owned(),
        None => String::new(),
    };
    time + if past.allow_incomplete { " -allow-incomplete-history" } else { "" }
}

/// The URL of the database `name`, which the URL pattern has matched.
fn database_url(pattern: &str, name: &str) -> String {
    let (base, query) = pattern.split_once('?').map_or((pattern, None), |(base, query)| (base, Some(query)));
    let (scheme, rest) = base.split_once("://").unwrap_or(("file", base));
    let place = match scheme {
        "file" => name.to_owned(),
        _ => format!("{}/{name}", rest.split('/').next().unwrap_or_default()),
    };
    let path = percent_encoding::utf8_percent_encode(&place, ESCAPED);
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    format!("{scheme}://{path}{query}")
}
