//! Measures the restore of thousands of small databases from a simulated S3 server. Usage: `cargo bench --features
//! sim --bench fleet [-- --databases 2000,5000,20000] [--latency-ms 20] [--runs 3] [--only
//! latency,throttled,stragglers] [--quick]`.
//!
//! The parts are `latency` (first bytes after 20 ms), `throttled` (also, only 1,000 requests per second are
//! allowed) and `stragglers` (also, 1 % of the first bytes take 400 ms).
//!
//! Each database has five LTX files, of which three are needed. It is restored durably, and every restored database
//! is compared with its expected hash. The results are compared with two floors: fetching the needed objects to
//! memory with the same client, and writing the same number of durable files by the best method. If `litestream` is
//! on PATH, it restores some of the databases, one after the other and under `xargs -P 16` and `-P 64`. If `s5cmd`
//! is on PATH, it fetches the needed objects.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::cost::{Cost, hydrant, in_turn, measured};
use common::files::Method;
use common::results::{Bound, Results};
use common::rivals::Rivals;
use common::server::{Server, latency};
use common::{Args, floors, fresh_dir};
use hydrant::ltx::Txid;
use hydrant::sim::generate::{GeneratedDatabase, GeneratedObject, TinyFleet, tiny_fleet};
use hydrant::sim::server::{Faults, Outcome, RateLimit, Stats, Tail};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::path::Path;

const BUCKET: &str = "fleet";
const LITESTREAM_DATABASES: usize = 192;
/// The number of requests in flight per core while only fetching is measured, for comparison with a restore.
const AT_ONCE: usize = 128;

/// One configuration of the server, with its description.
struct Setting {
    name: String,
    faults: Faults,
    /// The server's limit on requests per second. None if there is no limit.
    rate: Option<f64>,
    /// Whether the results are compared with targets. They exist only for a latency of 20 ms.
    has_targets: bool,
}

impl Setting {
    fn latency(ms: usize) -> Self {
        Self { name: format!("{ms} ms"), faults: latency(ms as u64), rate: None, has_targets: ms == 20 }
    }

    fn throttled(rate: f64) -> Self {
        let faults = Faults { rate_limit: Some(RateLimit::per_bucket(rate)), ..latency(20) };
        Self { name: format!("20 ms, {rate} requests/s"), faults, rate: Some(rate), has_targets: false }
    }

    fn stragglers() -> Self {
        let faults = Faults { tail: Some(Tail { fraction: 0.01, factor: 20.0 }), ..latency(20) };
        Self { name: "20 ms, 1 % of them 400 ms".into(), faults, rate: None, has_targets: false }
    }
}

fn main() {
    let args = Args::of_process();
    if floors::dispatch(&args) {
        return;
    }
    let mut results = Results::new("fleet");
    let rivals = Rivals::on_path();
    let (sizes, runs) = if args.is_quick() { ("200", 1) } else { ("2000,5000,20000", 3) };
    let runs = args.number("--runs", runs);
    results.table(
        "A fleet, each database of five files, three of them planned",
        &[
            "databases",
            "first byte",
            "what",
            "wall ms each",
            "CPU ms each",
            "CPU-s per GB",
            "server CPU ms each",
            "requests each",
            "of the needed",
            "503s",
            "LISTs",
            "peak MB",
            "descriptors",
            "of the floor",
            "of ours",
        ],
    );
    if args.wants("latency") {
        for latency_ms in args.list("--latency-ms", "20") {
            for count in args.list("--databases", sizes) {
                let runs = if count > 5000 { 1 } else { runs };
                fleet(&mut results, &rivals, count, &Setting::latency(latency_ms), runs);
            }
        }
    }
    let count = args.list("--databases", sizes)[0].min(2000);
    if args.wants("throttled") {
        fleet(&mut results, &rivals, count, &Setting::throttled(1000.0), 1);
    }
    if args.wants("stragglers") {
        fleet(&mut results, &rivals, count, &Setting::stragglers(), runs);
    }
    common::remove_dirs();
    results.finish(&args);
}

fn fleet(results: &mut Results, rivals: &Rivals, count: usize, setting: &Setting, runs: u64) {
    let server = Server::with(setting.faults.clone());
    let fleet = tiny_fleet(&TinyFleet { count, ..TinyFleet::default() }).expect("a fleet");
    fleet.iter().for_each(|database| server.sim.objects().put_database(BUCKET, database));
    let planned = || fleet.iter().flat_map(|database| database.objects.iter()).filter(|o| is_planned(o));
    let bytes = fleet.iter().map(|database| database.expected.bytes).sum::<u64>() / count as u64;

    let sized = planned().map(|object| (object, object.bytes.len() as u64));
    let fetch = floors::fetch_command(&server, BUCKET, sized, AT_ONCE);
    let write = |method: Method| floors::files_command(method, &fresh_dir("files"), count as u64, bytes);
    let report = RefCell::default();
    let costs = in_turn(&[
        (runs, Box::new(|| Some(measured(Some(&server), &mut fetch())))),
        (runs, Box::new(|| Some(measured(None, &mut write(Method::Uring))))),
        (runs, Box::new(|| Some(restore(&server, &fleet, &report)))),
        (1, Box::new(|| rivals.fetch(&server, BUCKET, planned()))),
    ]);
    let [Some(fetched), Some(written), Some(ours), s5cmd] = &costs[..] else { unreachable!("all were run") };
    let report = report.into_inner();
    // The rate limit gives a floor too. It is not exact, because a burst of a tenth of a second is allowed.
    let allowed = setting.rate.map_or(0.0, |rate| planned().count() as f64 / rate);
    let floor = if allowed > 0.0 { allowed } else { fetched.wall.max(written.wall) } / count as f64;
    let each = count as f64;
    let wall = ours.wall * 1e3 / each;
    let table = Table { results, count, setting: &setting.name, bytes, floor, ours: ours.wall / each };
    table.row("fetch only", count, fetched, None);
    table.row(Method::Uring.title(), count, written, None);
    table.row("hydrant restore-pattern", count, ours, Some(&report));
    if let Some(cost) = s5cmd {
        table.row("s5cmd cat, the planned objects", count, cost, None);
    }
    let mut litestream = Vec::new();
    for parallel in [1, 16, 64].into_iter().filter(|_| count <= 2000) {
        let some = &fleet[..count.min(if parallel == 1 { 16 } else { LITESTREAM_DATABASES })];
        let roots = some.iter().map(|database| database.root.as_str());
        let Some((cost, restored)) = rivals.restore_all(&server, BUCKET, roots, parallel) else { continue };
        let failed = match some.len() - restored {
            0 => String::new(),
            failed => format!(", {failed} of {} failed", some.len()),
        };
        table.row(&format!("litestream, xargs -P {parallel}{failed}"), restored.max(1), &cost, None);
        litestream.push((parallel, cost.wall * 1e3 / restored.max(1) as f64));
    }
    if !setting.has_targets {
        return;
    }
    let lists = report["summary"]["lists"].as_f64().unwrap_or(f64::NAN);
    let chart = "A fleet at 20 ms, wall ms per database";
    if count >= 2000 {
        let allowed = if count >= 20_000 { 0.45 } else { 0.6 };
        results.target(&format!("{count} databases: wall each"), wall, Bound::AtMost(allowed), "ms");
        results.target(&format!("{count} databases: CPU each"), ours.cpu * 1e3 / each, Bound::AtMost(0.6), "ms");
        results.target(&format!("{count} databases: LISTs per 100"), lists * 100.0 / each, Bound::AtMost(1.0), "");
        results.target(&format!("{count} databases: peak memory"), ours.peak_mb, Bound::AtMost(96.0), "MB");
        results.bar(chart, &format!("hydrant, {count}"), wall);
    }
    for (parallel, theirs) in litestream {
        results.bar(chart, &format!("litestream, xargs -P {parallel}"), theirs);
        if parallel == 16 {
            let name = format!("{count} databases: times as fast as xargs -P 16 litestream");
            results.target(&name, theirs / wall, Bound::AtLeast(90.0), "");
        }
    }
}

struct Table<'a> {
    results: &'a Results,
    count: usize,
    setting: &'a str,
    /// The size of one restored database in bytes.
    bytes: u64,
    /// The least possible time per database (the floor), in seconds.
    floor: f64,
    ours: f64,
}

impl Table<'_> {
    fn row(&self, what: &str, done: usize, cost: &Cost, report: Option<&Value>) {
        let each = done as f64;
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        // For xargs the memory and descriptors would be those of xargs itself, which say nothing about litestream.
        let is_one_process = !what.contains("xargs");
        self.results.row(&[
            self.count.to_string(),
            self.setting.to_owned(),
            what.to_owned(),
            format!("{:.2}", cost.wall * 1e3 / each),
            format!("{:.2}", cost.cpu * 1e3 / each),
            format!("{:.1}", cost.cpu / each / self.bytes as f64 * 1e9),
            format!("{:.2}", cost.server_cpu * 1e3 / each),
            or_dash(cost.served.as_ref().map(|stats| format!("{:.2}", stats.total() as f64 / each))),
            or_dash(report.and_then(of_needed).map(|share| format!("{share:.3}"))),
            or_dash(cost.served.as_ref().map(refused_percent)),
            or_dash(report.map(|report| report["summary"]["lists"].to_string())),
            or_dash(is_one_process.then(|| format!("{:.0}", cost.peak_mb))),
            or_dash(is_one_process.then(|| cost.descriptors.to_string())),
            format!("{:.2}", cost.wall / each / self.floor),
            format!("{:.2}", cost.wall / each / self.ours),
        ]);
    }
}

fn refused_percent(stats: &Stats) -> String {
    let share = stats.with_outcome(Outcome::SlowDown) as f64 / stats.total().max(1) as f64;
    format!("{:.1} %", 100.0 * share)
}

/// The number of requests sent, divided by the number that would have been enough without retries and hedges.
fn of_needed(report: &Value) -> Option<f64> {
    let databases: f64 = report["databases"].as_array()?.iter().filter_map(|d| d["requests"].as_f64()).sum();
    let needed = databases + report["summary"]["lists"].as_f64()?;
    Some(report["summary"]["requests"].as_f64()? / needed)
}

fn is_planned(object: &GeneratedObject) -> bool {
    object.level.get() > 0 || object.min_txid == Txid(7)
}

fn restore(server: &Server, fleet: &[GeneratedDatabase], last_report: &RefCell<Value>) -> Cost {
    let dir = fresh_dir("out");
    let report = dir.join("report.json");
    let mut restore = hydrant();
    restore.args(["restore-pattern", "--no-progress", "--output-dir"]).arg(dir.join("db"));
    restore.arg("--report").arg(&report).arg("--error-log").arg(dir.join("errors"));
    let cost = measured(Some(server), restore.arg(server.url(BUCKET, "**")));
    *last_report.borrow_mut() = serde_json::from_slice(&std::fs::read(&report).expect("the report")).expect("JSON");
    check(fleet, &dir.join("db"));
    cost
}

/// Checks that every database was restored byte for byte.
fn check(fleet: &[GeneratedDatabase], dir: &Path) {
    for database in fleet {
        let path = dir.join(&database.root);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        assert!(hash == database.expected.sha256, "{} differs", path.display());
    }
}
