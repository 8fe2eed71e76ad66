//! Every fixed word that can be a value in JSON or in a log, and every exit code.

use super::books::{classes, every_ending, record};
use super::normal::Normal;
use super::support::Transcript;
use hydrant::cancel::Reason;
use hydrant::cli::args::resolved::{BenchStage, IntegrityCheck, LogFormat};

use hydrant::cli::ui::failure::Failure;
use hydrant::cli::ui::log::{Log, Severity};
use hydrant::cli::ui::screen::TimeSource;
use hydrant::error::Class;
use hydrant::io::IoBackend;
use hydrant::restore::NothingFound;
use hydrant::store::s3::{S3, S3Config, S3Options};
use hydrant::store::{Store, StoreError, StoreErrorKind};
use hydrant::telemetry::Stage;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};

fn lines(words: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    words.into_iter().map(|word| format!("{word}\n")).collect()
}

fn time_sources() -> Vec<String> {
    let every = every!(TimeSource: Metadata, Header, LastModified);
    every.iter().map(|source| serde_json::to_value(source).unwrap().as_str().unwrap().to_owned()).collect()
}

fn outcomes() -> BTreeSet<&'static str> {
    every_ending().iter().map(|ended| record(ended).outcome).collect()
}

fn replicas() -> [&'static str; 2] {
    let s3 = S3::new(S3Config::default(), &S3Options::default(), Arc::default());
    let every = [Store::S3(Arc::new(s3)), Store::File(Default::default())];
    let _all_named = |store: &Store| match store {
        Store::S3(_) | Store::File(_) | Store::Past(_) => {}
    };
    every.each_ref().map(Store::kind)
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A log with a message of every severity and with a failure.
fn log(format: LogFormat, color: bool) -> String {
    let buffer = Buffer::default();
    let log = Log::new(Box::new(buffer.clone()), 2, format, color, color);
    for severity in every!(Severity: Warn, Info, Debug, Trace) {
        log.say(severity, "a message", &[("a", "1"), ("b", "two words"), ("c", "")]);
    }
    log.failure(&Failure::usage("a failure").try_call("another call"), &[("database", "a.db")]);
    let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    text.replace('\u{1b}', "<esc>")
}

fn formats() -> String {
    let every = every!(LogFormat: Text, Json);
    every.map(|format| log(format, false)).concat() + &log(LogFormat::Text, true)
}

fn failures() -> Vec<String> {
    let partial = Failure::Partial { message: "some failed".to_owned(), try_call: None };
    let nothing = NothingFound::Empty { path: "s3://bucket/a.db".to_owned(), objects: 0, example: None };
    let reasons = every!(Reason: Hangup, Interrupt, Terminate, Abandoned).map(Failure::Cancelled);
    let all = [
        Failure::usage("a wrong flag"),
        Failure::no_backups(nothing),
        Failure::failed(Class::Io, "a failure"),
        partial,
    ];
    let _all_named = |failure: &Failure| match failure {
        Failure::Usage { .. } | Failure::NoBackups { .. } | Failure::Failed { .. } => {}
        Failure::Partial { .. } | Failure::Cancelled(_) | Failure::Resumable { .. } => {}
    };
    let shown = |failure: &Failure| format!("{} {}", failure.exit_code(), failure.message());
    all.iter().chain(&reasons).map(shown).collect()
}

/// For every kind of failed request: its class, and whether the request is sent again or the replica is listed
/// again.
fn requests() -> Vec<String> {
    let every = every!(StoreErrorKind:
        NotFound, NoSuchBucket, PreconditionFailed, SizeDiffers, AccessDenied, Credentials, Timeout, Stalled, Throttled, Network, Server,
        NotImplemented, TooLarge, InvalidResponse, RangesIgnored, Archived, Unsupported, Unreadable, Io, IncompleteHistory
    );
    let error = |kind| StoreError {
        kind,
        what: "GET s3://bucket/key".to_owned(),
        detail: "what the server says".to_owned(),
        request_id: None,
        hint: None,
        attempts: 1,
    };
    let what = [
        "no such key",
        "no such bucket",
        "another ETag",
        "another size",
        "access denied",
        "credentials",
        "timeout",
        "no progress",
        "throttled",
        "network",
        "5xx",
        "a request of a kind that it does not know",
        "a list that is too large",
        "an answer that is none",
        "whole objects for ranges",
        "archived",
        "unsupported",
        "an unreadable file",
        "I/O",
    ];
    let shown = |(kind, what)| {
        let error: StoreError = error(kind);
        let transient = if error.is_transient() { ", may pass" } else { "" };
        let stale = if error.is_stale_listing() { ", listed anew" } else { "" };
        format!("{what}: {}{transient}{stale}", error.class())
    };
    every.into_iter().zip(what).map(shown).collect()
}

#[test]
fn words() {
    let mut seen = Transcript::new("words", Normal::off());
    let stages = every!(Stage: List, FirstByte, Fetch, Decode, Write, Commit);
    assert_eq!(stages, Stage::ALL);
    let measured = every!(BenchStage: List, Fetch, Decode, All);
    assert_eq!(measured, BenchStage::EACH);
    seen.file("classes", &lines(classes()));
    seen.file("classes of requests that failed", &lines(requests()));
    seen.file("outcomes", &lines(outcomes()));
    seen.file("time_source", &lines(time_sources()));
    seen.file("replica", &lines(replicas()));
    seen.file("stages", &lines(stages.map(Stage::as_str)));
    seen.file("stages of bench", &lines(measured.map(BenchStage::as_str)));
    seen.file("io_engine", &lines(every!(IoBackend: Uring, Pwrite).map(IoBackend::as_str)));
    let checks = every!(IntegrityCheck: None, Quick, Full);
    seen.file("integrity_check", &lines(checks.map(IntegrityCheck::as_str)));
    seen.file("messages as text, as JSON and on a terminal", &without_times(&formats()));
    seen.file("exit codes and what stands after Error:", &lines(failures()));
    seen.matches();
}

fn without_times(text: &str) -> String {
    let line = |line: &str| if line.starts_with('{') { Normal::default().json(line) } else { line.to_owned() };
    lines(text.lines().map(line))
}
