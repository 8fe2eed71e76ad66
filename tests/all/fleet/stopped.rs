//! Tests of fleet runs that end early, because the listing fails or a signal comes.

use super::*;
use crate::common::wait::until;
use serde_json::json;

#[test]
fn a_listing_that_fails_half_way_restores_nothing() {
    let server = simulator(SimOptions { max_keys: 20, ..SimOptions::default() });
    tiny(&server, 200);
    let answers = [vec![None; 40], vec![Some(Failure::AccessDenied); 1000]].concat();
    server.script(RequestKind::List, "", answers);
    let host = Host::new();
    let ran = host.run(&["--output-dir", "out", "-json", "--report", "report.json", &url(&server, "bucket/**")]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    only_the_summary(&ran, "access denied: ");
    assert!(ran.stderr.contains("AccessDenied") && !host.path("out").exists(), "{}", ran.stderr);
    assert!(listing_error(&host).contains("access denied"));

    let server = simulator(SimOptions::default());
    tiny(&server, 2);
    server.script(RequestKind::List, "", vec![Some(Failure::AccessDenied); 9]);
    let ran = host.run(&["--output-dir", "none", "-json", &url(&server, "bucket/**")]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    only_the_summary(&ran, "access denied: ");
    assert!(ran.stderr.contains("AccessDenied") && !host.path("none").exists(), "{}", ran.stderr);
}

/// The lines of JSON of a run in which no database was restored: the summary says why.
fn only_the_summary(ran: &Ran, why: &str) {
    let (records, summary) = json_lines(&ran.stdout);
    assert!(records.is_empty() && summary["listing_error"].as_str().unwrap().starts_with(why), "{summary}");
}

/// What the report of a run says, in which no database was restored.
fn listing_error(host: &Host) -> String {
    let report: Value = serde_json::from_slice(&std::fs::read(host.path("report.json")).unwrap()).unwrap();
    let summary = &report["summary"];
    assert_eq!((&report["databases"], &summary["matched"], &summary["restored"]), (&json!([]), &0.into(), &0.into()));
    summary["listing_error"].as_str().unwrap().to_owned()
}

/// Outputs under their final names.
fn published(host: &Host) -> usize {
    host.files("out").iter().filter(|path| !path.contains("/.") && !path.starts_with('.')).count()
}

#[test]
fn a_signal_while_the_listing_runs_is_reported() {
    let server = simulator(SimOptions { max_keys: 20, ..SimOptions::default() });
    tiny(&server, 200);
    server.script(RequestKind::List, "", [vec![None; 5], vec![Some(Failure::BlackHole); 1000]].concat());
    let host = Host::new();
    let args = ["--output-dir", "out", "-json", "--report", "report.json", &url(&server, "bucket/**")];
    let child = host.command(&args).spawn().unwrap();
    until(|| server.stats().of_kind(RequestKind::List) > 5);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ran = host.ran(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    only_the_summary(&ran, "interrupted");
    assert!(!host.path("out").exists());
    assert!(listing_error(&host).contains("interrupted"));
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
        let child = host.command(&args).spawn().unwrap();
        until(|| published(&host) >= 20);
        until(|| server.stats().in_flight_now > 0);
        let id = child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
        let ran = host.ran(child.wait_with_output().unwrap());
        assert_eq!(ran.code, code, "{}", ran.stderr);
        let again = ran.stderr.lines().last().unwrap();
        assert!(
            again.starts_with("Try: hydrant restore-pattern --output-dir out ")
                && again.contains(" --if-db-not-exists "),
            "{again}"
        );
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
