//! Tests of fleet runs that end early, because the listing fails or a signal comes.

use super::*;
use crate::common::wait::{ended_soon, until};
use std::time::Instant;

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

/// Starts a run, and sends SIGINT when `restored` databases are restored.
fn interrupted(host: &Host, args: &[&str], restored: usize) -> Ran {
    let child = host.command(args).spawn().unwrap();
    until(|| published(host) >= restored);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    host.ran(child.wait_with_output().unwrap())
}

#[test]
fn a_signal_while_the_listing_runs_is_told_with_what_was_known() {
    let faults = Faults {
        latency: Latency::Fixed(Duration::from_millis(1)),
        tail: Some(Tail { fraction: 1.0, factor: 200.0 }),
        only_kind: Some(RequestKind::List),
        ..Faults::default()
    };
    let server = simulator(SimOptions { max_keys: 20, faults, ..SimOptions::default() });
    let fleet = tiny(&server, 300);
    let host = Host::new();
    let ran = interrupted(&host, &["--output-dir", "out", "-json", &url(&server, "bucket/**")], 3);
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
    let faults = Faults { latency: Latency::Fixed(Duration::from_millis(30)), ..Faults::default() };
    let server = simulator(SimOptions { max_keys: 20, faults, ..SimOptions::default() });
    tiny(&server, 300);
    server.script(RequestKind::List, "", [vec![None; 40], vec![Some(Failure::AccessDenied); 1000]].concat());
    let host = Host::new();
    let args = ["--output-dir", "out", "-json", "--parallel", "1", &url(&server, "bucket/**")];
    let ran = interrupted(&host, &args, 15);
    let (_, summary) = json_lines(&ran.stdout);
    assert!(summary["listing_error"].as_str().unwrap().contains("access denied"), "{summary}");
    assert!(summary["interrupted"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(ran.code, 130, "{}", ran.stderr);
}

#[test]
fn a_signal_leaves_whole_databases_and_nothing_else() {
    let latency = Latency::Fixed(Duration::from_millis(30));
    let server = simulator(SimOptions { faults: Faults { latency, ..Faults::default() }, ..SimOptions::default() });
    let fleet = tiny(&server, 400);
    for (signal, code) in [("HUP", 129), ("TERM", 143), ("INT", 130)] {
        let host = Host::new();
        let pattern = url(&server, "bucket/**");
        let args = ["--output-dir", "out", "--parallel", "4", "-json", "--report", "report.json", &pattern];
        let child = host.command(&args).spawn().unwrap();
        until(|| published(&host) >= 20);
        let signalled = Instant::now();
        let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert!(status.success());
        let ran = host.ran(child.wait_with_output().unwrap());
        ended_soon(signalled);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        let whole = whole_ones(&host, "out", &fleet);
        assert!((20..400).contains(&whole), "{whole}");
        let (records, summary) = json_lines(&ran.stdout);
        assert_eq!(records.values().filter(|r| r["outcome"] == "restored").count(), whole);
        assert_eq!(summary["interrupted"], 400 - whole);
        let report: Value = serde_json::from_slice(&std::fs::read(host.path("report.json")).unwrap()).unwrap();
        assert_eq!(report["databases"].as_array().unwrap().len(), whole);
        // The second run continues where the interrupted one ended.
        let ran = host.run(&["--output-dir", "out", "--if-db-not-exists", "-json", &pattern]);
        let (_, summary) = json_lines(&ran.stdout);
        assert_eq!((ran.code, &summary["skipped"]), (0, &whole.into()));
        assert_eq!(whole_ones(&host, "out", &fleet), 400);
    }
}
