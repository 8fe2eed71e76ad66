//! Tests of `-newest-intact` with a fleet: exit codes, the lines of JSON, the summary and the report.

use super::support::*;
use hydrant::sim::generate::{GeneratedDatabase, LargeSpec, large_database};
use hydrant::sim::server::{Faults, Object, SimServer};
use serde_json::Value;

/// A snapshot and eight increments below this root.
fn database(root: &str) -> GeneratedDatabase {
    let spec = LargeSpec { root: root.to_owned(), bytes: 64 << 10, increments: 8, ..LargeSpec::default() };
    large_database(&spec).unwrap().to_database()
}

/// Databases by name, each with the object that is damaged and whether it is missing instead.
fn bucket(databases: &[(&str, Option<(usize, bool)>)]) -> SimServer {
    let server = simulator(Faults::default());
    for (name, damage) in databases {
        let database = database(name);
        server.objects().put_database("bucket", &database);
        let Some((at, is_missing)) = *damage else { continue };
        let object = &database.objects[at];
        assert!(server.objects().remove("bucket", &object.key));
        if !is_missing {
            let half = object.bytes.slice(..object.bytes.len() / 2);
            server.objects().put("bucket", &object.key, Object::new(half));
        }
    }
    server
}

/// Runs `restore-pattern -json` with these flags, and returns the lines by name, and the summary.
fn ran(server: &SimServer, place: &Place, flags: &[&str]) -> (Ran, Vec<(String, Value)>, Value) {
    let (out, pattern) = (place.path("out"), url(&server.endpoint(), "**"));
    let args = [&["restore-pattern", "-json", "-output-dir", &out], flags, &[&pattern]].concat();
    let ran = run(hydrant_s3(&args).current_dir(place.dir()));
    let mut lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap();
    let mut lines: Vec<(String, Value)> =
        lines.into_iter().map(|line| (line["name"].as_str().unwrap().to_owned(), line)).collect();
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    (ran, lines, summary)
}

const DAMAGED: [(&str, Option<(usize, bool)>); 4] =
    [("a.db", None), ("b.db", Some((4, true))), ("c.db", Some((6, false))), ("d.db", None)];

#[test]
fn what_is_older_than_the_newest_state_makes_the_run_partial() {
    let server = bucket(&DAMAGED);
    let place = Place::new();
    let report = place.path("report.json");
    let (found, lines, summary) = ran(&server, &place, &["-newest-intact", "--report", &report]);
    assert_eq!(found.code, Some(3), "{found:?}");
    assert!(found.stderr.contains("2 of 4 databases were restored to an older state than the newest"), "{found:?}");
    // They are named in the order in which they end.
    let named = ["b.db, c.db", "c.db, b.db"];
    let named = named.map(|names| format!("older than the newest state, which cannot be had: 2 databases: {names}\n"));
    assert!(named.iter().any(|line| found.stderr.contains(line)), "{found:?}");
    assert!(!found.stderr.contains("restored around"), "{found:?}");
    let lost: Vec<Option<&str>> = lines.iter().map(|(_, line)| line["lost"].as_str()).collect();
    assert!(lost[0].is_none() && lost[3].is_none(), "{lost:?}");
    assert!(
        lost[1].unwrap().contains("have up to 0000000000000004 but next file starts at 0000000000000006"),
        "{lost:?}"
    );
    assert!(lost[2].unwrap().contains("c.db/0000/0000000000000007-0000000000000007.ltx"), "{lost:?}");
    for ((_, line), txid) in lines.iter().zip([9, 4, 6, 9]) {
        assert_eq!((&line["outcome"], &line["txid"]), (&"restored".into(), &format!("{txid:016x}").into()), "{line}");
        assert_eq!(line["warnings"].is_array(), txid < 9, "{line}");
        if txid < 9 {
            let first = line["warnings"][0].as_str().unwrap();
            assert!(first.starts_with(&format!("not the newest state: TXID {txid:016x}")), "{line}");
        }
    }
    let counts =
        ["restored", "failed", "not_newest", "restored_around_damage"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!(counts, [4, 0, 2, 0], "{summary}");
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["summary"]["not_newest"], 2, "{report}");
    for (name, txid) in [("a.db", 9), ("b.db", 4), ("c.db", 6), ("d.db", 9)] {
        let database = database(name);
        let states = database.objects.iter().take(txid).map(|object| &object.bytes[..]);
        let expected = hydrant::sim::naive::restore(states).unwrap();
        assert!(std::fs::read(place.path(&format!("out/{name}"))).unwrap() == expected, "{name}");
    }
}

#[test]
fn without_the_flag_they_fail_and_without_damage_the_flag_changes_nothing() {
    let server = bucket(&DAMAGED);
    let place = Place::new();
    let (found, _, summary) = ran(&server, &place, &[]);
    assert_eq!((found.code, &summary["failed"], &summary["not_newest"]), (Some(3), &2.into(), &0.into()), "{found:?}");
    assert_eq!((&summary["failures"]["hole"], &summary["failures"]["truncated"]), (&1.into(), &1.into()), "{summary}");
    let healthy = bucket(&[("a.db", None), ("b.db", None)]);
    let place = Place::new();
    let (found, lines, summary) = ran(&healthy, &place, &["-newest-intact"]);
    assert_eq!((found.code, &summary["not_newest"]), (Some(0), &0.into()), "{found:?}");
    assert!(lines.iter().all(|(_, line)| line["lost"].is_null() && line["warnings"].is_null()), "{lines:?}");
}

#[test]
fn one_database_that_fails_and_one_that_is_older() {
    // The snapshot of b.db is damaged, so nothing of it can be had.
    let server = bucket(&[("a.db", Some((3, false))), ("b.db", Some((0, false)))]);
    let place = Place::new();
    let (found, lines, summary) = ran(&server, &place, &["-newest-intact"]);
    assert_eq!((found.code, &summary["failed"], &summary["not_newest"]), (Some(3), &1.into(), &1.into()), "{found:?}");
    assert_eq!((&lines[1].1["outcome"], &lines[1].1["class"]), (&"failed".into(), &"truncated".into()), "{lines:?}");
    assert!(lines[1].1["lost"].is_null(), "{lines:?}");
}

#[test]
fn a_dry_run_of_a_fleet_says_what_the_listing_shows() {
    let server = bucket(&DAMAGED);
    let place = Place::new();
    let (found, lines, summary) = ran(&server, &place, &["-newest-intact", "-dry-run"]);
    assert_eq!((found.code, &summary["planned"], &summary["not_newest"]), (Some(3), &4.into(), &1.into()), "{found:?}");
    assert!(found.stderr.contains("1 of 4 databases can be restored to an older state"), "{found:?}");
    let lost: Vec<bool> = lines.iter().map(|(_, line)| line["lost"].is_string()).collect();
    assert_eq!(lost, [false, true, false, false], "{lines:?}");
    assert_eq!(lines[1].1["txid"], format!("{:016x}", 4), "{lines:?}");
    place.is_empty();
}
