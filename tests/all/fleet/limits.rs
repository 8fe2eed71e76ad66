//! Tests of fleet runs under limits on file descriptors, threads and file sizes.

use super::*;
use crate::common::binary::another_user;
use hydrant::sim::generate::{LargeSpec, large_database};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

#[test]
fn few_descriptors_are_enough() {
    let latency = Latency::Fixed(Duration::from_millis(10));
    let server = simulator(SimOptions { faults: Faults { latency, ..Faults::default() }, ..SimOptions::default() });
    let fleet = tiny(&server, 300);
    for descriptors in [64, 256] {
        let host = Host::new();
        let pattern = url(&server, "bucket/**");
        let ran =
            host.ran(host.limited(&format!("-n {descriptors}"), &["--output-dir", "out", &pattern]).output().unwrap());
        assert_eq!(ran.code, 0, "{descriptors}: {}", ran.stderr);
        assert_eq!(whole_ones(&host, "out", &fleet), 300);
        assert!(ran.stderr.contains("failed 0") && !ran.stderr.contains("tried again"), "{}", ran.stderr);
    }
}

/// Workers must not take the descriptors that connections and files need. On a machine with many cores they would take
/// them all.
#[test]
fn very_few_descriptors_are_enough_and_the_limit_is_named() {
    let server = simulator(SimOptions::default());
    let fleet = tiny(&server, 20);
    for descriptors in [24, 32] {
        let host = Host::new();
        let args = ["-v", "--output-dir", "out", "--max-retries", "0", &url(&server, "bucket/**")];
        let ran = host.ran(host.limited(&format!("-n {descriptors}"), &args).output().unwrap());
        assert_eq!(ran.code, 0, "{descriptors}: {}", ran.stderr);
        assert_eq!(whole_ones(&host, "out", &fleet), 20);
        assert!(!ran.stderr.contains("request failed"), "{}", ran.stderr);
        let note = format!("only {descriptors} files may be open (ulimit -n): workers 1 of ");
        assert!(ran.stderr.contains(&note), "{}", ran.stderr);
    }
}

/// Every kind of thread is needed: the server is given by host name, and SQLite checks the databases.
#[test]
fn few_threads_are_enough() {
    let host = Host::new();
    let user = another_user();
    let mut version = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    if !version.arg("-version").uid(user).gid(user).status().is_ok_and(|status| status.success()) {
        return println!("skipped: another user cannot be tried here");
    }
    std::fs::set_permissions(host.dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let server = simulator(SimOptions::default());
    let database = |n: u64| {
        let spec = LargeSpec { root: format!("fleet/{n}.db/"), bytes: 40 << 10, seed: n, ..LargeSpec::default() };
        large_database(&spec).unwrap().to_database()
    };
    let fleet: Vec<_> = (0..60).map(database).collect();
    fleet.iter().for_each(|database| server.objects().put_database("bucket", database));
    let pattern = url(&server, "bucket/**").replace("127.0.0.1", "localhost");
    for threads in 3..=8 {
        let user = another_user();
        let out = format!("out{threads}");
        let report = format!("report{threads}.json");
        let args = ["--output-dir", &out, "--report", &report, "-json", "-integrity-check", "quick", &pattern];
        let mut command = host.limited(&format!("-u {threads}"), &args);
        let ran = host.ran(command.uid(user).gid(user).output().unwrap());
        assert!(!ran.stderr.contains("panicked"), "{threads}: {}", ran.stderr);
        if threads == 3 {
            // The main thread, the signal thread and the thread for SQLite use up the limit, so no worker can be
            // started.
            assert!(
                ran.stderr.contains("Error: no thread can be started here: the limit on threads"),
                "{}",
                ran.stderr
            );
            assert_eq!((ran.code, ran.stdout.as_str(), host.path(&out).exists()), (1, "", false), "{}", ran.stderr);
            continue;
        }
        assert_eq!(ran.code, 0, "{threads}: {}", ran.stderr);
        assert_eq!(whole_ones(&host, &out, &fleet), 60);
        let (records, summary) = json_lines(&ran.stdout);
        assert_eq!((records.len(), &summary["restored"]), (60, &60.into()), "{summary}");
        assert!(host.path(&report).exists());
    }
}

#[test]
fn a_database_past_the_file_size_limit_fails_alone() {
    let server = simulator(SimOptions::default());
    let fleet = tiny(&server, 20);
    let large = large_database(&LargeSpec { bytes: 8 << 20, increments: 0, ..LargeSpec::default() }).unwrap();
    server.objects().put_database("bucket", &large.to_database());
    let host = Host::new();
    // The limit is 4 MiB, because `ulimit -f` counts blocks of 1 KiB.
    let mut command = host.limited("-f 4096", &["--output-dir", "out", "-json", &url(&server, "bucket/**")]);
    let ran = host.ran(command.output().unwrap());
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert_eq!(whole_ones(&host, "out", &fleet), 20);
    let (_, summary) = json_lines(&ran.stdout);
    assert_eq!((&summary["restored"], &summary["failed"]), (&20.into(), &1.into()), "{summary}");
    let reasons: Vec<_> = ran.failures.values().collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    let (reason, limit) = (reasons[0], 4 << 20);
    assert!(reason.starts_with("I/O error: cannot reserve "), "{reason}");
    assert!(reason.ends_with(&format!(": file size limit (ulimit -f) of {limit} bytes reached")), "{reason}");
    assert!(!host.files("out").iter().any(|path| path.contains("hydrant-") || path.contains("large")));
}
