//! What a verification says of each database and of all of them, as JSON has it (docs/CLI.md, "JSON").

use super::verdicts::Verdict;
use crate::cli::args::resolved::{PatternSource, VerifyArgs};
use crate::cli::ui::redact;
use crate::error::{Class, json_escaped};
use crate::fleet::{Ended, Ending, V3Fields, with_class};
use crate::restore::VerifiedDatabase;
use crate::timestamp::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde::Serialize;
use std::time::Duration;

/// The characters that are percent-encoded in the path of a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// A state of a database, as JSON has it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DrillState {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<String>,
    pub timestamp: String,
    pub time_source: &'static str,
    pub age_seconds: u64,
}

/// The newest state that can be had of a database whose newest cannot.
#[derive(Debug, Clone, Serialize)]
pub(super) struct IntactState {
    #[serde(flatten)]
    pub state: DrillState,
    /// The command that restores it.
    pub command: String,
}

/// The first row of a query.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DrillRow {
    pub sql: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What JSON has of one database.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DrillRecord {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<&'static str>,
    #[serde(flatten)]
    pub state: Option<DrillState>,
    /// With a catalogue: the TXID of its state, if that cannot be reached exactly any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_intact: Option<IntactState>,
    /// The oldest point that `-timestamp` can reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_without_another_chain: Option<u64>,
    pub files: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    pub bytes_fetched: u64,
    pub requests: u64,
    pub retries: u32,
    pub seconds: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<DrillRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(skip)]
    pub failure: Option<Class>,
}

impl DrillRecord {
    /// The record of a database that has ended. None for endings that a verification does not have.
    pub(super) fn of(ended: &Ended, args: &VerifyArgs, reference: Timestamp) -> Option<Self> {
        let name = ended.name().to_owned();
        let mut record = Self::empty(name, ended.subject.id().map(str::to_owned));
        record.retries = ended.retries;
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
            kind: "database",
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
            files: 0,
            bytes: None,
            bytes_fetched: 0,
            requests: 0,
            retries: 0,
            seconds: 0.0,
            queries: Vec::new(),
            warnings: Vec::new(),
            failure: None,
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
        let quoted = |text: &str| crate::cli::args::call::shell_word(text);
        let time = args.timestamp.map_or_else(String::new, |at| format!(" -timestamp {at}"));
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

    /// The record as one line of JSON.
    pub(super) fn to_json_line(&self) -> String {
        line(self)
    }
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

/// A value as one line of JSON.
pub(super) fn line(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"));
    format!("{}\n", json_escaped(json))
}
