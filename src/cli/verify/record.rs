//! What a verification says of each database and of all of them, as JSON has it (docs/CLI.md, "JSON").

use super::forecast::Forecast;
use super::reference;
use super::verdict::Verdict;
use crate::cli::args::resolved::{PatternSource, VerifyArgs};
use crate::cli::ui::redact;
use crate::error::{Class, json_escaped};
use crate::fleet::{Ended, Ending, V3Fields, with_class};
use crate::metrics::{AgeHistogram, RunMetrics};
use crate::restore::Verified;
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde::Serialize;
use std::collections::BTreeMap;
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

    fn take(&mut self, verified: &Verified, args: &VerifyArgs, reference: Timestamp) {
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

/// What JSON has of the whole run.
#[derive(Debug, Default, Serialize)]
pub(super) struct DrillSummary {
    #[serde(rename = "type")]
    kind: &'static str,
    depth: &'static str,
    databases: u64,
    verdicts: BTreeMap<&'static str, u64>,
    failures: BTreeMap<&'static str, u64>,
    /// With a catalogue: when its listing began, and how many databases have moved on from its states.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_point: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_state: Option<OldestState>,
    #[serde(skip_serializing_if = "is_zero")]
    pub left: u64,
    bytes: u64,
    bytes_fetched: u64,
    requests: u64,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    #[serde(skip)]
    pub reference: Timestamp,
    #[serde(skip)]
    classes: BTreeMap<Class, u64>,
    /// The ages of all newest states.
    #[serde(skip)]
    ages: AgeHistogram,
}

/// The database whose newest state is the oldest.
#[derive(Debug, Serialize)]
pub(super) struct OldestState {
    pub name: String,
    pub timestamp: String,
    pub age_seconds: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl DrillSummary {
    pub(super) fn new(args: &VerifyArgs) -> Self {
        Self { kind: "summary", depth: args.depth.as_str(), reference: reference(args), ..Self::default() }
    }

    pub(super) fn add(&mut self, record: &DrillRecord) {
        self.databases += 1;
        *self.verdicts.entry(record.verdict.as_str()).or_default() += 1;
        if record.verdict.is_failure() {
            *self.failures.entry(record.class.unwrap_or(record.verdict.as_str())).or_default() += 1;
            *self.classes.entry(record.failure.unwrap_or(Class::TargetNotReachable)).or_default() += 1;
        }
        self.bytes += record.bytes.unwrap_or(0);
        self.bytes_fetched += record.bytes_fetched;
        if record.moved_from.is_some() {
            *self.moved.get_or_insert_default() += 1;
        }
        if let Some(state) = &record.state {
            let age = state.age_seconds;
            self.ages.add(age);
            // Of equally old ones the first by name, so that the result does not depend on which ends first.
            let is_older = |oldest: &OldestState| (age, &oldest.name) > (oldest.age_seconds, &record.name);
            if self.oldest_state.as_ref().is_none_or(is_older) {
                let (name, timestamp) = (record.name.clone(), state.timestamp.clone());
                self.oldest_state = Some(OldestState { name, timestamp, age_seconds: age });
            }
        }
    }

    pub(super) fn finish(&mut self, took: Duration, counters: &Counters, forecast: Option<Forecast>) {
        self.seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
        self.requests = counters.sent();
        self.forecast = forecast;
    }

    /// Notes that the databases are those of a catalogue whose listing began at `time`.
    pub(super) fn pinned_to(&mut self, time: Timestamp) {
        self.recovery_point = Some(time.to_rfc3339_seconds());
        self.moved.get_or_insert_default();
    }

    /// The run's figures, added to the metrics that all commands have.
    pub(super) fn metrics(&self, common: RunMetrics) -> RunMetrics {
        let word = |verdict: Verdict| (verdict.as_metric(), self.count(verdict));
        let databases = Verdict::ALL.into_iter().map(word).chain([("interrupted", self.left)]);
        RunMetrics { databases: databases.collect(), ages: self.ages.clone(), database_bytes: self.bytes, ..common }
    }

    pub(super) const fn databases(&self) -> u64 {
        self.databases
    }

    /// The number of databases with this verdict.
    pub(super) fn count(&self, verdict: Verdict) -> u64 {
        self.verdicts.get(verdict.as_str()).copied().unwrap_or(0)
    }

    /// The number of databases that fail the run.
    pub(super) fn failed(&self) -> u64 {
        Verdict::ALL.into_iter().filter(|verdict| verdict.is_failure()).map(|verdict| self.count(verdict)).sum()
    }

    /// `2 hole, 1 stale`.
    pub(super) fn failures_text(&self) -> String {
        self.failures.iter().map(|(class, n)| format!("{n} {class}")).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn most_frequent_class(&self) -> Class {
        let most = self.classes.iter().max_by_key(|(_, count)| **count);
        most.map_or(Class::TargetNotReachable, |(class, _)| *class)
    }

    /// The numbers of bytes, requests and seconds for the line that sums the run up.
    pub(super) const fn amounts(&self) -> (u64, u64, f64) {
        (self.bytes_fetched, self.requests, self.seconds)
    }

    pub(super) fn to_json_line(&self) -> String {
        line(self)
    }
}

fn line(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"));
    format!("{}\n", json_escaped(json))
}
