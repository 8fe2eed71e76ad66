//! `hydrant verify`: the program's verdicts on real replicas, compared with what a restore gives.

use crate::common::binary::hydrant;
use hydrant::sim::generate::sample_fleet;
use hydrant::sim::server::{RequestKind, SimOptions, SimServer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

/// The corpus of real replicas: the whole one where it is at hand, else the small part in tests/fixtures.
fn corpus() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let whole = root.join("../shared/corpus");
    if whole.is_dir() { whole } else { root.join("tests/fixtures/corpus") }
}

fn run(dir: &Path, args: &[&str]) -> Output {
    hydrant(dir, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The records of `verify -json` by name, and its summary.
fn records(output: &Output) -> (BTreeMap<String, Value>, Value) {
    let stdout = text(&output.stdout);
    let mut lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap_or_else(|| panic!("{}", text(&output.stderr)));
    assert_eq!(summary["type"], "summary");
    let named = lines.into_iter().map(|record| (record["name"].as_str().unwrap().to_owned(), record));
    (named.collect(), summary)
}

fn verdicts(records: &BTreeMap<String, Value>) -> BTreeMap<&str, &str> {
    records.iter().map(|(name, record)| (name.as_str(), record["verdict"].as_str().unwrap())).collect()
}

fn is_restorable(verdict: &str) -> bool {
    matches!(verdict, "restorable" | "degraded")
}

/// What a restore of everything below `root` gives: the databases that were restored, by name.
fn restored(dir: &Path, pattern: &str) -> BTreeMap<String, bool> {
    let out = dir.join("restored");
    let ran =
        run(dir, &["restore-pattern", "-json", "-max-retries", "0", "-output-dir", out.to_str().unwrap(), pattern]);
    let (records, _) = records(&ran);
    std::fs::remove_dir_all(out).unwrap();
    let _ = std::fs::remove_file(dir.join("litestream-restore-errors.log"));
    records.into_iter().map(|(name, record)| (name, record["outcome"] == "restored")).collect()
}

#[test]
fn full_and_sqlite_say_what_a_restore_says_and_the_others_never_say_worse() {
    let dir = tempfile::tempdir().unwrap();
    for part in ["single", "fleet/bucket"] {
        let root = corpus().join(part).canonicalize().unwrap();
        let pattern = format!("file://{}/**", root.display());
        let by_restore = restored(dir.path(), &pattern);
        assert!(by_restore.len() > 5 && by_restore.values().any(|restored| *restored));
        for depth in ["plan", "headers", "full", "sqlite"] {
            let ran = run(dir.path(), &["verify", "-json", "-max-retries", "0", "-depth", depth, &pattern]);
            let (records, summary) = records(&ran);
            let verdicts = verdicts(&records);
            assert_eq!(verdicts.len(), by_restore.len());
            for (name, verdict) in &verdicts {
                let was_restored = by_restore[*name];
                let record = &records[*name];
                match depth {
                    "full" | "sqlite" => assert_eq!(is_restorable(verdict), was_restored, "{depth} {record}"),
                    _ => assert!(is_restorable(verdict) || !was_restored, "{depth} {record}"),
                }
            }
            let failed = verdicts.values().filter(|verdict| !is_restorable(verdict)).count();
            assert_eq!(ran.status.code(), Some(if failed == 0 { 0 } else { 3 }), "{}", text(&ran.stderr));
            assert_eq!(summary["databases"], verdicts.len());
            let from = if depth == "plan" { "last_modified" } else { "header" };
            let ltx = records.values().filter(|record| record["format"] == "ltx" && record["verdict"] == "restorable");
            assert!(ltx.clone().count() > 0 && ltx.clone().all(|record| record["time_source"] == from), "{depth}");
            assert_eq!(summary.get("forecast").is_some(), matches!(depth, "full" | "sqlite"));
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

/// A bucket with sound databases, written by SQLite, and the pattern that matches them.
fn bucket(count: usize) -> (SimServer, String) {
    let server = SimServer::start(SimOptions::default()).unwrap();
    server.objects().create_bucket("bucket");
    for database in sample_fleet(count, 7).unwrap() {
        server.objects().put_database("bucket", &database);
    }
    let pattern = format!("s3://bucket/sample/**?endpoint={}", server.endpoint());
    (server, pattern)
}

#[test]
fn depths_send_no_more_requests_than_they_need() {
    let dir = tempfile::tempdir().unwrap();
    let (server, pattern) = bucket(4);
    let mut gets = Vec::new();
    for depth in ["plan", "headers", "full"] {
        let before = server.stats().of_kind(RequestKind::Get);
        let ran = run(dir.path(), &["verify", "-json", "-depth", depth, &pattern]);
        assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
        let files: u64 = records(&ran).0.values().map(|record| record["files"].as_u64().unwrap()).sum();
        gets.push((server.stats().of_kind(RequestKind::Get) - before, files));
    }
    let [(0, _), (headers, planned), (full, _)] = gets[..] else { panic!("{gets:?}") };
    assert_eq!((headers, full), (2 * planned, planned));
}

#[test]
fn queries_are_answered_and_ages_and_earlier_reports_are_held_to() {
    let dir = tempfile::tempdir().unwrap();
    let (server, pattern) = bucket(3);
    let sql = "SELECT count(*) FROM notes";
    let ran = run(dir.path(), &["verify", "-json", "-depth", "sqlite", "-sql", sql, "-scratch", ".", &pattern]);
    let (first, _) = records(&ran);
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    assert!(first.values().all(|record| record["queries"][0]["row"][0].as_str().unwrap().parse::<u32>().is_ok()));
    std::fs::write(dir.path().join("last.json"), &ran.stdout).unwrap();

    for (wrong, says) in [
        ("SELECT 1 FROM nowhere", "no such table"),
        ("SELECT 1 WHERE 0", "gives no row"),
        ("DELETE FROM notes", "would write"),
    ] {
        let ran = run(dir.path(), &["verify", "-json", "-depth", "sqlite", "-sql", wrong, &pattern]);
        let (failed, _) = records(&ran);
        assert_eq!(ran.status.code(), Some(1), "{}", text(&ran.stderr));
        for record in failed.values() {
            assert!(record["reason"].as_str().unwrap().contains(says), "{record}");
            assert_eq!((&record["verdict"], &record["class"]), (&"not restorable".into(), &"integrity check".into()));
        }
    }

    // Generated databases are years old.
    let ran = run(dir.path(), &["verify", "-json", "-depth", "plan", "-max-age", "7d", &pattern]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(verdicts(&records(&ran).0).values().all(|verdict| *verdict == "stale"));

    // One database has vanished, and of another the newest file.
    let names: Vec<String> = first.keys().cloned().collect();
    for key in server.objects().keys("bucket", &format!("{}/", names[0])) {
        server.objects().remove("bucket", &key);
    }
    let newest = format!("{}.ltx", first[&names[1]]["txid"].as_str().unwrap());
    for key in server.objects().keys("bucket", &format!("{}/", names[1])) {
        if key.ends_with(&newest) {
            server.objects().remove("bucket", &key);
        }
    }
    let ran = run(dir.path(), &["verify", "-json", "-expect", "last.json", &pattern]);
    let (now, _) = records(&ran);
    assert_eq!(ran.status.code(), Some(3), "{}", text(&ran.stderr));
    assert_eq!(now[&names[0]]["class"], "backup not found");
    assert!(now[&names[1]]["reason"].as_str().unwrap().contains("transactions are lost"), "{}", now[&names[1]]);
    assert_eq!(now[&names[2]]["verdict"], "restorable");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the report is left");
}

#[test]
fn samples_cover_the_fleet_once() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, pattern) = bucket(12);
    for seed in ["", "december"] {
        let mut seen = Vec::new();
        for sample in ["0/3", "1/3", "2/3"] {
            let ran =
                run(dir.path(), &["verify", "-json", "-depth", "plan", "-sample", sample, "-seed", seed, &pattern]);
            seen.extend(records(&ran).0.into_keys());
        }
        seen.sort();
        assert_eq!(seen.len(), 12);
        seen.dedup();
        assert_eq!(seen.len(), 12);
    }
}

#[test]
fn people_see_the_failures_first_and_a_command_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let root = corpus().join("fleet/bucket").canonicalize().unwrap();
    let ran = run(dir.path(), &["verify", "-max-retries", "0", &format!("file://{}/**", root.display())]);
    let stdout = text(&ran.stdout);
    let rows: Vec<&str> = stdout.lines().skip(1).filter(|line| !line.starts_with(' ')).collect();
    let first_good = rows.iter().position(|row| !row.starts_with("not restorable")).unwrap();
    assert!(first_good > 0 && rows[first_good..].iter().all(|row| !row.starts_with("not restorable")), "{stdout}");
    assert!(rows.iter().all(|row| row.chars().count() <= 80), "{stdout}");
    let commands: Vec<&str> = stdout.lines().filter_map(|line| line.trim().strip_prefix("hydrant ")).collect();
    assert!(!commands.is_empty(), "{stdout}");
    for command in commands {
        let args: Vec<&str> = command.split(' ').collect();
        let ran = run(dir.path(), &args);
        assert_eq!(ran.status.code(), Some(0), "{command}: {}", text(&ran.stderr));
        std::fs::remove_file(dir.path().join("app.db")).unwrap();
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["verify"][..],
        &["verify", "-sql", "SELECT 1", "file:///x/**"],
        &["verify", "-depth", "deep", "file:///x/**"],
        &["verify", "-sample", "3/3", "file:///x/**"],
        &["verify", "-sample", "0/3", "-shard", "0/3", "file:///x/**"],
        &["verify", "-integrity-check", "none", "file:///x/**"],
        &["verify", "-max-age", "old", "file:///x/**"],
    ] {
        let ran = run(dir.path(), args);
        assert_eq!((ran.status.code(), ran.stdout.is_empty()), (Some(2), true), "{args:?} {}", text(&ran.stderr));
    }
    let ran = run(dir.path(), &["verify", "-expect", "missing.json", "file:///x/**"]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(text(&ran.stderr).contains("missing.json"), "{}", text(&ran.stderr));
}
