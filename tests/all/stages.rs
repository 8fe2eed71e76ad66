//! Tests of the latencies by stage in a report and with `-v`. Each operation must be counted once, on every core,
//! also when a run is interrupted. The program runs against the simulator and against files.

use crate::common::binary::hydrant;
use crate::common::wait::until;
use hydrant::sim::generate::{LargeSpec, TinyFleet, large_database, tiny_fleet};
use hydrant::sim::server::{Faults, Latency, RequestKind, SimOptions, SimServer};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn run(dir: &Path, args: &[&str]) -> (i32, String) {
    ended(hydrant(dir, args).output().unwrap())
}

fn ended(output: Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// A server that answers after 20 ms, and the URL of its fleet.
fn fleet(count: usize) -> (SimServer, String) {
    let latency = Latency::Fixed(Duration::from_millis(20));
    let options = SimOptions { faults: Faults { latency, ..Faults::default() }, ..SimOptions::default() };
    let server = SimServer::start(options).unwrap();
    let databases = tiny_fleet(&TinyFleet { count, ..TinyFleet::default() }).unwrap();
    databases.iter().for_each(|database| server.objects().put_database("bucket", database));
    let url = format!("s3://bucket/**?endpoint={}&forcePathStyle=true&region=us-east-1", server.endpoint());
    (server, url)
}

fn summary(path: &Path) -> Value {
    let report: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    report["summary"].clone()
}

#[test]
fn a_report_counts_every_stage_of_every_core() {
    let (_server, url) = fleet(60);
    let dir = tempfile::tempdir().unwrap();
    let args = ["restore-pattern", "-v", "--output-dir", "out", "--report", "report.json", &url];
    let begun = Instant::now();
    let (code, stderr) = run(dir.path(), &args);
    let took_ms = begun.elapsed().as_secs_f64() * 1e3;
    assert_eq!(code, 0, "{stderr}");
    let summary = summary(&dir.path().join("report.json"));
    let stages = &summary["stages"];
    let count = |stage: &str| stages[stage]["count"].as_u64().unwrap();
    // A request and its hedge (a second copy of it) count as one wait.
    let of = |name: &str| summary[name].as_u64().unwrap();
    assert!((count("list")..=count("list") + of("hedged")).contains(&of("lists")), "{summary}");
    assert_eq!(count("list") + count("first_byte") + of("hedged"), of("requests"), "{summary}");
    assert_eq!(count("fetch"), count("first_byte"));
    // No file here is large, so each file is one GET and one decoding.
    assert_eq!(count("decode"), summary["files"].as_u64().unwrap());
    assert_eq!(count("commit"), 60);
    assert!(count("write") >= 60, "{stages}");
    let p50_ms = |stage: &str| stages[stage]["p50_ms"].as_f64().unwrap();
    for stage in ["list", "first_byte", "fetch"] {
        assert!((20.0..took_ms).contains(&p50_ms(stage)), "{stage}: {stages}");
    }
    // The time of waiting for the server must not count as decoding.
    assert!(p50_ms("decode") < p50_ms("first_byte"), "{stages}");
    for quantiles in stages.as_object().unwrap().values() {
        let of = |name: &str| quantiles[name].as_f64().unwrap();
        let ascending = ["p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"].map(of);
        assert!(ascending.is_sorted() && ascending[0] > 0.0, "{quantiles}");
    }
    let table: Vec<&str> = stderr.lines().skip_while(|line| !line.starts_with("latency (ms)")).collect();
    let named = |name: &str| table.iter().any(|line| line.starts_with(&format!("{name} ")));
    assert!(["list", "first_byte", "fetch", "decode", "write", "commit"].into_iter().all(named), "{stderr}");
}

#[test]
fn an_interrupted_run_tells_what_it_measured() {
    let (server, url) = fleet(400);
    // At most 100 databases are restored: each needs a GET at least.
    server.answer_only(RequestKind::Get, Some(100));
    let dir = tempfile::tempdir().unwrap();
    let args = ["restore-pattern", "--output-dir", "out", "--parallel", "2", "--report", "report.json", &url];
    let child = hydrant(dir.path(), &args).spawn().unwrap();
    let is_final = |entry: &std::fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    let restored = || {
        let entries = std::fs::read_dir(dir.path().join("out/fleet")).into_iter().flatten().flatten();
        entries.filter(is_final).count()
    };
    until(|| restored() >= 10);
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let (code, stderr) = ended(child.wait_with_output().unwrap());
    assert_eq!(code, 143, "{stderr}");
    assert!(!stderr.contains("latency (ms)"), "{stderr}");
    let summary = summary(&dir.path().join("report.json"));
    let commits = summary["stages"]["commit"]["count"].as_u64().unwrap();
    let restored = summary["restored"].as_u64().unwrap();
    assert!((10..=100).contains(&restored) && (restored..restored + 3).contains(&commits), "{summary}");
}

#[test]
fn a_single_large_database_is_measured_by_segments() {
    let dir = tempfile::tempdir().unwrap();
    let database = large_database(&LargeSpec { bytes: 40_000_000, ..LargeSpec::default() }).unwrap().to_database();
    for object in &database.objects {
        let path = dir.path().join(&object.key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &object.bytes).unwrap();
    }
    let url = format!("file://{}", dir.path().join(database.root.trim_end_matches('/')).display());
    for engine in ["auto", "pwrite"] {
        let output = format!("{engine}.db");
        let (code, stderr) = run(dir.path(), &["restore", "-v", "--io-engine", engine, "-o", &output, &url]);
        assert_eq!(code, 0, "{stderr}");
        let table: Vec<Vec<&str>> = stderr
            .lines()
            .skip_while(|line| !line.starts_with("latency (ms)"))
            .map(|line| line.split_whitespace().collect())
            .collect();
        let count = |name: &str| {
            let row = table.iter().find(|row| row.first() == Some(&name)).unwrap_or_else(|| panic!("{name}: {stderr}"));
            row[1].parse::<usize>().unwrap()
        };
        let size: usize = database.objects.iter().map(|object| object.bytes.len()).sum();
        let segments = size / (8 << 20);
        assert!(segments > 1, "{size}");
        assert!(count("decode") >= segments, "{stderr}");
        assert!(count("write") >= 40_000_000 / (512 << 10), "{stderr}");
        assert_eq!((count("list"), count("commit")), (1, 1));
        assert_eq!(count("fetch"), count("first_byte"));
    }
    let (code, stderr) = run(dir.path(), &["restore", "-o", "quiet.db", &url]);
    assert!(code == 0 && !stderr.contains("latency (ms)"), "{stderr}");
}
