//! Tests of `hydrant restore-pattern` as an operator runs it: the corpus' fleet by URL and by configuration,
//! hostile keys, shards, faults, few descriptors, signals. The program runs against the simulator and against
//! files.

mod again;
mod catalogue;
mod limits;
mod metrics;
mod space;
mod stopped;

use crate::common::S3sServer;
use crate::common::wait::grant_time_to_end;
use hydrant::sim::generate::{GeneratedDatabase, TinyFleet, tiny_fleet};
use hydrant::sim::server::{Failure, Faults, Latency, Object, RequestKind, SimCredentials, SimOptions, SimServer};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

fn corpus() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = std::env::var_os("HYDRANT_CORPUS").map(PathBuf::from).unwrap_or(manifest.join("../shared/corpus"));
    let corpus = if beside.join("fleet/bucket").is_dir() {
        beside
    } else {
        println!("the whole corpus is not here: running the copies in tests/fixtures/corpus");
        manifest.join("tests/fixtures/corpus")
    };
    corpus.canonicalize().unwrap()
}

fn manifest() -> Value {
    serde_json::from_slice(&std::fs::read(corpus().join("fleet/fleet.json")).unwrap()).unwrap()
}

/// A temporary directory in which a test runs the program.
pub(crate) struct Host {
    dir: TempDir,
}

/// The output and the error log of one run.
pub(crate) struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// The error log: name of the database → reason.
    pub failures: BTreeMap<String, String>,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
        command.arg("restore-pattern").args(args);
        self.in_its_own(command)
    }

    /// A command that runs under a limit in the form of `ulimit`, for example `-n 64`.
    fn limited(&self, limit: &str, args: &[&str]) -> Command {
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("ulimit {limit} && exec \"$@\"")).arg("bash");
        command.arg(env!("CARGO_BIN_EXE_hydrant")).arg("restore-pattern").args(args);
        self.in_its_own(command)
    }

    fn in_its_own(&self, mut command: Command) -> Command {
        grant_time_to_end(command.env_clear())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCESS_KEY_ID", "AKIDHYDRANTTESTS")
            .env("AWS_SECRET_ACCESS_KEY", "hydrant-tests-secret-key")
            .env("AWS_REGION", "us-east-1")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.ran(self.command(args).output().unwrap())
    }

    fn ran(&self, output: Output) -> Ran {
        let log = std::fs::read_to_string(self.path("litestream-restore-errors.log")).unwrap_or_default();
        let failures = log.lines().map(|line| {
            let line = line.strip_prefix("Failed to restore: ").unwrap_or_else(|| panic!("{line}"));
            let (name, reason) = line.split_once(" - ").unwrap();
            (name.to_owned(), reason.to_owned())
        });
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            failures: failures.collect(),
        }
    }

    /// The paths of all files below `dir`, relative to it.
    pub(crate) fn files(&self, dir: &str) -> BTreeSet<String> {
        fn walk(dir: &Path, prefix: &str, found: &mut BTreeSet<String>) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), &format!("{name}/"), found);
                } else {
                    found.insert(name);
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(&self.path(dir), "", &mut found);
        found
    }
}

pub(crate) fn sha256(path: &Path) -> String {
    hydrant::hex::Hex(&Sha256::digest(std::fs::read(path).unwrap_or_default())).to_string()
}

/// Splits the lines of JSON into the records by name and the summary.
pub(crate) fn json_lines(stdout: &str) -> (BTreeMap<String, Value>, Value) {
    let mut lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap();
    assert_eq!(summary["type"], "summary");
    (lines.into_iter().map(|line| (line["name"].as_str().unwrap().to_owned(), line)).collect(), summary)
}

/// Whether the reason in the error log has the class that the manifest names.
fn is_expected(reason: &str, expect: &str) -> bool {
    match expect {
        "checksum or malformed page" | "checksum or malformed index" => {
            reason.starts_with("checksum mismatch: ") || reason.starts_with("malformed: ")
        }
        "checksum" => reason.starts_with("checksum mismatch: "),
        "malformed header" => reason.starts_with("malformed: ") && reason.contains("header"),
        class => reason.starts_with(&format!("{class}: ")),
    }
}

pub(crate) fn simulator(options: SimOptions) -> SimServer {
    let credentials = SimCredentials {
        access_key: "AKIDHYDRANTTESTS".into(),
        secret_key: "hydrant-tests-secret-key".into(),
        session_token: None,
    };
    SimServer::start(SimOptions { credentials: Some(credentials), ..options }).unwrap()
}

fn simulated_fleet() -> SimServer {
    let server = simulator(SimOptions::default());
    let fleet = corpus().join("fleet");
    let manifest = fleet.join("fleet.json");
    server.objects().load_folder("fleet", "", &fleet.join("bucket"), Some(&manifest)).unwrap();
    server
}

pub(crate) fn url(server: &SimServer, pattern: &str) -> String {
    format!("s3://{pattern}?endpoint={}&forcePathStyle=true", server.endpoint())
}

fn tiny(server: &SimServer, count: usize) -> Vec<GeneratedDatabase> {
    let fleet = tiny_fleet(&TinyFleet { count, ..TinyFleet::default() }).unwrap();
    fleet.iter().for_each(|database| server.objects().put_database("bucket", database));
    fleet
}

/// The number of databases of `fleet` that were restored below `dir`. Each must be correct byte for byte, and there
/// must be no other file.
fn whole_ones(host: &Host, dir: &str, fleet: &[GeneratedDatabase]) -> usize {
    let expected: BTreeMap<String, [u8; 32]> =
        fleet.iter().map(|d| (d.root.trim_end_matches('/').to_owned(), d.expected.sha256)).collect();
    let files = host.files(dir);
    for file in &files {
        let hash = expected.get(file).unwrap_or_else(|| panic!("{file} is no database of the fleet"));
        let found: [u8; 32] = Sha256::digest(std::fs::read(host.path(dir).join(file)).unwrap()).into();
        assert_eq!(&found, hash, "{file}");
    }
    files.len()
}

// --- tests with the corpus' fleet ---

/// Restores the whole fleet of the corpus from `pattern`. The names of databases are their keys behind
/// `name_prefix`.
fn the_whole_fleet(pattern: &str, name_prefix: &str) -> Ran {
    let host = Host::new();
    let ran = host.run(&["--output-dir", "out", "--report", "report.json", "-integrity-check", "full", pattern]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{}", ran.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(host.path("report.json")).unwrap()).unwrap();
    let records: BTreeMap<&str, &Value> =
        report["databases"].as_array().unwrap().iter().map(|r| (r["name"].as_str().unwrap(), r)).collect();
    let mut healthy = BTreeSet::new();
    let mut damaged = BTreeSet::new();
    for database in manifest()["databases"].as_array().unwrap() {
        let key = database["key"].as_str().unwrap();
        let name = format!("{name_prefix}{key}");
        let record = records[name.as_str()];
        let expect = database["expect"].as_str().unwrap_or_default();
        match database["sha256"].as_str() {
            // The output of this database would lie below a path that is a file now.
            _ if key == "nested/app.db/old/copy.db" => {
                assert!(ran.failures[&name].starts_with("path collision: "), "{:?}", ran.failures[&name]);
                damaged.insert(name);
            }
            Some(hash) => {
                assert_eq!(sha256(&host.path("out").join(key)), hash, "{key}");
                assert_eq!((&record["outcome"], &record["bytes"]), (&"restored".into(), &database["bytes"]));
                assert_eq!(record["warnings"].is_array(), expect.contains("reported"), "{record}");
                healthy.insert(key.to_owned());
            }
            None => {
                assert!(is_expected(&ran.failures[&name], expect), "{expect}: {}", ran.failures[&name]);
                assert_eq!(
                    (&record["outcome"], record["reason"].as_str()),
                    (&"failed".into(), Some(&*ran.failures[&name]))
                );
                damaged.insert(name);
            }
        }
    }
    assert_eq!(host.files("out"), healthy);
    assert_eq!(ran.failures.keys().cloned().collect::<BTreeSet<_>>(), damaged);
    assert_eq!(records.len(), healthy.len() + damaged.len());
    assert_eq!(report["summary"]["restored"], healthy.len());
    assert_eq!(report["summary"]["failed"], damaged.len());

    // A second run must touch only the databases that failed.
    let again = host.run(&["--output-dir", "out", "--if-db-not-exists", "-json", pattern]);
    assert_eq!(again.code, 3, "{}", again.stderr);
    let (records, summary) = json_lines(&again.stdout);
    let of = |outcome: &str| {
        records.iter().filter(|(_, r)| r["outcome"] == outcome).map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!((of("failed"), of("restored").len(), of("skipped").len()), (damaged, 0, healthy.len()));
    assert_eq!((&summary["skipped"], &summary["restored"]), (&healthy.len().into(), &0.into()));
    assert_eq!(again.failures, ran.failures);
    ran
}

#[test]
fn the_corpus_by_url_from_files() {
    let bucket = corpus().join("fleet/bucket");
    let ran = the_whole_fleet(&format!("file://{}/**", bucket.display()), &format!("{}/", bucket.display()));
    assert!(ran.stderr.contains("; in ") && !ran.stderr.contains(" request"), "{}", ran.stderr);
}

#[test]
fn the_corpus_by_url_from_the_simulator() {
    the_whole_fleet(&url(&simulated_fleet(), "fleet/**"), "");
}

#[test]
fn the_corpus_by_url_from_an_independent_server() {
    let server = S3sServer::serving_copy_of(&corpus().join("fleet/bucket"), "fleet");
    the_whole_fleet(&format!("s3://fleet/?endpoint={}&forcePathStyle=true", server.endpoint), "");
}

/// Writes a litestream.yml for the fleet. A damaged tenant and a database that was never backed up are added. The
/// paths of databases lie below `root`.
fn write_config(host: &Host, server: &SimServer, root: &str) -> Value {
    let manifest = manifest();
    let endpoint = server.endpoint();
    let endpoint = endpoint.strip_prefix("http://").unwrap();
    let more = "  - dir: /srv-host/damaged\n    pattern: '*.db'\n    recursive: true\n    replica:\n      \
                url: s3://fleet/damaged?endpoint=http://ENDPOINT&forcePathStyle=true&region=us-east-1\n  \
                - path: /srv-host/new/never.db\n    replica:\n      \
                url: s3://fleet/never.db?endpoint=http://ENDPOINT&forcePathStyle=true&region=us-east-1\n\
                restore-pattern:\n  parallel-workers: 7\n  max-retries: 1\n  retry-delay: 10ms\n";
    let config = format!("{}{more}", manifest["config"].as_str().unwrap());
    let config = config.replace("ENDPOINT", endpoint).replace("/srv-host", root);
    std::fs::write(host.path("litestream.yml"), config).unwrap();
    manifest
}

#[test]
fn the_corpus_by_config_to_the_configured_paths() {
    let server = simulated_fleet();
    let host = Host::new();
    let root = host.path("srv-host").to_str().unwrap().to_owned();
    let manifest = write_config(&host, &server, &root);
    let pattern = format!("{root}/**");
    let ran = host.run(&["-config", "litestream.yml", "-json", &pattern]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let mut expected = BTreeSet::new();
    for database in manifest["databases"].as_array().unwrap() {
        let key = database["key"].as_str().unwrap();
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
                assert!(is_expected(&ran.failures[&path], expect), "{expect}: {}", ran.failures[&path]);
            }
        }
    }
    assert_eq!(host.files("srv-host"), expected);
    let never = format!("{root}/new/never.db");
    assert_eq!(ran.failures[&never], "backup not found: no matching backup files available");

    // With `-if-replica-exists` the database without a backup may be skipped.
    let again = host.run(&["-config", "litestream.yml", "-if-replica-exists", "-if-db-not-exists", "-json", &pattern]);
    let (records, _) = json_lines(&again.stdout);
    assert_eq!(records[&never]["outcome"], "skipped");
    assert_eq!((again.code, again.failures.len()), (3, ran.failures.len() - 1));
}

#[test]
fn the_corpus_by_config_below_another_directory() {
    let server = simulated_fleet();
    let host = Host::new();
    let manifest = write_config(&host, &server, "/srv-host");
    let pattern = "/srv-host/srv/tenants/**/*.db";
    let args = ["-config", "litestream.yml", "--output-dir", "out", pattern];
    let planned = host.run(&[&args[..], &["-dry-run"]].concat());
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    assert!(host.files("out").is_empty() && !host.path("out").exists(), "a dry run writes nothing");
    let ran = host.run(&args);
    assert_eq!((ran.code, ran.failures.len()), (0, 0), "{}", ran.stderr);
    assert!(!host.path("litestream-restore-errors.log").exists());
    let mut expected = BTreeSet::new();
    for database in manifest["databases"].as_array().unwrap() {
        let path = database["config_path"].as_str().unwrap_or_default();
        let Some(relative) = path.strip_prefix("/srv-host/srv/tenants/") else { continue };
        assert_eq!(sha256(&host.path("out").join(relative)), database["sha256"].as_str().unwrap(), "{relative}");
        assert!(planned.stdout.contains(path), "{path}: {}", planned.stdout);
        expected.insert(relative.to_owned());
    }
    assert_eq!(host.files("out"), expected);
}

// --- tests of which databases are restored, where, and in what order ---

#[test]
fn keys_never_lead_out_of_the_output_directory() {
    let server = simulator(SimOptions::default());
    let good = tiny(&server, 3);
    let long_name = "n".repeat(256);
    let long_path = format!("{}x", "d/".repeat(450));
    let too_long_path = format!("{}x", "d/".repeat(2100));
    let hostile = [
        "../escape.db",
        "a/../../escape.db",
        "a/../inside.db",
        "/absolute.db",
        "a//double.db",
        "./dot.db",
        "a/./dot.db",
        "new\nline.db",
        "esc\u{1b}[2Jape.db",
        "bell\u{7}.db",
        "nul\0byte.db",
        &too_long_path,
        &long_name,
        ".a.hydrant-abcdefgh",
        "link/through.db",
        "fine.db/below.db",
        "fine.db-wal",
        "fine.db-journal/x.db",
    ];
    let put = |name: &str| {
        for object in &good[0].objects {
            let key = object.key.replacen("fleet/000000.db", &format!("fleet/{name}"), 1);
            server.objects().put("bucket", &key, Object::new(object.bytes.clone()));
        }
    };
    hostile.iter().for_each(|name| put(name));
    put("fine.db");
    put(&long_path);
    let host = Host::new();
    let canary = host.path("canary");
    std::fs::write(&canary, "untouched").unwrap();
    std::fs::create_dir_all(host.path("elsewhere")).unwrap();
    std::fs::create_dir_all(host.path("deep/out")).unwrap();
    std::os::unix::fs::symlink(host.path("elsewhere"), host.path("deep/out/link")).unwrap();
    let before = host.files("");
    let ran = host.run(&["--output-dir", "deep/out", &url(&server, "bucket/fleet/**")]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    for name in hostile {
        let shown = format!("fleet/{}", hydrant::error::escaped(name));
        let reason = ran.failures.get(&shown).unwrap_or_else(|| panic!("{shown}: {:?}", ran.failures));
        let class = if name.starts_with("fine.db") { "path collision: " } else { "unsafe path: " };
        assert!(reason.starts_with(class), "{shown}: {reason}");
    }
    assert_eq!(ran.failures.len(), hostile.len(), "{:?}", ran.failures);
    let mut expected: BTreeSet<String> = before;
    expected.extend(["fine.db", "000000.db", "000001.db", "000002.db", &long_path].map(|f| format!("deep/out/{f}")));
    expected.insert("litestream-restore-errors.log".into());
    assert_eq!(host.files(""), expected);
    assert_eq!(std::fs::read_to_string(canary).unwrap(), "untouched");
    assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains('\u{7}'), "names are escaped");
}

#[test]
fn shards_are_disjoint_and_their_union_is_the_fleet() {
    let server = simulator(SimOptions::default());
    let fleet = tiny(&server, 40);
    let host = Host::new();
    let pattern = url(&server, "bucket/**");
    let mut seen = BTreeSet::new();
    for index in 0..3 {
        let (shard, out) = (format!("{index}/3"), format!("out{index}"));
        let ran = host.run(&["--shard", &shard, "--output-dir", &out, "-json", &pattern]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let (records, summary) = json_lines(&ran.stdout);
        assert_eq!(summary["matched"], 40);
        assert_eq!(whole_ones(&host, &out, &fleet), records.len());
        for name in records.into_keys() {
            assert!(seen.insert(name));
        }
    }
    assert_eq!(seen.len(), 40);
    // A shard without databases of a matching pattern is a success. A pattern that matches nothing is an error.
    let only = url(&server, "bucket/fleet/000000.db");
    let codes: Vec<i32> = (0..4).map(|i| host.run(&["--shard", &format!("{i}/4"), "-dry-run", &only]).code).collect();
    assert_eq!(codes, [0; 4]);
    let nothing = host.run(&["--shard", "0/4", &url(&server, "bucket/other/**")]);
    assert_eq!(nothing.code, 1);
    assert!(nothing.stderr.contains("Error: no database matches s3://bucket/other/**"), "{}", nothing.stderr);
}

#[test]
fn the_first_then_the_longest() {
    let server = simulator(SimOptions::default());
    tiny(&server, 6);
    let long = hydrant::sim::generate::random_history(5, &Default::default()).unwrap();
    for object in &long.objects {
        let key = object.key.replacen(long.root.trim_end_matches('/'), "fleet/long.db", 1);
        server.objects().put("bucket", &key, Object::new(object.bytes.clone()));
    }
    let host = Host::new();
    let pattern = url(&server, "bucket/fleet/**");
    let args = ["--parallel", "1", "-json", "--first", "**/000004.db", "--first", "000002*", &pattern];
    let ran = host.run(&args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let order: Vec<String> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].as_str().unwrap_or("summary").to_owned())
        .collect();
    assert_eq!(order[..3], ["fleet/000004.db", "fleet/000002.db", "fleet/long.db"]);
    assert_eq!(order.last().unwrap(), "summary");
    // Without --output-dir the databases are restored below the current directory.
    assert!(host.path("000001.db").is_file() && host.path("long.db").is_file());
}

#[test]
fn existing_outputs_are_kept_skipped_or_replaced() {
    let server = simulator(SimOptions::default());
    let fleet = tiny(&server, 3);
    let host = Host::new();
    let pattern = url(&server, "bucket/**");
    std::fs::create_dir_all(host.path("fleet")).unwrap();
    std::fs::write(host.path("fleet/000001.db"), "mine").unwrap();
    std::fs::write(host.path("fleet/000002.db-wal"), "stale").unwrap();
    let ran = host.run(&[&pattern]);
    assert_eq!(ran.code, 3);
    assert_eq!(ran.failures.len(), 2, "{:?}", ran.failures);
    assert!(ran.failures.values().all(|reason| reason.starts_with("output exists: ")), "{:?}", ran.failures);
    // No flag but -force helps where a sidecar is in the way.
    assert!(!ran.stderr.contains("\nTry: "), "{}", ran.stderr);
    assert_eq!(std::fs::read(host.path("fleet/000001.db")).unwrap(), b"mine");
    let forced = host.run(&["--force", &pattern]);
    assert_eq!(forced.code, 0, "{}", forced.stderr);
    assert!(!host.path("litestream-restore-errors.log").exists(), "a fresh run replaces it");
    assert_eq!(whole_ones(&host, "", &fleet), 3);
}

#[test]
fn no_backups_is_never_a_failure_in_disguise() {
    let server = simulator(SimOptions::default());
    server.objects().create_bucket("bucket");
    let host = Host::new();
    let entry = |name: &str| {
        let url = format!("s3://bucket/{name}?endpoint={}&forcePathStyle=true&region=us-east-1", server.endpoint());
        format!("  - path: {}\n    replica:\n      url: {url}\n", host.path(name).display())
    };
    std::fs::write(host.path("litestream.yml"), format!("dbs:\n{}{}", entry("p/a.db"), entry("p/b.db"))).unwrap();
    let pattern = host.path("**").to_str().unwrap().to_owned();
    let args = ["-config", "litestream.yml", "--max-retries", "0", pattern.as_str()];
    let permitted = [&args[..], &["-if-replica-exists"]].concat();
    assert_eq!(host.run(&args).code, 1);
    assert_eq!(host.run(&permitted).code, 0);
    server.set_faults(Faults { fail: vec![(Failure::AccessDenied, 1.0)], ..Faults::default() });
    let ran = host.run(&permitted);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.failures.values().all(|reason| reason.starts_with("access denied: ")), "{:?}", ran.failures);
    assert_eq!(ran.failures.len(), 2);
    server.set_faults(Faults::default());
    server.objects().remove_bucket("bucket");
    assert_eq!(host.run(&permitted).code, 1);
}

// --- tests with faults ---

#[test]
fn failing_requests_fail_no_healthy_database() {
    for (rate, count) in [(0.1, 120), (0.3, 80)] {
        let each = rate / 3.0;
        let fail = vec![
            (Failure::InternalError, each),
            (Failure::ResetBeforeHeaders, each / 2.0),
            (Failure::ResetAfterHeaders, each / 2.0),
            (Failure::HalfBody, each),
        ];
        let server = simulator(SimOptions { faults: Faults { fail, ..Faults::default() }, ..SimOptions::default() });
        let fleet = tiny(&server, count);
        let host = Host::new();
        let ran = host.run(&["--output-dir", "out", "-json", "--retry-delay", "50ms", &url(&server, "bucket/**")]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(whole_ones(&host, "out", &fleet), count);
        let (_, summary) = json_lines(&ran.stdout);
        assert!(summary["requests_repeated"].as_u64().unwrap() > (count as f64 * rate) as u64, "{summary}");
    }
}
