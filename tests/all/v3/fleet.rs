//! The fleet of Litestream 0.3 through `hydrant restore-pattern`: by URL and by configuration, from disk and from the
//! simulator, to the newest states and to moments in the past.

use super::support::{Recorded, fleet, fleet_folder};
use crate::fleet::{Host, Ran, json_lines, sha256, simulator, url};
use hydrant::hex::Hex;
use hydrant::sim::generate::v3::{GeneratedV3, LargeV3Spec, large_v3};
use hydrant::sim::server::{SimOptions, SimServer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn simulated(fleet: &Recorded) -> SimServer {
    let server = simulator(SimOptions::default());
    fleet.put(&server, "fleet", "");
    server
}

/// Whether the reason in the error log has the class that the manifest names.
fn is_expected(reason: &str, expect: &str) -> bool {
    // After the class comes a colon, or the rest of a sentence that begins with it.
    expect.split(" or ").any(|class| reason.strip_prefix(class).is_some_and(|rest| rest.starts_with([':', ' '])))
}

/// The databases whose damage a restore goes around because another snapshot is there, and says so.
const AROUND: [&str; 3] =
    ["damaged/bad-newest-snapshot/app.db", "damaged/empty-newest-snapshot/app.db", "damaged/not-a-database/app.db"];

/// The output of this database would lie below a path that is a file.
const NESTED: &str = "backups/tenants/initech/app.db/old/copy.db";

fn databases(fleet: &Recorded) -> impl Iterator<Item = (&str, &Value)> {
    fleet.manifest["databases"].as_array().unwrap().iter().map(|d| (d["key"].as_str().unwrap(), d))
}

/// Restores the whole fleet from `pattern`. The names of databases are their keys behind `name_prefix`.
fn the_whole_fleet(fleet: &Recorded, pattern: &str, name_prefix: &str, more: &[&str]) -> Ran {
    let host = Host::new();
    let args = [&["--output-dir", "out", "--report", "report.json", "--max-retries", "1"], more, &[pattern]].concat();
    let ran = host.run(&args);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{}", ran.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(host.path("report.json")).unwrap()).unwrap();
    let records: BTreeMap<&str, &Value> =
        report["databases"].as_array().unwrap().iter().map(|r| (r["name"].as_str().unwrap(), r)).collect();
    let (mut healthy, mut failed) = (BTreeSet::new(), BTreeSet::new());
    let mut problems = Vec::new();
    for (key, database) in databases(fleet) {
        let name = format!("{name_prefix}{key}");
        let Some(record) = records.get(name.as_str()) else {
            problems.push(format!("{key}: no record"));
            continue;
        };
        let expect = database["expect"].as_str().unwrap_or_default();
        let reason = ran.failures.get(&name).map_or("", String::as_str);
        match database["sha256"].as_str() {
            _ if key == NESTED => {
                if !reason.starts_with("path collision: ") {
                    problems.push(format!("{key}: {reason}"));
                }
                failed.insert(name);
            }
            Some(hash) => {
                if sha256(&host.path("out").join(key)) != hash || record["outcome"] != "restored" {
                    problems.push(format!("{key}: another database, or none: {record}"));
                }
                if AROUND.contains(&key) != record["warnings"].to_string().contains(".snapshot.lz4") {
                    problems.push(format!("{key}: warnings: {record}"));
                }
                healthy.insert(key.to_owned());
            }
            None => {
                if !is_expected(reason, expect) || record["outcome"] != "failed" {
                    problems.push(format!("{key}: expected {expect}: {reason} {record}"));
                }
                failed.insert(name);
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(host.files("out"), healthy);
    assert_eq!(ran.failures.keys().cloned().collect::<BTreeSet<_>>(), failed);
    assert_eq!(records.len(), healthy.len() + failed.len());
    let summary = &report["summary"];
    assert_eq!((&summary["restored"], &summary["failed"]), (&healthy.len().into(), &failed.len().into()));

    // A second run touches only what failed.
    let again = host.run(&[&args[..4], &["--if-db-not-exists", "-json", "--max-retries", "0", pattern]].concat());
    assert_eq!(again.code, 3, "{}", again.stderr);
    let (_, summary) = json_lines(&again.stdout);
    assert_eq!((&summary["skipped"], &summary["restored"]), (&healthy.len().into(), &0.into()));
    assert_eq!(again.failures, ran.failures);
    ran
}

#[test]
fn by_url_from_the_simulator() {
    let fleet = fleet();
    let server = simulated(&fleet);
    let ran = the_whole_fleet(&fleet, &url(&server, "fleet/**"), "", &[]);
    // The line of the discovery counts all databases, and those that have files of 0.3 only.
    let count = databases(&fleet).count();
    let v3_only = databases(&fleet).filter(|(_, d)| d["format"] != "ltx").count();
    let line = ran.stderr.lines().find(|line| line.contains("found ")).unwrap_or_default();
    for words in [
        format!("found {count} databases in "),
        format!("{count} with backups, 0 without"),
        format!(", {v3_only} in Litestream 0.3's format"),
    ] {
        assert!(line.contains(&words), "{words}: {line}");
    }
}

#[test]
fn by_url_from_disk() {
    let (fleet, dir) = (fleet(), tempfile::tempdir().unwrap());
    let bucket = dir.path().join("bucket");
    fleet.write(&bucket);
    the_whole_fleet(&fleet, &format!("file://{}/**", bucket.display()), &format!("{}/", bucket.display()), &[]);
}

/// With one request at a time, and little memory.
#[test]
fn by_url_one_request_after_the_other() {
    let fleet = fleet();
    let server = simulated(&fleet);
    let more = ["--max-requests", "1", "--parallel", "3", "--io-engine", "pwrite", "--memory", "64MiB"];
    the_whole_fleet(&fleet, &url(&server, "fleet/**"), "", &more);
}

/// Each moment in the manifest, for all databases at once. `hash_of` is where a database is to be found.
#[test]
fn moments_in_the_past() {
    let (fleet, dir) = (fleet(), tempfile::tempdir().unwrap());
    let server = simulated(&fleet);
    fleet.write(&dir.path().join("bucket"));
    let by_url = url(&server, "fleet/backups/**");
    let on_disk = format!("file://{}/backups/**", dir.path().join("bucket").display());
    for moment in fleet.manifest["moments"].as_array().unwrap() {
        let moment = moment.as_str().unwrap();
        for pattern in [&by_url, &on_disk] {
            let host = Host::new();
            let ran = host.run(&["--output-dir", "out", "--max-retries", "0", "--timestamp", moment, pattern]);
            // The nested database collides, and fails.
            assert_eq!((ran.code, ran.failures.len()), (3, 1), "{moment}: {:?} {}", ran.failures, ran.stderr);
            let mut checked = BTreeSet::new();
            for (key, database) in databases(&fleet) {
                let Some(hash) = database["at"][moment].as_str() else { continue };
                let relative = key.strip_prefix("backups/").unwrap();
                assert_eq!(sha256(&host.path("out").join(relative)), hash, "{moment} {key}");
                checked.insert(relative.to_owned());
            }
            assert!(!checked.is_empty());
            assert_eq!(host.files("out"), checked);
        }
    }
    // Before all of them.
    let host = Host::new();
    let ran = host.run(&["--output-dir", "out", "--max-retries", "0", "--timestamp", "2026-01-01T00:00:00Z", &by_url]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let too_old = ran.failures.values().filter(|reason| reason.contains("timestamp does not exist")).count();
    assert_eq!(too_old, ran.failures.len() - 1, "{:?}", ran.failures);
    assert!(host.files("out").is_empty());
}

/// Writes the manifest's litestream.yml as 0.3 had it. A damaged tenant and a database that was never backed up are
/// added. The paths of databases lie below `root`.
fn write_config(fleet: &Recorded, host: &Host, server: &SimServer, root: &str) {
    let endpoint = server.endpoint();
    let more = "  - dir: /srv-host/damaged\n    pattern: '*.db'\n    recursive: true\n    replica:\n      \
                url: s3://fleet/damaged?endpoint=http://ENDPOINT&forcePathStyle=true&region=us-east-1\n  \
                - path: /srv-host/new/never.db\n    replica:\n      \
                url: s3://fleet/never.db?endpoint=http://ENDPOINT&forcePathStyle=true&region=us-east-1\n\
                restore-pattern:\n  parallel-workers: 7\n  max-retries: 1\n  retry-delay: 10ms\n";
    let config = format!("{}{more}", fleet.manifest["config"].as_str().unwrap());
    let config = config.replace("ENDPOINT", endpoint.strip_prefix("http://").unwrap()).replace("/srv-host", root);
    std::fs::write(host.path("litestream.yml"), config).unwrap();
}

#[test]
fn by_config_to_the_configured_paths() {
    let fleet = fleet();
    let server = simulated(&fleet);
    let host = Host::new();
    let root = host.path("srv-host").to_str().unwrap().to_owned();
    write_config(&fleet, &host, &server, &root);
    let pattern = format!("{root}/**");
    let ran = host.run(&["-config", "litestream.yml", "-json", &pattern]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let mut expected = BTreeSet::new();
    for (key, database) in databases(&fleet) {
        let path = match database["config_path"].as_str() {
            Some(path) => path.replace("/srv-host", &root),
            None if key.starts_with("damaged/") => format!("{root}/{key}"),
            None => continue,
        };
        match database["sha256"].as_str() {
            Some(hash) => {
                assert_eq!(sha256(Path::new(&path)), hash, "{path}");
                expected.insert(path.strip_prefix(&format!("{root}/")).unwrap().to_owned());
            }
            None => {
                let expect = database["expect"].as_str().unwrap();
                let reason = ran.failures.get(&path).map_or("", String::as_str);
                assert!(is_expected(reason, expect), "{path}: {expect}: {reason}");
            }
        }
    }
    assert_eq!(host.files("srv-host"), expected);
    let never = format!("{root}/new/never.db");
    assert_eq!(ran.failures[&never], "backup not found: no matching backup files available");

    // Only the database without any file may be skipped, none of those without a usable snapshot.
    let args = ["-config", "litestream.yml", "-if-replica-exists", "-if-db-not-exists", "-json", &pattern];
    let again = host.run(&args);
    let (records, _) = json_lines(&again.stdout);
    assert_eq!(records[&never]["outcome"], "skipped");
    assert_eq!((again.code, again.failures.len()), (3, ran.failures.len() - 1));
}

#[test]
fn by_config_to_a_moment() {
    let fleet = fleet();
    let server = simulated(&fleet);
    let host = Host::new();
    write_config(&fleet, &host, &server, "/srv-host");
    let moment = fleet.manifest["moments"][1].as_str().unwrap();
    let pattern = "/srv-host/srv/tenants/**";
    let args = ["-config", "litestream.yml", "--output-dir", "out", "--timestamp", moment, pattern];
    let planned = host.run(&[&args[..], &["-dry-run"]].concat());
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    assert!(!host.path("out").exists(), "a dry run writes nothing");
    let ran = host.run(&args);
    assert_eq!((ran.code, ran.failures.len()), (0, 0), "{}", ran.stderr);
    let mut expected = BTreeSet::new();
    for (key, database) in databases(&fleet) {
        let path = database["config_path"].as_str().unwrap_or_default();
        let Some(relative) = path.strip_prefix("/srv-host/srv/tenants/") else { continue };
        assert_eq!(sha256(&host.path("out").join(relative)), database["at"][moment].as_str().unwrap(), "{key}");
        assert!(planned.stdout.contains(path), "{path}: {}", planned.stdout);
        expected.insert(relative.to_owned());
    }
    assert_eq!(host.files("out"), expected);
}

/// A fleet of both formats: LTX databases beside those of 0.3.
#[test]
fn databases_of_both_formats_in_one_run() {
    use hydrant::sim::generate::{TinyFleet, tiny_fleet};
    let fleet = fleet();
    let server = simulated(&fleet);
    let ltx = tiny_fleet(&TinyFleet { count: 20, ..TinyFleet::default() }).unwrap();
    ltx.iter().for_each(|database| server.objects().put_database("fleet", database));
    let host = Host::new();
    let ran =
        host.run(&["--output-dir", "out", "-json", "--first", "backups/**", &url(&server, "fleet/{backups,fleet}/**")]);
    assert_eq!((ran.code, ran.failures.len()), (3, 1), "{:?} {}", ran.failures, ran.stderr);
    let (records, summary) = json_lines(&ran.stdout);
    for database in &ltx {
        let name = database.root.trim_end_matches('/');
        let hash = hydrant::hex::Hex(&database.expected.sha256).to_string();
        assert_eq!(sha256(&host.path("out").join(name)), hash, "{name}");
        assert_eq!(records[name]["txid"], database.expected.txid.to_string(), "{}", records[name]);
    }
    let of_v3 =
        databases(&fleet).filter(|(key, d)| key.starts_with("backups/") && *key != NESTED && d["sha256"].is_string());
    let mut restored = ltx.len();
    for (key, database) in of_v3 {
        assert_eq!(sha256(&host.path("out").join(key)), database["sha256"].as_str().unwrap(), "{key}");
        assert!(records[key]["txid"].as_str().is_none_or(str::is_empty), "{}", records[key]);
        restored += 1;
    }
    assert_eq!(summary["restored"], restored);
}

/// The copy in the fixtures is a part of the whole fleet, so a test without the corpora tests less, not another thing.
#[test]
fn the_copy_of_the_fleet_is_a_part_of_it() {
    let (_, is_whole) = fleet_folder();
    if !is_whole {
        return;
    }
    let copy = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus-v3/fleet");
    let copy = Recorded::load("copy", &copy.join("bucket"), &copy.join("fleet.json"));
    let fleet = fleet();
    for file in &copy.files {
        let original = fleet.files.iter().find(|f| f.key == file.key).unwrap();
        assert_eq!((&file.bytes, file.time), (&original.bytes, original.time), "{}", file.key);
    }
    let of_fleet: BTreeMap<_, _> = databases(&fleet).collect();
    assert!(databases(&copy).all(|(key, database)| of_fleet[key] == database));
}

/// Their blocks and their pages of WAL take turns with the same few write buffers.
#[test]
fn large_databases_with_little_memory() {
    let make = |n: u64| {
        let spec = LargeV3Spec {
            root: format!("db{n}.db"),
            bytes: n * 1_500_000,
            indexes: 1 + n as u32 % 3,
            segments: 3,
            seed: n,
            ..LargeV3Spec::default()
        };
        large_v3(&spec).unwrap().to_replica()
    };
    let replicas: Vec<GeneratedV3> = (1..=10).map(make).collect();
    let server = simulator(SimOptions::default());
    replicas.iter().for_each(|replica| server.objects().put_v3("fleet", replica));
    // With 64 MiB, a worker has as many buffers as one block takes.
    for (memory, engine) in [("16MiB", "auto"), ("64MiB", "auto"), ("64MiB", "pwrite"), ("128MiB", "auto")] {
        let host = Host::new();
        let limits = ["--memory", memory, "--io-engine", engine];
        let ran = host.run(&[&["--output-dir", "out"], &limits[..], &[&url(&server, "fleet/**")]].concat());
        assert_eq!(ran.code, 0, "{memory} {engine}: {}", ran.stderr);
        for replica in &replicas {
            let expected = Hex(&replica.newest().unwrap().sha256).to_string();
            assert_eq!(sha256(&host.path("out").join(&replica.root)), expected, "{memory} {engine} {}", replica.root);
        }
    }
}
