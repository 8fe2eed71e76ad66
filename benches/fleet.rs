//! Thousands of small databases, end to end:
//! `cargo bench --bench fleet [-- --databases 10,100,1000,5000] [--latency-ms 0,20] [--litestream]`
//! prints a Markdown table: wall, CPU and requests per database, peak memory, descriptors.
//!
//! Each database has five files of which three are planned, and is restored durably; every
//! output is compared with its expected hash. The server is a process of its own on the same
//! cores. With `--litestream`, the first 64 databases are restored by `litestream restore` under
//! `xargs -P 16` and `-P 64` as well.

mod common;

use common::{Cost, Server, command, fresh_dir, measured, on_path};
use hydrant::sim::generate::{GeneratedDatabase, TinyFleet, tiny_fleet};
use hydrant::sim::server::write_folder;
use sha2::{Digest, Sha256};
use std::path::Path;

const BUCKET: &str = "fleet";
const LITESTREAM_DATABASES: usize = 64;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let list = |flag: &str, default: &str| -> Vec<usize> {
        let given = args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1));
        given.map_or(default, String::as_str).split(',').map(|n| n.parse().expect("numbers")).collect()
    };
    let litestream = on_path("litestream").filter(|_| args.iter().any(|a| a == "--litestream"));
    println!(
        "| databases | first byte | what | wall ms each | CPU ms each | requests each | LISTs | peak MB | descriptors |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for count in list("--databases", "10,100,1000,2000,5000") {
        let fleet = tiny_fleet(&TinyFleet { count, ..TinyFleet::default() }).expect("a fleet");
        let root = fresh_dir("fleet");
        write_folder(&root.join(BUCKET), &fleet).expect("the bucket");
        for latency_ms in list("--latency-ms", "0,20") {
            let server = Server::start(&root, &["--latency-ms", &latency_ms.to_string()]);
            let url = server.url(BUCKET, "**");
            for kind in ["uring", "pwrite"] {
                let dir = fresh_dir("out");
                let report = dir.join("report.json");
                let mut command = command(env!("CARGO_BIN_EXE_hydrant"));
                command.args(["restore-pattern", "--io-engine", kind, "--no-progress", "--output-dir"]);
                command.arg(dir.join("db")).arg("--report").arg(&report).arg("--error-log").arg(dir.join("errors"));
                let cost = measured(command.arg(&url));
                let report: serde_json::Value =
                    serde_json::from_slice(&std::fs::read(&report).expect("the report")).expect("JSON");
                check(&fleet, &dir.join("db"));
                let lists = report["summary"]["lists"].as_u64().unwrap_or(0);
                row(
                    count,
                    latency_ms,
                    &format!("hydrant, {kind}"),
                    cost,
                    report["summary"]["requests"].as_f64(),
                    lists,
                );
                let _ = std::fs::remove_dir_all(dir);
            }
            if let Some(litestream) = &litestream {
                under_xargs(litestream, &fleet, &server, latency_ms);
            }
        }
        let _ = std::fs::remove_dir_all(root);
    }
}

fn row(count: usize, latency_ms: usize, what: &str, cost: Cost, requests: Option<f64>, lists: u64) {
    let each = count as f64;
    println!(
        "| {count} | {latency_ms} ms | {what} | {:.2} | {:.2} | {} | {lists} | {} | {} |",
        cost.wall_seconds * 1e3 / each,
        cost.cpu_seconds * 1e3 / each,
        requests.map_or("–".into(), |n| format!("{:.2}", n / each)),
        cost.peak_kib / 1000,
        cost.peak_descriptors,
    );
}

/// Every database is there, byte for byte.
fn check(fleet: &[GeneratedDatabase], dir: &Path) {
    for database in fleet {
        let path = dir.join(&database.root);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        assert!(hash == database.expected.sha256, "{} differs", path.display());
    }
}

fn under_xargs(litestream: &Path, fleet: &[GeneratedDatabase], server: &Server, latency_ms: usize) {
    let count = fleet.len().min(LITESTREAM_DATABASES);
    for parallel in ["16", "64"] {
        let dir = fresh_dir("litestream");
        let lines: String = (fleet[..count].iter().enumerate())
            .map(|(i, database)| {
                format!("{} {}\n", dir.join(i.to_string()).display(), server.url(BUCKET, &database.root))
            })
            .collect();
        let list = dir.join("list");
        std::fs::write(&list, lines).expect("the list");
        let mut xargs = command("xargs");
        xargs.arg("-a").arg(&list).args(["-P", parallel, "-n", "2"]).arg(litestream).args(["restore", "-o"]);
        let cost = measured(&mut xargs);
        row(count, latency_ms, &format!("litestream, xargs -P {parallel}"), cost, None, 0);
        let _ = std::fs::remove_dir_all(dir);
    }
}
