//! Measures how many files per second become durable. Usage: `cargo bench --features sim --bench commit [-- --files
//! 10000] [--kib 64] [--runs 3] [--serial] [--quick]`.
//!
//! Hydrant's commit is compared with other methods, each in a fresh directory, one after the other. Some of the
//! others are weaker: those that sync a file under its final name show it before it is durable, and syncfs does not
//! say which file's write failed. The method that syncs one file after the other takes half a minute and runs only
//! with `--serial`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::cost::{Cost, measured};
use common::files::Method;
use common::results::{Bound, Results};
use common::{Args, floors, fresh_dir};
use std::fs::File;
use std::path::Path;

fn main() {
    let args = Args::of_process();
    if floors::dispatch(&args) {
        return;
    }
    let mut results = Results::new("commit");
    let files = args.number("--files", if args.is_quick() { 1000 } else { 10_000 });
    let bytes = args.number("--kib", 64) << 10;
    let runs = args.number("--runs", if args.is_quick() { 1 } else { 3 });
    let methods = Method::ALL.into_iter().filter(|&method| method != Method::Serial || args.has("--serial"));
    let mut costs: Vec<(Method, Vec<Cost>)> = methods.map(|method| (method, Vec::new())).collect();
    let run = |method| {
        // The writes that the previous method left must not be measured as part of this one.
        rustix::fs::sync();
        let dir = fresh_dir("files");
        let cost = measured(None, &mut floors::files_command(method, &dir, files, bytes));
        forget(&dir);
        cost
    };
    // The first run is not counted. It makes the system allocate memory that later methods reuse.
    run(Method::Threads);
    for round in 0..runs {
        // Each round begins with another method, because the first method of a round pays for what came before,
        // such as the deletion of files.
        let first = round as usize % costs.len();
        let (before, from_first) = costs.split_at_mut(first);
        for (method, costs) in from_first.iter_mut().chain(before) {
            costs.push(run(*method));
        }
    }
    let costs: Vec<(Method, Cost)> = costs.into_iter().map(|(method, costs)| (method, Cost::median(costs))).collect();
    let wall = |wanted| costs.iter().find(|(method, _)| *method == wanted).map_or(f64::NAN, |(_, cost)| cost.wall);
    let ours = wall(Method::Hydrant);
    let title = format!("{files} durable files of {} KiB", bytes >> 10);
    results.table(&title, &["method", "seconds", "ours takes", "files/s", "CPU ms each", "peak MB"]);
    for (method, cost) in &costs {
        results.row(&[
            method.title().to_owned(),
            format!("{:.2}", cost.wall),
            format!("{:.2} ×", ours / cost.wall),
            format!("{:.0}", files as f64 / cost.wall),
            format!("{:.2}", cost.cpu * 1e3 / files as f64),
            format!("{:.0}", cost.peak_mb),
        ]);
        results.bar("Durable files per second", method.title(), files as f64 / cost.wall);
    }
    // The fastest other method that reports which file failed, and the simplest complete publication.
    results.target("commit: of 512 io_uring fsyncs in flight", ours / wall(Method::Uring), Bound::AtMost(1.3), "");
    results.target("commit: of syncing and renaming each", ours / wall(Method::Published), Bound::AtMost(1.3), "");
    common::remove_dirs();
    results.finish(&args);
}

/// Drops the files' pages from the page cache, so that the next method can use that memory. In a virtual machine,
/// new memory must first be provided by the host. That took several times as long as all the rest.
fn forget(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("the directory").flatten() {
        let file = File::open(entry.path()).expect("a file");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
    }
}
