//! The content of `-json`, the report and the error log for a run in which databases ended in every possible way.
//! The library is called directly. Nothing is measured, so all values are compared.

use super::normal::Normal;
use super::support::Transcript;
use hydrant::catalogue::Generation;
use hydrant::commit::check;
use hydrant::error::Class;
use hydrant::fleet::{
    DatabaseRef, Discovered, Ended, Ending, Links, NewestState, PlannedDatabase, RunSummary, Subject, row_of,
};
use hydrant::ltx::Txid;
use hydrant::plan::{V3State, Warning};
use hydrant::report::{CounterSample, DatabaseRow, HostInfo, Purpose, RunEnd, RunInfo, Timeline};
use hydrant::restore::{Discarded, RestoreOutcome};
use hydrant::store::Store;
use hydrant::store::s3::{ProcessLimiter, S3, S3Config, S3Options};
use hydrant::telemetry::{Counters, Stage, Stages};
use hydrant::timestamp::Timestamp;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn classes() -> [Class; 23] {
    every!(Class:
        BackupNotFound, TargetNotReachable, Hole, ChainDoesNotBeginAtOne, NoSnapshot, Truncated, Malformed, ChecksumMismatch,
        NameAndHeaderDisagree, Encrypted, OutputExists, InUse, PathCollision, UnsafePath, AccessDenied, S3Timeout, Throttled, S3Error,
        DiskFull, Io, IntegrityCheck, Config, Cancelled
    )
}

fn ended(name: &str, ending: Ending) -> Ended {
    let store = Store::S3(Arc::new(S3::new(S3Config::default(), &S3Options::default(), Default::default())));
    let id = format!("bucket/{name}");
    Ended {
        output: Some(format!("/restored/{name}").into()),
        subject: Subject::Database(Arc::new(DatabaseRef::new(name, id, store, name))),
        retries: 2,
        elapsed: Duration::from_millis(12),
        ending,
    }
}

/// The time from which ages are measured back.
fn now() -> Timestamp {
    Timestamp::from_millis(1_790_003_600_000)
}

fn restored() -> Ending {
    let outcome = RestoreOutcome {
        ends: Default::default(),
        output: "/restored/restored.db".into(),
        min_txid: Txid(1),
        txid: Txid(0x1f),
        v3: None,
        timestamp: Timestamp::from_millis(1_790_000_000_000),
        page_size: 4096,
        bytes_out: 40_960,
        bytes_in: 20_000,
        files: 3,
        damaged: vec![("a.db/key".to_owned(), "what is damaged".to_owned())],
        lost: None,
        warnings: vec![Warning::RoutedAround { keys: vec!["a.db/key".to_owned()] }],
        requests: 7,
        replanned: 1,
        check: Some(check::CheckOutcome::NotCheckable("no such collation sequence: x".to_owned())),
        past: None,
    };
    Ending::Restored { outcome: Box::new(outcome), warnings: vec!["what stands beside it".to_owned()] }
}

fn planned() -> Ending {
    let warnings = vec!["a warning of the plan".to_owned()];
    let state = Some(NewestState { time: Timestamp::from_millis(1_789_000_000_000), source: "last_modified" });
    Ending::Planned(PlannedDatabase {
        txid: Txid(7),
        v3: None,
        files: 3,
        bytes: 20_000,
        requests: 4,
        lost: Some("what the newest state lacks".to_owned()),
        moved_from: Some(Txid(6)),
        past: None,
        warnings,
        state,
    })
}

/// The same from files of Litestream 0.3.
fn of_v3(mut ending: Ending) -> Ending {
    let time = Timestamp::from_nanos(1_790_000_000_123_456_789);
    let state = V3State { generation: Generation(0x1724_97b1_f17e_a34a), index: 3, offset: 0x1_0200_0020, time };
    match &mut ending {
        Ending::Restored { outcome, .. } => (outcome.txid, outcome.v3) = (Txid(0), Some(state)),
        Ending::Planned(planned) => (planned.txid, planned.v3) = (Txid(0), Some(state)),
        _ => {}
    }
    ending
}

/// A database for each way to end, and for each class of failure.
pub(super) fn every_ending() -> Vec<Ended> {
    // This match does not compile if a variant is missing. Each variant must be in the list below.
    let _all_named = |ending: &Ending| match ending {
        Ending::Restored { .. } | Ending::Planned(_) | Ending::Rehearsed(_) | Ending::Verified(_) => {}
        Ending::Skipped(_) | Ending::Failed { .. } => {}
    };
    let rehearsed = Discarded { files: 3, bytes_in: 20_000, bytes_out: 40_960, requests: 4, past: None };
    let mut all = vec![
        ended("restored.db", restored()),
        ended("planned.db", planned()),
        ended("restored-v3.db", of_v3(restored())),
        ended("planned-v3.db", of_v3(planned())),
        ended("rehearsed.db", Ending::Rehearsed(rehearsed)),
        ended("skipped.db", Ending::Skipped("why it is skipped")),
    ];
    for (i, class) in classes().into_iter().enumerate() {
        let mut failed = ended(&format!("failed-{i}.db"), Ending::Failed { class, reason: "a reason".to_owned() });
        failed.retries = 0;
        all.push(failed);
    }
    // This database has no location, neither in a bucket nor on disk. Its reason begins with its class, which must
    // not be printed twice.
    let reason = "hole: a reason that begins with its class".to_owned();
    let nowhere = Ending::Failed { class: Class::Hole, reason };
    all.push(Ended { subject: Subject::Entry("nowhere".to_owned()), output: None, ..ended("nowhere", nowhere) });
    all
}

#[test]
fn books() {
    let dir = tempfile::tempdir().unwrap();
    let (log, report) = (dir.path().join("errors.log"), dir.path().join("report.json"));
    let mut books = RunSummary::open(Some((&log, Links::Replaced)), std::slice::from_ref(&report), now()).unwrap();
    let at = Duration::from_millis(40);
    let again = || Some("the command for this database".to_owned());
    let lines: String = every_ending().iter().map(|ended| books.add(ended, at, again()).to_json_line()).collect();
    books.totals.left = 3;
    books.totals.not_started = 4;
    books.discovered = Discovered {
        matched: 40,
        databases: 41,
        folders: 42,
        with_backups: 43,
        without_backups: 44,
        v3_only: 45,
        lists: 46,
        discovery_ms: 47,
    };
    let counters = Counters::default();
    for (i, counter) in
        [&counters.lists, &counters.gets, &counters.heads, &counters.retries, &counters.hedges, &counters.throttled]
            .into_iter()
            .enumerate()
    {
        counter.add(10_u64.pow(i as u32));
    }
    let mut stages = Stages::default();
    for (i, stage) in Stage::ALL.into_iter().enumerate().skip(1) {
        stages.record(stage, Duration::from_millis(i as u64));
    }
    let took = Duration::from_millis(1500);
    let all_known = books.summary_line(&counters, took);
    books.listing_error = Some("why not all are known".to_owned());
    let not_all_known = books.summary_line(&counters, took);
    let mut timeline = Timeline::default();
    let sample =
        CounterSample { done: 4, failed: 22, bytes: 20_000, bytes_written: 40_960, requests: 111, throttled: 100_000 };
    timeline.sample(Duration::from_secs(1), CounterSample { throttled: 0, ..sample });
    timeline.sample(took, sample);
    let host = HostInfo { name: "host".to_owned(), cores: 2, memory_bytes: 1 << 28 };
    let run = RunInfo {
        command: "restore-pattern",
        command_line: "hydrant restore-pattern 's3://bucket/**'".to_owned(),
        version: "0.1.0".to_owned(),
        host,
        source: "s3://bucket/**".to_owned(),
        started: "2026-09-21T14:13:20Z".to_owned(),
        ended: "2026-09-21T14:13:21Z".to_owned(),
        seconds: 1.5,
        interrupted_by: Some("SIGINT".to_owned()),
        again: Some("the command for what failed".to_owned()),
        purpose: Purpose::Restore,
    };
    let end = RunEnd { run, timeline: timeline.intervals(), stages, ..RunEnd::default() };
    assert!(books.finish(&counters, &ProcessLimiter::default(), took, end).is_empty());

    let mut seen = Transcript::new("books", Normal::off());
    seen.file("a line for each database", &lines);
    seen.file("the summary", &all_known);
    seen.file("the summary where not all databases are known", &not_all_known);
    seen.file("error log", &std::fs::read_to_string(log).unwrap());
    seen.file("report", &std::fs::read_to_string(report).unwrap());
    seen.matches();
}

/// The row in the report for one database.
pub(super) fn record(ended: &Ended) -> DatabaseRow {
    row_of(ended, now())
}
