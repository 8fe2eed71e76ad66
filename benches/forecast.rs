//! Compares the forecast of `hydrant verify` with the restore that follows. Usage: `cargo bench --features sim --bench
//! forecast [-- --runs 3] [--only small,large,mixed,throttled,v3,shards] [--quick]`.
//!
//! Verification and restore run in turn, and the table has the medians of their times. The last part, `shards`, restores
//! each shard of 2 and of 4 hosts on this host, one after the other, and compares the slowest with the forecast.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::cost::{hydrant, measured};
use common::results::{Bound, Results};
use common::server::{Server, latency};
use common::{Args, fresh_dir};
use hydrant::sim::generate::v3::{FleetV3, v3_fleet};
use hydrant::sim::generate::{GeneratedDatabase, GeneratedObject, LargeSpec, large_database};
use hydrant::sim::server::{Faults, RateLimit};
use serde_json::Value;
use std::path::Path;

const BUCKET: &str = "fleet";

/// A fleet, and the server that it is restored from.
struct Case {
    part: &'static str,
    name: &'static str,
    small: usize,
    /// The number of large databases, and their size in bytes.
    large: (usize, u64),
    v3: usize,
    latency_ms: u64,
    /// The server's limit on requests per second.
    rate: Option<f64>,
}

const EMPTY: Case = Case { part: "", name: "", small: 0, large: (0, 0), v3: 0, latency_ms: 20, rate: None };
const LARGE: (usize, u64) = (20, 100_000_000);
const MIXED: Case = Case {
    part: "mixed",
    name: "500 of 200 KB and one of 1 GB, 20 ms",
    small: 500,
    large: (1, 1_000_000_000),
    ..EMPTY
};
const SMALL: Case = Case { part: "small", name: "2,000 of 200 KB, 5 ms", small: 2000, latency_ms: 5, ..EMPTY };
/// The forecast was made with the first two in view. The others check it.
const CASES: [Case; 7] = [
    SMALL,
    Case { part: "large", name: "20 of 100 MB, 5 ms", large: LARGE, latency_ms: 5, ..EMPTY },
    Case { name: "2,000 of 200 KB, 20 ms", latency_ms: 20, ..SMALL },
    MIXED,
    Case { part: "large", name: "20 of 100 MB, 50 ms", large: LARGE, latency_ms: 50, ..EMPTY },
    Case {
        part: "throttled",
        name: "2,000 of 200 KB, 20 ms, 1,500 requests/s",
        rate: Some(1500.0),
        latency_ms: 20,
        ..SMALL
    },
    Case { part: "v3", name: "1,500 of 32 KB of Litestream 0.3, 20 ms", v3: 1500, ..EMPTY },
];

fn main() {
    let args = Args::of_process();
    let mut results = Results::new("forecast");
    let runs = args.number("--runs", if args.is_quick() { 1 } else { 3 });
    let columns = ["fleet", "half: forecast / restore", "", "all: forecast / restore", "", "held back by"];
    results.table("The forecast of a verification, and the restore that follows", &columns);
    for case in CASES.iter().filter(|case| args.wants(case.part)) {
        compare(&mut results, case, runs, args.is_quick());
    }
    if args.wants("shards") {
        results
            .table("The forecast for several hosts, and the slowest of their shards", &["fleet", "hosts", "all", ""]);
        for case in [SMALL, MIXED] {
            shards(&mut results, &case, args.is_quick());
        }
    }
    common::remove_dirs();
    results.finish(&args);
}

impl Case {
    fn server(&self, is_quick: bool) -> Server {
        let rate_limit = self.rate.map(RateLimit::per_bucket);
        let server = Server::with(Faults { rate_limit, ..latency(self.latency_ms) });
        let size = |n: usize| if is_quick { n.div_ceil(50) } else { n };
        let (large, bytes) = (size(self.large.0), if is_quick { self.large.1 / 50 } else { self.large.1 });
        put_copies(&server, "small", size(self.small), 200_000);
        put_copies(&server, "large", large, bytes);
        let v3 =
            if self.v3 == 0 { Vec::new() } else { v3_fleet(&FleetV3 { count: size(self.v3), ..FleetV3::default() }) };
        v3.iter().for_each(|replica| server.sim.objects().put_v3(BUCKET, replica));
        server
    }
}

/// Puts databases of one content into the bucket, each of a snapshot and three increments.
fn put_copies(server: &Server, name: &str, count: usize, bytes: u64) {
    if count == 0 {
        return;
    }
    let spec = LargeSpec { root: "root".into(), bytes, increments: 3, pages_per_increment: 5, ..LargeSpec::default() };
    let database = large_database(&spec).expect("a database").to_database();
    for number in 0..count {
        let root = format!("{name}/{number:06}.db");
        let key = |object: &GeneratedObject| object.key.replacen("root", &root, 1);
        let objects = database.objects.iter().map(|object| GeneratedObject { key: key(object), ..object.clone() });
        let copy = GeneratedDatabase { objects: objects.collect(), root: root.clone(), ..database.clone() };
        server.sim.objects().put_database(BUCKET, &copy);
    }
}

fn compare(results: &mut Results, case: &Case, runs: u64, is_quick: bool) {
    let (server, dir) = (case.server(is_quick), fresh_dir("forecast"));
    let (mut half, mut all) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    let mut limited_by = String::new();
    for run in 0..runs {
        let forecast = verified(&server, &dir);
        let restored = restored(&server, &dir, &format!("out-{run}"), &[]);
        half.0.push(seconds(&forecast["half_seconds"]));
        half.1.push(seconds(&restored["half_seconds"]));
        all.0.push(seconds(&forecast["all_seconds"]));
        all.1.push(seconds(&restored["all_seconds"]));
        if case.small == 0 && case.v3 == 0 {
            std::fs::remove_dir_all(dir.join(format!("out-{run}"))).expect("the databases");
        }
        limited_by = forecast["limited_by"].as_str().unwrap_or_default().to_owned();
    }
    let pair = |(forecast, restored): (Vec<f64>, Vec<f64>)| (median(forecast), median(restored));
    let (half, all) = (pair(half), pair(all));
    results.row(&[case.name.into(), text(half), ratio(half), text(all), ratio(all), limited_by]);
    bound(results, &format!("{}: half", case.name), half);
    bound(results, &format!("{}: all", case.name), all);
}

fn shards(results: &mut Results, case: &Case, is_quick: bool) {
    let (server, dir) = (case.server(is_quick), fresh_dir("forecast"));
    let forecast = verified(&server, &dir);
    for hosts in [2, 4] {
        let of_hosts = forecast["hosts"].as_array().and_then(|all| all.iter().find(|of| of["hosts"] == hosts));
        let slowest = (0..hosts).map(|shard| {
            let shard = format!("{shard}/{hosts}");
            let out = format!("out-{}", shard.replace('/', "-"));
            seconds(&restored(&server, &dir, &out, &["-shard", &shard])["all_seconds"])
        });
        let pair = (seconds(&of_hosts.expect("a forecast")["all_seconds"]), slowest.fold(0.0, f64::max));
        results.row(&[case.name.into(), hosts.to_string(), text(pair), ratio(pair)]);
        bound(results, &format!("{}: {hosts} hosts", case.name), pair);
    }
}

/// The forecast of a verification.
fn verified(server: &Server, dir: &Path) -> Value {
    rustix::fs::sync();
    let report = dir.join("verify.json");
    let mut verify = hydrant();
    verify.arg("verify").arg("-output-dir").arg(dir).arg("-report").arg(&report).arg(server.url(BUCKET, ""));
    measured(Some(server), &mut verify);
    read(&report)["forecast"].take()
}

/// When the databases were restored. Small ones are not deleted, because ext4 without a journal gives no inode of a deleted
/// file to a new one for five minutes, and takes long to find others.
fn restored(server: &Server, dir: &Path, out: &str, flags: &[&str]) -> Value {
    rustix::fs::sync();
    let report = dir.join("restore.json");
    let mut restore = hydrant();
    restore.arg("restore-pattern").args(flags).arg("-output-dir").arg(dir.join(out));
    restore.arg("-report").arg(&report).arg(server.url(BUCKET, ""));
    measured(Some(server), &mut restore);
    read(&report)["milestones"].take()
}

fn read(report: &Path) -> Value {
    let text = std::fs::read(report).expect("a report");
    std::fs::remove_file(report).expect("a report");
    serde_json::from_slice(&text).expect("JSON")
}

fn seconds(value: &Value) -> f64 {
    value.as_f64().expect("seconds")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn text((forecast, restored): (f64, f64)) -> String {
    format!("{forecast:.2} / {restored:.2} s")
}

fn ratio((forecast, restored): (f64, f64)) -> String {
    format!("{:.2}", forecast / restored)
}

/// The forecast is to be within 25 %.
fn bound(results: &mut Results, name: &str, (forecast, restored): (f64, f64)) {
    results.target(name, (forecast / restored - 1.0).abs() * 100.0, Bound::AtMost(25.0), "% off");
}
