//! Tests with few threads or none, because of `ulimit -u`, pids.max of a cgroup, or a seccomp profile.

use super::limits::{forbidden, limited};
use super::support::*;
use crate::common::binary::another_user;
use hydrant::sim::server::Faults;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes `command` run as a user of its own with at most `most` threads.
fn with_threads(command: &mut Command, most: u64) -> &mut Command {
    let user = another_user();
    limited(command.uid(user).gid(user), libc::RLIMIT_NPROC, most)
}

/// Whether this process may start the program as another user.
fn can_be_another() -> bool {
    let user = another_user();
    let can = hydrant(&["-version"]).uid(user).gid(user).status().is_ok_and(|status| status.success());
    if !can {
        println!("skipped: another user cannot be tried here");
    }
    can
}

/// A directory that every user may write to.
fn open_place() -> Place {
    let place = Place::new();
    std::fs::set_permissions(place.dir(), std::fs::Permissions::from_mode(0o777)).unwrap();
    place
}

const NO_THREAD: &str = "no thread can be started here: the limit on threads is reached (ulimit -u: ";

#[test]
fn a_few_threads_are_enough() {
    if !can_be_another() {
        return;
    }
    // The restore uses segments for all workers, a host name to resolve, and files large enough for O_DIRECT.
    let served = serve(large(24 << 20, 20), Faults::default());
    let url = served.url.replace("127.0.0.1", "localhost");
    for engine in ["auto", "pwrite"] {
        // The threads are the main thread, the one for signals and one worker. SQLite's check needs one more.
        for (check, needed) in [("none", 3), ("quick", 4)] {
            for most in 1..=7 {
                let place = open_place();
                let out = place.out();
                let args = ["restore", "-io-engine", engine, "-integrity-check", check, "-o", &out, &url];
                let ran = run(with_threads(&mut hydrant_s3(&args), most));
                assert!(!ran.stderr.contains("panicked"), "{ran:?}");
                if most >= needed {
                    ran.succeeded();
                    place.holds_only(&served.sha256);
                } else {
                    ran.failed(&format!("{NO_THREAD}{most}; "));
                    place.is_empty();
                }
            }
        }
    }
}

#[test]
fn fewer_workers_are_told() {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    if !can_be_another() || workers < 2 {
        return;
    }
    let served = serve(large(64 << 10, 0), Faults::default());
    let place = open_place();
    let ran = run(with_threads(&mut hydrant_s3(&["restore", "-o", &place.out(), &served.url]), 3)).succeeded();
    let expected = format!("1 of {workers} workers: {NO_THREAD}3; ");
    assert!(ran.stderr.lines().any(|line| line.starts_with(&expected)), "{}", ran.stderr);
}

#[test]
fn other_commands_need_few_too() {
    if !can_be_another() {
        return;
    }
    let served = serve(large(64 << 10, 3), Faults::default());
    let url = served.url.replace("127.0.0.1", "localhost");
    for most in 1..=5 {
        let ran = run(with_threads(&mut hydrant_s3(&["ltx", &url]), most));
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        if most >= 2 {
            ran.succeeded()
        } else {
            ran.failed(NO_THREAD)
        };
        let place = open_place();
        let dir = place.path("");
        let hlog = place.path("hlog");
        let bucket = url.replace("/large.db?", "/**?");
        let args = ["bench", "-duration", "0s", "-output-dir", &dir, "-hlog", &hlog, &bucket];
        let ran = run(with_threads(&mut hydrant_s3(&args), most));
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        // The thread that samples histograms is one more. The workers are started before it.
        if ran.code != Some(0) {
            ran.failed(NO_THREAD);
        }
    }
}

/// Docker before 20.10.10 answers EPERM to clone3. The C library then tries no other system call.
#[test]
fn a_sandbox_that_forbids_threads_is_named() {
    let served = serve(large(64 << 10, 0), Faults::default());
    for args in [vec!["restore", "-o"], vec!["restore", "-integrity-check", "quick", "-o"]] {
        let place = Place::new();
        let out = place.out();
        let ran = run(forbidden(&mut hydrant_s3(&[&args[..], &[&out, &served.url]].concat()), libc::SYS_clone3));
        if ran.code == Some(0) {
            println!("this C library starts threads by another call");
            return;
        }
        let ran = ran.failed("no thread can be started here: ");
        assert!(ran.stderr.contains("seccomp") && !ran.stderr.contains("signals"), "{}", ran.stderr);
        place.is_empty();
    }
}

/// The AWS credentials chain resolves this host name on a thread of tokio.
#[test]
fn credentials_of_a_container_by_name() {
    if !can_be_another() {
        return;
    }
    let served = serve(large(64 << 10, 0), Faults::default());
    let place = open_place();
    let mut command = hydrant(&["restore", "-o", &place.out(), &served.url]);
    command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://localhost:9/");
    let ran = run(with_threads(&mut command, 3)).failed(NO_THREAD);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    place.is_empty();
}
