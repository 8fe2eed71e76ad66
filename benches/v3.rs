//! Measures restores of replicas of Litestream 0.3. Usage: `cargo bench --features sim --bench v3 [-- --mb 1060]
//! [--databases 2000] [--runs N] [--only large,fleet] [--quick]`.
//!
//! - `large`: a database of 1 GB with 200 indexes of five segments each, from disk, and from a simulated S3 server that
//!   sends first bytes after 20 ms.
//! - `fleet`: small databases of six files each, from the same server. All files are needed.
//!
//! Every number is a median, and what is compared runs in turn. `litestream` takes part if it is on PATH: its HEAD
//! restores these replicas too. Every database that Hydrant restores is compared with its expected hash.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::cost::{Cost, hydrant, in_turn, measured};
use common::results::{Bound, Results};
use common::rivals::Rivals;
use common::server::Server;
use common::{Args, fresh_dir};
use hydrant::sim::generate::v3::{FleetV3, GeneratedV3, LargeV3Spec, large_v3, v3_fleet};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader};
use std::path::Path;

const BUCKET: &str = "v3";
const LATENCY_MS: u64 = 20;
/// `litestream` restores these many of the small databases at a time, of this many.
const LITESTREAM_AT_ONCE: u64 = 16;
const LITESTREAM_DATABASES: usize = 192;

fn main() {
    let args = Args::of_process();
    let mut results = Results::new("v3");
    let rivals = Rivals::on_path();
    let runs = args.number("--runs", if args.is_quick() { 1 } else { 7 });
    if args.wants("large") {
        large(&mut results, &rivals, args.number("--mb", if args.is_quick() { 100 } else { 1060 }), runs);
    }
    if args.wants("fleet") {
        let count = args.number("--databases", if args.is_quick() { 200 } else { 2000 }) as usize;
        fleet(&mut results, &rivals, count, runs);
    }
    common::remove_dirs();
    results.finish(&args);
}

fn large(results: &mut Results, rivals: &Rivals, megabytes: u64, runs: u64) {
    let spec = LargeV3Spec { bytes: megabytes * 1_000_000, ..LargeV3Spec::default() };
    let replica = large_v3(&spec).expect("a database").to_replica();
    let server = Server::with_latency(LATENCY_MS);
    server.sim.objects().put_v3(BUCKET, &replica);
    let folder = fresh_dir("replica");
    for object in &replica.objects {
        let path = folder.join(&object.key);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        std::fs::write(path, &object.bytes).expect("the file");
    }
    let on_disk = format!("file://{}", folder.join(&replica.root).display());
    let in_bucket = server.url(BUCKET, &replica.root);

    let columns = ["from", "what", "wall s", "CPU-s", "CPU-s per GB", "peak MB", "requests", "of ours"];
    results.table(&format!("One database of Litestream 0.3, {megabytes} MB"), &columns);
    for (from, url, times) in [("disk", on_disk, 5.0), ("S3", in_bucket, 20.0)] {
        let served = (from == "S3").then_some(&server);
        let costs = in_turn(&[
            (runs, Box::new(|| Some(restore(served, &url, &replica)))),
            (2.min(runs), Box::new(|| rivals.restore_one(served, &url))),
        ]);
        let [Some(ours), litestream] = &costs[..] else { unreachable!("only other programs may be missing") };
        let gigabytes = spec.bytes as f64 / 1e9;
        for (what, cost) in [("hydrant restore", Some(ours)), ("litestream restore", litestream.as_ref())] {
            let Some(cost) = cost else { continue };
            results.row(&[
                from.to_owned(),
                what.to_owned(),
                format!("{:.3}", cost.wall),
                format!("{:.2}", cost.cpu),
                format!("{:.2}", cost.cpu / gigabytes),
                format!("{:.0}", cost.peak_mb),
                if served.is_some() { cost.sent().to_string() } else { "–".to_owned() },
                format!("{:.1}", cost.wall / ours.wall),
            ]);
        }
        if served.is_some() {
            results.target("from S3: CPU per GB", ours.cpu / gigabytes, Bound::AtMost(0.9), "s");
            results.target("from S3: peak memory", ours.peak_mb, Bound::AtMost(96.0), "MB");
        }
        if let Some(theirs) = litestream {
            let name = format!("from {from}: times as fast as litestream");
            results.target(&name, theirs.wall / ours.wall, Bound::AtLeast(times), "");
        }
    }
}

/// Runs `hydrant restore` once.
fn restore(server: Option<&Server>, url: &str, replica: &GeneratedV3) -> Cost {
    let dir = fresh_dir("restore");
    let mut restore = hydrant();
    restore.args(["restore", "-o"]).arg(dir.join("db")).arg(url);
    let cost = measured(server, &mut restore);
    check(replica, &dir.join("db"));
    let _ = std::fs::remove_dir_all(dir);
    cost
}

fn fleet(results: &mut Results, rivals: &Rivals, count: usize, runs: u64) {
    let server = Server::with_latency(LATENCY_MS);
    let fleet = v3_fleet(&FleetV3 { count, ..FleetV3::default() });
    fleet.iter().for_each(|replica| server.sim.objects().put_v3(BUCKET, replica));
    let some = count.min(LITESTREAM_DATABASES);
    let roots = || fleet.iter().take(some).map(|replica| replica.root.as_str());
    let costs = in_turn(&[
        (runs, Box::new(|| Some(restore_pattern(&server, &fleet)))),
        (
            2.min(runs),
            Box::new(|| {
                let (cost, restored) = rivals.restore_all(&server, BUCKET, roots(), LITESTREAM_AT_ONCE)?;
                assert_eq!(restored, some, "litestream has failed");
                Some(cost)
            }),
        ),
    ]);
    let [Some(ours), litestream] = &costs[..] else { unreachable!("only other programs may be missing") };
    let columns = ["databases", "what", "wall ms each", "CPU ms each", "requests each", "peak MB", "of ours"];
    results.table("A fleet of Litestream 0.3", &columns);
    let each = |seconds: f64, databases: usize| seconds * 1e3 / databases as f64;
    let row = |what: &str, cost: &Cost, databases: usize, peak: String| {
        results.row(&[
            databases.to_string(),
            what.to_owned(),
            format!("{:.2}", each(cost.wall, databases)),
            format!("{:.2}", each(cost.cpu, databases)),
            format!("{:.2}", cost.sent() as f64 / databases as f64),
            peak,
            format!("{:.1}", each(cost.wall, databases) / each(ours.wall, count)),
        ]);
    };
    row("hydrant restore-pattern", ours, count, format!("{:.0}", ours.peak_mb));
    if let Some(theirs) = litestream {
        // The memory would be that of xargs.
        row(&format!("litestream, xargs -P {LITESTREAM_AT_ONCE}"), theirs, some, "–".to_owned());
        let times = each(theirs.wall, some) / each(ours.wall, count);
        results.target(&format!("{count} databases: times as fast as xargs"), times, Bound::AtLeast(90.0), "");
    }
    results.target(&format!("{count} databases: peak memory"), ours.peak_mb, Bound::AtMost(96.0), "MB");
}

fn restore_pattern(server: &Server, fleet: &[GeneratedV3]) -> Cost {
    let dir = fresh_dir("out");
    let mut restore = hydrant();
    restore.args(["restore-pattern", "--no-progress", "--output-dir"]).arg(dir.join("db"));
    restore.arg("--error-log").arg(dir.join("errors")).arg(server.url(BUCKET, "**"));
    let cost = measured(Some(server), &mut restore);
    fleet.iter().for_each(|replica| check(replica, &dir.join("db").join(&replica.root)));
    cost
}

/// Checks that a database was restored byte for byte.
fn check(replica: &GeneratedV3, path: &Path) {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut hash = Sha256::new();
    // This loop ends: the file is finite.
    while let part = file.fill_buf().expect("the database")
        && !part.is_empty()
    {
        hash.update(part);
        let len = part.len();
        file.consume(len);
    }
    let expected = replica.newest().expect("its newest state").sha256;
    assert!(hash.finalize().as_slice() == expected, "{} differs", path.display());
}
