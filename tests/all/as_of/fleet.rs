//! `restore-pattern`, `verify` and `bench` on the past of a versioned bucket.

use super::support::{BUCKET, named, only_read, run, sha256, time};
use hydrant::sim::server::{Object, SimOptions, SimServer};
use hydrant::timestamp::Timestamp;
use serde_json::Value;

/// Three databases with one recorded history. All files of the first are deleted later; the second goes on; the third
/// begins later.
fn scene(max_keys: usize) -> (SimServer, Value) {
    let one = named("relineage-s-coarse");
    let source = one.serve(1000);
    let target = one.targets.iter().find(|t| t["version_ids"].as_array().is_some_and(|ids| ids.len() > 1)).unwrap();
    let server = SimServer::start(SimOptions { max_keys, ..SimOptions::default() }).unwrap();
    let recorded: Value = serde_json::from_slice(&std::fs::read(&one.file).unwrap()).unwrap();
    let mut keys: Vec<&str> =
        recorded["versions"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap()).collect();
    keys.dedup();
    let later = Timestamp::parse_rfc3339("2026-11-28T03:00:00Z").unwrap();
    for name in ["t/a.db", "t/b.db", "t/c.db"] {
        for key in &keys {
            for entry in source.versions().entries(BUCKET, &format!("{}/{key}", one.path)).into_iter().rev() {
                let key = format!("{name}/{key}");
                let delay = if name == "t/c.db" { 3_600_000_000_000 } else { 0 };
                let at = entry.last_modified.saturating_add_nanos(delay);
                match entry.object {
                    Some(object) => {
                        let object = (*object).clone().last_modified(at);
                        server.versions().put_version(BUCKET, &key, &entry.id, object);
                    }
                    None => server.versions().put_marker(BUCKET, &key, &entry.id, at),
                }
            }
        }
    }
    for key in server.objects().keys(BUCKET, "t/a.db/") {
        server.versions().put_marker(BUCKET, &key, "gone", later);
    }
    (server, target.clone())
}

#[test]
fn the_databases_of_a_time_are_restored() {
    for max_keys in [7, 1000] {
        let (server, target) = scene(max_keys);
        let (dir, at) = (tempfile::tempdir().unwrap(), target["as_of"].as_str().unwrap());
        let args = ["restore-pattern", "--as-of", at, "-report", "r.json", "-output-dir", "out", "s3://bucket/t/**"];
        let ran = run(dir.path(), &server, &args);
        ran.said(0, &["restored 2,", "2 databases, of which 1 have nothing in the bucket now"]);
        for name in ["a.db", "b.db"] {
            assert_eq!(sha256(&dir.path().join("out").join(name)), target["sha256"].as_str().unwrap());
        }
        assert!(!dir.path().join("out/c.db").exists());
        let report: Value = serde_json::from_slice(&std::fs::read(dir.path().join("r.json")).unwrap()).unwrap();
        for database in report["databases"].as_array().unwrap() {
            assert_eq!(database["version_ids"], target["version_ids"]);
            assert_eq!(database["history_complete"], true);
            assert!(database["as_of"].is_string() && database["state_time"].is_string());
        }
        only_read(&server);
    }
}

#[test]
fn a_fleet_of_the_past_is_verified_and_measured() {
    let (server, target) = scene(1000);
    let (dir, at) = (tempfile::tempdir().unwrap(), target["as_of"].as_str().unwrap());
    let verified = run(dir.path(), &server, &["verify", "-json", "-as-of", at, "s3://bucket/t/**"]).said(0, &[]);
    let lines: Vec<Value> = verified.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let txids: Vec<_> = lines.iter().filter(|line| line["type"] == "database").map(|line| &line["txid"]).collect();
    assert_eq!(txids, [&target["txid"], &target["txid"]]);
    let shown = Value::from(time(at).to_string());
    let of_past = |database: &Value| {
        assert_eq!((&database["as_of"], &database["version_ids"]), (&shown, &target["version_ids"]));
        assert!(database["history_complete"] == true && database["state_time"].is_string(), "{database}");
    };
    lines.iter().filter(|line| line["type"] == "database").for_each(of_past);
    let args = ["bench", "-json", "-as-of", at, "-report", "r.json", "s3://bucket/t/**"];
    let bench = run(dir.path(), &server, &args).said(0, &[]).json();
    assert_eq!((&bench["as_of"], &bench["history_complete"]), (&shown, &true.into()), "{bench}");
    let report: Value = serde_json::from_slice(&std::fs::read(dir.path().join("r.json")).unwrap()).unwrap();
    assert_eq!(report["databases"].as_array().unwrap().len(), 2);
    report["databases"].as_array().unwrap().iter().for_each(of_past);
    assert!(bench["stages"].as_array().unwrap().iter().all(|stage| stage["databases"] == 2), "{bench}");
    only_read(&server);
}

#[test]
fn a_time_after_the_present_is_wrong_usage() {
    let (server, _) = scene(1000);
    let dir = tempfile::tempdir().unwrap();
    for command in ["verify", "bench"] {
        let args = [command, "-as-of", "2100-01-01T00:00:00Z", "s3://bucket/t/**"];
        run(dir.path(), &server, &args).said(2, &["lies after the present"]);
    }
}

/// The newest file of one database is damaged: the command for the state before it reads the same past.
#[test]
fn the_command_for_an_intact_state_reads_the_same_past() {
    let (server, target) = scene(1000);
    let (dir, at) = (tempfile::tempdir().unwrap(), target["as_of"].as_str().unwrap());
    let newest = target["version_ids"].as_array().unwrap().last().unwrap().as_str().unwrap();
    let recorded: Value = serde_json::from_slice(&std::fs::read(named("relineage-s-coarse").file).unwrap()).unwrap();
    let entry = recorded["versions"].as_array().unwrap().iter().find(|entry| entry["version_id"] == newest).unwrap();
    let key = format!("t/b.db/{}", entry["key"].as_str().unwrap());
    assert!(server.versions().remove_version(BUCKET, &key, newest));
    let damaged = Object::new("damaged").last_modified(time(entry["last_modified"].as_str().unwrap()));
    server.versions().put_version(BUCKET, &key, newest, damaged);
    // The simulator puts the damaged version above the delete marker, which is then the oldest entry of its key.
    let args = ["verify", "-json", "-as-of", at, "-allow-incomplete-history", "s3://bucket/t/**"];
    let verified = run(dir.path(), &server, &args);
    let mut lines = verified.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let damaged = lines.find(|line| line["name"] == "t/b.db").unwrap_or_else(|| panic!("{verified:?}"));
    let command = damaged["newest_intact"]["command"].as_str().unwrap_or_else(|| panic!("{verified:?}"));
    let expected = format!("hydrant restore -newest-intact -as-of {} -allow-incomplete-history -o ", time(at));
    assert!(command.starts_with(&expected), "{command}");
}

#[test]
fn a_dry_run_of_a_fleet() {
    let (server, target) = scene(1000);
    let (dir, at) = (tempfile::tempdir().unwrap(), target["as_of"].as_str().unwrap());
    let ran =
        run(dir.path(), &server, &["restore-pattern", "-dry-run", "--as-of", at, "s3://bucket/t/**"]).said(0, &[]);
    assert_eq!(ran.stdout.lines().filter(|line| line.contains(".db")).count(), 2, "{}", ran.stdout);
    let args = ["restore-pattern", "-dry-run", "-json", "--as-of", at, "s3://bucket/t/**"];
    let json = run(dir.path(), &server, &args).said(0, &[]).stdout;
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let planned: Vec<_> = lines.iter().filter(|line| line["type"] == "database").collect();
    assert_eq!(planned.len(), 2);
    for database in planned {
        assert_eq!(database["version_ids"], target["version_ids"]);
        // The age is measured back from the time of the bucket.
        assert!(database["age_s"].as_u64().unwrap() < 60, "{database}");
    }
    only_read(&server);
}
