//! Tests of fleet runs that end early, because the listing fails or a signal comes.

use super::*;
use crate::common::wait::until;
use hydrant::sim::server::Outcome;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

#[test]
fn a_listing_that_fails_half_way_is_told_of_what_it_had_found() {
    let server = simulator(SimOptions { max_keys: 20, ..SimOptions::default() });
    let fleet = tiny(&server, 200);
    let answers = [vec![None; 40], vec![Some(Failure::AccessDenied); 1000]].concat();
    server.script(RequestKind::List, "", answers);
    let host = Host::new();
    let ran = host.run(&["--output-dir", "out", "-json", &url(&server, "bucket/**")]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("Error: not all databases are known"), "{}", ran.stderr);
    let restored = whole_ones(&host, "out", &fleet);
    assert!((1..200).contains(&restored), "{restored}");
    let (records, summary) = json_lines(&ran.stdout);
    assert_eq!((records.len(), &summary["databases"], &summary["failed"]), (restored, &restored.into(), &0.into()));
    assert!(summary["listing_error"].as_str().unwrap().contains("access denied"), "{summary}");

    let server = simulator(SimOptions::default());
    tiny(&server, 2);
    server.script(RequestKind::List, "", vec![Some(Failure::AccessDenied); 9]);
    let ran = host.run(&["--output-dir", "none", "-json", &url(&server, "bucket/**")]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("AccessDenied") && !host.path("none").exists(), "{}", ran.stderr);
}

/// The number of outputs that have their final names.
fn published(host: &Host) -> usize {
    host.files("out").iter().filter(|path| !path.contains("/.") && !path.starts_with('.')).count()
}

/// A run that a signal is to end.
struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    listening: JoinHandle<()>,
}

impl Running {
    fn start(host: &Host, args: &[&str]) -> Self {
        let mut child = host.command(args).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (stderr, all) = (child.stderr.take().unwrap(), Arc::clone(&said));
        let listening = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                *all.lock().unwrap() += &(line.unwrap() + "\n");
            }
        });
        Self { child, said, listening }
    }

    fn has_said(&self, text: &str) -> bool {
        self.said.lock().unwrap().contains(text)
    }

    fn stopped_by(self, signal: &str, host: &Host) -> Ran {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
        let mut output = self.child.wait_with_output().unwrap();
        self.listening.join().unwrap();
        output.stderr = self.said.lock().unwrap().clone().into_bytes();
        host.ran(output)
    }
}

#[test]
fn a_signal_while_the_listing_runs_is_told_with_what_was_known() {
    let server = simulator(SimOptions { max_keys: 20, ..SimOptions::default() });
    let fleet = tiny(&server, 300);
    // Of some 90 that the whole listing takes.
    server.answer_only(RequestKind::List, Some(60));
    let host = Host::new();
    let running = Running::start(&host, &["--output-dir", "out", "-json", &url(&server, "bucket/**")]);
    until(|| published(&host) >= 3);
    let ran = running.stopped_by("INT", &host);
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    let restored = whole_ones(&host, "out", &fleet);
    let (records, summary) = json_lines(&ran.stdout);
    assert_eq!((records.len(), &summary["restored"]), (restored, &restored.into()));
    let known = restored as u64 + summary["interrupted"].as_u64().unwrap_or(0);
    assert!((3..300).contains(&known), "{summary}");
    assert_eq!((&summary["matched"], &summary["databases"]), (&known.into(), &known.into()), "{summary}");
    assert!(summary["listing_error"].as_str().unwrap().contains("interrupted"), "{summary}");
}

#[test]
fn a_signal_after_the_listing_failed_is_told_as_a_signal() {
    let server = simulator(SimOptions { max_keys: 20, ..SimOptions::default() });
    tiny(&server, 300);
    server.script(RequestKind::List, "", [vec![None; 40], vec![Some(Failure::AccessDenied); 1000]].concat());
    // Enough for 15 databases, and not for all that the first 40 pages name.
    server.answer_only(RequestKind::Get, Some(60));
    let host = Host::new();
    let args = ["--output-dir", "out", "-json", "--parallel", "1", &url(&server, "bucket/**")];
    let running = Running::start(&host, &args);
    until(|| published(&host) >= 15 && server.stats().count(RequestKind::List, Outcome::Refused) > 0);
    // The run has learnt of the refusal by the time that it has restored more.
    let before = published(&host);
    server.answer_only(RequestKind::Get, Some(60));
    until(|| published(&host) >= before + 10);
    let ran = running.stopped_by("INT", &host);
    let (_, summary) = json_lines(&ran.stdout);
    assert!(summary["listing_error"].as_str().unwrap().contains("access denied"), "{summary}");
    assert!(summary["interrupted"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(ran.code, 130, "{}", ran.stderr);
}

#[test]
fn a_signal_leaves_whole_databases_and_nothing_else() {
    let server = simulator(SimOptions::default());
    let fleet = tiny(&server, 400);
    for (signal, code) in [("HUP", 129), ("TERM", 143), ("INT", 130)] {
        let host = Host::new();
        let pattern = url(&server, "bucket/**");
        let args = ["--output-dir", "out", "--parallel", "4", "-json", "--report", "report.json", &pattern];
        server.answer_only(RequestKind::Get, Some(200));
        let running = Running::start(&host, &args);
        until(|| published(&host) >= 20 && running.has_said("found 400 databases"));
        until(|| server.stats().in_flight_now > 0);
        let ran = running.stopped_by(signal, &host);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        let whole = whole_ones(&host, "out", &fleet);
        assert!((20..=200).contains(&whole), "{whole}");
        let (records, summary) = json_lines(&ran.stdout);
        assert_eq!(records.values().filter(|r| r["outcome"] == "restored").count(), whole);
        assert_eq!(summary["interrupted"], 400 - whole);
        let report: Value = serde_json::from_slice(&std::fs::read(host.path("report.json")).unwrap()).unwrap();
        assert_eq!(report["databases"].as_array().unwrap().len(), whole);
        // Picks up where it ended.
        server.answer_only(RequestKind::Get, None);
        let ran = host.run(&["--output-dir", "out", "--if-db-not-exists", "-json", &pattern]);
        let (_, summary) = json_lines(&ran.stdout);
        assert_eq!((ran.code, &summary["skipped"]), (0, &whole.into()));
        assert_eq!(whole_ones(&host, "out", &fleet), 400);
    }
}
