//! What a verification says of all databases together, and the result of the run.

use super::record::DrillRecord;
use super::verdicts::Verdict;
use crate::cli::args::resolved::VerifyArgs;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::human;
use crate::error::Class;
use crate::metrics::{AgeHistogram, RunMetrics};
use crate::report::{RestoreForecast, json_line};
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

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
    pub forecast: Option<RestoreForecast>,
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
        Self {
            kind: "summary",
            depth: args.depth.as_str(),
            reference: args.common.store.past.reference(args.timestamp),
            ..Self::default()
        }
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

    pub(super) fn finish(&mut self, took: Duration, counters: &Counters, forecast: Option<RestoreForecast>) {
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
        json_line(self)
    }
}

/// The result of the run: a success if no database fails it, a partial failure (exit code 3) if some do, a failure
/// (exit code 1) if all do.
pub(super) fn of_run(summary: &DrillSummary) -> Result<(), Failure> {
    let (failed, all) = (summary.failed(), summary.databases());
    if failed == 0 {
        return Ok(());
    }
    let message = format!(
        "{} of {} databases do not pass: {}",
        human::thousands(failed),
        human::thousands(all),
        summary.failures_text()
    );
    Err(match failed == all {
        true => Failure::failed(summary.most_frequent_class(), message),
        false => Failure::Partial { message, try_call: None },
    })
}
