//! Tests of `hydrant bench` as an operator runs it: each stage alone and all together, the files that it leaves,
//! and the exit codes. The program runs against the simulator and against files.

use crate::common::binary::hydrant;
use crate::common::wait::{ended, until};
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use hydrant::sim::generate::{GeneratedDatabase, LargeSpec, TinyFleet, large_database, tiny_fleet};
use hydrant::sim::server::{Faults, Latency, RequestKind, SimCredentials, SimOptions, SimServer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn bench(dir: &Path, args: &[&str]) -> Command {
    hydrant(dir, &[&["bench"], args].concat())
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran =
            Self { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!ran.stdout.contains("secret-key") && !ran.stderr.contains("secret-key"));
        ran
    }

    /// The stages of the JSON output in their order: name and values.
    fn stages(&self) -> Vec<(String, Value)> {
        let json: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stderr));
        let stages = json["stages"].as_array().unwrap();
        stages.iter().map(|stage| (stage["stage"].as_str().unwrap().to_owned(), stage.clone())).collect()
    }
}

fn run(dir: &Path, args: &[&str]) -> Ran {
    Ran::of(bench(dir, args).output().unwrap())
}

/// Starts a server that checks signatures and answers after `latency_ms` milliseconds. Returns it with a URL that
/// matches all of its databases.
fn serve(databases: &[GeneratedDatabase], latency_ms: u64) -> (SimServer, String) {
    let latency = Latency::Fixed(Duration::from_millis(latency_ms));
    let credentials = SimCredentials {
        access_key: "AKIDHYDRANTTESTS".into(),
        secret_key: "hydrant-tests-secret-key".into(),
        session_token: None,
    };
    let faults = Faults { latency, ..Faults::default() };
    let server =
        SimServer::start(SimOptions { credentials: Some(credentials), faults, ..SimOptions::default() }).unwrap();
    databases.iter().for_each(|database| server.objects().put_database("bucket", database));
    let url = format!("s3://bucket/**?endpoint={}&forcePathStyle=true&region=us-east-1", server.endpoint());
    (server, url)
}

fn fleet(count: usize) -> Vec<GeneratedDatabase> {
    tiny_fleet(&TinyFleet { count, ..TinyFleet::default() }).unwrap()
}

fn number(stage: &Value, field: &str) -> u64 {
    stage[field].as_u64().unwrap_or_else(|| panic!("{field}: {stage}"))
}

/// The names of the files in `dir`, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn each_stage_and_all_together() {
    let databases = fleet(40);
    let size: u64 = databases.iter().map(|database| database.expected.bytes).sum();
    let (_server, url) = serve(&databases, 5);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("hydrant-bench-mine")).unwrap();
    std::fs::write(dir.path().join("0"), "mine").unwrap();
    let ran = run(dir.path(), &["--json", "--output-dir", ".", &url]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let stages = ran.stages();
    let order: Vec<&str> = stages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(order, ["list", "fetch", "decode", "all"]);
    for (name, stage) in &stages {
        assert_eq!((number(stage, "passes"), number(stage, "databases"), number(stage, "failed")), (1, 40, 0));
        assert_eq!(number(stage, "requests_repeated"), 0);
        let counted = ["list", "first_byte"].map(|what| stage["latency"][what]["count"].as_u64().unwrap());
        assert_eq!(number(stage, "requests") - number(stage, "hedged"), counted[0] + counted[1], "{stage}");
        assert!(number(stage, "bytes_in") > 0 && stage["seconds"].as_f64().unwrap() > 0.005, "{stage}");
        let recorded: Vec<&str> = (stage["latency"].as_object().unwrap().iter())
            .filter(|(_, quantiles)| quantiles["count"] != 0)
            .map(|(what, _)| what.as_str())
            .collect();
        let expected: &[&str] = match name.as_str() {
            "list" => &["list"],
            "fetch" => &["first_byte", "fetch"],
            "decode" => &["first_byte", "fetch", "decode"],
            _ => &["list", "first_byte", "fetch", "decode", "write", "commit"],
        };
        assert_eq!(recorded, expected, "{name}");
        assert_eq!(number(stage, "bytes_out"), if ["decode", "all"].contains(&name.as_str()) { size } else { 0 });
        assert_eq!(stage["cpu_seconds_per_gb"].is_null(), name == "list");
    }
    let of = |name: &str| &stages.iter().find(|(stage, _)| stage == name).unwrap().1;
    let requests = |name| number(of(name), "requests") - number(of(name), "hedged");
    assert_eq!(requests("fetch"), requests("decode"));
    assert_eq!(number(of("fetch"), "bytes_in"), number(of("decode"), "bytes_in"));
    assert_eq!(requests("list") + requests("fetch"), requests("all"));
    assert_eq!(number(&of("all")["latency"]["commit"], "count"), 40);
    assert_eq!(number(&of("all")["database"], "count"), 40);
    assert_eq!(names(dir.path()), ["0", "hydrant-bench-mine"]);
}

/// A large database is fetched in segments by all workers. The requests must be the same whether the pages are
/// decoded or only fetched.
#[test]
fn a_large_database_is_fetched_as_a_restore_fetches_it() {
    let spec = LargeSpec { bytes: 50_000_000, increments: 6, ..LargeSpec::default() };
    let database = large_database(&spec).unwrap().to_database();
    let (_server, url) = serve(std::slice::from_ref(&database), 0);
    let dir = tempfile::tempdir().unwrap();
    // The URL of the single replica, in place of the pattern.
    let url = url.replace("**", database.root.trim_end_matches('/'));
    for engine in ["auto", "pwrite"] {
        let ran = run(dir.path(), &["--json", "--output-dir", ".", "--io-engine", engine, &url]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let stages: BTreeMap<String, Value> = ran.stages().into_iter().collect();
        let asked = |name: &str| number(&stages[name], "requests") - number(&stages[name], "hedged");
        assert_eq!(asked("fetch"), asked("decode"));
        assert_eq!(stages["fetch"]["bytes_in"], stages["decode"]["bytes_in"]);
        assert!(number(&stages["fetch"], "requests") > 6 + 3, "{}", stages["fetch"]);
        assert_eq!(number(&stages["all"], "bytes_out"), database.expected.bytes);
        assert_eq!(stages["all"]["bytes_out"], stages["decode"]["bytes_out"]);
    }
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn stages_are_repeated_for_as_long_as_asked() {
    let (_server, url) = serve(&fleet(5), 2);
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let args = ["--json", "--stage", "all", "--output-dir", ".", "--duration", "700ms", &url];
    let ran = run(dir.path(), &args);
    assert!(begun.elapsed() >= Duration::from_millis(700));
    let stages = ran.stages();
    let [(name, stage)] = stages.as_slice() else { panic!("{stages:?}") };
    let passes = number(stage, "passes");
    assert!(name == "all" && passes >= 2, "{stage}");
    assert_eq!(number(stage, "databases"), 5 * passes);
    assert_eq!(number(&stage["latency"]["commit"], "count"), 5 * passes);
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn a_histogram_log_that_its_own_library_reads() {
    let (_server, url) = serve(&fleet(20), 2);
    let dir = tempfile::tempdir().unwrap();
    let args = ["--json", "--duration", "1200ms", "--hlog", "bench.hlog", &url];
    let ran = run(dir.path(), &args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let log = std::fs::read(dir.path().join("bench.hlog")).unwrap();
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut last = Duration::ZERO;
    for entry in IntervalLogIterator::new(&log) {
        let LogEntry::Interval(interval) = entry.unwrap() else { continue };
        assert!(interval.start_timestamp() >= last);
        last = interval.start_timestamp();
        let encoded = base64_decoded(interval.encoded_histogram());
        let histogram: hdrhistogram::Histogram<u64> = Deserializer::new().deserialize(&mut &encoded[..]).unwrap();
        let (intervals, count) = found.entry(interval.tag().unwrap().as_str().to_owned()).or_default();
        *intervals += 1;
        *count += histogram.len();
        assert!(histogram.max() > 1_000 && histogram.max() < 10_000_000_000, "nanoseconds: {}", histogram.max());
    }
    let tags: Vec<&str> = found.keys().map(String::as_str).collect();
    let all = ["decode/decode", "decode/fetch", "decode/first_byte", "fetch/fetch", "fetch/first_byte", "list/list"];
    assert_eq!(tags, all);
    for (name, stage) in ran.stages() {
        for (what, quantiles) in stage["latency"].as_object().unwrap() {
            let (intervals, count) = found.get(&format!("{name}/{what}")).copied().unwrap_or_default();
            assert_eq!(count, number(quantiles, "count"), "{name}/{what}");
            assert!(count == 0 || intervals >= 2, "{name}/{what}: {intervals}");
        }
    }
    let ran = run(dir.path(), &["--hlog", "absent/bench.hlog", &url]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.starts_with("Error: cannot write absent/bench.hlog: "), "{}", ran.stderr);
}

fn base64_decoded(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for c in text.bytes().filter(|&c| c != b'=') {
        bits = bits << 6 | DIGITS.iter().position(|&digit| digit == c).unwrap() as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

fn corpus_fleet() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus/fleet/bucket")
}

#[test]
fn a_table_of_files_and_damaged_ones_fail_alone() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/**", corpus_fleet().display());
    let ran = run(dir.path(), &["--output-dir", ".", &url]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("Error: ") && ran.stderr.contains("Warning: "), "{}", ran.stderr);
    assert!(!ran.stderr.contains("malformed: malformed: "), "{}", ran.stderr);
    let rows: Vec<Vec<&str>> = ran.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |name: &str| rows.iter().find(|row| row.first() == Some(&name)).unwrap_or_else(|| panic!("{name}"));
    let databases = |name: &str| row(name)[3].parse::<u64>().unwrap();
    assert!(databases("decode") > 0 && databases("list") > databases("decode"), "{}", ran.stdout);
    assert_eq!(databases("decode"), databases("all"));
    // Stages that decode pages notice the damaged database and skip it, so they count fewer databases than `fetch`.
    assert!(databases("fetch") > databases("decode"), "{}", ran.stdout);
    for name in ["list/list", "fetch/first_byte", "decode/decode", "all/commit", "all/database"] {
        assert_eq!(row(name).len(), 7, "{name}");
    }
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn nothing_to_measure_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let url = format!("file://{}/**", empty.path().display());
    for args in [&["--stage", "list", &url][..], &["--stage", "fetch", &url], &["--output-dir", ".", &url]] {
        let ran = run(dir.path(), args);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{args:?}");
        assert!(ran.stderr.contains("Error: no database matches file://"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("measured"), "{}", ran.stderr);
    }
    let ran = run(dir.path(), &["--output-dir", "absent", &url]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.starts_with("Error: cannot make a directory in absent: "), "{}", ran.stderr);
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn interrupted_it_tells_what_it_measured_and_leaves_nothing() {
    let databases = fleet(50);
    let (server, url) = serve(&databases, 10);
    let answered =
        || [RequestKind::List, RequestKind::Get].iter().map(|&kind| server.stats().of_kind(kind)).sum::<u64>();
    for stage in ["list", "decode", "all"] {
        let dir = tempfile::tempdir().unwrap();
        let mut args = vec!["--json", "--duration", "1h", "--stage", stage, &url];
        if stage == "all" {
            args.extend(["--output-dir", "."]);
        }
        // A run with one pass over the databases sends `once()` requests. If more than twice that number was sent,
        // the first pass has ended.
        let once = || {
            let before = answered();
            let pass: Vec<&str> = args.iter().copied().filter(|arg| !["--duration", "1h"].contains(arg)).collect();
            assert_eq!(run(dir.path(), &pass).code, 0);
            answered() - before
        };
        let enough = once() * 2 + answered();
        let mut child = bench(dir.path(), &args).spawn().unwrap();
        until(|| answered() >= enough);
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        ended(&mut child);
        let ran = Ran::of(child.wait_with_output().unwrap());
        assert_eq!(ran.code, 130, "{}", ran.stderr);
        assert!(ran.stderr.contains("Error: interrupted"), "{}", ran.stderr);
        assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap()["interrupted"], true);
        let stages = ran.stages();
        let [(name, measured)] = stages.as_slice() else { panic!("{stages:?}") };
        let passes = number(measured, "passes");
        assert!(name == stage && passes >= 1, "{measured}");
        assert!((50 * passes..=50 * (passes + 1)).contains(&number(measured, "databases")), "{measured}");
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }
}
