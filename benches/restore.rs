//! Single databases, end to end: `cargo bench --features sim --bench restore [-- --runs N]
//! [--mb 1060] [--giant-mb 10600] [--only large,capped,small,page,giant] [--quick]`.
//!
//! - `large`: one of 1 GB, and the same with 500 increments that overlap heavily, against floors
//!   measured in the same run: the same objects to memory with the same client, the same bytes
//!   by the best writer, all CPU divided by the cores;
//! - `capped`: the same with so many bytes per second and connection;
//! - `small`: a small one at 20 ms; `page`: one page, against an empty process;
//! - `giant`: one of 10 GB, once, served from disk; only when named or with `--giant-mb`.
//!
//! Every number is a median. The server is this process, on the same cores. `litestream` and
//! `s5cmd` take part where they are on PATH.

mod common;

use common::cost::{Cost, captured, command, hydrant, measured, median_of};
use common::results::{Bound, Results};
use common::rivals::Rivals;
use common::server::Server;
use common::{Args, cores, floors, fresh_dir};
use hydrant::sim::generate::{GeneratedObject, LargeDatabase, LargeSpec, TinyFleet, large_database, tiny_fleet};
use hydrant::sim::server::{Faults, FolderWriter};
use std::path::Path;

const ROOT: &str = "large.db";
const COLUMNS: [&str; 9] =
    ["database", "what", "wall s", "CPU-s", "CPU-s per GB", "server CPU-s", "peak MB", "of the floor", "requests"];

fn main() {
    let args = Args::of_process();
    if floors::dispatch(&args) {
        return;
    }
    let mut results = Results::new("restore");
    let rivals = Rivals::on_path();
    let runs = args.number("--runs", if args.is_quick() { 1 } else { 5 });
    if args.wants("page") {
        page(&mut results, &rivals, runs * 5);
    }
    if args.wants("small") {
        small(&mut results, &rivals, runs * 3);
    }
    if args.wants("large") || args.wants("capped") {
        let bytes = args.number("--mb", if args.is_quick() { 200 } else { 1060 }) * 1_000_000;
        large(&mut results, &rivals, &args, runs, bytes);
    }
    if args.text("--only").map_or(args.has("--giant-mb"), |_| args.wants("giant")) {
        giant(&mut results, args.number("--giant-mb", 10_600) * 1_000_000);
    }
    common::remove_dirs();
    results.finish(&args);
}

/// One `hydrant restore` into a fresh directory; its cost and the requests that it has sent.
fn restore(server: &Server, bucket: &str, root: &str, flags: &[&str]) -> (Cost, f64) {
    let dir = fresh_dir("restore");
    let mut restore = hydrant();
    restore.args(["restore", "--json"]).args(flags).arg("-o").arg(dir.join("db")).arg(server.url(bucket, root));
    let cost = captured(Some(server), &mut restore);
    let _ = std::fs::remove_dir_all(dir);
    let said: serde_json::Value = serde_json::from_str(&cost.stdout).expect("JSON");
    let sent = said["requests"].as_f64().expect("the requests");
    (cost, sent)
}

/// The requests that the plan takes, listing included.
fn planned(server: &Server, bucket: &str) -> f64 {
    let path = fresh_dir("plan").join("report.json");
    let mut plan = hydrant();
    plan.args(["restore-pattern", "--dry-run", "--no-progress", "--report"]).arg(&path).arg(server.url(bucket, "**"));
    measured(None, &mut plan);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("the report")).expect("JSON");
    let gets = report["databases"][0]["requests"].as_f64().expect("the requests");
    gets + report["summary"]["lists"].as_f64().expect("the listings")
}

/// The median of several, and the most requests.
fn restores(runs: u64, server: &Server, bucket: &str, root: &str, flags: &[&str]) -> (Cost, f64) {
    let mut sent = 0.0_f64;
    let costs = (0..runs).map(|_| {
        let (cost, requests) = restore(server, bucket, root, flags);
        sent = sent.max(requests);
        cost
    });
    (Cost::median(costs.collect()), sent)
}

struct Rows<'a> {
    results: &'a Results,
    name: &'a str,
    gigabytes: f64,
    floor: f64,
}

impl Rows<'_> {
    /// `of_planned`: requests sent, against those planned; 0 where nobody knows.
    fn row(&self, what: &str, cost: &Cost, of_planned: f64) {
        let requests = match (cost.sent(), of_planned > 0.0) {
            (0, _) => "–".to_owned(),
            (sent, false) => sent.to_string(),
            (sent, true) => format!("{sent}, {of_planned:.2} of the planned"),
        };
        self.results.row(&[
            self.name.to_owned(),
            what.to_owned(),
            format!("{:.3}", cost.wall),
            format!("{:.2}", cost.cpu),
            format!("{:.2}", cost.cpu / self.gigabytes),
            format!("{:.2}", cost.server_cpu),
            format!("{:.0}", cost.peak_mb),
            if self.floor > 0.0 { format!("{:.2}", cost.wall / self.floor) } else { "–".to_owned() },
            requests,
        ]);
    }
}

/// The floors' walls: fetching and writing.
fn floor_rows(
    rows: &mut Rows<'_>,
    server: &Server,
    bucket: &str,
    objects: &[(GeneratedObject, u64)],
    bytes: u64,
    runs: u64,
) -> f64 {
    let fetch = floors::fetch_command(server, bucket, objects.iter().map(|(o, size)| (o, *size)), 8);
    let fetched = median_of(runs, Some(server), &fetch);
    let written = |kind: &str| {
        let costs = (0..runs).map(|_| {
            let dir = fresh_dir("write");
            let cost = measured(None, &mut floors::write_command(kind, &dir.join("out"), bytes));
            let _ = std::fs::remove_dir_all(dir);
            cost
        });
        Cost::median(costs.collect())
    };
    let (direct, cached) = (written("uring"), written("pwrite"));
    rows.floor = fetched.wall.max(direct.wall.min(cached.wall));
    rows.row("fetch only", &fetched, 0.0);
    rows.row("write only, uring", &direct, 0.0);
    rows.row("write only, pwrite", &cached, 0.0);
    rows.floor
}

fn large(results: &mut Results, rivals: &Rivals, args: &Args, runs: u64, bytes: u64) {
    let server = Server::start();
    let plain = large_database(&LargeSpec { bytes, ..LargeSpec::default() }).expect("a database");
    let spec = LargeSpec { bytes, increments: 500, ..LargeSpec::default() };
    let increments = LargeDatabase::without_snapshot(&spec).expect("increments");
    let with_size = |object: &GeneratedObject| (object.clone(), object.bytes.len() as u64);
    let snapshot: Vec<_> = plain.objects.iter().map(with_size).collect();
    let mut all = snapshot.clone();
    all.extend(increments.objects.iter().map(with_size));
    for (bucket, objects) in [("plain", &snapshot), ("incremented", &all)] {
        for (object, _) in objects {
            server.sim.objects().put(
                bucket,
                &object.key,
                hydrant::sim::server::Object::new(object.bytes.clone())
                    .litestream_timestamp(object.litestream_timestamp)
                    .last_modified(object.last_modified),
            );
        }
    }
    let bytes = plain.size_bytes();
    let mut floor = 0.0;
    if args.wants("large") {
        results.table("One database", &COLUMNS);
        let mut bound = 0.0;
        for (name, bucket, objects) in
            [("one snapshot", "plain", &snapshot), ("the same and 500 increments", "incremented", &all)]
        {
            let mut rows = Rows { results, name, gigabytes: bytes as f64 / 1e9, floor: 0.0 };
            let wire = floor_rows(&mut rows, &server, bucket, objects, bytes, runs);
            let planned = planned(&server, bucket);
            let (ours, sent) = restores(runs, &server, bucket, ROOT, &[]);
            rows.row("hydrant restore", &ours, sent / planned);
            let (cached, sent) = restores(runs, &server, bucket, ROOT, &["--io-engine", "pwrite"]);
            rows.row("hydrant restore, pwrite", &cached, sent / planned);
            let s5cmd = rivals.fetch(&server, bucket, objects.iter().map(|(object, _)| object));
            if let Some(cost) = &s5cmd {
                rows.row("s5cmd cat, the same objects", cost, 0.0);
            }
            let litestream = rivals.restore_one(&server, bucket, ROOT);
            if let Some(cost) = &litestream {
                rows.row("litestream restore", cost, 0.0);
            }
            let is_plain = bucket == "plain";
            let cpu_floor = (ours.cpu + ours.server_cpu) / cores() as f64;
            if is_plain {
                bound = 1.25 * wire.max(cpu_floor);
                floor = wire.max(cpu_floor);
            }
            let (allowed, cpu) = if is_plain { (bound, 0.95) } else { (bound * 1.15, 0.95 * 1.15) };
            results.target(&format!("{name}: wall"), ours.wall, Bound::AtMost(allowed), "s");
            let per_gb = ours.cpu / (bytes as f64 / 1e9);
            results.target(&format!("{name}: CPU per GB"), per_gb, Bound::AtMost(cpu), "s");
            results.target(&format!("{name}: peak memory"), ours.peak_mb, Bound::AtMost(96.0), "MB");
            if is_plain {
                results.bar("One database, wall seconds", "hydrant restore", ours.wall);
                results.bar("One database, wall seconds", "fetch only or write only", wire);
                if let Some(cost) = &s5cmd {
                    results.bar("One database, wall seconds", "s5cmd cat", cost.wall);
                }
            }
            if let Some(cost) = litestream {
                let times = cost.wall / ours.wall;
                results.target(&format!("{name}: times as fast as litestream"), times, Bound::AtLeast(20.0), "");
                let share = cost.cpu / ours.cpu;
                results.target(&format!("{name}: litestream's CPU against ours"), share, Bound::AtLeast(17.0), "");
                if is_plain {
                    results.bar("One database, wall seconds", "litestream restore", cost.wall);
                }
            }
        }
    }
    if args.wants("capped") {
        capped(results, &server, runs.min(3), floor, snapshot[0].1);
    }
}

/// How much of min(connections × cap, floor) is reached. `floor` in seconds, 0 if not measured.
fn capped(results: &mut Results, server: &Server, runs: u64, floor: f64, body: u64) {
    let columns = ["cap MB/s", "requests in flight", "wall s", "MB/s fetched", "MB/s possible", "reached"];
    results.table("One database, so many bytes per second and connection", &columns);
    let floor = if floor > 0.0 { floor } else { restores(runs, server, "plain", ROOT, &[]).0.wall };
    for cap in [60, 20] {
        let faults = Faults { bandwidth_per_connection: Some(cap * 1_000_000), ..Faults::default() };
        server.sim.set_faults(faults);
        let in_flight = server_in_flight(server, runs);
        server.sim.set_faults(Faults::default());
        let (cost, connections) = in_flight;
        let reached = body as f64 / 1e6 / cost.wall;
        let possible = (cap as f64 * connections).min(body as f64 / 1e6 / floor);
        results.row(&[
            cap.to_string(),
            format!("{connections:.0}"),
            format!("{:.3}", cost.wall),
            format!("{reached:.0}"),
            format!("{possible:.0}"),
            format!("{:.0} %", 100.0 * reached / possible),
        ]);
        let name = format!("{cap} MB/s per connection: of min(connections × cap, floor)");
        results.target(&name, 100.0 * reached / possible, Bound::AtLeast(90.0), "%");
    }
}

/// The median run and the most requests in flight, looked at every few milliseconds.
fn server_in_flight(server: &Server, runs: u64) -> (Cost, f64) {
    let most = std::sync::atomic::AtomicU64::new(0);
    let over = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    let cost = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(relaxed) {
                most.fetch_max(server.stats().in_flight_now, relaxed);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        let cost = restores(runs, server, "plain", ROOT, &[]).0;
        over.store(true, relaxed);
        cost
    });
    (cost, most.into_inner() as f64)
}

/// One small database, 20 ms to the first byte.
fn small(results: &mut Results, rivals: &Rivals, runs: u64) {
    let server = Server::with_latency(20);
    let fleet = tiny_fleet(&TinyFleet { count: 1, ..TinyFleet::default() }).expect("a database");
    server.sim.objects().put_database("small", &fleet[0]);
    let (ours, _) = restores(runs, &server, "small", &fleet[0].root, &[]);
    results.table("One small database at 20 ms", &["what", "wall ms", "CPU ms", "peak MB", "requests"]);
    let row = |what: &str, cost: &Cost| {
        let (wall, cpu) = (cost.wall * 1e3, cost.cpu * 1e3);
        let cells = [what.to_owned(), format!("{wall:.1}"), format!("{cpu:.1}"), format!("{:.0}", cost.peak_mb), {
            cost.sent().to_string()
        }];
        results.row(&cells);
    };
    row("hydrant restore", &ours);
    let litestream: Vec<Cost> =
        (0..runs).filter_map(|_| rivals.restore_one(&server, "small", &fleet[0].root)).collect();
    if !litestream.is_empty() {
        row("litestream restore", &Cost::median(litestream));
    }
    results.target("a small database at 20 ms", ours.wall * 1e3, Bound::AtMost(80.0), "ms");
}

/// One page on a local server, against an empty process.
fn page(results: &mut Results, rivals: &Rivals, runs: u64) {
    let server = Server::start();
    let database = large_database(&LargeSpec { bytes: 4096, ..LargeSpec::default() }).expect("a database");
    server.sim.objects().put_database("page", &database.to_database());
    let restored = Cost::median(
        (0..runs)
            .map(|_| {
                let dir = fresh_dir("page");
                let mut restore = hydrant();
                // Whoever has keys does not ask the machine for any.
                restore.env_remove("AWS_EC2_METADATA_DISABLED").args(["restore", "-o"]).arg(dir.join("db"));
                measured(Some(&server), restore.arg(server.url("page", ROOT)))
            })
            .collect(),
    );
    let version = median_of(runs, None, || {
        let mut version = hydrant();
        version.arg("--version");
        version
    });
    let empty = median_of(runs, None, || command("true"));
    results.table("One page", &["what", "wall ms", "CPU ms", "peak MB"]);
    let row = |what: &str, cost: &Cost| {
        let (wall, cpu) = (cost.wall * 1e3, cost.cpu * 1e3);
        results.row(&[
            what.to_owned(),
            format!("{wall:.1}"),
            format!("{cpu:.1}"),
            if cost.peak_mb > 0.0 { format!("{:.0}", cost.peak_mb) } else { "–".to_owned() },
        ]);
    };
    row("true", &empty);
    row("hydrant --version", &version);
    row("hydrant restore", &restored);
    let litestream: Vec<Cost> = (0..runs.min(5)).filter_map(|_| rivals.restore_one(&server, "page", ROOT)).collect();
    if !litestream.is_empty() {
        row("litestream restore", &Cost::median(litestream));
    }
    let more = (restored.wall - empty.wall) * 1e3;
    results.target("one page: more than an empty process", more, Bound::AtMost(15.0), "ms");
}

/// One of 10 GB, once.
fn giant(results: &mut Results, bytes: u64) {
    let root = fresh_dir("giant");
    let stat = rustix::fs::statvfs(&root).expect("the file system");
    let needed = bytes / 100 * 175;
    if stat.f_bavail * stat.f_frsize < needed {
        println!("\nNo giant: it takes {} MB of disk.", needed / 1_000_000);
        return;
    }
    let body = generate(&root.join("giant"), &LargeSpec { bytes, ..LargeSpec::default() });
    let server = Server::start();
    server.sim.objects().load_folder("giant", "", &root.join("giant"), None).expect("the bucket");
    results.table("One giant, served from disk", &COLUMNS);
    let rows = Rows { results, name: "one snapshot", gigabytes: bytes as f64 / 1e9, floor: 0.0 };
    let (cost, _) = restore(&server, "giant", ROOT, &[]);
    rows.row("hydrant restore", &cost, 0.0);
    println!("\n{:.1} GB from {:.1} GB.", bytes as f64 / 1e9, body as f64 / 1e9);
    let _ = std::fs::remove_dir_all(&root);
    results.target("10 GB: peak memory", cost.peak_mb, Bound::AtMost(96.0), "MB");
}

/// Writes the database's bucket; the snapshot's size.
fn generate(bucket: &Path, spec: &LargeSpec) -> u64 {
    let large = LargeDatabase::without_snapshot(spec).expect("a database");
    let mut folder = FolderWriter::create(bucket).expect("a folder");
    let snapshot = large.snapshot_object();
    folder
        .streamed(&snapshot, |out| {
            large.write_snapshot(out).map(drop).map_err(|e| std::io::Error::other(e.to_string()))
        })
        .expect("the snapshot");
    folder.finish().expect("the folder");
    std::fs::metadata(bucket.join(&snapshot.key)).map_or(0, |m| m.len())
}
