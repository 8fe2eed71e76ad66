//! What a fleet of standbys costs, and how far behind it is. Usage: `cargo bench --features sim --bench standby [-- --only
//! lag,idle] [--seconds 60] [--quick]`.
//!
//! `lag`: 1,000 databases of which 50 change about once a second; the time from the upload of a change to a reader of the
//! standby. `idle`: 10,000 databases of six files each that do not change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::cost::hydrant;
use common::results::{Bound, Results};
use common::server::Server;
use common::{Args, fresh_dir};
use hydrant::ltx::PageSize;
use hydrant::sim::generate::{Change, GeneratedObject, Primary};
use hydrant::sim::server::{Object, RequestKind};
use rusqlite::{Connection, OpenFlags};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const BUCKET: &str = "fleet";
const INTERVAL_SECONDS: f64 = 1.0;

fn main() {
    let args = Args::of_process();
    let mut results = Results::new("standby");
    if args.wants("lag") {
        lag(&mut results, &args);
    }
    if args.wants("idle") {
        idle(&mut results, &args);
    }
    common::remove_dirs();
    results.finish(&args);
}

/// A fleet's follower that has caught up. Ended when it is dropped.
struct Follower(Child);

impl Follower {
    fn start(server: &Server, out: &Path, flags: &[&str]) -> Self {
        let mut command = hydrant();
        command.args(["restore-pattern", "-follow"]).args(flags).arg("-output-dir").arg(out);
        command.arg(server.url(BUCKET, "**")).stderr(Stdio::piped());
        let mut child = command.spawn().expect("hydrant");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let caught_up = lines.by_ref().map(|line| line.expect("a line")).find(|line| line.starts_with("caught up: "));
        assert!(caught_up.is_some(), "the follower has ended");
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }

    /// CPU seconds so far.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("stat");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    fn peak_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1000.0
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

fn put(server: &Server, file: GeneratedObject) {
    server.sim.objects().put(BUCKET, &file.key, Object::new(file.bytes).last_modified(file.last_modified));
}

fn lag(results: &mut Results, args: &Args) {
    let (all, changing) = if args.is_quick() { (40, 4) } else { (1000, 50) };
    let (server, dir) = (Server::start(), fresh_dir("standby"));
    server.sim.objects().create_bucket(BUCKET);
    let primary = |n: usize| Primary::new(&format!("{n:04}.db"), PageSize::new(4096).unwrap(), 0, n as u64).unwrap();
    let mut primaries: Vec<Primary> = (0..all).map(primary).collect();
    for primary in &mut primaries {
        [0, 9].into_iter().for_each(|level| put(&server, primary.file(level, (1, 1)).expect("a file")));
    }
    let follower = Follower::start(&server, &dir, &[]);
    let step = all / changing;
    let reader = |n: usize| {
        let path = dir.join(format!("{:04}.db", n * step));
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a standby")
    };
    let readers: Vec<Connection> = (0..changing).map(reader).collect();
    let mut pending: Vec<Option<(u64, Instant)>> = vec![None; changing];
    let (mut lags, begun, mut turn) = (Vec::new(), Instant::now(), 0);
    let seconds = args.number("--seconds", if args.is_quick() { 5 } else { 60 });
    while begun.elapsed().as_secs() < seconds {
        if begun.elapsed().as_secs_f64() * changing as f64 >= turn as f64 {
            let n = turn % changing;
            if pending[n].is_none() {
                put(&server, primaries[n * step].transact(Change::Transfer).expect("a change"));
                pending[n] = Some((primaries[n * step].txid().0, Instant::now()));
            }
            turn += 1;
        }
        for (reader, pending) in readers.iter().zip(&mut pending) {
            let Some((txid, since)) = *pending else { continue };
            let seen: i64 = reader.query_row("SELECT seq FROM meta", [], |row| row.get(0)).expect("a state");
            if seen as u64 >= txid {
                lags.push(since.elapsed().as_secs_f64());
                *pending = None;
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    lags.sort_by(f64::total_cmp);
    let at = |part: f64| lags[(lags.len() as f64 * part) as usize];
    let most = lags[lags.len() - 1];
    results.table(
        "From the upload of a change to a reader of the standby",
        &["databases", "changes", "p50", "p99", "most", "peak MB"],
    );
    let text = |seconds: f64| format!("{seconds:.2} s");
    results.row(&[
        format!("{all}, of which {changing} change"),
        lags.len().to_string(),
        text(at(0.5)),
        text(at(0.99)),
        text(most),
        format!("{:.0}", follower.peak_mb()),
    ]);
    results.target("lag: p50", at(0.5), Bound::AtMost(INTERVAL_SECONDS / 2.0 + 0.05), "s");
}

fn idle(results: &mut Results, args: &Args) {
    let count = if args.is_quick() { 300 } else { 10_000 };
    let (server, dir) = (Server::start(), fresh_dir("standby"));
    server.sim.objects().create_bucket(BUCKET);
    // One content under every name: idle databases are never opened.
    let mut primary = Primary::new("root", PageSize::new(4096).unwrap(), 0, 1).unwrap();
    (0..3).for_each(|_| drop(primary.transact(Change::Transfer).expect("a change")));
    let files = [(9, 1, 1), (0, 2, 2), (0, 3, 3), (0, 4, 4), (1, 2, 3), (2, 2, 3)];
    let files = files.map(|(level, min, max)| primary.file(level, (min, max)).expect("a file"));
    for n in 0..count {
        for file in &files {
            let key = file.key.replacen("root", &format!("{n:06}.db"), 1);
            put(&server, GeneratedObject { key, ..file.clone() });
        }
    }
    results.table(
        "Standbys that do not change",
        &["databases", "flags", "seconds", "LISTs", "other requests", "CPU of a core", "peak MB"],
    );
    for flags in [&["-follow-interval", "30s"][..], &[]] {
        // The first one restores them.
        drop(Follower::start(&server, &dir, &[]));
        let follower = Follower::start(&server, &dir, flags);
        let seconds = args.number("--seconds", if args.is_quick() { 5 } else { 120 });
        let (served, cpu, begun) = (server.stats(), follower.cpu(), Instant::now());
        std::thread::sleep(Duration::from_secs(seconds));
        let spent = server.stats().since(&served);
        let share = (follower.cpu() - cpu) / begun.elapsed().as_secs_f64();
        let lists = spent.of_kind(RequestKind::List);
        results.row(&[
            count.to_string(),
            if flags.is_empty() { "the defaults".to_owned() } else { flags.join(" ") },
            seconds.to_string(),
            lists.to_string(),
            (spent.total() - lists).to_string(),
            format!("{:.2} %", share * 100.0),
            format!("{:.0}", follower.peak_mb()),
        ]);
        if !flags.is_empty() {
            results.target("idle: CPU", share * 100.0, Bound::AtMost(1.0), "% of a core");
            results.target("idle: peak", follower.peak_mb(), Bound::AtMost(100.0), "MB");
        }
    }
}
