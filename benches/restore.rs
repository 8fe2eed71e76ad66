//! Measures the restore of single databases from a simulated S3 server. Usage: `cargo bench --features sim --bench
//! restore [-- --runs N] [--mb 1060] [--giant-mb 10600] [--only large,capped,small,page,giant] [--quick]`.
//!
//! - `large`: a database of 1 GB, and the same with 500 increments that overlap heavily. They are compared with
//!   floors that are measured in the same run: fetching the same objects to memory with the same client, writing
//!   the same bytes by the best writer, and all CPU time divided by the number of cores.
//! - `capped`: the same database with a bandwidth limit on each connection.
//! - `small`: a small database, 20 ms to the first byte.
//! - `page`: a database of one page, compared with an empty process.
//! - `giant`: a database of 10 GB, once, served from disk. It runs only if it is named or with `--giant-mb`.
//!
//! Every number is a median. Things that are compared run in turn, round after round. The server runs in this
//! process, on the same cores. `litestream` and `s5cmd` take part if they are on PATH.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::cost::{Cost, Entrant, captured, command, hydrant, in_turn, measured, median_of};
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

/// Runs `hydrant restore` once, into a fresh directory.
fn restore(server: &Server, bucket: &str, root: &str, flags: &[&str]) -> Cost {
    let dir = fresh_dir("restore");
    let mut restore = hydrant();
    restore.args(["restore", "--json"]).args(flags).arg("-o").arg(dir.join("db")).arg(server.url(bucket, root));
    let cost = captured(Some(server), &mut restore);
    let _ = std::fs::remove_dir_all(dir);
    cost
}

/// The number of requests that a finished `hydrant restore --json` reports.
fn sent(cost: &Cost) -> f64 {
    let said: serde_json::Value = serde_json::from_str(&cost.stdout).expect("JSON");
    said["requests"].as_f64().expect("the requests")
}

/// The number of requests that the plan needs, including the listing.
fn planned(server: &Server, bucket: &str) -> f64 {
    let path = fresh_dir("plan").join("report.json");
    let mut plan = hydrant();
    plan.args(["restore-pattern", "--dry-run", "--no-progress", "--report"]).arg(&path).arg(server.url(bucket, "**"));
    measured(None, &mut plan);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("the report")).expect("JSON");
    let gets = report["databases"][0]["requests"].as_f64().expect("the requests");
    gets + report["summary"]["lists"].as_f64().expect("the listings")
}

/// Restores a database `runs` times and returns the run with the median wall time.
fn restores(runs: u64, server: &Server, bucket: &str, root: &str) -> Cost {
    Cost::median((0..runs.max(1)).map(|_| restore(server, bucket, root, &[])).collect())
}

struct Rows<'a> {
    results: &'a Results,
    name: &'a str,
    gigabytes: f64,
    floor: f64,
}

impl Rows<'_> {
    /// Prints a row. `of_planned` is the number of requests sent divided by the number planned, or 0 if that is not
    /// known.
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

/// Measures only writing `bytes` bytes to a new file, the floor for a restore's output.
fn write_only(kind: &str, bytes: u64) -> Cost {
    let dir = fresh_dir("write");
    let cost = measured(None, &mut floors::write_command(kind, &dir.join("out"), bytes));
    let _ = std::fs::remove_dir_all(dir);
    cost
}

/// A database in its bucket, and its objects with their sizes in bytes.
struct Scenario {
    name: &'static str,
    bucket: &'static str,
    objects: Vec<(GeneratedObject, u64)>,
}

/// The costs of a scenario, one for each way of handling it.
struct Costs {
    fetched: Cost,
    direct: Cost,
    buffered: Cost,
    ours: Cost,
    ours_buffered: Cost,
    s5cmd: Option<Cost>,
    litestream: Option<Cost>,
}

impl Scenario {
    fn entrants<'a>(&'a self, server: &'a Server, rivals: &'a Rivals, bytes: u64, runs: u64) -> [Entrant<'a>; 7] {
        let fetch = floors::fetch_command(server, self.bucket, self.objects.iter().map(|(o, size)| (o, *size)), 8);
        let objects = || self.objects.iter().map(|(object, _)| object);
        let restore = |flags: &[&str]| Some(restore(server, self.bucket, ROOT, flags));
        [
            (runs, Box::new(move || Some(measured(Some(server), &mut fetch())))),
            (runs, Box::new(move || Some(write_only("uring", bytes)))),
            (runs, Box::new(move || Some(write_only("pwrite", bytes)))),
            (runs, Box::new(move || restore(&[]))),
            (runs, Box::new(move || restore(&["--io-engine", "pwrite"]))),
            (runs.min(3), Box::new(move || rivals.fetch(server, self.bucket, objects()))),
            (runs.min(3), Box::new(move || rivals.restore_one(Some(server), &server.url(self.bucket, ROOT)))),
        ]
    }
}

impl Costs {
    /// Takes the costs in the order of [`Scenario::entrants`].
    fn of(costs: &[Option<Cost>]) -> Self {
        let [Some(fetched), Some(direct), Some(buffered), Some(ours), Some(ours_buffered), s5cmd, litestream] = costs
        else {
            unreachable!("only other programs may be missing")
        };
        Self {
            fetched: fetched.clone(),
            direct: direct.clone(),
            buffered: buffered.clone(),
            ours: ours.clone(),
            ours_buffered: ours_buffered.clone(),
            s5cmd: s5cmd.clone(),
            litestream: litestream.clone(),
        }
    }

    /// The time in seconds of fetching or of writing, whichever takes longer.
    fn wire(&self) -> f64 {
        self.fetched.wall.max(self.direct.wall.min(self.buffered.wall))
    }

    /// The least time in seconds that a restore can take on this number of cores.
    fn floor(&self) -> f64 {
        self.wire().max((self.ours.cpu + self.ours.server_cpu) / cores() as f64)
    }

    fn rows(&self, rows: &Rows<'_>, planned: f64) {
        rows.row("fetch only", &self.fetched, 0.0);
        rows.row("write only, uring", &self.direct, 0.0);
        rows.row("write only, pwrite", &self.buffered, 0.0);
        rows.row("hydrant restore", &self.ours, sent(&self.ours) / planned);
        rows.row("hydrant restore, pwrite", &self.ours_buffered, sent(&self.ours_buffered) / planned);
        for (what, cost) in [("s5cmd cat, the same objects", &self.s5cmd), ("litestream restore", &self.litestream)] {
            if let Some(cost) = cost {
                rows.row(what, cost, 0.0);
            }
        }
    }
}

/// The two scenarios: one snapshot, and the same with 500 increments.
fn scenarios(server: &Server, bytes: u64) -> (u64, [Scenario; 2]) {
    let plain = large_database(&LargeSpec { bytes, ..LargeSpec::default() }).expect("a database");
    let spec = LargeSpec { bytes, increments: 500, ..LargeSpec::default() };
    let increments = LargeDatabase::without_snapshot(&spec).expect("increments");
    let with_size = |object: &GeneratedObject| (object.clone(), object.bytes.len() as u64);
    let snapshot: Vec<_> = plain.objects.iter().map(with_size).collect();
    let mut all = snapshot.clone();
    all.extend(increments.objects.iter().map(with_size));
    let scenarios = [
        Scenario { name: "one snapshot", bucket: "plain", objects: snapshot },
        Scenario { name: "the same and 500 increments", bucket: "incremented", objects: all },
    ];
    for Scenario { bucket, objects, .. } in &scenarios {
        for (object, _) in objects {
            let served = hydrant::sim::server::Object::new(object.bytes.clone())
                .litestream_timestamp(object.litestream_timestamp)
                .last_modified(object.last_modified);
            server.sim.objects().put(bucket, &object.key, served);
        }
    }
    (plain.size_bytes(), scenarios)
}

fn large(results: &mut Results, rivals: &Rivals, args: &Args, runs: u64, bytes: u64) {
    let server = Server::start();
    let (bytes, scenarios) = scenarios(&server, bytes);
    let mut floor = None;
    if args.wants("large") {
        let entrants: Vec<_> = scenarios.iter().flat_map(|s| s.entrants(&server, rivals, bytes, runs)).collect();
        let first_byte = floors::first_byte(&server, scenarios[0].bucket, &scenarios[0].objects[0].0.key);
        let costs: Vec<_> = in_turn(&entrants).chunks(entrants.len() / scenarios.len()).map(Costs::of).collect();
        results.table("One database", &COLUMNS);
        for (Scenario { name, bucket, .. }, costs) in scenarios.iter().zip(&costs) {
            let rows = Rows { results, name, gigabytes: bytes as f64 / 1e9, floor: costs.wire() };
            costs.rows(&rows, planned(&server, bucket));
            let floor = *floor.get_or_insert(costs.floor());
            let more = if *bucket == "plain" { 1.0 } else { 1.15 };
            let wall = (1.25 * floor + 3.0 * first_byte) * more;
            large_targets(results, name, costs, wall, 0.95 * more, bytes as f64 / 1e9);
        }
        let chart = "One database, wall seconds";
        results.bar(chart, "hydrant restore", costs[0].ours.wall);
        results.bar(chart, "fetch only or write only", costs[0].wire());
        for (label, cost) in [("s5cmd cat", &costs[0].s5cmd), ("litestream restore", &costs[0].litestream)] {
            if let Some(cost) = cost {
                results.bar(chart, label, cost.wall);
            }
        }
    }
    if args.wants("capped") {
        capped(results, &server, runs.min(3), floor, scenarios[0].objects[0].1);
    }
}

fn large_targets(results: &mut Results, name: &str, costs: &Costs, wall: f64, cpu_per_gb: f64, gigabytes: f64) {
    let ours = &costs.ours;
    results.target(&format!("{name}: wall"), ours.wall, Bound::AtMost(wall), "s");
    results.target(&format!("{name}: CPU per GB"), ours.cpu / gigabytes, Bound::AtMost(cpu_per_gb), "s");
    results.target(&format!("{name}: peak memory"), ours.peak_mb, Bound::AtMost(96.0), "MB");
    if let Some(theirs) = &costs.litestream {
        let times = theirs.wall / ours.wall;
        results.target(&format!("{name}: times as fast as litestream"), times, Bound::AtLeast(20.0), "");
        let share = theirs.cpu / ours.cpu;
        results.target(&format!("{name}: litestream's CPU against ours"), share, Bound::AtLeast(17.0), "");
    }
}

/// Measures how close a restore comes to what is possible if each connection has a bandwidth limit. The time that
/// is possible is the longer of two: the database's bytes divided by (connections × limit), and `floor`, the seconds
/// that fetching or writing takes without a limit.
fn capped(results: &mut Results, server: &Server, runs: u64, floor: Option<f64>, body: u64) {
    let columns = ["cap MB/s", "requests in flight", "wall s", "MB/s fetched", "MB/s possible", "reached"];
    results.table("One database, bandwidth capped for each connection", &columns);
    let floor = floor.unwrap_or_else(|| restores(runs, server, "plain", ROOT).wall);
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

/// The median run, and the largest number of requests in flight. That number is read every few milliseconds.
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
        let cost = restores(runs, server, "plain", ROOT);
        over.store(true, relaxed);
        cost
    });
    (cost, most.into_inner() as f64)
}

/// Measures one small database with 20 ms to the first byte.
fn small(results: &mut Results, rivals: &Rivals, runs: u64) {
    let server = Server::with_latency(20);
    let fleet = tiny_fleet(&TinyFleet { count: 1, ..TinyFleet::default() }).expect("a database");
    server.sim.objects().put_database("small", &fleet[0]);
    let ours = restores(runs, &server, "small", &fleet[0].root);
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
        (0..runs).filter_map(|_| rivals.restore_one(Some(&server), &server.url("small", &fleet[0].root))).collect();
    if !litestream.is_empty() {
        row("litestream restore", &Cost::median(litestream));
    }
    results.target("a small database at 20 ms", ours.wall * 1e3, Bound::AtMost(80.0), "ms");
}

/// Measures a database of one page on a server without latency, compared with an empty process.
fn page(results: &mut Results, rivals: &Rivals, runs: u64) {
    let server = Server::start();
    let database = large_database(&LargeSpec { bytes: 4096, ..LargeSpec::default() }).expect("a database");
    server.sim.objects().put_database("page", &database.to_database());
    let restored = Cost::median(
        (0..runs)
            .map(|_| {
                let dir = fresh_dir("page");
                let mut restore = hydrant();
                // The environment holds keys, so no metadata service is asked for credentials although it is
                // enabled.
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
    let litestream: Vec<Cost> =
        (0..runs.min(5)).filter_map(|_| rivals.restore_one(Some(&server), &server.url("page", ROOT))).collect();
    if !litestream.is_empty() {
        row("litestream restore", &Cost::median(litestream));
    }
    let more = (restored.wall - empty.wall) * 1e3;
    results.target("one page: more than an empty process", more, Bound::AtMost(15.0), "ms");
}

/// Measures the restore of a database of 10 GB, once.
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
    let cost = restore(&server, "giant", ROOT, &[]);
    rows.row("hydrant restore", &cost, 0.0);
    println!("\n{:.1} GB from {:.1} GB.", bytes as f64 / 1e9, body as f64 / 1e9);
    let _ = std::fs::remove_dir_all(&root);
    results.target("10 GB: peak memory", cost.peak_mb, Bound::AtMost(96.0), "MB");
}

/// Writes the database into the folder of a bucket. Returns the size of the snapshot in bytes.
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
