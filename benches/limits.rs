//! Measures how Hydrant behaves at S3 buckets that throttle, and with requests that are slow (stragglers). Usage:
//! `cargo bench --features sim --bench limits [-- --seconds 15] [--rates 300,1000,5500] [--quick] [--only
//! simulated,throttled,changing,random,prefixes,stragglers]`.
//!
//! - `simulated`: Hydrant's rate limiter and CUBIC, as the AWS SDKs use it, at the same simulated buckets.
//! - `throttled`: a bucket allows R requests per second and answers 503 above. How much of R is reached, when, and
//!   how many answers are 503?
//! - `changing`: R is halved and then made four times as large during a run.
//! - `random`: one request in ten is answered 503 (or 500), and there is no limit.
//! - `prefixes`: three key prefixes, each with a limit of its own.
//! - `stragglers`: 1 % of the first bytes take 20 times as long.
//!
//! First bytes take 20 ms. All counts are those of the server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
mod limiter;

use common::Args;
use common::cost::{hydrant, measured};
use common::fresh_dir;
use common::results::{Bound, Results};
use common::server::{Server, latency};
use hydrant::sim::generate::{TinyFleet, tiny_fleet};
use hydrant::sim::server::{Failure, Faults, Outcome, RateLimit, Tail};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

const BUCKET: &str = "fleet";
const LATENCY_MS: u64 = 20;
/// The time in seconds within which the limiter must find the bucket's rate.
const SETTLES: f64 = 5.0;
/// The largest accepted share of 503s among all answers, in percent. The search for the limit causes them.
const MOST_REFUSED: f64 = 5.0;
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn main() {
    let args = Args::of_process();
    let mut results = Results::new("limits");
    let seconds = args.number("--seconds", if args.is_quick() { 7 } else { 15 }) as f64;
    if args.wants("simulated") {
        limiter::simulated(&results);
    }
    if args.wants("throttled") {
        throttled(&mut results, &args, seconds);
    }
    if args.wants("changing") {
        changing(&mut results, if args.is_quick() { 6.0 } else { 10.0 });
    }
    if args.wants("random") {
        random(&mut results, args.number("--random-databases", if args.is_quick() { 500 } else { 1800 }) as usize);
    }
    if args.wants("prefixes") {
        prefixes(&mut results, if args.is_quick() { 100 } else { 300 });
    }
    if args.wants("stragglers") {
        stragglers(&mut results, args.number("--databases", if args.is_quick() { 500 } else { 2000 }) as usize);
    }
    common::remove_dirs();
    results.finish(&args);
}

fn limited(rate: f64) -> Faults {
    Faults { rate_limit: Some(RateLimit::per_bucket(rate)), ..latency(LATENCY_MS) }
}

fn server_of(databases: usize, faults: Faults) -> Server {
    let server = Server::with(faults);
    let fleet = tiny_fleet(&TinyFleet { count: databases, ..TinyFleet::default() }).expect("a fleet");
    fleet.iter().for_each(|database| server.sim.objects().put_database(BUCKET, database));
    server
}

/// The numbers of answers so far, at time `at` in seconds after the start of the run.
#[derive(Clone, Copy, Default)]
struct Sample {
    at: f64,
    good: f64,
    refused: f64,
}

/// The answers of the server, counted at regular times while a command ran.
struct Course(Vec<Sample>);

impl Course {
    /// Runs `command` for `seconds`, or until it ends if that is earlier. Calls `change` regularly with the time
    /// since the start.
    fn of(server: &Server, command: &mut Command, seconds: f64, mut change: impl FnMut(f64)) -> Self {
        let mut child = command.stderr(std::process::Stdio::null()).spawn().expect("the command starts");
        let mut begun = None;
        let mut samples = Vec::new();
        loop {
            let stats = server.stats();
            if stats.total() > 0 {
                let at = begun.get_or_insert_with(Instant::now).elapsed().as_secs_f64();
                let refused = stats.with_outcome(Outcome::SlowDown);
                samples.push(Sample { at, good: (stats.total() - refused) as f64, refused: refused as f64 });
                change(at);
                if at >= seconds {
                    break;
                }
            }
            if child.try_wait().expect("its status").is_some() {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = child.kill();
        let _ = child.wait();
        Self(samples)
    }

    fn at(&self, at: f64) -> Sample {
        let index = self.0.partition_point(|sample| sample.at < at).min(self.0.len().saturating_sub(1));
        self.0.get(index).copied().unwrap_or_default()
    }

    fn end(&self) -> f64 {
        self.0.last().map_or(0.0, |sample| sample.at)
    }

    /// The number of good answers per second between two times.
    fn rate(&self, from: f64, to: f64) -> f64 {
        let (from, to) = (self.at(from), self.at(to));
        (to.good - from.good) / (to.at - from.at).max(f64::MIN_POSITIVE)
    }

    /// The share of 503s among all answers between two times, in percent.
    fn refused_percent(&self, from: f64, to: f64) -> f64 {
        let (from, to) = (self.at(from), self.at(to));
        let refused = to.refused - from.refused;
        100.0 * refused / (refused + to.good - from.good).max(1.0)
    }

    /// The time after `from`, in seconds, at which the rate first came within 10 % of `rate`. The rate is measured
    /// over one second; the end of that second counts. None if that did not happen before `to`.
    fn reached(&self, from: f64, to: f64, rate: f64) -> Option<f64> {
        let within = |at: f64| (0.9..=1.1).contains(&(self.rate(at - 1.0, at) / rate));
        let later = self.0.iter().filter(|sample| sample.at >= from + 1.0 && sample.at <= to);
        later.map(|sample| sample.at).find(|&at| within(at)).map(|at| at - from)
    }
}

fn restore(server: &Server) -> Command {
    let dir = fresh_dir("out");
    let mut restore = hydrant();
    restore.args(["restore-pattern", "--no-progress", "--error-log"]).arg(dir.join("errors")).arg("--output-dir");
    restore.arg(dir.join("db")).arg(server.url(BUCKET, "**"));
    restore
}

/// A command that only fetches and writes nothing, for rates at which this machine could not restore.
fn fetch(server: &Server) -> Command {
    let mut bench = hydrant();
    bench.args(["bench", "--stage", "fetch", "--duration", "10m"]).arg(server.url(BUCKET, "**"));
    bench
}

fn seconds_of(time: Option<f64>) -> String {
    time.map_or("never".to_owned(), |seconds| format!("{seconds:.1}"))
}

fn throttled(results: &mut Results, args: &Args, seconds: f64) {
    let columns = ["R", "what", "90 % of R after s", "of R after 5 s", "of R, all", "503s", "503s after 5 s"];
    results.table("A bucket that allows R requests/s", &columns);
    for rate in args.list("--rates", "300,1000,5500") {
        let r = rate as f64;
        // Each database takes three requests. There are more databases than can be restored in the time.
        let server = server_of((r * seconds / 2.5) as usize, limited(r));
        let (what, mut command) = match rate {
            ..=2000 => ("restore-pattern", restore(&server)),
            _ => ("bench --stage fetch", fetch(&server)),
        };
        let course = Course::of(&server, &mut command, seconds, |_| {});
        let end = course.end();
        let (settled, refused) = (course.rate(SETTLES, end) / r, course.refused_percent(0.0, end));
        let found = course.reached(0.0, end, r);
        results.row(&[
            rate.to_string(),
            what.to_owned(),
            seconds_of(found),
            format!("{:.1} %", 100.0 * settled),
            format!("{:.1} %", 100.0 * course.rate(0.0, end) / r),
            format!("{refused:.2} %"),
            format!("{:.2} %", course.refused_percent(SETTLES, end)),
        ]);
        results.target(
            &format!("R = {rate}: reaches 90 %"),
            found.unwrap_or(f64::INFINITY),
            Bound::AtMost(SETTLES),
            "s",
        );
        results.target(&format!("R = {rate}: after 5 s"), 100.0 * settled, Bound::AtLeast(90.0), "% of R");
        results.target(&format!("R = {rate}: 503s"), refused, Bound::AtMost(MOST_REFUSED), "%");
    }
}

/// The limit is 1,000 requests per second, then 500, then 2,000. Each lasts `phase` seconds.
fn changing(results: &mut Results, phase: f64) {
    let rates = [1000.0, 500.0, 2000.0];
    let server = server_of((rates.iter().sum::<f64>() * phase / 2.5) as usize, limited(rates[0]));
    let mut now = 0;
    let course = Course::of(&server, &mut restore(&server), phase * rates.len() as f64, |at| {
        let due = ((at / phase) as usize).min(rates.len() - 1);
        if due > now {
            now = due;
            server.sim.set_faults(limited(rates[due]));
        }
    });
    results.table(
        &format!("R changes while it runs, every {phase:.0} s"),
        &["R", "within 10 % of R after s", "of R after 5 s", "503s"],
    );
    for (i, rate) in rates.into_iter().enumerate() {
        let (from, to) = (i as f64 * phase, ((i + 1) as f64 * phase).min(course.end()));
        let found = course.reached(from, to, rate);
        let settled = course.rate(from + SETTLES, to) / rate;
        results.row(&[
            format!("{rate:.0}"),
            seconds_of(found),
            format!("{:.1} %", 100.0 * settled),
            format!("{:.2} %", course.refused_percent(from, to)),
        ]);
        if i > 0 {
            let name = format!("R becomes {rate:.0}: reaches 90 %");
            results.target(&name, found.unwrap_or(f64::INFINITY), Bound::AtMost(SETTLES), "s");
        }
    }
    let refused = course.refused_percent(0.0, course.end());
    results.target("R changes: 503s, all over", refused, Bound::AtMost(MOST_REFUSED), "%");
}

/// Restores a fleet while one request in ten is answered 503, then 500, whatever the rate.
fn random(results: &mut Results, databases: usize) {
    results.table(
        &format!("{databases} databases, one request in ten fails"),
        &["with", "wall s", "requests of the needed"],
    );
    let walls = [("500", Failure::InternalError), ("503", Failure::SlowDown)].map(|(name, failure)| {
        let faults = Faults { fail: vec![(failure, 0.1)], ..latency(LATENCY_MS) };
        let run = timed(databases, faults, &[]);
        results.row(&[name.to_owned(), format!("{:.2}", run.wall), format!("{:.3}", run.requests)]);
        run.wall
    });
    results.target("503s by chance: time against 500s", walls[1] / walls[0], Bound::AtMost(3.0), "");
}

/// Restores a fleet from three prefixes that allow 100 requests per second each.
fn prefixes(results: &mut Results, databases: usize) {
    let limit = RateLimit { prefix_parts: 2, ..RateLimit::per_bucket(100.0) };
    let server = Server::with(Faults { rate_limit: Some(limit), ..latency(LATENCY_MS) });
    for part in 0..3 {
        let part = TinyFleet { count: databases, prefix: format!("fleet/part-{part}"), ..TinyFleet::default() };
        let fleet = tiny_fleet(&part).expect("a fleet");
        fleet.iter().for_each(|database| server.sim.objects().put_database(BUCKET, database));
    }
    let course = Course::of(&server, &mut restore(&server), 120.0, |_| {});
    let (end, refused) = (course.end(), course.refused_percent(0.0, course.end()));
    results.table(
        &format!("Three prefixes of {databases} databases that allow 100 requests/s each"),
        &["s", "of 300/s", "of 300/s after 5 s", "503s"],
    );
    let used = course.rate(0.0, end) / 3.0;
    results.row(&[
        format!("{end:.1}"),
        format!("{used:.1} %"),
        format!("{:.1} %", course.rate(SETTLES, end) / 3.0),
        format!("{refused:.2} %"),
    ]);
    results.target("three prefixes: of 300/s", used, Bound::AtLeast(80.0), "%");
    results.target("three prefixes: 503s", refused, Bound::AtMost(MOST_REFUSED), "%");
}

/// Measures the time per database with stragglers, once with free requests for hedges and once without. A hedge is
/// a second copy of a late request.
fn stragglers(results: &mut Results, databases: usize) {
    let columns = ["what", "p50 ms", "p90 ms", "p99 ms", "max ms", "wall s", "requests of the needed"];
    results.table(&format!("{databases} databases, times per database"), &columns);
    let tail = Faults { tail: Some(Tail { fraction: 0.01, factor: 20.0 }), ..latency(LATENCY_MS) };
    let row = |what: &str, faults: &Faults, flags: &[&str]| {
        let mut runs: Vec<_> = (0..3).map(|_| timed(databases, faults.clone(), flags)).collect();
        runs.sort_by(|a, b| a.p99.total_cmp(&b.p99));
        let run = runs.swap_remove(1);
        results.row(&[
            what.to_owned(),
            format!("{:.0}", run.p50),
            format!("{:.0}", run.p90),
            format!("{:.0}", run.p99),
            format!("{:.0}", run.max),
            format!("{:.2}", run.wall),
            format!("{:.3}", run.requests),
        ]);
        run
    };
    row("no stragglers", &latency(LATENCY_MS), &[]);
    let hedged = row("1 % of first bytes 20 times slower", &tail, &[]);
    // So few databases are in flight that the cores are not the bottleneck. In the last case as many requests are
    // in flight as are allowed, so none is left for a hedge.
    let (few, full) = (["--parallel", "16"], ["--parallel", "16", "--max-requests", "16"]);
    row("no stragglers, `--parallel 16`", &latency(LATENCY_MS), &few);
    let hedged_few = row("stragglers, `--parallel 16`", &tail, &few);
    let unhedged = row("stragglers, `--parallel 16 --max-requests 16`: no room for hedges", &tail, &full);
    let share = hedged_few.p99 / unhedged.p99;
    results.target("stragglers: p99 per database, hedged against not", share, Bound::AtMost(0.5), "");
    results.target("stragglers: more requests", 100.0 * (hedged.requests - 1.0), Bound::AtMost(3.0), "%");
}

struct Timed {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    wall: f64,
    /// The number of requests sent, divided by the number needed.
    requests: f64,
}

fn timed(databases: usize, faults: Faults, flags: &[&str]) -> Timed {
    let server = server_of(databases, faults);
    let dir = fresh_dir("out");
    let path = dir.join("report.json");
    let mut restore = hydrant();
    restore.args(["restore-pattern", "--no-progress", "--error-log"]).arg(dir.join("errors")).args(flags);
    restore.arg("--report").arg(&path).arg("--output-dir").arg(dir.join("db")).arg(server.url(BUCKET, "**"));
    let cost = measured(Some(&server), &mut restore);
    let report: Value = serde_json::from_slice(&std::fs::read(&path).expect("the report")).expect("JSON");
    let of = |name: &str| report["summary"]["restore_ms"][name].as_f64().unwrap_or(f64::NAN);
    let needed: f64 = report["databases"].as_array().into_iter().flatten().filter_map(|d| d["requests"].as_f64()).sum();
    let lists = report["summary"]["lists"].as_f64().unwrap_or(0.0);
    Timed {
        p50: of("p50"),
        p90: of("p90"),
        p99: of("p99"),
        max: of("max"),
        wall: cost.wall,
        requests: report["summary"]["requests"].as_f64().unwrap_or(f64::NAN) / (needed + lists),
    }
}
