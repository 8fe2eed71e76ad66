//! The output of `restore-pattern` for a bucket in which databases end in many ways. `adverse` has the cases that
//! need a failing server.

use super::replicas::{FILE_SIZE_LIMIT, fleet, put_sound, simulator};
use super::single::limited;
use super::support::*;
use hydrant::sim::server::SimServer;
use std::os::unix::fs::symlink;

/// A server with the fleet, and with databases whose outputs cannot be written.
fn server() -> SimServer {
    let server = simulator(1000);
    fleet(&server);
    for name in [
        "there/file.db",
        "there/sidecar.db",
        "there/directory.db",
        "there/link.db",
        "there/blocked/app.db",
        "collide/app.db",
        "collide/app.db/old.db",
        "collide/app.db-wal",
        "bad/../escape.db",
    ] {
        put_sound(&server, &format!("fleet/{name}"));
    }
    server
}

/// Creates files at the outputs of the databases in `there`, below `out`, before the run.
fn block(host: &Host, out: &str) {
    let there = |name: &str| format!("{out}/there/{name}");
    host.write(&there("file.db"), "mine");
    host.write(&there("sidecar.db-wal"), "stale");
    std::fs::create_dir(host.path(&there("directory.db"))).unwrap();
    symlink("nowhere", host.path(&there("link.db"))).unwrap();
    host.write(&there("blocked"), "a file");
}

fn run(host: &Host, args: &[&str]) -> Ran {
    let args = [&["restore-pattern"], &STEADY[..], &STEADY_FLEET, args].concat();
    Ran::of(&args, limited(&mut host.command(&args), FILE_SIZE_LIMIT).output().unwrap())
}

#[test]
fn lines_error_log_and_report() {
    let (server, host) = (server(), Host::new());
    block(&host, "out");
    let url = url(&server, "fleet/**");
    let mut seen = Transcript::new("restore-pattern", host.normal(&server));
    let files = ["--report", "report.json", "--error-log", "errors.log"];
    let args = [&["-json", "--output-dir", "out"], &files[..], &[&url]].concat();
    let ran = run(&host, &args);
    seen.ran(&ran, Shape::JsonLines, Shape::Messages);
    seen.error_log(&host.read("errors.log"));
    seen.report(&host.read("report.json"), &ran);
    // In a second run with --if-db-not-exists, the restored databases are skipped.
    let again = [&["-json", "--if-db-not-exists", "--output-dir", "out"], &files[..], &[&url]].concat();
    seen.ran(&run(&host, &again), Shape::JsonLines, Shape::Messages);
    seen.matches();
}

#[test]
fn messages() {
    let (server, host) = (server(), Host::new());
    let url = url(&server, "fleet/**");
    let mut seen = Transcript::new("restore-pattern-messages", host.normal(&server));
    for (out, more) in [("text", &["-v"][..]), ("json", &["-v", "--log-format", "json"])] {
        block(&host, out);
        let args = [more, &["--output-dir", out, &url]].concat();
        let shape = if out == "json" { Shape::JsonMessages } else { Shape::Messages };
        seen.ran(&run(&host, &args), Shape::Text, shape);
        seen.error_log(&host.read("litestream-restore-errors.log"));
    }
    for url in [url.replace("fleet", "nothing"), url.replace("/fleet", "/fleet/ok")] {
        let args = ["--output-dir", "few", "--first", "nothing", &url];
        seen.ran(&run(&host, &args), Shape::Text, Shape::Messages);
    }
    // An error log that cannot be written does not stop the run. A report that cannot be written does.
    for file in ["--error-log", "--report"] {
        let damaged = url.replace("**", "bad/hole.db");
        let args = ["--output-dir", "few", file, "absent/file", &damaged];
        seen.ran(&run(&host, &args), Shape::Text, Shape::Messages);
    }
    seen.matches();
}

#[test]
fn dry_run() {
    let (server, host) = (server(), Host::new());
    let url = url(&server, "fleet/**");
    let mut seen = Transcript::new("restore-pattern-dry-run", host.normal(&server));
    let args = ["-dry-run", "--output-dir", "out", &url];
    seen.ran(&run(&host, &args), Shape::PathTable, Shape::Messages);
    let args = ["-dry-run", "-json", "--report", "report.json", "--output-dir", "out", &url];
    let ran = run(&host, &args);
    seen.ran(&ran, Shape::JsonLines, Shape::Messages);
    seen.report(&host.read("report.json"), &ran);
    let args = ["-dry-run", "--shard", "1/3", "--output-dir", "out", &url.replace("/fleet", "/fleet/ok")];
    seen.ran(&run(&host, &args), Shape::PathTable, Shape::Messages);
    assert!(!host.path("out").exists());
    seen.matches();
}
